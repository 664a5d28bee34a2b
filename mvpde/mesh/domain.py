"""Simplicial meshes as edge graphs: what the solver knows of a mesh, and how ranks exchange values on it.

Every conservative operator on P1 elements is a sum of antisymmetric fluxes over mesh edges, so the solver needs of the mesh only
the graph of its unknowns with the numbers m_i = ∫φ_i (lumped mass), m_ij = ∫φ_iφ_j and s_ij = −∫∇φ_i·∇φ_j. With a metric λ²|dz|²
these are integrals of its volume, λ^D in the masses and λ^{D−2} in s_ij, and nothing downstream knows of it. Periodic directions
identify unknowns on opposite faces, and nothing downstream knows of them either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

from dolfinx import fem

from mvpde.mesh.recovery import Recovery, recovery
from mvpde.models.shell import Shell

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


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
        """Overwrite the ghost part of ``values`` (owned + ghosts, or as many rows; local) by its owners' values. Collective."""
        if self.comm.size > 1:
            width = values[:1].size
            send, receive = width * self.send_counts, width * self.receive_counts
            self.comm.Neighbor_alltoallv([values[self.send], send], [values[self.owned :], receive])


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
class Part:
    """One mesh of a disjoint union, see `mvpde.mesh.union`.

    Attributes:
        domain: the mesh.
        weight: ω > 0, which multiplies all its integrals.
        label: what follows the coordinates of its points in those of the union.
        local: local unknown of the union for each local unknown of the mesh, shape (owned + ghosts,).
    """

    domain: Domain
    weight: float
    label: tuple[float, ...]
    local: Integers


