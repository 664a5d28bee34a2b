"""Laws at the start: closed forms of their moments, on the line and around circles, and rules made of points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ive

from mvpde.models.laws import (
    LAWS,
    Cloud,
    CorrelatedNormal,
    Dirac,
    Empirical,
    ExpressionLaw,
    Grouped,
    Law1D,
    Mixture,
    Normal,
    Product,
    Uniform,
    in_period,
    mass_between,
    on_circles,
    restricted,
)
from mvpde.models.laws.gauss import gauss
from mvpde.models.laws.lorentz import Lorentz
from mvpde.models.laws.positive import Beta, Gamma
from mvpde.models.laws.von_mises import VonMises

pytestmark = pytest.mark.serial

TWO_PI = 2.0 * math.pi


def moments(law: Law1D, n: int = 64) -> tuple[float, float, float]:
    """Mean, variance and third central moment of the law's own quadrature."""
    z, w = law.quadrature(n)
    mean = float(w @ z)
    return mean, float(w @ (z - mean) ** 2), float(w @ (z - mean) ** 3)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (Gamma(3.0, 0.5, 1.0), (2.5, 0.75, 0.75)),  # shape·scale², 2·shape·scale³
        (Gamma(0.3, 2.0), (0.6, 1.2, 4.8)),
        (LAWS["exponential"](scale=2.0, shift=-1.0), (1.0, 4.0, 16.0)),
        (Beta(2.0, 3.0, -1.0, 1.0), (-0.2, 0.16, 8.0 * 2.0 / 875.0)),
        (Beta(0.5, 0.5), (0.5, 0.125, 0.0)),
        (Dirac(1.5), (1.5, 0.0, 0.0)),
        (Mixture((Normal(-1.0, 0.5), Normal(2.0, 1.0)), (1.0, 2.0)), (1.0, 0.25 / 3 + 2 / 3 + 2.0, None)),
        (ExpressionLaw("x**2*exp(-x**2/2)", "x"), (0.0, 3.0, 0.0)),
        (ExpressionLaw("1 + 2*heaviside(x - 1/2)", "x", 0.0, 1.0), (0.625, 11.0 / 24.0 - 0.625**2, None)),
    ],
    ids=repr,
)
def test_moments_are_those_of_the_formula(law: Law1D, expected: tuple[float, float, float | None]) -> None:
    found = moments(law)
    for one, other in zip(found, expected, strict=True):
        assert other is None or one == pytest.approx(other, rel=1e-6, abs=1e-9)
    draws = law.sample(np.random.default_rng(0), 40_000)
    assert abs(draws.mean() - found[0]) <= 4.0 * math.sqrt(found[1] / 40_000)
    fourth = np.mean((draws - found[0]) ** 4)
    assert abs(draws.var() - found[1]) <= 5.0 * math.sqrt(fourth / 40_000)


@pytest.mark.parametrize("law", [Gamma(0.3, 2.0), Beta(0.5, 0.25, -1.0, 3.0)], ids=repr)
def test_infinite_densities_are_known_by_bins(law: Gamma | Beta) -> None:
    atoms = law.atoms
    assert atoms is not None
    z, w = atoms
    assert w.sum() == pytest.approx(1.0, abs=1e-14)
    exact = moments(law)
    assert float(w @ z) == pytest.approx(exact[0], rel=1e-10)
    assert float(w @ (z - exact[0]) ** 2) == pytest.approx(exact[1], rel=1e-5)


def test_lorentz_in_a_wide_box_is_that_of_the_line() -> None:
    """E 1/(1 + z²) = 1/(1 + width) about 0 on the line; a box of ±L misses 2 width/(πL) of it."""
    z, w = Lorentz(0.0, 0.5, -2000.0, 2000.0).quadrature(24)
    assert w @ (1.0 / (1.0 + z * z)) == pytest.approx(1.0 / 1.5, abs=1.0 / (math.pi * 2000.0))
    assert mass_between(Lorentz(0.0, 0.5, -50.0, 50.0), -0.5, 0.5) == pytest.approx(
        0.5 / (2.0 / math.pi * math.atan(100.0)), 1e-3
    )


# --- on circles -----------------------------------------------------------------------------------------------------------------


