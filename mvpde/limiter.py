"""Positivity by limited edge fluxes (Zalesak 1979): what a node loses never exceeds what it has; mass is kept by antisymmetry."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


def add_limited_fluxes(domain: Domain, fluxes: Array, density: Array) -> None:
    """ρ_i += Σ_j α_ij f_ij / m_i with the largest α_ij = α_ji ∈ [0, 1], one for each losing node, that keep ρ_i ≥ 0. Collective.

    Args:
        domain: whose edge graph the fluxes live on.
        fluxes: f_ij = −f_ji into i, one for each entry of the graph (local); overwritten by α_ij f_ij.
        density: ρ ≥ 0 at owned and ghost unknowns (local); changed in place.
    """
    graph, share = domain.graph, np.zeros(len(density))
    _affordable_share(graph.offsets, graph.lumped, fluxes, density, share)
    domain.exchange.update(share)
    _limit(graph.offsets, graph.columns, share, fluxes)
    _apply(graph.offsets, graph.lumped, fluxes, density)
    domain.exchange.update(density)


@njit(cache=True)
def _apply(offsets: Integers, lumped: Array, fluxes: Array, result: Array) -> None:
    """result_i += Σ_j fluxes_ij / m_i on owned rows."""
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += fluxes[e]
        result[i] += total / lumped[i]


@njit(cache=True)
def _affordable_share(offsets: Integers, lumped: Array, fluxes: Array, density: Array, share: Array) -> None:
    """The part of its losses among ``fluxes`` that each owned node of ``density`` can pay without falling below zero."""
    for i in range(lumped.size):
        loss = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            loss -= min(fluxes[e], 0.0)
        budget = lumped[i] * max(density[i], 0.0)
        share[i] = 1.0 if loss <= budget else budget / loss * (1.0 - 4e-16)


@njit(cache=True)
def _limit(offsets: Integers, columns: Integers, share: Array, fluxes: Array) -> None:
    """Scale each flux by the share of the node that loses by it (``share`` holds ghosts); antisymmetry is kept."""
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            fluxes[e] *= share[columns[e]] if fluxes[e] > 0.0 else share[i]
