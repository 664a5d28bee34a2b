"""Speed and memory of mvpde beside what this machine can do (`make bench`).

Each measurement runs in processes of its own (`bench_tasks.py`) with one thread each. The table goes to the terminal and, as
`bench.md` and `bench.json`, into this folder (or --out). --quick takes tiny sizes, one problem with a tensor and as few processes
as it can, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_table import claims, markdown

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# problems with a full diffusion tensor in bench_problems.py, and how slow they are
TENSORS = {"crossed": 1.0, "degenerate": 1.0, "copper": 2.4}
TIMEOUT = 300.0  # seconds for one measurement


@dataclass(frozen=True)
class Sizes:
    """How large the measurements are.

    Attributes:
        numbers: length of the arrays of the copy test; 16 bytes each move, far more than caches hold.
        stages: (cells per direction, steps in a block) of the explicit scheme.
        parallel: cells per direction on two ranks.
        block, rounds: steps in a block, blocks of each kind in turn, for two ranks against their ceiling.
        flat, solid: cells per direction of the meshes whose memory is taken, in 2-D and 3-D.
        particles: in the ensemble.
        implicit: cells per direction of the implicit, the tensor and the mixture runs.
        span, tensor_rounds: time that a block of implicit tensor steps covers, blocks of each kind.
        repeats: of the shorter measurements.
        tensors: problems with a full tensor.
        alone: whether each measurement has a process of its own; memory always does.
    """

    numbers: int = 2**26
    stages: tuple[tuple[int, int], ...] = ((128, 250), (256, 60), (512, 15), (1024, 6))
    parallel: int = 1024
    block: int = 12
    rounds: int = 7
    flat: int = 1024
    solid: tuple[int, ...] = (64, 80)
    particles: int = 1_000_000
    implicit: int = 256
    span: float = 0.25
    tensor_rounds: int = 7
    repeats: int = 5
    tensors: tuple[str, ...] = tuple(TENSORS)
    alone: bool = True


QUICK = Sizes(2**18, ((12, 4), (24, 4)), 32, 4, 2, 32, (6,), 10_000, 24, 0.05, 2, 2, ("crossed",), False)


# --- processes ------------------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """One thread per process; nothing of an MPI run that this process may belong to."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "HYD"))}
    return inherited | dict.fromkeys(THREADS, "1")


def command(name: str, arguments: Mapping[str, Any]) -> list[str]:
    return [sys.executable, str(HERE / "bench_tasks.py"), name, json.dumps(arguments)]


