"""Outer energies R(m): the loss of a network as a function of its predictions m_p = f[ρ](x_p) at the data.

A new loss is one builder and one entry of `LOSSES`. Training by SGD takes the loss of one sample, an entry of `SAMPLE_LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mvpde.models.data import Data
from mvpde.registry import Registry

Array = NDArray[np.float64]

LINEAR = 1e-9  # relative deviation of a gradient from a linear function that counts as rounding


@dataclass(frozen=True)
class Outer:
    """An outer energy and its gradient, both vectorised over leading axes (runs of an ensemble).

    Attributes:
        energy: m, shape (..., P) → R(m), shape (...,).
        gradient: m, shape (..., P) → ∂R/∂m, shape (..., P).
        convex: whether R is known to be convex.
    """

    energy: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    convex: bool = False


def least_squares(data: Data) -> Outer:
    """R(m) = ½ Σ_p w_p (m_p − f_p)². Rotskoff & Vanden-Eijnden, arXiv:1805.00915, with ½ in the sum over data too."""
    w, f = data.weights, data.target
    return Outer(lambda m: 0.5 * (np.square(m - f) @ w), lambda m: w * (m - f), convex=True)


def logistic(data: Data) -> Outer:
    """R(m) = Σ_p w_p log(1 + exp(−f_p m_p)) for classes f_p = ±1; no overflow at any margin f_p m_p.

    Raises:
        ValueError: if a target is neither +1 nor −1.
    """
    w, f = data.weights, data.target
    wrong = np.flatnonzero(np.abs(f) != 1.0)
    if len(wrong):
        raise ValueError(f"loss 'logistic' needs targets +1 or -1; data point {wrong[0] + 1} has {f[wrong[0]]:g}")
    return Outer(lambda m: np.logaddexp(0.0, -f * m) @ w, lambda m: -w * f * expit(-f * m), convex=True)


def quadratic_part(gradient: Callable[[Array], Array], directions: Array) -> Array | None:
    """R'' in the given directions of R^K, shape (r, r), from R's gradient; None where R is not quadratic there.

    Whether it is, three generic points tell: ∂R(m) − ∂R(0) must be linear in m.

    Args:
        gradient: ∂R, as in `Outer`.
        directions: columns, shape (K, r).
    """
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        start = gradient(np.zeros(len(directions)))
        slopes = (gradient(directions.T) - start) @ directions
        places = rng.standard_normal((3, directions.shape[1]))
        seen = (gradient(places @ directions.T) - start) @ directions
        off, size = np.abs(seen - places @ slopes).max(initial=0.0), np.abs(seen).max(initial=0.0)
    linear = np.isfinite(size) and off <= LINEAR * max(1.0, size)
    return 0.5 * (slopes + slopes.T) if linear else None


def is_convex_quadratic(gradient: Callable[[Array], Array], count: int) -> bool:
    """Whether R: R^count → R is quadratic, R'' positive semidefinite up to rounding."""
    second = quadratic_part(gradient, np.eye(count))
    if second is None:
        return False
    values = np.linalg.eigvalsh(second)
    return bool(values[0] >= -LINEAR * np.abs(values).max())


LOSSES: Registry[Callable[[Data], Outer]] = Registry("loss", {"least_squares": least_squares, "logistic": logistic})


@dataclass(frozen=True)
class SampleLoss:
    """ℓ(f, y), ∂ℓ/∂f, ∂²ℓ/∂f² as functions of (f, y)."""

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]
    curvature: Callable[[Array, Array], Array]


SAMPLE_LOSSES: Registry[SampleLoss] = Registry(
    "loss",
    {
        "least_squares": SampleLoss(lambda f, y: 0.5 * (f - y) ** 2, lambda f, y: f - y, lambda f, y: np.ones_like(f)),
        "logistic": SampleLoss(
            lambda f, y: np.logaddexp(0.0, -y * f), lambda f, y: -y * expit(-y * f), lambda f, y: expit(f) * expit(-f)
        ),  # y = ±1
    },
)
