"""How many cells an accuracy takes, on errors that are made up."""

import itertools
import math

import numpy as np
import pytest

from mvpde.runs.errors import rungs as steps
from mvpde.runs.errors.rungs import Rung

pytestmark = pytest.mark.serial


def rung(cells: int, error: float | None, axes: int = 2) -> Rung:
    return Rung((cells,) * axes, (cells + 1) ** axes, 1e-5, error, 1.0)


@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_errors_of_one_order_lead_to_the_mesh_in_one_step(order):
    known = [rung(n, 5.0 * n**-order) for n in (16, 32)]
    accuracy = 5.0 * 64.0**-order / steps.SHARE
    assert steps.growth(known, accuracy) * 32 == pytest.approx(64.0, rel=0.02)


def test_one_rung_is_taken_for_second_order():
    assert steps.growth([rung(16, 0.4 * steps.SHARE)], 0.1) == pytest.approx(2.0)


def test_orders_that_nothing_has_are_not_believed():
    assert steps.observed_order([rung(16, 1e-1), rung(32, 1e-4)]) == 4.0
    assert steps.observed_order([rung(16, 1e-1), rung(32, 2e-1)]) == 1.0
    assert steps.observed_order([rung(32, 1e-1), rung(16, 2e-1)]) == 2.0  # a coarser one says nothing


def test_a_mesh_that_does_is_kept():
    assert steps.growth([rung(32, 1e-1), rung(64, 1e-5)], 1e-3) == 1.0


def test_a_rung_without_an_error_is_followed_by_a_finer_one():
    assert steps.growth([rung(16, None)], 1e-3) == 2.0
    assert not steps.reached([rung(16, None)], 0.5)
    assert not steps.reached([], 0.5)


def test_first_mesh_has_few_cells_but_one_in_each_deviation_of_the_start():
    shape = [128, 64]
    assert steps.scaled(shape, steps.first_scale(shape, [0.1, 0.1])) == (32, 16)
    assert steps.scaled(shape, steps.whole(shape, steps.first_scale(shape, [0.1, 0.01]))) == (224, 112)
    assert steps.scaled([1000], steps.first_scale([1000], [0.0])) == (32,)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 2.7])
def test_half_and_a_quarter_of_all_cells_exist(scale):
    assert all(n % 4 == 0 and n >= 12 for n in steps.scaled([100, 37, 5], scale))
    assert all(n % 16 == 0 or n == 12 for n in steps.scaled([100, 37], scale))


@pytest.mark.parametrize("more", [1.01, 1.2, 1.9])
def test_more_cells_are_more_in_every_multiple(more):
    """A growth that is less than a multiple must not end a ladder as if there were no finer mesh."""
    for shape, scale in (([37, 100], 16 / 37), ([1000], 0.032), ([5, 5, 9], 12 / 5)):
        finer = steps.scaled(shape, steps.whole(shape, scale * more))
        assert min(finer) > min(steps.scaled(shape, scale))
        assert min(steps.scaled(shape, steps.whole(shape, scale * more, down=True))) <= scale * more * min(shape)


@pytest.mark.parametrize("order", [1.0, 2.0, 2.6, 3.0])
@pytest.mark.parametrize("cells", [(16, 32, 64), (32, 64, 112), (64, 96, 192)])
def test_meshes_of_one_order_tell_it_and_their_error(order, cells):
    values = [n**-order for n in cells]
    error, found = steps.of_meshes([(n, 2 * n) for n in cells], [a - b for a, b in itertools.pairwise(values)])
    assert found == pytest.approx(order, abs=0.02)
    assert error == pytest.approx(1.25 * values[-1], rel=0.05)


def test_two_meshes_tell_their_difference_and_meshes_that_are_alike_nothing():
    assert steps.of_meshes([(16,), (32,)], [0.1]) == (pytest.approx(0.125), None)
    assert steps.of_meshes([(64,), (80,)], [1e-9]) == (math.inf, None)
    assert steps.of_meshes([(64,)], []) == (math.inf, None)
    assert steps.of_meshes([(16,), (32,), (64,)], [1.0, 1e-9])[0] == pytest.approx(1.25e-9 / 7.0)  # no order above 3


def test_tolerance_falls_with_the_third_power_of_the_width_of_cells():
    assert steps.tolerance([16, 16], [16, 16]) == steps.FIRST_TOLERANCE
    assert steps.tolerance([16, 16], [64, 64]) == pytest.approx(steps.FIRST_TOLERANCE / 64, rel=0.05)
    assert steps.tolerance([16], [16_000_000]) == steps.LEAST_TOLERANCE


def test_errors_of_vectors_are_relative_to_their_length():
    values, errors = np.array([[3.0, 4.0], [0.6, 0.8]]), np.array([[0.0, 0.05], [0.02, 0.0]])
    assert steps.relative(values, errors, weights=np.ones(2)) == pytest.approx(0.02)  # .05/5, .02/1
    assert steps.relative(values, errors) == pytest.approx(0.02 / 0.6)


def test_errors_of_small_values_are_relative_to_the_largest_of_all_times():
    assert steps.relative([1.0, 1e-5], [0.0, 1e-3]) == pytest.approx(0.01)
    assert steps.relative([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert math.isfinite(steps.relative([0.0, 0.0], [0.0, 1e-3]))
    assert steps.relative([1e-17, -1e-17], [1e-12, 1e-12], scale=1.0) < 1e-9  # zero by symmetry
