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
from mvpde.particles.blocks import stream, whole

UPDATES = 3_000_000  # of a weight by one data point, a second or so, after which the runs let others look at them
MODES = ("descent", "heun")


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
    listed = ("loss_standard_error",)

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

    def _share(self, rank: int) -> range:
        """The runs of a rank."""
        return range(rank * self.runs // self.comm.size, (rank + 1) * self.runs // self.comm.size)

    # -- steps

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the weights to time t in equal steps no longer than ``step``. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            InvariantError: a weight became infinite or NaN, on all ranks. Weights and time stay those before that step.
        """
        require_ahead("a network", self.time, t)
        start, work = self.time, self.runs * self.layers * self.width * len(self.limit.inputs)
        often = max(1, UPDATES // work)
        count = math.ceil((t - start) / self._longest_step * (1.0 - 1e-12))
        for k in range(1, count + 1):
            began = time.perf_counter()
            self._one_step(t if k == count else start + (t - start) * k / count, (t - start) / count)
            self._seconds += time.perf_counter() - began
            if k % often == 0:
                between_steps()

    def _one_step(self, t: float, h: float) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # found and reported below
            theta = [self._stepped(own, h) for own in self._theta]
        if not math.isfinite(self.comm.allreduce(float(sum(own.sum() for own in theta)))):
            raise InvariantError(
                f"network: weights became infinite or NaN in the step ({self.mode}) from t = {self.time:g} of length {h:g}; the "
                f"state at t = {self.time:g} is kept. Choose a network.step smaller than {h:g}."
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

    def numbers(self) -> dict[str, float]:
        """Standard error of the loss, and steps taken. Collective."""
        return {"loss_standard_error": self.loss_standard_error(), "steps": self._steps}

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
        parts = self.comm.gather(self._theta)
        if parts is None:
            return None
        weights = np.array([own for part in parts for own in part])
        return {"time": np.float64(self.time), "steps": np.int64(self._steps), "weights": weights}

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
