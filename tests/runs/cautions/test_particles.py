"""What is said of steps of particles: only of those that were taken, and with a remedy that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvpde.runtime import MPI  # isort: skip

from mvpde.particles.accuracy.slope import careful, fitting
from mvpde.runs.cautions.particles import LARGEST, shorter
from mvpde.runs.run import run

pytestmark = pytest.mark.serial
WELL = """
[model]
kind = "fokker_planck"
potential = "25*x**2"
temperature = 0.1
[initial]
x = {{ law = "normal", mean = 0.1, std = 0.05 }}
[ensemble]
particles = 400
scheme = "{scheme}"
step = {step}
[time]
end = {end}
outputs = {outputs}
[output]
pictures = false
"""


def warnings(folder: Path, **given: object) -> list[dict[str, object]]:
    case = folder / "well.toml"
    case.write_text(WELL.format(**given), encoding="utf-8")
    summary = run(case, out=folder / "out", comm=MPI.COMM_SELF).summary
    return [one for one in summary["warnings"] if one["code"].startswith("ensemble.")]


def test_a_step_that_is_never_taken_is_not_judged(tmp_path: Path) -> None:
    """Rate 50, steps of .05 asked for: 2.5 is unstable. The output times leave .0025, a variance off by .4 %."""
    outputs = [0.0025 * k for k in range(9)]
    assert warnings(tmp_path, scheme="heun", step=0.05, end=0.02, outputs=outputs) == []


def test_what_is_advised_for_eulers_scheme_ends_the_warning(tmp_path: Path) -> None:
    """hλ = .5: a stationary variance 33 % too large; the remedy has one digit, and leaves 1 % at most."""
    (said,) = warnings(tmp_path, scheme="euler", step=0.01, end=0.1, outputs=[0.0, 0.1])
    assert said["code"] == "ensemble.step" and said["value"] > 0.1
    advised = float(str(said["message"]).rsplit("step = ", 1)[1])
    assert 0.0001 <= advised <= 0.0004
    again = tmp_path / "again"
    again.mkdir()
    assert warnings(again, scheme="euler", step=advised, end=0.1, outputs=[0.0, 0.1]) == []


@pytest.mark.parametrize("order", [1, 2])
def test_the_remedy_has_the_order_of_the_scheme(order: int) -> None:
    """An error of 16 % that falls like h^p: a step of 1/16, or of a quarter, rounded down."""
    assert shorter(1.0, 0.0, 16.0 * LARGEST, order, careful(order)) == (0.06 if order == 1 else 0.2)
    assert shorter(1.0, 1.0, 2.0 * LARGEST, order, careful(order)) == (0.02 if order == 1 else 0.2)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("samples", [1, 100, 10_000, 10**8])
def test_a_chosen_step_is_never_longer_than_what_is_advised(order: int, samples: int) -> None:
    assert fitting(1.0, samples, order) <= careful(order)
    assert careful(1) == pytest.approx(0.02) and careful(2) == pytest.approx(0.2)


def test_no_number_is_advised_in_place_of_a_chosen_step(tmp_path: Path) -> None:
    for one in warnings(tmp_path, scheme="euler", step='"auto"', end=0.1, outputs=[0.0, 0.1]):
        assert "step = 0" not in str(one["message"])
