"""Forward and backward through a deep network of infinite width, on quadrature labels of its first and last weights.

The law of a layer is given on labels λ, whose shares of the mass never change: a for the first layer, b for the last, both for
L = 2, and a single one for those between. An array of a layer has the shape (A, B, P) with A = 1 where the layer has no label a
and B = 1 where it has no label b. With the means over the law of each label

    S^ℓ = ∫σ^ℓ(z^ℓ, θ) ρ^ℓ(dθ|λ),    T^ℓ = ∫∂_zσ^ℓ(z^ℓ, θ) ρ^ℓ(dθ|λ),

the sweeps are the same for all layers and all L ≥ 2:

    z¹ = σ⁰(x, a),   z^{ℓ+1} = E_a S^ℓ,   h = E_b σ^L(z^L, b),   M^{L−1} = −∂E/∂h ∂_zσ^L(z^L, b),   M^{ℓ−1} = E_b[M^ℓ T^ℓ],

and a weight of layer ℓ moves in V^ℓ(θ|λ) = V0 − Σ_p M^ℓ_p σ^ℓ(z^ℓ_p, θ), θ̇ = −∂_θV^ℓ, with which dE/dt = −Σ_ℓ E∫|∂_θV^ℓ|²dρ^ℓ.
M^ℓ is w_p r_p B^{ℓ+1}_p. The last layer is conditioned on b throughout: z^L and B^L are functions of b, not their means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.units import Array
from mvpde.models.laws import Law1D, Normal

_FEW = 12  # nodes of a normal law up to which those of Gauss and Hermite serve better

Means = Callable[[int, Array], tuple[Array, Array]]  # (number of the layer, its inputs) → S, T


@dataclass(frozen=True)
class Labels:
    """Quadrature of the laws of the first weights a and of the last weights b.

    Attributes:
        a: nodes, shape (A, q), with weights ``of_a``, shape (A,), that sum to 1.
        b: nodes, shape (B,), with weights ``of_b``, shape (B,), that sum to 1.
    """

    a: Array
    of_a: Array
    b: Array
    of_b: Array

    def shape(self, layer: int, depth: int) -> tuple[int, int]:
        """(A or 1, B or 1): how many labels layer 1 … L−1 has of each kind."""
        return (len(self.of_a) if layer == 1 else 1), (len(self.of_b) if layer == depth - 1 else 1)

    def shares(self, layer: int, depth: int) -> Array:
        """Mass of each label of a layer, of the shape above; they sum to 1."""
        of_a = self.of_a if layer == 1 else np.ones(1)
        of_b = self.of_b if layer == depth - 1 else np.ones(1)
        return of_a[:, None] * of_b


def labels(network: DeepNetwork, laws: Mapping[str, Law1D], a: int | Sequence[int], b: int) -> Labels:
    """Nodes of the laws of the frozen weights.

    Normal laws get equispaced nodes, whose error falls faster than that of Gauss–Hermite nodes where units are steep; others
    those of their own quadrature. Several inputs get the tensor product.

    Args:
        network: for the names of the components of a.
        laws: of each of ``network.frozen_names``.
        a: nodes in each component of a, one number or one for each; ≥ 1.
        b: nodes of b, ≥ 1.

    Raises:
        ValueError: a number below 1, or not one number for each component.
    """
    names = network.first_names
    counts = [a] * len(names) if isinstance(a, int) else list(a)
    if len(counts) != len(names) or min([*counts, b]) < 1:
        raise ValueError(f"labels: give one whole number ≥ 1 for each of {', '.join(names)}, and one for b")
    points, weights = zip(*(nodes(laws[name], n) for name, n in zip(names, counts, strict=True)), strict=True)
    grid, shares = np.meshgrid(*points, indexing="ij"), np.meshgrid(*weights, indexing="ij")
    of_a = np.prod([w.ravel() for w in shares], axis=0)
    return Labels(np.column_stack([g.ravel() for g in grid]), of_a, *nodes(laws["b"], b))


def nodes(law: Law1D, n: int) -> tuple[Array, Array]:
    """n nodes of a law and weights that sum to 1, shapes (n,)."""
    if not isinstance(law, Normal) or n < _FEW:
        return law.quadrature(n)
    # The more nodes, the farther out: what lies beyond costs as much as what lies between.
    t = np.linspace(-1.0, 1.0, n) * min(7.0, 4.0 + n / 25.0)
    w = np.exp(-0.5 * t**2)
    return law.mean + law.std * t, w / w.sum()


@dataclass(frozen=True)
class Sweep:
    """What one pass forward and one backward say, at P data points.

    Attributes:
        inputs: z^ℓ of layers 1 … L−1, shapes (A or 1, 1, P).
        last: z^L, shape (1, B, P); B is that of the labels also where one law serves all.
        before: h, shape (P,), the prediction before the output map.
        pull: −∂E/∂h, shape (P,).
        multipliers: M^ℓ of layers 1 … L−1, shapes (1, B or 1, P).
        first: M⁰ = E_b[M¹ T¹], shape (A, 1, P): what pulls at z¹.
    """

    inputs: tuple[Array, ...]
    last: Array
    before: Array
    pull: Array
    multipliers: tuple[Array, ...]
    first: Array


def over_a(values: Array, labels: Labels) -> Array:
    """E_a of an array of a layer, shape (1, B or 1, P)."""
    return values if len(values) == 1 else np.einsum("a,abp->bp", labels.of_a, values)[None]


def over_b(values: Array, labels: Labels) -> Array:
    """E_b of an array of a layer, shape (A or 1, 1, P)."""
    return values if values.shape[1] == 1 else np.einsum("b,abp->ap", labels.of_b, values)[:, None]


def sweep(network: DeepNetwork, labels: Labels, a: Array, b: Array, means: Means, pull: Callable[[Array], Array]) -> Sweep:
    """One pass forward and one backward.

    Args:
        network: the network.
        labels: the shares of the labels.
        a: present first weights of the labels, shape (A, q); those of ``labels`` unless they are trained.
        b: present last weights, shape (B,).
        means: S^ℓ and T^ℓ at given inputs z^ℓ, of shape (A or 1, 1, P); they have the shape of their layer.
        pull: h → −∂E/∂h, shape (P,): `DeepNetwork.pull`, or that of one sample.
    """
    z, inputs, slopes = network.first_values(a)[:, None], [], []
    for layer in range(1, network.depth):
        inputs.append(z)
        value, slope = means(layer, z)
        slopes.append(slope)
        z = over_a(value, labels)
    last = np.broadcast_to(z, (1, len(b), z.shape[-1]))
    before = over_b(network.last_values(last, b[:, None]), labels)[0, 0]
    pulled = pull(before)
    below, multipliers = pulled * network.last_slopes(last, b[:, None]), []
    for slope in reversed(slopes):
        multipliers.append(below)
        below = over_b(below * slope, labels)
    return Sweep(tuple(inputs), last, before, pulled, tuple(reversed(multipliers)), below)


def end_rates(network: DeepNetwork, swept: Sweep, a: Array) -> tuple[Array, Array]:
    """Ȧ = Σ_p M⁰_p ∂_aσ⁰(x_p, A), shape (A, q), and Ḃ = −∂E/∂h · ∂_bσ^L(z^L, B), shape (B,), of trained ends."""
    first = np.einsum("ap,apq->aq", swept.first[:, 0], network.first.gradient(network.data.x, a))
    return first, network.last_gradients(swept.last[0]) @ swept.pull
