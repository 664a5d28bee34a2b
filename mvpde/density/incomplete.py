"""Incomplete LU factors of a matrix on an edge graph over several ranks: interiors first, the interface between ranks last.

An unknown with a neighbour on a lower rank belongs to the *interface* Γ. Interiors of different ranks then do not touch, and
every rank eliminates its own at once, towards the interface. What that leaves there, A_ΓΓ − Σ_p A_Γp A_pp⁻¹ A_pΓ, goes to the
ranks that own its unknowns and is factored by them, without couplings between interface unknowns of different ranks. Two ranks
then need about as many iterations as one, where block-Jacobi needs twice as many. Fill is kept up to a level (`incomplete_rows`).
For the order of elimination see Hysom & Pothen, SIAM J. Sci. Comput. 22 (2001) 2194.
"""

from __future__ import annotations

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numpy.typing import NDArray

from mvpde.density.incomplete_rows import Rows, Sweeps, rows

Array = NDArray[np.float64]
Integers = NDArray[np.int32]
Numbers = NDArray[np.int64]

_MORE_AT_INTERFACE = 2, 6  # levels of fill beyond the interior's, in the rows of the interface and in its own factors


class IncompleteFactors:
    """Solves (M + a𝓛)z = r approximately, −𝓛 an edge-flux operator and M the lumped mass. Collective.

    The pattern is laid out once; `set` computes the factors.

    Attributes:
        mirrored: entries (i, j) of the graph at which A_ji is asked for too: from the interior to unknowns of higher ranks.
    """

    def __init__(self, domain: Domain, level: int) -> None:
        """Lay out factors with fill up to ``level`` ≥ 0."""
        graph, owned, n = domain.graph, domain.owned, len(domain.coordinates)
        row, column = graph.rows(), graph.columns
        lower = np.append(np.zeros(owned, bool), domain.ghosts < domain.first)
        interface = np.zeros(owned, bool)
        interface[row[lower[column]]] = True
        beside = np.zeros(owned, bool)
        beside[row[(column >= owned) | interface[np.minimum(column, owned - 1)]]] = True
        inner = _order(domain, ~interface, beside & ~interface)
        self._domain = domain
        self._local = np.concatenate([inner, np.flatnonzero(interface), np.arange(owned, n)]).astype(np.int32)
        position = np.empty(n, np.int32)
        position[self._local] = np.arange(n, dtype=np.int32)
        owners = np.searchsorted(np.array(domain.comm.allgather(domain.first)), domain.ghosts, side="right") - 1
        group = np.append(np.full(owned, domain.comm.rank), owners).astype(np.int32)
        # rows of ghosts are known here as far as the interior is concerned, because k_gi stands beside k_ig
        kept, self.mirrored = (column < owned) | ~interface[row], np.flatnonzero((column >= owned) & ~interface[row])
        ends = np.append(row[kept], column[self.mirrored]), np.append(column[kept], row[self.mirrored])
        self._kept = slice(None) if kept.all() else np.flatnonzero(kept)
        self._rows = rows(position[ends[0]], position[ends[1]], n, len(inner), group, (level, level + _MORE_AT_INTERFACE[0]))
        self._sweeps = Sweeps(self._rows, self._local)
        alone = domain.comm.size == 1
        self._interface = None if alone else Interface(domain, self._rows, self._local, group, level + _MORE_AT_INTERFACE[1])

    def set(self, values: Array, mirrored: Array, diagonal: Array) -> None:
        """Factor the matrix with A_ij at each entry (i, j) of the graph, A_ji at those that ``mirrored`` lists, and A_ii."""
        r, mine = self._rows, values[self._kept]
        r.values[:] = 0.0
        r.values[r.places[: len(mine)]] = mine
        r.values[r.places[len(mine) :]] = mirrored
        r.values[r.diagonal[: len(diagonal)]] = diagonal[self._local[: len(diagonal)]]
        self._sweeps.eliminate()
        if self._interface is not None:
            self._interface.set()

    def apply(self, z: Array) -> None:
        """Overwrite r in the owned part of z (owned + ghosts) by the solution, and fill in its ghosts."""
        z[self._domain.owned :] = 0.0
        self._sweeps.forward(z)
        if self._interface is not None:
            self._interface.apply(z)
            self._domain.exchange.update(z)
        self._sweeps.backward(z)
        self._domain.exchange.update(z)


