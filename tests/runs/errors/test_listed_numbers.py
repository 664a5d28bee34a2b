"""Numbers of long times that were once wrong without a word: right to a per cent, bracketed by their error, or not told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde.runtime  # isort: skip - loads the solver libraries before anything else does
import mvpde
from mvpde.cases.file import parse

pytestmark = pytest.mark.serial


def summary(tmp_path: Path, model: dict[str, Any], start: dict[str, float], box: tuple[float, float, int], **more: Any) -> Any:
    """Of the density alone, its stationary law and its modes."""
    low, high, cells = box
    table = {
        "model": {"kind": "fokker_planck", **model},
        "initial": {"x": {"law": "normal", **start}},
        "domain": {"lower": [low], "upper": [high], "cells": [cells]},
        "density": more.get("density", {}),
        "stationary": {},
        "spectrum": {"modes": more.get("modes", 4)},
        "time": {"end": more["end"], "outputs": list(np.linspace(0.0, more["end"], 13))},
        "output": {"fields": False, "particles": 0, "pictures": False, "sliced_wasserstein": False},
    }
    return mvpde.run(parse(table, tmp_path / "case.toml"), out=tmp_path / "out", overwrite=True).summary


def told(found: Any, right: list[float]) -> list[str]:
    """What is wrong about the spectrum of a run: eigenvalues off by more than a per cent and twice their error, and its rate."""
    modes, wrong = found["spectrum"], list[str]()
    values, errors = ([np.ravel(entry)[0] for entry in modes[key]] for key in ("eigenvalues", "eigenvalues_error"))
    for value, error, exact in zip(values, errors, right, strict=False):
        if abs(value - exact) > max(0.01 * exact, 2.0 * error):
            wrong.append(f"{value} ± {error} for {exact}")
        if abs(value - exact) > 0.01 * exact and "spectrum.eigenvalues" not in [one["code"] for one in found["warnings"]]:
            wrong.append(f"{value} for {exact} without a word")
    rate = modes["decay_rate_measured"]
    if rate is None:
        return wrong if modes["decay_rate_reason"] else [*wrong, "no rate, and no reason"]
    exact = right[modes["decay_mode"] - 1]
    bound = max(0.01 * exact, 2.0 * (modes["decay_rate_measured_error"] + errors[modes["decay_mode"] - 1]))
    return wrong if abs(rate - exact) <= bound else [*wrong, f"rate {rate} for {exact}, {bound}"]


@pytest.mark.parametrize(
    ("start", "end", "density"),
    [
        ((0.4, 0.1), 1.0, {}),
        ((0.4, 0.1), 3.0, {"tolerance": 1e-4}),
        ((0.4, 0.1), 1.0, {"step": 0.1, "scheme": "edge_averaged"}),
        ((0.0, 0.1), 1.0, {}),
        ((0.4, 0.3032), 2.0, {}),
    ],
)
def test_a_fast_well(tmp_path: Path, start: tuple[float, float], end: float, density: dict[str, Any]) -> None:
    """Rate 10.87: long steps, little that is left, an even start, and one of the right width, which moves alone."""
    model = {"potential": "10.87*x**2/2", "temperature": 1.0}
    found = summary(tmp_path, model, {"mean": start[0], "std": start[1]}, (-2.5, 2.5, 100), end=end, density=density)
    assert told(found, [10.87 * k for k in range(1, 5)]) == []


@pytest.mark.parametrize("start", [0.0, 0.4])
@pytest.mark.parametrize("end", [4.0, 12.0])
def test_a_double_well_from_an_even_start(tmp_path: Path, start: float, end: float) -> None:
    """No part along the first mode: the rate of the run is that of the second one, and not what lies between."""
    model = {"potential": "(x**2 - 1)**2/4", "temperature": 0.5}
    fine = summary(tmp_path, model, {"mean": 0.5, "std": 0.5}, (-3.5, 3.5, 800), end=0.01)["spectrum"]["eigenvalues"]
    found = summary(tmp_path, model, {"mean": start, "std": 0.5}, (-3.5, 3.5, 100), end=end)
    assert told(found, fine) == []
    assert start or found["spectrum"].get("decay_mode") in (2, None)


@pytest.mark.parametrize("b", [0.5, 0.8])
def test_a_square_root_process_on_a_box(tmp_path: Path, b: float) -> None:
    """b − x, A = x on [0, 10]: eigenvalues 1, 2, 3, 4, and nothing flows along an interval."""
    model = {"drift": [f"{b} - x"], "diffusion": [["x"]]}
    found = summary(tmp_path, model, {"mean": 1.5, "std": 0.3}, (0.0, 10.0, 200), end=4.0)
    assert told(found, [1.0, 2.0, 3.0, 4.0]) == []
    assert found["stationary"]["entropy_production"] == 0.0


@pytest.mark.parametrize("drift", ["-x**3 + x", "-4*x", "sin(2*x) - x"])
def test_nothing_flows_along_an_interval_and_no_eigenvalue_is_rounding(tmp_path: Path, drift: str) -> None:
    """Drifts in one dimension that do not say that they are gradients."""
    found = summary(tmp_path, {"drift": [drift], "diffusion": [["0.3"]]}, {"mean": 0.3, "std": 0.3}, (-3.0, 3.0, 80), end=2.0)
    assert found["stationary"]["entropy_production"] == 0.0
    values = np.atleast_2d(np.asarray(found["spectrum"]["eigenvalues"]).T).T[:, 0]
    assert all(value == 0.0 or value > 1e-3 for value in values)
