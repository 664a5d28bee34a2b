"""A run's folder: what is in it, that it does not depend on the number of ranks, and that the readers users have open it."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import matplotlib.image
import numpy as np
import pytest
import xarray

import mvpde
from mvpde import plots
from mvpde.build import problem
from mvpde.case import load
from mvpde.domain import Domain, box
from mvpde.fields import FieldSeries, read_fields
from mvpde.files import replace_whole, write_csv, write_json
from mvpde.models import data
from mvpde.output import check_folder, create_folder, provenance
from mvpde.progress import line
from mvpde.record import Record, turned
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError, on_first_rank
from mvpde.simulation import Result
from mvpde.stopping import Stopped, StopRequest

CASES = Path(__file__).parents[1] / "cases"
MPIRUN = Path(sys.executable).parent / "mpirun"

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


# --- one run, read in every way -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """The small case, computed on all ranks of the suite."""
    comm = MPI.COMM_WORLD
    folder = on_first_rank(comm, lambda: tmp_path_factory.mktemp("run"))
    on_first_rank(comm, lambda: small(folder) and None)
    yield mvpde.run(folder / "small.toml", out=folder / "out", comm=comm)
    comm.Barrier()


def test_the_summary_has_its_names(finished: Result) -> None:
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["ranks"] == MPI.COMM_WORLD.size
    assert summary["wall_seconds"] > 0
    assert summary["times"] == [0.0, 0.5, 1.0]
    assert summary["density"]["nodes"] == 16 * 16
    assert summary["density"]["steps"] > 0
    assert summary["density"]["node_updates_per_second"] > 0
    assert 0 <= summary["density"]["mass_defect"] < 1e-12
    assert -1e-14 <= summary["density"]["minimum"] < 1
    lists = [("density", "loss"), ("density", "free_energy"), ("density", "outer_mass"), ("characteristics", "loss")]
    lists += [("ensemble", "loss"), ("ensemble", "loss_standard_error")]
    assert all(len(summary[measure][key]) == 3 for measure, key in lists)
    for pair in ("density_vs_characteristics", "ensemble_vs_density"):
        assert all(len(summary["comparison"][pair][key]) == 3 for key in ("prediction_error", "sliced_wasserstein"))
    assert summary["warnings"] == []


def test_the_folder_is_complete(finished: Result) -> None:
    names = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*") if path.is_file()}
    tables = {"case.toml", "provenance.json", "series.csv", "predictions.csv", "summary.json", "checkpoint/state.h5"}
    fields = {f"{name}.{suffix}" for name in ("density", "particles") for suffix in ("h5", "xdmf")}
    assert names == tables | fields | {"density.png", "loss.png", "prediction.png"}


def test_provenance_says_how_the_run_came_about(finished: Result) -> None:
    found = json.loads((finished.folder / "provenance.json").read_text())
    assert {"mvpde", "python", "dolfinx", "petsc", "numpy"} <= found["versions"].keys()
    assert None not in [found["versions"][name] for name in ("mvpde", "python", "dolfinx", "petsc", "numpy")]
    assert found["ranks"] == MPI.COMM_WORLD.size
    assert found["seed"] == 3
    assert {"command", "date", "git_commit", "cpus"} <= found.keys()


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


def test_written_particles_lie_in_the_period_that_the_domain_shows(finished: Result) -> None:
    y = mvpde.open(finished.folder).particles.sel(coordinate="y").values
    assert y.min() >= 0
    assert y.max() < 2 * math.pi


def test_the_standard_error_of_predictions_is_that_over_runs(finished: Result) -> None:
    """At t = 0: f_n(x_p) = n⁻¹Σ c_i φ(x_p, y_i), of variance E[c²]E[φ²]/n. Over 2 runs an estimate has a relative spread of 1/√2,
    over 8 nearly independent points of ¼; a factor 4 either way is 3 deviations."""
    error = mvpde.open(finished.folder)["prediction_ensemble_standard_error"].values[0]
    y = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    exact = math.sqrt(0.49 * np.mean(np.exp(4 * (np.cos(y) - 1))) / (2 * 5000))
    assert exact / 4 < math.sqrt(np.mean(error**2)) < 4 * exact


def test_pictures_are_pictures(finished: Result) -> None:
    for name in ("density.png", "loss.png", "prediction.png"):
        pixels = matplotlib.image.imread(finished.folder / name)
        assert min(pixels.shape[:2]) > 400
        assert pixels[..., :3].std() > 0.05


def test_a_resolved_case_gives_the_same_run_again(finished: Result, shared_tmp_path: Path) -> None:
    again = mvpde.run(finished.folder / "case.toml", out=shared_tmp_path / "again")
    for measure in ("density", "ensemble", "characteristics"):
        assert again.summary[measure]["loss"] == pytest.approx(finished.summary[measure]["loss"], rel=1e-12)
    assert (shared_tmp_path / "again" / "case.toml").read_text() == (finished.folder / "case.toml").read_text()


def test_an_existing_folder_is_refused_on_all_ranks(finished: Result) -> None:
    before = (finished.folder / "summary.json").read_text()
    with pytest.raises(CaseError, match="--overwrite"):
        mvpde.run(finished.folder / "case.toml", out=finished.folder)
    assert (finished.folder / "summary.json").read_text() == before


# --- XDMF, by VTK's reader ----------------------------------------------------------------------------------------------------


def wave(points: np.ndarray, t: float) -> np.ndarray:
    """A field without symmetries, periodic in the first direction of a box of length 2."""
    return np.sin(np.pi * points[:, 0] + t) + 0.3 * points[:, 1:].sum(axis=1)


BOXES = {
    1: ([-1.0], [1.0], [7], [True]),
    2: ([-1.0, 0.0], [1.0, 1.5], [6, 5], [True, False]),
    3: ([-1.0, 0.0, 0.0], [1.0, 1.5, 1.0], [4, 3, 2], [True, False, False]),
}


def written(domain: Domain, stem: Path, times: list[float]) -> None:
    """The wave on a domain at some times. Collective."""
    mesh = domain.mesh_arrays()
    values = [domain.to_mesh(wave(domain.coordinates[: domain.owned], t)) for t in times]
    if mesh is not None:
        series = FieldSeries(stem, "density")
        series.write_mesh(*mesh, ("x", "y", "z")[: domain.dimension])
        for t, rho in zip(times, values, strict=True):
            assert rho is not None
            series.append_on_mesh(t, {"rho": rho})
    domain.comm.Barrier()


@pytest.mark.parametrize("dimension", BOXES)
def test_a_density_is_read_by_pyvista(dimension: int, comm: MPI.Intracomm, shared_tmp_path: Path, rendering: None) -> None:
    """Written by all ranks of the suite, read on the first: each point has the function's value there, the cells fill the box."""
    import pyvista

    lower, upper, cells, periodic = BOXES[dimension]
    times = [0.0, 0.25, 1.0]
    written(box(comm, lower, upper, cells, periodic), shared_tmp_path / "density", times)
    if comm.rank > 0:
        return
    reader: Any = pyvista.get_reader(str(shared_tmp_path / "density.xdmf"))
    assert reader.time_values == times
    for t in times:
        reader.set_active_time_value(t)
        grid = reader.read()
        grid = grid[0] if isinstance(grid, pyvista.MultiBlock) else grid
        assert grid.n_points == math.prod(n + 1 for n in cells)
        assert grid.n_cells == math.prod(cells) * math.factorial(dimension)
        assert np.abs(grid.point_data["rho"] - wave(grid.points[:, :dimension], t)).max() < 1e-6  # VTK may read points in float32
        sizes = grid.compute_cell_sizes()
        measured = sizes.cell_data[("Length", "Area", "Volume")[dimension - 1]].sum()
        assert measured == pytest.approx(math.prod(b - a for a, b in zip(lower, upper, strict=True)), rel=1e-6)


