"""Characteristics: the exact law at τ = 0, held against numbers computed elsewhere and against what the flow conserves."""

from __future__ import annotations

import math
from dataclasses import replace

from mvpde.runtime import MPI, InvariantError, SolverError  # isort: skip

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mvpde.models.data import Data
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.particles.characteristics import Characteristics

# Constructors take all ranks unless they are told.
pytestmark = pytest.mark.usefixtures("comm")

WORLD = MPI.COMM_WORLD
ANGLES = 2.0 * np.pi * np.arange(64) / 64
CIRCLE_DATA = Data(ANGLES[:, None], np.full(64, 1 / 64), 0.6 * np.cos(ANGLES) + 0.3 * np.sin(2.0 * ANGLES))
CYLINDER = Product((Uniform(0.0, 2.0 * np.pi, True), Normal(0.0, 0.7)))
MIXTURE_LAW = Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))


def circle(temperature=0.0) -> MeanField:
    return network("circle_rbf", CIRCLE_DATA, temperature=temperature, kappa=2.0)


def mixture() -> MeanField:
    return gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1 / 3, -2 / 3, 1 / 3])


def attraction(strength=1.5, external_gradient=np.zeros_like) -> MeanField:
    """Every z is drawn to the mean: φ = (z, z²), R = ½θ(m_2 − m_1²), so ż = −θ(z − m_1) − V0'."""
    return MeanField(
        coordinates=("z",),
        profile=lambda y: np.column_stack([y[:, 0], y[:, 0] ** 2]),
        profile_field=lambda y, r: (r[0] * y[:, 0] + r[1] * y[:, 0] ** 2, r[0] + 2.0 * r[1] * y),
        outer_energy=lambda m: 0.5 * strength * (m[..., 1] - m[..., 0] ** 2),
        outer_gradient=lambda m: 0.5 * strength * np.stack([-2.0 * m[..., 0], np.ones(m.shape[:-1])], axis=-1),
        external_gradient=external_gradient,
        periods=(None,),
    )


def test_attraction_to_the_mean_is_solved_exactly():
    """ż = −θ(z − z̄): the mean stays, the variance falls like e^{−2θt}; two Gauss points carry both exactly."""
    c = Characteristics(attraction(), Product((Normal(0.4, 0.9),)), nodes=[2], comm=WORLD)
    for t in (0.3, 1.1):
        c.advance(t)
        (m,) = c.moments()
        assert m[0] == pytest.approx(0.4, abs=1e-9)
        assert m[1] - m[0] ** 2 == pytest.approx(0.81 * math.exp(-2 * 1.5 * t), rel=1e-8)


def test_circle_to_eight_digits():
    """Loss and f_t(0) of cases/circle_rbf.toml, converged in the nodes (to 512×64) and in the tolerance; all digits are good.

    At t = 8 the outermost nodes have been stretched apart and f_8(0) with 128×32 nodes is 1.4e-8 off; the loss is within 1e-8.
    """
    c = Characteristics(circle(), CYLINDER, nodes=(128, 32), tolerance=1e-8, comm=WORLD)
    expected = {2.0: (0.0885831450, 0.0778498161), 4.0: (0.0700779570, 0.1473722693), 8.0: (0.0441424745, 0.2642069145)}
    for t, (value, prediction) in expected.items():
        c.advance(t)
        assert c.losses()[0] == pytest.approx(value, abs=1e-8)
        assert c.moments()[0, 0] == pytest.approx(prediction, abs=1e-8 if t < 8.0 else 2e-8)  # x_0 = 0
    assert c.statistics()["nodes"] == 128 * 32


def test_errors_fall_spectrally_with_the_nodes():
    """Analytic integrands: halving the spacing does far more than any algebraic order; here at least 100 times."""
    losses = []
    for nodes in ((16, 6), (32, 12), (64, 24)):
        c = Characteristics(circle(), CYLINDER, nodes=nodes, tolerance=1e-9, comm=WORLD)
        c.advance(2.0)
        losses.append(c.losses()[0])
    first, second = abs(losses[0] - losses[2]), abs(losses[1] - losses[2])
    assert second < 1e-2 * first


