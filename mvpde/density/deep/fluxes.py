"""Edge-averaged fluxes in explicit steps: those of noise that no step has to be implicit for.

Implicit steps extrapolate moments that are linear in the density, and those of deep networks are not. With the coefficients of
`mvpde.density.edge_averaged` an explicit step leaves every Gibbs state exactly as it is, also with the consistent mass.
"""

from __future__ import annotations

from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.features import NodalFeatures
from mvpde.density.transport import CoefficientFluxes
from mvpde.mesh.domain import Domain


def edge_averaged_fluxes(domain: Domain, features: NodalFeatures) -> CoefficientFluxes:
    """Those of ∇·(ρ∇V + τ∇ρ), τ > 0, with exponential fitting along the edges."""
    return CoefficientFluxes(domain, edge_averaged(domain, features, features.model.temperature, once=True))
