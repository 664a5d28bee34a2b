"""The limit of training residual networks against numbers from another code, and against the networks themselves."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.residual import DATA, LAW, LIMIT, LOSSES, MEANS, MIDDLE, OF_LAYERS, OUTPUTS, VARIANCES
from mvpde.models.data import Data
from mvpde.models.deep.resnet import RULES, ResidualLimit, gauss, layers, midpoints
from mvpde.models.deep.units import DeepLayer
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import Array
from mvpde.particles.deep.characteristics import LayerNodes
from mvpde.particles.deep.residual_runs import ResidualRuns, forward, velocity
from mvpde.particles.deep.resnet import ResidualCharacteristics
from mvpde.runtime import MPI, ArgumentError


def carried(rule: str, labels: int, times: list[float], nodes: int = 8) -> list[float]:
    """Losses at the times."""
    measure = ResidualCharacteristics(LIMIT, RULES[rule](labels), LAW, nodes=(nodes, nodes), tolerance=1e-8, comm=MPI.COMM_SELF)
    losses = []
    for t in times:
        measure.advance(t)
        losses.append(float(measure.losses()[0]))
    return losses


def test_the_limit_has_the_numbers_of_the_collocation() -> None:
    """Loss to 1e-7 at t = 0 … 8; X(1), X(½), E w and Var w at s = 0, ½, 1, which really differ."""
    measure = ResidualCharacteristics(LIMIT, gauss(8), LAW, nodes=(12, 12), tolerance=1e-9, comm=MPI.COMM_SELF)
    for t, loss in LOSSES.items():
        measure.advance(t)
        assert measure.losses()[0] == pytest.approx(loss, abs=1e-7)
    said = measure.arrays()
    assert np.allclose(said["predictions"], OUTPUTS, atol=2e-6)
    assert np.allclose(said["inputs"], [DATA.x[:, 0], MIDDLE, OUTPUTS], atol=2e-6)
    assert np.allclose(said["layer_mean"][:, 1], MEANS, atol=1e-5)
    assert np.allclose(said["layer_variance"][:, 1], VARIANCES, atol=1e-5)


def test_the_loss_falls_by_the_dissipation() -> None:
    """dE/dt = −∫∫|∂_θV|²ρ, to the 1e-6 of a central difference: for the exact adjoint, with two labels and with five layers."""
    for depths in (gauss(2), layers(5), midpoints(3)):
        measure = ResidualCharacteristics(LIMIT, depths, LAW, nodes=(6, 6), tolerance=1e-11, comm=MPI.COMM_SELF)
        seen = []
        for t in (0.49, 0.5, 0.51):
            measure.advance(t)
            seen.append((measure.losses()[0], measure.dissipation()))
        assert (seen[0][0] - seen[2][0]) / 0.02 == pytest.approx(seen[1][1], abs=3e-6)


def test_units_with_a_kink_ask_for_no_more_than_their_quadrature_gives() -> None:
    """ReLU: the default of 1e-10 becomes 1e-6, and the loss still falls by the dissipation; tanh keeps what is asked."""
    limit = ResidualLimit(DeepLayer("relu", ("v", "w"), {"c": 0.3}), DATA)
    measure = ResidualCharacteristics(limit, gauss(3), LAW, nodes=(4, 4), comm=MPI.COMM_SELF)
    seen = []
    for t in (0.19, 0.2, 0.21):
        measure.advance(t)
        seen.append((measure.losses()[0], measure.dissipation()))
    assert measure.statistics()["tolerance"] == 1e-6 and measure.statistics()["steps"] < 30
    assert (seen[0][0] - seen[2][0]) / 0.02 == pytest.approx(seen[1][1], rel=1e-3)
    smooth = ResidualCharacteristics(LIMIT, gauss(2), LAW, nodes=(2, 2), comm=MPI.COMM_SELF)
    assert smooth.statistics()["tolerance"] == 1e-10


def test_midpoints_are_of_order_two_and_gauss_nodes_of_any() -> None:
    """Errors of the loss at t = 0 and 1: a quarter for twice as many midpoints, none left at four nodes of Gauss."""
    exact = carried("gauss", 8, [0.0, 1.0])
    errors = [np.abs(np.subtract(carried("midpoints", s, [0.0, 1.0]), exact)) for s in (4, 8)]
    assert np.all(errors[0] / errors[1] > 3.7)
    assert np.allclose(carried("gauss", 4, [0.0, 1.0]), exact, atol=2e-7)


def test_layers_are_off_by_a_part_of_order_one_over_their_number() -> None:
    """K(loss_K − loss) tends to the constants of the table: with 10 and 20 layers, their error of order 1/K taken off."""
    times, limits = list(OF_LAYERS), list(OF_LAYERS.values())
    exact = [LOSSES[t] for t in times]
    coarse, fine = (k * np.subtract(carried("layers", k, times, 6), exact) for k in (10, 20))
    assert np.allclose(2.0 * fine - coarse, limits, atol=3e-5)


def test_one_law_for_all_depths_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the depths of all velocities, as if one law served all: the loss at t = 4 is off by 50 times 1e-6."""
    right = LayerNodes.velocity
    weights = gauss(4).weights

    def averaged(nodes: LayerNodes, multipliers: Array) -> Array:
        rates = right(nodes, multipliers)
        return np.broadcast_to(np.einsum("s,s...->...", weights, rates), rates.shape)

    monkeypatch.setattr(LayerNodes, "velocity", averaged)
    assert abs(carried("gauss", 4, [4.0])[0] - LOSSES[4.0]) > 5e-5


