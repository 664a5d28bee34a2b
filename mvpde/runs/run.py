"""Run a case: measures from t = 0 through its output times, and the folder that tells what happened."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvpde.cases.file import Case, load
from mvpde.cases.measures import chosen_measures, measures
from mvpde.cases.problem import Problem, problem, stationary_starts
from mvpde.fields import FieldSeries
from mvpde.files import write_arrays, write_csv, write_json
from mvpde.runs import folder as output
from mvpde.runs import pictures as plots
from mvpde.runs import stopping
from mvpde.runs.progress import Progress, silent
from mvpde.runs.record import Record, Wanted, record
from mvpde.runtime import MPI, InvariantError, SolverError, on_first_rank

if TYPE_CHECKING:
    import xarray

    from mvpde.equilibrium.approach import LongTime

OUTER_MASS = 1e-3  # a larger share of the mass at the walls means that the domain is too small
UPDATES = 1_000_000  # particle steps, a second or so, after which an ensemble looks whether it is asked to stop


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        folder: where everything lies.
        summary: the content of summary.json.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def dataset(self) -> xarray.Dataset:
        """Series, fields and particles of the run (see `mvpde.open`)."""
        from mvpde.runs.reading import open_run

        return open_run(self.folder)


@dataclass
class Run:
    """A run in progress: what it is made of and what it has recorded.

    Attributes:
        setting: the case, its model and initial law.
        measures: by name.
        folder: output folder.
        comm: communicator.
        began: clock at the start.
        records: one per output time so far (arrays of the last one only).
        seconds: time spent in each measure's `advance`.
        statistics: `statistics()` of each measure, as of the last output time.
        series: the density's and the particles' files, rank 0.
        warnings: what the user should know, beside what the numbers say.
        long_time: stationary law and modes, where the case asks for them.
    """

    setting: Problem
    measures: dict[str, Any]
    folder: Path
    comm: MPI.Intracomm
    began: float
    records: list[Record] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)
    series: dict[str, FieldSeries] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    long_time: LongTime | None = None


def run(
    case: Case | str | Path,
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    without: Collection[str] = (),
    comm: MPI.Intracomm | None = None,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Result:
    """Compute a case and write its folder. Collective.

    Args:
        case: a case or the path of its file.
        set: values that replace the file's, by "section.key" (only with a path).
        out: output folder, by default `results/<name of the case file>`.
        overwrite: replace an earlier run in that folder.
        without: measures to leave out: density, ensemble, characteristics, sgd.
        comm: communicator, by default MPI.COMM_WORLD.
        command: the command line, for provenance.json.
        progress: is told every output time.

    Raises:
        CaseError: before anything is computed or written.
        SolverError, InvariantError, Stopped: with the outputs up to then, the summary and a checkpoint in the folder.
    """
    comm, began = comm or MPI.COMM_WORLD, time.perf_counter()
    if not isinstance(case, Case):
        case = load(case, set, comm)
    folder = Path(out) if out is not None else output.default_folder(case)
    on_first_rank(comm, lambda: output.check_folder(folder, overwrite))
    setting = problem(case, comm)
    names = chosen_measures(setting, without)
    importlib.import_module("dolfinx")  # on all ranks, and now: PETSc starts collectively, and with signal handlers of its own
    with stopping.listening(comm) as request:
        job = Run(setting, measures(setting, names, comm), folder, comm, began)
        job.warnings += _skipped(setting, names, without)
        job.long_time = _long_time(job)
        mesh = job.measures["density"].domain.mesh_arrays() if "density" in names else None
        on_first_rank(comm, lambda: _open(job, mesh, output.provenance(case, comm.size, command)))
        if job.long_time is not None and setting.case.sections.output.fields:
            job.long_time.write(folder, setting.model.coordinates)
        summary = _carry(job, request, progress)
    return Result(folder, summary)


def _long_time(job: Run) -> LongTime | None:
    """Stationary law and modes, before anything else is computed, as the approach to them is observed. Collective."""
    sections = job.setting.case.sections
    if (sections.stationary is None and sections.spectrum is None) or "density" not in job.measures:
        return None
    from mvpde.equilibrium.approach import long_time

    modes = None if sections.spectrum is None else sections.spectrum.modes
    return long_time(job.measures["density"], modes, stationary_starts(job.setting))


def _skipped(setting: Problem, names: Sequence[str], without: Collection[str]) -> list[str]:
    s = setting.case.sections
    found = []
    if s.characteristics is not None and "characteristics" not in names and "characteristics" not in without:
        found.append("characteristics: left out, they exist at temperature 0 only")
    if s.ensemble is not None and "ensemble" not in names and "ensemble" not in without:
        found.append("ensemble: left out, there is no network in infinite dimension")
    if (s.stationary is not None or s.spectrum is not None) and "density" not in names:
        found.append("stationary, spectrum: left out, they are found on the mesh of a density")
    if s.time.outputs[-1] < s.time.end:
        found.append(f"time.end = {s.time.end:g}: nothing is computed after the last output time {s.time.outputs[-1]:g}")
    return found


def _open(job: Run, mesh: tuple[Any, Any] | None, provenance: dict[str, Any]) -> None:
    output.create_folder(job.folder, job.setting.case, provenance)
    job.series = {name: FieldSeries(job.folder / name, name) for name in ("density", "particles")}
    if mesh is not None and job.setting.case.sections.output.fields:
        job.series["density"].write_mesh(*mesh, job.setting.model.coordinates)


def _carry(job: Run, request: stopping.StopRequest, progress: Progress) -> dict[str, Any]:
    """Advance and record until the last output time or the first failure. Collective."""
    times = job.setting.case.sections.time.outputs
    try:
        for t in times:
            _advance(job, t, request.check)
            _record(job, t)
            progress(job.records[-1], times)
    except (SolverError, InvariantError) as error:
        _finish(job, "failed", str(error))
        raise
    except stopping.Stopped as stop:
        _finish(job, "stopped", str(stop))
        raise
    return _finish(job, "done")


def _advance(job: Run, t: float, between_steps: Callable[[], None]) -> None:
    for name, measure in job.measures.items():
        between_steps()
        start = time.perf_counter()
        try:
            _ADVANCES.get(name, _at_once)(job, measure, t, between_steps)
        finally:
            job.seconds[name] = job.seconds.get(name, 0.0) + time.perf_counter() - start
    between_steps()


def _at_once(_: Run, measure: Any, t: float, between_steps: Callable[[], None]) -> None:
    measure.advance(t)


def _in_slices(job: Run, ensemble: Any, t: float, between_steps: Callable[[], None]) -> None:
    """To t in the equal steps that the ensemble takes by itself, as many at a time as a signal may wait for."""
    section: Any = job.setting.case.sections.ensemble
    start, slice_ = ensemble.time, max(1, UPDATES // (section.particles * section.runs))
    count = math.ceil((t - start) / section.step * (1.0 - 1e-12))
    for k in range(slice_, count, slice_):
        ensemble.advance(start + (t - start) * k / count)
        between_steps()
    ensemble.advance(t)


_ADVANCES: dict[str, Callable[[Run, Any, float, Callable[[], None]], None]] = {
    "density": lambda _, density, t, between_steps: density.advance(t, after_step=between_steps),
    "ensemble": _in_slices,
}


def _record(job: Run, t: float) -> None:
    section = job.setting.case.sections.output
    wanted = Wanted(section.particles, section.projections if section.sliced_wasserstein else 0, _lower(job.setting))
    found = record(job.setting.model, job.measures, t, wanted, job.comm)
    for name, numbers in found.numbers.items():
        if not math.isfinite(numbers["loss"]):
            raise InvariantError(f"{name}: the loss at t = {t:g} is not a finite number; the outputs before are kept")
    if job.records:
        previous = job.records[-1]  # arrays are kept for the last output time only
        previous.fields, previous.clouds, previous.particles = {}, {}, None
    job.records.append(found)
    if job.long_time is not None:
        job.long_time.observe(job.measures["density"])
    job.statistics = _statistics(job)
    states = _states(job)
    on_first_rank(job.comm, lambda: _write(job, found, states))


def _lower(setting: Problem) -> tuple[float, ...]:
    domain = setting.case.sections.domain
    box = domain.lower if domain is not None else None
    return tuple(box or [0.0] * setting.model.dimension)


def _states(job: Run) -> dict[str, dict[str, Any]]:
    """The arrays from which each measure can continue; empty where it cannot, and on ranks other than 0. Collective."""
    return {name: measure.state() or {} for name, measure in job.measures.items() if hasattr(measure, "state")}


def _write(job: Run, found: Record, states: Mapping[str, Mapping[str, Any]]) -> None:
    wanted = job.setting.case.sections.output
    if wanted.fields and found.fields:
        job.series["density"].append_on_mesh(found.time, found.fields)
    if found.particles is not None and wanted.particles > 0:
        job.series["particles"].append_points(found.time, found.particles, job.setting.model.coordinates)
    write_csv(job.folder / "series.csv", [_row(one) for one in job.records])
    if job.setting.model.data is not None:
        write_csv(job.folder / "predictions.csv", [row for one in job.records for row in _prediction_rows(job, one)])
    write_arrays(job.folder / "checkpoint" / "state.h5", states)
    write_json(job.folder / "summary.json", _summary(job, "running"))


def _statistics(job: Run) -> dict[str, dict[str, Any]]:
    return {name: measure.statistics() for name, measure in job.measures.items()}


def _row(found: Record) -> dict[str, Any]:
    columns: dict[str, Any] = {"t": found.time}
    for group in (found.numbers, found.comparison):
        columns |= {f"{name}_{key}": value for name, numbers in group.items() for key, value in numbers.items()}
    return columns


def _prediction_rows(job: Run, found: Record) -> list[dict[str, Any]]:
    data = job.setting.model.data
    assert data is not None
    inputs = ["x"] if data.x.shape[1] == 1 else [f"x{k + 1}" for k in range(data.x.shape[1])]
    rows = []
    for p, (x, target) in enumerate(zip(data.x, data.target, strict=True)):
        row = {"t": found.time, **dict(zip(inputs, x, strict=True)), "target": target}
        row |= {name: f[p] for name, f in found.predictions.items()}
        if found.prediction_error is not None:
            row["ensemble_standard_error"] = found.prediction_error[p]
        rows.append(row)
    return rows


def _listed(job: Run, name: str, keys: Sequence[str]) -> dict[str, list[float]]:
    """Lists over the output times; a key that the measure does not have is left out."""
    return {
        key: [one.numbers[name][key] for one in job.records]
        for key in keys
        if all(key in one.numbers[name] for one in job.records)
    }


_LISTS = {
    "density": ("loss", "free_energy", "outer_mass"),
    "ensemble": ("loss", "loss_standard_error"),
    "characteristics": ("loss",),
    "sgd": ("loss", "loss_standard_error"),
}


def _summary(job: Run, status: str, message: str = "") -> dict[str, Any]:
    """The content of summary.json."""
    summary: dict[str, Any] = {
        "status": status,
        "message": message,
        "title": job.setting.case.sections.title,
        "ranks": job.comm.size,
        "wall_seconds": time.perf_counter() - job.began,
        "times": [one.time for one in job.records],
    }
    for name in job.measures:
        summary[name] = {
            **job.statistics[name],
            **_listed(job, name, (*_LISTS[name], *job.setting.model.observables)),
            "seconds": job.seconds.get(name, 0.0),
        }
    compared = job.records[-1].comparison if job.records else {}
    summary["comparison"] = {
        pair: {key: [one.comparison[pair][key] for one in job.records] for key in quantities}
        for pair, quantities in compared.items()
    }
    if any(one.weak_errors for one in job.records):
        summary["weak_errors"] = {
            function: {key: [one.weak_errors[function][key] for one in job.records] for key in quantities}
            for function, quantities in job.records[-1].weak_errors.items()
        }
    if job.setting.model.facts:
        summary["model"] = dict(job.setting.model.facts)
    if job.long_time is not None:
        summary |= job.long_time.summary(summary["times"])
    return {**summary, "warnings": job.warnings + _warnings(job)}


def _warnings(job: Run) -> list[str]:
    found = []
    outer = max((one.numbers["density"]["outer_mass"] for one in job.records if "density" in one.numbers), default=0.0)
    if outer > OUTER_MASS:
        found.append(
            f"domain: {outer:.1e} of the mass reached the outer layer of cells; widen [domain] lower and upper, or its mesh"
        )
    if job.long_time is not None and job.long_time.law.outer_mass > OUTER_MASS:
        found.append(
            f"stationary: {job.long_time.law.outer_mass:.1e} of the mass of the stationary law lies in the outer layer of cells; "
            "the model does not confine it to this box: widen [domain] lower and upper, or add confinement"
        )
    bad_edges = job.statistics.get("density", {}).get("negative_edges", 0)
    if bad_edges:
        found.append(
            f"mesh: {bad_edges} edges have a negative weight (obtuse angles) and are treated by upwinding; use a better mesh"
        )
    return found


def _finite(states: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(np.isfinite(values).all() for arrays in states.values() for values in arrays.values())


def _draw(job: Run, mesh: tuple[Any, Any] | None) -> None:
    try:
        plots.draw(job.folder, job.setting.model, job.records, mesh, job.setting.case.sections.title)
    except Exception as error:  # whatever a plotting library makes of numbers near overflow, the results and the exit code stand
        job.warnings.append(f"pictures: not all could be drawn ({error})")


def _finish(job: Run, status: str, message: str = "") -> dict[str, Any]:
    """Summary and pictures of what has been recorded; after an early end also the state reached since. Collective."""
    job.statistics = _statistics(job)
    wanted = job.setting.case.sections.output.pictures
    mesh = job.measures["density"].domain.mesh_arrays() if wanted and "density" in job.measures else None
    states = _states(job)

    def close() -> dict[str, Any]:
        if status != "done" and _finite(states):  # later than the last output
            write_arrays(job.folder / "checkpoint" / "state.h5", states)
        write_json(job.folder / "summary.json", _summary(job, status, message))  # before the pictures, which may fail
        if wanted and job.records:
            _draw(job, mesh)
        summary = _summary(job, status, message)
        write_json(job.folder / "summary.json", summary)
        return summary

    return on_first_rank(job.comm, close)
