"""What networks say of their steps and nodes: errors within a factor of two, steps that are refused, weights that run away."""

from __future__ import annotations

from dataclasses import replace

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip

import numpy as np
import pytest

from at_hand.deep import S3, S4S, S5, Reference
from mvpde.models.data import points
from mvpde.models.deep.network import DeepNetwork, repeated
from mvpde.models.deep.resnet import ResidualLimit, gauss
from mvpde.models.deep.sweeps import labels
from mvpde.models.deep.units import DeepLayer
from mvpde.models.isotropic_gaussians import Classification, PiecewiseLinear, isotropic_gaussians
from mvpde.models.laws import Chi, Normal, Product, Uniform
from mvpde.particles.accuracy.growth import Extent
from mvpde.particles.accuracy.nodes import PARTS, fewer
from mvpde.particles.accuracy.twins import smaller
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.network import Network
from mvpde.particles.deep.residual_runs import ResidualRuns
from mvpde.particles.deep.resnet import ResidualCharacteristics
from mvpde.particles.deep.steps import start_of
from mvpde.particles.one_pass import OnePassSgd

SELF = MPI.COMM_SELF
pytestmark = pytest.mark.serial
WARM = replace(S4S.network, temperature=0.5, base={"w": Normal(1.0, 0.5)})
X = np.array([-1.5, -0.7, 0.3, 0.9, 1.6])
RESIDUAL = ResidualLimit(DeepLayer("tanh", ("v", "w"), {"c": 0.3}), points(X, 2.0 * np.tanh(1.5 * X) + 0.3), "least_squares")
UNITS = Product((Uniform(-1.0, 1.5), Uniform(0.3, 1.7)))


def wide(case: Reference, network: DeepNetwork | None = None, **keys) -> Network:
    network = network or case.network
    return Network(network, start_of(network, case.laws), **{"width": 40, "runs": 3, "seed": 3, "comm": SELF, **keys})


def residual(**keys) -> ResidualRuns:
    return ResidualRuns(RESIDUAL, UNITS, **{"layers": 6, "width": 100, "runs": 2, "seed": 2, "comm": SELF, **keys})


def norm(measure, f: np.ndarray) -> float:
    data = measure.model.data
    return float(np.sqrt(data.weights @ f**2 / (data.weights @ data.target**2)))


TRIES = [
    (lambda **keys: wide(S3, **keys), "descent", 0.25, 2.0),
    (lambda **keys: wide(S5, **keys), "descent", 0.1, 1.0),
    (lambda **keys: wide(S5, **keys), "heun", 0.2, 1.0),
    (residual, "descent", 0.25, 1.0),
    (residual, "heun", 0.25, 1.0),
]


def test_the_error_of_steps_is_within_a_factor_of_two() -> None:
    """Losses and predictions against steps of a sixteenth: ten numbers."""
    ratios = []
    for made, mode, step, end in TRIES:
        runs, fine = made(mode=mode, step=step), made(mode=mode, step=step / 16, companion=False)
        for measure in (runs, fine):
            measure.advance(end)
        told = runs.numbers()
        ratios.append(told["loss_step_error"] / abs(runs.losses().mean() - fine.losses().mean()))
        ratios.append(told["prediction_step_error"] / norm(runs, (runs.moments() - fine.moments()).mean(axis=0)))
    assert np.mean([0.5 <= ratio <= 2.0 for ratio in ratios]) >= 0.9, ratios


def test_noise_of_whole_steps_is_that_of_their_halves() -> None:
    """Langevin steps of confined weights: an error of 1 % in the law, at most; uncoupled twins differ by a twelfth."""
    runs = wide(S4S, WARM, mode="langevin", step=0.1, width=24, runs=1)
    runs.advance(2.0)
    assert 1e-6 < runs.numbers()["law_step_error"] < 0.02


def test_samples_that_steps_see_widen_the_law_of_one_pass() -> None:
    """s = 10⁻⁴, d = 40: the mean radius is off by .0156 ± .001 at t = .2, by runs with a step of an eighth."""
    problem = Classification(40, 0.8, PiecewiseLinear(-2.5, (0.5, 1.5), (10.0, -10.0)))
    model = isotropic_gaussians(40, 0.8, activation=problem.activation)
    keys = {"particles": 64, "runs": 8, "seed": 1, "comm": SELF}
    runs = OnePassSgd(problem, model, Product((Chi(0.8, 40),)), step=1e-4, **keys)
    fine = OnePassSgd(problem, model, Product((Chi(0.8, 40),)), step=1.25e-5, companion=False, **keys)
    for measure in (runs, fine):
        measure.advance(0.2)
    told = runs.numbers()["mean_radius_step_error"]
    true = float((runs.expectation(lambda r: r[:, 0]) - fine.expectation(lambda r: r[:, 0])).mean()) * 8.0 / 7.0
    assert 0.5 < told / true < 2.0
    with pytest.raises(ArgumentError, match="choose at most"):
        OnePassSgd(problem, model, Product((Chi(0.8, 40),)), step=0.05, **keys).advance(1.0)


