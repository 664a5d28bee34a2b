"""A case file is accepted whole or refused with one message that names section, key and remedy, before anything is computed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mvpde.cases import schema as sections
from mvpde.cases.file import assignments, changed, load, parse
from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import chosen_measures, measures
from mvpde.cases.messages import described, sections_in, toml_value
from mvpde.cases.problem import problem
from mvpde.cases.sources import HeldOut
from mvpde.models import data as datasets
from mvpde.models.units import UNITS, circle_rbf
from mvpde.runtime import MPI, CaseError

CASES = Path(__file__).parents[2] / "cases"
DISC = str(CASES.parent / "meshes" / "disc.msh")
COLD, WARM, MIXTURE, FIT = "circle_rbf", "circle_rbf_warm", "gaussian_mixture", "sigmoid_regression"
DOUBLE = "desai_zwanzig"
TURNING = "kuramoto_frequencies"
RESIDUAL = "mean_field_resnet"
NORMAL = {"law": "normal", "mean": 0.0, "std": 1.0}

TABLES = {"ragged.csv": "t,e\n1,2\n3\n5,6\n", "nan.csv": "t,e\n1,2\n3,nan\n", "word.csv": "t,e\n1,2\n3,abc\n", "empty.csv": ""}
COLUMNS = {"data.inputs": ["t"], "data.output": "e"}

# (case, what is changed, what the message must say: section and key, then the remedy)
WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    (WARM, {"model.temprature": 1}, ["[model] temprature", "did you mean `temperature`"]),
    (WARM, {"ensembel.particles": 5}, ["[ensembel]", "did you mean `ensemble`"]),
    (WARM, {"boundary.x": 1}, ["[boundary]", "walls are a key of [domain]"]),
    (WARM, {"time.annealing": [[1.0]]}, ["[time] annealing[0]: the list has 1 of at least 2 entries"]),
    (DOUBLE, {"domain.periodic": [True]}, ["[domain] periodic", "`x` has no period; give it one in [model]", "periods = { x ="]),
    (WARM, {"titel": "x"}, ["titel", "did you mean `title`"]),
    (WARM, {"title": 5}, ["title", "it must be a text in quotes"]),
    (WARM, {"model": 5}, ["[model]", "add it with `kind`", "`network`"]),
    (WARM, {"time": 5}, ["[time]", "must be a section"]),
    (WARM, {"initial.c": 3}, ["[initial] c: must be a section", "write [initial.c] and its keys below it"]),
    (WARM, {"initial.c": {"law": ["a"]}}, ["[initial] c: law = \"['a']\" is not one of `uniform`, `normal`"]),
    (WARM, {"initial.c": {"law": {"a": 1}}}, ["[initial] c: law = \"{'a': 1}\" is not one of `uniform`"]),
    (WARM, {"initial.c": {"law": 3}}, ['[initial] c: law = "3" is not one of `uniform`']),
    (WARM, {"initial.c": {"mean": 3}}, ["[initial] c: `law` is missing or not one of `uniform`"]),
    (WARM, {"model.base_measure.c": {"law": ["a"]}}, ["[model.base_measure] c: law = \"['a']\" is not one of"]),
    (WARM, {"initial.lower": 3}, ["[initial] lower: must be a section", "write [initial.lower] and its keys below it"]),
    (WARM, {"initial.normal": {"law": "normal", "mean": 0.0}}, ["[initial.normal] std: is missing"]),
    (DOUBLE, {"stationary.starts": [{"x": 3}]}, ["[stationary.starts[0]] x: must be a section", "write x = { law ="]),
    (DOUBLE, {"stationary.starts": [{"x": {"law": {"a": 1}}}]}, ["[stationary.starts[0]] x: law = ", "is not one of"]),
    (DOUBLE, {"stationary.starts": [{"law": 3}]}, ["[stationary.starts[0]] law: must be a section"]),
    (DOUBLE, {"stationary.starts": [["a"]]}, ["[stationary] starts[0][0]: ", "unknown name 'a'"]),
    (WARM, {"model.kind": "netwrok"}, ["[model] kind", "did you mean `network`"]),
    (WARM, {"model.unit": "circel_rbf"}, ["[model] unit", "did you mean `circle_rbf`"]),
    (WARM, {"model.unit": 3}, ["[model] unit", "it must be a text", 'for example unit = "circle_rbf"']),
    (WARM, {"model.temperature": -1}, ["[model] temperature: -1", "≥ 0"]),
    (WARM, {"model.temperature": "hot"}, ["[model] temperature", "unknown name 'hot'", "for example temperature = 0.05"]),
    (WARM, {"model.temperature": True}, ["[model] temperature: true", "number"]),
    (WARM, {"model.temperature": float("nan")}, ["[model] temperature: nan", "finite"]),
    (WARM, {"model.loss": "logistics"}, ["[model] loss", "did you mean `logistic`"]),
    (WARM, {"model.loss": "logistic"}, ["[model]", "loss 'logistic'", "targets +1 or -1"]),
    (WARM, {"model.unit_parameters": {"kapa": 2.0}}, ["[model] unit_parameters", "did you mean `kappa`"]),
    (WARM, {"model.bias": True}, ["[model] bias", "remove the key"]),
    (WARM, {"model.base_measure": {"c": NORMAL}}, ["[model.base_measure] y", "is missing; add y ="]),
    (WARM, {"initial.c": {"law": "chi", "scale": 1.0}}, ["[initial] c", "`chi` needs `dimension`", "for example dimension = 40"]),
    (WARM, {"model.base_measure.c": {"law": "chi", "scale": 1.0}}, ["[model.base_measure] c", "`chi` needs `dimension`"]),
    (WARM, {"model.base_measure.y": {"law": "point", "at": 0.0}}, ["[model] base_measure", "needs the density of a law"]),
    (WARM, {"data.source": "cricle"}, ["[data] source", "did you mean `circle`"]),
    (WARM, {"data.points": 0}, ["[data] points", "from 1 to 100000"]),
    (WARM, {"data.points": 10**9}, ["[data] points", "from 1 to 100000"]),
    (WARM, {"data.target": "cos(x"}, ["[data] target", "not closed at column 5"]),
    (WARM, {"data.target": "log(x)"}, ["[data] target", "data point 1", "not a finite number", "choose a target that is finite"]),
    (WARM, {"initial.y": {"law": "unifrom"}}, ["[initial] y", "did you mean `uniform`"]),
    (WARM, {"initial.c": {"law": "chii"}}, ["[initial] c", "`uniform`, `normal`, `chi`", "did you mean `chi`"]),
    (WARM, {"initial.z": NORMAL}, ["[initial] z", "no such coordinate", "`y`, `c`"]),
    (WARM, {"initial.c": {"law": "normal", "mean": 0.0}}, ["[initial.c] std", "is missing; add it"]),
    (WARM, {"initial.c": {"law": "normal", "mean": 0.0, "std": 0.0}}, ["[initial.c] std", "> 0"]),
    (WARM, {"initial.c": {"law": "uniform", "lower": 1.0, "upper": 0.0}}, ["[initial] c", "exchange or correct"]),
    (WARM, {"domain.cells": [0, 64]}, ["[domain] cells[0]: 0", "whole numbers ≥ 1"]),
    (WARM, {"domain.cells": [64.0, 64]}, ["[domain] cells[0]: 64.0", "it must be a whole number"]),
    (WARM, {"domain.cells": "64"}, ["[domain] cells", "list", "for example cells = [128, 128]"]),
    (WARM, {"domain.cells": [64]}, ["[domain]", "`cells` has 1", "one entry per direction"]),
    (WARM, {"domain.lower": [0.0, 7.0]}, ["[domain]", "lower[1] = 7", "exchange or correct"]),
    (WARM, {"domain.upper": [6.0, 6.0]}, ["[domain] upper", "period", "choose upper = lower + 6.283"]),
    (WARM, {"domain.periodic": [False, False]}, ["[domain] periodic", "write true in entry 0"]),
    (WARM, {"domain.upper": ["2*pi", 0.1]}, ["[domain]", "% of the initial law", "enlarge it"]),
    (WARM, {"domain.mesh": DISC}, ["[domain]", "`mesh` and `lower` exclude each other", "remove"]),
    (WARM, {"domain": {"mesh": DISC}}, ["[domain] periodic", "make the mesh periodic in Gmsh"]),
    (FIT, {"domain": {"mesh": DISC}}, ["[domain] mesh", "dimension 2", "3 coordinates", "give a mesh"]),
    (FIT, {"domain": {"mesh": "nowhere.msh"}}, ["[domain] mesh", "no file"]),
    (WARM, {"density.scheme": "flux_correct"}, ["[density] scheme", "did you mean `flux_corrected`"]),
    (COLD, {"density.scheme": "edge_averaged"}, ["[density] scheme", 'use "flux_corrected" or "auto"']),
    (WARM, {"density.cfl": 2}, ["[density] cfl: 2", "in (0, 1]"]),
    (WARM, {"ensemble.particles": 0}, ["[ensemble] particles: 0", "≥ 1"]),
    (WARM, {"ensemble.particles": 1e5}, ["[ensemble] particles", "whole number"]),
    (WARM, {"ensemble.seed": -1}, ["[ensemble] seed", "≥ 0"]),
    (WARM, {"ensemble.scheme": "huen"}, ["[ensemble] scheme", "did you mean `heun`"]),
    (WARM, {"ensemble.step": 0}, ["[ensemble] step", "> 0"]),
    (COLD, {"characteristics.nodes": [128]}, ["[characteristics] nodes", "one number per coordinate"]),
    (COLD, {"characteristics.nodes": [128, 0]}, ["[characteristics] nodes[1]: 0", "≥ 1"]),
    (COLD, {"characteristics.tolerance": 1}, ["[characteristics]", "tolerance", "(0, 0.01]"]),
    (WARM, {"time.end": 0}, ["[time] end", "> 0"]),
    (WARM, {"time.end": float("inf")}, ["[time] end", "finite"]),
    (WARM, {"time.outputs": [0, 3, 2]}, ["[time] outputs", "sort them"]),
    (WARM, {"time.outputs": [0, 30]}, ["[time] outputs", "remove it or change `end`"]),
    (WARM, {"time.outputs": 0}, ["[time] outputs", "whole number ≥ 1 or a list"]),
    (WARM, {"time.outputs": []}, ["[time] outputs", "give at least one time"]),
    (WARM, {"output.particles": -1}, ["[output] particles", "≥ 0"]),
    (FIT, {"data.file": "nowhere.csv"}, ["[data] file", "nowhere.csv", "relative to the case file"]),
    (
        FIT,
        {"data.file": "ragged.csv", **COLUMNS},
        ["[data] file", "line 3", "1 fields where the header has 2", "correct the file"],
    ),
    (FIT, {"data.file": "nan.csv", **COLUMNS}, ["[data] file", "line 3, column 'e'", "not a finite number", "correct the file"]),
    (
        FIT,
        {"data.file": "word.csv", **COLUMNS},
        ["[data] file", "line 3, column 'e'", "'abc' is not a number", "correct the file"],
    ),
    (FIT, {"data.file": "empty.csv"}, ["[data] file", "no columns called 'temperature'"]),
    (FIT, {"data.inputs": ["temperatur"]}, ["[data] file", "did you mean 'temperature'", "`inputs`"]),
    (FIT, {"data.inputs": []}, ["[data] inputs", "the list is empty"]),
    (MIXTURE, {"data.variances": [0.5, 1.0]}, ["[data]", "`variances` has 2", "one entry per Gaussian"]),
    (MIXTURE, {"data.variances": [0.5, -1.0, 1.0]}, ["[data] variances[1]: -1.0", "> 0"]),
    (MIXTURE, {"model.unit_variance": 1e-8}, ["[model]", "unit_variance", "too small"]),
    (
        TURNING,
        {"model.drift": ["omega", "sin(theta)"]},
        ["[model] drift", "frozen coordinate `omega` must be 0", 'write "0" there'],
    ),
    (RESIDUAL, {"model.trained": []}, ["[model]", "trained is empty", "name at least one of v, w, c"]),
    (RESIDUAL, {"model.fixed": {}}, ["[model]", "c is neither trained nor fixed", "add fixed = { c = 0.0 }"]),
    (RESIDUAL, {"model.unit": "tanhh"}, ["[model] unit", "did you mean `tanh`"]),
    (RESIDUAL, {"data.x": [[0.0, 1.0], [1.0, 2.0]], "data.target": [0.0, 1.0]}, ["2 inputs", "one"]),
    (RESIDUAL, {"labels.s": 0}, ["[labels] s: 0", "from 1 to 1000"]),
    (RESIDUAL, {"labels.rule": "midpoint"}, ["[labels] rule", "did you mean `midpoints`"]),
    (RESIDUAL, {"network.mode": "sgd"}, ["[network]", '"sgd" is not one of `descent`, `heun`']),
    (RESIDUAL, {"ensemble.particles": 10}, ["[ensemble]", "write [network] with `layers` and `width`"]),
    (RESIDUAL, {"spectrum": {}}, ["[spectrum]", "remove it"]),
    (RESIDUAL, {"density.scheme": "galerkin"}, ["[density] scheme", "flux_corrected"]),
    (RESIDUAL, {"time.annealing": [[1.0, 0.1]]}, ["[time]", "remove `annealing`"]),
    (TURNING, {"model.frozen": ["omga"]}, ["[model] frozen", "no coordinate `omga`"]),
    (TURNING, {"labels": {"omga": 8}}, ["[labels] omga", "did you mean `omega`"]),
    (TURNING, {"labels": {"omega": 0}}, ["[labels] omega: 0"]),
    (TURNING, {"labels": {}}, ["[labels] omega: is missing", "omega = 24"]),
    (DOUBLE, {"labels": {"x": 8}}, ["[labels] x", "[model] frozen"]),
    (TURNING, {"domain.cells": [64, 64], "domain.lower": [0, 0], "domain.upper": [1, 1]}, ["1 coordinates that move", "`theta`"]),
]


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A folder with the shipped cases, their data, and tables that are wrong."""
    for path in CASES.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "copper.csv").write_bytes((CASES / "data" / "copper.csv").read_bytes())
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def prepare(path: Path, overrides: dict[str, Any]) -> None:
    """Everything that happens before the first time step, without the particles."""
    setting = problem(load(path, overrides))
    measures(setting, [name for name in chosen_measures(setting) if name != "ensemble"], MPI.COMM_SELF)


