"""Small models for the tests of the solvers: without interaction, oscillators, a double well, the network on the circle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mvpde.models import data
from mvpde.models.interaction import gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.network import network

TWO_PI = 2.0 * np.pi
WELL = "x**4/4 - x**2/2"


def free(
    dimension: int, temperature: float, potential: Callable[[Array], Array], gradient: Callable[[Array], Array] = np.zeros_like
) -> MeanField:
    """A model whose particles do not see each other: ∂_tρ = ∇·(ρ∇V0 + τ∇ρ)."""
    return MeanField(
        coordinates=("x", "y", "z")[:dimension],
        profile=lambda y: np.ones((len(y), 1)),
        profile_field=lambda y, r: (np.full(len(y), r[0]), np.zeros_like(y)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        temperature=temperature,
        external_potential=potential,
        external_gradient=gradient,
    )


def kuramoto(coupling: float, temperature: float = 0.0) -> MeanField:
    """Noisy oscillators on a circle: features cos, sin, R = −½K|m|²."""

    def both(y: Array) -> Array:
        return np.column_stack([np.cos(y[:, 0]), np.sin(y[:, 0])])

    return MeanField(
        coordinates=("x",),
        profile=both,
        profile_field=lambda y, r: (both(y) @ r, np.column_stack([-np.sin(y[:, 0]), np.cos(y[:, 0])]) @ r[:, None]),
        outer_energy=lambda m: -0.5 * coupling * np.sum(m**2, axis=-1),
        outer_gradient=lambda m: -coupling * m,
        temperature=temperature,
        periods=(TWO_PI,),
    )


def desai_zwanzig(beta: float, theta: float) -> MeanField:
    return gradient_flow(
        ["x"],
        potential=WELL,
        features=["x", "x**2"],
        outer_energy="theta/2*(m1 - m0**2)",
        temperature=1.0 / beta,
        parameters={"theta": theta},
    )


def circle_network(temperature: float = 0.0) -> tuple[MeanField, Product]:
    """RBF units on a circle learning 0.6 cos x + 0.3 sin 2x, and the initial law Unif × N(0, 0.7²)."""
    table = data.circle(64, lambda x: 0.6 * np.cos(x[:, 0]) + 0.3 * np.sin(2.0 * x[:, 0]))
    base = Product((Uniform(0.0, TWO_PI, periodic=True), Normal(0.0, 1.0)))
    model = network("circle_rbf", table, temperature=temperature, base=base, kappa=2.0)
    return model, Product((Uniform(0.0, TWO_PI, periodic=True), Normal(0.0, 0.7)))


def order(errors: list[float], ratio: float = 2.0) -> float:
    """Observed order between the first and the last of errors on meshes (steps) that shrink by ``ratio`` each."""
    return float(np.log(errors[0] / errors[-1]) / np.log(ratio) / (len(errors) - 1))
