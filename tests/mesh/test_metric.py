"""S² × R as a shell with its metric: eigenvalues, heat flow, transport, noise, and a network against its characteristics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mvpde.density.density import Density
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.stationary import stationary
from mvpde.mesh.box import box
from mvpde.mesh.shell import shell
from mvpde.models.laws import Normal, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.network import network
from mvpde.models.shell import Shell, ShellLaw
from mvpde.models.spins import on_sphere
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.runs.compare import prediction_error
from mvpde.runtime import MPI, ArgumentError

pytestmark = pytest.mark.ranks

UNIT = Shell(1.0)


def zero(z: Array) -> Array:
    return np.zeros(len(z))


def free(
    metric: Shell,
    temperature: float = 0.0,
    potential: Callable[[Array], Array] = zero,
    gradient: Callable[[Array], Array] = np.zeros_like,
) -> MeanField:
    """No interaction: Z moves in V0 alone."""
    return MeanField(
        coordinates=("X1", "X2", "X3"),
        profile=lambda z: np.zeros((len(z), 1)),
        profile_field=lambda z, r: (np.zeros(len(z)), np.zeros_like(z)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        temperature=temperature,
        external_potential=potential,
        external_gradient=gradient,
        interacting=False,
        metric=metric,
    )


def order(errors: list[float], sizes: list[int]) -> float:
    """Slope of log error against log cell size, by least squares."""
    return float(-np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def test_the_laplacian_has_the_eigenvalues_of_the_sphere_times_an_interval(comm: MPI.Intracomm) -> None:
    """l(l + 1) + k²π² on unit S² × [0, 1]: 2 three times, 6 five times, then π²."""
    model = free(UNIT, 1.0)
    density = Density(
        model,
        shell(UNIT, lower=0.0, upper=1.0, frequency=8, layers=9, comm=comm),
        ShellLaw(UNIT, 3, Uniform(0.0, 1.0)),
        scheme="edge_averaged",
    )
    values = spectrum(density, 9, stationary(density)).eigenvalues.real
    assert density.statistics()["negative_edges"] > 0  # the mesh is no better than others
    np.testing.assert_allclose(values, [2.0] * 3 + [6.0] * 5 + [math.pi**2], rtol=0.01)
    volume = density.domain.sum(np.array([density.domain.graph.lumped.sum()]))[0]
    assert volume == pytest.approx(4.0 * math.pi, rel=1e-6)


@dataclass(frozen=True)
class Wave:
    """(1 + ½ e^{−2τt/R²} n_z)(1 + e^{−τπ²t} cos(πc)/10)/volume on S²(R) × [0, 1] solves the heat equation."""

    metric: Shell
    temperature: float
    time: float = 0.0
    dimension: int = 3

    def density(self, z: Array) -> Array:
        radius, decay = self.metric.radius, self.temperature * self.time
        first = 1.0 + 0.5 * math.exp(-2.0 * decay / radius**2) * self.metric.direction(z)[:, 2] / radius
        second = 1.0 + 0.1 * math.exp(-(math.pi**2) * decay) * np.cos(math.pi * self.metric.height(z))
        return first * second / (4.0 * math.pi * radius**2)


@pytest.mark.serial
def test_heat_flows_as_on_the_sphere_times_an_interval(comm: MPI.Intracomm) -> None:
    metric, tau, t = Shell(math.sqrt(3.0)), 0.3, 0.5
    sizes, errors = [5, 7, 10], []
    for n in sizes:
        density = Density(
            free(metric, tau),
            shell(metric, lower=0.0, upper=1.0, frequency=n, layers=n, comm=comm),
            Wave(metric, tau),
            scheme="edge_averaged",
            tolerance=1e-7,
        )
        density.advance(t)
        owned, lumped = density.domain.owned, density.domain.graph.lumped
        exact = Wave(metric, tau, t).density(density.domain.coordinates[:owned])
        errors.append(math.sqrt(density.domain.sum(np.array([lumped @ (density.values[:owned] - exact) ** 2]))[0]))
        assert density.mass_defect < 1e-12
    assert order(errors, sizes) > 1.8


def falling(metric: Shell, speed: float = 0.4, pull: float = 0.7) -> MeanField:
    """V = −speed·c + pull·n_z: c moves at a constant speed, tan(θ/2) grows like exp(pull·t/R²), θ the angle from the pole."""
    radius = metric.radius

    def gradient(z: Array) -> Array:
        length = np.linalg.norm(z, axis=1, keepdims=True)
        pole = np.array([[0.0, 0.0, 1.0]])
        return -speed * radius * z / length**2 + pull * (pole / length - z[:, 2:] * z / length**3)

    return free(metric, 0.0, lambda z: -speed * metric.height(z) + pull * metric.direction(z)[:, 2] / radius, gradient)


@pytest.mark.serial
def test_transport_along_a_known_flow(comm: MPI.Intracomm) -> None:
    metric, t = Shell(math.sqrt(3.0)), 1.0
    model, law = falling(metric), ShellLaw(metric, 3, Normal(0.0, 0.4))
    growth, (s, w) = math.exp(0.7 * t / 3.0), np.polynomial.legendre.leggauss(60)
    half = growth * np.tan(0.5 * np.arccos(s))
    later = np.cos(2.0 * np.arctan(half))  # of the sine of the latitude s, uniform in [−1, 1]
    exact = np.array([0.5 * w @ later, 0.4 * t, 0.4**2 + (0.4 * t) ** 2, 0.5 * w @ later**2])
    asked = [
        lambda z: metric.direction(z)[:, 2] / metric.radius,
        metric.height,
        lambda z: metric.height(z) ** 2,
        lambda z: (metric.direction(z)[:, 2] / metric.radius) ** 2,
    ]
    sizes, errors = [3, 4, 6], []
    for n in sizes:
        density = Density(model, shell(metric, lower=-2.0, upper=2.5, frequency=n, layers=4 * n, comm=comm), law)
        density.advance(t)
        errors.append(float(np.linalg.norm(np.array([density.expectation(f)[0] for f in asked]) - exact)))
        assert density.minimum >= 0.0 and density.mass_defect < 1e-12
    assert order(errors, sizes) > 1.8
    nodes = Characteristics(model, law, nodes=[12, 4, 8], comm=comm)
    nodes.advance(t)
    np.testing.assert_allclose([nodes.expectation(f)[0] for f in asked], exact, rtol=1e-6)


@pytest.mark.serial
def test_a_network_on_the_sphere_converges_to_its_characteristics(comm: MPI.Intracomm) -> None:
    model = network("sphere_rbf", on_sphere(50, 1), kappa=2.0)
    assert model.metric is not None and model.metric.radius == pytest.approx(math.sqrt(3.0), rel=1e-14)
    law = ShellLaw(model.metric, 3, Normal(0.0, 0.7))
    truth = Characteristics(model, law, nodes=[8, 16, 12], tolerance=1e-7, comm=comm)
    truth.advance(4.0)
    sizes, errors = [3, 4, 6], []
    for n in sizes:
        density = Density(model, shell(model.metric, lower=-4.0, upper=4.0, frequency=n, layers=4 * n, comm=comm), law)
        density.advance(4.0)
        errors.append(prediction_error(model, density.moments(), truth.moments()))
        assert density.minimum >= 0.0 and density.mass_defect < 1e-12
    assert order(errors, sizes) > 1.8
    assert errors[-1] < 0.01


def test_noise_of_particles_is_that_of_the_metric(comm: MPI.Intracomm) -> None:
    """E n_z falls like exp(−2τt/R²), Var c grows like 2τt and E c stays: the Itô drift of X is the metric's."""
    metric, tau, t, n = Shell(1.5), 0.2, 1.0, 20_000
    model = free(metric, tau)
    assert not model.additive_noise
    particles = Ensemble(model, ShellLaw(metric, 3, Normal(0.5, 0.3)), particles=n, step=0.01, scheme="euler", seed=3, comm=comm)
    upward = Ensemble(model, Upper(metric), particles=n, step=0.01, scheme="euler", seed=4, comm=comm)
    particles.advance(t)
    upward.advance(t)
    variance = 0.3**2 + 2.0 * tau * t
    mean = particles.expectation(metric.height)[0]
    assert mean == pytest.approx(0.5, abs=4.0 * math.sqrt(variance / n) + 0.002)
    square = particles.expectation(lambda z: (metric.height(z) - 0.5) ** 2)[0]
    assert square == pytest.approx(variance, abs=4.0 * variance * math.sqrt(2.0 / n) + 0.01 * variance)
    turned = upward.expectation(lambda z: metric.direction(z)[:, 2] / metric.radius)[0]
    assert turned == pytest.approx(math.exp(-2.0 * tau * t / metric.radius**2), abs=4.0 / math.sqrt(n) + 0.003)


