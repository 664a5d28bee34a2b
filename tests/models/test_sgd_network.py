"""Small networks: gradients, the covariance of minibatch gradients, drift and diffusion of SGD."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mvpde.models import data
from mvpde.models.deep.activations import SMOOTH
from mvpde.models.losses import SAMPLE_LOSSES
from mvpde.models.sgd_network import IN_WORK, NETWORKS, diffusion_model, sgd

SAMPLES = 7
X = np.array([-1.3, -0.6, -0.2, 0.1, 0.5, 0.9, 1.7])
TARGETS = {"least_squares": np.array([-1.0, -0.9, 0.2, -0.3, 0.4, 1.1, 0.8]), "logistic": np.array([-1.0, -1, 1, -1, 1, 1, 1])}
NO_MOMENTS = np.zeros(1)
EVERY = list(itertools.product(NETWORKS, SMOOTH, SAMPLE_LOSSES))


def problem(network="neuron", unit="tanh", loss="least_squares", **options):
    settings = {"learning_rate": 0.1, "batch_size": 2, "weight_decay": 0.07} | options
    return sgd(network, data.points(X, TARGETS[loss]), unit=unit, loss=loss, **settings)


def points(dimension: int, count: int = 9) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, dimension))


def differences(f, w, h=1e-5):
    """Central differences of f: (N, D) → (N, ...) in every coordinate, stacked as a last axis: errors of order h² and 1e-16/h."""
    shifts = h * np.eye(w.shape[1])
    return np.stack([(f(w + shift) - f(w - shift)) / (2.0 * h) for shift in shifts], axis=-1)


@pytest.mark.parametrize(("network", "unit", "loss"), EVERY)
def test_gradient_and_hessian_are_those_of_the_loss(network, unit, loss):
    one = problem(network, unit, loss)
    w = points(one.dimension)
    np.testing.assert_allclose(one.gradient(w), differences(one.loss, w), atol=2e-9)
    np.testing.assert_allclose(one.hessian(w), differences(one.gradient, w), atol=2e-9)


@pytest.mark.parametrize(("network", "unit", "loss"), EVERY)
def test_gradients_of_samples_average_to_the_gradient(network, unit, loss):
    one = problem(network, unit, loss)
    w = points(one.dimension)
    of_samples = one.per_sample_gradient(w)
    assert of_samples.shape == (len(w), SAMPLES, one.dimension)
    np.testing.assert_allclose(of_samples.mean(axis=1), one.gradient(w), atol=1e-14)
    samples = np.random.default_rng(0).integers(0, SAMPLES, (len(w), 4))
    chosen = np.take_along_axis(of_samples, samples[:, :, None], axis=1).mean(axis=1)
    np.testing.assert_allclose(one.batch_gradient(w, samples), chosen, atol=1e-14)


def test_the_predictions_are_the_formulas():
    w = np.array([[0.7, -0.4, 1.2]])
    formulas = {
        "weight": np.tanh(0.7 * X),
        "pair": np.tanh(0.7 * X) + np.tanh(-0.4 * X),
        "neuron": -0.4 * np.tanh(0.7 * X),
        "neuron_bias": 1.2 * np.tanh(0.7 * X - 0.4),
    }
    assert formulas.keys() == NETWORKS.keys()
    for network, expected in formulas.items():
        one = problem(network, weight_decay=0.0)
        here = w[:, : one.dimension]
        np.testing.assert_allclose(one.prediction(here, X)[0], expected, rtol=1e-14)
        np.testing.assert_allclose(one.loss(here), np.mean(0.5 * (expected - TARGETS["least_squares"]) ** 2), rtol=1e-14)
    assert problem("neuron_bias", "relu").prediction(w, X)[0] == pytest.approx(1.2 * np.maximum(0.7 * X - 0.4, 0.0))
    assert problem("weight", "sigmoid").prediction(w[:, :1], X)[0] == pytest.approx(1.0 / (1.0 + np.exp(-0.7 * X)))


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("loss", SAMPLE_LOSSES)
def test_the_diffusion_is_half_eta_times_the_covariance_over_all_batches(loss, batch, replacement):
    """Σ by brute force: the gradient of every ordered batch there is, equally likely. A = ½ηΣ."""
    one = problem("neuron_bias", loss=loss, batch_size=batch, replacement=replacement)
    draw = itertools.product(range(SAMPLES), repeat=batch) if replacement else itertools.permutations(range(SAMPLES), batch)
    w = points(3, 4)
    of_batches = np.stack([one.per_sample_gradient(w)[:, list(b)].mean(axis=1) for b in draw])
    centred = of_batches - one.gradient(w)
    np.testing.assert_allclose(of_batches.mean(axis=0), one.gradient(w), atol=1e-13)
    sigma = np.einsum("bna,bnc->nac", centred, centred) / len(of_batches)
    np.testing.assert_allclose(one.diffusion(w), 0.05 * sigma, rtol=1e-11, atol=1e-15)


def test_the_whole_data_set_without_replacement_has_no_noise():
    w = points(2)
    assert np.abs(problem(batch_size=SAMPLES, replacement=False).diffusion(w)).max() == 0.0
    assert np.abs(problem(batch_size=SAMPLES, replacement=True).diffusion(w)).max() > 1e-4


def test_equal_noise_scales_have_equal_diffusion_and_weight_decay_has_none():
    w = points(2)
    np.testing.assert_allclose(
        problem(learning_rate=0.1, batch_size=2).diffusion(w), problem(learning_rate=0.3, batch_size=6).diffusion(w), rtol=1e-13
    )
    bare, decayed = problem(weight_decay=0.0), problem(weight_decay=0.5)
    np.testing.assert_array_equal(bare.covariance(w), decayed.covariance(w))
    np.testing.assert_allclose(decayed.gradient(w) - bare.gradient(w), 0.5 * w, rtol=1e-12)


def test_the_covariance_is_symmetric_positive_and_the_same_in_blocks():
    """More points times samples than are evaluated at once; and where all samples are alike C is 0."""
    one = problem("neuron_bias")
    w = points(3, IN_WORK // SAMPLES + 100)
    c = one.covariance(w)
    np.testing.assert_array_equal(c, c.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(c).min() >= -1e-15 * np.abs(c).max()
    np.testing.assert_allclose(c[-50:], one.covariance(w[-50:]), rtol=1e-13, atol=1e-16)
    alike = replace(one, x=np.full(5, 0.7), y=np.full(5, 0.2))
    assert np.abs(alike.covariance(points(3))).max() < 1e-30


@pytest.mark.parametrize("network", NETWORKS)
def test_the_modified_drift_is_a_gradient(network):
    """−∇(L + ¼η|∇L|²): η = 0.1, so the second part is 0.025 |∇L|²."""
    one = problem(network)
    w = points(one.dimension)

    def modified(w):
        return one.loss(w) + 0.025 * np.sum(one.gradient(w) ** 2, axis=1)

    np.testing.assert_allclose(one.drift(w, order=2), -differences(modified, w), atol=2e-9)
    np.testing.assert_array_equal(one.drift(w), -one.gradient(w))


@pytest.mark.parametrize("order", [1, 2])
def test_the_model_has_the_loss_as_potential_and_as_moment(order):
    one = problem()
    model = diffusion_model(one, order)
    w = points(2)
    assert model.coordinates == ("w", "v") and not model.gradient_flow
    np.testing.assert_allclose(model.potential(w, NO_MOMENTS), one.loss(w), rtol=1e-14)
    np.testing.assert_allclose(model.potential_gradient(w, NO_MOMENTS), one.gradient(w), rtol=1e-14)
    np.testing.assert_allclose(model.drift(w, NO_MOMENTS), one.drift(w, order), rtol=1e-14)
    np.testing.assert_allclose(model.diffusion(w, NO_MOMENTS), one.diffusion(w), rtol=1e-14)
    assert model.outer_energy(np.array([[3.0]])) == [3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8, "replacement": False}, "batch_size is 8, but the data set has 7 samples and replacement is false"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"network": "neurone"}, "did you mean 'neuron'"),
        ({"unit": "tan"}, "did you mean 'tanh'"),
        ({"loss": "squares"}, "did you mean 'least_squares'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options, message):
    settings = {"network": "neuron", "learning_rate": 0.1, "batch_size": 2} | options
    with pytest.raises(ValueError, match=message):
        sgd(data=data.points(X, TARGETS["least_squares"]), **settings)


def test_data_that_do_not_fit_are_refused():
    settings = {"learning_rate": 0.1, "batch_size": 2}
    with pytest.raises(ValueError, match="one input, the data have 2"):
        sgd("neuron", data.points(np.ones((3, 2)), np.ones(3)), **settings)
    with pytest.raises(ValueError, match="same weight"):
        sgd("neuron", data.points([0.0, 1.0], [0.0, 1.0], [0.3, 0.7]), **settings)
    with pytest.raises(ValueError, match=r"targets \+1 or -1"):
        sgd("neuron", data.points([0.0, 1.0], [0.0, 1.0]), loss="logistic", **settings)
    with pytest.raises(ValueError, match="order is 3"):
        diffusion_model(problem(), 3)


# --- points held out ------------------------------------------------------------------------------------------------------------


def test_train_and_test_loss_are_the_means_of_their_points():
    """L is the training loss and the weight decay; what is held out is in no gradient."""
    parts = data.split(data.points(X, TARGETS["least_squares"]), 0.4, seed=2)
    one = sgd("neuron", parts, learning_rate=0.1, batch_size=1, weight_decay=0.07)
    w = points(2)
    for part, losses in ((parts, one.train_loss(w)), (parts.test, one.test_loss(w))):
        f = w[:, 1:] * np.tanh(w[:, :1] * part.x[:, 0])
        np.testing.assert_allclose(losses, 0.5 * np.mean((f - part.target) ** 2, axis=1), rtol=1e-13)
    np.testing.assert_allclose(one.loss(w), one.train_loss(w) + 0.035 * np.sum(w**2, axis=1), rtol=1e-13)
    np.testing.assert_allclose(one.gradient(w), differences(one.loss, w), atol=2e-9)
    assert set(diffusion_model(one).observables) == {"train_loss", "test_loss"}


def test_without_points_held_out_there_is_no_test_loss():
    assert not diffusion_model(problem()).observables
    with pytest.raises(ValueError, match="no points are held out"):
        problem().test_loss(points(2))
