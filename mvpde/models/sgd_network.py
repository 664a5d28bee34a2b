"""Small networks trained by stochastic gradient descent, as diffusions in weight space W ∈ R^D, D ≤ 3.

    L(W) = N⁻¹ Σ_s ℓ(f(x_s; W), y_s) + ½λ|W|²,            W_{k+1} = W_k − η∇L_B(W_k),        t = ηk,
    dW = −∇L dt + √(ηΣ(W)) dB,        Σ = Cov[∇L_B] = C/B, times (N − B)/(N − 1) without replacement,        C = Cov_s[∇ℓ_s],
    ∂_tρ = ∇·(ρ∇L + ∇·(Aρ)),          A = ½ηΣ = gC,  with the noise scale g = η/(2B) (times the same factor).

With the drift −∇(L + ¼η|∇L|²) and the same noise the weak error at a finite time is O(η²) instead of O(η)
(Li, Tai & E, arXiv:1511.06251). The noise scale g: Smith & Le, arXiv:1710.06451. Weight decay is part of every ∇ℓ_s and drops
out of C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvpde.models.data import Data
from mvpde.models.deep.activations import ACTIVATIONS, SMOOTH, Activation
from mvpde.models.losses import LOSSES, SAMPLE_LOSSES, SampleLoss
from mvpde.models.mean_field import Array, MeanField
from mvpde.registry import Registry

IN_WORK = 2**15  # entries of one (points, samples) array at a time: 256 KiB, half a dozen of them stay in the cache


# --- what a network is made of --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """v σ(wx + b): each of w, b, v is the weight W_k with the given k, or left out (b = 0, v = 1)."""

    w: int
    b: int | None = None
    v: int | None = None


@dataclass(frozen=True)
class Architecture:
    """f(x; W) = Σ of terms, with the names of the weights W_1, …, W_D."""

    coordinates: tuple[str, ...]
    terms: tuple[Term, ...]

    def jet(self, sigma: Activation, columns: Sequence[Array], x: Array) -> tuple[Array, list[Array]]:
        """f and ∂f/∂W_k for all k, of the shape that the columns W_k, shape (N, 1), and x, shape (N, B) or (B,), broadcast to."""
        return _jet(self.terms, sigma, columns, x)

    def second(self, sigma: Activation, columns: Sequence[Array], x: Array) -> dict[tuple[int, int], Array]:
        """∂²f/∂W_j∂W_k by (j, k), both orders; pairs that are not there are 0."""
        return _second_derivatives(self.terms, sigma, columns, x)


class ForwardMap(Protocol):
    """A network's prediction f(x; W) with its derivatives in W: what `Architecture` has, and whatever stands in its place."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the weights W_1, …, W_D."""

    def jet(self, sigma: Activation, columns: Sequence[Array], x: Array) -> tuple[Array, list[Array]]:
        """As `Architecture.jet`."""

    def second(self, sigma: Activation, columns: Sequence[Array], x: Array) -> dict[tuple[int, int], Array]:
        """As `Architecture.second`."""


NETWORKS: Registry[Architecture] = Registry(
    "small network",
    {
        "weight": Architecture(("w",), (Term(w=0),)),
        "pair": Architecture(("w1", "w2"), (Term(w=0), Term(w=1))),
        "neuron": Architecture(("w", "v"), (Term(w=0, v=1),)),
        "neuron_bias": Architecture(("w", "b", "v"), (Term(w=0, b=1, v=2),)),
    },
)


def _jet(terms: Sequence[Term], sigma: Activation, columns: Sequence[Array], x: Array) -> tuple[Array, list[Array]]:
    """f and ∂f/∂W_k for all k, of the shape that the columns W_k, shape (N, 1), and x, shape (N, B) or (B,), broadcast to."""
    f: Array = np.zeros(())
    slopes: list[Array] = [np.zeros(()) for _ in columns]
    for term in terms:
        u = columns[term.w] * x
        if term.b is not None:
            u += columns[term.b]
        s = sigma.values(u)
        inner = sigma.slopes(u, s)
        if term.v is None:
            f = f + s
        else:
            f, slopes[term.v] = f + columns[term.v] * s, slopes[term.v] + s
            inner *= columns[term.v]
        slopes[term.w] = slopes[term.w] + inner * x
        if term.b is not None:
            slopes[term.b] = slopes[term.b] + inner
    return f, slopes


