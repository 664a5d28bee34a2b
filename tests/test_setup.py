"""Set-up: pins, the search for a Python, the sentences about what a machine lacks, and the suite's own conduct under mpirun."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mvpde

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(text)
    for text in PROJECT["dependencies"] + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
]

pytestmark = pytest.mark.serial

TOGETHER = {"dolfinx-solver-real", "fenics-basix", "fenics-ffcx", "fenics-ufl", "petsc4py", "slepc4py", "pydantic-core"}
CONDA = {"gmsh": "python-gmsh", "matplotlib": "matplotlib-base", "POT": "pot"}  # where the name is another


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), "only NAME==VERSION: no address, no hash"
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_what_the_requirements_require_is_pinned_too() -> None:
    pinned = pins()
    for name in pinned:
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # another platform, or conda's name for it
            continue
        for requirement in needed:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in pinned, f"{name} needs {requirement.name}"


def test_what_is_imported_is_required() -> None:
    """Not what another requirement happens to bring along; but for libraries that are one."""
    text = "\n".join(path.read_text() for path in (ROOT / "mvpde").glob("**/*.py"))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", text, re.MULTILINE))
    there = packages_distributions()
    named = {canonicalize_name(there[name][0]) for name in imported & there.keys()}
    required = {requirement.name for requirement in REQUIREMENTS} | {"mvpde"}
    assert sorted(named - {canonicalize_name(name) for name in required} - TOGETHER) == []


@pytest.mark.parametrize("page", ["README.md", "docs/installation.md"])
def test_the_way_by_conda_has_all_requirements(page: str) -> None:
    (line,) = re.findall(r"^conda create (.*?[^\\])$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    asked = [Requirement(text).name for text in PROJECT["dependencies"]]
    assert [name for name in asked if CONDA.get(name, name) not in line.split()] == []


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="mvpde")
    assert callable(command.load())


def test_the_version_is_said_once() -> None:
    citation = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert citation[1] == mvpde.__version__


def test_the_readmes_case_is_valid(tmp_path: Path) -> None:
    """Checked with 16² cells in place of 128², which the law under test does not depend on."""
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "case.toml").write_text(example)
    command = [sys.executable, "-m", "mvpde", "check", "case.toml", "--set", "domain.cells=[16,16]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def find_python(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = ROOT / ".ci" / "find_python"
    return subprocess.run([str(tools), *arguments], env=environment, capture_output=True, text=True)


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def forward(path: Path) -> None:
    """A command that runs this Python."""
    executable(path, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')


FAILS = "#!/bin/sh\nexit 1\n"


def test_python_on_the_path_is_found(tmp_path: Path) -> None:
    forward(tmp_path / "bin" / "python3.12")
    found = find_python({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)})
    assert (found.returncode, found.stdout.strip()) == (0, sys.executable)


def test_python_only_in_pyenvs_folder_is_found_behind_a_shim_that_fails(tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "python3.12", FAILS)
    executable(tmp_path / "bin" / "python3", FAILS)
    forward(tmp_path / ".pyenv" / "versions" / "3.12.99" / "bin" / "python3")
    found = find_python({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)})
    assert (found.returncode, found.stdout.strip()) == (0, sys.executable)


def test_python_is_fetched_through_uv(tmp_path: Path) -> None:
    forward(tmp_path / "python")
    installed = tmp_path / "installed"
    executable(
        tmp_path / "bin" / "uv",
        f'#!/bin/sh\ncase "$1 $2" in\n"python install") : > {installed};;\n'
        f'"python find") [ -e {installed} ] && echo {tmp_path}/python;;\nesac\n',
    )
    found = find_python({"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)})
    assert (found.returncode, found.stdout.strip()) == (0, sys.executable)


@pytest.mark.parametrize(("arguments", "remedy"), [((), "pyenv install 3.12"), (("/no/such/python",), "PYTHON=/no/such/python")])
def test_no_python_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], remedy: str) -> None:
    found = find_python({"PATH": str(tmp_path), "HOME": str(tmp_path)}, *arguments)
    assert found.returncode == 1
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert remedy in found.stderr


@pytest.mark.parametrize(
    ("compiler", "remedy"),
    [("no-such-compiler", "apt install gcc"), ("false", "apt install libc6-dev")],
    ids=["absent", "without-headers"],
)
def test_no_working_compiler_is_one_sentence(compiler: str, remedy: str) -> None:
    command = [sys.executable, str(ROOT / ".ci" / "check_machine.py"), "install"]
    done = subprocess.run(command, env={**os.environ, "CC": compiler}, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert remedy in done.stderr


ONE_RANK_FAILS = """
def test_verdict(comm):
    assert comm.rank != 1, "wrong on rank one"

def test_still_in_step(comm):
    assert comm.allreduce(1) == comm.size
"""
ONE_RANK_RAISES_WHILE_OTHERS_WAIT = """
def test_stuck(comm):
    assert comm.rank != 1, "wrong on rank one"
    comm.Barrier()
"""
ALL_WAIT = """
def test_stuck(comm):
    comm.recv(source=(comm.rank + 1) % comm.size)
"""
ONE_RANK_CANNOT_IMPORT = """
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 1:
    raise ImportError("wrong on rank one")

def test_nothing():
    pass
"""


@pytest.mark.skipif(shutil.which("mpirun", path=str(Path(sys.executable).parent)) is None, reason="no mpirun beside this Python")
@pytest.mark.parametrize(
    ("source", "grace", "timeout", "expected"),
    [
        pytest.param(ONE_RANK_FAILS, 100, 100, ["wrong on rank one", "1 failed, 1 passed"], id="one-fails"),
        pytest.param(ONE_RANK_RAISES_WHILE_OTHERS_WAIT, 1, 100, ["wrong on rank one", "did not reach its end"], id="one-raises"),
        pytest.param(ALL_WAIT, 100, 3, ["Timeout", "in test_stuck"], id="deadlock"),
        pytest.param(ONE_RANK_CANNOT_IMPORT, 100, 100, ["wrong on rank one", "collected different tests"], id="import"),
    ],
)
def test_suite_ends_under_mpirun(tmp_path: Path, source: str, grace: int, timeout: int, expected: list[str]) -> None:
    """Whatever goes wrong on one rank, the run of the suite ends, fails, and says where."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_scratch.py").write_text(source)
    mpirun = str(Path(sys.executable).parent / "mpirun")
    options = ["-q", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={timeout}"]
    command = [mpirun, "-n", "2", sys.executable, "-m", "pytest", *options, "test_scratch.py"]
    environment = {**os.environ, "MVPDE_TEST_GRACE": str(grace)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    for text in expected:
        assert text in done.stdout + done.stderr


LOADERS = sorted(
    ".".join(m.relative_to(ROOT).with_suffix("").parts)
    for m in (ROOT / "mvpde").glob("**/*.py")
    if re.search(r"(import|from) (dolfinx|petsc4py|slepc4py)", m.read_text())
)


@pytest.mark.serial
@pytest.mark.parametrize("module", LOADERS)
def test_each_module_loads_the_solver_libraries_first(module: str) -> None:
    """The wheel's libraries are found only once `mvpde.runtime` has pointed at them, whichever module is imported first."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
