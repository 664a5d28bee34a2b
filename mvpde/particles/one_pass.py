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
from collections.abc import Callable

from mvpde.runtime import MPI, InvariantError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numba
import numpy as np

from mvpde.measure import Cloud, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.isotropic_gaussians import Classification, hermite
from mvpde.models.laws import Sampler
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.accuracy.growth import extent_of, largest
from mvpde.particles.blocks import Shares, loss_and_steps, size_and_speed, stream

CHUNK = 500  # samples drawn at once
NOISE_EVERY = 20  # steps whose noise is added at once: N·d normal numbers are far more work than a step
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


class OnePassSgd:
    """R independent runs of N units in R^d: a measure on the radius r = |w|.

    Attributes:
        model: the radial limit; its features and observables are what is asked of the runs.
        time: t.
        step: s.
    """

    name = "ensemble"
    label = scheme = "one-pass SGD"
    listed = ("loss_standard_error",)

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

    def _start(self, law: Sampler, rng: np.random.Generator) -> Array:
        radii = law.sample(rng, self.particles)
        directions = rng.standard_normal((self.particles, self.problem.dimension))
        return np.ascontiguousarray(radii * directions / np.linalg.norm(directions, axis=1, keepdims=True))

    # -- the measure's verbs

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Go on until round(t/s) steps are done; ``between_steps`` is not called. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            InvariantError: a weight became infinite or NaN, or |w| grew a thousandfold, on all ranks.
        """
        require_ahead("runs", self.time, t)
        began, count = time.perf_counter(), round(t / self.step) - self._steps
        for w, rng in zip(self._w, self._streams, strict=True):
            self._run(w, rng, count)
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
        self.time, self._steps = t, self._steps + count
        self._seconds += time.perf_counter() - began

    def _run(self, w: Array, rng: np.random.Generator, count: int) -> None:
        problem, work = self.problem, np.empty(len(w))
        knots, changes = np.array(problem.activation.knots), np.array(problem.activation.changes)
        chunk = CHUNK if problem.temperature == 0.0 else NOISE_EVERY
        for start in range(0, count, chunk):
            n = min(chunk, count - start)
            drawn = rng.standard_normal((n, problem.dimension + 1))  # by rows: the same samples in chunks of any length
            y = np.sign(drawn[:, -1])
            x = (1.0 + problem.delta * y)[:, None] * drawn[:, :-1]
            _train_fast(w, x, y, self.step, problem.weight_decay, problem.activation.offset, knots, changes, work)
            if problem.temperature > 0.0:
                w += math.sqrt(2.0 * problem.temperature * self.step * n) * rng.standard_normal(w.shape)

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

    numbers, statistics = loss_and_steps, size_and_speed

    # -- checkpoints

    arrays = fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, weights (runs, N, d), streams (runs, 13) on rank 0, else None: enough to continue bit for bit. Collective.

        Bit for bit where the noise is added at the same steps: at temperature 0, or at times that are output times of both.
        """
        return self._shares.state(self.time, self._steps, "weights", self._w, self._streams)

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many networks of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs, units or coordinates differ.
        """
        kept, self._w, self._streams = self._shares.received(state, "weights", self.problem.dimension)
        self.time, self._steps = float(kept["time"]), int(kept["steps"])


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
