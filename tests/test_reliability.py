"""The experiment on error estimates runs, and estimates hold in a small part of it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def reliability() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "mpi_runs" / "reliability.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reliability"] = module
    spec.loader.exec_module(module)
    return module


def test_every_case_with_a_density_is_in_it(reliability: ModuleType) -> None:
    chosen = reliability.problems([])
    with_density = {path.stem for path in (ROOT / "cases").glob("*.toml") if "[density]" in path.read_text(encoding="utf-8")}
    assert {problem.name for problem in chosen} == with_density
    assert sum(problem.draws * len(problem.meshes) for problem in chosen) >= 150
    assert all(reliability.load(ROOT / "cases" / f"{p.name}.toml", p.drawn(0) | p.on_mesh(1)) for p in chosen)


def test_draws_are_different_and_stay_the_same(reliability: ModuleType) -> None:
    (problem,) = reliability.problems(["kuramoto"])
    assert problem.drawn(0) == problem.drawn(0) != problem.drawn(1)


def test_estimates_hold_in_one_dimension(reliability: ModuleType, tmp_path: Path) -> None:
    chosen = [replace(problem, draws=1, meshes=(1, 2)) for problem in reliability.problems(["linear_mckean", "kuramoto"])]
    reliability.carry_out(chosen, tmp_path, seconds=1e9)
    runs = reliability.Store(tmp_path / "runs")
    found = [
        entry
        for problem in chosen
        for times in problem.meshes
        for entries in runs.known(f"{problem.name}-0-{times}")["found"].values()
        for entry in entries
    ]
    estimate, error, doubt = np.array(found).T
    assert len(found) >= 30
    assert np.mean(error - doubt <= 2.0 * estimate) >= 0.95
    assert np.mean(error + doubt >= estimate / 10.0) >= 0.8
    assert all(runs.known(f"{problem.name}-0-{accuracy:g}") for problem in chosen for accuracy in reliability.ACCURACIES)
    for name in ("linear_mckean", "kuramoto"):
        assert f"`{name}`" in reliability.table(chosen, tmp_path)
    assert "| 0.001 | 2 | 2 | 100 % |" in reliability.accuracy_table(chosen, tmp_path)