def circular_mean(law: Law1D, period: float, k: int = 1) -> complex:
    """∫e^{2πikz/P}ρ over one period, by trapezoids, which are spectrally accurate."""
    z = period * np.arange(512) / 512
    return complex(np.mean(law.density(z) * np.exp(2j * np.pi * k * z / period)) * period)


@pytest.mark.parametrize("sigma", [0.2, 0.8, 1.2, 3.0])
@pytest.mark.parametrize("mean", [0.3, 2.5, -9.0])
def test_a_normal_law_on_a_circle_is_wrapped(sigma: float, mean: float) -> None:
    """E e^{ikz} = e^{ikμ − k²σ²/2}, by the density and by the quadrature; all of the mass is there."""
    law = in_period(Normal(mean, sigma), TWO_PI)
    for k in (0, 1, 2):
        exact = np.exp(1j * k * mean - 0.5 * (k * sigma) ** 2)
        assert circular_mean(law, TWO_PI, k) == pytest.approx(exact, abs=1e-8)
        z, w = law.quadrature(60)
        assert abs(w @ np.exp(1j * k * z) - exact) < 1e-9
    z = np.array([0.1, 2.0, 5.9])
    h = 1e-5
    slope = (law.log_density(z + h) - law.log_density(z - h)) / (2 * h)
    np.testing.assert_allclose(law.log_density_gradient(z), slope, atol=1e-7)
    assert mass_between(law, -1.0, -1.0 + TWO_PI) == 1.0


@pytest.mark.parametrize("kappa", [0.0, 0.5, 5.0, 400.0])
def test_the_law_of_von_mises(kappa: float) -> None:
    """E cos k(z − μ) = I_k(κ)/I_0(κ), on a circle of any length."""
    law = in_period(VonMises(0.7, kappa), 3.0)
    z, w = law.quadrature(24)
    for k in (1, 2):
        exact = ive(k, kappa) / ive(0, kappa)
        assert w @ np.cos(2 * np.pi * k * (z - 0.7) / 3.0) == pytest.approx(exact, abs=1e-8)
        assert abs(circular_mean(law, 3.0, k)) == pytest.approx(exact, abs=1e-10)
    draws = law.sample(np.random.default_rng(1), 20_000)
    assert np.mean(np.cos(2 * np.pi * (draws - 0.7) / 3.0)) == pytest.approx(ive(1, kappa) / ive(0, kappa), abs=0.025)


def test_mixtures_and_expressions_know_their_circle() -> None:
    mixed = in_period(Mixture((Normal(0.0, 1.0), VonMises(1.0, 2.0)), (3.0, 1.0)), TWO_PI)
    exact = 0.75 * np.exp(-0.5) + 0.25 * np.exp(1j) * ive(1, 2.0) / ive(0, 2.0)
    assert circular_mean(mixed, TWO_PI) == pytest.approx(exact, abs=1e-8)
    wave = ExpressionLaw("1 + sin(x)", "x", period=TWO_PI)
    assert circular_mean(wave, TWO_PI) == pytest.approx(0.5j, abs=1e-12)
    z, w = wave.quadrature(8)
    assert w @ np.exp(1j * z) == pytest.approx(0.5j, abs=1e-12)
    part = in_period(Uniform(3.0, 4.0), TWO_PI)  # beyond an end of [−π, π]
    assert circular_mean(part, TWO_PI) == pytest.approx((np.exp(4j) - np.exp(3j)) / 1j, abs=2e-2)


# --- points ---------------------------------------------------------------------------------------------------------------------


def test_gauss_rules_of_points_have_their_moments() -> None:
    """2n − 1 of them, for any masses."""
    rng = np.random.default_rng(2)
    z, w = rng.normal(2.0, 1.0, 300), rng.random(300)
    nodes, weights = Empirical(z, w).quadrature(5)
    for power in range(10):
        assert weights @ nodes**power == pytest.approx(w @ z**power / w.sum(), rel=1e-10)
    few = gauss(np.array([1.0, 1.0, 3.0]), np.array([1.0, 2.0, 1.0]), 7)
    np.testing.assert_allclose(few, [[1.0, 3.0], [0.75, 0.25]])


