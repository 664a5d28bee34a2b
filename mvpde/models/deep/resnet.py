"""Residual networks of infinite depth and width, and the sweeps through them (Lu, Ma, Lu, Lu & Ying, arXiv:2003.05508).

    ∂_sX = ∫f(X, θ)ρ(s, dθ),   X(0) = x_p,   0 ≤ s ≤ 1,       E = R(X(1)),   R = Σ_p w_p ℓ(X(1, x_p), y_p)

with f(x, θ) = v·act(wx + c). The adjoint −∂_sA = A ∫∂_xf ρ(s, dθ) from A(1) = ∂E/∂X(1) gives the first variation of E, in which
the law at each depth moves by itself, the marginal ds of the depths being fixed:

    ∂_tρ(s, θ) = ∇_θ·(ρ∇_θV),   V(θ|s) = Σ_p A_p(s) f(X_p(s), θ),      dE/dt = −∫∫|∂_θV|² ρ(s, dθ)ds.

So ρ is a law on labels s. On S labels with integration matrix W (X = x + W·means) and weights β the exact adjoint of what is
computed is A_i = A(1) + Σ_j (β_j W_ji/β_i) T_j A_j: for Gauss's nodes that is the same quadrature of the adjoint equation, and
for the nodes k/K with the sums before them the network of K layers, whose A_{k+1} multiplies f(X_k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mvpde.models.data import Data
from mvpde.models.deep.units import Array, DeepLayer
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.registry import Registry, check_known
from mvpde.runtime import SolverError

REPORTED = (0.0, 0.5, 1.0)  # depths at which inputs, means and variances are told

_ROUNDS = 40  # of Newton's method for the inputs; four do
_SETTLED = 1e-14

Means = Callable[[Array], tuple[Array, Array]]  # inputs X(s), shape (S, P) → ∫f dρ and ∫∂_xf dρ, shape (S, P) each


@dataclass(frozen=True)
class DepthRule:
    """S depths in [0, 1] that stand for all.

    Attributes:
        nodes: s_i, increasing, shape (S,).
        weights: β_i, shape (S,), with sum 1.
        matrix: W with ∫_0^{s_i} h ds ≈ Σ_j W_ij h(s_j), shape (S, S).
        values: row i gives h at `REPORTED` depth i from those at the nodes, shape (3, S).
        integrals: and ∫_0^s h ds there.
    """

    nodes: Array
    weights: Array
    matrix: Array
    values: Array
    integrals: Array

    @property
    def backward(self) -> Array:
        """β_j W_ji/β_i, the matrix of the adjoint, shape (S, S)."""
        return np.asarray(self.matrix.T * self.weights / self.weights[:, None])


def gauss(count: int) -> DepthRule:
    """Gauss–Legendre nodes with the integrals of the polynomials through them: a method of order 2S (Hairer, Nørsett & Wanner,
    Solving ODEs I, 2nd ed., II.7)."""
    t, w = np.polynomial.legendre.leggauss(count)
    nodes, powers = 0.5 * (t + 1.0), np.arange(count)
    vandermonde = np.polynomial.legendre.legvander(t, count - 1)

    def integrals(s: Array) -> Array:
        u = 2.0 * s - 1.0
        higher = np.polynomial.legendre.legvander(u, count)
        lower = np.column_stack([np.ones(len(u)), higher[:, :-1]])[:, :count]  # P_{n−1}, where P_{−1} = 1 fits ∫P_0
        rise = np.where(powers == 0, u[:, None] + 1.0, (higher[:, 1:] - lower) / (2.0 * powers + 1.0))
        return np.asarray(np.linalg.solve(vandermonde.T, 0.5 * rise.T).T)

    reported = np.array(REPORTED)
    there = np.asarray(np.polynomial.legendre.legvander(2.0 * reported - 1.0, count - 1), np.float64)
    values = np.asarray(np.linalg.solve(vandermonde.T, there.T).T, np.float64)
    return DepthRule(nodes, 0.5 * w, integrals(nodes), values, integrals(reported))


def midpoints(count: int) -> DepthRule:
    """The middles of S equal parts: a method of order 2, implicit within each part."""
    nodes = (np.arange(count) + 0.5) / count
    matrix = (np.tril(np.ones((count, count)), -1) + 0.5 * np.eye(count)) / count
    return DepthRule(nodes, np.full(count, 1.0 / count), matrix, _linear(nodes), _overlaps(count))


def layers(count: int) -> DepthRule:
    """K layers: s = k/K, X_{k+1} = X_k + K⁻¹∫f(X_k, θ)ρ_k(dθ), the residual network of infinite width itself."""
    nodes = np.arange(count) / count
    nearest = np.eye(count)[np.minimum(np.round(np.array(REPORTED) * count).astype(int), count - 1)]
    return DepthRule(nodes, np.full(count, 1.0 / count), np.tril(np.ones((count, count)), -1) / count, nearest, _overlaps(count))


def _linear(nodes: Array) -> Array:
    """Interpolation by straight lines, continued beyond the ends, at the `REPORTED` depths."""
    count, reported = len(nodes), np.array(REPORTED)
    result = np.ones((len(reported), count))
    if count == 1:
        return result
    left = np.clip(np.searchsorted(nodes, reported) - 1, 0, count - 2)
    share = (reported - nodes[left]) / (nodes[left + 1] - nodes[left])
    result[:], rows = 0.0, np.arange(len(reported))
    result[rows, left], result[rows, left + 1] = 1.0 - share, share
    return result


def _overlaps(count: int) -> Array:
    """∫_0^s of what is constant on each of S equal parts, at the `REPORTED` depths."""
    begin = np.arange(count) / count
    return np.clip(np.array(REPORTED)[:, None] - begin, 0.0, 1.0 / count)


RULES: Registry[Callable[[int], DepthRule]] = Registry(
    "rule of depths", {"gauss": gauss, "midpoints": midpoints, "layers": layers}
)


@dataclass(frozen=True)
class ResidualLimit:
    """A residual network of infinite depth and width, and how it is trained.

    Attributes:
        unit: f(x, θ) = v·act(wx + c), with the weights that are trained.
        data: x_p, one number each, w_p, y_p.
        loss: a name in `LOSSES`.

    Raises:
        ValueError: data with several inputs, an unknown loss, or targets that do not fit it.
    """

    unit: DeepLayer
    data: Data
    loss: str = "least_squares"

    def __post_init__(self) -> None:
        """Check what depends on more than one of them."""
        if self.data.x.shape[1] != 1:
            raise ValueError(
                f"features X(s) of a residual network are one number, and the data have {self.data.x.shape[1]} inputs"
            )
        check_known(self.loss, sorted(LOSSES), "the table of losses")
        LOSSES[self.loss](self.data)

    @property
    def inputs(self) -> Array:
        """x_p, shape (P,)."""
        return self.data.x[:, 0]

    def energy(self, outputs: Array) -> Array:
        """E from X(1), shape (..., P)."""
        return LOSSES[self.loss](self.data).energy(outputs)

    def slope(self, outputs: Array) -> Array:
        """∂E/∂X(1), shape (..., P)."""
        return LOSSES[self.loss](self.data).gradient(outputs)

    def mean_field(self) -> MeanField:
        """What runs, records and pictures ask of a model: its moments are X(1, x_p), R is the loss.

        It cannot move a measure: the features depend on the law.
        """
        outer, count = LOSSES[self.loss](self.data), len(self.data.weights)
        return MeanField(
            coordinates=self.unit.trained,
            profile=lambda z: np.zeros((len(z), count)),
            profile_field=lambda z, _: (np.zeros(len(z)), np.zeros_like(z)),
            outer_energy=outer.energy,
            outer_gradient=outer.gradient,
            data=self.data,
        )


@dataclass(frozen=True)
class Passage:
    """What one pass forward and one backward say, at P data points.

    Attributes:
        inputs: X(s_i), shape (S, P).
        reported: X at the `REPORTED` depths, shape (3, P).
        outputs: X(1), shape (P,).
        multipliers: −A(s_i), shape (S, P): V = −Σ_p M_p f(X_p, θ).
    """

    inputs: Array
    reported: Array
    outputs: Array
    multipliers: Array


def passage(limit: ResidualLimit, depths: DepthRule, means: Means, guess: Array | None = None) -> Passage:
    """Forward by Newton's method in all X(s_i) of a data point at once, backward by one linear system.

    Args:
        limit: the network.
        depths: where the laws are.
        means: of f and ∂_xf over them.
        guess: X(s_i) to begin from, shape (S, P); None: x.

    Raises:
        SolverError: the means are not finite, or Newton's method does not settle.
    """
    identity = np.eye(len(depths.nodes))
    x = np.broadcast_to(limit.inputs, (len(identity), len(limit.inputs))) if guess is None else guess
    value, slope = means(x)
    for _ in range(_ROUNDS):
        residual = limit.inputs + depths.matrix @ value - x
        jacobian = identity - depths.matrix * slope.T[:, None, :]  # (P, S, S)
        change = np.linalg.solve(jacobian, residual.T[:, :, None])[:, :, 0].T
        x = x + change
        value, slope = means(x)
        if not np.isfinite(value).all():
            break
        if np.abs(change).max() <= _SETTLED * (1.0 + np.abs(x).max()):
            break
    else:
        raise SolverError(
            "the features X(s) of the residual network were not found; give more labels, or smaller initial weights"
        )
    outputs = limit.inputs + depths.weights @ value
    if not np.isfinite(outputs).all():
        raise SolverError("the features X(s) of the residual network are not finite; check the data and the initial weights")
    end = np.broadcast_to(limit.slope(outputs), x.shape)
    adjoint = np.linalg.solve(identity - depths.backward * slope.T[:, None, :], end.T[:, :, None])[:, :, 0].T
    return Passage(x, limit.inputs + depths.integrals @ value, outputs, -adjoint)


def told(depths: DepthRule, passed: Passage, first: Array, second: Array) -> dict[str, Array]:
    """What measures list over the output times, at the `REPORTED` depths.

    Args:
        depths: where the laws are.
        passed: a passage.
        first, second: E[θ] and E[θ²] of the laws, shapes (S, D).

    Returns:
        "predictions" X(1), shape (P,), "inputs" X, shape (3, P), "layer_mean" and "layer_variance" of θ, shapes (3, D).
    """
    mean = depths.values @ first
    return {
        "predictions": passed.outputs,
        "inputs": passed.reported,
        "layer_mean": mean,
        "layer_variance": depths.values @ (second - first**2),
    }


def told_by_layers(depths: DepthRule, x: Array, first: Array, second: Array) -> dict[str, Array]:
    """The same of a network of K layers, from x_0, …, x_K, shape (K + 1, P), and moments of the weights of each layer."""
    steps = np.diff(x, axis=0) * len(depths.nodes)
    return told(depths, Passage(x[:-1], x[0] + depths.integrals @ steps, x[-1], np.zeros_like(steps)), first, second)
