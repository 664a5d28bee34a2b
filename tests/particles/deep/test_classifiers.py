"""Deep classifiers: their random start, the gradient, the training, and that runs know neither of each other nor of ranks."""

from __future__ import annotations

from typing import Any

from mvpde.runtime import MPI, ArgumentError  # isort: skip

import numpy as np
import pytest

from mvpde.particles.blocks import stream
from mvpde.particles.deep.classifiers import (
    ClassifierTraining,
    Layers,
    accuracies,
    backward,
    centred,
    descend,
    forward,
    random_layers,
)

RNG = np.random.default_rng(3)
SMALL = ClassifierTraining(width=12, weight_variance=1.5, bias_variance=0.05, steps=3, learning_rate=0.05, batch_size=8)
X = centred(RNG.normal(size=(40, 6)))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


@pytest.mark.serial
def test_the_gradient_is_that_of_the_mean_cross_entropy() -> None:
    """Against central differences, in double precision: of order h² and 1e-16/h."""
    layers = random_layers(SMALL, [6, 5, 4, 3], [stream(1, run, 0) for run in range(2)])
    layers = Layers([w.astype(float) for w in layers.weights], [b.astype(float) for b in layers.biases])  # type: ignore[misc]
    x, labels = np.stack([X[:7], X[7:14]]).astype(float), np.stack([LABELS[:7], LABELS[7:14]])

    def loss() -> np.ndarray:
        z = forward(layers, x)[-1]  # type: ignore[arg-type]
        chosen = np.take_along_axis(z, labels[..., None], -1)[..., 0]
        return np.mean(np.log(np.exp(z).sum(axis=-1)) - chosen, axis=1)

    slopes = backward(layers, forward(layers, x), labels)  # type: ignore[arg-type]
    for parts, gradients in ((layers.weights, slopes.weights), (layers.biases, slopes.biases)):
        for part, gradient in zip(parts, gradients, strict=True):
            for place in [(0, 0, 1), (1, part.shape[1] - 1, 0)]:
                differences = []
                for h in (1e-5, -1e-5):
                    part[place] += h
                    differences.append(loss()[place[0]])
                    part[place] -= h
                assert gradient[place] == pytest.approx((differences[0] - differences[1]) / 2e-5, abs=1e-9)


@pytest.mark.serial
def test_the_layers_have_the_variances_of_the_map() -> None:
    """q' = σ_w² E tanh(√q Z)² + σ_b² by quadrature; 20 networks of 200 units scatter by √(2/4000) = 2.2 %, four times allowed."""
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    wide = ClassifierTraining(width=200, weight_variance=1.5, bias_variance=0.05, steps=0, learning_rate=0.1)
    streams = [stream(2, run, 0) for run in range(20)]
    layers = random_layers(wide, [6, *[200] * 4, 2], streams)
    x = np.broadcast_to(X[:1], (20, 1, 6))
    values, q = forward(layers, x), 1.5 * float(np.mean(X[0] ** 2)) + 0.05
    for level in range(1, 5):
        assert np.mean(np.arctanh(values[level].astype(float)) ** 2) == pytest.approx(q, rel=4.0 * 0.022)
        q = 1.5 * float(weights @ np.tanh(np.sqrt(q) * z) ** 2 / weights.sum()) + 0.05


@pytest.mark.serial
def test_a_shallow_network_learns_and_one_without_steps_does_not() -> None:
    long = ClassifierTraining(width=20, weight_variance=1.5, bias_variance=0.05, steps=200, learning_rate=0.1, batch_size=8)
    none = ClassifierTraining(width=20, weight_variance=1.5, bias_variance=0.05, steps=0, learning_rate=0.1)
    assert accuracies(long, 2, X, LABELS, runs=3).min() > 0.9
    assert accuracies(none, 2, X, LABELS, runs=3).max() < 0.9


@pytest.mark.serial
def test_momentum_adds_up_gradients() -> None:
    """With the same gradient twice, W_2 = W_0 − η(∇ + (μ∇ + ∇))."""
    training = ClassifierTraining(**{**vars(SMALL), "momentum": 0.5, "learning_rate": 0.25})
    layers, slopes = (random_layers(training, [3, 2], [stream(seed, 0, 0)]) for seed in (5, 6))
    before = [part.copy() for part in layers.weights + layers.biases]
    velocity = Layers([np.zeros_like(w) for w in layers.weights], [np.zeros_like(b) for b in layers.biases])
    for _ in range(2):
        descend(layers, velocity, slopes, training)
    for start, part, slope in zip(before, layers.weights + layers.biases, slopes.weights + slopes.biases, strict=True):
        np.testing.assert_allclose(part, start - 0.25 * 2.5 * slope, rtol=1e-5)


@pytest.mark.ranks
def test_a_run_knows_neither_of_other_runs_nor_of_ranks(comm: MPI.Intracomm) -> None:
    alone = accuracies(SMALL, 3, X, LABELS, runs=5, seed=4)
    assert np.array_equal(accuracies(SMALL, 3, X, LABELS, runs=5, seed=4, comm=comm), alone)
    assert np.array_equal(accuracies(SMALL, 3, X, LABELS, runs=2, seed=4, comm=comm), alone[:2])


@pytest.mark.serial
def test_inputs_are_centred_and_scaled_together() -> None:
    x = centred(5.0 + 3.0 * RNG.normal(size=(50, 4)))
    assert np.abs(x.mean(axis=0)).max() < 1e-6
    assert np.mean(x**2) == pytest.approx(1.0, rel=1e-6)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"width": 0}, "width: must be at least 1"),
    ({"weight_variance": 0.0}, "weight_variance: must be positive"),
    ({"bias_variance": -0.1}, "bias_variance: must be 0 or positive"),
    ({"learning_rate": 0.0}, "learning_rate: must be positive"),
    ({"momentum": 1.0}, r"momentum: must lie in \[0, 1\)"),
    ({"steps": -1}, "steps: must be 0 or positive"),
]


@pytest.mark.serial
@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_arguments_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ClassifierTraining(**{**vars(SMALL), **changes})
    with pytest.raises(ArgumentError, match="depth: must be at least 1"):
        accuracies(SMALL, 0, X, LABELS, runs=1)
