"""The picture of a deep network's laws: each layer averaged over its labels, and the first and last against their labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from mvpde.measure import Mesh
from mvpde.models.mean_field import Array
from mvpde.runs.record import Record

_LAYER = re.compile(r"layer(\d+)")
_AT_LABEL = re.compile(r"layer(\d+) at (a|b) = ([^,]+)")
_AT_DEPTH = re.compile(r"rho at s = (.+)")
_BINS = 60  # of a coordinate whose nodes lie on no grid


def has_layers(fields: Mapping[str, Array]) -> bool:
    """Whether fields are those of a deep network."""
    return any(_LAYER.fullmatch(name) for name in fields)


def deep_figure(coordinates: Sequence[str], mesh: Mesh, last: Record, title: str) -> Figure:
    """Above: ρ^ℓ of every layer, averaged over labels. Below: the law of each weight of the first layer against a, of the last
    against b, with its conditional mean in white."""
    layers = {name: values for name, values in last.fields.items() if _LAYER.fullmatch(name)}
    labelled = _by_label(last.fields)
    below = [(key, axis) for key in labelled for axis in range(len(coordinates))]
    columns = max(len(layers), len(below))
    figure = Figure(figsize=(3.1 * columns + 0.6, 6.4 if below else 3.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(2 if below else 1, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set_visible(False)
    for panel, (name, values) in zip(panels[0], layers.items(), strict=False):
        panel.set_visible(True)
        _draw_layer(panel, coordinates, mesh, values)
        panel.set_title(f"layer {name.removeprefix('layer')}", fontsize=10)
    for panel, ((layer, label), axis) in zip(panels[-1], below, strict=False):
        panel.set_visible(True)
        places, rows = labelled[layer, label]
        _draw_labelled(panel, mesh, places, rows, axis)
        panel.set(xlabel=f"{coordinates[axis]} in layer {layer}", ylabel=f"{label}")
        panel.set_title(f"density of {coordinates[axis]} given {label}", fontsize=10)
    return figure


def depths_figure(coordinates: Sequence[str], mesh: Mesh, last: Record, title: str) -> Figure | None:
    """The law of each weight of a residual network against the depth s, with its conditional mean in white; None without any."""
    found = [
        (float(match[1]), values) for name, values in last.fields.items() if (match := _AT_DEPTH.fullmatch(name)) is not None
    ]
    if len(found) < 2:
        return None
    figure = Figure(figsize=(4.2 * len(coordinates) + 0.4, 3.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    depths, rows = np.array([s for s, _ in found]), np.stack([values for _, values in found])
    for axis, panel in enumerate(figure.subplots(1, len(coordinates), squeeze=False)[0]):
        _draw_labelled(panel, mesh, depths, rows, axis)
        panel.set(xlabel=coordinates[axis], ylabel="depth s")
        panel.set_title(f"density of {coordinates[axis]} at depth s", fontsize=10)
    return figure


def _by_label(fields: Mapping[str, Array]) -> dict[tuple[str, str], tuple[Array, Array]]:
    """(layer, name of the label) → labels, shape (Q,), and ρ at each, shape (Q, points)."""
    found: dict[tuple[str, str], list[tuple[float, Array]]] = {}
    for name, values in fields.items():
        match = _AT_LABEL.fullmatch(name)
        if match is not None:
            found.setdefault((match[1], match[2]), []).append((float(match[3]), values))
    made = {}
    for key, pairs in found.items():
        pairs.sort(key=lambda pair: pair[0])
        if len(pairs) > 1:
            made[key] = np.array([place for place, _ in pairs]), np.stack([values for _, values in pairs])
    return made


def _draw_layer(panel: Axes, coordinates: Sequence[str], mesh: Mesh, values: Array) -> None:
    points, cells = mesh
    if len(coordinates) == 1:
        order = np.argsort(points[:, 0])
        panel.plot(points[order, 0], values[order], color="#0072B2")
        panel.set(xlabel=coordinates[0], ylabel=f"density of {coordinates[0]}", ylim=(0.0, None))
        return
    ends = [(float(x.min()), float(x.max())) for x in (points[:, 0], points[:, 1])]
    panel.set(xlabel=coordinates[0], ylabel=coordinates[1], xlim=ends[0], ylim=ends[1])
    if len(coordinates) == 2:
        triangles = Triangulation(points[:, 0], points[:, 1], cells)
        shades: ScalarMappable = panel.tripcolor(triangles, values, shading="gouraud", cmap="viridis", vmin=0.0, rasterized=True)
    else:
        masses = values * _volumes(mesh)
        bins = [_edges(points[:, axis]) for axis in (0, 1)]
        share, edges_i, edges_j = np.histogram2d(points[:, 0], points[:, 1], bins=bins, weights=masses)
        area = np.outer(np.diff(edges_i), np.diff(edges_j))
        shades = panel.pcolormesh(edges_i, edges_j, (share / area).T, cmap="viridis", vmin=0.0, rasterized=True)
    panel.figure.colorbar(shades, ax=panel, label=f"density of ({coordinates[0]}, {coordinates[1]})")


def _draw_labelled(panel: Axes, mesh: Mesh, places: Array, rows: Array, axis: int) -> None:
    x, volumes = mesh[0][:, axis], _volumes(mesh)
    edges = _edges(x)
    middle = 0.5 * (edges[1:] + edges[:-1])
    shares = np.stack([np.histogram(x, bins=edges, weights=row * volumes)[0] for row in rows])
    between = 0.5 * (places[1:] + places[:-1])
    borders = np.concatenate([[2 * places[0] - between[0]], between, [2 * places[-1] - between[-1]]])
    shades = panel.pcolormesh(edges, borders, shares / np.diff(edges), cmap="viridis", vmin=0.0, rasterized=True)
    panel.plot(shares @ middle / shares.sum(axis=1), places, color="white", linewidth=1.4)
    panel.figure.colorbar(shades, ax=panel)


def _volumes(mesh: Mesh) -> Array:
    """∫φ_i of each point."""
    points, cells = mesh
    corners = points[cells][:, :, : cells.shape[1] - 1]
    edges = corners[:, 1:] - corners[:, :1]
    volumes = np.abs(np.linalg.det(edges)) / np.prod(np.arange(1, cells.shape[1] + 1))
    return np.bincount(cells.ravel(), weights=np.repeat(volumes, cells.shape[1]), minlength=len(points))


def _edges(x: Array) -> Array:
    """Edges of bins that hold one layer of nodes each where nodes lie on a grid, else equal ones."""
    layers = np.unique(x.round(10))
    if len(layers) > 400:
        return np.linspace(x.min(), x.max(), _BINS + 1)
    return np.concatenate([layers[:1], 0.5 * (layers[1:] + layers[:-1]), layers[-1:]])
