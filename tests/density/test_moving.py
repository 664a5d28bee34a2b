"""Coefficients that depend on time, in every measure.

dx = (−x + a cos 2t) dt + √(2τ) dB, whose mean tends to .2a (cos 2t + 2 sin 2t).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mvpde import Characteristics, Density, Ensemble, Normal, Product, box, fokker_planck, stationary
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI

A = 0.5
LAW = Product((Normal(0.4, 0.3),))


def forced(temperature: float, *, potential: bool) -> MeanField:
    """The forced linear model, as a gradient flow or as a drift of its own; without noise where the temperature is 0."""
    bare = MeanField(
        ("x",),
        profile=lambda z: np.ones((len(z), 1)),
        profile_field=lambda z, r: (np.full(len(z), r[0]), np.zeros_like(z)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        temperature=temperature,
        interacting=False,
    )

    def at(t: float) -> MeanField:
        push = A * math.cos(2.0 * t)
        if potential:
            return replace(
                bare, external_potential=lambda z: 0.5 * z[:, 0] ** 2 - push * z[:, 0], external_gradient=lambda z: z - push
            )
        return replace(bare, own_drift=lambda z, m: push - z)

    return replace(at(0.0), moving=at)


def mean(t: float, start: float = 0.4) -> float:
    """E x(t), exactly."""
    return start * math.exp(-t) + 0.2 * A * (math.cos(2 * t) + 2.0 * math.sin(2 * t) - math.exp(-t))


def first(z: Array) -> Array:
    return z[:, 0]


@pytest.mark.serial
@pytest.mark.parametrize(("scheme", "potential"), [("edge_averaged", True), ("galerkin", False)])
def test_implicit_steps_take_each_stage_at_its_own_time(scheme, potential):
    """Order 2 in the step; coefficients of its start would give order 1. Against steps so short that only h is left."""
    domain = box([-3], [3], [120], comm=MPI.COMM_SELF)

    def end(step: float) -> float:
        density = Density(forced(0.05, potential=potential), domain, LAW, scheme=scheme, step=step)
        density.advance(1.0)
        assert density.mass_defect < 1e-12
        return float(density.expectation(first)[0])

    exact = end(0.0125)
    errors = [abs(end(step) - exact) for step in (0.2, 0.1)]
    assert errors[0] / errors[1] > 3.3
    assert abs(exact - mean(1.0)) < 2e-3  # what the mesh leaves


@pytest.mark.serial
@pytest.mark.parametrize("potential", [True, False])
def test_explicit_steps_and_characteristics_follow_the_forcing(potential):
    """Explicit fluxes keep the first moment exactly, so the error is that of the Runge–Kutta method; DOP853 is exact to 1e-9."""
    model = forced(0.0, potential=potential)
    density = Density(model, box([-3], [3], [120], comm=MPI.COMM_SELF), LAW)
    nodes = Characteristics(model, LAW, nodes=[8])
    for t in (0.5, 1.0):
        density.advance(t)
        nodes.advance(t)
        assert density.expectation(first) == pytest.approx(mean(t), abs=1e-6)
        assert nodes.expectation(first) == pytest.approx(mean(t), abs=1e-9)
        assert density.model.drift(np.zeros((1, 1)), np.zeros(1))[0, 0] == pytest.approx(A * math.cos(2.0 * t))
    assert density.scheme == "flux_corrected"
    assert density.minimum >= 0.0
    assert density.mass_defect < 1e-12


@pytest.mark.serial
@pytest.mark.parametrize(("scheme", "order"), [("euler", 1), ("heun", 2)])
def test_particles_read_the_forcing_at_the_times_of_their_scheme(scheme, order):
    """Euler at the start of each step, Heun at both ends; without noise the mean moves like one particle."""

    def error(step: float) -> float:
        ensemble = Ensemble(forced(0.0, potential=False), LAW, particles=64, scheme=scheme, step=step)
        start = float(ensemble.expectation(first)[0])
        ensemble.advance(1.0)
        return abs(float(ensemble.expectation(first)[0]) - mean(1.0, start))

    assert math.log2(error(0.05) / error(0.025)) == pytest.approx(order, abs=0.1)


@pytest.mark.serial
def test_noise_of_a_temperature_that_depends_on_time_keeps_weak_order_two():
    """dx = √(2τ(t)) dB with τ = t: Var x(1) = 2∫τ = 1 exactly, from the middle of any number of steps."""
    bare = replace(forced(0.0, potential=False), own_drift=lambda z, m: 0.0 * z, moving=None)
    model = replace(bare, temperature=1.0, moving=lambda t: replace(bare, temperature=t))
    ensemble = Ensemble(model, Product((Normal(0.0, 1e-9),)), particles=40000, scheme="heun", step=0.5)
    ensemble.advance(1.0)
    variance = float(ensemble.expectation(lambda z: z[:, 0] ** 2)[0])
    assert variance == pytest.approx(1.0, abs=4.0 * math.sqrt(2.0 / 40000))  # the start of the steps would give 1/2


@pytest.mark.ranks
def test_a_drift_without_potential_turns_the_density():
    """ẋ = Ωx turns the law: second moments after a quarter of a turn, mass and sign, second order in the mesh."""
    bare = forced(0.0, potential=False)
    model = replace(
        bare,
        coordinates=("x", "y"),
        periods=(None, None),
        moving=None,
        own_drift=lambda z, m: np.column_stack([-z[:, 1], z[:, 0]]),
    )
    law, errors = Product((Normal(0.8, 0.4), Normal(0.0, 0.3))), []
    for cells in (16, 32):
        density = Density(model, box([-3, -3], [3, 3], [cells, cells]), law)
        density.advance(0.5 * math.pi)
        got = [float(density.expectation(h)[0]) for h in (lambda z: z[:, 1], lambda z: z[:, 0] ** 2, lambda z: z[:, 1] ** 2)]
        errors.append(np.abs(np.array(got) - [0.8, 0.09, 0.16 + 0.64]).max())
        assert density.scheme == "flux_corrected"
        assert density.minimum >= 0.0
        assert density.mass_defect < 1e-12
    assert all(coarse / fine > 3.0 for coarse, fine in itertools.pairwise(errors))
    assert errors[-1] < 4e-3


@pytest.mark.serial
@pytest.mark.parametrize("potential", [True, False])
def test_explicit_fluxes_are_of_second_order_from_a_potential_and_from_its_drift(potential):
    """The law stays normal, with the mean above and the deviation .3 e^{−t}: largest error of ρ on two meshes."""

    def error(cells: int) -> float:
        density = Density(forced(0.0, potential=potential), box([-3], [3], [cells], comm=MPI.COMM_SELF), LAW)
        density.advance(0.7)
        exact = Normal(mean(0.7), 0.3 * math.exp(-0.7)).density(density.domain.coordinates[:, 0])
        assert density.scheme == "flux_corrected"
        return float(np.abs(density.values - exact).max() / exact.max())

    coarse, fine = error(120), error(240)
    assert coarse / fine > 2.0**1.8
    assert fine < 4e-3


@pytest.mark.serial
def test_no_law_is_stationary_where_the_coefficients_depend_on_time():
    """The stationary law of the present moment would be taken for one of the equation."""
    density = Density(forced(0.05, potential=True), box([-3], [3], [30], comm=MPI.COMM_SELF), LAW)
    with pytest.raises(ValueError, match="no law of it is stationary"):
        stationary(density)


@pytest.mark.serial
@pytest.mark.parametrize(
    "written",
    [
        {"potential": "x**2/2 - x*cos(2*t)/2", "temperature": 0.05},
        {"drift": ["-x + cos(2*t)/2"], "temperature": 0.0},
        {"potential": "x**2/2 - x*cos(2*t)/2", "diffusion": [["0.05*(1 + sin(t))"]]},
    ],
)
def test_the_time_may_stand_in_expressions(written):
    """The forced model written out, at a fixed step where one can be chosen."""
    density = Density(fokker_planck(["x"], **written), box([-3], [3], [120], comm=MPI.COMM_SELF), LAW)
    density.advance(1.0)
    assert density.expectation(first) == pytest.approx(mean(1.0), abs=2e-3)


@pytest.mark.serial
def test_a_temperature_of_noise_that_grows_with_time():
    """A = t without drift: Var x(1) = .09 + 1."""
    model = fokker_planck(["x"], drift=["0"], diffusion=[["t"]])
    density = Density(model, box([-6], [6], [120], comm=MPI.COMM_SELF), LAW)
    density.advance(1.0)
    assert density.expectation(lambda z: (z[:, 0] - 0.4) ** 2) == pytest.approx(1.09, abs=1e-3)
    assert fokker_planck(["x"], potential="t*x**2", temperature=0.1, parameters={"t": 2.0}).moving is None
