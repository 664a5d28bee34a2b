"""Studies: points and their names, messages, restarts that end with the same table, and the law of large numbers in small."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import mvpde
from at_hand.studies import SLOPE, SMALL, compute_here, entries, write_study
from mvpde.cases.schema import CaseSections
from mvpde.cli.main import main
from mvpde.models.laws import Product
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, CaseError
from mvpde.studies.file import load_study
from mvpde.studies.laws import MEASUREMENTS
from mvpde.studies.points import DONE, FAILED, MARK, POINTS, compute, expand, folder_names, short_names
from mvpde.studies.runner import plan, prepare
from mvpde.studies.slurm import indices, template

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[2]


# --- points ---------------------------------------------------------------------------------------------------------------------


def test_the_last_key_varies_fastest(tmp_path: Path) -> None:
    path = write_study(tmp_path, vary={"ensemble.particles,ensemble.runs": [[10, 4], [100, 2]], "ensemble.seed": [1, 2]}, set={})
    points = expand(load_study(path))
    expected = [(10, 4, 1), (10, 4, 2), (100, 2, 1), (100, 2, 2)]
    assert [tuple(point.parameters.values()) for point in points] == expected
    assert points[2].name == "particles=100,runs=2,seed=1"
    assert [tuple(p.case["ensemble"][key] for key in ("particles", "runs", "seed")) for p in points] == expected


def test_zipped_values_go_together_and_unquoted_keys_work(tmp_path: Path) -> None:
    path = write_study(tmp_path, mode="zip", vary={}, set={})
    keys = 'ensemble.particles = [10, 100]\n"domain.cells" = [[8, 8], [16, 16]]\n'
    path.write_text(path.read_text().replace("[vary]\n", f"[vary]\n{keys}"))
    assert [point.name for point in expand(load_study(path))] == ["particles=10,cells=8x8", "particles=100,cells=16x16"]


def test_names_are_short_and_never_alike(tmp_path: Path) -> None:
    assert short_names(["ensemble.step", "density.step", "time.end"]) == {
        "ensemble.step": "ensemble.step",
        "density.step": "density.step",
        "time.end": "end",
    }
    laws = [f"{'0.5*' * 30}cos(x)", f"{'0.5*' * 30}cos[x]", "sin(x)"]
    study = load_study(write_study(tmp_path, vary={"ensemble.seed": [1, 2, 3]}))
    points = [
        point.__class__(**{**vars(point), "parameters": {"ensemble.seed": law}})
        for point, law in zip(expand(study), laws, strict=True)
    ]
    names = folder_names(study, points)
    assert len(set(names)) == 3 and max(map(len, names)) <= 100
    assert names[2] == "seed=sin_x_"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "no_such.toml"}, ["no_such.toml", "no such case file"]),
        ({"vary": None}, ["vary: is missing", "ensemble.particles"]),
        ({"vary": {}}, ["[vary]", "empty"]),
        ({"vary": {"ensemble.particles": 10}}, ["[vary] ensemble.particles", "list"]),
        ({"vary": {"ensemble.particles": [10, 10]}}, ["[vary] ensemble.particles", "twice"]),
        ({"vary": {"ensemble.partcles": [10]}}, ["partcles", "did you mean `particles`"]),
        ({"vary": {"ensemble.particles": [10, -1]}}, ["ensemble.particles = -1", "[ensemble] particles"]),
        ({"mode": "zip", "vary": {"ensemble.seed": [1], "ensemble.runs": [1, 2]}}, ["zip", "same length"]),
        ({"mode": "prodct"}, ["mode", "did you mean `product`"]),
        ({"task": "rum"}, ["task", "did you mean `run`"]),
        *(
            ({name: {}}, [f"{name}: is a section of case files", "[set]"])
            for name in CaseSections.model_fields
            if name != "title"
        ),
        ({"varry": {"ensemble.seed": [1]}}, ["varry", "did you mean `vary`"]),
        ({"set": {"ensemble.seed": 3}}, ["[set] ensemble.seed", "[vary]"]),
        ({"options": {"withot": ["density"]}}, ["[options] withot", "did you mean `without`"]),
        ({"measure": {"kind": "slop"}}, ["[measure] kind", "did you mean `slope`"]),
        ({"measure": {**SLOPE, "x": "ensemble.seeds"}}, ["[measure] x", "did you mean `ensemble.seed`"]),
        ({"measure": {**SLOPE, "x": "ensemble.seed", "tolerance": -1}}, ["[measure] tolerance", "> 0"]),
        ({"measure": {**SLOPE, "x": "ensemble.seed", "colour": 1}}, ["[measure] colour", "no such key"]),
    ],
)
def test_a_wrong_study_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Mapping[str, Any], words: list[str]
) -> None:
    path = write_study(tmp_path, **{"vary": {"ensemble.seed": [1, 2]}, **changes})
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert [word for word in (str(path), *words) if word not in message] == []
    assert not (tmp_path / "out").exists()


def test_an_override_of_a_varied_key_is_refused_and_others_reach_the_case(tmp_path: Path) -> None:
    path = write_study(tmp_path, vary={"ensemble.seed": [1, 2]})
    with pytest.raises(CaseError, match="--set ensemble.seed"):
        load_study(path, {"ensemble.seed": 5})
    assert expand(load_study(path, {"domain.cells": [8, 8]}))[1].case["domain"]["cells"] == [8, 8]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(["study", str(write_study(tmp_path, vary={"ensemble.seed": [1]})), "--out", str(tmp_path / "out")]) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_dry_run_lists_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, vary={"ensemble.seed": [1, 2]})
    assert main(["study", str(path), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "seed=1" in said and "seed=2" in said and "2 waiting" in said
    assert not (tmp_path / "out").exists()


# --- slopes of made-up numbers --------------------------------------------------------------------------------------------------


def made_up(exponent: float, floor: float = 0.0, error: float = 1e-6) -> xarray.Dataset:
    """Four seeds of y = n^exponent + floor, each within 5 % of it, at two times; the density's error is `error`."""
    n, scatter = np.array([100, 1000, 10000]), np.array([0.95, 0.98, 1.02, 1.05])
    y = (n[:, None, None] ** exponent + floor) * scatter[:, None] * np.ones(2)
    return xarray.Dataset(
        {
            "error": (("particles", "seed", "time"), y),
            "mesh": (("particles", "seed", "time"), np.full(y.shape, error)),
            "status": (("particles", "seed"), np.full((3, 4), "done", dtype=object)),
        },
        coords={
            "particles": ("particles", n, {"key": "ensemble.particles"}),
            "seed": ("seed", np.arange(4), {"key": "ensemble.seed"}),
            "time": [0.0, 1.0],
        },
    )


