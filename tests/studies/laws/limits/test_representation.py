"""The study of representation in small: verdicts that hold, and that turn where the training or the distances are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import mvpde.studies.laws.limits.representation as law
from at_hand.studies import compute_here, entries, write_study
from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.characteristics import Characteristics
from mvpde.runtime import CaseError
from mvpde.studies.needs import check

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[4] / "cases" / "circle_rbf.toml"
SETTING: dict[str, Any] = {
    "data.source": "interval",
    "data.lower": -1.0,
    "data.upper": 1.0,
    "data.points": 8,
    "domain.lower": [-4.0, -4.0],
    "domain.upper": [4.0, 4.0],
    "domain.cells": [40, 8],
    "domain.periodic": [False, False],
    "characteristics.nodes": [10, 4],
    "characteristics.tolerance": 1e-6,
    "time.end": 60.0,
    "time.outputs": [0.0, 5.0, 60.0],
}
RELU = {"kind": "network", "unit": "relu", "bias": False}
SMALL = {"law": "normal", "mean": 0.0, "std": 0.03}
POINTS: list[list[Any]] = [
    ["reached", RELU, "abs(x)", {"a": {"law": "uniform", "lower": -2.0, "upper": 2.0}, "c": SMALL}],
    ["short", RELU, "x**2", {"a": {"law": "uniform", "lower": -2.0, "upper": 2.0}, "c": SMALL}],
    ["gap", RELU, "abs(x)", {"a": {"law": "uniform", "lower": 0.5, "upper": 2.0}, "c": SMALL}],
]


def study(folder: Path) -> list[dict[str, Any]]:
    path = write_study(
        folder,
        base=str(CASE),
        task="representation",
        set=SETTING,
        vary={"options.example,model,data.target,initial": POINTS},
        measure={"kind": "representation", "tolerance": 0.01},
    )
    with mock.patch("matplotlib.figure.Figure.savefig", lambda figure, file, **_: Path(file).touch()):
        compute_here(path, folder / "out")
    assert (folder / "out" / "representation.png").is_file()
    return entries(folder / "out")


def test_the_losses_end_where_the_spans_say(tmp_path: Path) -> None:
    """|x| is half out of reach of max(0, ax) with a > 0; x² has the distance to |x| that eight points give by hand."""
    found = study(tmp_path)
    assert [entry["holds"] for entry in found] == ["holds"] * 4
    x, w = np.polynomial.legendre.leggauss(8)
    part = 1.0 - (w @ np.abs(x) ** 3) ** 2 / (w @ x**4) / (w @ x**2)
    assert [entry["predicted"] for entry in found[:3]] == pytest.approx([0.0, part, 0.5], abs=1e-12)
    assert [entry["measured"] for entry in found[:3]] == pytest.approx([0.0, part, 0.5], abs=1e-4)
    assert "gap" in found[2]["law"] and "not in the span" in found[1]["law"]


def test_a_training_that_does_nothing_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Characteristics, "advance", lambda self, t, between_steps=None: None)
    assert [entry["holds"] for entry in study(tmp_path)] == ["does not hold"] * 3 + ["holds"]


def test_a_span_that_overlooks_the_gap_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all units of the domain were there: the law would be expected at f*."""
    honest = law.span

    def everywhere(model: MeanField, points: Array, weights: Array) -> law.Span:
        return honest(model, np.column_stack([np.linspace(-4.0, 4.0, 41), np.ones(41)]), np.ones(41))

    monkeypatch.setattr(law, "span", everywhere)
    assert [entry["holds"] for entry in study(tmp_path)] == ["holds", "holds", "does not hold", "holds"]


def test_a_floor_that_is_too_high_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units with a > 0 only, where the law has both: the loss falls below what would be its floor."""
    honest = law.span
    monkeypatch.setattr(law, "span", lambda model, points, weights: honest(model, np.abs(points), weights))
    assert [entry["holds"] for entry in study(tmp_path)][::3] == ["does not hold", "does not hold"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.loss": "logistic", "data.target": "sign(cos(x + 0.1))"}, "least_squares"),
        ({"time.outputs": [0.0]}, "output"),
    ],
)
def test_what_the_task_needs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        check(problem(load(CASE, changes)), law.NEEDS)
