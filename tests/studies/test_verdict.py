"""Fits and verdicts: exact slopes, intervals that cover as often as they say, and when a fit may not speak."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mvpde.studies.verdict import Estimate, combination, decide, loglog_line, mean

pytestmark = pytest.mark.serial


def test_an_exact_power_law_has_its_exponent() -> None:
    x = np.array([10.0, 30.0, 200.0, 1000.0])
    line = loglog_line(x, [Estimate(3.0 * value**-0.7) for value in x])
    assert line.slope.value == pytest.approx(-0.7, abs=1e-13)
    assert line.at(x) == pytest.approx(3.0 * x**-0.7, rel=1e-12)
    assert line.slope.interval(0.95) is None  # one sample for each x says nothing about its spread


def test_the_interval_of_a_slope_covers_as_often_as_it_says() -> None:
    """Samples are chi-squared/4 of 4 degrees, as squared norms of Gaussian errors are; 20 at each of 4 sizes, 1000 studies."""
    rng = np.random.default_rng(0)
    x = np.array([100.0, 1e3, 1e4, 1e5])
    covered = 0
    for _ in range(1000):
        y = [mean(rng.chisquare(4, size=20) / 4.0 / value) for value in x]
        interval = loglog_line(x, y).slope.interval(0.95)
        assert interval is not None
        covered += interval[0] <= -1.0 <= interval[1]
    # Binomial standard error 0.7 %; the delta method for the logarithm of a skewed mean may cost 2 % more.
    assert 0.95 - 0.02 - 3 * 0.007 <= covered / 1000 <= 0.95 + 3 * 0.007


def test_intervals_are_student_s() -> None:
    """The 97.5 % quantiles of Student's t with 4 degrees and of the normal law."""
    assert Estimate(1.0, 0.5, 4.0).interval(0.95) == pytest.approx((1.0 - 0.5 * 2.7764451, 1.0 + 0.5 * 2.7764451))
    assert Estimate(1.0, 0.5, math.inf).interval(0.95) == pytest.approx((1.0 - 0.5 * 1.9599640, 1.0 + 0.5 * 1.9599640))


def test_degrees_of_freedom_add_up_for_equal_errors() -> None:
    """k equal errors of ν degrees each: the variance of their sum has kν degrees (Satterthwaite)."""
    total = combination(np.ones(3), [Estimate(1.0, 0.5, 4.0)] * 3)
    assert (total.value, total.standard_error, total.degrees) == pytest.approx((3.0, 0.5 * math.sqrt(3.0), 12.0))


def test_an_unknown_error_makes_the_whole_error_unknown() -> None:
    assert combination(np.ones(2), [Estimate(1.0, 0.5, 4.0), Estimate(1.0)]).interval(0.95) is None


@pytest.mark.parametrize("x", [[1.0, 1.0], [1.0, -2.0]])
def test_no_slope_without_two_positive_sizes(x: list[float]) -> None:
    with pytest.raises(ValueError, match="slope"):
        loglog_line(np.array(x), [Estimate(1.0), Estimate(2.0)])


@pytest.mark.parametrize(
    ("measured", "floors", "expected"),
    [
        (-1.05, {}, "holds"),
        (-1.15, {}, "does not hold"),
        (math.nan, {}, "does not hold"),
        (-1.0, {"smallest": 3e-3, "discretisation": 0.99e-3}, "holds"),
        (-1.0, {"smallest": 3e-3, "discretisation": 1.01e-3}, "mesh too coarse"),
        (-1.0, {"smallest": 3e-3, "discretisation": math.nan}, "mesh too coarse"),
        (-1.0, {"smallest": 3e-3, "bias": 1.01e-3}, "bias dominates"),
    ],
)
def test_verdicts(measured: float, floors: dict[str, float], expected: str) -> None:
    assert decide(measured, -1.0, 0.1, **floors) == expected