class Upper(ShellLaw):
    """All directions at the pole."""

    def __init__(self, metric: Shell) -> None:
        super().__init__(metric, 3, Normal(0.0, 0.3))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return self.shell.point(np.tile([[0.0, 0.0, 1.0]], (n, 1)), self.output_weight.sample(rng, n))


# --- the model's side -----------------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_the_potential_of_a_network_on_the_sphere_and_its_gradient() -> None:
    data = on_sphere(32, 2)
    model = network("sphere_rbf", data, kappa=3.0)
    metric = model.metric
    assert metric is not None
    rng = np.random.default_rng(0)
    y, c = rng.standard_normal((7, 3)), rng.standard_normal(7)
    z = metric.point(y, c)
    y *= math.sqrt(3.0) / np.linalg.norm(y, axis=1, keepdims=True)
    np.testing.assert_allclose(metric.direction(z), y)
    np.testing.assert_allclose(metric.height(z), c)
    alpha = 3.0 / 3.0
    expected = c[:, None] * np.exp(-0.5 * alpha * ((y[:, None] - data.x[None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(model.profile(z), expected, rtol=1e-12)
    m = rng.standard_normal(32)
    shifts = 1e-6 * np.eye(3)
    numeric = np.column_stack([(model.potential(z + e, m) - model.potential(z - e, m)) / 2e-6 for e in shifts])
    np.testing.assert_allclose(model.potential_gradient(z, m), numeric, atol=1e-8)
    # ẏ = −c∇U on the sphere and ċ = −U: the projected gradient, moved by X
    moved, h = z + 1e-6 * model.drift(z, m), 1e-6
    force = model.outer_gradient(m)
    u = expected / c[:, None] @ force
    np.testing.assert_allclose((metric.height(moved) - c) / h, -u, atol=1e-4)
    slope = alpha * (expected * force) @ data.x
    tangent = slope - (slope * y).sum(axis=1, keepdims=True) * y / 3.0
    np.testing.assert_allclose((metric.direction(moved) - y) / h, -tangent, atol=1e-4)


@pytest.mark.serial
def test_drift_and_diffusion_of_the_coordinates() -> None:
    metric = Shell(2.0)
    model, z = free(metric, 0.3), np.array([[0.5, -1.0, 2.0], [3.0, 0.0, 0.1]])
    m = np.zeros(1)
    np.testing.assert_allclose(model.drift(z, m), -0.3 * z / 4.0)  # of Brownian motion on S² × R: −τX/R₀²
    np.testing.assert_allclose(model.diffusion(z, m)[:, 0, 0], 0.3 * (z**2).sum(axis=1) / 4.0)


@pytest.mark.serial
def test_laws_on_the_shell() -> None:
    metric = Shell(1.3)
    law = ShellLaw(metric, 3, Normal(0.2, 0.5))
    z, w = law.quadrature([6, 12, 10])
    assert w.sum() == pytest.approx(1.0)
    assert w @ metric.height(z) == pytest.approx(0.2)
    np.testing.assert_allclose(w @ metric.direction(z) ** 2, 1.3**2 / 3.0)
    samples = law.sample(np.random.default_rng(1), 40_000)
    np.testing.assert_allclose(metric.direction(samples).mean(axis=0), 0.0, atol=0.02)
    assert metric.height(samples).std() == pytest.approx(0.5, rel=0.02)
    points, h = samples[:5], 1e-6
    numeric = np.column_stack([(law.log_density(points + e) - law.log_density(points - e)) / (2 * h) for e in h * np.eye(3)])
    np.testing.assert_allclose(law.log_density_gradient(points), numeric, atol=1e-6)
    np.testing.assert_allclose(np.log(law.density(points)), law.log_density(points))


@pytest.mark.serial
def test_what_makes_no_sense_is_refused() -> None:
    comm = MPI.COMM_SELF
    with pytest.raises(ArgumentError, match="frequency"):
        shell(UNIT, lower=0.0, upper=1.0, frequency=0, layers=3, comm=comm)
    with pytest.raises(ArgumentError, match="metric"):
        Density(free(UNIT), box([1.0] * 3, [2.0] * 3, [3] * 3, comm=comm), ShellLaw(UNIT, 3, Normal(0.0, 1.0)))
    with pytest.raises(ValueError, match="metric"):
        replace(free(UNIT), own_drift=lambda z, m: z)
    with pytest.raises(ValueError, match="radius"):
        Shell(0.0)
    wrong: dict[str, Any] = {"scheme": "galerkin"}
    with pytest.raises(ArgumentError, match="galerkin"):
        Density(
            free(UNIT, 1.0),
            shell(UNIT, lower=0.0, upper=1.0, frequency=8, layers=4, comm=comm),
            ShellLaw(UNIT, 3, Uniform(0.0, 1.0)),
            **wrong,
        )
    with pytest.raises(ValueError, match="constant diffusion"):
        Ensemble(free(UNIT, 1.0), ShellLaw(UNIT, 3, Normal(0.0, 1.0)), particles=10, comm=comm)
