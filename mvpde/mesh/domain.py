"""Simplicial meshes as edge graphs: what the solver knows of a mesh, and how ranks exchange values on it.

Every conservative operator on P1 elements is a sum of antisymmetric fluxes over mesh edges, so the solver needs of the mesh only
the graph of its unknowns with the numbers m_i = ∫φ_i (lumped mass), m_ij = ∫φ_iφ_j and s_ij = −∫∇φ_i·∇φ_j. With a metric λ²|dz|²
these are integrals of its volume, λ^D in the masses and λ^{D−2} in s_ij, and nothing downstream knows of it. Periodic directions
identify unknowns on opposite faces, and nothing downstream knows of them either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

from dolfinx import fem

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
        comm: the communicator of its ranks, of ours (see `mvpde.mesh.communicators`).
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

    @property
    def points(self) -> int:
        """Number of mesh points, identified ones counted each."""
        return int(self.space.dofmap.index_map.size_global)

    def from_mesh(self, values: Array) -> Array:
        """Values at owned and ghost unknowns (local) from those at all mesh points in input order. Collective."""
        local = np.empty(self.owned + len(self.ghosts))
        local[self.of_mesh] = values[_input_indices(self.space)]
        self.exchange.update(local)
        return local


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
