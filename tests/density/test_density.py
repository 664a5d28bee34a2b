"""Laws of the density: mass, positivity, Gibbs states, dissipation, orders, and one result on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from at_hand.gaussians import gaussian, general
from at_hand.models import TWO_PI, circle_network, free, kuramoto, order
from mvpde.density.density import Density
from mvpde.density.schemes import SCHEMES, Options, OrderInTime
from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.mesh.gmsh import gmsh
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.characteristics import Characteristics
from mvpde.runs.compare import prediction_error
from mvpde.runtime import MPI, ArgumentError, InvariantError


def circle(comm: MPI.Intracomm, cells: int, height: float = 5.0) -> Domain:
    return box([0.0, -height], [TWO_PI, height], [cells, cells], [True, False], comm=comm)


def l1(density: Density, exact: Callable[[Array], Array]) -> float:
    owned = density.domain.owned
    gap = np.abs(density.values[:owned] - exact(density.domain.coordinates[:owned]))
    return float(density.domain.sum(np.array([density.domain.graph.lumped @ gap]))[0])


def square(comm: MPI.Intracomm, cells: int) -> Domain:
    return box([-1.5, -1.5], [1.5, 1.5], [cells, cells], comm=comm)


# --- the operator ---------------------------------------------------------------------------------------------------------------


def saddle(z: Array) -> Array:
    """V = x² − y²/2 + xy/2: its drift has divergence −1, pulls in along x and pushes out along y."""
    return z[:, 0] ** 2 - 0.5 * z[:, 1] ** 2 + 0.5 * z[:, 0] * z[:, 1]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("temperature", "scheme"), [(0.0, "flux_corrected"), *((0.02, scheme) for scheme in SCHEMES if scheme != "auto")]
)
def test_gaussian_under_a_drift_with_divergence(comm: MPI.Intracomm, temperature: float, scheme: str) -> None:
    """A Gaussian stays one: mean and covariance follow their equations, the density converges in L¹ as the scheme declares.

    The advective form v·∇ρ instead of ∇·(vρ), or a sign of the drift, fails here; a divergence-free drift would not tell.
    """
    a = np.array([[2.0, 0.5], [0.5, -1.0]])  # ∇V = a z
    mean0, c0, t = np.array([0.2, -0.1]), np.diag([0.25**2, 0.2**2]), 0.4  # at .5 it meets the walls
    w, q = np.linalg.eigh(a)
    decay = q @ np.diag(np.exp(-w * t)) @ q.T
    mean = decay @ mean0
    spread = q @ np.diag(temperature * (1.0 - np.exp(-2.0 * w * t)) / w) @ q.T
    covariance = decay @ c0 @ decay.T + spread
    inverse, scale = np.linalg.inv(covariance), 2.0 * np.pi * np.sqrt(np.linalg.det(covariance))

    def exact(z: Array) -> Array:
        return np.exp(-0.5 * np.einsum("ni,ij,nj->n", z - mean, inverse, z - mean)) / scale

    law = Product((Normal(0.2, 0.25), Normal(-0.1, 0.2)))
    model = replace(free(2, temperature, saddle), external_gradient=lambda z: z @ a)
    errors, covariances = [], []
    for cells in (64, 128):
        density = Density(model, square(comm, cells), law, scheme=scheme, tolerance=1e-7)
        density.advance(t)
        errors.append(l1(density, exact))
        second = density.expectation(lambda z: (z[:, 0] - mean[0]) * (z[:, 1] - mean[1]))[0]
        covariances.append(abs(second - covariance[0, 1]))
        assert density.mass_defect < 1e-12
        assert density.minimum >= (0.0 if scheme == "flux_corrected" else -1e-14)
    assert order(errors) > SCHEMES[scheme].order - 0.2
    assert errors[-1] < 0.02
    assert covariances[-1] < 0.02 * abs(covariance[0, 1])


def test_mass_piles_up_at_a_wall(comm: MPI.Intracomm) -> None:
    """V = −x on [0, 1], uniform start: the mass t lies at the wall x = 1 at time t, the rest is uniform on [t, 1]."""
    t, errors = 0.3, []
    for cells in (40, 80, 160):
        density = Density(free(1, 0.0, lambda z: -z[:, 0]), box([0.0], [1.0], [cells], comm=comm), Product((Uniform(0.0, 1.0),)))
        density.advance(t)
        errors.append(abs(density.expectation(lambda z: z[:, 0])[0] - (t + 0.5 * (1.0 - t**2))))
        assert density.mass() == pytest.approx(1.0, abs=1e-13)
        assert density.minimum >= 0.0
        assert density.outer_mass() > t - 2.0 / cells
    assert errors[-1] < 1e-3
    assert order(errors) > 0.9  # a measure with an atom: first order in the mean at worst


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_ornstein_uhlenbeck_relaxes_to_its_temperature(comm: MPI.Intracomm, dimension: int) -> None:
    """Var z_k → τ + (s² − τ)e^{−2t} for V = |z|²/2, in every dimension, also where the walls are periodic or not."""
    tau, s, t = 0.04, 0.3, 0.7
    law = Product((Normal(0.1, s),) * dimension)
    cells = {1: 200, 2: 64, 3: 16}[dimension]
    model = free(dimension, tau, lambda z: 0.5 * np.sum(z**2, axis=1))
    density = Density(
        model, box([-1.5] * dimension, [1.5] * dimension, [cells] * dimension, comm=comm), law, scheme="edge_averaged"
    )
    density.advance(t)
    width = 3.0 / cells
    for k in range(dimension):
        mean = density.expectation(lambda z, k=k: z[:, k])[0]
        variance = density.expectation(lambda z, k=k: z[:, k] ** 2)[0] - mean**2
        assert mean == pytest.approx(0.1 * np.exp(-t), abs=0.15 * width**2 + 1e-4)
        assert variance == pytest.approx(tau + (s**2 - tau) * np.exp(-2.0 * t), abs=0.15 * width**2 + 1e-4)


# --- invariants -----------------------------------------------------------------------------------------------------------------


def rough(comm: MPI.Intracomm, scheme: str) -> Density:
    """A start with jumps, off the nodes of the mesh, and a potential with a kink."""
    temperature = 0.0 if scheme == "flux_corrected" else 0.01
    model = free(2, temperature, lambda z: np.abs(z[:, 0] - 0.11) + 0.3 * np.sin(3.0 * z[:, 1]) * z[:, 0])
    return Density(model, square(comm, 30), Product((Uniform(-0.97, 0.58), Uniform(-0.33, 0.71))), scheme=scheme)


@pytest.mark.ranks
@pytest.mark.parametrize("scheme", SCHEMES)
def test_rough_starts_stay_positive_and_keep_their_mass(comm: MPI.Intracomm, scheme: str) -> None:
    density = rough(comm, scheme)
    density.advance(1.0)
    assert density.mass_defect < 1e-12
    assert density.minimum >= (0.0 if scheme == "flux_corrected" else -1e-14)


def test_a_large_implicit_step_is_limited_not_clipped(comm: MPI.Intracomm) -> None:
    """The second-order step from a jump goes below zero; its fluxes are cut until it does not, with the mass kept to rounding."""
    model = free(1, 1.0, lambda z: 0.0 * z[:, 0])
    density = Density(
        model, box([0.0], [1.0], [100], comm=comm), Product((Uniform(0.495, 0.505),)), scheme="edge_averaged", step=0.02
    )
    density.advance(0.02)
    assert density.statistics()["limited_steps"] == 1
    assert density.minimum >= -1e-14
    assert density.mass_defect < 1e-14
    assert density.expectation(lambda z: z[:, 0])[0] == pytest.approx(0.5, abs=1e-10)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_gibbs_state_of_a_frozen_potential_is_stationary(comm: MPI.Intracomm, dimension: int) -> None:
    """ρ_i ∝ e^{−V_i/τ} stays to 1e-10 of its maximum through error-controlled steps, for cell Péclet numbers up to about 10."""
    tau = 0.02
    model = free(dimension, tau, lambda z: np.sin(3.0 * z).sum(axis=1) * 0.4 + 0.3 * z[:, 0] ** 2)
    domain = box([-1.5] * dimension, [1.5] * dimension, [{1: 50, 2: 24, 3: 10}[dimension]] * dimension, comm=comm)
    density = Density(model, domain, Product((Uniform(-1.5, 1.5),) * dimension), scheme="edge_averaged")
    gibbs = np.exp(-model.external_potential(domain.coordinates) / tau)
    gibbs /= domain.sum(np.array([domain.graph.lumped @ gibbs[: domain.owned]]))[0]
    density.values = gibbs.copy()
    density.advance(2.0)
    change = domain.extremes(np.abs(density.values - gibbs)[: domain.owned])[1]
    assert change < 1e-10 * domain.extremes(gibbs[: domain.owned])[1]


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2])
def test_free_energy_never_rises(comm: MPI.Intracomm, temperature: float) -> None:
    model, law = circle_network(temperature)
    density = Density(model, circle(comm, 32, 6.0), law, scheme="edge_averaged")
    energies = [density.free_energy()]
    density.advance(6.0, lambda: energies.append(density.free_energy()))
    assert len(energies) > 5
    assert np.diff(energies).max() < 0.0


@pytest.mark.serial
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.2])
def test_free_energy_never_rises_near_its_minimum(comm: MPI.Intracomm, temperature: float) -> None:
    """Where nothing is left to dissipate and steps grow long, rounding is all that may show."""
    model, law = circle_network(temperature)
    density = Density(model, circle(comm, 24, 6.0), law, scheme="edge_averaged")
    energies = [density.free_energy()]
    density.advance(300.0, lambda: energies.append(density.free_energy()))
    assert np.diff(energies).max() < 1e-13
    assert energies[-2] - energies[-1] < 1e-6


@pytest.mark.serial
@pytest.mark.parametrize("order_in_time", [2, 4])
@pytest.mark.parametrize("tolerance", [1e-5, 1e-2, 1.0])
def test_stiff_moments_do_not_upset_implicit_steps(comm: MPI.Intracomm, tolerance: float, order_in_time: OrderInTime) -> None:
    """Repulsive oscillators, whose moments decay 25 times faster than diffusion: they end incoherent, at any tolerance."""
    domain = box([0.0], [TWO_PI], [64], [True], comm=comm)
    law = Product((Uniform(0.0, TWO_PI, periodic=True),))
    density = Density(kuramoto(-50.0, 1.0), domain, law, scheme="edge_averaged", tolerance=tolerance, order_in_time=order_in_time)
    density.values = (1.0 + 0.5 * np.cos(domain.coordinates[:, 0])) / TWO_PI
    energies = [density.free_energy()]
    density.advance(20.0, lambda: energies.append(density.free_energy()))
    assert np.diff(energies).max() < 1e-12
    assert np.linalg.norm(density.moments()) < 1e-6
    assert energies[-1] == pytest.approx(-np.log(TWO_PI), abs=1e-12)


# --- accuracy on the reference problems ---------------------------------------------------------------------------------------


@pytest.mark.serial
def test_circle_at_zero_temperature_converges_to_the_characteristics(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    truth = Characteristics(model, law, nodes=[64, 24], companions=False, comm=comm)
    truth.advance(8.0)
    errors = []
    for cells in (32, 64, 128):
        density = Density(model, circle(comm, cells), law)
        density.advance(8.0)
        errors.append(prediction_error(model, density.moments(), truth.moments()))
        assert density.mass_defect < 1e-12
        assert density.minimum >= 0.0
    assert errors[2] < 3e-4
    assert order(errors) > 1.8


REFERENCE_WARM = {2.0: (0.0901933337, 0.072842768), 4.0: (0.0751335943, 0.129015039), 8.0: (0.0571024978, 0.205550429)}


@pytest.mark.serial
def test_warm_circle_reference_values_and_order_in_space(comm: MPI.Intracomm) -> None:
    """Loss within 1e-3 (relative) at 128² and second order over 64², 128² at every reference time."""
    model, law = circle_network(0.05)
    errors: dict[float, list[float]] = {t: [] for t in REFERENCE_WARM}
    for cells in (64, 128):
        density = Density(model, circle(comm, cells), law, tolerance=1e-6)
        assert density.scheme == "edge_averaged"
        for t, (loss, _) in REFERENCE_WARM.items():
            density.advance(t)
            errors[t].append(abs(float(model.outer_energy(density.moments()[0])) / loss - 1.0))
    for found in errors.values():
        assert found[1] < 1e-3
        assert order(found) > 1.8


@pytest.mark.serial
@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_shipped_accuracy_holds_with_the_default_tolerance(comm: MPI.Intracomm, temperature: float) -> None:
    """Loss at 128² within 1e-3 of the value extrapolated from 64² and 128² with tight steps, at the default settings."""
    model, law = circle_network(temperature)

    def losses(cells: int, **options: float) -> Array:
        density = Density(model, circle(comm, cells, 6.0), law, **options)  # type: ignore[arg-type]
        found = []
        for t in (2.0, 4.0, 8.0):
            density.advance(t)
            found.append(float(model.outer_energy(density.moments()[0])))
        return np.array(found)

    coarse, fine = losses(64, tolerance=1e-7), losses(128, tolerance=1e-7)
    assert np.all(np.abs(losses(128) / (fine + (fine - coarse) / 3.0) - 1.0) < 1e-3)


@pytest.mark.serial
def test_implicit_steps_have_order_two(comm: MPI.Intracomm) -> None:
    """Errors in the moments against a much finer step on the same mesh, as the nonlocal drift enters them."""
    model, law = circle_network(0.05)

    def moments(step: float) -> Array:
        density = Density(model, circle(comm, 24), law, scheme="edge_averaged", step=step)
        density.advance(2.0)
        return density.moments()[0]

    truth = moments(0.125 / 8.0)
    errors = [float(np.linalg.norm(moments(step) - truth)) for step in (0.5, 0.25, 0.125)]
    assert 1.8 < order(errors) < 2.5


@pytest.mark.serial
def test_explicit_steps_have_order_three(comm: MPI.Intracomm) -> None:
    """The same for SSP Runge–Kutta, where the density is bounded away from 0 so that the limiter, which is not smooth, rests."""
    model = kuramoto(coupling=1.0)
    domain = box([0.0], [TWO_PI], [24], [True], comm=comm)

    def values(step: float) -> Array:
        density = Density(
            model, domain, Product((Uniform(0.0, TWO_PI, periodic=True),)), scheme="flux_corrected", step=step, cfl=1.0
        )
        density.values = (1.0 + 0.3 * np.cos(domain.coordinates[:, 0]) + 0.2 * np.sin(2.0 * domain.coordinates[:, 0])) / TWO_PI
        density.advance(1.0)
        return density.values[: domain.owned]

    truth = values(0.1 / 32.0)
    errors = [domain.extremes(np.abs(values(step) - truth))[1] for step in (0.1, 0.05, 0.025)]
    assert 2.7 < order(errors) < 3.5


@pytest.mark.serial
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "auto"])
def test_a_step_of_a_given_length_has_no_error_control(comm: MPI.Intracomm, scheme: str) -> None:
    """Steps of just the lengths that a run has taken lead where it went; one over all of them does too, but for its error."""
    model, law = circle_network(0.05)
    runs = [Density(model, circle(comm, 16), law, scheme=scheme) for _ in range(2)]
    for t in (0.1, 0.25):
        runs[0].advance(t)
    steps, start = SCHEMES[scheme].build(runs[0].domain, runs[0].features, runs[0].values, Options()), runs[1].values
    steps.time = 0.1
    assert sum(runs[0].lengths) == pytest.approx(0.15) and len(runs[0].lengths) < runs[0].steps
    runs[1].advance(0.1)
    values = runs[1].values
    for length in runs[0].lengths:
        values = steps.exactly(values, length)
    assert np.abs(values - runs[0].values).max() < 1e-9
    assert steps.time == 0.1 and steps.proposal == math.inf
    far = steps.exactly(start, 0.25)
    lumped, owned = runs[0].domain.graph.lumped, runs[0].domain.owned
    gap, mass = runs[0].domain.sum(np.array([lumped @ np.abs(far - values)[:owned], lumped @ (far - start)[:owned]]))
    assert domain_minimum(runs[0], far) >= -1e-14 and abs(mass) < 1e-12 and 1e-12 < gap < 0.05


def domain_minimum(density: Density, values: Array) -> float:
    return density.domain.extremes(values[: density.domain.owned])[0]


@pytest.mark.serial
def test_error_control_follows_its_tolerance(comm: MPI.Intracomm) -> None:
    """A hundredth of the tolerance costs about 100^{1/3} times the steps and takes the error down by at least ten."""
    model, law = circle_network(0.05)
    moments, steps = {}, {}
    for tolerance in (1e-4, 1e-6, 1e-9):
        density = Density(model, circle(comm, 24), law, scheme="edge_averaged", tolerance=tolerance, order_in_time=2)
        density.advance(4.0)
        moments[tolerance], steps[tolerance] = density.moments()[0], density.steps
    errors = [float(np.linalg.norm(moments[tolerance] - moments[1e-9])) for tolerance in (1e-4, 1e-6)]
    assert errors[1] < 0.1 * errors[0]
    assert 2.0 < steps[1e-6] / steps[1e-4] < 12.0


# --- ripples, and drifts without potential --------------------------------------------------------------------------------------


@pytest.mark.serial
def test_a_turn_without_noise(comm: MPI.Intracomm) -> None:
    """Drift (−y, x): after one turn the Gaussian is back, to .02 in L¹ on 80² cells, with order ≥ 1.8; its mean to 1e-6."""
    model = general(2, lambda z: np.column_stack([-z[:, 1], z[:, 0]]), lambda z: np.zeros((len(z), 2, 2)))
    law, errors = Product((Normal(1.0, 0.2), Normal(0.0, 0.2))), []
    for cells in (40, 80):
        density = Density(replace(model, own_diffusion=None), box([-2.5] * 2, [2.5] * 2, [cells] * 2, comm=comm), law)
        density.advance(2.0 * np.pi)
        errors.append(l1(density, gaussian(np.array([1.0, 0.0]), 0.04 * np.eye(2))))
        assert density.minimum >= 0.0
        assert density.mass_defect < 1e-12
        assert np.allclose([density.expectation(lambda z, k=k: z[:, k])[0] for k in range(2)], [1.0, 0.0], atol=1e-6)
    assert errors[-1] < 0.02
    assert order(errors) > 1.8
    assert 0.0 < density.statistics()["limiter_share"] < 1e-3


@pytest.mark.serial
def test_no_ripples_where_a_law_is_drawn_out(comm: MPI.Intracomm) -> None:
    """The share of third differences along y of the mixture of Gaussians at t = 10: .035 on 128² cells, where it was .072."""
    model = gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1.0 / 3.0, -2.0 / 3.0, 1.0 / 3.0], unit_variance=0.5)
    law = Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))
    density = Density(model, box([-4.0, -6.0], [4.0, 6.0], [128, 128], comm=comm), law)
    density.advance(10.0)
    values = density.domain.to_mesh(density.values[: density.domain.owned])
    points = density.domain.mesh_arrays()
    assert density.minimum >= 0.0
    assert float(density.losses()[0]) == pytest.approx(0.0044925, rel=4e-3)
    if values is not None and points is not None:
        rho = values[np.lexsort((points[0][:, 0], points[0][:, 1]))].reshape(129, 129)  # rows of equal c, y along them
        third = np.abs(rho[:, :-3] - 3.0 * rho[:, 1:-2] + 3.0 * rho[:, 2:-1] - rho[:, 3:])
        assert third.sum() / 8.0 < 0.035 * rho.sum()


def test_the_limiter_rests_where_nothing_is_steep(comm: MPI.Intracomm) -> None:
    """Share and number of limited steps are 0 for waves of twelve cells and more, and are not for a jump."""
    model, domain = kuramoto(coupling=1.0), box([0.0], [TWO_PI], [24], [True], comm=comm)
    density = Density(model, domain, Product((Uniform(0.0, TWO_PI, periodic=True),)), scheme="flux_corrected")
    x = domain.coordinates[:, 0]
    density.values = (1.0 + 0.3 * np.cos(x) + 0.2 * np.sin(2.0 * x)) / TWO_PI
    density.advance(1.0)
    found = density.statistics()
    assert (found["limited_steps"], found["limiter_share"]) == (0, 0.0)
    steep = rough(comm, "flux_corrected")
    steep.advance(0.2)
    found = steep.statistics()
    assert found["limited_steps"] == steep.steps
    assert 0.001 < float(str(found["limiter_share"])) < 0.5


# --- other meshes -------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.usefixtures("gmsh_library")
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_disc_from_gmsh(comm: MPI.Intracomm, temperature: float) -> None:
    """A contracting Gaussian on an unstructured mesh: second moments to the size of the cells squared."""
    t, s = 0.5, 0.25
    model = free(2, temperature, lambda z: 0.5 * np.sum(z**2, axis=1))
    density = Density(model, gmsh("meshes/disc.msh", comm=comm), Product((Normal(0.2, s), Normal(0.0, s))))
    density.advance(t)
    variance = s**2 * np.exp(-2.0 * t) + temperature * (1.0 - np.exp(-2.0 * t))
    exact = 2.0 * variance + (0.2 * np.exp(-t)) ** 2
    assert density.expectation(lambda z: np.sum(z**2, axis=1))[0] == pytest.approx(exact, abs=0.5 * 0.1**2)
    assert density.mass_defect < 1e-12
    assert density.minimum >= -1e-14


def stretched(comm: MPI.Intracomm, cells: int = 24) -> Domain:
    """A sheared and squeezed square: most triangles are obtuse, so that edges with s_ij < 0 appear."""
    grid = square(comm, cells).space.mesh
    x = grid.geometry.x
    x[:, 0] += 0.9 * x[:, 1]
    return from_mesh(grid, (False, False))


def test_obtuse_meshes_are_positive_and_keep_gibbs_states(comm: MPI.Intracomm) -> None:
    """Edges with s_ij < 0 are counted, mass is kept, nothing falls below zero, and the law still relaxes to its temperature."""
    domain, tau = stretched(comm), 0.05
    model = free(2, tau, lambda z: 0.5 * np.sum(z**2, axis=1))
    density = Density(model, domain, Product((Normal(0.3, 0.12), Normal(0.2, 0.12))), scheme="edge_averaged")
    density.advance(3.0)
    assert density.statistics()["negative_edges"] > 100
    assert density.minimum >= -1e-14
    assert density.mass_defect < 1e-12
    assert density.expectation(lambda z: z[:, 0] ** 2)[0] == pytest.approx(tau, rel=0.05)
    explicit = Density(model, domain, Product((Normal(0.3, 0.12), Normal(0.2, 0.12))), scheme="flux_corrected")
    explicit.advance(0.5)
    assert explicit.minimum >= 0.0


# --- ranks --------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize(("temperature", "tolerance"), [(0.0, 1e-10), (0.05, 1e-9)])
def test_result_does_not_depend_on_the_ranks(comm: MPI.Intracomm, temperature: float, tolerance: float) -> None:
    """Moments and nodal values agree with those of one rank: to 1e-10 explicitly, to the solver's tolerance implicitly."""
    model, law = circle_network(temperature)
    together, alone = Density(model, circle(comm, 32), law), Density(model, circle(MPI.COMM_SELF, 32), law)
    together.advance(4.0)
    alone.advance(4.0)
    assert together.steps == alone.steps
    assert np.allclose(together.moments(), alone.moments(), rtol=tolerance, atol=tolerance)
    assert together.free_energy() == pytest.approx(alone.free_energy(), rel=tolerance)
    values, expected = together.state(), alone.state()
    if values is not None and expected is not None:
        assert np.abs(values["values"] - expected["values"]).max() < tolerance * expected["values"].max()


