"""Densities at walls where coefficients do not exist, or diffusion vanishes, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.walls import MIRRORS, OPEN, PRESSED_MEAN, between, pressed, radius, square_root, wright_fisher
from mvpde.density.density import Density
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.stationary import stationary
from mvpde.mesh.box import box
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.interaction import diffusion
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField

pytestmark = pytest.mark.serial

FREE = np.sqrt(np.pi)  # of the mean radius: √π/2 in the plane, 2/√π in space, at D = ½


def on(model: MeanField, cells: list[int], *laws: Normal | Uniform, periodic: list[bool] | None = None) -> Density:
    walls = model.walls
    assert walls is not None
    return Density(model, box(walls.lower, walls.upper, cells, periodic), Product(laws))


@pytest.mark.parametrize(
    ("model", "cells", "mean", "error"),
    [
        (radius(1.0), 200, 0.5 * FREE, 1e-4),
        (radius(2.0), 200, 2.0 / FREE, 1e-3),
        (radius(0.5), 200, 0.74096, 2e-3),  # Γ(5/4)/Γ(3/4)
        (square_root(0.5), 400, 1.0, 1e-3),
        (wright_fisher(2.0, 1.0), 200, 2.0 / 3.0, 1e-3),
        (pressed(), 200, PRESSED_MEAN, 1e-4),
    ],
)
def test_stationary_means(model: MeanField, cells: int, mean: float, error: float) -> None:
    law = stationary(on(model, [cells], Normal(0.5, 0.1)))
    assert law.mean[0] == pytest.approx(mean, abs=error)
    assert law.entropy_production == 0.0
    assert law.minimum > -1e-14


@pytest.mark.parametrize(
    ("model", "rates", "error"),
    [
        (radius(1.0), [2.0, 4.0], 1e-4),  # Laguerre polynomials of r²
        (wright_fisher(2.0, 1.0), [3.0, 8.0], 2e-3),
        (pressed(), [1.0 + np.pi**2, 1.0 + 4.0 * np.pi**2], 1e-3),
    ],
)
def test_rates(model: MeanField, rates: list[float], error: float) -> None:
    found = spectrum(on(model, [200], Normal(0.5, 0.1)), 2).eigenvalues
    np.testing.assert_allclose(np.real(found), rates, rtol=error)


def test_legendre_polynomials_relax_as_on_the_sphere() -> None:
    """x = cos θ of Brownian motion on the sphere: the mean of P₁ falls as e^{−2t}."""
    model = between(fokker_planck(["x"], drift=["-2*x"], diffusion=[["1 - x**2"]]), [-1.0], [1.0])
    assert model.walls is not None
    assert model.walls.kinds == (("natural", "natural"),)
    density = on(model, [200], Normal(0.5, 0.1))
    start = density.expectation(lambda z: z[:, 0])[0]
    density.advance(0.5)
    assert density.expectation(lambda z: z[:, 0])[0] == pytest.approx(start * np.exp(-1.0), abs=2e-4)


def test_a_drift_and_its_potential_have_one_law() -> None:
    drift = stationary(on(radius(1.0), [200], Normal(2.0, 0.3)))
    written = fokker_planck(["x"], potential="x**2/2 - D*log(x)", temperature=0.5, parameters={"D": 0.5})
    potential = stationary(on(between(written, [0.0], [6.0]), [200], Normal(2.0, 0.3)))
    assert potential.mean[0] == pytest.approx(drift.mean[0], abs=1e-4)
    assert potential.mean[0] == pytest.approx(0.5 * FREE, abs=1e-4)


def test_amplitude_and_phase_of_an_oscillator() -> None:
    """ρ ∝ r e^{(r²/2 − r⁴/4)/D}; the phase turns at the rate 1 and is uniform."""
    written = diffusion(
        ["r", "phi"],
        drift=["r - r**3 + D/r", "1"],
        diffusion=[["D", "0"], ["0", "D/r**2"]],
        periods={"phi": 2.0 * np.pi},
        parameters={"D": 0.1},
    )
    model = between(written, [0.0, 0.0], [2.5, 2.0 * np.pi], OPEN, ("", ""))
    density = on(model, [64, 24], Normal(1.0, 0.1), Uniform(0.0, 2.0 * np.pi, True), periodic=[False, True])
    law = stationary(density, checked=False)
    assert law.mean[0] == pytest.approx(0.980366, abs=1e-3)
    density.advance(0.5)
    assert density.mass_defect < 1e-12


def test_noise_that_grows_without_bound_at_a_wall() -> None:
    """A = D/x² without a drift: ρ ∝ x², mean ¾ between 0 and a mirror at 1."""
    model = between(fokker_planck(["x"], drift=["0"], diffusion=[["1/x**2"]]), [0.0], [1.0], ("open", "reflecting"))
    assert stationary(on(model, [200], Normal(0.5, 0.1))).mean[0] == pytest.approx(0.75, abs=1e-3)


def test_walls_that_cannot_be_what_they_are_said_to_be() -> None:
    inwards = fokker_planck(["x"], drift=["-1/x"], diffusion=[["1"]])
    with pytest.raises(ValueError, match="draws the law in without bound"):
        between(inwards, [0.0], [1.0])
    with pytest.raises(ValueError, match="upper wall at 1 is not natural"):
        between(inwards, [0.5], [1.0], ("reflecting", "natural"))
    with pytest.raises(ValueError, match="cannot absorb"):
        between(fokker_planck(["x"], drift=["1/x"], diffusion=[["1"]]), [0.0], [1.0], ("absorbing", "reflecting"))


def test_mirrors_between_nodes_of_order_two() -> None:
    errors = [abs(stationary(on(pressed(), [n], Uniform(0.0, 1.0))).mean[0] - PRESSED_MEAN) for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert pressed().walls.kinds[0] == MIRRORS  # type: ignore[union-attr]
