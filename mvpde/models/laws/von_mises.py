"""The law of von Mises, of a coordinate on a circle."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from scipy.special import i0e

from mvpde.models.laws.gauss import gauss, rule_of
from mvpde.models.laws.law import LAWS, Array, Key, Law1D

_FINE = 8.0  # nodes of the equispaced rule in a standard deviation, from which on it is exact to rounding
_REACH = 9.0  # standard deviations that hold a narrow one


@dataclass(frozen=True)
class VonMises:
    """The law with density exp(κ cos(2π(z − mean)/P))/(P I_0(κ)) on a circle of length P: the maximum of entropy with its mean.

    Raises:
        ValueError: unless κ ≥ 0, P > 0 and the mean is finite.
    """

    mean: Annotated[float, Key("mean direction", 0.0)]
    concentration: Annotated[float, Key("κ, ≥ 0; about one over the variance where it is large", 2.0, least=0.0)]
    period: float = 2.0 * math.pi

    circular = True  # not a field: of circles alone

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (math.isfinite(self.mean) and 0.0 <= self.concentration < math.inf and 0.0 < self.period < math.inf):
            raise ValueError(f"law 'von_mises' needs a finite mean and concentration ≥ 0, not {self.mean}, {self.concentration}")

    def _angle(self, z: Array) -> Array:
        return 2.0 * math.pi / self.period * (np.asarray(z) - self.mean)

    def density(self, z: Array) -> Array:
        """Of period P."""
        return np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        """−2κ sin²(½ angle) − log(P e^{−κ} I_0(κ))."""
        scale = math.log(self.period * float(i0e(self.concentration)))
        return -2.0 * self.concentration * np.sin(0.5 * self._angle(z)) ** 2 - scale

    def log_density_gradient(self, z: Array) -> Array:
        """−κ (2π/P) sin(angle)."""
        return -self.concentration * (2.0 * math.pi / self.period) * np.sin(self._angle(z))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self.mean + self.period / (2.0 * math.pi) * rng.vonmises(0.0, self.concentration, n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1: equispaced where that is spectrally accurate, else a Gauss rule of the angle."""
        if n >= _FINE * math.sqrt(1.0 + self.concentration):
            z = self.mean + self.period * ((np.arange(n) + 0.5) / n - 0.5)
            w = self.density(z)
            return z, w / w.sum()
        return gauss(*rule_of(self.density, *self._where()), n)

    def _where(self) -> tuple[float, float]:
        """An interval of the period that holds it."""
        half = 0.5 * self.period * min(1.0, _REACH / (math.pi * math.sqrt(max(self.concentration, 1e-300))))
        return self.mean - half, self.mean + half

    def extent(self) -> tuple[float, float]:
        """The period about the mean, or what of it holds all but 2e-9."""
        return self._where()

    def in_period(self, period: float) -> Law1D:
        """On a circle of this length."""
        return replace(self, period=period)


LAWS["von_mises"] = VonMises
