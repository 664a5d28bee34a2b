"""Pictures of a run: the final density with the particles on it, losses against time, the fit. Rank 0 only, no display needed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from mvpde.cases.measures import MEASURES, MESH, NODES, SAMPLES, on_mesh
from mvpde.files import replace_whole
from mvpde.measure import Measure, Mesh
from mvpde.models.data import Data
from mvpde.models.mean_field import Array, MeanField
from mvpde.runs.deep_figure import deep_figure, depths_figure, has_layers
from mvpde.runs.record import Record, Wanted, record
from mvpde.runs.shell_figure import shell_figure
from mvpde.runtime import on_first_rank

DRAWN = 2000  # particles in a picture
_SHOWN = 6  # coordinates whose means are drawn
_RARE = 1e-5  # of the mass: labels with less are left out of one
# Okabe & Ito's colours, told apart with any kind of colour vision; the measures also differ in their lines and marks.
COLOURS = {MESH: "#0072B2", SAMPLES: "#D55E00", NODES: "#000000"}
TARGET = "#999999"
DIM = "#777777"
NOTHING: Mapping[str, Any] = {}
VISIBLE = 2e-3  # part of the range of a curve below which a band about it is none to the eye
SEEN = 1e-6  # part of the largest value below which a floor, or a rise of the free energy, is none to the eye
LINES: dict[int, dict[str, Any]] = {
    MESH: {"linestyle": "-", "linewidth": 2.0, "zorder": 1},
    NODES: {"linestyle": (0, (4, 3)), "linewidth": 1.4, "zorder": 2},
    SAMPLES: {"linestyle": "none", "marker": "o", "markersize": 3.5, "zorder": 3},
}


def picture(measures: Sequence[Measure], folder: str | Path, *, title: str = "") -> None:
    """Pictures of measures of one model as they are now, written into a folder. Collective.

    density.png is the law on its mesh with particles on it, where there is a `Density`; loss.png the losses; prediction.png, for
    data with one input, the data and what every measure predicts.

    Args:
        measures: at most one of each kind.
        folder: made where it does not exist.
        title: above the pictures.

    Raises:
        ValueError: no measure, or two of one name. OSError: the folder cannot be written. On all ranks alike.
    """
    by_name = {measure.name: measure for measure in measures}
    if not measures or len(by_name) < len(measures):
        names = ", ".join(measure.name for measure in measures) or "none"
        raise ValueError(f"measures: give at least one, and at most one of each name, not {names}")
    first, density = measures[0], on_mesh(by_name)
    mesh = next((mesh for mesh in [measure.mesh() for measure in measures] if mesh is not None), None)
    lower = (0.0,) * first.model.dimension if density is None else (*density.domain.lower, *(0.0,) * first.model.frozen)
    recorded = record(first.model, by_name, first.time, Wanted(DRAWN, 0, lower), first.comm)

    def write() -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        draw(Path(folder), first.model, [recorded], mesh, title)

    on_first_rank(first.comm, write)


def draw(
    folder: Path,
    model: MeanField,
    records: Sequence[Record],
    mesh: Mesh | None,
    title: str,
    summary: Mapping[str, Any] = NOTHING,
) -> None:
    """density.png, loss.png and, for data with one input, prediction.png in `folder`; errors are those in ``summary``."""
    last = records[-1]
    if has_layers(last.fields) and mesh is not None:
        _save(folder / "density.png", deep_figure(model.coordinates, mesh, last, _headed(title, last)))
    elif "rho" in last.fields and mesh is not None:
        if model.metric is not None:
            _save(folder / "density.png", shell_figure(model.metric, last, _headed(title, last), _colours(last)))
        else:
            _save(folder / "density.png", density_figure(model.directions, model.periods, mesh, last, title))
        if model.frozen == len(model.directions) == 1 and "density" in last.clouds:
            _save(folder / "labels.png", labels_figure(model, last, title))
        depths = depths_figure(model.coordinates, mesh, last, _headed(title, last))
        if depths is not None:
            _save(folder / "labels.png", depths)
    _save(folder / "loss.png", loss_figure(records, title, bands(summary, "loss")))
    if model.data is None and len(records) > 1:
        _save(folder / "moments.png", moments_figure(model.coordinates, records, title))
    if model.data is not None and model.data.x.shape[1] == 1:
        _save(folder / "prediction.png", prediction_figure(model.data, last, title))


def draw_optimality(folder: Path, summary: Mapping[str, Any], title: str) -> None:
    """optimality.png in `folder`, where something is known of it."""
    figure = optimality_figure(summary, title)
    if figure is not None:
        _save(folder / "optimality.png", figure)


def _save(path: Path, figure: Figure) -> None:
    FigureCanvasAgg(figure)
    replace_whole(path, lambda aside: figure.savefig(aside, dpi=150))


def density_figure(coordinates: Sequence[str], periods: Sequence[float | None], mesh: Mesh, last: Record, title: str) -> Figure:
    """ρ at the time of the record: a curve in 1-D, colours in 2-D, the pairwise marginals in 3-D, with run 0's particles."""
    return _DENSITY_FIGURES[len(coordinates)](coordinates, periods, mesh, last, _headed(title, last))


