"""The result of a study: one row for each point, and one dataset over the parameters."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from mvpde.cases.file import parse
from mvpde.cases.problem import problem
from mvpde.files import replace_whole
from mvpde.studies.file import Study
from mvpde.studies.points import DONE, HALF_CELLS, POINTS, Point, State, short_names, short_value
from mvpde.studies.slope import COMPANION_VARIABLE

# Depends on the machine and its load, so it is no result: it has a table of its own.
TIMINGS = ("ranks", "seconds", "wall_seconds", "particle_updates_per_second", "node_updates_per_second")
Quantity = tuple[tuple[str, ...], np.ndarray]  # dimensions beside the parameters, values (points, …)
NOT_OVER_TIME = ("stationary", "spectrum", "warnings", "times")


def read_summary(folder: Path, point: Point, found: State) -> dict[str, Any]:
    """summary.json of a finished point as {"a.b": value}; empty for any other."""
    if found.status != DONE:
        return {}
    return flat(json.loads((folder / POINTS / point.name / "summary.json").read_text(encoding="utf-8")))


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a.b": v} from {"a": {"b": v}}."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found


def _is_timing(key: str) -> bool:
    return key.split(".")[-1] in TIMINGS


def _results(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in ("status", "title") and not _is_timing(key)}


def _parameters(point: Point) -> dict[str, Any]:
    return {key: short_value(value) if isinstance(value, list) else value for key, value in point.parameters.items()}


def row(point: Point, found: State, summary: Mapping[str, Any]) -> dict[str, Any]:
    """A row of table.csv: parameters, state, every scalar of the summary, the last entry of every list over the output times."""
    cells: dict[str, Any] = {
        key: short_value(value) if isinstance(value, list) else value for key, value in point.parameters.items()
    }
    cells |= {"status": found.status, "message": found.message, "folder": f"{POINTS}/{point.name}"}
    count = len(summary.get("times", ()))
    for key, value in _results(summary).items():
        if key in cells:
            continue  # a parameter keeps its value: what the summary calls characteristics.nodes is their product
        if _over_time(key, value, count):
            cells[f"{key}[-1]"] = value[-1]
        elif not isinstance(value, list):
            cells[key] = value
    return {**cells, "warnings": "; ".join(summary["warnings"])} if summary.get("warnings") else cells


def timing_row(point: Point, found: State, summary: Mapping[str, Any]) -> dict[str, Any]:
    """A row of timing.csv."""
    measured = {key: value for key, value in summary.items() if _is_timing(key)}
    return {"folder": f"{POINTS}/{point.name}", **_parameters(point), "process_seconds": found.seconds, **measured}


def _over_time(key: str, value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count > 0 and key.split(".")[0] not in NOT_OVER_TIME


# --- the dataset ----------------------------------------------------------------------------------------------------------------


def dataset(
    study: Study, points: Sequence[Point], states: Sequence[State], summaries: Sequence[Mapping[str, Any]]
) -> xarray.Dataset:
    """One dataset over the parameters (mode zip: over `point`), and over `time` where a quantity has output times.

    Dimensions have the last part of the varied key as name (particles for ensemble.particles), variables their path in
    summary.json. Points that failed are NaN and have their text in `message`.

    Args:
        study: whose axes they are.
        points, states, summaries: in the order of the table, without the companion run.
    """
    names = short_names(study.keys)
    names = {key: key if name in ("time", "point", "status", "message", "folder") else name for key, name in names.items()}
    dimensions, coordinates = _coordinates(study, points, names)
    shape = tuple(len(axis.values) for axis in study.axes) if study.mode == "product" else (len(points),)
    times = sorted({t for summary in summaries for t in summary.get("times", ())})
    variables: dict[str, Any] = {
        key: (dimensions, np.array([str(value) for value in values], dtype=object).reshape(shape))
        for key, values in {
            "status": [found.status for found in states],
            "message": [found.message for found in states],
            "folder": [f"{POINTS}/{point.name}" for point in points],
        }.items()
    }
    results = [_results(summary) for summary in summaries]
    for key in dict.fromkeys(key for result in results for key in result if key != "times"):
        if key in variables or key in coordinates:
            continue
        made = _variable(key, summaries, times)
        if made is not None:
            extra, values = made
            variables[key] = (dimensions + extra, values.reshape(shape + values.shape[1:]))
    if times:
        coordinates["time"] = ("time", np.array(times, dtype=float))
    attributes = {"title": study.title, "study": str(study.path), "task": study.task}
    return xarray.Dataset(variables, coords=coordinates, attrs=attributes)


def _coordinates(study: Study, points: Sequence[Point], names: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    if study.mode == "zip":
        found = {
            names[key]: ("point", _parameter([point.parameters[key] for point in points]), {"key": key}) for key in study.keys
        }
        return ("point",), found
    coordinates: dict[str, Any] = {}
    dimensions = tuple(names[axis.keys[0]] for axis in study.axes)
    for axis, dimension in zip(study.axes, dimensions, strict=True):
        for k, key in enumerate(axis.keys):
            coordinates[names[key]] = (dimension, _parameter([value[k] for value in axis.values]), {"key": key})
    return dimensions, coordinates


def _parameter(values: Sequence[Any]) -> np.ndarray:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return np.array([short_value(value) for value in values], dtype=object)


def _variable(
    key: str, summaries: Sequence[Mapping[str, Any]], times: Sequence[float]
) -> tuple[tuple[str, ...], np.ndarray] | None:
    """One quantity of the summaries; None if it is neither text nor an array of numbers."""
    present = {k: summary[key] for k, summary in enumerate(summaries) if summary.get(key) is not None}
    if any(isinstance(value, str) for value in present.values()):
        return (), np.array([str(present.get(k, "")) for k in range(len(summaries))], dtype=object)
    timed = bool(present) and all(_over_time(key, value, len(summaries[k].get("times", ()))) for k, value in present.items())
    arrays = {k: _array(value) for k, value in present.items()}
    shapes = {array.shape[timed:] for array in arrays.values()} or {()}
    if len(shapes) > 1 or any(array.dtype == object or 0 in array.shape for array in arrays.values()):
        return None
    inner = shapes.pop()
    values = np.full((len(summaries), *((len(times),) if timed else ()), *inner), math.nan)
    for k, array in arrays.items():
        values[(k, [times.index(t) for t in summaries[k]["times"]]) if timed else k] = array
    return (*(("time",) if timed else ()), *(f"{key}_{axis}" for axis in range(len(inner)))), values


def _array(value: Any) -> np.ndarray:
    """Numbers, null as NaN; what has no such form comes as an array of objects."""
    try:
        return np.array(value, dtype=float)
    except (TypeError, ValueError):
        return np.array(None, dtype=object)


# --- the density's own error ----------------------------------------------------------------------------------------------------


def discretisation_error(folder: Path, first: Point) -> xarray.DataArray:
    """‖f_h − f_2h‖_{L²(μ)} / ‖target‖_{L²(μ)} of the first point and its companion, over time.

    For a method of order p the error of f_h is this over 2^p − 1, so it is no larger than this for any order of at least one.

    Raises:
        OSError, KeyError: if one of the two runs left no predictions.
    """
    model = problem(parse(first.case, Path(first.path))).model
    fine, coarse = (_predictions(folder / POINTS / name / "predictions.csv") for name in (first.name, HALF_CELLS))
    times = sorted(set(fine) & set(coarse))
    data = model.data
    assert data is not None  # there would be no predictions
    scale = math.sqrt(float(data.weights @ data.target**2)) or 1.0
    errors = [math.sqrt(float(data.weights @ (fine[t] - coarse[t]) ** 2)) / scale for t in times]
    meaning = "‖f_h − f_2h‖/‖target‖ between the first point's density and one on half the cells"
    return xarray.DataArray(errors, dims="time", coords={"time": times}, name=COMPANION_VARIABLE, attrs={"long_name": meaning})


def _predictions(path: Path) -> dict[float, np.ndarray]:
    found: dict[float, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault(float(line["t"]), []).append(float(line["density"]))
    return {t: np.array(values) for t, values in found.items()}


# --- files ----------------------------------------------------------------------------------------------------------------------


def write_dataset(path: Path, found: xarray.Dataset, tables: Mapping[str, xarray.Dataset]) -> None:
    """Replace a NetCDF-4 file: the dataset at its root, each table in a group of its own."""

    def write(aside: Path) -> None:
        found.to_netcdf(aside, mode="w", engine="h5netcdf")
        for name, table in tables.items():
            table.to_netcdf(aside, mode="a", group=name, engine="h5netcdf")

    replace_whole(path, write)
