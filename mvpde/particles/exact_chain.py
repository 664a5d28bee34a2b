"""Expectations of the chain of SGD without sampling: u_k(W) = E[h(W_k) | W_0 = W] on a grid, by the recursion

    u_0 = h,        u_{k+1}(W) = E_B u_k(W − η∇L_B(W)),

the mean over all batches, each taken exactly. Between grid points u_k is interpolated by tensor products of Lagrange polynomials
on the nearest degree + 1 points in each direction: an error of order degree + 1 in the spacing. The maps do not change with k, so
the recursion is one sparse matrix P, made once: u_{k+1} = Pu_k. For D ≤ 2, a modest data set and small batches.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mvpde.models.laws import Law
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork

MAX_BATCHES = 100_000  # more are neither quick nor exact in a double
IN_WORK = 2_000_000  # entries of P before equal places are added up


@dataclass(frozen=True)
class Grid:
    """Equispaced points of a box, the last direction fastest.

    Attributes:
        lower, upper: corners, shape (D,).
        counts: points in each direction.
        degree: of the interpolation, odd; degree + 1 ≤ every count.
    """

    lower: Array
    upper: Array
    counts: tuple[int, ...]
    degree: int = 5

    def __post_init__(self) -> None:
        """Check the degree."""
        if self.degree < 1 or self.degree % 2 == 0 or self.degree >= min(self.counts):
            raise ValueError(f"degree is {self.degree}; it must be odd and below every number of points, {self.counts}")

    @property
    def spacing(self) -> Array:
        """Distances of neighbours, shape (D,)."""
        return np.asarray((self.upper - self.lower) / (np.array(self.counts) - 1))

    @property
    def points(self) -> Array:
        """All grid points, shape (M, D)."""
        axes = [np.linspace(a, b, n) for a, b, n in zip(self.lower, self.upper, self.counts, strict=True)]
        return np.column_stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")])

    def contains(self, z: Array) -> NDArray[np.bool_]:
        """Whether each of the points z, shape (..., D), lies in the box."""
        return np.all((z >= self.lower) & (z <= self.upper), axis=-1)

    def interpolation(self, z: Array) -> tuple[NDArray[np.int32], Array]:
        """Places and weights, both of shape (N, (degree + 1)^D), with u(z) ≈ Σ weight · u[place].

        Points outside the box count as on its wall.
        """
        places, weights = np.zeros((len(z), 1), np.int32), np.ones((len(z), 1))
        for axis, count in enumerate(self.counts):
            t = np.clip((z[:, axis] - self.lower[axis]) / self.spacing[axis], 0.0, count - 1.0)
            first = np.clip(np.floor(t).astype(np.int32) - self.degree // 2, 0, count - 1 - self.degree)
            basis = _lagrange(t - first, self.degree)
            here = first[:, None] + np.arange(self.degree + 1, dtype=np.int32)
            places = (places[:, :, None] * np.int32(count) + here[:, None, :]).reshape(len(z), -1)
            weights = (weights[:, :, None] * basis[:, None, :]).reshape(len(z), -1)
        return places, weights


def _lagrange(t: Array, degree: int) -> Array:
    """The Lagrange polynomials of the nodes 0, …, degree at t, shape (N, degree + 1)."""
    nodes = np.arange(degree + 1)
    result = np.empty((len(t), degree + 1))
    for j in nodes:
        others = nodes[nodes != j]
        result[:, j] = np.prod([t - k for k in others], axis=0) / np.prod(j - others, dtype=float)
    return result


def batches(problem: SgdNetwork) -> tuple[sparse.csr_matrix, Array]:
    """All batches: their shares of the S samples, shape (n, S), rows summing to 1, and their probabilities, shape (n,).

    Raises:
        ValueError: if there are more than 100 000.
    """
    size, batch = len(problem.x), problem.batch_size
    number = math.comb(size + batch - 1, batch) if problem.replacement else math.comb(size, batch)
    if number > MAX_BATCHES:
        raise ValueError(
            f"{size} samples have {number} batches of {batch}, more than {MAX_BATCHES}; use runs instead of the exact chain"
        )
    choose = itertools.combinations_with_replacement if problem.replacement else itertools.combinations
    chosen = list(choose(range(size), batch))
    rows = np.repeat(np.arange(number), batch)
    shares = sparse.csr_matrix((np.full(number * batch, 1.0 / batch), (rows, np.array(chosen).ravel())), shape=(number, size))
    orders = np.array([math.factorial(batch) / math.prod(math.factorial(n) for n in Counter(c).values()) for c in chosen])
    return shares, orders / orders.sum()


@dataclass(frozen=True)
class ExactChain:
    """The chain of SGD on a grid.

    Attributes:
        grid: where u_k lives.
        transition: P, shape (M, M), rows summing to 1.
        leaving: probability that one step leads out of the box, from each grid point, shape (M,). Such a step ends on the wall.
    """

    grid: Grid
    transition: sparse.csr_matrix
    leaving: Array

    def step(self, u: Array) -> Array:
        """u_{k+1} from u_k, shape (M,) or (M, functions)."""
        return np.asarray(self.transition @ u)

    def expectations(self, functions: Sequence[Callable[[Array], Array]], law: Law, nodes: int, steps: Sequence[int]) -> Array:
        """E[h(W_k)] for W_0 with the law, shape (len(steps), len(functions)).

        Args:
            functions: h, each (N, D) → (N,), smooth on the box.
            law: law of W_0, within the box.
            nodes: quadrature points of the law in each direction.
            steps: increasing numbers k ≥ 0.
        """
        weights = self.start(law, nodes)
        u = np.column_stack([h(self.grid.points) for h in functions])
        return np.array([weights @ v for v in self._at(u, steps)])

    def lost(self, law: Law, nodes: int, steps: int) -> float:
        """The expected number of steps that lead out of the box, at most 1, among so many: what its wall may have changed.

        An estimate: what it interpolates is not smooth. Where it is not negligible, the box is too small.
        """
        u = np.zeros(len(self.leaving))
        for _ in range(steps):
            u = np.clip(self.leaving + self.step(u), 0.0, 1.0)
        return float(self.start(law, nodes) @ u)

    def start(self, law: Law, nodes: int) -> Array:
        """Weights, shape (M,), with ∫u dρ_0 ≈ weights·u."""
        points, shares = law.quadrature([nodes] * law.dimension)
        places, weights = self.grid.interpolation(points)
        return np.bincount(places.ravel(), weights=(weights * shares[:, None]).ravel(), minlength=len(self.leaving))

    def _at(self, u: Array, steps: Sequence[int]) -> list[Array]:
        kept, done = [], 0
        for k in steps:
            for _ in range(k - done):
                u = self.step(u)
            done = k
            kept.append(u)
        return kept


def exact_chain(
    problem: SgdNetwork, lower: Sequence[float], upper: Sequence[float], points: Sequence[int], degree: int = 5
) -> ExactChain:
    """The chain of a problem on a box with so many grid points in each direction.

    The time is that of points × batches interpolations, (degree + 1)^D numbers each: seconds for 100² points and 236 batches.

    Raises:
        ValueError: for more than 100 000 batches, or a degree that is even or too high for the grid.
    """
    grid = Grid(np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64), tuple(points), degree)
    shares, probabilities = batches(problem)
    rows = max(1, IN_WORK // (len(probabilities) * (degree + 1) ** problem.dimension))
    parts, leaving, w = [], [], grid.points
    for start in range(0, len(w), rows):
        here = w[start : start + rows]
        targets = _after_one_step(problem, here, shares)
        leaving.append(1.0 * (~grid.contains(targets)) @ probabilities)
        parts.append(_rows_of_transition(grid, targets, probabilities))
    return ExactChain(grid, sparse.vstack(parts, format="csr"), np.concatenate(leaving))


def _after_one_step(problem: SgdNetwork, w: Array, shares: sparse.csr_matrix) -> Array:
    """W − η∇L_B(W) for each point and batch, shape (n, batches, D)."""
    slopes = problem.per_sample_gradient(w)
    of_batches = np.stack([(shares @ slopes[:, :, k].T).T for k in range(problem.dimension)], axis=2)
    return np.asarray(w[:, None, :] - problem.learning_rate * of_batches)


def _rows_of_transition(grid: Grid, targets: Array, probabilities: Array) -> sparse.csr_matrix:
    count, number, dimension = targets.shape
    places, weights = grid.interpolation(targets.reshape(-1, dimension))
    weights = weights.reshape(count, number, -1) * probabilities[None, :, None]
    pointers = np.arange(count + 1) * (weights.size // count)
    rows = sparse.csr_matrix((weights.ravel(), places.ravel(), pointers), shape=(count, math.prod(grid.counts)))
    rows.sum_duplicates()
    return rows
