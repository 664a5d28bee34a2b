"""Runs of SGD: exact moments where the loss is quadratic, stationary identities, batches, and that no bit depends on the
ranks.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from mvpde.runtime import MPI, CaseError, InvariantError  # isort: skip

import numpy as np
import pytest

from mvpde.cases.file import load
from mvpde.cases.problem import problem as problem_of
from mvpde.models import data
from mvpde.models.laws import Normal, Product
from mvpde.models.sgd_network import sgd
from mvpde.particles.blocks import BLOCK
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.sgd_runs import SgdRuns, without_replacement
from mvpde.runs.run import run

# Constructors take all ranks unless they are told.
pytestmark = pytest.mark.usefixtures("comm")

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
COPPER = Path(__file__).parents[2] / "cases" / "data" / "copper.csv"
X, Y = np.array([0.6, 0.8, 1.0, 1.2, 1.4, 0.9]), np.array([3.2, 4.4, 4.8, 6.3, 6.7, 4.1])
LAW = Product((Normal(5.0, 0.2),))
STANDARD_ERRORS = 4.5  # each comparison fails once in 10⁵ seeds


def line(x=X, y=Y, **options):
    """f = wx for w, x > 0 (a ReLU that is always on): ℓ_s = ½(wx_s − y_s)², and everything is known."""
    return sgd("weight", data.points(x, y), unit="relu", **({"learning_rate": 0.2, "batch_size": 1} | options))


def neuron(**options):
    """v tanh(wx) on the expansion of copper, with weight decay: a stationary law well inside one basin."""
    table = data.csv(COPPER, ["temperature"], "expansion", standardise=True)
    return sgd("neuron", table, **({"learning_rate": 0.4, "batch_size": 1, "weight_decay": 0.1} | options))


NEURON_LAW = Product((Normal(0.8, 0.15), Normal(1.1, 0.2)))


def exact_moments(problem, steps: int) -> tuple[float, float]:
    """E W_k and E W_k² for `line` with W_0 ~ N(5, 0.2²): W' = PW + Q, with (P, Q) averaged over all batches."""
    size, batch = len(problem.x), problem.batch_size
    draw = itertools.product(range(size), repeat=batch) if problem.replacement else itertools.combinations(range(size), batch)
    chosen = np.array(list(draw))
    p = 1.0 - problem.learning_rate * (np.mean(problem.x[chosen] ** 2, axis=1) + problem.weight_decay)
    q = problem.learning_rate * np.mean(problem.x[chosen] * problem.y[chosen], axis=1)
    first, second = 5.0, 25.04
    for _ in range(steps):
        second = np.mean(p**2) * second + 2.0 * np.mean(p * q) * first + np.mean(q**2)
        first = np.mean(p) * first + np.mean(q)
    return first, second


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_moments_of_linear_regression_are_exact(batch, replacement):
    problem = line(batch_size=batch, replacement=replacement, weight_decay=0.05)
    runs = SgdRuns(problem, LAW, runs=20_000, seed=2, comm=WORLD)
    for steps in (3, 25):
        runs.advance(steps * 0.2)
        for power, expected in zip((1, 2), exact_moments(problem, steps), strict=True):
            mean, error = runs.estimate(lambda w, power=power: w[:, 0] ** power)
            assert abs(mean - expected) < STANDARD_ERRORS * error


def test_the_stationary_variance_with_equal_inputs_is_that_of_a_first_order_autoregression():
    """x = 1: W' = (1 − η)W + ηȳ_B, so Var W = η²Var(ȳ_B)/(1 − (1 − η)²) = η/(2 − η) · Var y/B · (S − B)/(S − 1)."""
    problem = line(x=np.ones(6), batch_size=4, replacement=False, learning_rate=0.5)
    runs = SgdRuns(problem, LAW, runs=20_000, comm=WORLD)
    runs.advance(20.0)
    expected = 0.5 / 1.5 * np.var(Y) / 4 * (2 / 5)
    mean, _ = runs.estimate(lambda w: w[:, 0])
    variance, error = runs.estimate(lambda w: (w[:, 0] - mean) ** 2)
    assert mean == pytest.approx(Y.mean(), abs=STANDARD_ERRORS * math.sqrt(expected / 20_000))
    assert abs(variance - expected) < STANDARD_ERRORS * error


