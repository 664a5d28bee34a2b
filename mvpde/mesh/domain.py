"""Simplicial meshes as edge graphs: boxes, periodic directions by identified unknowns, ghosts, gathering.

Any conservative operator on P1 elements is a sum of antisymmetric fluxes over mesh edges, so the solver needs of the mesh only
the graph of its unknowns with the numbers m_i = ∫φ_i (lumped mass), m_ij = ∫φ_iφ_j and s_ij = −∫∇φ_i·∇φ_j. With a metric λ²|dz|²
these are integrals of its volume, λ^D in the masses and λ^{D−2} in s_ij, and nothing downstream knows of it. Periodic directions
identify unknowns on opposite faces (the assembled matrix A becomes PᵀAP), so nothing downstream knows of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import MPI, CaseError  # isort: skip  (loads the solver libraries)

import basix
import basix.ufl
import dolfinx.graph
import ufl
from dolfinx import fem, la, mesh
from petsc4py import PETSc
from scipy.spatial import cKDTree

from mvpde.mesh.formcache import clear_stale_forms
from mvpde.models.shell import Shell

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_IMBALANCE = 0.01  # the ranks' shares of a box differ by less; DOLFINx's 0.025 leaves one of two ranks 1.2 % more than its half
_DEGREE = 4  # of the quadrature of a metric: its λ changes by a part of order h over a cell
_MATCH = 1e-9  # periodic partners agree to this part of the box size


@dataclass(frozen=True)
class Exchange:
    """Copies owned values to the ranks that hold them as ghosts. Ghosts are sorted by owner, so they are received in place.

    Attributes:
        comm: neighbourhood communicator.
        owned: number of owned unknowns of this rank; ghosts follow them.
        send: local indices of the owned values to send, neighbour after neighbour.
        send_counts, receive_counts: how many go to and come from each neighbour.
    """

    comm: MPI.Distgraphcomm
    owned: int
    send: Integers
    send_counts: Integers
    receive_counts: Integers

    def update(self, values: Array) -> None:
        """Overwrite the ghost part of ``values`` (owned + ghosts, local) by its owners' values. Collective."""
        self.comm.Neighbor_alltoallv([values[self.send], self.send_counts], [values[self.owned :], self.receive_counts])


