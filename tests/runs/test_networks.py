"""True networks beside their limit in a run: what summary.json and predictions.csv say of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from at_hand.deep import S4
from mvpde.runs.run import run
from mvpde.runtime import MPI

CASE = """
title = "A deep network"

[model]
kind = "deep_network"
first = {{ offset = 0.5 }}
layers = [{{ trained = ["v", "w"], fixed = {{ c = 0.0 }}, repeat = 3 }}]

[data]
source = "points"
x = {x}
target = {y}

[initial]
a = {{ law = "normal", mean = 1.0, std = 0.7 }}
b = {{ law = "normal", mean = 1.0, std = 0.7 }}
v = {{ law = "normal", mean = 1.2, std = 0.5 }}
w = {{ law = "normal", mean = 1.0, std = 0.5 }}

[labels]
a = 16
b = 16

[characteristics]
nodes = [6, 6]
tolerance = 1e-6

[network]
width = 40
runs = 6
mode = "heun"
step = 0.25

[time]
end = 1.0
outputs = [0.0, 1.0]
"""


def case(folder: Path) -> Path:
    data = S4.network.data
    path = folder / "deep.toml"
    path.write_text(CASE.format(x=data.x[:, 0].tolist(), y=data.target.tolist()), encoding="utf-8")
    return path


@pytest.mark.ranks
def test_networks_and_their_limit_say_the_same_in_the_same_words(shared_tmp_path: Path, comm: MPI.Intracomm) -> None:
    if comm.rank == 0:
        case(shared_tmp_path)
    comm.Barrier()
    summary = run(shared_tmp_path / "deep.toml", out=shared_tmp_path / "out", set={"output.pictures": False}, comm=comm).summary
    limit, network = summary["characteristics"], summary["network"]
    for key, shape in {
        "predictions": (2, 5),
        "inputs": (2, 3, 5),
        "label_covariance": (2, 2, 2),
        "layer_mean": (2, 3, 2),
        "layer_variance": (2, 3, 2),
    }.items():
        assert np.shape(network[key]) == np.shape(limit[key]) == shape
    assert np.abs(np.subtract(network["loss"], limit["loss"])).max() < 4.0 * max(network["loss_standard_error"]) + 0.1 / 40
    errors = summary["comparison"]["network_vs_characteristics"]
    assert 0.0 < max(errors["prediction_error"]) < 0.2


@pytest.mark.serial
def test_the_error_of_one_network_alone_is_unknown(tmp_path: Path) -> None:
    """The weights of a network are no independent particles, so nothing tells how much another one would differ."""
    changes = {"network.runs": 1, "network.width": 10, "output.pictures": False, "time.outputs": [0.0]}
    run(case(tmp_path), out=tmp_path / "out", set=changes, without=["characteristics"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["network"]["loss_standard_error"] == [None]
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert {row["network_standard_error"] for row in rows} == {""}


QUICK = {
    "labels.a": 4,
    "labels.b": 4,
    "characteristics.nodes": [3, 3],
    "network.width": 8,
    "network.runs": 2,
    "output.pictures": False,
}
SHIPPED = {**QUICK, "domain.cells": [16, 16], "time.end": 1.0, "time.outputs": [0.0, 0.5, 1.0]}


@pytest.mark.serial
@pytest.mark.parametrize("mode", ["descent", "heun"])
def test_steps_that_make_the_loss_rise_are_warned_of(tmp_path: Path, mode: str) -> None:
    """A step of 20: the loss of the network rises, which no gradient flow does; that of the limit falls."""
    changes = {
        **QUICK,
        "network.mode": mode,
        "network.step": 20.0,
        "network.companion": False,
        "model.output": "relu",
        "time.end": 20.0,
    }
    warnings = run(case(tmp_path), out=tmp_path / "out", set={**changes, "time.outputs": [0.0, 20.0]}).summary["warnings"]
    (said,) = [one["message"] for one in warnings if one["code"].startswith("network.")]
    assert "network: the loss rises from" in said and said.endswith("choose a smaller [network] step")


@pytest.mark.serial
def test_a_loss_that_falls_is_not_warned_of(tmp_path: Path) -> None:
    """The shipped case, smaller: density, characteristics and networks."""
    shipped = Path(__file__).parents[2] / "cases" / "deep_network.toml"
    summary = run(shipped, out=tmp_path / "out", set=SHIPPED).summary
    assert not [w for w in summary["warnings"] if "the loss rises" in w["message"]]
    assert {"density", "characteristics", "network"} <= set(summary)


@pytest.mark.serial
@pytest.mark.parametrize("mode", ["sgd", "prescribed"])
def test_a_loss_that_may_rise_is_not_warned_of(tmp_path: Path, mode: str) -> None:
    """With samples one by one it does, at a large step."""
    changes = {
        **QUICK,
        "network.mode": mode,
        "network.step": 4.0,
        "network.companion": False,
        "model.output": "relu",
        "time.end": 4.0,
    }
    times = {"time.outputs": [0.0, 4.0]} | (
        {"network.order": [4]} if mode == "prescribed" else {}
    )  # of point 0 the unit sees nothing
    summary = run(case(tmp_path), out=tmp_path / "out", set={**changes, **times}, without=["characteristics"]).summary
    assert summary["network"]["loss"][1] > summary["network"]["loss"][0]
    assert not [w for w in summary["warnings"] if "the loss rises" in w["message"]]
