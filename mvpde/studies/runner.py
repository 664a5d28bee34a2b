"""Run a study: one process for each point, several at a time, and what comes of them together.

A point is computed from nothing or not at all, and what is finished stays. So a study that is killed at any moment and started
again ends with the same table.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mvpde.cases.file import parse
from mvpde.cases.problem import validate
from mvpde.files import replace_whole, write_csv
from mvpde.runs import stopping
from mvpde.runtime import EXIT_USAGE, MPI, CaseError, SolverError
from mvpde.studies.file import Study, load_study
from mvpde.studies.points import (
    DONE,
    FAILED,
    HALF_CELLS,
    LIST,
    LOGS,
    POINTS,
    WAITING,
    Point,
    State,
    expand,
    state,
    write_points,
    write_state,
)
from mvpde.studies.table import Row, read_summary, row, timing_row

if TYPE_CHECKING:
    import xarray

POLL = 0.05  # seconds between looks at the processes
GRACE = 10.0  # seconds that a process has to end when it is asked to
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "HYDI_", "HYDRA_", "MPI_LOCAL", "OMPI_")  # of an mpirun around this one


class Listener(Protocol):
    """Is told about every point that ends, and whether others are still to come."""

    def __call__(self, text: str, done: int, total: int) -> None:
        """Take note."""


def silent(text: str, done: int, total: int) -> None:
    """Say nothing."""


@dataclass
class Progress:
    """A study in progress.

    Attributes:
        study: the study.
        folder: its folder.
        points: in the order of the table, the companion run last if there is one.
        states: of the points.
        summaries: of finished points; empty for others.
    """

    study: Study
    folder: Path
    points: list[Point]
    states: list[State] = field(default_factory=list)
    summaries: list[Row] = field(default_factory=list)

    def look(self, index: int) -> None:
        """Read how far one point is."""
        point = self.points[index]
        self.states[index] = state(self.folder, point)
        self.summaries[index] = read_summary(self.folder, point, self.states[index])

    @property
    def table(self) -> list[int]:
        """Indices of the points that have a row: all but the companion run."""
        return [k for k, point in enumerate(self.points) if point.name != HALF_CELLS or point.parameters]

    @property
    def left(self) -> list[int]:
        """Indices of the points that are not done."""
        return [k for k, point in enumerate(self.states) if point.status != DONE]


def plan(file: str | Path, out: str | Path | None = None, set: Mapping[str, object] | None = None) -> Progress:
    """The points of a study and how far they are. Nothing is written.

    Raises:
        CaseError: if the study file or one of its cases is not valid, or the folder holds something else.
    """
    study = load_study(file, set)
    folder = Path(out) if out is not None else Path("results") / study.path.stem
    points = expand(study)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LIST).is_file():
        raise CaseError(f"--out {folder}: exists and holds no study ({LIST} is not in it); choose another folder")
    if folder.exists() and not folder.is_dir():
        raise CaseError(f"--out {folder}: is a file, not a folder; choose another name")
    progress = Progress(study, folder, points, [State(WAITING)] * len(points), [{} for _ in points])
    for k in range(len(points)):
        progress.look(k)
    return progress


def study(
    file: str | Path,
    *,
    out: str | Path | None = None,
    set: Mapping[str, object] | None = None,
    jobs: int = 1,
    ranks: int = 1,
    listener: Listener = silent,
) -> xarray.Dataset:
    """Compute every point of a study that is not done, and write its table, dataset, verdicts and figures.

    Args:
        file: the study file.
        out: its folder, by default `results/<name of the study file>`; a study in it is continued.
        set: values for the base case, by "section.key".
        jobs: how many points are computed at the same time, ≥ 1.
        ranks: MPI processes for each point, ≥ 1.
        listener: is told about every point that ends.

    Returns:
        The content of study.nc, with the entries of verdict.json in the attribute `verdict` (JSON).

    Raises:
        CaseError: before anything is computed, or as soon as the first point is refused by its task.
        SolverError: if no point at all could be computed.
        Stopped: after a signal; finished points are kept, their table is written.
    """
    if jobs < 1 or ranks < 1:
        raise CaseError("jobs and ranks: give whole numbers of at least 1")
    if MPI.COMM_WORLD.size > 1:
        raise CaseError("a study starts its own processes: leave out mpirun and use --ranks")
    progress = plan(file, out, set)
    _check(progress)
    prepare(progress)
    with _alone(progress.folder), stopping.listening(MPI.COMM_SELF) as request:
        try:
            _compute(progress, jobs, ranks, request, listener)
        finally:
            write_tables(progress)
    return conclude(progress)


def _check(progress: Progress) -> None:
    """The model, its data and its mesh are checked once, before many processes find the same mistake."""
    validate(parse(progress.points[0].case, Path(progress.points[0].path)))


def prepare(progress: Progress) -> None:
    """The study's folder with a copy of the study file and the list of points.

    Raises:
        CaseError: if it cannot be written.
    """
    try:
        for name in (POINTS, LOGS):
            (progress.folder / name).mkdir(parents=True, exist_ok=True)
        write_points(progress.folder, progress.points)
        replace_whole(progress.folder / "study.toml", lambda aside: shutil.copyfile(progress.study.path, aside))
    except OSError as error:
        raise CaseError(f"--out {progress.folder}: cannot be written ({error.strerror}); choose another folder") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two studies in one folder would compute the same points into each other's files; the lock ends with the process."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CaseError(
                f"--out {folder}: another mvpde study is working in this folder; wait for it, or choose another"
            ) from None
        yield


# --- processes ------------------------------------------------------------------------------------------------------------------


def point_command(folder: Path, index: int | str, ranks: int) -> list[str]:
    """The command that computes one point."""
    command = [sys.executable, "-m", "mvpde.studies.points", str(folder), str(index)]
    return command if ranks == 1 else [_mpirun(), "-n", str(ranks), *command]


def _mpirun() -> str:
    """The mpirun of this environment: another MPI's would start n independent runs."""
    beside = Path(sys.executable).parent / "mpirun"
    path = str(beside) if beside.is_file() else shutil.which("mpirun")
    if path is None:
        raise CaseError("--ranks: there is no mpirun, neither beside this Python nor on PATH; install MPI or leave out --ranks")
    return path


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}


