"""What is measured on a finished study: verdicts, a figure, tables. The kinds there are: `laboratory.MEASURES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive, Section
from mvpde.studies.verdict import BIASED, COARSE, FAILS, Array, Estimate, Line, Verdict, decide, loglog_line, mean

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

COMPANION = "companion"  # the density's error, measured by a run at half the cells
COMPANION_VARIABLE = "density_discretisation_error"


class Measurement(Section):
    """What every measurement has."""

    kind: str
    name: str = Field("", description="name of its figure, <name>.png", examples=["slope"])
    x: str | None = Field(None, description="the varied key that the law is about", examples=["ensemble.particles"])
    discretisation: str | None = Field(
        None, description="where the density's own error is: a quantity of summary.json, or companion", examples=["companion"]
    )


@dataclass(frozen=True)
class Outcome:
    """What a measurement found.

    Attributes:
        verdicts: entries of verdict.json.
        figure: written as <name>.png.
        tables: written into study.nc as groups.
    """

    verdicts: list[Verdict]
    figure: Figure | None = None
    tables: Mapping[str, xarray.Dataset] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A kind of measurement: the keys of its section (a `Measurement`), and (dataset of the study, options) → outcome."""

    options: type[Measurement]
    measure: Callable[[xarray.Dataset, Any], Outcome]


# --- slopes ---------------------------------------------------------------------------------------------------------------------


class SlopeOptions(Measurement):
    """y^power ~ x^predicted."""

    name: str = Field("slope", description="name of its figure, <name>.png", examples=["slope"])
    law: str = Field("", description="the law in words or as a formula", examples=["E|f_n - f_t|^2 ~ 1/n"])
    x: str = Field(description="the varied key that the law is about", examples=["ensemble.particles"])
    y: str = Field(description="a quantity of summary.json", examples=["comparison.ensemble_vs_density.prediction_error"])
    power: Positive = Field(1.0, description="power of y whose mean is fitted, > 0", examples=[2])
    standard_error: str | None = Field(
        None,
        description="a quantity: the standard error of y at one point",
        examples=["ensemble.loss_standard_error"],
    )
    bias: str | None = Field(None, description="a quantity that y cannot fall below, the law apart", examples=["bias"])
    times: list[Number] | None = Field(None, description="output times that are fitted; absent: all", examples=[[1.0, 5.0]])
    predicted: Number = Field(description="the slope that the law predicts", examples=[-1.0])
    tolerance: Positive = Field(0.1, description="how far the measured slope may differ, > 0", examples=[0.1])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])
    xlabel: str = Field("", description="label of the x axis", examples=["number of particles n"])
    ylabel: str = Field("", description="label of the y axis", examples=["E‖f_n − f_t‖² / ‖f‖²"])


@dataclass(frozen=True)
class Series:
    """What one slope is fitted to: y^power against x, the mean over all other parameters.

    Attributes:
        time: the output time, None for quantities without.
        x: values of the varied key, increasing, shape (n,).
        y: means of y^power.
        samples: how many points each of them is the mean of.
        floor: discretisation error and bias, each to the same power.
        line: the fit, None where none is possible.
    """

    time: float | None
    x: Array
    y: tuple[Estimate, ...]
    samples: tuple[int, ...]
    floor: Mapping[str, float]
    line: Line | None


def slope(dataset: xarray.Dataset, options: SlopeOptions) -> Outcome:
    """The log–log slope of a quantity against a varied key, at every chosen output time."""
    from mvpde.studies.slope_figure import slope_figure

    if options.y not in dataset:
        return Outcome([unmeasured(options, f"no point has the quantity {options.y}")])
    series = [series_at(dataset, options, t) for t in _times(dataset, options)]
    verdicts = [judged(one, options, int((dataset["status"] == "failed").sum())) for one in series]
    return Outcome(verdicts, slope_figure(series, options, str(dataset.attrs.get("title", ""))))


def number(value: Any) -> float:
    """A parameter as a number: itself, or the geometric mean of a list (cells = [64, 64] → 64); NaN for anything else."""
    parts = str(value).split("x")
    try:
        return float(np.prod([float(part) for part in parts]) ** (1.0 / len(parts)))
    except ValueError:
        return math.nan


def _times(dataset: xarray.Dataset, options: SlopeOptions) -> list[float | None]:
    if "time" not in dataset[options.y].dims:
        return [None]
    return list(options.times) if options.times is not None else [float(t) for t in dataset["time"].values]


def _at(dataset: xarray.Dataset, name: str | None, t: float | None) -> xarray.DataArray | None:
    """A variable at time t over the parameters; None if there is none or t is no output time."""
    if name is None or name not in dataset:
        return None
    values = dataset[name]
    if t is None or "time" not in values.dims:
        return values
    close = np.flatnonzero(np.isclose(dataset["time"].values, t, rtol=1e-9, atol=1e-12))
    return values.isel(time=int(close[0])) if len(close) else None


