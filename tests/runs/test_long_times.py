"""A run keeps what it computed whatever becomes of its stationary law and modes, and small noise is no reason to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde
from mvpde.cases.file import load
from mvpde.cases.measures import density_of
from mvpde.cases.problem import problem
from mvpde.equilibrium import approach
from mvpde.runs.errors import long_time as long_times
from mvpde.runtime import MPI, SolverError

CASES = Path(__file__).parents[2] / "cases"
QUICK: dict[str, Any] = {"time.end": 1.0, "time.outputs": 2, "output.pictures": False}
WELL: dict[str, Any] = {**QUICK, "domain.cells": [60], "density.companions": 0}


def codes(summary: dict[str, Any]) -> list[str]:
    return [one["code"] for one in summary["warnings"]]


@pytest.mark.ranks
def test_a_law_that_is_not_found(shared_tmp_path: Path, comm: MPI.Intracomm) -> None:
    """Nothing moves along y, so that no law is the only one: the run is as it would be, and says so."""
    still = [[1.0, 0.0], [0.0, 0.0]]
    settings = {**QUICK, "model.drift_matrix": still, "model.diffusion_matrix": still, "domain.cells": [16, 16], "time.end": 0.2}
    out = shared_tmp_path / "run"
    summary = mvpde.run(CASES / "ornstein_uhlenbeck.toml", set=settings, out=out, without=["ensemble"], comm=comm).summary
    assert summary["status"] == "done" and len(summary["density"]["outer_mass"]) == 3
    assert "stationary.failed" in codes(summary)
    assert "stationary" not in summary and "spectrum" not in summary
    if comm.rank == 0:
        assert json.loads((out / "summary.json").read_text())["status"] == "done"
        assert (out / "density.xdmf").exists() and (out / "checkpoint" / "state.h5").exists()


@pytest.mark.serial
def test_modes_that_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object, **__: object) -> None:
        raise SolverError("the search for modes failed (PETSc error 76)", "spectrum")

    monkeypatch.setattr(approach, "spectrum", stops)
    summary = mvpde.run(CASES / "double_well.toml", set=WELL, out=tmp_path / "run", without=["ensemble"]).summary
    assert summary["stationary"]["mean"] == pytest.approx([0.0], abs=1e-12)
    assert len(summary["stationary"]["distance"]) == 3
    assert "spectrum" not in summary and "spectrum.failed" in codes(summary)


@pytest.mark.serial
def test_growth_rates_that_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mvpde.equilibrium import branches

    def stops(*_: object, **__: object) -> None:
        raise SolverError("no mode converged; refine the mesh", "spectrum")

    monkeypatch.setattr(branches, "_leading", stops)
    summary = mvpde.run(CASES / "desai_zwanzig.toml", set=WELL, out=tmp_path / "run", without=["ensemble"]).summary
    listed = summary["stationary"]["branches"]
    assert [one["leading_eigenvalue"] for one in listed] == [None] * 3 and [one["stable"] for one in listed] == [None] * 3
    assert codes(summary).count("stationary.failed") == 3
    json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.serial
def test_starts_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    settings = {**WELL, "stationary.starts": [[0.5, 0.5], [1e200, 0.0]], "spectrum": None}
    summary = mvpde.run(CASES / "desai_zwanzig.toml", set=settings, out=tmp_path / "run", without=["ensemble"]).summary
    assert len(summary["stationary"]["branches"]) == 1
    assert "stationary.failed" in codes(summary)


@pytest.mark.serial
def test_the_law_is_the_one_that_the_run_ends_near(tmp_path: Path) -> None:
    """A start of mean .1 goes to the upper branch; a search from where it was alone would not know of it."""
    settings = {**WELL, "time.end": 40.0, "initial.x.mean": 0.1, "initial.x.std": 0.1, "spectrum": None}
    settings["stationary.starts"] = [[0.5, 0.5], [-0.5, 0.5], [0.0, 0.5]]
    found = mvpde.run(CASES / "desai_zwanzig.toml", set=settings, out=tmp_path / "run", without=["ensemble"]).summary[
        "stationary"
    ]
    assert found["mean"][0] > 0.6
    assert found["distance"][-1] < 1e-2 < found["distance"][0]


# --- a scan of the noise over two decades ---------------------------------------------------------------------------------------

SMALL: dict[str, tuple[str, float, dict[str, Any]]] = {
    "desai_zwanzig": ("model.temperature", 1.0 / 3.0, {"domain.cells": [60]}),
    "kuramoto": ("model.temperature", 1.0, {"domain.cells": [48]}),
    "kuramoto_frequencies": ("model.temperature", 0.5, {"domain.cells": [24], "labels.omega": 3}),
    "rotating": ("model.temperature", 1.0, {"domain.cells": [32], "stationary.starts": [[0.0, 0.0]]}),
    "double_well": ("model.temperature", 0.1, {"domain.cells": [100]}),
    "linear_mckean": ("model.temperature", 0.5, {"domain.cells": [60]}),
    "residual_network": ("model.temperature", 0.05, {"domain.cells": [12, 12]}),
    "deep_network_warm": ("model.temperature", 0.05, {"domain.cells": [24], "labels.a": 4, "labels.b": 4}),
    "ornstein_uhlenbeck": ("model.diffusion_matrix", 1.0, {"domain.cells": [16, 16]}),
    "sgd_neuron": ("model.learning_rate", 0.2, {"domain.cells": [12, 12]}),
}


def test_the_scan_has_every_case() -> None:
    asked = {path.stem for path in CASES.glob("*.toml") if {"[stationary]", "[spectrum]"} & set(path.read_text().splitlines())}
    assert asked <= set(SMALL)


@pytest.mark.serial
@pytest.mark.parametrize("factor", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("name", SMALL)
def test_noise_over_two_decades(name: str, factor: float) -> None:
    """Every number of long times is finite, or null where a warning says why."""
    key, value, small = SMALL[name]
    noise: Any = factor * value
    if name == "ornstein_uhlenbeck":
        noise = [[factor, 0.0], [0.0, 0.25 * factor]]
    described = problem(load(CASES / f"{name}.toml", {**small, key: noise, "density.companions": 0}), MPI.COMM_SELF)
    density = density_of(described, MPI.COMM_SELF)
    found, missing = long_times.after_run(described, {"density": density}, [density])
    assert found is not None or missing
    if found is not None:
        text = json.dumps(found.summary([0.0]), allow_nan=False)
        assert "mean" in text or "free_energy" in text
        modes = getattr(found, "modes", None)
        assert modes is None or np.isfinite(modes.modes).all()
