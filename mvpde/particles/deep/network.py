"""The measure made of wide deep networks: R runs of L layers of N units, with all their N² weights between two layers.

    z^{ℓ+1}_j = N⁻¹ Σ_i σ^ℓ(z^ℓ_i, θ^ℓ_ij),     θ̇ = −N² ∂E/∂θ − ∂V0/∂θ + √(2τ) Ḃ,

never independent particles: what is independent of what comes out as N grows (Araújo, Oliveira & Yukimura, arXiv:1906.00193).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.mean_field import Array
from mvpde.particles.accuracy.growth import Extent
from mvpde.particles.accuracy.slope import Slope, require_stable, slope_of_flow
from mvpde.particles.accuracy.step_errors import recorded
from mvpde.particles.accuracy.twins import Twins, smaller
from mvpde.particles.blocks import whole
from mvpde.particles.deep.driven import LimitPath
from mvpde.particles.deep.kernels import Integers
from mvpde.particles.deep.modes import MODES
from mvpde.particles.deep.passes import Scratch, Weights, ahead
from mvpde.particles.deep.rows import groups
from mvpde.particles.deep.samples import Samples, whole_steps
from mvpde.particles.deep.steps import SCHEMES, Chance, Motion, RunGroup, Start, drawn, of_whole_steps
from mvpde.particles.deep.weights import (
    ConditionalMoments,
    column_means,
    conditional_moments,
    dot,
    first_weights,
    flat,
    gaps,
    joined,
    kept,
    layer_arrays_of,
    mean_over_weights,
    moving,
    row_means,
    take_up,
    unflat,
    weights_of,
)
from mvpde.particles.schemes import PARTICLE_SCHEMES

UPDATES = 3_000_000  # of a weight by one sample, a second or so, after which a network lets others look at it


class Network:
    """R independent runs of a network of width N.

    Attributes:
        network: the network without its width.
        model: what records and pictures ask of a model; its moments are the predictions.
        time: t, in the clock of the limit.
        step: length of the last step taken; before the first, the length asked for.
    """

    name = label = "network"

    def __init__(
        self,
        network: DeepNetwork,
        start: Start,
        *,
        width: int,
        runs: int = 1,
        seed: int = 0,
        mode: str = "descent",
        step: float = 0.05,
        samples: Samples | None = None,
        limit: LimitPath | None = None,
        companion: bool = True,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Draw A, B and all θ. Collective.

        Args:
            network: depth, units, data, loss, temperature.
            start: laws of the weights.
            width: N ≥ 1.
            runs: independent runs, ≥ 1.
            seed: ≥ 0.
            mode: a name in `mvpde.particles.deep.modes.MODES`.
            step: longest time step ε > 0. A step of descent moves θ by −εN² ∂E/∂θ.
            samples: those of the mode "prescribed", with the length of their steps.
            limit: drives the weights instead of their own network: copies of a network of the same seed.
            companion: whether smaller networks tell the error of the step, for a tenth of the work; not where the samples of
                the steps are prescribed, which the limit sees too.
            comm: communicator over which the rows are distributed.

        Raises:
            ArgumentError: an argument outside its range, or a mode that does not fit the temperature.
        """
        _check_counts(width, runs, seed)
        _check_motion(network, mode, step, samples)
        self.network, self.width, self.runs, self.seed, self.comm = network, width, runs, seed, comm
        self.mode, self.model = mode, network.mean_field()
        self.time, self.step = 0.0, step if samples is None else samples.step
        self._longest_step, self._prescribed = self.step, samples
        self._steps, self._seconds = 0, 0.0
        self._motion = Motion(network, Scratch(), limit)
        kept = len(network.layers) * width**2 * len(network.data.weights)
        self._groups = [drawn(network, rows, start, seed) for rows in groups(runs, width, kept, comm)]
        self._seen: list[tuple[Array, list[Array]]] | None = None  # h and z^ℓ of each group at the present time
        self._extent = self._started()
        self._twins = self._smaller(start) if companion and limit is None and samples is None else None

    def _started(self) -> Extent:
        """How far the weights of all ranks are at the start, how fast, and their noise. Collective."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            speeds = [self._motion.velocity(group, group.weights, 0.0, 0, None) for group in self._groups]
        now = [group.weights for group in self._groups]
        return Extent(self._largest(now), self._largest(speeds), self.network.temperature)

    def _largest(self, weights: Sequence[Weights]) -> float:
        """max|θ| over all that moves, NaN where one is. Collective."""
        mine = [max(x.max(initial=0.0), -x.min(initial=0.0)) for part in weights for x in moving(self.network, part)]
        return float(np.max(self.comm.allgather(np.max(mine))))

    def _smaller(self, start: Start) -> Twins[list[Chance]]:
        """Networks that tell the error of the step. Collective."""
        sampled = MODES[self.mode].sampled
        width, runs = smaller(self.width, self.runs, power=2, sampled=sampled)

        def made() -> Network:
            way = {"seed": self.seed, "mode": self.mode, "step": self._longest_step}
            return Network(self.network, start, width=width, runs=runs, companion=False, comm=self.comm, **way)  # type: ignore[arg-type]

        return Twins([made() for _ in range(1 + sampled)], made(), self._order, of_whole_steps)

    @property
    def listed(self) -> tuple[str, ...]:
        """The standard error and, where they are told, the errors of the step and the slope of the velocity."""
        steps = [] if self._twins is None else [*(f"{name}_step_error" for name in recorded(self.model)), "slope"]
        return ("loss_standard_error", *steps)

    # -- steps

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the weights to time t in equal steps no longer than ``step``; on samples, of just that length. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number; no whole number of steps on samples.
            ArgumentError: the first step is unstable.
            InvariantError: a weight became infinite or NaN, or grew a thousandfold, on all ranks. Weights and time stay those
                before that step.
        """
        require_ahead("a network", self.time, t)
        start, work = self.time, len(self.network.layers) * self.runs * self.width**2
        often = max(1, UPDATES // work)
        count, h = self._count(start, t)
        if self._steps == 0 and count:
            self.require_stable(h)
        for k in range(1, count + 1):
            began = time.perf_counter()
            self._one_step(t if k == count else start + (t - start) * k / count, h)
            self._seconds += time.perf_counter() - began
            if k % often == 0:
                between_steps()
        if self._twins is not None and count:
            self._twins.advance(t, h)

    def _count(self, start: float, t: float) -> tuple[int, float]:
        """How many steps, and how long: on samples their length is part of the model."""
        if MODES[self.mode].sampled:
            return whole_steps(start, t, self._longest_step), self._longest_step
        count = math.ceil((t - start) / self._longest_step * (1.0 - 1e-12))
        return count, (t - start) / max(count, 1)

    def require_stable(self, h: float) -> None:
        """Refuse steps of length h beyond the bound of stability, where the slope is known. Collective.

        Raises:
            ArgumentError: naming the largest good one.
        """
        if self._twins is not None:
            require_stable(h, self._twins.slope, 2, t=self.time, otherwise="")

    @property
    def _order(self) -> int:
        """Of the steps."""
        return PARTICLE_SCHEMES[MODES[self.mode].scheme].order

    def _one_step(self, t: float, h: float) -> None:
        self.follow(t, h, (self._chance(group, h) for group in self._groups))

    def chance(self, h: float, steps: int = 1) -> list[Chance]:
        """Draw the noise and the samples of one step of length h, of each group of runs. Local."""
        del steps  # always one
        return [self._chance(group, h) for group in self._groups]

    def _chance(self, group: RunGroup, h: float) -> Chance:
        return Chance(self._motion.noise(group, h), self._samples(group))

    def follow(self, t: float, h: float, chance: Iterable[Chance]) -> None:
        """Take a step of length h to time t with a chance that has been drawn. Collective.

        Raises:
            InvariantError: as `advance`.
        """
        step = SCHEMES[MODES[self.mode].scheme]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # found and reported below
            for group, own in zip(self._groups, chance, strict=True):
                step(self._motion, group, self.time, h, own)
            grown = self._largest([group.other for group in self._groups])
        if not grown <= self._extent.bound(t):
            what = self._extent.said(grown) if math.isfinite(grown) else "became infinite or NaN"
            raise InvariantError(
                f"network: weights {what} in the step ({self.mode}) from t = {self.time:g} of length {h:g}; the state at "
                f"t = {self.time:g} is kept. Choose a network.step smaller than {h:g}."
            )
        for group in self._groups:
            group.weights, group.other = group.other, group.weights
        self.time, self.step, self._seen = t, h, None
        self._steps += 1

    def _samples(self, group: RunGroup) -> Integers | None:
        """The sample that this step sees in each run, shape (runs, 1); None: all of them."""
        if not MODES[self.mode].sampled:
            return None
        if self._prescribed is not None:
            order = self._prescribed.order
            return np.full((group.rows.runs, 1), order[self._steps % len(order)], np.int64)
        distribution = np.cumsum(self.network.data.weights)
        u = np.array([rng.random() for rng in group.samples]) * distribution[-1]
        return np.minimum(np.searchsorted(distribution, u, side="right"), len(distribution) - 1)[:, None]

    # -- what it answers

    def _present(self) -> list[tuple[Array, list[Array]]]:
        """h, shape (runs, P), and z^ℓ, ℓ = 1 … L, of each group; collective where it is not known."""
        if self._seen is None:
            seen = [ahead(self.network, group.rows, group.weights, self._motion.scratch) for group in self._groups]
            self._seen = [(inputs.h, inputs.z) for inputs in seen]
        return self._seen

    def moments(self) -> Array:
        """ŷ(x_p) of each run, shape (runs, P), the same bits on every rank. Collective."""
        return self.network.predictions(np.concatenate([h for h, _ in self._present()]))

    def units(self) -> list[Array]:
        """z^ℓ(x_p) of every unit, ℓ = 1 … L, shape (runs, P, N) each, the same bits on every rank. Collective."""
        return [np.concatenate(layer) for layer in zip(*(z for _, z in self._present()), strict=True)]

    def ends(self) -> tuple[Array, Array]:
        """A, shape (runs, N, q), and B, shape (runs, N)."""
        groups = self._groups
        return np.concatenate([g.weights.first for g in groups]), np.concatenate([g.weights.last for g in groups])

    def labels(self) -> tuple[Array, Array]:
        """A and B at t = 0, of the same shapes."""
        groups = self._groups
        return np.concatenate([g.start.first for g in groups]), np.concatenate([g.start.last for g in groups])

    def losses(self) -> Array:
        """E of each run, shape (runs,). Collective."""
        return np.asarray(self.network.energy(self.moments()))

    def loss_standard_error(self) -> float:
        """Sample standard deviation of the runs' losses / √runs; NaN for one run. Collective."""
        return float(np.std(self.losses(), ddof=1) / math.sqrt(self.runs)) if self.runs > 1 else math.nan

    def layer(self, number: int) -> Array | None:
        """The trained weights of layer 1 … L − 1, shape (runs, N, N, D), rows first, on rank 0, else None. Collective."""
        return weights_of(self.network, self._groups, number)

    def distance(self, other: Network) -> Array:
        """Mean of |θ_ij − θ'_ij| over i, j to a network of the same size on the same ranks, shape (runs, L − 1). Collective."""
        return np.concatenate([gaps(a, b) for a, b in zip(self._groups, other._groups, strict=True)])

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """Mean of f over the weights of all layers together, shape (runs,), for f: (N, D) → (N,). Collective."""
        return np.concatenate([mean_over_weights(self.network, group, f) for group in self._groups])

    def cloud(self) -> Cloud | None:
        """Weights of run 0 as points of all coordinates on rank 0, else None: those between the first 128 units. Collective."""
        return first_weights(self.network, self._groups[0])

    def conditional_moments(self) -> ConditionalMoments:
        """Means of weights, squares and products with labels, of each run. Collective."""
        return joined([conditional_moments(self.network, group) for group in self._groups])

    def means_into(self, number: int) -> Array:
        """N⁻¹ Σ_i θ_ij of the trained weights of layer 1 … L − 1, shape (runs, N, D): of those into unit j. Collective."""
        return np.concatenate([column_means(self.network, group, number) for group in self._groups])

    def means_out_of(self, number: int) -> Array:
        """N⁻¹ Σ_j θ_ij, shape (runs, N, D): of the weights out of unit i. Collective."""
        return np.concatenate([row_means(self.network, group, number) for group in self._groups])

    def slope(self) -> Slope:
        """How fast the velocity of the weights changes, all of a group together, on all data. Collective."""
        slopes = [self._slope_of(group) for group in self._groups]
        return max(slopes, key=lambda one: one.rate)

    def _slope_of(self, group: RunGroup) -> Slope:
        def velocity(x: Array) -> Array:
            moved = self._motion.velocity(group, unflat(self.network, group.weights, x), self.time, 0, None)
            return flat(self.network, moved)

        return slope_of_flow(velocity, flat(self.network, group.weights), partial(dot, self.network, group))

    def step_errors(self) -> dict[str, float]:
        """Errors that the length of the steps has made in loss, law and predictions; {} where nothing tells them. Collective.

        See `mvpde.particles.accuracy.twins`.
        """
        least = 0.0 if self.network.temperature > 0.0 else self._extent.start
        return {} if self._twins is None else self._twins.errors(self.moments(), least)

    def numbers(self) -> dict[str, float]:
        """Standard error of the loss, steps taken, errors of the step, and the slope of the velocity. Collective."""
        slope = {} if self._twins is None else self._twins.slope.numbers()
        errors = {f"{name}_step_error": error for name, error in self.step_errors().items()}
        return {"loss_standard_error": self.loss_standard_error(), "steps": self._steps, **errors, **slope}

    def arrays(self) -> dict[str, Array]:
        """Predictions, z̄² … z̄^L, means, variances and covariances with the labels, means over runs. Collective.

        In the layout of `mvpde.models.deep.statistics`.
        """
        inputs = np.array([z.mean(axis=(0, 2)) for z in self.units()[1:]])
        known = {"predictions": self.moments().mean(axis=0), "inputs": inputs}
        known |= layer_arrays_of(self.network, self.conditional_moments())
        if self.network.train_ends:
            first, last = self.ends()
            known["ends_mean"] = np.append(first.mean(axis=(0, 1)), last.mean())
        return known

    def statistics(self) -> dict[str, Number]:
        """Sizes, mode, steps, and updates of a weight per second."""
        updates = self._steps * self.runs * self.width**2 * len(self.network.layers)
        return {
            "width": self.width,
            "runs": self.runs,
            "seed": self.seed,
            "mode": self.mode,
            "steps": self._steps,
            "step": self.step,
            "weight_updates_per_second": updates / self._seconds if self._seconds > 0 else 0.0,
        }

    # -- checkpoints

    fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, weights and streams on rank 0, else None: enough to continue bit for bit. Collective."""
        parts, twins = kept(self.network, self._groups), {} if self._twins is None else self._twins.state()
        if parts is None:
            return None
        extent = {"extent": self._extent.array()}
        return {"time": np.float64(self.time), "steps": np.int64(self._steps), **extent, **parts, **twins}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of a network of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of another network.
        """
        state = self.comm.bcast(state)
        if state is None:
            raise ValueError("a measure is restored from the state on rank 0, which is missing")
        take_up(self.network, self._groups, state)
        self.time, self._steps, self._seen = float(state["time"]), int(state["steps"]), None
        self._extent = Extent(*np.asarray(state["extent"], float).tolist()) if "extent" in state else self._extent
        if self._twins is not None:
            self._twins.restore(state, self.comm)


def _check_counts(width: int, runs: int, seed: int) -> None:
    for argument, value, least in (("width", width, 1), ("runs", runs, 1), ("seed", seed, 0)):
        if not whole(value):
            raise ArgumentError(argument, f"must be a whole number, not {value!r}")
        if value < least:
            raise ArgumentError(argument, f"must be at least {least}, not {value!r}")


def _check_motion(network: DeepNetwork, mode: str, step: float, samples: Samples | None) -> None:
    if not (math.isfinite(step) and step > 0):
        raise ArgumentError("step", f"must be positive, not {step!r}")
    if mode not in MODES:
        raise ArgumentError("mode", f"must be one of {', '.join(MODES)}, not {mode!r}")
    reason = MODES[mode].refuses(mode, network.temperature)
    if reason is not None:
        raise ArgumentError("mode", reason)
    if (samples is not None) != MODES[mode].prescribed:
        raise ArgumentError("samples", 'belong to the mode "prescribed", which needs them; leave them out, or change the mode')
    if samples is not None and max(samples.order) >= len(network.data.weights):
        raise ArgumentError("samples", f"are numbered from 0 to {len(network.data.weights) - 1}; correct their order")
