"""Linear systems of implicit steps: exact where no fill is dropped, as good on several ranks as on one, and what takes over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from at_hand.models import free
from mvpde.density.features import nodal_features
from mvpde.density.fluxes import CompleteFactors, ShiftedSystem, rate
from mvpde.density.galerkin import galerkin
from mvpde.density.incomplete import IncompleteFactors
from mvpde.density.krylov import KrylovSystem
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array
from mvpde.runtime import MPI, SolverError


def fluxes(domain: Domain) -> tuple[Array, Array]:
    """Coefficients of a rotating drift with an anisotropic tensor."""
    d = domain.dimension
    turn = np.eye(d) + np.triu(np.ones((d, d)), 1) - np.tril(np.ones((d, d)), -1)
    a = np.diag([1.0, 0.1, 0.1][:d])
    model = replace(
        free(d, 0.0, lambda z: 0.0 * z[:, 0]),
        own_drift=lambda z, m: -z @ turn.T,
        own_diffusion=lambda z, m: np.broadcast_to(a, (len(z), d, d)),
        interacting=False,
    )
    inward, outward = np.empty(len(domain.graph.columns)), np.empty(len(domain.graph.columns))
    galerkin(domain, nodal_features(model, domain.coordinates, domain.comm), model)(np.ones(1), inward, outward)
    return inward, outward


def matrix(domain: Domain, factor: float) -> tuple[Array, Array, Array]:
    """A_ij, A_ji and A_ii of M + factor·𝓛."""
    inward, outward = fluxes(domain)
    sums = np.bincount(domain.graph.rows(), weights=outward, minlength=domain.owned)
    return -factor * inward, -factor * outward, domain.graph.lumped + factor * sums


def bump(domain: Domain) -> Array:
    return np.exp(-8.0 * np.sum((domain.coordinates[: domain.owned] - 0.2) ** 2, axis=1))


def defect(domain: Domain, inward: Array, outward: Array, factor: float, solution: Array, right: Array) -> float:
    """‖b − (M + a𝓛)ρ‖ / ‖b‖ by the kernels of the time step."""
    graph, values, change = domain.graph, np.zeros(len(domain.coordinates)), np.empty(domain.owned)
    values[: domain.owned] = solution
    domain.exchange.update(values)
    rate(graph.offsets, graph.columns, graph.lumped, inward, outward, values, change)
    r = right - graph.lumped * (solution - factor * change)
    return float(np.sqrt(domain.sum(np.array(r @ r)) / domain.sum(np.array(right @ right))))


@pytest.mark.parametrize(("dimension", "cells", "level"), [(1, 60, 0), (2, 9, 200), (3, 4, 200)])
def test_factors_without_dropping_are_exact(comm: MPI.Intracomm, dimension: int, cells: int, level: int) -> None:
    """With all fill only couplings between the interfaces of different ranks are missing: none on one and two ranks."""
    domain = box([-1.0] * dimension, [1.0] * dimension, [cells] * dimension, comm=comm)
    values, mirrored, diagonal = matrix(domain, 0.3)
    factors, z = IncompleteFactors(domain, level), np.zeros(len(domain.coordinates))
    factors.set(values, mirrored[factors.mirrored], diagonal)
    z[: domain.owned] = bump(domain)
    factors.apply(z)
    inward, outward = fluxes(domain)
    found = defect(domain, inward, outward, 0.3, z[: domain.owned], bump(domain))
    assert comm.size > 2 or found < 1e-5  # factors are kept in single precision


@pytest.mark.ranks
@pytest.mark.parametrize("level", [1, 3])
def test_ranks_cost_few_iterations(comm: MPI.Intracomm, level: int) -> None:
    """On two ranks as many iterations as on one, but for one or two; block-Jacobi takes twice as many.

    On three they grow, because couplings between interfaces are left out where three ranks meet.
    """
    counts, solutions = [], []
    for c in (MPI.COMM_SELF, comm):
        domain = box([-1.0, -1.0], [1.0, 1.0], [96, 96], comm=c)
        system = KrylovSystem(domain, level)
        values, mirrored, diagonal = matrix(domain, 0.01)
        system.set(values, mirrored[system.mirrored], diagonal)
        right = domain.graph.lumped * bump(domain)
        found = system.solve(right, bump(domain), 1e-12, 100)
        assert found is not None
        assert defect(domain, *fluxes(domain), 0.01, found, right) < 2e-12
        counts.append(system.iterations)
        solutions.append(float(domain.sum(np.array(domain.graph.lumped @ found**2))))
    assert counts[1] <= (counts[0] + 2 if comm.size <= 2 else 4 * counts[0])
    assert solutions[1] == pytest.approx(solutions[0], rel=1e-11)


@pytest.mark.ranks
def test_complete_factors_take_over_where_iterations_do_not_end(comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few iterations allowed: the same solution from complete factors, for this shift and larger ones."""
    domain = box([-1.0, -1.0], [1.0, 1.0], [24, 24], comm=comm)
    inward, outward = fluxes(domain)
    right = domain.graph.lumped * bump(domain)
    monkeypatch.setattr("mvpde.density.fluxes._ITERATIONS", {2: 1})
    calls = []
    solve = CompleteFactors.solve
    monkeypatch.setattr(CompleteFactors, "solve", lambda self, b: calls.append(1) or solve(self, b))
    system = ShiftedSystem(domain)
    for factor, complete in ((0.2, 1), (0.4, 2)):
        system.set(inward, outward, factor)
        assert defect(domain, inward, outward, factor, system.solve(right, bump(domain), 1e-12), right) < 1e-12
        assert len(calls) == complete and system.iterations == 1


def test_many_slow_solves_with_one_matrix_pay_for_complete_factors(comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = box([-1.0, -1.0], [1.0, 1.0], [24, 24], comm=comm)
    right = domain.graph.lumped * bump(domain)
    monkeypatch.setattr("mvpde.density.fluxes._ITERATIONS", {2: 20})
    monkeypatch.setattr("mvpde.density.fluxes._SLOW", 1)
    system = ShiftedSystem(domain)
    system.set(*fluxes(domain), 0.05)
    counts = []
    for _ in range(40):
        system.solve(right, np.zeros(domain.owned), 1e-12)
        counts.append(system.iterations)
    assert 20 < counts[-1] < 60 and counts[-1] == counts[-2]
    system.set(*fluxes(domain), 0.05)
    system.solve(right, np.zeros(domain.owned), 1e-12)
    assert system.iterations > counts[-1]


@pytest.mark.ranks
def test_numbers_that_are_not_finite_are_an_error_on_all_ranks(comm: MPI.Intracomm) -> None:
    domain = box([-1.0, -1.0], [1.0, 1.0], [8, 8], comm=comm)
    system, right = ShiftedSystem(domain), domain.graph.lumped * bump(domain)
    inward, outward = fluxes(domain)
    if comm.rank == comm.size - 1:
        inward[3] = np.nan
    system.set(inward, outward, 0.1)
    with pytest.raises(SolverError, match="not finite"):
        system.solve(right, bump(domain), 1e-12)
