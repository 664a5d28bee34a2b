"""What `bench.py` measures, each in a process of its own: `python bench_tasks.py TASK '{"argument": …}'` prints one JSON object.

Times are wall-clock times of warm code (compiled and run once before). Nothing here reaches into the solver: steps and iterations
are differences of ``Density.statistics()``, times are taken around ``advance``, so the checks after each step are inside.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

import dolfinx
import numba
import numpy as np
import ufl
from bench_problems import START, TENSORS, Problem, circle_model, circle_rbf, mixture, sigmoid_3d
from dolfinx import fem
from dolfinx.fem.petsc import assemble_matrix
from petsc4py import PETSc

from mvpde.density.density import Density
from mvpde.density.features import NodalFeatures
from mvpde.particles.ensemble import Ensemble

WARM = 0.05  # time until the first steps of a tensor problem, which grow threefold each, are over
PATIENCE = 0.002  # seconds between looks at the starting signal
TASKS: dict[str, Callable[..., dict[str, Any]]] = {}


def task(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Make ``function`` a task under its own name."""
    TASKS[function.__name__] = function
    return function


# --- the machine ----------------------------------------------------------------------------------------------------------------


def best(action: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of ``repeats`` calls: what the machine can do when nothing disturbs it."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


@task
def machine(cells: list[int], numbers: int, repeats: int) -> dict[str, Any]:
    """Copy bandwidth (bytes read + written), numpy's exp on numbers in cache, PETSc's y = Ax on n × n cells."""
    source, copy = np.ones(numbers), np.zeros(numbers)
    bandwidth = 16.0 * numbers / best(lambda: np.copyto(copy, source), repeats)
    piece, result = np.linspace(-4.0, 0.0, 2**15), np.empty(2**15)
    exponential = len(piece) / best(lambda: np.exp(piece, out=result), 50 * repeats)
    products = [spmv(n, repeats) for n in cells]
    versions = {
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "DOLFINx": dolfinx.__version__,
        "PETSc": ".".join(map(str, PETSc.Sys.getVersion())),
        "MPI": " ".join(MPI.Get_library_version().split()[:3]),
    }
    return {"copy_bytes_per_second": bandwidth, "exp_per_second": exponential, "spmv": products, "versions": versions}


def spmv(n: int, repeats: int) -> dict[str, Any]:
    """Time of one sequential AIJ product with the P1 matrix of the n × n mesh."""
    space = circle_rbf([n, n])[1].space
    matrix = assemble_matrix(fem.form(ufl.TrialFunction(space) * ufl.TestFunction(space) * ufl.dx))
    matrix.assemble()
    x, y = matrix.createVecs()
    x.set(1.0)
    rows, entries = matrix.getSize()[0], int(matrix.getInfo()["nz_used"])
    seconds = best(lambda: matrix.mult(x, y), repeats * max(1, 2**22 // entries))
    return {"cells": n, "rows": rows, "ns_per_row": 1e9 * seconds / rows, "ns_per_entry": 1e9 * seconds / entries}


# --- the density ----------------------------------------------------------------------------------------------------------------


def advance(density: Density, duration: float) -> dict[str, Any]:
    """Seconds, steps, node updates and solver iterations of ``density.advance`` over ``duration``."""
    before, began = density.statistics(), time.perf_counter()
    density.advance(density.time + duration)
    seconds, after = time.perf_counter() - began, density.statistics()
    counted = {key: after[key] - before[key] for key in ("steps", "limited_steps", "rejected_steps", "solver_iterations")}
    updates = counted["steps"] * after["stages"] * after["nodes"]
    return counted | {"seconds": seconds, "updates": updates, "updates_per_second": updates / seconds}


def warm_up(density: Density, steps: float = 2.5) -> float:
    """Compile and take a few steps; returns the length of a step at the CFL limit."""
    density.advance(steps * 5.0 / max(density.domain.nodes, 1) ** 0.5)
    return density.step


@contextmanager
def clocked(owner: type, *names: str) -> Iterator[list[float]]:
    """Durations of all calls of the named methods while the block runs, taken in place."""
    originals, durations = {name: getattr(owner, name) for name in names}, list[float]()

    def with_clock(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = method(*arguments)
            durations.append(time.perf_counter() - began)
            return result

        return call

    for name, method in originals.items():
        setattr(owner, name, with_clock(method))
    try:
        yield durations
    finally:
        for name, method in originals.items():
            setattr(owner, name, method)


@task
def explicit_stage(cells: list[int], steps: int, repeats: int) -> dict[str, Any]:
    """Node updates per second of the flux-corrected stages, and the part of a stage that moments and potential take."""
    density = Density(*circle_rbf(cells), scheme="flux_corrected")
    length = warm_up(density)
    rates = [advance(density, steps * length)["updates_per_second"] for _ in range(repeats)]
    with clocked(NodalFeatures, "moments", "potential") as durations:
        block = advance(density, steps * length)
    return {
        "cells": cells,
        "nodes": density.domain.nodes,
        "features": density.moments().size,
        "feature_rank": density.statistics()["feature_rank"],
        "updates_per_second": float(np.median(rates)),
        "best_updates_per_second": max(rates),
        "mean_field_share": sum(durations) / block["seconds"],
    }


@task
def worker(cells: list[int], steps: float, signals: str, name: str, problem: str | None = None) -> dict[str, Any]:
    """Blocks of steps on MPI.COMM_WORLD, the k-th started by the file ``name``.k.go, its result left in ``name``.k.

    Explicit ones of the circle, each as long as the CFL condition allows; of a ``problem`` with a tensor blocks of ``steps``
    units of time, whose implicit steps the error control chooses.

    The ranks look for the signal between short sleeps and without MPI, since waiting in MPI would take the processor from others.
    """
    folder, comm = Path(signals), MPI.COMM_WORLD
    if problem is None:
        density = Density(*circle_rbf(cells, comm=comm), scheme="flux_corrected")
        length = warm_up(density)
    else:
        density, length = Density(*TENSORS[problem](cells, comm=comm)), 1.0
        density.advance(WARM)
    leave(folder / f"{name}.ready", {"owned": comm.allgather(density.domain.owned)}, comm.rank)
    block = 0
    while not (folder / "stop").exists():
        if (folder / f"{name}.{block}.go").exists():
            comm.Barrier()
            leave(folder / f"{name}.{block}", advance(density, steps * length), comm.rank)
            block += 1
        time.sleep(PATIENCE)
    return {}


def leave(path: Path, content: dict[str, Any], rank: int) -> None:
    """Write ``content`` on rank 0 so that nobody sees half of it."""
    if rank == 0:
        aside = path.with_name(f"{path.name}.aside")
        aside.write_text(json.dumps(content), encoding="utf-8")
        aside.rename(path)


@task
def implicit_step(cells: list[int], end: float) -> dict[str, Any]:
    """The edge-averaged scheme with error control at τ = 0.05 up to ``end``, and what a step costs."""
    density = Density(*circle_rbf([8, 8], temperature=0.05), scheme="edge_averaged")
    density.advance(0.01)
    density = Density(*circle_rbf(cells, temperature=0.05), scheme="edge_averaged")
    block = advance(density, end)
    # each attempt solves for two stages and once more to smooth its error estimate; a limited step has one more solve
    solves = 3 * (block["steps"] + block["rejected_steps"]) + block["limited_steps"]
    return block | {
        "cells": cells,
        "nodes": density.domain.nodes,
        "end": end,
        "solves": solves,
        "seconds_per_step": block["seconds"] / block["steps"],
        "iterations_per_solve": block["solver_iterations"] / solves,
    }


@task
def tensor_step(problem: str, cells: list[int], end: float, repeats: int) -> dict[str, Any]:
    """Every implicit step up to ``end`` under a full tensor, each timed at its quickest over runs that repeat the same steps."""
    runs = []
    for warming in (True, *(False for _ in range(repeats))):
        density, times = Density(*TENSORS[problem]([12, 12] if warming else cells)), [time.perf_counter()]
        density.advance(end, lambda times=times: times.append(time.perf_counter()))
        runs.append(np.diff(times))
    seconds, statistics = np.min(runs[1:], axis=0), density.statistics()
    keys = ("steps", "limited_steps", "rejected_steps", "solver_iterations", "minimum", "mass_defect")
    return {
        "problem": problem,
        "cells": cells,
        "end": end,
        "slowest": float(seconds.max()),
        "median": float(np.median(seconds)),
        "mean": float(seconds.mean()),
        **{key: statistics[key] for key in keys},
    }


@task
def mixture_run(cells: list[int], end: float) -> dict[str, Any]:
    """The Gaussian mixture at τ = 0 up to ``end``, from nothing: mesh, projection, compiled kernels from their cache, steps."""
    began = time.perf_counter()
    density = Density(*mixture(cells))
    density.advance(end)
    statistics = density.statistics()
    seconds = time.perf_counter() - began
    keys = ("steps", "mass_defect", "minimum")
    return {"cells": cells, "end": end, "seconds": seconds, "energy": density.free_energy()} | {k: statistics[k] for k in keys}


# --- memory ---------------------------------------------------------------------------------------------------------------------

PROBLEMS: dict[str, tuple[Callable[[Sequence[int]], Problem], str]] = {
    "circle_rbf": (circle_rbf, "flux_corrected"),
    "sigmoid_3d": (sigmoid_3d, "edge_averaged"),
}


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def settled() -> int:
    """Resident bytes after everything freed has gone back to the system; the peak starts again from here."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return resident("VmRSS")


@task
def memory(problem: str, cells: list[int], duration: float) -> dict[str, Any]:
    """Growth of resident memory from before the mesh to after the steps, now and at its peak, per node.

    The same is done on a tiny mesh first, so that compilers and libraries are loaded when the count begins.
    """
    make, scheme = PROBLEMS[problem]
    Density(*make([4] * len(cells)), scheme=scheme).advance(duration)
    base = settled()
    density = Density(*make(cells), scheme=scheme)
    density.advance(duration)
    nodes, statistics = density.domain.nodes, density.statistics()
    return {
        "cells": cells,
        "nodes": nodes,
        "scheme": scheme,
        "steps": statistics["steps"],
        "limited_steps": statistics["limited_steps"],
        "bytes_per_node": (resident("VmRSS") - base) / nodes,
        "peak_bytes_per_node": (resident("VmHWM") - base) / nodes,
    }


# --- particles ------------------------------------------------------------------------------------------------------------------


@task
def ensemble_step(particles: int, repeats: int) -> dict[str, Any]:
    """One gradient step: drift of all particles in the present field, then the moments of the new positions."""
    ensemble = Ensemble(circle_model(), START, particles=particles, step=0.05, scheme="euler", comm=MPI.COMM_SELF)
    ensemble.advance(0.05)
    times = []
    for step in range(2, repeats + 2):
        began = time.perf_counter()
        ensemble.advance(0.05 * step)
        times.append(time.perf_counter() - began)
    points = len(ensemble.moments()[0])
    seconds = float(np.median(times))
    return {"particles": particles, "points": points, "seconds": seconds, "pairs_per_second": particles * points / seconds}


def main(name: str, arguments: str) -> None:
    result = TASKS[name](**json.loads(arguments))
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
