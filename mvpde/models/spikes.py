"""Half the squared distance of a law on a torus to given atoms, in the norm of a kernel with finitely many Fourier modes.

    R = ½ ∬ k d(ρ − ν)d(ρ − ν),     ν = Σ_j w_j δ_{a_j},
    k(z, z') = Π_axes [1 + 2 Σ_{1 ≤ q ≤ Q} κ_q cos q(z_a − z'_a)],     κ_q = 1/(1 + q)

is ½MMD² to ν. The features are the products over axes of 1, √(2κ_q) cos qz, √(2κ_q) sin qz, (2Q + 1)^D of them, for which
k(z, z') = g(z)·g(z') and R(m) = ½|m − ∫g dν|². The gradient flow moves particles to the atoms; noise keeps them from the places
where it would stop (Rotskoff & Vanden-Eijnden, arXiv:1805.00915, for the convexity of R in ρ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvpde.models.mean_field import MeanField

Array = NDArray[np.float64]

NAMES = ("x", "y", "z")


def spikes(atoms: ArrayLike, *, weights: Sequence[float] | None = None, modes: int = 5, temperature: float = 0.0) -> MeanField:
    """The gradient flow of ½MMD² on the torus [0, 2π)^D.

    Args:
        atoms: a_j, shape (J, D), D ≤ 3.
        weights: w_j > 0, by default 1/J each; scaled to the sum 1.
        modes: Q ≥ 1.
        temperature: τ ≥ 0.

    Raises:
        ValueError: for atoms of other shapes, weights that do not fit, or no modes.
    """
    places = np.asarray(atoms, float)
    if places.ndim != 2 or not 1 <= places.shape[1] <= len(NAMES) or len(places) == 0:
        raise ValueError(f"atoms need the shape (J, D) with J ≥ 1 and D from 1 to 3, not {places.shape}")
    shares = np.full(len(places), 1.0) if weights is None else np.asarray(weights, float)
    if shares.shape != (len(places),) or not np.all(shares > 0.0):
        raise ValueError(f"{len(places)} atoms need as many weights, all positive")
    if modes < 1:
        raise ValueError(f"modes must be at least 1, not {modes}")
    dimension = places.shape[1]
    order = np.arange(1, modes + 1)
    height = np.sqrt(2.0 / (1.0 + order))

    def waves(u: Array) -> Array:
        """Features of one axis, shape (N, 2Q + 1)."""
        angle = u[:, None] * order
        return np.column_stack([np.ones(len(u)), height * np.cos(angle), height * np.sin(angle)])

    def slopes(u: Array) -> Array:
        angle = u[:, None] * order
        return np.column_stack([np.zeros(len(u)), -order * height * np.sin(angle), order * height * np.cos(angle)])

    def features(z: Array) -> Array:
        return _product([waves(z[:, a]) for a in range(dimension)])

    def profile_field(z: Array, r: Array) -> tuple[Array, Array]:
        factors, derivatives = ([f(z[:, a]) for a in range(dimension)] for f in (waves, slopes))
        gradient = [_contracted([*factors[:a], derivatives[a], *factors[a + 1 :]], r) for a in range(dimension)]
        return _contracted(factors, r), np.column_stack(gradient)

    target = shares / shares.sum() @ features(places)
    return MeanField(
        coordinates=NAMES[:dimension],
        profile=features,
        profile_field=profile_field,
        outer_energy=lambda m: 0.5 * ((m - target) ** 2).sum(axis=-1),
        outer_gradient=lambda m: m - target,
        convex=True,
        temperature=temperature,
        periods=(2.0 * math.pi,) * dimension,
    )


def _product(factors: Sequence[Array]) -> Array:
    """All products of one column of each factor, shape (N, Π columns), the last factor's varying fastest."""
    result = factors[0]
    for factor in factors[1:]:
        result = (result[:, :, None] * factor[:, None, :]).reshape(len(result), -1)
    return result


def _contracted(factors: Sequence[Array], r: Array) -> Array:
    """Σ_k r_k (product of the factors)_k, shape (N,), one factor after the other."""
    first, *others = factors
    result = first @ r.reshape(first.shape[1], -1)
    for factor in others:
        result = np.einsum("na,nab->nb", factor, result.reshape(len(factor), factor.shape[1], -1))
    return np.asarray(result[:, 0])