def labels_figure(model: MeanField, last: Record, title: str) -> Figure:
    """ρ(z|λ) of one coordinate for each label: colours over the two, label by label, with run 0's particles."""
    z, label = model.coordinates
    points, masses = last.clouds["density"]
    nodes, row = np.unique(points[:, 1], return_inverse=True)
    places, column = np.unique(points[:, 0].round(12), return_inverse=True)
    share = np.zeros((len(nodes), len(places)))
    share[row, column] = masses
    edges = _around(places, model.periods[0])
    values = share / share.sum(axis=1, keepdims=True) / np.diff(edges)
    middle = 0.5 * (nodes[1:] + nodes[:-1])
    ends = [2.0 * nodes[0] - middle[0], 2.0 * nodes[-1] - middle[-1]] if len(nodes) > 1 else [nodes[0] - 0.5, nodes[0] + 0.5]
    figure, axes = _one_panel(_headed(title, last), z, label)
    colours = axes.pcolormesh(
        edges, np.concatenate([ends[:1], middle, ends[1:]]), values, cmap="viridis", vmin=0.0, rasterized=True
    )
    figure.colorbar(colours, ax=axes, label=f"density ρ({z} | {label})")
    _dots(axes, last.particles, 0, 1)
    seen = nodes[share.sum(axis=1) > _RARE]  # the last nodes of a normal law lie where there are no particles
    axes.set(xlim=(edges[0], edges[-1]), ylim=(seen[0], seen[-1]) if len(seen) > 1 else ends)
    return figure


def _headed(title: str, last: Record) -> str:
    return f"{title}\n" * bool(title) + f"t = {last.time:g}"


def _colours(last: Record) -> dict[str, str]:
    """Of the measures that have enough points for histograms: quadrature nodes are too few."""
    kinds = {name: MEASURES[name].exactness for name in last.clouds}
    return {name: COLOURS[exactness] for name, exactness in kinds.items() if exactness != NODES}


def _curve(coordinates: Sequence[str], _: Sequence[float | None], mesh: Mesh, last: Record, title: str) -> Figure:
    figure, axes = _one_panel(title, coordinates[0], f"density ρ({coordinates[0]})")
    order = np.argsort(mesh[0][:, 0])
    axes.plot(mesh[0][order, 0], last.fields["rho"][order], color=COLOURS[MESH], label="density")
    if last.particles is not None:
        extent = (float(mesh[0][:, 0].min()), float(mesh[0][:, 0].max()))
        colour = COLOURS[SAMPLES]
        axes.hist(last.particles[:, 0], bins=60, range=extent, density=True, histtype="step", color=colour, label="particles")
    axes.legend(frameon=False)
    return figure


