"""Maps of random networks: fixed points, critical lines, kernels, isometry and what finite width adds, against known numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import mvpde
from at_hand.additions import put_back
from mvpde.models.deep import widths
from mvpde.models.deep.activations import ACTIVATIONS, Activation, Array
from mvpde.models.deep.fixed_points import FixedPoints, critical_line, fixed_point, fixed_points
from mvpde.models.deep.kernels import correlations, covariances, first_covariance, isometry, tangent_kernel
from mvpde.models.deep.signal_maps import (
    FEW,
    covariance_map,
    overlap,
    pair_mean,
    pairwise,
    slope_overlap,
    slope_power,
    square_mean,
    variance_map,
)
from mvpde.models.deep.widths import finite_width
from mvpde.runtime import ArgumentError

pytestmark = pytest.mark.serial

# activation, σ_w², σ_b² → q*, χ_1, c*, ξ_c, ξ_∇
KNOWN = [
    (("tanh", 1.0, 0.05), (0.1935925202, 0.7590316472, 1.0, 3.626975618, 3.626975618)),
    (("tanh", 1.7, 0.05), (0.5330756279, 0.9867408090, 1.0, 74.9182705, 74.9182705)),
    (("tanh", 2.0, 0.05), (0.7217618727, 1.0476660, 0.7440824195, 25.21341479, -21.47543432)),
    (("tanh", 2.5, 0.05), (1.063958377, 1.133515699, 0.4468042323, 11.79559752, -7.979315022)),
    (("tanh", 4.0, 0.05), (2.195493928, 1.342402414, 0.1650649620, 6.980273533, -3.396037137)),
    (("tanh", 10.0, 0.05), (7.235093506, 1.935153398, 0.0333031566, 4.305247400, -1.514723265)),
    (("tanh", 2.0, 0.0), (0.6179647698, 1.105528820, 0.0, 21.72366597, -9.967725400)),
    (("erf", 1.0, 0.05), (0.2884266917, 0.8675945842, 1.0, 7.040729235, 7.040729235)),
    (("erf", 2.0, 0.05), (0.9659548126, 1.154652767, 0.4344812375, 10.18497387, -6.954119160)),
    (("relu", 1.5, 0.1), (0.4, 0.75, 1.0, 3.476059497, 3.476059497)),
]


@pytest.mark.parametrize(("of", "expected"), KNOWN)
def test_fixed_points_are_the_known_ones(of: tuple[str, float, float], expected: tuple[float, ...]) -> None:
    found = fixed_point(*of)
    got = (found.q, found.chi, found.c, found.xi_c, found.xi_grad)
    np.testing.assert_allclose(np.array(got, float), expected, rtol=1e-9, atol=1e-9)


def test_near_the_critical_line_the_root_is_found_where_iteration_stops_short() -> None:
    """c_ℓ still is .963 after 200 layers at (1.77, .05), where χ_1 is 1.002."""
    assert fixed_point("tanh", 1.77, 0.05).c == pytest.approx(0.988197363, abs=1e-9)
    k = covariances("tanh", 0.05 + 1.77 * np.array([[1.0, 0.5], [0.5, 1.0]]), 1.77, 0.05, 200)
    assert correlations(k)[-1, 0, 1] < 0.964


@pytest.mark.parametrize("off", [1e-3, 1e-5, 1e-7])
def test_correlation_leaves_one_as_theory_says(off: float) -> None:
    """χ_1 − 1 = ½f''(1)(1 − c*) + …, f''(1) = σ_w² q* E[φ''²]."""
    w = critical_line("tanh", [0.05])[0] + off
    found = fixed_point("tanh", w, 0.05)
    assert found.q is not None and found.c is not None and found.chi is not None
    curvature = w * found.q * float(mean_square("tanh", found.q))
    assert (found.chi - 1.0) / (1.0 - found.c) == pytest.approx(0.5 * curvature, rel=3.0 * math.sqrt(off))


def mean_square(name: str, q: float) -> Array:
    curvature = ACTIVATIONS[name].curvature
    assert curvature is not None
    return pair_mean(lambda u, _: curvature(u) ** 2, (np.array(q), np.array(q), np.array(0.0)), math.pi / 2).real


def test_critical_lines() -> None:
    np.testing.assert_allclose(critical_line("tanh", [0.01, 0.05, 0.2]), [1.4242052905, 1.7609546396, 2.2851524737], rtol=1e-10)
    np.testing.assert_allclose(critical_line("erf", [0.01, 0.05]), [1.1142800634, 1.3758390073], rtol=1e-10)
    q = np.array([0.1, 1.0, 3.0])
    np.testing.assert_allclose(critical_line("sin", q - np.tanh(q)), 2.0 / (1.0 + np.exp(-2.0 * q)), rtol=1e-12)
    assert list(critical_line("relu", [0.0])) == [2.0] and np.isnan(critical_line("relu", [0.1])).all()
    np.testing.assert_allclose([critical_line("tanh", [0.0])[0], critical_line("erf", [0.0])[0]], [1.0, math.pi / 4.0])
    for name in ("tanh", "erf", "sin"):
        found = fixed_point(name, float(critical_line(name, [0.05])[0]), 0.05)
        assert found.c == 1.0 and found.xi_c == found.xi_grad == math.inf


def test_where_there_is_no_fixed_point_it_is_not_invented() -> None:
    critical = fixed_point("relu", 2.0, 0.0)
    assert critical.q is None and critical.chi == 1.0 and critical.xi_c == critical.xi_grad == math.inf
    for w, b in ((2.0, 0.1), (3.0, 0.0)):
        growing = fixed_point("relu", w, b)
        assert growing.q is growing.c is growing.xi_c is None and growing.chi == pytest.approx(w / 2.0)
    for name, w in (("tanh", 1.0), ("tanh", 0.5), ("erf", 0.7), ("tanh", 0.0), ("relu", 1.5)):
        silent = fixed_point(name, w, 0.0)
        assert silent.q == 0.0 and silent.c is None and silent.xi_c is None, (name, w)


def test_large_weights() -> None:
    """At σ_w² = 200: q* against a quadrature of 2·10⁵ nodes, and the correlation that its own map keeps."""
    found = fixed_point("tanh", 200.0, 0.05)
    assert found.q is not None and found.c is not None and found.xi_c is not None
    z = np.linspace(-9.6, 9.6, 200001)
    weights = np.exp(-0.5 * z * z) * (19.2 / 200000) / math.sqrt(2.0 * math.pi)
    t = np.tanh(math.sqrt(found.q) * z)
    assert 200.0 * t**2 @ weights + 0.05 == pytest.approx(found.q, rel=1e-12)
    assert found.chi == pytest.approx(200.0 * (1.0 - t**2) ** 2 @ weights, rel=1e-12)
    k = found.q * np.array([[1.0, found.c], [found.c, 1.0]])
    np.testing.assert_allclose(covariance_map("tanh", k, 200.0, 0.05), k, rtol=1e-9)
    slope = 200.0 * slope_overlap(ACTIVATIONS["tanh"], *k.ravel()[[0, 3, 1]])
    assert found.xi_c == pytest.approx(-1.0 / math.log(slope), rel=1e-9)


def test_a_sigmoid_is_half_a_tanh_and_a_bias() -> None:
    """φ(z) = ½(1 + tanh ½z), so that K/4 goes on like that of tanh at σ_w²/16 and σ_w²/16 + σ_b²/4, also in chaos."""
    for w, b in ((4.0, 0.3), (60.0, 0.0), (600.0, 0.5)):
        found, like = fixed_point("sigmoid", w, b), fixed_point("tanh", w / 16.0, (w / 16.0 + b / 4.0))
        assert found.q is not None and like.q is not None
        assert found.q / 4.0 == pytest.approx(like.q, rel=1e-10)
        assert (found.c, found.chi, found.xi_c) == pytest.approx((like.c, like.chi, like.xi_c), rel=1e-8)


@pytest.mark.parametrize("q", [1e-12, 0.3, 40.0, 200.0, 5000.0])
def test_quadrature_agrees_with_closed_forms(q: float) -> None:
    for name in ("erf", "sin"):
        phi, variances = ACTIVATIONS[name], np.array([q])
        plain = Activation("", phi.value, phi.slope, phi.curvature, strip=phi.strip)
        np.testing.assert_allclose(square_mean(plain, variances), square_mean(phi, variances), rtol=1e-11)
        slopes = phi.slope_overlap
        assert slopes is not None
        np.testing.assert_allclose(slope_power(plain, variances), slopes(q, q, q), rtol=1e-11)
        if q < 1000.0:
            for c in (1.0 - 1e-9, 0.7, -0.9, -1.0):
                k = (variances, 0.5 * variances, c * q * math.sqrt(0.5))
                np.testing.assert_allclose(overlap(plain, *k), overlap(phi, *k), rtol=1e-10, atol=1e-16)


def test_the_maps_are_their_own_at_a_point() -> None:
    q = variance_map("tanh", np.array([0.0, 1.063958377]), 2.5, 0.05)
    np.testing.assert_allclose(q, [0.05, 1.063958377], rtol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "relu", "sin"])
def test_many_at_once_are_those_one_by_one(name: str) -> None:
    w, b = np.meshgrid([0.5, 1.2, 1.77, 4.0, 30.0], [0.0, 0.05, 3.0])
    many = fixed_points(name, w, b)
    for at in np.ndindex(w.shape):
        alone = fixed_point(name, float(w[at]), float(b[at]))
        for key, value in vars(many).items():
            other = getattr(alone, key)
            np.testing.assert_allclose(
                value[at], math.nan if other is None else other, rtol=1e-8, atol=1e-12, err_msg=f"{key}, {at}"
            )


def test_the_series_ends_where_quadrature_goes_on() -> None:
    """At q* = 73 and 1 − c* = 4·10⁻⁵ the series in c is cut short: 1e-3 of 1 − c* in a diagram, exact alone."""
    w = float(critical_line("tanh", [60.0])[0]) + 0.01
    alone = fixed_point("tanh", w, 60.0)
    many: FixedPoints = fixed_points("tanh", np.array([w]), np.array([60.0]))
    assert alone.c is not None and alone.q is not None
    assert many.c[0] == pytest.approx(alone.c, abs=1e-3 * (1.0 - alone.c))
    k = alone.q * np.array([[1.0, alone.c], [alone.c, 1.0]])
    np.testing.assert_allclose(covariance_map("tanh", k, w, 60.0), k, rtol=1e-13)


# --- layers and kernels ---------------------------------------------------------------------------------------------------------


def layers(name: str, w: float, b: float, depth: int) -> tuple[Array, Array]:
    """q_ℓ and c_ℓ from x² = 1, x·x' = ½ for each of the N_0 inputs."""
    k = covariances(name, b + w * np.array([[1.0, 0.5], [0.5, 1.0]]), w, b, depth)
    return k[:, 0, 0], correlations(k)[:, 0, 1]


