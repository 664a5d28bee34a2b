"""Where the variance and the correlation of two inputs end up in a deep random network, and how deep signals get.

    q* = σ_w² E[φ(√q* Z)²] + σ_b²,     c* = (σ_w² E[φ(u)φ(v)] + σ_b²)/q*,     χ_1 = σ_w² E[φ'(√q* Z)²],
    1/ξ_c = −log σ_w² E[φ'(u)φ'(v)] at c*,     1/ξ_q = −log σ_w² E[φ'² + φφ''],     1/ξ_∇ = −log χ_1

(Poole et al., arXiv:1606.05340; Schoenholz et al., arXiv:1611.01232). Both are roots between brackets: near χ_1 = 1 layers come
so slowly to their limit that iterating the maps stops short of it. With a_k = E[φ(√q Z)He_k(Z)]/√k!, the correlation map
f(c) = (σ_w² Σ_k a_k² c^k + σ_b²)/q is convex on [0, 1]; (1 − f(c))/(1 − c) increases from at most 1 at c = 0 to χ_1 at c = 1:
c* < 1 is where it is 1, and exists where χ_1 > 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.models.deep.activations import Activation, Array
from mvpde.models.deep.signal_maps import (
    AT_ONCE,
    BEYOND,
    ORDERS,
    TAIL,
    activation_of,
    check_variances,
    curvature_of,
    hermite,
    mean,
    pair_mean,
    slope_of,
    slope_overlap,
    slope_power,
    square_mean,
)
from mvpde.runtime import ArgumentError

Integers = NDArray[np.intp]

COMPLEX_STEP = 1e-30
CRITICAL = 1e-12  # |log χ_1| that counts as 0
STEPS = 100  # of the search for a root, which takes about ten


@dataclass(frozen=True)
class FixedPoint:
    """Where a wide random network takes variances and correlations; None where there is no such number.

    Attributes:
        q: q*, the variance of deep layers; None where it grows without bound, as of ReLU for σ_w² ≥ 2.
        c: c*, the correlation of two inputs there; None without a q* > 0.
        chi: χ_1, by which the mean square of gradients falls from layer to layer, going down.
        xi_q: layers over which the variance comes to q*.
        xi_c: layers over which the correlation comes to c*; ∞ on the critical line.
        xi_grad: layers over which gradients fall by e; ∞ on the critical line, negative where they grow.
    """

    q: float | None
    c: float | None
    chi: float | None
    xi_q: float | None
    xi_c: float | None
    xi_grad: float | None


@dataclass(frozen=True)
class FixedPoints:
    """The same for many random networks: arrays of one shape, NaN for what there is not, ∞ for depths without end."""

    q: Array
    c: Array
    chi: Array
    xi_q: Array
    xi_c: Array
    xi_grad: Array


def fixed_point(activation: str, weight_variance: float, bias_variance: float) -> FixedPoint:
    """Variance and correlation of the deep layers of a wide random network, and its depth scales.

    Args:
        activation: a name in `mvpde.models.deep.activations.RANDOM`: "tanh", "sigmoid", "relu", "erf", "sin".
        weight_variance: σ_w² ≥ 0; weights are N(0, σ_w²/N).
        bias_variance: σ_b² ≥ 0; biases are N(0, σ_b²).

    Raises:
        ArgumentError: an activation that there is not or that lacks a derivative, a variance that is negative.
    """
    found = fixed_points(activation, np.array([weight_variance]), np.array([bias_variance]), polish=True)
    return FixedPoint(*(None if math.isnan(value[0]) else float(value[0]) for value in vars(found).values()))


def fixed_points(activation: str, weight_variance: Array, bias_variance: Array, *, polish: bool = False) -> FixedPoints:
    """The same for each pair of variances, arrays of one shape.

    Args:
        activation, weight_variance, bias_variance: as for `fixed_point`.
        polish: find c* by quadrature where the series in c is not exact to rounding, which only is at large q and c* near 1.

    Raises:
        ArgumentError: as `fixed_point`.
    """
    phi = activation_of(activation)
    w, b = (np.asarray(part, float).ravel() for part in np.broadcast_arrays(weight_variance, bias_variance))
    check_variances(*(float(part[np.argmin(part)]) for part in (w, b)))
    check_variances(*(float(part.max()) for part in (w, b)))
    q = _variances(phi, w, b)
    at = np.nan_to_num(q, nan=1.0)
    chi = w * slope_power(phi, at)
    if not phi.homogeneous:
        chi[np.isnan(q)] = np.nan
    c = _correlations(phi, w, b, q, chi, polish)
    slope, some = np.where(c == 1.0, chi, np.nan), c < 1.0
    slope[some] = _slopes(phi, w[some], q[some], c[some], polish)
    xi = depth_scales(w * np.abs(_growth(phi, at))), depth_scales(slope), depth_scales(chi)
    xi[0][np.isnan(q)] = np.nan
    shape = np.broadcast_shapes(np.shape(weight_variance), np.shape(bias_variance))
    return FixedPoints(*(part.reshape(shape) for part in (q, c, chi, *xi)))


def depth_scales(factor: Array) -> Array:
    """ξ with e^{−1/ξ} the factor per layer, shape of the factors: ∞ for 1, negative above, NaN for what is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.log(factor)
        return np.where(np.abs(rate) < CRITICAL, np.inf, -1.0 / rate)


