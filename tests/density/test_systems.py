"""Linear systems: true residuals on any number of ranks, what takes over where a solver fails, and options of the user's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from at_hand.models import free
from mvpde.density.features import nodal_features
from mvpde.density.fluxes import rate
from mvpde.density.galerkin import galerkin
from mvpde.density.systems import Attempt, LinearSystem, ShiftedSystem, complete, for_steps
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array
from mvpde.runtime import MPI, ArgumentError, SolverError


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


def bump(domain: Domain) -> Array:
    return np.exp(-8.0 * np.sum((domain.coordinates[: domain.owned] - 0.2) ** 2, axis=1))


def defect(domain: Domain, factor: float, solution: Array, right: Array) -> float:
    """‖b − (M + a𝓛)ρ‖ / ‖b‖ by the kernels of the time step."""
    graph, values, change = domain.graph, np.zeros(len(domain.coordinates)), np.empty(domain.owned)
    values[: domain.owned] = solution
    domain.exchange.update(values)
    rate(graph.offsets, graph.columns, graph.lumped, *fluxes(domain), values, change)
    r = right - graph.lumped * (solution - factor * change)
    return float(np.sqrt(domain.sum(np.array(r @ r)) / domain.sum(np.array(right @ right))))


@pytest.mark.ranks
@pytest.mark.parametrize(("dimension", "cells"), [(1, 60), (2, 24), (3, 6)])
@pytest.mark.parametrize("tensor", [False, True])
def test_each_solver_meets_the_tolerance(comm: MPI.Intracomm, dimension: int, cells: int, tensor: bool) -> None:
    """Incomplete factors, multigrid and complete factors: ‖b − Aρ‖ ≤ 1e-12 ‖b‖ for the matrix of the time step itself."""
    domain = box([-1.0] * dimension, [1.0] * dimension, [cells] * dimension, comm=comm)
    right = domain.graph.lumped * bump(domain)
    for attempt in for_steps(domain, stays=False, tensor=tensor):
        system = ShiftedSystem(domain, [attempt])
        system.set(*fluxes(domain), 0.01)
        assert defect(domain, 0.01, system.solve(right, bump(domain), 1e-12), right) < 2e-12


@pytest.mark.ranks
@pytest.mark.parametrize("factor", [0.003, 0.03])
def test_ranks_cost_few_iterations(comm: MPI.Intracomm, factor: float) -> None:
    """Overlapping blocks: 4, 5, 7 iterations on 1, 2, 4 ranks at the shorter shift, 11, 13, 18 at the longer one."""
    counts, solutions = [], []
    for c in (MPI.COMM_SELF, comm):
        domain = box([-1.0, -1.0], [1.0, 1.0], [96, 96], comm=c)
        system = ShiftedSystem(domain, for_steps(domain, stays=False, tensor=True))
        system.set(*fluxes(domain), factor)
        found = system.solve(domain.graph.lumped * bump(domain), bump(domain), 1e-12)
        counts.append(system.iterations)
        solutions.append(float(domain.sum(np.array(domain.graph.lumped @ found**2))))
    assert 0 < counts[1] <= 1.7 * counts[0] + 1
    assert solutions[1] == pytest.approx(solutions[0], rel=1e-11)


def impatient(domain: Domain, limit: int) -> ShiftedSystem:
    """Incomplete factors with so many iterations at most, and complete ones after them."""
    first = for_steps(domain, stays=False, tensor=True, asked={"ksp_max_it": limit})[0]
    return ShiftedSystem(domain, [first, complete("density_last_")])


@pytest.fixture
def complete_solves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each solve with complete factors."""
    calls, solve = [], LinearSystem.solve

    def counted(system: LinearSystem, *arguments: object) -> Array | None:
        if system._attempt.prefix == "density_last_":
            calls.append("complete")
        return solve(system, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LinearSystem, "solve", counted)
    return calls


