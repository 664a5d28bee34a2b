"""The uniform law, the normal one, and that of the length of a normal vector."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from scipy.special import roots_hermitenorm, roots_legendre

from mvpde.models.laws.law import LAWS, Array, Key, Law1D
from mvpde.models.laws.periodic import Wrapped


@dataclass(frozen=True)
class Uniform:
    """The uniform law on [lower, upper]; ``periodic`` where the interval is one whole period of the coordinate.

    Raises:
        ValueError: unless lower < upper, both finite.
    """

    lower: Annotated[float, Key("lower end of the interval", -1.0)]
    upper: Annotated[float, Key("upper end of the interval, above lower", 1.0)]
    periodic: bool = False

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not self.lower < self.upper:
            raise ValueError(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")
        if not math.isfinite(self.upper - self.lower):
            raise ValueError(f"law 'uniform' needs finite lower < upper, not lower = {self.lower}, upper = {self.upper}")

    def density(self, z: Array) -> Array:
        """1/(upper − lower) on [lower, upper], 0 outside; the same everywhere where periodic."""
        inside = np.ones(np.shape(z), bool) if self.periodic else (z >= self.lower) & (z <= self.upper)
        return inside / (self.upper - self.lower)

    def log_density(self, z: Array) -> Array:
        """−log(upper − lower) everywhere, also outside: as the potential of a base measure it exerts no force."""
        return np.full(np.shape(z), -math.log(self.upper - self.lower))

    def log_density_gradient(self, z: Array) -> Array:
        """0."""
        return np.zeros(np.shape(z))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self.lower + (self.upper - self.lower) * rng.random(n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1: Gauss–Legendre, or equispaced (spectrally accurate) where periodic."""
        if self.periodic:
            return self.lower + (self.upper - self.lower) * np.arange(n) / n, np.full(n, 1.0 / n)
        t, w = roots_legendre(n)
        return self.lower + 0.5 * (self.upper - self.lower) * (t + 1.0), w / w.sum()

    def extent(self) -> tuple[float, float]:
        """The interval."""
        return self.lower, self.upper

    def in_period(self, period: float) -> Law1D:
        """On a circle: over the whole of it there are no ends."""
        whole = math.isclose(self.upper - self.lower, period, rel_tol=1e-9)
        return replace(self, periodic=True) if whole else Wrapped(self, period)


@dataclass(frozen=True)
class Normal:
    """The normal law N(mean, std²).

    Raises:
        ValueError: unless mean is finite and std positive and finite.
    """

    mean: Annotated[float, Key("mean", 0.0)]
    std: Annotated[float, Key("standard deviation, > 0", 1.0, above=0.0)]

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0.0):
            raise ValueError(f"law 'normal' needs a finite mean and std > 0, not mean = {self.mean}, std = {self.std}")

    def density(self, z: Array) -> Array:
        """exp(−½((z − mean)/std)²)/(std √(2π))."""
        return np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        """−½((z − mean)/std)² − log(std √(2π))."""
        return -0.5 * ((z - self.mean) / self.std) ** 2 - math.log(self.std * math.sqrt(2.0 * math.pi))

    def log_density_gradient(self, z: Array) -> Array:
        """(mean − z)/std²."""
        return (self.mean - z) / self.std**2

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self.mean + self.std * rng.standard_normal(n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n Gauss–Hermite points and weights summing to 1: exact for polynomials of degree 2n − 1."""
        t, w = roots_hermitenorm(n)
        return self.mean + self.std * t, w / w.sum()

    def extent(self) -> tuple[float, float]:
        """Six standard deviations on either side."""
        return self.mean - 6.0 * self.std, self.mean + 6.0 * self.std


@dataclass(frozen=True)
class Chi:
    """The law of |w| for w ~ N(0, (scale²/d) I_d) in dimension d: E r² = scale².

    Raises:
        ValueError: unless scale is positive and d ≥ 1, both finite.
    """

    scale: Annotated[float, Key("root mean square, > 0", 0.8, above=0.0)]
    dimension: Annotated[float, Key("d, ≥ 1; absent: that of the model", 40, least=1.0, of_model=True)]

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (0.0 < self.scale < math.inf and 1.0 <= self.dimension < math.inf):
            raise ValueError(
                f"law 'chi' needs scale > 0 and a finite dimension ≥ 1, not {self.scale} and {self.dimension}; "
                "in infinite dimension it is a point: take a narrow normal law"
            )

    @property
    def _unit(self) -> float:
        return self.scale / math.sqrt(self.dimension)

    def density(self, z: Array) -> Array:
        """2^{1−d/2} x^{d−1} e^{−x²/2}/(Γ(d/2) unit), x = z/unit, for z ≥ 0; 0 below."""
        inside = np.asarray(z) > 0.0
        return np.where(inside, np.exp(self.log_density(np.where(inside, z, 1.0))), 0.0)

    def log_density(self, z: Array) -> Array:
        """log ρ(z) for z > 0."""
        x, d = z / self._unit, self.dimension
        constant = (1.0 - 0.5 * d) * math.log(2.0) - math.lgamma(0.5 * d) - math.log(self._unit)
        return constant + (d - 1.0) * np.log(x) - 0.5 * x**2

    def log_density_gradient(self, z: Array) -> Array:
        """(d − 1)/z − z/unit² for z > 0."""
        return (self.dimension - 1.0) / z - z / self._unit**2

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self._unit * np.sqrt(rng.chisquare(self.dimension, n))

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n generalised Gauss–Laguerre points in ½(z/unit)² and weights summing to 1, in any dimension.

        From the eigenvectors of the Jacobi matrix (Golub & Welsch, Math. Comp. 23 (1969) 221): unlike weights that are scaled by
        Γ(d/2), they do not overflow where d > 342.
        """
        k, a = np.arange(n), 0.5 * self.dimension - 1.0
        beside = np.sqrt(k[1:] * (k[1:] + a))
        t, vectors = np.linalg.eigh(np.diag(2.0 * k + 1.0 + a) + np.diag(beside, 1) + np.diag(beside, -1))
        return self._unit * np.sqrt(2.0 * t), vectors[0] ** 2

    def extent(self) -> tuple[float, float]:
        """From 0 to where all but 2e-9 of the law is left behind, in any dimension."""
        return 0.0, 6.0 * self.scale


LAWS["uniform"] = Uniform
LAWS["normal"] = Normal
LAWS["chi"] = Chi
