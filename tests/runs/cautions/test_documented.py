"""Every warning of meshes, comparisons and stationary laws is in the table of the page, with its bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mvpde.runs.cautions import comparison, density_error, long_time, mesh
from mvpde.runs.errors.agreement import DIFFER

pytestmark = pytest.mark.serial

PAGE = (Path(__file__).parents[3] / "docs" / "output.md").read_text(encoding="utf-8")
BOUNDS = {
    "density.wall_mass": mesh.OUTER_MASS,
    "density.outward_flux": mesh.OUTER_MASS,
    "density.mass_inside": 1.0 - mesh.MASS_INSIDE,
    "density.start_resolution": mesh.START,
    "density.resolution": mesh.NARROWEST,
    "density.negative_edges": mesh.NEGATIVE,
    "density.limiter_share": mesh.LIMITED,
    "density.mass_defect": mesh.MASS_DEFECT,
    "density.error": density_error.BOUND,
    "density.order": density_error.DOUBTFUL,
    "comparison.<a>_vs_<b>.agrees": DIFFER,
    "stationary.identities": long_time.IDENTITY,
    "stationary.limiter_share": long_time.LIMITED,
    "stationary.interaction_error": long_time.INTERACTION,
}


@pytest.mark.parametrize("judge", [mesh, comparison, density_error, long_time])
def test_every_code_is_in_the_table(judge: object) -> None:
    source = Path(str(judge.__file__)).read_text(encoding="utf-8")
    codes = re.findall(r'"((?:density|stationary)\.[a-z_]+)"', source)
    assert [code for code in codes if f"`{code}`" not in PAGE] == []


@pytest.mark.parametrize("code", BOUNDS)
def test_every_bound_is_in_the_table(code: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{code}`" in line and line.count("|") == 5)
    numbers = [float(number) for number in re.findall(r"(?<![\d.])\d+(?:\.\d+)?(?:e-?\d+)?", row.split("|")[3])]
    assert any(number == pytest.approx(BOUNDS[code]) for number in numbers)
