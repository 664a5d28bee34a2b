"""Mean-field models: values and gradients agree, for every unit and loss of the tables; closed forms; reference solutions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.special import expit

from at_hand.additions import put_back
from mvpde.models.data import Data, circle, points, target_function
from mvpde.models.gaussian_mixture import gaussian_mixture, kernel, target, target_energy, target_field, trapezoid
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.network import network
from mvpde.models.units import UNITS, Unit

MEANS, VARIANCES, AMPLITUDES = np.array([-2.0, 0.0, 2.0]), np.array([0.5, 1.0, 0.5]), np.array([1.0, -2.0, 1.0]) / 3
STEP = 1e-5  # of central differences of functions and derivatives of order 1: error h² + ε/h ~ 1e-10, with a factor 100 to spare


def classes(inputs: int, count: int = 12) -> Data:
    """Points on a grid away from 0, targets ±1 so that every loss accepts them, unequal weights."""
    rng = np.random.default_rng(3)
    return points(rng.uniform(-1.5, 2.0, (count, inputs)), rng.choice([-1.0, 1.0], count), rng.uniform(0.1, 1.0, count))


def built(name: str, inputs: int, **parameters: Any) -> Unit:
    """The unit on `classes`; skips where it does not take that many inputs."""
    try:
        return UNITS[name](classes(inputs).x, **parameters)
    except ValueError as error:
        pytest.skip(str(error))


def mixture(**options: Any) -> MeanField:
    """The Gaussian mixture of Rotskoff & Vanden-Eijnden's notebook."""
    return gaussian_mixture(MEANS, VARIANCES, AMPLITUDES, **options)


def central_gradient(function: Any, z: Array) -> Array:
    """(h(z + εe_j) − h(z − εe_j))/2ε for every coordinate j, shape (N, D)."""
    shifts = STEP * np.eye(z.shape[1])
    return np.column_stack([(function(z + shift) - function(z - shift)) / (2 * STEP) for shift in shifts])


FORMULAS = {
    "sigmoid": lambda x, y: 1 / (1 + np.exp(-(y[:-1] @ x + y[-1]))),
    "tanh": lambda x, y: np.tanh(y[:-1] @ x + y[-1]),
    "relu": lambda x, y: max(0.0, y[:-1] @ x + y[-1]),
    "gaussian": lambda x, y: np.exp(-np.sum((x - y) ** 2) / 2),
    "circle_rbf": lambda x, y: np.exp(np.cos(x[0] - y[0]) - 1),
}


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_a_unit_is_its_formula(name: str, inputs: int) -> None:
    unit, x = built(name, inputs), classes(inputs).x
    y = np.random.default_rng(0).normal(size=(9, len(unit.coordinates)))
    expected = [[FORMULAS[name](x_p, y_i) for x_p in x] for y_i in y]
    np.testing.assert_allclose(unit.profile(y), expected, rtol=1e-13)


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("name", sorted(UNITS))
def test_the_field_of_a_unit_is_the_contraction_of_its_profile_and_its_gradient(name: str, inputs: int) -> None:
    unit = built(name, inputs)
    rng = np.random.default_rng(1)
    z = rng.normal(size=(40, len(unit.coordinates) + 1))
    y, r = z[:, :-1], rng.normal(size=12)  # a slice, as models pass it
    value, slope = unit.profile_field(y, r)
    np.testing.assert_allclose(value, unit.profile(y) @ r, atol=1e-13)
    np.testing.assert_allclose(slope, central_gradient(lambda s: unit.profile(s) @ r, y), atol=1e-8)


@pytest.mark.parametrize("name", sorted(UNITS))
def test_a_unit_is_finite_far_away_and_has_its_periods(name: str) -> None:
    unit = built(name, 1)
    y = np.full((2, len(unit.coordinates)), 900.0)
    y[1] = -900.0
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = unit.profile_field(y, np.ones(12))
        assert all(np.all(np.isfinite(a)) for a in (unit.profile(y), value, slope))
    y = np.random.default_rng(2).normal(size=(5, len(unit.coordinates)))
    period = np.array([p or 0.0 for p in unit.periods])
    np.testing.assert_allclose(unit.profile(y + period), unit.profile(y), atol=1e-14)


