"""Positivity by limited edge fluxes (Zalesak 1979): what a node loses never exceeds what it has; mass is kept by antisymmetry."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.sweeps import AFFORDABLE, LEAST, TINY, add_moments, shift, weigh
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_NEGLIGIBLE = 1e-15  # fluxes left over, in units of the mass, not worth another pass
_SINGULAR = 1e-13  # of the trace of S is added to it, where the mass lies along a line
_AT_WALLS = 1e-4  # part of the mass from which walls are felt, and the mean is left to them
_GIVEN = 0.9  # largest part of its mass that a node gives to mend the mean
_STALLED = 0.999  # nor is a pass worth it after one that left more than this part


def add_limited_fluxes(
    domain: Domain,
    fluxes: Array,
    density: Array,
    passes: int = 1,
    negligible: float = _NEGLIGIBLE,
    bounds: tuple[Array, Array] | None = None,
) -> None:
    """ρ_i += Σ_j α_ij f_ij / m_i with shares α_ij = α_ji ∈ [0, 1] as large as a losing node can afford, so that ρ ≥ 0 stays, and
    as a gaining one may have. Collective.

    One pass counts only what a node has, not what it will gain: where large fluxes almost cancel, as those of implicit steps do,
    what was cut is offered again to the new ρ (iterated flux correction, Schär & Smolarkiewicz 1996), up to ``passes`` times.

    Args:
        domain: whose edge graph the fluxes live on.
        fluxes: f_ij = −f_ji into i, one for each entry of the graph (local); overwritten by what was not given.
        density: ρ ≥ 0 at owned and ghost unknowns (local); changed in place.
        passes: largest number of passes.
        negligible: Σ|f_ij| over all entries, in units of the mass, that is not worth another pass.
        bounds: what each node must have at least, ≥ 0, and may have at most (owned), around ρ; None: 0 and anything.
    """
    graph, share = domain.graph, np.ones((len(density), 2))
    ends = (np.zeros(domain.owned), np.full(domain.owned, np.inf)) if bounds is None else bounds
    rows, before = np.arange(domain.owned, dtype=np.int32), np.inf
    for _ in range(passes):
        _affordable_share(rows, graph.offsets, graph.lumped, fluxes, density, *ends, share)
        domain.exchange.update(share)
        rows, local = _apply(rows, graph.offsets, graph.columns, graph.lumped, share, fluxes, density)
        domain.exchange.update(density)
        rest = float(domain.sum(np.array(local)))
        if rest < negligible or rest > _STALLED * before:
            break
        before = rest


def mend_means(domain: Domain, taken: Array, density: Array) -> None:
    """Give back what ρ lost of its first moments with the fluxes ``taken`` from it, as `mvpde.density.sweeps` does. Collective.

    The drift takes part as far as nodes have something: ℓ_i is ρ_i itself.

    Args:
        domain: whose edge graph the fluxes live on.
        taken: f_ij = −f_ji into i, one for each entry of the graph (local), times the step.
        density: ρ ≥ 0 at owned and ghost unknowns (local); changed in place.
    """
    recovery, dimension = domain.recovery, domain.dimension
    graph, shares = recovery.graph, np.zeros((len(density), LEAST + 1))
    rows = (graph.offsets.view(np.uint32), graph.columns.view(np.uint32))
    geometry = (graph.mass, recovery.edges, recovery.inside, graph.lumped, domain.part)
    shares[:, LEAST], sums = density, np.zeros((len(domain.weights), moment_sums(dimension)))
    add_moments(rows, geometry, taken[recovery.entries], sums)
    weigh(rows, geometry, shares, sums)
    drift = mean_drift(domain, domain.sum(sums.ravel()).reshape(sums.shape), 1.0)
    shift(rows, geometry, shares, drift, 1.0, density)
    domain.exchange.update(density)


def moment_sums(dimension: int) -> int:
    """How many numbers δ, the upper triangle of S, and the weights off the walls and everywhere are together."""
    return dimension + dimension * (dimension + 1) // 2 + 2


def mean_drift(domain: Domain, sums: Array, length: float) -> Array:
    """β with Sβ = length·δ for each part, shape (Q, D), as far as no node loses more than it has; see `mvpde.density.sweeps`.

    Args:
        domain: whose parts these are.
        sums: for each part δ, the upper triangle of S by rows, and Σ m_ij min(ℓ_i, ℓ_j) over the edges off the walls and over all
            edges, of all ranks; shape (Q, `moment_sums`).
        length: of the step.
    """
    drift = np.empty((len(sums), domain.dimension))
    _solve(sums, length, domain.recovery.longest, drift)
    return drift


@njit(cache=True)
def _solve(sums: Array, length: float, longest: Array, drift: Array) -> None:
    """β of each part into ``drift``, by elimination; S is positive semidefinite, and small."""
    parts, dimension = drift.shape
    matrix, right = np.empty((dimension, dimension)), np.empty(dimension)
    for q in range(parts):
        size, n = 0.0, dimension
        at_walls = 1.0 - sums[q, sums.shape[1] - 2] / max(sums[q, sums.shape[1] - 1], TINY)
        free = min(1.0, max(0.0, 2.0 - at_walls / _AT_WALLS))
        for k in range(dimension):
            right[k] = free * length * sums[q, k]
            size += sums[q, n]
            for c in range(k, dimension):
                matrix[k, c] = matrix[c, k] = sums[q, n]
                n += 1
        drift[q] = 0.0
        if not size > TINY:
            continue
        for k in range(dimension):
            matrix[k, k] += _SINGULAR * size
            for c in range(k + 1, dimension):
                factor = matrix[c, k] / matrix[k, k]
                right[c] -= factor * right[k]
                for n in range(k, dimension):
                    matrix[c, n] -= factor * matrix[k, n]
        reach = 0.0
        for k in range(dimension - 1, -1, -1):
            for c in range(k + 1, dimension):
                right[k] -= matrix[k, c] * right[c]
            right[k] /= matrix[k, k]
            reach += abs(right[k]) * longest[k]
        drift[q] = right / max(1.0, reach / _GIVEN)


@njit(cache=True)
def _apply(
    rows: Integers, offsets: Integers, columns: Integers, lumped: Array, share: Array, fluxes: Array, result: Array
) -> tuple[Integers, float]:
    """result_i += Σ_j α_ij f_ij / m_i on ``rows``, α the least of the shares of both ends; leaves (1 − α)f in ``fluxes``.

    Returns the rows where something is left, and Σ|(1 − α)f|.
    """
    rest, count, left = 0.0, 0, np.empty_like(rows)
    for i in rows:
        total, here = 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            given = fluxes[e] * (min(share[i, 0], share[j, 1]) if fluxes[e] > 0.0 else min(share[i, 1], share[j, 0]))
            total += given
            fluxes[e] -= given
            here += abs(fluxes[e])
        result[i] += total / lumped[i]
        if here > 0.0:
            left[count] = i
            count += 1
            rest += here
    return left[:count].copy(), rest


@njit(cache=True)
def _affordable_share(
    rows: Integers, offsets: Integers, lumped: Array, fluxes: Array, density: Array, lowest: Array, highest: Array, share: Array
) -> None:
    """The parts of its gains and of its losses among ``fluxes`` that keep each node of ``rows`` within its bounds."""
    for i in rows:
        gain, loss = 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            gain += max(fluxes[e], 0.0)
            loss -= min(fluxes[e], 0.0)
        room, budget = lumped[i] * max(highest[i] - density[i], 0.0), AFFORDABLE * lumped[i] * max(density[i] - lowest[i], 0.0)
        share[i, 0] = 1.0 if gain <= room else room / gain
        share[i, 1] = 1.0 if loss <= budget else budget / loss
