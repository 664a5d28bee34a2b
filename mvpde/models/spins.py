"""The 3-spin energy on a sphere: a random cubic form that networks learn.

    f(x) = d⁻¹ Σ_pqr a_pqr x_p x_q x_r,     a_pqr ~ N(0, 1) independent,     x uniform on the sphere of radius √d in R^d

(Rotskoff & Vanden-Eijnden, arXiv:1805.00915, §5). Gaussian units exp(−½α|x − y|²) have y on the same sphere, where they are
exp(αd(cos − 1)) of the angle between x and y.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mvpde.models.data import Data
from mvpde.models.shell import sphere_quadrature

Array = NDArray[np.float64]


def couplings(dimension: int, seed: int) -> Array:
    """a/d summed over the six orders of its indices and divided by 6, which is the same f: shape (d, d, d)."""
    a = np.random.default_rng(seed).standard_normal((dimension,) * 3) / dimension
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    return np.asarray(sum(a.transpose(order) for order in orders) / 6.0)


def energy[Precision: np.floating](a: NDArray[np.floating], x: NDArray[Precision]) -> NDArray[Precision]:
    """f(x), shape (N,), at x, shape (N, d), for `couplings` a: one matrix product of N × d² with d² × d."""
    d = x.shape[1]
    pairs = (x[:, :, None] * x[:, None, :]).reshape(len(x), d * d)
    return np.asarray(np.einsum("nd,nd->n", pairs @ a.reshape(d * d, d).astype(x.dtype, copy=False), x))


def on_circle(points: int, seed: int) -> Data:
    """d = 2: P equispaced points on the circle of radius √2, x the arc length: exact for trigonometric degrees below P.

    Args:
        points: P ≥ 1.
        seed: of the couplings.
    """
    radius = math.sqrt(2.0)
    angle = 2.0 * np.pi * np.arange(points) / points
    places = radius * np.column_stack([np.cos(angle), np.sin(angle)])
    return Data(radius * angle[:, None], np.full(points, 1.0 / points), energy(couplings(2, seed), places))


def on_sphere(points: int, seed: int) -> Data:
    """d = 3: n latitudes × 2n longitudes, P = 2n², on the sphere of radius √3: exact for polynomials of degree 2n − 1.

    Args:
        points: P = 2n².
        seed: of the couplings.

    Raises:
        ValueError: for a P that is no such number.
    """
    n = round(math.sqrt(points / 2.0))
    if n < 1 or 2 * n * n != points:
        near = max(n, 1)
        raise ValueError(f"on the sphere the points are n latitudes by 2n longitudes: {2 * near * near} of them, not {points}")
    unit, weights = sphere_quadrature(n, 2 * n)
    x = math.sqrt(3.0) * unit
    return Data(x, weights, energy(couplings(3, seed), x))


MEASURES: dict[int, Callable[[int, int], Data]] = {2: on_circle, 3: on_sphere}