def test_parameters_of_units() -> None:
    x, y = classes(1).x, np.array([[0.4], [-1.0]])
    np.testing.assert_allclose(UNITS["circle_rbf"](x, kappa=2.0).profile(y), np.exp(2 * (np.cos(x.T - y) - 1)), rtol=1e-14)
    np.testing.assert_allclose(UNITS["gaussian"](x, variance=0.3).profile(y), np.exp(-((x.T - y) ** 2) / 0.6), rtol=1e-13)
    for inputs in (1, 2):  # unit integral, by a sum over a fine grid of centres (spectrally accurate)
        axis = np.arange(-8.0, 8.0, 0.1)
        grid = np.column_stack([g.ravel() for g in np.meshgrid(*[axis] * inputs)])
        unit = UNITS["gaussian"](classes(inputs).x, variance=0.3, normalised=1.0)
        np.testing.assert_allclose(unit.profile(grid).sum(axis=0) * 0.1**inputs, 1.0, rtol=1e-12)
    np.testing.assert_allclose(UNITS["tanh"](x, bias=False).profile(y), np.tanh(x.T * y), rtol=1e-14)


def test_gaussian_units_keep_their_digits_far_from_the_origin() -> None:
    x = classes(1).x
    near, far = UNITS["gaussian"](x), UNITS["gaussian"](x + 2.0**20)  # the shift is exact for few enough digits
    y = np.array([[0.5], [-1.25]])
    np.testing.assert_allclose(far.profile(y + 2.0**20), near.profile(y), atol=1e-9)  # x itself is rounded to 2^{20−52}


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_gradient_of_a_loss_is_its_gradient_over_any_leading_axes(loss: str) -> None:
    outer = LOSSES[loss](classes(1))
    m = np.random.default_rng(4).normal(size=(3, 5, 12))
    assert outer.energy(m).shape == (3, 5)
    flat = m.reshape(-1, 12)
    np.testing.assert_allclose(outer.gradient(m).reshape(-1, 12), central_gradient(outer.energy, flat), atol=1e-8)


def test_losses_are_their_formulas_without_overflow() -> None:
    data = classes(1)
    w, f, m = data.weights, data.target, np.linspace(-2.0, 3.0, 12)
    assert math.isclose(LOSSES["least_squares"](data).energy(m), 0.5 * sum(w * (m - f) ** 2), rel_tol=1e-14)
    assert math.isclose(LOSSES["logistic"](data).energy(m), -sum(w * np.log(expit(f * m))), rel_tol=1e-14)
    with np.errstate(over="raise"):
        assert math.isclose(LOSSES["logistic"](data).energy(-1e4 * f), 1e4 * w.sum(), rel_tol=1e-12)
        np.testing.assert_allclose(LOSSES["logistic"](data).gradient(-1e4 * f), -w * f)
    with pytest.raises(ValueError, match=r"data point 2 has 0\.5"):
        LOSSES["logistic"](points([0, 1], [-1, 0.5]))


def every_model() -> dict[str, MeanField]:
    """Each unit with each loss, each at τ > 0 with a base measure, and the closed-form model."""
    models = {}
    for unit in set(UNITS) - {"sphere_rbf"}:  # which takes inputs on a sphere: see test_spins
        for loss in LOSSES:
            plain = network(unit, classes(1), loss=loss)
            law = Product(tuple(Uniform(0.0, 1.0) if p else Normal(0.2, 0.8) for p in plain.periods))
            models[f"{unit}-{loss}"] = network(unit, classes(1), loss=loss, temperature=0.3, base=law)
    models["gaussian_mixture"] = mixture(temperature=0.1, base_measure=Product((Normal(0.0, 2.0), Normal(0.0, 1.0))))
    return models