def _coloured(coordinates: Sequence[str], _: Sequence[float | None], mesh: Mesh, last: Record, title: str) -> Figure:
    y, c = coordinates
    figure, axes = _one_panel(title, y, c)
    points, cells = mesh
    triangles = Triangulation(points[:, 0], points[:, 1], cells)
    # From 0, the density's own lower bound: rounding below it would otherwise shift all colours.
    colours = axes.tripcolor(triangles, last.fields["rho"], shading="gouraud", cmap="viridis", vmin=0.0, rasterized=True)
    figure.colorbar(colours, ax=axes, label=f"density ρ({y}, {c})")
    _dots(axes, last.particles, 0, 1)
    axes.set(xlim=(points[:, 0].min(), points[:, 0].max()), ylim=(points[:, 1].min(), points[:, 1].max()))
    return figure


def _marginals(coordinates: Sequence[str], periods: Sequence[float | None], mesh: Mesh, last: Record, title: str) -> Figure:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    nodes, masses = last.clouds["density"]
    for panel, (i, j) in zip(figure.subplots(1, 3), combinations(range(3), 2), strict=True):
        bins = [_edges(nodes[:, axis], periods[axis]) for axis in (i, j)]
        share, edges_i, edges_j = np.histogram2d(nodes[:, i], nodes[:, j], bins=bins, weights=masses)
        area = np.outer(np.diff(edges_i), np.diff(edges_j))
        colours = panel.pcolormesh(edges_i, edges_j, (share / area).T, cmap="viridis", rasterized=True)
        figure.colorbar(colours, ax=panel, label=f"marginal density ρ({coordinates[i]}, {coordinates[j]})")
        _dots(panel, last.particles, i, j)
        panel.set(xlabel=coordinates[i], ylabel=coordinates[j], xlim=(edges_i[0], edges_i[-1]), ylim=(edges_j[0], edges_j[-1]))
    return figure


_DENSITY_FIGURES: dict[int, Callable[[Sequence[str], Sequence[float | None], Mesh, Record, str], Figure]] = {
    1: _curve,
    2: _coloured,
    3: _marginals,
}


def _edges(x: Array, period: float | None) -> Array:
    """Edges of bins that hold one layer of nodes each where nodes lie on a grid; elsewhere 40 equal bins (others would beat).

    The layers at walls have half a cell of mass and half a bin; there are none in a periodic direction.
    """
    layers = np.unique(x.round(12))
    if len(layers) > 4 * len(x) ** (1 / 3):
        return np.linspace(x.min(), x.max() if period is None else x.min() + period, 41)
    return _around(layers, period)


def _around(layers: Array, period: float | None) -> Array:
    """Edges of bins that hold one of the increasing ``layers`` each."""
    middle = 0.5 * (layers[1:] + layers[:-1])
    if period is None:
        return np.concatenate([[layers[0]], middle, [layers[-1]]])
    seam = 0.5 * (layers[-1] + layers[0] + period)
    return np.concatenate([[seam - period], middle, [seam]])