def measure(name: str, **arguments: Any) -> dict[str, Any]:
    """Result of a task of `bench_tasks.py` in a fresh process."""
    print(f"  {name} {json.dumps(arguments)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        command(name, arguments), env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"the measurement '{name}' failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_here(name: str, **arguments: Any) -> dict[str, Any]:
    """The same in this process, which saves the start of one."""
    from bench_tasks import TASKS

    print(f"  {name} {json.dumps(arguments)}", file=sys.stderr, flush=True)
    return dict(TASKS[name](**arguments))


def mpirun() -> str:
    """The mpirun beside this Python: another MPI's would start independent runs."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise SystemExit("no mpirun beside this Python or on PATH")
    return found


# --- two ranks and what two processes can reach ---------------------------------------------------------------------------------


class Workers:
    """Processes that hold a density each and step it when told to, so that quick blocks of different kinds can alternate."""

    def __init__(self, folder: Path) -> None:
        """``folder`` takes the signals."""
        self._folder, self._blocks = folder, dict[str, int]()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, cells: Sequence[int], steps: float, problem: str | None, launcher: Sequence[str] = ()) -> None:
        """Begin to build a density of the given mesh."""
        arguments = {"cells": list(cells), "steps": steps, "signals": str(self._folder), "name": name, "problem": problem}
        line = [*launcher, *command("worker", arguments)]
        self._processes.append(subprocess.Popen(line, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        self._blocks[name] = 0

    def await_file(self, name: str) -> dict[str, Any]:
        """Content of a file that a worker leaves."""
        path, began = self._folder / name, time.monotonic()
        while not path.exists():
            if any(process.poll() is not None for process in self._processes) or time.monotonic() - began > TIMEOUT:
                raise SystemExit(f"a worker ended, or took longer than {TIMEOUT:g} s, before it left '{name}'")
            time.sleep(0.01)
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def run(self, *names: str) -> float:
        """Node updates per second of one block, by the named workers together, begun at the same moment."""
        for name in names:
            (self._folder / f"{name}.{self._blocks[name]}.go").touch()
        results = [self.await_file(f"{name}.{self._blocks[name]}") for name in names]
        self._blocks |= {name: self._blocks[name] + 1 for name in names}
        return float(sum(result["updates_per_second"] for result in results))

    def stop(self) -> None:
        """End all workers."""
        (self._folder / "stop").touch()
        for process in self._processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def workers() -> Iterator[Workers]:
    """Workers that end with the block."""
    with tempfile.TemporaryDirectory() as folder:
        crew = Workers(Path(folder))
        try:
            yield crew
        finally:
            crew.stop()


def parallel(cells: int, blocks: tuple[float, float], rounds: int, problem: str | None = None) -> dict[str, Any]:
    """Rates of n² cells on one and on two ranks, and of n × n/2 cells in one and in two independent processes, in turns.

    ``blocks``: the length of a block on one process with the whole mesh, and of one with half the mesh on each process.
    """
    print(f"  two ranks {cells}², {problem or 'explicit'}, {rounds} rounds", file=sys.stderr, flush=True)
    with workers() as crew:
        crew.start("whole", [cells, cells], blocks[0], problem)
        crew.start("half_a", [cells, cells // 2], blocks[1], problem)
        crew.start("half_b", [cells, cells // 2], blocks[1], problem)
        for name in ("whole", "half_a", "half_b"):
            crew.await_file(f"{name}.ready")
        crew.start("ranks", [cells, cells], blocks[1], problem, [mpirun(), "-n", "2"])
        owned = crew.await_file("ranks.ready")["owned"]
        kinds = {"one_rank": ["whole"], "two_ranks": ["ranks"], "one_process": ["half_a"], "two_processes": ["half_a", "half_b"]}
        rates = [{kind: crew.run(*names) for kind, names in kinds.items()} for _ in range(rounds)]
    return {"cells": [cells, cells], "problem": problem, "owned": owned, "rounds": rates}


# --- the whole ------------------------------------------------------------------------------------------------------------------


def cpu_model() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def processor_seconds() -> dict[str, float]:
    """Processor time so far: of all processes of the machine, of this one and its children, of other guests of the host."""
    path = Path("/proc/stat")
    ticks = [float(t) for t in path.read_text(encoding="utf-8").splitlines()[0].split()[1:9]] if path.exists() else [0.0] * 8
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = (t / os.sysconf("SC_CLK_TCK") for t in ticks)
    return {"all": user + nice + system + interrupts + soft_interrupts, "ours": sum(os.times()[:4]), "stolen": stolen}


def measurements(sizes: Sizes) -> dict[str, Any]:
    """All of them, one after the other."""
    cells, tensors = [n for n, _ in sizes.stages], {name: TENSORS[name] for name in sizes.tensors}
    timed = measure if sizes.alone else measure_here
    return {
        "machine": timed("machine", cells=cells, numbers=sizes.numbers, repeats=sizes.repeats),
        "explicit": [timed("explicit_stage", cells=[n, n], steps=steps, repeats=sizes.repeats) for n, steps in sizes.stages],
        "parallel": parallel(sizes.parallel, (sizes.block, 2 * sizes.block), sizes.rounds),
        "tensor": [
            timed("tensor_step", problem=name, cells=[sizes.implicit] * 2, end=8.0 * slow * sizes.span, repeats=2)
            for name, slow in tensors.items()
        ],
        "tensor_parallel": [
            parallel(sizes.implicit, (slow * sizes.span,) * 2, sizes.tensor_rounds, name) for name, slow in tensors.items()
        ],
        "memory_2d": [measure("memory", problem="circle_rbf", cells=[sizes.flat] * 2, duration=0.02)],
        "memory_3d": [measure("memory", problem="sigmoid_3d", cells=[n] * 3, duration=0.1) for n in sizes.solid],
        "ensemble": timed("ensemble_step", particles=sizes.particles, repeats=sizes.repeats),
        "implicit": timed("implicit_step", cells=[sizes.implicit] * 2, end=2.0),
        "mixture": timed("mixture_run", cells=[sizes.implicit] * 2, end=5.0),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes only with --out")
    parser.add_argument("--out", type=Path, help="folder for bench.md and bench.json")
    options = parser.parse_args(arguments)
    began, load, before = time.monotonic(), os.getloadavg()[0], processor_seconds()
    results = measurements(QUICK if options.quick else Sizes())
    seconds = time.monotonic() - began
    used = {key: (value - before[key]) / seconds for key, value in processor_seconds().items()}
    circumstances = {
        "quick": options.quick,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load_at_start": load,
        "cores_taken_by_others": max(used["all"] - used["ours"], 0.0),
        "cores_stolen_by_host": used["stolen"],
        "seconds": seconds,
    }
    record = {
        "circumstances": circumstances,
        "claims": claims(results, circumstances["cores_taken_by_others"]),
        "results": results,
    }
    text = markdown(record)
    print(text, end="")
    folder = options.out or (None if options.quick else HERE)
    if folder is not None:
        (folder / "bench.md").write_text(text, encoding="utf-8")
        (folder / "bench.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
