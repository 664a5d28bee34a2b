"""Every shipped case runs, small on any number of ranks; at its own size it reaches the numbers of `cases/README.md`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde
from mvpde.runs.run import Result

CASES = Path(__file__).parents[2] / "cases"
QUICK = {"output.pictures": False, "output.fields": False, "output.sliced_wasserstein": False}
SMALL: dict[str, dict[str, Any]] = {
    "gaussian_mixture": {"domain.cells": [48, 48], "ensemble.particles": 1000, "characteristics.nodes": [24, 16]},
    "circle_rbf": {"domain.cells": [32, 32], "ensemble.particles": 1000, "characteristics.nodes": [24, 16]},
    "circle_rbf_warm": {"domain.cells": [32, 32], "ensemble.particles": 1000},
    "sigmoid_regression": {"domain.cells": [16, 16, 16], "ensemble.particles": 2000, "time.end": 2.0},
}

THREE_RANKS = ("circle_rbf_warm", "sigmoid_regression")  # implicit on triangles, explicit on tetrahedra


def shipped(name: str, folder: Path, without: list[str], **changes: Any) -> Result:
    """A case at its own size, without what its numbers do not need."""
    overrides = {**QUICK, **{key.replace("__", "."): value for key, value in changes.items()}}
    return mvpde.run(CASES / f"{name}.toml", set=overrides, out=folder, without=without)


def at(result: Result, values: list[float]) -> dict[float, float]:
    return dict(zip(result.summary["times"], values, strict=True))


def prediction(result: Result, x: float, measure: str = "density") -> dict[float, float]:
    """f_t(x) over the output times at a data point x."""
    data = result.dataset
    point = int(np.argmin(np.abs(data.x.values - x)))
    assert data.x.values[point] == pytest.approx(x, abs=1e-12)
    return at(result, data[f"prediction_{measure}"].isel(data_point=point).values.tolist())


def test_every_case_is_here() -> None:
    assert {path.stem for path in CASES.glob("*.toml")} >= set(SMALL)
    readme = (CASES / "README.md").read_text()
    for name in SMALL:
        table = tomllib.loads((CASES / f"{name}.toml").read_text())
        assert f"[{name}]({name}.toml)" in readme and table["title"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.ranks] if name in THREE_RANKS else []) for name in SMALL])
def test_small(shared_tmp_path: Path, name: str) -> None:
    """The laws that hold at any size: mass, positivity, a loss that falls, particles near the density."""
    quick = {"time.outputs": 3, "output.particles": 100, "output.pictures": False}
    result = mvpde.run(CASES / f"{name}.toml", set={**SMALL[name], **quick}, out=shared_tmp_path / name)
    density, ensemble = result.summary["density"], result.summary["ensemble"]
    assert result.summary["status"] == "done"
    assert density["mass_defect"] <= 1e-10 and density["minimum"] >= -1e-14
    assert all(b <= a * (1.0 + 1e-9) for a, b in zip(density["free_energy"], density["free_energy"][1:], strict=False))
    # 1/√n for the particles, the square of the cell for the density: both of a few per cent at these sizes
    assert max(result.summary["comparison"]["ensemble_vs_density"]["prediction_error"]) < 0.15
    assert ensemble["loss"][-1] < ensemble["loss"][0]


@pytest.mark.serial
def test_gaussian_mixture(tmp_path: Path) -> None:
    """Energies and f_t(0) computed independently for the problem of Rotskoff & Vanden-Eijnden, arXiv:1805.00915."""
    result = shipped("gaussian_mixture", tmp_path / "x", ["ensemble"], density__companions=0)
    density = result.summary["density"]
    assert density["mass_defect"] <= 1e-12 and density["minimum"] >= -1e-14
    energy, at_zero = at(result, density["loss"]), prediction(result, 0.0)
    assert energy[0.0] == pytest.approx(0.06886827, rel=2e-4)
    assert energy[1.0] == pytest.approx(0.04468775, rel=3e-4)
    assert energy[5.0] == pytest.approx(0.0119872, rel=3e-4)
    assert energy[10.0] == pytest.approx(0.0044926, rel=1e-3)
    assert at_zero[1.0] == pytest.approx(-0.0632098, abs=5e-5)
    assert at_zero[5.0] == pytest.approx(-0.196231, abs=5e-5)
    assert at_zero[10.0] == pytest.approx(-0.24881, abs=1e-4)
    exact = at(result, result.summary["characteristics"]["loss"])
    assert [exact[t] for t in (1.0, 5.0, 10.0)] == pytest.approx([0.04468775, 0.0119872, 0.0044926], abs=2e-7)


@pytest.mark.serial
def test_circle_rbf(tmp_path: Path) -> None:
    """The loss of the characteristics to 1e-8, the density within 3e-4 of them, against independently computed values."""
    result = shipped("circle_rbf", tmp_path / "x", ["ensemble"], density__companions=0)
    exact = at(result, result.summary["characteristics"]["loss"])
    assert [exact[t] for t in (2.0, 4.0, 8.0)] == pytest.approx([0.0885831450, 0.0700779570, 0.04414247], abs=1e-8)
    f = prediction(result, 0.0, "characteristics")
    assert [f[t] for t in (2.0, 4.0, 8.0)] == pytest.approx([0.077849816, 0.147372269, 0.26420680], abs=2e-7)
    assert result.summary["comparison"]["density_vs_characteristics"]["prediction_error"][-1] <= 3e-4
    assert result.summary["density"]["minimum"] >= 0.0 and result.summary["density"]["mass_defect"] <= 1e-12


@pytest.mark.serial
@pytest.mark.parametrize("temperature", [0.05, 0.2])
def test_circle_rbf_warm(tmp_path: Path, temperature: float) -> None:
    """The loss within 1e-3 of independently computed values; the free energy never rises; the same scheme at τ = 0.2."""
    result = shipped("circle_rbf_warm", tmp_path / "x", ["ensemble"], model__temperature=temperature, density__companions=0)
    density = result.summary["density"]
    assert density["scheme"] == "edge_averaged" and density["mass_defect"] <= 1e-10 and density["minimum"] >= 0.0
    assert np.all(np.diff(density["free_energy"]) <= 1e-12)
    if temperature == 0.05:
        loss, f = at(result, density["loss"]), prediction(result, 0.0)
        assert [loss[t] for t in (2.0, 4.0, 8.0)] == pytest.approx([0.0901933337, 0.0751335943, 0.0571024978], rel=1e-3)
        assert [f[t] for t in (2.0, 4.0, 8.0)] == pytest.approx([0.072842768, 0.129015039, 0.205550429], rel=1e-3)


@pytest.mark.serial
def test_sigmoid_regression(tmp_path: Path) -> None:
    """Density on tetrahedra and 20000 particles fit the measured data alike: losses within 1 %, predictions within 0.01."""
    shorter = {"density__companions": 0, "time__end": 20.0, "time__outputs": [0.0, 5.0, 20.0]}
    result = shipped("sigmoid_regression", tmp_path / "x", [], ensemble__particles=20000, **shorter)
    density, ensemble = result.summary["density"], result.summary["ensemble"]
    np.testing.assert_allclose(density["loss"], ensemble["loss"], rtol=0.01)
    assert max(result.summary["comparison"]["ensemble_vs_density"]["prediction_error"]) <= 0.01
    assert density["loss"][-1] < 0.3 * density["loss"][0]  # .27 at t = 20
    assert density["outer_mass"][-1] < 1e-3
