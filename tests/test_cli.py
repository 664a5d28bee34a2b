"""The command line: exit codes, one message from all ranks together, nothing left behind, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mvpde
from mvpde import cli, runtime, simulation
from mvpde.build import problem
from mvpde.runtime import InvariantError, SolverError
from mvpde.stopping import Stopped

ROOT = Path(__file__).parents[1]
MPIRUN = Path(sys.executable).parent / "mpirun"
MVPDE = [sys.executable, "-m", "mvpde"]

SMALL = """
title = "small"
[model]
kind = "network"
unit = "circle_rbf"
unit_parameters = { kappa = 2.0 }
[data]
source = "circle"
points = 8
target = "0.6*cos(x)"
[initial]
y = { law = "uniform", lower = 0, upper = "2*pi" }
c = { law = "normal", mean = 0.0, std = 0.7 }
[domain]
lower = [0, -4]
upper = ["2*pi", 4]
cells = [8, 8]
[density]
[ensemble]
particles = 500
[characteristics]
nodes = [8, 4]
[time]
end = 1.0
outputs = 2
[output]
pictures = false
"""

TABLE = """
[model]
kind = "network"
unit = "tanh"
[data]
source = "csv"
file = "table.csv"
inputs = ["u"]
output = "v"
[initial]
a = { law = "normal", mean = 0, std = 1 }
b = { law = "normal", mean = 0, std = 1 }
c = { law = "normal", mean = 0, std = 1 }
[ensemble]
particles = 10
[time]
end = 1.0
"""

pytestmark = pytest.mark.serial


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small case, in the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL, encoding="utf-8")
    return tmp_path / "small.toml"


def spawned(*arguments: str | Path, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """`mvpde` with these arguments in processes of its own; a hang would end in TimeoutExpired."""
    command = [*([MPIRUN, "-n", ranks] if ranks > 1 else []), *MVPDE, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240, env=environment)


# --- exit codes -------------------------------------------------------------------------------------------------------------


def test_a_run_is_done_and_lands_in_results(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "small.toml"]) == runtime.EXIT_DONE
    said = capsys.readouterr()
    summary = json.loads(Path("results/small/summary.json").read_text())
    assert summary["status"] == "done"
    assert "results/small" in said.out
    assert len([line for line in said.err.splitlines() if line.startswith("t = ")]) == 3  # no terminal: a line per output time


def test_settings_and_left_out_measures_reach_the_run(case: Path) -> None:
    arguments = ["--set", "domain.cells=[10,6]", "--set", "model.temperature=0.1", "--set", "ensemble.runs=3", "--out", "here"]
    assert cli.main(["run", "small.toml", *arguments, "--without", "characteristics"]) == 0
    summary = json.loads(Path("here/summary.json").read_text())
    assert summary["density"]["nodes"] == 10 * 7
    assert summary["ensemble"]["runs"] == 3
    assert "characteristics" not in summary
    assert set(summary["comparison"]) == {"ensemble_vs_density"}
    resolved = mvpde.load("here/case.toml").sections
    assert resolved.model.model_dump()["temperature"] == 0.1


def test_characteristics_are_left_out_where_there_are_none(case: Path) -> None:
    """At τ > 0 the law is no image of its start: a scan over temperatures needs no other change of the case."""
    assert cli.main(["run", "small.toml", "--set", "model.temperature=0.2", "--out", "warm"]) == 0
    summary = json.loads(Path("warm/summary.json").read_text())
    assert "characteristics" not in summary
    assert any("characteristics" in warning for warning in summary["warnings"])


def test_without_density_nothing_of_a_mesh_is_written(case: Path) -> None:
    assert cli.main(["run", "small.toml", "--without", "density", "--out", "particles"]) == 0
    assert not list(Path("particles").glob("density.*"))
    assert Path("particles/particles.xdmf").is_file()


def test_an_earlier_run_is_replaced_only_on_request(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "small.toml", "--without", "density"]) == 0
    before = Path("results/small/summary.json").read_text()
    assert cli.main(["run", "small.toml"]) == runtime.EXIT_USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert Path("results/small/summary.json").read_text() == before
    assert cli.main(["run", "small.toml", "--without", "density", "--overwrite", "--set", "ensemble.seed=9"]) == 0
    assert json.loads(Path("results/small/summary.json").read_text())["ensemble"]["seed"] == 9
    Path("other").mkdir()
    Path("other/precious").write_text("x")
    assert cli.main(["run", "small.toml", "--overwrite", "--out", "other"]) == runtime.EXIT_USAGE
    assert Path("other/precious").is_file()


@pytest.mark.parametrize(
    ("error", "code"),
    [(SolverError, runtime.EXIT_SOLVER), (InvariantError, runtime.EXIT_INVARIANT), (Stopped, runtime.EXIT_STOPPED)],
)
def test_what_goes_wrong_in_a_run_has_its_exit_code(
    error: type[Exception], code: int, case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mvpde.ensemble import Ensemble

    def fails(self: Ensemble, t: float) -> None:
        raise error("the reason")

    monkeypatch.setattr(Ensemble, "advance", fails)
    assert cli.main(["run", "small.toml", "--without", "density"]) == code
    assert capsys.readouterr().err.count("the reason") == 1
    assert json.loads(Path("results/small/summary.json").read_text())["status"] != "done"


def test_a_defect_of_the_program_is_no_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no exit code stands for must not be mistaken for a wrong case: it keeps its traceback."""
    monkeypatch.setattr(simulation, "record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "small.toml", "--without", "density"])


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["rnu"], "run"),
        (["run"], "CASE"),
        (["run", "small.toml", "--overwite"], "--overwrite"),
        (["run", "smal.toml"], "small.toml"),
        (["run", "small.toml", "--without", "particles"], "ensemble"),
        (["run", "small.toml", "--set", "domain.cells"], "section.key=value"),
        (["check", "small.toml", "--set", "model.temperature=-1"], "[model] temperature"),
        (["run", "small.toml", "--without", "density", "--without", "ensemble", "--without", "characteristics"], "no measure"),
        (["run", "small.toml", "--set", "domain.lower=[0,1]"], "[domain]"),  # holds too little of the initial law
    ],
)
def test_wrong_use_is_told_and_leaves_nothing(
    arguments: list[str], clue: str, case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == runtime.EXIT_USAGE
    said = capsys.readouterr()
    assert clue in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert [path.name for path in case.parent.iterdir()] == ["small.toml"]


# --- check and list ---------------------------------------------------------------------------------------------------------


def test_check_prints_a_complete_case_and_computes_nothing(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "small.toml"]) == 0
    said = capsys.readouterr().out
    assert all(
        text in said for text in ('scheme = "auto"', "periodic = [true, false]", "# density nodes: 72", "# particles: 500")
    )
    (case.parent / "again.toml").write_text(said)
    assert mvpde.load("again.toml").table() == problem(mvpde.load("small.toml")).case.table()
    assert sorted(path.name for path in case.parent.iterdir()) == ["again.toml", "small.toml"]