def test_gaussian_mixture():
    """Energy, f_t(0) and ⟨c²⟩ of the problem of Rotskoff & Vanden-Eijnden, arXiv:1805.00915, to one unit of the last digit.

    Converged in the nodes (to 128×128); sums of F and K in closed form over other nodes (8 panels of 12) give the same digits.
    """
    model = mixture()
    c = Characteristics(model, MIXTURE_LAW, nodes=(64, 32), tolerance=1e-8, comm=WORLD)
    x_is_zero = int(np.argmin(np.abs(model.data.x[:, 0])))
    expected = {
        0.0: ((0.06886827, 1e-8), (0.0, 1e-12), (1.0, 1e-12)),
        1.0: ((0.04468775, 1e-8), (-0.0632098, 1e-7), (1.0241365, 1e-7)),
        5.0: ((0.01198729, 1e-8), (-0.196226, 1e-6), (1.262757, 1e-6)),
        10.0: ((0.0044925, 1e-7), (-0.24878, 1e-5), (1.49769, 1e-5)),
    }
    for t, values in expected.items():
        c.advance(t)
        found = (c.losses()[0], c.moments()[0, x_is_zero], c.expectation(lambda z: z[:, 1] ** 2)[0])
        for number, (value, unit) in zip(found, values, strict=True):
            assert number == pytest.approx(value, abs=unit)


def test_gaussian_mixture_by_its_kernel():
    """The same few nodes, moved by V = c[−F(y) + Σ_j w_j c_j K(y, y_j)] with F and K in closed form, without features."""

    def normal(x, v):
        return np.exp(-(x**2) / (2.0 * v)) / np.sqrt(2.0 * np.pi * v)

    z0, w = MIXTURE_LAW.quadrature((10, 6))

    def velocity(_, flat):
        y, c = flat.reshape(2, -1)
        gap = np.subtract.outer(y, y)
        from_target = [(a / 3.0, y - mean, v + 0.5) for a, mean, v in ((1.0, -2.0, 0.5), (-2.0, 0.0, 1.0), (1.0, 2.0, 0.5))]
        u = normal(gap, 1.0) @ (w * c) - sum(a * normal(d, v) for a, d, v in from_target)
        slope = (-gap * normal(gap, 1.0)) @ (w * c) + sum(a * d / v * normal(d, v) for a, d, v in from_target)
        return np.concatenate([-c * slope, -u])

    y, c = solve_ivp(velocity, (0.0, 3.0), z0.T.ravel(), rtol=1e-10, atol=1e-12).y[:, -1].reshape(2, -1)
    found = Characteristics(mixture(), MIXTURE_LAW, nodes=(10, 6), comm=WORLD)
    found.advance(3.0)
    z, _ = WORLD.bcast(found.cloud())
    np.testing.assert_allclose(z, np.column_stack([y, c]), atol=1e-8)


def test_dissipation():
    """d𝓕/dt = −∫ρ|∇V|² at τ = 0, the derivative by central differences of step h with error O(h²)."""
    model, h = circle(), 1e-3
    c = Characteristics(model, CYLINDER, nodes=(32, 12), tolerance=1e-11, comm=WORLD)
    energies = []
    for t in (1.0 - h, 1.0, 1.0 + h):
        c.advance(t)
        energies.append(c.losses()[0])
        if t == 1.0:
            r = model.outer_gradient(c.moments()[0])

            def squared_force(z, r=r):
                value, slope = model.profile_field(z[:, :1], r)
                return value**2 + (z[:, 1] * slope[:, 0]) ** 2

            dissipation = c.expectation(squared_force)[0]
    assert (energies[2] - energies[0]) / (2 * h) == pytest.approx(-dissipation, rel=1e-5)


