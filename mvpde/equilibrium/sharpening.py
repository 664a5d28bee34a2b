"""Positive laws taken as near to one with negative values as limited fluxes can.

Upwinding that makes a stationary law positive acts all the time that mass is carried around: it widens a ring by much more than
the negative values it takes away are worth. The null vector ρ* without upwinding has moments that are far better, so the fluxes
f_ij between ρ⁺ ≥ 0 with upwinding and ρ* are given back, as far as nodes keep half of the least and get no more than a quarter
above the largest ρ⁺ of themselves and their neighbours: peaks are restored, waves in empty places are not. Many fluxes have
M(ρ* − ρ⁺) as their sums; the least, in Σ f_ij²/m_ij, are

    f_ij = m_ij (φ_i − φ_j),      Σ_j f_ij = m_i (ρ*_i − ρ⁺_i).

What is withheld would shift the mean, which a drift mends (`mvpde.density.limiter`): ⟨b⟩ = 0 stays true of a linear drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.density.limiter import add_limited_fluxes, mend_means
from mvpde.density.systems import ShiftedSystem, complete
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]

_LONG = 1e9  # in units of the fastest rate of the graph's Laplacian: φ to nine digits, and its sums to rounding by flux form
_PASSES = 200  # of the limiter; tens do
_SOLVED = 1e-12
_KEPT, _HIGHER = 0.5, 1.25  # of the least and largest ρ⁺ around it: bounds of a node


def taken_towards(domain: Domain, low: Array, high: Array) -> Array:
    """ρ ≥ 0 from ``low`` ≥ 0 as near to ``high`` as limited fluxes bring it (owned + ghosts); the same mass. Collective."""
    graph, owned = domain.graph, domain.owned
    row, weight = graph.rows(), graph.mass
    fastest = domain.extremes(np.bincount(row, weights=weight, minlength=owned) / graph.lumped)[1]
    system = ShiftedSystem(domain, [complete("stationary_")])
    system.set(weight, weight, _LONG / fastest)
    potential = np.zeros(len(low))
    asked = graph.lumped * (high - low)[:owned] * (_LONG / fastest)
    potential[:owned] = system.solve(asked, potential[:owned].copy(), _SOLVED)
    domain.exchange.update(potential)
    fluxes = weight * (potential[row] - potential[graph.columns])
    result, lowest, highest = low.copy(), low[:owned].copy(), low[:owned].copy()
    np.minimum.at(lowest, row, low[graph.columns])
    np.maximum.at(highest, row, low[graph.columns])
    bounds = (_KEPT * np.maximum(lowest, 0.0), _HIGHER * highest)
    add_limited_fluxes(domain, fluxes, result, passes=_PASSES, bounds=bounds)
    mend_means(domain, fluxes, result)
    return result
