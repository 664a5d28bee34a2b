"""Residual flows with closed forms: h = Q diag θ(s) tanh(Qᵀx), and a linear one whose law stays normal.

With Θ = ∫θ and y = Qᵀx: sinh y_i(s) = e^{Θ_i(s)} sinh y_i(0), and

    p(s, x) = p_0(x_0) Π_i e^{−Θ_i} cosh y_i/√(1 + e^{−2Θ_i} sinh² y_i).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import roots_hermitenorm

from mvpde.models.deep.depth_weights import depth_weights
from mvpde.models.deep.residual_flow import BlockWords, layered_block, linear_block, residual_flow
from mvpde.models.mean_field import Array, MeanField


@dataclass(frozen=True)
class Correlated:
    """The normal law with this mean and covariance."""

    mean: Array
    covariance: Array

    @property
    def dimension(self) -> int:
        return len(self.mean)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return self.mean + rng.standard_normal((n, self.dimension)) @ np.linalg.cholesky(self.covariance).T

    def log_density(self, z: Array) -> Array:
        white = (z - self.mean) @ np.linalg.inv(np.linalg.cholesky(self.covariance)).T
        return -0.5 * (white**2).sum(axis=1) - 0.5 * np.linalg.slogdet(2.0 * np.pi * self.covariance)[1]

    def density(self, z: Array) -> Array:
        return np.exp(self.log_density(z))

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        rules = [roots_hermitenorm(n) for n in nodes]
        points = np.stack([g.ravel() for g in np.meshgrid(*(x for x, _ in rules), indexing="ij")], axis=1)
        weights = np.prod(np.stack([g.ravel() for g in np.meshgrid(*(w / w.sum() for _, w in rules), indexing="ij")]), axis=0)
        return self.mean + points @ np.linalg.cholesky(self.covariance).T, weights


@dataclass(frozen=True)
class Flow:
    """A residual flow over 0 ≤ s ≤ 1 with what is known of it.

    Attributes:
        frame: Q.
        weights: θ_i, expressions of s.
        growth: Θ_i(1).
        law: p_0.
        lower, upper: corners of a box that holds it.
    """

    frame: Array
    weights: tuple[str, ...]
    growth: Array
    law: Correlated
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @property
    def model(self) -> MeanField:
        """h = W₂ tanh(W₁x) with W₁ = Qᵀ, W₂ = Q diag θ."""
        names = tuple(f"theta{i}" for i in range(len(self.weights)))
        weights = depth_weights(dict(zip(names, self.weights, strict=True)))
        outer = [[f"({float(q)!r})*{name}" for q, name in zip(row, names, strict=True)] for row in self.frame]
        words = BlockWords(("x", "y", "z")[: len(names)], names)
        return residual_flow(words.coordinates, layered_block(words, self.frame.T.tolist(), outer), weights)

    def carried(self, x: Array) -> Array:
        """x(1), shape (N, D), from x(0)."""
        return np.arcsinh(np.exp(self.growth) * np.sinh(x @ self.frame)) @ self.frame.T

    def density(self, x: Array) -> Array:
        """p(1, x), shape (N,)."""
        y = x @ self.frame
        back = np.exp(-self.growth) * np.sinh(y)
        slope = np.prod(np.exp(-self.growth) * np.cosh(y) / np.sqrt(1.0 + back**2), axis=1)
        return np.asarray(self.law.density(np.arcsinh(back) @ self.frame.T) * slope)


def rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def about_the_diagonal(angle: float) -> Array:
    """The rotation about (1, 1, 1)."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3.0)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


LINE = Flow(
    np.eye(1), ("1.2*cos(pi*s) + 0.5",), np.array([0.5]), Correlated(np.array([0.3]), np.array([[0.64]])), (-6.0,), (6.0,)
)
PLANE = Flow(
    rotation(np.pi / 6.0),
    ("1", "-1.5*s"),
    np.array([1.0, -0.75]),
    Correlated(np.array([0.5, -0.3]), np.array([[0.6, 0.2], [0.2, 0.4]])),
    (-5.0, -5.0),
    (5.0, 5.0),
)
SPACE = Flow(
    about_the_diagonal(0.7),
    ("1", "-1", "cos(pi*s)"),
    np.array([1.0, -1.0, 0.0]),
    Correlated(np.array([0.2, 0.0, -0.2]), np.diag([0.5, 0.4, 0.3])),
    (-3.8, -2.9, -2.8),
    (4.2, 2.9, 2.6),
)

NORMAL = Correlated(np.array([1.0, 0.0]), np.array([[0.3, 0.1], [0.1, 0.2]]))  # the start of the linear flow


def linear() -> MeanField:
    """A(s) at two depths does not commute."""
    words = BlockWords(("x", "y"))
    return residual_flow(("x", "y"), linear_block(words, [["-0.3", "-2*s"], ["2*s", "0.1"]]), depth_weights({}))


def layers(velocity: Callable[[Array, float], Array], x: Array, count: int) -> Array:
    """x_{k+1} = x_k + L⁻¹h(x_k, θ(k/L)), written out."""
    for k in range(count):
        x = x + velocity(x, k / count) / count
    return x
