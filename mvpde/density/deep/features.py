"""The sweeps of a deep network over densities: moments and potential as the schemes of one density ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mvpde.density.deep.layers import LayerMesh
from mvpde.mesh.domain import Domain
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.sweeps import Labels, Sweep, end_rates, sweep
from mvpde.models.deep.units import Array
from mvpde.models.mean_field import MeanField


@dataclass
class DeepFeatures:
    """What a scheme asks of the features of a model, for all layers and labels at once.

    Attributes:
        network, model: the network, and what others see of it.
        union: the copies of the meshes.
        labels: shares of the mass.
        layers: the layers on them.
        a, b: present first and last weights of the labels.
        pull: h → −∂E/∂h.
    """

    network: DeepNetwork
    model: MeanField
    union: Domain
    labels: Labels
    layers: list[LayerMesh]
    a: Array
    b: Array
    pull: Callable[[Array], Array]

    def turn_ends(self, masses: Array, length: float) -> None:
        """Let trained ends go on for a time while the laws stay: a step of Heun's method. Collective."""
        start = self.a, self.b
        first = end_rates(self.network, self.swept(masses), self.a)
        self.a, self.b = (x + length * rate for x, rate in zip(start, first, strict=True))
        second = end_rates(self.network, self.swept(masses), self.a)
        self.a, self.b = (x + 0.5 * length * (one + two) for x, one, two in zip(start, first, second, strict=True))

    def at(self, t: float) -> DeepFeatures:
        """Nothing here depends on time."""
        del t
        return self

    def swept(self, masses: Array) -> Sweep:
        """Forward and backward, from the masses m_iρ_i of the owned unknowns. Collective: one sum over ranks for each layer."""

        def means(layer: int, z: Array) -> tuple[Array, Array]:
            both = self.union.sum(self.layers[layer - 1].means(masses, z))
            return both[0], both[1]

        return sweep(self.network, self.labels, self.a, self.b, means, self.pull)

    def moments(self, masses: Array) -> Array:
        """All z^ℓ, then all M^ℓ, flat: what the potentials depend on. Collective."""
        swept = self.swept(masses)
        return np.concatenate([part.ravel() for part in (*swept.inputs, *swept.multipliers)])

    def potential(self, moments: Array, result: Array) -> None:
        """V^ℓ at owned and ghost unknowns into ``result``, from ``moments``. Local."""
        inputs, multipliers = self.unpacked(moments)
        for layer, z, m in zip(self.layers, inputs, multipliers, strict=True):
            layer.potential(m, z, result)

    def squared_slope(self, moments: Array) -> Array:
        """|∂_θV^ℓ|² without V0 at owned and ghost unknowns. Local."""
        inputs, multipliers = self.unpacked(moments)
        result = np.zeros(len(self.union.coordinates))
        for layer, z, m in zip(self.layers, inputs, multipliers, strict=True):
            layer.squared_slope(m, z, result)
        return result

    def unpacked(self, moments: Array) -> tuple[list[Array], list[Array]]:
        """z^ℓ, shapes (A or 1, 1, P), and M^ℓ, shapes (1, B or 1, P), from their flat form."""
        points = len(self.network.data.weights)
        shapes = [(layer.shape[0], 1, points) for layer in self.layers] + [(1, layer.shape[1], points) for layer in self.layers]
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(np.split(moments, ends[:-1]), shapes, strict=True)]
        return parts[: len(self.layers)], parts[len(self.layers) :]


@dataclass(frozen=True)
class EulerField:
    """A potential whose flow for a time ε is θ ↦ θ − ε∂_θV to third order: V + ¼ε|∂_θV|², the same throughout.

    The flow of ∇W is x − ε∇W + ½ε²∇²W∇W + O(ε³), and ∇|∇V|² = 2∇²V∇V.

    Attributes:
        model: at τ = 0.
        values: of the potential at owned and ghost unknowns.
    """

    model: MeanField
    values: Array

    def at(self, t: float) -> EulerField:
        """Nothing here depends on time."""
        del t
        return self

    def moments(self, masses: Array) -> Array:
        """None are needed."""
        del masses
        return np.zeros(0)

    def potential(self, moments: Array, result: Array) -> None:
        """The same at all times."""
        del moments
        result[:] = self.values