def test_layers_are_the_known_ones() -> None:
    q, c = layers("tanh", 2.5, 0.05, 20)
    at = np.array([2, 5, 20]) - 1
    np.testing.assert_allclose(q[at], [1.455499847, 1.088019955, 1.063958449], atol=1e-9)
    np.testing.assert_allclose(c[at], [0.4744635411, 0.4537377640, 0.4483305812], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "w", "b", "known"),
    [
        ("tanh", 1.7609546396, 0.05, {10: 0.6487727800, 100: 0.93893407, 1000: 0.9937833029}),
        ("relu", 2.0, 0.0, {2: 0.608997781, 10: 0.8860334783, 1000: 0.9999569592}),
        ("tanh", 1.0, 0.0, {1000: 0.4405735215}),
    ],
)
def test_correlations_far_down(name: str, w: float, b: float, known: dict[int, float]) -> None:
    q, c = layers(name, w, b, 1000)
    for layer, expected in known.items():
        assert c[layer - 1] == pytest.approx(expected, abs=6e-9)
    if b == 0.0 and name == "tanh":
        assert q[-1] == pytest.approx(0.0005016665349, abs=1e-12)


INPUTS = np.array([(1.0, 0.0), (0.6, 0.8), (-1.0, 0.5)])
UPPER = np.triu_indices(3)


