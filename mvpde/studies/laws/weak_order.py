"""The orders in η of the errors that the task "weak_error" measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive, one_of
from mvpde.studies.grouped import axis
from mvpde.studies.slope import Measure, Measurement, Outcome, Series, number
from mvpde.studies.verdict import COARSE, FAILS, Array, Estimate, Line, Verdict, decide, loglog_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

AGAINST = {"chain": "the chain itself, without sampling", "runs": "runs of SGD"}


class WeakOrderOptions(Measurement):
    """|e(h)| ~ η^order for each of some functions h."""

    name: str = Field("weak_order", description="name of its figure, <name>.png", examples=["order_1"])
    x: str = Field("model.learning_rate", description="the varied key η", examples=["model.learning_rate"])
    order: Annotated[int, Field(ge=1, le=2)] = Field(description="of the equation, which is the predicted slope", examples=[2])
    against: Annotated[str, one_of(AGAINST)] = Field("chain", description="chain or runs", examples=["chain"])
    functions: list[str] = Field(description="names of the functions h", examples=[["w", "v", "w*v"]], min_length=1)
    tolerance: Positive = Field(0.2, description="how far a measured slope may differ, > 0", examples=[0.2])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def weak_order(dataset: xarray.Dataset, options: WeakOrderOptions) -> Outcome:
    """One slope, with its verdict, for each function."""
    verdicts, drawn = [], []
    for name in options.functions:
        found = _errors(dataset, options, name)
        if found is None:
            verdicts.append(_entry(options, name, None, None, FAILS, "fewer than two points have this quantity", {}))
            continue
        series, verdict = _judged(options, name, *found)
        verdicts.append(verdict)
        drawn += [(f"h = {name}", series)] if series.line is not None else []
    from mvpde.studies.figures import lines_figure

    figure = lines_figure(
        drawn,
        title=f"{dataset.attrs.get('title', '')}\ndiffusion of order {options.order} against {AGAINST[options.against]}",
        predicted=[options.order],
        level=options.level,
        xlabel="learning rate η",
        ylabel="|∫hρ − E h(W)|",
        floors={"discretisation": "largest error of mesh and time step"},
    )
    _label(figure, drawn)
    return Outcome(verdicts, figure)


def _label(figure: Figure, drawn: list[tuple[str, Series]]) -> None:
    """η as plain numbers, and the legend where nothing rising from left to right is in its way."""
    axes = figure.axes[0]
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    if drawn:
        etas = drawn[0][1].x
        axes.set_xticks(etas, [f"{eta:g}" for eta in etas], minor=False)
        axes.tick_params(axis="x", which="minor", labelbottom=False)
        axes.set_ylim(top=30.0 * max(one.value for _, series in drawn for one in series.y))


def _errors(dataset: xarray.Dataset, options: WeakOrderOptions, name: str) -> tuple[Array, Array, Array, Array] | None:
    """η, the signed errors, the density's own errors, the runs' standard errors (NaN against the chain); η increasing."""
    order = f"order_{options.order}"
    keys = (f"weak_error.{options.against}.{order}.{name}", f"mesh_error.{order}.{name}", f"standard_error.{name}")
    at = axis(dataset, options.x)
    if at is None or any(key not in dataset for key in keys):
        return None
    etas = at.copy(data=[number(value) for value in at.values]).astype(float)
    import xarray

    columns = [column.values.ravel() for column in xarray.broadcast(etas, *(dataset[key] for key in keys))]
    kept = np.isfinite(columns[:3]).all(axis=0)
    eta, error, mesh, spread = (column[kept][np.argsort(columns[0][kept])] for column in columns)
    spread = spread if options.against == "runs" else np.full(len(eta), np.nan)
    return (eta, error, mesh, spread) if len(np.unique(eta)) > 1 else None


def _judged(options: WeakOrderOptions, name: str, eta: Array, error: Array, mesh: Array, spread: Array) -> tuple[Series, Verdict]:
    sizes, largest = np.abs(error), float(mesh.max())
    estimates = tuple(Estimate(float(e), float(s), np.inf) for e, s in zip(sizes, spread, strict=True))
    line = loglog_line(eta, estimates) if np.all(sizes > 0.0) else None
    series = Series(None, eta, estimates, (1,) * len(eta), {"discretisation": largest}, line)
    details = {"smallest": float(sizes.min()), "discretisation": largest}
    if line is None or len(np.unique(np.sign(error))) > 1:
        return series, _entry(options, name, None, None, FAILS, "the error changes its sign", details)
    slope = line.slope.value
    holds = decide(slope, options.order, options.tolerance, smallest=float(sizes.min()), discretisation=largest)
    note = "the error of mesh and time step is not below a third of the smallest error shown" if holds == COARSE else ""
    return series, _entry(options, name, slope, _interval(options, line, eta, sizes, mesh), holds, note, details)


def _interval(options: WeakOrderOptions, line: Line, eta: Array, sizes: Array, mesh: Array) -> tuple[float, float]:
    """The slopes that all errors within their sampling interval and ± the density's own error would give."""
    centred = np.log(eta) - np.log(eta).mean()
    reach = float(np.abs(centred / (centred @ centred)) @ (mesh / sizes))
    low, high = line.slope.interval(options.level) or (line.slope.value,) * 2
    return low - reach, high + reach


def _entry(
    options: WeakOrderOptions,
    name: str,
    slope: float | None,
    interval: tuple[float, float] | None,
    holds: str,
    note: str,
    details: dict[str, Any],
) -> Verdict:
    law = f"order {options.order}: |∫hρ − E h(W)| ~ η^{options.order} against {AGAINST[options.against]}, h = {name}"
    constants = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    return Verdict(law, float(options.order), slope, interval, holds, note, {**constants, **details})


WEAK_ORDER = Measure(WeakOrderOptions, weak_order)
