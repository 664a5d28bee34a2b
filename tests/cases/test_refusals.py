"""What a run would refuse is refused when a case is checked: before the solver is loaded, and before anything is computed."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde
from mvpde.cases.file import parse
from mvpde.cases.problem import problem
from mvpde.models.deep import random_resnet
from mvpde.models.laws import Normal, Uniform, mass_between
from mvpde.runtime import ArgumentError, CaseError

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[2]
WRITTEN: dict[str, Any] = {"model.inner": None, "model.outer": None, "model.weights": {}, "model.block": ["x", "y"]}


def table(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A shipped case with some keys changed, "section.key"; None takes a section or key away."""
    made: dict[str, Any] = copy.deepcopy(tomllib.loads((ROOT / "cases" / f"{name}.toml").read_text(encoding="utf-8")))
    for key, value in changes.items():
        section, _, last = key.partition(".")
        place = made.setdefault(section, {}) if last else made
        if value is None:
            place.pop(last or section, None)
        else:
            place[last or section] = value
    return made


def check(name: str, changes: dict[str, Any]) -> None:
    problem(parse(table(name, changes), ROOT / "cases" / "here.toml"))


SMALL_BOX = {"lower": [0.0, 0.0], "upper": [1.0, 1.0], "cells": [8, 8]}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("deep_network", {"network.mode": "langevin"}, r"\[network\] mode: .*temperature 0; choose"),
    *[
        ("deep_network_warm", {"network.mode": mode}, r"\[network\] mode: .*choose \"langevin\"")
        for mode in ("descent", "heun", "sgd", "prescribed")
    ],
    ("deep_network", {"stationary": {}}, r"\[stationary\]: model.temperature is 0"),
    ("residual_network", {"model.temperature": 0.0}, r"\[stationary\]: model.temperature is 0"),
    ("gaussian_mixture", {"model.temperature": 0.0, "stationary": None, "spectrum": {}}, r"\[spectrum\]: model.temperature is 0"),
    ("deep_network_warm", {"model.train_ends": True}, r"\[stationary\]: .*trained ends.*write train_ends = false"),
    ("random_resnet", {"stationary": {}}, r"\[stationary\]: .*remove it"),
    ("random_resnet", {"spectrum": {}}, r"\[spectrum\]: .*remove it"),
    ("deep_network", {"labels.a": [4, 4]}, r"\[labels\] a: has 2 entries, and the data have 1 inputs"),
    ("deep_network", {"labels.a": 200_000}, r"\[labels\] a: 200000 nodes are too many labels"),
    ("deep_network", {"initial.b": {"law": "chi", "scale": 1.0, "dimension": 3.0}, "labels.b": 500}, r"\[labels\] b: 500 nodes"),
    ("kuramoto_frequencies", {"labels.omega": 400}, r"\[labels\] omega: 400 nodes reach .*give 200, or fewer"),
    ("kuramoto_frequencies", {"labels.omega": 10**9}, r"\[labels\]: 1000000000 labels"),
    ("kuramoto_frequencies", {"model.frozen": ["omega", "omega"]}, r"`frozen` names a coordinate twice"),
    *[
        (name, {"characteristics.tolerance": 1.0}, r"\[characteristics\] tolerance: .*\(0, 0\.01\]")
        for name in ("deep_network", "mean_field_resnet", "residual_flow", "circle_rbf")
    ],
    ("deep_network", {"density.scheme": "galerkin"}, r"\[density\] scheme: .*is not one of `auto`"),
    ("deep_network", {"density.scheme": "edge_averaged"}, r"\[density\] scheme: .*needs model.temperature > 0"),
    ("mean_field_resnet", {"density.scheme": "edge_averaged"}, r"\[density\] scheme: .*is not one of `auto`, `flux_corrected`"),
    ("residual_flow", {"density.scheme": "edge_averaged"}, r"\[density\] scheme: .*use|needs"),
    ("random_resnet", {"density.scheme": "edge_averaged"}, r"\[density\] scheme: .*needs \"flux_corrected\", \"galerkin\""),
    (
        "kuramoto_frequencies",
        {"density.scheme": "edge_averaged"},
        r"\[density\] scheme: .*needs \"flux_corrected\", \"galerkin\"",
    ),
    *[(name, {"domain": SMALL_BOX}, r"\[domain\] lower, upper: .*holds") for name in ("deep_network", "mean_field_resnet")],
    ("random_resnet", {"domain": SMALL_BOX}, r"\[domain\] lower, upper: the domain holds at most"),
    ("residual_network", {"model.block": "v*log(w*x)"}, r"\[model\] block: is not a finite number at v = "),
    ("residual_network", {"model.block": "v*exp(1000*w*x)"}, r"\[model\] block: is not a finite number at v = "),
    (
        "residual_flow",
        WRITTEN | {"model.block": ["log(x)", "y"]},
        "block: is not",
    ),
    ("deep_network", {"network.mode": "prescribed", "network.order": []}, r"\[network\] order: the list is empty"),
]

