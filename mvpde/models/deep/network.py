"""Deep networks of infinite width, their layers, losses and names (Araújo, Oliveira & Yukimura, arXiv:1906.00193).

    z¹ = σ⁰(x, a),   z^{ℓ+1} = mean of σ^ℓ(z^ℓ, θ^ℓ) over the units below, ℓ < L,   h = mean of σ^L(z^L, b),   ŷ = σ^{L+1}(h)

with σ⁰(x, a) = act(a·x + offset), σ^L(z, b) = b·act(z). The weights θ^ℓ of the layers are trained; a and b keep their first
values, or with ``train_ends`` move too. Of infinite width, a layer is the law of θ^ℓ; the law of the first depends on a, that of
the last on b, and for L = 2 the one layer on both. With E = Σ_p w_p ℓ(ŷ_p, y_p) each weight follows θ̇ = −∂V^ℓ/∂θ, where
V^ℓ is the first variation of E (see `mvpde.models.deep.sweeps`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mvpde.models.data import Data
from mvpde.models.deep.activations import ACTIVATIONS, Array
from mvpde.models.deep.units import OUTPUT_MAPS, WEIGHTS, DeepLayer, differentiable
from mvpde.models.laws import Law1D, Product, base_potential
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.registry import check_known


@dataclass(frozen=True)
class FirstLayer:
    """σ⁰(x, a) = act(a·x + offset), at P inputs x of q numbers each.

    Attributes:
        activation: a name in `TRAINED`.
        offset: a number.
    """

    activation: str = "tanh"
    offset: float = 0.0

    def value(self, x: Array, a: Array) -> Array:
        """σ⁰(x_p, a), shape (..., P), for x of shape (P, q) and a of shape (..., q)."""
        return ACTIVATIONS[self.activation].values(a @ x.T + self.offset)

    def gradient(self, x: Array, a: Array) -> Array:
        """∂σ⁰/∂a, shape (..., P, q)."""
        slope = differentiable(ACTIVATIONS, self.activation)[1]
        return slope(self.value(x, a))[..., None] * x


@dataclass(frozen=True)
class DeepNetwork:
    """A deep network and how it is trained: all that is known of it before its width.

    Attributes:
        layers: those of ℓ = 1 … L−1, at least one.
        data: x_p, w_p, y_p.
        first: σ⁰.
        output: the activation of σ^L(z, b) = b·act(z), a name in `TRAINED`.
        output_map: σ^{L+1}, a name in `OUTPUT_MAPS`.
        loss: a name in `LOSSES`.
        temperature: τ ≥ 0: every weight θ moves by dθ = −∂(V^ℓ + V0) dt + √(2τ) dB.
        base: the base measure m̂ of each trained weight, by name; empty for the flat one. V0 = −τ log m̂.
        train_ends: whether a and b move too, by the gradient and without noise.

    Raises:
        ValueError: no layer, unknown names, a temperature that is negative or not finite, targets that do not fit the loss, a
            base measure of another set of weights.
    """

    layers: tuple[DeepLayer, ...]
    data: Data
    first: FirstLayer = FirstLayer()
    output: str = "tanh"
    output_map: str = "identity"
    loss: str = "least_squares"
    temperature: float = 0.0
    base: Mapping[str, Law1D] = field(default_factory=dict)
    train_ends: bool = False

    def __post_init__(self) -> None:
        """Check what depends on more than one of them."""
        if not self.layers:
            raise ValueError("a deep network has at least one layer between the first and the last weights (L ≥ 2); add one")
        for name in (self.output, self.first.activation):
            differentiable(ACTIVATIONS, name)
        differentiable(OUTPUT_MAPS, self.output_map)
        check_known(self.loss, sorted(LOSSES), "the table of losses")
        LOSSES[self.loss](self.data)
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or positive")
        if self.base and set(self.base) != set(self.coordinates):
            raise ValueError(f"base_measure needs a law of each of {', '.join(self.coordinates)} and of nothing else")

    # -- sizes and names

    @property
    def depth(self) -> int:
        """L, the number of hidden layers of units."""
        return len(self.layers) + 1

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the weights that some layer trains, in the order v, w, c."""
        return tuple(name for name in WEIGHTS if any(name in layer.trained for layer in self.layers))

    @property
    def first_names(self) -> tuple[str, ...]:
        """Names of the q components of a: a, or a1, a2, …"""
        inputs = self.data.x.shape[1]
        return ("a",) if inputs == 1 else tuple(f"a{k + 1}" for k in range(inputs))

    @property
    def frozen_names(self) -> tuple[str, ...]:
        """Names of what labels the laws: the components of a, and b."""
        return (*self.first_names, "b")

    @property
    def kinked(self) -> bool:
        """Whether some unit has a slope that jumps."""
        names = {self.first.activation, self.output, *(layer.activation for layer in self.layers)}
        return any(ACTIVATIONS[name].kinked for name in names)

    def columns(self, layer: DeepLayer) -> list[int]:
        """Where the trained weights of a layer stand among `coordinates`."""
        return [self.coordinates.index(name) for name in layer.trained]

    def embedded(self, layer: DeepLayer, theta: Array) -> Array:
        """θ of a layer, shape (..., D), as a point of all `coordinates`; fixed weights have their values."""
        v, w, c = layer.weights(theta)
        known = dict(zip(WEIGHTS, (v, w, c), strict=True))
        return np.stack([np.broadcast_to(known[name], theta.shape[:-1]) for name in self.coordinates], axis=-1)

    # -- the ends of the network, at P data points

    def first_values(self, a: Array) -> Array:
        """z¹ = σ⁰(x_p, a), shape (..., P), for a of shape (..., q)."""
        return self.first.value(self.data.x, a)

    def last_values(self, z: Array, b: Array) -> Array:
        """σ^L(z, b) = b·act(z); b broadcasts against z."""
        return b * ACTIVATIONS[self.output].values(z)

    def last_slopes(self, z: Array, b: Array) -> Array:
        """∂σ^L/∂z = b·act′(z)."""
        value, slope = differentiable(ACTIVATIONS, self.output)
        return b * slope(value(z))

    def last_gradients(self, z: Array) -> Array:
        """∂σ^L/∂b = act(z)."""
        return ACTIVATIONS[self.output].values(z)

    def predictions(self, h: Array) -> Array:
        """ŷ = σ^{L+1}(h), any shape."""
        return OUTPUT_MAPS[self.output_map].values(h)

    def energy(self, predictions: Array) -> Array:
        """E = Σ_p w_p ℓ(ŷ_p, y_p), shape (...,), from ŷ, shape (..., P)."""
        return LOSSES[self.loss](self.data).energy(predictions)

    def pull(self, h: Array) -> Array:
        """−∂E/∂h_p, shape (..., P): w_p r_p, times the slope of the output map; r = −∂ℓ/∂ŷ."""
        value, slope = differentiable(OUTPUT_MAPS, self.output_map)
        y = value(h)
        return -LOSSES[self.loss](self.data).gradient(y) * slope(y)

    # -- the base measure

    def external(self, layer: DeepLayer, theta: Array) -> Array:
        """V0 = −τ log m̂ of a layer's weights, shape (N,), at θ of shape (N, D)."""
        return self._base(layer)[0](theta)

    def external_gradient(self, layer: DeepLayer, theta: Array) -> Array:
        """∂V0/∂θ, shape (N, D)."""
        return self._base(layer)[1](theta)

    def _base(self, layer: DeepLayer) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        law = Product(tuple(self.base[name] for name in layer.trained)) if self.base else None
        return base_potential(law, self.temperature, layer.trained, (None,) * layer.dimension)

    # -- as others see it

    def mean_field(self) -> MeanField:
        """What runs, records and pictures ask of a model: its moments are the predictions ŷ(x_p), R is the loss.

        It cannot move a measure: the features of a deep network depend on the law. `profile` is 0 for that reason.
        """
        outer, count = LOSSES[self.loss](self.data), len(self.data.weights)
        law = Product(tuple(self.base[name] for name in self.coordinates)) if self.base else None
        potential, gradient = base_potential(law, self.temperature, self.coordinates, (None,) * len(self.coordinates))
        return MeanField(
            coordinates=self.coordinates,
            profile=lambda z: np.zeros((len(z), count)),
            profile_field=lambda z, _: (np.zeros(len(z)), np.zeros_like(z)),
            outer_energy=outer.energy,
            outer_gradient=outer.gradient,
            temperature=self.temperature,
            external_potential=potential,
            external_gradient=gradient,
            data=self.data,
        )


def repeated(layer: DeepLayer, depth: int) -> tuple[DeepLayer, ...]:
    """The layers of a network of depth L that are all alike.

    Raises:
        ValueError: L < 2.
    """
    if depth < 2:
        raise ValueError(f"a deep network needs L ≥ 2, and L is {depth}")
    return (layer,) * (depth - 1)
