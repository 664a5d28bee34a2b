"""Stationary laws, branches and modes where e^{−V/τ} is far below the smallest number of floating point over much of the box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ive

from at_hand.models import TWO_PI, desai_zwanzig, free, kuramoto
from mvpde.density.density import Density
from mvpde.equilibrium.branches import branches
from mvpde.equilibrium.optimality.certificate import entropy_to
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.stationary import stationary
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI

START = Product((Normal(0.2, 0.5),))


def apart(temperature: float, potential: Callable[[Array], Array], gradient: Callable[[Array], Array]) -> MeanField:
    """Particles on a line that do not see each other."""
    return replace(free(1, temperature, potential, gradient), interacting=False)


def well_mean(temperature: float, theta: float = 1.0) -> float:
    """The positive m with m = ∫x dρ_m of the Desai–Zwanzig model, by quadrature with the largest exponent taken out."""
    x = np.linspace(-4.0, 4.0, 200001)

    def excess(m: float) -> float:
        exponent = -(x**4 / 4.0 - x**2 / 2.0 + 0.5 * theta * x**2 - theta * m * x) / temperature
        weights = np.exp(exponent - exponent.max())
        return float(weights @ x / weights.sum()) - m

    return float(brentq(excess, 0.5, 1.5))


@pytest.mark.serial
@pytest.mark.parametrize("temperature", [0.07, 0.05, 0.03, 0.01])
def test_branches_of_desai_and_zwanzig(temperature: float) -> None:
    density = Density(desai_zwanzig(1.0 / temperature, 1.0), box([-4.0], [4.0], [400], comm=MPI.COMM_SELF), START)
    up, down, middle = branches(density, [[0.5, 0.5], [-0.5, 0.5], [0.0, 0.5]])
    right = well_mean(temperature)
    assert up.law.mean[0] == pytest.approx(right, abs=1e-3)
    assert down.law.mean[0] == pytest.approx(-right, abs=1e-3)
    assert middle.law.mean[0] == pytest.approx(0.0, abs=1e-12)
    assert up.stable and down.stable and middle.stable is False
    modes = spectrum(density, 3, up.law)
    assert np.isfinite(modes.modes).all()
    assert modes.eigenvalues[0].real == pytest.approx(-up.leading_eigenvalue, rel=1e-8)
    assert 1.5 < modes.eigenvalues[0].real < 2.0  # the mean moves by dm/dt = −V'(m) as τ → 0, and V''(1) = 2


@pytest.mark.serial
@pytest.mark.parametrize("temperature", [0.03, 0.006])
def test_oscillators_in_step(temperature: float) -> None:
    """r = I₁(Kr/τ)/I₀(Kr/τ), and the translation of the circle of states is a mode of rate 0."""
    coupling, domain = 3.0, box([0.0], [TWO_PI], [256], [True], comm=MPI.COMM_SELF)
    density = Density(kuramoto(coupling, temperature), domain, Product((Normal(3.0, 0.5),)))
    ordered = branches(density, [[0.5, 0.0]])[0]
    right = brentq(lambda r: ive(1, coupling * r / temperature) / ive(0, coupling * r / temperature) - r, 0.5, 1.0)
    assert np.hypot(*ordered.moments) == pytest.approx(right, abs=1e-6)
    assert ordered.circles == ("x",)
    assert ordered.stable
    first, *others = spectrum(density, 3, ordered.law).eigenvalues.real
    assert abs(first) < 1e-8
    top = temperature > 0.01  # the hill opposite has e^{−2Kr/τ} of the mass: 1e-86, and what is no number at all
    wanted = (coupling, 2.0 * coupling) if top else (2.0 * coupling, 3.0 * coupling)
    assert others == pytest.approx(wanted, rel=0.1)  # rate Kr on the hill, harmonics of the spring Kr in the well


@pytest.mark.serial
def test_modes_of_a_basin_without_mass() -> None:
    """V = (x² − 1)²/4 + x/4 at τ = .002: the upper basin holds e^{−250} of the mass, and modes that are as good as any."""
    model = apart(0.002, lambda z: (z[:, 0] ** 2 - 1.0) ** 2 / 4.0 + 0.25 * z[:, 0], lambda z: z**3 - z + 0.25)
    domain = box([-1.6], [1.6], [1600], comm=MPI.COMM_SELF)
    density = Density(model, domain, Product((Normal(-1.0, 0.2),)), scheme="edge_averaged")
    law = stationary(density)
    low, top, high = sorted(root.real for root in np.roots([1.0, 0.0, -1.0, 0.25]))
    assert law.mean[0] == pytest.approx(low, abs=2e-3)
    modes = spectrum(density, 3, law)
    assert abs(modes.eigenvalues[0]) < 1e-9  # Kramers: e^{−(V_top − V_high)/τ}
    # to leading order in τ: |V''| where the two basins part, and V'' at the bottom of the upper one
    assert modes.eigenvalues[1:].real == pytest.approx([1.0 - 3.0 * top**2, 3.0 * high**2 - 1.0], rel=0.08)
    lumped, x = domain.graph.lumped, domain.coordinates[:, 0]
    for mode in modes.modes.real:
        assert lumped @ np.abs(mode) == pytest.approx(1.0)
        assert lumped @ mode == pytest.approx(0.0, abs=1e-9)
    exchange = modes.modes[0].real
    assert abs((lumped * exchange)[x > 0.3].sum()) == pytest.approx(0.5, abs=1e-6)  # all that one basin loses the other gains


@pytest.mark.serial
def test_entropy_relative_to_a_law_that_underflows() -> None:
    """τKL(N(a, s²)|N(0, τ)) = τ[(s² + a²)/(2τ) − ½ − log(s/√τ)], with a²/(2τ) = 1250."""
    a, s, tau = 2.5, 0.2, 0.0025
    model = apart(tau, lambda z: z[:, 0] ** 2 / 2.0, lambda z: z)
    density = Density(model, box([-1.0], [4.0], [1000], comm=MPI.COMM_SELF), Product((Normal(a, s),)), scheme="edge_averaged")
    law = stationary(density)
    right = tau * ((s**2 + a**2) / (2.0 * tau) - 0.5 - np.log(s / np.sqrt(tau)))
    assert entropy_to(density, law.values, law.moments) == pytest.approx(right, rel=1e-3)
