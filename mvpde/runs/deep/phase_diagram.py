"""Phase diagrams of random networks, as fields on a grid of variances, as a line, and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mvpde.fields import FieldSeries
from mvpde.files import replace_whole, write_csv
from mvpde.models.deep.activations import Array
from mvpde.models.deep.fixed_points import FixedPoints, critical_line, fixed_points

FACTOR = 6.0  # signals of training reach 6ξ_c (Schoenholz et al.)
SHOWN = (3.0, 1000.0)  # depths that have colours of their own
LEVELS = (10, 20, 50, 100, 200)
LINE, TEXT = "#000000", "#ffffff"

Point = tuple[float, float]


def diagram(activation: str, weight_variance: Array, bias_variance: Array) -> FixedPoints:
    """Fixed points at all pairs, shape (σ_b² values, σ_w² values).

    Raises:
        ArgumentError: as `fixed_points`.
    """
    return fixed_points(activation, *np.meshgrid(weight_variance, bias_variance))


def write_diagram(folder: Path, weight_variance: Array, bias_variance: Array, found: FixedPoints) -> None:
    """phase_diagram.h5 and .xdmf: q*, c*, χ_1, ξ_c, ξ_∇ and 6ξ_c at the points of the grid, NaN where there is none."""
    w, b = np.meshgrid(weight_variance, bias_variance)
    series = FieldSeries(folder / "phase_diagram", "phase_diagram")
    series.write_mesh(
        np.column_stack([w.ravel(), b.ravel(), 0.0 * w.ravel()]), _triangles(w.shape), ("weight_variance", "bias_variance")
    )
    names = ("q", "c", "chi", "xi_c", "xi_grad")
    fields = {name: np.asarray(getattr(found, name)).ravel() for name in names}
    series.append_on_mesh(0.0, {**fields, "trainable_depth": FACTOR * fields["xi_c"]})


def _triangles(shape: tuple[int, ...]) -> np.ndarray:
    """Two for each cell of a grid of points numbered row by row, shape (cells, 3)."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    return np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])


def write_line(folder: Path, activation: str, bias_variance: Array) -> Array:
    """critical_line.csv: σ_w² with χ_1 = 1 for each σ_b², shape of these, NaN where there is none."""
    line = critical_line(activation, bias_variance)
    rows = zip(bias_variance, line, strict=True)
    write_csv(folder / "critical_line.csv", [{"bias_variance": b, "weight_variance": w} for b, w in rows])
    return line


def draw_diagram(
    path: Path,
    activation: str,
    weight_variance: Array,
    bias_variance: Array,
    found: FixedPoints,
    line: Array,
    *,
    here: Point | None,
) -> None:
    """phase_diagram.png: the depth 6ξ_c that signals reach, and c*, with the line χ_1 = 1 between order and chaos.

    Args:
        path: of the picture.
        activation: its name, for the title.
        weight_variance, bias_variance: the values of the grid.
        found: what is there.
        line: σ_w² of the critical line at each σ_b².
        here: (σ_w², σ_b²) of a network to be marked.
    """
    figure = Figure(figsize=(12.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    depth = FACTOR * found.xi_c
    _depths(figure, left, weight_variance, bias_variance, depth)
    colours = right.pcolormesh(weight_variance, bias_variance, found.c, cmap="cividis", vmin=0.0, vmax=1.0, shading="gouraud")
    figure.colorbar(colours, ax=right, label="correlation c* of two inputs, deep down")
    for axes in (left, right):
        inside = (line >= weight_variance[0]) & (line <= weight_variance[-1])
        axes.plot(line[inside], bias_variance[inside], color=TEXT, linewidth=5.0)
        axes.plot(line[inside], bias_variance[inside], color=LINE, linewidth=2.5, label="χ₁ = 1")
        if here is not None:
            axes.plot(
                *here, "*", color="#D55E00", markersize=17, markeredgecolor=TEXT, label="this network", clip_on=False, zorder=4
            )
        axes.set_xlabel("variance of the weights $\\sigma_w^2$", fontsize=13)
        axes.set(xlim=weight_variance[[0, -1]], ylim=bias_variance[[0, -1]])
    left.set_ylabel("variance of the biases $\\sigma_b^2$", fontsize=13)
    right.legend(loc="upper left", fontsize=11)
    _phases(right, weight_variance, bias_variance, line)
    figure.suptitle(f"Random networks with {activation}: how deep signals get, and what becomes of them", fontsize=14)
    replace_whole(path, lambda aside: figure.savefig(aside, dpi=150))


def _depths(figure: Figure, axes: Axes, weight_variance: Array, bias_variance: Array, depth: Array) -> None:
    known = np.clip(np.where(np.isfinite(depth), depth, np.where(np.isnan(depth), np.nan, SHOWN[1])), *SHOWN)
    shades = LogNorm(*SHOWN)
    colours = axes.pcolormesh(
        weight_variance, bias_variance, known, cmap="viridis", norm=shades, shading="nearest", rasterized=True
    )
    figure.colorbar(colours, ax=axes, label="depth $6\\xi_c$ that signals reach", extend="both")
    if np.nanmax(known) > LEVELS[0] > np.nanmin(known) and min(known.shape) > 2:
        lines = axes.contour(weight_variance, bias_variance, known, levels=LEVELS, colors=TEXT, linewidths=0.8)
        axes.clabel(lines, fmt="%d", fontsize=9)


def _phases(axes: Axes, weight_variance: Array, bias_variance: Array, line: Array) -> None:
    """The names of the two phases, in the middle of each, where there is room."""
    row = len(bias_variance) // 2
    low, high = weight_variance[0], weight_variance[-1]
    border = line[row] if np.isfinite(line[row]) else high
    for name, (start, end), colour in (("order", (low, min(border, high)), LINE), ("chaos", (max(border, low), high), TEXT)):
        if end - start > 0.15 * (high - low):
            axes.text(
                0.5 * (start + end), bias_variance[row], name, color=colour, fontsize=17, ha="center", va="center", style="italic"
            )