@pytest.mark.parametrize(("name", "overrides", "said"), WRONG, ids=[f"{'-'.join(w[1])}-{i}" for i, w in enumerate(WRONG)])
def test_what_is_wrong_is_said_with_section_key_and_remedy(
    cases: Path, gmsh_library: None, name: str, overrides: dict[str, Any], said: list[str]
) -> None:
    path = cases / f"{name}.toml"
    with pytest.raises(CaseError) as refusal:
        prepare(path, overrides)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ") and message.count(str(path)) == 1
    for text in said:
        assert text in message
    assert len(message.splitlines()) == 1


def test_all_wrong_keys_are_said_at_once(cases: Path) -> None:
    with pytest.raises(CaseError) as refusal:
        load(cases / "circle_rbf.toml", {"model.temperature": -1, "ensemble.particles": 0})
    assert [line.split(": ")[-2] for line in str(refusal.value).splitlines()] == ["[model] temperature", "[ensemble] particles"]


@pytest.mark.parametrize("section", ["model", "data", "initial", "time"])
def test_a_section_that_every_case_needs(cases: Path, section: str) -> None:
    table = tomllib.loads((cases / "circle_rbf.toml").read_text())
    del table[section]
    with pytest.raises(CaseError, match=rf"\[{section}\].*missing; add it"):
        parse(table, cases / "circle_rbf.toml")


