"""Rates of a run: of the mode that rules, or none, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mvpde.density.density import Density
from mvpde.equilibrium.decay import Approach, Rate, measured, ruling
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.stationary import stationary
from mvpde.mesh.box import box
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import Normal, Product
from mvpde.runtime import MPI

TIMES = np.linspace(0.0, 4.0, 9)


def double_well(comm: MPI.Intracomm, mean: float = 0.0, tolerance: float = 1e-5) -> Density:
    model = fokker_planck(["x"], potential="(x**2 - 1)**2/4", temperature=0.3)
    law = Product((Normal(mean, 0.4),))
    return Density(model, box([-3.0], [3.0], [120], comm=comm), law, scheme="edge_averaged", tolerance=tolerance)


def decaying(comm: MPI.Intracomm, amplitudes: Sequence[float], modes: int = 3) -> tuple[Approach, list[float]]:
    """What is seen of ρ_∞ + Σ c_k h_k e^{−λ_k t}, and its distances."""
    density = double_well(comm)
    law = stationary(density)
    slowest = spectrum(density, len(amplitudes), law)
    approach = Approach(law, spectrum(density, modes, law))
    for t in TIMES:
        density.time = float(t)
        density.steps += 100  # short steps
        waves = np.array(amplitudes) * np.exp(-slowest.eigenvalues.real * t)
        density.values = law.values.copy()
        density.values[: law.domain.owned] += waves @ slowest.modes.real
        law.domain.exchange.update(density.values)
        approach.observe(density)
    return approach, [sight.distance for sight in approach.sights]


def rate_of(approach: Approach, norms: Sequence[float], tolerance: float | None = 1e-5) -> Rate:
    return measured(approach, ruling(approach, tolerance), norms)


@pytest.mark.ranks
def test_the_rate_is_that_of_the_mode_that_rules(comm: MPI.Intracomm) -> None:
    """One mode alone, the first or the second, decays at its own rate: to the last digits."""
    for number, amplitudes in ((1, [1e-2, 0.0, 0.0]), (2, [0.0, 1e-2, 0.0])):
        approach, norms = decaying(comm, amplitudes)
        assert approach.modes is not None
        found = rate_of(approach, norms)
        assert found.mode == number and found.reason == ""
        assert found.value == pytest.approx(float(approach.modes.eigenvalues[number - 1].real), rel=1e-8)
        assert found.error is not None and found.error < 1e-8


def test_no_rate_where_no_mode_rules(comm: MPI.Intracomm) -> None:
    mixed, norms = decaying(comm, [1e-3, 1e-1, 0.0])
    assert rate_of(mixed, norms).value is None
    assert "no mode rules" in rate_of(mixed, norms).reason
    unknown, norms = decaying(comm, [0.0, 0.0, 0.0, 1e-2], modes=2)
    assert "no mode rules" in rate_of(unknown, norms).reason  # the mode that decays was not asked for


def test_an_even_start_decays_with_the_second_mode(comm: MPI.Intracomm) -> None:
    """A run of the density from N(0, 0.4²): no part along the odd first mode, and a rate within its error of λ₂."""
    density = double_well(comm, tolerance=1e-6)
    law = stationary(density)
    approach = Approach(law, spectrum(density, 4, law))
    for t in TIMES:
        density.advance(float(t))
        approach.observe(density)
    found = rate_of(approach, [sight.distance for sight in approach.sights], 1e-6)
    assert approach.modes is not None and found.mode == 2
    assert found.value == pytest.approx(float(approach.modes.eigenvalues[1].real), rel=0.02)
    first = float(approach.modes.eigenvalues[0].real)
    assert found.value is not None and found.value > 3.0 * first


def test_no_rate_from_steps_that_do_not_see_what_is_left(comm: MPI.Intracomm) -> None:
    """Tolerance 1e-2: late steps are long, and what they leave decays at a rate of their own."""
    density = double_well(comm, mean=0.4, tolerance=1e-2)
    law = stationary(density)
    approach = Approach(law, spectrum(density, 4, law))
    for t in np.linspace(0.0, 200.0, 9):
        density.advance(float(t))
        approach.observe(density)
    ruled = ruling(approach, 1e-2)
    found = measured(approach, ruled, [max(sight.distance, 1e-300) for sight in approach.sights])
    assert found.value is None and found.reason != ""


def test_what_has_no_late_times_has_no_rate(comm: MPI.Intracomm) -> None:
    approach, _ = decaying(comm, [1e-2])
    approach.sights = approach.sights[:2]
    assert "output times" in ruling(approach, None).reason