def _dots(axes: Axes, particles: Array | None, i: int, j: int) -> None:
    if particles is None:
        return
    some = particles[:: max(1, -(-len(particles) // DRAWN))]
    axes.plot(some[:, i], some[:, j], ".", color="white", markersize=1.6, alpha=0.65, markeredgewidth=0, label="particles")


def _one_panel(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title("\n".join(textwrap.fill(part, 64) for part in title.splitlines()), fontsize=11)
    return figure, axes


def bands(summary: Mapping[str, Any], key: str) -> dict[str, Array]:
    """Measure → the error that its discretisation makes in a quantity, over the output times, where it is known."""
    known = {name: of.get(f"{key}_error") for name, of in summary.items() if isinstance(of, Mapping)}
    return {name: np.array(errors, float) for name, errors in known.items() if isinstance(errors, list)}  # None becomes NaN


def loss_figure(records: Sequence[Record], title: str, errors_of: Mapping[str, Array] = NOTHING) -> Figure:
    """The loss of every measure against time; bars are standard errors times 2 or Student's factor, bands other errors."""
    figure, axes = _one_panel(title, "t", "loss R(m)")
    times = [recorded.time for recorded in records]
    losses = {name: np.array([recorded.numbers[name]["loss"] for recorded in records]) for name in records[-1].numbers}
    for name, values in losses.items():
        errors = [recorded.bars.get(name, 2.0) * recorded.numbers[name].get("loss_standard_error", 0.0) for recorded in records]
        marks = {} if len(times) > 1 else {"marker": "o"}
        _with_bars(axes, records[-1], name, np.array(times), values, np.array(errors), marks)
        if name in errors_of and len(errors_of[name]) == len(times):
            _band(axes, name, np.array(times), values, errors_of[name])
    everything = np.concatenate(list(losses.values()))
    if everything.min() > 0 and everything.max() > 3 * everything.min():
        axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.legend(frameon=False)
    return figure


def moments_figure(coordinates: Sequence[str], records: Sequence[Record], title: str) -> Figure:
    """Mean and variance of every coordinate under every measure against time; bars as those of the loss."""
    count, times = min(len(coordinates), _SHOWN), np.array([recorded.time for recorded in records])
    figure = Figure(figsize=(8.4, 2.3 * count + 0.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, 84), fontsize=11)
    panels = figure.subplots(count, 2, squeeze=False, sharex=True)
    for row, coordinate in zip(panels, coordinates, strict=False):
        for axes, key, label in zip(
            row, ("mean", "variance"), (f"mean of {coordinate}", f"variance of {coordinate}"), strict=True
        ):
            for name in records[-1].numbers:
                values = np.array([recorded.numbers[name].get(f"{key}_{coordinate}", np.nan) for recorded in records])
                of_errors = f"{key}_standard_error_{coordinate}"
                errors = [recorded.bars.get(name, 2.0) * recorded.numbers[name].get(of_errors, 0.0) for recorded in records]
                _with_bars(axes, records[-1], name, times, values, np.array(errors), {})
            axes.set_ylabel(label)
            axes.grid(alpha=0.3, linewidth=0.5)
    for axes in panels[-1]:
        axes.set_xlabel("t")
    panels[0][0].legend(frameon=False)
    return figure


def prediction_figure(data: Data, last: Record, title: str) -> Figure:
    """Data and f_t(x) of every measure at the last output time."""
    figure, axes = _one_panel(_headed(title, last), "x", "f(x)")
    order = np.argsort(data.x[:, 0])
    x = data.x[order, 0]
    axes.plot(x, data.target[order], "o", color=TARGET, markersize=4, label="target", zorder=0)
    for name, f in last.predictions.items():
        errors = last.prediction_standard_error.get(name, np.zeros(len(f)))
        marks = {"marker": "." if name in last.prediction_standard_error else ""}
        told = last.errors.get(name, {}).get("predictions")
        if told is not None and np.isfinite(told).all():
            _band(axes, name, x, f[order], told[order], linear=True)
        _with_bars(axes, last, name, x, f[order], last.bars.get(name, 2.0) * errors[order], marks)
    axes.legend(frameon=False)
    return figure


def _band(axes: Axes, name: str, x: Array, y: Array, errors: Array, *, linear: bool = False) -> None:
    """± an error about a curve, where it is wide enough to be seen; on a scale that may be logarithmic unless it is linear."""
    if np.nanmax(errors, initial=0.0) > VISIBLE * np.ptp(y):
        lowest = np.min(y[y > 0.0], initial=np.inf) / 10.0
        lower = np.where((y > 0.0) & (not linear), np.maximum(y - errors, np.minimum(y, lowest)), y - errors)
        axes.fill_between(
            x, lower, y + errors, color=COLOURS[MEASURES[name].exactness], alpha=0.2, linewidth=0, label=f"{name} ± error"
        )


def _with_bars(axes: Axes, recorded: Record, name: str, x: Array, y: Array, errors: Array, marks: Mapping[str, str]) -> None:
    """The curve of a measure, under its own name, with bars of 95 % where they are known."""
    errors = np.nan_to_num(errors)  # of a single run nothing may be known
    known, exactness = bool(errors.any()), MEASURES[name].exactness
    label = recorded.labels.get(name, name) + f" (± {recorded.bars.get(name, 2.0):.2g} SE)" * known
    style = {**LINES[exactness], **marks}
    axes.errorbar(x, y, yerr=errors if known else None, label=label, color=COLOURS[exactness], capsize=2, elinewidth=1, **style)


# --- optimality -----------------------------------------------------------------------------------------------------------------


def optimality_figure(summary: Mapping[str, Any], title: str = "") -> Figure | None:
    """Loss, gap and its bounds against time on a logarithmic scale, from what summary.json holds; None where nothing is known.

    At τ > 0 the gap 𝓕[ρ_t] − min 𝓕 lies between 𝓕[ρ_t] − min_s 𝓕[ρ_s] and τKL(ρ_t|ρ̂_t). At τ = 0 sup |U| stands beside the
    loss, and the floor of the loss where there is one.
    """
    density, times = summary.get("density", {}), np.array(summary.get("times", []), float)
    if len(times) < 2 or "optimality_gap" not in density:
        return None
    residual, floor = density.get("residual_potential"), summary.get("representable", {}).get("loss_floor", 0.0)
    figure, axes = _one_panel(title, "t", "gap, loss" if residual is None else "residual potential, loss")
    if residual is None:
        _gaps(axes, times, summary)
    else:
        _positive(axes, times, residual["support"], "sup |U| on the support", color=COLOURS[MESH])
        _positive(axes, times, residual["everywhere"], "sup |U| on the whole mesh", color=COLOURS[MESH], linestyle=":")
    _positive(axes, times, density["loss"], "loss", color=DIM, linewidth=1.2)
    if floor > SEEN * max(density["loss"]):
        axes.axhline(floor, color=DIM, linestyle="--", linewidth=1.0, label="floor of the loss: f* is not in the span")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="major", linewidth=0.5)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _gaps(axes: Axes, times: Array, summary: Mapping[str, Any]) -> None:
    """The certificate, the true gap or what encloses it, and the bound that the particles' moments give."""
    density, law, ensemble = (summary.get(name, {}) for name in ("density", "stationary", "ensemble"))
    bound, energy = (np.array(density[key], float) for key in ("optimality_gap", "free_energy"))
    _positive(axes, times, bound, "certificate τ KL(ρ|ρ̂)", color=COLOURS[MESH])
    if "gap" in law:
        _positive(axes, times, law["gap"], "true gap F[ρ] − F[ρ*]", color=COLOURS[NODES], linestyle="--")
        _positive(axes, times, law["relative_entropy"], "τ KL(ρ|ρ*)", color=COLOURS[MESH], linestyle=":")
    elif np.all(np.diff(energy) <= SEEN * np.ptp(energy)):  # one temperature, or cooling
        below = energy - energy.min()
        seen = (below > 0.0) & (bound > below)
        axes.fill_between(times[seen], below[seen], bound[seen], color=COLOURS[MESH], alpha=0.15, label="where the gap lies")
    if "optimality_gap" in ensemble:
        label, marks = "bound for the Gibbs state of the particles' potential", LINES[SAMPLES]
        _positive(axes, times, ensemble["optimality_gap"], label, color=COLOURS[SAMPLES], **marks)


def _positive(axes: Axes, times: Array, values: Sequence[float] | Array, label: str, **look: Any) -> None:
    """A curve where it is positive: zero has no place on a logarithmic scale."""
    y = np.array(values, float)
    axes.plot(times, np.where(y > 0.0, y, np.nan), label=label, **{"linewidth": 1.8, **look})