def test_a_density_needs_a_domain_and_a_run_needs_a_measure(cases: Path) -> None:
    path = cases / "circle_rbf.toml"
    table = tomllib.loads(path.read_text())
    del table["domain"]
    with pytest.raises(CaseError, match=r"\[domain\].*missing.*`lower`, `upper` and `cells`, or a `mesh`"):
        problem(parse(table, path))
    del table["density"]
    assert chosen_measures(problem(parse(table, path))) == ["characteristics", "ensemble"]
    with pytest.raises(CaseError, match="no measure is left"):
        chosen_measures(problem(parse(table, path)), ["characteristics", "ensemble"])
    with pytest.raises(CaseError, match="--without ensembel.*did you mean `ensemble`"):
        chosen_measures(problem(parse(table, path)), ["ensembel"])


def test_files_that_are_no_case(tmp_path: Path) -> None:
    (tmp_path / "circle.toml").write_text("a = [1")
    with pytest.raises(CaseError, match="not valid TOML: Unclosed array"):
        load(tmp_path / "circle.toml")
    with pytest.raises(CaseError, match="no such case file; did you mean `circle.toml`"):
        load(tmp_path / "cirle.toml")
    with pytest.raises(CaseError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("name", [COLD, WARM, MIXTURE, FIT])
def test_a_resolved_case_says_the_same(name: str) -> None:
    """`case.toml` in a run's folder: every default written out, and nothing changed by reading it again."""
    case = problem(load(CASES / f"{name}.toml")).case
    again = parse(tomllib.loads(case.text()), case.path)
    assert again.sections == case.sections
    assert case.sections.output.projections == 32 and "projections = 32" in case.text()


def test_settings_replace_and_add() -> None:
    settings = assignments(
        ["domain.cells=[64,64]", "model.temperature=0.2", "ensemble.particles=1000", "title=two words", "data.target=cos(x)"]
    )
    case = load(CASES / "circle_rbf_warm.toml", settings)
    s: Any = case.sections
    assert (s.domain.cells, s.model.temperature, s.ensemble.particles) == ([64, 64], 0.2, 1000)
    assert (s.title, s.data.target) == ("two words", "cos(x)")
    with pytest.raises(CaseError, match="section.key=value"):
        assignments(["domain.cells"])
    with pytest.raises(CaseError, match="`title` is a value"):
        load(CASES / "circle_rbf.toml", {"title.x": 1})


def test_changes_of_a_case_leave_its_defaults_free() -> None:
    """Output times are equal parts of the end, wherever that is changed, and a period makes the domain periodic."""
    path = CASES / "kuramoto.toml"
    case = load(path)
    shorter, again = changed(case, {"time.end": 5.0}), changed(problem(case).case, {"time.end": 5.0})
    assert shorter.sections == again.sections == load(path, {"time.end": 5.0}).sections
    assert shorter.sections.time.outputs[-1] == 5.0
    assert changed(shorter, {"title": "x"}).table() == {**shorter.table(), "title": "x"}
    assert load(path) == case


def test_a_number_of_outputs_means_equal_intervals() -> None:
    case = load(CASES / "circle_rbf.toml", {"time.outputs": 4, "time.end": "2*pi"})
    assert case.sections.time.outputs == pytest.approx(
        [0.0, 1.5707963267948966, 3.141592653589793, 4.71238898038469, 6.283185307179586]
    )
    assert case.sections.time.outputs[-1] == case.sections.time.end


def test_at_positive_temperature_characteristics_are_left_out() -> None:
    setting = problem(load(CASES / "circle_rbf.toml", {"model.temperature": 0.1}))
    assert chosen_measures(setting) == ["density", "ensemble"]


def test_a_base_measure_at_zero_temperature_does_nothing() -> None:
    setting = problem(load(CASES / "circle_rbf_warm.toml", {"model.temperature": 0, "density.scheme": "auto"}))
    z = setting.law.quadrature([4, 4])[0]
    assert not setting.model.external_potential(z).any() and not setting.model.external_gradient(z).any()


@pytest.mark.parametrize(
    ("changes", "reach"),
    [
        ({}, 7.0),
        ({"domain.lower": [-9.0, -6.0]}, 9.0),
        ({"initial.y": {"law": "normal", "mean": -4.0, "std": 1.0}, "domain.lower": [-12, -6]}, 12.0),
    ],
)
def test_the_mixture_keeps_its_kernel_wherever_the_case_goes(changes: dict[str, Any], reach: float) -> None:
    """The quadrature of K reaches over target, initial law and domain: 6 unit widths beyond (see `trapezoid`)."""
    data = problem(load(CASES / "gaussian_mixture.toml", changes)).model.data
    assert data is not None
    assert data.x.max() >= reach + 6.0 * 0.5**0.5
    assert data.x.max() < reach + 6.0 * 0.5**0.5 + 0.5


def documented(schema: type[sections.Section]) -> list[str]:
    """The rows of a section's table in docs/cases.md."""
    rows = []
    for name, field in schema.model_fields.items():
        default = "required" if field.is_required() else "" if field.default is None else f"`{toml_value(field.default)}`"
        if name not in ("kind", "source"):  # these choose the table
            description = described(field).replace("|", "\\|")
            rows.append(f"| `{name}` | {description} | {default} |")
    return rows


def tables() -> dict[str, type[sections.Section]]:
    """Heading of docs/cases.md → the section that its table describes."""
    found = {f'`kind = "{name}"`': kind.schema for name, kind in KINDS.items()}
    for kind in KINDS.values():
        found |= {f'`source = "{name}"`': schema for name, schema in kind.sources.items() if not issubclass(schema, HeldOut)}
    found["Points held out"] = HeldOut
    for name, field in sections.CaseSections.model_fields.items():
        schemas = sections_in(field.annotation)
        if schemas and name not in ("model", "data", "initial"):
            found[f"`[{name}]`"] = schemas[0]
    return found


@pytest.mark.parametrize("heading", tables())
def test_every_key_is_documented_as_it_is(heading: str) -> None:
    parts = re.split(r"^##+ ", (CASES.parent / "docs" / "cases.md").read_text(), flags=re.MULTILINE)
    lines = [line for part in parts if part.startswith(heading + "\n") for line in part.splitlines()]
    assert lines, f"docs/cases.md has no part {heading}"
    assert [line for line in lines if line.startswith("| `")] == documented(tables()[heading])


def test_a_value_in_a_message_is_read_back() -> None:
    table = {"a": 'quote " back\\slash\n', "s": {"x": [1, 2.5e-300, True], "inner": {"ρ": "ü", "b c": [{"d": 1}]}}, "empty": {}}
    assert "\n" not in toml_value(table)
    assert tomllib.loads(f"x = {toml_value(table)}")["x"] == table


def test_what_a_script_adds_after_the_first_case_is_known_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model.unit": "mine", "model.unit_parameters": {}, "initial": {"y": NORMAL, "c": NORMAL}}
    with pytest.raises(CaseError, match="`mine`|'mine'|\"mine\""):
        load(CASES / "circle_rbf.toml", changes)
    monkeypatch.setitem(UNITS, "mine", circle_rbf)  # type: ignore[arg-type]
    monkeypatch.setitem(datasets.TARGETS, "my_target", "cos(2*x)")
    case = load(CASES / "circle_rbf.toml", {**changes, "data.target": "my_target"})
    assert case.table()["model"]["unit"] == "mine"
    with pytest.raises(CaseError, match="one of sigmoid.*, mine"):
        load(CASES / "circle_rbf.toml", {"model.unit": 3})