@pytest.mark.parametrize("order", [1, 2])
def test_paths_of_the_diffusion_have_the_moments_of_their_recursion(order):
    """x = 1: Euler–Maruyama in steps h on dW = −κ(W − ȳ) dt + √(η Var y/B) dB, κ = 1, or 1 + ½η at order 2."""
    problem = line(x=np.ones(6), batch_size=2)
    runs = SgdRuns(problem, LAW, runs=20_000, dynamics="diffusion", order=order, step=0.06, comm=WORLD)
    runs.advance(2.0)
    count = math.ceil(2.0 / 0.06)
    h, kappa = 2.0 / count, 1.0 + 0.1 * (order - 1)
    mean, variance = 5.0 - Y.mean(), 0.04
    for _ in range(count):
        mean, variance = (1 - kappa * h) * mean, (1 - kappa * h) ** 2 * variance + h * 0.2 * np.var(Y) / 2
    found, error = runs.estimate(lambda w: w[:, 0] - Y.mean())
    assert abs(found - mean) < STANDARD_ERRORS * error
    found, error = runs.estimate(lambda w: (w[:, 0] - Y.mean() - mean) ** 2)
    assert abs(found - variance) < STANDARD_ERRORS * error
    assert runs.statistics()["steps"] == count


@pytest.mark.parametrize(("batch", "replacement"), [(1, True), (3, False)])
def test_the_identity_of_the_stationary_chain_is_exact(batch, replacement):
    """⟨W·∇L⟩ = ½η⟨Tr C̃⟩, C̃ = E[∇L_B∇L_Bᵀ] = Σ + ∇L∇Lᵀ (Yaida, arXiv:1810.00004). For the diffusion the last part is absent, which
    the runs can tell at B = 1.
    """
    problem = neuron(batch_size=batch, replacement=replacement)
    runs = SgdRuns(problem, NEURON_LAW, runs=40_000, comm=WORLD)
    runs.advance(60.0)

    def work(w):
        return np.sum(w * problem.gradient(w), axis=1)

    def diffusion(w):
        return np.trace(problem.diffusion(w), axis1=1, axis2=2)

    def own_noise(w):
        return 0.5 * problem.learning_rate * np.sum(problem.gradient(w) ** 2, axis=1)

    residual, error = runs.estimate(lambda w: work(w) - diffusion(w) - own_noise(w))
    size = runs.estimate(diffusion)[0]
    assert abs(residual) < STANDARD_ERRORS * error
    if batch == 1:
        assert error < 0.05 * size
        assert runs.estimate(own_noise)[0] > 3.0 * error


def test_batches_without_replacement_are_uniform_subsets():
    """Pearson's χ² over the 10 subsets of 2 of 5, and over the 10 of 3 of 5: 9 degrees of freedom, P(χ² > 33.7) = 10⁻⁴."""
    for batch in (2, 3):
        drawn = np.sort(without_replacement(np.random.default_rng(1), 20_000, batch, 5), axis=1)
        assert (np.diff(drawn, axis=1) > 0).all() and drawn.min() == 0 and drawn.max() == 4
        counts = np.unique(drawn @ 5 ** np.arange(batch), return_counts=True)[1]
        assert len(counts) == 10
        assert np.sum((counts - 2000.0) ** 2 / 2000.0) < 33.7
    whole = without_replacement(np.random.default_rng(1), 50, 5, 5)
    np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(np.arange(5), (50, 1)))


# --- time, ranks, checkpoints ---------------------------------------------------------------------------------------------------


