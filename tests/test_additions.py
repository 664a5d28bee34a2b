"""The worked examples of CONTRIBUTING.md: each runs as a script outside the package, and a case or study then uses it."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvpde
from at_hand.additions import put_back
from at_hand.models import order
from at_hand.studies import compute_here, entries
from mvpde.cases.additions import import_additions
from mvpde.cases.file import load
from mvpde.cases.kinds import KINDS, Given
from mvpde.cases.problem import problem
from mvpde.density.density import Density
from mvpde.density.schemes import SCHEMES
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import EXIT_USAGE, MPI, CaseError
from mvpde.studies.laws import TASKS
from mvpde.studies.points import main as compute_point
from mvpde.studies.runner import plan, prepare

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[1]
CASES = ROOT / "cases"
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### ([^\n]*)\n(?:(?!^##).)*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CIRCLE = """
[model]
kind = "network"
unit = "circle_rbf"
[data]
source = "circle"
points = 8
target = "cos(x)"
[initial]
y = { law = "uniform", lower = 0, upper = "2*pi" }
c = { law = "normal", mean = 0.0, std = 0.7 }
[ensemble]
particles = 200
step = 0.1
[time]
end = 0.2
outputs = [0, 0.2]
[output]
pictures = false
"""
TRAP = """
[model]
kind = "trap"
stiffness = 2.0
temperature = 0.5
[initial]
x = { law = "normal", mean = 0.0, std = 0.5 }
[domain]
lower = [-4]
upper = [4]
cells = [64]
[density]
[ensemble]
particles = 2000
runs = 4
step = 0.1
[time]
end = 1.0
outputs = [0, 1]
[output]
pictures = false
sliced_wasserstein = false
"""


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back():
        yield


@pytest.fixture
def add(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Runs the example below a heading as a script of its own."""

    def run(heading: str) -> dict[str, Any]:
        script = tmp_path / "addition.py"
        script.write_text(EXAMPLES[heading], encoding="utf-8")
        return runpy.run_path(str(script))

    return run


def computed(folder: Path, text: str, **changes: Any) -> dict[str, Any]:
    """The summary of a case."""
    path = folder / "case.toml"
    path.write_text(text, encoding="utf-8")
    return mvpde.run(path, set={key.replace("__", "."): value for key, value in changes.items()}, out=folder / "run").summary


def test_every_row_of_the_table_has_an_example_or_says_how() -> None:
    rows = re.findall(r"^\| \[([^\]]*)\]\(#([^)]*)\)", PAGE, re.MULTILINE)
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert [anchor.replace("-", " ") for _, anchor in rows] == [heading.lower() for heading in headings]
    assert [name.capitalize() for name, _ in rows] == headings
    assert set(headings) - set(EXAMPLES) == {"A boundary condition", "An output format"}


