"""The figure of a slope: means with their intervals, the fitted lines, and the predicted slope beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from mvpde.studies.slope import Series, SlopeOptions

# Okabe & Ito's colours, told apart with any kind of colour vision; the series differ in their marks too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"
FAR_BELOW = 1e-4  # of the smallest value: a discretisation error below it is not drawn, as it would press the points together


def slope_figure(series: Sequence[Series], options: SlopeOptions, title: str) -> Figure:
    """Log–log: one colour and mark for each output time; bars are confidence intervals, dotted lines the density's own error."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    drawn = [one for one in series if one.line is not None]
    for k, one in enumerate(drawn):
        _draw(axes, one, options, {"color": COLOURS[k % len(COLOURS)], "marker": MARKS[k % len(MARKS)]})
    if drawn:
        _predicted(axes, drawn[0], options)
        _set_scales(axes, drawn)
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=options.xlabel or options.x, ylabel=options.ylabel or f"mean of ({options.y})^{options.power:g}")
    axes.set_title("\n".join(text for text in (title, options.law) if text), fontsize=10)
    axes.grid(alpha=0.3, which="major", linewidth=0.5)
    return figure


def _draw(axes: Axes, one: Series, options: SlopeOptions, style: dict[str, Any]) -> None:
    assert one.line is not None
    values = np.array([estimate.value for estimate in one.y])
    intervals = [estimate.interval(options.level) or (estimate.value,) * 2 for estimate in one.y]
    # A lower end at or below zero has no place on a logarithmic axis: such a bar ends at a tenth of the value.
    lower = np.array([value - max(ends[0], 0.1 * value) for value, ends in zip(values, intervals, strict=True)])
    upper = np.array([ends[1] - value for value, ends in zip(values, intervals, strict=True)])
    axes.errorbar(one.x, values, yerr=[lower, upper], linestyle="none", markersize=5, capsize=3, elinewidth=1, **style)
    found, interval = one.line.slope.value, one.line.slope.interval(options.level)
    ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    label = f"slope {found:.3f}{ends}" if one.time is None else f"t = {one.time:g}: slope {found:.3f}{ends}"
    axes.plot(one.x, one.line.at(one.x), linewidth=1.3, label=label, **{**style, "markersize": 0})
    floor = one.floor.get("discretisation", 0.0)
    if floor > FAR_BELOW * values.min():
        axes.axhline(floor, color=style["color"], linestyle=":", linewidth=1.2)


def _predicted(axes: Axes, one: Series, options: SlopeOptions) -> None:
    """The predicted slope, a little above the first series, so that parallel is seen as parallel."""
    start = 1.8 * max(one.y[0].value, 1e-300)
    line = start * (one.x / one.x[0]) ** options.predicted
    axes.plot(one.x, line, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, label=f"predicted slope {options.predicted:g}")
    if one.floor.get("discretisation", 0.0) > FAR_BELOW * min(estimate.value for estimate in one.y):
        axes.plot([], [], color=GREY, linestyle=":", linewidth=1.2, label="discretisation error of the density")


def _set_scales(axes: Axes, drawn: Sequence[Series]) -> None:
    axes.set(xscale="log", yscale="log")
    if max(len(one.x) for one in drawn) <= 6 and np.ptp(np.log10(drawn[0].x)) < 1.5:
        axes.set_xticks(drawn[0].x, [f"{x:g}" for x in drawn[0].x], minor=False)
        axes.tick_params(axis="x", which="minor", labelbottom=False)
