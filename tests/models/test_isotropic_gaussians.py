"""Two isotropic Gaussians: the radial features and risk against quadrature, the flow of radii, one-pass SGD of the network."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from mvpde.runtime import MPI, InvariantError  # isort: skip  (loads the solver libraries)

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import eval_hermitenorm

from mvpde.cases.file import load
from mvpde.cli.main import main
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.isotropic_gaussians import (
    CLIP,
    Classification,
    PiecewiseLinear,
    cosine_moments,
    hermite,
    hermite_slopes,
    isotropic_gaussians,
)
from mvpde.models.laws import Chi, Normal, Product
from mvpde.models.mean_field import MeanField
from mvpde.particles.one_pass import OnePassSgd, network_risk
from mvpde.studies.laws.limits.one_radius import best_radius

ROOT = Path(__file__).parents[2]
DIP = PiecewiseLinear(-2.5, (0.0, 0.5, 1.5), (-3.0, 14.5, -11.5))  # not monotone


def bell(g: float) -> float:
    return math.exp(-0.5 * g**2) / math.sqrt(2.0 * math.pi)


def mean(h: Any, knots: list[float]) -> float:
    """E h(G) by adaptive quadrature between the kinks."""
    ends = [-12.0, *sorted(t for t in knots if -12.0 < t < 12.0), 12.0]
    return sum(quad(lambda g: h(g) * bell(g), a, b, epsabs=1e-12, limit=200)[0] for a, b in pairwise(ends))


def radial(law: Any, cells: int, upper: float = 8.0, scheme: str = "auto", **keys: Any) -> tuple[MeanField, Density]:
    model = isotropic_gaussians(**{"dimension": 40, "delta": 0.8, "largest": upper, **keys})
    domain = box([0.0], [upper], [cells], comm=MPI.COMM_WORLD)
    return model, Density(model, domain, Product((law,)), scheme=scheme)


def risk(model: MeanField, density: Density) -> float:
    return float(model.outer_energy(density.moments())[0])


def mean_radius(density: Density) -> float:
    return float(density.expectation(lambda z: z[:, 0])[0])


@pytest.mark.serial
@pytest.mark.parametrize("activation", [CLIP, DIP])
@pytest.mark.parametrize("r", [0.03, 0.4, 1.3, 5.0])
def test_features_are_hermite_coefficients(activation: PiecewiseLinear, r: float) -> None:
    knots = [t / r for t in activation.knots]
    found = hermite(activation, np.array([r]), 9)[0]

    def sigma(g: float) -> float:
        return float(activation.value(np.array([r * g]))[0])

    for k in range(9):
        exact = mean(lambda g, k=k: sigma(g) * eval_hermitenorm(k, g), knots) / math.sqrt(math.factorial(k))
        assert found[k] == pytest.approx(exact, abs=1e-9)
    assert activation.mean_square(np.array([r]))[0] == pytest.approx(mean(lambda g: sigma(g) ** 2, knots), abs=1e-9)


@pytest.mark.serial
def test_slopes_are_derivatives_and_small_radii_are_finite() -> None:
    r = np.linspace(0.02, 6.0, 80)
    difference = (hermite(DIP, r + 1e-6, 30) - hermite(DIP, r - 1e-6, 30)) / 2e-6
    assert np.abs(hermite_slopes(DIP, r, 30) - difference).max() < 1e-6
    tiny = np.array([0.0, 1e-300, 1e-12, 1e-3])
    assert np.isfinite(hermite(DIP, tiny, 60)).all() and np.isfinite(hermite_slopes(DIP, tiny, 60)).all()


@pytest.mark.serial
@pytest.mark.parametrize(("dimension", "radii"), [(40, (1.2, 2.1)), (5, (0.7, 3.0)), (2, (1.0, 1.5))])
def test_interaction_is_the_mean_over_directions(dimension: int, radii: tuple[float, float]) -> None:
    """u_d(r, r') against the two-dimensional mean of U(w, w') over the angle, U from 60 coefficients."""
    r, s = radii
    total = 0.0
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angle = 0.5 * math.pi * (nodes + 1.0)
    shares = weights * np.sin(angle) ** (dimension - 2)
    for scale in (1.5, 0.5):
        products = hermite(CLIP, np.array([scale * r]), 400)[0] * hermite(CLIP, np.array([scale * s]), 400)[0]
        kernel = np.polynomial.polynomial.polyval(np.cos(angle), products)
        total += 0.5 * float(shares @ kernel / shares.sum())
    model = isotropic_gaussians(dimension, 0.5)
    g = model.profile(np.array([[r], [s]]))
    weights_of_features = np.tile(cosine_moments(dimension, g.shape[1] // 2), 2)
    assert 0.5 * float(g[0] * weights_of_features @ g[1]) == pytest.approx(total, abs=5e-5)  # d = 2 falls slowest: like k⁻³


@pytest.mark.serial
@pytest.mark.parametrize("keys", [{}, {"temperature": 0.05, "weight_decay": 0.1}, {"activation": DIP, "dimension": 7}])
def test_potential_is_the_first_variation_and_its_gradient_the_derivative(keys: dict[str, Any]) -> None:
    model = isotropic_gaussians(**{"dimension": 40, "delta": 0.6, **keys})
    m = model.profile(np.linspace(0.3, 3.0, 50)[:, None]).mean(axis=0)
    slope = np.array([(model.outer_energy(m + e) - model.outer_energy(m - e)) / 2e-5 for e in 1e-5 * np.eye(len(m))])
    assert np.abs(slope - model.outer_gradient(m)).max() < 1e-8
    z, h = np.linspace(0.2, 4.0, 40)[:, None], 1e-6
    difference = (model.external_potential(z + h) - model.external_potential(z - h)) / (2 * h)
    assert np.abs(difference - model.external_gradient(z)[:, 0]).max() < 1e-6


FLOW = [(1.0, 1.070609, 1.42287), (4.0, 0.859033, 2.11912), (8.0, 0.285265, 3.10189), (10.0, 0.175321, 3.45364)]


def test_risk_and_radius_of_the_flow() -> None:
    """Against numbers that were computed independently."""
    model, density = radial(Chi(0.8, 40), 1000)
    assert risk(model, density) == pytest.approx(1.704474, abs=1e-5)
    assert mean_radius(density) == pytest.approx(0.79501, abs=1e-5)
    for t, expected, radius in FLOW:
        density.advance(t)
        assert risk(model, density) == pytest.approx(expected, abs=5e-4)
        assert mean_radius(density) == pytest.approx(radius, abs=3e-4)


@pytest.mark.parametrize(("dimension", "delta"), [(40, 0.2), (20, 0.3), (math.inf, 0.3)])
def test_below_the_critical_separation_the_law_contracts_to_the_best_radius(dimension: float, delta: float) -> None:
    model, density = radial(Normal(0.8, 0.05), 400, 4.0, dimension=dimension, delta=delta)
    density.advance(40.0)
    radius, least, stays = best_radius(model, 100.0)
    assert stays
    assert risk(model, density) == pytest.approx(least, abs=1e-4)
    assert mean_radius(density) == pytest.approx(radius, abs=1e-3)
    if (dimension, delta) == (40, 0.2):
        assert (least, radius) == (pytest.approx(0.395135, abs=1e-5), pytest.approx(1.46780, abs=1e-4))


@pytest.mark.serial
def test_the_critical_separation() -> None:
    """Δ_h(40) = .43101 and Δ_h → .47422 as d → ∞, computed independently."""
    for dimension, critical in ((40, 0.43101), (math.inf, 0.47422)):
        for shift, stays in ((-2e-3, True), (2e-3, False)):
            assert best_radius(isotropic_gaussians(dimension, critical + shift, largest=500.0), 500.0)[2] is stays


@pytest.mark.parametrize(("scale", "collapses"), [(0.1, True), (0.4, False)])
def test_a_dip_of_the_activation_traps_small_weights_in_an_atom(scale: float, collapses: bool) -> None:
    model, density = radial(Chi(scale, 40), 400, activation=DIP, delta=0.5)
    density.advance(2.0)
    near_zero = float(density.expectation(lambda z: 1.0 * (z[:, 0] < 0.05))[0])
    assert density.statistics()["minimum"] >= 0.0
    if collapses:
        assert near_zero == pytest.approx(1.0, abs=1e-4)
        assert risk(model, density) == pytest.approx(1.0 + 2.5**2, abs=1e-3)  # ŷ = σ(0)
    else:
        assert near_zero < 1e-6 and risk(model, density) < 0.1


@pytest.mark.serial
def test_noise_and_decay_have_the_gibbs_law_of_the_radius() -> None:
    """Where the network does nothing (σ = 0), θ is an Ornstein–Uhlenbeck process: |θ|² has mean dτ/(2λ)."""
    flat = PiecewiseLinear(0.0, (0.0,), (0.0,))
    keys = {"activation": flat, "dimension": 10, "temperature": 0.2, "weight_decay": 0.5}
    _, density = radial(Chi(1.0, 10), 400, 5.0, "edge_averaged", **keys)
    density.advance(20.0)
    assert float(density.expectation(lambda z: z[:, 0] ** 2)[0]) == pytest.approx(10 * 0.2 / (2 * 0.5), rel=2e-3)


# --- the network itself ---------------------------------------------------------------------------------------------------------


def runs(particles: int, count: int, step: float = 1e-5, seed: int = 5, **keys: Any) -> OnePassSgd:
    problem = Classification(**{"dimension": 40, "delta": 0.8, "activation": CLIP, **keys})
    model = isotropic_gaussians(
        problem.dimension,
        problem.delta,
        activation=problem.activation,
        temperature=problem.temperature,
        weight_decay=problem.weight_decay,
    )
    law = Product((Chi(0.8, problem.dimension),))
    sizes = {"particles": particles, "runs": count, "seed": seed}
    return OnePassSgd(problem, model, law, **sizes, step=step, companion=False, comm=MPI.COMM_WORLD)


@pytest.mark.serial
def test_risk_of_a_network_against_fresh_samples() -> None:
    rng = np.random.default_rng(2)
    problem = Classification(5, 0.6, DIP)
    w = rng.standard_normal((30, 5)) * 1.4
    y = np.sign(rng.standard_normal(100_000))
    x = (1.0 + 0.6 * y)[:, None] * rng.standard_normal((len(y), 5))
    squares = (y - DIP.value(x @ w.T).mean(axis=1)) ** 2
    error = squares.std() / math.sqrt(len(squares))
    assert abs(network_risk(problem, w) - squares.mean()) < 4 * error


@pytest.mark.serial
def test_finite_networks_start_with_the_exact_bias() -> None:
    """E R_N − R = N⁻¹(∫U(θ,θ)ρ − ∬Uρρ) at t = 0."""
    many = runs(50, 400)
    r, weights = Chi(0.8, 40).quadrature(60)
    self_interaction = 0.5 * sum(float(weights @ CLIP.mean_square(s * r)) for s in (1.8, 0.2))
    m = weights @ many.model.profile(r[:, None])
    pair = float(0.5 * m**2 @ np.tile(cosine_moments(40, len(m) // 2), 2))
    bias = (self_interaction - pair) / 50
    losses = many.losses() - float(many.model.outer_energy(m))
    assert abs(losses.mean() - bias) < 3.5 * losses.std() / 20
    assert bias > 20 * losses.std() / 20 / 3  # the bias is seen


@pytest.mark.serial
def test_one_pass_sgd_follows_the_flow_up_to_one_over_n() -> None:
    model, density = radial(Chi(0.8, 40), 1000)
    density.advance(0.5)
    limit, found = risk(model, density), {}
    for n in (200, 400):
        networks = runs(n, 6, step=2e-5, seed=n)
        networks.advance(0.5)
        losses = networks.losses()
        found[n] = losses.mean(), losses.std(ddof=1) / math.sqrt(6)
    (coarse, error), (fine, fine_error) = found[200], found[400]
    bias, spread = 2.0 * fine - coarse - limit, math.hypot(2.0 * fine_error, error)
    assert abs(bias) < 3.0 * spread + 1e-3
    assert coarse - limit > 3e-3  # 1/N is seen: at N = 400 it is half of that


@pytest.mark.serial
def test_noisy_sgd_with_weight_decay_follows_the_diffusive_flow_up_to_one_over_n() -> None:
    keys = {"dimension": 10, "delta": 0.6, "temperature": 0.02, "weight_decay": 0.1}
    model, density = radial(Chi(0.8, 10), 600, 6.0, "edge_averaged", **keys)
    density.advance(0.5)
    found = {}
    for n in (200, 400):
        networks = runs(n, 8, step=5e-5, seed=n, **keys)
        networks.advance(0.5)
        radii = networks.expectation(lambda z: z[:, 0])
        found[n] = [(x.mean(), x.std(ddof=1) / math.sqrt(8)) for x in (networks.losses(), radii)]
    for k, limit in enumerate((risk(model, density), mean_radius(density))):
        (coarse, error), (fine, fine_error) = found[200][k], found[400][k]
        assert abs(2.0 * fine - coarse - limit) < 3.0 * math.hypot(2.0 * fine_error, error)
    assert found[200][0][0] - risk(model, density) > 0.01  # 1/N is seen


@pytest.mark.ranks
def test_runs_do_not_depend_on_ranks_or_on_how_time_is_cut() -> None:
    whole, cut = runs(20, 3, step=1e-3), runs(20, 3, step=1e-3)
    whole.advance(0.7)
    for t in (0.1, 0.25, 0.7):
        cut.advance(t)
    assert np.array_equal(whole.losses(), cut.losses())
    alone = OnePassSgd(
        whole.problem,
        whole.model,
        Product((Chi(0.8, 40),)),
        particles=20,
        runs=3,
        seed=5,
        step=1e-3,
        companion=False,
        comm=MPI.COMM_SELF,
    )
    alone.advance(0.7)
    assert np.array_equal(whole.losses(), alone.losses())


@pytest.mark.serial
def test_noise_of_the_network_has_the_temperature_of_the_model() -> None:
    """With σ = 0 the weights are an Ornstein–Uhlenbeck process of variance τ/(2λ) in each direction."""
    flat = PiecewiseLinear(0.0, (0.0,), (0.0,))
    networks = runs(4000, 1, step=1e-3, dimension=10, activation=flat, temperature=0.2, weight_decay=0.5)
    networks.advance(8.0)
    square = float(networks.expectation(lambda z: z[:, 0] ** 2)[0])
    exact = 10 * 0.2 / (2 * 0.5)
    assert abs(square - exact) < 4 * exact * math.sqrt(2 / 10 / 4000) + 0.02 * exact


# --- the case -------------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_the_case_in_infinite_dimension_has_no_network(tmp_path: Path) -> None:
    case = str(ROOT / "cases" / "mmn_isotropic.toml")
    sets = ["model.dimension=inf", "initial.r={law='normal', mean=0.8, std=0.05}", "domain.cells=[100]", "time.outputs=[0,1]"]
    arguments = ["run", case, "--out", str(tmp_path / "out"), *[part for one in sets for part in ("--set", one)]]
    assert main(arguments) == 0
    summary = (tmp_path / "out" / "summary.json").read_text()
    assert "no network in infinite dimension" in summary and "mean_radius" in summary


@pytest.mark.serial
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.dimension": 2.5}, ["[model] dimension", "whole number"]),
        ({"model.dimension": 1}, ["[model] dimension"]),
        ({"model.delta": 1.0}, ["[model] delta", "(0, 1)"]),
        ({"model.activation": {"offset": 0, "knots": [0], "changes": [1, 2]}}, ["[model]", "knots", "changes"]),
        ({"initial.r": {"law": "chi", "scale": -1}}, ["[initial", "scale"]),
    ],
)
def test_wrong_cases_are_refused(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(Exception, match=r"\[") as error:
        load(ROOT / "cases" / "mmn_isotropic.toml", change)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.serial
def test_weights_that_grow_a_thousandfold_stop_the_run() -> None:
    """ReLU in R^10, s|x|² beyond 1: every step multiplies the weights, which stay finite numbers for some hundred steps."""
    networks = runs(20, 1, step=0.5, dimension=10, activation=PiecewiseLinear(0.0, (0.0,), (1.0,)))
    with pytest.raises(InvariantError, match=r"weights have grown to .* 1000 times what start .* smaller than 0\.5"):
        networks.advance(20.0)