# Keys that would have no effect.
IDLE: list[tuple[str, dict[str, Any], str]] = [
    ("deep_network", {"density.tolerance": 1e-3}, r"\[density\]: `tolerance` is of implicit steps.*remove it"),
    ("mean_field_resnet", {"density.solver": {"pc_type": "gamg"}}, r"\[density\]: `solver` is of implicit steps.*remove it"),
    ("residual_flow", {"density.solver": {"pc_type": "gamg"}}, r"\[density\] solver: .*remove it"),
    ("residual_flow", WRITTEN | {"model.bias": [0.1, 0.2]}, "`bias` is of"),
    (
        "residual_flow",
        WRITTEN | {"model.activation": "sin"},
        "`activation` is of",
    ),
    ("residual_flow", {"model.interpolation": "linear"}, r"`interpolation` is between the rows of a table"),
    ("residual_network", {"model.order": 2}, r"`order` is of SGD.*remove one"),
    ("residual_network", {"model.replacement": False}, r"`replacement` is of SGD.*remove one"),
    ("mean_field_resnet", {"model.trained": ["v", "w", "w"]}, r"trained names a weight twice .*name each once"),
    ("deep_network", {"model.layers": [{"trained": ["v", "v", "w"], "fixed": {"c": 0.0}}]}, r"trained names a weight twice"),
]


@pytest.mark.parametrize(("name", "changes", "message"), [*REFUSED, *IDLE], ids=str)
def test_a_check_refuses_what_a_run_would(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        check(name, changes)


def test_a_checked_case_says_all_its_keys_and_is_accepted_again() -> None:
    for name in ("deep_network", "mean_field_resnet", "residual_flow", "residual_network", "random_resnet"):
        read = problem(parse(table(name, {}), ROOT / "cases" / "here.toml")).case
        assert parse(tomllib.loads(read.text()), ROOT / "cases" / "here.toml").sections == read.sections


def test_a_layer_with_a_law_of_its_own_must_lie_in_the_box_too() -> None:
    far = {"trained": ["v", "w"], "fixed": {"c": 0.0}, "w": {"law": "normal", "mean": 9.0, "std": 0.5}}
    with pytest.raises(CaseError, match=r"\[domain\] lower, upper: the domain holds 0\.0 %"):
        check("deep_network", {"model.layers": [{"trained": ["v", "w"], "fixed": {"c": 0.0}}, far]})


def test_what_a_box_holds_of_a_law() -> None:
    assert mass_between(Normal(1.0, 2.0), -1.0, 3.0) == pytest.approx(0.682689492, abs=1e-6)
    assert mass_between(Uniform(0.0, 2.0), 0.5, 9.0) == pytest.approx(0.75, abs=1e-4)
    assert mass_between(Normal(0.0, 1.0), 7.0, 8.0) == 0.0


def test_a_random_residual_network_is_checked_without_its_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[float]()

    def counted(*arguments: Any) -> Any:
        asked.append(arguments[-1][0])
        return np.array([[[1.5, 0.75], [0.75, 1.6]]])

    monkeypatch.setattr(random_resnet, "covariance_at", counted)
    described = problem(parse(table("random_resnet", {}), ROOT / "cases" / "here.toml"))
    assert not asked
    assert list(described.model.facts) == ["limit_K11", "limit_K22", "limit_K12"]
    assert not asked
    assert dict(described.model.facts) == {"limit_K11": 1.5, "limit_K22": 1.6, "limit_K12": 0.75}
    assert asked == [2.0]


def test_features_that_are_not_finite_on_a_mesh_are_named() -> None:
    model = mvpde.gradient_flow(["x"], features=["1/(x - 0.5)"], outer_energy="m0**2")
    with pytest.raises(ArgumentError, match="no finite number at some node"):
        mvpde.Density(model, mvpde.box([0.0], [1.0], [4]), mvpde.Product((Uniform(0.0, 1.0),)))
