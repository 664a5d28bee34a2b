"""The measure made of particles: runs × particles × D, the same bits on any number of ranks.

    dZ_i = b(Z_i; m_n) dt + √(2A(Z_i; m_n)) dB_i,        m_n = n⁻¹ Σ_i g(Z_i)

in Itô form. For a gradient flow b = −∇V and A = τI (gradient descent and its noisy form: Rotskoff & Vanden-Eijnden,
arXiv:1805.00915; Mei, Montanari & Nguyen, arXiv:1804.06561); other models state b and A ⪰ 0, which may be degenerate.
Each run is cut into blocks of 4096 particles. A block, not a rank, owns a random stream, and sums over particles are sums over
blocks in their fixed order, so neither the particles nor the moments know how many ranks there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mvpde.runtime import InvariantError, MPI  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.noise import increment, require_diffusion

type Blocks = list[Array]

BLOCK = 4096  # particles that share a random stream; changing it changes every run
SUB_BLOCK = 1024  # rows of the feature matrix that are in work at once
CACHE_NUMBERS = 2**16  # entries of that piece at most: 512 KiB, and too few for a BLAS to split its sums over threads


class InitialLaw(Protocol):
    """What an ensemble asks of an initial law."""

    @property
    def dimension(self) -> int:
        """D."""
        ...

    def sample(self, rng: np.random.Generator, n: int, /) -> Array:
        """n independent samples, shape (n, D), drawn from the generator alone."""
        ...


# --- evaluation in pieces that fit the cache ------------------------------------------------------------------------------------


def rows_in_cache(model: MeanField) -> int:
    """Rows N of the (N, K) feature matrix evaluated at once: 1024, or fewer where K is large."""
    features = model.profile(np.zeros((1, model.profile_dimension))).shape[1]
    return max(16, min(SUB_BLOCK, CACHE_NUMBERS // features))


def in_pieces(f: Callable[[Array], Array], z: Array, rows: int) -> list[Array]:
    """f of the successive pieces of at most ``rows`` rows of z, shape (N, D)."""
    return [f(z[start : start + rows]) for start in range(0, len(z), rows)]


# --- schemes --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """What a scheme may do with particles, given as the blocks of this rank.

    Attributes:
        velocity: (blocks, moments (runs, K)) → b(z; m), block by block.
        moments: (blocks, t) → m that moves particles at time t, shape (runs, K): their own, or that of another law. Collective.
        noise: (blocks, moments, h) → √(2A(z; m)) (B_{t+h} − B_t), block by block; it advances the streams. Zero, shape (), where
            A = τI, τ = 0.
    """

    velocity: Callable[[Blocks, Array], Blocks]
    moments: Callable[[Blocks, float], Array]
    noise: Callable[[Blocks, Array, float], Blocks]


def euler(flow: Flow, z: Blocks, m: Array, t: float, h: float) -> Blocks:
    """Z' = Z + h b(Z; m) + √(2A(Z; m)) ΔB: Euler–Maruyama, gradient descent where A = 0 and b = −∇V.

    Weak order 1 for any A (Kloeden & Platen, Numerical Solution of SDE, §14.1).
    """
    return [x + h * b + dw for x, b, dw in zip(z, flow.velocity(z, m), flow.noise(z, m, h), strict=True)]


def heun(flow: Flow, z: Blocks, m: Array, t: float, h: float) -> Blocks:
    """Z' = Z + ½h [b(Z; m) + b(Z̃; m̃)] + √(2A) ΔB with Z̃ the Euler step with the same ΔB and m̃ its moments.

    Weak order 2 if A is constant (Kloeden & Platen, Numerical Solution of SDE, §15.1). For other A order 2 takes iterated
    integrals of the noise, and averaging the noise like the drift would solve the Stratonovich equation.
    """
    before, noise = flow.velocity(z, m), flow.noise(z, m, h)
    predicted = [x + h * b + dw for x, b, dw in zip(z, before, noise, strict=True)]
    after = flow.velocity(predicted, flow.moments(predicted, t + h))
    return [x + 0.5 * h * (b + c) + dw for x, b, c, dw in zip(z, before, after, noise, strict=True)]


@dataclass(frozen=True)
class Scheme:
    """A one-step map (flow, blocks, m, t, h) → blocks and its order: of the weak error with noise, of the error without.

    ``additive``: whether it has this order only where A is the same at all z and m.
    """

    order: int
    step: Callable[[Flow, Blocks, Array, float, float], Blocks]
    additive: bool = False


SCHEMES = {"euler": Scheme(1, euler), "heun": Scheme(2, heun, additive=True)}


# --- random streams -------------------------------------------------------------------------------------------------------------


def stream(seed: int, run: int, block: int) -> np.random.Generator:
    """The generator of one block of one run: it draws the initial particles, then all the noise."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(run, block))))