def test_time_is_eta_times_the_number_of_steps():
    """round(t/η) steps, however many output times there are: no drift when t is no multiple of η."""
    runs = SgdRuns(line(learning_rate=0.3), LAW, runs=10, comm=WORLD)
    for t in (0.4, 0.8, 1.2, 1.6, 2.0):
        runs.advance(t)
        assert runs.statistics()["steps"] == round(t / 0.3)
    assert runs.time == 2.0
    with pytest.raises(ValueError, match="cannot go back"):
        runs.advance(1.0)


@pytest.mark.ranks
@pytest.mark.parametrize("dynamics", ["sgd", "diffusion"])
def test_the_bits_do_not_depend_on_the_ranks(dynamics):
    alone, together = (
        SgdRuns(neuron(batch_size=3), NEURON_LAW, runs=2 * BLOCK + 77, seed=9, dynamics=dynamics, comm=comm)
        for comm in (SELF, WORLD)
    )
    for runs in (alone, together):
        runs.advance(0.4)  # one step of SGD, four of the diffusion
        runs.advance(0.8 if dynamics == "sgd" else 0.45)
    np.testing.assert_array_equal(alone.moments(), together.moments())
    assert alone.estimate(lambda w: w[:, 1]) == together.estimate(lambda w: w[:, 1])
    cloud = together.cloud()
    assert (cloud is None) == (WORLD.rank > 0)
    if cloud is not None:
        np.testing.assert_array_equal(cloud[0], alone.cloud()[0])
        assert cloud[1].sum() == pytest.approx(1.0)


@pytest.mark.ranks
def test_a_restored_run_continues_bit_for_bit():
    def fresh(seed):
        return SgdRuns(neuron(batch_size=2), NEURON_LAW, runs=BLOCK + 5, seed=seed, comm=WORLD)

    whole, other = fresh(3), fresh(4)
    whole.advance(0.8)
    other.restore(whole.state())
    whole.advance(2.0)
    other.advance(2.0)
    np.testing.assert_array_equal(whole.moments(), other.moments())
    assert other.statistics()["steps"] == 5
    with pytest.raises(ValueError, match="checkpoint has"):
        SgdRuns(neuron(), NEURON_LAW, runs=3, comm=WORLD).restore(whole.state())


def test_moments_are_the_mean_loss():
    runs = SgdRuns(neuron(), NEURON_LAW, runs=5000, comm=WORLD)
    mean, error = runs.estimate(runs.problem.loss)
    assert runs.moments().shape == (1, 1)
    assert runs.moments()[0, 0] == pytest.approx(mean, rel=1e-14)
    assert runs.loss_standard_error() == error


