"""The depth that can be trained against 6ξ_c: verdicts on numbers made for them, and on laws that are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mvpde.runtime import CaseError  # isort: skip

import numpy as np
import pytest
import xarray

from mvpde.cases.file import load
from mvpde.models.deep.fixed_points import fixed_point
from mvpde.runtime import MPI
from mvpde.studies.laws.deep.trainable_depth import DEPTH_LAW, TRAINABLE_DEPTH, DepthLawOptions, TrainableDepthOptions, half_depth

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[4] / "cases" / "phase_diagram.toml"
OPTIONS = DepthLawOptions(kind="trainable_depth")
WEIGHTS = np.array([1.0, 1.2, 1.4, 1.7, 2.4, 2.8, 3.4, 4.0])
XI = np.array([float(fixed_point("tanh", w, 0.05).xi_c or 0.0) for w in WEIGHTS])
DEPTHS = np.array([4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 40.0, 52.0, 68.0, 84.0, 120.0])
SMALL = {"file": "data/digits.csv", "output": "digit", "depths": [1, 2], "width": 8, "steps": 2, "learning_rate": 0.01}


def made(half: np.ndarray, xi: np.ndarray = XI) -> xarray.Dataset:
    """A study whose accuracy falls from 1 to 0.1 around given depths, with a little scatter between two runs."""
    shift = 1.0 + 0.05 * np.random.default_rng(0).standard_normal((len(half), 1, 2))
    curves = 0.1 + 0.9 / (1.0 + (DEPTHS[None, :, None] / (half[:, None, None] * shift)) ** 6)
    table: dict[str, Any] = {
        "xi_c": ("weight", xi),
        "bias_variance": ("weight", np.full(len(xi), 0.05)),
        "chance": ("weight", np.full(len(xi), 0.1)),
        "depths": (("weight", "depths_0"), np.tile(DEPTHS, (len(xi), 1))),
        "accuracies": (("weight", "accuracies_0", "accuracies_1"), curves),
        "weight_variance": ("weight", WEIGHTS),
        "status": ("weight", np.full(len(xi), "done", dtype=object)),
    }
    return xarray.Dataset(table)


def verdicts(dataset: xarray.Dataset) -> list[str]:
    return [verdict.holds for verdict in DEPTH_LAW.measure(dataset, OPTIONS).verdicts]


def test_depths_in_proportion_hold_and_their_constant_is_found() -> None:
    outcome = DEPTH_LAW.measure(made(6.0 * XI), OPTIONS)
    power, constant = outcome.verdicts
    assert (power.holds, constant.holds) == ("holds", "holds")
    assert power.measured == pytest.approx(1.0, abs=0.05) and constant.measured == pytest.approx(6.0, rel=0.05)
    assert power.details["points"] == 7  # without σ_w² = 1.7, where 6ξ_c is beyond all depths


def test_depths_that_belong_to_other_points_do_not_hold() -> None:
    """The same depths, but each with the ξ_c of another point."""
    assert verdicts(made(6.0 * XI, XI[np.array([5, 2, 0, 3, 7, 4, 1, 6])]))[0] == "does not hold"


def test_another_exponent_or_constant_does_not_hold() -> None:
    assert verdicts(made(6.0 * XI[0] ** 0.5 * XI**0.5))[0] == "does not hold"
    assert verdicts(made(3.0 * XI)) == ["holds", "does not hold"]


@pytest.mark.parametrize("half", [1.0, 1e4], ids=["fails at the first depth", "learns at all"])
def test_points_without_a_depth_can_refute_the_law(half: float) -> None:
    """The first point has 6ξ_c = 21.8: failing at 4 layers, or learning with 120, its L_½ is no factor 1.5 from it."""
    depths = 6.0 * XI
    depths[0] = half
    outcome = DEPTH_LAW.measure(made(depths), OPTIONS)
    assert [verdict.holds for verdict in outcome.verdicts] == ["does not hold", "does not hold"]
    for verdict in outcome.verdicts:
        assert {key: verdict.details[key] for key in ("points", "censored", "contradicting")} == {
            "points": 6,
            "censored": 1,
            "contradicting": 1,
        }
        assert "1 of them cannot have 6ξ_c within a factor 1.5 of L_½" in verdict.note


@pytest.mark.parametrize(("xi", "half"), [(16.0, 1e4), (0.8, 1.0)], ids=["learns at all", "fails at the first depth"])
def test_points_without_a_depth_near_an_end_leave_the_law(xi: float, half: float) -> None:
    """6ξ_c = 96 and L_½ > 120, or 4.8 and L_½ < 4: both may be within a factor 1.5; the point is counted."""
    depths, lengths = 6.0 * XI, XI.copy()
    lengths[0], depths[0] = xi, half
    outcome = DEPTH_LAW.measure(made(depths, lengths), OPTIONS)
    assert [verdict.holds for verdict in outcome.verdicts] == ["holds", "holds"]
    assert outcome.verdicts[0].details["censored"] == 1 and outcome.verdicts[0].details["contradicting"] == 0
    assert "1 points with 6ξ_c within the depths never pass half-way or fail at the first depth" in outcome.verdicts[0].note


def test_networks_that_learn_at_every_depth_measure_nothing() -> None:
    outcome = DEPTH_LAW.measure(made(np.full(len(XI), 1e4)), OPTIONS)
    assert [verdict.measured for verdict in outcome.verdicts] == [None, None]
    assert outcome.picture is not None


def test_the_half_way_depth_lies_on_a_line_in_the_logarithm() -> None:
    depths = np.array([4.0, 16.0, 64.0])
    assert half_depth(depths, np.array([1.0, 0.8, 0.3]), 0.1) == pytest.approx(32.0)  # 0.55 half-way between 0.8 and 0.3
    assert np.isnan(half_depth(depths, np.array([1.0, 0.9, 0.8]), 0.1))
    assert np.isnan(half_depth(depths, np.array([0.5, 0.4, 0.2]), 0.1))


def test_a_point_trains_on_the_digits_of_the_repository(tmp_path: Path) -> None:
    case = load(CASE, {"model.weight_variance": 1.0})
    summary = TRAINABLE_DEPTH.compute(case, TrainableDepthOptions(**SMALL), tmp_path / "out", MPI.COMM_SELF)
    assert summary["chance"] == pytest.approx(0.1)  # 50 of each digit
    assert summary["xi_c"] == pytest.approx(3.626975618, rel=1e-8)
    assert np.shape(summary["accuracies"]) == (2, 2)
    assert summary["accuracy"] == pytest.approx(np.mean(summary["accuracies"], axis=1))
    assert (tmp_path / "out" / "summary.json").is_file()


def test_other_cases_and_tables_are_refused(tmp_path: Path) -> None:
    options = TrainableDepthOptions(**SMALL)
    for path, changes in ((CASE, {"model.activation": "relu"}), (CASE.with_name("sgd_neuron.toml"), {})):
        with pytest.raises(CaseError, match=r'\[model\]: the task "trainable_depth" is for kind = "random_network"'):
            TRAINABLE_DEPTH.compute(load(path, changes), options, tmp_path, MPI.COMM_SELF)
    with pytest.raises(CaseError, match=r"\[options\] file: .*no columns called 'label'"):
        TRAINABLE_DEPTH.compute(load(CASE), TrainableDepthOptions(**{**SMALL, "output": "label"}), tmp_path, MPI.COMM_SELF)
