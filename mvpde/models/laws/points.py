"""Laws that are made of points with masses: one point, samples of one coordinate, and clouds of points of all coordinates.

They have no density: on a mesh their masses are spread over the nodes around them, particles are drawn from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mvpde.models.laws.gauss import gauss
from mvpde.models.laws.law import LAWS, Array, Key, Law1D
from mvpde.models.laws.periodic import in_period

_NO_DENSITY = "a law that is made of points has no density, and cannot be the base measure of an entropy; take a law that has one"


@dataclass(frozen=True)
class Dirac:
    """All of the mass at one place.

    Raises:
        ValueError: unless the place is finite.
    """

    at: Annotated[float, Key("the place", 0.0)]

    def __post_init__(self) -> None:
        """Check the place."""
        if not math.isfinite(self.at):
            raise ValueError(f"law 'point' needs a finite place, not {self.at}")

    @property
    def atoms(self) -> tuple[Array, Array]:
        """The place and 1."""
        return np.array([self.at]), np.ones(1)

    def density(self, z: Array) -> Array:
        """There is none."""
        raise ValueError(_NO_DENSITY)

    log_density = log_density_gradient = density

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """The place, n times; nothing is drawn."""
        return np.full(n, self.at)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """The place and 1, whatever n."""
        return self.atoms

    def extent(self) -> tuple[float, float]:
        """The place, with the least room that can be told from it."""
        room = 1e-9 * max(abs(self.at), 1.0)
        return self.at - room, self.at + room


@dataclass(frozen=True, eq=False)
class Empirical:
    """Σ_i w_i δ_{z_i} of one coordinate.

    Attributes:
        places: z_i, shape (M,).
        masses: w_i, shape (M,), scaled to sum 1; None: equal ones.

    Raises:
        ValueError: for no places, or what is not finite or negative.
    """

    places: Array
    masses: Array | None = None

    def __post_init__(self) -> None:
        """Check the numbers, and scale the masses."""
        places, masses = _checked(np.asarray(self.places, float)[:, None], self.masses)
        object.__setattr__(self, "places", places[:, 0])
        object.__setattr__(self, "masses", masses)

    @property
    def atoms(self) -> tuple[Array, Array]:
        """Places and masses."""
        assert self.masses is not None  # `__post_init__` has filled it
        return self.places, self.masses

    def density(self, z: Array) -> Array:
        """There is none."""
        raise ValueError(_NO_DENSITY)

    log_density = log_density_gradient = density

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws, with repetition."""
        return self.places[rng.choice(len(self.places), n, p=self.masses)]

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights with the same first 2n − 1 moments; all places where there are no more than n."""
        return gauss(*self.atoms, n)

    def extent(self) -> tuple[float, float]:
        """From the first to the last place."""
        low, high = float(self.places.min()), float(self.places.max())
        room = 1e-9 * max(abs(low), abs(high), 1.0)
        return low - room, high + room


@dataclass(frozen=True, eq=False)
class Cloud:
    """Σ_i w_i δ_{z_i} of several coordinates together.

    Attributes:
        points: z_i, shape (M, D).
        masses: w_i, shape (M,), scaled to sum 1; None: equal ones.
        cells: width of the cells of a mesh that the points are nodes of, in each direction: draws are spread over them as a
            piecewise linear density is; none where the points themselves are drawn.
        periods: of each coordinate; left out, all are on the line.

    Raises:
        ValueError: for no points, or what is not finite or negative.
    """

    points: Array
    masses: Array | None = None
    cells: tuple[float, ...] = ()
    periods: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers, and scale the masses."""
        points, masses = _checked(np.asarray(self.points, float), self.masses)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "masses", masses)
        object.__setattr__(self, "periods", self.periods or (None,) * points.shape[1])

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.points.shape[1])

    @property
    def marginals(self) -> tuple[Law1D, ...]:
        """The law of each coordinate."""
        return tuple(in_period(Empirical(z, self.masses), p) for z, p in zip(self.points.T, self.periods, strict=True))

    def cloud(self, finest: Sequence[float]) -> tuple[Array, Array]:
        """Points and masses, whatever the mesh."""
        assert self.masses is not None  # `__post_init__` has filled it
        return self.points, self.masses

    def density(self, z: Array) -> Array:
        """There is none."""
        raise ValueError(_NO_DENSITY)

    log_density = log_density_gradient = density

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws, with repetition, spread over cells where there are."""
        drawn = self.points[rng.choice(len(self.points), n, p=self.masses)]
        if not self.cells:
            return drawn
        return drawn + (rng.random(drawn.shape) - rng.random(drawn.shape)) * np.array(self.cells)

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """There is none with a number of nodes in each direction.

        Raises:
            ValueError: of several coordinates.
        """
        if self.dimension == 1:
            z, w = Empirical(self.points[:, 0], self.masses).quadrature(nodes[0])
            return z[:, None], w
        raise ValueError(
            f"the law at the start is a cloud of {len(self.points)} points of {self.dimension} coordinates together, without "
            "a quadrature by nodes in each of them; leave this measure out, or give a law of each coordinate"
        )

    def in_periods(self, periods: Sequence[float | None]) -> Cloud:
        """On circles in the coordinates that have a period."""
        return Cloud(self.points, self.masses, self.cells, tuple(periods))


def _checked(points: Array, masses: Array | None) -> tuple[Array, Array]:
    if not len(points):
        raise ValueError("there are no points; give at least one")
    weights = np.ones(len(points)) if masses is None else np.asarray(masses, float)
    if weights.shape != (len(points),):
        raise ValueError(f"{len(points)} points need as many masses, not {weights.size}")
    wrong = ~np.isfinite(points).all(axis=1) | ~np.isfinite(weights) | (weights < 0.0)
    if wrong.any():
        raise ValueError(f"point {int(np.argmax(wrong))} is not finite, or its mass is negative; correct or remove it")
    if not weights.sum() > 0.0:
        raise ValueError("all masses are 0; give some that are not")
    return points, weights / weights.sum()


LAWS["point"] = Dirac
