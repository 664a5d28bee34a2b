"""What a run's folder says is consistent with itself, and with what was asked for; nothing of the user's is touched."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

import mvpde
from at_hand.runs import SMALL
from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.fields import FieldSeries, outline, read_fields
from mvpde.files import open_hdf5, read_hdf5, write_csv, write_json
from mvpde.runs.folder import check_folder, create_folder, provenance
from mvpde.runs.run import Result
from mvpde.runs.stopping import Stopped, StopRequest
from mvpde.runtime import MPI, CaseError, InvariantError, on_first_rank

pytestmark = pytest.mark.ranks

CASES = Path(__file__).parents[2] / "cases"
TRIANGLE = (np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[0, 1, 2]]))  # points, cells


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
    assert names == tables | fields | {"density.png", "loss.png", "optimality.png", "prediction.png"}


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
    series.write_mesh(*TRIANGLE, ("x", "y"))
    assert outline(tmp_path / "density.h5").times == []
    for i, t in enumerate((0.0, 0.1, 1 / 3)):
        series.append_on_mesh(t, {"rho": np.full(3, t)})
        held, arrays = read_fields(tmp_path / "density.h5")
        assert held.times[-1] == t
        assert arrays["rho"].shape == (i + 1, 3)
        index = (tmp_path / "density.xdmf").read_text()
        assert index.count("<Time ") == i + 1
        assert "xi:include" not in index
        with h5py.File(tmp_path / "density.h5") as file:
            paths = [part.split("<")[0] for part in index.split("density.h5:")[1:]]
            assert all(path in file for path in paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["density.h5", "density.xdmf"]


@pytest.mark.parametrize("lock", [fcntl.LOCK_SH, fcntl.LOCK_EX])
@pytest.mark.serial
def test_hdf5_files_are_read_and_written_past_the_locks_of_others(tmp_path: Path, lock: int) -> None:
    series = FieldSeries(tmp_path / "density", "density")
    series.write_mesh(*TRIANGLE, ("x", "y"))
    with (tmp_path / "density.h5").open("rb") as other:
        fcntl.flock(other, lock | fcntl.LOCK_NB)
        series.append_on_mesh(0.5, {"rho": np.ones(3)})
        assert outline(tmp_path / "density.h5").times == [0.5]


@pytest.mark.serial
def test_no_lock_is_held_while_hdf5_files_are_read_and_written(tmp_path: Path) -> None:
    """HDF5's locks are those of flock, which an exclusive one would meet also within a process."""

    def free() -> bool:
        with (tmp_path / "a.h5").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    with open_hdf5(tmp_path / "a.h5", "w") as file:
        assert free()
        file["x"] = 1.0
    with open_hdf5(tmp_path / "a.h5", "a"):
        assert free()
    assert read_hdf5(tmp_path / "a.h5", lambda _: free())


@pytest.mark.serial
def test_a_file_of_the_user_open_in_the_same_process_can_be_read(tmp_path: Path) -> None:
    with open_hdf5(tmp_path / "a.h5", "w") as file:
        file["x"] = 1.0
    with h5py.File(tmp_path / "a.h5"):
        assert read_hdf5(tmp_path / "a.h5", lambda file: float(file["x"][()])) == 1.0


LOOK = "import h5py, sys; file = h5py.File(sys.argv[1]); print('open', flush=True); sys.stdin.read(1)"


@pytest.mark.serial
@pytest.mark.parametrize("held", [0.3, None])
def test_where_locks_are_asked_for_the_writer_waits_a_while(tmp_path: Path, held: float | None) -> None:
    """The environment overrules mvpde's wish: a reader that goes away in time is waited for, another one is named."""
    with open_hdf5(tmp_path / "a.h5", "w") as file:
        file["x"] = 1.0
    write = "import sys; from pathlib import Path; from mvpde.files import open_hdf5; open_hdf5(Path(sys.argv[1]), 'a').close()"
    environment = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
    command = [sys.executable, "-c", LOOK, str(tmp_path / "a.h5")]
    reader = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    writer = subprocess.Popen(
        [sys.executable, "-c", write, str(tmp_path / "a.h5")], env=environment, stderr=subprocess.PIPE, text=True
    )
    if held is not None:
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(held + 1.0)  # time to start included
        reader.communicate()
    said = writer.communicate(timeout=60)[1]
    assert (writer.returncode == 0) == (held is not None)
    assert held is not None or "unable to lock file" in said
    assert held is not None or "close it there" in said
    reader.communicate()


def test_a_run_goes_on_while_its_files_are_open_elsewhere(shared_tmp_path: Path, comm: MPI.Intracomm) -> None:
    """With HDF5's default, a lock, from the first output to the end; and the folder is read in between."""
    on_first_rank(comm, lambda: small(shared_tmp_path) and None)
    readers: list[subprocess.Popen[bytes]] = []

    def look(_: object, __: object) -> None:
        if comm.rank == 0 and not readers:
            for name in ("density", "particles"):
                command = [sys.executable, "-c", LOOK, str(shared_tmp_path / "out" / f"{name}.h5")]
                readers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
                assert readers[-1].stdout.readline() == b"open\n"  # type: ignore[union-attr]
            assert mvpde.open(shared_tmp_path / "out").time.values.tolist() == [0.0]

    try:
        mvpde.run(
            shared_tmp_path / "small.toml", out=shared_tmp_path / "out", without=["characteristics"], comm=comm, progress=look
        )
    finally:
        for reader in readers:
            reader.communicate()
    assert mvpde.open(shared_tmp_path / "out").time.values.tolist() == [0.0, 0.5, 1.0]


WRITE = """
import sys, time
from pathlib import Path
import numpy as np
from mvpde.fields import FieldSeries
series = FieldSeries(Path(sys.argv[1]), "density")
series.write_mesh(np.zeros((4000, 3)), np.zeros((1, 3)), ("x", "y"))
for k in range(60):
    series.append_on_mesh(float(k), {"rho": np.full(4000, float(k)), "speed": np.full(4000, -float(k))})
    time.sleep(0.02)
"""


@pytest.mark.serial
def test_a_reader_finds_whole_times_while_they_are_written(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "density")])
    seen = []
    while writer.poll() is None:
        if (tmp_path / "density.h5").is_file():
            held, arrays = read_fields(tmp_path / "density.h5")
            times = held.times
            assert times == [float(k) for k in range(len(times))]
            for name, sign in (("rho", 1.0), ("speed", -1.0)):
                assert not times or np.array_equal(arrays[name], np.repeat(sign * np.array(times)[:, None], 4000, axis=1))
            seen.append(len(times))
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2  # in one go it would be seen empty and complete only


def test_a_loss_that_is_no_number_is_a_violated_invariant(
    shared_tmp_path: Path, comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvpde.particles.characteristics import Characteristics

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
