"""Means and variances of all coordinates over the output times, by every measure of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde

CASES = Path(__file__).parents[2] / "cases"
QUICK: dict[str, Any] = {"time.end": 1.0, "time.outputs": 2, "density.companions": 0, "stationary": None, "spectrum": None}


@pytest.mark.ranks
def test_of_a_linear_equation(shared_tmp_path: Path) -> None:
    """E x = e^{-t}, Var x = σ²e^{-4t} + τ(1 − e^{-4t})/2 for drift −x − (x − E x), of n = 100 particles 1 % more to be sure."""
    settings = {**QUICK, "ensemble.runs": 40, "ensemble.step": 0.02}
    result = mvpde.run(CASES / "linear_mckean.toml", set=settings, out=shared_tmp_path / "run")
    found, times = result.summary, np.array(result.summary["times"])
    mean, variance = np.exp(-times), 0.25 * np.exp(-4.0 * times) + 0.25 * (1.0 - np.exp(-4.0 * times))
    density, ensemble = found["density"], found["ensemble"]
    assert np.ravel(density["mean"]) == pytest.approx(mean, abs=1e-3)
    assert np.ravel(density["variance"]) == pytest.approx(variance, abs=1e-3)
    error = np.ravel(ensemble["mean_standard_error"])
    assert (np.abs(np.ravel(ensemble["mean"]) - mean) < 4.0 * error + 0.01).all() and (error < 0.02).all()
    assert np.ravel(ensemble["variance"]) == pytest.approx(variance, rel=0.1)
    assert "mean_standard_error" not in density
    if result.folder.exists() and found["ranks"] == 1:
        assert (result.folder / "moments.png").is_file()
        assert "density_mean_x,density_variance_x" in (result.folder / "series.csv").read_text().splitlines()[0]


@pytest.mark.serial
def test_on_a_circle(tmp_path: Path) -> None:
    """The direction and the chords about it, wherever the box is cut: here across the law."""
    settings = {**QUICK, "domain.lower": [-0.5], "domain.upper": ["2*pi - 0.5"], "initial.x.mean": -0.4, "initial.x.std": 0.3}
    found = mvpde.run(CASES / "kuramoto.toml", set=settings, out=tmp_path / "run").summary
    for name in ("density", "ensemble"):
        mean, variance = np.array(found[name]["mean"])[:, 0], np.array(found[name]["variance"])[:, 0]
        assert mean == pytest.approx(-0.4, abs=0.02) and (mean >= -0.5).all()
        assert variance[0] == pytest.approx(2.0 * (1.0 - np.exp(-0.045)), rel=0.05)


@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd_neuron", {"domain.cells": [24, 24], "sgd.runs": 200, "time.end": 1.0}),
        ("kuramoto_frequencies", {"domain.cells": [24], "labels.omega": 4, "ensemble.particles": 200}),
        ("circle_rbf", {"domain.cells": [16, 16], "ensemble.particles": 200, "characteristics.nodes": [8, 8]}),
        ("deep_network", {}),
        ("mean_field_resnet", {}),
    ],
)
def test_every_measure_of_every_kind(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    path = CASES / f"{name}.toml"
    asked = {section for section in ("[stationary]", "[spectrum]") if section in path.read_text().splitlines()}
    quick = {key: value for key, value in QUICK.items() if key not in ("stationary", "spectrum") or f"[{key}]" in asked}
    found = mvpde.run(path, set={**quick, **settings, "output.pictures": False}, out=tmp_path / "run").summary
    measures = [key for key in ("density", "ensemble", "sgd", "characteristics", "network") if key in found]
    assert len(measures) >= 2
    for measure in measures:
        mean, variance = (np.array(found[measure][key], float) for key in ("mean", "variance"))
        assert mean.shape == variance.shape and mean.shape[0] == len(found["times"])
        assert np.isfinite(mean).all() and (variance > -1e-12).all()