def critical_line(activation: str, bias_variances: Sequence[float] | Array) -> Array:
    """σ_w² with χ_1 = 1 for each σ_b² ≥ 0: below it signals become alike with depth, above they part. NaN where there is none.

    Along the line both are functions of q: σ_w² = 1/E[φ'²], σ_b² = q − E[φ²]/E[φ'²].

    Args:
        activation: as for `fixed_point`.
        bias_variances: σ_b², any shape.

    Raises:
        ArgumentError: as `fixed_point`; a text instead of numbers.
    """
    phi = activation_of(activation)
    try:
        wanted = np.asarray(bias_variances, float)
    except (TypeError, ValueError):
        raise ArgumentError("bias_variances", f"{bias_variances!r} are no numbers; give a list such as [0.01, 0.05]") from None
    b = wanted.ravel()
    check_variances(0.0, float(b.min(initial=0.0)))
    check_variances(0.0, float(b.max(initial=0.0)))
    if phi.homogeneous:
        return np.where(wanted == 0.0, 1.0 / slope_power(phi, np.ones(wanted.shape)), np.nan)

    def excess(log_q: Array, i: Integers) -> Array:
        q = np.exp(log_q)
        return 1.0 - (square_mean(phi, q) / slope_power(phi, q) + b[i]) / q

    low, high = _brackets(excess, np.log(b + 1e-8), np.log(b + 1.0))
    found = np.where(excess(high, np.arange(len(high))) >= 0.0, np.exp(_roots(excess, low, high)), np.nan)
    found[b == 0.0] = 0.0 if phi.value(np.zeros(1))[0] == 0.0 else np.nan
    there = np.isfinite(found)
    found[there] = 1.0 / slope_power(phi, found[there])
    return found.reshape(wanted.shape)


# --- the variance ---------------------------------------------------------------------------------------------------------------