def test_complete_factors_take_over_where_iterations_do_not_end(comm: MPI.Intracomm, complete_solves: list[str]) -> None:
    """Too few iterations allowed: the same solution from complete factors, for this shift and larger ones."""
    domain = box([-1.0, -1.0], [1.0, 1.0], [24, 24], comm=comm)
    right, system = domain.graph.lumped * bump(domain), impatient(domain, 1)
    for factor, calls in ((0.2, 1), (0.4, 2)):
        system.set(*fluxes(domain), factor)
        assert defect(domain, factor, system.solve(right, bump(domain), 1e-12), right) < 1e-12
        assert len(complete_solves) == calls and system.iterations == 1


def test_many_slow_solves_with_one_matrix_pay_for_complete_factors(
    comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch, complete_solves: list[str]
) -> None:
    domain = box([-1.0, -1.0], [1.0, 1.0], [24, 24], comm=comm)
    right, system = domain.graph.lumped * bump(domain), impatient(domain, 20)
    monkeypatch.setattr("mvpde.density.systems._SLOW", 1)
    system.set(*fluxes(domain), 0.05)
    for _ in range(40):
        system.solve(right, np.zeros(domain.owned), 1e-12)
    assert 20 < system.iterations < 60 and complete_solves
    before = system.iterations
    system.set(*fluxes(domain), 0.05)
    system.solve(right, np.zeros(domain.owned), 1e-12)
    assert system.iterations > before


@pytest.mark.ranks
def test_numbers_that_are_not_finite_are_an_error_on_all_ranks(comm: MPI.Intracomm) -> None:
    domain = box([-1.0, -1.0], [1.0, 1.0], [8, 8], comm=comm)
    system, right = ShiftedSystem(domain, for_steps(domain, stays=False, tensor=True)), domain.graph.lumped * bump(domain)
    inward, outward = fluxes(domain)
    if comm.rank == comm.size - 1:
        inward[3] = np.nan
    system.set(inward, outward, 0.1)
    with pytest.raises(SolverError, match="not finite"):
        system.solve(right, bump(domain), 1e-12)


def test_options_of_a_script_and_of_the_environment(comm: MPI.Intracomm) -> None:
    """Both reach the solver, the environment before the script; who chooses a preconditioner gets no default of another one."""
    from petsc4py import PETSc

    domain = box([-1.0, -1.0], [1.0, 1.0], [12, 12], comm=comm)
    right = domain.graph.lumped * bump(domain)

    def kinds(asked: dict[str, str | float | bool]) -> tuple[str, str]:
        system = LinearSystem(domain, for_steps(domain, stays=False, tensor=False, asked=asked)[0])
        shifted = ShiftedSystem(domain, for_steps(domain, stays=False, tensor=False, asked=asked))
        shifted.set(*fluxes(domain), 0.1)
        assert defect(domain, 0.1, shifted.solve(right, bump(domain), 1e-12), right) < 2e-12
        return system._solver.getType(), system._solver.getPC().getType()

    asked: dict[str, str | float | bool] = {"ksp_type": "gmres", "ksp_gmres_restart": 50, "pc_type": "jacobi"}
    assert kinds({}) == ("bcgs", "ilu" if comm.size == 1 else "asm")
    assert kinds(asked) == ("gmres", "jacobi")
    database = PETSc.Options("density_")
    database.setValue("ksp_type", "tfqmr")
    try:
        assert kinds({"pc_type": "jacobi"}) == ("tfqmr", "jacobi")
    finally:
        database.delValue("ksp_type")
    assert not database.getAll()


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ksp_typ": "gmres"}, "no use for ksp_typ"),
        ({"pc_type": "jacobi", "pc_factor_levels": 2}, "no use for pc_factor_levels"),
        ({"ksp_type": "gmress"}, "refuses ksp_type = gmress"),
        ({"pc_factor_levels": "many"}, "refuses pc_factor_levels = many"),
    ],
)
def test_options_that_mean_nothing_are_named(comm: MPI.Intracomm, asked: dict[str, str | float | bool], message: str) -> None:
    domain = box([-1.0], [1.0], [12], comm=comm)
    if "pc_factor_levels" in asked and comm.size > 1 and "pc_type" not in asked:
        message = "no use for pc_factor_levels"  # blocks have their own
    with pytest.raises(ArgumentError, match=message):
        LinearSystem(domain, Attempt("density_", for_steps(domain, stays=False, tensor=False)[0].defaults, asked))
