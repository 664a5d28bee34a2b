"""The error of a step: copies of some particles that take two steps where the others take one, with the same noise.

    d = ½ Σ_± ⟨g(Z^±)⟩ − ⟨g(Z)⟩,        R(m_n) − R(m_n + d)  →  the error of the loss, times 2^p/(2^p − 1)

over the particles Z that have copies, for a scheme of weak order p. A step with ΔB = √h ξ is split by a bridge: its halves have
the increments ½√h (ξ ± η), and the two copies of a particle take them in either order. So what is linear in η, nearly all of the
strong error, cancels in the mean over the copies, and few particles tell the weak error. The copies are moved by the moments
m_n + d: what the error does to the interaction counts. Giles & Szpruch, arXiv:1202.6283, cancel the same term for other ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import State
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.walls.box import WALLS
from mvpde.particles.accuracy.student import student
from mvpde.particles.blocks import Shares, in_pieces, stream, stream_from_array, stream_to_array
from mvpde.particles.noise import Increment, increment
from mvpde.particles.schemes import Blocks, Flow, ParticleScheme
from mvpde.particles.walls.mirrors import mirrors
from mvpde.particles.walls.survivors import absorbing, left_over, weighted

ONE_IN = 42  # particles have a copy: four half steps for each of them, 15 % of the time of all
FEWEST = 256  # copied particles of a run, where it has as many: fewer would tell their own noise
AT_WALLS = 2048  # the same where walls keep copies and particles apart by √h

ONE_DEVIATION = math.erf(math.sqrt(0.5))  # probability within one standard deviation: what a standard error covers

ASYMPTOTIC = 1.0  # hλ, half the bound of stability, beyond which no order can be counted on

Function = Callable[[Array], Array]


def halving_factor(order: int, step_times_rate: float) -> float:
    """(error of a step) / (what half of it changes): 2^p/(2^p − 1) for order p, and 2 where hλ is beyond its range."""
    return 2.0 if step_times_rate > ASYMPTOTIC else 2.0**order / (2.0**order - 1.0)


def copied(shares: Shares, fewest: int = FEWEST) -> tuple[list[int], Array]:
    """How many of the first rows of each block of this rank are copied, and the number in each run, shape (runs,).

    One of 42 rows, but at least ``fewest`` in a run, and then not in every run.
    """
    in_run = min(shares.rows, max(fewest, -(-shares.rows // ONE_IN)))
    every = max(1, ONE_IN * in_run // shares.rows)
    parts = [-(-in_run * min(shares.block, shares.rows - b * shares.block) // shares.rows) for b in range(shares.per_run)]
    counts = np.array([sum(parts) if run % every == 0 else 0 for run in range(shares.runs)], float)
    return [parts[block] if run % every == 0 else 0 for run, block in shares.owned], counts


def between(d: Array) -> Array:
    """Standard error of the mean of d, shape (runs, q), by the scatter of the runs, shape (q,); NaN for one run.

    Student's t at the level of one standard deviation: 1.84 standard errors for 2 runs, 1 for many.
    """
    runs = len(d)
    return np.std(d, axis=0, ddof=1) / math.sqrt(runs) * student(runs, ONE_DEVIATION) if runs > 1 else np.full(d.shape[1], np.nan)


@dataclass
class Recorder:
    """A stream of which the first rows of every draw are kept.

    Attributes:
        source: the stream.
        rows: how many rows.
        kept: rows of the last draw; None before the first.
    """

    source: np.random.Generator
    rows: int
    kept: Array | None = None

    def standard_normal(self, size: tuple[int, ...], /) -> Array:
        """As the stream's."""
        drawn = self.source.standard_normal(size)
        self.kept = drawn[: self.rows].copy()
        return drawn


@dataclass(frozen=True)
class KnownNormals:
    """Normal numbers that are known already."""

    numbers: Array

    def standard_normal(self, size: tuple[int, ...], /) -> Array:
        """These."""
        assert self.numbers.shape == size
        return self.numbers


