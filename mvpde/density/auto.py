"""The scheme that suits a model: explicit without noise, Galerkin for no gradient flow, else the one with the longer steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.schemes import SCHEMES, Options, Steps
from mvpde.mesh.domain import Domain
from mvpde.models.walls.box import ABSORBING

Array = NDArray[np.float64]

_NEGLIGIBLE = 1e-3  # part of its maximum below which a density does not decide on the scheme


def auto(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> Steps:
    """The suitable scheme at work. Collective."""
    return SCHEMES[suitable(domain, features, values)].build(domain, features, values, options)


def suitable(domain: Domain, features: NodalFeatures, values: Array) -> str:
    """Galerkin for no gradient flow with noise; else edge-averaged where explicit diffusion takes shorter steps than transport.

    Only the drift within reach counts: far up a potential that walls cut off there is no mass, but explicit steps are shortest.
    """
    if features.model.deterministic:
        return "flux_corrected"
    if not features.model.gradient_flow:
        return "galerkin"
    temperature = features.model.temperature
    if temperature == 0.0:  # of this stretch of time
        return "flux_corrected"
    walls = features.model.walls
    if walls is not None and (walls.singular or any(walls.faces(ABSORBING))):  # explicit steps are short there
        return "edge_averaged"
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


def _within_reach(domain: Domain, temperature: float, values: Array, potential: Array) -> NDArray[np.bool_]:
    """Owned nodes not above those that carry mass, now or in the Gibbs state of the potential. Collective.

    Mass moves downhill but for what the temperature lifts, so it does not come to the others while the potential stays.
    """
    lowest = domain.extremes(potential)[0]
    filled = values > _NEGLIGIBLE * domain.extremes(values)[1]
    highest = domain.extremes(np.where(filled, potential, lowest))[1]
    return np.asarray(potential <= max(highest, lowest - temperature * np.log(_NEGLIGIBLE)))
