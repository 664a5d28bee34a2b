"""Steps of order 4: the tableau, orders in time and space, few lengths, and the laws that every implicit step keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from at_hand.models import TWO_PI, circle_network, order
from mvpde import Density, Normal, Product, Uniform, box, fokker_planck
from mvpde.density.schemes import OrderInTime
from mvpde.density.steps import stiff
from mvpde.density.steps.dyadic import fitting, unit
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, ArgumentError

A = np.array([[*row, *([stiff.GAMMA] if i else [0.0]), *[0.0] * (5 - i)] for i, row in enumerate(stiff.STAGES)])
B, C = np.array(stiff.WEIGHTS), np.array(stiff.TIMES)


def bistable(temperature: float = 0.25) -> MeanField:
    """The potential (x² − 1)²/4 + y²/2 + .3xy."""
    return fokker_planck(("x", "y"), potential="(x**2 - 1)**2/4 + y**2/2 + 0.3*x*y", temperature=temperature)


NARROW = Product((Normal(1.0, 0.2), Normal(0.0, 0.2)))


def smooth(comm: MPI.Intracomm, cells: int, *, order_in_time: OrderInTime = 4, **options: Any) -> Density:
    """A narrow start in that potential."""
    domain = box([-3.0, -3.0], [3.0, 3.0], [cells, cells], comm=comm)
    return Density(bistable(), domain, NARROW, scheme="edge_averaged", order_in_time=order_in_time, **options)


# --- the method -----------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_the_tableau_has_order_four_and_is_l_stable():
    """All eight conditions of order 4, those of order 3 of the other weights, stage order 2; |R| ≤ 1 on the axis, R(∞) = 0."""
    trees = [
        (np.ones(6), 1.0), (C, 1 / 2), (C**2, 1 / 3), (A @ C, 1 / 6),
        (C**3, 1 / 4), (C * (A @ C), 1 / 8), (A @ C**2, 1 / 12), (A @ A @ C, 1 / 24),
    ]  # fmt: skip
    assert [B @ tree for tree, _ in trees] == pytest.approx([value for _, value in trees], abs=1e-14)
    third = B - np.array(stiff.ERROR_WEIGHTS) / 2.0
    assert [third @ tree for tree, _ in trees[:4]] == pytest.approx([value for _, value in trees[:4]], abs=1e-14)
    assert abs(third @ C**3 - 0.25) > 1e-3
    assert np.abs(A.sum(axis=1) - C).max() < 1e-14 and np.abs(A @ C - C**2 / 2.0).max() < 1e-14 and np.all(A[-1] == B)

    def grows(z: complex) -> float:
        return abs(1.0 + z * B @ np.linalg.solve(np.eye(6) - z * A, np.ones(6)))

    assert max(grows(1j * y) for y in np.geomspace(1e-2, 1e4, 200)) < 1.0 + 1e-12
    assert grows(-1e8) < 1e-6


def errors(make: Callable[[float], Density], end: float, steps: list[float]) -> list[float]:
    """In L¹, against steps so short that only the error in time is left."""

    def values(step: float) -> Array:
        density = make(step)
        density.advance(end)
        assert density.mass_defect < 1e-12
        return density.values[: density.domain.owned]

    truth, domain = values(steps[-1] / 4.0), make(1.0).domain
    return [float(domain.sum(np.array([domain.graph.lumped @ np.abs(values(step) - truth)]))[0]) for step in steps]


@pytest.mark.serial
def test_order_four_in_time_of_linear_and_mean_field_densities(comm: MPI.Intracomm):
    """Of the linear equation, and with moments that the steps foresee; order 2 is a hundred times less accurate."""
    assert order(errors(lambda step: smooth(comm, 16, step=step), 0.5, [0.0625, 0.03125])) > 3.8
    model, law = circle_network(0.05)

    def circle(step: float, order_in_time: OrderInTime = 4) -> Density:
        domain = box([0.0, -5.0], [TWO_PI, 5.0], [16, 16], [True, False], comm=comm)
        return Density(model, domain, law, scheme="edge_averaged", step=step, order_in_time=order_in_time)

    fourth = errors(circle, 1.0, [0.25, 0.125])
    assert order(fourth) > 3.8
    assert fourth[1] < errors(lambda step: circle(step, 2), 1.0, [0.125])[0] / 100.0


@pytest.mark.serial
def test_extrapolation_in_space_meets_order_four_in_time(comm: MPI.Intracomm):
    """Moments of the continuous problem from two meshes, of order 4, and a density that is positive."""
    exact = np.array([0.8435202237, 0.9295885893, -0.1889357203, 0.2583046649])

    def moments(density: Density) -> Array:
        of = (lambda z: z[:, 0], lambda z: z[:, 0] ** 2, lambda z: z[:, 0] * z[:, 1], lambda z: z[:, 1] ** 2)
        return np.array([density.expectation(function)[0] for function in of])

    runs = [smooth(comm, cells, step=0.125) for cells in (16, 32, 64)]
    for run in runs:
        run.advance(1.0)
        assert run.statistics()["stages"] == 5 and run.minimum > -1e-14
    found = [moments(run) for run in runs]
    gaps = [np.abs((4.0 * fine - coarse) / 3.0 - exact).max() for coarse, fine in pairwise(found)]
    assert gaps[1] < 4e-5 and order(gaps) > 3.5


@pytest.mark.serial
def test_error_control_takes_few_lengths(comm: MPI.Intracomm):
    """A tenth of the steps of order 2 for a smaller error; the first tenth of the time takes the shortest of a few lengths."""
    runs = {k: smooth(comm, 32, tolerance=1e-6, order_in_time=k) for k in (2, 4)}
    for run in runs.values():
        run.advance(1.0)
    lengths = runs[4].lengths
    assert runs[4].steps < 0.6 * runs[2].steps
    assert len(set(lengths)) <= 4 and lengths[0] == min(lengths) and lengths[-1] > lengths[0]
    assert all(math.log2(length) == round(math.log2(length)) for length in lengths)
    assert sum(lengths) == 1.0


@pytest.mark.serial
def test_auto_takes_order_four_where_it_is_faster(comm: MPI.Intracomm):
    """Where matrices stay the same, or many steps are saved."""
    model, law = circle_network(0.05)
    domain = box([0.0, -5.0], [TWO_PI, 5.0], [8, 8], [True, False], comm=comm)

    def stages(tolerance: float) -> object:
        return Density(model, domain, law, scheme="edge_averaged", tolerance=tolerance).statistics()["stages"]

    assert smooth(comm, 8, order_in_time="auto").statistics()["stages"] == 5
    assert (stages(1e-5), stages(1e-6)) == (2, 5)


@pytest.mark.serial
def test_lengths_of_an_interval():
    """Any wishes lead to the end, in steps that start at multiples of themselves; decimal intervals share their steps."""
    generator = np.random.default_rng(0)
    for interval in (1.0, 0.3, 7.0, 2.0 / 3.0, 12.5):
        remaining, last, count = interval, 0.0, 0
        while remaining > 0.0:
            length = fitting(interval * 10.0 ** generator.uniform(-2.5, 0.5), interval, remaining, last)
            position = interval - remaining
            assert 0.0 < length <= remaining and abs(position / length - round(position / length)) < 1e-6
            remaining, last, count = (0.0 if length == remaining else remaining - length), length, count + 1
        assert count < 1000
    assert [unit(interval) for interval in (1.0, 5.0, 20.0, 0.25)] == [1.0, 1.0, 10.0, 0.25]
    assert fitting(0.3, 1.0, 1.0, 0.0) == 0.25 and fitting(0.3, 5.0, 5.0, 0.0) == 0.25


# --- laws -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize("temperature", [0.02, 0.3])
@pytest.mark.parametrize("scheme", ["edge_averaged", "galerkin"])
def test_a_rough_start_stays_positive_and_keeps_its_mass(comm: MPI.Intracomm, scheme: str, temperature: float) -> None:
    """From jumps, and with long steps; the free energy of edge-averaged fluxes falls in every step."""
    domain = box([-3.0, -3.0], [3.0, 3.0], [24, 24], comm=comm)
    law = Product((Uniform(-1.0, 0.5), Uniform(0.1, 1.2)))
    density = Density(bistable(temperature), domain, law, scheme=scheme, tolerance=1e-4, order_in_time=4)
    energies = [density.free_energy()]
    density.advance(0.5, lambda: energies.append(density.free_energy()))
    assert density.mass_defect < 1e-12 and density.minimum > -1e-14
    if scheme == "edge_averaged":
        assert all(after <= before + 1e-13 for before, after in pairwise(energies))
    far = Density(bistable(temperature), domain, law, scheme=scheme, step=0.5, order_in_time=4)
    far.advance(0.5)
    assert far.steps == 1 and far.minimum > -1e-14 and far.mass_defect < 1e-12
    assert far.statistics()["limited_steps"] == 1


@pytest.mark.serial
@pytest.mark.parametrize("tolerance", [1e-5, 1e-2])
def test_stiff_moments_do_not_upset_them(comm: MPI.Intracomm, tolerance: float):
    """A strong pull to the mean, which steps at the tolerance's length would overshoot: the energy falls, the mean stays."""
    model, law = circle_network(0.2)
    domain = box([0.0, -5.0], [TWO_PI, 5.0], [16, 16], [True, False], comm=comm)
    density = Density(model, domain, law, scheme="edge_averaged", tolerance=tolerance, order_in_time=4)
    energies = [density.free_energy()]
    density.advance(40.0, lambda: energies.append(density.free_energy()))
    assert all(after <= before + 1e-13 * (1.0 + abs(before)) for before, after in pairwise(energies))
    assert density.minimum > -1e-14


