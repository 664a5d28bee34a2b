"""[domain.walls] of a case: what is refused, what follows where nothing is said, and a run with mirrors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mvpde
from at_hand.walls import PRESSED_MEAN
from mvpde.cases.file import parse
from mvpde.cases.problem import Problem, problem
from mvpde.runtime import CaseError

pytestmark = pytest.mark.serial

PRESSED = {
    "model": {"kind": "fokker_planck", "potential": "2*x", "temperature": 1.0},
    "initial": {"x": {"law": "uniform", "lower": 0.0, "upper": 1.0}},
    "domain": {"lower": [0.0], "upper": [1.0], "cells": [40]},
    "density": {},
    "ensemble": {"particles": 2000, "step": 0.05},
    "time": {"end": 1.0, "outputs": [0.0, 1.0]},
    "output": {"pictures": False, "fields": False},
}


def made(**changes: object) -> Problem:
    table = {**PRESSED, **{name: value for name, value in changes.items() if value is not None}}
    return problem(parse({name: value for name, value in table.items() if value != {"without": True}}, Path("here.toml")))


def walls(described: Problem) -> tuple[tuple[str, str], ...]:
    assert described.model.walls is not None
    return described.model.walls.kinds


def domain(**said: object) -> dict[str, object]:
    return {"lower": [0.0], "upper": [1.0], "cells": [40], "walls": said}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": domain(y=["reflecting", "reflecting"])}, r"\[domain.walls\] y: is no coordinate"),
        ({"domain": domain(x=["reflecting"])}, "`x` has 1 entries; give two"),
        ({"domain": domain(x=["reflecting", "mirror"])}, '"mirror" is not one of'),
        ({"domain": domain(x=["natural", "reflecting"])}, "lower wall at 0 is not natural"),
        (
            {
                "model": {"kind": "mean_field", "coordinates": ["x"], "periods": {"x": 1.0}, "potential": "cos(2*pi*x)"},
                "domain": domain(x=["reflecting", "reflecting"]),
            },
            "has a period, and no walls",
        ),
        (
            {
                "model": {"kind": "fokker_planck", "potential": "2*x", "temperature": 0.0},
                "domain": domain(x=["reflecting", "reflecting"]),
                "characteristics": {"nodes": [8]},
            },
            "do not see walls|does not see walls",
        ),
        (
            {
                "model": {"kind": "fokker_planck", "drift": ["-1/x"], "diffusion": [["1"]]},
                "ensemble": {"particles": 1, "scheme": "euler"},
            },
            "draws the law in",
        ),
        (
            {
                "model": {"kind": "fokker_planck", "drift": ["1/(x - 0.5)"], "diffusion": [["1"]]},
                "ensemble": {"particles": 1, "scheme": "euler"},
            },
            r"\[model\] drift: is not a finite number at x = 0.5",
        ),
        (
            {
                "model": {"kind": "fokker_planck", "drift": ["-x"], "diffusion": [["0.5 - x"]]},
                "ensemble": {"particles": 1, "scheme": "euler"},
            },
            "negative eigenvalue -0.5 at x = 1",
        ),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        made(**changes)


def test_what_follows_where_nothing_is_said() -> None:
    """Ends of a uniform start are mirrors; where coefficients end, walls are natural; others only end the box."""
    assert walls(made()) == (("reflecting", "reflecting"),)
    inside = {"x": {"law": "uniform", "lower": 0.0, "upper": 0.9}}
    assert walls(made(initial=inside)) == (("reflecting", "open"),)
    said = made(initial=inside, domain=domain(x=["reflecting", "reflecting"]))
    assert walls(said) == (("reflecting", "reflecting"),)
    bessel = {"kind": "fokker_planck", "drift": ["1/x - x"], "diffusion": [["1"]]}
    assert walls(made(model=bessel, initial=inside)) == (("natural", "open"),)


def test_a_run_between_mirrors(tmp_path: Path) -> None:
    (tmp_path / "case.toml").write_text("", encoding="utf-8")
    case = parse(PRESSED, tmp_path / "case.toml")
    mvpde.run(case, out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["density"]["moments"]["⟨x⟩"]["value"][-1] == pytest.approx(PRESSED_MEAN, abs=1e-3)
    assert summary["comparison"]["ensemble_vs_density"]["agrees"]["verdict"] == "agree"
    assert "outside" not in summary["ensemble"]


def test_particles_beyond_a_box_are_warned_of(tmp_path: Path) -> None:
    start = {"x": {"law": "normal", "mean": 0.5, "std": 0.1}}
    mvpde.run(parse({**PRESSED, "initial": start}, tmp_path / "case.toml"), out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["ensemble"]["outside"][-1] > 0.5
    assert "ensemble.outside" in {warning["code"] for warning in summary["warnings"]}


def test_a_run_that_breaks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("mvpde.runs.run._record", broken)
    with pytest.raises(ZeroDivisionError):
        mvpde.run(parse(PRESSED, tmp_path / "case.toml"), out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "failed"
    assert "nobody foresaw this" in summary["message"]


def test_a_run_between_absorbing_walls(tmp_path: Path) -> None:
    table = {
        **PRESSED,
        "model": {"kind": "fokker_planck", "drift": ["1"], "diffusion": [["0.5"]]},
        "initial": {"x": {"law": "normal", "mean": 0.0, "std": 0.001}},
        "domain": {"lower": [-1.0], "upper": [1.0], "cells": [100], "walls": {"x": ["absorbing", "absorbing"]}},
        "ensemble": {"particles": 2000, "step": 0.05, "scheme": "euler"},
        "stationary": {},
        "spectrum": {},
        "output": {"pictures": False},
    }
    mvpde.run(parse(table, tmp_path / "case.toml"), out=tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["density"]["survival"][-1] == pytest.approx(0.24694, abs=1e-4)
    assert summary["density"]["flux_x_upper"][-1] == pytest.approx(0.377034, abs=1e-3)
    error = summary["ensemble"]["survival_standard_error"][-1]
    assert summary["ensemble"]["survival"][-1] == pytest.approx(0.24694, abs=4.0 * error)
    assert summary["exit"]["mean_time"] == pytest.approx(0.761594, abs=1e-4)
    assert summary["exit"]["probability"]["x_upper"] == pytest.approx(0.880797, abs=1e-4)
    assert summary["stationary"]["escape_rate"] == pytest.approx(1.733701, abs=1e-3)
    assert summary["stationary"]["escape_rate_error"] < 1e-3
    assert summary["spectrum"]["eigenvalues"][0][0] == summary["stationary"]["escape_rate"]
    assert (tmp_path / "out" / "exit.xdmf").is_file()


def test_what_cannot_absorb() -> None:
    with pytest.raises(CaseError, match="take noise across them"):
        made(
            model={"kind": "fokker_planck", "potential": "2*x", "temperature": 0.0},
            domain=domain(x=["absorbing", "reflecting"]),
        )
    with pytest.raises(CaseError, match="has no absorbing walls"):
        made(density={"scheme": "flux_corrected"}, domain=domain(x=["absorbing", "reflecting"]))
