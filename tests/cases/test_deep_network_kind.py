"""Cases of deep networks: what they compute, what the summary lists, and one message with a remedy for what is wrong."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde
from at_hand.deep import S4
from mvpde.cases.deep import labels_of, laws_of, network_of
from mvpde.cases.file import parse
from mvpde.cases.measures import sizes
from mvpde.cases.problem import problem
from mvpde.fields import outline
from mvpde.models.laws import Normal
from mvpde.runtime import MPI, CaseError

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[2]
SHIPPED = tomllib.loads((ROOT / "cases" / "deep_network.toml").read_text(encoding="utf-8"))
NORMAL = {"law": "normal", "mean": 1.0, "std": 0.5}
SMALL = {
    "domain": {"lower": [-2.0, -2.0], "upper": [4.5, 4.5], "cells": [12, 12]},
    "labels": {"a": 5, "b": 4},
    "characteristics": {"nodes": [4, 5], "tolerance": 1e-6},
    "network": {"width": 6, "runs": 2},
    "time": {"end": 0.4, "outputs": [0.0, 0.4]},
}


def table(**changes: Any) -> dict[str, Any]:
    """The shipped case at a small size, with some keys changed: "section__key"; None takes a section or key away."""
    made = copy.deepcopy({**SHIPPED, **SMALL})
    for name, value in changes.items():
        section, _, key = name.partition("__")
        place = made.setdefault(section, {}) if key else made
        if value is None:
            place.pop(key or section, None)
        else:
            place[key or section] = value
    return made


def summary_of(folder: Path, **changes: Any) -> dict[str, Any]:
    case = parse(table(**changes), ROOT / "cases" / "here.toml")
    mvpde.run(case, out=folder, overwrite=True)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_the_shipped_case_is_the_reference() -> None:
    described = problem(parse(SHIPPED, ROOT / "cases" / "here.toml"))
    network = network_of(described)
    assert network.layers == S4.network.layers
    assert np.allclose(network.data.target, S4.network.data.target, atol=1e-12)
    assert laws_of(described, network)[0].factors == (Normal(1.2, 0.5), Normal(1.0, 0.5))
    assert dict(described.frozen) == {"a": Normal(1.0, 0.7), "b": Normal(1.0, 0.7)}


def test_a_layer_may_have_laws_of_its_own_in_either_place() -> None:
    own = {"law": "normal", "mean": 0.6, "std": 0.2}
    layers = [{"trained": ["v", "w"], "fixed": {"c": 0.0}, **extra} for extra in ({}, {"w": own}, {"initial": {"w": own}})]
    described = problem(parse(table(model__layers=layers), ROOT / "cases" / "here.toml"))
    laws = [law.factors[1] for law in laws_of(described, network_of(described))]
    assert laws == [Normal(1.0, 0.5), Normal(0.6, 0.2), Normal(0.6, 0.2)]


def test_sizes_are_those_of_all_labels() -> None:
    told = sizes(problem(parse(SHIPPED, ROOT / "cases" / "here.toml")), MPI.COMM_SELF)
    assert (told["layers"], told["labels"]) == (3, "28 of a, 28 of b")
    assert told["density nodes"] == (28 + 1 + 28) * 33**2
    assert told["characteristics"] == (28 + 1 + 28) * 12**2


def test_a_run_lists_layers_of_every_measure_and_draws_them(tmp_path: Path) -> None:
    found = summary_of(tmp_path)
    measures, points = ("density", "characteristics", "network"), 5
    shapes = {
        "predictions": (2, points),
        "inputs": (2, 3, points),
        "label_covariance": (2, 2, 2),
        "layer_mean": (2, 3, 2),
        "layer_variance": (2, 3, 2),
    }
    for key, shape in shapes.items():
        assert set(found[key]) == set(measures)
        for name in measures:
            assert np.shape(found[key][name]) == shape
            assert found[key][name] == found[name][key]
    assert np.allclose(found["predictions"]["density"], found["predictions"]["characteristics"], atol=5e-3)
    assert len(found["network"]["loss_standard_error"]) == 2
    assert set(found["comparison"]) == {"density_vs_characteristics", "network_vs_density", "network_vs_characteristics"}
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"density.png", "loss.png", "prediction.png"}
    assert "pictures" not in str(found["warnings"])
    read = mvpde.open(tmp_path)
    assert read["density"].shape == (2, 13 * 13)
    assert set(outline(tmp_path / "density.h5").names) >= {"rho", "layer1", "layer2", "layer3"}
    mvpde.report(tmp_path)
    assert "layer1 at a" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"model__train_ends": True},
        {"network__mode": "prescribed", "network__step": 0.1, "network__order": [2, 0]},
        {"model__output_map": "tanh", "model__output": "sigmoid", "model__first": {"unit": "relu"}},
        {
            "model__layers": [
                {"unit": "sigmoid", "trained": ["v", "w"], "fixed": {"c": -0.1}, "initial": {"w": {**NORMAL, "mean": 0.6}}}
            ]
        },
    ],
)
def test_density_and_characteristics_agree_whatever_the_case_says(changes: dict[str, Any], tmp_path: Path) -> None:
    """L = 2 with a law of the layer's own, trained ends, prescribed samples, other activations; at 20 cells a way."""
    small = {"network": None, **changes} if "network__mode" not in changes else changes
    wide = {**SMALL["domain"], "cells": [20, 20]}
    found = summary_of(tmp_path, domain=wide, output__pictures=False, **{"characteristics__nodes": [7, 7], **small})
    for key, tolerance in (("predictions", 3e-3), ("layer_mean", 3e-3), ("inputs", 3e-3)):
        assert np.allclose(found[key]["density"], found[key]["characteristics"], atol=tolerance)
    assert ("ends_mean" in found["density"]) == ("model__train_ends" in changes)


