"""Finite temperature and finite n: the predicted stationary law, and Langevin runs in small, right and broken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from at_hand.studies import compute_here, entries, write_study
from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.finite_n import Tilted, midpoints, prediction, step_bias
from mvpde.runtime import SolverError
from mvpde.studies.laws.limits.finite_temperature import LARGER, LangevinLawOptions, _verdicts, statistics

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[4] / "cases" / "finite_temperature.toml"
BOX = ([-6.0, -9.0], [6.0, 9.0], [72, 108])


def test_the_multiplier_and_the_law_at_200_particles() -> None:
    """Values computed independently, by minimising the dual with other quadrature."""
    setting = problem(load(CASE))
    nodes = midpoints(*BOX, (None, None))
    limit, finite = (prediction(setting.model, nodes, 1.0, n) for n in (math.inf, 200))
    assert limit.epsilon == pytest.approx([-20.644802, 32.743399, -20.809894], abs=1e-5)
    assert finite.mean == pytest.approx([-15.678, 24.430, -15.952], abs=1e-3)
    assert np.diag(finite.covariance) == pytest.approx([2.813, 2.545, 2.825], abs=1e-3)
    assert limit.covariance == pytest.approx(np.diag([3.0, 3.0, 3.0]))


def test_the_tilted_law_predicts_what_it_should() -> None:
    """∫ g dρ_ε = f + ε/(βn); a draw from it has that mean to four standard errors."""
    setting = problem(load(CASE))
    model = setting.model
    assert model.data is not None
    found = prediction(model, midpoints(*BOX, (None, None)), 1.0, 200)
    z = Tilted(model, setting.law, model.data.weights * found.epsilon).sample(np.random.default_rng(1), 4000)
    g = z[:, 1:] * model.profile(z[:, :1])
    error = np.sqrt(np.diag(found.gamma) / 4000)
    assert np.all(np.abs(g.mean(axis=0) - model.data.target - found.epsilon / 200) < 4.0 * error)
    assert g.var(axis=0) == pytest.approx(np.diag(found.gamma), rel=0.15)


def test_the_error_of_the_step_is_quadratic() -> None:
    setting = problem(load(CASE))
    assert setting.model.data is not None
    found = prediction(setting.model, midpoints(*BOX, (None, None)), 1.0, 200)
    large, small = (np.diag(step_bias(found, setting.model.data.weights, 1.0, 200, h)) for h in (0.1, 0.05))
    assert large / small == pytest.approx([4.0] * 3, rel=0.1)
    assert np.abs(large).max() < 0.01


def test_many_data_points_keep_the_covariance_a_covariance() -> None:
    """24 points, Γ of numerical rank ~12: nΓ − nΓ(W^{-1}/β + nΓ)^{-1}nΓ is the same without Γ^{-1}."""
    x = np.linspace(-2.0, 2.0, 24)
    setting = problem(load(CASE, {"data.x": x.tolist(), "data.target": np.sin(x).tolist()}))
    found = prediction(setting.model, midpoints(*BOX, (None, None)), 1.0, 200)
    spread = 200.0 * found.gamma
    exact = spread - spread @ np.linalg.solve(24.0 * np.eye(24) + spread, spread)
    assert np.abs(found.covariance - exact).max() < 1e-9
    assert np.linalg.eigvalsh(found.covariance)[0] > -1e-12
    assert np.abs(step_bias(found, np.full(24, 1.0 / 24.0), 1.0, 200, 0.2)).max() < 0.02


def test_large_targets_have_a_multiplier() -> None:
    """Predictions of size 8, where rounding leaves more than 1e-13: ∫ g dρ_ε = f + ε/(βn) to 1e-11."""
    setting = problem(load(CASE, {"data.target": [6.0, -4.0, 8.0]}))
    model, z = setting.model, midpoints([-12.0, -18.0], [12.0, 18.0], [144, 216], (None, None))
    assert model.data is not None
    found = prediction(model, z, 1.0, 200)
    g = z[:, 1:] * model.profile(z[:, :1])
    exponents = -0.5 * (z**2).sum(axis=1) - g @ (model.data.weights * found.epsilon)
    mass = np.exp(exponents - exponents.max())
    assert mass @ g / mass.sum() == pytest.approx(model.data.target + found.epsilon / 200.0, abs=1e-11)


def test_what_no_network_of_the_base_measure_predicts_is_told() -> None:
    """A target of 10¹² needs weights that the box of the quadrature does not hold."""
    setting = problem(load(CASE, {"data.target": [1e12, -0.2, 0.4]}))
    with pytest.raises((SolverError, np.linalg.LinAlgError)):
        prediction(setting.model, midpoints(*BOX, (None, None)), 1.0, math.inf)


def test_statistics_of_independent_samples() -> None:
    """Mean 2 and variance 9 within four standard errors, which are those of 40·300 samples."""
    found = statistics(2.0 + 3.0 * np.random.default_rng(8).standard_normal((300, 40, 2)))
    for name, exact, error in (("mean", 2.0, 3.0 / math.sqrt(12000)), ("variance", 9.0, 9.0 * math.sqrt(2.0 / 12000))):
        assert np.abs(np.array(found[name]) - exact).max() < 4.0 * error
        assert found[f"{name}_standard_error"] == pytest.approx([error] * 2, rel=0.5)


STUDY: dict[str, Any] = {
    "base": str(CASE),
    "task": "finite_temperature",
    "set": {"domain.cells": [72, 108], "ensemble.step": 0.25},
    "options": {"equilibration": 2.0, "averaging": 4.0},
    "vary": {
        "ensemble.particles,model.temperature,ensemble.runs,ensemble.seed": [
            [20, 0.05, 24, 1],
            [40, 0.025, 16, 2],
            [80, 0.0125, 10, 3],
        ]
    },
    "measure": {"kind": "finite_temperature"},
}


def test_langevin_runs_have_the_predicted_law(tmp_path: Path) -> None:
    compute_here(write_study(tmp_path, **STUDY), tmp_path / "out")
    found = {entry["law"]: entry for entry in entries(tmp_path / "out")}
    assert [entry["holds"] for entry in found.values()] == ["holds"] * 12, found
    assert (tmp_path / "out" / "finite_temperature.png").stat().st_size > 10_000


def test_a_step_that_is_too_long_is_told() -> None:
    """A step's bias of a standard error: neither verdict on the variance may say "holds"."""
    n, ones = np.array([100.0, 200.0, 400.0]), np.ones(3)
    columns = {"variance": ones, "predicted_variance": ones, "variance_standard_error": 0.1 * ones, "step_bias": 0.11 * ones}
    columns["quadrature_variance"] = 0.01 * ones
    part = xarray.Dataset({name: ("particles", values) for name, values in columns.items()})
    options = LangevinLawOptions(kind="finite_temperature")
    assert [one.holds for one in _verdicts(part, n, "variance", "Var", options)] == ["bias dominates"] * 2
    short = part.assign(step_bias=0.1 * part["step_bias"])
    assert [one.holds for one in _verdicts(short, n, "variance", "Var", options)] == ["holds"] * 2
    coarse = short.assign(quadrature_variance=4.0 * part["quadrature_variance"])
    assert [one.holds for one in _verdicts(coarse, n, "variance", "Var", options)] == ["mesh too coarse"] * 2


