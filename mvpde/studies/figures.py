"""Log–log figures of several fitted lines with intervals, each with a colour and a mark of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mvpde.studies.slope_figure import COLOURS, GREY, MARKS
from mvpde.studies.verdict import Array, Estimate

if TYPE_CHECKING:
    from mvpde.studies.slope import Series

NO_FLOORS: Mapping[str, str] = {}


def style(k: int) -> dict[str, Any]:
    """Colour and mark of the k-th series."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKS[k % len(MARKS)]}


def bars(axes: Axes, x: Array, y: Sequence[Estimate], level: float, label: str | None, **look: Any) -> None:
    """Estimates with their intervals; a lower end at or below zero ends at a tenth of the value on a logarithmic axis."""
    values = np.array([one.value for one in y])
    ends = [one.interval(level) or (one.value, one.value) for one in y]
    lower = np.array([value - max(low, 0.1 * value) for value, (low, _) in zip(values, ends, strict=True)])
    upper = np.array([high - value for value, (_, high) in zip(values, ends, strict=True)])
    settings = {"linestyle": "none", "markersize": 5, "capsize": 3, "elinewidth": 1, "label": label, **look}
    axes.errorbar(x, values, yerr=[lower, upper], **settings)


def draw_series(axes: Axes, label: str, one: Series, level: float, **look: Any) -> None:
    """A series, its fitted line and the line's slope in the legend."""
    assert one.line is not None
    bars(axes, one.x, one.y, level, None, **look)
    interval = one.line.slope.interval(level)
    ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    text = f"{label}: slope {one.line.slope.value:.3f}{ends}"
    axes.plot(one.x, one.line.at(one.x), linewidth=1.3, label=text, **{**look, "markersize": 0})


def guide(axes: Axes, x: Array, start: float, slope: float, label: str) -> None:
    """A dashed line of a predicted slope."""
    axes.plot(x, start * (x / x[0]) ** slope, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, label=label)


def finish(axes: Axes, **labels: Any) -> None:
    """Log–log scales, grid, labels, legend."""
    axes.set(xscale="log", yscale="log", **labels)
    axes.grid(alpha=0.3, which="major", linewidth=0.5)
    axes.legend(frameon=False, fontsize=8)


def lines_figure(
    drawn: Sequence[tuple[str, Series]],
    *,
    title: str,
    predicted: Sequence[float],
    level: float,
    xlabel: str,
    ylabel: str,
    floors: Mapping[str, str] = NO_FLOORS,
) -> Figure:
    """One log–log plot of labelled series; dotted and dash-dotted lines are the largest of each of the named floors."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    for k, (label, one) in enumerate(drawn):
        draw_series(axes, label, one, level, **style(k))
    if drawn:
        first = drawn[0][1]
        for slope in predicted:
            guide(axes, first.x, 1.8 * max(first.y[0].value, 1e-300), slope, f"predicted slope {slope:g}")
    for (name, label), line in zip(floors.items(), (":", "-."), strict=False):
        largest = max((one.floor.get(name, 0.0) for _, one in drawn), default=0.0)
        if largest > 0.0:
            axes.axhline(largest, color=GREY, linestyle=line, linewidth=1.2, label=label)
    finish(axes, xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=10)
    return figure