@pytest.mark.ranks
def test_the_result_does_not_depend_on_the_ranks(comm: MPI.Intracomm) -> None:
    """With factors kept from other moments, and complete ones over the ranks."""
    model, law = circle_network(0.05)

    def run(comm: MPI.Intracomm, *, linear: bool) -> tuple[Array | None, list[float]]:
        if linear:
            density = smooth(comm, 16)
        else:
            domain = box([0.0, -5.0], [TWO_PI, 5.0], [16, 16], [True, False], comm=comm)
            density = Density(model, domain, law, scheme="edge_averaged", order_in_time=4)
        density.advance(1.0)
        return density.domain.to_mesh(density.values[: density.domain.owned]), density.lengths

    for linear in (True, False):
        (mine, lengths), (alone, same) = run(comm, linear=linear), run(MPI.COMM_SELF, linear=linear)
        assert lengths == same
        if mine is not None and alone is not None:
            assert np.abs(mine - alone).max() < 1e-9


@pytest.mark.serial
@pytest.mark.parametrize("interacting", [False, True])
def test_a_checkpoint_continues_with_the_same_steps(comm: MPI.Intracomm, interacting: bool):
    """Nothing of a step depends on the ones before it but its length."""
    model, law = circle_network(0.05)

    def fresh() -> Density:
        if not interacting:
            return smooth(comm, 16)
        domain = box([0.0, -5.0], [TWO_PI, 5.0], [16, 16], [True, False], comm=comm)
        return Density(model, domain, law, scheme="edge_averaged", order_in_time=4)

    whole, second = fresh(), fresh()
    whole.advance(0.5)
    second.restore(whole.state())
    for density in (whole, second):
        density.advance(1.5)
    assert whole.lengths == second.lengths
    assert np.abs(whole.values - second.values).max() < 1e-10


@pytest.mark.serial
def test_options_of_the_solver_and_of_the_order(comm: MPI.Intracomm):
    """What is asked for is used, and what is of no use refused."""
    runs = [smooth(comm, 16, **options) for options in ({}, {"solver": {"ksp_type": "gmres", "pc_type": "sor"}})]
    for run in runs:
        run.advance(0.5)
    assert np.abs(runs[0].values - runs[1].values).max() < 1e-10
    assert runs[0].statistics()["solver_iterations"] == 0 < runs[1].statistics()["solver_iterations"]
    with pytest.raises(ArgumentError, match="PETSc"):
        smooth(comm, 16, solver={"pc_factor_levels": 3, "pc_type": "jacobi"})
    with pytest.raises(ArgumentError, match="order_in_time"):
        smooth(comm, 16, order_in_time=3)  # type: ignore[arg-type]
