"""Networks trained on the 3-spin energy: steps, single precision, and the law of their test error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mvpde.particles.spin_network
from at_hand.studies import compute_here, entries, write_study
from mvpde.models.mean_field import Array
from mvpde.models.spins import couplings, energy
from mvpde.particles.spin_network import (
    SPIN_UNITS,
    Training,
    fresh_samples,
    on_sphere,
    started,
    target_of,
    train,
)
from mvpde.studies.laws.limits.spin_error import SpinOptions, measured, training

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[2] / "cases"


def double_precision(plan: Training, x: Array, y: Array) -> Array:
    """hφ(x_p, y_i) by its definition, shape (P, n)."""
    if plan.unit == "gaussian":
        distances = ((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2)
        return plan.height * np.exp(-0.5 * plan.kappa / plan.dimension * distances)
    return plan.height / (1.0 + np.exp(-x @ y[:, :-1].T - y[:, -1]))


@pytest.mark.parametrize("unit", sorted(SPIN_UNITS))
def test_a_step_of_sgd_is_the_gradient_of_the_loss_of_its_batch(unit: str) -> None:
    """−n ∂/∂(c, y) of ½ mean r² over the batch, on the sphere its projection; against the formulas in double precision."""
    plan = Training(4, unit, 6, height=3.0, width=0.7, kappa=2.0, step=0.01)
    rng = np.random.default_rng(3)
    network, x = started(plan, rng), on_sphere(rng, 9, 4)
    target, put = rng.standard_normal(9, dtype=np.float32), SPIN_UNITS[unit].put

    def loss(y: Array, c: Array) -> float:
        return 0.5 * float(((double_precision(plan, x.astype(float), y) @ c / 6.0 - target) ** 2).mean())

    y, c, h = network.y.astype(float), network.c.astype(float), 1e-5
    assert network.predict(x) == pytest.approx(double_precision(plan, x.astype(float), y) @ c / 6.0, abs=1e-5)
    of_c, of_y = network.forces(x, target)
    numeric_c = [6.0 * (loss(y, c + h * e) - loss(y, c - h * e)) / (2.0 * h) for e in np.eye(6)]
    numeric_y = np.empty_like(y)
    for index in np.ndindex(*y.shape):
        shift = np.zeros_like(y)
        shift[index] = h
        numeric_y[index] = 6.0 * (loss(put(y + shift), c) - loss(put(y - shift), c)) / (2.0 * h)
    np.testing.assert_allclose(of_c, numeric_c, atol=1e-5)
    np.testing.assert_allclose(c[:, None] * of_y, numeric_y, atol=1e-5)
    after = network.after_step(x, target)
    np.testing.assert_allclose(after.c, c - 0.01 * np.array(numeric_c), atol=1e-6)
    np.testing.assert_allclose(after.y, put(y - 0.01 * numeric_y), atol=1e-6)


def test_pieces_of_a_batch_make_one_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Training(5, "sigmoid", 32, height=5.0, steps=0, quench_steps=0)
    rng = np.random.default_rng(0)
    network, x = started(plan, rng), on_sphere(rng, 301, 5)
    whole = network.forces(x, target_of(plan, x))
    monkeypatch.setattr(mvpde.particles.spin_network, "ROWS", 64)
    for one, other in zip(network.forces(x, target_of(plan, x)), whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6 * np.abs(other).max())


@pytest.mark.parametrize("dimension", [2, 5, 25])
def test_the_energy_in_single_precision_is_the_one_of_the_form(dimension: int) -> None:
    """Also of a number of samples that is no multiple of those in work at once."""
    x = on_sphere(np.random.default_rng(1), 101, dimension)
    plan = Training(dimension, "gaussian", 1, couplings=7)
    assert target_of(plan, x) == pytest.approx(energy(couplings(dimension, 7), x.astype(float)), abs=3e-5)


@pytest.mark.parametrize("unit", ["gaussian", "sigmoid"])
def test_single_precision_does_not_change_an_error(unit: str) -> None:
    """The same training in double precision throughout has the same test error to 1 % of the spread between trainings."""
    options = SpinOptions(unit=unit, units=48, height=60.0 if unit == "gaussian" else 5.0, step=0.03, steps=300, quench_steps=0)
    plan = training(options, 0)
    x, target = fresh_samples(plan)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(plan.seed, spawn_key=(plan.dimension, plan.units))))
    network, a = started(plan, rng), couplings(plan.dimension, 0)
    y, c = network.y.astype(float), network.c.astype(float)
    for _ in range(plan.steps):
        batch = on_sphere(rng, plan.batch, plan.dimension).astype(float)
        values = double_precision(plan, batch, y)
        r = (values @ c / plan.units - energy(a, batch)) / plan.batch
        if unit == "gaussian":
            slope = plan.kappa / plan.dimension * (values * r[:, None]).T @ batch
            slope -= y * (slope * y).sum(axis=1, keepdims=True) / plan.dimension
        else:
            slope = (values * (1.0 - values / plan.height) * r[:, None]).T @ np.column_stack([batch, np.ones(len(batch))])
        y, c = SPIN_UNITS[unit].put(y - plan.step * c[:, None] * slope), c - plan.step * (r @ values)
    double = double_precision(plan, x.astype(float), y) @ c / plan.units
    found = [double, *(train(replace(plan, seed=seed)).predict(x) for seed in range(4))]
    error, *singles = (float(((f - target) ** 2).mean() / (target**2).mean()) for f in found)
    assert abs(singles[0] - error) < 0.01 * np.std(singles, ddof=1)


def test_error_is_bias_and_fluctuation() -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal(4000)
    predictions = target + 0.3 + 0.5 * rng.standard_normal((400, 4000))
    found, scale = measured(predictions, target), float((target**2).mean())
    assert found.bias == pytest.approx(0.09 / scale, rel=0.05)
    assert found.fluctuation == pytest.approx(0.25 / scale, rel=0.01)


def test_two_trainings_tell_no_spread_of_their_variance() -> None:
    target = np.ones(50)
    predictions = target + np.random.default_rng(1).standard_normal((3, 50))
    assert measured(predictions[:2], target).fluctuation_standard_error is None
    assert (measured(predictions, target).fluctuation_standard_error or 0.0) > 0.0


def test_trainings_are_reproducible_and_learn() -> None:
    options = SpinOptions(units=64, height=100.0, step=0.03, steps=200, quench_steps=20)
    x, target = fresh_samples(training(options, 0))
    found = [train(training(options, seed)).predict(x) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert ((found[0] - target) ** 2).mean() < 0.05 * (target**2).mean()


STUDY = {
    "base": str(CASES / "three_spin_circle.toml"),
    "task": "spin_error",
    "set": {
        "options.height": 100.0,
        "options.step": 0.03,
        "options.steps": 700,
        "options.quench_steps": 30,
        "options.trainings": 4,
    },
    "vary": {"options.units": [32, 64, 128]},
}


@pytest.mark.parametrize("broken", [False, True])
def test_the_law_in_small_and_with_a_wrong_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """Units whose y does not follow its force cannot fit the target: what is left is bias."""
    if broken:
        monkeypatch.setattr(mvpde.particles.spin_network, "drift_factor", lambda c: -c[:, None])
    compute_here(write_study(tmp_path, **STUDY, measure={"kind": "spin_error", "tolerance": 0.3}), tmp_path / "out")
    verdict = entries(tmp_path / "out")[0]
    assert (verdict["holds"] == "holds") is not broken
