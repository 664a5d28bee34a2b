"""Boxes of intervals, triangles or tetrahedra."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries)

import dolfinx.graph
from dolfinx import mesh

from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.communicators import own
from mvpde.mesh.domain import Domain

_IMBALANCE = 0.01  # the ranks' shares of a box differ by less; DOLFINx's 0.025 leaves one of two ranks 1.2 % more than its half


def box(
    lower: Sequence[float],
    upper: Sequence[float],
    cells: Sequence[int],
    periodic: Sequence[bool] | None = None,
    *,
    comm: MPI.Intracomm | None = None,
) -> Domain:
    """A box of intervals, triangles or tetrahedra, all without obtuse angles. Collective.

    Args:
        lower, upper: corners, D = 1, 2 or 3 numbers each, lower < upper.
        cells: number of cells per direction, each ≥ 1 (≥ 3 where periodic).
        periodic: which directions are closed to a circle; none by default.
        comm: communicator, that of all ranks by default.

    Raises:
        ArgumentError: for sizes that make no mesh, on all ranks alike.
    """
    _check_lists(lower=lower, upper=upper, cells=cells, periodic=[] if periodic is None else periodic)
    dimension = len(cells)
    periodic = tuple(periodic) if periodic is not None else (False,) * dimension
    _check_box(lower, upper, cells, periodic)
    grid: mesh.Mesh
    comm, even = own(comm), _even_shares()
    corners = [np.array(lower, float), np.array(upper, float)]
    if dimension == 1:
        grid = mesh.create_interval(comm, int(cells[0]), [float(lower[0]), float(upper[0])], partitioner=even)
    elif dimension == 2:
        grid = mesh.create_rectangle(comm, corners, list(map(int, cells)), partitioner=even)
    else:
        grid = mesh.create_box(comm, corners, list(map(int, cells)), partitioner=even)
    return from_mesh(grid, periodic)


def _check_lists(**given: object) -> None:
    for name, value in given.items():
        if np.ndim(np.array(value, object)) != 1:
            raise ArgumentError(name, f"needs a list with one entry per direction, such as [{value}], not {value!r}")


def _check_box(lower: Sequence[float], upper: Sequence[float], cells: Sequence[int], periodic: Sequence[bool]) -> None:
    if not 1 <= len(cells) <= 3:
        raise ArgumentError("cells", f"a mesh has 1 to 3 directions, not {len(cells)}; leave the density out for this model")
    if not len(lower) == len(upper) == len(cells) == len(periodic):
        raise ArgumentError("lower, upper, cells and periodic", "give one entry per direction in each")
    for k, (a, b, n, p) in enumerate(zip(lower, upper, cells, periodic, strict=True), start=1):
        if not (math.isfinite(a) and math.isfinite(b)):
            raise ArgumentError("lower, upper", f"direction {k} runs from {a} to {b}; both ends must be finite")
        if not a < b:
            raise ArgumentError("lower, upper", f"direction {k} runs from {a} to {b}; the upper end must be larger")
        if not float(n).is_integer():
            raise ArgumentError("cells", f"direction {k} has {n}; give a whole number")
        if n < (3 if p else 1):
            raise ArgumentError("cells", f"direction {k} has {n}; give at least {3 if p else 1}")


def _even_shares() -> Callable[..., object] | None:
    """Partitioner into nearly equal shares, since every stage waits for the slowest rank; None, the default, without SCOTCH."""
    if not dolfinx.has_ptscotch:
        return None
    return mesh.create_cell_partitioner(dolfinx.graph.partitioner_scotch(_IMBALANCE), mesh.GhostMode.shared_facet, 2)
