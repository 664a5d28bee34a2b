"""Flux-corrected explicit transport by any drift: ∂_tρ = −∇·(bρ), no potential needed.

The fluxes F_ij = k_ij ρ_j − k_ji ρ_i are those of the Galerkin form, k_ij = b_j·G_ij with G_ij = ∫φ_j∇φ_i (`galerkin`), so
nothing leaves through a wall. With discrete upwinding d_ij = max(0, −k_ij, −k_ji) the flux F_ij + d_ij(ρ_j − ρ_i) is positive
under dt·Σ_j (k_ji + d_ij) ≤ m_i, and

    f_ij = dt [ m_ij (ρ̇_i − ρ̇_j) + d_ij (ρ_i − ρ_j) ] = −f_ji

is given back as far as the limiter allows: limiter, consistent mass and time steps are those of `explicit` (Kuzmin & Turek 2002).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.explicit import AFFORDABLE, TINY, FluxCorrected, PotentialFluxes
from mvpde.density.features import NodalFeatures
from mvpde.density.galerkin import edge_geometry
from mvpde.density.implicit import Coefficients
from mvpde.density.schemes import Options
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


def flux_corrected(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> FluxCorrected:
    """The scheme at work, see `mvpde.density.schemes`. Collective."""
    fluxes = (PotentialFluxes if features.model.gradient_flow else drift_fluxes)(domain, features)
    return FluxCorrected(domain, features, fluxes, cfl=options.cfl, step=options.step)


class CoefficientFluxes:
    """Those of given coefficients, F_ij = k_ij ρ_j − k_ji ρ_i; see `explicit.Fluxes`."""

    def __init__(self, domain: Domain, coefficients_at: Coefficients, *, sharpenings: int = 0) -> None:
        """Allocate k_ij and k_ji, which ``coefficients_at`` fills in from moments and time."""
        graph = domain.graph
        self.sharpenings, self._coefficients_at = sharpenings, coefficients_at
        self._rows, self._mass, self._lumped = (graph.offsets, graph.columns), graph.mass, graph.lumped
        self._inward, self._outward = np.zeros(len(graph.columns)), np.zeros(len(graph.columns))

    def evaluate(self, moments: Array, time: float) -> None:
        """k_ij and k_ji at these moments and at this time. Local."""
        self._coefficients_at(moments, self._inward, self._outward, time)

    def predict(self, density: Array, low: Array, rate: Array) -> float:
        """As `predict`."""
        return float(predict(*self._rows, self._inward, self._outward, self._lumped, density, low, rate))

    def afford(self, density: Array, step: float, low: Array, rate: Array, share: Array) -> None:
        """As `afford`."""
        afford(*self._rows, self._inward, self._outward, self._mass, self._lumped, density, step, low, rate, share)

    def correct(
        self,
        density: Array,
        step: float,
        low: Array,
        rate: Array,
        share: Array,
        start: Array,
        of_start: float,
        of_step: float,
        result: Array,
    ) -> None:
        """As `correct`."""
        edges = (*self._rows, self._inward, self._outward, self._mass, self._lumped)
        correct(*edges, density, step, low, rate, share, start, of_start, of_step, result)


def drift_fluxes(domain: Domain, features: NodalFeatures) -> CoefficientFluxes:
    """Those of −∇·(bρ), from the drift at the nodes. Collective.

    Where a flow compresses the law in some directions, waves a few cells long matter: three sharpenings cut the error in three
    dimensions to a third, at a tenth of the cost of a step.
    """
    graph, geometry, model, z = domain.graph, edge_geometry(domain), features.model, domain.coordinates

    def at(moments: Array, inward: Array, outward: Array, time: float = 0.0) -> None:
        b = model.now(time).drift(z, moments)
        coefficients(graph.offsets, graph.columns, geometry.inward, geometry.outward, b, inward, outward)

    return CoefficientFluxes(domain, at, sharpenings=3)


@njit(cache=True)
def coefficients(offsets: Integers, columns: Integers, into: Array, out: Array, b: Array, inward: Array, outward: Array) -> None:
    """For each entry (i, j): ``inward`` k_ij = b_j·G_ij and ``outward`` k_ji = b_i·G_ji."""
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            j, from_j, from_i = columns[e], 0.0, 0.0
            for k in range(into.shape[1]):
                from_j += b[j, k] * into[e, k]
                from_i += b[i, k] * out[e, k]
            inward[e] = from_j
            outward[e] = from_i


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def predict(
    offsets: Integers,
    columns: Integers,
    inward: Array,
    outward: Array,
    lumped: Array,
    density: Array,
    low: Array,
    rate: Array,
) -> float:
    """Upwind rate into ``low``, central rate into ``rate`` (dρ_i/dt, owned rows); returns the largest outflow rate per mass."""
    fastest = 0.0
    for i in range(lumped.size):
        rho_i = density[i]
        upwind, central, outflow = 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            k, back = inward[e], outward[e]
            rho_j = density[columns[e]]
            d = max(0.0, -k, -back)
            # Gains and losses apart, each of one sign: then not even rounding makes an empty node negative.
            upwind += (k + d) * rho_j
            outflow += back + d
            central += k * rho_j - back * rho_i
        inverse = 1.0 / lumped[i]
        low[i] = (upwind - outflow * rho_i) * inverse
        rate[i] = central * inverse
        fastest = max(fastest, outflow * inverse)
    return fastest


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def afford(
    offsets: Integers,
    columns: Integers,
    inward: Array,
    outward: Array,
    mass: Array,
    lumped: Array,
    density: Array,
    step: float,
    low: Array,
    rate: Array,
    share: Array,
) -> None:
    """The share of its antidiffusive losses that each owned node can pay from what the upwind step leaves it, into ``share``."""
    for i in range(lumped.size):
        rho_i, rate_i = density[i], rate[i]
        loss = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            d = max(0.0, -inward[e], -outward[e])
            loss += max(mass[e] * (rate[j] - rate_i) + d * (density[j] - rho_i), 0.0)
        budget = AFFORDABLE * lumped[i] * max(rho_i + step * low[i], 0.0)
        loss *= step
        share[i] = 1.0 if loss <= budget else budget / loss


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def correct(
    offsets: Integers,
    columns: Integers,
    inward: Array,
    outward: Array,
    mass: Array,
    lumped: Array,
    density: Array,
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
        rho_i, rate_i, share_i = density[i], rate[i], share[i]
        gain = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            d = max(0.0, -inward[e], -outward[e])
            f = mass[e] * (rate_i - rate[j]) + d * (rho_i - density[j])
            gain += f * (share[j] if f > 0.0 else share_i)
        value = of_start * start[i] + of_step * (rho_i + step * (low[i] + gain / lumped[i]))
        result[i] = 0.0 if abs(value) < TINY else value