def _variances(phi: Activation, w: Array, b: Array) -> Array:
    """q*, NaN where the variance grows without bound."""
    if phi.homogeneous:
        factor = w * square_mean(phi, np.ones(1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(factor < 1.0, b / (1.0 - factor), np.nan)
    least = b + w * phi.value(np.zeros(1))[0] ** 2
    first = w * _growth(phi, np.zeros(1))[0]
    rising = np.flatnonzero((least > 0.0) | (first > 1.0))
    q = np.zeros(len(w))
    q[rising] = _positive_variances(
        phi, w[rising], b[rising], np.where(least > 0.0, least, np.maximum(first - 1.0, 1e-15))[rising]
    )
    return q


def _positive_variances(phi: Activation, w: Array, b: Array, least: Array) -> Array:
    """q* > 0 with about ``least`` below it; NaN where the variance grows beyond `BEYOND`, as it does without bound."""

    def excess(log_q: Array, i: Integers) -> Array:
        q = np.exp(log_q)
        return 1.0 - (w[i] * square_mean(phi, q) + b[i]) / q

    low, high = _brackets(excess, np.log(least) - 1e-9, np.log(least + w + b))
    bounded = excess(high, np.arange(len(high))) >= 0.0
    q = np.full(len(w), np.nan)
    some = np.flatnonzero(bounded)
    q[some] = np.exp(_roots(lambda x, i: excess(x, some[i]), low[some], high[some]))
    return q


def _growth(phi: Activation, q: Array) -> Array:
    """d/dq E[φ(√q Z)²] = E[φ'² + φφ''], shape of q."""
    if phi.homogeneous:
        return np.full(np.shape(q), float(square_mean(phi, np.ones(1))[0]))
    if phi.overlap is not None:
        there = q + 1j * COMPLEX_STEP
        return np.asarray(phi.overlap(there, there, there).imag / COMPLEX_STEP)
    f, slope, curvature = phi.value, slope_of(phi), curvature_of(phi)
    return mean(lambda z: slope(z) ** 2 + f(z) * curvature(z), q, phi.strip)


# --- the correlation ------------------------------------------------------------------------------------------------------------


def _correlations(phi: Activation, w: Array, b: Array, q: Array, chi: Array, polish: bool) -> Array:
    """c*: 1 in the ordered phase, the root of (1 − f(c))/(1 − c) = 1 in the chaotic one, NaN without a variance."""
    c = np.where(q > 0.0, 1.0, np.nan)
    if phi.homogeneous:
        c[np.isnan(q) & (b == 0.0) & (np.abs(chi - 1.0) < CRITICAL)] = 1.0  # each variance is kept, and inputs become alike
        return c
    chaotic = np.flatnonzero((q > 0.0) & (chi > 1.0 + CRITICAL))
    for some in _parts(chaotic):
        series = _series(phi, q[some])
        scale = w[some] / q[some]

        def excess(x: Array, i: Integers, series: OverlapSeries = series, scale: Array = scale) -> Array:
            return scale[i] * series.at(i).secant(x) - 1.0

        root = _roots(excess, np.zeros(len(some)), np.ones(len(some)))
        lowest = (w[some] * series.squares[0] + b[some]) / q[some]  # f(0)
        c[some] = np.where(lowest > 4e-16, root, 0.0)
        if polish and float(series.left_out(root).max()) > TAIL:
            c[some] = np.array([_by_quadrature(phi, *one) for one in zip(w[some], q[some], strict=True)], float)
    return c


def _by_quadrature(phi: Activation, w: float, q: float) -> float:
    """c* from 1 − f(c) = σ_w² E[(φ(u) − φ(v))²]/(2q), which keeps its digits as c → 1."""
    f, one = phi.value, np.array([q])

    def excess(c: Array, _: Integers) -> Array:
        if c[0] == 1.0:
            return w * slope_power(phi, one) - 1.0
        gap = pair_mean(lambda u, v: (f(u) - f(v)) ** 2, (one, one, q * c), phi.strip)
        return np.asarray(0.5 * w / q * gap / (1.0 - c) - 1.0)

    return float(_roots(excess, np.zeros(1), np.ones(1))[0])


def _slopes(phi: Activation, w: Array, q: Array, c: Array, polish: bool) -> Array:
    """σ_w² E[φ'(u)φ'(v)] at c* < 1, by the series, or by quadrature where that is asked for and the series is too short."""
    if phi.slope_overlap is not None:
        return np.asarray(w * phi.slope_overlap(q, q, c * q))
    found: list[Array] = [np.zeros(0)]
    for some in _parts(np.arange(len(q))):
        series = _series(phi, q[some])
        short = polish and float(series.left_out(c[some]).max()) > TAIL
        exact = slope_overlap(phi, q[some], q[some], (c * q)[some]) if short else series.slope(c[some]) / q[some]
        found.append(np.asarray(w[some] * exact, float))
    return np.concatenate(found)


def _parts(numbers: Integers) -> list[Integers]:
    """Numbers of at most `AT_ONCE` variances each."""
    return np.array_split(numbers, -(-len(numbers) // AT_ONCE)) if len(numbers) else []


@dataclass(frozen=True)
class OverlapSeries:
    """E[φ(u)φ(v)] = Σ_k a_k² c^k, q of both, the terms left out as R c^K + R' c^d: value, slope and curvature at 1 are theirs.

    Attributes:
        squares: a_k², shape (ORDERS, n).
        rest, far, degree: R, R' and d, shape (n,).
    """

    squares: Array
    rest: Array
    far: Array
    degree: Array

    def at(self, i: Integers) -> OverlapSeries:
        """Of some of the variances."""
        return self if len(i) == len(self.rest) else OverlapSeries(self.squares[:, i], self.rest[i], self.far[i], self.degree[i])

    def secant(self, c: Array) -> Array:
        """(E[φ(u)²] − E[φ(u)φ(v)])/(1 − c) = Σ_k a_k² (1 + c + … + c^{k−1}), shape (n,), for c in [0, 1]."""
        total, sums = np.zeros(len(c)), np.zeros(len(c))
        for square in self.squares[1:]:
            sums *= c
            sums += 1.0
            total += square * sums
        total += self.rest * (c * sums + 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            last = np.where(c < 1.0, -np.expm1(self.degree * np.log(c)) / (1.0 - c), self.degree)
        return np.asarray(total + self.far * last)

    def slope(self, c: Array) -> Array:
        """Its derivative in c, q E[φ'(u)φ'(v)], shape (n,)."""
        total = len(self.squares) * self.rest
        for k in range(len(self.squares) - 1, 0, -1):
            total = total * c + k * self.squares[k]
        return np.asarray(total + self.far * self.degree * c ** (self.degree - 1.0))

    def left_out(self, c: Array) -> Array:
        """A bound of the terms that are not in the sum, shape (n,)."""
        return np.asarray((self.rest + self.far) * self.degree * c ** len(self.squares))


def _series(phi: Activation, q: Array) -> OverlapSeries:
    z, table = hermite(math.ceil(math.log2(max(float(q.max()), 1.0))))
    squares = np.asarray((table @ phi.value(z[:, None] * np.sqrt(q))) ** 2, float)
    orders, curvature = np.arange(ORDERS), curvature_of(phi)
    bends = q**2 * mean(lambda z: curvature(z) ** 2, q, phi.strip) - (orders * (orders - 1)) @ squares
    total = square_mean(phi, q) - squares.sum(axis=0)
    beyond = q * slope_power(phi, q) - orders @ squares - ORDERS * total  # Σ (k − K) a_k² of what is left out
    second = bends - 2.0 * ORDERS * beyond - ORDERS * (ORDERS - 1) * total  # Σ (k − K)(k − K − 1) a_k²
    small = (total < TAIL) | (beyond < TAIL * ORDERS)
    degree = ORDERS + np.where(small, 1.0, 1.0 + np.maximum(second, 0.0) / np.where(small, 1.0, beyond))
    far = np.where(small, 0.0, np.minimum(beyond / (degree - ORDERS), total))
    return OverlapSeries(squares, np.where(small, 0.0, total - far), far, degree)


# --- roots ----------------------------------------------------------------------------------------------------------------------


def _brackets(f: Callable[[Array, Integers], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Ends, in the logarithm, that have f ≤ 0 below and f ≥ 0 above, moved outwards until they do, to e^−60 and to `BEYOND`."""
    for end, outwards, last in ((low, -2.0, 60.0), (high, 2.0, math.log(BEYOND))):
        active = np.arange(len(end))
        while len(active):
            wrong = (outwards * f(end[active], active) < 0.0) & (np.sign(outwards) * end[active] < last)
            active = active[wrong]
            end[active] = np.sign(outwards) * np.minimum(np.sign(outwards) * end[active] + 2.0, last)
    return low, high


def _roots(f: Callable[[Array, Integers], Array], low: Array, high: Array) -> Array:
    """A root of each increasing f(·, i) between its ends, to rounding (Chandrupatla 1997).

    Args:
        f: (x, i) with shapes (n,) → values of the functions with the numbers i at x.
        low, high: the ends, shape (n,).
    """
    root = np.empty(len(low))
    active = np.arange(len(low))
    a, b = high.copy(), low.copy()
    fa, fb = f(a, active), f(b, active)
    t = np.full(len(low), 0.5)
    for _ in range(STEPS):
        x = a + t * (b - a)
        fx = f(x, active)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        best = np.where(np.abs(fa) < np.abs(fb), a, b)
        width = np.abs(b - a)
        limit = (2e-16 * np.abs(best) + 1e-300) / np.maximum(width, 1e-300)
        done = (limit >= 0.5) | (fa == 0.0)
        root[active] = best
        left = ~done
        active = active[left]
        if not len(active):
            break
        a, b, c, fa, fb, fc, limit = (part[left] for part in (a, b, c, fa, fb, fc, limit))
        t = _step(a, b, c, fa, fb, fc, limit)
    return root


def _step(a: Array, b: Array, c: Array, fa: Array, fb: Array, fc: Array, limit: Array) -> Array:
    """Where between a and b to look next: by inverse quadratic interpolation where that is safe, else in the middle."""
    with np.errstate(divide="ignore", invalid="ignore"):
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = (phi**2 < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
        t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    return np.clip(np.where(safe & np.isfinite(t), t, 0.5), limit, 1.0 - limit)
