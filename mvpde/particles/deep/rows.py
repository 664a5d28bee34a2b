"""Rows of the weights of wide networks over the ranks: which a rank owns, their random streams, sums over them.

Weight θ_ij leads from unit i to unit j. The rows i of each of R runs are cut into blocks; a block of a layer, not a rank, owns a
random stream, and z_j = N⁻¹ Σ_i σ(z_i, θ_ij) is a sum over blocks in their order. So no weight knows how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.models.mean_field import Array
from mvpde.particles.blocks import Shares, Words, stream_from_array, stream_to_array
from mvpde.particles.deep.kernels import Integers

ROWS = 32  # rows of a block; changing it changes every run
KEPT_NUMBERS = 2**22  # values of activations that are kept for the way back: runs go through the sweeps in groups of this size


def network_stream(seed: int, run: int, layer: int, block: int) -> np.random.Generator:
    """The generator of a block of rows of layer ℓ: it draws their start, then their noise.

    Layers 0 and L are the first and the last weights, L + 1 the samples of SGD, each with the one block 0.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(run, layer, block))))


@dataclass(frozen=True)
class NetworkRows:
    """The rows of some runs that this rank owns.

    Attributes:
        shares: how the rows of these runs are cut and distributed.
        first_run: number of the first of them.
    """

    shares: Shares
    first_run: int = 0

    @property
    def runs(self) -> int:
        """How many."""
        return self.shares.runs

    @property
    def width(self) -> int:
        """N."""
        return self.shares.rows

    @cached_property
    def run(self) -> Integers:
        """The run of each row, counted from the first here, shape (R,)."""
        return self._of_blocks(lambda run, _, size: np.full(size, run))

    @cached_property
    def row(self) -> Integers:
        """i of each row, shape (R,)."""
        return self._of_blocks(lambda _, block, size: block * self.shares.block + np.arange(size))

    @cached_property
    def block(self) -> Integers:
        """The number among the blocks of this rank of the one that each row is in, shape (R,)."""
        return np.repeat(np.arange(len(self.shares.sizes)), self.shares.sizes).astype(np.int64)

    def _of_blocks(self, rows: Callable[[int, int, int], Integers]) -> Integers:
        parts = [rows(run, block, size) for (run, block), size in zip(self.shares.owned, self.shares.sizes, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

    def streams(self, seed: int, layer: int) -> list[np.random.Generator]:
        """Fresh streams of the owned blocks of a layer."""
        return [network_stream(seed, self.first_run + run, layer, block) for run, block in self.shares.owned]

    def drawn(
        self, streams: list[np.random.Generator], dimension: int, draw: Callable[[np.random.Generator, int], Array]
    ) -> Array:
        """``draw`` (stream, n) → shape (n, D) for the n weights of each owned block, as an array (D, R, N). Local."""
        weights, start = np.empty((dimension, len(self.run), self.width)), 0
        for rng, size in zip(streams, self.shares.sizes, strict=True):
            block = draw(rng, size * self.width).reshape(size, self.width, dimension)
            weights[:, start : start + size] = np.moveaxis(block, 2, 0)
            start += size
        return weights

    def mean(self, sums: Array) -> Array:
        """N⁻¹ Σ over rows, shape (runs, ...), from sums over owned blocks, shape (blocks, ...), in block order. Collective."""
        shape = sums.shape[1:]
        return self.shares.mean([part.reshape(-1) for part in sums]).reshape(self.runs, *shape)

    def everywhere(self, values: Array) -> Array:
        """Numbers of the owned rows, shape (R, S), as those of all rows, shape (runs, S, N), on every rank. Collective."""
        comm, count = self.shares.comm, values.shape[1]
        sizes = comm.allgather(values.size)
        everything = np.empty(sum(sizes))
        comm.Allgatherv(np.ascontiguousarray(values).reshape(-1), [everything, sizes])
        return np.ascontiguousarray(everything.reshape(self.runs, self.width, count).transpose(0, 2, 1))

    def gathered(self, theta: Array) -> Array | None:
        """Weights (D, R, N) of the owned rows as those of all, shape (runs, N, N, D), on rank 0, else None. Collective."""
        parts = self.shares.comm.gather(np.moveaxis(theta, 0, 2))
        return None if parts is None else np.concatenate(parts).reshape(self.runs, self.width, self.width, -1)

    def owned_of(self, weights: Array) -> Array:
        """The other way: (runs, N, N, D), known here, to (D, R, N)."""
        return np.ascontiguousarray(np.moveaxis(weights[self.run, self.row], 2, 0))


def groups(runs: int, width: int, numbers: int, comm: MPI.Intracomm) -> list[NetworkRows]:
    """Runs in groups that go through the sweeps together, keeping ``numbers`` a run; the same on any number of ranks."""
    size = max(1, min(runs, KEPT_NUMBERS // max(1, numbers)))
    return [NetworkRows(Shares(min(size, runs - k), width, comm, ROWS), k) for k in range(0, runs, size)]


def words_of(streams: list[np.random.Generator]) -> Words:
    """States of streams, shape (streams, 13)."""
    return np.array([stream_to_array(rng) for rng in streams], dtype=np.uint64).reshape(len(streams), 13)


def streams_of(words: Words) -> list[np.random.Generator]:
    """The streams with those states."""
    return [stream_from_array(row) for row in words]


def block_sums(rows: NetworkRows, values: Array) -> Array:
    """Sums over the rows of each owned block, shape (blocks, ...), of numbers of the owned rows, shape (R, ...). Local."""
    ends = np.cumsum([0, *rows.shares.sizes])
    return np.array([values[a:b].sum(axis=0) for a, b in pairwise(ends)]).reshape(-1, *values.shape[1:])