def judged(data: xarray.Dataset, **changes: Any) -> list[dict[str, Any]]:
    measure = MEASUREMENTS["slope"]
    table = {"kind": "slope", "x": "ensemble.particles", "y": "error", "predicted": -0.5, "tolerance": 0.07, **changes}
    return [verdict.entry() for verdict in measure.measure(data, measure.options.model_validate(table)).verdicts]


def test_a_slope_is_found_at_every_time_with_its_interval() -> None:
    for entry, t in zip(judged(made_up(-0.5)), (0.0, 1.0), strict=True):
        assert entry["measured"] == pytest.approx(-0.5, abs=1e-12)
        assert entry["interval"][0] < -0.5 < entry["interval"][1]
        assert (entry["holds"], entry["time"], entry["samples"]) == ("holds", t, [4, 4, 4])


def test_power_is_applied_before_the_mean() -> None:
    (entry,) = judged(made_up(-0.5), power=2, predicted=-1.0, times=[1.0])
    assert entry["measured"] == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("data", "changes", "expected"),
    [
        (made_up(-0.4), {}, "does not hold"),
        (made_up(-0.5, floor=0.02), {}, "does not hold"),
        (made_up(-0.5, error=2e-3), {"discretisation": "mesh"}, "holds"),  # the smallest error is 1e-2
        (made_up(-0.5, error=4e-3), {"discretisation": "mesh"}, "mesh too coarse"),
        (made_up(-0.5, error=4e-3), {"bias": "mesh"}, "bias dominates"),
        (made_up(-0.5), {"discretisation": "nothing"}, "mesh too coarse"),
        (made_up(-0.5).isel(particles=[0]), {}, "does not hold"),
        (made_up(-0.5), {"y": "nothing"}, "does not hold"),
    ],
)
def test_the_verdict_turns(data: xarray.Dataset, changes: Mapping[str, Any], expected: str) -> None:
    assert {entry["holds"] for entry in judged(data, **changes)} == {expected}


# --- real points ----------------------------------------------------------------------------------------------------------------

LLN = {"vary": {"ensemble.particles": [50, 400, 3200], "ensemble.seed": [1, 2, 3]}, "measure": SLOPE}


def test_the_law_of_large_numbers_in_small(tmp_path: Path) -> None:
    """24 runs for each n: mean squares are known to 15 %, the slope over ln 64 to 0.15·√2/4.2 = 0.05; 5 of that are allowed."""
    data = compute_here(write_study(tmp_path, **LLN), tmp_path / "out")
    verdicts = entries(tmp_path / "out")
    assert [entry["holds"] for entry in verdicts] == ["holds", "holds"]
    assert json.loads(data.attrs["verdict"]) == verdicts
    assert (tmp_path / "out" / "slope.png").stat().st_size > 10_000
    with xarray.open_dataset(tmp_path / "out" / "study.nc") as again:
        xarray.testing.assert_allclose(again[SLOPE["y"]], data[SLOPE["y"]])
        lists = {
            name: size for name, size in again.sizes.items() if not re.search(r"^representable|\.(mean|variance)_", str(name))
        }
        assert lists == {"particles": 3, "seed": 3, "time": 2}
        assert set(again["status"].values.ravel()) == {"done"}


