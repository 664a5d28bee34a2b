"""Test losses against the noise scale: equal g, the density, and the optimum; each verdict on a law that is broken too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mvpde.runtime import CaseError  # isort: skip

import numpy as np
import pytest
import xarray

from at_hand.studies import compute_here, entries, write_study
from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.runtime import MPI
from mvpde.studies.laws.sgd.generalisation import (
    GENERALISATION,
    GENERALISATION_LAW,
    GeneralisationLawOptions,
    GeneralisationOptions,
    curve_of,
    generalisation,
    optimum,
)
from mvpde.studies.task import entries as summary_of

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[4] / "cases" / "sgd_neuron.toml"
OPTIONS = GeneralisationLawOptions(kind="generalisation")
RATES, BATCHES = np.array([0.02, 0.04, 0.04, 0.08, 0.08, 0.16, 0.16, 0.32]), np.array([1, 2, 1, 2, 1, 2, 1, 2])
# One weight on 24 noisy observations: a mesh of one direction, and a test loss that the noise scale changes.
WEIGHT = {
    "model.network": "weight",
    "data.file": str(CASE.parent / "data" / "copper.csv"),
    "model.weight_decay": 0.0,
    "data.test_share": 0.9,
    "data.target_noise": 1.5,
    "initial": {"w": {"law": "normal", "mean": 0.6, "std": 0.1}},
    "domain": {"lower": [-0.4], "upper": [3.6], "cells": [120]},
    "density.tolerance": 1e-3,
    "sgd.runs": 40000,
    "time.end": 3.2,
    "time.outputs": [3.2],
}
VARIED = {"model.learning_rate,model.batch_size": [[0.02, 1], [0.04, 2], [0.04, 1], [0.08, 2], [0.08, 1], [0.16, 2]]}


def losses(g: np.ndarray) -> np.ndarray:
    """A parabola in log g with its optimum at 0.03."""
    return 0.5 + 0.05 * np.log(g / 0.03) ** 2


def made(g: np.ndarray, loss: np.ndarray, density: np.ndarray, error: float = 1e-3) -> xarray.Dataset:
    """The dataset of a study with these numbers."""
    along = "learning_rate"
    table = {
        "noise_scale": g,
        "sgd.test_loss": loss,
        "sgd.test_loss_standard_error": np.full(len(g), error),
        "density.test_loss": density,
        "density.test_loss_mesh_error": np.full(len(g), 1e-4),
        "status": np.full(len(g), "done", dtype=object),
    }
    coordinates: Any = {
        along: (along, RATES, {"key": "model.learning_rate"}),
        "batch_size": (along, BATCHES, {"key": "model.batch_size"}),
    }
    return xarray.Dataset({name: (along, values) for name, values in table.items()}, coords=coordinates)


def base(folder: Path) -> str:
    """A case file with that one weight."""
    path = folder / "case.toml"
    path.write_text(load(CASE, WEIGHT).text(), encoding="utf-8")
    return str(path)


def verdicts(dataset: xarray.Dataset) -> list[str]:
    return [verdict.holds for verdict in GENERALISATION_LAW.measure(dataset, OPTIONS).verdicts]


def test_losses_that_are_a_function_of_g_hold_and_their_optimum_is_found() -> None:
    g = 0.5 * RATES / BATCHES
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(g))
    outcome = GENERALISATION_LAW.measure(made(g, losses(g) + noise, losses(g)), OPTIONS)
    assert [verdict.holds for verdict in outcome.verdicts] == ["holds"] * 3
    best = outcome.verdicts[2]
    assert best.predicted == pytest.approx(0.03, rel=1e-6)  # a parabola is found without error
    assert best.interval is not None and best.interval[0] < 0.03 < best.interval[1]


def test_a_bias_of_the_order_of_the_learning_rate_is_no_difference_to_the_density() -> None:
    """What is added in proportion to η at equal g is gone at η = 0; what is the same for all η at a g stays."""
    g = 0.5 * RATES / BATCHES
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(g))
    assert verdicts(made(g, losses(g) + 0.1 * RATES + noise, losses(g)))[1] == "holds"
    assert verdicts(made(g, losses(g) + 0.1 + noise, losses(g)))[1] == "does not hold"


def test_losses_that_are_a_function_of_the_learning_rate_do_not_hold() -> None:
    """g without the batch size: what the runs have at equal g lies apart, as does the density."""
    g = 0.5 * RATES / BATCHES
    assert verdicts(made(g, losses(0.5 * RATES), losses(g)))[:2] == ["does not hold"] * 2


def test_a_noise_scale_with_the_wrong_power_of_the_batch_size_does_not_hold() -> None:
    """g = η/(2B²) puts runs beside each other that have different laws."""
    right, wrong = 0.5 * RATES / BATCHES, 0.5 * RATES / BATCHES**2
    assert verdicts(made(wrong, losses(right), losses(wrong)))[0] == "does not hold"


def test_an_optimum_that_only_one_of_them_has_does_not_hold() -> None:
    g = 0.5 * RATES / BATCHES
    assert verdicts(made(g, losses(g), 0.5 + g))[2] == "does not hold"
    assert verdicts(made(g, 0.5 + g, losses(g)))[2] == "does not hold"
    assert verdicts(made(g, 0.5 + g, 0.5 + g))[2] == "holds"  # neither has one
    assert verdicts(made(g, losses(g), losses(g / 3.0)))[2] == "does not hold"


def test_errors_that_hide_the_law_are_told() -> None:
    g = 0.5 * RATES / BATCHES
    for verdict in GENERALISATION_LAW.measure(made(g, losses(g), losses(g), error=0.2), OPTIONS).verdicts:
        assert verdict.holds == "does not hold" and "more runs" in verdict.note


def test_an_optimum_at_an_end_is_none() -> None:
    g = np.array([0.01, 0.02, 0.04, 0.08])
    assert np.isnan(optimum(g, g)) and np.isnan(optimum(g, -g))
    assert optimum(g, losses(g)) == pytest.approx(0.03, rel=1e-9)


def test_a_study_in_small_holds_and_with_twice_the_noise_in_the_density_it_does_not(tmp_path: Path) -> None:
    """g = η/B instead of η/(2B) in the density: each pair of runs, the next of which has twice its g, has the density of that."""
    study = {"base": base(tmp_path), "task": "generalisation", "set": {}, "vary": VARIED, "measure": {"kind": "generalisation"}}
    dataset = compute_here(write_study(tmp_path, **study), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds"] * 3
    curve = curve_of(dataset, None)
    assert curve is not None and curve.g == pytest.approx([0.01, 0.02, 0.04])

    density = dataset["density.test_loss"].values
    wrong = dataset.assign(
        {"density.test_loss": (dataset["density.test_loss"].dims, np.append(density[2:], density[-2:], axis=0))}
    )
    assert verdicts(wrong)[1] == "does not hold"


def test_the_summary_has_both_losses_of_both_measures() -> None:
    small = {**WEIGHT, "sgd.runs": 200, "domain.cells": [64], "time.end": 0.4, "time.outputs": [0.0, 0.2, 0.4]}
    there = problem(load(CASE, small))
    summary = summary_of(generalisation(there, GeneralisationOptions(), MPI.COMM_SELF))
    assert summary["times"] == [0.2, 0.4]
    both = {"train_loss", "test_loss"}
    assert set(summary["density"]) == both | {f"{name}_mesh_error" for name in both}
    assert set(summary["sgd"]) == both | {f"{name}_standard_error" for name in both}


def test_a_case_without_points_to_test_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"\[data\] test_share: .* leave 236 to train on and 0 to test with"):
        problem(load(CASE, {**WEIGHT, "data.test_share": 1e-3}))
    with pytest.raises(CaseError, match=r"\[data\] test_share: the task \"generalisation\" needs points to test with"):
        GENERALISATION.compute(load(CASE), GeneralisationOptions(), tmp_path / "out", MPI.COMM_SELF)