def series_at(dataset: xarray.Dataset, options: SlopeOptions, t: float | None) -> Series:
    """The data behind one slope."""
    values = _at(dataset, options.y, t)
    if values is None:
        return Series(t, np.zeros(0), (), (), {}, None)
    axis = next(coordinate for coordinate in dataset.coords.values() if coordinate.attrs.get("key") == options.x)
    spread = _at(dataset, options.standard_error, t)
    x, y, s = _flat(values, axis, spread)
    groups = [(value, x == value) for value in np.unique(x)]
    means = tuple(_mean(y[chosen], s[chosen], options.power) for _, chosen in groups)
    floor = {
        "discretisation": _floor(dataset, _companion(options.discretisation), t) ** options.power,
        "bias": _floor(dataset, options.bias, t) ** options.power,
    }
    xs = np.array([value for value, _ in groups])
    return Series(t, xs, means, tuple(int(chosen.sum()) for _, chosen in groups), floor, _line(xs, means))


def _flat(values: xarray.DataArray, axis: xarray.DataArray, spread: xarray.DataArray | None) -> tuple[Array, Array, Array]:
    """x, y and the standard error of y at every point that has a y."""
    import xarray

    xs = axis.copy(data=[number(value) for value in axis.values]).astype(float)
    spreads = values * math.nan if spread is None else spread
    columns = [column.values.ravel() for column in xarray.broadcast(xs, values, spreads)]
    good = np.isfinite(columns[0]) & np.isfinite(columns[1])
    return columns[0][good], columns[1][good], columns[2][good]


def _mean(y: Array, standard_errors: Array, power: float) -> Estimate:
    """The mean of y^power over the points, its error from their own standard errors if all have one, else from their scatter."""
    if len(y) and np.isfinite(standard_errors).all():
        errors = power * np.abs(y) ** (power - 1.0) * standard_errors
        return Estimate(float(np.mean(y**power)), float(np.sqrt(errors @ errors)) / len(y), math.inf)
    return mean(y**power)


def _companion(name: str | None) -> str | None:
    return COMPANION_VARIABLE if name == COMPANION else name


def _floor(dataset: xarray.Dataset, name: str | None, t: float | None) -> float:
    """The largest value over the parameters: 0 if it was not asked for, NaN if it was and is not there."""
    if name is None:
        return 0.0
    values = _at(dataset, name, t)
    return math.nan if values is None or not np.isfinite(values.values).any() else float(np.nanmax(values.values))


def _line(x: Array, y: Sequence[Estimate]) -> Line | None:
    try:
        return loglog_line(x, y)
    except ValueError:
        return None


_FLOORS = {COARSE: "discretisation error of the density", BIASED: "bias"}


def judged(series: Series, options: SlopeOptions, failed: int) -> Verdict:
    """The verdict on one slope; `failed` points are mentioned in its note."""
    if series.line is None:
        return unmeasured(options, f"fewer than two values of {options.x} have a positive {options.y}", series.time)
    found = series.line.slope
    interval = found.interval(options.level)
    root = 1.0 / options.power
    smallest = min(one.value for one in series.y) ** root
    floors = {name: value**root for name, value in series.floor.items()}
    holds = decide(found.value, options.predicted, options.tolerance, smallest=smallest, **floors)
    notes = [f"{failed} points failed"] * (failed > 0) + _notes(series, options, interval)
    notes += [f"the {_FLOORS[holds]} is not below a third of the smallest error shown"] if holds in _FLOORS else []
    details: dict[str, Any] = {"samples": list(series.samples), "smallest": smallest}
    details |= {name: floors[name] for name in floors if getattr(options, name) is not None}
    return _entry(options, series.time, found.value, interval, holds, notes, details)


def _notes(series: Series, options: SlopeOptions, interval: tuple[float, float] | None) -> list[str]:
    notes = []
    if interval is None:
        notes.append("no interval: vary ensemble.seed, or name a standard_error")
    elif interval[1] - interval[0] > 2.0 * options.tolerance:
        notes.append("the interval is wider than the tolerance: more seeds would decide better")
    if math.isnan(series.floor["discretisation"]):
        notes.append("the discretisation error of the density could not be measured")
    return notes


def unmeasured(options: SlopeOptions, reason: str, t: float | None = None) -> Verdict:
    """The verdict where nothing could be measured: it does not hold, for this reason."""
    return _entry(options, t, None, None, FAILS, [reason], {})


def _entry(
    options: SlopeOptions,
    t: float | None,
    measured: float | None,
    interval: tuple[float, float] | None,
    holds: str,
    notes: Sequence[str],
    details: Mapping[str, Any],
) -> Verdict:
    law = options.law or f"{options.y}{f'^{options.power:g}' if options.power != 1 else ''} ~ ({options.x})^{options.predicted:g}"
    constants = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    return Verdict(
        law if t is None else f"{law}, t = {t:g}",
        options.predicted,
        measured,
        interval,
        holds,
        "; ".join(notes),
        {**constants, **({} if t is None else {"time": t}), **details},
    )


SLOPE = Measure(SlopeOptions, slope)
