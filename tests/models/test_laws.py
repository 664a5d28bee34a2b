"""Laws: density, gradient, samples and quadrature describe the same measure, for every law of the table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mvpde.models.laws import LAWS, Chi, Law1D, Normal, Product, Uniform, base_potential
from mvpde.models.laws.von_mises import VonMises

EXAMPLES: dict[str, dict[str, float]] = {
    "uniform": {"lower": -0.5, "upper": 2.0},
    "normal": {"mean": 0.3, "std": 0.7},
    "chi": {"scale": 0.8, "dimension": 6},
    "gamma": {"shape": 3.0, "scale": 0.25, "shift": -0.3},
    "exponential": {"scale": 0.3, "shift": 0.1},
    "beta": {"a": 2.0, "b": 3.0, "lower": 0.0, "upper": 2.0},
    "lorentz": {"centre": 0.2, "width": 0.5, "lower": -3.0, "upper": 4.0},
    "von_mises": {"mean": 0.3, "concentration": 2.0},
}
OF_POINTS = {"point"}  # without a density
PRODUCT = Product((Uniform(-1.0, 2.0), Normal(0.5, 0.6)))


@pytest.fixture(params=sorted(LAWS.keys() - OF_POINTS))
def law(request: pytest.FixtureRequest) -> Law1D:
    """One law of the table, with the parameters of `EXAMPLES`."""
    return LAWS[request.param](**EXAMPLES[request.param])


def test_quadrature_has_the_moments_of_the_density(law: Law1D) -> None:
    if isinstance(law, VonMises):
        pytest.skip("on a circle moments are those of waves")
    z = np.linspace(-6.0, 7.0, 130_001)  # trapezoid: exact for the normal, O(step) at the jumps of the uniform density
    step = z[1] - z[0]
    points, weights = law.quadrature(20)
    assert math.isclose(weights.sum(), 1.0, rel_tol=1e-14)
    for power in range(5):
        assert math.isclose(weights @ points**power, step * np.sum(law.density(z) * z**power), abs_tol=40 * step)


def test_gauss_rules_are_exact_up_to_their_degree() -> None:
    points, weights = Uniform(0.0, 2.0).quadrature(4)
    assert math.isclose(weights @ points**7, 2.0**7 / 8, rel_tol=1e-13)
    points, weights = Normal(0.0, 2.0).quadrature(4)
    assert math.isclose(weights @ points**6, 15 * 2.0**6, rel_tol=1e-13)


@pytest.mark.parametrize("dimension", [1, 3, 40, 5000])
def test_the_chi_law_is_that_of_a_normal_vector_in_any_dimension(dimension: int) -> None:
    """E r² = s² and E r⁴ = s⁴(1 + 2/d)."""
    points, weights = Chi(0.8, dimension).quadrature(12)
    assert math.isclose(weights @ points**2, 0.64, rel_tol=1e-12)
    assert math.isclose(weights @ points**4, 0.64**2 * (1.0 + 2.0 / dimension), rel_tol=1e-12)
    assert np.all(Chi(0.8, dimension).density(np.array([-1.0, 0.0])) == 0.0)


def test_a_periodic_uniform_law_integrates_trigonometric_polynomials_exactly() -> None:
    points, weights = Uniform(0.0, 2 * math.pi, periodic=True).quadrature(8)
    assert math.isclose(weights @ np.cos(3 * points + 0.1) ** 2, 0.5, rel_tol=1e-13)
    assert np.all(Uniform(0.0, 1.0, periodic=True).density(np.array([-0.2, 5.0])) == 1.0)


def test_the_gradient_is_that_of_the_logarithm_of_the_density(law: Law1D) -> None:
    z, h = np.array([0.2, 0.6, 1.4]), 1e-5
    np.testing.assert_allclose(np.exp(law.log_density(z)), law.density(z), rtol=1e-14)
    central = (law.log_density(z + h) - law.log_density(z - h)) / (2 * h)
    np.testing.assert_allclose(law.log_density_gradient(z), central, atol=1e-7)  # h²·(d − 1)/z³ at most, rounding 1e-16/h


def test_samples_have_mean_and_variance_of_the_quadrature(law: Law1D) -> None:
    n = 40_000
    sample = law.sample(np.random.default_rng(7), n)
    points, weights = law.quadrature(20)
    mean = weights @ points
    second, fourth = weights @ (points - mean) ** 2, weights @ (points - mean) ** 4
    assert abs(sample.mean() - mean) < 4.0 * math.sqrt(second / n)
    assert abs(np.mean((sample - mean) ** 2) - second) < 4.0 * math.sqrt((fourth - second**2) / n)


def test_a_uniform_law_is_zero_outside_but_exerts_no_force_there() -> None:
    outside = np.array([-3.0, 9.0])
    assert np.all(Uniform(0.0, 2.0).density(outside) == 0.0)
    assert np.all(Uniform(0.0, 2.0).log_density(outside) == -math.log(2.0))
    assert np.all(Uniform(0.0, 2.0).log_density_gradient(outside) == 0.0)


def test_a_product_law_factorises() -> None:
    z = np.array([[0.1, 0.4], [1.9, -1.0]])
    expected = PRODUCT.factors[0].density(z[:, 0]) * PRODUCT.factors[1].density(z[:, 1])
    np.testing.assert_allclose(PRODUCT.density(z), expected, rtol=1e-14)
    np.testing.assert_allclose(PRODUCT.log_density(z), np.log(expected), rtol=1e-13)
    points, weights = PRODUCT.quadrature((3, 4))
    assert points.shape == (12, 2)
    assert points[0, 0] == points[3, 0] != points[4, 0]  # the last direction varies fastest
    assert math.isclose(weights @ (points[:, 0] ** 2 * points[:, 1]), 1.0 * 0.5, rel_tol=1e-13)  # ∫z²dz/3 over [−1, 2] is 1
    assert PRODUCT.sample(np.random.default_rng(0), 5).shape == (5, 2)


def test_bad_parameters_are_refused() -> None:
    for law, parameters in ((Uniform, (1.0, 1.0)), (Uniform, (0.0, math.inf)), (Normal, (0.0, 0.0)), (Normal, (math.nan, 1.0))):
        with pytest.raises(ValueError, match="law|must lie below"):
            law(*parameters)
    for nodes in ((3,), (3, 0)):
        with pytest.raises(ValueError, match="2 positive"):
            PRODUCT.quadrature(nodes)


def test_the_base_measure_becomes_minus_tau_log_density() -> None:
    tau, z = 0.3, np.array([[0.1, 0.4], [1.9, -1.0]])
    potential, gradient = base_potential(PRODUCT, tau, ("y", "c"), (None, None))
    np.testing.assert_allclose(np.exp(-potential(z) / tau), PRODUCT.density(z), rtol=1e-13)  # e^{−V0/τ} = m̂
    np.testing.assert_allclose(gradient(z)[:, 1], tau * (z[:, 1] - 0.5) / 0.6**2, rtol=1e-14)
    flat, flat_gradient = base_potential(PRODUCT, 0.0, ("y", "c"), (None, None))
    assert not flat(z).any()
    assert not flat_gradient(z).any()
    with pytest.raises(ValueError, match="coordinates y"):
        base_potential(PRODUCT, tau, ("y",), (None,))
    with pytest.raises(ValueError, match="periodic coordinate 'c'"):
        base_potential(PRODUCT, tau, ("y", "c"), (None, 1.0))