@pytest.mark.serial
@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_particles_are_read_by_pyvista(dimension: int, tmp_path: Path, rendering: None) -> None:
    """Points in up to three coordinates, zero where there are fewer; every coordinate also as a field, so that none is lost."""
    import pyvista

    names = ("a", "b", "c", "d")[:dimension]
    clouds = {t: np.random.default_rng(dimension).normal(size=(50, dimension)) + t for t in (0.0, 2.0)}
    series = FieldSeries(tmp_path / "particles", "particles")
    for t, cloud in clouds.items():
        series.append_points(t, cloud, names)
    reader: Any = pyvista.get_reader(str(tmp_path / "particles.xdmf"))
    assert reader.time_values == list(clouds)
    for t, cloud in clouds.items():
        reader.set_active_time_value(t)
        grid = reader.read()
        grid = grid[0] if isinstance(grid, pyvista.MultiBlock) else grid
        shown = min(dimension, 3)
        assert grid.points[:, :shown] == pytest.approx(cloud[:, :shown], abs=1e-6)
        assert not grid.points[:, shown:].any()
        for axis, name in enumerate(names):
            assert grid.point_data[name] == pytest.approx(cloud[:, axis], abs=1e-12)


@pytest.mark.serial
def test_a_run_on_two_ranks_writes_what_one_rank_writes(tmp_path: Path, rendering: None) -> None:
    """Explicit densities to 1e-10, particles and characteristics to the last bit; PyVista reads the same fields from both."""
    import pyvista

    case = small(tmp_path)
    for ranks in (1, 2):
        command = [MPIRUN, "-n", str(ranks), sys.executable, "-m", "mvpde", "run", case, "--out", tmp_path / str(ranks)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_fields(tmp_path / str(ranks) / "density.h5") for ranks in (1, 2))
    assert one[0] == two[0]
    assert (one[1]["mesh_points"] == two[1]["mesh_points"]).all()
    assert (one[1]["cells"] == two[1]["cells"]).all()
    assert np.abs(one[1]["rho"] - two[1]["rho"]).max() < 1e-10 * one[1]["rho"].max()
    clouds = [read_fields(tmp_path / str(ranks) / "particles.h5")[1]["points"] for ranks in (1, 2)]
    assert (clouds[0] == clouds[1]).all()
    summaries = [json.loads((tmp_path / str(ranks) / "summary.json").read_text()) for ranks in (1, 2)]
    assert [summary["ranks"] for summary in summaries] == [1, 2]
    for measure in ("ensemble", "characteristics"):
        assert summaries[0][measure]["loss"] == summaries[1][measure]["loss"]
    grids = []
    for ranks in (1, 2):
        reader: Any = pyvista.get_reader(str(tmp_path / str(ranks) / "density.xdmf"))
        reader.set_active_time_value(1.0)
        grid = reader.read()
        grids.append(grid[0] if isinstance(grid, pyvista.MultiBlock) else grid)
    assert grids[1].point_data["rho"] == pytest.approx(two[1]["rho"][-1], abs=1e-15)
    at = [[1.234, 0.567, 0.0], [6.0, -1.3, 0.0]]
    samples = [pyvista.PolyData(at).sample(grid)["rho"] for grid in grids]
    assert samples[0] == pytest.approx(samples[1], rel=1e-6)
    assert samples[0].min() > 1e-3


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