def _stream_to_array(generator: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint64]]:
    s: Any = generator.bit_generator.state
    tail = [s["buffer_pos"], s["has_uint32"], s["uinteger"]]
    return np.concatenate([s["state"]["counter"], s["state"]["key"], s["buffer"], np.array(tail, dtype=np.uint64)])


def _stream_from_array(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.random.Generator:
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


# --- the measure ----------------------------------------------------------------------------------------------------------------


class Ensemble:
    """R independent runs of n interacting particles: the measure L_n = n⁻¹ Σ_i δ_{Z_i} of each run.

    Attributes:
        time: t.
        step: length of the last step taken; before the first, the length asked for.
    """

    def __init__(
        self,
        model: MeanField,
        law: InitialLaw,
        *,
        particles: int,
        runs: int = 1,
        seed: int = 0,
        step: float = 0.05,
        scheme: str = "heun",
        driven_by: Callable[[float], Array] | None = None,
        comm: MPI.Intracomm,
    ) -> None:
        """Draw Z_i(0), independent from the law. Collective.

        Args:
            model: the model that moves the particles.
            law: law of one particle at t = 0.
            particles: n ≥ 1, in each run.
            runs: independent runs, ≥ 1.
            seed: ≥ 0; run r, block b draws from the stream (seed, r, b).
            step: longest time step, > 0.
            scheme: a key of ``SCHEMES``.
            driven_by: t → m, shape (K,), the moments of another law that moves these particles instead of their own: with the
                moments of the limit ρ_t they are the coupled copies Z̄_i of the ensemble with the same seed and size, which
                has the same start and noise.
            comm: communicator over which the blocks are distributed.

        Raises:
            ValueError: on an argument outside its range; on a scheme that needs constant A for a model whose A varies; on an A
                that is no diffusion tensor at some particle of the start, on all ranks.
        """
        _require(particles >= 1 and runs >= 1, "ensemble.particles and ensemble.runs must be at least 1")
        _require(seed >= 0, "ensemble.seed must not be negative")
        _require(math.isfinite(step) and step > 0, f"ensemble.step must be positive, not {step!r}")
        _require(scheme in SCHEMES, f"ensemble.scheme must be one of {', '.join(SCHEMES)}, not {scheme!r}")
        _require(
            model.additive_noise or not SCHEMES[scheme].additive,
            f'ensemble.scheme = "{scheme}" needs a constant diffusion, and this model\'s depends on the state; choose "euler"',
        )
        _require(
            law.dimension == model.dimension,
            f"the initial law has {law.dimension} coordinates, the model has {model.dimension}: {', '.join(model.coordinates)}",
        )
        self.model, self.particles, self.runs, self.seed, self.comm = model, particles, runs, seed, comm
        self._first = model
        self.scheme, self.time, self.step = scheme, 0.0, step
        self._longest_step = step
        self._rows = rows_in_cache(model)
        self._steps, self._seconds = 0, 0.0
        self._moments: Array | None = None
        self._owned = [divmod(block, self._blocks_per_run) for block in self._range(comm.rank)]
        self._streams = [stream(seed, run, block) for run, block in self._owned]
        sizes = [min(BLOCK, particles - block * BLOCK) for _, block in self._owned]
        self._z: Blocks = [np.ascontiguousarray(law.sample(rng, n)) for rng, n in zip(self._streams, sizes, strict=True)]
        self._driven_by = driven_by
        self._flow = Flow(self._velocity, self._driving, self._noise)
        if model.own_diffusion is not None:
            self._check_diffusion()
        self._increment = increment(model)

    # -- distribution: blocks in the order of (run, block), contiguous shares to the ranks

    @property
    def _blocks_per_run(self) -> int:
        return -(-self.particles // BLOCK)

    def _range(self, rank: int) -> range:
        blocks = self.runs * self._blocks_per_run
        return range(rank * blocks // self.comm.size, (rank + 1) * blocks // self.comm.size)

    def _mean(self, sums: list[Array]) -> Array:
        """Means over particles, shape (runs, q), from the sums over each block of this rank, shape (q,), added in block order."""
        counts = [len(self._range(rank)) for rank in range(self.comm.size)]
        q = self.comm.allreduce(sums[0].size if sums else 0, op=MPI.MAX)  # a rank may own no block
        everything = np.empty((sum(counts), q))
        mine = np.array(sums, dtype=float).reshape(-1, q)
        self.comm.Allgatherv(mine, [everything, [n * q for n in counts]])
        return np.asarray(everything.reshape(self.runs, self._blocks_per_run, q).sum(axis=1) / self.particles)

    # -- what the schemes use

    def _velocity(self, z: Blocks, m: Array) -> Blocks:
        return [self._block_velocity(x, m[run]) for x, (run, _) in zip(z, self._owned, strict=True)]

    def _block_velocity(self, x: Array, m: Array) -> Array:
        return np.concatenate(in_pieces(lambda piece: self.model.drift(piece, m), x, self._rows))

    def _moments_of(self, z: Blocks) -> Array:
        return self._mean([np.add.reduce(in_pieces(self._feature_sum, x, self._rows)) for x in z])

    def _driving(self, z: Blocks, t: float) -> Array:
        """The moments in the drift at time t of the particles z."""
        return self._moments_of(z) if self._driven_by is None else np.tile(self._driven_by(t), (self.runs, 1))

    def _feature_sum(self, x: Array) -> Array:
        # 0·Σx adds nothing, but a particle that is no longer finite shows even where the features are bounded.
        return self.model.feature_sum(x) + 0.0 * x.sum()

    def _noise(self, z: Blocks, m: Array, h: float) -> Blocks:
        shares = zip(z, self._owned, self._streams, strict=True)
        return [self._increment(x, m[run], rng, h) for x, (run, _), rng in shares]

    def _check_diffusion(self) -> None:
        """Look at A where the particles are now; the first complaint is raised on all ranks."""
        m, complaint = self._driving(self._z, self.time), None
        for x, (run, _) in zip(self._z, self._owned, strict=True):
            try:
                require_diffusion(self.model, x, m[run])
            except ValueError as error:
                complaint = str(error)
        found = [text for text in self.comm.allgather(complaint) if text is not None]
        _require(not found, found[0] if found else "")

    # -- the measure's verbs

    def advance(self, t: float) -> None:
        """Carry the particles to time t in equal steps no longer than ``step``. Collective.

        Raises:
            ValueError: t lies before the present time.
            InvariantError: the moments or a particle became infinite or NaN, on all ranks. The particles and the time stay those
                before the step that failed.
        """
        _require(t >= self.time, f"an ensemble at t = {self.time:g} cannot go back to t = {t:g}")
        began = time.perf_counter()
        for until, model in self._first.stretches(self.time, t):
            self._follow(model)
            self._steps_to(until)
        self._seconds += time.perf_counter() - began

    def _follow(self, model: MeanField) -> None:
        """Let ``model`` move the particles from now on."""
        if model is not self.model:
            self.model, self._increment = model, increment(model)

    def _steps_to(self, t: float) -> None:
        start = self.time
        count = math.ceil((t - start) / self._longest_step * (1.0 - 1e-12))
        for k in range(1, count + 1):
            self._one_step(t if k == count else start + (t - start) * k / count, (t - start) / count)

    def _one_step(self, t: float, h: float) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # found and reported below
            driving = self.moments() if self._driven_by is None else self._driving(self._z, self.time)
            z = SCHEMES[self.scheme].step(self._flow, self._z, driving, self.time, h)
            m = self._moments_of(z)
        if not np.isfinite(m).all():  # the same numbers, so the same decision, on every rank
            raise InvariantError(
                f"ensemble: the particles became infinite or NaN in the {self.scheme} step from t = {self.time:g} of length "
                f"{h:g}; the state at t = {self.time:g} is kept. Choose an ensemble.step smaller than {h:g}."
            )
        self._z, self._moments, self.time, self.step = z, m, t, h
        self._steps += 1

    def moments(self) -> Array:
        """m_n = n⁻¹ Σ_i g(Z_i) of each run, shape (runs, K), the same bits on every rank. Collective."""
        if self._moments is None:
            self._moments = self._moments_of(self._z)
        return self._moments.copy()

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """n⁻¹ Σ_i f(Z_i) of each run, shape (runs,), for f: (N, D) → (N,). Collective."""
        return self._mean([np.sum([piece.sum() for piece in in_pieces(f, x, self._rows)]) for x in self._z])[:, 0]

    def distance(self, other: Ensemble) -> Array:
        """n⁻¹ Σ_i |Z_i − Z_i'| to the particles of an ensemble of the same size on the same ranks, shape (runs,). Collective."""
        gaps = [np.sqrt(((x - y) ** 2).sum(axis=1)).sum(keepdims=True) for x, y in zip(self._z, other._z, strict=True)]
        return self._mean(gaps)[:, 0]

    def cloud(self) -> tuple[Array, Array] | None:
        """Points (n, D) and weights (n,) of run 0 on rank 0, else None; periodic coordinates lie in [0, period). Collective."""
        mine = [x for x, (run, _) in zip(self._z, self._owned, strict=True) if run == 0]
        parts = self.comm.gather(mine)
        if parts is None:
            return None
        points = np.concatenate([x for part in parts for x in part])
        return wrap(points, self.model.periods), np.full(self.particles, 1.0 / self.particles)

    def loss_standard_error(self) -> float:
        """Standard error of the mean over runs of R(m_n). Collective.

        With two runs or more it is their sample standard deviation / √runs. With one it is the delta method's
        [R'(m)ᵀ Cov(g) R'(m) / n]^½, the Cov over the particles: exact to leading order for independent particles (t = 0), later
        the resampling error, which leaves out that the particles have interacted (Chen, Rotskoff, Bruna & Vanden-Eijnden,
        arXiv:2008.09623, find the true one below it at long times).
        """
        if self.runs >= 2:
            return float(np.std(self.model.outer_energy(self.moments()), ddof=1) / math.sqrt(self.runs))
        slope = self.model.outer_gradient(self.moments()[0])
        centre = float(slope @ self.moments()[0])

        def squared_deviation(z: Array) -> Array:
            value, _ = self.model.profile_field(z[:, : self.model.profile_dimension], slope)
            return np.asarray((self.model.amplitude(z) * value - centre) ** 2)

        return math.sqrt(self.expectation(squared_deviation)[0] / max(1, self.particles - 1))

    def statistics(self) -> dict[str, Any]:
        """Size, scheme, steps taken, last step, and particle updates per second of ``advance`` (all runs and ranks together)."""
        updates = self._steps * self.runs * self.particles
        return {
            "particles": self.particles,
            "runs": self.runs,
            "seed": self.seed,
            "scheme": self.scheme,
            "steps": self._steps,
            "step": self.step,
            "particle_updates_per_second": updates / self._seconds if self._seconds > 0 else 0.0,
        }

    # -- checkpoints

    def state(self) -> dict[str, Any] | None:
        """Time, particles (runs, n, D), streams (blocks, 13) on rank 0, else None: enough to continue bit for bit. Collective."""
        parts = self.comm.gather((self._z, [_stream_to_array(rng) for rng in self._streams]))
        if parts is None:
            return None
        z = np.concatenate([x for blocks, _ in parts for x in blocks])
        return {
            "time": np.float64(self.time),
            "steps": np.int64(self._steps),
            "particles": z.reshape(self.runs, self.particles, self.model.dimension),
            "streams": np.array([s for _, streams in parts for s in streams]),
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue from ``state()`` of an ensemble of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs, particles or coordinates differ.
        """
        state = self.comm.bcast(state)
        expected = (self.runs, self.particles, self.model.dimension)
        _require(state is not None, "an ensemble is restored from the state on rank 0, which is missing")
        assert state is not None
        found = state["particles"].shape
        _require(found == expected, f"the checkpoint has (runs, particles, coordinates) = {found}, the ensemble {expected}")
        self.time, self._steps, self._moments = float(state["time"]), int(state["steps"]), None
        self._z = [state["particles"][run, b * BLOCK : (b + 1) * BLOCK].copy() for run, b in self._owned]
        self._streams = [_stream_from_array(state["streams"][block]) for block in self._range(self.comm.rank)]


def wrap(points: Array, periods: tuple[float | None, ...]) -> Array:
    """Points (N, D) with each periodic coordinate in [0, period)."""
    wrapped = points.copy()
    for axis, period in enumerate(periods):
        if period is not None:
            turned = np.mod(points[:, axis], period)
            wrapped[:, axis] = np.where(turned < period, turned, 0.0)  # mod of a tiny negative number rounds to the period
    return wrapped


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
