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

from mvpde.models.deep.activations import RANDOM, Activation, Array, Numbers
from mvpde.runtime import ArgumentError

LINE_STEP = 0.2
LINE_END = 9.6  # the Gaussian weight is 1e-20 there
PLANE_STEP = 0.25
PLANE_END = 8.6  # its square root: a product of two weights is what counts
DIGITS = 45.0  # exp(−45) = 3e-20, for the fourth powers of φ that have stronger singularities
LARGEST = 1e3  # variance of weights and biases: beyond, means over two inputs take minutes
BEYOND = 1e4  # of a layer: nodes of quadrature grow like its root, and a pair of inputs takes seconds there
BEYOND_CLOSED = 1e60  # the same where means are known in closed form: fourth powers are still numbers
ORDERS = 256  # terms of the series in c
HERMITE_STEP = 0.04
HERMITE_END = 13.0  # exp(−z²/4) is 5e-19 there
TAIL = 1e-15  # what the terms left out may add
SHORT = 1e-14  # the same beside what the others are, which rounding alone reaches
AT_ONCE = 2048  # variances in work
FEW = 12  # pairs that quadrature is as quick for
ENTRIES = 2**18  # values of φ in work at once

Function = Callable[[Numbers], Numbers]


def activation_of(name: str) -> Activation:
    """The activation of this name.

    Raises:
        ArgumentError: there is none.
    """
    try:
        return RANDOM.require(name)
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


def largest_variance(activation: Activation) -> float:
    """The variance of a layer up to which its means are computed."""
    return BEYOND if activation.overlap is None else BEYOND_CLOSED


def slope_of(activation: Activation) -> Function:
    """φ'.

    Raises:
        ArgumentError: the activation has none.
    """
    return _derivative(activation.slope, "φ'", activation)


def curvature_of(activation: Activation) -> Function:
    """φ''.

    Raises:
        ArgumentError: the activation has none.
    """
    return _derivative(activation.curvature, "φ''", activation)


def _derivative(function: Function | None, name: str, activation: Activation) -> Function:
    if function is None:
        raise ArgumentError(
            "activation", f"{activation.sentence} has no derivative {name} of finite mean square, which is needed; take another"
        )
    return function


# --- Gaussian means -------------------------------------------------------------------------------------------------------------


def mean(function: Function, q: Array, strip: float) -> Array:
    """E[h(√q Z)], Z ~ N(0, 1), shape of q ≥ 0, real; h is analytic in a strip of half width ``strip``."""
    flat = np.asarray(q, float).ravel()
    order, found = np.argsort(flat), np.empty(len(flat))
    for some in np.array_split(order, -(-len(order) // AT_ONCE)) if len(order) else []:  # alike in size, so in step
        z, weights = line(min(plane_step(float(flat[some[-1]]), strip), LINE_STEP), LINE_END)
        rows, root = max(1, ENTRIES // len(z)), np.sqrt(flat[some])[:, None]
        found[some] = np.concatenate([function(root[k : k + rows] * z) @ weights for k in range(0, len(some), rows)])
    return found.reshape(np.shape(q))


def line_mean(function: Function, q: Numbers, strip: float) -> Numbers:
    """The same for a few q, real or complex, shape (n,)."""
    z, weights = line(min(plane_step(float(np.abs(q).max(initial=1.0)), strip), LINE_STEP), LINE_END)
    return np.asarray(function(np.sqrt(q)[:, None] * z) @ weights)


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


# --- a series in the correlation -----------------------------------------------------------------------------------------------


@cache
def hermite(level: int) -> tuple[Array, Array]:
    """Equispaced nodes z for functions of √q z with q ≤ 2^level, and (2π)^{-½} h e^{−z²/2}He_k(z)/√k!, shape (ORDERS, nodes)."""
    h = max(min(HERMITE_STEP, plane_step(2.0**level, math.pi / 2)), HERMITE_STEP / 40.0)
    z, weights = line(h, HERMITE_END)
    table = np.empty((ORDERS, len(z)))
    table[0] = np.exp(-0.25 * z * z)  # the other half of the weight comes last: He_k alone grows too fast
    table[1] = z * table[0]
    for k in range(1, ORDERS - 1):
        table[k + 1] = (z * table[k] - math.sqrt(k) * table[k - 1]) / math.sqrt(k + 1)
    return z, table * (weights / table[0])


def series_means(function: Function, k: Array, own: Array) -> tuple[Array, Array]:
    """E[h(u_a)h(u_b)] = Σ_j h_j(K_aa)h_j(K_bb)c_ab^j of all pairs, h_j(q) = E[h(√q Z)He_j(Z)]/√j!, and what is left out of it.

    Args:
        function: h.
        k: covariance of M numbers, shape (M, M).
        own: E[h(u_a)²], shape (M,).

    Returns:
        Sums of `ORDERS` terms, and bounds of the others, both of shape (M, M).
    """
    q = np.diagonal(k)
    z, table = hermite(math.ceil(math.log2(max(float(q.max()), 1.0))))
    parts = table @ np.asarray(function(z[:, None] * np.sqrt(q)), float)
    size = np.sqrt(np.outer(q, q))
    c = np.clip(k / np.where(size == 0.0, 1.0, size), -1.0, 1.0)
    total = np.zeros_like(k)
    for part in parts[::-1]:
        total = total * c + np.outer(part, part)
    rest = np.sqrt(np.maximum(own - (parts**2).sum(axis=0), 0.0))
    return total, np.outer(rest, rest) * np.abs(c) ** ORDERS


# --- the maps -------------------------------------------------------------------------------------------------------------------


def overlap(activation: Activation, k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    """E[φ(u)φ(v)], shape of the three arrays."""
    if activation.overlap is not None:
        return activation.overlap(k11, k22, k12)
    f = activation.value
    return pair_mean(lambda u, v: f(u) * f(v), (k11, k22, k12), activation.strip)


def slope_overlap(activation: Activation, k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    """E[φ'(u)φ'(v)], shape of the three arrays."""
    if activation.slope_overlap is not None:
        return activation.slope_overlap(k11, k22, k12)
    f = slope_of(activation)
    return pair_mean(lambda u, v: f(u) * f(v), (k11, k22, k12), activation.strip)


def square_mean(activation: Activation, q: Array) -> Array:
    """E[φ(√q Z)²], shape of q."""
    if activation.overlap is not None:
        return np.asarray(activation.overlap(q, q, q))
    return mean(lambda z: activation.value(z) ** 2, q, activation.strip)


def slope_power(activation: Activation, q: Array, k: int = 1) -> Array:
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


def pairwise(activation: Activation, k: Array, *, slopes: bool = False) -> Array:
    """E[φφ], or E[φ'φ'], of all pairs of M jointly Gaussian numbers with covariance ``k``, shape (M, M)."""
    q = np.diagonal(k)
    own = slope_power(activation, q) if slopes else square_mean(activation, q)
    closed = activation.slope_overlap if slopes else activation.overlap
    row, column = np.triu_indices(len(k), 1)
    if closed is not None:
        result = np.diag(own)
        result[row, column] = result[column, row] = closed(q[row], q[column], k[row, column])
        return result
    result, exact = np.diag(own), slope_overlap if slopes else overlap
    if len(row) > FEW:
        result, beyond = series_means(slope_of(activation) if slopes else activation.value, k, own)
        np.fill_diagonal(result, own)
        short = beyond[row, column] > SHORT * np.sqrt(own[row] * own[column])
        row, column = row[short], column[short]
    result[row, column] = result[column, row] = exact(activation, q[row], q[column], k[row, column])
    return result
