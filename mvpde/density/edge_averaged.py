"""The edge-averaged (Scharfetter–Gummel) operator on the edge graph.

For ∂_tρ = ∇·(ρ∇V + τ∇ρ), τ > 0, with V piecewise linear, exponential fitting along the edges (Scharfetter & Gummel 1969; Xu &
Zikatanov 1999) gives the flux into i from j

    F_ij = s_ij τ [ B(x) ρ_j − B(−x) ρ_i ],      x = (V_i − V_j)/τ,   B(x) = x/(eˣ − 1).

It vanishes exactly for ρ ∝ e^{−V/τ}, its sign is that of the difference of ρe^{V/τ}, so the discrete free energy cannot rise,
and where s_ij ≥ 0 the implicit matrix is an M-matrix. Edges with s_ij < 0 (obtuse angles; none on boxes) are left to the
limiter of the time steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures, free_energy
from mvpde.density.implicit import Coefficients
from mvpde.density.schemes import Options, Steps
from mvpde.density.steps.stiff import implicit_steps
from mvpde.density.walls.drain import drain
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


def edge_averaged(domain: Domain, features: NodalFeatures, temperature: float, *, once: bool = False) -> Coefficients:
    """The coefficients of the edge-averaged fluxes as a function of moments and time, which the potential depends on.

    ``temperature`` is that of a model whose coefficients do not depend on time; ``once``: of each edge once, not of both entries.
    """
    graph = domain.recovery.graph if once else domain.graph
    potential, still = np.zeros(len(domain.coordinates)), features.model.moving is None
    absorbing = None if once else drain(domain, features.model)

    def at(moments: Array, inward: Array, outward: Array, time: float = 0.0) -> None:
        present = features.at(time)
        present.potential(moments, potential)
        tau = temperature if still else present.model.temperature
        coefficients(graph.offsets, graph.columns, graph.stiffness, potential, tau, inward, outward)
        if absorbing is not None:
            absorbing.close(inward, outward)

    return at


def edge_averaged_steps(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> Steps:
    """The scheme at work, see `mvpde.density.schemes`."""
    falling = features.model.moving is None and drain(domain, features.model) is None  # no work is done, and nothing is lost
    return implicit_steps(
        domain,
        features,
        edge_averaged(domain, features, features.model.temperature),
        name="edge_averaged",
        options=options,
        energy=(lambda owned_values: free_energy(domain, features, owned_values)) if falling else None,
    )


@njit(cache=True, inline="always")
def bernoulli(x: float) -> float:
    """B(x) = x/(eˣ − 1), B(0) = 1: positive, decreasing, B(−x) = B(x) + x."""
    if abs(x) < 1e-5:
        return 1.0 - 0.5 * x + x * x / 12.0
    if x > 700.0:
        return 0.0
    return x / math.expm1(x)


@njit(cache=True)
def coefficients(
    offsets: Integers, columns: Integers, stiffness: Array, potential: Array, temperature: float, inward: Array, outward: Array
) -> None:
    """For each entry (i, j): ``inward`` k_ij = sτB(x) and ``outward`` k_ji = sτB(−x), so that F_ij = k_ij ρ_j − k_ji ρ_i."""
    for i in range(offsets.size - 1):
        v_i = potential[i]
        for e in range(offsets[i], offsets[i + 1]):
            x = (v_i - potential[columns[e]]) / temperature
            # B of the positive argument first: it is small and exact; B(−|x|) = B(|x|) + |x| adds numbers of one sign
            small = bernoulli(abs(x))
            large = small + abs(x)
            conduction = stiffness[e] * temperature
            inward[e] = conduction * (small if x > 0.0 else large)
            outward[e] = conduction * (large if x > 0.0 else small)
