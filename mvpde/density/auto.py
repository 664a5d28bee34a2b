"""The scheme that suits a model: explicit without noise and where noise is not stiff, else the implicit one of its kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.galerkin import check_tensor, edge_geometry
from mvpde.density.schemes import SCHEMES, Options, Steps
from mvpde.mesh.domain import Domain
from mvpde.models.walls.box import ABSORBING

Array = NDArray[np.float64]

_STIFF = 2.0  # how much shorter explicit steps may be than the drift alone asks for where the law is
_DEGENERATE, _STIFFER = 10.0, 8.0  # the same where drift is so much faster than noise in its weakest direction
_NEGLIGIBLE = 1e-3  # part of its maximum below which a density does not decide on the scheme


def auto(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> Steps:
    """The suitable scheme at work. Collective."""
    return SCHEMES[suitable(domain, features, values)].build(domain, features, values, options)


def suitable(domain: Domain, features: NodalFeatures, values: Array) -> str:
    """Flux-corrected unless explicit diffusion takes (much) shorter steps than transport; then edge-averaged for gradient flows,
    and Galerkin for others.

    Only the drift within reach counts: far up a potential that walls cut off there is no mass, but explicit steps are shortest.
    """
    if features.model.deterministic:
        return "flux_corrected"
    walls = features.model.walls
    if walls is not None and (walls.singular or any(walls.faces(ABSORBING))):  # explicit steps are short there, or none
        gibbs = features.model.gradient_flow and features.model.temperature > 0.0
        return "edge_averaged" if gibbs else "galerkin"
    if not features.model.gradient_flow:
        return "flux_corrected" if _is_carried(domain, features, values) else "galerkin"
    temperature = features.model.temperature
    if temperature == 0.0:  # of this stretch of time
        return "flux_corrected"
    graph, potential = domain.graph, np.empty(len(values))
    features.potential(features.moments(graph.lumped * values[: domain.owned]), potential)
    row = graph.rows()
    drift = np.bincount(
        row, weights=np.maximum(-graph.stiffness * (potential[graph.columns] - potential[row]), 0.0), minlength=domain.owned
    )
    conduction = np.bincount(row, weights=temperature * np.maximum(graph.stiffness, 0.0), minlength=domain.owned)
    drift = np.where(_within_reach(domain, temperature, values[: domain.owned], potential[: domain.owned]), drift, 0.0)
    fastest = [-domain.extremes(-rates / graph.lumped)[0] for rates in (drift, conduction)]
    return "flux_corrected" if fastest[1] < fastest[0] else "edge_averaged"


def _is_carried(domain: Domain, features: NodalFeatures, values: Array) -> bool:
    """Whether the drift carries the law far in an explicit step, for all noise and all drift elsewhere. Collective.

    Where noise leaves a direction to the drift alone, implicit steps would have to be about as short to follow it, and the
    Galerkin form has ripples there.
    """
    model, owned = features.model, domain.owned
    if model.metric is not None:
        return False
    z, moments = features.places, features.moments(domain.graph.lumped * values[:owned])
    geometry, row, along, diffusion = edge_geometry(domain), domain.graph.rows(), domain.dimension, model.diffusion(z, moments)
    check_tensor(domain, diffusion)
    drift, tensor = model.drift(z, moments)[:owned, :along], diffusion[:owned, :along, :along]
    transport = np.abs(np.einsum("ek,ek->e", drift[row], geometry.outward))
    conduction = np.abs(np.einsum("ekc,ekc->e", tensor[row], geometry.stiffness))
    isotropic = np.abs(domain.graph.stiffness)
    rates, conducted, unit = (
        np.bincount(row, weights=edges, minlength=owned) / domain.graph.lumped for edges in (transport, conduction, isotropic)
    )
    filled = values[:owned] > _NEGLIGIBLE * domain.extremes(values)[1]
    alone = filled & (rates > _DEGENERATE * np.linalg.eigvalsh(tensor)[:, 0] * unit)
    here, there, anywhere = (domain.extremes(array)[1] for array in (filled * rates, alone * rates, rates + conducted))
    return anywhere <= max(_STIFF * here, _STIFFER * there)


def _within_reach(domain: Domain, temperature: float, values: Array, potential: Array) -> NDArray[np.bool_]:
    """Owned nodes not above those that carry mass, now or in the Gibbs state of the potential. Collective.

    Mass moves downhill but for what the temperature lifts, so it does not come to the others while the potential stays.
    """
    lowest = domain.extremes(potential)[0]
    filled = values > _NEGLIGIBLE * domain.extremes(values)[1]
    highest = domain.extremes(np.where(filled, potential, lowest))[1]
    return np.asarray(potential <= max(highest, lowest - temperature * np.log(_NEGLIGIBLE)))
