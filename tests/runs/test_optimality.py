"""What a run records of optimality, at every output and in every place; nothing where R is not convex."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import mvpde
from mvpde.cases.file import load
from mvpde.cases.measures import OF_OPTIMALITY
from mvpde.cases.problem import problem
from mvpde.runtime import CaseError

CASES = Path(__file__).parents[2] / "cases"
QUICK: dict[str, Any] = {
    "domain.cells": [16, 16],
    "ensemble.particles": 50,
    "ensemble.runs": 2,
    "output.fields": False,
    "output.particles": 0,
    "output.pictures": False,
    "output.sliced_wasserstein": False,
    "time.end": 4.0,
    "time.outputs": [0.0, 1.0, 2.0, 4.0],
}


def columns(folder: Path) -> dict[str, list[float]]:
    with (folder / "series.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


@pytest.mark.ranks
def test_a_warm_run_records_the_bounds(shared_tmp_path: Path) -> None:
    """The gap lies between its bounds at every output; lists, columns and picture agree."""
    overrides = {**QUICK, "stationary.starts": [[0.0] * 64], "spectrum.modes": 1}
    summary = mvpde.run(CASES / "circle_rbf_warm.toml", set=overrides, out=shared_tmp_path / "run").summary
    density, law, ensemble = summary["density"], summary["stationary"], summary["ensemble"]
    for bound, error, gap, below, energy in zip(
        *(density["optimality_gap"], density["optimality_gap_error"], law["gap"], law["relative_entropy"]),
        density["free_energy"],
        strict=True,
    ):
        assert below < gap < bound < 2.6 * gap
        assert 0.0 < error < 0.1 * bound
        assert energy - gap == pytest.approx(density["free_energy"][-1] - law["gap"][-1], rel=1e-9)
    assert summary["spectrum"]["gap_decay_rate_measured"] is None, "three late outputs are needed for a rate"
    assert len(ensemble["optimality_gap"]) == len(ensemble["optimality_gap_standard_error"]) == 4
    assert "residual_potential" not in density
    assert summary["representable"]["verdict"]
    table = columns(shared_tmp_path / "run")
    assert table["density_optimality_gap"] == pytest.approx(density["optimality_gap"])
    assert table["ensemble_optimality_gap"] == pytest.approx(ensemble["optimality_gap"])


@pytest.mark.serial
def test_a_cold_run_records_the_residual_potential_and_the_report_shows_it(tmp_path: Path) -> None:
    """With an even target tanh units without bias feel no force at all: U = 0 while the loss is as large as its floor."""
    table = {
        **QUICK,
        "output.pictures": True,
        "model": {"kind": "network", "unit": "tanh", "bias": False},
        "data": {"source": "interval", "lower": -1, "upper": 1, "points": 8, "target": "x**2"},
        "initial": {"a": {"law": "normal", "mean": 0.0, "std": 1.0}, "c": {"law": "normal", "mean": 0.0, "std": 0.5}},
        "domain": {"lower": [-5, -3], "upper": [5, 3], "cells": [20, 12]},
        "characteristics.nodes": [6, 4],
    }
    del table["domain.cells"]
    summary = mvpde.run(CASES / "circle_rbf.toml", set=table, out=tmp_path / "run").summary
    density, known = summary["density"], summary["representable"]
    residual = density["residual_potential"]
    assert max(residual["everywhere"]) < 0.01
    assert all(seen <= all_ for seen, all_ in zip(residual["support"], residual["everywhere"], strict=True))
    assert not known["verdict"] and known["unreachable"] == pytest.approx(1.0)
    assert density["loss"] == pytest.approx([known["loss_floor"]] * 4, rel=1e-3)
    assert "optimality_gap" not in summary["ensemble"], "particles at temperature 0 have no Gibbs state"
    assert columns(tmp_path / "run")["density_residual_potential_support"] == pytest.approx(residual["support"])
    assert (tmp_path / "run" / "optimality.png").is_file()
    (page,) = (written.path.read_text(encoding="utf-8") for written in mvpde.report(tmp_path / "run"))
    assert "How far the law can be from the best one" in page
    assert "residual_potential.support" in page.replace("<wbr>", "")


@pytest.mark.serial
def test_nothing_is_said_where_the_energy_is_not_convex(tmp_path: Path) -> None:
    overrides = {**QUICK, "domain.cells": [16]}
    summary = mvpde.run(CASES / "kuramoto.toml", set=overrides, out=tmp_path / "run").summary
    assert not [key for name in ("density", "ensemble") for key in summary[name] if key in OF_OPTIMALITY]
    assert "gap" not in summary["stationary"] and "representable" not in summary


@pytest.mark.serial
def test_the_bound_follows_the_temperature_down_to_zero(tmp_path: Path) -> None:
    overrides = {**QUICK, "time.annealing": [[1.0, 0.01], [2.0, 0.0]], "density.scheme": "flux_corrected"}
    summary = mvpde.run(CASES / "torus_spikes.toml", set=overrides, out=tmp_path / "run").summary
    bounds = summary["density"]["optimality_gap"]
    assert len(bounds) == 4
    assert bounds[-1] >= summary["density"]["loss"][-1] - 1e-3  # the best law there is near the atoms
    assert "optimality_gap" not in summary["ensemble"], "not known at the last output"


@pytest.mark.serial
@pytest.mark.parametrize("name", OF_OPTIMALITY)
def test_no_observable_takes_their_names(name: str) -> None:
    with pytest.raises(CaseError, match=name):
        problem(load(CASES / "double_well.toml", {"model": {**WELL, "observables": {name: "x"}}}))


WELL = {"kind": "mean_field", "coordinates": ["x"], "potential": "x**2", "temperature": 1.0}
