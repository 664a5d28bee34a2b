"""Errors over output times of quantities with a known expansion: differences that cross zero, with and without other times."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from mvpde.measure import Array
from mvpde.runs.errors.companions import Companions, Level
from mvpde.runs.errors.estimates import Assessment, estimates

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