def kernels(name: str, w: float, b: float, depth: int) -> tuple[Array, Array]:
    k = covariances(name, first_covariance(INPUTS, w, b), w, b, depth)
    return k[-1][UPPER], tangent_kernel(name, k, w)[UPPER]


def test_kernels_are_the_known_ones() -> None:
    erf = [0.601925609, 0.413821085, 0.126354305, 0.601925609, 0.251089713, 0.602032517]
    np.testing.assert_allclose(kernels("erf", 1.5, 0.05, 10)[0], erf, atol=1e-9)
    np.testing.assert_allclose(
        kernels("relu", 2.0, 0.1, 3)[0], [1.3, 1.025557129, 0.597360258, 1.3, 0.762976702, 1.55], atol=1e-9
    )
    k, theta = kernels("tanh", 1.7609546396, 0.05, 3)
    known = [0.641281856, 0.405600688, -0.336672678, 0.641281856, 0.027415942, 0.669343805]
    np.testing.assert_allclose(k, known, atol=1e-9)
    known = [2.028413442, 1.120286697, -1.231622424, 2.028413442, -0.055792805, 2.170346773]
    np.testing.assert_allclose(theta, known, atol=1e-9)


def test_isometry() -> None:
    w = float(critical_line("tanh", [0.05])[0])
    q = np.full(10, fixed_point("tanh", w, 0.05).q)
    assert slope_power(ACTIVATIONS["tanh"], q[:1], 2)[0] * w**2 == pytest.approx(1.342256078, rel=1e-9)
    for orthogonal, spread in ((False, 13.42256078), (True, 3.42256078)):
        assert isometry("tanh", q, w, orthogonal=orthogonal) == pytest.approx((1.0, spread), rel=1e-9)
    assert isometry("relu", np.ones(10), 2.0) == (1.0, 20.0)
    assert isometry("relu", np.ones(10), 2.0, orthogonal=True) == (1.0, 10.0)