# --- what ends early ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SolverError, InvariantError])
def test_a_failure_keeps_the_outputs_before_it(
    error: type[Exception], shared_tmp_path: Path, comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mvpde.ensemble import Ensemble

    advance = Ensemble.advance

    def failing(self: Ensemble, t: float) -> None:
        if t > 0.6:
            raise error("no further than 0.6")
        advance(self, t)

    monkeypatch.setattr(Ensemble, "advance", failing)
    on_first_rank(comm, lambda: small(shared_tmp_path) and None)
    with pytest.raises(error, match=r"no further"):
        mvpde.run(shared_tmp_path / "small.toml", out=shared_tmp_path / "out")
    dataset = mvpde.open(shared_tmp_path / "out")
    assert dataset.attrs["summary"]["status"].startswith("failed")
    assert "no further than 0.6" in json.dumps(dataset.attrs["summary"])
    assert dataset.time.values.tolist() == [0.0, 0.5]
    assert dataset.density.sizes["time"] == 2
    assert (shared_tmp_path / "out" / "loss.png").is_file()


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


# --- small files --------------------------------------------------------------------------------------------------------------


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
def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def fails(aside: Path) -> None:
        aside.write_text("half of")
        raise OSError("no space left")

    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OSError, match="no space"):
        replace_whole(tmp_path / "a.txt", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.serial
def test_folders_that_are_no_runs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("words")
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new", overwrite=False)
    with pytest.raises(CaseError, match="--overwrite"):
        check_folder(tmp_path / "thesis", overwrite=False)
    with pytest.raises(CaseError, match="no earlier run"):
        check_folder(tmp_path / "thesis", overwrite=True)
    with pytest.raises(CaseError, match="not a folder"):
        check_folder(tmp_path / "file", overwrite=True)
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=True)


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


@pytest.mark.serial
def test_a_folder_without_a_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"summary\.json"):
        mvpde.open(tmp_path)


# --- pictures and words -------------------------------------------------------------------------------------------------------


def record_of(dimension: int) -> tuple[Record, tuple[np.ndarray, np.ndarray]]:
    """A Gaussian density on a box mesh of one rank with particles of the same law."""
    domain = box(MPI.COMM_SELF, [-4.0] * dimension, [4.0] * dimension, [12] * dimension)
    mesh = domain.mesh_arrays()
    rho = np.exp(-0.5 * (domain.coordinates**2).sum(axis=1)) / (2 * np.pi) ** (dimension / 2)
    values = domain.to_mesh(rho)
    assert mesh is not None
    assert values is not None
    found = Record(1.5, fields={"rho": values}, particles=np.random.default_rng(0).normal(size=(3000, dimension)))
    found.clouds["density"] = (domain.coordinates, domain.graph.lumped * rho)
    return found, mesh