@dataclass(frozen=True)
class EdgeGraph:
    """The rows of this rank's unknowns in compressed form, without the diagonal; ``columns`` are local indices, ghosts included.

    Attributes:
        offsets: row i holds entries offsets[i]:offsets[i+1], shape (owned + 1,).
        columns: neighbour j of each entry, shape (entries,).
        stiffness: s_ij = −∫∇φ_i·∇φ_j, shape (entries,); non-negative on boxes.
        mass: m_ij = ∫φ_iφ_j, shape (entries,).
        lumped: m_i = ∫φ_i, shape (owned,).
    """

    offsets: Integers
    columns: Integers
    stiffness: Array
    mass: Array
    lumped: Array

    def rows(self) -> Integers:
        """The row i of each entry, shape (entries,)."""
        return np.repeat(np.arange(len(self.lumped), dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True)
class Domain:
    """A mesh of D dimensions and the graph of its unknowns; arrays are local to the rank.

    Attributes:
        comm: the communicator the mesh lives on.
        dimension: D, 1 to 3.
        nodes: number of unknowns over all ranks, identified ones counted once.
        lower, upper: bounding box, D numbers each.
        periods: length of each periodic direction, None elsewhere.
        coordinates: positions of owned and ghost unknowns, shape (owned + ghosts, D).
        first: number of the first owned unknown over all ranks.
        ghosts: numbers of the ghosts over all ranks.
        graph, exchange: see there.
        boundary: whether an owned unknown lies on a wall (periodic faces are none), shape (owned,).
        space: P1 space on the DOLFINx mesh.
        numbers: unknown (numbered over all ranks) of each local degree of freedom of ``space``, ghosts included.
        of_mesh: local unknown of each owned degree of freedom of ``space``.
        metric: that the integrals are taken in, None for |dz|².
    """

    comm: MPI.Intracomm
    dimension: int
    nodes: int
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    periods: tuple[float | None, ...]
    coordinates: Array
    first: int
    ghosts: NDArray[np.int64]
    graph: EdgeGraph
    exchange: Exchange
    boundary: NDArray[np.bool_]
    space: fem.FunctionSpace
    numbers: NDArray[np.int64]
    of_mesh: Integers
    metric: Shell | None = None

    @property
    def owned(self) -> int:
        """Number of unknowns this rank owns."""
        return self.exchange.owned

    @property
    def unknowns(self) -> NDArray[np.int64]:
        """Numbers over all ranks of the local unknowns, ghosts included, shape (owned + ghosts,)."""
        return np.concatenate([np.arange(self.first, self.first + self.owned), self.ghosts])

    def sum(self, values: Array) -> Array:
        """Σ over ranks of ``values`` (local contributions, any shape). Collective."""
        total = np.array(values, dtype=np.float64)
        self.comm.Allreduce(MPI.IN_PLACE, total)
        return total

    def extremes(self, values: Array) -> tuple[float, float]:
        """Smallest and largest of owned ``values`` (local) over all ranks. Collective."""
        pair = np.array([-values.min(initial=np.inf), values.max(initial=-np.inf)])
        self.comm.Allreduce(MPI.IN_PLACE, pair, MPI.MAX)
        return -float(pair[0]), float(pair[1])

    def mesh_arrays(self) -> tuple[Array, NDArray[np.int64]] | None:
        """Points, shape (n, 3), and cells, shape (m, D + 1), in the order the mesh was given in, on rank 0; None elsewhere.

        The order does not depend on the number of ranks. Collective.
        """
        geometry, topology = self.space.mesh.geometry, self.space.mesh.topology
        local = geometry.index_map().size_local
        points = _gather_ordered(self.comm, geometry.input_global_indices[:local], geometry.x[:local])
        count = topology.index_map(topology.dim).size_local
        cells = _gather_ordered(
            self.comm, topology.original_cell_index[:count], geometry.input_global_indices[geometry.dofmaps[0][:count]]
        )
        return None if points is None or cells is None else (points, cells)

    def to_mesh(self, values: Array) -> Array | None:
        """Values at the n mesh points in input order on rank 0, None elsewhere, from owned values (local). Collective."""
        local = np.empty(self.owned + len(self.ghosts))
        local[: self.owned] = values[: self.owned]
        self.exchange.update(local)
        return _gather_ordered(self.comm, _input_indices(self.space), local[self.of_mesh])


def box(
    comm: MPI.Intracomm,
    lower: Sequence[float],
    upper: Sequence[float],
    cells: Sequence[int],
    periodic: Sequence[bool] | None = None,
) -> Domain:
    """A box of intervals, triangles or tetrahedra, all without obtuse angles. Collective.

    Args:
        comm: communicator.
        lower, upper: corners, D = 1, 2 or 3 numbers each, lower < upper.
        cells: number of cells per direction, each ≥ 1 (≥ 3 where periodic).
        periodic: which directions are closed to a circle; none by default.

    Raises:
        CaseError: for sizes that make no mesh, on all ranks alike.
    """
    dimension = len(cells)
    periodic = tuple(periodic) if periodic is not None else (False,) * dimension
    _check_box(lower, upper, cells, periodic)
    grid: mesh.Mesh
    corners, even = [np.array(lower, float), np.array(upper, float)], _even_shares()
    if dimension == 1:
        grid = mesh.create_interval(comm, int(cells[0]), [float(lower[0]), float(upper[0])], partitioner=even)
    elif dimension == 2:
        grid = mesh.create_rectangle(comm, corners, list(map(int, cells)), partitioner=even)
    else:
        grid = mesh.create_box(comm, corners, list(map(int, cells)), partitioner=even)
    return from_mesh(grid, periodic)


def from_mesh(grid: mesh.Mesh, periodic: Sequence[bool], metric: Shell | None = None) -> Domain:
    """The edge graph of a DOLFINx mesh of simplices, its integrals with the volume of ``metric``. Collective.

    Raises:
        CaseError: if a periodic direction has no matching nodes on opposite faces, on all ranks alike.
    """
    comm, dimension = grid.comm, grid.geometry.dim
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
    exchange = _exchange(comm, ghosts, first, owned)
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


def _weights(space: fem.FunctionSpace, metric: Shell | None) -> tuple[Any, Any, ufl.Measure]:
    """λ^D and λ^{D−2} at the points of a quadrature rule, and the measure dx that uses it; 1 and 1 without a metric."""
    if metric is None:
        return 1.0, 1.0, ufl.dx
    grid, dimension = space.mesh, space.mesh.geometry.dim
    rule = basix.ufl.quadrature_element(grid.basix_cell(), degree=_DEGREE)
    points = fem.functionspace(grid, rule)
    weights = []
    for power in (dimension, dimension - 2):
        weight = fem.Function(points)
        weight.interpolate(lambda x, power=power: metric.scale(x[:dimension].T) ** power)
        weights.append(weight)
    return *weights, ufl.dx(metadata={"quadrature_rule": "default", "quadrature_degree": _DEGREE})


def identified_rows(
    integrand: ufl.Form, space: fem.FunctionSpace, numbers: NDArray[np.int64], owned: int
) -> tuple[Integers, NDArray[np.int64], Array]:
    """PᵀAP of the bilinear form's matrix A by rows of owned unknowns: offsets, columns numbered over all ranks, values.

    ``numbers`` are the unknowns of the local degrees of freedom, ghosts included. All forms of one space share one pattern.
    Collective.
    """
    matrix = fem.assemble_matrix(fem.form(integrand))
    matrix.scatter_reverse()
    rows = space.dofmap.index_map.size_local
    end = matrix.indptr[rows]
    identified = PETSc.Mat().create(space.mesh.comm)
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


def identified_sum(space: fem.FunctionSpace, numbers: NDArray[np.int64], owned: int, values: Array) -> Array:
    """Pᵀb: contributions at the local degrees of freedom (ghosts included), summed into owned unknowns (local). Collective."""
    vector = PETSc.Vec().createMPI((owned, None), comm=space.mesh.comm)
    vector.setValues(numbers.astype(PETSc.IntType), values, addv=PETSc.InsertMode.ADD_VALUES)
    vector.assemble()
    total = vector.getArray().copy()
    vector.destroy()
    return total


def _check_box(lower: Sequence[float], upper: Sequence[float], cells: Sequence[int], periodic: Sequence[bool]) -> None:
    if not 1 <= len(cells) <= 3:
        raise CaseError(f"[domain] cells: a mesh has 1 to 3 directions, not {len(cells)}; leave the density out for this model")
    if not len(lower) == len(upper) == len(cells) == len(periodic):
        raise CaseError("[domain] lower, upper, cells and periodic: give one entry per direction in each")
    for k, (a, b, n, p) in enumerate(zip(lower, upper, cells, periodic, strict=True), start=1):
        if not a < b:
            raise CaseError(f"[domain] lower, upper: direction {k} runs from {a} to {b}; the upper end must be larger")
        if n < (3 if p else 1):
            raise CaseError(f"[domain] cells: direction {k} has {n}; give at least {3 if p else 1}")


def _even_shares() -> Any:
    """Partitioner into nearly equal shares, since every stage waits for the slowest rank; None, the default, without SCOTCH."""
    if not dolfinx.has_ptscotch:
        return None
    return mesh.create_cell_partitioner(dolfinx.graph.partitioner_scotch(_IMBALANCE), mesh.GhostMode.shared_facet, 2)


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
    comm, index_map = space.mesh.comm, space.dofmap.index_map
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
            raise CaseError(
                "[domain] periodic: opposite faces of the mesh carry no matching nodes; make the mesh periodic in Gmsh"
            )
        numbers[identified] = their_numbers[nearest] if len(places) else 0
    return numbers, masters


def _local_indices(numbers: NDArray[np.int64], ghosts: NDArray[np.int64], first: int, owned: int) -> Integers:
    inside = (numbers >= first) & (numbers < first + owned)
    return np.where(inside, numbers - first, owned + np.searchsorted(ghosts, numbers)).astype(np.int32)


def _exchange(comm: MPI.Intracomm, ghosts: NDArray[np.int64], first: int, owned: int) -> Exchange:
    """Tell every owner once which of its unknowns are ghosts here; afterwards values travel without indices."""
    starts = np.array(comm.allgather(first))
    owner = np.searchsorted(starts, ghosts, side="right") - 1
    wanted = [ghosts[owner == rank] for rank in range(comm.size)]
    asked = comm.alltoall(wanted)
    sources = [rank for rank in range(comm.size) if len(wanted[rank])]
    targets = [rank for rank in range(comm.size) if len(asked[rank])]
    return Exchange(
        comm=comm.Create_dist_graph_adjacent(sources, targets),
        owned=owned,
        send=np.concatenate([asked[rank] - first for rank in targets] or [np.zeros(0)]).astype(np.int32),
        send_counts=np.array([len(asked[rank]) for rank in targets], np.int32),
        receive_counts=np.array([len(wanted[rank]) for rank in sources], np.int32),
    )


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


def _gather_ordered(comm: MPI.Intracomm, order: NDArray[np.integer], values: NDArray) -> NDArray | None:  # type: ignore[type-arg]
    """Rows of all ranks on rank 0, sorted by their numbers ``order`` (0, 1, … over all ranks); None elsewhere. Collective."""
    orders, rows = comm.gather(np.asarray(order)), comm.gather(np.asarray(values))
    if orders is None or rows is None:
        return None
    position, gathered = np.concatenate(orders), np.concatenate(rows)
    result = np.empty_like(gathered)
    result[position] = gathered
    return result


def _input_indices(space: fem.FunctionSpace) -> NDArray[np.int64]:
    """Number in mesh-input order of each owned degree of freedom of a P1 space."""
    geometry = space.mesh.geometry
    point = np.empty(space.dofmap.index_map.size_local + space.dofmap.index_map.num_ghosts, np.int64)
    point[space.dofmap.list] = geometry.input_global_indices[geometry.dofmaps[0]]
    return point[: space.dofmap.index_map.size_local]
