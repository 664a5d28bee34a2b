"""How variance and covariance go from one layer of a wide random network to the next, and the Gaussian means behind it.

    q' = σ_w² E[φ(√q Z)²] + σ_b²,     K'₁₂ = σ_w² E[φ(u)φ(v)] + σ_b²,     (u, v) ~ N(0, K),

for weights N(0, σ_w²/N) and biases N(0, σ_b²) (Poole et al., arXiv:1606.05340; Schoenholz et al., arXiv:1611.01232).

The trapezoidal rule converges like exp(−2πd/h) on functions that are analytic in a strip of half width d, which φ(√q z) is with
d ~ 1/√q: steps are chosen by that, so that rounding is what remains at any q. Gauss–Hermite nodes are spread over a length that
grows with their number only like its root, and would need thousands where √q is large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from mvpde.models.deep.activations import RANDOM_ACTIVATIONS, ActivationFunction, Array, Numbers
from mvpde.runtime import ArgumentError

LINE_STEP = 0.2
LINE_END = 9.6  # the Gaussian weight is 1e-20 there
PLANE_STEP = 0.25
PLANE_END = 8.6  # its square root: a product of two weights is what counts
DIGITS = 45.0  # exp(−45) = 3e-20, for the fourth powers of φ that have stronger singularities
LARGEST = 1e6  # variance of weights and biases: that of layers is resolved far beyond
ENTRIES = 2**18  # values of φ in work at once

Function = Callable[[Numbers], Numbers]


def activation_of(name: str) -> ActivationFunction:
    """The activation of this name.

    Raises:
        ArgumentError: there is none.
    """
    try:
        return RANDOM_ACTIVATIONS.require(name)
    except ValueError as error:
        raise ArgumentError("activation", str(error)) from None


def check_variances(weight_variance: float, bias_variance: float) -> None:
    """Refuse variances that are negative, no finite numbers, or beyond all use.

    Raises:
        ArgumentError: naming the one.
    """
    for argument, value in (("weight_variance", weight_variance), ("bias_variance", bias_variance)):
        if not 0.0 <= value <= LARGEST:
            raise ArgumentError(argument, f"is {value:g}; a variance must be a number from 0 to {LARGEST:g}")


def slope_of(activation: ActivationFunction) -> Function:
    """φ'.

    Raises:
        ArgumentError: the activation has none.
    """
    return _derivative(activation.slope, "φ'", activation)


def curvature_of(activation: ActivationFunction) -> Function:
    """φ''.

    Raises:
        ArgumentError: the activation has none.
    """
    return _derivative(activation.curvature, "φ''", activation)


def _derivative(function: Function | None, name: str, activation: ActivationFunction) -> Function:
    if function is None:
        raise ArgumentError(
            "activation", f"{activation.sentence} has no derivative {name} of finite mean square, which is needed; take another"
        )
    return function


# --- Gaussian means -------------------------------------------------------------------------------------------------------------


def mean(function: Function, q: Array, strip: float) -> Array:
    """E[h(√q Z)], Z ~ N(0, 1), shape of q ≥ 0, real; h is analytic in a strip of half width ``strip``."""
    flat = np.asarray(q, float).ravel()
    z, weights = line(min(plane_step(float(flat.max(initial=0.0)), strip), LINE_STEP), LINE_END)
    rows, root = max(1, ENTRIES // len(z)), np.sqrt(flat)[:, None]
    parts = [function(root[k : k + rows] * z) @ weights for k in range(0, len(flat), rows)]
    return np.concatenate([np.zeros(0), *parts]).reshape(np.shape(q))


@cache
def line(h: float, end: float) -> tuple[Array, Array]:
    """Equispaced nodes with step h on [−end, end], and their Gaussian weights."""
    half = math.ceil(end / h)
    z: Array = h * np.arange(-half, half + 1, dtype=float)
    return z, np.exp(-0.5 * z * z) * (h / math.sqrt(2.0 * math.pi))


def plane_step(q: float, strip: float) -> float:
    """The step for functions of √q z that are analytic in a strip of half width ``strip``/√q."""
    return min(PLANE_STEP, 2.0 * math.pi * strip / (DIGITS * math.sqrt(max(q, 1e-300))))


def pair_mean(function: Callable[[Numbers, Numbers], Numbers], k: tuple[Numbers, Numbers, Numbers], strip: float) -> Numbers:
    """E[h(u, v)] for (u, v) of covariance K, given as arrays K₁₁, K₂₂, K₁₂ of one shape; real or complex.

    With correlation c, u = √K₁₁(αx + βy), v = √K₂₂(αx − βy), α² = (1 + c)/2, β² = (1 − c)/2: nothing is lost where c is near ±1.
    """
    k11, k22, k12 = (np.ravel(part) for part in np.broadcast_arrays(*k))
    h = plane_step(float(np.abs(np.concatenate([k11, k22])).max(initial=1.0)), strip)
    x, weights = line(h, PLANE_END)
    size = np.sqrt(k11 * k22)
    c = k12 / np.where(size == 0.0, 1.0, size)
    if not np.iscomplexobj(c):
        c = np.clip(c, -1.0, 1.0)
    along, across = np.sqrt(0.5 * (1.0 + c)), np.sqrt(0.5 * (1.0 - c))
    of_one = [_plane_mean(function, x, weights, *one) for one in zip(np.sqrt(k11), np.sqrt(k22), along, across, strict=True)]
    return np.array(of_one).reshape(np.broadcast_shapes(*(np.shape(part) for part in k)))


def _plane_mean(
    function: Callable[[Numbers, Numbers], Numbers], x: Array, weights: Array, first: complex, second: complex, *axes: complex
) -> Numbers:
    along, across = axes[0] * x, axes[1] * x
    rows = max(1, ENTRIES // len(x))
    pieces = [along[k : k + rows, None] for k in range(0, len(x), rows)]
    lines = [function(first * (some + across), second * (some - across)) @ weights for some in pieces]
    return np.asarray(weights @ np.concatenate(lines))


# --- the maps -------------------------------------------------------------------------------------------------------------------


def overlap(activation: ActivationFunction, k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    """E[φ(u)φ(v)], shape of the three arrays."""
    if activation.overlap is not None:
        return activation.overlap(k11, k22, k12)
    f = activation.value
    return pair_mean(lambda u, v: f(u) * f(v), (k11, k22, k12), activation.strip)


def slope_overlap(activation: ActivationFunction, k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    """E[φ'(u)φ'(v)], shape of the three arrays."""
    if activation.slope_overlap is not None:
        return activation.slope_overlap(k11, k22, k12)
    f = slope_of(activation)
    return pair_mean(lambda u, v: f(u) * f(v), (k11, k22, k12), activation.strip)


def square_mean(activation: ActivationFunction, q: Array) -> Array:
    """E[φ(√q Z)²], shape of q."""
    if activation.overlap is not None:
        return np.asarray(activation.overlap(q, q, q))
    return mean(lambda z: activation.value(z) ** 2, q, activation.strip)


def slope_power(activation: ActivationFunction, q: Array, k: int = 1) -> Array:
    """μ_k = E[φ'(√q Z)^{2k}], shape of q."""
    f = slope_of(activation)
    if activation.homogeneous:  # φ' does not depend on the size, and jumps at 0
        both = np.array([1.0, -1.0])
        return np.full(np.shape(q), 0.5 * float((f(both) ** (2 * k)).sum()))
    return mean(lambda z: f(z) ** (2 * k), q, activation.strip)


def variance_map(activation: str, q: Array, weight_variance: float, bias_variance: float) -> Array:
    """σ_w² E[φ(√q Z)²] + σ_b²: the variance of the next layer, shape of q ≥ 0.

    Raises:
        ArgumentError: an activation that there is not, a negative variance.
    """
    check_variances(weight_variance, bias_variance)
    return weight_variance * square_mean(activation_of(activation), np.asarray(q, float)) + bias_variance


def covariance_map(activation: str, k: Array, weight_variance: float, bias_variance: float) -> Array:
    """σ_w² E[φ(u_a)φ(u_b)] + σ_b² of jointly Gaussian u with covariance ``k``, shape (M, M), for all pairs: shape (M, M).

    Raises:
        ArgumentError: an activation that there is not, a negative variance.
    """
    check_variances(weight_variance, bias_variance)
    return weight_variance * pairwise(activation_of(activation), np.asarray(k, float)) + bias_variance


def pairwise(activation: ActivationFunction, k: Array, *, slopes: bool = False) -> Array:
    """E[φφ], or E[φ'φ'], of all pairs of M jointly Gaussian numbers with covariance ``k``, shape (M, M)."""
    row, column = np.triu_indices(len(k), 1)
    pairs = k[row, row], k[column, column], k[row, column]
    own = np.diagonal(k)
    result = np.diag(slope_power(activation, own) if slopes else square_mean(activation, own))
    result[row, column] = result[column, row] = slope_overlap(activation, *pairs) if slopes else overlap(activation, *pairs)
    return result
