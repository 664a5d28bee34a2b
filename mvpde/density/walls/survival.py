"""What is left of a law between absorbing walls, and the operator that takes it away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.features import NodalFeatures
from mvpde.density.galerkin import galerkin
from mvpde.density.walls.drain import Drain
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]


def edges(domain: Domain, features: NodalFeatures, moments: Array, time: float = 0.0) -> tuple[Array, Array]:
    """k_ij and k_ji of each entry of the edge graph, those of a density with noise; nothing comes back from absorbing walls.
    Collective.
    """
    inward, outward = np.empty((2, len(domain.graph.columns)))
    model = features.model
    if model.gradient_flow:
        edge_averaged(domain, features, model.temperature)(moments, inward, outward, time)
    else:
        galerkin(domain, features, model)(moments, inward, outward, time)
    return inward, outward


def survivors(drain: Drain, features: NodalFeatures, values: Array, moments: Array, time: float) -> dict[str, float]:
    """The mass of nodal ``values`` (owned + ghosts), and what they lose at each wall in unit time. Collective."""
    domain = drain.domain
    mass = domain.sum(np.array([domain.graph.lumped @ values[: domain.owned]]))
    fluxes = drain.flux(values, edges(domain, features, moments, time)[0])
    return dict(zip(drain.listed, map(float, [*mass, *fluxes]), strict=True))
