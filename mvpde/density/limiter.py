"""Positivity by limited edge fluxes (Zalesak 1979): what a node loses never exceeds what it has; mass is kept by antisymmetry."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.explicit import AFFORDABLE
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_NEGLIGIBLE = 1e-15  # fluxes left over, in units of the mass, not worth another pass
_STALLED = 0.999  # nor is a pass worth it after one that left more than this part


def add_limited_fluxes(domain: Domain, fluxes: Array, density: Array, passes: int = 1, negligible: float = _NEGLIGIBLE) -> None:
    """ρ_i += Σ_j α_ij f_ij / m_i with shares α_ij = α_ji ∈ [0, 1] as large as a losing node can afford, so that ρ ≥ 0 stays.
    Collective.

    One pass counts only what a node has, not what it will gain: where large fluxes almost cancel, as those of implicit steps do,
    what was cut is offered again to the new ρ (iterated flux correction, Schär & Smolarkiewicz 1996), up to ``passes`` times.

    Args:
        domain: whose edge graph the fluxes live on.
        fluxes: f_ij = −f_ji into i, one for each entry of the graph (local); overwritten by what was not given.
        density: ρ ≥ 0 at owned and ghost unknowns (local); changed in place.
        passes: largest number of passes.
        negligible: Σ|f_ij| over all entries, in units of the mass, that is not worth another pass.
    """
    graph, share = domain.graph, np.ones(len(density))
    rows, before = np.arange(domain.owned, dtype=np.int32), np.inf
    for _ in range(passes):
        _affordable_share(rows, graph.offsets, graph.lumped, fluxes, density, share)
        domain.exchange.update(share)
        rows, local = _apply(rows, graph.offsets, graph.columns, graph.lumped, share, fluxes, density)
        domain.exchange.update(density)
        rest = float(domain.sum(np.array(local)))
        if rest < negligible or rest > _STALLED * before:
            break
        before = rest


@njit(cache=True)
def _apply(
    rows: Integers, offsets: Integers, columns: Integers, lumped: Array, share: Array, fluxes: Array, result: Array
) -> tuple[Integers, float]:
    """result_i += Σ_j α_ij f_ij / m_i on ``rows``, α the share of the losing node; leaves (1 − α)f in ``fluxes``.

    Returns the rows where something is left, and Σ|(1 − α)f|.
    """
    rest, count, left = 0.0, 0, np.empty_like(rows)
    for i in rows:
        total, here = 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            given = fluxes[e] * (share[columns[e]] if fluxes[e] > 0.0 else share[i])
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
def _affordable_share(rows: Integers, offsets: Integers, lumped: Array, fluxes: Array, density: Array, share: Array) -> None:
    """The part of its losses among ``fluxes`` that each node of ``rows`` can pay without falling below zero."""
    for i in rows:
        loss = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            loss -= min(fluxes[e], 0.0)
        budget = AFFORDABLE * lumped[i] * max(density[i], 0.0)
        share[i] = 1.0 if loss <= budget else budget / loss