@pytest.mark.parametrize("name", sorted(every_model()))
def test_the_potential_is_the_first_variation_of_the_energy_and_its_gradient_the_force(name: str) -> None:
    """E(m) = R(m) + mean of V0 over n points: n ∂E/∂z_i = ∇V(z_i; m), and V + const is what a unit of mass at z adds."""
    model = every_model()[name]
    z = np.random.default_rng(5).normal(size=(6, model.dimension))
    m = model.feature_sum(z) / len(z)
    np.testing.assert_allclose(model.potential_gradient(z, m), central_gradient(lambda s: model.potential(s, m), z), atol=1e-8)

    def energy(moved: Array) -> float:
        return float(model.outer_energy(model.feature_sum(moved) / len(z)) + model.external_potential(moved).mean())

    force = np.empty_like(z)
    for index in np.ndindex(*z.shape):
        shift = np.zeros_like(z)
        shift[index] = STEP
        force[index] = len(z) * (energy(z + shift) - energy(z - shift)) / (2 * STEP)
    np.testing.assert_allclose(model.potential_gradient(z, m), force, atol=1e-8)


def test_the_examples_of_the_documentation_run() -> None:
    """The new unit and the model of docs/models.md: Desai & Zwanzig's force is z³ − z + ϑ(z − mean) with ϑ = 1."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"np": np, "Array": Array, "Unit": Unit, "UNITS": UNITS}
    with put_back():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(block, names)
        unit = UNITS["cosine"](classes(1).x, frequency=2.0)
    z, r = np.random.default_rng(9).normal(size=(5, 1)), np.linspace(-1.0, 1.0, 12)
    model = names["desai_zwanzig"]
    force = model.potential_gradient(z, model.feature_sum(z) / 5)
    np.testing.assert_allclose(force, z**3 - z + (z - z.mean()), atol=1e-14)
    np.testing.assert_allclose(unit.profile_field(z, r)[1], central_gradient(lambda s: unit.profile(s) @ r, z), atol=1e-8)


def test_networks_name_their_coordinates_and_periods() -> None:
    assert network("sigmoid", classes(1)).coordinates == ("a", "b", "c")
    assert network("tanh", classes(2)).coordinates == ("a1", "a2", "b", "c")
    assert network("relu", classes(1), bias=False).coordinates == ("a", "c")
    assert network("gaussian", classes(2)).coordinates == ("y1", "y2", "c")
    model = network("circle_rbf", classes(1), kappa=2.0)
    assert (model.coordinates, model.periods) == (("y", "c"), (2 * math.pi, None))
    assert model.profile_dimension == 1
    np.testing.assert_array_equal(model.predictions(np.arange(12.0)), np.arange(12.0))


def test_models_that_make_no_sense_are_refused() -> None:
    data = classes(1)
    wrong: list[tuple[Callable[[], MeanField], str]] = [
        (lambda: network("sigmod", data), "did you mean 'sigmoid'"),
        (lambda: network("tanh", data, loss="huber"), "no loss 'huber'"),
        (lambda: network("circle_rbf", data, kapa=1.0), "did you mean 'kappa'"),
        (lambda: network("gaussian", data, bias=False), "no 'bias'"),
        (lambda: network("gaussian", data, variance=-1.0), "must be positive"),
        (lambda: network("circle_rbf", classes(2)), "takes one input"),
        (lambda: network("tanh", data, temperature=-0.1), "temperature is -0.1"),
        (lambda: network("tanh", data, temperature=math.nan), "temperature"),
        (lambda: mixture(temperature=-1.0), "temperature is -1"),
        (lambda: gaussian_mixture([0.0], [1.0, 1.0], [1.0]), "same number"),
        (lambda: gaussian_mixture([0.0], [0.0], [1.0]), "positive"),
        (lambda: mixture(step=0.7), "take a smaller step"),
        (lambda: mixture(unit_variance=1e-8), "too small"),
    ]
    for build, what in wrong:
        with pytest.raises(ValueError, match=what):
            build()


def test_the_closed_forms_of_the_mixture_are_the_integrals() -> None:
    def f(x: float) -> float:
        return float(target(np.array([x]), MEANS, VARIANCES, AMPLITUDES)[0])

    def phi(x: float, y: float) -> float:
        return math.exp(-((x - y) ** 2)) / math.sqrt(math.pi)  # N(x; y, ½)

    def integral(h: Any) -> float:
        return float(quad(h, -12.0, 12.0, epsabs=1e-13, limit=200)[0])

    assert math.isclose(target_energy(MEANS, VARIANCES, AMPLITUDES), integral(lambda x: 0.5 * f(x) ** 2), rel_tol=1e-11)
    for y, z in ((0.0, 0.0), (0.7, -1.1), (2.5, 1.0)):
        assert math.isclose(kernel(y, z, 0.5), integral(lambda x, y=y, z=z: phi(x, y) * phi(x, z)), rel_tol=1e-10)
        field = target_field(np.array([y]), MEANS, VARIANCES, AMPLITUDES, 0.5)[0]
        assert math.isclose(field, integral(lambda x, y=y: f(x) * phi(x, y)), rel_tol=1e-9)


@pytest.mark.parametrize("variance", [0.05, 0.5, 3.0])
def test_the_nodes_give_the_kernel_throughout_their_range(variance: float) -> None:
    nodes = trapezoid(variance, 7.0)
    h = nodes[1] - nodes[0]
    y = np.random.default_rng(6).uniform(-7.0, 7.0, 200)
    phi = np.exp(-(np.subtract.outer(y, nodes) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    exact = kernel(y[:, None], y, variance)
    assert np.max(np.abs(h * phi @ phi.T - exact)) <= 1e-13 * exact[0, 0]
    assert 0.0 in nodes


def test_the_outer_energy_of_the_mixture_is_the_loss_by_f_and_k() -> None:
    model = mixture()
    rng = np.random.default_rng(8)
    y, c = rng.uniform(-3.0, 3.0, 30), rng.normal(size=30)
    m = model.feature_sum(np.column_stack([y, c])) / 30
    field = target_field(y, MEANS, VARIANCES, AMPLITUDES, 0.5)
    loss = target_energy(MEANS, VARIANCES, AMPLITUDES) - c @ field / 30 + 0.5 * c @ kernel(y[:, None], y, 0.5) @ c / 900
    assert math.isclose(model.outer_energy(m), loss, rel_tol=1e-12)
    u = -field + kernel(y[:, None], y, 0.5) @ c / 30  # V = cU, U = −F + ∫cK dρ, and ∂V/∂c = U
    np.testing.assert_allclose(model.potential_gradient(np.column_stack([y, c]), m)[:, 1], u, atol=1e-13)


def carried(model: MeanField, law: Product, nodes: tuple[int, int], end: float) -> tuple[float, float, float]:
    """R, f(0) and ⟨c²⟩ at the end of the characteristics ż = −∇V(z; m), m = Σ w_i g(z_i), by an eighth-order method."""
    z, w = law.quadrature(nodes)

    def moments(z: Array) -> Array:
        return (w * z[:, -1]) @ model.profile(z[:, :-1])

    def drift(_: float, flat: Array) -> Array:
        z = flat.reshape(-1, 2)
        return -model.potential_gradient(z, moments(z)).ravel()

    z = solve_ivp(drift, (0.0, end), z.ravel(), method="DOP853", rtol=1e-9, atol=1e-11).y[:, -1].reshape(-1, 2) if end else z
    m = moments(z)
    assert model.data is not None
    origin = int(np.argmin(np.abs(model.data.x[:, 0])))
    return float(model.outer_energy(m)), float(m[origin]), float(w @ z[:, 1] ** 2)


def test_the_gaussian_mixture_reaches_the_reference_solution() -> None:
    law = Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))
    assert math.isclose(carried(mixture(), law, (8, 8), 0.0)[0], 0.0688682701, abs_tol=5e-11)
    energy, origin, second = carried(mixture(), law, (24, 16), 1.0)
    assert math.isclose(energy, 0.04468775, abs_tol=2e-8)  # the digits of the reference
    assert math.isclose(origin, -0.0632098, abs_tol=1e-7)
    assert math.isclose(second, 1.0241365, abs_tol=1e-7)


def test_the_circle_reaches_the_reference_solution() -> None:
    data = circle(64, target_function("circle_two_modes"))
    model = network("circle_rbf", data, kappa=2.0)
    law = Product((Uniform(0.0, 2 * math.pi, periodic=True), Normal(0.0, 0.7)))
    energy, origin, _ = carried(model, law, (64, 24), 2.0)
    assert math.isclose(energy, 0.0885831450, abs_tol=1e-8)
    assert math.isclose(origin, 0.077849816, abs_tol=1e-8)
