"""Mixtures of laws of one coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mvpde.models.laws.gauss import gauss
from mvpde.models.laws.law import Array, Law1D, atoms_of
from mvpde.models.laws.periodic import in_period

_NODES = 64  # of each law, where a mixture has fewer nodes than laws


@dataclass(frozen=True)
class Mixture:
    """Σ_i w_i ρ_i.

    Attributes:
        laws: ρ_i.
        weights: w_i > 0; scaled to sum 1.

    Raises:
        ValueError: unless there is a positive weight for each of them.
    """

    laws: tuple[Law1D, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the weights, and scale them."""
        if not self.laws or len(self.laws) != len(self.weights):
            raise ValueError(f"a mixture needs one weight for each law, not {len(self.weights)} for {len(self.laws)}")
        if not all(0.0 < w < math.inf for w in self.weights):
            raise ValueError(f"the weights of a mixture are positive numbers, not {', '.join(f'{w:g}' for w in self.weights)}")
        object.__setattr__(self, "weights", tuple(w / math.fsum(self.weights) for w in self.weights))

    @property
    def components(self) -> tuple[tuple[float, Law1D], ...]:
        """(w_i, ρ_i)."""
        return tuple(zip(self.weights, self.laws, strict=True))

    @property
    def circular(self) -> bool:
        """Whether one of the laws is of circles alone."""
        return any(getattr(law, "circular", False) for law in self.laws)

    @property
    def period(self) -> float | None:
        """Of the circle that all of them lie on, None on the line."""
        return getattr(self.laws[0], "period", None)

    def density(self, z: Array) -> Array:
        """Σ_i w_i ρ_i(z)."""
        return np.sum([w * law.density(z) for w, law in self.components], axis=0)

    def log_density(self, z: Array) -> Array:
        """log Σ_i w_i ρ_i(z), in logarithms."""
        return np.logaddexp.reduce([math.log(w) + law.log_density(z) for w, law in self.components])

    def log_density_gradient(self, z: Array) -> Array:
        """Σ_i w_i ρ_i (log ρ_i)'/ρ."""
        whole = self.log_density(z)
        parts = [math.log(w) + law.log_density(z) - whole for w, law in self.components]
        return np.sum([np.exp(s) * law.log_density_gradient(z) for s, law in zip(parts, self.laws, strict=True)], axis=0)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws."""
        which = rng.choice(len(self.laws), n, p=self.weights)
        draws = np.empty(n)
        for k, law in enumerate(self.laws):
            mine = which == k
            draws[mine] = law.sample(rng, int(mine.sum()))
        return draws

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1: an equal number of nodes of each law, or a Gauss rule where that would be none."""
        count = len(self.laws)
        sizes = [n // count + (k < n % count) for k in range(count)] if n >= count else [_NODES] * count
        rules = [law.quadrature(size) for size, law in zip(sizes, self.laws, strict=True)]
        points = np.concatenate([z for z, _ in rules])
        weights = np.concatenate([share * w for share, (_, w) in zip(self.weights, rules, strict=True)])
        return (points, weights) if n >= count else gauss(points, weights, n)

    @property
    def atoms(self) -> tuple[Array, Array] | None:
        """Where all of the laws consist of them."""
        known = [(w, found) for w, law in self.components if (found := atoms_of(law)) is not None]
        if len(known) < len(self.laws):
            return None
        return np.concatenate([z for _, (z, _) in known]), np.concatenate([w * masses for w, (_, masses) in known])

    def extent(self) -> tuple[float, float]:
        """The hull of those of the laws."""
        lower, upper = zip(*(law.extent() for law in self.laws), strict=True)
        return min(lower), max(upper)

    def in_period(self, period: float) -> Law1D:
        """The mixture of the laws on a circle."""
        return Mixture(tuple(in_period(law, period) for law in self.laws), self.weights)
