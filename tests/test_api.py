"""The Python interface: one import, every name documented, quick, and the first script of the docs."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mvpde
from mvpde.registry import Registry
from mvpde.runtime import MPI

ROOT = Path(__file__).parents[1]
NAMES = [name for name in mvpde.__all__ if name != "__version__"]

pytestmark = pytest.mark.serial


def test_names_are_listed_and_documented() -> None:
    assert dir(mvpde) == sorted(mvpde.__all__)
    for name in NAMES:
        thing = getattr(mvpde, name)
        if isinstance(thing, Registry):
            assert all(thing.sentence(key) for key in thing), name
        else:
            assert len(inspect.getdoc(thing) or "") > 20, name
        if not isinstance(thing, ModuleType | Registry):
            assert inspect.signature(thing).parameters or name == "Kind"


def test_what_is_no_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'densty'"):
        mvpde.densty  # noqa: B018


# asked, of the names in `test_what_makes_no_sense_is_refused_in_words` → the answer
REFUSED = {
    "mvpde.fluctuations(model, law, [4, 4], [1.0, 0.5])": "times must be ≥ 0 and increase",
    "mvpde.fluctuations(model, law, [4, 4], [-1.0, 0.5])": "times must be ≥ 0 and increase",
    "mvpde.fluctuations(model, law, [4, 4], [1.0], step=0.0)": "step must be positive",
    "mvpde.spectrum(mvpde.Density(trap, line, mvpde.Product((normal,))), 0)": "modes: must be at least 1",
    "mvpde.picture([], 'nowhere')": "measures: give at least one.* not none",
    "mvpde.picture([nodes, nodes], 'nowhere')": "at most one of each name",
    "mvpde.compare(nodes, mvpde.Density(trap, line, mvpde.Product((normal,))))": "2 and 1 coordinates",
    "mvpde.network('tanh', [1.0, 2.0])": "data: give a Data",
    "mvpde.Density(trap, line, normal)": r"Product\(\(law,\)\)",
    "mvpde.Ensemble(trap, normal, particles=2)": r"Product\(\(law,\)\)",
    "mvpde.Characteristics(model, normal, nodes=[4, 4])": r"Product\(\(law,\)\)",
    "mvpde.Product(normal)": "needs a tuple of laws",
    "mvpde.Product(())": "needs a tuple of laws",
    "mvpde.data.circle(8, 'sin(y)')": "'y'",
    "mvpde.from_features(('x',), features=abs, gradients=abs, outer_energy=abs, outer_gradient=abs, temprature=1.0)": (
        "MeanField has no 'temprature'; did you mean 'temperature'"
    ),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_makes_no_sense_is_refused_in_words(asked: str) -> None:
    normal = mvpde.Normal(0.0, 1.0)
    model = mvpde.network("tanh", mvpde.data.circle(8, "sin(x)"), bias=False)
    law = mvpde.Product((normal, normal))
    nodes = mvpde.Characteristics(model, law, nodes=[4, 4])
    trap = mvpde.gradient_flow(["x"], potential="x**2/2", temperature=1.0)
    line = mvpde.box([-6.0], [6.0], [24])
    names = {"model": model, "law": law, "normal": normal, "nodes": nodes, "trap": trap, "line": line}
    with pytest.raises(ValueError, match=REFUSED[asked]):
        eval(asked, {"mvpde": mvpde, **names})


def test_a_target_may_be_a_text() -> None:
    points, texts = np.linspace(0.0, 1.0, 5), ("sin(x)", "x1 + 2*x2")
    np.testing.assert_array_equal(mvpde.data.points(points, texts[0]).target, np.sin(points))
    np.testing.assert_array_equal(mvpde.data.points(np.ones((3, 2)), texts[1]).target, np.full(3, 3.0))
    assert mvpde.data.circle(8, "sin(x)").target[2] == 1.0


def test_types_are_told_of_the_same_names() -> None:
    tree = ast.parse(Path(mvpde.__file__).read_text())
    (checking,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.asname or alias.name for node in checking.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == set(NAMES)


def test_the_import_loads_neither_the_solver_nor_pictures() -> None:
    heavy = ("dolfinx", "petsc4py", "matplotlib", "numba", "xarray", "scipy")
    seen = f"import sys, mvpde; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_comm_is_the_last_keyword() -> None:
    for name in NAMES:
        thing = getattr(mvpde, name)
        if callable(thing) and "comm" in inspect.signature(thing).parameters:
            last = list(inspect.signature(thing).parameters.values())[-1]
            assert (last.name, last.kind) == ("comm", inspect.Parameter.KEYWORD_ONLY), name
            assert last.default is None or last.default == MPI.COMM_WORLD, name


def test_the_page_is_made_from_the_docstrings() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make_api.py"), "-"]  # a process whose tables hold no additions of other tests
    made = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == made.stdout, "run `make api`"


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_first_script(ranks: int, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "first_script.md").read_text(encoding="utf-8")
    (table,), (script,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("text", "python"))
    statements = [line for line in script.splitlines() if line.strip()]
    assert len(statements) <= 20
    assert [line for line in statements if "import" in line] == ["import mvpde"]
    (tmp_path / "points.csv").write_text(table)
    said = "if density.domain.comm.rank == 0:\n    print(sorted(error), error['prediction_error'])\n"
    (tmp_path / "first.py").write_text(script + said)

    launcher = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "HYD", "MPI"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, sys.executable, "first.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    *lines, said = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:  # three measures of one law
        density, particles, nodes = (float(word) for word in re.findall(r" ([0-9.]+)(?:,|$)", line.split(":")[1]))
        assert density == pytest.approx(nodes, abs=3e-3)
        assert particles == pytest.approx(nodes, abs=2e-2)
    assert "prediction_error" in said
    assert 0.0 < float(said.split("]")[1]) < 0.2
    assert all((tmp_path / "first" / f"{name}.png").stat().st_size > 10_000 for name in ("density", "loss", "prediction"))
