"""Meshes of S² × [lower, upper] as spherical shells: triangles of a refined icosahedron in layers, prisms cut into tetrahedra.

A node is X = e^{c/R₀}n (see `mvpde.models.shell`). Layers are equidistant in c, so cells have one size in the metric. Every prism
is cut along the diagonals that begin at its lowest numbered corner, so neighbours agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries)

import basix.ufl
import ufl
from dolfinx import mesh

from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.communicators import own
from mvpde.mesh.domain import Domain
from mvpde.models.shell import Shell

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def shell(metric: Shell, *, lower: float, upper: float, frequency: int, layers: int, comm: MPI.Intracomm | None = None) -> Domain:
    """S²(R₀) × [lower, upper] with 10·frequency² + 2 directions and layers + 1 values of c. Collective.

    Args:
        metric: whose radius is R₀.
        lower, upper: range of c, lower < upper.
        frequency: parts into which each edge of the icosahedron is cut, ≥ 1.
        layers: cells in the direction of c, ≥ 1.
        comm: communicator, that of all ranks by default; the mesh is made on rank 0.

    Raises:
        ArgumentError: for sizes that make no mesh, on all ranks alike.
    """
    if not (lower < upper and frequency >= 1 and layers >= 1):
        raise ArgumentError(
            "shell", f"needs lower < upper, frequency ≥ 1 and layers ≥ 1, not {lower}, {upper}, {frequency}, {layers}"
        )
    comm = own(comm)
    points, cells = np.zeros((0, 3)), np.zeros((0, 4), np.int64)
    if comm.rank == 0:
        directions, triangles = icosphere(frequency)
        heights = np.linspace(lower, upper, layers + 1)
        points = metric.point(np.tile(directions, (layers + 1, 1)), np.repeat(heights, len(directions)))
        cells = _tetrahedra(triangles, len(directions), layers)
    element = basix.ufl.element("P", "tetrahedron", 1, shape=(3,))
    grid = mesh.create_mesh(comm, cells, ufl.Mesh(element), points)
    return from_mesh(grid, (False, False, False), metric)


def icosphere(frequency: int) -> tuple[Array, Integers]:
    """Points on the unit sphere, shape (10·frequency² + 2, 3), and triangles, shape (20·frequency², 3)."""
    golden = 0.5 * (1.0 + np.sqrt(5.0))
    flat = np.array([[s, t * golden, 0.0] for s in (-1.0, 1.0) for t in (-1.0, 1.0)])
    corners = np.concatenate([np.roll(flat, k, axis=1) for k in range(3)])
    squares = ((corners[:, None] - corners[None]) ** 2).sum(axis=2)
    near = np.isclose(squares, 4.0)
    faces = [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]]
    number = {(a, b): n for n, (a, b) in enumerate((a, b) for a in range(frequency + 1) for b in range(frequency + 1 - a))}
    share = np.array([[a, b, frequency - a - b] for a, b in number]) / frequency
    cells = [[number[a, b], number[a + 1, b], number[a, b + 1]] for a, b in number if a + b < frequency]
    cells += [[number[a + 1, b], number[a, b + 1], number[a + 1, b + 1]] for a, b in number if a + b < frequency - 1]
    points = np.einsum("vk,fkx->fvx", share, corners[np.array(faces)]).reshape(-1, 3)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    _, first, place = np.unique(points.round(9) + 0.0, axis=0, return_index=True, return_inverse=True)
    local = np.array(cells)[None] + len(number) * np.arange(len(faces))[:, None, None]
    return points[first], place.reshape(-1)[local.reshape(-1, 3)].astype(np.int64)


def _tetrahedra(triangles: Integers, count: int, layers: int) -> Integers:
    """The prisms over sorted triangles (i, j, k): (i, j, k, k'), (i, j, j', k'), (i, i', j', k'), a prime one layer up."""
    i, j, k = np.sort(triangles, axis=1).T
    up = count
    lowest = np.stack([[i, j, k, k + up], [i, j, j + up, k + up], [i, i + up, j + up, k + up]]).transpose(2, 0, 1).reshape(-1, 4)
    return np.concatenate([lowest + count * layer for layer in range(layers)])
