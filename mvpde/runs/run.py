"""Run a case: measures from t = 0 through its output times, and the folder that tells what happened."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvpde.cases.file import Case, changed, load
from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import chosen_measures, left_out, measures, on_mesh
from mvpde.cases.problem import Problem, problem
from mvpde.fields import FieldSeries
from mvpde.files import write_arrays, write_csv, write_json
from mvpde.measure import Mesh, Number, State
from mvpde.runs import folder as output
from mvpde.runs import pictures as plots
from mvpde.runs import stopping
from mvpde.runs.cautions import Caution
from mvpde.runs.computed import computed, refuse_without
from mvpde.runs.errors.estimates import observe
from mvpde.runs.errors.long_time import after_run, exit_of, sight_of
from mvpde.runs.job import Run
from mvpde.runs.progress import Progress, silent
from mvpde.runs.record import Record, Wanted, record
from mvpde.runs.summary import Summary, prediction_rows, row, summary_of
from mvpde.runtime import MPI, InvariantError, SolverError, on_first_rank

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        folder: where everything lies.
        summary: the content of summary.json.
    """

    folder: Path
    summary: Summary

    @property
    def dataset(self) -> xarray.Dataset:
        """Series, fields and particles of the run (see `mvpde.open`)."""
        from mvpde.runs.reading import open_run

        return open_run(self.folder)


def run(
    case: Case | str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    without: Collection[str] = (),
    command: Sequence[str] = (),
    progress: Progress = silent,
    comm: MPI.Intracomm | None = None,
) -> Result:
    """Compute a case and write its folder. Collective.

    Args:
        case: a case or the path of its file.
        set: values that replace those of the case, by "section.key".
        out: output folder, by default `results/<name of the case file>`.
        overwrite: replace an earlier run in that folder.
        without: names of measures to leave out.
        command: the command line, for provenance.json.
        progress: is told every output time.
        comm: communicator, by default MPI.COMM_WORLD.

    Raises:
        CaseError: before anything is computed or written.
        SolverError, InvariantError, Stopped: with the outputs up to then, the summary and a checkpoint in the folder.
    """
    comm, began = comm or MPI.COMM_WORLD, time.perf_counter()
    case = changed(case, set or {}) if isinstance(case, Case) else load(case, set, comm=comm)
    folder = Path(out) if out is not None else output.default_folder(case)
    on_first_rank(comm, lambda: output.check_folder(folder, overwrite))
    if (computation := KINDS[case.sections.model.kind].computation) is not None:
        refuse_without(case, without)
        return Result(folder, computed(computation, case, folder, comm, command))
    described = problem(case, comm)
    names = chosen_measures(described, without)
    importlib.import_module("dolfinx")  # on all ranks, and now: PETSc starts collectively, and with signal handlers of its own
    from mvpde.runs.errors.companions import companions
    from mvpde.runs.errors.ladder import ladder
    from mvpde.runs.optimality import watch

    with stopping.listening(comm) as request:
        climbed = ladder(described, names, comm)
        while True:  # once, or on finer and finer meshes until an accuracy is reached
            stop = None if climbed is None else climbed.climb(request.check, lambda text: progress(text, ()))
            described = described if climbed is None else climbed.problem
            job = Run(described, measures(described, names, comm), folder, comm, began, ladder=climbed)
            job.passed_over += _skipped(job, without)
            job.optimality = watch(job.measures)
            job.exit, missing = exit_of(job.measures)
            job.passed_over += missing
            job.companions = companions(described, job.measures["density"], comm) if "density" in job.measures else None
            _make_folder(job, output.provenance(case, comm.size, command))
            if stop is not None:
                _finish(job, "stopped", str(stop))
                raise stop
            if (summary := _carry(job, request, progress)) is not None:
                return Result(folder, summary)


def _make_folder(job: Run, provenance: dict[str, Any]) -> None:
    """The folder with all that is known before the first step. Collective."""
    mesh = _mesh(job)
    on_first_rank(job.comm, lambda: _open(job, mesh, provenance))
    density = on_mesh(job.measures)
    if job.exit is not None and density is not None and job.problem.sections.output.fields:
        job.exit.write(density.domain, job.folder, job.problem.model.directions)


def _mesh(job: Run) -> Mesh | None:
    """Points and cells of the mesh of that measure which has one, on rank 0. Collective."""
    return next((mesh for mesh in [measure.mesh() for measure in job.measures.values()] if mesh is not None), None)


def _skipped(job: Run, without: Collection[str]) -> list[Caution]:
    """What the case asks for and the run leaves out."""
    s, skipped = job.problem.case.sections, left_out(job.problem, without)
    if (s.stationary is not None or s.spectrum is not None) and on_mesh(job.measures) is None:
        skipped.append("stationary, spectrum: left out, they are found on the mesh of a density")
    if s.time.outputs[-1] < s.time.end:
        skipped.append(f"time.end = {s.time.end:g}: nothing is computed after the last output time {s.time.outputs[-1]:g}")
    return [Caution("case.passed_over", text) for text in skipped]


def _open(job: Run, mesh: Mesh | None, provenance: dict[str, Any]) -> None:
    output.create_folder(job.folder, job.problem.case, provenance)
    job.series = {name: FieldSeries(job.folder / name, name) for name in ("density", "particles")}
    if mesh is not None and job.problem.case.sections.output.fields:
        job.series["density"].write_mesh(*mesh, job.problem.model.directions)


