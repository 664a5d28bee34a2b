"""Absorbing walls of densities: survival, fluxes, escape and exit against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from at_hand.walls import MIRRORS, between
from mvpde.density.density import Density
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.stationary import stationary
from mvpde.equilibrium.walls.escape import exits
from mvpde.mesh.box import box
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.interaction import diffusion
from mvpde.models.laws import Law1D, Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.runtime import MPI

serial = pytest.mark.serial
GRAVES = ("absorbing", "absorbing")
POINT = Normal(0.0, 1e-3)
SURVIVAL = 0.24694  # at t = 1, of dx = dt + dB from 0 between −1 and 1


def on(model: MeanField, cells: list[int], *laws: Law1D, periodic: list[bool] | None = None, **others) -> Density:
    walls = model.walls
    assert walls is not None
    return Density(model, box(walls.lower, walls.upper, cells, periodic, **others), Product(laws))


def drifting(written: str = "drift") -> MeanField:
    """dx = dt + dB between absorbing walls at ±1, by its drift or by a potential."""
    drift = fokker_planck(["x"], drift=["1"], diffusion=[["0.5"]])
    potential = fokker_planck(["x"], potential="-x", temperature=0.5)
    return between({"drift": drift, "potential": potential}[written], [-1.0], [1.0], GRAVES)


@serial
@pytest.mark.parametrize("written", ["drift", "potential"])
def test_survival_and_outflow(written: str) -> None:
    density = on(drifting(written), [200], POINT)
    density.advance(1.0)
    numbers = density.numbers()
    assert numbers["survival"] == pytest.approx(SURVIVAL, abs=2e-5)
    assert numbers["survival"] + density.outflow.sum() == pytest.approx(1.0, abs=1e-12)
    assert density.outflow[1] / density.outflow[0] == pytest.approx(math.exp(2.0), rel=1e-3)  # at each time the same ratio
    assert numbers["flux_x_upper"] / numbers["flux_x_lower"] == pytest.approx(math.exp(2.0), rel=1e-3)
    assert density.minimum > -1e-15


@serial
def test_survival_is_of_order_two_also_from_a_start_at_the_walls() -> None:
    """Brownian motion from the uniform law: S(t) = Σ 8/(π(2k + 1))² e^{−π²(2k + 1)²t/8}."""
    odd = 2.0 * np.arange(50) + 1.0
    exact = float((8.0 / (np.pi * odd) ** 2 * np.exp(-((np.pi * odd) ** 2) * 0.5 / 8.0)).sum())
    model, errors = between(fokker_planck(["x"], potential="0*x", temperature=0.5), [-1.0], [1.0], GRAVES), []
    for cells in (20, 40):
        density = on(model, [cells], Uniform(-1.0, 1.0))
        assert density.numbers()["survival"] == pytest.approx(1.0, abs=1e-14)
        density.advance(0.5)
        errors.append(abs(density.mass() - exact))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)


@serial
@pytest.mark.parametrize("written", ["drift", "potential"])
def test_exit_from_an_interval(written: str) -> None:
    density = on(drifting(written), [200], POINT)
    found = exits(density, density.values)
    assert found.mean_time == pytest.approx(math.tanh(1.0), abs=2e-5)
    assert found.mean_probability["x_upper"] == pytest.approx(1.0 / (1.0 + math.exp(-2.0)), abs=2e-5)
    assert sum(found.mean_probability.values()) == pytest.approx(1.0, abs=1e-12)


@serial
def test_the_backward_equation_is_that_of_the_survivors() -> None:
    """∫T dρ_0 is the integral of the survival: the operators are transposes of each other."""
    density = on(drifting(), [40], Normal(0.2, 0.1))
    wanted = exits(density, density.values)
    density.advance(12.0)
    assert density.outflow[1] == pytest.approx(wanted.mean_probability["x_upper"], abs=1e-5)


@serial
def test_committor_of_a_double_well() -> None:
    """p(x) = ∫_{−1}^x e^{V/τ}/∫_{−1}^1 e^{V/τ} between the wells of V = (x² − 1)²/4."""
    model = between(fokker_planck(["x"], potential="(x**2 - 1)**2/4", temperature=0.1), [-1.0], [1.0], GRAVES)
    density = on(model, [100], Normal(0.0, 0.1))
    found, x = exits(density, density.values), density.domain.coordinates[:, 0]
    fine = np.linspace(-1.0, 1.0, 20001)
    middle = 0.5 * (fine[1:] + fine[:-1])
    rising = np.concatenate([[0.0], np.cumsum(np.exp((middle**2 - 1.0) ** 2 / 0.4))])
    np.testing.assert_allclose(found.probability[1], np.interp(x, fine, rising / rising[-1]), atol=2e-4)


@serial
def test_exit_from_a_square() -> None:
    """½Δu = −1 on the square of side 2: u(0) = .58937 (torsion)."""
    model = between(fokker_planck(["x", "y"], potential="0*x + 0*y", temperature=0.5), [-1.0, -1.0], [1.0, 1.0], GRAVES, GRAVES)
    density = on(model, [32, 32], Normal(0.0, 0.05), Normal(0.0, 0.05))
    found = exits(density, density.values)
    assert found.time.max() == pytest.approx(0.58937, abs=1e-3)
    assert found.mean_probability["x_lower"] == pytest.approx(0.25, abs=1e-3)


@serial
def test_cross_diffusion_does_not_matter_along_a_circle() -> None:
    """Uniform in a periodic y, x is as alone, whatever A_xy: also where edges into the wall have negative weights."""
    written = diffusion(["x", "y"], drift=["1", "0"], diffusion=[["0.5", "0.4"], ["0.4", "0.5"]], periods={"y": 1.0})
    model = between(written, [-1.0, 0.0], [1.0, 1.0], GRAVES, ("", ""))
    density = on(model, [40, 20], Normal(0.0, 0.1), Uniform(0.0, 1.0, True), periodic=[False, True])
    alone = on(drifting(), [40], Normal(0.0, 0.1))
    for one in (density, alone):
        one.advance(0.5)
    assert density.mass() == pytest.approx(alone.mass(), abs=1e-3)
    assert density.mass_defect < 1e-12


@serial
@pytest.mark.parametrize(
    ("model", "rates"),
    [
        (drifting("drift"), [0.5 * (1.0 + (0.5 * np.pi * k) ** 2) for k in (1, 2, 3)]),
        (drifting("potential"), [0.5 * (1.0 + (0.5 * np.pi * k) ** 2) for k in (1, 2, 3)]),
        (
            between(fokker_planck(["x"], potential="0*x", temperature=1.0), [0.0], [1.0], ("absorbing", "reflecting")),
            [(np.pi * (k - 0.5)) ** 2 for k in (1, 2, 3)],
        ),
    ],
)
def test_escape(model: MeanField, rates: list[float]) -> None:
    density = on(model, [200], Normal(0.5, 0.05))
    law = stationary(density)
    assert law.escape_rate == pytest.approx(rates[0], rel=1e-4)
    assert law.residual < 1e-9
    np.testing.assert_allclose(spectrum(density, 3, law).eigenvalues.real, rates, rtol=1e-3)


@serial
def test_the_quasi_stationary_law_is_what_survivors_tend_to() -> None:
    free = fokker_planck(["x"], potential="0*x", temperature=1.0)
    density = on(between(free, [0.0], [1.0], ("absorbing", "reflecting")), [100], Normal(0.5, 0.1))
    law = stationary(density)
    density.advance(1.0)
    assert density.expectation(lambda z: z[:, 0])[0] / density.mass() == pytest.approx(law.mean[0], abs=1e-4)
    assert law.mean[0] == pytest.approx(2.0 / np.pi, abs=5e-5)  # of ½π sin(½πx)


@pytest.mark.ranks
def test_ranks_agree_on_what_is_left() -> None:
    model = between(fokker_planck(["x", "y"], potential="-x", temperature=0.5), [-1.0, 0.0], [1.0, 1.0], GRAVES, MIRRORS)
    found = []
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
        density = on(model, [16, 8], Normal(0.0, 0.1), Uniform(0.0, 1.0), comm=comm)
        known, law = exits(density, density.values), stationary(density)
        density.advance(0.2)
        found.append([density.mass(), *density.outflow, known.mean_time, *known.mean_probability.values(), law.escape_rate])
    np.testing.assert_allclose(*found, rtol=1e-8)


@serial
def test_a_checkpoint_knows_what_has_gone() -> None:
    first, other = (on(drifting(), [40], Normal(0.0, 0.1)) for _ in range(2))
    first.advance(0.5)
    other.restore(first.state())
    np.testing.assert_array_equal(other.outflow, first.outflow)
    for density in (first, other):
        density.advance(1.0)
    assert other.mass() == pytest.approx(first.mass(), abs=1e-10)
    assert other.mass_defect < 1e-12