def test_laws_of_points_have_no_density_and_say_so() -> None:
    for law in (Dirac(0.0), Empirical(np.array([1.0, 2.0]))):
        with pytest.raises(ValueError, match="no density"):
            law.density(np.zeros(3))
    with pytest.raises(ValueError, match="no points"):
        Empirical(np.array([]))
    with pytest.raises(ValueError, match="point 1 is not finite"):
        Empirical(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="without a quadrature by nodes"):
        Cloud(np.zeros((4, 2))).quadrature([2, 2])


# --- coordinates together -------------------------------------------------------------------------------------------------------


def test_a_correlated_normal_law() -> None:
    """Mean and covariance by draws and by quadrature, and E e^{i(x + y)} on two circles."""
    mean, covariance = (0.5, -1.0), ((1.0, 0.6), (0.6, 0.5))
    law = CorrelatedNormal(mean, covariance)
    z, w = law.quadrature([6, 6])
    np.testing.assert_allclose(w @ z, mean, atol=1e-12)
    np.testing.assert_allclose((z - mean).T @ (w[:, None] * (z - mean)), covariance, atol=1e-12)
    draws = law.sample(np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.03)
    grid = TWO_PI * np.arange(64) / 64
    x = np.column_stack([axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij")])
    wrapped = law.in_periods([TWO_PI, TWO_PI])
    value = np.mean(wrapped.density(x) * np.exp(1j * (x[:, 0] + x[:, 1]))) * TWO_PI**2
    assert value == pytest.approx(np.exp(1j * (0.5 - 1.0) - 0.5 * (1.0 + 1.2 + 0.5)), abs=1e-7)
    h = 1e-5
    aside = np.array([h, 0.0])
    slope = (wrapped.log_density(x[5:8] + aside) - wrapped.log_density(x[5:8] - aside)) / (2 * h)
    np.testing.assert_allclose(wrapped.log_density_gradient(x[5:8])[:, 0], slope, atol=1e-7)
    assert [type(one).__name__ for one in wrapped.marginals] == ["Wrapped", "Wrapped"]
    for wrong in (((1.0, 2.0), (2.0, 1.0)), ((1.0, 0.5), (0.4, 1.0)), ((1.0,),)):
        with pytest.raises(ValueError, match="covariance"):
            CorrelatedNormal(mean, wrong)


def test_groups_of_coordinates_are_independent_of_each_other() -> None:
    pair = CorrelatedNormal((0.0, 1.0), ((1.0, 0.5), (0.5, 1.0)))
    law = Grouped((((0, 2), pair), ((1,), Product((Normal(3.0, 2.0),)))))
    z, w = law.quadrature([3, 4, 3])
    np.testing.assert_allclose(w @ z, [0.0, 3.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(np.cov(z.T, aweights=w, ddof=0), [[1, 0, 0.5], [0, 4, 0], [0.5, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(law.density(z), pair.density(z[:, [0, 2]]) * Normal(3.0, 2.0).density(z[:, 1]))
    assert restricted(Grouped((((0, 1), pair), ((2,), Product((Normal(3.0, 2.0),))))), 0, 2) is pair
    with pytest.raises(ValueError, match="independent"):
        restricted(law, 0, 2)
    assert on_circles(law, [None, TWO_PI, None]).marginals[1].period == TWO_PI  # type: ignore[attr-defined]


def test_a_file_in_the_folder_is_all_that_a_new_law_needs() -> None:
    """Every file of the package is imported with it, so what registers itself there is known."""
    import mvpde.models.laws as package

    assert {law.__module__.rpartition(".")[2] for law in LAWS.values()} >= {"basic", "lorentz", "points", "positive", "von_mises"}
    assert package.__doc__ is not None and "All files of the folder are imported here" in package.__doc__


@dataclass(frozen=True)
class Bump:
    """A law as users write them, without anything of circles or mixtures: ¾(1 − z²)."""

    def density(self, z: np.ndarray) -> np.ndarray:
        return 0.75 * np.maximum(1.0 - z * z, 0.0)

    def extent(self) -> tuple[float, float]:
        return -1.0, 1.0


def test_a_law_without_further_words_is_wrapped_too() -> None:
    law = in_period(Bump(), 1.0)  # type: ignore[arg-type]
    assert circular_mean(law, 1.0, 0) == pytest.approx(1.0, abs=1e-4)