def test_a_unit(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    add("A unit")
    summary = computed(tmp_path, CIRCLE, model__unit="cosine", model__unit_parameters={"frequency": 2.0})
    assert summary["ensemble"]["loss"][1] < summary["ensemble"]["loss"][0]


def test_a_loss(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    add("A loss")
    summary = computed(tmp_path, CIRCLE, model__loss="pseudo_huber")
    assert summary["ensemble"]["loss"][1] < summary["ensemble"]["loss"][0]


def test_an_activation(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """Every kind that can take it does: trained layers, SGD, blocks, random networks with σ_w²E φ'² = 1 on the critical line."""
    add("An activation")
    small = {"labels.s": 3, "characteristics.nodes": [3, 3], "time.end": 0.5, "time.outputs": [0.0, 0.5]}
    resnet = load(CASES / "mean_field_resnet.toml", {"model.unit": "algebraic", **small})
    losses = mvpde.run(resnet, out=tmp_path / "a", without=["density", "network"]).summary["characteristics"]["loss"]
    assert losses[1] < losses[0]
    point = mvpde.fixed_point("algebraic", float(mvpde.critical_line("algebraic", [0.05])[0]), 0.05)
    assert point.chi == pytest.approx(1.0, abs=1e-9) and point.c == pytest.approx(1.0, abs=1e-4)
    problem(load(CASES / "sgd_neuron.toml", {"model.unit": "algebraic"}))
    problem(load(CASES / "residual_flow.toml", {"model.activation": "algebraic"}))
    problem(load(CASES / "deep_network.toml", {"model.output": "algebraic"}))


def test_a_law_of_one_coordinate(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """Samples and quadrature have the variance π²/3 of the law: to four standard errors, and to the mass of the last points."""
    law = add("A law of one coordinate")["Logistic"](1.0, 1.0)
    variance, n = np.pi**2 / 3.0, 100_000
    z = law.sample(np.random.default_rng(0), n)
    assert abs(np.mean((z - 1.0) ** 2) - variance) < 4.0 * variance * np.sqrt(3.2 / n)  # Var (z − 1)² = 3.2 variance²
    points, weights = law.quadrature(1000)
    assert weights @ (points - 1.0) ** 2 == pytest.approx(variance, rel=0.02)
    h = 1e-5
    assert (law.log_density(z[:50] + h) - law.log_density(z[:50] - h)) / (2 * h) == pytest.approx(
        law.log_density_gradient(z[:50]), abs=1e-8
    )
    computed(tmp_path, CIRCLE, initial__c={"law": "logistic", "mean": 0.0, "scale": 0.3})


def test_a_kind_of_model(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """⟨x²⟩ = τ/k + (σ² − τ/k) e^{−2kt}: here it starts in equilibrium and stays."""
    add("A kind of model")
    summary = computed(tmp_path, TRAP)
    assert summary["density"]["square"] == pytest.approx([0.25, 0.25], rel=0.02)
    assert summary["ensemble"]["square"][1] == pytest.approx(0.25, abs=4.0 * 0.25 * np.sqrt(2.0 / 8000) + 0.01)


def test_a_kind_with_a_measure_of_its_own(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """⟨x²⟩ = τ/k + (σ² − τ/k) e^{−2kt} by its own measure, and the density beside it; other kinds have no such section."""
    add("A kind with a measure of its own")
    spring = TRAP.replace("trap", "spring").replace("std = 0.5", "std = 1.0") + "\n[exact]\nnodes = 200\n"
    summary = computed(tmp_path, spring)
    exact = 0.25 + 0.75 * np.exp(-4.0)
    assert summary["exact"]["nodes"] == 200 and summary["exact"]["square"][1] == pytest.approx(
        exact, rel=0.01
    )  # points by quantiles
    assert summary["density"]["square"][1] == pytest.approx(exact, rel=0.02)
    add("A kind of model")
    with pytest.raises(CaseError, match="exact"):
        computed(tmp_path, spring.replace("spring", "trap"))


def test_a_density_scheme(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """Of the order that it declares, known to case files, and refused where it says so."""
    add("A kind of model")
    add("A density scheme")
    summary = computed(tmp_path, TRAP, density__scheme="upwind")
    assert summary["density"]["scheme"] == "upwind" and summary["density"]["mass_defect"] < 1e-12
    kind, errors = KINDS["trap"], []
    model = kind.build(kind.schema(kind="trap", stiffness=2.0, temperature=0.5), Given(None, None))
    for cells in (64, 128, 256):
        domain = box([-4.0], [4.0], [cells], comm=MPI.COMM_SELF)
        density = Density(model, domain, Product((Normal(0.3, 0.5),)), scheme="upwind")
        density.advance(0.5)
        errors.append(abs(density.expectation(lambda z: z[:, 0] ** 2)[0] - (0.25 + 0.09 * np.exp(-2.0))))
    assert order(errors) == pytest.approx(SCHEMES["upwind"].order, abs=0.2)


def test_a_particle_scheme(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    """Order 2 at temperature 0."""
    add("A kind of model")
    add("A particle scheme")
    computed(tmp_path, CIRCLE, ensemble__scheme="midpoint")
    model = add("An observable")["gradient_flow"](["x"], potential="x**2/2")
    ends = []
    for step in (0.1, 0.05, 0.025):
        particles = Ensemble(model, Product((Normal(1.0, 0.1),)), particles=10, step=step, scheme="midpoint", comm=MPI.COMM_SELF)
        start = particles.cloud()[0]
        particles.advance(1.0)
        ends.append(float(np.max(np.abs(particles.cloud()[0] - start * np.exp(-1.0)))))
    assert order(ends) == pytest.approx(2.0, abs=0.1)


def test_an_observable(add: Callable[[str], dict[str, Any]]) -> None:
    model = add("An observable")["model"]
    particles = Ensemble(model, Product((Normal(0.0, 1.0),)), particles=1000, comm=MPI.COMM_SELF)
    assert 0.0 < particles.expectation(model.observables["inside"])[0] < 1.0


def test_a_limit_law(tmp_path: Path, add: Callable[[str], dict[str, Any]]) -> None:
    add("A kind of model")
    add("A limit law")
    path = spread_study(tmp_path)
    compute_here(path, tmp_path / "out")
    (verdict,) = entries(tmp_path / "out")
    assert verdict["holds"] == "holds" and 1.0 <= verdict["measured"] <= 2.5


def spread_study(folder: Path) -> Path:
    """A study of the example "A limit law"."""
    (folder / "case.toml").write_text(TRAP, encoding="utf-8")
    study = """
title = "fluctuations of free particles"
base = "case.toml"
task = "spread"
[set]
"ensemble.runs" = 100
[vary]
"ensemble.particles" = [20, 80]
[measure]
kind = "inverse"
x = "ensemble.particles"
factor = 2.5
"""
    (folder / "study.toml").write_text(study, encoding="utf-8")
    return folder / "study.toml"


def test_points_of_a_study_know_a_task_and_a_kind_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The points are processes of their own: what their environment names, they import."""
    module = tmp_path / "my_laws.py"
    module.write_text(EXAMPLES["A kind of model"] + EXAMPLES["A limit law"], encoding="utf-8")
    monkeypatch.setenv("MVPDE_ADDITIONS", str(module))
    mvpde.study(spread_study(tmp_path), out=tmp_path / "out")
    assert entries(tmp_path / "out")[0]["holds"] == "holds"


def test_a_task_that_a_point_does_not_know(
    tmp_path: Path, add: Callable[[str], dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    """One message, which says how points come to know it."""
    add("A kind of model")
    add("A limit law")
    progress = plan(spread_study(tmp_path), tmp_path / "out")
    prepare(progress)
    del TASKS["spread"]
    assert compute_point([str(tmp_path / "out"), "0"]) == EXIT_USAGE
    assert capfd.readouterr().err.startswith("mvpde: there is no task 'spread'; ")
    progress.look(0)
    assert "MVPDE_ADDITIONS" in progress.states[0].message


def command_line(folder: Path, additions: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mvpde` in a folder, with MVPDE_ADDITIONS."""
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "MVPDE_ADDITIONS": additions, "PYTHONPATH": path}
    command = [sys.executable, "-m", "mvpde", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_command_line_knows_a_unit_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "my_units.py").write_text(EXAMPLES["A unit"], encoding="utf-8")
    (tmp_path / "case.toml").write_text(CIRCLE.replace("circle_rbf", "cosine"), encoding="utf-8")
    done = command_line(tmp_path, "my_units.py", "check", "case.toml")
    assert done.returncode == 0 and 'unit = "cosine"' in done.stdout


def test_additions_that_cannot_be_imported(tmp_path: Path) -> None:
    """One message and exit code 2."""
    (tmp_path / "case.toml").write_text(CIRCLE, encoding="utf-8")
    done = command_line(tmp_path, "no_such_units", "check", "case.toml")
    said = "mvpde: MVPDE_ADDITIONS: no_such_units cannot be imported (ModuleNotFoundError: No module named 'no_such_units')\n"
    assert (done.returncode, done.stderr) == (EXIT_USAGE, said)


def test_a_file_of_additions_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it failed: then it is tried again."""
    module = tmp_path / "counting.py"
    module.write_text("raise ValueError('not yet')", encoding="utf-8")
    monkeypatch.setenv("MVPDE_ADDITIONS", f" {module}, {module},")
    with pytest.raises(CaseError, match="ValueError: not yet"):
        import_additions()
    module.write_text("import os\nos.environ['TIMES'] += '1'  # a longer text: compiled again", encoding="utf-8")
    monkeypatch.setenv("TIMES", "")
    import_additions()
    import_additions()
    assert os.environ["TIMES"] == "1"
