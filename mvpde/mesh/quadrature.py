"""Integrals of a given density against the basis functions of a mesh: what a law becomes on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import basix
import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.assembly import identified_sum
from mvpde.mesh.domain import Domain, Part

if TYPE_CHECKING:
    from dolfinx import mesh

Array = NDArray[np.float64]

_CELLS = 8192  # cells integrated at a time
_DOUBTFUL = 0.12  # disagreement of two rules, of their sum or of a mean cell's share, that calls for a third
_ROUGH = 64  # of those with thousands of points each


def integrate_against_basis(domain: Domain, function: Callable[[Array], Array]) -> Array:
    """∫hφ_i for each owned unknown (local), for a density h: (N, D) → (N,), which may jump or be narrow. Collective.

    Quadrature of degree 6; a cell where the values at the corners tell something else, as where h jumps, is done again with
    thousands of equally weighted points. On a union h is a density on each of its meshes, of points with the coordinates of
    the union, and the integrals there are those of the mesh times its weight.
    """
    if domain.parts:
        pieces = [_on_part(domain, part, function) for part in domain.parts]
        return np.concatenate(pieces)
    grid, dimension = domain.space.mesh, domain.dimension
    corners_of, dofs = grid.geometry.dofmaps[0], domain.space.dofmap.list
    cells = grid.topology.index_map(grid.topology.dim).size_local
    negligible = _DOUBTFUL / domain.comm.allreduce(cells)
    corners_only = np.eye(dimension + 1), np.full(dimension + 1, 1.0 / math.factorial(dimension + 1))
    rules = [_gauss(grid, 6), corners_only, _dense(dimension)]
    total = np.zeros(len(domain.numbers))

    def loads(chosen: NDArray[np.int32], rule: tuple[Array, Array]) -> Array:
        shape, weights = rule
        corners = grid.geometry.x[corners_of[chosen]][:, :, :dimension]
        volume = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
        points = np.column_stack([_between(corners[:, :, axis], shape).ravel() for axis in range(dimension)])
        return np.asarray((function(points).reshape(len(chosen), -1) * weights) @ shape * volume[:, None])

    for start in range(0, cells, _CELLS):
        block = np.arange(start, min(cells, start + _CELLS), dtype=np.int32)
        values, other = loads(block, rules[0]), loads(block, rules[1])
        gap, size = np.abs(values - other).sum(axis=1), (values + other).sum(axis=1)
        rough = np.flatnonzero(gap > np.maximum(_DOUBTFUL * size, negligible))
        for again in range(0, len(rough), _ROUGH):
            some = rough[again : again + _ROUGH]
            values[some] = loads(block[some], rules[2])
        np.add.at(total, dofs[block].ravel(), values.ravel())
    return identified_sum(domain.space, domain.numbers, domain.owned, total)


def _on_part(union: Domain, part: Part, function: Callable[[Array], Array]) -> Array:
    """ω∫hφ_i on one mesh of a union, whose points have the coordinates of the union."""

    def there(points: Array) -> Array:
        z = np.zeros((len(points), union.coordinates.shape[1]))
        z[:, : part.domain.dimension] = points
        z[:, union.dimension :] = part.label
        return function(z)

    return part.weight * integrate_against_basis(part.domain, there)


def _between(corners: Array, shape: Array) -> Array:
    """Σ_v c_v λ_v of one coordinate, shape (cells, points): fast, and added in one order whatever the number of cells."""
    total = np.multiply.outer(corners[:, 0], shape[:, 0])
    for vertex in range(1, corners.shape[1]):
        total += np.multiply.outer(corners[:, vertex], shape[:, vertex])
    return total


def _gauss(grid: mesh.Mesh, degree: int) -> tuple[Array, Array]:
    """Barycentric points, shape (Q, D + 1), and weights of a rule of ``degree`` on the reference simplex of volume 1/D!."""
    points, weights = basix.make_quadrature(grid.basix_cell(), degree)
    return np.column_stack([1.0 - points.sum(axis=1), points]), weights


def _dense(dimension: int) -> tuple[Array, Array]:
    """Thousands of equally weighted points: sorting its coordinates folds a cube's grid onto the simplex, volume for volume."""
    n = {1: 4096, 2: 64, 3: 16}[dimension]
    axes = np.meshgrid(*[(np.arange(n) + 0.5) / n] * dimension, indexing="ij")
    falling = -np.sort(-np.column_stack([a.ravel() for a in axes]), axis=1)
    ends = np.column_stack([np.ones(len(falling)), falling, np.zeros(len(falling))])
    return -np.diff(ends, axis=1), np.full(len(falling), 1.0 / len(falling) / math.factorial(dimension))