def _order(domain: Domain, inner: NDArray[np.bool_], beside: NDArray[np.bool_]) -> Numbers:
    """The ``inner`` unknowns along the diagonal of the bounding box, those ``beside`` the interface rather last.

    Both are masks of owned unknowns. The direction matters where A is anisotropic: on box meshes, whose edges run along the axes
    and this diagonal, no edge lies in such a front, and incomplete factors lose less than along other fronts.
    """
    lower, upper = np.array(domain.lower), np.array(domain.upper)
    along = ((domain.coordinates[: domain.owned] - lower) / (upper - lower)).sum(axis=1)
    if beside.any() and along[beside].mean() < along[inner].mean():
        along = -along
    unknowns = np.flatnonzero(inner)
    return unknowns[np.argsort(np.round(along[unknowns], 9), kind="stable")]


class Interface:
    """What is left at this rank's interface unknowns when all interiors are eliminated, factored. Collective."""

    def __init__(self, domain: Domain, r: Rows, local: Integers, group: Integers, level: int) -> None:
        """Lay out the rows of this rank's interface, with what higher and lower ranks contribute to each other's.

        Args:
            domain: where.
            r: rows of this rank, those of the interface and of ghosts not eliminated.
            local: local unknown at each position of ``r``.
            group: rank that owns each position.
            level: of fill.
        """
        comm, owned, first = domain.comm, domain.owned, domain.first
        n = owned - r.pivots
        row = np.repeat(np.arange(len(r.offsets) - 1), np.diff(r.offsets))
        left = (row >= r.pivots) & (r.columns >= r.pivots)
        higher = [rank for rank in range(comm.rank + 1, comm.size) if np.any(group == rank)]
        entries = [np.flatnonzero(left & (group[row] == rank)) for rank in higher]
        unknowns = [np.flatnonzero(group == rank) for rank in higher]  # ghosts: position and local number are the same
        messages: list[list[Numbers] | None] = [None] * comm.size
        for rank, mine, ghosts in zip(higher, entries, unknowns, strict=True):
            messages[rank] = [domain.ghosts[x - owned] for x in (ghosts, row[mine], r.columns[mine])]
        received = {rank: message for rank, message in enumerate(comm.alltoall(messages)) if message is not None}
        targets, r_far, c_far = (_joined([message[k] for message in received.values()]) - first for k in range(3))
        place = np.zeros(owned, np.int64)
        place[local[r.pivots : owned]] = np.arange(n)
        self._mine = np.flatnonzero(left & (row < owned))
        self._all, self._domain = r, domain
        near_rows, near_columns = row[self._mine] - r.pivots, r.columns[self._mine] - r.pivots
        from_rows, from_columns = np.append(near_rows, place[r_far]), np.append(near_columns, place[c_far])
        self._rows = rows(from_rows.astype(np.int32), from_columns.astype(np.int32), n, n, np.zeros(n, np.int32), (level, level))
        self._sweeps = Sweeps(self._rows, local[r.pivots : owned])
        self._comm = comm.Create_dist_graph_adjacent(list(received), higher)
        self._entries, self._unknowns, self._targets = _joined(entries), _joined(unknowns), targets
        self._entry_counts = _counts(entries), _counts([message[1] for message in received.values()])
        self._unknown_counts = _counts(unknowns), _counts([message[0] for message in received.values()])

    def set(self) -> None:
        """Factor what the elimination of the interiors has left."""
        r, values = self._rows, self._all.values
        contributions = self._upwards(values[self._entries], self._entry_counts)
        everything = np.append(values[self._mine], contributions)
        r.values[:] = np.bincount(r.places, weights=everything, minlength=len(r.values))
        self._sweeps.eliminate()

    def apply(self, z: Array) -> None:
        """Solve for the interface unknowns of z (owned + ghosts), whose ghosts hold what their owners are to add."""
        np.add.at(z, self._targets, self._upwards(z[self._unknowns], self._unknown_counts))
        self._sweeps.forward(z)
        self._sweeps.backward(z)

    def _upwards(self, values: Array, counts: tuple[Integers, Integers]) -> Array:
        """Send to the higher ranks; what came from the lower ones."""
        received = np.empty(counts[1].sum())
        self._comm.Neighbor_alltoallv([values, counts[0]], [received, counts[1]])
        return received


def _joined(parts: list[Numbers]) -> Numbers:
    return np.concatenate([*parts, np.zeros(0)]).astype(np.int64)


def _counts(parts: list[Numbers]) -> Integers:
    return np.array([len(part) for part in parts], np.int32)
