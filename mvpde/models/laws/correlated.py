"""The normal law of several coordinates together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import roots_hermitenorm

from mvpde.models.laws.basic import Normal
from mvpde.models.laws.law import Array, Law1D
from mvpde.models.laws.periodic import in_period, lattice

_REACH = 6.0  # standard deviations that hold it
_CLOUD = 4.0  # points of a cloud in a cell of a mesh, in each principal direction
_LEAST, _MOST = 25, 2_000_000  # such points in a direction, and in all


@dataclass(frozen=True, eq=False)
class CorrelatedNormal:
    """N(mean, covariance), wound around circles in the coordinates that have a period.

    Attributes:
        mean: D numbers.
        covariance: D × D, symmetric, positive definite.
        periods: of each coordinate; left out, all are on the line.

    Raises:
        ValueError: for another number of rows or columns, or a matrix that is no covariance.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    periods: tuple[float | None, ...] = ()
    _root: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the matrix."""
        d, rows = len(self.mean), [len(row) for row in self.covariance]
        if d == 0 or rows != [d] * d:
            raise ValueError(f"covariance: needs {d} rows of {d} numbers for as many means, not rows of {rows}")
        matrix = np.array(self.covariance, float)
        if not (np.isfinite(matrix).all() and np.isfinite(self.mean).all()):
            raise ValueError("mean, covariance: some number is not finite")
        if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=0.0):
            raise ValueError("covariance: is not symmetric; write the same number in row i, column k and in row k, column i")
        values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        if not values[0] > 1e-14 * values[-1] > 0.0:
            raise ValueError(
                f"covariance: has the eigenvalue {values[0]:.3g}, and must be positive definite; enlarge its diagonal"
            )
        object.__setattr__(self, "_root", vectors * np.sqrt(values))  # principal directions, times their deviations
        object.__setattr__(self, "periods", self.periods or (None,) * d)

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def marginals(self) -> tuple[Law1D, ...]:
        """The normal law of each coordinate, on its circle if it has one."""
        deviations = [math.sqrt(self.covariance[k][k]) for k in range(self.dimension)]
        return tuple(in_period(Normal(m, s), p) for m, s, p in zip(self.mean, deviations, self.periods, strict=True))

    def _images(self, z: Array) -> list[Array]:
        """z, shape (N, D), moved to about the mean, and by whole periods to wherever the law of the space has mass."""
        mean, reach = np.array(self.mean), _REACH * np.sqrt(np.diag(np.array(self.covariance)))
        near = z - mean
        for axis, period in enumerate(self.periods):
            if period is not None:
                near[:, axis] -= period * np.rint(near[:, axis] / period)
        return [near + shift for shift in lattice(self.periods, -reach, reach)]

    def _log(self, x: Array) -> Array:
        u = np.linalg.solve(self._root, x.T)
        constant = 0.5 * self.dimension * math.log(2.0 * math.pi) + float(np.linalg.slogdet(self._root)[1])
        return np.asarray(-0.5 * (u**2).sum(axis=0) - constant)

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,)."""
        return np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape (N,)."""
        return np.logaddexp.reduce([self._log(x) for x in self._images(z)])

    def log_density_gradient(self, z: Array) -> Array:
        """∇ log ρ(z), shape (N, D)."""
        images, whole = self._images(z), self.log_density(z)
        inverse = np.linalg.inv(self._root @ self._root.T)
        return np.sum([-np.exp(self._log(x) - whole)[:, None] * (x @ inverse) for x in images], axis=0)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D)."""
        return np.array(self.mean) + rng.standard_normal((n, self.dimension)) @ self._root.T

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Gauss–Hermite points along the principal directions, the first number for the narrowest, and weights with sum 1."""
        rules = [roots_hermitenorm(n) for n in nodes]
        return self._placed([t for t, _ in rules], [w / w.sum() for _, w in rules])

    def cloud(self, finest: Sequence[float]) -> tuple[Array, Array]:
        """Points and masses with the law's mean and covariance, dense beside cells of these widths."""
        deviations = np.sqrt((self._root**2).sum(axis=0))
        wanted = np.ceil(2.0 * _REACH * deviations * _CLOUD / min(finest))
        most = math.floor(_MOST ** (1.0 / self.dimension))
        points, weights = [], []
        for count in np.clip(wanted, _LEAST, max(_LEAST, most)).astype(int):
            t = np.linspace(-_REACH, _REACH, count)
            w = np.exp(-0.5 * t**2)
            points.append(t / math.sqrt(float(w @ t**2 / w.sum())))
            weights.append(w / w.sum())
        return self._placed(points, weights)

    def _placed(self, points: Sequence[Array], weights: Sequence[Array]) -> tuple[Array, Array]:
        return np.array(self.mean) + _grid(points) @ self._root.T, np.prod(_grid(weights), axis=1)

    def in_periods(self, periods: Sequence[float | None]) -> CorrelatedNormal:
        """On circles in the coordinates that have a period."""
        return CorrelatedNormal(self.mean, self.covariance, tuple(periods))


def _grid(lines: Sequence[Array]) -> Array:
    return np.column_stack([axis.ravel() for axis in np.meshgrid(*lines, indexing="ij")])
