"""Laws of all coordinates: products of laws of one, and of groups of coordinates that depend on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from mvpde.models.laws.law import Array, Law, Law1D, atoms_of, components_of
from mvpde.models.laws.periodic import in_period
from mvpde.models.laws.points import Cloud

_CLOUD_NODES = 32  # of a group that has no cloud of its own


class Joint(Law, Protocol):
    """A law of several coordinates that may depend on each other."""

    @property
    def marginals(self) -> tuple[Law1D, ...]:
        """The law of each coordinate."""

    def log_density_gradient(self, z: Array) -> Array:
        """∇ log ρ(z), shape (N, D)."""

    def cloud(self, finest: Sequence[float]) -> tuple[Array, Array]:
        """Points, shape (M, D), and masses with the law's moments, dense beside cells of these widths."""

    def in_periods(self, periods: Sequence[float | None]) -> Joint:
        """On circles in the coordinates that have a period."""


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

    @property
    def marginals(self) -> tuple[Law1D, ...]:
        """The factors."""
        return self.factors

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


@dataclass(frozen=True, eq=False)
class Grouped:
    """ρ(z) = Π_g ρ_g(z_g): independent groups of coordinates.

    Attributes:
        groups: (places of its coordinates in z, law of them), all places once.
    """

    groups: tuple[tuple[tuple[int, ...], Joint | Product], ...]

    @property
    def dimension(self) -> int:
        """D, the number of coordinates."""
        return sum(len(places) for places, _ in self.groups)

    @property
    def marginals(self) -> tuple[Law1D, ...]:
        """The law of each coordinate."""
        known = {place: one for places, law in self.groups for place, one in zip(places, law.marginals, strict=True)}
        return tuple(known[k] for k in range(self.dimension))

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,), at z of shape (N, D)."""
        return np.prod([law.density(z[:, list(places)]) for places, law in self.groups], axis=0)

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape (N,), at z of shape (N, D)."""
        return np.sum([law.log_density(z[:, list(places)]) for places, law in self.groups], axis=0)

    def log_density_gradient(self, z: Array) -> Array:
        """∇ log ρ(z), shape (N, D), at z of shape (N, D)."""
        slope = np.empty(np.shape(z))
        for places, law in self.groups:
            slope[:, list(places)] = law.log_density_gradient(z[:, list(places)])
        return slope

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D), drawn one group after the other from ``rng``."""
        z = np.empty((n, self.dimension))
        for places, law in self.groups:
            z[:, list(places)] = law.sample(rng, n)
        return z

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Points, shape (N, D), and weights, shape (N,): the product of the rules of all groups.

        Raises:
            ValueError: another number of entries than coordinates, or a group without such a rule.
        """
        if len(nodes) != self.dimension or min(nodes) < 1:
            raise ValueError(f"quadrature needs {self.dimension} positive numbers of nodes, not {list(nodes)}")
        return self._combined([law.quadrature([nodes[k] for k in places]) for places, law in self.groups])

    def cloud(self, finest: Sequence[float]) -> tuple[Array, Array]:
        """Points and masses: the product of those of all groups."""
        return self._combined([cloud_of(law, [finest[k] for k in places]) for places, law in self.groups])

    def _combined(self, rules: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
        index = np.meshgrid(*(np.arange(len(w)) for _, w in rules), indexing="ij")
        points, weights = np.empty((index[0].size, self.dimension)), np.ones(index[0].size)
        for (places, _), (z, w), k in zip(self.groups, rules, index, strict=True):
            points[:, list(places)] = z[k.ravel()]
            weights *= w[k.ravel()]
        return points, weights

    def in_periods(self, periods: Sequence[float | None]) -> Grouped:
        """On circles in the coordinates that have a period."""
        found = ((places, on_circles(law, [periods[k] for k in places])) for places, law in self.groups)
        return Grouped(tuple((places, cast("Joint | Product", law)) for places, law in found))


def on_circles(law: Law, periods: Sequence[float | None]) -> Law:
    """The law, wound around the circles of the coordinates that have a period."""
    if isinstance(law, Product):
        return Product(tuple(in_period(one, period) for one, period in zip(law.factors, periods, strict=True)))
    return law.in_periods(periods) if hasattr(law, "in_periods") else law


def marginals(law: Law) -> tuple[Law1D, ...] | None:
    """The law of each coordinate, None where it is not known."""
    return cast("tuple[Law1D, ...] | None", getattr(law, "marginals", None))


def restricted(law: Law, first: int, last: int) -> Law:
    """The law of the coordinates with the numbers first, …, last − 1, which is independent of the others.

    Raises:
        ValueError: they depend on others, or the law does not say.
    """
    if (first, last) == (0, law.dimension):
        return law
    if isinstance(law, Product):
        return Product(law.factors[first:last])
    if not isinstance(law, Grouped):
        raise ValueError("coordinates that move and frozen ones need laws that are independent; give each its own")
    inside = [(tuple(k - first for k in places), one) for places, one in law.groups if all(first <= k < last for k in places)]
    if sum(len(places) for places, _ in inside) < last - first:
        raise ValueError("coordinates that move and frozen ones need laws that are independent; give each its own")
    return joined(inside)


def joined(groups: Sequence[tuple[tuple[int, ...], Joint | Product]]) -> Law:
    """The law of groups of coordinates: a product where every one is of one coordinate or a product itself."""
    if not all(isinstance(law, Product) for _, law in groups):
        return groups[0][1] if len(groups) == 1 and groups[0][0] == tuple(range(len(groups[0][0]))) else Grouped(tuple(groups))
    known = {place: one for places, law in groups for place, one in zip(places, law.marginals, strict=True)}
    return Product(tuple(known[k] for k in range(len(known))))


def has_density(law: Law) -> bool:
    """Whether no part of the law is made of points."""
    if isinstance(law, Grouped):
        return all(has_density(one) for _, one in law.groups)
    if isinstance(law, Product):
        return all(_smooth(one) for one in law.factors)
    return not isinstance(law, Cloud)


def _smooth(law: Law1D) -> bool:
    return atoms_of(law) is None and all(one is law or _smooth(one) for _, one in components_of(law))


def cloud_of(law: Law, finest: Sequence[float]) -> tuple[Array, Array]:
    """Points and masses with the moments of a law, dense beside cells of these widths; of one without, by its quadrature."""
    own = getattr(law, "cloud", None)
    if own is not None:
        return cast("tuple[Array, Array]", own(finest))
    counts = [_CLOUD_NODES] * law.dimension
    return law.quadrature(counts)


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