# --- errors ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_runs_that_blow_up_stop_all_ranks_and_keep_the_last_good_state():
    """Weight decay λ with η(λ + x²) > 2: every step multiplies a large |W| by more than 3."""
    runs = SgdRuns(line(weight_decay=20.0), LAW, runs=10, comm=WORLD)
    with pytest.raises(InvariantError, match=r"10 of 10 runs became infinite .*learning_rate below 0\.2"):
        runs.advance(200.0)
    assert runs.time == 0.0
    assert np.isfinite(runs.moments()).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": 0}, "runs: must"),
        ({"seed": -1}, "seed: must"),
        ({"dynamics": "adam"}, "sgd, diffusion"),
        ({"order": 3}, "order is 3"),
        ({"step": 0.1}, "step: is 0.1, but a step of SGD takes the time learning_rate = 0.4"),
        ({"step": -0.1, "dynamics": "diffusion"}, "step: is -0.1"),
        ({"law": LAW}, "1 coordinates, the model has 2"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    arguments = {"law": NEURON_LAW, "runs": 10, "comm": WORLD} | wrong
    with pytest.raises(ValueError, match=message):
        SgdRuns(neuron(), arguments.pop("law"), **arguments)


# --- in a case ------------------------------------------------------------------------------------------------------------------

CASES = COPPER.parent.parent


@pytest.mark.ranks
def test_a_case_compares_the_density_with_the_runs(shared_tmp_path):
    """The difference of the two is sampling error (4.5 standard errors) and the weak error of the diffusion, which at η = 0.05
    and t = 1 is below 2e-3 in every test function: half of what the exact chain gives at η = 0.1, and the mesh error less.
    """
    settings = {
        "model.learning_rate": 0.05,
        "domain.cells": [48, 48],
        "sgd.runs": 20_000,
        "time.end": 1.0,
        "time.outputs": [0.0, 1.0],
        "output.pictures": WORLD.size == 1,
    }
    summary = run(CASES / "sgd_neuron.toml", set=settings, out=shared_tmp_path / "neuron", comm=WORLD).summary
    doubted = {warning["code"].split(".")[0] for warning in summary["warnings"]}
    assert doubted <= {"stationary"}, summary["warnings"]  # the stationary law is narrow for 48 cells; nothing here is about it
    (compared,) = summary["comparison"].values()
    assert compared["agrees"]["verdict"] != "differ"
    assert summary["sgd"]["steps"] == 20
    assert set(summary["weak_errors"]) == {"w", "v", "w*w", "w*v", "v*v", "loss"}
    for found in summary["weak_errors"].values():
        for mean, error, density in zip(found["sgd"], found["standard_error"], found["density"], strict=True):
            assert 0.0 < error < 2e-3
            assert abs(mean - density) < 4.5 * error + 2e-3
    assert summary["density"]["mass_defect"] <= 1e-12 and summary["density"]["minimum"] >= -1e-14


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        ("sgd_neuron", {"model.batch_size": 237, "model.replacement": False}, "batch_size is 237, but the data set has 236"),
        ("sgd_neuron", {"ensemble.particles": 10}, r'\[ensemble\] scheme: "heun" needs a constant diffusion.* scheme = "euler"'),
        ("sgd_neuron", {"model.learning_rate": 0.0}, r"\[model\] learning_rate"),
        ("ornstein_uhlenbeck", {"sgd.runs": 10}, r'\[sgd\]: .* kind = "sgd_network"'),
        (
            "ornstein_uhlenbeck",
            {"model.diffusion_matrix": [[1.0, 2.0], [2.0, 1.0]]},
            r"\[model\]: diffusion_matrix: .*eigenvalue -1",
        ),
        ("ornstein_uhlenbeck", {"model.diffusion_matrix": [[1.0, 0.5], [0.0, 1.0]]}, r"diffusion_matrix: must be symmetric"),
        ("ornstein_uhlenbeck", {"model.diffusion_matrix": [[1.0, 0.0]]}, r"diffusion_matrix: must be a square matrix"),
        ("ornstein_uhlenbeck", {"model.temperature": 1.0}, "exactly one of diffusion_matrix, diffusion, temperature"),
        ("double_well", {"model.potential": "sign(x)"}, "jumps"),
    ],
)
def test_wrong_cases_are_refused_before_anything_is_computed(case, settings, message):
    with pytest.raises(CaseError, match=message):
        problem_of(load(CASES / f"{case}.toml", settings))


@pytest.mark.parametrize("name", ["ornstein_uhlenbeck", "double_well", "sgd_neuron", "sgd_neuron_bias"])
def test_the_shipped_cases_describe_a_problem(name):
    setting = problem_of(load(CASES / f"{name}.toml"))
    assert setting.model.gradient_flow == (name == "double_well")
    assert not setting.model.interacting


def test_measures_refuse_models_that_they_cannot_follow():
    model = SgdRuns(neuron(), NEURON_LAW, runs=1, comm=WORLD).model
    with pytest.raises(ValueError, match='"heun" needs a constant diffusion'):
        Ensemble(model, NEURON_LAW, particles=10, comm=WORLD)
    with pytest.raises(ValueError, match="characteristics follow a flow without noise"):
        Characteristics(model, NEURON_LAW, nodes=(3, 3), comm=WORLD)
