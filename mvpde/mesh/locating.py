"""Points in the cells of a mesh of simplices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.assembly import identified_sum
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]

_INSIDE = -1e-12  # barycentric coordinate of a point on a face
_WORK = 2_000_000  # pairs of cells and points at a time


def deposited(domain: Domain, points: Array, weights: Array) -> tuple[Array, float]:
    """Σ_q w_q φ_i(z_q) at owned unknowns (local), and Σ w_q of the points in the mesh: mass and first moments of points kept.
    Collective.

    Args:
        domain: no union.
        points: shape (N, D), the same on all ranks; those of periodic directions are wrapped.
        weights: shape (N,).
    """
    z = _wrapped(domain, points)
    corners, dofs = _near(domain, z)
    counts = np.zeros(len(z))
    for cells in _pieces(len(corners), len(z)):
        counts += _held(corners[cells], z).sum(axis=0)
    counts = domain.sum(counts)  # on a face a point lies in several cells
    shared = np.where(counts > 0.0, weights / np.maximum(counts, 1.0), 0.0)
    total = np.zeros(len(domain.numbers))
    for cells in _pieces(len(corners), len(z)):
        cell, point = np.nonzero(_held(corners[cells], z))
        loads = np.zeros((len(corners[cells]), domain.dimension + 1))
        np.add.at(loads, cell, shared[point, None] * _barycentric(corners[cells][cell], z[point]))
        np.add.at(total, dofs[cells].ravel(), loads.ravel())
    return identified_sum(domain.space, domain.numbers, domain.owned, total), float(weights[counts > 0.0].sum())


def _wrapped(domain: Domain, points: Array) -> Array:
    z = np.array(points)
    for axis, period in enumerate(domain.periods):
        if period is not None:
            z[:, axis] = domain.lower[axis] + (z[:, axis] - domain.lower[axis]) % period
    return z


def _near(domain: Domain, points: Array) -> tuple[Array, NDArray[np.int32]]:
    """Corners, shape (n, D + 1, D), and degrees of freedom of the cells of this rank that points may lie in."""
    grid, dimension = domain.space.mesh, domain.dimension
    count = grid.topology.index_map(grid.topology.dim).size_local
    corners = grid.geometry.x[grid.geometry.dofmaps[0][:count]][:, :, :dimension]
    above, below = corners.max(axis=1) >= points.min(axis=0), corners.min(axis=1) <= points.max(axis=0)
    chosen = np.all(above & below, axis=1)
    return corners[chosen], domain.space.dofmap.list[:count][chosen]


def _pieces(cells: int, points: int) -> list[slice]:
    rows = max(1, _WORK // max(points, 1))
    return [slice(start, start + rows) for start in range(0, cells, rows)]


def _held(corners: Array, points: Array) -> NDArray[np.bool_]:
    """Whether each point lies in each cell, shape (cells, points)."""
    inverse = np.linalg.inv(np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2))
    inner = np.einsum("cij,cqj->cqi", inverse, points[None] - corners[:, :1])
    return np.asarray((inner.min(axis=2) >= _INSIDE) & (inner.sum(axis=2) <= 1.0 - _INSIDE))


def _barycentric(corners: Array, points: Array) -> Array:
    """Of each point in its own cell, shape (N, D + 1)."""
    inverse = np.linalg.inv(np.swapaxes(corners[:, 1:] - corners[:, :1], 1, 2))
    inner = np.einsum("nij,nj->ni", inverse, points - corners[:, 0])
    return np.column_stack([1.0 - inner.sum(axis=1), inner])
