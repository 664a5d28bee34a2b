"""Laws on circles: a law on the line, wound around one.

    ρ(z) = Σ_k ρ_line(z + kP)

Every measure sees this one law: draws and quadrature nodes are those of the line, whose places count modulo the period.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mvpde.models.laws.law import Array, Law1D


@runtime_checkable
class OnCircles(Protocol):
    """A law that knows itself what it is on a circle."""

    def in_period(self, period: float) -> Law1D:
        """The law of a coordinate with this period."""


@dataclass(frozen=True)
class Wrapped:
    """A law of the line on a circle.

    Attributes:
        law: that of the line.
        period: P > 0.
    """

    law: Law1D
    period: float

    def _images(self, z: Array) -> Iterator[Array]:
        """z moved by whole periods, to wherever the law of the line has mass."""
        a, b = self.law.extent()
        centre, count = 0.5 * (a + b), math.ceil(0.5 * (b - a) / self.period) + 1
        first = centre + np.mod(np.asarray(z) - centre + 0.5 * self.period, self.period) - 0.5 * self.period
        return (first + k * self.period for k in range(-count, count + 1))

    def density(self, z: Array) -> Array:
        """Σ_k ρ(z + kP), shape of z."""
        total = np.zeros(np.shape(z))
        for image in self._images(z):
            total += self.law.density(image)
        return total

    def log_density(self, z: Array) -> Array:
        """log Σ_k ρ(z + kP), in logarithms."""
        total = np.full(np.shape(z), -np.inf)
        for image in self._images(z):
            total = np.logaddexp(total, self.law.log_density(image))
        return total

    def log_density_gradient(self, z: Array) -> Array:
        """Σ_k ρ_k (log ρ)'_k / Σ_k ρ_k."""
        whole, slope = self.log_density(z), np.zeros(np.shape(z))
        for image in self._images(z):
            slope += np.exp(self.law.log_density(image) - whole) * self.law.log_density_gradient(image)
        return slope

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws, of the line."""
        return self.law.sample(rng, n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """Those of the law of the line."""
        return self.law.quadrature(n)

    @property
    def atoms(self) -> tuple[Array, Array] | None:
        """Of the law of the line, where it consists of them."""
        return getattr(self.law, "atoms", None)

    def extent(self) -> tuple[float, float]:
        """That of the law of the line, or one period about its middle."""
        a, b = self.law.extent()
        if b - a <= self.period:
            return a, b
        return 0.5 * (a + b - self.period), 0.5 * (a + b + self.period)

    def in_period(self, period: float) -> Law1D:
        """Itself; nothing is wound twice."""
        if not math.isclose(period, self.period, rel_tol=1e-9):
            raise ValueError(
                f"a law that is wrapped on the period {self.period:g} is none of a coordinate with the period {period:g}"
            )
        return self


def in_period(law: Law1D, period: float | None) -> Law1D:
    """The law as that of a coordinate with this period, None on the line."""
    if period is None:
        return law
    return law.in_period(float(period)) if isinstance(law, OnCircles) else Wrapped(law, float(period))


def unwrapped(law: Law1D) -> Law1D:
    """The law on the line of one that is wound around a circle."""
    return law.law if isinstance(law, Wrapped) else law


def circular(law: Law1D) -> bool:
    """Whether it is a law of circles alone."""
    return bool(getattr(law, "circular", False))


def lattice(periods: Sequence[float | None], lower: Array, upper: Array) -> Array:
    """Shifts by whole periods under which a law on a box of the line is looked for, shape (shifts, D)."""
    counts = [0 if p is None else math.ceil(0.5 * (b - a) / p) + 1 for p, a, b in zip(periods, lower, upper, strict=True)]
    steps = [(p or 0.0) * np.arange(-n, n + 1) for p, n in zip(periods, counts, strict=True)]
    return np.column_stack([axis.ravel() for axis in np.meshgrid(*steps, indexing="ij")])
