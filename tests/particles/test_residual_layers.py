"""Residual networks as particles: L layers are Euler's method with the step 1/L; characteristics are the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from at_hand.residual_flows import LINE, NORMAL, PLANE, SPACE, Flow, layers, linear
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.deep.depth_weights import depth_weights
from mvpde.models.deep.residual_flow import BlockWords, residual_flow, written_block
from mvpde.models.laws import Product, Uniform
from mvpde.models.mean_field import Array
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI


def network(flow: Flow, count: int, n: int) -> tuple[Array, Array]:
    """Features x and x_L of a network of ``count`` layers, shapes (n, D)."""
    ensemble = Ensemble(flow.model, flow.law, particles=n, seed=3, scheme="euler", step=1.0 / count, comm=MPI.COMM_SELF)
    before = ensemble.cloud()
    ensemble.advance(1.0)
    after = ensemble.cloud()
    assert before is not None
    assert after is not None
    assert ensemble.statistics()["steps"] == count
    return before[0], after[0]


def extrapolated(flow: Flow, n: int, deep: int = 64) -> tuple[Array, Array, float]:
    """L·(E x_L − E x), L·(E x_L² − E x²) and L·rms|x_L − x| for L → ∞, from two depths, over the same features."""
    rows = []
    for count in (deep // 2, deep):
        x, last = network(flow, count, n)
        exact = flow.carried(x)
        rms = math.sqrt(((last - exact) ** 2).sum(axis=1).mean())
        rows.append(count * np.concatenate([(last - exact).mean(axis=0), (last**2 - exact**2).mean(axis=0), [rms]]))
    limit = 2.0 * rows[1] - rows[0]
    d = len(flow.growth)
    return limit[:d], limit[d : 2 * d], float(limit[-1])


@pytest.mark.serial
def test_layers_of_the_network_err_like_one_over_their_number():
    """The constants of the one-dimensional flow within 5 %; θ at the middle of the layers would give L·rms = .148."""
    first, second, rms = extrapolated(LINE, 40000)
    assert first[0] == pytest.approx(0.24943, rel=0.05)
    assert second[0] == pytest.approx(1.6453, rel=0.05)
    assert rms == pytest.approx(0.71563, rel=0.05)


@pytest.mark.serial
@pytest.mark.parametrize(("flow", "constant"), [(PLANE, 0.2517), (SPACE, 0.4572)], ids=["plane", "space"])
def test_the_constant_in_more_dimensions(flow, constant):
    """L·rms|x_L − x(1)| within 5 %."""
    assert extrapolated(flow, 10000)[2] == pytest.approx(constant, rel=0.05)


@pytest.mark.serial
def test_a_layer_is_the_step_of_the_formula():
    """x_{k+1} = x_k + L⁻¹h(x_k, θ(k/L)), θ at the start of each layer, to rounding."""
    x, last = network(LINE, 7, 50)
    by_hand = layers(lambda x, s: (1.2 * math.cos(math.pi * s) + 0.5) * np.tanh(x), x, 7)
    assert np.abs(last - by_hand).max() < 1e-13


@pytest.mark.serial
def test_weights_of_a_table_are_those_of_the_layers():
    """Rows at k/L: the network of L layers uses each once; one of 2L uses each twice; the flow is exact piece by piece."""
    rows = np.array([1.0, -0.5, 2.0, 0.25, -1.0])
    weights = depth_weights({"s": list(np.arange(5) / 5.0), "a": list(rows)})
    model = residual_flow(("x",), written_block(BlockWords(("x",), ("a",)), ["a*tanh(x)"]), weights)
    assert weights.end == pytest.approx(1.0)
    for count in (5, 10):
        ensemble = Ensemble(model, LINE.law, particles=20, scheme="euler", step=1.0 / count, comm=MPI.COMM_SELF)
        x = ensemble.cloud()[0]
        ensemble.advance(1.0)
        by_hand = layers(lambda x, s: rows[min(4, int(5.0 * s + 1e-9))] * np.tanh(x), x, count)
        assert np.abs(ensemble.cloud()[0] - by_hand).max() < 1e-13
    nodes = Characteristics(model, LINE.law, nodes=[12], comm=MPI.COMM_SELF)
    x = nodes.cloud()[0]
    nodes.advance(1.0)
    assert np.abs(nodes.cloud()[0] - np.arcsinh(math.exp(rows.mean()) * np.sinh(x))).max() < 1e-8


@pytest.mark.serial
def test_a_table_may_be_read_on_straight_lines():
    """θ linear between 0 and 2 at the ends has the integral 1; the bend of a third row is hit."""
    weights = depth_weights({"s": [0.0, 0.5, 1.0], "a": [0.0, 2.0, 0.0]}, "linear")
    model = residual_flow(("x",), written_block(BlockWords(("x",), ("a",)), ["a*tanh(x)"]), weights)
    nodes = Characteristics(model, LINE.law, nodes=[12], comm=MPI.COMM_SELF)
    x = nodes.cloud()[0]
    nodes.advance(0.25)
    nodes.advance(1.0)
    assert np.abs(nodes.cloud()[0] - np.arcsinh(math.e * np.sinh(x))).max() < 1e-8


@pytest.mark.serial
@pytest.mark.parametrize("interpolation", ["constant", "linear"])
def test_no_measure_goes_beyond_the_end_of_a_table(interpolation):
    """To the end, and no further: particles, characteristics and densities are stopped there by the same words."""
    table = {"constant": {"s": [0.0, 0.5], "a": [1.0, 2.0]}, "linear": {"s": [0.0, 0.5, 1.0], "a": [0.0, 2.0, 0.0]}}
    block = written_block(BlockWords(("x",), ("a",)), ["a*sin(pi*x)"])
    model = residual_flow(("x",), block, depth_weights(table[interpolation], interpolation))
    law = Product((Uniform(-0.9, 0.9),))
    measures = [
        Ensemble(model, law, particles=4, scheme="euler", step=0.1, comm=MPI.COMM_SELF),
        Characteristics(model, law, nodes=[4], tolerance=1e-6, comm=MPI.COMM_SELF),
        Density(model, box([-1.0], [1.0], [20], comm=MPI.COMM_SELF), law),
    ]
    for measure in measures:
        measure.advance(1.0)
        for _ in range(2):
            with pytest.raises(ValueError, match="the table ends at s = 1, and the flow is to go beyond; add rows"):
                measure.advance(3.0)
            assert measure.time < 1.2


@pytest.mark.serial
@pytest.mark.parametrize(("flow", "count"), [(LINE, 48), (PLANE, 24), (SPACE, 12)], ids=["line", "plane", "space"])
def test_characteristics_are_exact(flow, count):
    """Every node goes where the closed form says, to 1e-8."""
    nodes = Characteristics(flow.model, flow.law, nodes=[count] * len(flow.growth), comm=MPI.COMM_SELF)
    x = nodes.cloud()[0]
    nodes.advance(1.0)
    assert np.abs(nodes.cloud()[0] - flow.carried(x)).max() < 1e-8


@pytest.mark.serial
def test_means_of_the_characteristics():
    """Moments of the one-dimensional flow at s = 1, and mean and covariance of the linear one, whose law stays normal."""
    nodes = Characteristics(LINE.model, LINE.law, nodes=[96], comm=MPI.COMM_SELF)
    nodes.advance(1.0)
    means = [float(nodes.expectation(h)[0]) for h in (lambda z: z[:, 0], lambda z: z[:, 0] ** 2, lambda z: np.cos(z[:, 0]))]
    assert means == pytest.approx([0.410540336, 1.357130672, 0.478821174], abs=1e-8)
    nodes = Characteristics(linear(), NORMAL, nodes=[4, 4], comm=MPI.COMM_SELF)
    nodes.advance(1.0)
    z, w = nodes.cloud()
    assert w @ z == pytest.approx([0.36151306, 0.713693215], abs=1e-8)
    assert np.cov(z.T, aweights=w, ddof=0)[np.triu_indices(2)] == pytest.approx(
        [0.114376416, -0.063702505, 0.328511881], abs=1e-8
    )


@pytest.mark.serial
def test_the_mean_of_the_linear_network():
    """L·(E x_L − E x): the mean obeys the network's own recursion, so it is exact without particles."""
    slope = [np.array([[-0.3, -2.0 * k / 256], [2.0 * k / 256, 0.1]]) for k in range(256)]
    rows = []
    for count in (128, 256):
        mean = np.array([1.0, 0.0])
        for k in range(count):
            mean = mean + slope[k * (256 // count)] @ mean / count
        rows.append(count * (mean - [0.36151306, 0.713693215]))
    assert 2.0 * rows[1] - rows[0] == pytest.approx([0.8655, -0.0050], abs=1e-3)
    ensemble = Ensemble(linear(), NORMAL, particles=4, scheme="euler", step=1.0 / 16, comm=MPI.COMM_SELF)
    x = ensemble.cloud()[0]
    ensemble.advance(1.0)
    by_hand = layers(lambda x, s: x @ np.array([[-0.3, -2.0 * s], [2.0 * s, 0.1]]).T, x, 16)
    assert np.abs(ensemble.cloud()[0] - by_hand).max() < 1e-13


@pytest.mark.ranks
def test_the_network_does_not_depend_on_the_ranks(comm):
    """Means of x_L over all ranks are those of rank 0 alone, bit by bit."""
    shared = Ensemble(PLANE.model, PLANE.law, particles=5000, scheme="euler", step=0.125, comm=comm)
    alone = Ensemble(PLANE.model, PLANE.law, particles=5000, scheme="euler", step=0.125, comm=MPI.COMM_SELF)
    for ensemble in (shared, alone):
        ensemble.advance(1.0)
    assert shared.expectation(lambda z: z[:, 0] * z[:, 1]) == alone.expectation(lambda z: z[:, 0] * z[:, 1])
