"""Sweeps over the edge graph that make an explicit step positive, free of ripples, and right in its mean.

With fluxes F_ij = k_ij ρ_j − k_ji ρ_i = −F_ji into i and discrete upwinding d_ij = max(0, −k_ij, −k_ji), the step

    u_i = ρ_i + dt Σ_j [F_ij + d_ij (ρ_j − ρ_i)] / m_i

is positive under dt·Σ_j (k_ji + d_ij) ≤ m_i, and of first order (`predict`). What is given back to it (`afford`, `correct`) is

    f_ij = m_ij (ρ̇_i − ρ̇_j) + d_ij [(1 − w)(ρ_i − ρ_j) + w e_ij],     e_ij = ½(g_i + g_j)·(x_i − x_j),

the difference between lumped and consistent mass, and the upwind diffusion as far as it is explained by gradients g that are
recovered at the nodes (`mvpde.mesh.recovery`). A wave with the angle θ from node to node has e_ij = cos²(θ/2)(ρ_i − ρ_j). With

    w = min(1, c qⁿ),      q = (ρ_i − ρ_j − e_ij)² / [(ρ_i − ρ_j)² + e_ij² + ε²(ρ_i + ρ_j)²],      ε = .02,

upwind diffusion stays on waves from node to node and leaves smooth densities alone, where q ≈ θ⁴/32: no ripples, no lower order.
Down a potential c = 2 and n = 1; other drifts, which carry laws around many times, have c = 4 and n = 2.

The limiter (Zalesak 1979; Kuzmin & Turek 2002) takes the share α_ij of f_ij with which every node stays between the least and the
largest u of itself and its neighbours; u knows what the drift compresses, so that is no obstacle. At smooth extrema, where the
bend b_i = Σ_j m_ij (ρ_j − ρ_i − g_i·(x_j − x_i)) / Σ_j m_ij has the sign of its mean over the neighbours, the bounds widen by
twice the smaller of both, lest peaks be clipped (in the spirit of Guermond, Nazarov, Popov & Tomas 2018); the lower one to half
of the least u at most.

What α and w took from the first moments, δ = Σ_(ij) [f_ij(w = 0) − α_ij f_ij](x_i − x_j), is given back by a drift (`shift`),

    h_ij = m_ij min(ℓ_i, ℓ_j)(x_i − x_j)·β,     Σ_(ij) h_ij (x_i − x_j) = dt δ,

ℓ_i ≥ 0 the lower bound of node i, with β from a D × D system (`mvpde.density.limiter`), cut where a node would give what it has.
So the mean obeys d⟨z⟩/dt = ⟨b⟩ as with the Galerkin method. Edges at walls take no part, for there mass really stays; where more
than 1e-4 of it lies there, the mean is left alone.

Each edge is visited once, and what it does to its second end j is added there.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int32]
Rows = tuple[Integers, Integers]  # offsets and columns, each edge once
Pair = tuple[Array, Array]  # k_ij and k_ji
Geometry = tuple[Array, Array, Array, Array, Integers]  # m_ij, x_i − x_j, `inside`, m_i, part of the mesh

TINY = 1e-290  # subnormal numbers are slow and lose their sign; a density this small is none
AFFORDABLE = 1.0 - 1e-14  # of what a node has it may lose this part, so that rounding cannot overdraw it
RESERVE = 0.5  # of the lower bound, for `shift`
SEEN = 0.02  # of ρ_i + ρ_j: variations that small are no ripples
WIDER = 2.0  # bends: more than what a step takes from a smooth peak
UPWIND, BEND, SLOPE = 0, 1, 2  # columns of ``nodes``; the gradient is in those from the last on
GAINS, LOSSES, LEAST = 0, 1, 2  # columns of ``shares``
LOWEST, HIGHEST, AROUND = 2, 3, 4  # columns of ``work``, after gains and losses


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def predict(
    rows: Rows,
    pair: Pair,
    geometry: Geometry,
    gradients: Pair,
    density: Array,
    rate: Array,
    nodes: Array,
    outflow: Array,
) -> float:
    """Central rate into ``rate``, upwind rate, bend and gradient into ``nodes``, owned rows; the largest outflow rate per mass.

    ``density`` holds owned and ghost values. 1/(returned value) is the largest positive Euler step on this rank. ``gradients``
    are P_i and Σ_j m_ij (x_i − x_j).
    """
    inverse, lean = gradients
    (offsets, columns), (inward, outward), (mass, edges, _, lumped, _) = rows, pair, geometry
    fastest, dimension, owned = 0.0, edges.shape[1], lumped.size
    rate[:], nodes[:], outflow[:] = 0.0, 0.0, 0.0
    for i in range(owned):
        rho_i = density[i]
        gain, loss, central, bend = nodes[i, UPWIND], outflow[i], rate[i], nodes[i, BEND]
        g0, g1, g2 = nodes[i, SLOPE], nodes[i, SLOPE + min(1, dimension - 1)], nodes[i, SLOPE + dimension - 1]
        for e in range(offsets[i], offsets[i + 1]):
            k, back, j = inward[e], outward[e], columns[e]
            rho_j = density[j]
            d = max(0.0, -k, -back)
            # Gains and losses apart, each of one sign: then not even rounding makes an empty node negative.
            gain += (k + d) * rho_j
            loss += back + d
            nodes[j, UPWIND] += (back + d) * rho_i
            outflow[j] += k + d
            flux = k * rho_j - back * rho_i
            central += flux
            rate[j] -= flux
            fall = mass[e] * (rho_i - rho_j)
            bend -= fall
            nodes[j, BEND] += fall
            g0 += fall * edges[e, 0]
            nodes[j, SLOPE] += fall * edges[e, 0]
            if dimension > 1:
                g1 += fall * edges[e, 1]
                nodes[j, SLOPE + 1] += fall * edges[e, 1]
            if dimension > 2:
                g2 += fall * edges[e, 2]
                nodes[j, SLOPE + 2] += fall * edges[e, 2]
        rate[i] = central / lumped[i]
        nodes[i, UPWIND] = (gain - loss * rho_i) / lumped[i]
        fastest = max(fastest, loss / lumped[i])
        for k in range(dimension):
            slope = inverse[i, k, 0] * g0
            if dimension > 1:
                slope += inverse[i, k, 1] * g1
            if dimension > 2:
                slope += inverse[i, k, 2] * g2
            nodes[i, SLOPE + k] = slope
            bend += lean[i, k] * slope
        nodes[i, BEND] = bend * (dimension + 2.0) / (dimension * lumped[i])  # Σ_j m_ij = m_i D/(D + 2)
    return fastest


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def afford(
    rows: Rows,
    pair: Pair,
    geometry: Geometry,
    before: tuple[Array, Array, Array, float, float, int],
    work: Array,
    fluxes: Array,
    shares: Array,
    sums: Array,
) -> None:
    """f_ij into ``fluxes``; the shares of its gains and losses that each owned node may have, and ℓ_i, into ``shares``.

    ``before`` are density, rate, ``nodes``, the step, c and n. The upwind rates in ``nodes`` become u. ``sums``, one row for each
    part of the mesh, gains what w takes from the first moments.
    """
    (offsets, columns), (inward, outward), (mass, edges, inside, lumped, part) = rows, pair, geometry
    (density, rate, nodes, step, damping, power), dimension = before, edges.shape[1]
    _begin(density, nodes, step, work)
    for i in range(lumped.size):
        rho_i, rate_i, bend, u_i = density[i], rate[i], nodes[i, BEND], nodes[i, UPWIND]
        gain, loss, lowest, highest = work[i, GAINS], work[i, LOSSES], work[i, LOWEST], work[i, HIGHEST]
        around, m0, m1, m2 = work[i, AROUND], 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            d = max(0.0, -inward[e], -outward[e])
            fall = rho_i - density[j]
            explained = 0.5 * (nodes[i, SLOPE] + nodes[j, SLOPE]) * edges[e, 0]
            if dimension > 1:
                explained += 0.5 * (nodes[i, SLOPE + 1] + nodes[j, SLOPE + 1]) * edges[e, 1]
            if dimension > 2:
                explained += 0.5 * (nodes[i, SLOPE + 2] + nodes[j, SLOPE + 2]) * edges[e, 2]
            gap, size = fall - explained, SEEN * (rho_i + density[j])
            unexplained = gap * gap / (fall * fall + explained * explained + size * size + TINY)
            taken = d * gap * min(1.0, damping * (unexplained if power == 1 else unexplained * unexplained))
            f = mass[e] * (rate_i - rate[j]) + d * fall - taken
            fluxes[e] = f
            up, down = max(f, 0.0), max(-f, 0.0)
            gain, loss = gain + up, loss + down
            work[j, GAINS] += down
            work[j, LOSSES] += up
            lowest, highest = min(lowest, nodes[j, UPWIND]), max(highest, nodes[j, UPWIND])
            work[j, LOWEST], work[j, HIGHEST] = min(work[j, LOWEST], u_i), max(work[j, HIGHEST], u_i)
            around += mass[e] * nodes[j, BEND]
            work[j, AROUND] += mass[e] * bend
            taken *= inside[e]
            m0 += taken * edges[e, 0]
            if dimension > 1:
                m1 += taken * edges[e, 1]
            if dimension > 2:
                m2 += taken * edges[e, 2]
        sums[part[i], 0] += m0
        if dimension > 1:
            sums[part[i], 1] += m1
        if dimension > 2:
            sums[part[i], 2] += m2
        around *= (dimension + 2.0) / (dimension * lumped[i])
        least = max(lowest - WIDER * max(min(bend, around), 0.0), RESERVE * lowest, 0.0)
        shares[i, GAINS] = _part(step * gain, lumped[i] * (highest - WIDER * min(max(bend, around), 0.0) - u_i))
        shares[i, LOSSES] = _part(step * loss, AFFORDABLE * lumped[i] * max(u_i - least, 0.0))
        shares[i, LEAST] = least


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def _begin(density: Array, nodes: Array, step: float, work: Array) -> None:
    """u into ``nodes``, and what the sums of `afford` begin with into ``work``."""
    for i in range(density.size):
        nodes[i, UPWIND] = density[i] + step * nodes[i, UPWIND]
        work[i, GAINS] = work[i, LOSSES] = work[i, AROUND] = 0.0
        work[i, LOWEST] = work[i, HIGHEST] = nodes[i, UPWIND]


@njit(cache=True, inline="always")
def _along(vectors: Array, i: int, first: int, edges: Array, e: int) -> np.float64:
    """The vector in the columns of a row of ``vectors`` from ``first`` on, times x_i − x_j."""
    result = vectors[i, first] * edges[e, 0]
    if edges.shape[1] > 1:
        result += vectors[i, first + 1] * edges[e, 1]
    if edges.shape[1] > 2:
        result += vectors[i, first + 2] * edges[e, 2]
    return result


@njit(cache=True, inline="always")
def _part(asked: float, budget: float) -> float:
    """The part of what is asked for that there is."""
    return 1.0 if asked <= budget else budget / asked


@njit(cache=True)
def add_moments(rows: Rows, geometry: Geometry, fluxes: Array, sums: Array) -> None:
    """Add Σ f_ij (x_i − x_j) over the edges off the walls to ``sums``."""
    offsets, (_, edges, inside, lumped, part) = rows[0], geometry
    for i in range(lumped.size):
        for e in range(offsets[i], offsets[i + 1]):
            for k in range(edges.shape[1]):
                sums[part[i], k] += fluxes[e] * inside[e] * edges[e, k]


@njit(cache=True, inline="always")
def _add_moments(sums: Array, row: int, dimension: int, m0: float, m1: float, m2: float) -> None:
    """Add to the first moments of a part."""
    sums[row, 0] += m0
    if dimension > 1:
        sums[row, 1] += m1
    if dimension > 2:
        sums[row, 2] += m2


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def correct(
    rows: Rows,
    geometry: Geometry,
    nodes: Array,
    step: float,
    fluxes: Array,
    shares: Array,
    combined: tuple[Array, float, float],
    result: Array,
    sums: Array,
) -> tuple[float, float]:
    """of_start·start + of_step·(u + limited fluxes) on owned rows, into ``result``; Σ|f_ij|, and how much of it was cut.

    ``combined`` are start, of_start and of_step. ``sums`` gains what was cut from the first moments.
    """
    (offsets, columns), (_, edges, inside, lumped, part) = rows, geometry
    start, of_start, of_step = combined
    dimension, owned = edges.shape[1], lumped.size
    offered, cut = 0.0, 0.0
    result[:] = 0.0
    for i in range(owned):
        total, gains, losses, m0, m1, m2 = result[i], shares[i, GAINS], shares[i, LOSSES], 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            f, j = fluxes[e], columns[e]
            given = f * (min(gains, shares[j, LOSSES]) if f > 0.0 else min(losses, shares[j, GAINS]))
            total += given
            result[j] -= given
            rest, once = f - given, 1.0 if j < owned else 0.5
            offered += once * abs(f)
            cut += once * abs(rest)
            rest *= inside[e]
            m0 += rest * edges[e, 0]
            if dimension > 1:
                m1 += rest * edges[e, 1]
            if dimension > 2:
                m2 += rest * edges[e, 2]
        _add_moments(sums, part[i], dimension, m0, m1, m2)
        result[i] = of_start * start[i] + of_step * (nodes[i, UPWIND] + step * total / lumped[i])
    return offered, cut


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def weigh(rows: Rows, geometry: Geometry, shares: Array, sums: Array) -> None:
    """Add Σ m_ij min(ℓ_i, ℓ_j)(x_i − x_j)⊗(x_i − x_j), by rows of its upper triangle, to ``sums`` after the first moments.

    Then Σ m_ij min(ℓ_i, ℓ_j), first without the edges at walls, then with them.
    """
    (offsets, columns), (mass, edges, inside, lumped, part) = rows, geometry
    dimension, owned, last = edges.shape[1], lumped.size, sums.shape[1] - 1
    for i in range(owned):
        least, row = shares[i, LEAST], sums[part[i]]
        s00, s01, s02, s11, s12, s22, within, everywhere = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            weight, x = mass[e] * min(least, shares[j, LEAST]), edges[e, 0]
            everywhere += weight * (1.0 if j < owned else 0.5)
            weight *= inside[e]
            within += weight
            s00 += weight * x * x
            if dimension > 1:
                y = edges[e, 1]
                s01 += weight * x * y
                s11 += weight * y * y
            if dimension > 2:
                z = edges[e, 2]
                s02 += weight * x * z
                s12 += weight * edges[e, 1] * z
                s22 += weight * z * z
        row[last - 1] += within
        row[last] += everywhere
        row[dimension] += s00
        if dimension == 2:
            row[3] += s01
            row[4] += s11
        elif dimension == 3:
            row[4] += s01
            row[5] += s02
            row[6] += s11
            row[7] += s12
            row[8] += s22


@njit(cache=True, fastmath={"contract", "nsz", "nnan"}, error_model="numpy")
def shift(rows: Rows, geometry: Geometry, shares: Array, drift: Array, of_step: float, result: Array) -> None:
    """result_i += of_step Σ_j h_ij/m_i on owned rows, ``drift`` the β of each part; what is as good as nothing becomes 0."""
    (offsets, columns), (mass, edges, inside, lumped, part) = rows, geometry
    owned = lumped.size
    for i in range(owned):
        total, least, row = 0.0, shares[i, LEAST], part[i]
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            weight = (inside[e] > 0.0) * mass[e] * min(least, shares[j, LEAST])
            flux = of_step * weight * _along(drift, row, 0, edges, e)
            total += flux
            if j < owned:
                result[j] -= flux / lumped[j]
        value = result[i] + total / lumped[i]
        result[i] = 0.0 if abs(value) < TINY else value
