"""The companion of the diffusion: many independent runs of stochastic gradient descent, on the same data with the same η and B.

    W_{k+1} = W_k − η∇L_B(W_k),        t = ηk,        each run with its own batches,

or, for comparison, as many independent paths of the diffusion dW = b dt + √(2A) dB by Euler–Maruyama. How runs are cut into
blocks that own random streams: `mvpde.particles.blocks`. Between output times there is no communication.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from mvpde.runtime import MPI, ArgumentError, InvariantError, entry  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from numpy.typing import NDArray

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.laws import Sampler
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.particles.accuracy.growth import Extent, extent_of, largest
from mvpde.particles.accuracy.halved import HalvedSteps, Step, halving_factor
from mvpde.particles.accuracy.slope import Slope, require_stable, slope_of
from mvpde.particles.accuracy.step_errors import recorded, step_errors
from mvpde.particles.blocks import SUB_BLOCK, Shares, check_sizes
from mvpde.particles.noise import increment
from mvpde.particles.schemes import DYNAMICS, PARTICLE_SCHEMES, Blocks

IN_WORK = 2**15  # entries of one (runs, batch) array at a time


# --- one step of a block of runs, (W, shape (n, D); stream) → W -----------------------------------------------------------------


@dataclass(frozen=True)
class Dynamics:
    """One step of independent runs.

    Attributes:
        model: the diffusion with which the runs are compared; its features are the moments.
        length: time that a step takes.
        move: (W, stream) → W after one step, shape (n, D), all runs of a block at once.
        exact_times: whether the last step before an output time may be shorter: move(W, stream, h).
        label: in legends.
    """

    model: MeanField
    length: float
    move: Callable[[Array, np.random.Generator, float], Array]
    exact_times: bool
    label: str


def with_replacement(rng: np.random.Generator, runs: int, batch: int, size: int) -> NDArray[np.int32]:
    """Indices of samples, shape (runs, batch), uniform and independent."""
    return rng.integers(0, size, (runs, batch), dtype=np.int32)


def without_replacement(rng: np.random.Generator, runs: int, batch: int, size: int) -> NDArray[np.int32]:
    """A uniform subset of ``batch`` of ``size`` indices in each row, shape (runs, batch).

    Floyd's algorithm (Bentley & Floyd, Comm. ACM 30 (1987) 754), all rows at once: for j = size − batch, …, size − 1 draw
    t uniform on 0..j and take t, or j if t is taken already.
    """
    last = np.arange(size - batch, size)
    drawn = (rng.random((runs, batch)) * (last + 1)).astype(np.int32)
    for column in range(1, batch):
        taken = (drawn[:, :column] == drawn[:, column : column + 1]).any(axis=1)
        drawn[taken, column] = last[column]
    return drawn


def sgd(problem: SgdNetwork, order: int, step: float | None) -> Dynamics:
    """Stochastic gradient descent; a step takes the time η. ``order`` is that of the diffusion it is compared with."""
    if step is not None and step != problem.learning_rate:
        raise ArgumentError(
            "step", f"is {step}, but a step of SGD takes the time learning_rate = {problem.learning_rate}; leave it out"
        )
    draw = with_replacement if problem.replacement else without_replacement
    rows = max(64, IN_WORK // problem.batch_size)

    def move(w: Array, rng: np.random.Generator, _: float) -> Array:
        samples = draw(rng, len(w), problem.batch_size, len(problem.x))
        pieces = [slice(start, start + rows) for start in range(0, len(w), rows)]
        return np.concatenate([w[p] - problem.learning_rate * problem.batch_gradient(w[p], samples[p]) for p in pieces])

    return Dynamics(diffusion_model(problem, order), problem.learning_rate, move, exact_times=False, label="SGD")


def diffusion(problem: SgdNetwork, order: int, step: float | None) -> Dynamics:
    """Euler–Maruyama for the diffusion of order 1 or 2, in steps of at most ``step`` (default η/4)."""
    length = 0.25 * problem.learning_rate if step is None else step
    if not 0.0 < length < math.inf:
        raise ArgumentError("step", f"is {step}; it must be positive")
    model = diffusion_model(problem, order)
    return Dynamics(model, length, euler_maruyama(model), exact_times=True, label="paths of the diffusion")


def euler_maruyama(model: MeanField) -> Callable[[Array, np.random.Generator, float], Array]:
    """(z, stream, h) → z + hb(z) + √(2hA(z)) ξ for a model whose particles do not see each other; weak order 1."""
    noise, unused = increment(model), np.zeros(model.features)
    return lambda z, rng, h: z + h * model.drift(z, unused) + noise(z, unused, rng, h)


# --- the measure ----------------------------------------------------------------------------------------------------------------


class SgdRuns:
    """R independent runs: the law of W_k by its samples.

    Attributes:
        model: the diffusion to compare with, whose features are the moments (the mean loss).
        problem: what is trained.
        time: the last time advanced to. SGD has then made round(time/η) steps.
        step: time that one step takes.
        label: what moves the runs.
    """

    name = "sgd"

    def __init__(
        self,
        problem: SgdNetwork,
        law: Sampler,
        *,
        runs: int,
        seed: int = 0,
        dynamics: str = "sgd",
        order: int = 1,
        step: float | None = None,
        companion: bool = True,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Draw W_0, independent from the law. Collective.

        Args:
            problem: what is trained, with η and B.
            law: law of W_0.
            runs: R ≥ 1.
            seed: ≥ 0; block b of the runs draws from the stream (seed, 0, b).
            dynamics: "sgd" for the chain, "diffusion" for paths of the diffusion.
            order: 1 or 2, the order of the diffusion.
            step: longest step of the diffusion's paths; by default η/4.
            companion: whether copies of some paths of the diffusion tell the error of the step.
            comm: communicator over which the blocks are distributed.

        Raises:
            ArgumentError: an argument outside its range.
        """
        check_sizes(runs, seed, law, problem.coordinates)
        way = entry(DYNAMICS, dynamics, "dynamics")
        self.problem, self.runs, self.seed, self.comm, self.dynamics = problem, runs, seed, comm, dynamics
        self._way, self._asked = way(problem, order, step), (order, step)
        self.model, self.step, self.time = self._way.model, self._way.length, 0.0
        self.label = self._way.label
        self._steps, self._seconds = 0, 0.0
        self._taken = self.step  # length of the last step: output times shorten those of the diffusion
        self._began = 0.0, 0  # time and steps at the last change of η and B
        self._shares = Shares(1, runs, comm)
        self._streams = self._shares.streams(seed)
        self._w = self._shares.start(law, self._streams)
        unused = [np.zeros(self.model.features) for _ in self._w]
        self._extent = extent_of(self.model, self._w, unused, comm)
        self._halved = self._copies(companion)

    def _copies(self, companion: bool) -> HalvedSteps | None:
        """Of paths of the diffusion; a step of SGD is no approximation of anything."""
        if not (companion and self.approximate):
            return None
        return HalvedSteps(self.model, self._shares, PARTICLE_SCHEMES["euler"], self.seed, SUB_BLOCK, self._w)

    @property
    def approximate(self) -> bool:
        """Whether the steps are those of a scheme and not SGD itself."""
        return self._way.exact_times

    @property
    def listed(self) -> tuple[str, ...]:
        """The errors: standard errors, and those of the step of paths of the diffusion; how fast their drift changes."""
        steps = [] if self._halved is None else [*(f"{name}_step_error" for name in recorded(self.model)), "slope"]
        return ("loss_standard_error", *(f"{name}_standard_error" for name in self.model.observables), *steps)

    def _mean(self, sums: list[Array]) -> Array:
        return self._shares.mean(sums)[0]

    # -- the measure's verbs

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Go on to time t: until round(t/η) steps are done, or, for the diffusion, in equal steps that hit t. Collective.

        ``between_steps`` is not called: a step of all runs takes no time worth waiting for, and they keep no state between.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            ArgumentError: the first step of paths of the diffusion is unstable where they are.
            InvariantError: a run became infinite or NaN, or grew a thousandfold, on all ranks. Runs and time stay those before
                the call, the streams have gone on.
        """
        require_ahead("runs", self.time, t)
        began = time.perf_counter()
        count, h = self._plan(t)
        if self.approximate and self._steps == 0 and count:
            require_stable(h, self.slope(), 1, t=self.time, otherwise="")
        with np.errstate(over="ignore", invalid="ignore"):  # found and reported below
            moved = self._moved(count, h)
        lost = self.comm.allreduce(sum(int(np.sum(~np.isfinite(w).all(axis=1))) for w in moved))
        if lost:
            raise InvariantError(
                f"sgd: {lost} of {self.runs} runs became infinite or NaN between t = {self.time:g} and t = {t:g}; "
                f"the runs at t = {self.time:g} are kept. Choose a learning_rate below {self.problem.learning_rate:g}"
            )
        grown = largest(moved, self.comm)
        if grown > self._extent.bound(t):
            raise InvariantError(
                f"sgd: the runs {self._extent.said(grown)} between t = {self.time:g} and t = {t:g}; the runs at "
                f"t = {self.time:g} are kept. Choose a learning_rate below {self.problem.learning_rate:g}"
            )
        self._w, self.time, self._steps = moved, t, self._steps + count
        self._taken = h if count else self._taken
        self._seconds += time.perf_counter() - began

    def _plan(self, t: float) -> tuple[int, float]:
        """Number of steps up to t, and their length."""
        if self._way.exact_times:
            count = math.ceil((t - self.time) / self.step * (1.0 - 1e-12))
            return count, (t - self.time) / max(count, 1)
        since, steps = self._began
        return round((t - since) / self.step) - (self._steps - steps), self.step

    def _moved(self, count: int, h: float) -> Blocks:
        """The runs after so many steps, block by block, followed by their copies."""
        blocks, halved = list(self._w), self._halved
        if halved is None:
            for k, rng in enumerate(self._streams):
                for _ in range(count):
                    blocks[k] = self._way.move(blocks[k], rng, h)
            return blocks
        none = np.zeros((1, self.model.features))
        for step in range(count):
            sources = halved.recorders(self._streams)
            reading = cast("list[np.random.Generator]", sources)  # paths of the diffusion draw normal numbers only
            after = [self._way.move(w, source, h) for w, source in zip(blocks, reading, strict=True)]
            normals = [source.kept for source in sources]
            halved.follow(Step(self.model, self.time + step * h, h, normals, none, none, blocks, after))
            blocks = after
        return blocks

    def slope(self) -> Slope:
        """How fast the drift of the diffusion changes where the runs are. Collective."""
        return slope_of(self.model, self._w, np.zeros(self.model.features), self.comm)

    def change(self, problem: SgdNetwork) -> None:
        """From now on train with the η and B of another problem, from the weights there are: one stretch of a schedule.

        Steps are counted anew from here, so that times of change should be multiples of the η before, and later times lie
        multiples of the new one after it.

        Raises:
            ValueError: if the network has another number of weights.
        """
        if problem.dimension != self.problem.dimension:
            raise ArgumentError("problem", f"the runs have {self.problem.dimension} weights, it has {problem.dimension}")
        self.problem, self._way = problem, DYNAMICS[self.dynamics](problem, *self._asked)
        self.model, self.step = self._way.model, self._way.length
        self._began = self.time, self._steps
        self._halved = self._copies(self._halved is not None)

    def averages(self, functions: Sequence[Callable[[Array], Array]], times: Sequence[float]) -> tuple[Array, Array]:
        """Means of f(W_t) over runs and over increasing times still to come, and their standard errors, shapes (K,). Collective.

        The standard errors come from the scatter of the runs' own time averages, which are independent whatever the
        correlations along a run. The runs end at the last of the times.
        """
        sums = [np.zeros((len(functions), len(w))) for w in self._w]
        for t in times:
            self.advance(t)
            for total, w in zip(sums, self._w, strict=True):
                total += [f(w) for f in functions]
        sums = [total / len(times) for total in sums]
        means = self._mean([total.sum(axis=1) for total in sums])
        variances = self._mean([((total - means[:, None]) ** 2).sum(axis=1) for total in sums])
        return means, np.sqrt(variances / max(self.runs - 1, 1))

    def moments(self) -> Array:
        """⟨g⟩ over all runs, shape (1, K), the same bits on every rank: for a small network ⟨L⟩. Collective."""
        return self._shares.mean([self.model.profile(w).sum(axis=0) for w in self._w])

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """⟨f(W)⟩ over all runs, shape (1,), for f: (N, D) → (N,). Collective."""
        return self._mean([np.sum(f(w), keepdims=True) for w in self._w])

    def estimate(self, f: Callable[[Array], Array]) -> tuple[float, float]:
        """⟨f(W)⟩ and its standard error, the sample standard deviation / √R (infinite for one run). Collective."""
        mean = float(self.expectation(f)[0])
        variance = float(self.expectation(lambda w: (f(w) - mean) ** 2)[0])
        return mean, math.sqrt(variance / (self.runs - 1)) if self.runs > 1 else math.inf

    def loss_standard_error(self) -> float:
        """Standard error of ⟨L⟩. Collective."""
        return self.estimate(self.problem.loss)[1]

    def losses(self) -> Array:
        """⟨L⟩ over all runs, shape (1,). Collective."""
        return np.asarray(self.model.outer_energy(self.moments()))

    def cloud(self) -> Cloud | None:
        """Points (R, D) and weights (R,) on rank 0, else None. Collective."""
        return self._shares.first_run(self._w)

    def numbers(self) -> dict[str, float]:
        """Standard errors of the losses, and steps taken. Collective."""
        others = {f"{name}_standard_error": self.estimate(f)[1] for name, f in self.model.observables.items()}
        return {"loss_standard_error": self.loss_standard_error(), **others, "steps": self._steps, **self._of_steps()}

    def _of_steps(self) -> dict[str, float]:
        """Length of the last step, its errors, and the slope, where the step approximates something."""
        if self._halved is None:
            return {}
        slope = self.slope()
        factor = halving_factor(1, self._taken * slope.rate)
        errors = step_errors(self._halved, self._w, self.moments(), factor, self._extent.start)
        return {**{f"{name}_step_error": error for name, error in errors.items()}, **slope.numbers(), "step": self._taken}

    def statistics(self) -> dict[str, Number]:
        """Size, η, B, noise scale, steps, and steps of runs per second of ``advance`` (all runs and ranks together)."""
        return {
            "runs": self.runs,
            "seed": self.seed,
            "dynamics": self.dynamics,
            "learning_rate": self.problem.learning_rate,
            "batch_size": self.problem.batch_size,
            "replacement": self.problem.replacement,
            "noise_scale": self.problem.noise_scale,
            "steps": self._steps,
            "step": self.step,
            "run_steps_per_second": self._steps * self.runs / self._seconds if self._seconds > 0.0 else 0.0,
        }

    # -- checkpoints

    arrays = fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, weights (1, R, D), streams (blocks, 13), last change of η on rank 0, else None. Collective."""
        state = self._shares.state(self.time, self._steps, "weights", self._w, self._streams)
        copies = {} if self._halved is None else self._halved.state()
        began = {"began": np.array(self._began, dtype=np.float64), "extent": self._extent.array()}
        return None if state is None else {**state, **copies, **began}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many runs of the same (present) problem, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs or weights differ.
        """
        kept, self._w, self._streams = self._shares.received(state, "weights", self.problem.dimension)
        self.time, self._steps = float(kept["time"]), int(kept["steps"])
        since, steps = np.asarray(kept["began"])
        self._began = float(since), int(steps)
        self._extent = Extent(*np.asarray(kept["extent"], float).tolist()) if "extent" in kept else self._extent
        if self._halved is not None:
            self._halved.restore(kept, self._w)


# --- what is observed -----------------------------------------------------------------------------------------------------------


def observed(problem: SgdNetwork) -> dict[str, Callable[[Array], Array]]:
    """W_a, W_aW_b and L by name, each (N, D) → (N,)."""
    names = problem.coordinates
    functions = {name: _product(a) for a, name in enumerate(names)}
    pairs = [(b, a) for a in range(len(names)) for b in range(a + 1)]
    return functions | {f"{names[b]}*{names[a]}": _product(b, a) for b, a in pairs} | {"loss": problem.loss}


def _product(*axes: int) -> Callable[[Array], Array]:
    return lambda w: np.asarray(w[:, axes].prod(axis=1))