def test_several_inputs_and_classes(tmp_path: Path) -> None:
    data = {"source": "points", "x": [[0.5, 1.0], [-1.0, 0.3], [0.2, -2.0]], "target": [1.0, -1.0, 1.0]}
    ends = {"a1": NORMAL, "a2": {**NORMAL, "mean": -0.5}, "b": NORMAL, "v": NORMAL, "w": NORMAL}
    more: dict[str, Any] = {"model__loss": "logistic", "labels__a": [3, 4], "characteristics__nodes": [6, 6]}
    wide = {**SMALL["domain"], "cells": [20, 20]}
    found = summary_of(tmp_path, data=data, initial=ends, domain=wide, output__pictures=False, **more)
    assert np.shape(found["label_covariance"]["network"]) == (2, 3, 2)
    assert found["density"]["loss"] == pytest.approx(found["characteristics"]["loss"], abs=2e-3)


def test_layers_of_different_kinds_and_their_names() -> None:
    layers = [
        {"trained": ["w"], "fixed": {"v": 1.5, "c": 0.0}},
        {"unit": "relu", "trained": ["c", "v"], "fixed": {"w": 1.0}, "repeat": 2},
    ]
    changes = {
        "model__layers": layers,
        "initial__c": NORMAL,
        "domain": None,
        "density": None,
        "characteristics__nodes": [3, 3, 3],
    }
    described = problem(parse(table(**changes), ROOT / "cases" / "here.toml"))
    network = network_of(described)
    assert network.depth == 4
    assert described.model.coordinates == ("v", "w", "c")
    assert [layer.trained for layer in network.layers] == [("w",), ("v", "c"), ("v", "c")]
    assert labels_of(described, network).shape(1, 4) == (5, 1)


