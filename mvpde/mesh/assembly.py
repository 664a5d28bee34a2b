"""From a mesh of DOLFINx to the edge graph of its unknowns: forms assembled by rows, opposite faces identified, ghosts found.

Periodic directions identify unknowns on opposite faces: an assembled matrix A becomes PᵀAP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries)

import basix
import basix.ufl
import ufl
from dolfinx import fem, la, mesh
from petsc4py import PETSc
from scipy.spatial import cKDTree

from mvpde.mesh.communicators import give_back_unused, keep, own
from mvpde.mesh.domain import Array, Domain, EdgeGraph, Exchange, Integers
from mvpde.mesh.failures import as_solver_error
from mvpde.mesh.formcache import clear_stale_forms
from mvpde.models.shell import Shell

_DEGREE = 4  # of the quadrature of a metric: its λ changes by a part of order h over a cell
_MATCH = 1e-9  # periodic partners agree to this part of the box size


def from_mesh(grid: mesh.Mesh, periodic: Sequence[bool], metric: Shell | None = None) -> Domain:
    """The edge graph of a DOLFINx mesh of simplices, its integrals with the volume of ``metric``. Collective.

    Raises:
        ArgumentError: if a periodic direction has no matching nodes on opposite faces, on all ranks alike.
    """
    comm, dimension = own(grid.comm), grid.geometry.dim
    keep(comm, grid, [grid._cpp_object].clear)  # its communicator carries mpi4py's lock
    give_back_unused(comm)
    clear_stale_forms(comm)
    space = fem.functionspace(grid, basix.ufl.element("P", grid.basix_cell(), 1))
    position = space.tabulate_dof_coordinates()[:, :dimension].copy()
    lower, upper = _bounds(comm, position)
    numbers, masters = _identify(space, position, lower, upper, np.asarray(periodic, bool))
    owned = len(masters)
    first = int(comm.scan(owned)) - owned
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    volume, conductance, dx = _weights(space, metric)
    offsets, columns, mass = identified_rows(volume * u * v * dx, space, numbers, owned)
    stiffness = identified_rows(-conductance * ufl.inner(ufl.grad(u), ufl.grad(v)) * dx, space, numbers, owned)[2]
    of_mesh = numbers[: space.dofmap.index_map.size_local]
    outside = np.concatenate([columns, of_mesh])
    ghosts = np.unique(outside[(outside < first) | (outside >= first + owned)])
    exchange = exchange_of(comm, ghosts, first, owned)
    graph = _edge_graph(offsets, _local_indices(columns, ghosts, first, owned), stiffness, mass)
    return Domain(
        comm=comm,
        dimension=dimension,
        nodes=comm.allreduce(owned),
        lower=tuple(map(float, lower)),
        upper=tuple(map(float, upper)),
        periods=tuple(float(b - a) if p else None for a, b, p in zip(lower, upper, periodic, strict=True)),
        coordinates=_with_ghosts(exchange, position[masters], len(ghosts)),
        first=first,
        ghosts=ghosts,
        graph=graph,
        exchange=exchange,
        boundary=_on_wall(space, numbers, owned, graph.lumped),
        space=space,
        numbers=numbers,
        of_mesh=_local_indices(of_mesh, ghosts, first, owned),
        metric=metric,
    )


def _weights(space: fem.FunctionSpace, metric: Shell | None) -> tuple[float | fem.Function, float | fem.Function, ufl.Measure]:
    """λ^D and λ^{D−2} at the points of a quadrature rule, and the measure dx that uses it; 1 and 1 without a metric."""
    if metric is None:
        return 1.0, 1.0, ufl.dx
    grid, dimension = space.mesh, space.mesh.geometry.dim
    rule = basix.ufl.quadrature_element(grid.basix_cell(), degree=_DEGREE)
    points = fem.functionspace(grid, rule)
    weights = fem.Function(points), fem.Function(points)
    for weight, power in zip(weights, (dimension, dimension - 2), strict=True):
        weight.interpolate(lambda x, power=power: metric.scale(x[:dimension].T) ** power)
    return *weights, ufl.dx(metadata={"quadrature_rule": "default", "quadrature_degree": _DEGREE})


@as_solver_error("assembling a matrix")
def identified_rows(
    integrand: ufl.Form | fem.Form, space: fem.FunctionSpace, numbers: NDArray[np.int64], owned: int
) -> tuple[Integers, NDArray[np.int64], Array]:
    """PᵀAP of the bilinear form's matrix A by rows of owned unknowns: offsets, columns numbered over all ranks, values.

    ``numbers`` are the unknowns of the local degrees of freedom, ghosts included. All forms of one space share one pattern.
    Collective.
    """
    matrix = fem.assemble_matrix(fem.form(integrand))
    matrix.scatter_reverse()
    rows = space.dofmap.index_map.size_local
    end = matrix.indptr[rows]
    identified = PETSc.Mat().create(own(space.mesh.comm))
    identified.setSizes(((owned, None), (owned, None)))
    identified.setType(PETSc.Mat.Type.AIJ)
    row = np.repeat(numbers[:rows], np.diff(matrix.indptr[: rows + 1])).astype(PETSc.IntType)
    column_numbers = la.vector(matrix.index_map(1), 1, dtype=np.float64)  # columns reach further than the ghosts of the space
    column_numbers.array[:rows] = numbers[:rows]
    column_numbers.scatter_forward()
    identified.setPreallocationCOO(row, column_numbers.array[matrix.indices[:end]].astype(PETSc.IntType))
    identified.setValuesCOO(matrix.data[:end], addv=PETSc.InsertMode.ADD_VALUES)
    offsets, columns, values = identified.getValuesCSR()
    identified.destroy()
    return offsets.astype(np.int32), columns.astype(np.int64), values


@as_solver_error("assembling a vector")
def identified_sum(space: fem.FunctionSpace, numbers: NDArray[np.int64], owned: int, values: Array) -> Array:
    """Pᵀb: contributions at the local degrees of freedom (ghosts included), summed into owned unknowns (local). Collective."""
    vector = PETSc.Vec().createMPI((owned, None), comm=own(space.mesh.comm))
    vector.setValues(numbers.astype(PETSc.IntType), values, addv=PETSc.InsertMode.ADD_VALUES)
    vector.assemble()
    total = vector.getArray().copy()
    vector.destroy()
    return total


def _bounds(comm: MPI.Intracomm, position: Array) -> tuple[Array, Array]:
    """Corners of the bounding box of the points of all ranks."""
    infinite = np.full(position.shape[1], np.inf)
    lower, upper = np.empty_like(infinite), np.empty_like(infinite)
    comm.Allreduce(position.min(axis=0, initial=np.inf), lower, MPI.MIN)
    comm.Allreduce(position.max(axis=0, initial=-np.inf), upper, MPI.MAX)
    return lower, upper


def _identify(
    space: fem.FunctionSpace, position: Array, lower: Array, upper: Array, periodic: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Integers]:
    """Number the unknowns: degrees of freedom on an upper periodic face take the number of their partner on the lower one.

    Returns the numbers of the local degrees of freedom, ghosts included, and the owned degrees of freedom that are unknowns.
    """
    comm, index_map = own(space.mesh.comm), space.dofmap.index_map
    tolerance = _MATCH * (upper - lower)
    on_upper = (np.abs(position - upper) < tolerance) & periodic
    on_lower = (np.abs(position - lower) < tolerance) & periodic
    identified = on_upper.any(axis=1)
    masters = np.flatnonzero(~identified[: index_map.size_local]).astype(np.int32)
    vector = la.vector(index_map, 1, dtype=np.float64)
    vector.array[masters] = np.arange(len(masters)) + (comm.scan(len(masters)) - len(masters))
    vector.scatter_forward()
    numbers = vector.array.astype(np.int64)
    if periodic.any():
        partners = masters[on_lower[masters].any(axis=1)]
        places = np.concatenate(comm.allgather(position[partners]))
        their_numbers = np.concatenate(comm.allgather(numbers[partners]))
        wrapped = np.where(on_upper, lower, position)[identified]
        distance, nearest = cKDTree(places / (upper - lower)).query(wrapped / (upper - lower))
        matched = bool(np.all(distance < 10 * _MATCH)) and len(places) > 0
        if not comm.allreduce(matched, MPI.LAND):
            raise ArgumentError("periodic", "opposite faces of the mesh carry no matching nodes; make the mesh periodic in Gmsh")
        numbers[identified] = their_numbers[nearest] if len(places) else 0
    return numbers, masters


def _local_indices(numbers: NDArray[np.int64], ghosts: NDArray[np.int64], first: int, owned: int) -> Integers:
    inside = (numbers >= first) & (numbers < first + owned)
    return np.where(inside, numbers - first, owned + np.searchsorted(ghosts, numbers)).astype(np.int32)


def exchange_of(comm: MPI.Intracomm, ghosts: NDArray[np.int64], first: int, owned: int) -> Exchange:
    """Tell every owner once which of its unknowns are ghosts here; afterwards values travel without indices."""
    starts = np.array(comm.allgather(first))
    owner = np.searchsorted(starts, ghosts, side="right") - 1
    wanted = [ghosts[owner == rank] for rank in range(comm.size)]
    asked = comm.alltoall(wanted)
    sources = [rank for rank in range(comm.size) if len(wanted[rank])]
    targets = [rank for rank in range(comm.size) if len(asked[rank])]
    neighbours = comm.Create_dist_graph_adjacent(sources, targets)
    exchange = Exchange(
        comm=neighbours,
        owned=owned,
        send=np.concatenate([asked[rank] - first for rank in targets] or [np.zeros(0)]).astype(np.int32),
        send_counts=np.array([len(asked[rank]) for rank in targets], np.int32),
        receive_counts=np.array([len(wanted[rank]) for rank in sources], np.int32),
    )
    keep(comm, exchange, neighbours.Free)
    return exchange


def _with_ghosts(exchange: Exchange, points: Array, ghosts: int) -> Array:
    """Owned points, shape (owned, D), followed by those of the ghosts."""
    columns = []
    for owned_values in points.T:
        column = np.concatenate([owned_values, np.empty(ghosts)])
        exchange.update(column)
        columns.append(column)
    return np.column_stack(columns)


def _edge_graph(offsets: Integers, columns: Integers, stiffness: Array, mass: Array) -> EdgeGraph:
    owned = len(offsets) - 1
    row = np.repeat(np.arange(owned, dtype=np.int32), np.diff(offsets))
    lumped = np.bincount(row, weights=mass, minlength=owned)
    off_diagonal = columns != row
    counts = np.bincount(row[off_diagonal], minlength=owned)
    # Right angles give s_ij = 0 up to rounding; an exact zero keeps such edges out of the count of bad ones.
    scale = np.abs(stiffness).max(initial=0.0)
    stiffness = np.where(np.abs(stiffness) < 1e-13 * scale, 0.0, stiffness)
    return EdgeGraph(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        columns=columns[off_diagonal],
        stiffness=stiffness[off_diagonal],
        mass=mass[off_diagonal],
        lumped=lumped,
    )


def _on_wall(space: fem.FunctionSpace, numbers: NDArray[np.int64], owned: int, lumped: Array) -> NDArray[np.bool_]:
    """An unknown lies on a wall just when ∫∇φ_i ≠ 0; on identified faces the two halves cancel."""
    dimension = space.mesh.geometry.dim
    direction = fem.Constant(space.mesh, np.zeros(dimension))
    linear = fem.form(ufl.inner(ufl.grad(ufl.TestFunction(space)), direction) * ufl.dx)
    on_wall = np.zeros(owned, bool)
    for k in range(dimension):
        direction.value[:] = np.eye(dimension)[k]
        outward = identified_sum(space, numbers, owned, fem.assemble_vector(linear).array)
        on_wall |= np.abs(outward) > 1e-8 * lumped ** ((dimension - 1) / dimension)
    return on_wall