def _carry(job: Run, request: stopping.StopRequest, progress: Progress) -> Summary | None:
    """Advance and record until the last output time or the first failure; None where the mesh is too coarse. Collective."""
    times = job.problem.case.sections.time.outputs
    try:
        for t in times:
            _advance(job, t, request.check)
            _record(job, t)
            progress(job.records[-1], times)
        if not _accurate(job, progress):
            return None
        _look_ahead(job)
        request.check()
    except (SolverError, InvariantError) as error:
        _finish(job, "failed", str(error))
        raise
    except stopping.Stopped as stop:
        _finish(job, "stopped", str(stop))
        raise
    except Exception as error:  # nobody foresaw it, and perhaps this rank alone met it: no other is asked
        output.mark_failed(job.folder, f"{type(error).__name__}: {error}")
        raise
    return _finish(job, "done")


def _look_ahead(job: Run) -> None:
    """Stationary law and modes, which the run has not needed. Collective."""
    job.long_time, missing = after_run(job.problem, job.measures, job.sights, job.companions)
    job.passed_over += missing
    if job.long_time is not None and job.problem.sections.output.fields:
        job.long_time.write(job.folder, job.problem.model.directions)


def _accurate(job: Run, progress: Progress) -> bool:
    """Whether nothing finer is to be computed. Collective."""
    if job.ladder is None or job.companions is None:
        return True
    job.ladder.take(job.companions, job.comm.bcast(job.seconds["density"] + job.companions.seconds))
    progress(job.ladder.last, ())
    if job.ladder.ended:
        job.passed_over += job.ladder.doubts()
    return job.ladder.ended


def _advance(job: Run, t: float, between_steps: Callable[[], None]) -> None:
    for name, measure in job.measures.items():
        between_steps()
        start = time.perf_counter()
        try:
            measure.advance(t, between_steps)
        finally:
            job.seconds[name] = job.seconds.get(name, 0.0) + time.perf_counter() - start
    if job.companions is not None:
        job.companions.advance(t, between_steps)
    between_steps()


def _record(job: Run, t: float) -> None:
    section = job.problem.case.sections.output
    times = job.problem.case.sections.time.outputs
    projections = section.projections if section.sliced_wasserstein else 0
    wanted = Wanted(section.particles, projections, _lower(job.problem), means=t in (times[0], times[-1]))
    recorded = record(job.problem.model, job.measures, t, wanted, job.comm)
    for name, numbers in recorded.numbers.items():
        if not math.isfinite(numbers["loss"]):
            raise InvariantError(f"{name}: the loss at t = {t:g} is not a finite number; the outputs before are kept")
    if job.companions is not None:
        observe(job.companions, recorded)
    if job.optimality is not None:
        job.optimality.observe(recorded.numbers)
    if job.records:
        previous = job.records[-1]  # arrays are kept for the last output time only
        previous.fields, previous.clouds, previous.particles = {}, {}, None
    job.records.append(recorded)
    if (sight := sight_of(job.problem, job.measures)) is not None:
        job.sights.append(sight)
    job.statistics = _statistics(job)
    states = _states(job)
    on_first_rank(job.comm, lambda: _write(job, recorded, states))


def _lower(problem: Problem) -> tuple[float, ...]:
    domain = problem.case.sections.domain
    box = domain.lower if domain is not None else None
    still = [0.0] * (problem.model.frozen if box else problem.model.dimension)
    return (*(box or []), *still)


def _states(job: Run) -> dict[str, State]:
    """From what each measure can continue; empty on ranks other than 0. Collective."""
    states = {name: measure.state() or {} for name, measure in job.measures.items()}
    return states if job.companions is None else states | dict(job.companions.states())


def _write(job: Run, recorded: Record, states: Mapping[str, State]) -> None:
    wanted = job.problem.case.sections.output
    if wanted.fields and recorded.fields:
        job.series["density"].append_on_mesh(recorded.time, recorded.fields)
    if recorded.particles is not None and wanted.particles > 0:
        job.series["particles"].append_points(recorded.time, recorded.particles, job.problem.model.coordinates)
    write_csv(job.folder / "series.csv", [row(at_t) for at_t in job.records])
    data = job.problem.model.data
    if data is not None:
        write_csv(job.folder / "predictions.csv", prediction_rows(data, job))
    write_arrays(job.folder / "checkpoint" / "state.h5", states)
    write_json(job.folder / "summary.json", summary_of(job, "running"))


def _statistics(job: Run) -> dict[str, dict[str, Number]]:
    return {name: measure.statistics() for name, measure in job.measures.items()}


def _finite(states: Mapping[str, State]) -> bool:
    return all(np.isfinite(values).all() for arrays in states.values() for values in arrays.values())


def _draw(job: Run, mesh: Mesh | None) -> None:
    try:
        title = job.problem.case.sections.title
        summary = summary_of(job, "")
        plots.draw(job.folder, job.problem.model, job.records, mesh, title, summary)
        plots.draw_optimality(job.folder, summary, title)
    except Exception as error:  # whatever a plotting library makes of numbers near overflow, the results and the exit code stand
        job.passed_over.append(Caution("output.pictures", f"pictures: not all could be drawn ({error})"))


def _finish(job: Run, status: str, message: str = "") -> Summary:
    """Summary and pictures of what has been recorded; after an early end also the state reached since. Collective."""
    job.statistics = _statistics(job)
    job.passed_over += job.ladder.doubts(finished=False) if job.ladder is not None and status != "done" else []
    wanted = job.problem.case.sections.output.pictures
    mesh = _mesh(job) if wanted else None
    states = _states(job)

    def close() -> Summary:
        if status != "done" and _finite(states):  # later than the last output
            write_arrays(job.folder / "checkpoint" / "state.h5", states)
        write_json(job.folder / "summary.json", summary_of(job, status, message))  # before the pictures, which may fail
        if wanted and job.records:
            _draw(job, mesh)
        summary = summary_of(job, status, message)
        write_json(job.folder / "summary.json", summary)
        return summary

    return on_first_rank(job.comm, close)
