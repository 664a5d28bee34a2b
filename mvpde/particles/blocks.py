"""Rows of numbers cut into blocks: what the measures made of particles, of runs of SGD and of networks share.

Each of R runs has n rows, cut into blocks of 4096. A block, not a rank, owns a random stream, and sums over rows are sums over
blocks in their fixed order, so neither the rows nor any mean knows how many ranks there are. Blocks in the order of (run, block)
go to the ranks in contiguous shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol, cast

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from numpy.typing import NDArray

from mvpde.measure import Number, State
from mvpde.models.laws import Sampler, check_law
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.schemes import Blocks

BLOCK = 4096  # rows that share a random stream; changing it changes every run
SUB_BLOCK = 1024  # rows of the feature matrix that are in work at once
CACHE_NUMBERS = 2**16  # entries of that piece at most: 512 KiB, and too few for a BLAS to split its sums over threads

Words = NDArray[np.uint64]


# --- evaluation in pieces that fit the cache ------------------------------------------------------------------------------------


def rows_in_cache(model: MeanField) -> int:
    """Rows N of the (N, K) feature matrix evaluated at once: 1024, or fewer where K is large."""
    return max(16, min(SUB_BLOCK, CACHE_NUMBERS // model.features))


def in_pieces(f: Callable[[Array], Array], z: Array, rows: int) -> list[Array]:
    """f of the successive pieces of at most ``rows`` rows of z, shape (N, D)."""
    return [f(z[start : start + rows]) for start in range(0, len(z), rows)]


def wrap(points: Array, periods: Sequence[float | None], lower: Sequence[float] | None = None) -> Array:
    """Points (N, D) with each periodic coordinate in [lower, lower + period), lower = 0 unless it is given."""
    wrapped = points.copy()
    for axis, period in enumerate(periods):
        if period is not None:
            start = 0.0 if lower is None else lower[axis]
            turned = np.mod(points[:, axis] - start, period)
            wrapped[:, axis] = start + np.where(turned < period, turned, 0.0)  # a tiny negative number rounds to it
    return wrapped


# --- random streams -------------------------------------------------------------------------------------------------------------


def stream(seed: int, run: int, block: int, *use: int) -> np.random.Generator:
    """The generator of one block of one run: it draws the initial rows, then all the noise; others for other uses."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(run, block, *use))))


def stream_to_array(generator: np.random.Generator) -> Words:
    """The state of a stream as 13 numbers."""
    s = cast("Mapping[str, Mapping[str, Words]]", generator.bit_generator.state)
    tail = [s["buffer_pos"], s["has_uint32"], s["uinteger"]]
    return np.concatenate([s["state"]["counter"], s["state"]["key"], s["buffer"], np.array(tail, dtype=np.uint64)])


def stream_from_array(numbers: Words) -> np.random.Generator:
    """The stream with that state."""
    philox = np.random.Philox()
    philox.state = {
        "bit_generator": "Philox",
        "state": {"counter": numbers[:4], "key": numbers[4:6]},
        "buffer": numbers[6:10],
        "buffer_pos": int(numbers[10]),
        "has_uint32": int(numbers[11]),
        "uinteger": int(numbers[12]),
    }
    return np.random.Generator(philox)