# --- networks -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [("v", "w"), ("w",), ("v", "w", "c")])
def test_a_network_moves_by_the_exact_gradient_in_the_clock_of_the_limit(trained: tuple[str, ...]) -> None:
    """θ̇ = −KM∂E/∂θ by differences, to 1e-8; without KM, or with the adjoint at x_{k+1}, it is off by more than 1 %."""
    fixed = {name: value for name, value in (("v", 0.7), ("c", 0.3)) if name not in trained}
    limit = ResidualLimit(DeepLayer("tanh", trained, fixed), DATA)
    theta = np.random.default_rng(5).normal(0.6, 0.4, (4, 3, len(trained)))
    rates, step = velocity(limit, theta), 1e-6

    def energy(change: Array) -> float:
        return float(limit.energy(forward(limit, theta + change)[0][-1]))

    for place in ((0, 0, 0), (1, 2, len(trained) - 1), (3, 1, 0)):
        one = np.zeros(theta.shape)
        one[place] = step
        slope = (energy(one) - energy(-one)) / (2.0 * step)
        assert rates[place] == pytest.approx(-4 * 3 * slope, abs=1e-8)
        assert abs(slope * 4 * 3) > 1e-3


def test_networks_have_their_limit() -> None:
    """K = 20, M = 200: X(1) at t = 1 within 3.5 standard errors of that of 20 layers of infinite width, E w and the loss too."""
    runs = ResidualRuns(LIMIT, LAW, layers=20, width=200, runs=12, seed=2, mode="heun", step=0.25, comm=MPI.COMM_SELF)
    runs.advance(1.0)
    exact = ResidualCharacteristics(LIMIT, layers(20), LAW, nodes=(8, 8), tolerance=1e-7, comm=MPI.COMM_SELF)
    exact.advance(1.0)
    outputs = runs.moments()
    error = outputs.std(axis=0, ddof=1) / np.sqrt(12)
    assert np.all(np.abs(outputs.mean(axis=0) - exact.moments()[0]) < 3.5 * error)
    assert error.max() < 0.02
    assert abs(runs.losses().mean() - exact.losses()[0]) < 3.5 * runs.loss_standard_error()
    means = runs.expectation(lambda z: z[:, 1])
    assert abs(means.mean() - exact.expectation(lambda z: z[:, 1])[0]) < 3.5 * means.std(ddof=1) / np.sqrt(12)


def test_steps_of_descent_are_of_order_one_and_heuns_of_order_two() -> None:
    """Against a fine step, the same start: errors fall like the step and like its square."""
    losses = {
        (mode, step): ResidualRuns(LIMIT, LAW, layers=6, width=20, seed=1, mode=mode, step=step, comm=MPI.COMM_SELF)
        for mode, step in [("heun", 0.0125), ("descent", 0.2), ("descent", 0.1), ("heun", 0.2), ("heun", 0.1)]
    }
    for measure in losses.values():
        measure.advance(1.0)
    truth = losses.pop(("heun", 0.0125)).losses()[0]
    errors = {key: abs(measure.losses()[0] - truth) for key, measure in losses.items()}
    assert 1.7 < errors["descent", 0.2] / errors["descent", 0.1] < 2.4
    assert errors["heun", 0.2] / errors["heun", 0.1] > 3.4


@pytest.mark.ranks
def test_runs_do_not_depend_on_the_ranks_and_go_on_where_they_stopped(comm: MPI.Intracomm) -> None:
    """The same bits on any number of ranks, and from a checkpoint; what is said of them as well."""
    shared, alone, again = (
        ResidualRuns(LIMIT, LAW, layers=4, width=9, runs=2, seed=3, step=0.1, comm=where) for where in (comm, MPI.COMM_SELF, comm)
    )
    shared.advance(0.3)
    alone.advance(0.3)
    again.restore(shared.state())
    again.advance(0.6)
    shared.advance(0.6)
    alone.advance(0.6)
    assert np.array_equal(shared.moments(), alone.moments())
    assert np.array_equal(shared.moments(), again.moments())
    for key, value in shared.arrays().items():
        assert np.array_equal(value, alone.arrays()[key])
    cloud, own = shared.cloud(), alone.cloud()
    assert own is not None
    assert comm.rank > 0 or (cloud is not None and np.array_equal(cloud[0], own[0]))


@pytest.mark.ranks
def test_characteristics_go_on_where_they_stopped(comm: MPI.Intracomm) -> None:
    first, again = (ResidualCharacteristics(LIMIT, gauss(2), LAW, nodes=(3, 3), tolerance=1e-9, comm=comm) for _ in range(2))
    first.advance(0.5)
    again.restore(first.state())
    first.advance(1.0)
    again.advance(1.0)
    assert np.allclose(first.moments(), again.moments(), atol=1e-12)


def test_what_cannot_be_is_refused() -> None:
    plane = Data(np.zeros((3, 2)), np.full(3, 1 / 3), np.zeros(3))
    with pytest.raises(ValueError, match="2 inputs"):
        ResidualLimit(DeepLayer("tanh", ("v",), {"w": 1.0, "c": 0.0}), plane)
    with pytest.raises(ArgumentError, match="2 positive integers"):
        ResidualCharacteristics(LIMIT, gauss(2), LAW, nodes=(3,))
    with pytest.raises(ArgumentError, match="law"):
        ResidualCharacteristics(LIMIT, gauss(2), Product((Normal(0.0, 1.0),)), nodes=(3, 3))
    with pytest.raises(ArgumentError, match="mode"):
        ResidualRuns(LIMIT, LAW, layers=2, width=2, mode="sgd")