def _second_derivatives(
    terms: Sequence[Term], sigma: Activation, columns: Sequence[Array], x: Array
) -> dict[tuple[int, int], Array]:
    """∂²f/∂W_j∂W_k by (j, k), both orders; pairs that are not there are 0."""
    sums: dict[tuple[int, int], Array] = {}

    def add(j: int, k: int, value: Array) -> None:
        for pair in {(j, k), (k, j)}:
            sums[pair] = sums[pair] + value if pair in sums else value

    for term in terms:
        u = columns[term.w] * x + (0.0 if term.b is None else columns[term.b])
        s = sigma.values(u)
        ds, dds = sigma.slopes(u, s), sigma.curvatures(u, s)
        v = 1.0 if term.v is None else columns[term.v]
        inner = [(term.w, x)] + ([] if term.b is None else [(term.b, np.ones(()))])
        for place, (j, factor) in enumerate(inner):
            for k, other in inner[place:]:
                add(j, k, v * dds * factor * other)
            if term.v is not None:
                add(j, term.v, ds * factor)
    return sums


# --- the problem ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SgdNetwork:
    """A small network, its data, and how it is trained. Points W have the shape (N, D); everything is vectorised over them.

    Attributes:
        architecture, activation, sample_loss: f, σ, ℓ.
        x, y: inputs and targets, shapes (S,), S the size of the data set.
        learning_rate: η.
        batch_size: B.
        replacement: whether a batch may hold a sample twice.
        weight_decay: λ.
        centre: θ_0 that the weights decay to, shape (D,); None: 0.
        test: inputs and targets that are not trained on, shapes (S',), where some were held out.
    """

    architecture: ForwardMap
    activation: Activation
    sample_loss: SampleLoss
    x: Array
    y: Array
    learning_rate: float
    batch_size: int
    replacement: bool
    weight_decay: float = 0.0
    centre: Array | None = None
    test: tuple[Array, Array] | None = None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the D weights."""
        return self.architecture.coordinates

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.coordinates)

    @property
    def noise_scale(self) -> float:
        """g = η/(2B), times (S − B)/(S − 1) without replacement: A = gC."""
        return 0.5 * self.learning_rate / self.batch_size * self.finite_population

    @property
    def finite_population(self) -> float:
        """Cov[∇L_B]·B/C: 1 with replacement, (S − B)/(S − 1) without (0 for one sample, whose gradient has no noise)."""
        return 1.0 if self.replacement else (len(self.x) - self.batch_size) / max(len(self.x) - 1, 1)

    def prediction(self, w: Array, x: Array) -> Array:
        """f(x; W), shape (N, len(x)), for inputs x."""
        return np.asarray(self.architecture.jet(self.activation, _columns(w), x)[0])

    def loss(self, w: Array) -> Array:
        """L(W), shape (N,)."""
        away = self._away(w)
        return self.train_loss(w) + 0.5 * self.weight_decay * np.einsum("na,na->n", away, away)

    def _away(self, w: Array) -> Array:
        """W − θ_0."""
        return w if self.centre is None else w - self.centre

    def train_loss(self, w: Array) -> Array:
        """L without the weight decay, shape (N,)."""
        return self._mean_loss(w, self.x, self.y)

    def test_loss(self, w: Array) -> Array:
        """The same mean over the points held out, shape (N,); ValueError where there are none."""
        _require(self.test is not None, "no points are held out, so there is no test loss")
        return self._mean_loss(w, *(self.test or (self.x, self.y)))

    def gradient(self, w: Array) -> Array:
        """∇L(W), shape (N, D)."""
        return self._over_data(lambda w: np.stack([g.mean(axis=1) for g in self._gradients(w, self.x, self.y)], axis=1), w) + (
            self.weight_decay * self._away(w)
        )

    def per_sample_gradient(self, w: Array) -> Array:
        """∇ℓ_s(W) with the weight decay, shape (N, S, D): for small N."""
        return np.stack(self._gradients(w, self.x, self.y), axis=2) + self.weight_decay * self._away(w)[:, None, :]

    def batch_gradient(self, w: Array, samples: NDArray[np.integer]) -> Array:
        """∇L_B(W), shape (N, D), each point with its own batch: indices of samples, shape (N, B)."""
        slopes = self._gradients(w, self.x[samples], self.y[samples])
        return np.stack([g.mean(axis=1) for g in slopes], axis=1) + self.weight_decay * self._away(w)

    def hessian(self, w: Array) -> Array:
        """∇²L(W), shape (N, D, D). For relu: what it is away from the kinks."""
        return self._over_data(self._block_hessian, w) + self.weight_decay * np.eye(self.dimension)

    def covariance(self, w: Array) -> Array:
        """C(W) = S⁻¹ Σ_s (∇ℓ_s − ∇L)(∇ℓ_s − ∇L)ᵀ, shape (N, D, D): the covariance of the gradient of one sample, exactly."""
        return self._over_data(self._block_covariance, w)

    def diffusion(self, w: Array) -> Array:
        """A(W) = ½ηΣ = gC, shape (N, D, D)."""
        return self.noise_scale * self.covariance(w)

    def drift(self, w: Array, order: int = 1) -> Array:
        """−∇L, or with order 2 −∇(L + ¼η|∇L|²) = −∇L − ½η∇²L∇L, shape (N, D)."""
        return DRIFTS[order](self, w)

    def _mean_loss(self, w: Array, x: Array, y: Array) -> Array:
        return self._over_data(lambda w: np.asarray(self.sample_loss.value(self.prediction(w, x), y).mean(axis=1)), w, len(x))

    def _gradients(self, w: Array, x: Array, y: Array) -> list[Array]:
        """∂ℓ/∂W_k for all k without the weight decay, shapes (N, B)."""
        f, slopes = self.architecture.jet(self.activation, _columns(w), x)
        residual = self.sample_loss.slope(f, y)
        return [np.multiply(residual, slope, out=slope) for slope in slopes]

    def _block_covariance(self, w: Array) -> Array:
        centred = self._gradients(w, self.x, self.y)
        for g in centred:
            g -= g.mean(axis=1, keepdims=True)  # centred first: C stays positive semidefinite to rounding
        result = np.empty((len(w), self.dimension, self.dimension))
        for j, first in enumerate(centred):
            for k, second in enumerate(centred[: j + 1]):
                result[:, j, k] = result[:, k, j] = np.einsum("ns,ns->n", first, second) / len(self.x)
        return result

    def _block_hessian(self, w: Array) -> Array:
        columns = _columns(w)
        f, slopes = self.architecture.jet(self.activation, columns, self.x)
        curvature, residual = self.sample_loss.curvature(f, self.y), self.sample_loss.slope(f, self.y)
        second = self.architecture.second(self.activation, columns, self.x)
        result = np.empty((len(w), self.dimension, self.dimension))
        for j, first in enumerate(slopes):
            for k, other in enumerate(slopes[: j + 1]):
                total = curvature * first * other
                if (j, k) in second:
                    total += residual * second[j, k]
                result[:, j, k] = result[:, k, j] = total.mean(axis=1)
        return result

    def _over_data(self, block: Callable[[Array], Array], w: Array, samples: int | None = None) -> Array:
        """``block`` of successive rows of W, so that no array has more than IN_WORK entries whatever N·S is."""
        rows = max(16, IN_WORK // (samples or len(self.x)))
        pieces = [block(w[start : start + rows]) for start in range(0, len(w), rows)]
        return np.concatenate(pieces) if pieces else block(w)


def _columns(w: Array) -> list[Array]:
    return [w[:, k : k + 1] for k in range(w.shape[1])]


def _second_order_drift(problem: SgdNetwork, w: Array) -> Array:
    slope = problem.gradient(w)
    return -slope - 0.5 * problem.learning_rate * np.einsum("nab,nb->na", problem.hessian(w), slope)


DRIFTS: dict[int, Callable[[SgdNetwork, Array], Array]] = {1: lambda problem, w: -problem.gradient(w), 2: _second_order_drift}


# --- building -------------------------------------------------------------------------------------------------------------------


def sgd(
    network: str,
    data: Data,
    *,
    learning_rate: float,
    batch_size: int,
    unit: str = "tanh",
    replacement: bool = True,
    loss: str = "least_squares",
    weight_decay: float = 0.0,
) -> SgdNetwork:
    """The training problem of a small network.

    Args:
        network: a name in `NETWORKS`.
        data: one input; equal weights. Points held out in it are those of the test loss.
        learning_rate: η > 0.
        batch_size: B ≥ 1.
        unit: a name in `SMOOTH`.
        replacement: whether batches are drawn with replacement.
        loss: a name in `SAMPLE_LOSSES`; "logistic" needs targets ±1.
        weight_decay: λ ≥ 0.

    Raises:
        ValueError: for an unknown name or a number out of range, a batch larger than the data set without replacement, data with
            several inputs or unequal weights.
    """
    architecture, activation, sample_loss = NETWORKS.require(network), ACTIVATIONS.require(unit), SAMPLE_LOSSES.require(loss)
    _require(unit in SMOOTH, f"unit '{unit}' has no first or second derivative; take one of {', '.join(SMOOTH)}")
    _require(0.0 < learning_rate < math.inf, f"learning_rate is {learning_rate}; it must be positive")
    _require(0.0 <= weight_decay < math.inf, f"weight_decay is {weight_decay}; it must be 0 or positive")
    _check_batches(batch_size, replacement, len(data.target))
    _check_data(data, loss)
    return SgdNetwork(
        architecture=architecture,
        activation=activation,
        sample_loss=sample_loss,
        x=np.ascontiguousarray(data.x[:, 0]),
        y=np.ascontiguousarray(data.target),
        learning_rate=float(learning_rate),
        batch_size=batch_size,
        replacement=replacement,
        weight_decay=float(weight_decay),
        test=None if data.test is None else (data.test.x[:, 0], data.test.target),
    )


def _check_batches(batch_size: int, replacement: bool, size: int) -> None:
    _require(batch_size >= 1, f"batch_size is {batch_size}; it must be at least 1")
    _require(
        replacement or batch_size <= size,
        f"batch_size is {batch_size}, but the data set has {size} samples and replacement is false; "
        f"choose a batch_size of at most {size} or replacement = true",
    )


def _check_data(data: Data, loss: str) -> None:
    _require(data.x.shape[1] == 1, f"a small network has one input, the data have {data.x.shape[1]}")
    same = bool(np.ptp(data.weights) <= 1e-12 * data.weights.max())
    _require(same, "every sample needs the same weight: SGD draws them uniformly")
    LOSSES[loss](data)  # the classes of the logistic loss are checked there


def diffusion_model(problem: SgdNetwork, order: int = 1) -> MeanField:
    """The diffusion of SGD as a model: drift −∇L (order 2: −∇(L + ¼η|∇L|²)), A = gC. Its one feature is L, so V = L and m = ⟨L⟩.

    Args:
        problem: what is trained; with points held out, the mean losses on both parts are observables.
        order: 1 or 2, of the weak error in η at a finite time.

    Raises:
        ValueError: for another order.
    """
    _require(order in DRIFTS, f"order is {order}; it must be 1 or 2")
    return MeanField(
        coordinates=problem.coordinates,
        profile=lambda w: problem.loss(w)[:, None],
        profile_field=lambda w, r: (r[0] * problem.loss(w), r[0] * problem.gradient(w)),
        outer_energy=lambda m: m[..., 0],
        outer_gradient=np.ones_like,
        own_drift=lambda w, _: problem.drift(w, order),
        own_diffusion=lambda w, _: problem.diffusion(w),
        interacting=False,
        observables={} if problem.test is None else {"train_loss": problem.train_loss, "test_loss": problem.test_loss},
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
