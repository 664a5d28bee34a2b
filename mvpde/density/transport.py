"""Flux-corrected explicit transport by any drift, and any tensor that is not stiff: ∂_tρ = ∇·(−bρ + ∇·(Aρ)), no potential needed.

The fluxes F_ij = k_ij ρ_j − k_ji ρ_i are those of the Galerkin form, k_ij = b_j·G_ij − A_j : S_ij (`galerkin`), so nothing leaves
through a wall. Upwinding, limiter and consistent mass are those of `sweeps`, time steps those of `explicit`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.explicit import FluxCorrected, PotentialFluxes
from mvpde.density.features import NodalFeatures
from mvpde.density.galerkin import check_tensor, edge_geometry
from mvpde.density.galerkin import coefficients as with_tensor
from mvpde.density.implicit import Coefficients
from mvpde.density.schemes import Options
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


def flux_corrected(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> FluxCorrected:
    """The scheme at work, see `mvpde.density.schemes`. Collective."""
    model = features.model
    fluxes = PotentialFluxes if model.gradient_flow else drift_fluxes if model.deterministic else tensor_fluxes
    return FluxCorrected(domain, features, fluxes(domain, features), cfl=options.cfl, step=options.step)


class CoefficientFluxes:
    """Those of given coefficients, F_ij = k_ij ρ_j − k_ji ρ_i, each edge once; see `explicit.Fluxes`."""

    def __init__(
        self,
        domain: Domain,
        coefficients_at: Coefficients,
        *,
        sharpenings: int = 0,
        damping: float = 2.0,
        power: int = 1,
        static: bool = False,
    ) -> None:
        """Allocate k_ij and k_ji, which ``coefficients_at`` fills in from moments and time; once where they are ``static``."""
        graph = domain.recovery.graph
        self.sharpenings, self.damping, self.power = sharpenings, damping, power
        self._coefficients_at, self._static, self._known = coefficients_at, static, False
        self.inward, self.outward = np.zeros(len(graph.columns)), np.zeros(len(graph.columns))

    def evaluate(self, moments: Array, time: float) -> None:
        """k_ij and k_ji at these moments and at this time. Local."""
        if not (self._static and self._known):
            self._coefficients_at(moments, self.inward, self.outward, time)
            self._known = True


def drift_fluxes(domain: Domain, features: NodalFeatures) -> CoefficientFluxes:
    """Those of −∇·(bρ), from the drift at the nodes. Collective.

    Where a flow compresses the law in some directions, waves a few cells long matter: three sharpenings cut the error in three
    dimensions to a third, at a tenth of the cost of a step. Such waves then travel right, so that damping may begin late.
    """
    graph, model, z = domain.recovery.graph, features.model, features.places
    geometry = edge_geometry(domain)
    into, out = (array[domain.recovery.entries] for array in (geometry.inward, geometry.outward))

    def at(moments: Array, inward: Array, outward: Array, time: float = 0.0) -> None:
        b = model.now(time).drift(z, moments)
        coefficients(graph.offsets, graph.columns, into, out, b, inward, outward)

    return CoefficientFluxes(domain, at, sharpenings=3, damping=4.0, power=2, static=_static(features))


def tensor_fluxes(domain: Domain, features: NodalFeatures) -> CoefficientFluxes:
    """Those of ∇·(−bρ + ∇·(Aρ)), from drift and tensor at the nodes. Collective.

    No sharpening: noise has damped the waves that it is for, and explicit steps would amplify them.

    Raises:
        ArgumentError: A is no diffusion tensor, on all ranks alike.
    """
    graph, model, z = domain.recovery.graph, features.model, features.places
    check_tensor(domain, model.diffusion(z, features.moments(domain.graph.lumped)))
    geometry, entries = edge_geometry(domain), domain.recovery.entries
    into, out, stiffness = (array[entries] for array in (geometry.inward, geometry.outward, geometry.stiffness))

    def at(moments: Array, inward: Array, outward: Array, time: float = 0.0) -> None:
        present = model.now(time)
        b, a = present.drift(z, moments), present.diffusion(z, moments)
        with_tensor(graph.offsets, graph.columns, into, out, stiffness, b, a, inward, outward)

    return CoefficientFluxes(domain, at, damping=4.0, power=2, static=_static(features))


def _static(features: NodalFeatures) -> bool:
    """Whether coefficients depend neither on moments nor on time."""
    return not features.model.interacting and features.model.moving is None


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