@pytest.mark.parametrize("path", sorted((ROOT / "cases").glob("*.toml")), ids=lambda path: path.stem)
def test_every_case_passes_its_check(path: Path) -> None:
    assert cli.main(["check", str(path)]) == 0


def test_check_reads_the_mesh(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = case.read_text()
    without_box = "\n".join(line for line in box.splitlines() if not line.startswith(("lower = [", "upper = [", "cells = [")))
    text = without_box.replace("[domain]", f'[domain]\nmesh = "{ROOT / "meshes" / "disc.msh"}"\n')
    plane = text.replace('"circle_rbf"', '"gaussian"').replace("unit_parameters = { kappa = 2.0 }", "")
    plane = plane.replace('y = { law = "uniform", lower = 0, upper = "2*pi" }', 'y = { law = "normal", mean = 0, std = 0.2 }')
    (case.parent / "disc.toml").write_text(plane)
    assert cli.main(["check", "disc.toml"]) == 0
    assert "density nodes" in capsys.readouterr().out
    (case.parent / "deep.toml").write_text(
        plane.replace('"gaussian"', '"tanh"')
        .replace("y = {", 'a = { law = "normal", mean = 0, std = 1 }\nb = {')
        .replace("nodes = [8, 4]", "nodes = [8, 4, 4]")
    )
    assert cli.main(["check", "deep.toml"]) == runtime.EXIT_USAGE
    said = capsys.readouterr().err
    assert "[domain] mesh" in said
    assert "3 coordinates" in said


def test_list_names_cases_and_vocabulary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["list"]) == 0
    said = capsys.readouterr().out
    names = ["circle_rbf.toml", "network", "gaussian_mixture", "sigmoid", "logistic", "normal", "csv", "edge_averaged", "heun"]
    assert all(name in said for name in names)


