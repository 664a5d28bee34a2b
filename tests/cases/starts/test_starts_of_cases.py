"""[initial] in every form: circles, patterns, coordinates together, files; each measure sees the same law."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ive

import mvpde
from mvpde.cases.file import load, parse
from mvpde.cases.measures import measures
from mvpde.cases.problem import Problem, problem
from mvpde.measure import Measure
from mvpde.models.laws import Product, Wrapped
from mvpde.runtime import MPI, CaseError

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[3] / "cases"
PLANE = {
    "model": {
        "kind": "mean_field",
        "coordinates": ["x", "v"],
        "drift": ["v", "-x"],
        "features": ["x"],
        "temperature": 0.5,
    },
    "domain": {"lower": [-6, -6], "upper": [6, 6], "cells": [40, 40]},
    "density": {"companions": 0},
    "ensemble": {"particles": 20000, "step": 0.1},
    "time": {"end": 0.1, "outputs": [0.0, 0.1]},
    "output": {"pictures": False, "sliced_wasserstein": False},
}
CIRCLE = {
    "model": {"kind": "mean_field", "coordinates": ["x"], "periods": {"x": "2*pi"}, "potential": "0*x", "temperature": 0.0},
    "domain": {"lower": ["-pi"], "upper": ["pi"], "cells": [256]},
    "density": {"companions": 0},
    "ensemble": {"particles": 40000, "step": 0.1},
    "characteristics": {"nodes": [64]},
    "time": {"end": 0.1, "outputs": [0.0, 0.1]},
    "output": {"pictures": False, "sliced_wasserstein": False},
}


def described(case: dict[str, Any], initial: dict[str, Any], folder: Path = Path()) -> Problem:
    return problem(parse({**case, "initial": initial}, folder / "case.toml"))


def built(case: dict[str, Any], initial: dict[str, Any], *names: str, folder: Path = Path()) -> dict[str, Measure]:
    return measures(described(case, initial, folder), names, MPI.COMM_SELF)


def waves(measure: Measure) -> complex:
    return complex(measure.expectation(lambda z: np.cos(z[:, 0]))[0], measure.expectation(lambda z: np.sin(z[:, 0]))[0])


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        ({"law": "normal", "mean": 0.0, "std": 1.2}, np.exp(-0.72)),
        ({"law": "normal", "mean": 2.5, "std": 1.3}, np.exp(2.5j - 0.845)),
        ({"law": "von_mises", "mean": 3.0, "concentration": 2.0}, np.exp(3j) * ive(1, 2.0) / ive(0, 2.0)),
        ({"law": "uniform", "lower": 3.0, "upper": 4.0}, (np.exp(4j) - np.exp(3j)) / 1j),
        ({"law": "expression", "density": "1 + sin(x)"}, 0.5j),
        ({"law": "point", "at": 9.0}, np.exp(9j)),
        (
            {
                "law": "mixture",
                "weights": [1, 3],
                "laws": [{"law": "point", "at": 1.0}, {"law": "normal", "mean": 4, "std": 0.5}],
            },
            0.25 * np.exp(1j) + 0.75 * np.exp(4j - 0.125),
        ),
    ],
    ids=lambda value: value["law"] if isinstance(value, dict) else "",
)
def test_every_measure_sees_the_law_on_the_circle(law: dict[str, Any], exact: complex) -> None:
    """E e^{ix}: the mesh lowers it by h²/6 at most, draws miss it by 4/√(2n), nodes by nothing where the law is smooth."""
    found = built(CIRCLE, {"x": law}, "density", "ensemble", "characteristics")
    assert abs(waves(found["density"]) - exact) < 2e-4
    assert abs(waves(found["ensemble"]) - exact) < 4.0 / np.sqrt(40_000)
    assert abs(waves(found["characteristics"]) - exact) < (5e-4 if law["law"] == "uniform" else 1e-9)


def test_the_kuramoto_case_begins_where_its_law_says() -> None:
    case = load(CASES / "kuramoto.toml", {"initial.x.std": 1.2, "density.companions": 0})
    density = measures(problem(case), ["density"], MPI.COMM_SELF)["density"]
    assert abs(waves(density)) == pytest.approx(np.exp(-0.72), abs=5e-6)


def test_coordinates_together(tmp_path: Path) -> None:
    covariance = [[0.5, 0.3], [0.3, 0.4]]
    initial = {"x, v": {"law": "correlated_normal", "mean": [1.0, 0.0], "covariance": covariance}}
    found = built(PLANE, initial, "density", "ensemble")
    for name, tolerance in (("density", 2e-3), ("ensemble", 0.02)):
        mean = found[name].expectation(lambda z: z[:, 0])[0]
        both = found[name].expectation(lambda z: z[:, 0] * z[:, 1])[0]
        assert (mean, both) == (pytest.approx(1.0, abs=tolerance), pytest.approx(0.3, abs=tolerance))
    swapped = described(PLANE, {"v x": {"law": "correlated_normal", "mean": [0.0, 1.0], "covariance": covariance}}).law
    z, w = swapped.quadrature([3, 3])
    np.testing.assert_allclose(w @ z, [1.0, 0.0], atol=1e-12)


def test_one_entry_for_all_coordinates_that_match() -> None:
    many = {"model": {"kind": "mean_field", "coordinates": ["y1", "y2", "c"], "potential": "y1**2+y2**2+c**2"}, **ONLY_PARTICLES}
    law = described(many, {"y*": {"law": "normal", "mean": 1.0, "std": 0.5}, "c": {"law": "point", "at": 2.0}}).law
    assert isinstance(law, Product)
    assert [factor.extent()[0] for factor in law.factors[:2]] == [-2.0, -2.0]
    law = described(many, {"*": {"law": "exponential", "scale": 2.0}, "c": {"law": "point", "at": 2.0}}).law
    assert isinstance(law, Product) and law.factors[0] == law.factors[1] != law.factors[2]
    own = described(many, {"*": {"law": "expression", "density": "exp(-z**4)"}}).law
    assert isinstance(own, Product) and own.quadrature([2, 2, 2])[1].sum() == pytest.approx(1.0)


ONLY_PARTICLES = {"ensemble": {"particles": 100, "step": 0.1}, "time": {"end": 0.1, "outputs": [0.1]}}


def test_samples_of_a_file_are_copied_and_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2)) @ np.array([[1.0, 0.5], [0.0, 0.5]])
    weights = rng.random(300)
    with (tmp_path / "start.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "v", "w"], *np.column_stack([points, weights]).tolist()])
    samples = {"law": "samples", "file": "start.csv"}
    found = built(PLANE, {"x, v": {**samples, "weights": "w"}}, "density", folder=tmp_path)["density"]
    exact = weights @ points / weights.sum()
    assert found.expectation(lambda z: z[:, 0])[0] == pytest.approx(exact[0], abs=1e-9)
    assert found.expectation(lambda z: z[:, 1])[0] == pytest.approx(exact[1], abs=1e-9)
    alone = described(PLANE, {"x": samples, "v": {**samples, "column": "x"}}, tmp_path).law
    assert isinstance(alone, Product)  # each column a law of its own
    (tmp_path / "case.toml").write_text(parse({**PLANE, "initial": {"x, v": samples}}, tmp_path / "case.toml").text())
    ended = mvpde.run(tmp_path / "case.toml", out=tmp_path / "run", without=["ensemble"]).summary["density"]
    assert (tmp_path / "run" / "inputs" / "start.csv").is_file()
    again = problem(load(tmp_path / "run" / "case.toml")).law
    assert again.dimension == 2
    # the last state of that run is where another begins, by its density, which is what it was on the same mesh
    last = built(PLANE, {"*": {"law": "run", "folder": "run"}}, "density", "ensemble", folder=tmp_path)
    assert last["density"].expectation(lambda z: z[:, 0])[0] == pytest.approx(ended["m0"][-1], rel=1e-9)
    assert last["ensemble"].expectation(lambda z: z[:, 0])[0] == pytest.approx(ended["m0"][-1], abs=0.05)


@pytest.mark.parametrize(
    ("case", "initial", "said"),
    [
        (
            PLANE,
            {"x": {"law": "von_mises", "mean": 0, "concentration": 1}},
            r'\[initial.x\] law: "von_mises" is a law on a circle',
        ),
        (PLANE, {"x, q": {"law": "correlated_normal", "mean": [0, 0], "covariance": [[1, 0], [0, 1]]}}, r"no such coordinate"),
        (PLANE, {"x": {"law": "correlated_normal", "mean": [0, 0], "covariance": [[1, 0], [0, 1]]}}, r"2 means.*names `x`"),
        (PLANE, {"x, v": {"law": "correlated_normal", "mean": [0, 0], "covariance": [[1, 2], [2, 1]]}}, r"positive definite"),
        (PLANE, {"x": {"law": "samples", "file": "none.csv"}}, r"\[initial.x\] file: .*none.csv"),
        (PLANE, {"*": {"law": "run", "folder": "none"}}, r"\[initial.\*\] folder: 'none/density.h5' holds no density"),
        (PLANE, {"x": {"law": "expression", "density": "exp(-q)"}}, r"\[initial.x\] unknown name 'q'"),
        (PLANE, {"x": {"law": "expression", "density": "x"}}, r"\[initial.x\] density: 'x' "),
        (PLANE, {"x": {"law": "mixture", "laws": []}}, r"\[initial.x\] laws: the list is empty"),
        (PLANE, {"x": {"law": "mixture", "laws": [{"law": "normal", "mean": 0}]}}, r"\[initial.x.laws\[0\]\] std: is missing"),
        (PLANE, {"x": {"law": "gamma", "shape": -1, "scale": 1}}, r"\[initial.x\] shape: -1 is not allowed"),
        (PLANE, {"x": {"law": "point", "at": 0}, "x v": {"law": "point", "at": 0}}, r"has a law in the entries"),
        (PLANE, {"x": {"law": "point", "at": 7.0}}, r"\[domain\] lower, upper: the domain holds 0.0 %"),
        (
            {**CIRCLE, "characteristics": {"nodes": [4]}},
            {"x": {"law": "expression", "density": "-1"}},
            r"\[initial.x\] density: '-1' is negative",
        ),
    ],
)
def test_what_is_no_start_is_refused_with_its_key(case: dict[str, Any], initial: dict[str, Any], said: str) -> None:
    others = {"v": {"law": "normal", "mean": 0.0, "std": 1.0}} if case is PLANE and list(initial) == ["x"] else {}
    with pytest.raises(CaseError, match=said):
        described(case, {**initial, **others})


def test_characteristics_of_a_cloud_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("x,v\n0,1\n1,2\n3,1\n")
    cold = {key: value for key, value in PLANE.items() if key != "density"}
    cold["model"] = {**PLANE["model"], "temperature": 0.0}
    cold["characteristics"] = {"nodes": [2, 2]}
    with pytest.raises(CaseError, match="without a quadrature by nodes in each of them; leave this measure out"):
        built(cold, {"x, v": {"law": "samples", "file": "s.csv"}}, "characteristics", folder=tmp_path)


def test_a_wrapped_law_is_also_a_base_measure() -> None:
    """V0 = −τ log m̂ has the period of the circle."""
    case = load(CASES / "circle_rbf_warm.toml", {"model.base_measure.y": {"law": "normal", "mean": 0.0, "std": 1.0}})
    model = problem(case).model
    z = np.array([[0.3, 0.1], [0.3 + 2 * np.pi, 0.1]])
    assert np.ptp(model.external_potential(z)) < 1e-10
    assert isinstance(problem(load(CASES / "kuramoto.toml")).law.marginals[0], Wrapped)  # type: ignore[attr-defined]


def test_deep_networks_need_a_law_of_each_weight() -> None:
    both = {"v, w": {"law": "correlated_normal", "mean": [0, 0], "covariance": [[1, 0], [0, 1]]}}
    given = load(CASES / "deep_network.toml").given["initial"]
    initial = {**{name: law for name, law in given.items() if name not in ("v", "w")}, **both}
    with pytest.raises(CaseError, match="needs a law of each weight of its own"):
        problem(load(CASES / "deep_network.toml", {"initial": initial}))
