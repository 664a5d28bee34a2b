"""Laws of the parameters at the start, and base measures: products of one-dimensional laws.

A new one-dimensional law is one frozen dataclass with the methods of `Law1D`, whose parameters say by a `Key` what they are in a
case file, and one entry of `LAWS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, isclass, isfunction, signature
from typing import Annotated, Protocol, get_type_hints

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_hermitenorm, roots_legendre

from mvpde.registry import Registry

Array = NDArray[np.float64]

_MIDPOINTS = 8192


@dataclass(frozen=True)
class Key:
    """What a case file says about a parameter of a law.

    Attributes:
        description: its meaning and range.
        example: a value that works.
        above: it must be larger.
        least: it must not be smaller.
        of_model: the model's own number of this name stands in where it is absent.
    """

    description: str
    example: float
    above: float | None = None
    least: float | None = None
    of_model: bool = False


def keys_of(law: Callable[..., Law1D]) -> dict[str, Key]:
    """The parameters of a law that a case file gives, by name: those with a `Key`, and others without a default.

    Raises:
        ValueError: it is neither a class nor a function, whose parameters have names and types.
    """
    if not (isclass(law) or isfunction(law)):
        raise ValueError(f"a law is a class or a function of its parameters, not {law!r}; write a function that returns it")
    hints = get_type_hints(law, include_extras=True)
    marked = {name: key for name, hint in hints.items() for key in getattr(hint, "__metadata__", ()) if isinstance(key, Key)}
    named = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
    asked = [p.name for p in signature(law).parameters.values() if p.default is Parameter.empty and p.kind in named]
    return {**{name: Key("a parameter of the law", 1.0) for name in asked}, **marked}


class Law1D(Protocol):
    """A probability law on the line: what `Product` asks of each factor."""

    def density(self, z: Array) -> Array:
        """ρ(z), shape of z."""

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape of z."""

    def log_density_gradient(self, z: Array) -> Array:
        """d log ρ/dz, shape of z."""

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws, shape (n,)."""

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1, shapes (n,), with ∫h dρ ≈ Σ_i w_i h(z_i)."""

    def extent(self) -> tuple[float, float]:
        """Ends of an interval that holds all of the law, or all but 2e-9 of it."""


def mass_between(law: Law1D, low: float, high: float) -> float:
    """∫ρ over [low, high], by midpoints, to about 1e-4 where ρ jumps."""
    start, end = law.extent()

    def mass(a: float, b: float) -> float:
        h = max(b - a, 0.0) / _MIDPOINTS
        points: Array = a + h * (np.arange(_MIDPOINTS, dtype=float) + 0.5)
        return float(law.density(points).sum()) * h

    whole = mass(start, end)
    return mass(max(start, low), min(end, high)) / whole if whole > 0.0 else 1.0


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


LAWS: Registry[Callable[..., Law1D]] = Registry("law of one coordinate", {"uniform": Uniform, "normal": Normal, "chi": Chi})


def in_period(law: Law1D, period: float | None) -> Law1D:
    """The law as that of a coordinate with this period: a uniform law over the whole of it has no ends there."""
    if period is None or not isinstance(law, Uniform) or not math.isclose(law.upper - law.lower, period, rel_tol=1e-9):
        return law
    return replace(law, periodic=True)


def check_law(law: object) -> None:
    """Refuse a law of one coordinate where one of all D coordinates is asked for, also where D = 1.

    Raises:
        ValueError: saying how it is made one.
    """
    if hasattr(law, "extent"):
        raise ValueError(f"law: {law!r} is a law of one coordinate; put one for each into a product: Product((law,))")


class Sampler(Protocol):
    """What particles ask of an initial law."""

    @property
    def dimension(self) -> int:
        """D."""

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D), drawn from the generator alone."""


class Law(Sampler, Protocol):
    """A law of all D coordinates: what is asked of an initial law."""

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,), at z of shape (N, D)."""

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape (N,)."""

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Points, shape (N, D), and weights, shape (N,), with ∫h dρ ≈ Σ_i w_i h(z_i)."""


@dataclass(frozen=True)
class Product:
    """ρ(z) = Π_j ρ_j(z_j): independent coordinates.

    Attributes:
        factors: one law per coordinate of z, in order; ``Product((Normal(0.0, 1.0),))`` in one dimension.

    Raises:
        ValueError: no tuple of laws, or an empty one.
    """

    factors: tuple[Law1D, ...]

    def __post_init__(self) -> None:
        """Check that there is a factor."""
        if not isinstance(self.factors, Sequence) or not self.factors:
            raise ValueError(f"a product needs a tuple of laws, one per coordinate: Product((law,)), not {self.factors!r}")

    @property
    def dimension(self) -> int:
        """D, the number of coordinates."""
        return len(self.factors)

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,), at z of shape (N, D)."""
        return np.prod([law.density(z[:, j]) for j, law in enumerate(self.factors)], axis=0)

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape (N,), at z of shape (N, D); a uniform factor counts as its constant everywhere."""
        return np.sum([law.log_density(z[:, j]) for j, law in enumerate(self.factors)], axis=0)

    def log_density_gradient(self, z: Array) -> Array:
        """∇ log ρ(z), shape (N, D), at z of shape (N, D)."""
        return np.column_stack([law.log_density_gradient(z[:, j]) for j, law in enumerate(self.factors)])

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D), drawn one coordinate after the other from ``rng``."""
        return np.column_stack([law.sample(rng, n) for law in self.factors])

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Points, shape (N, D), and weights, shape (N,), of the tensor-product rule with ∫h dρ ≈ Σ_i w_i h(z_i); Σ_i w_i = 1.

        Args:
            nodes: number of points in each of the D directions; the last varies fastest.

        Raises:
            ValueError: unless there is one positive number per direction.
        """
        if len(nodes) != self.dimension or min(nodes) < 1:
            raise ValueError(f"quadrature needs {self.dimension} positive numbers of nodes, not {list(nodes)}")
        points, weights = zip(*(law.quadrature(n) for law, n in zip(self.factors, nodes, strict=True)), strict=True)
        grid, shares = np.meshgrid(*points, indexing="ij"), np.meshgrid(*weights, indexing="ij")
        return np.column_stack([g.ravel() for g in grid]), np.prod([w.ravel() for w in shares], axis=0)


def base_potential(
    law: Product | None, temperature: float, coordinates: Sequence[str], periods: Sequence[float | None]
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """V0 = −τ log m̂ and ∇V0 for a base measure m̂; zero for the flat one (None). With it 𝓕 = R + τ KL(ρ|m̂).

    Args:
        law: m̂, or None for Lebesgue measure.
        temperature: τ ≥ 0.
        coordinates: names of the D coordinates.
        periods: period of each coordinate, None on the real line.

    Raises:
        ValueError: if m̂ has another dimension, or a factor that is not periodic in a periodic coordinate.
    """
    if law is None or temperature == 0.0:
        return lambda z: np.zeros(len(z)), np.zeros_like
    if law.dimension != len(coordinates):
        raise ValueError(f"base_measure has {law.dimension} laws; the model has the coordinates {', '.join(coordinates)}")
    for name, period, factor in zip(coordinates, periods, law.factors, strict=True):
        ends = factor.log_density(np.array([0.1, 0.1 + (period or 0.0)]))
        if not math.isclose(ends[0], ends[1], abs_tol=1e-12):
            raise ValueError(f"base_measure of the periodic coordinate '{name}' must have its period; use a uniform law")
    return lambda z: -temperature * law.log_density(z), lambda z: -temperature * law.log_density_gradient(z)