@pytest.mark.parametrize("broken", ["drift", "noise"])
def test_the_verdict_turns_when_the_simulator_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A drift half too large converges to another limit; starts with a common random shift do not converge at all."""
    right, sample = Ensemble._velocity, Product.sample
    if broken == "drift":
        monkeypatch.setattr(Ensemble, "_velocity", lambda *arguments, **keys: [1.5 * b for b in right(*arguments, **keys)])
    else:
        monkeypatch.setattr(
            mvpde.models.laws.Product, "sample", lambda law, rng, n: sample(law, rng, n) + 0.3 * rng.standard_normal()
        )
    compute_here(write_study(tmp_path, **LLN), tmp_path / "out")
    assert entries(tmp_path / "out")[-1]["holds"] == "does not hold"


def test_the_density_is_compared_with_one_on_half_the_cells(tmp_path: Path) -> None:
    """Second order: the difference of 48² and 24² cells is about three times the error of 48², which the characteristics tell."""
    path = write_study(tmp_path, vary={"ensemble.particles": [20, 40]}, measure={**SLOPE, "discretisation": "companion"})
    data = compute_here(path, tmp_path / "out")
    truth = data["comparison.density_vs_characteristics.prediction_error"].sel(particles=20).values
    measured = data["density_discretisation_error"].values
    assert np.all((measured / truth > 2.0) & (measured / truth < 4.5))
    assert "half_cells" not in (tmp_path / "out" / "table.csv").read_text()


def test_the_companion_run_computes_the_density_alone(tmp_path: Path) -> None:
    """Runs of SGD, particles, stationary laws and modes have no part in the error of the mesh."""
    measure = {**SLOPE, "x": "sgd.runs", "discretisation": "companion"}
    base = ROOT / "cases" / "sgd_neuron.toml"
    path = write_study(tmp_path, base=str(base), set={"spectrum.modes": 2}, vary={"sgd.runs": [100, 200]}, measure=measure)
    first, _, companion = expand(load_study(path))
    assert {"sgd", "stationary", "spectrum"} <= set(first.case)
    assert set(companion.case) == {"title", "model", "data", "initial", "domain", "density", "time", "output"}
    assert companion.case["domain"]["cells"] == [n // 2 for n in first.case["domain"]["cells"]]
    assert {key: value for key, value in companion.case.items() if key != "domain"}.items() <= first.case.items()


def test_a_failed_point_stays_in_the_table(tmp_path: Path) -> None:
    """Two coordinates need two numbers of nodes: what the first point's check cannot see, the second says itself."""
    fixed = {key: value for key, value in SMALL.items() if key != "characteristics.nodes"}
    without = {"without": ["density", "ensemble"]}
    path = write_study(tmp_path, set=fixed, vary={"characteristics.nodes": [[8, 8], [8]]}, options=without)
    data = compute_here(path, tmp_path / "out")
    rows = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert rows[1].startswith("8x8,done,") and rows[2].startswith("8,failed,") and "[characteristics] nodes" in rows[2]
    assert "[characteristics] nodes" in str(data["message"].sel(nodes="8").values)
    assert np.isnan(data["characteristics.loss"].sel(nodes="8")).all()
    assert np.isfinite(data["characteristics.loss"].sel(nodes="8x8")).all()
    assert json.loads((tmp_path / "out" / POINTS / "nodes=8" / MARK).read_text())["status"] == FAILED


def test_another_case_makes_results_count_as_none(tmp_path: Path) -> None:
    path = write_study(tmp_path, vary={"ensemble.particles": [10, 20]})
    compute_here(path, tmp_path / "out")
    assert [one.status for one in plan(path, tmp_path / "out").states] == ["done", "done"]
    assert [one.status for one in plan(path, tmp_path / "out", {"time.end": 3.0}).states] == ["waiting", "waiting"]


# --- processes ------------------------------------------------------------------------------------------------------------------

THREE = {"vary": {"ensemble.particles": [50, 150, 400]}, "measure": SLOPE}


