"""Laws of the Galerkin scheme for general drifts and tensors: exact moments, positivity, orders, refusals, ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from at_hand.gaussians import CROSSED, DEGENERATE, PAIRS, around, gaussian, general, l1, ornstein_uhlenbeck, sheared
from at_hand.models import free, order
from mvpde.density.density import Density
from mvpde.density.features import nodal_features
from mvpde.density.fluxes import rate
from mvpde.density.galerkin import edge_geometry, galerkin, gradient
from mvpde.density.systems import ShiftedSystem
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array
from mvpde.runtime import MPI, ArgumentError

# --- the operator ---------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_geometry(comm: MPI.Intracomm, dimension: int) -> None:
    """Tr S_ij = −s_ij; G_ij + G_ji = ∫∇(φ_iφ_j) vanishes off the walls; recovered gradients of linear functions are exact."""
    domain = box([0.0] * dimension, [1.0, 2.0, 0.5][:dimension], [5, 4, 3][:dimension], comm=comm)
    geometry, graph = edge_geometry(domain), domain.graph
    assert np.allclose(np.trace(geometry.stiffness, axis1=1, axis2=2), -graph.stiffness, atol=1e-13)
    row = np.repeat(np.arange(domain.owned), np.diff(graph.offsets))
    inside = ~domain.boundary[row]
    assert np.allclose(geometry.inward[inside], -geometry.outward[inside], atol=1e-14)
    slope = np.array([0.3, -1.2, 2.0])[:dimension]
    assert np.allclose(gradient(domain, geometry, 1.0 + domain.coordinates @ slope), slope, atol=1e-11)


@pytest.mark.ranks
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_moments_obey_their_exact_equations(comm: MPI.Intracomm, dimension: int) -> None:
    """d⟨z_a⟩/dt = ⟨b_a⟩ and d⟨z_a z_c⟩/dt = ⟨z_a b_c + z_c b_a + 2A_ac⟩ to rounding for nonlinear b and A, off the walls.

    A divergence of A on the wrong side (Stratonovich, A∇ρ for ∇·(Aρ)), a transposed tensor or a factor 2 fail here.
    """
    skew = np.triu(np.ones((dimension, dimension)), 1)

    def b(z: Array) -> Array:
        return np.sin(z) - z @ (np.eye(dimension) + skew).T + 0.2 * z**2

    def a(z: Array) -> Array:
        root = np.eye(dimension) + 0.5 * skew + 0.4 * np.einsum("ni,j->nij", np.cos(z), np.arange(1.0, dimension + 1.0))
        return np.einsum("nik,njk->nij", root, root)

    domain = box([-2.0] * dimension, [2.0] * dimension, [{1: 80, 2: 40, 3: 22}[dimension]] * dimension, comm=comm)
    model, graph, owned = general(dimension, b, a), domain.graph, domain.owned
    inward, outward, result = np.empty(len(graph.columns)), np.empty(len(graph.columns)), np.empty(owned)
    galerkin(domain, nodal_features(model, domain.coordinates, comm), model)(np.ones(1), inward, outward)
    density = np.maximum(1.0 - np.sum((domain.coordinates - 0.2) ** 2, axis=1), 0.0)
    rate(graph.offsets, graph.columns, graph.lumped, inward, outward, density, result)
    z, change, mass = domain.coordinates[:owned], graph.lumped * result, graph.lumped * density[:owned]
    both = np.einsum("na,nc->nac", z, b(z))
    assert abs(domain.sum(np.array(change.sum()))) < 1e-13
    assert np.allclose(domain.sum(change @ z), domain.sum(mass @ b(z)), atol=1e-12)
    second = np.einsum("n,nac->ac", mass, both + both.swapaxes(1, 2) + 2.0 * a(z))
    assert np.allclose(domain.sum(np.einsum("n,na,nc->ac", change, z, z)), domain.sum(second), atol=1e-11)


@pytest.mark.serial
def test_a_gradient_flow_is_the_same_by_either_operator(comm: MPI.Intracomm) -> None:
    """Galerkin and edge-averaged densities of one gradient flow approach each other with second order."""

    def value(z: Array) -> Array:
        return 0.5 * z[:, 0] ** 2 + 0.25 * z[:, 1] ** 4 + 0.3 * z[:, 0] * z[:, 1]

    def slope(z: Array) -> Array:
        return np.column_stack([z[:, 0] + 0.3 * z[:, 1], z[:, 1] ** 3 + 0.3 * z[:, 0]])

    model, law = replace(free(2, 0.2, value, slope), interacting=False), Product((Normal(0.4, 0.3), Normal(-0.3, 0.3)))
    gaps = []
    for cells in (16, 32, 64):
        domain = box([-2.5, -2.5], [2.5, 2.5], [cells, cells], comm=comm)
        one, other = (Density(model, domain, law, scheme=scheme, tolerance=1e-6) for scheme in ("galerkin", "edge_averaged"))
        one.advance(0.5)
        other.advance(0.5)
        gaps.append(float(domain.sum(np.array(domain.graph.lumped @ np.abs(one.values - other.values)[: domain.owned]))))
    assert order(gaps) > 1.7
    assert gaps[-1] < 0.02


# --- in time --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_gaussians_under_full_and_degenerate_tensors(comm: MPI.Intracomm, pair: str) -> None:
    """Mean and covariance follow their equations, the density converges in L¹ with second order, ρ ≥ 0 and the mass stays."""
    m, a, limit = (np.array(x) for x in PAIRS[pair])
    spread, t = np.sqrt(np.diag(limit)), 0.4
    start, mean = np.diag((0.7 * spread) ** 2), expm(-m * t) @ (0.6 * spread)
    covariance = limit + expm(-m * t) @ (start - limit) @ expm(-m * t).T
    law = Product(tuple(Normal(0.6 * s, 0.7 * s) for s in spread))
    errors, shares = [], []
    for cells in (20, 40, 80):
        density = Density(ornstein_uhlenbeck(m, a), around(comm, limit, cells), law, tolerance=1e-5, scheme="galerkin")
        density.advance(t)
        errors.append(l1(density.domain, density.values, gaussian(mean, covariance)))
        shares.append(density.statistics()["limiter_share"])
        assert density.minimum >= -1e-14
        assert density.mass_defect < 1e-12
    assert density.scheme == "galerkin"
    assert density.free_energy() is None
    assert order(errors) > (1.7 if pair != "degenerate" else 1.5)
    assert errors[-1] < 0.02
    assert shares[0] > shares[-1] or shares[0] == 0.0
    assert shares[-1] < 1e-4
    first = [density.expectation(lambda z, k=k: z[:, k])[0] for k in range(2)]
    in_time = 1e-5 * density.steps  # local errors of a step, added up
    assert np.allclose(first, mean, atol=in_time)
    second = [[density.expectation(lambda z, k=k, c=c: z[:, k] * z[:, c])[0] for k in range(2)] for c in range(2)]
    assert np.allclose(np.array(second) - np.outer(first, first), covariance, atol=4.0 * in_time)


@pytest.mark.ranks
def test_rough_starts_stay_positive_under_strong_cross_diffusion(comm: MPI.Intracomm) -> None:
    """A start with jumps, on a sheared mesh, A with eigenvalues 1 and 0: ρ ≥ 0, mass and the mixed moment are kept."""
    a = np.array([[0.5, 0.5], [0.5, 0.5]])
    model = general(2, np.negative, lambda z: np.broadcast_to(a, (len(z), 2, 2)))
    density = Density(model, sheared(comm, 48), Product((Uniform(-0.6, 0.3), Uniform(-0.2, 0.5))), tolerance=1e-5)
    start = density.expectation(lambda z: z[:, 0] * z[:, 1])[0]
    density.advance(0.4)
    assert density.statistics()["limited_steps"] > 0
    assert 0.0 < density.statistics()["limiter_share"] < 0.2
    assert density.minimum >= -1e-14
    assert density.mass_defect < 1e-12
    exact = 0.5 + (start - 0.5) * np.exp(-0.8)
    assert density.expectation(lambda z: z[:, 0] * z[:, 1])[0] == pytest.approx(exact, abs=0.01)


def test_static_operators_are_computed_and_factored_once(comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty fixed steps: the drift is evaluated as often as for one, and one matrix is filled in."""
    calls = {"drift": 0, "matrix": 0}

    def drift(z: Array) -> Array:
        calls["drift"] += 1
        return -z

    def count(system: ShiftedSystem, *arguments: Any, **options: Any) -> None:
        calls["matrix"] += 1
        fill(system, *arguments, **options)

    fill = ShiftedSystem.set
    monkeypatch.setattr(ShiftedSystem, "set", count)
    model = general(2, drift, lambda z: np.broadcast_to(0.5 * np.eye(2), (len(z), 2, 2)))
    density = Density(model, box([-2.0] * 2, [2.0] * 2, [32, 32], comm=comm), Product((Normal(0.0, 0.7),) * 2), step=0.01)
    density.advance(0.01)
    evaluated = calls["drift"]
    density.advance(0.2)
    assert density.steps == 20
    assert density.statistics()["limited_steps"] == 0
    assert calls == {"drift": evaluated, "matrix": 1}


