"""What the finite rank of a compressed interaction of pairs does to the potential at a law.

The features make W_r of W, and the potential is off by δV(x) = ∫(W − W_r)(x, x')ρ(dx'). Its deviation under ρ over τ,

    e = √Var_ρ(δV)/τ,

is what changes the Gibbs state: δρ = −ρ(δV − ∫δV dρ)/τ to first order, before the law's own response. Integrals are taken over
nodes of the mesh, or a sample of them with equal masses where there are many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.equilibrium.stationary import Balance, Stationary

Array = NDArray[np.float64]

_NODES = 400  # of the mesh, at which the kernel is compared; all where there are fewer


def interaction_error(density: Density, law: Balance | Stationary) -> float | None:
    """e at ``law``; None where the features are the model's own. Collective."""
    if density.model.pairs is None:
        return None
    z, masses = _sample(density, law)
    full, made = density.model.pairs(z, z)  # [m, n]: at the point n, by one at the point m
    change = masses @ (full - made)
    return float(np.sqrt(masses @ (change - masses @ change) ** 2)) / (density.model.temperature or 1.0)


def _sample(density: Density, law: Balance | Stationary) -> tuple[Array, Array]:
    """Nodes and masses of the law, the same on all ranks, in an order that does not depend on them. Collective."""
    domain, owned = density.domain, density.domain.owned
    local = domain.graph.lumped * np.maximum(law.values[:owned], 0.0)
    z, masses = (np.concatenate(domain.comm.allgather(values)) for values in (domain.coordinates[:owned], local))
    order = np.lexsort(z.T)
    z, masses = z[order], masses[order] / masses.sum()
    if len(z) <= _NODES:
        return z, masses
    places = np.searchsorted(np.cumsum(masses), (np.arange(_NODES) + 0.5) / _NODES * (1.0 - 1e-12))
    return z[places], np.full(_NODES, 1.0 / _NODES)
