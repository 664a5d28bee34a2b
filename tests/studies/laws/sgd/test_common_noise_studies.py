"""Studies of SGD as common noise: path by path, what minibatches add, and the quench, in small."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mvpde.studies.laws.sgd.sgd_alpha
import mvpde.studies.laws.sgd.sgd_path
from at_hand.studies import compute_here, entries, write_study
from mvpde.particles.common_noise import CommonNoise
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, SolverError

pytestmark = pytest.mark.serial

CASE = str(Path(__file__).parents[4] / "cases" / "circle_rbf.toml")

NODES = {"characteristics.nodes": [48, 12], "characteristics.tolerance": 1e-7}
PATH: dict[str, Any] = {
    "base": CASE,
    "task": "sgd_path",
    "set": {**NODES, "domain.cells": [48, 48], "ensemble.runs": 16, "time.end": 2.0, "time.outputs": [2.0]},
    "options": {"batch_size": 4, "interval": 0.25},
    "vary": {"options.sequence,ensemble.seed": [[1, 1], [2, 2]], "ensemble.particles": [50, 400, 3200]},
    "measure": {"kind": "sgd_path", "tolerance": 0.15},  # 16 runs: errors to 1/√64 or so, the slope over ln 64 to 0.04
}


def test_path_by_path_in_small(tmp_path: Path) -> None:
    compute_here(write_study(tmp_path, **PATH), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds", "holds"]
    assert (tmp_path / "out" / "path.png").stat().st_size > 10_000


@pytest.mark.parametrize("broken", ["drift", "noise"])
def test_the_verdict_turns_where_particles_see_another_drift_or_other_minibatches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    right, sgd = Ensemble._block_velocity, mvpde.studies.laws.sgd.sgd_path.sgd_ensemble

    def with_minibatches_of_its_own(setting: Any, noise: CommonNoise, comm: MPI.Intracomm, **keys: int) -> Any:
        own = CommonNoise(setting.model, interval=noise.interval, size=4, sequence=99)
        ensemble = sgd(setting, own, comm, **keys)
        return SimpleNamespace(time=0.0, advance=lambda t: own.advance([ensemble], t), moments=ensemble.moments)

    if broken == "drift":
        monkeypatch.setattr(Ensemble, "_block_velocity", lambda *arguments: 1.5 * right(*arguments))
    else:
        monkeypatch.setattr(mvpde.studies.laws.sgd.sgd_path, "sgd_ensemble", with_minibatches_of_its_own)
    study = {**PATH, "vary": {"options.sequence": [1], "ensemble.particles": [50, 400, 3200]}}
    compute_here(write_study(tmp_path, **study), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["does not hold"]


ALPHA: dict[str, Any] = {
    "base": CASE,
    "task": "sgd_alpha",
    "set": {**NODES, "time.end": 4.0, "time.outputs": [4.0]},
    "options": {"interval": 0.5},
    "vary": {"options.alpha": [0.25, 0.5, 1.0], "ensemble.particles,ensemble.runs": [[30, 60], [200, 60], [1200, 40]]},
    "measure": {"kind": "sgd_alpha", "time": 4.0, "tolerance": 0.15},  # 40 runs: errors to 8 %, the slope over ln 40 to 0.03
}


def test_what_sgd_adds_in_small(tmp_path: Path) -> None:
    """Slopes −α, squares that add up, and nothing to gain from larger batches at α = 1."""
    compute_here(write_study(tmp_path, **ALPHA), tmp_path / "out")
    found = entries(tmp_path / "out")
    assert [entry["holds"] for entry in found] == ["holds"] * 7, found
    assert [entry["predicted"] for entry in found] == [-0.25, 1.0, -0.5, 1.0, -1.0, 1.0, 1.0]


def test_the_verdict_turns_where_batches_have_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P = n^α instead of n^{2α}: the slopes are −α/2."""
    monkeypatch.setattr(mvpde.studies.laws.sgd.sgd_alpha, "batch_size", lambda n, options, t: float(n) ** options.alpha)
    compute_here(write_study(tmp_path, **{**ALPHA, "vary": {**ALPHA["vary"], "options.alpha": [0.5, 1.0]}}), tmp_path / "out")
    slopes = [entry for entry in entries(tmp_path / "out") if entry["predicted"] < 0]
    assert [entry["holds"] for entry in slopes] == ["does not hold"] * 2


QUENCH: dict[str, Any] = {
    "base": CASE,
    "task": "sgd_alpha",
    "set": {**NODES, "ensemble.particles": 100, "ensemble.runs": 40, "time.end": 30.0, "time.outputs": [5.0, 10.0, 20.0, 30.0]},
    "options": {"interval": 0.5, "alpha": 0.5, "quench_time": 10.0},
    "vary": {"options.quench_alpha": [0.5, 1.0]},
    "measure": {"kind": "quench", "start": 10.0},
}


@pytest.mark.parametrize("broken", [False, True])
def test_growing_batches_quench_the_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """Where the batches do not grow, the noise is no lower than without a quench."""
    if broken:
        monkeypatch.setattr(mvpde.studies.laws.sgd.sgd_alpha, "batch_size", lambda n, options, t: float(n))
    compute_here(write_study(tmp_path, **QUENCH), tmp_path / "out")
    assert entries(tmp_path / "out")[0]["holds"] == ("does not hold" if broken else "holds")
    assert (tmp_path / "out" / "quench.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time.outputs": [0.3]}, ["[time] outputs", "0.3"]),
        ({"model.temperature": 0.1}, ["[model] temperature"]),
    ],
)
def test_a_case_that_does_not_fit_is_one_message(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    study = {**PATH, "set": {**PATH["set"], **change}, "vary": {"ensemble.particles": [50]}, "measure": None}
    with pytest.raises(SolverError) as found:
        compute_here(write_study(tmp_path, **study), tmp_path / "out")
    assert [word for word in words if word not in str(found.value)] == []