def test_interacting_drift_follows_its_moments(comm: MPI.Intracomm) -> None:
    """b = −(z − ⟨z⟩) − ½⟨z⟩: the mean decays like e^{−t/2}, the variance like e^{−2t}, if b is that of the present law."""
    model = replace(
        free(1, 0.0, lambda z: 0.0 * z[:, 0]),
        profile=lambda y: y.copy(),
        own_drift=lambda z, m: -(z - m[0]) - 0.5 * m[0],
        own_diffusion=lambda z, m: np.full((len(z), 1, 1), 0.1),
    )
    density = Density(model, box([-3.0], [3.0], [300], comm=comm), Product((Normal(0.8, 0.3),)), tolerance=1e-6)
    density.advance(1.0)
    mean = density.expectation(lambda z: z[:, 0])[0]
    assert mean == pytest.approx(0.8 * np.exp(-0.5), abs=2e-4)
    assert density.expectation(lambda z: (z[:, 0] - mean) ** 2)[0] == pytest.approx(0.1 - 0.01 * np.exp(-2.0), abs=2e-4)


# --- faults and ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ([[1.0, 0.5], [0.2, 1.0]], "symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalue"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "shape"),
        ([[np.nan, 0.0], [0.0, 1.0]], "finite"),
    ],
)
def test_what_is_no_diffusion_tensor_is_refused(comm: MPI.Intracomm, tensor: object, message: str) -> None:
    model = general(2, np.negative, lambda z: np.broadcast_to(np.array(tensor), (len(z), *np.shape(tensor))))
    with pytest.raises(ArgumentError, match=message):
        Density(model, box([-4.0] * 2, [4.0] * 2, [16, 16], comm=comm), Product((Normal(0.0, 0.5),) * 2))


