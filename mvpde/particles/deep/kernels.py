"""The two sweeps through one layer of a deep network, σ(z, θ) = v·act(wz + c), for all its weights.

Weights of a layer are an array (3, R, N): v, w, c of the R rows i that a rank owns and the N columns j, trained or not. Inputs
are z, shape (runs, S, N), for S samples. What the activation gave on the way forward is kept for the way back: its
slope follows from its value.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.models.mean_field import Array

Integers = NDArray[np.int64]

CODES = {"tanh": 0, "sigmoid": 1, "relu": 2}  # activations that loops compute; values and slopes of others are given
OTHER = -1

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum is log 2 to 100 bits
ROUND = 6755399441055744.0  # 1.5 · 2^52: adding it rounds to whole numbers, which are then its lowest bits
LARGE = 22.0  # tanh of it is 1 in double precision


@njit(cache=True, inline="always", error_model="numpy")
def _tanh(x: float) -> float:
    """Tanh x = e/(e + 2), e = exp(2x) − 1 = 2^n (exp(r) − 1) + 2^n − 1, |r| ≤ ½log 2: no branch, so loops over it use vectors.

    Two units in the last place, also near 0; NaN stays NaN.
    """
    y = -LARGE if x < -LARGE else x
    y = 2.0 * (LARGE if y > LARGE else y)
    shifted = y * LOG2_E + ROUND
    n = shifted - ROUND
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    e = power * (r + r * r * p) + (power - 1.0)
    return e / (e + 2.0)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def activate(code: int, u: Array) -> None:
    """act(u) in the place of u, shape (n,)."""
    if code == 0:
        for j in range(len(u)):
            u[j] = _tanh(u[j])
    elif code == 1:
        for j in range(len(u)):
            u[j] = 0.5 + 0.5 * _tanh(0.5 * u[j])
    else:
        for j in range(len(u)):
            u[j] = 0.0 if u[j] < 0.0 else u[j]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def slopes(code: int, value: Array, slope: Array) -> None:
    """act'(u) from value = act(u), shapes (n,); that of ReLU is 0 at 0."""
    if code == 0:
        for j in range(len(value)):
            slope[j] = 1.0 - value[j] * value[j]
    elif code == 1:
        for j in range(len(value)):
            slope[j] = value[j] * (1.0 - value[j])
    else:
        for j in range(len(value)):
            slope[j] = 1.0 if value[j] > 0.0 else 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def forward(code: int, theta: Array, z: Array, run: Integers, row: Integers, block: Integers, values: Array, sums: Array) -> None:
    """Add Σ_i σ(z_i, θ_ij) over the rows of each block to ``sums``, and keep act(wz + c).

    Args:
        code: of the activation, or OTHER where ``values`` are known.
        theta: weights, shape (3, R, N).
        z: inputs, shape (runs, S, N).
        run, row, block: which run, row i and block each of the R rows is, shape (R,).
        values: act(wz + c), shape (R, S, N), written.
        sums: shape (blocks, S, N), rows added in their order.
    """
    for r in range(theta.shape[1]):
        v, w, c = theta[0, r], theta[1, r], theta[2, r]
        for s in range(z.shape[1]):
            x, value, total = z[run[r], s, row[r]], values[r, s], sums[block[r], s]
            if code != OTHER:
                for j in range(len(w)):
                    value[j] = w[j] * x + c[j]
                activate(code, value)
            for j in range(len(w)):
                total[j] += v[j] * value[j]


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def backward(
    code: int,
    theta: Array,
    z: Array,
    values: Array,
    known_slopes: Array,
    multipliers: Array,
    run: Integers,
    row: Integers,
    push: Array,
    sensitivities: Array,
) -> None:
    """Σ_p m_pj ∂σ(z_pi, θ_ij)/∂θ for all weights, and Σ_j m_pj ∂σ(z_pi, θ_ij)/∂z for all rows.

    Args:
        code, theta, z, values, run, row: as in `forward`.
        known_slopes: act'(wz + c), shape (R, S, N), read where the code is OTHER.
        multipliers: m, shape (runs, S, N).
        push: the derivatives by v, w, c, shape (3, R, N), written.
        sensitivities: shape (R, S), written.
    """
    count = theta.shape[2]
    slope = np.empty(count)
    for r in range(theta.shape[1]):
        v, w = theta[0, r], theta[1, r]
        of_v, of_w, of_c = push[0, r], push[1, r], push[2, r]
        of_v[:] = 0.0
        of_w[:] = 0.0
        of_c[:] = 0.0
        for s in range(z.shape[1]):
            x, value, m = z[run[r], s, row[r]], values[r, s], multipliers[run[r], s]
            if code == OTHER:
                slope[:] = known_slopes[r, s]
            else:
                slopes(code, value, slope)
            total = 0.0
            for j in range(count):
                inner = m[j] * v[j] * slope[j]
                of_v[j] += m[j] * value[j]
                of_w[j] += inner * x
                of_c[j] += inner
                total += inner * w[j]
            sensitivities[r, s] = total