@pytest.mark.ranks
def test_moments_are_the_sums_over_nodes(comm: MPI.Intracomm) -> None:
    """Marginal and rank cut change nothing: m = Σ m_i ρ_i g(z_i) by hand, on a tensor mesh and on a sheared one."""
    model, _ = circle_network()
    tensor, sheared = circle(comm, 16), stretched(comm)
    round_law = Product((Uniform(0.0, TWO_PI, periodic=True), Normal(0.5, 0.7)))
    for domain, law in ((tensor, round_law), (sheared, Product((Normal(0.1, 0.3), Normal(0.2, 0.3))))):
        density = Density(replace(model, periods=domain.periods), domain, law)  # the sheared mesh is no circle
        z = domain.coordinates[: domain.owned]
        by_hand = domain.sum((domain.graph.lumped * density.values[: domain.owned] * z[:, 1]) @ model.profile(z[:, :1]))
        assert np.linalg.norm(by_hand) > 0.1
        assert np.allclose(density.moments()[0], by_hand, atol=1e-13)


# --- faults -------------------------------------------------------------------------------------------------------------------


def test_wrong_uses_are_named(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    with pytest.raises(ArgumentError, match="coordinates"):
        Density(model, box([0.0], [1.0], [4], comm=comm), law)
    with pytest.raises(ArgumentError, match="temperature"):
        Density(model, circle(comm, 8), law, scheme="edge_averaged")
    with pytest.raises(ArgumentError, match="holds") as told:
        Density(model, circle(comm, 32, 0.5), law)
    assert "[" not in str(told.value), "a script has no sections"


@pytest.mark.ranks
def test_not_a_number_is_caught_with_the_last_state_kept(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    broken = MeanField(
        **{
            **{f: getattr(model, f) for f in model.__dataclass_fields__},
            "outer_gradient": lambda m: np.where(m[0] > 0.02, np.nan, model.outer_gradient(m)),
        }
    )
    density = Density(broken, circle(comm, 16), law)
    with pytest.raises(InvariantError, match="not a number"):
        density.advance(8.0)
    assert 0.0 < density.time < 8.0
    assert np.isfinite(density.values).all()


# --- small laws that larger tests would not notice ------------------------------------------------------------------------------


def test_start_has_the_moments_of_its_law(comm: MPI.Intracomm) -> None:
    """Mass, means and variances on a coarse mesh: without its correction the projection adds h²/6 to a variance."""
    law = Product((Normal(0.1, 0.3), Normal(-0.2, 0.25)))
    density = Density(free(2, 0.0, saddle), square(comm, 20), law)
    for k, (mean, std) in enumerate(((0.1, 0.3), (-0.2, 0.25))):
        assert density.expectation(lambda z, k=k: z[:, k])[0] == pytest.approx(mean, abs=1e-4)
        variance = density.expectation(lambda z, k=k, mean=mean: (z[:, k] - mean) ** 2)[0]
        assert variance == pytest.approx(std**2, abs=0.1 * (3.0 / 20.0) ** 2 / 6.0)


@pytest.mark.ranks
def test_start_with_jumps_off_the_mesh_lines(comm: MPI.Intracomm) -> None:
    law = Product((Uniform(-0.97, 0.58), Uniform(-0.33, 0.71)))
    density = Density(free(2, 0.0, saddle), square(comm, 32), law)
    assert density.mass_inside == pytest.approx(1.0, abs=1e-3)
    assert density.expectation(lambda z: z[:, 0])[0] == pytest.approx(-0.195, abs=1e-3)


def test_a_law_that_the_mesh_counts_twice_is_refused(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    with pytest.raises(ArgumentError, match="has the period 6.28319; the mesh is 12.5664 long there"):
        Density(model, box([0.0, -5.0], [2.0 * TWO_PI, 5.0], [32, 32], [True, False], comm=comm), law)


def test_free_energy_of_a_known_density(comm: MPI.Intracomm) -> None:
    """𝓕 = ∫V0ρ + τ∫ρ log ρ for a Gaussian: ½(s² + m²) − τ log(s√(2πe))."""
    tau, s, m = 0.3, 0.2, 0.1
    model = free(1, tau, lambda z: 0.5 * z[:, 0] ** 2)
    density = Density(model, box([-1.5], [1.5], [400], comm=comm), Product((Normal(m, s),)))
    exact = 0.5 * (s**2 + m**2) - tau * np.log(s * np.sqrt(2.0 * np.pi * np.e))
    assert density.free_energy() == pytest.approx(exact, abs=1e-5)


@pytest.mark.ranks
def test_cloud_and_outer_layer_of_a_uniform_law(comm: MPI.Intracomm) -> None:
    """The cloud carries the masses; on an n×n box the outer layer of nodes and their neighbours holds all but (n−3)²/n² cells."""
    n = 12
    density = Density(free(2, 0.0, saddle), square(comm, n), Product((Uniform(-1.5, 1.5),) * 2))
    cloud = density.cloud()
    if cloud is not None:
        assert cloud[1].sum() == pytest.approx(1.0, abs=1e-13)
        assert cloud[0].T @ cloud[1] == pytest.approx([0.0, 0.0], abs=1e-10)
    assert density.outer_mass() == pytest.approx(1.0 - ((n - 3.0) / n) ** 2, abs=1e-3)


class Leaking:
    """A scheme that loses mass, or goes below zero, in one step of the whole way."""

    order, stages, limited_steps, rejected_steps, iterations, limiter_share = 1, 1, 0, 0, 0, None

    def __init__(self, change: Callable[[Array], Array]) -> None:
        self.change = change

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        return self.change(density), remaining


def test_broken_laws_are_noticed(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    density = Density(model, circle(comm, 16), law)
    density._scheme = Leaking(lambda rho: 0.999 * rho)  # type: ignore[assignment]
    with pytest.raises(InvariantError, match="mass"):
        density.advance(1.0)
    assert density.time == 0.0
    density = Density(model, circle(comm, 16), law)
    swap = np.zeros(len(density.values))
    swap[0], lumped = 1.0, density.domain.graph.lumped
    partner = np.zeros(len(density.values))
    partner[1] = lumped[0] / lumped[1]
    density._scheme = Leaking(lambda rho: rho - 2.0 * rho.max() * (swap - partner))  # type: ignore[assignment]
    density.advance(1.0)
    assert density.minimum < -0.1
    assert density.mass_defect < 1e-13


def test_explicit_steps_are_redone_when_the_drift_grows(comm: MPI.Intracomm) -> None:
    """Attractive oscillators, nearly uniform: the drift grows within a step, which then is taken again, and ρ ≥ 0 holds."""
    domain = box([0.0], [TWO_PI], [64], [True], comm=comm)
    law = Product((Uniform(0.0, TWO_PI, periodic=True),))
    density = Density(kuramoto(20.0), domain, law, scheme="flux_corrected", cfl=1.0)
    density.values = (1.0 + 0.01 * np.cos(domain.coordinates[:, 0])) / TWO_PI
    density.advance(1.0)
    assert density.statistics()["rejected_steps"] > 0
    assert density.minimum >= 0.0
    assert np.linalg.norm(density.moments()) > 0.9


@pytest.mark.serial
@pytest.mark.parametrize("height", [2.5, 5.0, 10.0])
def test_where_walls_stand_does_not_decide_on_the_scheme(comm: MPI.Intracomm, height: float) -> None:
    """z⁴/4 with walls far up: its drift is short of diffusion where the law and the Gibbs state are. Lower τ, and it is not."""
    cells = int(40 * height)
    schemes = [
        Density(
            free(1, tau, lambda z: z[:, 0] ** 4 / 4),
            box([-height], [height], [cells], comm=comm),
            Product((Normal(mean, 0.3),)),
        ).scheme
        for tau, mean in ((0.3, 0.0), (0.01, 1.5))  # the second starts on a slope where h|V'| > 2τ
    ]
    assert schemes == ["edge_averaged", "flux_corrected"]


def test_auto_follows_a_temperature_that_falls_to_zero(comm: MPI.Intracomm) -> None:
    """An Ornstein–Uhlenbeck process whose noise ends at t = ½: the variance relaxes to τ, then decays like e^{−2t}."""
    warm, cold = (free(1, tau, lambda z: z[:, 0] ** 2 / 2) for tau in (0.4, 0.0))
    law = Product((Normal(0.0, 0.5),))
    density = Density(replace(warm, later=((0.5, cold),)), box([-4.0], [4.0], [200], comm=comm), law, tolerance=1e-6)
    assert density.scheme == "edge_averaged"
    density.advance(1.0)
    assert density.scheme == "flux_corrected"
    variance = (0.4 + (0.25 - 0.4) * np.exp(-1.0)) * np.exp(-1.0)
    assert density.expectation(lambda z: z[:, 0] ** 2)[0] == pytest.approx(variance, rel=3e-3)
    with pytest.raises(ArgumentError, match=r"temperature > 0"):
        Density(replace(warm, later=((0.5, cold),)), density.domain, law, scheme="edge_averaged")


@pytest.mark.serial
def test_explicit_steps_on_obtuse_meshes_have_order_two(comm: MPI.Intracomm) -> None:
    """⟨z_k²⟩ relaxes to the temperature on a mesh of obtuse triangles, with errors that fall like h²."""
    tau, errors = 0.05, []
    exact = tau + (0.2**2 - tau) * np.exp(-6.0)
    for cells in (24, 48):
        model = free(2, tau, lambda z: 0.5 * np.sum(z**2, axis=1))
        domain = stretched(comm, cells)
        density = Density(model, domain, Product((Normal(0.0, 0.2), Normal(0.0, 0.2))), scheme="flux_corrected")
        density.advance(3.0)
        errors.append([abs(density.expectation(lambda z, k=k: z[:, k] ** 2)[0] - exact) for k in range(2)])
        assert density.minimum >= 0.0
        assert density.mass_defect < 1e-12
    assert all(order([coarse, fine]) > 1.8 for coarse, fine in zip(*errors, strict=True))


@pytest.mark.parametrize("options", [{"cfl": 0.0}, {"cfl": 5.0}, {"step": -1.0}, {"tolerance": 0.0}, {"scheme": "upwind"}])
def test_options_outside_their_range(comm: MPI.Intracomm, options: dict[str, float]) -> None:
    model, law = circle_network()
    domain = circle(comm, 8)
    with pytest.raises(ArgumentError, match=next(iter(options))):
        Density(model, domain, law, **options)  # type: ignore[arg-type]


def test_time_does_not_run_backwards(comm: MPI.Intracomm) -> None:
    model, law = circle_network()
    density = Density(model, circle(comm, 16), law)
    density.advance(0.5)
    with pytest.raises(ValueError, match="cannot go"):
        density.advance(0.25)
