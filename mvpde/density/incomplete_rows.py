"""Rows of incomplete LU factors on one rank: their pattern by levels of fill, their elimination, and sweeps with them.

Fill is kept up to a level (Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., §10.3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_PIVOT = 1e-6  # of the diagonal: smaller pivots are replaced by it


@dataclass(frozen=True)
class Rows:
    """Rows of incomplete factors in the order of elimination; only the first ``pivots`` unknowns are eliminated.

    Attributes:
        offsets, columns: the entries of each row, columns (positions) ascending.
        diagonal: the entry of each row that is its diagonal.
        pivots: number of unknowns that are eliminated.
        places: where the entries are that the rows were made from.
        values: of the entries.
    """

    offsets: Integers
    columns: Integers
    diagonal: Integers
    pivots: int
    places: Integers
    values: Array


def rows(row: Integers, column: Integers, n: int, pivots: int, group: Integers, levels: tuple[int, int]) -> Rows:
    """Rows of n unknowns with the given entries and the diagonal, filled in up to ``levels`` (eliminated, other rows).

    Entries between unknowns that are not eliminated are kept only within a ``group``, shape (n,).
    """
    everything = np.arange(n, dtype=np.int32)
    ends = np.append(row, everything), np.append(column, everything)
    given = csr_array((np.ones(len(ends[0]), np.int8), ends), shape=(n, n))
    given.sum_duplicates()  # which also sorts
    filled, kept = _fill_in(given.indptr, given.indices, pivots, group, *levels)
    diagonal = _find(filled, kept, everything, everything)
    return Rows(filled, kept, diagonal, pivots, _find(filled, kept, row, column), np.zeros(len(kept)))


@njit(cache=True)
def _find(offsets: Integers, columns: Integers, row: Integers, column: Integers) -> Integers:
    """Where the entries (row, column) are."""
    found = np.empty(row.size, np.int32)
    for e in range(row.size):
        start = offsets[row[e]]
        found[e] = start + np.searchsorted(columns[start : offsets[row[e] + 1]], column[e])
    return found


@njit(cache=True)
def _fill_in(
    offsets: Integers, columns: Integers, pivots: int, group: Integers, level: int, outer: int
) -> tuple[Integers, Integers]:
    n = offsets.size - 1
    link = np.empty(n + 1, np.int32)  # columns of the row in work as a linked list, ascending, from place n to n + 1
    none = 127
    levels, filled, capacity = np.full(n, none, np.int32), np.zeros(n + 1, np.int32), (1 + min(level, 2)) * columns.size + 16
    kept, reached = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    for i in range(n):
        last, most = n, level if i < pivots else outer
        for j in columns[offsets[i] : offsets[i + 1]]:
            link[last] = j
            levels[j] = 0
            last = j
        link[last] = n + 1
        k = link[n]
        while k < min(i, pivots):
            before = k
            for e in range(filled[k], filled[k + 1]):
                j = kept[e]
                through = levels[k] + reached[e] + 1
                if j <= k or through > most or (i >= pivots and j >= pivots and group[i] != group[j]):
                    continue
                if levels[j] == none:
                    while link[before] < j:
                        before = link[before]
                    link[j] = link[before]
                    link[before] = j
                    before = j
                levels[j] = min(levels[j], through)
            k = link[k]
        size, k = filled[i], link[n]
        while k <= n:
            if size == capacity:
                kept, reached = np.append(kept, np.empty_like(kept)), np.append(reached, np.empty_like(reached))
                capacity = kept.size
            kept[size], reached[size] = k, levels[k]
            size += 1
            levels[k] = none
            k = link[k]
        filled[i + 1] = size
    return filled, kept[: filled[n]].copy()


@njit(cache=True, error_model="numpy")
def _eliminate(offsets: Integers, columns: Integers, diagonal: Integers, pivots: int, values: Array) -> None:
    """Rows of A → rows of L (unit diagonal left out) and U within the pattern; the inverse pivots go where the diagonal was."""
    n = offsets.size - 1
    place = np.full(n, -1, np.int32)
    for i in range(n):
        for e in range(offsets[i], offsets[i + 1]):
            place[columns[e]] = e
        size = abs(values[diagonal[i]])
        for e in range(offsets[i], offsets[i + 1]):
            k = columns[e]
            if k >= i or k >= pivots:
                break
            factor = values[e] * values[diagonal[k]]
            values[e] = factor
            for f in range(diagonal[k] + 1, offsets[k + 1]):
                p = place[columns[f]]
                if p >= 0:
                    values[p] -= factor * values[f]
        if i < pivots:
            pivot = values[diagonal[i]]
            values[diagonal[i]] = 1.0 / (pivot if abs(pivot) > _PIVOT * size else _PIVOT * size)
        for e in range(offsets[i], offsets[i + 1]):
            place[columns[e]] = -1


class Sweeps:
    """Solves with L and with U of some rows, in single precision (whose rounding no iteration notices), as fast as memory allows.

    Unsigned indices spare the test for negative ones.
    """

    def __init__(self, r: Rows, local: Integers) -> None:
        """``local``: the entry of a vector that each position stands for."""
        owner = np.repeat(np.arange(len(r.offsets) - 1, dtype=np.int32), np.diff(r.offsets))
        parts = (r.columns < np.minimum(owner, r.pivots)), (r.columns > owner) & (owner < r.pivots)
        self._rows, self._entries = r, [np.flatnonzero(part).astype(np.int32) for part in parts]
        self._local = local.astype(np.uint32)
        self._columns = [self._local[r.columns[entries]] for entries in self._entries]
        counts = [np.bincount(owner[entries], minlength=len(r.offsets) - 1) for entries in self._entries]
        self._offsets = [np.concatenate([[0], np.cumsum(count)]).astype(np.uint32) for count in counts]
        self._values = [np.zeros(len(entries), np.float32) for entries in self._entries]
        self._inverse = np.zeros(r.pivots)

    def eliminate(self) -> None:
        """Factor the values of the rows."""
        r = self._rows
        _eliminate(r.offsets, r.columns, r.diagonal, r.pivots, r.values)
        for mine, entries in zip(self._values, self._entries, strict=True):
            mine[:] = r.values[entries]
        self._inverse[:] = r.values[r.diagonal[: r.pivots]]

    def forward(self, z: Array) -> None:
        """z ← L⁻¹z at the eliminated unknowns, z − L_Γz at the others."""
        _forward(self._offsets[0], self._columns[0], self._values[0], self._local, z)

    def backward(self, z: Array) -> None:
        """z ← U⁻¹z at the eliminated unknowns, where the others are known."""
        _backward(self._offsets[1], self._columns[1], self._values[1], self._inverse, self._local, z)


@njit(cache=True)
def _forward(offsets: Integers, columns: Integers, values: Array, local: Integers, z: Array) -> None:
    for i in range(offsets.size - 1):
        total = z[local[i]]
        for e in range(offsets[i], offsets[i + 1]):
            total -= values[e] * z[columns[e]]
        z[local[i]] = total


@njit(cache=True)
def _backward(offsets: Integers, columns: Integers, values: Array, inverse: Array, local: Integers, z: Array) -> None:
    for i in range(inverse.size - 1, -1, -1):
        total = z[local[i]]
        for e in range(offsets[i], offsets[i + 1]):
            total -= values[e] * z[columns[e]]
        z[local[i]] = total * inverse[i]
