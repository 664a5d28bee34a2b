"""Flux-corrected explicit transport on the edge graph: positive, conservative, second order where the density is smooth.

For ∂_tρ = ∇·(ρ∇V + τ∇ρ) with nodal V, edge ij carries into i the central flux

    w_ij (ρ_i + ρ_j)/2 + τ s_ij (ρ_j − ρ_i),      w_ij = s_ij (V_j − V_i) = −w_ji,

which is what walls without flux need: nothing leaves through a node. The upwind flux max(w,0)ρ_j + min(w,0)ρ_i
+ τ max(s,0)(ρ_j − ρ_i) is positive under dt·Σ_j outflow ≤ m_i. Their difference, with the correction that turns the lumped
into the consistent mass matrix,

    f_ij = dt [ m_ij (ρ̇_i − ρ̇_j) + (½|w_ij| + τ max(−s_ij,0)) (ρ_i − ρ_j) ] = −f_ji,

is given back as far as the limiter allows. Drift compresses, so ρ has no maximum principle; the physical bound is ρ ≥ 0, and the
limiter (Zalesak 1979, Kuzmin & Turek 2002) takes for each edge the share that the node losing mass can afford. Time: SSP
Runge–Kutta of order 3 (Shu & Osher 1988), whose stages are convex combinations of such steps, so positivity and mass carry over.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

TINY = 1e-290  # subnormal numbers are slow and lose their sign; a density this small is none
AFFORDABLE = 1.0 - 1e-14  # of what a node has it may lose this part, so that rounding cannot overdraw it
# (share of the state at the start of the step, share of the Euler step from the last stage, time of the last
# stage): Shu–Osher form
STAGES = ((0.0, 1.0), (0.75, 0.25), (1.0 / 3.0, 2.0 / 3.0))


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def predict(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    low: Array,
    rate: Array,
) -> float:
    """Upwind rate into ``low``, central rate into ``rate`` (dρ_i/dt, owned rows); returns the largest outflow rate per mass.

    ``potential`` and ``density`` hold owned and ghost values. 1/(returned value) is the largest positive Euler step on this rank.
    """
    fastest = 0.0
    for i in range(lumped.size):
        v_i, rho_i = potential[i], density[i]
        upwind, central, outflow = 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            w = s * (potential[j] - v_i)
            rho_j = density[j]
            conduction = temperature * max(s, 0.0)
            # Gains and losses apart, each of one sign: then not even rounding makes an empty node negative.
            upwind += (max(w, 0.0) + conduction) * rho_j
            outflow += max(-w, 0.0) + conduction
            central += 0.5 * w * (rho_i + rho_j) + temperature * s * (rho_j - rho_i)
        inverse = 1.0 / lumped[i]
        low[i] = (upwind - outflow * rho_i) * inverse
        rate[i] = central * inverse
        fastest = max(fastest, outflow * inverse)
    return fastest


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def afford(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    mass: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    step: float,
    low: Array,
    rate: Array,
    share: Array,
) -> None:
    """The share of its antidiffusive losses that each owned node can pay from what the upwind step leaves it, into ``share``."""
    for i in range(lumped.size):
        v_i, rho_i, rate_i = potential[i], density[i], rate[i]
        loss = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            d = 0.5 * abs(s * (potential[j] - v_i)) + temperature * max(-s, 0.0)
            loss += max(mass[e] * (rate[j] - rate_i) + d * (density[j] - rho_i), 0.0)
        budget = AFFORDABLE * lumped[i] * max(rho_i + step * low[i], 0.0)
        loss *= step
        share[i] = 1.0 if loss <= budget else budget / loss


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def correct(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    mass: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    step: float,
    low: Array,
    rate: Array,
    share: Array,
    start: Array,
    of_start: float,
    of_step: float,
    result: Array,
) -> None:
    """of_start·start + of_step·(upwind step + limited antidiffusion) on owned rows, into ``result``."""
    for i in range(lumped.size):
        v_i, rho_i, rate_i, share_i = potential[i], density[i], rate[i], share[i]
        gain = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            d = 0.5 * abs(s * (potential[j] - v_i)) + temperature * max(-s, 0.0)
            f = mass[e] * (rate_i - rate[j]) + d * (rho_i - density[j])
            gain += f * (share[j] if f > 0.0 else share_i)
        value = of_start * start[i] + of_step * (rho_i + step * (low[i] + gain / lumped[i]))
        result[i] = 0.0 if abs(value) < TINY else value
