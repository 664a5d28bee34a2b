"""Laws of a half-line and of an interval: gamma, exponential, beta."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mvpde.models.laws.gauss import gauss
from mvpde.models.laws.law import LAWS, Array, Key

_BINS = 4096  # that a law with an infinite density is cut into
_FAR = 1e-9  # share of a law beyond its extent


def _where(inside: NDArray[np.bool_], value: Callable[[Array], Array], x: Array, otherwise: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(inside, value(np.where(inside, x, 0.5)), otherwise)


def _bins(quantile: Callable[[Array], Array], partial_mean: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Means and masses of bins that are finer towards both ends, for a density that is infinite somewhere.

    ``partial_mean``: x → ∫_{−∞}^x z dρ.
    """
    u = 0.5 * (1.0 - np.cos(np.pi * np.arange(_BINS + 1) / _BINS))
    masses, ends = np.diff(u), quantile(u)
    return np.clip(
        np.diff(partial_mean(ends)) / masses, ends[:-1], ends[1:]
    ), masses  # where ends are one to rounding, so are means


@dataclass(frozen=True)
class Gamma:
    """The gamma law with density x^{shape − 1} e^{−x}/(Γ(shape) scale), x = (z − shift)/scale > 0.

    Raises:
        ValueError: unless shape and scale are positive and all is finite.
    """

    shape: Annotated[float, Key("shape, > 0; the mean is shape · scale", 2.0, above=0.0)]
    scale: Annotated[float, Key("scale, > 0", 1.0, above=0.0)]
    shift: Annotated[float, Key("where the half-line begins", 0.0)] = 0.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (0.0 < self.shape < math.inf and 0.0 < self.scale < math.inf and math.isfinite(self.shift)):
            raise ValueError(f"law 'gamma' needs shape > 0 and scale > 0, not {self.shape} and {self.scale}")

    def _x(self, z: Array) -> Array:
        return (np.asarray(z, float) - self.shift) / self.scale

    def density(self, z: Array) -> Array:
        """Of z > shift; 0 below."""
        x = self._x(z)
        return _where(x > 0.0, lambda y: np.exp(self._log(y)), x, 0.0)

    def _log(self, x: Array) -> Array:
        return special.xlogy(self.shape - 1.0, x) - x - math.lgamma(self.shape) - math.log(self.scale)

    def log_density(self, z: Array) -> Array:
        """log ρ(z), −∞ below the shift."""
        x = self._x(z)
        return _where(x > 0.0, self._log, x, -math.inf)

    def log_density_gradient(self, z: Array) -> Array:
        """((shape − 1)/x − 1)/scale, for z > shift."""
        return ((self.shape - 1.0) / self._x(z) - 1.0) / self.scale

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self.shift + rng.gamma(self.shape, self.scale, n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1 of the generalised Gauss–Laguerre rule: exact for polynomials of degree 2n − 1."""
        k = np.arange(n, dtype=float)
        beside = np.sqrt(k[1:] * (k[1:] + self.shape - 1.0))
        t, vectors = np.linalg.eigh(np.diag(2.0 * k + self.shape) + np.diag(beside, 1) + np.diag(beside, -1))
        return self.shift + self.scale * t, vectors[0] ** 2

    @property
    def atoms(self) -> tuple[Array, Array] | None:
        """Means of many bins where the density is infinite at 0."""
        if self.shape >= 1.0:
            return None
        means, masses = _bins(
            lambda u: special.gammaincinv(self.shape, u), lambda x: self.shape * special.gammainc(self.shape + 1.0, x)
        )
        return self.shift + self.scale * means, masses

    def extent(self) -> tuple[float, float]:
        """From the shift to where all but 1e-9 is left behind."""
        return self.shift, self.shift + self.scale * float(special.gammainccinv(self.shape, _FAR))


def exponential(
    scale: Annotated[float, Key("scale, > 0: mean and standard deviation", 1.0, above=0.0)],
    shift: Annotated[float, Key("where the half-line begins", 0.0)] = 0.0,
) -> Gamma:
    """The exponential law with density e^{−(z − shift)/scale}/scale, z > shift."""
    return Gamma(1.0, scale, shift)


@dataclass(frozen=True)
class Beta:
    """The beta law with density x^{a − 1}(1 − x)^{b − 1}/(B(a, b)(upper − lower)), x = (z − lower)/(upper − lower) in (0, 1).

    Raises:
        ValueError: unless a, b > 0 and lower < upper, all finite.
    """

    a: Annotated[float, Key("exponent at the lower end, > 0", 2.0, above=0.0)]
    b: Annotated[float, Key("exponent at the upper end, > 0", 3.0, above=0.0)]
    lower: Annotated[float, Key("lower end of the interval", 0.0)] = 0.0
    upper: Annotated[float, Key("upper end of the interval, above lower", 1.0)] = 1.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (0.0 < self.a < math.inf and 0.0 < self.b < math.inf):
            raise ValueError(f"law 'beta' needs a > 0 and b > 0, not {self.a} and {self.b}")
        if not -math.inf < self.lower < self.upper < math.inf:
            raise ValueError(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")

    @property
    def _length(self) -> float:
        return self.upper - self.lower

    def _x(self, z: Array) -> Array:
        return (np.asarray(z, float) - self.lower) / self._length

    def _log(self, x: Array) -> Array:
        powers = special.xlogy(self.a - 1.0, x) + special.xlog1py(self.b - 1.0, -x)
        return powers - special.betaln(self.a, self.b) - math.log(self._length)

    def density(self, z: Array) -> Array:
        """Inside the interval; 0 outside."""
        x = self._x(z)
        return _where((x > 0.0) & (x < 1.0), lambda y: np.exp(self._log(y)), x, 0.0)

    def log_density(self, z: Array) -> Array:
        """log ρ(z), −∞ outside the interval."""
        x = self._x(z)
        return _where((x > 0.0) & (x < 1.0), self._log, x, -math.inf)

    def log_density_gradient(self, z: Array) -> Array:
        """((a − 1)/x − (b − 1)/(1 − x))/(upper − lower), inside the interval."""
        x = self._x(z)
        return ((self.a - 1.0) / x - (self.b - 1.0) / (1.0 - x)) / self._length

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        return self.lower + self._length * rng.beta(self.a, self.b, n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1, of the Gauss–Jacobi rule or, for very uneven exponents, of the law's quantiles."""
        if max(self.a, self.b) < 100.0:
            t, w = special.roots_jacobi(n, self.b - 1.0, self.a - 1.0)
            return self.lower + 0.5 * self._length * (t + 1.0), w / w.sum()
        return gauss(*self._binned(), n)

    def _binned(self) -> tuple[Array, Array]:
        mean = self.a / (self.a + self.b)
        means, masses = _bins(
            lambda u: special.betaincinv(self.a, self.b, u), lambda x: mean * special.betainc(self.a + 1.0, self.b, x)
        )
        return self.lower + self._length * means, masses

    @property
    def atoms(self) -> tuple[Array, Array] | None:
        """Means of many bins where the density is infinite at an end."""
        return self._binned() if min(self.a, self.b) < 1.0 else None

    def extent(self) -> tuple[float, float]:
        """The interval, or where all but 2e-9 of the law is where it is far from its ends."""
        low, high = stats.beta.ppf([_FAR, 1.0 - _FAR], self.a, self.b)
        low, high = (0.0 if self.a < 20.0 else low), (1.0 if self.b < 20.0 else high)
        return self.lower + self._length * float(low), self.lower + self._length * float(high)


LAWS["gamma"] = Gamma
LAWS["exponential"] = exponential
LAWS["beta"] = Beta
