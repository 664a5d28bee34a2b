"""Errors from three levels, on expansions that are known: smooth, of other orders, changing sign, converged, not finite."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.richardson import Array, Richardson, three_levels, two_levels

pytestmark = pytest.mark.serial
RNG = np.random.default_rng(11)


def _levels(amplitudes: list[Array], powers: list[float], limit: float = 1.0) -> tuple[Array, Array, Array]:
    """1 + Σ a_k h^{p_k} at h = 1, 2, 4, all small."""

    def at(h: float) -> Array:
        return np.asarray(limit + 1e-4 * sum(a * h**p for a, p in zip(amplitudes, powers, strict=True)))

    return at(1.0), at(2.0), at(4.0)


def _shares(estimate: Richardson, limit: float = 1.0) -> tuple[float, float]:
    """Shares of entries with true error ≤ 2 × estimate, and ≥ estimate/10."""
    true = np.abs(estimate.value - limit)
    return float(np.mean(true <= 2.0 * estimate.error)), float(np.mean(true >= 0.1 * estimate.error))


def test_a_pure_square_has_its_error_and_loses_it() -> None:
    a = RNG.standard_normal(50)
    estimate = three_levels(*_levels([a], [2.0]))
    assert np.allclose(estimate.error, 1.25e-4 * np.abs(a), rtol=1e-6, atol=1e-13)
    assert np.allclose(estimate.order[np.abs(a) > 1e-3], 2.0, atol=1e-6)
    assert estimate.asymptotic.all()
    assert np.abs(estimate.extrapolated - 1.0).max() < 1e-13


def test_extrapolation_is_of_order_four_and_knows_its_error() -> None:
    estimate = three_levels(*_levels([np.array([1.0]), np.array([0.02])], [2.0, 4.0]))
    left = np.abs(estimate.extrapolated - 1.0)
    assert np.allclose(left, 4e-4 * 0.02)  # x_h + d₁/3 leaves −4 b h⁴
    assert np.allclose(estimate.extrapolated_error, 5.0 * left)


@pytest.mark.parametrize(
    ("powers", "sizes", "covered"),
    [([2.0, 4.0], [1.0, 0.05], 0.99), ([2.0, 4.0], [1.0, 0.3], 0.99), ([2.0, 3.0, 4.0], [1.0, 0.3, 0.1], 0.97)],
)
def test_random_expansions_are_covered_and_not_scared(powers: list[float], sizes: list[float], covered: float) -> None:
    """The amplitudes are independent normal: d₁ and d₂ change their signs in a tenth to a third of the entries."""
    amplitudes = [size * RNG.standard_normal(20_000) for size in sizes]
    below, above = _shares(three_levels(*_levels(amplitudes, powers)))
    assert below > covered
    assert above > 0.9


def test_where_the_last_difference_vanishes_by_cancellation_the_one_before_speaks() -> None:
    """a h² + b h⁴ with 3a + 15b = 0: d₁ = 0 up to a per mille, while x_h is off by 4|b|."""
    b = np.array([1.0, -1.0])
    for off in (1.0 + 2e-2, 1.0 - 2e-2):
        estimate = three_levels(*_levels([-5.0 * b * off, b], [2.0, 4.0]))
        true = np.abs(estimate.value - 1.0)
        assert (true <= 2.0 * estimate.error).all() and (true >= 0.1 * estimate.error).all()
        assert not estimate.asymptotic.any()


def test_numbers_that_do_not_cancel_are_not_scared_by_fast_convergence() -> None:
    """x_h = x + a hᵖ with p from 3 to 8: covered, and at most ten times too much."""
    for power in (3.0, 4.0, 5.0, 6.0, 8.0):
        levels = _levels([np.array([1.0, -3.0])], [power])
        estimate = three_levels(*levels, cancelling=False)
        true = np.abs(estimate.value - 1.0)
        assert (true <= 2.0 * estimate.error).all() and (true >= 0.1 * estimate.error).all()
        assert power < 4.5 or (estimate.error < 0.5 * three_levels(*levels).error).all()


@pytest.mark.parametrize("power", [0.5, 0.7, 1.0, 1.3, 1.8, 2.3, 3.0, 4.0])
def test_any_order_is_covered(power: float) -> None:
    estimate = three_levels(*_levels([np.array([1.0, -2.0])], [power]))
    true = np.abs(estimate.value - 1.0)
    assert (true <= 2.0 * estimate.error).all() and (true >= 0.1 * estimate.error).all()
    assert estimate.order == pytest.approx(power, abs=1e-6)
    assert estimate.asymptotic.all() == (1.5 <= power <= 2.5)
    if not estimate.asymptotic.any():
        assert (estimate.extrapolated == estimate.value).all()


def test_slow_and_growing_differences_give_the_whole_difference_at_least() -> None:
    estimate = three_levels([1.0, 1.0, 1.0], [1.1, 1.1, 0.9], [1.2, 1.05, 1.0])
    assert (estimate.error >= 0.1).all()
    assert not estimate.asymptotic.any()


def test_what_is_converged_to_rounding_is_not_doubted() -> None:
    exact = three_levels(0.3, 0.3, 0.3)
    noisy = three_levels([0.3, 1e-16], [0.3 + 2e-13, -3e-16], [0.3 - 1e-13, 2e-16])
    fast = three_levels(0.3, 0.3 + 1e-13, 0.3 + 1e-3)  # as sums over nodes of smooth laws that vanish at the walls
    assert exact.asymptotic.all() and noisy.asymptotic.all() and fast.asymptotic.all()
    assert np.isnan(exact.order).all() and np.isnan(noisy.order).all()
    assert 0.0 < exact.error < 1e-13
    assert (noisy.error < 1e-12).all()
    assert 1e-13 <= fast.error < 1e-11
    assert (three_levels(0.0, 0.0, 0.0).error > 0.0).all()


def test_a_scale_says_what_is_rounding() -> None:
    """A mean that vanishes by symmetry, beside a deviation of 0.3."""
    assert three_levels(1e-17, 5e-17, -2e-17, scale=0.3).asymptotic.all()
    assert not three_levels(1e-17, 5e-17, -2e-17).asymptotic.any()


def test_a_missing_level_gives_no_error() -> None:
    estimate = three_levels([1.0, 1.0], [np.nan, 1.3], [1.2, 2.5])
    assert np.isnan(estimate.error[0]) and not estimate.asymptotic[0]
    assert estimate.error[1] == pytest.approx(1.25 * 0.1, rel=1e-6)


def test_another_order() -> None:
    estimate = three_levels(*_levels([np.array([3.0])], [4.0]), order=4.0)
    assert estimate.asymptotic.all()
    assert estimate.error == pytest.approx(1.25 * 3e-4, rel=1e-6)


def test_two_levels_give_the_difference() -> None:
    estimate = two_levels([1.0, 2.0], [1.3, 2.0])
    assert estimate.error[0] == pytest.approx(0.3) and estimate.extrapolated[0] == pytest.approx(0.9)
    assert estimate.asymptotic.tolist() == [False, True]


def test_a_sign_that_changes_hides_as_much_as_others_show() -> None:
    """a h² + b h⁴ with 3a + 15b → 0: capped at 16|d₁| nothing is left of the error, without the cap it is there."""
    b = np.array([1.0, -1.0, 2.0])
    for off in (1e-1, 1e-3, 1e-5):
        levels = _levels([-5.0 * b * (1.0 + off), b], [2.0, 4.0])
        estimate = three_levels(*levels, longest=np.inf)
        true = np.abs(estimate.value - 1.0)
        assert (true <= 2.0 * estimate.error).all() and (true >= 0.1 * estimate.error).all(), off
        assert off > 1e-2 or (true > 2.0 * three_levels(*levels).error).all()
    settled = three_levels(0.3, 0.3 + 1e-13, 0.3 + 1e-3, longest=np.inf)  # no accident is as exact as that
    assert settled.error < 1e-11