# --- finite width ---------------------------------------------------------------------------------------------------------------


def test_finite_width_is_the_known_one() -> None:
    k = covariances("tanh", np.array([[2.55, 1.3], [1.3, 2.55]]), 2.5, 0.05, 7)
    m, v = finite_width("tanh", k, 2.5, 0.05)
    assert not m[0].any() and not v[0].any() and not m[1].any()
    np.testing.assert_allclose(m[[2, 6]], [[-0.086194, -0.086194, 0.005751], [-0.241555, -0.241555, 0.319072]], atol=1e-6)
    np.testing.assert_allclose(np.diag(v[2]), [0.770155, 0.770155, 2.015725], atol=1e-6)
    np.testing.assert_allclose(np.diag(v[6]), [0.765877, 0.765877, 3.240988], atol=4e-6)


def test_derivatives_of_the_map_are_those_of_the_formulas() -> None:
    """∂E[φφ]/∂K₁₂ = E[φ'φ'], ∂E[φφ]/∂K₁₁ = ½E[φ''φ], and ∂²/∂K₁₂² = E[φ''φ''], ¼E[φ''''φ] = ∂²/∂K₁₁²."""
    phi, k = ACTIVATIONS["erf"], np.array([[1.3, 0.4], [0.4, 0.7]])
    m, v = finite_width("erf", np.stack([k, k, k]), 1.0, 0.0)
    parts = [np.array(one) for one in (1.3, 0.7, 0.4)]
    f, f1, f2 = phi.value, phi.slope, phi.curvature
    assert f1 is not None and f2 is not None

    def both(g: Callable[..., Array], h: Callable[..., Array]) -> float:
        return float(pair_mean(lambda x, y: g(x) * h(y), (parts[0], parts[1], parts[2]), 1.0).real)

    def fourth(z: Array) -> Array:
        return f1(z) * (12.0 * z - 8.0 * z**3)

    # the second derivatives of E φ(u)φ(v), in (K₁₁, K₂₂, K₁₂)
    third_first = both(lambda z: f1(z) * (4.0 * z**2 - 2.0), f1)
    first_third = both(f1, lambda z: f1(z) * (4.0 * z**2 - 2.0))
    mixed, squared = 0.25 * both(f2, f2), both(f2, f2)
    hessian = np.array(
        [
            [0.25 * both(fourth, f), mixed, 0.5 * third_first],
            [mixed, 0.25 * both(f, fourth), 0.5 * first_third],
            [0.5 * third_first, 0.5 * first_third, squared],
        ]
    )
    assert m[2, 2] == pytest.approx(0.5 * float((hessian * v[1]).sum()), rel=1e-8)
    jacobian = np.array([0.5 * both(f2, f), 0.5 * both(f, f2), both(f1, f1)])
    assert (v[2] - v[1])[2, 2] == pytest.approx(jacobian @ v[1] @ jacobian, rel=1e-9)


