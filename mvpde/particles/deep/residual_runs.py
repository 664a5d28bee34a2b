"""The measure made of residual networks: R runs of K layers of M units, each layer with weights of its own.

    x_{k+1} = x_k + (KM)⁻¹ Σ_j f(x_k, θ_kj),      θ̇ = −KM ∂E/∂θ,

with the exact gradient, in which A_{k+1} = ∂E/∂x_{k+1} multiplies f(x_k): the factor KM makes the clock that of the limit. A run
is computed by one rank from a stream of its own, so nothing depends on the number of ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.deep.resnet import ResidualLimit, layers, told_by_layers
from mvpde.models.deep.units import Array
from mvpde.models.laws import Product
from mvpde.particles.accuracy.growth import Extent
from mvpde.particles.accuracy.slope import Slope, require_stable, slope_of_flow
from mvpde.particles.accuracy.step_errors import recorded
from mvpde.particles.accuracy.twins import Twins, smaller
from mvpde.particles.blocks import stream, whole

UPDATES = 3_000_000  # of a weight by one data point, a second or so, after which the runs let others look at them
ORDERS = {"descent": 1, "heun": 2}
MODES = tuple(ORDERS)


class ResidualRuns:
    """R independent residual networks, trained by full-batch descent.

    Attributes:
        limit: what they are trained for.
        model: what records and pictures ask of a model; its moments are the predictions.
        layers, width: K and M.
        time: t, in the clock of the limit.
        step: length of the last step taken; before the first, the length asked for.
    """

    name = label = "network"

    def __init__(
        self,
        limit: ResidualLimit,
        law: Product,
        *,
        layers: int,
        width: int,
        runs: int = 1,
        seed: int = 0,
        mode: str = "descent",
        step: float = 0.05,
        companion: bool = True,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Draw all weights, independent from the law. Collective.

        Args:
            limit: unit, data, loss.
            law: of the trained weights of a unit at t = 0, the same in every layer.
            layers: K ≥ 1.
            width: M ≥ 1.
            runs: R ≥ 1; run r draws from the stream (seed, r, 0).
            seed: ≥ 0.
            mode: "descent", steps of Euler's method, or "heun".
            step: longest time step, > 0.
            companion: whether narrower networks tell the error of the step, for a tenth of the work.
            comm: communicator over which the runs are distributed.

        Raises:
            ArgumentError: an argument outside its range.
        """
        _check(layers, width, runs, seed, mode, step)
        self.limit, self.model, self.comm = limit, limit.mean_field(), comm
        self.layers, self.width, self.runs, self.seed, self.mode = layers, width, runs, seed, mode
        self.time, self.step, self._longest_step = 0.0, step, step
        self._steps, self._seconds = 0, 0.0
        shape = (layers, width, limit.unit.dimension)
        self._theta = [law.sample(stream(seed, run, 0), layers * width).reshape(shape) for run in self._share(comm.rank)]
        self._outputs: Array | None = None
        speeds = [velocity(limit, own) for own in self._theta]
        self._extent = Extent(self._largest(self._theta), self._largest(speeds))
        self._twins = self._narrower(law) if companion else None

    def _largest(self, theta: Sequence[Array]) -> float:
        """max|θ| over all runs, NaN where one is. Collective."""
        mine = np.max([0.0, *(np.abs(own).max() for own in theta)])
        return float(np.max(self.comm.allgather(mine)))

    def _narrower(self, law: Product) -> Twins[None]:
        """Networks that tell the error of the step. Collective."""
        width, runs = smaller(self.width, self.runs, power=1, sampled=False)

        def made() -> ResidualRuns:
            way = {"seed": self.seed, "mode": self.mode, "step": self.step, "companion": False, "comm": self.comm}
            return ResidualRuns(self.limit, law, layers=self.layers, width=width, runs=runs, **way)  # type: ignore[arg-type]

        return Twins([made()], made(), ORDERS[self.mode], lambda halves: [None])

    @property
    def listed(self) -> tuple[str, ...]:
        """The standard error and, where they are told, the errors of the step and the slope of the velocity."""
        steps = [] if self._twins is None else [*(f"{name}_step_error" for name in recorded(self.model)), "slope"]
        return ("loss_standard_error", *steps)

    def _share(self, rank: int) -> range:
        """The runs of a rank."""
        return range(rank * self.runs // self.comm.size, (rank + 1) * self.runs // self.comm.size)

    # -- steps

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the weights to time t in equal steps no longer than ``step``. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            ArgumentError: the first step is unstable.
            InvariantError: a weight became infinite or NaN, or grew a thousandfold, on all ranks. Weights and time stay those
                before that step.
        """
        require_ahead("a network", self.time, t)
        start, work = self.time, self.runs * self.layers * self.width * len(self.limit.inputs)
        often = max(1, UPDATES // work)
        count = math.ceil((t - start) / self._longest_step * (1.0 - 1e-12))
        if self._steps == 0 and count:
            self.require_stable((t - start) / count)
        for k in range(1, count + 1):
            began = time.perf_counter()
            self.follow(t if k == count else start + (t - start) * k / count, (t - start) / count)
            self._seconds += time.perf_counter() - began
            if k % often == 0:
                between_steps()
        if self._twins is not None and count:
            self._twins.advance(t, self.step)

    def require_stable(self, h: float) -> None:
        """Refuse steps of length h beyond the bound of stability, where the slope is known. Collective.

        Raises:
            ArgumentError: naming the largest good one.
        """
        if self._twins is not None:
            require_stable(h, self._twins.slope, 2, t=self.time, otherwise="")

    def chance(self, h: float, steps: int = 1) -> None:
        """Nothing in a step is random."""

    def follow(self, t: float, h: float, chance: None = None) -> None:
        """Take a step of length h to time t. Collective.

        Raises:
            InvariantError: as `advance`.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # found and reported below
            theta = [self._stepped(own, h) for own in self._theta]
            grown = self._largest(theta)
        if not grown <= self._extent.bound(t):
            what = self._extent.said(grown) if math.isfinite(grown) else "became infinite or NaN"
            raise InvariantError(
                f"network: weights {what} in the step ({self.mode}) from t = {self.time:g} of length {h:g}; the state at "
                f"t = {self.time:g} is kept. Choose a network.step smaller than {h:g}."
            )
        self._theta, self.time, self.step, self._outputs = theta, t, h, None
        self._steps += 1

    def _stepped(self, theta: Array, h: float) -> Array:
        rate = velocity(self.limit, theta)
        if self.mode == "descent":
            return theta + h * rate
        return theta + 0.5 * h * (rate + velocity(self.limit, theta + h * rate))

    # -- what they answer

    def _of_runs(self, of: Callable[[Array], Array]) -> Array:
        """Something of the weights of each run, for all runs in order, the same bits on every rank. Collective."""
        parts = self.comm.allgather([of(own) for own in self._theta])
        return np.array([one for part in parts for one in part])

    def features(self) -> Array:
        """x_0, …, x_K at the data points of each run, shape (runs, K + 1, P). Collective."""
        return self._of_runs(lambda theta: forward(self.limit, theta)[0])

    def moments(self) -> Array:
        """x_K(x_p) of each run, shape (runs, P), the same bits on every rank. Collective."""
        if self._outputs is None:
            self._outputs = self.features()[:, -1]
        return self._outputs.copy()

    def losses(self) -> Array:
        """E of each run, shape (runs,). Collective."""
        return np.asarray(self.limit.energy(self.moments()))

    def loss_standard_error(self) -> float:
        """Sample standard deviation of the runs' losses / √runs; NaN for one run. Collective."""
        return float(np.std(self.losses(), ddof=1) / math.sqrt(self.runs)) if self.runs > 1 else math.nan

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """Mean of f over the units of all layers, shape (runs,), for f: (N, D) → (N,). Collective."""
        return self._of_runs(lambda theta: np.asarray(f(theta.reshape(-1, theta.shape[-1])).mean()))

    def cloud(self) -> Cloud | None:
        """The weights of run 0 as points of equal weights on rank 0, else None. Collective."""
        owner = next(rank for rank in range(self.comm.size) if 0 in self._share(rank))
        points = self.comm.bcast(
            self._theta[0].reshape(-1, self.limit.unit.dimension) if self.comm.rank == owner else None, owner
        )
        return (points, np.full(len(points), 1.0 / len(points))) if self.comm.rank == 0 else None

    def slope(self) -> Slope:
        """How fast the velocity of the weights of the first run changes, all of them together. Collective."""
        owner = next(rank for rank in range(self.comm.size) if 0 in self._share(rank))
        return self.comm.bcast(self._own_slope() if self.comm.rank == owner else None, owner)

    def _own_slope(self) -> Slope:
        theta = self._theta[0]
        return slope_of_flow(
            lambda x: velocity(self.limit, x.reshape(theta.shape)).ravel(), theta.ravel(), lambda x, y: float(x @ y)
        )

    def step_errors(self) -> dict[str, float]:
        """Errors that the length of the steps has made in loss, law and predictions; {} where nothing tells them. Collective.

        See `mvpde.particles.accuracy.twins`.
        """
        return {} if self._twins is None else self._twins.errors(self.moments(), self._extent.start)

    def numbers(self) -> dict[str, float]:
        """Standard error of the loss, steps taken, errors of the step, and the slope of the velocity. Collective."""
        slope = {} if self._twins is None else self._twins.slope.numbers()
        errors = {f"{name}_step_error": error for name, error in self.step_errors().items()}
        return {"loss_standard_error": self.loss_standard_error(), "steps": self._steps, **errors, **slope}

    def arrays(self) -> dict[str, Array]:
        """Predictions, and at depths 0, ½ and 1 features, means and variances over units and runs. Collective.

        As `mvpde.models.deep.resnet.told` says them of the limit.
        """
        first = self._of_runs(lambda theta: theta.mean(axis=1)).mean(axis=0)
        second = self._of_runs(lambda theta: (theta**2).mean(axis=1)).mean(axis=0)
        return told_by_layers(layers(self.layers), self.features().mean(axis=0), first, second)

    def statistics(self) -> dict[str, Number]:
        """Sizes, mode, steps, and updates of a weight per second."""
        updates = self._steps * self.runs * self.layers * self.width
        return {
            "layers": self.layers,
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
        """Time and weights, shape (runs, K, M, D), on rank 0, else None: enough to continue bit for bit. Collective."""
        parts, twins = self.comm.gather(self._theta), {} if self._twins is None else self._twins.state()
        if parts is None:
            return None
        weights = np.array([own for part in parts for own in part])
        known = {"weights": weights, "extent": self._extent.array()}
        return {"time": np.float64(self.time), "steps": np.int64(self._steps), **known, **twins}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of networks of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of others.
        """
        state = self.comm.bcast(state)
        expected = (self.runs, self.layers, self.width, self.limit.unit.dimension)
        if state is None or np.shape(state.get("weights", np.empty(0))) != expected:
            raise ValueError(f"the checkpoint is none of weights of the shape {expected}")
        weights = np.asarray(state["weights"], float)
        self._theta = [weights[run].copy() for run in self._share(self.comm.rank)]
        self.time, self._steps, self._outputs = float(state["time"]), int(state["steps"]), None
        self._extent = Extent(*np.asarray(state["extent"], float).tolist()) if "extent" in state else self._extent
        if self._twins is not None:
            self._twins.restore(state, self.comm)


def forward(limit: ResidualLimit, theta: Array) -> tuple[Array, Array]:
    """x_0, …, x_K, shape (K + 1, P), and act(wx + c) of all units, shape (K, M, P), of weights of the shape (K, M, D)."""
    unit, count = limit.unit, len(theta)
    x, active = np.empty((count + 1, len(limit.inputs))), np.empty((*theta.shape[:2], len(limit.inputs)))
    x[0] = limit.inputs
    for k, own in enumerate(theta):
        active[k] = unit.active(x[k], own[:, None])
        outer = np.broadcast_to(unit.weights(own)[0], len(own))
        x[k + 1] = x[k] + outer @ active[k] / (count * len(own))
    return x, active


def velocity(limit: ResidualLimit, theta: Array) -> Array:
    """−KM ∂E/∂θ, the shape of θ, (K, M, D)."""
    unit, (count, width, _) = limit.unit, theta.shape
    x, active = forward(limit, theta)
    v, w, _ = (np.broadcast_to(weight, (count, width)) for weight in unit.weights(theta))
    slopes = unit.of_active(active)
    growth = 1.0 + np.einsum("km,kmp->kp", v * w, slopes) / (count * width)  # ∂x_{k+1}/∂x_k
    adjoint = np.empty((count, x.shape[1]))
    adjoint[-1] = limit.slope(x[-1])
    for k in range(count - 1, 0, -1):
        adjoint[k - 1] = adjoint[k] * growth[k]
    parts = {
        "v": lambda: np.einsum("kp,kmp->km", adjoint, active),
        "w": lambda: v * np.einsum("kp,kmp->km", adjoint * x[:-1], slopes),
        "c": lambda: v * np.einsum("kp,kmp->km", adjoint, slopes),
    }
    return -np.stack([parts[name]() for name in unit.trained], axis=-1)


def _check(layers: int, width: int, runs: int, seed: int, mode: str, step: float) -> None:
    counts: Sequence[tuple[str, int, int]] = (("layers", layers, 1), ("width", width, 1), ("runs", runs, 1), ("seed", seed, 0))
    for argument, value, least in counts:
        if not whole(value) or value < least:
            raise ArgumentError(argument, f"must be a whole number of at least {least}, not {value!r}")
    if mode not in MODES:
        raise ArgumentError("mode", f'must be one of {", ".join(MODES)}, not "{mode}"')
    if not (math.isfinite(step) and step > 0):
        raise ArgumentError("step", f"must be positive, not {step!r}")
