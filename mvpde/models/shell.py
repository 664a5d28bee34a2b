"""S^{D−1}(R₀) × R, where a unit's parameters on a sphere and its output weight live, as R^D without the origin.

A point is X = e^{c/R₀} n with n on the unit sphere, y = R₀n, and c the output weight. The metric |dy|² + dc² is λ²|dX|² with
λ = R₀/|X|: a shell of R^D with a metric of its own, so that

    dvol = λ^D dX,      |∇u|² dvol = λ^{D−2} |∂u/∂X|² dX,      ∇u = λ^{−2} ∂u/∂X.

Neither a sphere's charts nor its poles enter, and particles need no projection: they cannot leave it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from mvpde.models.laws import Law1D

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shell:
    """The metric λ²|dX|², λ = R₀/|X|, of S^{D−1}(R₀) × R in the coordinates X = e^{c/R₀}n ∈ R^D, any D ≥ 2.

    Attributes:
        radius: R₀ > 0.

    Raises:
        ValueError: for a radius that is not positive and finite.
    """

    radius: float

    def __post_init__(self) -> None:
        """Check the radius."""
        if not 0.0 < self.radius < math.inf:
            raise ValueError(f"the sphere's radius is {self.radius}; it must be positive")

    def direction(self, z: Array) -> Array:
        """y = R₀X/|X|, shape (N, D), at X, shape (N, D)."""
        return np.asarray(self.radius * z / _length(z))

    def height(self, z: Array) -> Array:
        """c = R₀ log|X|, shape (N,)."""
        return np.asarray(self.radius * np.log(_length(z)[:, 0]))

    def point(self, y: Array, c: Array) -> Array:
        """X, shape (N, D), of y ≠ 0, shape (N, D), whose length does not matter, and c, shape (N,)."""
        return np.asarray(np.exp(c / self.radius)[:, None] * y / _length(y))

    def scale(self, z: Array) -> Array:
        """λ, shape (N,)."""
        return np.asarray(self.radius / _length(z)[:, 0])

    def log_scale_gradient(self, z: Array) -> Array:
        """∂ log λ/∂X = −X/|X|², shape (N, D)."""
        return np.asarray(-z / _length(z) ** 2)


def _length(z: Array) -> Array:
    """|X|, shape (N, 1), never 0: the origin is no point of the shell, but models are evaluated at zeros to learn their sizes."""
    return np.maximum(np.sqrt((z**2).sum(axis=1, keepdims=True)), 1e-150)


@dataclass(frozen=True)
class ShellLaw:
    """y uniform on the sphere, c independent of it.

    Attributes:
        shell: the space.
        dimension: D.
        output_weight: the law of c.
    """

    shell: Shell
    dimension: int
    output_weight: Law1D

    def density(self, z: Array) -> Array:
        """ρ(X), shape (N,), with respect to dvol."""
        return self.output_weight.density(self.shell.height(z)) / self._area

    def log_density(self, z: Array) -> Array:
        """log ρ(X), shape (N,), with respect to dvol."""
        return self.output_weight.log_density(self.shell.height(z)) - math.log(self._area)

    def log_density_gradient(self, z: Array) -> Array:
        """∂ log ρ/∂X, shape (N, D)."""
        slope = self.output_weight.log_density_gradient(self.shell.height(z))
        return -self.shell.radius * slope[:, None] * self.shell.log_scale_gradient(z)

    @property
    def _area(self) -> float:
        half = 0.5 * self.dimension
        return 2.0 * math.pi**half / math.gamma(half) * self.shell.radius ** (self.dimension - 1)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D)."""
        directions = rng.standard_normal((n, self.dimension))
        return self.shell.point(directions, self.output_weight.sample(rng, n))

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Points, shape (N, 3), and weights, shape (N,): latitudes (Gauss–Legendre), longitudes, and the rule of c. D = 3 only.

        Raises:
            ValueError: unless there are three positive numbers of nodes.
        """
        if self.dimension != 3 or len(nodes) != 3 or min(nodes) < 1:
            raise ValueError(f"quadrature on S² × R needs 3 positive numbers of nodes, not {list(nodes)}")
        y, shares = sphere_quadrature(nodes[0], nodes[1])
        c, others = self.output_weight.quadrature(nodes[2])
        points = self.shell.point(np.repeat(y, len(c), axis=0), np.tile(c, len(y)))
        return points, np.outer(shares, others).ravel()


def sphere_quadrature(latitudes: int, longitudes: int) -> tuple[Array, Array]:
    """Points on the unit sphere of R³, shape (latitudes · longitudes, 3), and weights with sum 1.

    Gauss–Legendre in the sine of the latitude, equispaced in the longitude: exact for polynomials of degree below
    min(2 latitudes, longitudes).
    """
    t, w = roots_legendre(latitudes)
    angle = 2.0 * np.pi * np.arange(longitudes) / longitudes
    sine, turned = np.repeat(t, longitudes), np.tile(angle, latitudes)
    cosine = np.sqrt(1.0 - sine**2)
    weights = np.repeat(w / w.sum(), longitudes) / longitudes
    return np.column_stack([cosine * np.cos(turned), cosine * np.sin(turned), sine]), weights


def lifted(
    shell: Shell, profile: Callable[[Array], Array], profile_field: Callable[[Array, Array], tuple[Array, Array]]
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], tuple[Array, Array]]]:
    """g_k(X) = cφ_k(y), and (X, r) → Σ_k r_k g_k(X) and its derivative in X, from φ and its field on R^D (see `MeanField`).

    With U = Σ r_kφ_k, ∂(cU)/∂X = λ[U n + c(I − nnᵀ)∂U/∂y].
    """

    def features(z: Array) -> Array:
        return shell.height(z)[:, None] * profile(shell.direction(z))

    def field(z: Array, r: Array) -> tuple[Array, Array]:
        y, c, normal = shell.direction(z), shell.height(z), z / _length(z)
        value, slope = profile_field(y, r)
        tangent = slope - (slope * normal).sum(axis=1, keepdims=True) * normal
        return c * value, shell.scale(z)[:, None] * (value[:, None] * normal + c[:, None] * tangent)

    return features, field
