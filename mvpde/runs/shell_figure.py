"""The picture of a law on S² × R: the mean output weight over the sphere, of density and particles, and the law of c."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mvpde.models.shell import Shell
from mvpde.runs.record import Record

Array = NDArray[np.float64]

SHARPNESS = 60.0  # κ of the weights exp(κ(cos − 1)) that means over the sphere are taken with: ten degrees or so
LONGITUDES, LATITUDES = 48, 24
BINS = 48  # of c


def shell_figure(metric: Shell, last: Record, title: str, colours: Mapping[str, str]) -> Figure:
    """Mean output weight against longitude and sine of the latitude (equal areas) in a panel for each measure that has a colour,
    and the law of c, from the clouds of the record."""
    shown = list(colours)
    figure = Figure(figsize=(4.6 * (len(shown) + 1), 4.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    *maps, law = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    fields = {name: mean_output_weight(metric, *last.clouds[name]) for name in shown}
    largest = max((float(np.abs(field).max()) for field in fields.values()), default=1.0) or 1.0
    for panel, (name, field) in zip(maps, fields.items(), strict=True):
        edges = np.linspace(0.0, 2.0 * np.pi, LONGITUDES + 1), np.linspace(-1.0, 1.0, LATITUDES + 1)
        shades = panel.pcolormesh(*edges, field, cmap="PuOr", vmin=-largest, vmax=largest, rasterized=True)
        panel.set(xlabel="longitude of y", ylabel="sine of its latitude", title=name)
    if maps:
        figure.colorbar(shades, ax=maps, label="mean output weight E[c | y]")
    heights = {name: (metric.height(last.clouds[name][0]), last.clouds[name][1]) for name in shown}
    reach = max(float(np.abs(c[w > 1e-6 * w.max()]).max()) for c, w in heights.values())
    for name, (c, w) in heights.items():
        ends = _edges(c, reach)
        share, _ = np.histogram(c, bins=ends, weights=w)
        law.stairs(share / np.diff(ends), ends, label=name, color=colours[name], linewidth=1.4)
    law.set(xlabel="output weight c", ylabel="density of c", xlim=(-reach, reach))
    law.legend(frameon=False)
    return figure


def _edges(c: Array, reach: float) -> Array:
    """Edges of bins: between the layers of a mesh, where the heights are few, else equal bins."""
    layers = np.unique(c.round(9))
    if len(layers) > 4 * BINS:
        return np.linspace(-reach, reach, BINS + 1)
    return np.concatenate([layers[:1], 0.5 * (layers[1:] + layers[:-1]), layers[-1:]])


def mean_output_weight(metric: Shell, points: Array, weights: Array) -> Array:
    """E[c | y] near each place of a map, shape (LATITUDES, LONGITUDES), of a cloud on S² × R: points (N, 3), weights (N,)."""
    angle = 2.0 * np.pi * (np.arange(LONGITUDES) + 0.5) / LONGITUDES
    sine = -1.0 + 2.0 * (np.arange(LATITUDES) + 0.5) / LATITUDES
    cosine = np.sqrt(1.0 - sine**2)[:, None]
    sines = np.broadcast_to(sine[:, None], (LATITUDES, LONGITUDES))
    places = np.stack([cosine * np.cos(angle), cosine * np.sin(angle), sines], axis=2)
    directions, columns = metric.direction(points) / metric.radius, np.stack([weights, weights * metric.height(points)], 1)
    sums = np.zeros((LATITUDES * LONGITUDES, 2))
    for start in range(0, len(points), 4096):
        piece = slice(start, start + 4096)
        near = np.exp(SHARPNESS * (places.reshape(-1, 3) @ directions[piece].T - 1.0))
        sums += near @ columns[piece]
    return np.asarray((sums[:, 1] / np.maximum(sums[:, 0], 1e-300)).reshape(LATITUDES, LONGITUDES))
