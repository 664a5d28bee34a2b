"""Errors over output times of quantities with a known expansion: differences that cross zero, with and without other times, and
orders that many values show together."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from mvpde.measure import Array
from mvpde.richardson import three_levels
from mvpde.runs.errors import estimates as estimates_module
from mvpde.runs.errors.companions import Companions, Level
from mvpde.runs.errors.estimates import Assessment, _common_order, _together, estimates

pytestmark = pytest.mark.serial


def assessed(first: Array, second: Array, powers: tuple[float, float] = (2.0, 4.0)) -> dict[str, Assessment]:
    """Of quantities 1 + a h^p + b h^q, a and b of shape (quantities, times), at h = 1, 2, 4; their limit is 1."""
    nothing = cast("Any", None)
    levels = [Level("half", 2.0, 2, nothing), Level("quarter", 4.0, 4, nothing)]

    def at(h: float) -> list[dict[str, Array]]:
        values = 1.0 + first * h ** powers[0] + second * h ** powers[1]
        return [{f"q{k}": np.asarray(value) for k, value in enumerate(column)} for column in values.T]

    for level in levels:
        level.observed = at(float(level.merged))
    return estimates(Companions(nothing, 2, levels, [], observed=at(1.0)))


def shares(found: dict[str, Assessment]) -> tuple[float, float]:
    """Of true errors ≤ 2 × estimate, and of those ≥ estimate/10."""
    true = np.array([np.abs(one.found.value - 1.0) for one in found.values()])
    told = np.array([one.found.error for one in found.values()])
    return float(np.mean(true <= 2.0 * told)), float(np.mean(true >= 0.1 * told))


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_a_difference_that_vanishes_at_one_time_promises_nothing(times: int) -> None:
    """3a + 15b → 0 at the last time of one of five quantities, by one part in a thousand and in a hundred thousand."""
    rng = np.random.default_rng(3)
    t = np.linspace(1.0, 2.0, times)
    for near in (1e-3, 1e-5):
        first, second = 1e-4 * (1.0 + rng.random((5, 1))) * np.exp(-t), 5e-6 * rng.standard_normal((5, 1)) * np.exp(-2.0 * t)
        first[0] = 1e-4 * (np.sin(3.0 * (t - t[-1])) + near)
        second[0] = -np.full(times, 1e-4) / 5.0 * near + 1e-6
        first[0, -1] = -5.0 * second[0, -1] * (1.0 + near)
        found = assessed(first, second)
        true = abs(float(found["q0"].found.value[-1]) - 1.0)
        assert true <= 2.0 * found["q0"].found.error[-1], (near, true)
        assert shares(found)[1] >= 0.9


@pytest.mark.parametrize("times", [1, 2, 3, 8])
def test_random_crossings_are_covered_and_no_scares(times: int) -> None:
    """a(t) and b(t) waver with phases of their own, b at a tenth of a in the mean: a third of all differences look odd."""
    rng = np.random.default_rng(7)
    t, below, above = np.linspace(0.0, 3.0, times), [], []
    for _ in range(60):
        phase, speed, size = rng.uniform(0.0, 6.3, (2, 6, 1)), rng.uniform(0.5, 3.0, (2, 6, 1)), [[1.0]] * 6
        first, second = 1e-4 * np.array(size) * np.cos(speed[0] * t + phase[0]), 1e-5 * np.cos(speed[1] * t + phase[1])
        covered, fair = shares(assessed(first, second))
        below.append(covered)
        above.append(fair)
    assert np.mean(below) >= 0.95
    assert np.mean(above) >= 0.9


def test_where_all_converge_fast_a_small_difference_is_believed() -> None:
    """Order 6: without a quantity of order two nothing speaks for an accident."""
    rng = np.random.default_rng(1)
    found = assessed(1e-9 * (1.0 + rng.random((5, 1))), np.zeros((5, 1)), (6.0, 8.0))
    assert max(float(one.found.error[0]) for one in found.values()) <= 16.0 * 1.25 * 2e-9 * 63.0
    fast = assessed(np.full((1, 1), 1e-12), np.full((1, 1), 1e-9), (2.0, 8.0))  # alone, and no order to compare with
    assert float(fast["q0"].found.error[0]) <= 20.0 * 2.6e-7


def judged(order: float, values: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Errors before and after, and true ones, of values whose errors are random parts of h^order, new ones on each mesh."""
    random = np.random.default_rng(3)
    x, parts = np.ones((values, 1)), random.uniform(0.3, 1.0, (3, values, 1)) * random.choice([-1.0, 1.0], (3, values, 1))
    fine, half, quarter = (x + 0.1 * part * (ratio / 4.0) ** order for part, ratio in zip(parts, (1.0, 2.0, 4.0), strict=True))
    found, common = three_levels(fine, half, quarter, 2.0, 1.0), _common_order(fine - half, half - quarter, 1.0)
    return found.error, _together(found, (fine - half, half - quarter), common, 2.0, 1.0).error, np.abs(fine - x), common


@pytest.mark.parametrize("order", [2.0, 4.0, 6.0, 8.0])
def test_values_that_have_no_order_alone_have_one_together(order: float) -> None:
    before, after, true, common = judged(order)
    assert common == pytest.approx(order, abs=0.5)
    assert np.all(after <= before)
    less = after < before
    assert np.mean(true[less] <= 2.0 * after[less]) >= 0.95
    assert np.median(after / true) < np.median(before / true)
    assert np.mean(true >= after / 10.0) >= 0.9


@pytest.mark.parametrize("order", [0.0, 1.0])
def test_values_that_converge_slowly_together_keep_their_errors(order: float) -> None:
    before, after, _, common = judged(order)
    assert common < 1.5 and np.array_equal(before, after)


def test_one_value_at_two_times_keeps_its_error() -> None:
    """Two terms that cancel look like a high order: of few values together that may happen."""
    fine, half, quarter = np.array([1.0, 2.0]), np.array([1.0 + 1e-6, 2.0 + 1e-6]), np.array([1.01, 2.01])
    found = three_levels(fine, half, quarter, 2.0, 2.0)
    assert estimates_module._TOGETHER == 3
    assert np.array_equal(_together(found, (fine - half, half - quarter), 13.3, 2.0, 2.0).error, found.error)


def test_a_coarsest_mesh_that_is_useless_shows_no_order() -> None:
    """Errors of order 2 on two meshes, and 100 % on the third: the order of the differences is not that of the errors."""
    parts = np.linspace(0.5, 1.0, 10)
    fine, half, quarter = 1.0 + 1e-3 * parts, 1.0 + 4e-3 * parts, 1.0 + parts
    found = three_levels(fine, half, quarter, 2.0, 1.0)
    common = _common_order(fine - half, half - quarter, 1.0)
    assert common > 8.0
    after = _together(found, (fine - half, half - quarter), common, 2.0, 1.0)
    assert np.all(np.abs(fine - 1.0) <= 2.0 * after.error)