def test_quick_answers_do_not_load_the_solver(case: Path) -> None:
    """Help, lists and wrong cases must not wait for DOLFINx, PETSc, matplotlib or numba: they are not imported at all."""
    heavy = {"dolfinx", "petsc4py.PETSc", "matplotlib", "numba", "ot", "xarray", "pyvista"}
    program = f"""
import sys
from mvpde.cli import main
codes = [main(["--help"]), main(["list"]), main(["run", "small.toml", "--set", "data.target=x+"]), main(["check", "small.toml"])]
print("LOADED", sorted({heavy!r} & set(sys.modules)), codes)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "LOADED [] [0, 0, 2, 0]"


# --- several ranks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("setting", "clue"), [("domain.cells=[0,8]", "[domain] cells[0]"), ("model.temprature=1", "did you mean `temperature`")]
)
def test_all_ranks_stop_with_one_message(ranks: int, setting: str, clue: str, case: Path) -> None:
    done = spawned("run", "small.toml", "--set", setting, ranks=ranks)
    assert done.returncode == runtime.EXIT_USAGE
    assert (done.stdout + done.stderr).count(clue) == 1
    assert "Traceback" not in done.stderr
    assert not Path("results").exists()


@pytest.mark.parametrize("content", [None, "u,v\n1,2\n3\n", "u,v\n1,2\n3,nan\n"], ids=["missing", "ragged", "NaN"])
def test_a_wrong_table_stops_all_ranks(content: str | None, case: Path) -> None:
    Path("table.toml").write_text(TABLE)
    if content is not None:
        Path("table.csv").write_text(content)
    done = spawned("run", "table.toml", ranks=2)
    assert done.returncode == runtime.EXIT_USAGE
    assert done.stderr.count("table.csv") == 1
    assert not Path("results").exists()


def test_a_density_that_fails_to_build_stops_all_ranks(case: Path) -> None:
    done = spawned("run", "small.toml", "--set", "domain.lower=[0,1]", ranks=2)
    assert done.returncode == runtime.EXIT_USAGE
    assert done.stderr.count("of the initial law") == 1
    assert not Path("results").exists()


def test_help_is_said_once(case: Path) -> None:
    assert spawned("--help", ranks=2).stdout.count("Usage:") == 1


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_signal_stops_the_run_with_a_checkpoint(ranks: int, number: signal.Signals, case: Path) -> None:
    """A run that would take hours is asked to stop once its first output is there; mpirun passes the signal on."""
    endless = ["--set", "time.end=1e6", "--set", "density.step=1e-3", "--without", "characteristics"]
    command = [*([MPIRUN, "-n", ranks] if ranks > 1 else []), *MVPDE, "run", "small.toml", *endless]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        summary = Path("results/small/summary.json")
        while process.poll() is None and not summary.is_file():
            time.sleep(0.05)
        time.sleep(0.5)  # into the steps
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == runtime.EXIT_STOPPED, said
    assert said.count(number.name) == 1
    found = json.loads(summary.read_text())
    assert found["status"] == "stopped"
    assert found["times"] == [0.0]
    assert Path("results/small/checkpoint/state.h5").is_file()