def test_twins_have_a_tenth_of_the_work() -> None:
    assert smaller(400, 10, power=2, sampled=False) == (115, 4)
    assert smaller(100, 4, power=2, sampled=False) == (18, 4)
    assert smaller(800, 2, power=1, sampled=True) == (32, 4)
    assert smaller(5, 1, power=2, sampled=False) == (5, 1)


@pytest.mark.parametrize("made", [lambda **keys: wide(S5, **keys), residual])
def test_steps_beyond_the_bound_of_stability_are_refused(made) -> None:
    rate = made(step=0.1).numbers()["slope"]
    with pytest.raises(ArgumentError, match="choose at most"):
        made(step=2.2 / rate).advance(22.0 / rate)
    made(step=1.8 / rate).advance(3.6 / rate)


def test_a_network_without_twins_says_nothing_of_its_steps() -> None:
    runs = wide(S3, step=0.1, width=4, companion=False)
    assert runs.listed == ("loss_standard_error",)
    assert not [key for key in runs.numbers() if "step_error" in key]


def test_twins_go_on_from_a_checkpoint_and_are_lost_without() -> None:
    whole, again, blank = (wide(S3, step=0.25, width=12, runs=2) for _ in range(3))
    whole.advance(0.5)
    state = whole.state()
    again.restore(state)
    blank.restore({key: value for key, value in state.items() if not key.startswith("twin")})
    for runs in (whole, again, blank):
        runs.advance(1.0)
    assert again.numbers() == whole.numbers()
    assert np.isnan(blank.numbers()["loss_step_error"])


# --- weights that run away ------------------------------------------------------------------------------------------------------


def test_weights_that_grow_a_thousandfold_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the data: θ grows until |θ| > 1000 (|θ(0)| or t |θ̇(0)|), long before it overflows."""
    steep = replace(S3.network, layers=repeated(DeepLayer("relu", ("v", "w"), {"c": 0.0}), 3), output="relu")
    runs = wide(S3, steep, step=0.2, width=6, runs=1, companion=False)
    monkeypatch.setattr(DeepNetwork, "pull", lambda self, h: h)
    with pytest.raises(InvariantError, match=r"have grown to|infinite"):
        runs.advance(80.0)
    assert np.isfinite(runs.moments()).all()


def test_nodes_that_grow_a_thousandfold_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = DeepCharacteristics(
        S3.network, labels(S3.network, S3.laws, 2, 2), start_of(S3.network, S3.laws).layers, nodes=[2, 2], comm=SELF
    )
    flat = ResidualCharacteristics(RESIDUAL, gauss(2), UNITS, nodes=(2, 2), comm=SELF)
    for nodes in (deep, flat):
        monkeypatch.setattr(Extent, "bound", lambda self, t: 1.0)
        with pytest.raises(InvariantError, match="have grown to"):
            nodes.advance(1.0)
        assert nodes.time == 0.0


# --- nodes ----------------------------------------------------------------------------------------------------------------------


def of_deep(count: int, coarser=()) -> DeepCharacteristics:
    known, laws = labels(S3.network, S3.laws, count, count), start_of(S3.network, S3.laws).layers
    return DeepCharacteristics(S3.network, known, laws, nodes=[count, count], tolerance=1e-8, coarser=coarser, comm=SELF)


def of_residual(count: int, coarser=()) -> ResidualCharacteristics:
    return ResidualCharacteristics(
        RESIDUAL, gauss(count), UNITS, nodes=(count, count), tolerance=1e-8, coarser=coarser, comm=SELF
    )


@pytest.mark.parametrize("made", [of_deep, of_residual])
def test_errors_of_nodes_bracket_the_true_ones(made) -> None:
    """Against twice as many; half and a quarter of the nodes tell it, and a spectral quadrature is better than they know."""
    fine, told = made(8), made(4, [made(*fewer([4], part)) for part in PARTS])
    for nodes in (fine, told):
        nodes.advance(1.0)
    true = abs(float(told.losses()[0] - fine.losses()[0]))
    assert 0.5 * true < told.numbers()["loss_error"] < max(100.0 * true, 1e-3 * told.losses()[0])
    assert told.numbers()["prediction_error"] > 0.5 * norm(told, (told.moments() - fine.moments())[0])
    assert set(told.listed) - {"dissipation"} == {"loss_error", "law_error", "prediction_error"}
    assert fine.listed == ("dissipation",)


def test_a_loose_tolerance_is_in_the_error() -> None:
    """Six depths and 6 × 6 nodes at t = 20, tolerances of 10⁻² and less: true errors are 2.1e-4."""

    def loose(count: int, coarser=()) -> ResidualCharacteristics:
        return ResidualCharacteristics(
            RESIDUAL, gauss(count), UNITS, nodes=(count, count), tolerance=1e-2, coarser=coarser, comm=SELF
        )

    told, fine = loose(6, [loose(*fewer([6], part)) for part in PARTS]), of_residual(8)
    for nodes in (told, fine):
        nodes.advance(20.0)
    true = abs(float(told.losses()[0] - fine.losses()[0]))
    assert 0.5 * true < told.numbers()["loss_error"] < 10.0 * true
