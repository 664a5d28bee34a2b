"""Networks beside the 3-spin energy along a great circle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from at_hand.studies import compute_here, entries, write_study
from mvpde.models.spins import couplings, energy
from mvpde.studies.laws.limits.spin_error import ANGLES, SpinOptions, great_circle

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[4] / "cases"
STUDY = {
    "base": str(CASES / "three_spin_circle.toml"),
    "task": "spin_error",
    "set": {"options.steps": 150, "options.quench_steps": 10, "options.trainings": 2, "options.circle": [3, 1]},
    "vary": {
        "options.unit,options.height,options.step": [["gaussian", 100.0, 0.03], ["sigmoid", 5.0, 0.15]],
        "options.units": [16, 64],
    },
}


def test_a_great_circle_is_on_the_sphere_and_in_its_plane() -> None:
    x = great_circle(6, 3, 1)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), math.sqrt(6.0), rtol=1e-6)
    assert not x[:, [1, 3, 4, 5]].any() and x[45] == pytest.approx([math.sqrt(6.0), 0, 0, 0, 0, 0], abs=1e-6)


def test_the_error_and_the_curves_of_the_networks_that_are_shown(tmp_path: Path) -> None:
    """The target's curve is that of the form; the bound of one unit is kept, the other's is not."""
    measure = {"kind": "spin_circles", "within": {"gaussian": 0.5, "sigmoid": 1e-6}, "units": [64]}
    compute_here(write_study(tmp_path, **STUDY, measure=measure), tmp_path / "out")
    gaussian, sigmoid = entries(tmp_path / "out")
    assert (gaussian["holds"], sigmoid["holds"]) == ("holds", "does not hold") and gaussian["note"] == "n = 64"
    assert sigmoid["measured"] > 1e-6 and gaussian["measured"] < 0.5
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "out").glob("points/*/summary.json")]
    curve = energy(couplings(5, 0), great_circle(5, 3, 1).astype(float))
    assert len(summaries) == 4
    for summary in summaries:
        assert summary["circle_target"] == pytest.approx(curve, abs=1e-4)
        assert len(summary["circle_network"]) == len(ANGLES)


def test_units_that_were_not_trained_have_no_error(tmp_path: Path) -> None:
    study = {**STUDY, "vary": {"options.units": [8, 16]}, "set": {**STUDY["set"], "options.steps": 5}}
    measure = {"kind": "spin_circles", "within": {"gaussian": 1.0}, "dimension": 7}
    path = write_study(tmp_path, **{**study, "vary": {**study["vary"], "options.dimension": [3, 4]}}, measure=measure)
    compute_here(path, tmp_path / "out")
    (verdict,) = entries(tmp_path / "out")
    assert verdict["holds"] == "does not hold" and verdict["note"] == "no such network was trained"


@pytest.mark.parametrize("circle", [[2, 2], [1, 6], [0, 1]])
def test_a_circle_has_two_axes_of_the_space(circle: list[int]) -> None:
    with pytest.raises(ValueError, match="circle"):
        SpinOptions(dimension=5, circle=circle)