@dataclass(frozen=True)
class Step:
    """A step of all particles that the copies repeat in halves.

    Attributes:
        model: that rules it, not yet at a time.
        time, length: t and h.
        normals: ξ of the particles that have copies, of each block of this rank; None where nothing was drawn.
        before, after: all moments at t and t + h, shape (runs, K).
        starts, ends: the particles at t and t + h, as blocks.
    """

    model: MeanField
    time: float
    length: float
    normals: Sequence[Array | None]
    before: Array
    after: Array
    starts: Blocks
    ends: Blocks


class HalvedSteps:
    """The copies of some particles of an ensemble.

    Attributes:
        model: as given.
        taken: how many of the first particles of each block of this rank have copies.
        runs: which runs have copies, shape (runs,).
    """

    def __init__(self, model: MeanField, shares: Shares, scheme: ParticleScheme, seed: int, rows: int, z: Blocks) -> None:
        """Copy the first particles of the blocks. Local.

        Args:
            model: whose features are the moments.
            shares: how the particles are distributed.
            scheme: that moves them.
            seed: of the bridges; block b of run r draws from the stream (seed, r, b, 1).
            rows: those of a feature matrix in work at once.
            z: the particles of this rank.
        """
        self.model, self._shares, self._scheme, self._rows = model, shares, scheme, rows
        self.taken, self._counts = copied(
            shares, AT_WALLS if model.walls is not None and any(model.walls.faces(*WALLS)) else FEWEST
        )
        self.runs = self._counts > 0
        self._mine = [k for k, count in enumerate(self.taken) if count]
        self._runs = [shares.owned[k][0] for k in self._mine]
        self._copies = 1 if model.deterministic else 2
        self._bridges = [stream(seed, *shares.owned[k], 1) for k in self._mine]
        self.alive: Blocks | None = None
        self._draws, self._mirrors = (model, increment(model)), mirrors(model)
        self.begin(z)

    def begin(self, z: Blocks) -> None:
        """Let the copies be where their particles are. Local."""
        self._moved = [np.concatenate([x] * self._copies) for x in self._originals(z)]
        self._left = None if absorbing(self.model) is None else [np.ones(len(x)) for x in self._moved]
        self._turned: Blocks = []
        self._offset: Array | None = None

    def recorders(self, streams: Sequence[np.random.Generator]) -> list[Recorder]:
        """The streams of the particles, read along for the copies."""
        return [Recorder(source, count) for source, count in zip(streams, self.taken, strict=True)]

    def _originals(self, z: Blocks) -> Blocks:
        return [z[k][: self.taken[k]] for k in self._mine]

    def _mean(self, sum_of: Function, blocks: Blocks, width: int, copies: int) -> Array:
        """Means over blocks from the sums over pieces, shape (runs, width); 0 for runs without copies. Collective."""
        sums = [np.zeros(width) for _ in self.taken]
        for k, x in zip(self._mine, blocks, strict=True):
            sums[k] = np.add.reduce(in_pieces(sum_of, self.model.inside(x), self._rows))
        return self._shares.mean(sums) * (self._shares.rows / np.maximum(copies * self._counts, 1.0))[:, None]

    def _moments(self, blocks: Blocks, copies: int) -> Array:
        return self._mean(self.model.feature_sum, blocks, self.model.features, copies)

    # -- motion

    def follow(self, step: Step) -> None:
        """Take the two halves of a step that the particles have taken. Collective."""
        interacting = self.model.interacting
        ahead = step.after - self._moments(self._originals(step.ends), 1) if interacting else np.zeros_like(step.after)
        if self._offset is None:
            self._offset = step.before - self._moments(self._originals(step.starts), 1) if interacting else ahead
        offsets, half = (self._offset, 0.5 * (self._offset + ahead), ahead), 0.5 * step.length
        for k, normals in enumerate(self._halves(step.normals)):
            t = step.time + k * half
            flow = self._flow(step.model, normals, t, (t + half, offsets[k + 1]))
            m = self._moments(self._moved, self._copies) + offsets[k] if interacting else ahead
            moved = self._scheme.step(flow, self._moved, m, t, half)
            if self._left is not None and (walls := absorbing(self.model)) is not None and flow.tensor is not None:
                self._left, moved = left_over(walls, self._left, (self._moved, moved), flow.tensor(self._moved, m), half)
            # a whole step is taken unfolded: a copy that was mirrored half way goes on as on the other side of the wall
            self._moved, self._turned = moved, list(flow.turned) if k == 0 and flow.walls and not flow.walls.slanted else []
        self._offset = ahead

    def _flow(self, model: MeanField, normals: list[KnownNormals], t: float, end: tuple[float, Array]) -> Flow:
        """Of a half step to the time and the offset of ``end``, with the velocity of time t."""
        until, offset = end

        def velocity(z: Blocks, m: Array) -> Blocks:
            now = model.now(t)
            return [self._drift(now, x, m[run]) for x, run in zip(z, self._runs, strict=True)]

        def moments(z: Blocks, _: float) -> Array:
            return self._moments(z, self._copies) + offset if self.model.interacting else offset

        def noise(z: Blocks, m: Array, h: float) -> Blocks:
            draw = self._draw(model, until - 0.5 * h)
            drawn = [draw(x, m[run], given, h) for x, run, given in zip(z, self._runs, normals, strict=True)]
            return [dw * signs for dw, signs in zip(drawn, self._turned, strict=True)] if self._turned else drawn

        def tensor(z: Blocks, m: Array) -> Blocks:
            return [model.now(t).diffusion(x, m[run]) for x, run in zip(z, self._runs, strict=True)]

        return Flow(velocity, moments, noise, lambda s: self._flow(model, normals, s, end), self._mirrors, tensor)

    def _drift(self, model: MeanField, x: Array, m: Array) -> Array:
        return np.concatenate(in_pieces(lambda piece: model.drift(piece, m), x, self._rows))

    def _draw(self, model: MeanField, t: float) -> Increment:
        if model.moving is not None:
            return increment(model.now(t))
        if self._draws[0] is not model:
            self._draws = model, increment(model)
        return self._draws[1]

    def _halves(self, normals: Sequence[Array | None]) -> tuple[list[KnownNormals], list[KnownNormals]]:
        """Normal numbers of both halves for both copies, block by block; empty where nothing was drawn."""
        first, second = [], []
        for k, bridge in zip(self._mine, self._bridges, strict=True):
            xi = np.empty((0,)) if normals[k] is None else np.asarray(normals[k])
            eta = bridge.standard_normal(xi.shape)
            plus, minus = math.sqrt(0.5) * (xi + eta), math.sqrt(0.5) * (xi - eta)
            first.append(KnownNormals(np.concatenate([plus, minus][: self._copies])))
            second.append(KnownNormals(np.concatenate([minus, plus][: self._copies])))
        return first, second

    # -- what they say

    def changes(self, values: Function, z: Blocks) -> tuple[Array, Array]:
        """What half the steps change in means of ``values``: z, shape (N, D) → (N, q), and its standard error. Collective.

        Args:
            values: of points.
            z: the particles of this rank as they are now.

        Returns:
            d of each run that has copies, shape (copied runs, q), and the standard error of its mean over these, shape (q,): by
            the scatter over the copied particles or, where it is larger, over the copied runs; NaN of one particle with noise.
        """
        sums = [np.zeros(0) for _ in self.taken]
        for k, x, moved in zip(self._mine, self._originals(z), self._moved, strict=True):
            here, there = self.model.inside(x), self.model.inside(moved)
            sums[k] = self._sums(self._of_survivors(values), weighted(here, self._alive(k)), weighted(there, self._left_of(k)))
        width = self._shares.comm.allreduce(max((total.size for total in sums), default=0), op=MPI.MAX)
        sums = [total if total.size else np.zeros(width) for total in sums]
        counts = self._counts[self.runs][:, None]
        first, second = np.split(self._shares.mean(sums)[self.runs] * (self._shares.rows / counts), 2, axis=1)
        spread = np.maximum(second - first**2, 0.0) / np.maximum(counts - 1.0, 1.0)
        if counts.sum() < 2 and not self.model.deterministic:  # a single one has no scatter
            return first, np.full(first.shape[1], np.nan)
        return first, np.fmax(np.sqrt(spread.sum(axis=0)) / len(counts), between(first))

    def _alive(self, k: int) -> Array | None:
        """Weights of the particles of a block that have copies; None where no wall absorbs."""
        if self._left is None:
            return None
        return np.ones(self.taken[k]) if self.alive is None else self.alive[k][: self.taken[k]]

    def _left_of(self, k: int) -> Array | None:
        """Those of their copies."""
        return None if self._left is None else self._left[self._mine.index(k)]

    def _of_survivors(self, values: Function) -> Function:
        """Values times weights, which come last, where walls absorb."""
        return values if self._left is None else lambda x: x[:, -1:] * values(x[:, :-1])

    def means(self, values: Function, z: Blocks) -> Array:
        """Means of ``values``: z, shape (N, D) → (N, q), over the particles with copies, shape (copied runs, q). Collective."""
        originals = self._originals(z)
        width = self._shares.comm.allreduce(max((values(x[:1]).size for x in originals), default=0), op=MPI.MAX)
        return self._mean(lambda piece: values(piece).sum(axis=0), originals, width, 1)[self.runs]

    def _sums(self, values: Function, x: Array, moved: Array) -> Array:
        """Sums over the particles x of what their copies differ by, and of its squares, shape (2q,)."""
        total: Array | float = 0.0
        for start in range(0, len(x), self._rows):
            rows = slice(start, start + self._rows)
            copies = np.mean([values(copy[rows]) for copy in np.split(moved, self._copies)], axis=0)
            d = copies - values(x[rows])
            total = total + np.concatenate([d.sum(axis=0), (d**2).sum(axis=0)])
        return np.asarray(total)

    # -- checkpoints

    def state(self) -> dict[str, Array]:
        """Copies of all ranks and their streams on rank 0, else empty. Collective."""
        comm = self._shares.comm
        moved, words = comm.gather(self._moved), comm.gather([stream_to_array(rng) for rng in self._bridges])
        left = comm.gather(self._left)
        if moved is None or words is None:
            return {}
        dimension = self.model.dimension
        rows = [x for part in moved for x in part]
        weights = [w for part in left or [] for w in part or []]
        return {
            **({"copy_weights": np.concatenate(weights)} if weights else {}),
            "copies": np.concatenate(rows) if rows else np.empty((0, dimension)),
            "bridges": np.array([row for part in words for row in part]),
        }

    def restore(self, state: State, z: Blocks) -> None:
        """Continue from a `state` that all ranks have, or from the particles z where it has other copies. Collective."""
        mine = self._shares.comm.allgather([self._copies * self.taken[k] for k in self._mine])
        sizes = [size for part in mine for size in part]
        rows = np.asarray(state.get("copies", np.empty(0)), float)
        self.begin(z)
        if rows.shape != (sum(sizes), self.model.dimension):
            return
        first = sum(len(part) for part in mine[: self._shares.comm.rank])
        ends = np.cumsum([0, *sizes])
        numbers = range(first, first + len(self._mine))
        self._moved = [rows[ends[k] : ends[k + 1]].copy() for k in numbers]
        self._bridges = [stream_from_array(np.asarray(state["bridges"], np.uint64)[k]) for k in numbers]
        if self._left is not None:
            weights = np.asarray(state["copy_weights"], float)
            self._left = [weights[ends[k] : ends[k + 1]].copy() for k in numbers]
