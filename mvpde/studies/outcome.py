"""What comes of a study's points: one dataset over the parameters, its verdicts and its figures.

Loaded when points are done: xarray and matplotlib take longer to import than a list of points to make.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas
import xarray
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mvpde.cases.file import parse
from mvpde.cases.problem import problem
from mvpde.files import replace_whole, write_json
from mvpde.studies.file import Axis, Study
from mvpde.studies.laws import MEASUREMENTS
from mvpde.studies.measurement import COMPANION_VARIABLE, Picture
from mvpde.studies.points import DONE, HALF_CELLS, POINTS, Point, State, short_names, short_value
from mvpde.studies.table import over_time, results, times_of
from mvpde.studies.verdict import Json

if TYPE_CHECKING:
    from mvpde.studies.runner import Progress

PANEL_SIZES = {1: (7.2, 5.2), 2: (10.5, 4.8)}  # inches, by the number of panels

type Variable = tuple[tuple[str, ...], np.ndarray] | tuple[tuple[str, ...], np.ndarray, dict[str, str]]


def write_outcome(progress: Progress) -> xarray.Dataset:
    """study.nc, verdict.json and the figures of the points that are done; the dataset, with the verdicts in its attributes."""
    indices = progress.table
    data = dataset(
        progress.study,
        [progress.points[k] for k in indices],
        [progress.states[k] for k in indices],
        [progress.summaries[k] for k in indices],
    )
    data = _with_companion(progress, data)
    outcomes = {options.name or kind: MEASUREMENTS[kind].measure(data, options) for kind, options in progress.study.measures}
    entries = [verdict.entry() for outcome in outcomes.values() for verdict in outcome.verdicts]
    data.attrs["verdict"] = json.dumps(entries, ensure_ascii=False)
    for name, outcome in outcomes.items():
        if outcome.picture is not None:
            draw(progress.folder / name, outcome.picture)
    tables = {name: xarray.Dataset(dict(table)) for outcome in outcomes.values() for name, table in outcome.tables.items()}
    _write_dataset(progress.folder / "study.nc", data, tables)
    write_json(progress.folder / "verdict.json", entries)
    return data


def _with_companion(progress: Progress, data: xarray.Dataset) -> xarray.Dataset:
    index = len(progress.points) - 1
    if index in progress.table or progress.states[index].status != DONE or progress.states[0].status != DONE:
        return data
    return data.assign({COMPANION_VARIABLE: discretisation_error(progress.folder, progress.points[0])})


def draw(stem: Path, picture: Picture) -> None:
    """<stem>.png to look at, <stem>.svg for print and reports."""
    count = len(picture.panels)
    figure = Figure(figsize=PANEL_SIZES[count], layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, count, squeeze=False)[0], picture.panels, strict=True):
        panel(axes)
    figure.suptitle(picture.title, fontsize=10)
    for suffix in (".png", ".svg"):
        replace_whole(stem.with_name(stem.name + suffix), lambda aside: figure.savefig(aside, dpi=150))


# --- the dataset ----------------------------------------------------------------------------------------------------------------


def dataset(
    study: Study, points: Sequence[Point], states: Sequence[State], summaries: Sequence[Mapping[str, Json]]
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
    times = sorted({t for summary in summaries for t in times_of(summary)})
    variables: dict[str, Variable] = {
        key: (dimensions, np.array([str(value) for value in values], dtype=object).reshape(shape))
        for key, values in {
            "status": [state.status for state in states],
            "message": [state.message for state in states],
            "folder": [f"{POINTS}/{point.name}" for point in points],
        }.items()
    }
    kept = [results(summary) for summary in summaries]
    for key in dict.fromkeys(key for table in kept for key in table if key != "times"):
        if key in variables or key in coordinates:
            continue
        made = _variable(key, summaries, times)
        if made is not None:
            extra, values = made
            variables[key] = (dimensions + extra, values.reshape(shape + values.shape[1:]))
    if times:
        coordinates["time"] = (("time",), np.array(times, dtype=float))
    attributes = {"title": study.title, "study": str(study.path), "task": study.task}
    return xarray.Dataset(variables, coords=coordinates, attrs=attributes)


def _coordinates(study: Study, points: Sequence[Point], names: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, Variable]]:
    """The dimensions of the parameters, and the values of each varied key along its own."""
    if study.mode == "zip":
        rows = {key: [point.parameters[key] for point in points] for key in study.keys}
        return ("point",), {names[key]: _parameter("point", key, values) for key, values in rows.items()}
    along = [(axis, names[axis.keys[0]]) for axis in study.axes]
    coordinates = {names[key]: _parameter(dimension, key, values) for axis, dimension in along for key, values in _by_key(axis)}
    return tuple(dimension for _, dimension in along), coordinates


def _by_key(axis: Axis) -> list[tuple[str, list[Json]]]:
    return [(key, [row[k] for row in axis.values]) for k, key in enumerate(axis.keys)]


def _parameter(dimension: str, key: str, values: Sequence[Json]) -> Variable:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    array = np.array(values) if numbers else np.array([short_value(value) for value in values], dtype=object)
    return (dimension,), array, {"key": key}


def _variable(
    key: str, summaries: Sequence[Mapping[str, Json]], times: Sequence[float]
) -> tuple[tuple[str, ...], np.ndarray] | None:
    """One quantity of the summaries; None if it is neither text nor an array of numbers."""
    present = {k: summary[key] for k, summary in enumerate(summaries) if summary.get(key) is not None}
    if any(isinstance(value, str) for value in present.values()):
        return (), np.array([str(present.get(k, "")) for k in range(len(summaries))], dtype=object)
    timed = bool(present) and all(over_time(key, value, len(times_of(summaries[k]))) for k, value in present.items())
    arrays = {k: _array(value) for k, value in present.items()}
    shapes = {array.shape[timed:] for array in arrays.values()} or {()}
    if len(shapes) > 1 or any(array.dtype == object or 0 in array.shape for array in arrays.values()):
        return None
    inner = shapes.pop()
    values = np.full((len(summaries), *((len(times),) if timed else ()), *inner), math.nan)
    for k, array in arrays.items():
        values[(k, [times.index(t) for t in times_of(summaries[k])]) if timed else k] = array
    return (*(("time",) if timed else ()), *(f"{key}_{axis}" for axis in range(len(inner)))), values


def _array(value: Json) -> np.ndarray:
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
    table = pandas.read_csv(path, usecols=["t", "density"], dtype=str).astype(float)  # to the last digit
    return {float(cast("float", t)): part["density"].to_numpy(float) for t, part in table.groupby("t")}


def _write_dataset(path: Path, data: xarray.Dataset, tables: Mapping[str, xarray.Dataset]) -> None:
    """Replace a NetCDF-4 file: the dataset at its root, each table in a group of its own."""

    def write(aside: Path) -> None:
        data.to_netcdf(aside, mode="w", engine="h5netcdf")
        for name, table in tables.items():
            table.to_netcdf(aside, mode="a", group=name, engine="h5netcdf")

    replace_whole(path, write)