def test_a_box_that_cuts_the_tilted_law_shows_in_the_quadrature() -> None:
    """The prediction in the shipped box is converged; in a third of it, it is not, and a box 4/3 as large tells."""
    model = problem(load(CASE)).model
    for share, converged in ((1.0, True), (0.3, False)):
        box = ([-6.0 * share, -9.0 * share], [6.0 * share, 9.0 * share], [72, 108])
        here, beyond = (prediction(model, midpoints(*box, (None, None), larger), 1.0, 200).mean for larger in (1.0, LARGER))
        assert bool(np.abs(here - beyond).max() < 1e-3) is converged


@pytest.mark.parametrize("broken", ["drift", "noise"])
def test_the_verdict_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Half too large a drift is another temperature and base measure; half as much noise a lower temperature."""
    right, noise = Ensemble._velocity, Ensemble._noise
    if broken == "drift":
        monkeypatch.setattr(Ensemble, "_velocity", lambda *arguments, **keys: [1.5 * b for b in right(*arguments, **keys)])
    else:
        monkeypatch.setattr(Ensemble, "_noise", lambda *arguments: [0.5 * dw for dw in noise(*arguments)])
    lengths = STUDY["options"] if broken == "drift" else {"equilibration": 1.0, "averaging": 1.0}
    compute_here(write_study(tmp_path, **{**STUDY, "options": lengths}), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")].count("does not hold") >= 6


def test_a_case_without_base_measure_is_refused(tmp_path: Path) -> None:
    text = CASE.read_text()
    start, end = text.index("[model.base_measure]"), text.index("[data]")
    (tmp_path / "flat.toml").write_text(text[:start] + text[end:])
    path = write_study(tmp_path, **{**STUDY, "base": "flat.toml"})
    with pytest.raises(SolverError, match="base_measure"):
        compute_here(path, tmp_path / "out")