def _end_with_parent() -> None:
    """In the child: be killed when the study is, however it dies (Linux; elsewhere an orphan finishes its point)."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return


def _start(progress: Progress, index: int, ranks: int) -> subprocess.Popen[bytes]:
    with (progress.folder / LOGS / f"{progress.points[index].name}.log").open("wb") as log:
        # A session of its own: Ctrl-C reaches the study only, which then ends its children in order.
        return subprocess.Popen(
            point_command(progress.folder, index, ranks),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
            preexec_fn=_end_with_parent,  # there are no threads here
        )


def _compute(progress: Progress, jobs: int, ranks: int, request: stopping.StopRequest, listener: Listener) -> None:
    """Compute what is not done, `jobs` points at a time.

    Raises:
        CaseError: if the task refuses its case before any point is done; after every process has ended.
        Stopped: after every process has ended.
    """
    waiting = progress.left
    running: dict[int, subprocess.Popen[bytes]] = {}
    total, finished, began = len(waiting), 0, time.monotonic()
    try:
        while waiting or running:
            request.check()
            while waiting and len(running) < jobs:
                index = waiting.pop(0)
                running[index] = _start(progress, index, ranks)
            for index in [k for k, process in running.items() if process.poll() is not None]:
                code = running.pop(index).returncode
                _ended(progress, index, code)
                finished += 1
                if code == EXIT_USAGE and len(progress.left) == len(progress.points):
                    raise CaseError(progress.states[index].message)  # what is wrong with the first is wrong with all
                write_tables(progress)
                left = (time.monotonic() - began) / finished * (total - finished)
                listener(_said(progress, index, left), finished, total)
            time.sleep(POLL)
    finally:
        _stop(list(running.values()))


def _ended(progress: Progress, index: int, code: int) -> None:
    """Take note of a process that ended; one that died without a word gets its mark here."""
    progress.look(index)
    if progress.states[index].status == WAITING:
        point = progress.points[index]
        write_state(
            progress.folder, point, State(FAILED, f"{_cause(code)}{_last_line(progress.folder / LOGS / f'{point.name}.log')}")
        )
        progress.look(index)


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"ended by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return f": {lines[-1]}" if lines else ""


def _said(progress: Progress, index: int, left: float) -> str:
    ended = progress.states[index]
    taken = "" if ended.seconds is None else f" in {ended.seconds:.1f} s"
    reason = f": {ended.message.splitlines()[0]}" if ended.message else ""
    minutes, seconds = divmod(round(left), 60)
    return f"{progress.points[index].name} {ended.status}{taken}{reason}; about {minutes}:{seconds:02d} left"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask our own children to end, and end those that do not."""
    for process in processes:
        process.terminate()
    limit = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- what comes of them ---------------------------------------------------------------------------------------------------------


def write_tables(progress: Progress) -> None:
    """table.csv and timing.csv of what there is by now."""
    entries = [(progress.points[k], progress.states[k], progress.summaries[k]) for k in progress.table]
    write_csv(progress.folder / "table.csv", [row(*entry) for entry in entries])
    write_csv(progress.folder / "timing.csv", [timing_row(*entry) for entry in entries])


def conclude(progress: Progress) -> xarray.Dataset:
    """study.nc, verdict.json and the figures, from what there is by now.

    Raises:
        SolverError: if no point is done; the tables say why.
    """
    write_tables(progress)
    states = [progress.states[k] for k in progress.table]
    if all(ended.status != DONE for ended in states):
        said = next((f"; the first says: {ended.message}" for ended in states if ended.message), "")
        raise SolverError(f"{progress.folder}: no point is done{said}")
    from mvpde.studies.outcome import write_outcome  # not needed before something is done

    return write_outcome(progress)
