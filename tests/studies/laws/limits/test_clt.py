"""The central limit theorem in small, on another network than the study's; and with the simulator or the prediction broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import mvpde.particles.fluctuations
from at_hand.studies import compute_here, entries, write_study
from mvpde.models.laws import Product
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import SolverError
from mvpde.studies.laws.limits.clt import CltLawOptions, _normality, kolmogorov_distance
from mvpde.studies.verdict import line_in_inverse

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[4]
STUDY: dict[str, Any] = {
    "base": str(ROOT / "cases" / "circle_rbf.toml"),
    "task": "clt",
    "set": {"characteristics.nodes": [32, 16], "ensemble.step": 0.25, "time.end": 2.0, "time.outputs": [0.0, 2.0]},
    "vary": {"ensemble.particles,ensemble.runs,ensemble.seed": [[50, 200, 1], [100, 200, 2], [200, 200, 3]]},
    "measure": {"kind": "clt", "particles": 200},
}


def at_the_end(folder: Path) -> list[str]:
    return [entry["holds"] for entry in entries(folder) if entry["time"] == 2.0]


def test_fluctuations_are_as_predicted_and_gaussian(tmp_path: Path) -> None:
    """200 runs: three standard errors are 20 to 30 % of the prediction."""
    compute_here(write_study(tmp_path, **STUDY), tmp_path / "out")
    found = entries(tmp_path / "out")
    assert [entry["holds"] for entry in found] == ["holds"] * 6, json.dumps(found, indent=1)
    with xarray.open_dataset(tmp_path / "out" / "study.nc", group="clt") as table:
        for name in ("predicted", "resampling_bound", "measured", "standard_error"):
            assert table[name].dims == ("time", "particles")
        assert table["particles"].values.tolist() == [50, 100, 200]
        assert np.all(table["resampling_bound"].sel(time=2.0) > 1.1 * table["predicted"].sel(time=2.0))
    assert (tmp_path / "out" / "clt.png").stat().st_size > 10_000


@pytest.mark.parametrize("broken", ["drift", "start", "prediction"])
def test_the_verdict_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Half too large a drift has another limit; a common random shift is no independent start; R'' = 0 is no interaction."""
    right, sample = Ensemble._velocity, Product.sample
    if broken == "drift":
        monkeypatch.setattr(Ensemble, "_velocity", lambda *arguments, **keys: [1.5 * b for b in right(*arguments, **keys)])
    elif broken == "start":
        monkeypatch.setattr(Product, "sample", lambda law, rng, n: sample(law, rng, n) + 0.3 * rng.standard_normal())
    else:
        monkeypatch.setattr(mvpde.particles.fluctuations, "_curvature", lambda model, basis, m: np.zeros((basis.shape[1],) * 2))
    compute_here(write_study(tmp_path, **STUDY), tmp_path / "out")
    assert "does not hold" in at_the_end(tmp_path / "out")[:2]


def test_too_few_nodes_are_told(tmp_path: Path) -> None:
    study = {**STUDY, "set": {**STUDY["set"], "characteristics.nodes": [4, 2]}}
    compute_here(write_study(tmp_path, **study), tmp_path / "out")
    assert "mesh too coarse" in at_the_end(tmp_path / "out")


def test_a_temperature_is_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, **{**STUDY, "set": {**STUDY["set"], "model.temperature": 0.1}})
    with pytest.raises(SolverError, match=r"\[model\] temperature"):
        compute_here(path, tmp_path / "out")


def test_a_sphere_is_refused(tmp_path: Path) -> None:
    """Its metric is not in the tangent flow."""
    ours = {"ensemble.particles": 20, "ensemble.runs": 20, "time.end": 1.0, "time.outputs": [1.0]}
    study = {**STUDY, "base": str(ROOT / "cases" / "three_spin_sphere.toml"), "set": ours, "vary": {"ensemble.seed": [1]}}
    path = write_study(tmp_path, **{**study, "measure": {**STUDY["measure"], "particles": 20, "x": "ensemble.seed"}})
    with pytest.raises(SolverError, match="flat coordinates"):
        compute_here(path, tmp_path / "out")


def test_a_line_in_one_over_n_is_found() -> None:
    n = np.array([10.0, 40.0, 160.0])
    values, covariance = line_in_inverse(n, 2.0 - 3.0 / n, np.array([0.1, 0.2, 0.3]))
    assert values == pytest.approx([2.0, -3.0], rel=1e-10)
    rng = np.random.default_rng(5)
    noisy = 2.0 - 3.0 / n + np.array([0.1, 0.2, 0.3]) * rng.standard_normal((4000, 3))
    scatter = np.array([line_in_inverse(n, row, np.array([0.1, 0.2, 0.3]))[0] for row in noisy])
    assert np.cov(scatter.T) == pytest.approx(covariance, rel=0.1)


@pytest.mark.parametrize(
    ("distance", "discretisation", "holds"),
    [(0.03, 0.1, "holds"), (0.03, 0.5, "holds"), (0.05, 0.1, "does not hold"), (0.05, 0.5, "mesh too coarse")],
)
def test_a_law_too_far_from_the_normal_one_is_told(distance: float, discretisation: float, holds: str) -> None:
    """The 0.999 quantile of Kolmogorov's law is 1.9495: 0.0398 for 2400 numbers."""
    row = xarray.Dataset(
        {
            "projected": 2400,
            "kolmogorov": distance,
            "discretisation": discretisation,
            "standard_error": 1.0,
            "skewness": ("k", [0.0] * 3),
            "excess_kurtosis": ("k", [0.0] * 3),
        }
    )
    verdict = _normality(row, 1.0, CltLawOptions(kind="clt", particles=400), {})
    assert verdict.holds == holds
    assert verdict.details["critical"] == pytest.approx(1.9495 / np.sqrt(2400), rel=1e-4)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    from scipy.stats import kstest

    sample = np.random.default_rng(3).standard_normal(57) + 0.2
    assert kolmogorov_distance(sample) == pytest.approx(kstest(sample, "norm").statistic, abs=1e-12)
