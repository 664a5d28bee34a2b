"""The sweeps through wide deep networks: forward to ŷ, and backward to the velocity of every weight.

    z¹_i = σ⁰(x, A_i),   z^{ℓ+1}_j = N⁻¹ Σ_i σ^ℓ(z^ℓ_i, θ^ℓ_ij),   h = N⁻¹ Σ_j B_j act(z^L_j),   ŷ = σ^{L+1}(h),
    M^L_j = k B_j act'(z^L_j),   M^ℓ_i = N⁻¹ Σ_j M^{ℓ+1}_j ∂σ^ℓ/∂z,   k_p = −∂E/∂h_p,
    θ̇^ℓ_ij = Σ_p M^{ℓ+1}_pj ∂σ^ℓ/∂θ = −N² ∂E/∂θ_ij,   Ȧ_i = Σ_p M¹_pi ∂σ⁰/∂a = −N ∂E/∂A_i,   Ḃ_j = Σ_p k_p act(z^L_pj)

(Araújo, Oliveira & Yukimura, arXiv:1906.00193). All runs go together; S samples are all data points, or some of each run's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mvpde.particles.deep.rows import NetworkRows  # isort: skip  (loads the solver libraries)

import numpy as np

from mvpde.models.deep.activations import ACTIVATIONS
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.units import DeepLayer, differentiable
from mvpde.models.mean_field import Array
from mvpde.particles.deep import kernels
from mvpde.particles.deep.kernels import CODES, OTHER, Integers


@dataclass
class Weights:
    """Weights of runs that go together, or velocities of them.

    Attributes:
        first: A, shape (runs, N, q), on every rank.
        last: B, shape (runs, N), on every rank.
        layers: θ^ℓ of the owned rows, shape (3, R, N) each: v, w, c, those that are not trained too.
    """

    first: Array
    last: Array
    layers: list[Array]

    def copy(self) -> Weights:
        """Another array for each of them."""
        return Weights(self.first.copy(), self.last.copy(), [theta.copy() for theta in self.layers])


@dataclass
class Scratch:
    """Arrays that sweeps write into, kept from one to the next: to allocate them anew costs as much as a sweep.

    Attributes:
        kept: (purpose, shape) → array.
    """

    kept: dict[tuple[str, tuple[int, ...]], Array] = field(default_factory=dict)

    def array(self, purpose: str, shape: tuple[int, ...]) -> Array:
        """An array of this shape, with whatever is left in it."""
        return self.kept.setdefault((purpose, shape), np.empty(shape))


@dataclass(frozen=True)
class Inputs:
    """What the units of all layers see, and what came out.

    Attributes:
        z: z^ℓ, ℓ = 1 … L, shape (runs, S, N) each, on every rank.
        values: act(wz + c) of the layers, shape (R, S, N) each.
        h: ŷ before the output map, shape (runs, S).
    """

    z: list[Array]
    values: list[Array]
    h: Array


def first_inputs(model: DeepNetwork, first: Array, samples: Integers | None) -> Array:
    """z¹, shape (runs, S, N), at all data points or at the samples (runs, S)."""
    return _at(np.moveaxis(model.first_values(first), 2, 1), samples)


def _at(values: Array, samples: Integers | None) -> Array:
    """Of values (runs, P, ...) those at the samples."""
    if samples is None:
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(np.take_along_axis(values, samples.reshape(*samples.shape, *[1] * (values.ndim - 2)), axis=1))


def pulls(model: DeepNetwork, h: Array, samples: Integers | None) -> Array:
    """k_p = −∂E/∂h_p, shape (runs, S); with samples, E is the mean of their losses."""
    if samples is None:
        return model.pull(h)
    everywhere = np.zeros((len(h), len(model.data.weights)))
    np.put_along_axis(everywhere, samples, h, axis=1)
    k = np.take_along_axis(model.pull(everywhere) / model.data.weights, samples, axis=1)
    return np.asarray(k / samples.shape[1])


def ahead(model: DeepNetwork, rows: NetworkRows, weights: Weights, scratch: Scratch, samples: Integers | None = None) -> Inputs:
    """The sweep forward at all data points, or at samples, shape (runs, S). Collective."""
    z, values = [first_inputs(model, weights.first, samples)], []
    for number, (layer, theta) in enumerate(zip(model.layers, weights.layers, strict=True)):
        total, kept = through(layer, rows, theta, z[-1], scratch, number)
        z.append(rows.mean(total))
        values.append(kept)
    h = model.last_values(z[-1], weights.last[:, None, :]).mean(axis=2)
    return Inputs(z, values, h)


def through(layer: DeepLayer, rows: NetworkRows, theta: Array, z: Array, scratch: Scratch, number: int) -> tuple[Array, Array]:
    """Σ_i σ(z_i, θ_ij) of each owned block, shape (blocks, S, N), and act(wz + c), shape (R, S, N). Local."""
    values = scratch.array(f"values {number}", (theta.shape[1], z.shape[1], theta.shape[2]))
    sums = np.zeros((len(rows.shares.sizes), *z.shape[1:]))
    code = CODES.get(layer.activation, OTHER)
    if code == OTHER:
        u = theta[1][:, None, :] * z[rows.run, :, rows.row][:, :, None] + theta[2][:, None, :]
        values[:] = ACTIVATIONS[layer.activation].values(u)
    kernels.forward(code, theta, z, rows.run, rows.row, rows.block, values, sums)
    return sums, values


def back(
    model: DeepNetwork,
    rows: NetworkRows,
    weights: Weights,
    seen: Inputs,
    k: Array,
    push: Sequence[Array],
    samples: Integers | None = None,
) -> Weights:
    """The velocities of all weights; those of A and B are 0 unless the ends are trained. Collective.

    Args:
        model, rows, weights, samples: as in `ahead`.
        seen: what `ahead` returned.
        k: of `pulls`, shape (runs, S).
        push: arrays for the velocities of the layers, written.
    """
    m = k[:, :, None] * model.last_slopes(seen.z[-1], weights.last[:, None, :])
    moved = Weights(np.zeros_like(weights.first), np.zeros_like(weights.last), list(push))
    last = len(model.layers) - 1
    for number in range(last, -1, -1):
        theta, z, values = weights.layers[number], seen.z[number], seen.values[number]
        behind = pushed(model.layers[number], rows, theta, z, values, m, push[number])
        if number > 0 or model.train_ends:
            m = rows.everywhere(behind) / rows.width
    if model.train_ends:
        moved.first = _first_velocity(model, weights.first, m, samples)
        moved.last = np.einsum("rs,rsn->rn", k, model.last_gradients(seen.z[-1]))
    return moved


def pushed(layer: DeepLayer, rows: NetworkRows, theta: Array, z: Array, values: Array, m: Array, push: Array) -> Array:
    """Writes Σ_p m_pj ∂σ/∂θ of the owned weights into ``push``; returns Σ_j m_pj ∂σ/∂z of the rows, shape (R, S). Local."""
    code = CODES.get(layer.activation, OTHER)
    slope = differentiable(ACTIVATIONS, layer.activation)[1](values) if code == OTHER else np.zeros((1, 1, 1))
    sensitivities = np.empty((theta.shape[1], z.shape[1]))
    kernels.backward(code, theta, z, values, slope, np.ascontiguousarray(m), rows.run, rows.row, push, sensitivities)
    return sensitivities


def _first_velocity(model: DeepNetwork, first: Array, m: Array, samples: Integers | None) -> Array:
    """Ȧ_i = Σ_p M¹_pi ∂σ⁰/∂a, shape (runs, N, q)."""
    slopes = _at(np.moveaxis(model.first.gradient(model.data.x, first), 2, 1), samples)
    return np.einsum("rsn,rsnq->rnq", m, slopes)