# --- runs × rows over the ranks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shares:
    """How R runs of n rows are cut and distributed.

    Attributes:
        runs, rows: R and n.
        comm: communicator over which the blocks are distributed.
        block: rows of a block; the last one of a run may have fewer.
    """

    runs: int
    rows: int
    comm: MPI.Intracomm
    block: int = BLOCK

    @property
    def per_run(self) -> int:
        """Blocks of a run."""
        return -(-self.rows // self.block)

    def share(self, rank: int) -> range:
        """Numbers of the blocks of a rank."""
        blocks = self.runs * self.per_run
        return range(rank * blocks // self.comm.size, (rank + 1) * blocks // self.comm.size)

    @property
    def owned(self) -> list[tuple[int, int]]:
        """(run, block of the run) of the blocks of this rank."""
        return [divmod(number, self.per_run) for number in self.share(self.comm.rank)]

    @property
    def sizes(self) -> list[int]:
        """Rows of the blocks of this rank."""
        return [min(self.block, self.rows - block * self.block) for _, block in self.owned]

    def streams(self, seed: int) -> list[np.random.Generator]:
        """Fresh streams of the blocks of this rank."""
        return [stream(seed, run, block) for run, block in self.owned]

    def start(self, law: Sampler, streams: Sequence[np.random.Generator]) -> Blocks:
        """Independent samples of the law, block by block."""
        return [np.ascontiguousarray(law.sample(rng, n)) for rng, n in zip(streams, self.sizes, strict=True)]

    def mean(self, sums: Sequence[Array]) -> Array:
        """Means over rows, shape (runs, q), from the sums over each block of this rank, shape (q,), added in block order.

        The same bits on every rank. Collective.
        """
        counts = [len(self.share(rank)) for rank in range(self.comm.size)]
        q = self.comm.allreduce(sums[0].size if sums else 0, op=MPI.MAX)  # a rank may own no block
        everything = np.empty((sum(counts), q))
        mine = np.array(sums, dtype=float).reshape(-1, q)
        self.comm.Allgatherv(mine, [everything, [n * q for n in counts]])
        return np.asarray(everything.reshape(self.runs, self.per_run, q).sum(axis=1) / self.rows)

    def gather(self, blocks: Blocks) -> Array | None:
        """All rows in order, shape (runs · n, …), on rank 0, else None. Collective."""
        parts = self.comm.gather(blocks)
        return None if parts is None else np.concatenate([x for part in parts for x in part])

    def first_run(self, blocks: Blocks) -> tuple[Array, Array] | None:
        """The rows of run 0 as points of equal weights on rank 0, else None. Collective."""
        rows = self.gather([x for x, (run, _) in zip(blocks, self.owned, strict=True) if run == 0])
        return None if rows is None else (rows, np.full(self.rows, 1.0 / self.rows))

    # -- checkpoints

    def state(self, time: float, steps: int, name: str, blocks: Blocks, streams: Sequence[np.random.Generator]) -> State | None:
        """Time, steps, rows (runs, n, D) under ``name`` and streams (blocks, 13) on rank 0, else None. Collective."""
        rows, words = self.gather(blocks), self.comm.gather([stream_to_array(rng) for rng in streams])
        if rows is None or words is None:
            return None
        return {
            "time": np.float64(time),
            "steps": np.int64(steps),
            name: rows.reshape(self.runs, self.rows, -1),
            "streams": np.array([row for part in words for row in part]),
        }

    def cut(self, rows: Array) -> Blocks:
        """The blocks of this rank out of all rows, shape (runs, n, …)."""
        return [rows[run, b * self.block : (b + 1) * self.block].copy() for run, b in self.owned]

    def received(self, state: State | None, name: str, columns: int) -> tuple[State, Blocks, list[np.random.Generator]]:
        """A `state` that rank 0 has read, and the blocks and streams in it that this rank owns. Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs, rows or columns differ.
        """
        state = self.comm.bcast(state)
        if state is None:
            raise ValueError("a measure is restored from the state on rank 0, which is missing")
        expected, rows = (self.runs, self.rows, columns), np.asarray(state.get(name, np.empty(0)), float)
        if rows.shape != expected:
            raise ValueError(f"the checkpoint has (runs, {name}, coordinates) = {rows.shape}, the measure {expected}")
        words = np.asarray(state["streams"], np.uint64)
        blocks = self.cut(rows)
        return state, blocks, [stream_from_array(words[number]) for number in self.share(self.comm.rank)]


def whole(value: object) -> bool:
    """Whether it is a whole number, Python's or numpy's."""
    return isinstance(value, Integral)


def check_sizes(runs: int, seed: int, law: Sampler, coordinates: Sequence[str], particles: int = 1) -> None:
    """Refuse what cannot be cut into blocks.

    Raises:
        ArgumentError: naming the argument. ValueError: a law of one coordinate.
    """
    for argument, value in (("particles", particles), ("runs", runs), ("seed", seed)):
        if not whole(value):
            raise ArgumentError(argument, f"must be a whole number, not {value!r}")
        if value < 1 and argument != "seed":
            raise ArgumentError(argument, f"must be at least 1, not {value!r}")
    if seed < 0:
        raise ArgumentError("seed", f"must not be negative, not {seed!r}")
    check_law(law)
    if law.dimension != len(coordinates):
        names = ", ".join(coordinates)
        raise ArgumentError("law", f"the initial law has {law.dimension} coordinates, the model has {len(coordinates)}: {names}")


# --- what measures of particles and of networks say of themselves ---------------------------------------------------------------


class Moving(Protocol):
    """Runs of n rows each that have taken steps."""

    particles: int
    runs: int
    seed: int
    scheme: str
    step: float
    _steps: int
    _seconds: float

    def loss_standard_error(self) -> float:
        """Of the mean loss over the runs. Collective."""


def loss_and_steps(measure: Moving) -> dict[str, float]:
    """Standard error of the loss, and steps taken. Collective."""
    return {"loss_standard_error": measure.loss_standard_error(), "steps": measure._steps}


def size_and_speed(measure: Moving) -> dict[str, Number]:
    """Size, scheme, steps taken, last step, and updates of rows per second of ``advance`` (all runs and ranks together)."""
    updates = measure._steps * measure.runs * measure.particles
    return {
        "particles": measure.particles,
        "runs": measure.runs,
        "seed": measure.seed,
        "scheme": measure.scheme,
        "steps": measure._steps,
        "step": measure.step,
        "particle_updates_per_second": updates / measure._seconds if measure._seconds > 0.0 else 0.0,
    }
