"""What a run's folder says is consistent with itself, and with what was asked for; nothing of the user's is touched."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

import mvpde
from mvpde.build import problem
from mvpde.case import load
from mvpde.fields import FieldSeries, read_fields
from mvpde.files import write_csv, write_json
from mvpde.output import check_folder, create_folder, provenance
from mvpde.runtime import MPI, CaseError, InvariantError, on_first_rank
from mvpde.simulation import Result
from mvpde.stopping import Stopped, StopRequest

CASES = Path(__file__).parents[1] / "cases"

SMALL = """
title = "small"
[model]
kind = "network"
unit = "circle_rbf"
unit_parameters = { kappa = 2.0 }
[data]
source = "circle"
points = 8
target = "0.6*cos(x) + 0.3*sin(2*x)"
[initial]
y = { law = "uniform", lower = 0, upper = "2*pi" }
c = { law = "normal", mean = 0.0, std = 0.7 }
[domain]
lower = [0, -4]
upper = ["2*pi", 4]
cells = [16, 15]
[density]
[ensemble]
particles = 5000
runs = 2
seed = 3
[characteristics]
nodes = [8, 8]
[time]
end = 1.0
outputs = [0, 0.5, 1]
[output]
particles = 700
"""


def small(folder: Path) -> Path:
    """The small case in a folder."""
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    return folder / "small.toml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """The small case, computed on all ranks of the suite."""
    comm = MPI.COMM_WORLD
    folder = on_first_rank(comm, lambda: tmp_path_factory.mktemp("run"))
    on_first_rank(comm, lambda: small(folder) and None)
    yield mvpde.run(folder / "small.toml", out=folder / "out", comm=comm)
    comm.Barrier()


def test_the_folder_is_complete(finished: Result) -> None:
    names = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*") if path.is_file()}
    tables = {"case.toml", "provenance.json", "series.csv", "predictions.csv", "summary.json", "checkpoint/state.h5"}
    fields = {f"{name}.{suffix}" for name in ("density", "particles") for suffix in ("h5", "xdmf")}
    assert names == tables | fields | {"density.png", "loss.png", "prediction.png"}


def test_the_dataset_holds_what_the_summary_says(finished: Result) -> None:
    dataset: xarray.Dataset = mvpde.open(finished.folder)
    assert dataset.time.values.tolist() == finished.summary["times"]
    for measure in ("density", "ensemble", "characteristics"):
        assert dataset[f"{measure}_loss"].values.tolist() == finished.summary[measure]["loss"]
        f = dataset[f"prediction_{measure}"]
        if measure != "ensemble":  # the loss is ½ Σ_p w_p (f(x_p) − f_p)²; an ensemble's is the mean over its runs
            loss = 0.5 * ((f - dataset.target) ** 2).mean("data_point")
            assert loss.values == pytest.approx(dataset[f"{measure}_loss"].values, rel=1e-12)
    assert dataset.density.sizes == {"time": 3, "node": 17 * 16}
    assert dataset.particles.sizes == {"time": 3, "particle": 700, "coordinate": 2}
    assert list(dataset.coordinate.values) == ["y", "c"]
    assert dataset.attrs["summary"]["status"] == "done"


def test_the_written_density_has_mass_one_at_every_time(finished: Result) -> None:
    """∫ρ of the P1 interpolant on the written mesh: its triangles know nothing of identified unknowns."""
    dataset = mvpde.open(finished.folder)
    corners = dataset.mesh_points.values[dataset.cells.values]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = 0.5 * np.abs(ax * by - ay * bx)
    masses = dataset.density.values[:, dataset.cells.values].mean(axis=2) @ area
    assert area.sum() == pytest.approx(2 * math.pi * 8)
    assert masses == pytest.approx(np.ones(3), abs=1e-12)


def test_the_standard_error_of_predictions_is_that_over_runs(finished: Result) -> None:
    """At t = 0: f_n(x_p) = n⁻¹Σ c_i φ(x_p, y_i), of variance E[c²]E[φ²]/n. Over 2 runs an estimate has a relative spread of 1/√2,
    over 8 nearly independent points of ¼; a factor 4 either way is 3 deviations."""
    error = mvpde.open(finished.folder)["prediction_ensemble_standard_error"].values[0]
    y = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    exact = math.sqrt(0.49 * np.mean(np.exp(4 * (np.cos(y) - 1))) / (2 * 5000))
    assert exact / 4 < math.sqrt(np.mean(error**2)) < 4 * exact


def test_an_existing_folder_is_refused_on_all_ranks(finished: Result) -> None:
    before = (finished.folder / "summary.json").read_text()
    with pytest.raises(CaseError, match="--overwrite"):
        mvpde.run(finished.folder / "case.toml", out=finished.folder)
    assert (finished.folder / "summary.json").read_text() == before


@pytest.mark.serial
def test_a_series_is_readable_after_every_time(tmp_path: Path) -> None:
    """The index never names what the HDF5 file does not have yet."""
    series = FieldSeries(tmp_path / "density", "density")
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    series.write_mesh(points, np.array([[0, 1, 2]]), ("x", "y"))
    assert read_fields(tmp_path / "density.h5")[0] == []
    for i, t in enumerate((0.0, 0.1, 1 / 3)):
        series.append_on_mesh(t, {"rho": np.full(3, t)})
        times, arrays, _ = read_fields(tmp_path / "density.h5")
        assert times[-1] == t
        assert arrays["rho"].shape == (i + 1, 3)
        index = (tmp_path / "density.xdmf").read_text()
        assert index.count("<Time ") == i + 1
        assert "xi:include" not in index
        with h5py.File(tmp_path / "density.h5") as file:
            paths = [part.split("<")[0] for part in index.split("density.h5:")[1:]]
            assert all(path in file for path in paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["density.h5", "density.xdmf"]


def test_a_loss_that_is_no_number_is_a_violated_invariant(
    shared_tmp_path: Path, comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvpde.characteristics import Characteristics

    moments = Characteristics.moments
    monkeypatch.setattr(Characteristics, "moments", lambda self: moments(self) * (math.nan if self.time > 0.6 else 1.0))
    on_first_rank(comm, lambda: small(shared_tmp_path) and None)
    with pytest.raises(InvariantError, match=r"characteristics: the loss at t = 1 is not a finite number"):
        mvpde.run(shared_tmp_path / "small.toml", out=shared_tmp_path / "out", without=["ensemble"])
    assert mvpde.open(shared_tmp_path / "out").attrs["summary"]["times"] == [0.0, 0.5]


def test_a_request_of_one_rank_stops_all_with_a_checkpoint(
    shared_tmp_path: Path, comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives on the last rank only, in the middle of an output interval; the checkpoint is that of the step it was
    noticed after."""
    looks = []
    check = StopRequest.check

    def asked(self: StopRequest) -> None:
        looks.append(self.comm.rank)
        if len(looks) == 8 and self.comm.rank == self.comm.size - 1:
            self.remember(15, None)
        check(self)

    monkeypatch.setattr(StopRequest, "check", asked)
    on_first_rank(comm, lambda: small(shared_tmp_path) and None)
    with pytest.raises(Stopped, match="SIGTERM"):
        mvpde.run(shared_tmp_path / "small.toml", set={"density.step": 0.05}, out=shared_tmp_path / "out")
    assert len(looks) == 8
    summary = json.loads((shared_tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "stopped"
    with h5py.File(shared_tmp_path / "out" / "checkpoint" / "state.h5") as file:
        assert summary["times"][-1] < file["density/time"][()] < 0.5
        assert np.isfinite(file["density/values"][()]).all()


@pytest.mark.serial
def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    write_json(
        tmp_path / "a.json", {"a": math.nan, "b": [np.float64(1.5), np.inf], "c": {"d": np.int64(2)}, "e": np.array([math.nan])}
    )
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content == {"a": None, "b": [1.5, None], "c": {"d": 2}, "e": [None]}


@pytest.mark.serial
def test_numbers_in_tables_keep_their_last_digit(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"t": 0.1 + 0.2, "x": 1}, {"t": 1 / 3, "y": np.float64(2**-60)}])
    rows = (tmp_path / "a.csv").read_text().splitlines()
    assert rows[0] == "t,x,y"
    assert [float(row.split(",")[0]) for row in rows[1:]] == [0.1 + 0.2, 1 / 3]
    assert rows[2].split(",")[1:] == ["", repr(2**-60)]


@pytest.mark.serial
def test_an_earlier_run_is_replaced_and_its_case_moves_with_its_data(tmp_path: Path) -> None:
    """The case in the folder finds its copy of the data wherever the folder goes; overwriting leaves foreign files alone."""
    origin = tmp_path / "origin"
    (origin / "data").mkdir(parents=True)
    shutil.copy(CASES / "sigmoid_regression.toml", origin)
    shutil.copy(CASES / "data" / "copper.csv", origin / "data")
    case = load(origin / "sigmoid_regression.toml")
    table = problem(case).model.data
    folder = tmp_path / "run"
    for _ in range(2):
        check_folder(folder, overwrite=True)
        create_folder(folder, case, provenance(case, 1, ["mvpde"]))
        (folder / "notes.txt").write_text("mine")
        (folder / "density.h5").write_text("of an earlier run")
    create_folder(folder, load(folder / "case.toml"), provenance(case, 1, ["mvpde"]))  # a run may replace the run it came from
    assert not (folder / "density.h5").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    shutil.rmtree(origin)
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(str(folder), str(moved))
    found = problem(load(moved / "case.toml")).model.data
    assert table is not None
    assert found is not None
    assert (found.x == table.x).all()
    assert (found.target == table.target).all()
