"""The points of a study: their overrides, folders and states, and the process that computes one of them.

`python -m mvpde.studies.points STUDY_FOLDER INDEX` computes one point, alone or under
mpirun: what `mvpde study` and a job array start.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from mvpde import runtime
from mvpde.cases.additions import VARIABLE
from mvpde.cases.file import Case, holding, load, parse
from mvpde.cases.meshes.coarser import companion
from mvpde.cases.problem import problem
from mvpde.cases.values import Section, Table
from mvpde.files import write_json
from mvpde.runs.stopping import Stopped
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError, on_first_rank
from mvpde.studies.file import OPTIONS, Study
from mvpde.studies.laws import TASKS
from mvpde.studies.measurement import COMPANION
from mvpde.studies.task import Task
from mvpde.studies.verdict import Json

LIST = "points.json"  # in the study's folder: what every point computes
MARK = "point.json"  # in a point's folder: how it ended; written last
POINTS, LOGS = "points", "logs"  # folders
HALF_CELLS = "half_cells"  # the companion run that measures the density's own error
DENSITY_ALONE = ("title", "model", "data", "initial", "domain", "density", "time", "output")  # what of a case the companion has

DONE, FAILED, WAITING = "done", "failed", "waiting"
LONGEST_NAME = 100


@dataclass(frozen=True)
class Point:
    """One computation of a study, complete: it needs neither the study file nor the base case any more.

    Attributes:
        name: of its folder.
        parameters: value of each varied key; empty for the companion run.
        task: key of `TASKS`.
        options: of the task.
        path: the base case's file, whose folder its data files are relative to.
        case: the case with every default.
        inputs: digest of each file that the case reads.
    """

    name: str
    parameters: dict[str, Json]
    task: str
    options: dict[str, Json]
    path: str
    case: Table
    inputs: dict[str, str]

    def identity(self) -> dict[str, Json]:
        """All that its result depends on."""
        return {"task": self.task, "options": self.options, "case": self.case, "inputs": self.inputs}


@dataclass(frozen=True)
class State:
    """How far a point is: done, failed or waiting, with the message of a failure and the time it took."""

    status: str
    message: str = ""
    seconds: float | None = None


# --- from a study to its points -------------------------------------------------------------------------------------------------


def expand(study: Study) -> list[Point]:
    """Every point of a study in the order of its table; the companion run, if one is needed, comes last.

    Raises:
        CaseError: if a point's case is not valid.
    """
    points = [_point(study, parameters) for parameters in combinations(study)]
    names = folder_names(study, points)
    points = [replace(point, name=name) for point, name in zip(points, names, strict=True)]
    return points + (
        [_companion(study, points[0])] if any(options.discretisation == COMPANION for _, options in study.measures) else []
    )


def combinations(study: Study) -> list[dict[str, Json]]:
    """The varied keys' values at every point; the last key varies fastest."""
    values = [axis.values for axis in study.axes]
    rows = zip(*values, strict=True) if study.mode == "zip" else itertools.product(*values)
    return [dict(zip(study.keys, itertools.chain(*row), strict=True)) for row in rows]


def _point(study: Study, parameters: dict[str, Json]) -> Point:
    everything = {**study.fixed, **parameters}
    options = {
        **study.options,
        **{key.removeprefix(OPTIONS): value for key, value in everything.items() if key.startswith(OPTIONS)},
    }
    try:
        case = load(study.base, {key: value for key, value in everything.items() if not key.startswith(OPTIONS)})
        TASKS[study.task].options.model_validate(options)
    except (CaseError, ValueError) as error:
        here = ", ".join(f"{key} = {value!r}" for key, value in parameters.items())
        raise CaseError(f"{study.path}: at the point {here}:\n{error}") from None
    table = cast("Table", _spelled(case.table()))
    return Point("", parameters, study.task, options, str(study.base.resolve()), table, _digests(case))