WRONG = {
    r"layers: the list is empty, so that L = 1; a deep network has L ≥ 2": {"model__layers": []},
    r"trained is empty, so the layer does not move; name at least one of v, w, c": {
        "model__layers": [{"trained": [], "fixed": {"v": 1.0, "w": 1.0, "c": 0.0}}]
    },
    r"c is neither trained nor fixed; add fixed = \{ c = 0.0 \}": {"model__layers": [{"trained": ["v", "w"]}]},
    r"unit: \"tahn\" is not one of .*did you mean `tanh`": {"model__layers": [{"unit": "tahn", "trained": ["v"]}]},
    r"the law `chi` of v needs `dimension` here": {
        "model__layers": [{"trained": ["v", "w"], "fixed": {"c": 0.0}, "v": {"law": "chi", "scale": 0.5}}]
    },
    r"the law of v is that of a point on a sphere, and v is a number": {
        "model__layers": [{"trained": ["v", "w"], "fixed": {"c": 0.0}, "v": {"law": "sphere"}}]
    },
    r"initial has a law of c, which this layer does not train": {
        "model__layers": [{"trained": ["v", "w"], "fixed": {"c": 0.0}, "initial": {"c": NORMAL}}]
    },
    r"\[initial\] b: is missing; add b = ": {"initial__b": None},
    r"\[initial\] x: the model has no such coordinate": {"initial__x": NORMAL},
    r"a\[0\].*0 is not allowed, it must be at least 1": {"labels__a": 0},
    r"\[labels\] a: has 2 entries, and the data have 1 inputs": {"labels__a": [3, 4]},
    r"\[labels\] a: 200000 nodes are too many labels": {"labels__a": 200_000},
    r"ensemble.*write \[network\] with `width`": {"ensemble": {"particles": 10}},
    r"spectrum.*remove it": {"spectrum": {}},
    r"stationary.*remove `starts`": {"stationary": {"starts": [[1.0]]}},
    r"\[stationary\].*temperature is 0": {"stationary": {}},
    r"annealing": {"time": {"end": 1.0, "annealing": [[0.5, 0.1]]}},
    r"\[density\] scheme: .*is not one of `auto`": {"density__scheme": "galerkin"},
    r"\[network\] order: names data point 7, and there are 5": {"network__mode": "prescribed", "network__order": [7]},
    r"\[time\] outputs: 0\.25, 0\.5 are no multiples of network\.step = 0\.2; .*give multiples": {
        "network__mode": "prescribed",
        "network__step": 0.2,
        "time": {"end": 1.0, "outputs": [0.25, 0.5, 1.0]},
    },
    r"\[time\] outputs: 0\.4 is no multiple of network\.step = 0\.3; in the mode \"sgd\"": {
        "network__mode": "sgd",
        "network__step": 0.3,
    },
    r"order.*is for mode = \"prescribed\" alone": {"network__order": [1]},
    r"mode.*is not one of": {"network__mode": "adam"},
    r"\[characteristics\] nodes: has 1 entries, but the model has 2 coordinates": {"characteristics__nodes": [4]},
    r"\[model\]: loss 'logistic' needs targets \+1 or -1": {"model__loss": "logistic"},
    r"\[domain\] lower, upper: .*holds .* % of the initial law of v, w; enlarge it": {
        "domain": {"lower": [1.0, 1.0], "upper": [4.5, 4.5], "cells": [8, 8]}
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said_with_the_remedy(message: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=message):
        summary_of(tmp_path / "none", output__pictures=False, **WRONG[message])


def test_layers_that_a_file_leaves_out_are_told(tmp_path: Path) -> None:
    layers = [{"trained": ["v", "w"], "fixed": {"c": 0.0}}, {"trained": ["w"], "fixed": {"v": 1.0, "c": 0.0}}]
    found = summary_of(tmp_path, model__layers=layers, output__pictures=False, network=None, characteristics=None)
    told = [warning for warning in found["warnings"] if warning["code"] == "density.layers"]
    assert len(told) == 1 and "(2 of 2)" in told[0]["message"] and "layer_mean" in told[0]["message"]
    assert "layer2" not in outline(tmp_path / "density.h5").names and np.shape(found["density"]["layer_mean"]) == (2, 2, 2)
