"""How far two laws of small networks' weights are apart in mean and covariance.

With z_a = (W_a − m_a)/s_a, m and s mean and standard deviations of a reference law, and h any of the K functions z_a and z_a z_b,

    d² = K⁻¹ Σ_h ((⟨h⟩ − ⟨h⟩')/σ_h)²,    σ_h the reference law's standard deviation of h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array


@dataclass(frozen=True)
class Yardstick:
    """The functions h/σ_h of a reference law."""

    names: tuple[str, ...]  # z_w, z_w·z_v, …
    functions: tuple[Callable[[Array], Array], ...]  # each (N, D) → (N,)
    means: Array  # their means under the reference law, shape (K,)


def expectations(domain: Domain, values: Array, functions: tuple[Callable[[Array], Array], ...]) -> Array:
    """∫hρ of nodal values (local), shape (K,). Collective."""
    masses, z = domain.graph.lumped * values[: domain.owned], domain.coordinates[: domain.owned]
    return domain.sum(np.array([masses @ h(z) for h in functions]))


def yardstick(domain: Domain, values: Array, coordinates: tuple[str, ...]) -> Yardstick:
    """From a density's nodal values (local). Collective."""
    masses, points = domain.graph.lumped * values[: domain.owned], domain.coordinates[: domain.owned]
    mean = domain.sum(masses @ points)
    deviation = np.sqrt(domain.sum(masses @ (points - mean) ** 2))
    count = len(coordinates)
    axes = [(a,) for a in range(count)] + [(a, b) for a in range(count) for b in range(a, count)]
    plain = tuple(_product(mean, deviation, chosen) for chosen in axes)
    first = expectations(domain, values, plain)
    spreads = np.sqrt(expectations(domain, values, tuple(_squared(h) for h in plain)) - first**2)
    return Yardstick(
        tuple("·".join(f"z_{coordinates[a]}" for a in chosen) for chosen in axes),
        tuple(_product(mean, deviation, chosen, float(s)) for chosen, s in zip(axes, spreads, strict=True)),
        first / spreads,
    )


def _product(mean: Array, deviation: Array, axes: tuple[int, ...], spread: float = 1.0) -> Callable[[Array], Array]:
    chosen = list(axes)
    return lambda w: np.asarray(np.prod((w[:, chosen] - mean[chosen]) / deviation[chosen], axis=1) / spread)


def _squared(h: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda w: h(w) ** 2


def distance(differences: Array, standard_errors: Array) -> tuple[float, float]:
    """d and its standard error, from differences of means over runs, shape (K,), and their standard errors.

    The mean square is rid of what the sampling errors add, K⁻¹Σs²; d is 0 where nothing is left. The standard error is that of
    the delta method with all errors fully correlated, an upper bound: one run gives all K.
    """
    square = float(np.mean(differences**2 - standard_errors**2))
    if square <= 0.0:
        return 0.0, math.sqrt(float(np.mean(standard_errors**2)))
    d = math.sqrt(square)
    return d, float(np.mean(np.abs(differences) * standard_errors)) / d
