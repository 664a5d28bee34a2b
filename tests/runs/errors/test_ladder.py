"""Cells and steps that are found for an accuracy."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from mvpde.cases.file import load
from mvpde.cases.problem import problem, validate
from mvpde.runs.errors.ladder import HOPELESS, Ladder, on_cells
from mvpde.runs.run import run
from mvpde.runs.stopping import Stopped, StopRequest
from mvpde.runtime import MPI, CaseError

QUIET = {"output.pictures": False, "output.fields": False, "output.sliced_wasserstein": False}
LINEAR = {"time.end": 1.0, "time.outputs": 2, "model.parameters.k": 0.5, **QUIET}


def climbed(case, folder, accuracy, settings, **others):
    wanted = {"density.accuracy": accuracy, **settings}
    return run(f"cases/{case}.toml", set=wanted, out=folder, overwrite=True, **others).summary


def linear(times, k=0.5, a=1.0, tau=0.5):
    """E[x] and E[x²] of dx = −ax − k(x − E[x]) + noise, from mean 1 and standard deviation .5."""
    t = np.array(times)
    mean, rest = np.exp(-a * t), tau / (a + k)
    return np.stack([mean, mean**2 + rest + (0.25 - rest) * np.exp(-2.0 * (a + k) * t)], axis=1)


@pytest.mark.serial
@pytest.mark.parametrize("accuracy", [1e-2, 1e-4])
def test_moments_have_the_accuracy_that_is_asked_for(tmp_path, accuracy):
    said = climbed("linear_mckean", tmp_path / "run", accuracy, LINEAR, without=["ensemble"])
    density, exact = said["density"], linear(said["times"])
    assert density["accuracy_reached"] is True
    assert "density.accuracy" not in {warning["code"] for warning in said["warnings"]}
    best = np.stack([density["moments"][name]["extrapolated"] for name in ("⟨x⟩", "⟨x^2⟩")], axis=1)
    assert np.all(np.abs(best - exact) <= accuracy * exact)
    ladder = density["ladder"]
    assert ladder[-1]["nodes"] == density["nodes"] and ladder[-1]["error"] <= accuracy
    assert all(b["cells"][0] <= 2 * a["cells"][0] for a, b in pairwise(ladder))
    assert all(b["tolerance"] <= a["tolerance"] for a, b in pairwise(ladder))
    work = [rung["nodes"] ** 2 for rung in ladder]  # steps get shorter as cells do
    assert sum(work) <= 2.5 * work[-1]


@pytest.mark.serial
def test_cells_of_the_case_are_a_shape_only(tmp_path):
    few, many = (
        climbed("linear_mckean", tmp_path / str(n), 1e-2, {**LINEAR, "domain.cells": [n]}, without=["ensemble"])["density"]
        for n in (8, 3000)
    )
    assert [rung["cells"] for rung in few["ladder"]] == [rung["cells"] for rung in many["ladder"]]
    assert few["loss"] == many["loss"]


@pytest.mark.serial
def test_a_ladder_that_ends_early_says_so(tmp_path):
    said = climbed("linear_mckean", tmp_path / "run", 1e-6, {**LINEAR, "density.max_nodes": 60}, without=["ensemble"])
    assert said["status"] == "done" and said["density"]["accuracy_reached"] is False
    assert said["density"]["nodes"] <= 60
    warning = next(warning for warning in said["warnings"] if warning["code"] == "density.accuracy")
    assert warning["bound"] == 1e-6 and warning["value"] == said["density"]["ladder"][-1]["error"] > 1e-6
    assert "max_nodes" in warning["message"]


@pytest.mark.serial
def test_the_run_is_on_the_mesh_that_was_found_with_all_it_asks_for(tmp_path):
    settings = {**LINEAR, "ensemble.particles": 20, "ensemble.runs": 2, "stationary.starts": [[0.0, 0.5]], "spectrum.modes": 2}
    lines = []
    said = climbed("linear_mckean", tmp_path / "run", 1e-2, settings, progress=lambda text, _: lines.append(text))
    assert len(said["times"]) == 3 and said["ensemble"]["particles"] == 20 and "stationary" in said
    told = [text for text in lines if isinstance(text, str)]
    assert len(told) == len(said["density"]["ladder"])
    assert load(tmp_path / "run" / "case.toml").sections.domain.cells == said["density"]["ladder"][-1]["cells"]


@pytest.mark.serial
@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("deep_network_warm", {"labels.a": 4, "labels.b": 4, "time.outputs": [0.0, 0.5]}),
        ("kuramoto_frequencies", {"labels.omega": 4, "time.outputs": [0.0, 0.5]}),
        ("circle_rbf", {"time.outputs": [0.0, 0.5]}),
        ("residual_flow", {"time.outputs": [0.0, 0.25]}),
    ],
)
def test_every_kind_of_density_climbs(tmp_path, case, settings):
    sections = load(f"cases/{case}.toml").sections
    others = [name for name in ("ensemble", "characteristics", "network") if getattr(sections, name, None) is not None]
    said = climbed(case, tmp_path / "run", 3e-2, {**QUIET, **settings}, without=others)
    assert said["density"]["accuracy_reached"] is True
    assert said["density"]["ladder"][-1]["error"] <= 3e-2


@pytest.mark.ranks
def test_all_numbers_of_ranks_climb_the_same_ladder(tmp_path):
    folder = MPI.COMM_WORLD.bcast(str(tmp_path))
    parallel = climbed("linear_mckean", f"{folder}/parallel", 1e-2, LINEAR, without=["ensemble"])
    alone = climbed("linear_mckean", f"{folder}/{MPI.COMM_WORLD.rank}", 1e-2, LINEAR, without=["ensemble"], comm=MPI.COMM_SELF)
    assert [rung["cells"] for rung in parallel["density"]["ladder"]] == [rung["cells"] for rung in alone["density"]["ladder"]]
    assert np.allclose(parallel["density"]["loss"], alone["density"]["loss"], rtol=1e-9)


@pytest.mark.serial
@pytest.mark.parametrize(
    ("case", "settings", "said"),
    [
        ("linear_mckean", {"density.accuracy": 0.0}, "accuracy"),
        ("linear_mckean", {"density.accuracy": 1e-3, "density.accuracy_of": ["los"]}, "loss"),
        ("linear_mckean", {"density.accuracy": 1e-3, "density.accuracy_of": ["predictions"]}, "moments"),
        ("linear_mckean", {"density.accuracy_of": ["loss"]}, "accuracy"),
        ("linear_mckean", {"density.accuracy": 1e-3, "density.companions": 1}, "companions"),
        ("three_spin_sphere", {"density.accuracy": 1e-3}, "shell"),
    ],
)
def test_what_cannot_be_found_is_refused(case, settings, said):
    with pytest.raises(CaseError, match=r"\[density\].*" + said):
        validate(load(f"cases/{case}.toml", settings))


@pytest.mark.serial
def test_a_fixed_step_gets_shorter_with_the_cells():
    described = problem(load("cases/linear_mckean.toml", {"density.step": 0.1, "density.accuracy": 1e-3}))
    finer = on_cells(described, [600], 1e-7).sections.density
    assert math.isclose(finer.step, 0.05) and finer.tolerance == 1e-7


@pytest.mark.serial
def test_a_ladder_that_knows_no_error_ends(tmp_path, monkeypatch):
    """Three meshes of the density alone, and the run once, although max_nodes allows more."""
    monkeypatch.setattr(Ladder, "_known", lambda *_: (None, None, "half: broken"))
    said = climbed("linear_mckean", tmp_path / "run", 1e-2, {**LINEAR, "domain.cells": [8]}, without=["ensemble"])
    assert said["density"]["accuracy_reached"] is False and len(said["density"]["ladder"]) == HOPELESS + 1
    warning = next(warning for warning in said["warnings"] if warning["code"] == "density.accuracy")
    assert warning["value"] is None and "is not known" in warning["message"] and "half: broken" in warning["message"]
    assert "max_nodes" not in warning["message"]  # which would not help


@pytest.mark.serial
@pytest.mark.parametrize("calls", [3, 10**6])
def test_a_ladder_that_is_stopped_leaves_a_folder_that_says_so(tmp_path, monkeypatch, calls):
    """In its first mesh, and in the run: after the first output time."""
    seen = {"checks": 0}

    def check(self):
        seen["checks"] += 1
        if seen["checks"] > calls or (tmp_path / "run" / "series.csv").exists():
            raise Stopped("stopped by SIGTERM")

    monkeypatch.setattr(StopRequest, "check", check)
    with pytest.raises(Stopped):
        climbed("linear_mckean", tmp_path / "run", 1e-2, LINEAR, without=["ensemble"])
    said = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert said["status"] == "stopped" and said["density"]["accuracy_reached"] is False
    warning = next(warning for warning in said["warnings"] if warning["code"] == "density.accuracy")
    assert warning["value"] is None and "give it more time" in warning["message"]
    assert "max_nodes" not in warning["message"]