@pytest.mark.serial
@pytest.mark.parametrize(("dimension", "panels"), [(1, 1), (2, 1), (3, 3)])
def test_a_picture_of_the_density_names_its_axes_and_time(dimension: int, panels: int, tmp_path: Path) -> None:
    found, mesh = record_of(dimension)
    names = ("a", "b", "c")[:dimension]
    figure = plots.density_figure(names, (None,) * dimension, mesh, found, "Title")
    drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(drawn) == panels
    assert all(axes.get_xlabel() in names and axes.get_ylabel() for axes in drawn)
    title = figure.get_suptitle() or drawn[0].get_title()
    assert "Title" in title
    assert "t = 1.5" in title
    if dimension > 1:
        bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
        assert len(bars) == panels
        assert all("density" in bar.get_ylabel() for bar in bars)
        assert all(len(axes.lines[0].get_xdata()) <= plots.DRAWN for axes in drawn)


@pytest.mark.serial
def test_marginals_integrate_to_one(tmp_path: Path) -> None:
    """Bins that hold one layer of nodes each: Σ ρ(bin) |bin| = 1 up to the mass outside ±4, and the peak is that of N(0, I₂)."""
    found, mesh = record_of(3)
    figure = plots.density_figure(("a", "b", "c"), (None,) * 3, mesh, found, "")
    for axes in (axes for axes in figure.axes if axes.get_label() != "<colorbar>"):
        quads: Any = axes.collections[0]
        corners = quads.get_coordinates()
        areas = np.diff(corners[..., 0], axis=1)[:-1] * np.diff(corners[..., 1], axis=0)[:, :-1]
        assert float((quads.get_array().reshape(areas.shape) * areas).sum()) == pytest.approx(1.0, abs=5e-4)
        assert quads.get_array().max() == pytest.approx(1 / (2 * np.pi), rel=5e-3)


@pytest.mark.serial
def test_losses_of_all_measures_are_drawn_with_two_standard_errors() -> None:
    times = [0.0, 1.0, 2.0]
    records = [
        Record(t, numbers={"density": {"loss": 2.0**-t}, "ensemble": {"loss": 2.0**-t, "loss_standard_error": 0.01}})
        for t in times
    ]
    axes = plots.loss_figure(records, "Title").axes[0]
    assert axes.get_yscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["density", "ensemble (± 2 SE)"]
    segment = axes.containers[1][2][0].get_segments()[0]
    assert segment[1, 1] - segment[0, 1] == pytest.approx(4 * 0.01)


@pytest.mark.serial
def test_a_fit_is_drawn_in_the_order_of_its_inputs() -> None:
    table = data.points([1.0, -1.0, 0.0], [2.0, 1.0, 5.0])
    axes = plots.prediction_figure(table, Record(0.0, predictions={"density": np.array([20.0, 10.0, 50.0])}), "").axes[0]
    fit = next(curve for curve in axes.lines if curve.get_label() == "density")
    assert fit.get_xdata().tolist() == [-1.0, 0.0, 1.0]
    assert fit.get_ydata().tolist() == [10.0, 50.0, 20.0]


@pytest.mark.serial
def test_the_line_of_an_output_time_says_what_matters() -> None:
    numbers = {"loss": 0.125, "step": 0.01, "mass_defect": 1e-16, "minimum": 0.0, "free_energy": 0.25}
    said = line(Record(2.5, numbers={"density": numbers, "ensemble": {"loss": 0.126}}))
    assert all(
        part in said for part in ("t = 2.5", "dt 1.00e-02", "mass defect 1.0e-16", "min +0.0e+00", "0.125", "0.126", "0.25")
    )
    assert "\n" not in said


@pytest.mark.serial
def test_periodic_coordinates_are_shown_from_the_lower_end() -> None:
    z = np.array([[-0.25, 7.0], [0.5, -7.0], [-1e-20, 0.0]])
    assert turned(z, (1.0, None), (-0.5, 0.0)) == pytest.approx(np.array([[-0.25, 7.0], [-0.5, -7.0], [0.0, 0.0]]))
    assert turned(z, (1.0, None), (0.0, 0.0))[:, 0] == pytest.approx([0.75, 0.5, 0.0])
