"""The command line keeps its word: one message, one exit code, no folder for a wrong case, nothing lost when a run ends early."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mvpde.cli.main import main
from mvpde.density.explicit import FluxCorrected
from mvpde.runtime import SolverError

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[2]
CASE = ROOT / "cases" / "circle_rbf.toml"
DISC = ROOT / "meshes" / "disc.msh"
MPIRUN = Path(sys.executable).parent / "mpirun"
RANKS = [1, 2, 3] if MPIRUN.exists() else [1]
SECONDS = 150  # far beyond what any of these takes: a hang fails, a busy machine does not

SMALL = [
    "domain.cells=[16,16]",
    "ensemble.particles=500",
    "ensemble.runs=1",
    "characteristics.nodes=[16,8]",
    "output.pictures=false",
]
# ReLU features and the drift grow with the particles: steps this long overflow after a few.
DIVERGING = """
[model]
kind = "network"
unit = "relu"
bias = false
[data]
source = "points"
x = [-1, 0, 1]
target = [10, 1, 1]
[initial]
a = { law = "normal", mean = 0, std = 1 }
c = { law = "normal", mean = 0, std = 1 }
[ensemble]
particles = 2000
step = 8
[time]
end = 80
outputs = 10
"""


def command(ranks: int, arguments: list[str]) -> list[str]:
    return [*([str(MPIRUN), "-n", str(ranks)] if ranks > 1 else []), sys.executable, "-m", "mvpde", *arguments]


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def launch(ranks: int, arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(ranks, arguments), cwd=directory, capture_output=True, text=True, timeout=SECONDS)


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


@pytest.mark.parametrize(
    ("ranks", "case", "wrong", "said"),
    [
        (1, "circle_rbf", "model.temprature=1", "[model] temprature"),
        (2, "circle_rbf", "model.temperature=-1", "[model] temperature"),
        (2, "sigmoid_regression", "data.file=nowhere.csv", "[data] file"),
        (2, "sigmoid_regression", f'domain={{mesh="{ROOT}/meshes/disc.msh"}}', "[domain] mesh"),
        (3, "circle_rbf", "domain.cells=[0,8]", "[domain] cells[0]"),
        (3, "circle_rbf", 'domain.upper=["2*pi",0.1]', "of the initial law"),
    ],
)
def test_a_wrong_case_is_one_message_and_no_folder(tmp_path: Path, ranks: int, case: str, wrong: str, said: str) -> None:
    if ranks not in RANKS:
        pytest.skip("no mpirun beside this Python")
    done = launch(ranks, ["run", str(CASE.with_name(f"{case}.toml")), *settings(wrong), "--out", "results/x"], tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("mvpde: ")]
    assert len(lines) == 1 and said in lines[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage"),
        (["runn"], "No such command 'runn'"),
        (["run", str(CASE), "--ouput", "x"], "No such option"),
        (["run", "nowhere.toml"], "there is no such case file"),
        (["run", str(CASE), "--set", "domain.cells"], "write it as section.key=value"),
        (["run", str(CASE), "--without", "densty"], "did you mean `density`"),
        (
            ["run", str(CASE), "--without", "density", "--without", "ensemble", "--without", "characteristics"],
            "no measure is left",
        ),
        (["check", str(CASE), "--set", "time.end=-1"], "[time] end"),
    ],
)
def test_a_wrong_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert list(tmp_path.iterdir()) == []


def test_check_and_list_compute_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", str(CASE), *settings("domain.cells=[64,32]")]) == 0
    assert "# density nodes: 2112" in capsys.readouterr().out  # 64 periodic times 32 + 1
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("circle_rbf.toml", "sigmoid", "logistic", "normal", "csv", "edge_averaged", "heun"))
    assert list(tmp_path.iterdir()) == []


SIZES = [
    ("three_spin_sphere", ["domain.shell.frequency=2", "domain.shell.layers=4"], 42 * 5, 80 * 4 * 3),
    ("ornstein_uhlenbeck", [f'domain={{mesh="{DISC}"}}'], 903, 1709),
]


@pytest.mark.parametrize(("name", "changes", "nodes", "cells"), SIZES)
def test_check_says_how_large_the_mesh_is(
    gmsh_library: None, capsys: pytest.CaptureFixture[str], name: str, changes: list[str], nodes: int, cells: int
) -> None:
    assert main(["check", str(CASE.parent / f"{name}.toml"), *settings(*changes)]) == 0
    out = capsys.readouterr().out
    assert f"# density nodes: {nodes}\n# cells: {cells}\n# density memory: about" in out


def test_a_folder_is_overwritten_only_when_asked_and_only_if_it_holds_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = settings(*SMALL, "time.end=0.1", "time.outputs=1")
    out = tmp_path / "x"
    assert main(["run", str(CASE), *small, "--out", str(out)]) == 0
    before = summary(out)
    (out / "notes.txt").write_text("mine")
    assert main(["run", str(CASE), *small, "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert summary(out) == before
    assert (
        main(["run", str(CASE), *small, *settings("time.end=0.2"), "--without", "density", "--out", str(out), "--overwrite"]) == 0
    )
    assert summary(out)["times"] == [0.0, 0.2]
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "density.h5").exists()  # of the run before
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "summary.json").write_text("{}")
    assert main(["run", str(CASE), *small, "--out", str(precious), "--overwrite"]) == 2
    assert "holds no earlier run" in capsys.readouterr().err
    assert [path.name for path in precious.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_failure_on_the_way_keeps_what_was_good(tmp_path: Path, ranks: int) -> None:
    """Exit code 4, the outputs before the failure and a finite checkpoint of the last good state."""
    if ranks not in RANKS:
        pytest.skip("no mpirun beside this Python")
    (tmp_path / "diverging.toml").write_text(DIVERGING)
    done = launch(ranks, ["run", "diverging.toml", "--out", "x"], tmp_path)
    assert done.returncode == 4
    assert "Choose an ensemble.step smaller than 8" in done.stderr
    found = summary(tmp_path / "x")
    assert found["status"] == "failed" and "infinite or NaN" in found["message"]
    assert found["times"][0] == 0.0 and 1 <= len(found["times"]) < 11
    assert np.isfinite(found["ensemble"]["loss"]).all() and len(found["ensemble"]["loss"]) == len(found["times"])
    with h5py.File(tmp_path / "x" / "checkpoint" / "state.h5") as file:
        assert file["ensemble/time"][()] == found["times"][-1]  # one step per output here
        assert np.isfinite(file["ensemble/particles"][()]).all()


def test_a_solver_that_fails_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state of the failure's moment, later than the last output, is in the checkpoint."""
    step, taken = FluxCorrected.step, []

    def failing(self: FluxCorrected, *arguments: Any) -> Any:
        taken.append(arguments)
        if len(taken) > 20:
            raise SolverError("no convergence; refine [domain] cells")
        return step(self, *arguments)

    monkeypatch.setattr(FluxCorrected, "step", failing)
    arguments = [
        "run",
        str(CASE),
        *settings(*SMALL, "density.step=0.1", "time.end=8", "time.outputs=8"),
        "--out",
        str(tmp_path / "x"),
    ]
    assert main([*arguments, "--without", "characteristics"]) == 3
    assert "no convergence" in capsys.readouterr().err
    found = summary(tmp_path / "x")
    assert found["status"] == "failed" and found["message"] == "no convergence; refine [domain] cells"
    with h5py.File(tmp_path / "x" / "checkpoint" / "state.h5") as file:
        reached = file["density/time"][()]
        assert found["times"][-1] <= reached <= found["times"][-1] + 1.0
        assert file["ensemble/time"][()] == found["times"][-1]
    assert found["density"]["steps"] <= 20


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_stops_between_steps_with_a_checkpoint(tmp_path: Path, ranks: int, number: signal.Signals) -> None:
    if ranks not in RANKS:
        pytest.skip("no mpirun beside this Python")
    long = settings(*SMALL, "domain.cells=[64,64]", "time.end=1e6", "time.outputs=2")
    arguments = ["run", str(CASE), *long, "--without", "characteristics", "--out", "x"]
    process = subprocess.Popen(command(ranks, arguments), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        while not (tmp_path / "x" / "series.csv").exists() and process.poll() is None and time.monotonic() - began < SECONDS:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 5
    assert f"stopped by {number.name}" in errors
    found = summary(tmp_path / "x")
    assert found["status"] == "stopped" and found["times"] == [0.0]
    with h5py.File(tmp_path / "x" / "checkpoint" / "state.h5") as file:
        assert 0.0 <= file["density/time"][()] < 1e6


def test_the_folder_of_a_run_runs_again(tmp_path: Path) -> None:
    """`case.toml` with its copied inputs is the whole run: the same numbers from another place, the original gone."""
    source = tmp_path / "source"
    shutil.copytree(CASE.parent, source)
    small = settings("ensemble.particles=300", "domain.cells=[8,8,8]", "time.end=1", "time.outputs=1", "output.pictures=false")
    assert main(["run", str(source / "sigmoid_regression.toml"), *small, "--out", str(tmp_path / "a")]) == 0
    shutil.rmtree(source)
    assert main(["run", str(tmp_path / "a" / "case.toml"), "--out", str(tmp_path / "b")]) == 0
    a, b = (summary(tmp_path / name) for name in "ab")
    assert a["density"]["loss"] == b["density"]["loss"] and a["ensemble"]["loss"] == b["ensemble"]["loss"]
    assert (tmp_path / "a" / "case.toml").read_text() == (tmp_path / "b" / "case.toml").read_text()
