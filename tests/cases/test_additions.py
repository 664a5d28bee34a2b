"""What a script adds to the tables of laws, kinds and sources is known to case files, also after the first of them was read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field

from mvpde.cases.file import load, parse
from mvpde.cases.kinds import KINDS, Given, Kind
from mvpde.cases.problem import problem, stationary_starts
from mvpde.cases.schema import ModelSection, Number
from mvpde.cases.sources import SOURCES, DataSet
from mvpde.models import data as datasets
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import LAWS, Array, Key, Normal, keys_of
from mvpde.models.mean_field import MeanField
from mvpde.runtime import CaseError

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[2] / "cases"
LAPLACE = {"law": "laplace", "centre": "1/2", "width": 1.0}


@dataclass(frozen=True)
class Laplace:
    """The law with density exp(−|z − centre|/width)/(2 width)."""

    centre: Annotated[float, Key("centre", 0.0)]
    width: Annotated[float, Key("scale of the decay, > 0", 1.0, above=0.0)]

    def density(self, z: Array) -> Array:
        return np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        return -np.abs(z - self.centre) / self.width - np.log(2.0 * self.width)

    def log_density_gradient(self, z: Array) -> Array:
        return -np.sign(z - self.centre) / self.width

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        return rng.laplace(self.centre, self.width, n)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        t, w = np.polynomial.laguerre.laggauss(n)
        return self.centre + self.width * np.concatenate([-t, t]), np.concatenate([w, w]) / 2.0

    def extent(self) -> tuple[float, float]:
        return self.centre - 20.0 * self.width, self.centre + 20.0 * self.width


@pytest.fixture
def laplace(monkeypatch: pytest.MonkeyPatch) -> None:
    load(CASES / "circle_rbf.toml")  # so that schemas are there already
    monkeypatch.setitem(LAWS, "laplace", Laplace)  # type: ignore[arg-type]


def test_a_law_is_known_at_the_start_in_base_measures_and_where_a_search_begins(laplace: None) -> None:
    c = problem(load(CASES / "circle_rbf_warm.toml", {"initial.c": LAPLACE, "model.base_measure.c": LAPLACE}))
    assert c.law.density(np.zeros((1, 2))) == pytest.approx(np.exp(-0.5) / 2.0 / (2.0 * np.pi))
    slope = c.model.external_gradient(np.array([[0.0, 2.0]]))[0, 1]
    assert slope == pytest.approx(c.model.temperature)  # of V0 = −τ log m̂ above the centre
    found = problem(load(CASES / "desai_zwanzig.toml", {"stationary.starts": [{"x": LAPLACE}]}))
    assert stationary_starts(found)[0].factors == (Laplace(0.5, 1.0),)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({"width": 0}, r"\[initial.c\] width: 0 is not allowed.*\(scale of the decay, > 0, for example width = 1.0\)"),
        ({"widht": 1.0}, r"\[initial.c\] widht: there is no such key; did you mean `width`"),
        ({"law": "laplac"}, r"\[initial\] c: law = \"laplac\" is not one of `uniform`, .*`laplace`.*did you mean `laplace`"),
    ],
)
def test_wrong_keys_of_an_added_law_are_said_as_those_of_others(laplace: None, law: dict[str, Any], said: str) -> None:
    with pytest.raises(CaseError, match=said):
        load(CASES / "circle_rbf.toml", {"initial.c": {**LAPLACE, **law}})


def test_a_law_may_be_a_plain_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAWS, "around", lambda centre: Normal(centre, 0.5))
    found = problem(load(CASES / "desai_zwanzig.toml", {"initial.x": {"law": "around", "centre": 0.2}}))
    assert found.law.factors == (Normal(0.2, 0.5),)  # type: ignore[attr-defined]
    with pytest.raises(CaseError, match=r"\[initial.x\] centre: is missing; add it \(a parameter of the law, for example"):
        load(CASES / "desai_zwanzig.toml", {"initial.x": {"law": "around"}})


def test_a_law_without_names_for_its_parameters_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAWS, "around", partial(Normal, std=0.5))
    with pytest.raises(ValueError, match="a law is a class or a function of its parameters, not functools.partial"):
        keys_of(LAWS["around"])
    with pytest.raises(CaseError, match='law = "around": a law is a class or a function'):
        load(CASES / "desai_zwanzig.toml", {"initial.x": {"law": "around", "mean": 0.2}})


class Brownian(ModelSection):
    """Free diffusion on the line. Nothing else."""

    speed: Number = Field(1.0, description="the diffusion constant", examples=[1.0])


def brownian(model: Brownian, given: Given) -> MeanField:
    return fokker_planck(("x",), drift=["0"], temperature=model.speed)


@pytest.mark.parametrize("late", [False, True])
def test_a_kind_of_model_is_known(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    table = {
        "model": {"kind": "brownian", "speed": 2.0},
        "initial": {"x": {"law": "normal", "mean": 0.0, "std": 1.0}},
        "time": {"end": 1.0},
    }
    if late:
        with pytest.raises(CaseError, match=r"\[model\] kind: 'brownian' is not one of `network`"):
            parse(table, CASES / "mine.toml")
    monkeypatch.setitem(KINDS, "brownian", Kind(Brownian, brownian))
    assert KINDS.sentence("brownian") == "Free diffusion on the line. Nothing else."
    assert problem(parse(table, CASES / "mine.toml")).model.coordinates == ("x",)
    with pytest.raises(CaseError, match=r"\[model\] sped: .*did you mean `speed`"):
        parse({**table, "model": {"kind": "brownian", "sped": 1.0}}, CASES / "mine.toml")


class OnePoint(DataSet):
    """The single point 0."""

    value: Number = Field(description="the target there", examples=[1.0])

    def read(self, directory: Path, content: Any) -> datasets.Data:
        return datasets.points([0.0], [self.value])


def test_a_source_of_data_is_known_to_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    load(CASES / "circle_rbf.toml")
    monkeypatch.setitem(SOURCES, "one_point", OnePoint)
    made = problem(load(CASES / "circle_rbf.toml", {"data": {"source": "one_point", "value": 3.0}}))
    assert made.data is not None and made.data.target.tolist() == [3.0]
