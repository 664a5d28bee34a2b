"""Answers that need no computation are quick, said once, and true: help, lists, documents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import sections_in
from mvpde.cases.schema import CaseSections, Section
from mvpde.cli import main as cli
from mvpde.runs import run as simulation

ROOT = Path(__file__).parents[2]
MPIRUN = Path(sys.executable).parent / "mpirun"

pytestmark = pytest.mark.serial


def test_quick_answers_do_not_load_the_solver() -> None:
    """Help, lists and wrong cases must not wait for DOLFINx, PETSc, matplotlib or numba: they are not imported at all."""
    heavy = {"dolfinx", "petsc4py.PETSc", "matplotlib", "numba", "ot", "xarray", "pyvista"}
    program = f"""
import sys
from mvpde.cli.main import main
case = "cases/circle_rbf.toml"
codes = [main(["--help"]), main(["list"]), main(["run", case, "--set", "data.target=x+"]), main(["check", case])]
print("LOADED", sorted({heavy!r} & set(sys.modules)), codes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "LOADED [] [0, 0, 2, 0]"


@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside this Python")
def test_help_is_said_once_by_two_ranks() -> None:
    command = [str(MPIRUN), "-n", "2", sys.executable, "-m", "mvpde", "--help"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120, env=environment)
    assert done.stdout.count("Usage:") == 1


def test_a_defect_of_the_program_is_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no exit code stands for must not be mistaken for a wrong case: it keeps its traceback."""
    monkeypatch.setattr(simulation, "record", lambda *_: 1 / 0)
    command = ["run", str(ROOT / "cases" / "circle_rbf.toml"), "--without", "density", "--out", str(tmp_path / "out")]
    with pytest.raises(ZeroDivisionError):
        cli.main(command)


@pytest.mark.parametrize("path", sorted((ROOT / "cases").glob("*.toml")), ids=lambda path: path.stem)
def test_the_sections_of_a_case_file_come_in_the_documented_order(path: Path) -> None:
    names = [
        name for name in tomllib.loads(path.read_text(encoding="utf-8")) if name in CaseSections.model_fields
    ]  # of all kinds
    assert names == [name for name in CaseSections.model_fields if name in names]


SECTIONS = {f"[{name}]": field.annotation for name, field in CaseSections.model_fields.items() if name not in ("model", "data")}
DOCUMENTED = [
    *((heading, schema) for heading, annotation in SECTIONS.items() for schema in sections_in(annotation)),
    *((f'kind = "{name}"', kind.schema) for name, kind in KINDS.items()),
    *((f'source = "{name}"', schema) for kind in KINDS.values() for name, schema in kind.sources.items()),
]


@pytest.mark.parametrize(
    ("heading", "schema"), DOCUMENTED, ids=[f"{heading}-{schema.__name__}" for heading, schema in DOCUMENTED]
)
def test_every_key_is_documented(heading: str, schema: type[Section]) -> None:
    parts = re.split(r"^#+ `(.*)`$", (ROOT / "docs" / "cases.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    missing = [key for key in schema.model_fields if key not in ("kind", "source", "law") and f"`{key}`" not in text]
    assert not missing, f"docs/cases.md, {heading}: {missing}"
