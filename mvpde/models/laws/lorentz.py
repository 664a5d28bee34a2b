"""Lorentz' law, also named after Cauchy, cut to a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.special import roots_legendre

from mvpde.models.laws.law import LAWS, Array, Key


@dataclass(frozen=True)
class Lorentz:
    """The law with density proportional to width/((z − centre)² + width²) on [lower, upper].

    All of the line has neither mean nor variance, and no box holds it to 1e-9; the box is part of the law.

    Raises:
        ValueError: unless width > 0 and lower < upper, all finite.
    """

    centre: Annotated[float, Key("centre", 0.0)]
    width: Annotated[float, Key("half width at half maximum, > 0", 0.5, above=0.0)]
    lower: Annotated[float, Key("lower end of its box", -50.0)]
    upper: Annotated[float, Key("upper end of its box, above lower", 50.0)]

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (math.isfinite(self.centre) and 0.0 < self.width < math.inf):
            raise ValueError(f"law 'lorentz' needs a finite centre and width > 0, not {self.centre} and {self.width}")
        if not -math.inf < self.lower < self.upper < math.inf:
            raise ValueError(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")

    def _angles(self) -> tuple[float, float]:
        """arctan((z − centre)/width) at the ends: in this angle the law is uniform."""
        return math.atan((self.lower - self.centre) / self.width), math.atan((self.upper - self.centre) / self.width)

    def _at(self, angle: Array) -> Array:
        return np.clip(self.centre + self.width * np.tan(angle), self.lower, self.upper)

    def density(self, z: Array) -> Array:
        """On the box; 0 outside."""
        return np.where((z >= self.lower) & (z <= self.upper), np.exp(self.log_density(z)), 0.0)

    def log_density(self, z: Array) -> Array:
        """−log(width (1 + x²) (angle between the ends)), x = (z − centre)/width, also outside the box."""
        low, high = self._angles()
        return -np.log1p(((z - self.centre) / self.width) ** 2) - math.log(self.width * (high - low))

    def log_density_gradient(self, z: Array) -> Array:
        """−2(z − centre)/((z − centre)² + width²)."""
        return -2.0 * (z - self.centre) / ((z - self.centre) ** 2 + self.width**2)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        low, high = self._angles()
        return self._at(low + (high - low) * rng.random(n))

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1: Gauss–Legendre in the angle, which is fast for functions with a limit far out."""
        low, high = self._angles()
        t, w = roots_legendre(n)
        return self._at(0.5 * (low + high) + 0.5 * (high - low) * t), w / w.sum()

    def extent(self) -> tuple[float, float]:
        """The box."""
        return self.lower, self.upper


LAWS["lorentz"] = Lorentz
