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
from mvpde.runtime import SolverError

_OFF = 1e-4  # of the ends: how far a step of Heun's method may lie from one of Euler's; its own error is a power 3/2 of that
_ATTEMPTS = 20


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
        """Let trained ends go on for a time while the laws stay: steps of Heun's method, as many as they need. Collective.

        They may be far faster than the laws, whose step length says nothing of them: a step counts where it differs from Euler's
        by no more than `_OFF` of the ends. All ranks take the same steps, as the sweeps are the same on all.

        Raises:
            SolverError: no step is short enough.
        """
        gone, step = 0.0, length
        while gone < length:
            step = min(step, length - gone)
            first = end_rates(self.network, self.swept(masses), self.a)
            step, off = self._heun(masses, first, step)
            gone = length if step >= length - gone else gone + step
            step *= min(2.0, 0.9 * (_OFF / max(off, 1e-300)) ** 0.5)

    def _heun(self, masses: Array, first: tuple[Array, Array], step: float) -> tuple[float, float]:
        """One step from rates ``first``, the longest that counts; its length and what it differs from Euler's by. Collective."""
        start = self.a, self.b
        for _ in range(_ATTEMPTS):
            self.a, self.b = (x + step * rate for x, rate in zip(start, first, strict=True))
            second = end_rates(self.network, self.swept(masses), self.a)
            changes = [0.5 * step * (two - one) for one, two in zip(first, second, strict=True)]
            off = max(float(np.abs(d).max() / (1.0 + np.abs(x).max())) for x, d in zip(start, changes, strict=True))
            if off <= _OFF:
                self.a, self.b = self.a + changes[0], self.b + changes[1]
                return step, off
            step *= max(0.1, min(0.5, 0.9 * (_OFF / off) ** 0.5)) if np.isfinite(off) else 0.1
        self.a, self.b = start
        raise SolverError(
            f"density: no step of the trained ends is short enough, the last one tried was {step:.1e}; check the targets"
        )

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

    def euler_field(self, masses: Array, step: float) -> EulerField:
        """The field whose flow for a time ``step`` is a step of Euler's method in the present potential. Collective."""
        moments, values = self.moments(masses), np.empty(len(self.union.coordinates))
        self.potential(moments, values)
        return EulerField(self.model, values + 0.25 * step * self.squared_slope(moments))

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
