"""Meshes of half as wide cells: every simplex is cut at the midpoints of its edges, into 2, 4 or 8.

Pieces of intervals and triangles have the shape of what they are cut from, so no angle becomes obtuse. Of a tetrahedron the
octahedron between its corners is cut along the shortest of its diagonals, which keeps pieces from getting thin (Bey, Computing
55 (1995) 355).
"""

from __future__ import annotations

from mvpde.mesh.domain import gather_ordered  # isort: skip  (loads the solver libraries first)

import basix.ufl
import numpy as np
import ufl
from dolfinx import mesh
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SHAPES = {1: "interval", 2: "triangle", 3: "tetrahedron"}
# Pieces of a simplex in terms of its corners 0 … D and, from D + 1 on, the midpoints of its edges in the order of `_edges`.
_PIECES = {
    1: ((0, 2), (2, 1)),
    2: ((0, 3, 4), (1, 3, 5), (2, 4, 5), (3, 4, 5)),
    3: ((0, 4, 5, 6), (1, 4, 7, 8), (2, 5, 7, 9), (3, 6, 8, 9)),
}
# The diagonals of the octahedron of midpoints 01, 02, 03, 12, 13, 23, and the other four midpoints in turn around each.
_AROUND = {(4, 9): (5, 7, 8, 6), (5, 8): (4, 7, 9, 6), (6, 7): (4, 8, 9, 5)}


def refined(grid: mesh.Mesh, times: int) -> mesh.Mesh:
    """The mesh with all cells cut, so many times; its order does not depend on the number of ranks. Collective."""
    if times == 0:
        return grid
    comm, dimension = grid.comm, grid.topology.dim
    local, count = grid.geometry.index_map().size_local, grid.topology.index_map(dimension).size_local
    corners = grid.geometry.input_global_indices[grid.geometry.dofmaps[0][:count]]
    points = gather_ordered(comm, grid.geometry.input_global_indices[:local], grid.geometry.x[:local, : grid.geometry.dim])
    cells = gather_ordered(comm, grid.topology.original_cell_index[:count], corners)
    if points is None or cells is None:
        points, cells = np.zeros((0, grid.geometry.dim)), np.zeros((0, dimension + 1), np.int64)
    else:
        for _ in range(times):
            points, cells = cut(points, cells)
    element = basix.ufl.element("P", _SHAPES[dimension], 1, shape=(grid.geometry.dim,))
    return mesh.create_mesh(comm, cells, ufl.Mesh(element), points)


def cut(points: Array, cells: Integers) -> tuple[Array, Integers]:
    """Points and cells, shapes (n, D) and (m, D + 1), of the mesh that is cut once; the old points come first."""
    dimension = cells.shape[1] - 1
    pairs = np.sort(cells[:, _edges(dimension)], axis=2)
    edges, place = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    named = np.concatenate([cells, len(points) + place.reshape(len(cells), -1)], axis=1)
    middle = points[edges].mean(axis=1)
    finer = np.concatenate([points, middle])
    pieces = [named[:, piece] for piece in _PIECES[dimension]]
    if dimension == 3:
        pieces += _octahedra(finer, named)
    return finer, np.stack(pieces, axis=1).reshape(-1, dimension + 1).astype(np.int64)


def _edges(dimension: int) -> Integers:
    return np.array([(i, j) for i in range(dimension + 1) for j in range(i + 1, dimension + 1)])


def _octahedra(points: Array, named: Integers) -> list[Integers]:
    """Four tetrahedra around the shortest diagonal of each."""
    ends = np.array(list(_AROUND))
    lengths = np.linalg.norm(points[named[:, ends[:, 0]]] - points[named[:, ends[:, 1]]], axis=2)
    shortest = np.argmin(np.round(lengths / lengths.max(), 12), axis=1)
    wheels = np.array([[(*axis, rim[k], rim[(k + 1) % 4]) for k in range(4)] for axis, rim in _AROUND.items()])
    chosen = np.take_along_axis(named[:, None, :], wheels[shortest].reshape(len(named), 1, -1), axis=2)
    return list(chosen.reshape(len(named), 4, 4).swapaxes(0, 1))
