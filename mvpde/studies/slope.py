"""The slope of a quantity against a varied key, the law y^power ~ x^predicted: the measurement "slope"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.figures import fits
from mvpde.studies.measurement import (
    COMPANION,
    COMPANION_VARIABLE,
    Level,
    Measurement,
    MeasurementOptions,
    Outcome,
    Picture,
    title,
)
from mvpde.studies.quantities import at, axis, columns, failures, largest
from mvpde.studies.verdict import (
    BIASED,
    COARSE,
    FAILS,
    SMALL_SHARE,
    Array,
    Estimate,
    Json,
    Line,
    Verdict,
    decide,
    loglog_line,
    mean,
)

if TYPE_CHECKING:
    import xarray


class SlopeOptions(MeasurementOptions):
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
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])
    xlabel: str = Field("", description="label of the x axis", examples=["number of particles n"])
    ylabel: str = Field("", description="label of the y axis", examples=["E‖f_n − f_t‖² / ‖f‖²"])


@dataclass(frozen=True)
class Series:
    """What one slope is fitted to: y^power against x, the mean over all other parameters."""

    time: float | None  # the output time, None for quantities without
    x: Array  # values of the varied key, increasing, shape (n,)
    y: tuple[Estimate, ...]  # means of y^power
    samples: tuple[int, ...]  # how many points each of them is the mean of
    floor: Mapping[str, float]  # discretisation error and bias, each to the same power
    line: Line | None  # the fit, None where none is possible


def slope(dataset: xarray.Dataset, options: SlopeOptions) -> Outcome:
    """The log–log slope of a quantity against a varied key, at every chosen output time."""
    if options.y not in dataset:
        return Outcome([unmeasured(options, f"no point has the quantity {options.y}")])
    series = [series_at(dataset, options, t) for t in _times(dataset, options)]
    verdicts = [judged(fit, options, failures(dataset)) for fit in series]
    panel = fits(
        [("" if fit.time is None else f"t = {fit.time:g}", fit) for fit in series],
        predicted=options.predicted,
        level=options.level,
        xlabel=options.xlabel or options.x,
        ylabel=options.ylabel or f"mean of ({options.y})^{options.power:g}",
        floors={"discretisation": "discretisation error of the density"},
    )
    return Outcome(verdicts, Picture("\n".join(text for text in (title(dataset), options.law) if text), [panel]))


def _times(dataset: xarray.Dataset, options: SlopeOptions) -> list[float | None]:
    if "time" not in dataset[options.y].dims:
        return [None]
    return list(options.times) if options.times is not None else [float(t) for t in dataset["time"].values]


def series_at(dataset: xarray.Dataset, options: SlopeOptions, t: float | None) -> Series:
    """The data behind one slope."""
    values, along = at(dataset, options.y, t), axis(dataset, options.x)
    if values is None or along is None:
        return Series(t, np.zeros(0), (), (), {}, None)
    spread = at(dataset, options.standard_error, t)
    x, y, s = columns(along, [values, values * math.nan if spread is None else spread])
    good = np.isfinite(x) & np.isfinite(y)
    x, y, s = x[good], y[good], s[good]
    groups = [(value, x == value) for value in np.unique(x)]
    means = tuple(_mean(y[chosen], s[chosen], options.power) for _, chosen in groups)
    discretisation = COMPANION_VARIABLE if options.discretisation == COMPANION else options.discretisation
    floor = {
        "discretisation": largest(dataset, discretisation, t) ** options.power,
        "bias": largest(dataset, options.bias, t) ** options.power,
    }
    xs = np.array([value for value, _ in groups])
    return Series(t, xs, means, tuple(int(chosen.sum()) for _, chosen in groups), floor, line_through(xs, means))


def _mean(y: Array, standard_errors: Array, power: float) -> Estimate:
    """The mean of y^power over the points, its error from their own standard errors if all have one, else from their scatter."""
    if len(y) and np.isfinite(standard_errors).all():
        errors = power * np.abs(y) ** (power - 1.0) * standard_errors
        return Estimate(float(np.mean(y**power)), float(np.sqrt(errors @ errors)) / len(y), math.inf)
    return mean(y**power)


def line_through(x: Array, y: Sequence[Estimate]) -> Line | None:
    """`loglog_line`; None where no line is possible."""
    try:
        return loglog_line(x, y)
    except ValueError:
        return None


_FLOORS = {COARSE: "discretisation error of the density", BIASED: "bias"}


def judged(series: Series, options: SlopeOptions, failed: int) -> Verdict:
    """The verdict on one slope; `failed` points are mentioned in its note."""
    if series.line is None:
        return _without_line(series, options)
    measured = series.line.slope
    interval = measured.interval(options.level)
    root = 1.0 / options.power
    smallest = min(estimate.value for estimate in series.y) ** root
    floors = {name: value**root for name, value in series.floor.items()}
    holds = decide(measured.value, options.predicted, options.tolerance, smallest=smallest, **floors)
    notes = [f"{failed} points failed"] * (failed > 0) + _notes(series, options, interval)
    notes += [f"the {_FLOORS[holds]} is not below a third of the smallest error shown"] if holds in _FLOORS else []
    details: dict[str, Json] = {"samples": list(series.samples), "smallest": smallest}
    details |= {name: floors[name] for name in floors if getattr(options, name) is not None}
    return _entry(options, series.time, measured.value, interval, holds, notes, details)


def _without_line(series: Series, options: SlopeOptions) -> Verdict:
    """What it says that no line goes through the points: nothing, where numbers that are not positive are the mesh's."""
    reason = f"fewer than two values of {options.x} have a positive {options.y}"
    sizes = [abs(estimate.value) for estimate in series.y]
    if len(sizes) > 1 and not series.floor["discretisation"] < SMALL_SHARE**options.power * max(sizes):
        notes = [reason, f"the {_FLOORS[COARSE]} is not below a third of the largest error shown"]
        return _entry(options, series.time, None, None, COARSE, notes, {})
    return unmeasured(options, reason, series.time)


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
    details: Mapping[str, Json],
) -> Verdict:
    law = options.law or f"{options.y}{f'^{options.power:g}' if options.power != 1 else ''} ~ ({options.x})^{options.predicted:g}"
    constants: dict[str, Json] = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    return Verdict(
        law if t is None else f"{law}, t = {t:g}",
        options.predicted,
        measured,
        interval,
        holds,
        "; ".join(notes),
        {**constants, **({} if t is None else {"time": t}), **details},
    )


SLOPE = Measurement(SlopeOptions, slope)