def test_relu_has_its_variance_in_closed_form() -> None:
    """(1 + 5/N)^{ℓ−1} − 1 = 5(ℓ − 1)/N + O(N⁻²), and no bias of the variance."""
    k = covariances("relu", np.array([[1.0, 0.5], [0.5, 1.0]]), 2.0, 0.0, 6)
    m, v = finite_width("relu", k, 2.0, 0.0)
    np.testing.assert_allclose(v[:, 0, 0] / k[:, 0, 0] ** 2, 5.0 * np.arange(6), rtol=1e-12)
    np.testing.assert_allclose(m[:, :2], 0.0, atol=1e-10)


# --- what cannot be -------------------------------------------------------------------------------------------------------------


def test_arguments_that_cannot_be_are_refused() -> None:
    for made, said in (
        (lambda: mvpde.fixed_point("tanhh", 1.0, 0.0), "activation: .*did you mean 'tanh'"),
        (lambda: mvpde.fixed_point("tanh", -1.0, 0.0), "weight_variance: is -1; a variance must be a number from 0 to 1000"),
        (lambda: mvpde.fixed_point("tanh", 1.0, math.inf), "bias_variance: is inf"),
        (lambda: mvpde.critical_line("tanh", [-0.1]), "bias_variance: is -0.1"),
        (lambda: mvpde.critical_line("tanh", "a few"), "bias_variances: 'a few' are no numbers"),
        (lambda: first_covariance(np.zeros((2, 0)), 1.0, 0.0), "inputs: have the shape"),
        (lambda: covariances("tanh", np.eye(2), 1.0, 0.0, 0), "depth: is 0"),
    ):
        with pytest.raises(ArgumentError, match=said):
            made()


def test_an_activation_without_a_derivative_is_refused_where_that_is_needed() -> None:
    with put_back():
        ACTIVATIONS["step"] = Activation("step z", lambda z: np.where(z.real > 0.0, 1.0, 0.0), strip=1.0)
        with pytest.raises(ArgumentError, match="step z has no derivative φ' of finite mean square"):
            fixed_point("step", 1.0, 0.1)


@pytest.mark.parametrize("q", [0.5, 40.0])
def test_the_series_of_kernels_goes_over_into_quadrature(q: float) -> None:
    """Kernels of tanh by their series in c, or by quadrature where 256 terms are too few, are the quadrature's."""
    near, x = np.array([1.0, 1e-3]), np.array([(1.0, 0.0), (0.6, 0.8), (-0.2, 0.9), (0.1, -0.3), (-0.7, 0.7)])
    x = np.vstack([x, near])
    k = q * (x @ x.T)
    phi, own = ACTIVATIONS["tanh"], np.diagonal(k)
    assert len(x) * (len(x) - 1) / 2 > FEW
    for slopes, exact in ((False, overlap), (True, slope_overlap)):
        found = pairwise(phi, k, slopes=slopes)
        for a, b in [(0, 0), *((row, 5) for row in range(6))]:
            np.testing.assert_allclose(found[a, b], exact(phi, own[a], own[b], k[a, b]), rtol=1e-10, atol=1e-15)


def test_many_inputs_are_quick() -> None:
    """Two hundred inputs: a layer costs a product of matrices, not a quadrature for each of 20,000 pairs."""
    x = np.random.default_rng(0).standard_normal((200, 5))
    k = covariances("tanh", first_covariance(x, 2.0, 0.1), 2.0, 0.1, 3)
    a, b = 3, 117
    alone = covariances("tanh", first_covariance(x[[a, b]], 2.0, 0.1), 2.0, 0.1, 3)
    np.testing.assert_allclose(k[:, [a, b]][:, :, [a, b]], alone, rtol=1e-12)


def test_layers_at_their_limit_share_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bias and variance of order 1/N go on as if each layer were computed anew, at the cost of the first ones."""
    asked = list[Array]()
    whole = widths._along
    monkeypatch.setattr(widths, "_along", lambda phi, state, axis: asked.append(state) or whole(phi, state, axis))
    start = np.array([[0.7, 0.2], [0.2, 0.6]])
    k = covariances("erf", start, 0.3, 0.05, 60)
    m, v = finite_width("erf", k, 0.3, 0.05)
    shared = len(asked)
    monkeypatch.setattr(widths, "ALIKE", -1.0)
    exact = finite_width("erf", k, 0.3, 0.05)
    assert np.allclose(m, exact[0], rtol=1e-9, atol=1e-12) and np.allclose(v, exact[1], rtol=1e-9, atol=1e-12)
    assert shared < 0.7 * (len(asked) - shared)
