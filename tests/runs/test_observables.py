"""Observables: against distances and errors that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

import mvpde.runtime  # isort: skip  # noqa: F401 - loads the solver libraries before anything else does
from ot.sliced import get_random_projections

from mvpde.models.data import Data
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.runs.compare import embed, prediction_error, root_mean, sliced_wasserstein, squared_errors

X = np.array([[-1.0], [0.0], [2.0]])
WEIGHTS, TARGET = np.array([0.2, 0.3, 0.5]), np.array([1.0, -2.0, 0.5])
MODEL = network("tanh", Data(X, WEIGHTS, TARGET))
LINE = (None, None)


def uniform(points):
    return points, np.full(len(points), 1.0 / len(points))


# --- from moments ---------------------------------------------------------------------------------------------------------------


def test_loss_is_half_the_weighted_square_of_each_run():
    m = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [2.0, -2.0, 0.5]])
    np.testing.assert_allclose(MODEL.outer_energy(m), [0.0, 0.5 * (0.2 + 0.3 * 4 + 0.5 * 0.25), 0.5 * 0.2], atol=1e-15)


def test_prediction_error_is_relative_to_the_target():
    """f_A = (1 + ε)f, f_B = f: the error is ε; over runs the root of the mean square."""
    scaled = np.stack([(1.0 + e) * TARGET for e in (0.3, -0.4)])
    assert prediction_error(MODEL, scaled[:1], TARGET[None]) == pytest.approx(0.3)
    assert prediction_error(MODEL, scaled, TARGET[None]) == pytest.approx(np.sqrt((0.09 + 0.16) / 2))
    assert prediction_error(MODEL, TARGET[None], scaled) == pytest.approx(np.sqrt((0.09 + 0.16) / 2))


def test_prediction_error_has_the_scatter_of_its_runs_as_error():
    """Errors of equal size scatter nothing; squares 1 and 4 of two runs give s/(2e√2) with e² = 5/2, s² = 9/2."""
    equal = root_mean(squared_errors(MODEL, np.stack([1.1 * TARGET, 0.9 * TARGET]), TARGET[None]))[1]
    assert equal == pytest.approx(0.0, abs=1e-12)
    found = root_mean(squared_errors(MODEL, np.stack([2.0 * TARGET, 3.0 * TARGET]), TARGET[None]))[1]
    assert found == pytest.approx(np.sqrt(4.5) / (2.0 * np.sqrt(2.5) * np.sqrt(2.0)))
    assert np.isnan(root_mean(squared_errors(MODEL, TARGET[None], TARGET[None]))[1])


def test_prediction_error_weighs_by_the_measure():
    one = TARGET + np.array([0.0, 1.0, 0.0])
    assert prediction_error(MODEL, one[None], TARGET[None]) == pytest.approx(np.sqrt(0.3 / (WEIGHTS @ TARGET**2)))


def test_prediction_error_of_a_zero_target_is_absolute():
    model = network("tanh", Data(X, WEIGHTS, np.zeros(3)))
    assert prediction_error(model, np.full((1, 3), 0.1), np.zeros((1, 3))) == pytest.approx(0.1)


def test_prediction_error_needs_data():
    bare = MeanField(("z",), lambda y: y, lambda y, r: (y[:, 0], y), lambda m: m[..., 0], lambda m: m)
    with pytest.raises(ValueError, match="no data"):
        prediction_error(bare, np.zeros((1, 1)), np.zeros((1, 1)))


# --- sliced Wasserstein distance ------------------------------------------------------------------------------------------------


def mean_square_cosine(direction, projections, seed):
    theta = get_random_projections(len(direction), projections, seed)
    return np.mean((direction @ theta) ** 2)


def test_translation_is_the_mean_square_of_the_projected_shift():
    """W_2(θ·a, θ·(a + v)) = |θ·v| for every θ, whatever a and its weights."""
    rng = np.random.default_rng(0)
    points, weights, v = rng.normal(size=(500, 2)), rng.random(500), np.array([0.3, -1.1])
    found = sliced_wasserstein((points, weights), (points + v, weights), LINE, projections=32, seed=5)
    assert found == pytest.approx(np.sqrt(mean_square_cosine(v, 32, 5)), rel=1e-12)


def test_many_directions_average_to_the_sphere():
    """E(θ·v)² = |v|²/D; the mean over 4000 directions has relative standard error √(½)/√4000 for D = 2."""
    v = np.array([0.6, 0.8])
    origin = uniform(np.zeros((1, 2)))
    found = sliced_wasserstein(origin, uniform(v[None]), LINE, projections=4000) ** 2
    assert found == pytest.approx(0.5, rel=4 * np.sqrt(0.5 / 4000))


def test_shifted_and_scaled_gaussians():
    """W_2(N(0, I), N(v, s²I))² along θ is (θ·v)² + (s − 1)²; two quadratures of 40² nodes, not samples.

    Projected nodes stand for quantiles only up to their spacing, which leaves an error of the order of its square.
    """
    v, s = np.array([0.5, 0.2]), 1.7
    a = Product((Normal(0.0, 1.0),) * 2).quadrature((40, 40))
    b = Product((Normal(v[0], s), Normal(v[1], s))).quadrature((40, 40))
    found = sliced_wasserstein(a, b, LINE, seed=2)
    assert found == pytest.approx(np.sqrt(mean_square_cosine(v, 64, 2) + (s - 1.0) ** 2), rel=2e-3)


@pytest.mark.parametrize("n", [100, 1600])
def test_samples_approach_weighted_nodes_like_the_root_of_their_number(n):
    """On the line n samples of U[0, 1] have E W_2² = 1/(6n) exactly (variances of order statistics); 1000 nodes add 1e-7."""
    law = Product((Uniform(0.0, 1.0),))
    nodes, rng = law.quadrature([1000]), np.random.default_rng(1)
    squares = [sliced_wasserstein(uniform(law.sample(rng, n)), nodes, (None,), projections=1) ** 2 for _ in range(150)]
    assert abs(np.mean(squares) - 1.0 / (6.0 * n)) < 4.0 * np.std(squares, ddof=1) / np.sqrt(150)
    assert np.std(squares) / np.sqrt(150) < 0.1 / (6.0 * n)


def test_weights_count_and_points_without_weight_do_not():
    two = np.array([[0.0, 0.0], [1.0, 0.0]])
    found = sliced_wasserstein((two, np.array([3.0, 1.0])), (two[:1], np.ones(1)), LINE)  # a quarter of the mass moves by 1
    assert found == pytest.approx(np.sqrt(0.25 * mean_square_cosine(np.array([1.0, 0.0]), 64, 0)))
    far = np.array([[0.0, 0.0], [1.0, 0.0], [1e6, 0.0], [-1e6, 0.0]])
    assert sliced_wasserstein((far, np.array([3.0, 1.0, 0.0, -1e-15])), (two[:1], np.ones(1)), LINE) == pytest.approx(found)


def test_a_metric_on_examples():
    rng = np.random.default_rng(3)
    a, b, c = (uniform(rng.normal(k, 1.0 + k, size=(60, 2))) for k in range(3))
    assert sliced_wasserstein(a, a, LINE) == 0.0
    assert sliced_wasserstein(a, b, LINE) == pytest.approx(sliced_wasserstein(b, a, LINE))
    assert sliced_wasserstein(a, c, LINE) <= sliced_wasserstein(a, b, LINE) + sliced_wasserstein(b, c, LINE)


def test_a_turn_by_the_period_is_no_distance():
    rng = np.random.default_rng(4)
    z = np.column_stack([rng.uniform(0.0, 3.0, 200), rng.normal(size=200)])
    assert sliced_wasserstein(uniform(z), uniform(z + np.array([3.0, 0.0])), (3.0, None)) == pytest.approx(0.0, abs=1e-12)


def test_periodic_coordinates_are_measured_by_the_chord():
    """Opposite points of a circle of circumference L are L/π apart, neighbours as on the line."""
    z = embed(np.array([[0.0, 5.0], [1.5, 5.0], [1e-4, 5.0]]), (3.0, None))
    assert z.shape == (3, 3)
    assert np.linalg.norm(z[1] - z[0]) == pytest.approx(3.0 / np.pi)
    assert np.linalg.norm(z[2] - z[0]) == pytest.approx(1e-4, rel=1e-6)
    assert np.all(z[:, 2] == 5.0)