def start(path: Path, out: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mvpde", "study", str(path), "--out", str(out), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_stopped_and_killed_it_ends_with_the_same_table(tmp_path: Path) -> None:
    path, out, straight = write_study(tmp_path, **THREE), tmp_path / "out", tmp_path / "straight"
    compute_here(path, straight)
    marks = [out / POINTS / f"particles={n}" / MARK for n in (50, 150, 400)]

    process = start(path, out)
    wait_for(marks[0], process)
    while not (running := children(process.pid)):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 5, message
    assert all(map(gone, running)) and "waiting" in (out / "table.csv").read_text()

    first = marks[0].stat().st_mtime_ns
    process = start(path, out)
    wait_for(marks[1], process)
    while not (running := children(process.pid)):
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    limit = time.monotonic() + 60
    while not all(map(gone, running)):
        assert time.monotonic() < limit, "a point outlived the study"
        time.sleep(0.02)

    process = start(path, out, "--jobs", "2")
    said, message = process.communicate(timeout=120)
    assert process.returncode == 0, message
    assert marks[0].stat().st_mtime_ns == first  # a finished point is not computed again
    for name in ("table.csv", "verdict.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()
    assert "3 of 3 points done" in said


def test_a_point_on_two_ranks_is_the_same_point(tmp_path: Path) -> None:
    path = write_study(tmp_path, vary={"ensemble.particles": [50]})
    one = compute_here(path, tmp_path / "one")
    two = mvpde.study(path, out=tmp_path / "two", ranks=2)
    key = "comparison.ensemble_vs_density.prediction_error"
    assert json.loads((tmp_path / "two" / POINTS / "particles=50" / "summary.json").read_text())["ranks"] == 2
    assert two[key].values == pytest.approx(one[key].values, rel=1e-8)


def test_a_law_without_a_mesh_runs_on_two_ranks(tmp_path: Path) -> None:
    """Nothing of it needs PETSc, which starts collectively: the point's folder may not start it on one rank alone."""
    path = write_study(tmp_path, task="clt", set={**SMALL, "ensemble.runs": 20}, vary={"ensemble.particles": [20]})
    one, two = compute_here(path, tmp_path / "one"), mvpde.study(path, out=tmp_path / "two", ranks=2)
    assert two["clt.measured"].values == pytest.approx(one["clt.measured"].values, rel=1e-12)


SBATCH = """#!/bin/bash
# Instead of Slurm: runs the tasks of an array one after the other.
while [[ $1 == --* ]]; do [[ $1 == --dependency=* ]] && echo "$1" >> "$LOG"; shift; done
array=$(sed -n 's/^#SBATCH --array=\\(.*\\)%.*/\\1/p' "$1")
if [ -z "$array" ]; then bash "$1"  >> "$LOG"; else
  for span in ${array//,/ }; do for k in $(seq ${span%-*} ${span#*-}); do SLURM_ARRAY_TASK_ID=$k bash "$1" >> "$LOG"; done; done
fi
echo 42
"""


def test_a_job_array_fills_the_same_folders(tmp_path: Path) -> None:
    """With a stand-in for sbatch: the script is the one that Slurm would get; a point that is done is not in the array."""
    path, out, bin_folder = write_study(tmp_path, vary={"ensemble.particles": [50, 60]}), tmp_path / "out", tmp_path / "bin"
    found = plan(path, out)
    prepare(found)
    compute(out, found.points[0], MPI.COMM_WORLD)
    bin_folder.mkdir()
    (bin_folder / "sbatch").write_text(SBATCH)
    (bin_folder / "sbatch").chmod(stat.S_IRWXU)
    log = tmp_path / "log"
    process = start(path, out, "--slurm", "--jobs", "2", PATH=f"{bin_folder}:{os.environ['PATH']}", LOG=str(log))
    said, message = process.communicate(timeout=120)
    assert process.returncode == 0 and "job array 42" in said, message
    assert (
        "#SBATCH --array=1%2" in (out / "slurm.sh").read_text() and "@" not in (out / "slurm.sh").read_text().split("set -euo")[1]
    )
    assert "--dependency=afterany:42" in log.read_text()
    assert [line.split(",")[1] for line in (out / "table.csv").read_text().splitlines()[1:]] == ["done"] * 2


def test_a_waiting_job_script_of_an_older_version_computes_its_point(tmp_path: Path) -> None:
    """Scripts of version 0.1 call the point's process by its old name, and the template may be copied from where it was."""
    progress = plan(write_study(tmp_path, vary={"ensemble.particles": [50]}, options={"without": ["density"]}), tmp_path / "out")
    prepare(progress)
    subprocess.run([sys.executable, "-m", "mvpde.points", str(progress.folder), "0"], check=True, timeout=120)
    progress.look(0)
    assert progress.states[0].status == DONE
    assert (ROOT / "mpi_runs" / "slurm_study.sh").read_text() == template()


def test_array_indices_are_written_in_spans() -> None:
    assert indices([0, 1, 2, 3, 7, 9, 10]) == "0-3,7,9-10"
    assert indices([5]) == "5"
