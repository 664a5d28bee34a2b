"""The chain of SGD by exact expectations on a grid."""

from __future__ import annotations

import itertools
from pathlib import Path

from mvpde.runtime import MPI  # isort: skip

import numpy as np
import pytest

from mvpde.models import data
from mvpde.models.laws import Normal, Product
from mvpde.models.sgd_network import sgd
from mvpde.particles.exact_chain import Grid, batches, exact_chain
from mvpde.particles.sgd_runs import SgdRuns

COPPER = Path(__file__).parents[2] / "cases" / "data" / "copper.csv"
X, Y = np.array([0.6, 0.8, 1.0, 1.2, 0.9]), np.array([3.2, 4.4, 4.8, 6.3, 4.1])


def line(**options):
    """f = wx for w, x > 0: quadratic losses."""
    return sgd("weight", data.points(X, Y), unit="relu", learning_rate=0.2, **options)


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_interpolation_reproduces_polynomials_and_has_its_order(degree):
    def interpolated(f, counts, z):
        grid = Grid(np.array([-1.0, 0.0]), np.array([1.0, 3.0]), counts, degree)
        places, weights = grid.interpolation(z)
        return np.sum(weights * f(grid.points)[places], axis=1)

    z = np.random.default_rng(0).uniform([-1.0, 0.0], [1.0, 3.0], (200, 2))

    def polynomial(z):
        return (1.0 + z[:, 0]) ** degree - (z[:, 1] - 0.5) ** degree * z[:, 0]

    np.testing.assert_allclose(interpolated(polynomial, (9, 11), z), polynomial(z), atol=1e-12 * 3.0**degree)

    def wave(z):
        return np.sin(2.0 * z[:, 0] + z[:, 1])

    coarse, fine = (np.abs(interpolated(wave, (n + 1, n + 1), z) - wave(z)).max() for n in (16, 32))
    assert np.log2(coarse / fine) > degree + 0.6  # order degree + 1


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_all_batches_with_their_probabilities(batch, replacement):
    """The law of the mean of a batch, against the list of all ordered batches."""
    shares, probabilities = batches(line(batch_size=batch, replacement=replacement))
    draw = list(itertools.product(range(5), repeat=batch) if replacement else itertools.permutations(range(5), batch))
    ordered = np.array([Y[list(b)].mean() for b in draw])
    for power in (1, 2, 3):
        assert probabilities @ (shares @ Y) ** power == pytest.approx(np.mean(ordered**power), rel=1e-13)
    assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_moments_of_linear_regression_are_exact_to_rounding(batch, replacement):
    """Linear maps keep quadratic functions quadratic, and interpolation is exact for them: E W_k, E W_k² by their recursion."""
    problem = line(batch_size=batch, replacement=replacement)
    chain = exact_chain(problem, [2.0], [9.0], [12])
    shares, probabilities = batches(problem)
    p, q = 1.0 - 0.2 * (shares @ X**2), 0.2 * (shares @ (X * Y))
    first, second, expected = 5.0, 25.04, []
    for _ in range(30):
        second = probabilities @ (p**2 * second + 2.0 * p * q * first + q**2)
        first = probabilities @ (p * first + q)
        expected.append([first, second])
    law = Product((Normal(5.0, 0.2),))
    found = chain.expectations([lambda w: w[:, 0], lambda w: w[:, 0] ** 2], law, 8, [1, 7, 30])
    np.testing.assert_allclose(found, np.array(expected)[[0, 6, 29]], rtol=1e-11)
    assert chain.leaving.max() == 0.0 and chain.lost(law, 8, 30) == 0.0


@pytest.mark.usefixtures("comm")
@pytest.mark.parametrize(("batch", "rows"), [(1, 236), (2, 20)])
def test_a_neuron_agrees_with_runs_and_does_not_depend_on_the_grid(batch, rows):
    """v tanh(wx) on the expansion of copper, all 236 observations one by one, or pairs of every twelfth."""
    table = data.csv(COPPER, ["temperature"], "expansion", standardise=True)
    few = data.points(table.x[:: 236 // rows], table.target[:: 236 // rows])
    problem = sgd("neuron", few, learning_rate=0.2, batch_size=batch, weight_decay=0.1)
    law = Product((Normal(0.9, 0.08), Normal(1.2, 0.08)))
    functions = [lambda w: w[:, 0], lambda w: w[:, 1], lambda w: w[:, 0] * w[:, 1], lambda w: w[:, 1] ** 2]
    coarse, fine = (exact_chain(problem, [-0.2, 0.0], [1.8, 2.4], [n, n]) for n in (24, 36))
    found = fine.expectations(functions, law, 10, [0, 10])
    np.testing.assert_allclose(coarse.expectations(functions, law, 10, [0, 10]), found, atol=1e-6)
    np.testing.assert_allclose(found[0], [0.9, 1.2, 1.08, 1.2**2 + 0.08**2], rtol=1e-12)
    assert fine.lost(law, 10, 10) < 1e-6
    runs = SgdRuns(problem, law, runs=40_000, seed=1, comm=MPI.COMM_WORLD)
    runs.advance(2.0)
    for function, value in zip(functions, found[1], strict=True):
        mean, error = runs.estimate(function)
        assert abs(mean - value) < 4.5 * error


def test_steps_out_of_the_box_are_counted():
    chain = exact_chain(line(batch_size=1), [2.0], [4.5], [12])  # the mean of y/x is above 4.5
    law = Product((Normal(3.5, 0.1),))
    assert chain.leaving[-1] > 0.5
    assert chain.lost(law, 8, 1) < chain.lost(law, 8, 20)
    assert chain.lost(law, 8, 40) > 0.9


def test_too_many_batches_and_a_wrong_degree_are_refused():
    table = data.csv(COPPER, ["temperature"], "expansion", standardise=True)
    with pytest.raises(ValueError, match="236 samples have 2162940 .*runs instead"):
        batches(sgd("neuron", table, learning_rate=0.1, batch_size=3, replacement=False))
    with pytest.raises(ValueError, match="degree is 4"):
        Grid(np.zeros(1), np.ones(1), (10,), 4)