def test_result_does_not_depend_on_stops_on_the_way():
    straight, stopping = (Characteristics(circle(), CYLINDER, nodes=(32, 8), tolerance=1e-9, comm=WORLD) for _ in range(2))
    straight.advance(2.0)
    for t in (0.1, 0.1, 0.75, 2.0):
        stopping.advance(t)
    assert straight.time == stopping.time == 2.0
    np.testing.assert_allclose(straight.moments(), stopping.moments(), atol=1e-8)


@pytest.mark.ranks
def test_every_rank_has_the_same_moments_and_rank_0_the_cloud():
    c = Characteristics(circle(), CYLINDER, nodes=(16, 6), tolerance=1e-6, comm=WORLD)
    c.advance(3.0)
    everywhere = WORLD.allgather(c.moments().tobytes())
    assert all(m == everywhere[0] for m in everywhere)
    assert c.moments().shape == (1, 64)
    cloud = c.cloud()
    assert (cloud is None) == (WORLD.rank > 0)
    z, w = WORLD.bcast(cloud)
    assert w.sum() == pytest.approx(1.0, abs=1e-14)
    assert (z.shape, z[:, 0].min() >= 0.0, z[:, 0].max() < 2.0 * np.pi) == ((96, 2), True, True)
    assert c.expectation(lambda z: z[:, 1] ** 2) == pytest.approx(w @ z[:, 1] ** 2, abs=1e-14)


def blow_up(z):
    return -(z**3)


def not_a_number(z):
    return np.full_like(z, np.nan)


@pytest.mark.ranks
@pytest.mark.parametrize(("force", "message"), [(blow_up, "integrator stopped"), (not_a_number, "not finite")])
def test_failure_reaches_all_ranks_and_keeps_the_nodes(force, message):
    """ż = z³ from |z| = 2 is infinite at t = 1/8."""
    c = Characteristics(attraction(0.0, force), Product((Normal(0.0, 2.0),)), nodes=[2], comm=WORLD)
    before = c.moments()
    with pytest.raises(SolverError, match=message):
        c.advance(1.0)
    assert c.time == 0.0
    assert np.array_equal(c.moments(), before)


def test_only_zero_temperature():
    with pytest.raises(ValueError, match="zero temperature only"):
        Characteristics(circle(0.05), CYLINDER, nodes=(8, 8), comm=WORLD)


@pytest.mark.parametrize("arguments", [{"nodes": (8,)}, {"nodes": (8, 0)}, {"nodes": (8, 8), "tolerance": 0.0}])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=r"(nodes|tolerance): must"):
        Characteristics(circle(), CYLINDER, comm=WORLD, **arguments)


def test_no_way_back():
    c = Characteristics(circle(), CYLINDER, nodes=(4, 2), comm=WORLD)
    c.advance(0.1)
    with pytest.raises(ValueError, match="cannot go back"):
        c.advance(0.0)


@pytest.mark.ranks
@pytest.mark.parametrize("companions", [True, False])
def test_rank_0_alone_knows_what_is_listed(companions):
    """It writes summaries while the others wait elsewhere; the errors themselves are known to all ranks together."""
    model = replace(circle(), observables={"fourth": lambda z: z[:, 1] ** 4})
    c = Characteristics(model, CYLINDER, nodes=(8, 4), tolerance=1e-6, companions=companions, comm=WORLD)
    listed = c.listed if WORLD.rank == 0 else None
    assert WORLD.bcast(listed) == tuple(key for key in c.numbers() if key.endswith("_error"))
    assert c.listed == (("loss_error", "law_error", "prediction_error", "fourth_error") if companions else ())


@pytest.mark.ranks
def test_nodes_that_grow_a_thousandfold_stop_on_all_ranks():
    """ż = z is e^t times its start: 1000 t of it beyond t = 9.1."""
    c = Characteristics(attraction(0.0, lambda z: -z), Product((Normal(0.0, 2.0),)), nodes=[2], comm=WORLD)
    c.advance(8.0)
    with pytest.raises(InvariantError, match="nodes have grown to .* 1000 times what start"):
        c.advance(12.0)
    assert c.time == 8.0
