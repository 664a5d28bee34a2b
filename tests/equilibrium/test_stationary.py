"""Laws of stationary densities: Gibbs states, Ornstein–Uhlenbeck covariances and currents, exact identities, one dimension."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from at_hand.gaussians import CROSSED, OSCILLATING, PAIRS, around, gaussian, general, l1, ornstein_uhlenbeck, sheared
from at_hand.models import TWO_PI, free, kuramoto, order
from mvpde.density.density import Density
from mvpde.equilibrium.identities import identities
from mvpde.equilibrium.stationary import Stationary, stationary
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.interaction import gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, ArgumentError, SolverError


def any_law(domain: Domain) -> Product:
    """A law inside the box: what a density starts from does not matter here."""
    return Product(tuple(Normal(0.5 * (a + b), (b - a) / 12.0) for a, b in zip(domain.lower, domain.upper, strict=True)))


def solve(model: MeanField, domain: Domain, scheme: str = "auto") -> Stationary:
    return stationary(Density(model, domain, any_law(domain), scheme=scheme))


def production(m: Array, a: Array, covariance: Array) -> float:
    """J = (AΣ⁻¹ − M)zρ for ρ = N(0, Σ), hence ∫J·A⁻¹J/ρ = Tr(QᵀA⁻¹QΣ) with Q = AΣ⁻¹ − M."""
    q = a @ np.linalg.inv(covariance) - m
    return float(np.trace(q.T @ np.linalg.inv(a) @ q @ covariance))


# --- Ornstein–Uhlenbeck ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_covariances_of_ornstein_uhlenbeck(comm: MPI.Intracomm, pair: str) -> None:
    """Covariance within 1 % at 128² (it is 1e-5), covariance and density of order ≥ 1.7, ρ ≥ 0, mass 1, identities, a falling
    limiter share.

    Upwinding alone would miss the covariance of the crossed pair by nine tenths on any mesh; Galerkin without limiter has ρ < 0.
    """
    m, a, covariance = (np.array(x, float) for x in PAIRS[pair])
    errors, densities, shares, residuals = [], [], [], []
    for cells in (32, 64, 128):
        domain = around(comm, covariance, cells, 8.0)
        found = solve(ornstein_uhlenbeck(m, a), domain)
        errors.append(np.abs(found.covariance - covariance).max() / np.abs(covariance).max())
        densities.append(l1(domain, found.values, gaussian(np.zeros(2), covariance)))
        shares.append(found.limiter_share)
        residuals.append(max(found.identities.values()))
        assert found.minimum >= -1e-14
        assert domain.sum(np.array(domain.graph.lumped @ found.values[: domain.owned])) == pytest.approx(1.0, abs=1e-12)
        assert found.residual < 1e-13
        assert found.outer_mass < 1e-6
        assert np.abs(found.mean).max() < 1e-10
    assert errors[-1] < 1e-5
    assert order(errors) > 1.7
    assert order(densities) > 1.7
    assert shares[0] > shares[1] >= shares[2]
    assert residuals[0] > residuals[-1]
    assert residuals[-1] < 1e-5


def test_weak_noise_around_a_ring(comm: MPI.Intracomm) -> None:
    """Drift x(1 − r²) − 10y, y(1 − r²) + 10x, A = .008 I: E(r² − 1)² = .016 to 3 % with 1.3 cells a deviation, ρ ≥ 0, mean 0.

    Upwinding at the nodes that would be negative without it gives .0173.
    """

    def drift(z: Array) -> Array:
        towards = 1.0 - np.sum(z**2, axis=1)
        return z * towards[:, None] + 10.0 * np.column_stack([-z[:, 1], z[:, 0]])

    model = general(2, drift, lambda z: np.broadcast_to(0.008 * np.eye(2), (len(z), 2, 2)))
    domain = box([-1.8] * 2, [1.8] * 2, [72, 72], comm=comm)
    found = solve(model, domain)
    masses, z = domain.graph.lumped * found.values[: domain.owned], domain.coordinates[: domain.owned]
    assert found.minimum >= -1e-14
    assert found.residual < 1e-13
    assert domain.sum(np.array(masses.sum())) == pytest.approx(1.0, abs=1e-12)
    assert float(domain.sum(np.array(masses @ (np.sum(z**2, axis=1) - 1.0) ** 2))) == pytest.approx(0.016, rel=0.03)
    assert np.abs(found.mean).max() < 1e-10


@pytest.mark.parametrize(("pair", "expected"), [("oscillating", 12.5), ("crossed", 7.673684)])
def test_entropy_production_and_current(comm: MPI.Intracomm, pair: str, expected: float) -> None:
    """Entropy production within 2 % at 256² (it is 1e-4 at 128²); the current of order two."""
    m, a, covariance = (np.array(x, float) for x in PAIRS[pair])
    exact = production(m, a, covariance)
    assert exact == pytest.approx(expected, rel=1e-6)
    turn, law = a @ np.linalg.inv(covariance) - m, gaussian(np.zeros(2), covariance)
    errors, currents = [], []
    for cells in (32, 64, 128):
        domain = around(comm, covariance, cells)
        found = solve(ornstein_uhlenbeck(m, a), domain)
        assert found.entropy_production is not None
        errors.append(abs(found.entropy_production / exact - 1.0))
        z = domain.coordinates[: domain.owned]
        gap = np.abs(found.current - law(z)[:, None] * (z @ turn.T)).sum(axis=1)
        currents.append(float(domain.sum(np.array(domain.graph.lumped @ gap))))
    assert errors[-1] < 1e-4
    assert order(errors) > 1.7
    assert order(currents) > 1.7


def test_no_entropy_production_where_the_tensor_is_singular(comm: MPI.Intracomm) -> None:
    found = solve(ornstein_uhlenbeck(*PAIRS["degenerate"][:2]), around(comm, PAIRS["degenerate"][2], 32))
    assert found.entropy_production is None
    assert np.isfinite(found.current).all()


def test_sheared_mesh(comm: MPI.Intracomm) -> None:
    """On obtuse triangles the covariance still converges: it is no gift of symmetric patches."""
    m, a, covariance = np.diag([4.0, 5.0]), np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([[0.25, 0.2], [0.2, 0.2]])
    errors = []
    for cells in (24, 48, 96):
        found = solve(ornstein_uhlenbeck(m, a), sheared(comm, cells))
        errors.append(float(np.abs(found.covariance - covariance).max()))
        assert found.minimum >= -1e-14
    assert errors[-1] < 0.01 * covariance.max()
    assert order(errors) > 1.7


@pytest.mark.ranks
def test_three_dimensions(comm: MPI.Intracomm) -> None:
    """MΣ + ΣMᵀ = 2A in 3-D with M and A full."""
    m = np.array([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.7], [0.0, -0.7, 1.0]])
    a = np.array([[1.0, 0.4, 0.2], [0.4, 0.8, -0.2], [0.2, -0.2, 0.6]])
    one = np.eye(3)
    covariance = np.linalg.solve(np.kron(m, one) + np.kron(one, m), 2.0 * a.ravel()).reshape(3, 3)
    found = solve(ornstein_uhlenbeck(m, a), around(comm, covariance, 20, 5.0))
    assert np.allclose(found.covariance, covariance, atol=0.02 * covariance.max())
    assert found.minimum >= -1e-14


# --- one dimension, circles, Gibbs ----------------------------------------------------------------------------------------------


def test_one_dimension_exactly(comm: MPI.Intracomm) -> None:
    """ρ ∝ C⁻¹exp(−∫L'/(gC)) with L = z²/2 + 0.2z, gC = 0.1(1 + z²): a power law, second order, no current."""
    g = 0.1

    def exact(z: Array) -> Array:  # ∫(z + 0.2)/(g(1 + z²)) = (½log(1 + z²) + 0.2 atan z)/g
        return np.exp(-(0.5 * np.log1p(z[:, 0] ** 2) + 0.2 * np.arctan(z[:, 0])) / g) / (1.0 + z[:, 0] ** 2)

    model = general(1, lambda z: -(z + 0.2), lambda z: g * (1.0 + z[:, :, None] ** 2))
    errors = []
    for cells in (50, 100, 200):
        domain = box([-6.0], [6.0], [cells], comm=comm)
        found = solve(model, domain)
        mass = float(domain.sum(np.array(domain.graph.lumped @ exact(domain.coordinates[: domain.owned]))))
        errors.append(l1(domain, found.values, lambda z, mass=mass: exact(z) / mass))
        assert not found.current.any() and found.entropy_production == 0.0
        assert set(found.identities) == {"drift_x", "second_moment_x_x", "virial", "squared_drift"}
    assert errors[-1] < 2e-3
    assert order(errors) > 1.8
    assert max(found.identities.values()) < 1e-4


def test_a_current_around_a_circle(comm: MPI.Intracomm) -> None:
    """Constant drift v and diffusion τ on a circle: ρ = 1/2π, J = v/2π, entropy production v²/τ, and no identities."""
    model = replace(general(1, lambda z: np.full_like(z, 0.7), lambda z: np.full((len(z), 1, 1), 0.3)), periods=(TWO_PI,))
    found = solve(model, box([0.0], [TWO_PI], [30], [True], comm=comm))
    assert np.allclose(found.values, 1.0 / TWO_PI, rtol=1e-10)
    assert np.allclose(found.current, 0.7 / TWO_PI, rtol=1e-9)
    assert found.entropy_production == pytest.approx(0.7**2 / 0.3, rel=1e-9)
    assert found.identities == {}


def double_well(temperature: float) -> MeanField:
    """V = (x² − 1)²/4 + y²/2 − 0.2xy."""

    def slope(z: Array) -> Array:
        return np.column_stack([z[:, 0] ** 3 - z[:, 0] - 0.2 * z[:, 1], z[:, 1] - 0.2 * z[:, 0]])

    value = lambda z: 0.25 * (z[:, 0] ** 2 - 1.0) ** 2 + 0.5 * z[:, 1] ** 2 - 0.2 * z[:, 0] * z[:, 1]  # noqa: E731
    return replace(free(2, temperature, value, slope), interacting=False)


def test_gibbs_state_of_a_gradient_flow(comm: MPI.Intracomm) -> None:
    """ρ ∝ e^{−V/τ} with fluxes that vanish one by one, no current, and identities that converge."""
    residuals = []
    for cells in (24, 48):
        domain = box([-3.0, -3.0], [3.0, 3.0], [cells, cells], comm=comm)
        found = solve(double_well(0.2), domain, "edge_averaged")
        log = np.log(found.values) + double_well(0.2).external_potential(domain.coordinates) / 0.2
        assert np.allclose(log, log[0], atol=1e-10)
        assert found.residual < 1e-14
        assert found.entropy_production == 0.0
        assert not found.current.any()
        assert set(found.identities) >= {"drift_x", "drift_y", "virial", "squared_drift", "second_moment_x_y"}
        residuals.append(max(found.identities.values()))
    assert residuals[-1] < 1e-4
    assert residuals[-1] <= residuals[0]


def test_galerkin_finds_the_gibbs_state(comm: MPI.Intracomm) -> None:
    """The null vector of the Galerkin operator of a gradient flow is e^{−V/τ} up to second order, with hardly any entropy

    production.
    """
    errors, productions = [], []
    for cells in (24, 48, 96):
        domain = box([-3.0, -3.0], [3.0, 3.0], [cells, cells], comm=comm)
        gibbs, found = solve(double_well(0.2), domain, "edge_averaged"), solve(double_well(0.2), domain, "galerkin")
        errors.append(float(domain.sum(np.array(domain.graph.lumped @ np.abs(gibbs.values - found.values)[: domain.owned]))))
        assert found.entropy_production is not None
        productions.append(found.entropy_production)
    assert order(errors) > 1.7
    assert order(productions) > 3.0  # quadratic in a current of second order


def test_identities_see_a_wrong_law(comm: MPI.Intracomm) -> None:
    """A Gaussian with a tenth more variance breaks the second moments by M(δΣ) + (δΣ)Mᵀ over the mean size of the three terms."""
    m, a, covariance = (np.array(x, float) for x in CROSSED)
    domain = around(comm, covariance, 96, 7.0)
    tensor = np.broadcast_to(a, (len(domain.coordinates), 2, 2))
    model = ornstein_uhlenbeck(m, a)
    wrong = identities(model, domain, gaussian(np.zeros(2), 1.1 * covariance)(domain.coordinates), lambda z: -z @ m.T, tensor)
    # xx: terms −Σ_xx M_xx twice and 2A_xx, of means 1.1, 1.1 and 2; they leave 0.2
    assert wrong["second_moment_x_x"] == pytest.approx(0.2 / ((1.1 + 1.1 + 2.0) / 3.0), rel=1e-6)
    # ⟨|Mz|²⟩ = 1.1 Tr(MΣMᵀ) against Tr(AM)
    squared, other = 1.1 * np.trace(m @ covariance @ m.T), np.trace(a @ m)
    assert wrong["squared_drift"] == pytest.approx(2.0 * abs(squared - other) / (squared + other), rel=1e-5)
    assert "squared_drift" not in identities(
        ornstein_uhlenbeck(*OSCILLATING[:2]), domain, np.ones(len(tensor)), lambda z: -z @ np.array(OSCILLATING[0]).T, tensor
    )


def test_the_stationary_law_stays(comm: MPI.Intracomm) -> None:
    """Time steps from the stationary law leave it, up to what the limiters of either differ by where ρ is as good as zero."""
    domain = around(comm, CROSSED[2], 64)
    density = Density(ornstein_uhlenbeck(*CROSSED[:2]), domain, any_law(domain))
    found = stationary(density)
    density.values = found.values.copy()
    density.advance(3.0)
    assert domain.sum(np.array(domain.graph.lumped @ np.abs(density.values - found.values)[: domain.owned])) < 1e-6


# --- faults and ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_what_has_no_stationary_law_is_refused(comm: MPI.Intracomm) -> None:
    line, circle = box([-2.0], [2.0], [20], comm=comm), box([0.0], [TWO_PI], [20], [True], comm=comm)
    with pytest.raises(ArgumentError, match="branches"):
        solve(kuramoto(1.0, 0.2), circle)
    with pytest.raises(ArgumentError, match="temperature"):
        solve(replace(free(1, 0.0, lambda z: z[:, 0] ** 2), interacting=False), line)
    with pytest.raises(SolverError, match="unique|positive"):
        solve(general(1, np.zeros_like, lambda z: 0.5 * (z[:, :, None] > 0.15)), line)


@pytest.mark.ranks
def test_result_does_not_depend_on_the_ranks(comm: MPI.Intracomm) -> None:
    together, alone = (solve(ornstein_uhlenbeck(*CROSSED[:2]), around(c, CROSSED[2], 40)) for c in (comm, MPI.COMM_SELF))
    assert np.allclose(together.covariance, alone.covariance, rtol=1e-10, atol=1e-12)
    assert together.entropy_production == pytest.approx(alone.entropy_production, rel=1e-8)
    assert together.limiter_share == pytest.approx(alone.limiter_share, rel=1e-6)
    assert together.rounds == alone.rounds
    values, expected = (s.domain.to_mesh(s.values[: s.domain.owned]) for s in (together, alone))
    if values is not None and expected is not None:
        assert np.abs(values - expected).max() < 1e-10 * expected.max()


def test_law_of_a_density_is_left_alone(comm: MPI.Intracomm) -> None:
    density = Density(
        ornstein_uhlenbeck(*CROSSED[:2]), around(comm, CROSSED[2], 24), Product((Normal(0.1, 0.5), Normal(0.0, 0.3)))
    )
    before = density.values.copy()
    stationary(density)
    assert np.array_equal(density.values, before)


@pytest.mark.serial
def test_the_mean_on_a_circle_is_one_of_directions() -> None:
    """ρ ∝ e^{κ cos(x − μ)} about μ = 3, across the seam of [−π, π): mean 3, and r = I_1(κ)/I_0(κ) in E cos(x − mean)."""
    model = gradient_flow(["x"], potential="-cos(x - 3)", temperature=0.25, periods={"x": 2.0 * np.pi})
    domain = box([-np.pi], [np.pi], [200], [True])
    law = stationary(Density(model, domain, Product((Uniform(-np.pi, np.pi, True),))))
    assert law.mean[0] == pytest.approx(3.0, abs=1e-6)
    z, w = domain.coordinates[:, 0], law.values * domain.graph.lumped
    away = np.angle(np.exp(1j * (z - 3.0)))
    assert law.covariance[0, 0] == pytest.approx(w @ away**2, rel=1e-6)
