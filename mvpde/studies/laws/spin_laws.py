"""Verdicts on networks of the 3-spin energy: test error and fluctuation against n, for each kind of unit and dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.grouped import axis, grouped
from mvpde.studies.slope import Measure, Measurement, Outcome, Series, SlopeOptions, number, series_at
from mvpde.studies.verdict import BIASED, FAILS, Verdict, decide

if TYPE_CHECKING:
    import xarray

LAWS = {"error": "E‖f_n − f‖² ~ 1/n", "fluctuation": "E‖f_n − E f_n‖² ~ 1/n"}


class SpinLawOptions(Measurement):
    """The slope of a quantity of the task "spin_error" against n, −1 or steeper."""

    name: str = Field("error", description="name of its figure, <name>.png", examples=["error"])
    x: str = Field("options.units", description="the varied number of units", examples=["options.units"])
    y: Annotated[str, Field(pattern="^(error|fluctuation)$")] = Field(
        "error", description="error or fluctuation", examples=["error"]
    )
    tolerance: Positive = Field(0.15, description="how much flatter than −1 the slope may be, > 0", examples=[0.15])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def spin_laws(dataset: xarray.Dataset, options: SpinLawOptions) -> Outcome:
    """One verdict for each kind of unit and dimension.

    The error tells of the law only where the bias of the largest network, what even the limit has not learned, is below a third
    of the smallest error; otherwise "bias dominates". Fluctuations have no bias. A steeper slope holds too: networks that have
    come to their limit heal, o(1/n).
    """
    if options.y not in dataset:
        return Outcome([_verdict(options, "all", None, 0.0, FAILS)])
    found = [(label, _series(part, options), _last_bias(part, options)) for label, part in _parts(dataset)]
    verdicts = [_verdict(options, label, one, bias, _holds(options, one, bias)) for label, one, bias in found]
    from mvpde.studies.figures import lines_figure

    figure = lines_figure(
        [(label, one) for label, one, _ in found if one.line is not None],
        title=str(dataset.attrs.get("title", "")),
        predicted=[-1.0],
        level=options.level,
        xlabel="number of units n",
        ylabel=f"{LAWS[options.y].split(' ~')[0]} / E f²",
    )
    return Outcome(verdicts, figure)


def _parts(dataset: xarray.Dataset) -> Iterator[tuple[str, xarray.Dataset]]:
    for unit, half in grouped(dataset, "options.unit"):
        for dimension, part in grouped(half, "options.dimension"):
            words = [str(unit)] * (unit is not None) + [f"d = {dimension}"] * (dimension is not None)
            yield ", ".join(words), part


def _series(part: xarray.Dataset, options: SpinLawOptions) -> Series:
    spread = f"{options.y}_standard_error"
    return series_at(part, SlopeOptions(kind="slope", x=options.x, y=options.y, predicted=-1.0, standard_error=spread), None)


def _last_bias(part: xarray.Dataset, options: SpinLawOptions) -> float:
    """The bias of the largest network; 0 for the fluctuation."""
    units = axis(part, options.x)
    if options.y == "fluctuation" or units is None:
        return 0.0
    sizes = np.array([number(value) for value in units.values])
    return float(part["bias"].isel({units.dims[0]: int(np.argmax(sizes))}).max())


def _holds(options: SpinLawOptions, one: Series, bias: float) -> str:
    if one.line is None:
        return FAILS
    slope = max(one.line.slope.value, -1.0)
    return decide(slope, -1.0, options.tolerance, smallest=min(y.value for y in one.y), bias=bias)


def _verdict(options: SpinLawOptions, label: str, one: Series | None, bias: float, holds: str) -> Verdict:
    line = None if one is None else one.line
    smallest = min((y.value for y in one.y), default=0.0) if one is not None else 0.0
    note = "the bias of the largest network is not below a third of the smallest error" if holds == BIASED else ""
    return Verdict(
        f"{LAWS[options.y]}, {label}",
        -1.0,
        None if line is None else line.slope.value,
        None if line is None else line.slope.interval(options.level),
        holds,
        note if line is not None else "fewer than two sizes have a positive number",
        {"measure": options.name, "tolerance": options.tolerance, "level": options.level, "smallest": smallest, "bias": bias},
    )


SPIN_LAWS = Measure(SpinLawOptions, spin_laws)
