"""Points with masses on the nodes of a box, with their mean and covariance.

Multilinear weights keep mass, mean and all covariances Cov(x_a, x_b), a ≠ b, and add up to ¼ to each variance (in cells²). What
they add is taken away along the lines of nodes in one direction after the other,

    w → (1 − α)w + α w',     w' the two nodes about each line's own mean that have this mean,

which keeps the mass and mean of each line, so the covariances with other directions too. α ∈ [0, 1] gives the variance, unless
even w' spreads more.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 3  # over all directions
_TOUCHING = 1e-6  # cells beyond a wall that count as on it


@dataclass(frozen=True)
class BoxNodes:
    """The nodes of a box, in units of its cells.

    Attributes:
        cells: number in each direction.
        periodic: whether the last node of the direction is the first.
    """

    cells: tuple[int, ...]
    periodic: tuple[bool, ...]


def spread(places: Array, masses: Array, grid: BoxNodes, narrow: float) -> tuple[Array, float]:
    """Nodal masses with sum 1, shape (nodes in each direction), and the share of the points inside.

    Args:
        places: of the points, in cells from the first node, shape (M, D).
        masses: shape (M,), with sum 1.
        grid: the nodes.
        narrow: standard deviation, in cells, from which on a direction is first made sharper by fluxes between neighbours.
    """
    kept, places = np.ones(len(places), bool), places.copy()
    for axis, (cells, periodic) in enumerate(zip(grid.cells, grid.periodic, strict=True)):
        if not periodic:
            kept &= (places[:, axis] > -_TOUCHING) & (places[:, axis] < cells + _TOUCHING)
            places[:, axis] = np.clip(places[:, axis], 0.0, cells)
    places, weights = places[kept], masses[kept]
    inside = float(weights.sum())
    if not inside > 0.0:
        return np.zeros([n + (not p) for n, p in zip(grid.cells, grid.periodic, strict=True)]), 0.0
    weights = weights / inside
    first = np.floor(places.min(axis=0)).astype(int)
    shape = tuple(int(n) for n in np.floor(places.max(axis=0)).astype(int) + 2 - first)
    nodal = multilinear(places - first, weights, shape)
    wanted = weights @ (places - weights @ places) ** 2
    for _ in range(_ROUNDS if len(shape) > 1 else 1):
        for axis in range(len(shape)):
            nodal = np.moveaxis(squeezed(np.moveaxis(nodal, axis, -1), float(wanted[axis]), narrow), -1, axis)
    for axis, (cells, periodic) in enumerate(zip(grid.cells, grid.periodic, strict=True)):
        nodal = np.moveaxis(folded(np.moveaxis(nodal, axis, 0), int(first[axis]), cells, periodic), 0, axis)
    return nodal, inside


def multilinear(places: Array, weights: Array, shape: tuple[int, ...]) -> Array:
    """Σ_q w_q φ_j(x_q) at nodes numbered from 0, places in cells, shape (M, D)."""
    left = np.minimum(np.floor(places).astype(int), np.array(shape) - 2)
    share, result = places - left, np.zeros(int(np.prod(shape)))
    for corner in itertools.product((0, 1), repeat=len(shape)):
        side = np.array(corner)
        part = weights * np.prod(np.where(side, share, 1.0 - share), axis=1)
        result += np.bincount(np.ravel_multi_index(tuple((left + side).T), shape), part, len(result))
    return result.reshape(shape)


def squeezed(nodal: Array, wanted: float, narrow: float) -> Array:
    """The masses with this variance along the last axis, or the nearest to it, in cells²; each line keeps its mass and mean.

    Lines in which the law is no narrower than ``narrow`` are first made sharper.
    """
    x = np.arange(nodal.shape[-1], dtype=float)
    centre = float(nodal.reshape(-1, len(x)).sum(axis=0) @ x / nodal.sum())
    excess = _second(nodal, x - centre) - wanted
    nearest = _about_means(nodal)
    if excess > 0.0 and wanted - _second(nearest, x - centre) >= narrow**2:
        nodal = _sharpened(nodal, excess)
        excess = _second(nodal, x - centre) - wanted
    room = _second(nodal, x - centre) - _second(nearest, x - centre)
    alpha = min(max(excess / room, 0.0), 1.0) if room > 0.0 else 0.0
    return (1.0 - alpha) * nodal + alpha * nearest


def _second(nodal: Array, x: Array) -> float:
    return float((nodal @ x**2).sum() / nodal.sum())


def _sharpened(nodal: Array, excess: float) -> Array:
    """w − ½e δ²g along the last axis: g = w as far as w ≥ 0 allows, 0 at the ends. δ² of anything keeps mass and mean.

    It takes e from the variance; of a density e = 1/6, and these are the fluxes ½m_ij(ρ_i − ρ_j) of a line.
    """
    inner = np.zeros(nodal.shape)
    inner[..., 1:-1] = nodal[..., 1:-1]
    taken = 0.5 * excess * _beside(inner, np.add)
    share = np.where(taken > nodal, nodal / np.where(taken > 0.0, taken, 1.0), 1.0)
    moved = excess * inner * _beside(share, np.minimum, 1.0)
    return np.maximum(nodal + moved - 0.5 * _beside(moved, np.add), 0.0)


def _beside(values: Array, both: np.ufunc, beyond: float = 0.0) -> Array:
    """What two neighbours along the last axis make together."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 1)], constant_values=beyond)
    return np.asarray(both(padded[..., :-2], padded[..., 2:]))


def _about_means(nodal: Array) -> Array:
    """The mass of each line on the two nodes about its mean."""
    n = nodal.shape[-1]
    lines = nodal.reshape(-1, n)
    mass = lines.sum(axis=1)
    mean = lines @ np.arange(n, dtype=float) / np.where(mass > 0.0, mass, 1.0)
    left = np.clip(np.floor(mean).astype(int), 0, n - 2)
    result, rows = np.zeros(lines.shape), np.arange(len(lines))
    result[rows, left] = mass * (left + 1.0 - mean)
    result[rows, left + 1] += mass * (mean - left)
    return result.reshape(nodal.shape)


def folded(nodal: Array, first: int, cells: int, periodic: bool) -> Array:
    """Masses at the nodes of the first axis, of those numbered from ``first`` on."""
    number = np.arange(first, first + len(nodal))
    count = cells + (not periodic)
    result = np.zeros((count, *nodal.shape[1:]))
    np.add.at(result, number % cells if periodic else np.clip(number, 0, cells), nodal)
    return result
