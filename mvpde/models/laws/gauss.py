"""Gauss rules of any law that is known by points and weights, and a fine rule of a density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import leggauss

from mvpde.models.laws.law import Array

PANELS, POINTS = 256, 8  # that an interval is cut into, and Gauss points in each


def panels(lower: float, upper: float) -> tuple[Array, Array]:
    """Points and weights with ∫h dz ≈ Σ_i w_i h(z_i) over [lower, upper]: Gauss points in equal panels, in increasing order."""
    t, w = leggauss(POINTS)
    ends = np.linspace(lower, upper, PANELS + 1)
    half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    return (middle[:, None] + half[:, None] * t).ravel(), (half[:, None] * w).ravel()


def rule_of(density: Callable[[Array], Array], lower: float, upper: float) -> tuple[Array, Array]:
    """Points and masses with sum 1 of a density on [lower, upper]."""
    z, w = panels(lower, upper)
    masses = w * density(z)
    return z, masses / masses.sum()


def gauss(points: Array, weights: Array, n: int) -> tuple[Array, Array]:
    """n points and weights with sum 1 that are exact for polynomials of degree 2n − 1 under Σ_i w_i δ_{z_i}.

    By Lanczos' iteration with full orthogonalisation (Golub & Welsch, Math. Comp. 23 (1969) 221). Where there are no more than n
    different points, these.

    Args:
        points: shape (M,).
        weights: > 0, shape (M,).
        n: ≥ 1.
    """
    z, place = np.unique(points, return_inverse=True)
    w = np.bincount(place.ravel(), weights)
    z, w = z[w > 0.0], w[w > 0.0] / w.sum()
    if len(z) <= n:
        return z, w
    middle, half = 0.5 * (z[0] + z[-1]), 0.5 * (z[-1] - z[0])
    x, basis = (z - middle) / half, np.zeros((n, len(z)))
    diagonal, beside = np.zeros(n), np.zeros(n)
    basis[0] = np.sqrt(w)
    for k in range(n):
        rest = x * basis[k]
        diagonal[k] = rest @ basis[k]
        for _ in range(2):
            rest -= basis[: k + 1].T @ (basis[: k + 1] @ rest)
        beside[k] = np.sqrt(rest @ rest)
        if k + 1 < n:
            basis[k + 1] = rest / beside[k]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    return middle + half * nodes, vectors[0] ** 2
