"""The pitchfork study in small: the exact law of n particles, verdicts that hold, and that turn where the simulator is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import dblquad

import mvpde.equilibrium.branches
import mvpde.particles.ensemble
from at_hand.models import desai_zwanzig
from at_hand.studies import compute_here, entries, write_study
from mvpde.models.mean_field import MeanField
from mvpde.particles.finite_n import exact_square
from mvpde.studies.file import load_study

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[4]
CASE = ROOT / "cases" / "desai_zwanzig.toml"
SETTING: dict[str, Any] = {
    "model.temperature": "1/beta",
    "domain.lower": [-3.0],
    "domain.upper": [3.0],
    "domain.cells": [200],
    "initial.x": {"law": "normal", "mean": 0.0, "std": 0.65},
    "ensemble.step": 0.08,
    "time.outputs": 20,
}
SCAN: list[list[Any]] = [[beta, 20, 6, 15.0] for beta in (1.2, 1.8, 2.4, 2.8)]
CRITICAL: list[list[Any]] = [[2.1884, 10, 50, 12.0], [2.1884, 40, 30, 24.0], [2.1884, 160, 20, 48.0]]
KEYS = "model.parameters.beta,ensemble.particles,ensemble.runs,time.end"


def study(folder: Path, points: list[list[Any]]) -> list[dict[str, Any]]:
    path = write_study(
        folder,
        base=str(CASE),
        task="bifurcation",
        set=SETTING,
        options={"parameter": "beta"},
        vary={KEYS: points},
        measure={"kind": "pitchfork", "slope_tolerance": 0.2},
    )
    compute_here(path, folder / "out")
    assert (folder / "out" / "pitchfork.png").is_file() or len(points) < 4
    return entries(folder / "out")


def test_the_laws_hold(tmp_path: Path) -> None:
    critical, slope, exact = study(tmp_path, SCAN + CRITICAL)
    assert critical["holds"] == "holds"
    assert critical["predicted"] == pytest.approx(2.1884396, abs=1e-3)  # independently computed; the cubic through the scan
    assert slope["holds"] == "holds" and slope["interval"][0] < slope["measured"] < slope["interval"][1]
    assert exact["holds"] == "holds" and len(exact["ratios"]) == 7


def test_noise_that_is_too_strong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Particles at 1.4 τ: E m² at the critical value is not that of their law."""
    init = mvpde.particles.ensemble.Ensemble.__init__

    def hot(self: Any, model: MeanField, *arguments: Any, **options: Any) -> None:
        init(self, replace(model, temperature=1.4 * model.temperature), *arguments, **options)

    monkeypatch.setattr(mvpde.particles.ensemble.Ensemble, "__init__", hot)
    _, _, exact = study(tmp_path, [*SCAN, *CRITICAL[:2]])
    assert exact["holds"] == "does not hold"


def test_a_wrong_linearisation_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 0.95 of the change through the moments the growth rate vanishes elsewhere."""
    right = mvpde.equilibrium.branches.linearised

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        return replace(found, left=0.95 * found.left, growing=max(0, (found.growing or 0) - 1))

    monkeypatch.setattr(mvpde.equilibrium.branches, "linearised", wrong)
    critical, *_ = study(tmp_path, [[beta, 4, 2, 0.1] for beta in (1.8, 2.0, 2.3, 2.5)])
    assert critical["holds"] == "does not hold"


def test_exact_law_of_two_particles() -> None:
    """E m² from the Gaussian variable against the double integral of exp(−(V0(x) + V0(y) + 2R(m))/τ)."""
    beta, theta = 2.0, 1.3

    def weight(x: float, y: float, power: int) -> float:
        m, second = 0.5 * (x + y), 0.5 * (x * x + y * y)
        energy = sum(z**4 / 4 - z**2 / 2 for z in (x, y)) + 2.0 * 0.5 * theta * (second - m * m)
        return float(m**power * np.exp(-beta * energy))

    integral = [dblquad(weight, -4, 4, -4, 4, args=(p,), epsabs=1e-9)[0] for p in (0, 2)]
    assert exact_square(desai_zwanzig(beta, theta), 0, 2, -4.0, 4.0) == pytest.approx(integral[1] / integral[0], rel=1e-6)
    assert exact_square(desai_zwanzig(beta, -theta), 0, 2, -4.0, 4.0) is None


def test_the_shipped_study_is_valid() -> None:
    found = load_study(ROOT / "studies" / "desai_zwanzig_bifurcation.toml")
    assert found.task == "bifurcation" and [kind for kind, _ in found.measures] == ["pitchfork"]