def test_schemes_of_gradient_flows_refuse_others(comm: MPI.Intracomm) -> None:
    with pytest.raises(ArgumentError, match="galerkin"):
        Density(
            ornstein_uhlenbeck(*CROSSED[:2]),
            around(comm, CROSSED[2], 16),
            Product((Normal(0.0, 0.5),) * 2),
            scheme="edge_averaged",
        )


@pytest.mark.ranks
@pytest.mark.parametrize("scheme", ["galerkin", "flux_corrected"])
def test_result_does_not_depend_on_the_ranks(comm: MPI.Intracomm, scheme: str) -> None:
    law = Product((Normal(0.5, 0.5), Normal(-0.2, 0.3)))
    together, alone = (
        Density(ornstein_uhlenbeck(*DEGENERATE[:2]), around(c, DEGENERATE[2], 32), law, scheme=scheme)
        for c in (comm, MPI.COMM_SELF)
    )
    together.advance(0.4)
    alone.advance(0.4)
    assert together.steps == alone.steps
    assert together.statistics()["limiter_share"] == pytest.approx(alone.statistics()["limiter_share"], rel=1e-5)
    values, expected = together.state(), alone.state()
    if values is not None and expected is not None:
        assert np.abs(values["values"] - expected["values"]).max() < 1e-9 * expected["values"].max()
