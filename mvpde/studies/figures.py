"""How studies are drawn: panels of log–log lines with intervals, in one set of colours, marks and axes.

A panel is a function of its axes, so that nothing here loads matplotlib before a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from mvpde.studies.verdict import Array, Estimate, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mvpde.studies.slope import Series

Panel = Callable[["Axes"], None]

# Okabe & Ito's colours, told apart with any kind of colour vision; the series differ in their marks too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"
DASHES = (0, (5, 3))
FAR_BELOW = 1e-4  # of the smallest value: an error below it is not drawn, as it would press the points together
FEW, SHORT = 6, 1.5  # values on a logarithmic axis, and decades: up to these they are written as plain numbers


class Look(TypedDict):
    """Colour and mark of a series."""

    color: str
    marker: str


def look(k: int) -> Look:
    """Colour and mark of the k-th series."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKS[k % len(MARKS)]}


def finish(axes: Axes, xlabel: str, ylabel: str, *, heading: str = "", log: str = "xy") -> None:
    """Scales, grid, labels, legend; `log` names the logarithmic axes."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for name in log:
        axes.set(**{f"{name}scale": "log"})
    axes.grid(alpha=0.3, which="major", linewidth=0.5)
    if heading:
        axes.set_title(heading, fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def plain_ticks(axes: Axes, x: Array) -> None:
    """Few values on a short logarithmic axis as numbers."""
    if len(x) <= FEW and np.ptp(np.log10(x)) < SHORT:
        axes.set_xticks(x, [f"{value:.4g}" for value in x], minor=False)
        axes.tick_params(axis="x", which="minor", labelbottom=False)


def bars(axes: Axes, x: Array, y: Sequence[Estimate], level: float, label: str | None, k: int, line: str = "none") -> None:
    """Estimates with their intervals; a lower end at or below zero ends at a tenth of the value on a logarithmic axis."""
    values = np.array([estimate.value for estimate in y])
    ends = [estimate.interval(level) or (estimate.value, estimate.value) for estimate in y]
    lower = np.array([value - max(low, 0.1 * value) for value, (low, _) in zip(values, ends, strict=True)])
    upper = np.array([high - value for value, (_, high) in zip(values, ends, strict=True)])
    draw_errors(axes, x, values, (lower, upper), label, k, line)


def draw_errors(
    axes: Axes, x: Array, y: Array, errors: Array | tuple[Array, Array], label: str | None, k: int, line: str = "none"
) -> None:
    """Marks with bars of given lengths, the same up and down or (down, up)."""
    sides = np.broadcast_to(np.asarray(errors), (2, len(x)))
    axes.errorbar(x, y, yerr=sides, linestyle=line, markersize=5, capsize=3, elinewidth=1, label=label, **look(k))


def fitted(axes: Axes, x: Array, line: Line, level: float, label: str, k: int) -> None:
    """A fitted line, with its slope in the legend."""
    interval = line.slope.interval(level)
    ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    text = f"{label}: slope {line.slope.value:.3f}{ends}".removeprefix(": ")
    axes.plot(x, line.at(x), color=look(k)["color"], linewidth=1.3, label=text)


def guide(axes: Axes, x: Array, start: float, slope: float, label: str | None) -> None:
    """A dashed line of a predicted slope."""
    axes.plot(x, start * (x / x[0]) ** slope, color=GREY, linestyle=DASHES, linewidth=1.2, label=label)


def draw_series(axes: Axes, label: str, series: Series, level: float, k: int) -> None:
    """A series with its intervals and its fitted line."""
    bars(axes, series.x, series.y, level, None, k)
    if series.line is not None:
        fitted(axes, series.x, series.line, level, label, k)


def fits(
    drawn: Sequence[tuple[str, Series]],
    *,
    predicted: float,
    level: float,
    xlabel: str,
    ylabel: str,
    floors: Mapping[str, str] | None = None,
    heading: str = "",
) -> Panel:
    """Log–log: labelled series with their lines, and the predicted slope a little above the first, to be seen as parallel.

    Args:
        drawn: labels and series; those without a line are left out.
        predicted: the slope.
        level: of the intervals.
        xlabel: of the axis.
        ylabel: of the axis.
        floors: what the series' floors of these names are called; they are drawn where they can be seen.
        heading: above the panel.
    """
    shown = [(label, series) for label, series in drawn if series.line is not None]

    def panel(axes: Axes) -> None:
        for k, (label, series) in enumerate(shown):
            draw_series(axes, label, series, level, k)
        if shown:
            first = shown[0][1]
            guide(axes, first.x, 1.8 * max(first.y[0].value, 1e-300), predicted, f"predicted slope {predicted:g}")
            _draw_floors(axes, [series for _, series in shown], floors or {})
        finish(axes, xlabel, ylabel, heading=heading)
        if shown:
            plain_ticks(axes, max((series.x for _, series in shown), key=len))

    return panel


def _draw_floors(axes: Axes, shown: Sequence[Series], floors: Mapping[str, str]) -> None:
    """A line for each series in its colour, and one entry in the legend for each kind of floor."""
    for (name, label), line in zip(floors.items(), (":", "-."), strict=False):
        heights = [series.floor.get(name, 0.0) for series in shown]
        seen = [h > FAR_BELOW * min(y.value for y in series.y) for h, series in zip(heights, shown, strict=True)]
        for k in np.flatnonzero(seen):
            axes.axhline(heights[k], color=look(int(k))["color"], linestyle=line, linewidth=1.2)
        if any(seen):
            axes.plot([], [], color=GREY, linestyle=line, linewidth=1.2, label=label)
