"""Edge-averaged fluxes in explicit steps: those of noise that no step has to be implicit for.

Implicit steps extrapolate moments that are linear in the density, and those of deep networks are not. With the coefficients of
`mvpde.density.edge_averaged` an explicit step leaves every Gibbs state exactly as it is, also with the consistent mass.
"""

from __future__ import annotations

import numpy as np

from mvpde.density.edge_averaged import coefficients
from mvpde.density.features import NodalFeatures
from mvpde.density.transport import afford, correct, predict
from mvpde.mesh.domain import Array, Domain


class EdgeAveragedFluxes:
    """Those of ∇·(ρ∇V + τ∇ρ), τ > 0, with exponential fitting along the edges; see `explicit.Fluxes`."""

    sharpenings = 0

    def __init__(self, domain: Domain, features: NodalFeatures) -> None:
        """Allocate V and the coefficients."""
        graph = domain.graph
        self._features, self._graph, self._potential = features, graph, np.zeros(len(domain.coordinates))
        self._rows, self._mass, self._lumped = (graph.offsets, graph.columns), graph.mass, graph.lumped
        self._inward, self._outward = np.zeros(len(graph.columns)), np.zeros(len(graph.columns))

    def evaluate(self, moments: Array, time: float) -> None:
        """k_ij and k_ji at these moments. Local."""
        present = self._features.at(time)
        present.potential(moments, self._potential)
        temperature = present.model.temperature
        coefficients(*self._rows, self._graph.stiffness, self._potential, temperature, self._inward, self._outward)

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
