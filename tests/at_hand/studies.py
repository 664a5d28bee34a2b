"""A small study: written, computed in this process, and what it said."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import tomli_w
import xarray

from mvpde.runtime import MPI, CaseError, SolverError
from mvpde.studies.points import compute
from mvpde.studies.runner import conclude, plan, prepare

CASE = Path(__file__).parents[2] / "cases" / "gaussian_mixture.toml"
SMALL = {
    "domain.cells": [48, 48],
    "characteristics.nodes": [32, 24],
    "ensemble.step": 0.25,
    "ensemble.runs": 8,
    "time.end": 2.0,
    "time.outputs": [0.0, 2.0],
    "output.fields": False,
    "output.particles": 0,
    "output.pictures": False,
    "output.sliced_wasserstein": False,
}
SLOPE = {
    "kind": "slope",
    "law": "E|f_n - f_t|^2 ~ 1/n",
    "x": "ensemble.particles",
    "y": "comparison.ensemble_vs_density.prediction_error",
    "power": 2,
    "predicted": -1.0,
    "tolerance": 0.25,
    "discretisation": "comparison.density_vs_characteristics.prediction_error",
}


def write_study(folder: Path, **table: Any) -> Path:
    path = folder / "study.toml"
    content = {"title": "small", "base": str(CASE), "set": SMALL, **table}
    path.write_text(tomli_w.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    return path


def entries(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert isinstance(found, list)
    return found


def compute_here(path: Path, out: Path) -> xarray.Dataset:
    """The whole study in this process: quicker, and the simulator can be broken."""
    found = plan(path, out)
    prepare(found)
    for k, point in enumerate(found.points):
        with contextlib.suppress(CaseError, SolverError):
            compute(out, point, MPI.COMM_WORLD)
        found.look(k)
    return conclude(found)
