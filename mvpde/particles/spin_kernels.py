"""What a step of training costs its time on, in single precision: units and their slopes at many samples, and the 3-spin energy.

A unit is φ = g(z), z = x'·y with x' the row of numbers that y is multiplied with, so a batch is two matrix products and, between
them, passes over the matrix z of samples × units while it is in the cache:

    z ← g(z),  f_p = Σ_i c_i g(z_pi);        G_i += Σ_p r_p g(z_pi),  z_pi ← r_p g'(z_pi)

e^x = 2^k e^f, k the nearest whole number to x/log 2 and |f| ≤ ½ log 2, where seven terms of the series leave 1e-7: simple
operations that the compiler does for eight entries at once, which a library's exponential is not.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Single = NDArray[np.float32]

LOG2E, LOG2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
FARTHEST = np.float32(60.0)  # e^±41: beyond it products would lose digits or be slow, as numbers below the normal ones are
ONE, HALF = np.float32(1.0), np.float32(0.5)
E3, E4, E5, E6 = (np.float32(1.0 / factorial) for factorial in (6, 24, 120, 720))
SAMPLES = 64  # in work at once in `energies`: their coordinates fit the first cache


@njit(inline="always", fastmath=True, error_model="numpy")
def _exp(x: np.float32) -> np.float32:
    t = max(min(x * LOG2E, FARTHEST), -FARTHEST)
    k = np.int32(t + np.float32(128.5)) - np.int32(128)
    f = (t - np.float32(k)) * LOG2
    series = ONE + f * (ONE + f * (HALF + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
    return series * np.int32((k + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(cache=True, fastmath=True, error_model="numpy")
def gaussian(z: Single, c: Single, height: np.float32, kappa: np.float32, f: Single) -> None:
    """g(z) = h e^{z − κ}."""
    for p in range(z.shape[0]):
        total = np.float32(0.0)
        for i in range(z.shape[1]):
            value = height * _exp(z[p, i] - kappa)
            z[p, i] = value
            total += c[i] * value
        f[p] = total


@njit(cache=True, fastmath=True, error_model="numpy")
def gaussian_slope(z: Single, r: Single, height: np.float32, of_c: Single) -> None:
    """g' = g."""
    for p in range(z.shape[0]):
        for i in range(z.shape[1]):
            value = r[p] * z[p, i]
            of_c[i] += value
            z[p, i] = value


@njit(cache=True, fastmath=True, error_model="numpy")
def sigmoid(z: Single, c: Single, height: np.float32, kappa: np.float32, f: Single) -> None:
    """g(z) = h/(1 + e^{−z})."""
    for p in range(z.shape[0]):
        total = np.float32(0.0)
        for i in range(z.shape[1]):
            value = height / (ONE + _exp(-z[p, i]))
            z[p, i] = value
            total += c[i] * value
        f[p] = total


@njit(cache=True, fastmath=True, error_model="numpy")
def sigmoid_slope(z: Single, r: Single, height: np.float32, of_c: Single) -> None:
    """g' = g (1 − g/h)."""
    inverse = ONE / height
    for p in range(z.shape[0]):
        for i in range(z.shape[1]):
            value = r[p] * z[p, i]
            of_c[i] += value
            z[p, i] = value * (ONE - inverse * z[p, i])


@njit(cache=True, fastmath=True, error_model="numpy")
def energies(a: Single, x: Single, f: Single) -> None:
    """f(x) = Σ_{p ≤ q ≤ r} a_pqr x_p x_q x_r, shape (P,), for `ordered` couplings a and x of shape (P, d)."""
    d = x.shape[1]
    part, of_p, of_q = (np.empty((d, SAMPLES), np.float32), np.empty(SAMPLES, np.float32), np.empty(SAMPLES, np.float32))
    for start in range(0, x.shape[0], SAMPLES):
        count = min(SAMPLES, x.shape[0] - start)
        for s in range(count):
            for p in range(d):
                part[p, s] = x[start + s, p]
        total = f[start : start + count]
        total[:] = 0.0
        for p in range(d):
            of_p[:] = 0.0
            for q in range(p, d):
                of_q[:] = 0.0
                for r in range(q, d):
                    weight = a[p, q, r]
                    for s in range(count):
                        of_q[s] += weight * part[r, s]
                for s in range(count):
                    of_p[s] += of_q[s] * part[q, s]
            for s in range(count):
                total[s] += of_p[s] * part[p, s]


def ordered(a: NDArray[np.float64]) -> Single:
    """Symmetric couplings, shape (d, d, d), as those of p ≤ q ≤ r: each stands for its one, three or six orders."""
    p, q, r = np.indices(a.shape)
    orders = np.where(p == r, 1.0, np.where((p == q) | (q == r), 3.0, 6.0))
    return np.where((p <= q) & (q <= r), orders * a, 0.0).astype(np.float32)
