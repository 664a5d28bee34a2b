"""What `mvpde check` finds by building small measures, and how its time and memory grow with the sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mvpde.cases import costs as module
from mvpde.cases.costs import costs
from mvpde.cases.file import load
from mvpde.cases.measures import chosen_measures
from mvpde.cases.problem import problem
from mvpde.cases.trial import tried
from mvpde.runtime import CaseError

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[2] / "cases"


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("mmn_isotropic", {"ensemble.step": "auto"}, r'\[ensemble\] step: is "auto".*give a number'),
        ("linear_mckean", {"ensemble.step": 5.0, "time.outputs": [6.0]}, r"\[ensemble\] step: is 5, .*unstable there"),
        (
            "circle_rbf",
            {"initial": {"y, c": {"law": "samples", "file": "START"}}},
            r"\[characteristics\]: .*without a quadrature by nodes",
        ),
    ],
)
def test_what_measures_would_refuse_is_found_without_them(name: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "start.csv").write_text("y,c\n0.1,0.2\n1.0,0.3\n2.0,-0.1\n")
    if "initial" in changes:
        changes = {"initial": {"y, c": {"law": "samples", "file": str(tmp_path / "start.csv")}}}
    found = problem(load(CASES / f"{name}.toml", changes))
    with pytest.raises(CaseError, match=said):
        tried(found, chosen_measures(found))


@pytest.mark.parametrize("name", ["kuramoto", "circle_rbf", "mmn_isotropic", "ornstein_uhlenbeck", "desai_zwanzig"])
def test_shipped_cases_pass(name: str) -> None:
    found = problem(load(CASES / f"{name}.toml"))
    tried(found, chosen_measures(found))


def seconds(text: str, part: str) -> float:
    number, unit = re.search(rf"{part} ([0-9.e+-]+) (s|min|h)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1.0, "min": 60.0, "h": 3600.0}[unit]


def test_time_and_memory_grow_with_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the particles or the runs take ten times as long; implicit steps follow the tolerance and the nodes."""
    monkeypatch.setattr(module, "_evaluation", lambda _: 1e-7)

    def told(nodes: int = 1000, **changes: Any) -> dict[str, str]:
        found = problem(load(CASES / "kuramoto.toml", {key.replace("__", "."): value for key, value in changes.items()}))
        return costs(found, ["density", "ensemble"], nodes)

    base, more = told(), told(ensemble__particles=20_000, ensemble__runs=8)
    assert seconds(base["time"], "ensemble") == pytest.approx(4 * 2000 * 500 * 3 * 1e-7, rel=0.06)
    assert seconds(more["time"], "ensemble") == pytest.approx(20 * seconds(base["time"], "ensemble"), rel=0.06)
    fine = told(nodes=10**6)
    assert seconds(fine["time"], "density") > 100.0 * seconds(base["time"], "density")
    exact = told(density__tolerance=1e-8)
    assert seconds(exact["time"], "density") == pytest.approx(10.0 * seconds(base["time"], "density"), rel=0.06)
    assert int(fine["memory"].split()[1]) > 1000 + int(base["memory"].split()[1])


def test_what_has_no_estimate_is_named() -> None:
    found = problem(load(CASES / "kuramoto.toml"))
    assert "without network" in costs(found, ["density", "network"], 100)["time"]
