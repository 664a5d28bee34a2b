"""Figures that a report draws itself: losses, the density as it moves, a measured number beside the predicted one."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from mvpde.fields import Array, Integers, outline, read_field, read_mesh
from mvpde.reports.page import data_uri, shown, tag
from mvpde.reports.read import Table
from mvpde.runs.pictures import DRAWN, bands, loss_figure, optimality_figure
from mvpde.runs.record import Record

PANELS, CURVES = 4, 6  # times of a density that are drawn, in 2-D and in 1-D
LARGEST = 2_000_000  # nodes of a mesh that is still drawn


def as_svg(figure: Figure) -> str:
    """A figure as lines and letters that stay sharp."""
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "mvpde"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return data_uri(out.getvalue(), ".svg")


def as_png(figure: Figure) -> str:
    """A figure as pixels, for what has a colour at every point."""
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=150)
    return data_uri(out.getvalue(), ".png")


def losses(summary: Table) -> str | None:
    """The loss of every measure against time, from the lists of summary.json; None where all are 0."""
    return _over_time(summary, "loss", "loss R(m)")


def energies(summary: Table) -> str | None:
    """The same for the free energy of the density."""
    return _over_time(summary, "free_energy", "free energy")


def optimality(summary: Table) -> str | None:
    """Gap, its bounds and the loss against time; None where nothing bounds the gap."""
    figure = optimality_figure(summary)
    return None if figure is None else as_svg(figure)


def _over_time(summary: Table, key: str, label: str) -> str | None:
    times = summary.get("times", [])
    measures = {name: of for name, of in summary.items() if isinstance(of, Mapping) and len(_list(of, key)) == len(times) > 0}
    if not any(value for of in measures.values() for value in of[key]):
        return None
    records = [Record(t, {name: _numbers(of, key, k) for name, of in measures.items()}) for k, t in enumerate(times)]
    figure = loss_figure(records, "", bands(summary, key))
    figure.axes[0].set_ylabel(label)
    return as_svg(figure)


def _list(measure: Table, key: str) -> list[object]:
    value = measure.get(key)
    return value if isinstance(value, list) else []


def _numbers(measure: Table, key: str, k: int) -> dict[str, float]:
    lists = {"loss": _list(measure, key), "loss_standard_error": _list(measure, f"{key}_standard_error")}
    return {name: _number(values[k]) for name, values in lists.items() if values}


def evolution(folder: Path) -> str | None:
    """The density of a run at a few output times: curves in 1-D, colours with particles in 2-D; None where there is none."""
    path = folder / "density.h5"
    if not path.is_file():
        return None
    held = outline(path)
    dimension = len(held.coordinates)
    if dimension not in _DRAWN or len(held.times) < 2 or held.nodes > LARGEST:
        return None
    chosen = _spread(len(held.times), PANELS if dimension == 2 else CURVES)
    moments = [Moment(held.times[k], read_field(path, "rho", k), _dots(folder / "particles.h5", k)) for k in chosen]
    return _DRAWN[dimension](held.coordinates, read_mesh(path), moments)


@dataclass(frozen=True)
class Moment:
    """The density at one time: values at the mesh points, and some particles (n, 3), or none."""

    time: float
    rho: Array
    particles: Array


def _dots(file: Path, k: int) -> Array:
    """Particles at output time k; a file that is being written may not have them yet."""
    there = file.is_file() and k < len(outline(file).times)
    return read_field(file, "points", k, DRAWN) if there else np.zeros((0, 3))


def _spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things, the first and the last among them."""
    return [int(k) for k in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def _curves(names: Sequence[str], mesh: tuple[Array, Integers], moments: Sequence[Moment]) -> str:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(mesh[0][:, 0])
    for k, moment in enumerate(moments):
        late = k / (len(moments) - 1)
        colour = colormaps["viridis"](0.9 * (1.0 - late))
        axes.plot(mesh[0][order, 0], moment.rho[order], label=f"t = {moment.time:g}", color=colour, linewidth=1.0 + late)
    axes.set(xlabel=names[0], ylabel=f"density ρ({names[0]})")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, linewidth=0.5)
    return as_svg(figure)


def _panels(names: Sequence[str], mesh: tuple[Array, Integers], moments: Sequence[Moment]) -> str:
    """One scale of colours for all times, so that they can be compared."""
    points, cells = mesh
    figure = Figure(figsize=(2.8 * len(moments) + 1, 3.3), layout="constrained")
    panels = figure.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    triangles = Triangulation(points[:, 0], points[:, 1], cells)
    top = max(float(m.rho.max()) for m in moments)
    for axes, moment in zip(panels, moments, strict=True):
        colours = axes.tripcolor(triangles, moment.rho, shading="gouraud", cmap="viridis", vmin=0.0, vmax=top)
        x, y = moment.particles[:, :2].T
        axes.plot(x, y, ".", color="white", markersize=1.4, alpha=0.6, markeredgewidth=0)
        axes.set_title(f"t = {moment.time:g}", fontsize=10)
        axes.set(xlabel=names[0], xlim=(points[:, 0].min(), points[:, 0].max()), ylim=(points[:, 1].min(), points[:, 1].max()))
    panels[0].set_ylabel(names[1])
    figure.colorbar(colours, ax=list(panels), pad=0.01, label=f"density ρ({names[0]}, {names[1]})")
    return as_png(figure)


_DRAWN = {1: _curves, 2: _panels}


# --- a verdict as a small picture -----------------------------------------------------------------------------------------------


def forest(entry: Table) -> Markup:
    """Predicted (bar, with the tolerance as a band) and measured (dot, with its interval as a line) on one common scale."""
    predicted, measured = (_number(entry.get(key)) for key in ("predicted", "measured"))
    if not (math.isfinite(predicted) and math.isfinite(measured)):
        return Markup()
    ends = [_number(end) for end in entry.get("interval") or ()]
    low, high = ends if len(ends) == 2 and all(map(math.isfinite, ends)) else (measured, measured)
    tolerance = _number(entry.get("tolerance") or 0.0)
    everything = [predicted - tolerance, predicted + tolerance, measured, low, high]
    start, length = min(everything), max(everything) - min(everything) or 1.0

    def x(value: float) -> float:
        return round(8.0 + 160.0 * (value - start) / length, 2)

    left, width = x(predicted - tolerance), round(320.0 * tolerance / length, 2)
    line = 'stroke="var(--accent)" stroke-width="2.5"'
    parts = [
        f'<rect x="{left}" y="3" width="{width}" height="20" fill="currentColor" fill-opacity="0.13"/>',
        f'<line x1="{x(predicted)}" x2="{x(predicted)}" y1="1" y2="25" stroke="currentColor" stroke-width="2.5"/>',
        f'<line x1="{x(low)}" x2="{x(high)}" y1="13" y2="13" {line}/>',
        *(f'<line x1="{x(end)}" x2="{x(end)}" y1="8" y2="18" {line}/>' for end in ends),
        f'<circle cx="{x(measured)}" cy="13" r="5" fill="var(--accent)" stroke="var(--paper)"/>',
    ]
    words = f"measured {shown(measured)}, predicted {shown(predicted)}"
    return tag("svg", Markup("".join(parts)), class_="forest", viewBox="0 0 176 26", role="img", aria_label=words)


def _number(value: object) -> float:
    """A number of an entry; NaN for null and for words."""
    return float(value) if isinstance(value, int | float) else math.nan