@dataclass(frozen=True)
class Domain:
    """A mesh of D dimensions and the graph of its unknowns; arrays are local to the rank.

    Attributes:
        comm: the communicator of its ranks, of ours (see `mvpde.mesh.communicators`).
        dimension: D, 1 to 3.
        nodes: number of unknowns over all ranks, identified ones counted once.
        lower, upper: bounding box, D numbers each.
        periods: length of each periodic direction, None elsewhere.
        coordinates: positions of owned and ghost unknowns, shape (owned + ghosts, D), or D + L in a union with L numbers in
            each label.
        first: number of the first owned unknown over all ranks.
        ghosts: numbers of the ghosts over all ranks.
        graph, exchange: see there.
        boundary: whether an owned unknown lies on a wall (periodic faces are none), shape (owned,).
        space: P1 space on the DOLFINx mesh.
        numbers: unknown (numbered over all ranks) of each local degree of freedom of ``space``, ghosts included.
        of_mesh: local unknown of each owned degree of freedom of ``space``.
        metric: that the integrals are taken in, None for |dz|².
        parts: the meshes of a disjoint union, in order; ``space``, ``numbers`` and ``of_mesh`` are then those of the first
            alone. Empty for a mesh that is none.
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
    parts: tuple[Part, ...] = ()

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

    @cached_property
    def recovery(self) -> Recovery:
        """Each edge once, and what gradients at the nodes are found with. Collective at its first use."""
        return recovery(self)

    def mesh_arrays(self) -> tuple[Array, NDArray[np.int64]] | None:
        """Points, shape (n, 3), and cells, shape (m, D + 1), in the order the mesh was given in, on rank 0; None elsewhere.

        The order does not depend on the number of ranks. Of a union it is the first mesh. Collective.
        """
        if self.parts:
            return self.parts[0].domain.mesh_arrays()
        geometry, topology = self.space.mesh.geometry, self.space.mesh.topology
        local = geometry.index_map().size_local
        points = gather_ordered(self.comm, geometry.input_global_indices[:local], geometry.x[:local])
        count = topology.index_map(topology.dim).size_local
        cells = gather_ordered(
            self.comm, topology.original_cell_index[:count], geometry.input_global_indices[geometry.dofmaps[0][:count]]
        )
        return None if points is None or cells is None else (points, cells)

    def to_mesh(self, values: Array) -> Array | None:
        """Values at the n mesh points in input order on rank 0, None elsewhere, from owned values (local). Collective.

        Of a union: those of one mesh after the other.
        """
        if self.parts:
            pieces = [part.domain.to_mesh(values[part.local[: part.domain.owned]]) for part in self.parts]
            return _joined(pieces)
        local = np.empty(self.owned + len(self.ghosts))
        local[: self.owned] = values[: self.owned]
        self.exchange.update(local)
        return gather_ordered(self.comm, _input_indices(self.space), local[self.of_mesh])

    @property
    def points(self) -> int:
        """Number of mesh points, identified ones counted each."""
        if self.parts:
            return sum(part.domain.points for part in self.parts)
        return int(self.space.dofmap.index_map.size_global)

    def from_mesh(self, values: Array) -> Array:
        """Values at owned and ghost unknowns (local) from those at all mesh points in input order. Collective."""
        local = np.empty(self.owned + len(self.ghosts))
        if self.parts:
            ends = np.cumsum([part.domain.points for part in self.parts])
            for part, piece in zip(self.parts, np.split(values, ends[:-1]), strict=True):
                local[part.local] = part.domain.from_mesh(piece)
            return local
        local[self.of_mesh] = values[_input_indices(self.space)]
        self.exchange.update(local)
        return local

    # -- disjoint unions: a mesh of its own is the union of itself alone, with weight 1

    @cached_property
    def part(self) -> Integers:
        """The number of the part that each local unknown belongs to, shape (owned + ghosts,)."""
        number = np.zeros(self.owned + len(self.ghosts), np.int32)
        for k, part in enumerate(self.parts):
            number[part.local] = k
        return number

    @cached_property
    def weights(self) -> Array:
        """ω of each part, shape (Q,): the mass that a law has there, for nothing goes from one to another."""
        return np.array([part.weight for part in self.parts] or [1.0])

    @cached_property
    def labels(self) -> Array:
        """The label of each part, shape (Q, L)."""
        return np.array([part.label for part in self.parts] or [()])

    def part_sums(self, values: Array) -> Array:
        """Σ_i values_i over the owned unknowns of each part and over ranks, shape (Q,), from owned values (local). Collective."""
        owned = values[: self.owned]
        if not self.parts:
            return self.sum(np.array([owned.sum()]))
        return self.sum(np.bincount(self.part[: self.owned], weights=owned, minlength=len(self.parts)))

    def part_masses(self, values: Array) -> Array:
        """Σ_i m_i values_i of each part, shape (Q,), from owned values (local). Collective."""
        owned, lumped = values[: self.owned], self.graph.lumped
        return self.part_sums(lumped * owned) if self.parts else self.sum(np.array([lumped @ owned]))

    def part_minima(self, values: Array) -> Array:
        """The smallest of the owned ``values`` (local) of each part over all ranks, shape (Q,). Collective."""
        lowest = np.full(len(self.weights), np.inf)
        np.minimum.at(lowest, self.part[: self.owned], values[: self.owned])
        self.comm.Allreduce(MPI.IN_PLACE, lowest, MPI.MIN)
        return lowest

    def spread(self, numbers: Array, values: Array) -> Array:
        """One of the ``numbers`` of the parts, shape (Q, …), for each of the ``values`` (owned, or owned + ghosts; local)."""
        return np.asarray(numbers[self.part[: len(values)]])

    def normalised(self, values: Array) -> Array:
        """The values (owned, or owned + ghosts; local) each part scaled to have its weight as its mass. Collective."""
        return np.asarray(values / self.spread(self.part_masses(values) / self.weights, values))

    def averaged(self, values: Array) -> Array | None:
        """Σ_q ω_q values_q at the points of the one mesh that all parts are copies of, on rank 0; None elsewhere. Collective.

        Of a mesh of its own: `to_mesh`.
        """
        on_mesh = self.to_mesh(values)
        if on_mesh is None or not self.parts:
            return on_mesh
        return np.asarray(self.weights / self.weights.sum() @ on_mesh.reshape(len(self.parts), -1))


def _joined(pieces: list[Array | None]) -> Array | None:
    there = [piece for piece in pieces if piece is not None]
    return np.concatenate(there) if len(there) == len(pieces) else None


def gather_ordered(comm: MPI.Intracomm, order: NDArray[np.integer], values: NDArray) -> NDArray | None:  # type: ignore[type-arg]
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
