"""The noise √(2A) ΔB of dZ = b dt + √(2A) dB for any diffusion tensor A(z; m) ⪰ 0, for all particles of a block at once.

Any root R with RRᵀ = 2A gives paths of the same law. The symmetric one is taken: it exists where A is degenerate, and it depends
on A continuously.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from mvpde.models.mean_field import Array, MeanField


class Normals(Protocol):
    """What independent standard normal numbers come from: a stream, or numbers that are known already."""

    def standard_normal(self, size: tuple[int, ...], /) -> Array:
        """So many, in the shape asked for."""


Increment = Callable[[Array, Array, Normals, float], Array]

_ROUNDING = 1e-10  # A may miss symmetry and A ⪰ 0 by this part of its largest entry


def increment(model: MeanField) -> Increment:
    """(z, shape (N, D); m, shape (K,); stream; h) → √(2A(z; m)) (B_{t+h} − B_t), shape (N, D), or () where there is no noise.

    Local. The root of a constant A is computed here, once. Where A(z; m) has a negative eigenvalue the result is NaN, which a
    step reports.
    """
    if model.metric is not None:
        return _conformal(model.temperature, model.metric.scale)
    if model.own_diffusion is None:
        return _isotropic(model.temperature) if model.frozen == 0 else _of_moving(model)
    if model.constant_diffusion:
        return _constant(model.diffusion(np.zeros((1, model.dimension)), np.zeros(model.features))[0])

    def varying(z: Array, m: Array, rng: Normals, h: float) -> Array:
        return apply_root(2.0 * h * model.diffusion(z, m), rng.standard_normal(z.shape))

    return varying


def _isotropic(temperature: float) -> Increment:
    if temperature == 0.0:
        return lambda z, m, rng, h: np.zeros(())
    return lambda z, m, rng, h: math.sqrt(2.0 * temperature * h) * rng.standard_normal(z.shape)


def _of_moving(model: MeanField) -> Increment:
    """√(2τ)ΔB in the coordinates that move, which come first; the others draw nothing."""
    moving, temperature = len(model.directions), model.temperature
    if temperature == 0.0:
        return _isotropic(0.0)

    def noise(z: Array, m: Array, rng: Normals, h: float) -> Array:
        result = np.zeros(z.shape)
        result[:, :moving] = math.sqrt(2.0 * temperature * h) * rng.standard_normal((len(z), moving))
        return result

    return noise


def _conformal(temperature: float, scale: Callable[[Array], Array]) -> Increment:
    """√(2τ)λ⁻¹ΔB for the metric λ²|dz|²."""
    flat = _isotropic(temperature)
    return flat if temperature == 0.0 else lambda z, m, rng, h: flat(z, m, rng, h) / scale(z)[:, None]


def _constant(a: Array) -> Increment:
    values, frame = np.linalg.eigh(2.0 * a)
    root = frame * np.sqrt(np.maximum(values, 0.0)) @ frame.T
    return lambda z, m, rng, h: math.sqrt(h) * np.einsum("na,ab->nb", rng.standard_normal(z.shape), root)


def require_diffusion(model: MeanField, z: Array, m: Array) -> None:
    """Refuse what is no diffusion tensor at the points z, shape (N, D). Local.

    Raises:
        ValueError: A has another shape than (N, D, D), is not symmetric, not positive semidefinite or not finite.
    """
    a, expected = model.diffusion(z, m), (len(z), model.dimension, model.dimension)
    if a.shape != expected:
        raise ValueError(f"the diffusion A has the shape {a.shape}; {expected} is needed for the points of shape {z.shape}")
    if not np.isfinite(a).all():
        raise ValueError("the diffusion A is not a finite number at some particle")
    size = np.abs(a).max(initial=0.0)
    if np.abs(a - a.swapaxes(1, 2)).max(initial=0.0) > _ROUNDING * size:
        raise ValueError("the diffusion A is not symmetric; only its symmetric part diffuses: give that")
    smallest = np.linalg.eigvalsh(a).min(initial=0.0)
    if smallest < -_ROUNDING * size:
        raise ValueError(f"the diffusion A has the negative eigenvalue {smallest:.3g}; it must be positive semidefinite")


def apply_root(tensors: Array, vectors: Array) -> Array:
    """A^{1/2} ξ for symmetric positive semidefinite A, shape (N, D, D), and ξ, shape (N, D).

    An eigenvalue below 0 by rounding counts as 0, by more gives NaN.
    """
    if tensors.shape[1] == 1:
        return np.asarray(_root(tensors[:, 0, :], 0.0) * vectors)
    if tensors.shape[1] == 2:
        return _apply_root_of_plane(tensors, vectors)
    values, frames = np.linalg.eigh(tensors)
    roots = _root(values, values[:, -1:])
    return np.einsum("nab,nb->na", frames, roots * np.einsum("nab,na->nb", frames, vectors))


def _root(values: Array, size: Array | float) -> Array:
    """√values; 0 where they are negative by rounding against ``size``."""
    return np.asarray(np.sqrt(np.where((values < 0.0) & (values >= -_ROUNDING * size), 0.0, values)))


def _apply_root_of_plane(a: Array, xi: Array) -> Array:
    """2 × 2, by Cayley–Hamilton: A^{1/2} = (A + δI)/√(tr A + 2δ) with δ = √det A; 0 where A = 0."""
    trace = a[:, 0, 0] + a[:, 1, 1]
    delta = _root(a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] * a[:, 1, 0], trace**2)
    scale = _root(trace + 2.0 * delta, 0.0)
    scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0.0)
    return np.asarray(scale[:, None] * (np.einsum("nab,nb->na", a, xi) + delta[:, None] * xi))
