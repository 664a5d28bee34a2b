"""One-pass SGD of the network in R^d whose radial limit is `models.isotropic_gaussians`: N units, a fresh sample at each step.

    y = ±1,   x ~ N(0, (1 ± Δ)² I_d),   ŷ = N⁻¹ Σ_i σ(⟨w_i, x⟩),
    w_i ← (1 − 2λs) w_i + 2s (y − ŷ) σ'(⟨w_i, x⟩) x + √(2τs) ξ_i,

t = s·k (Mei, Montanari & Nguyen, arXiv:1804.06561, eq. (3) and §3.1; τ = 2/β). The risk of the network itself is known without
sampling: R = 1 + N⁻¹ Σ_i 2v(|w_i|) + N⁻² Σ_ij U(w_i, w_j), with U expanded in cosines of angles for i ≠ j and in closed form
for i = j. Runs are distributed over the ranks, each with its own random stream: results do not depend on their number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvpde.runtime import MPI, ArgumentError, InvariantError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numba
import numpy as np

from mvpde.measure import Cloud, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.isotropic_gaussians import Classification, hermite
from mvpde.models.laws import Sampler
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.accuracy.growth import extent_of, largest
from mvpde.particles.accuracy.slope import DOUBTFUL, STABLE, Slope, rounded_down
from mvpde.particles.accuracy.step_errors import recorded
from mvpde.particles.accuracy.twins import Twins, smaller
from mvpde.particles.blocks import Shares, loss_and_steps, size_and_speed, stream
from mvpde.particles.schemes import ONE_PASS

CHUNK = 500  # samples drawn at once
NOISE_EVERY = 20  # steps whose noise is added at once: N·d normal numbers are far more work than a step
ASKED = 64  # samples that tell the rate of a step
TERMS = 40  # powers of the cosine, even and odd, in U(w_i, w_j) in high dimension, where two random directions have small ones


@numba.njit(cache=True)
def _train(w: Array, x: Array, y: Array, s: float, decay: float, offset: float, knots: Array, changes: Array, u: Array) -> None:
    """One step for each sample: x, shape (n, d), labels y, shape (n,); w, shape (N, d), changes in place; u, shape (N,): work."""
    count, dimension = w.shape
    for k in range(len(x)):
        sample = x[k]
        total = 0.0
        for i in range(count):
            product = 0.0
            for a in range(dimension):
                product += w[i, a] * sample[a]
            slope, value = 0.0, offset
            for j in range(len(knots)):
                if product > knots[j]:
                    slope += changes[j]
                    value += changes[j] * (product - knots[j])
            u[i] = slope
            total += value
        factor = 2.0 * s * (y[k] - total / count)
        shrink = 1.0 - 2.0 * decay * s
        for i in range(count):
            if decay > 0.0:
                for a in range(dimension):
                    w[i, a] *= shrink
            if u[i] != 0.0:
                push = factor * u[i]
                for a in range(dimension):
                    w[i, a] += push * sample[a]


_train_fast = numba.njit(cache=True, fastmath={"reassoc", "contract"})(_train.py_func)  # sums over d in any order


@dataclass(frozen=True)
class Pass:
    """Samples of one run, and its noise in the time that they take together.

    Attributes:
        x: shape (n, d).
        y: labels, shape (n,).
        noise: √(2τt) ξ, shape (N, d), or 0.
    """

    x: Array
    y: Array
    noise: Array | float


def every_other(halves: Sequence[Sequence[Pass]]) -> list[list[Pass]]:
    """Of twice as many samples, run by run, every other one for each of two networks; both have all of the noise."""
    runs = [(np.concatenate([a.x, b.x]), np.concatenate([a.y, b.y]), a.noise + b.noise) for a, b in zip(*halves, strict=True)]
    return [[Pass(x[k::2].copy(), y[k::2].copy(), noise) for x, y, noise in runs] for k in (0, 1)]


class OnePassSgd:
    """R independent runs of N units in R^d: a measure on the radius r = |w|.

    Attributes:
        model: the radial limit; its features and observables are what is asked of the runs.
        time: t.
        step: s.
    """

    name = "ensemble"
    label = scheme = ONE_PASS

    def __init__(
        self,
        problem: Classification,
        model: MeanField,
        law: Sampler,
        *,
        particles: int,
        runs: int = 1,
        seed: int = 0,
        step: float = 1e-5,
        companion: bool = True,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Draw w_i(0): directions uniform on the sphere, radii from the law. Collective.

        Args:
            problem: what is learned.
            model: its radial limit.
            law: of the radius at t = 0.
            particles: N ≥ 1.
            runs: independent runs, ≥ 1.
            seed: ≥ 0; run r has the streams (seed, r, 0) for its start, (seed, r, 1) for samples and noise.
            step: s > 0.
            companion: whether smaller networks tell the error of the step, for a tenth of the work.
            comm: communicator over which the runs are distributed.

        Raises:
            ValueError: on an argument outside its range.
        """
        if particles < 1 or runs < 1 or seed < 0 or not (math.isfinite(step) and step > 0.0):
            raise ValueError("needs particles ≥ 1, runs ≥ 1, seed ≥ 0 and step > 0")
        if problem.weight_decay * step > 0.5:
            raise ValueError("weight_decay · step must be at most ½, or a step turns the weights round; choose a smaller step")
        self.problem, self.model, self.comm = problem, model, comm
        self.particles, self.runs, self.seed, self.step, self.time = particles, runs, seed, step, 0.0
        self._shares = Shares(runs, particles, comm, block=particles)  # a run has one block: its units see the same samples
        self._streams = [stream(seed, run, 1) for run, _ in self._shares.owned]
        self._w = [self._start(law, rng) for rng in self._shares.streams(seed)]
        self._steps, self._seconds = 0, 0.0
        m = self.moments()
        self._extent = extent_of(model, self._radii(), [m[run] for run, _ in self._shares.owned], comm)
        self._twins = self._smaller(law) if companion else None

    def _smaller(self, law: Sampler) -> Twins[list[Pass]]:
        """Networks that tell the error of the step. Collective."""
        units, runs = smaller(self.particles, self.runs, power=1, sampled=True)

        def made() -> OnePassSgd:
            sizes = {"particles": units, "runs": runs, "seed": self.seed}
            return OnePassSgd(self.problem, self.model, law, **sizes, step=self.step, companion=False, comm=self.comm)

        return Twins([made(), made()], made(), 1, every_other, CHUNK if self.problem.temperature == 0.0 else NOISE_EVERY)

    @property
    def listed(self) -> tuple[str, ...]:
        """The standard error and, where they are told, the errors of the step and the rate of a step."""
        steps = [] if self._twins is None else [*(f"{name}_step_error" for name in recorded(self.model)), "slope"]
        return ("loss_standard_error", *steps)

    def _start(self, law: Sampler, rng: np.random.Generator) -> Array:
        radii = law.sample(rng, self.particles)
        directions = rng.standard_normal((self.particles, self.problem.dimension))
        return np.ascontiguousarray(radii * directions / np.linalg.norm(directions, axis=1, keepdims=True))

    # -- the measure's verbs

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Go on until round(t/s) steps are done; ``between_steps`` is not called. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            ArgumentError: the first step is unstable.
            InvariantError: a weight became infinite or NaN, or |w| grew a thousandfold, on all ranks.
        """
        require_ahead("runs", self.time, t)
        began, count = time.perf_counter(), round(t / self.step) - self._steps
        if self._steps == 0 and count and self._twins is not None:
            self.require_stable()
        for w, rng in zip(self._w, self._streams, strict=True):
            self._run(w, rng, count)
        self._require_good(t)
        self.time, self._steps = t, self._steps + count
        self._seconds += time.perf_counter() - began
        if self._twins is not None:
            self._twins.advance(t, self.step)

    def _require_good(self, t: float) -> None:
        """Refuse weights that have run away on the way to t; on every rank alike."""
        lost = self.comm.allreduce(sum(int(not np.isfinite(w).all()) for w in self._w))
        if lost:
            raise InvariantError(
                f"ensemble: {lost} of {self.runs} networks became infinite or NaN between t = {self.time:g} and t = {t:g}; "
                f"choose an ensemble.step smaller than {self.step:g}"
            )
        grown = largest(self._radii(), self.comm)
        if grown > self._extent.bound(t):
            raise InvariantError(
                f"ensemble: the weights {self._extent.said(grown)} between t = {self.time:g} and t = {t:g}; "
                f"choose an ensemble.step smaller than {self.step:g}"
            )

    def require_stable(self) -> None:
        """Refuse a step that throws the weights farther than it should pull them. Collective.

        Raises:
            ArgumentError: naming the largest good one.
        """
        rate = self.slope().rate
        if self.step * rate > STABLE:
            raise ArgumentError(
                "step",
                f"is {self.step:g}, but it pulls the output at its own sample to the label at the rate {rate:.3g} at "
                f"t = {self.time:g}, and steps longer than {STABLE / rate:.3g} throw it beyond; choose at most "
                f"{STABLE / rate:.3g}, better {rounded_down(DOUBTFUL / rate):g}",
            )

    def slope(self) -> Slope:
        """The rate at which a step pulls ŷ of its own sample to y: 2 E[|x|² ⟨σ'(⟨w, x⟩)²⟩], in run 0. Collective.

        A step of length s multiplies y − ŷ by 1 − 2s|x|²⟨σ'²⟩: that of one sample is stiffer than the limit by the dimension.
        """
        cloud = self._shares.gather([w for w, (run, _) in zip(self._w, self._shares.owned, strict=True) if run == 0])

        def found() -> Slope:
            assert cloud is not None
            x, _ = self._samples(np.random.Generator(np.random.Philox(1)), ASKED)
            slopes = self.problem.activation.slope(cloud @ x.T)
            rate = float(np.mean(2.0 * (x**2).sum(axis=1) * (slopes**2).mean(axis=0)))
            return Slope(rate, rate)

        return on_first_rank(self.comm, found)

    def _samples(self, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        """x, shape (n, d), and y, shape (n,), drawn by rows: the same samples in chunks of any length."""
        drawn = rng.standard_normal((n, self.problem.dimension + 1))
        y = np.sign(drawn[:, -1])
        return (1.0 + self.problem.delta * y)[:, None] * drawn[:, :-1], y

    def chance(self, h: float, steps: int) -> list[Pass]:
        """Draw the samples of so many steps, and the noise of the time h, for each run of this rank. Local."""
        return [self._pass(rng, h, steps) for rng in self._streams]

    def _pass(self, rng: np.random.Generator, h: float, steps: int) -> Pass:
        x, y = self._samples(rng, steps)
        shape, temperature = (self.particles, self.problem.dimension), self.problem.temperature
        return Pass(x, y, math.sqrt(2.0 * temperature * h) * rng.standard_normal(shape) if temperature > 0.0 else 0.0)

    def follow(self, t: float, h: float, chance: Sequence[Pass]) -> None:
        """Go on by h to time t, in as many steps as there are samples. Collective.

        Raises:
            InvariantError: as `advance`.
        """
        for w, own in zip(self._w, chance, strict=True):
            self._see(w, own, h / len(own.x))
        self._require_good(t)
        self.time, self._steps = t, self._steps + (len(chance[0].x) if chance else 0)

    def _see(self, w: Array, own: Pass, step: float) -> None:
        """Train on samples, in place, and add the noise."""
        problem, work = self.problem, np.empty(len(w))
        knots, changes = np.array(problem.activation.knots), np.array(problem.activation.changes)
        _train_fast(w, own.x, own.y, step, problem.weight_decay, problem.activation.offset, knots, changes, work)
        if problem.temperature > 0.0:
            w += own.noise

    def _run(self, w: Array, rng: np.random.Generator, count: int) -> None:
        chunk = CHUNK if self.problem.temperature == 0.0 else NOISE_EVERY
        for start in range(0, count, chunk):
            n = min(chunk, count - start)
            self._see(w, self._pass(rng, self.step * n, n), self.step)

    def _radii(self) -> list[Array]:
        return [np.linalg.norm(w, axis=1)[:, None] for w in self._w]

    def moments(self) -> Array:
        """Means of the radial features, shape (runs, K), the same on every rank. Collective."""
        return self._shares.mean([self.model.profile(r).sum(axis=0) for r in self._radii()])

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """N⁻¹ Σ_i f(|w_i|) of each run, shape (runs,), for f: (N, 1) → (N,). Collective."""
        return self._shares.mean([f(r).sum(keepdims=True) for r in self._radii()])[:, 0]

    def losses(self) -> Array:
        """The risk E(y − ŷ)² of each network, shape (runs,). Collective."""
        risks = self.comm.allgather([network_risk(self.problem, w) for w in self._w])
        return np.array([risk for part in risks for risk in part])

    def loss_standard_error(self) -> float:
        """Standard error of the mean risk over runs, NaN for a single run: nothing is known of it then. Collective."""
        losses = self.losses()
        return float(losses.std(ddof=1) / math.sqrt(self.runs)) if self.runs > 1 else math.nan

    def cloud(self) -> Cloud | None:
        """Radii of run 0, shape (N, 1), and weights (N,) on rank 0, else None. Collective."""
        return self._shares.first_run(self._radii())

    def numbers(self) -> dict[str, float]:
        """Standard error of the loss, steps taken and, where they are told, errors and rate of the step. Collective."""
        if self._twins is None:
            return loss_and_steps(self)
        errors = self._twins.errors(self.moments(), 0.0)
        return {
            **loss_and_steps(self),
            **{f"{name}_step_error": error for name, error in errors.items()},
            **self.slope().numbers(),
        }

    statistics = size_and_speed

    # -- checkpoints

    arrays = fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, weights (runs, N, d), streams (runs, 13) on rank 0, else None: enough to continue bit for bit. Collective.

        Bit for bit where the noise is added at the same steps: at temperature 0, or at times that are output times of both.
        """
        state = self._shares.state(self.time, self._steps, "weights", self._w, self._streams)
        twins = {} if self._twins is None else self._twins.state()
        return None if state is None else {**state, **twins}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many networks of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs, units or coordinates differ.
        """
        kept, self._w, self._streams = self._shares.received(state, "weights", self.problem.dimension)
        self.time, self._steps = float(kept["time"]), int(kept["steps"])
        if self._twins is not None:
            self._twins.restore(state, self.comm)


def network_risk(problem: Classification, w: Array) -> float:
    """E(y − ŷ)² of the network with weights w, shape (N, d): exact for i = j, by powers of the cosines for i ≠ j.

    U(w, w') = ½Σ_± Σ_k c_k(τ_±|w|) c_k(τ_±|w'|) cos^k over k, even and odd, below TERMS + 1600/d²: units of low dimension have
    neighbours in nearly the same direction, for which the sum converges slowly.
    """
    count = TERMS + 1600 // problem.dimension**2
    radii = np.linalg.norm(w, axis=1)
    directions = w / np.maximum(radii, 1e-300)[:, None]
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, 0.0)
    risk = 1.0
    for sign in (1.0, -1.0):
        scaled = (1.0 + sign * problem.delta) * radii
        coefficients = hermite(problem.activation, scaled, count)
        risk -= sign * float(coefficients[:, 0].mean())
        total = float(coefficients[:, 0].sum() ** 2 - (coefficients[:, 0] ** 2).sum())
        power = np.ones_like(cosines)
        for k in range(1, count):
            power *= cosines
            total += float(coefficients[:, k] @ power @ coefficients[:, k])
        risk += 0.5 * (total + float(problem.activation.mean_square(scaled).sum())) / len(w) ** 2
    return risk
