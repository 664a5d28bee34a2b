"""What three meshes tell: the order at which a number converges, the error of the finest value, and an extrapolated one.

With x_h computed at spacings (and steps) h, 2h, 4h and an expansion in even powers from p on,

    x_h = x + a hᵖ + b hᵖ⁺² + …,     d₁ = x_h − x_2h,   d₂ = x_2h − x_4h,

the observed order is q = log₂(d₂/d₁), and with g = 2ᵖ − 1, g' = 2ᵖ⁺² − 1

    x_h − x = −d₁/g + …  = −d₁/g + (d₂ − 2ᵖd₁)/(g g') + …,        X_h = x_h + d₁/g = x + O(hᵖ⁺²).

Four cases are told apart, so that a difference which happens to vanish promises nothing (for p = 2):

    d₁, d₂ of one sign, 1.5 ≤ q ≤ 2.5    asymptotic: the larger of |d₁|/3 and |E|, E the second expression above; X_h is given
    of one sign, q > 2.5                 faster than expected, or two terms that cancel in d₁: |d₁|/4 or 0.7|E|, at most 16|d₁|
    of one sign, q < 1.5                 slower: the whole difference, |d₁|/(2^q − 1) below order 1, at most 2.4|d₁|
    of two signs                         the larger of the whole difference (as above) and |d₂|/12, at most 16|d₁|

The cap of 16|d₁| is right where numbers converge fast, and wrong where d₁ changes its sign: ``longest`` lifts it where others on
the same meshes converge as expected.

Numbers that are no functions of time cancel rarely, and many of them, such as means of Gibbs states, converge faster than any
power while coarse meshes hardly see them. With ``cancelling`` false q > 2.5 gives min(1/3, 13/(2^q − 1)^{3/2})|d₁| for either
sign: too little in a twentieth of what is not asymptotic, as against ten times too much in half of it. Below 1e-6 of the scale
it is |d₁|/3 again: walls and kinks leave powers of h that only show when all else has gone.

The error is 1.25 times that, as in the grid convergence index (Roache, J. Fluids Eng. 116 (1994) 405). Outside the first case
x_h itself stands for the extrapolated value, with its error. The error of X_h is |X_h − X_2h|/(2ᵖ − 1): five times what is left
where the next order is p + 2, and what is left where it is p still. A difference at rounding counts as converged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RANGE = 0.5  # by which an observed order may differ from the expected one
ROUNDING = 1e-11  # differences below this part of the scale are rounding, or the tolerance of a linear solver
_SAFETY = 1.25  # as for three grids in the grid convergence index
_FLOOR = 1e-14  # of the scale: no error is smaller
_FAST = 13.0  # over (2^q − 1)^{3/2}: part of the last difference where nothing cancels
_MINUTE = 1e-6  # of the scale: below, numbers that converge fast are not told to do so for ever
_SLOWEST = 0.5  # order below which nothing is trusted to converge
LONGEST = 16.0  # in units of the last difference: what a cancellation may hide


@dataclass(frozen=True)
class Richardson:
    """Values on the finest mesh and what coarser ones say about them, arrays of one shape.

    Attributes:
        value: on the finest mesh.
        error: of the value, > 0; NaN where a level is missing.
        extrapolated: the value without its leading error where the order is observed, else the value; of two levels, which
            show no order, without what the order of the method makes of their difference.
        extrapolated_error: of that.
        order: observed, NaN where differences are rounding, of two signs or not known.
        asymptotic: whether the order is the expected one, or the last difference is rounding.
    """

    value: Array
    error: Array
    extrapolated: Array
    extrapolated_error: Array
    order: Array
    asymptotic: NDArray[np.bool_]


def three_levels(
    fine: ArrayLike,
    half: ArrayLike,
    quarter: ArrayLike,
    order: float = 2.0,
    scale: ArrayLike | None = None,
    cancelling: bool = True,
    longest: ArrayLike = LONGEST,
) -> Richardson:
    """What three levels tell about the finest one, entry by entry; see above for the equations.

    Args:
        fine, half, quarter: on a mesh, on half and on a quarter of its cells in each direction; numbers or arrays of one shape.
        order: p, that of the method.
        scale: size that rounding is relative to; None: the largest absolute value on any level.
        cancelling: whether two terms that cancel are as likely as convergence that is faster than expected.
        longest: what a cancellation may hide, in units of |d₁|, entry by entry; infinite where other numbers on the same meshes
            converge as expected, so that a d₁ near zero is most likely one that changes its sign there.
    """
    x1, x2, x3 = (np.asarray(level, float) for level in (fine, half, quarter))
    size = _scale(x1, x2, x3, scale)
    d1, d2 = x1 - x2, x2 - x3
    settled = np.abs(d1) <= ROUNDING * size
    still = settled & (np.abs(d2) <= ROUNDING * size)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.where(~settled & (d1 * d2 > 0.0), np.log2(np.abs(d2) / np.abs(d1)), np.nan)
    asymptotic = np.abs(observed - order) <= RANGE
    gain = 2.0**order - 1.0
    hidden = np.where(settled, np.minimum(longest, LONGEST), longest)
    plain = np.maximum(np.abs(d1) / gain, _two_terms(d1, d2, order))
    error = np.maximum(
        _SAFETY * np.where(asymptotic | still, plain, _doubtful(d1, d2, order, cancelling, size, hidden)), _FLOOR * size
    )
    better = np.maximum(np.abs((gain + 1.0) * d1 - d2) / gain**2, _FLOOR * size)
    return Richardson(
        value=x1,
        error=error,
        extrapolated=np.where(asymptotic, x1 + d1 / gain, x1),
        extrapolated_error=np.where(asymptotic, better, error),
        order=observed,
        asymptotic=asymptotic | settled,
    )


def two_levels(fine: ArrayLike, half: ArrayLike, order: float = 2.0, scale: ArrayLike | None = None) -> Richardson:
    """What one coarser level tells: the whole difference is the error, since the order is not seen (arguments as above)."""
    x1, x2 = np.asarray(fine, float), np.asarray(half, float)
    size = _scale(x1, x2, x2, scale)
    difference = np.abs(x1 - x2)
    return Richardson(
        value=x1,
        error=np.maximum(difference, _FLOOR * size),
        extrapolated=x1 + (x1 - x2) / (2.0**order - 1.0),
        extrapolated_error=np.maximum(difference, _FLOOR * size),
        order=np.full(x1.shape, np.nan),
        asymptotic=difference <= ROUNDING * size,
    )


def as_if(fine: ArrayLike, coarse: ArrayLike, ratio: float, wanted: float, order: float = 2.0) -> Array:
    """What a level with a ``ratio`` of the spacings tells, as it would with the ``wanted`` one: x_h − x_rh ∝ r^p − 1."""
    return np.asarray(fine - (np.asarray(fine) - coarse) * (wanted**order - 1.0) / (ratio**order - 1.0))


def _scale(fine: Array, half: Array, quarter: Array, scale: ArrayLike | None) -> Array:
    """What rounding is relative to, > 0."""
    levels = np.stack([np.abs(level[np.isfinite(level)]).max(initial=0.0) for level in (fine, half, quarter)])
    return np.maximum(levels.max() if scale is None else np.asarray(scale, float), 1e-300)


def _two_terms(d1: Array, d2: Array, order: float) -> Array:
    """|x_h − x| of an expansion of two terms."""
    gain, next_gain = 2.0**order - 1.0, 2.0 ** (order + 2.0) - 1.0
    return np.asarray(np.abs(d1 - (d2 - (gain + 1.0) * d1) / next_gain) / gain)


def _doubtful(d1: Array, d2: Array, order: float, cancelling: bool, scale: Array, hidden: Array) -> Array:
    """The error where the order is not the expected one."""
    size, before = np.abs(d1), np.abs(d2)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.nan_to_num(np.log2(before / size), nan=1.0)
    longest = np.where(np.isinf(hidden), np.inf, np.minimum(hidden, 1e300) * size)
    whole = size / (2.0 ** np.clip(slope, _SLOWEST, 1.0) - 1.0)
    gain = 2.0**order
    fast = np.minimum(np.maximum(size / gain, 0.7 * _two_terms(d1, d2, order)), longest)
    opposite = np.maximum(whole, np.minimum(before / (gain * (gain - 1.0)), longest))
    if not cancelling:
        base = 2.0 ** np.clip(slope, order, 60.0) - 1.0
        fast = size * np.minimum(1.0 / (gain - 1.0), _FAST / base**1.5)
        fast = np.maximum(fast, np.minimum(size / (gain - 1.0), _MINUTE * scale))  # a power may rule what is left
        opposite = np.where(slope > order + RANGE, fast, opposite)
    result = np.where(d1 * d2 < 0.0, opposite, np.where(slope > order, fast, whole))
    return np.where(np.isnan(size + before), np.nan, result)