def _spelled(value: Json) -> Json:
    """Infinite numbers as the text that case files have for them: JSON has none."""
    if isinstance(value, dict):
        return {key: _spelled(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_spelled(entry) for entry in value]
    return "infinity" if value == math.inf else value


def _digests(case: Case) -> dict[str, str]:
    table = case.table()
    return {holding(table, place)[place[-1]]: _digest(path) for place, path in case.inputs().items()}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""  # a pipe would be waited for
    except OSError:
        return ""  # the point itself says what is wrong with the file


def _companion(study: Study, first: Point) -> Point:
    """The density of the first point alone, on half the cells in each direction: its companion, as a run."""
    cells = first.case.get("domain", {}).get("cells")
    rough = None
    if first.task == "run" and cells is not None and "density" in first.case:
        rough = companion(problem(parse(first.case, Path(first.path))), 1)
    if rough is None:
        raise CaseError(
            f'{study.path}: [measure] discretisation: "{COMPANION}" needs task = "run" and a base case with a [density] on a '
            "box of at least 2 cells per direction; name a quantity of summary.json instead"
        )
    domain, density = rough.problem.sections.domain, rough.problem.sections.density
    assert domain is not None and density is not None
    halved = {**first.case, "domain": {**first.case["domain"], "cells": domain.cells}}
    if density.step is not None:
        halved["density"] = {**first.case["density"], "step": density.step}
    case = {key: value for key, value in halved.items() if key in DENSITY_ALONE}
    return replace(first, name=HALF_CELLS, parameters={}, options={}, case=case)


# --- names ----------------------------------------------------------------------------------------------------------------------


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key where no other key ends so, else more of it: ensemble.particles → particles."""

    def suffix(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    def alone(key: str, parts: int) -> bool:
        return parts > key.count(".") or sum(suffix(other, parts) == suffix(key, parts) for other in keys) == 1

    return {key: next(suffix(key, n) for n in range(1, key.count(".") + 2) if alone(key, n)) for key in keys}


def short_value(value: Json) -> str:
    """A value in a name: 100, 0.05, 64x64, heun."""
    if isinstance(value, list):
        return "x".join(map(short_value, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def folder_names(study: Study, points: Sequence[Point]) -> list[str]:
    """particles=100,seed=2; made different by a digest where two would be alike, or one too long."""
    short = short_names(study.keys)
    texts = [",".join(f"{short[key]}={short_value(value)}" for key, value in point.parameters.items()) for point in points]
    safe = [re.sub(r"[^A-Za-z0-9.=,+-]+", "_", text) for text in texts]
    return [
        name if len(name) <= LONGEST_NAME and safe.count(name) == 1 else f"{name[: LONGEST_NAME - 9]}-{_mark(point)}"
        for name, point in zip(safe, points, strict=True)
    ]


def _mark(point: Point) -> str:
    return hashlib.sha256(json.dumps(point.parameters, sort_keys=True).encode()).hexdigest()[:8]


# --- folders --------------------------------------------------------------------------------------------------------------------


def write_points(folder: Path, points: Sequence[Point]) -> None:
    """points.json of a study."""
    write_json(folder / LIST, {"points": [vars(point) for point in points]})


def read_points(folder: Path) -> list[Point]:
    """Points of the study in a folder.

    Raises:
        CaseError: if there is none.
    """
    try:
        return [Point(**entry) for entry in json.loads((folder / LIST).read_text(encoding="utf-8"))["points"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise CaseError(
            f"{folder}: holds no study ({LIST} is missing or damaged); give the folder of `mvpde study --out`"
        ) from None


def state(folder: Path, point: Point) -> State:
    """How far the point is whose study lies in `folder`; results of another case count as none."""
    here = folder / POINTS / point.name
    try:
        mark = json.loads((here / MARK).read_text(encoding="utf-8"))
        same = mark["identity"] == json.loads(json.dumps(point.identity()))
        ended = State(str(mark["status"]), str(mark["message"]), mark["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return State(WAITING)
    complete = ended.status != DONE or (here / "summary.json").is_file()
    return ended if same and complete else State(WAITING)


def write_state(folder: Path, point: Point, ended: State) -> None:
    """Say how the point ended."""
    here = folder / POINTS / point.name
    here.mkdir(parents=True, exist_ok=True)
    write_json(here / MARK, {**vars(ended), "parameters": point.parameters, "identity": point.identity()})


# --- computing one --------------------------------------------------------------------------------------------------------------

_CODES: dict[type[Exception], int] = {
    CaseError: runtime.EXIT_USAGE,
    SolverError: runtime.EXIT_SOLVER,
    InvariantError: runtime.EXIT_INVARIANT,
}


def compute(folder: Path, point: Point, comm: MPI.Intracomm) -> None:
    """Compute a point from nothing, in a fresh folder, and leave its mark. Collective.

    Raises:
        CaseError, SolverError, InvariantError: after the mark "failed" with their message.
        Stopped: without a mark, so that the point is computed again.
    """
    start = MPI.Wtime()
    here = folder / POINTS / point.name

    def mark(status: str, message: str = "") -> None:
        on_first_rank(comm, lambda: write_state(folder, point, State(status, message, round(MPI.Wtime() - start, 3))))

    on_first_rank(comm, lambda: _make_room(here))
    try:
        case = parse(point.case, Path(point.path))
        task = _task(point.task)
        task.compute(case, task.options.model_validate(point.options), here, comm)
    except (CaseError, SolverError, InvariantError) as error:
        mark(FAILED, str(error))
        raise
    mark(DONE)


def _task(name: str) -> Task[Section]:
    """What a point computes.

    Raises:
        CaseError: if this process knows no such task: a script added it to its own.
    """
    try:
        return TASKS.require(name)
    except ValueError as error:
        raise CaseError(f"{error}; where a script adds it, name the script's module in {VARIABLE}") from None


def _make_room(here: Path) -> None:
    """Nothing of an unfinished or outdated attempt may be taken for a result."""
    (here / MARK).unlink(missing_ok=True)
    if here.is_dir():
        shutil.rmtree(here)
    here.parent.mkdir(parents=True, exist_ok=True)


def main(arguments: Sequence[str]) -> int:
    """Compute the point with this index unless it is done; the exit codes are those of `mvpde run`. Collective."""
    runtime.install_abort_hook()
    comm = MPI.COMM_WORLD
    folder, index = Path(arguments[0]), int(arguments[1])
    try:
        point = on_first_rank(comm, lambda: read_points(folder)[index])
        if on_first_rank(comm, lambda: state(folder, point).status) != DONE:
            compute(folder, point, comm)
    except (CaseError, SolverError, InvariantError, Stopped) as error:
        if comm.rank == 0:
            print(f"mvpde: {error}", file=sys.stderr, flush=True)
        return next((code for kind, code in _CODES.items() if isinstance(error, kind)), runtime.EXIT_STOPPED)
    return runtime.EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
