"""Cases of `kind = "residual_flow"`: what is refused with its remedy, and tables of weights in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.runtime import MPI, CaseError
from mvpde.studies.laws.deep.residual_depth import DepthOptions, residual_depth

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[2] / "cases" / "residual_flow.toml"
NORMAL = {"law": "normal", "mean": 0.0, "std": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.block": ["x", "y"]}, ["[model]", "`inner` and `block`", "exactly one"]),
        ({"model.outer": [["a"], ["a"]]}, ["[model] outer", "needs 2 rows of 2 entries"]),
        ({"model.inner": [["q", "d"], ["d", "c"]]}, ["[model] inner, row 0", "'q'"]),
        ({"model.activation": "tanhh"}, ["[model] activation", "did you mean `tanh`"]),
        ({"model.weights": {"a": [1.0], "b": "s"}}, ["[model] weights", "give all as expressions, or all as lists"]),
        ({"model.weights": {"s": [0.0, 0.25], "a": [1.0, 2.0], "b": [0.0, 1.0]}}, ["the table ends at s = 0.5", "end sooner"]),
        ({"model.weights": {"s": [0.0, 0.3, 0.6, 0.9], "a": [1.0] * 4, "b": [0.0] * 4}}, ["inside one of the layers", "1/16"]),
        ({"model.interpolation": "cubic"}, ["[model] interpolation", "constant"]),
        ({"model.weights_file": "theta.csv"}, ["`weights` and `weights_file` exclude each other"]),
        ({"model.weights_file": "theta.csv", "model.weights": {}}, ["[model] weights_file", "relative to the case file"]),
        ({"model.coordinates": ["x"]}, ["[model] coordinates", "2 features and 1"]),
        ({"time.outputs": [0.0, 0.3, 1.0]}, ["[time] outputs", "inside one of the layers", "choose multiples"]),
        ({"ensemble.step": 0.1}, ["[ensemble]", "`layers` and `step` exclude each other"]),
        ({"ensemble.layers": 0}, ["[ensemble] layers", "≥ 1"]),
        ({"stationary": {}}, ["[stationary]", "coefficients depend on time"]),
        ({"initial.z": NORMAL}, ["[initial] z", "no such coordinate"]),
    ],
)
def test_bad_input_is_told_with_its_remedy(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CaseError) as caught:
        problem(load(CASE, changes))
    for word in words:
        assert word in str(caught.value)


def test_four_features_have_no_mesh() -> None:
    """A network of any width runs as particles; the mesh has three directions at most."""
    names = ["p", "q", "r", "u"]
    changes: dict[str, Any] = {
        "model": {"kind": "residual_flow", "coordinates": names, "block": [f"tanh({name})" for name in names]},
        "initial": dict.fromkeys(names, NORMAL),
        "domain": {"lower": [-1.0] * 4, "upper": [1.0] * 4, "cells": [4] * 4},
        "characteristics.nodes": [2] * 4,
    }
    with pytest.raises(CaseError, match="a mesh has 1 to 3 directions"):
        problem(load(CASE, changes))


def test_weights_are_read_from_a_file(tmp_path: Path) -> None:
    """Columns by name, s among them; the file is one of the case's inputs."""
    (tmp_path / "theta.csv").write_text("# trained\ns, a, b\n0.0, 1.0, 0.0\n0.5, 2.0, -1.0\n", encoding="utf-8")
    (tmp_path / "case.toml").write_text(CASE.read_text(encoding="utf-8"), encoding="utf-8")
    case = load(tmp_path / "case.toml", {"model.weights": {}, "model.weights_file": "theta.csv"})
    model = problem(case).model
    assert [until for until, _ in model.stretches(0.0, 1.0)] == [0.5, 1.0]
    assert case.inputs() == {("model", "weights_file"): tmp_path / "theta.csv"}
    (tmp_path / "theta.csv").write_text("s, a\n0.0, 1.0\n", encoding="utf-8")
    with pytest.raises(CaseError, match="outer"):
        problem(load(tmp_path / "case.toml", {"model.weights": {}, "model.weights_file": "theta.csv"}))


def test_twice_the_layers_half_the_distance() -> None:
    """The task of `studies/residual_depth.toml`; reading θ at the middle of the layers would divide by four instead."""

    def rms(layers: int) -> float:
        changes = {"ensemble.layers": layers, "ensemble.particles": 500, "time.outputs": [0.0, 1.0]}
        return residual_depth(problem(load(CASE, changes)), DepthOptions(), MPI.COMM_SELF).depth.rms[0]

    assert rms(16) / rms(32) == pytest.approx(2.0, abs=0.1)
