"""Edge fluxes F_ij = k_ij ρ_j − k_ji ρ_i = −F_ji: rates and sums, for any coefficients k.

Arrays of coefficients and fluxes have one number for each entry (i, j) of the edge graph of this rank.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


@njit(cache=True)
def rate(
    offsets: Integers, columns: Integers, lumped: Array, inward: Array, outward: Array, density: Array, result: Array
) -> None:
    """dρ_i/dt = Σ_j F_ij / m_i on owned rows into ``result``; ``density`` holds ghosts."""
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += inward[e] * density[columns[e]] - outward[e] * density[i]
        result[i] = total / lumped[i]


@njit(cache=True)
def make_positive(offsets: Integers, columns: Integers, cut: Array, inward: Array, outward: Array) -> None:
    """Discrete upwinding, in full of edges with an end where ``cut`` is 1 (owned + ghosts), in part where it is less.

    Adds max(c_i, c_j) d_ij, d_ij = max(0, −k_ij, −k_ji), to both coefficients; F_ij gains as much times ρ_j − ρ_i. A coefficient
    that is 0, before the value of a node on an absorbing wall, stays 0: then the other one is raised alone.
    """
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            d = max(cut[i], cut[columns[e]]) * max(0.0, -inward[e], -outward[e])
            if inward[e] != 0.0:
                inward[e] += d
            if outward[e] != 0.0:
                outward[e] += d


@njit(cache=True)
def add_fluxes(
    offsets: Integers, columns: Integers, weight: float, inward: Array, outward: Array, density: Array, fluxes: Array
) -> None:
    """``fluxes`` += weight·F_ij of ``density`` (owned + ghosts)."""
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            fluxes[e] += weight * (inward[e] * density[columns[e]] - outward[e] * density[i])


@njit(cache=True)
def antidiffusive_fluxes(
    offsets: Integers, columns: Integers, low_inward: Array, low_outward: Array, low: Array, length: float, fluxes: Array
) -> float:
    """h(f_ij − F_ij) of the ``fluxes`` f_ij of a step and those of an implicit Euler step Y with its own coefficients, in place.

    Returns what they would be against Y's with upwinding at every edge, in the sum of absolute values over the entries.
    """
    offered = 0.0
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            fluxes[e] = length * (fluxes[e] - low_inward[e] * low[j] + low_outward[e] * low[i])
            d = max(0.0, -low_inward[e], -low_outward[e])
            offered += abs(fluxes[e] - length * d * (low[j] - low[i]))
    return offered
