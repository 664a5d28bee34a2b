"""What a run leaves can be opened by the readers its users have, and says the same on any number of ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import pyvista

import mvpde
from mvpde.fields import FieldSeries, read_fields, read_mesh
from mvpde.files import replace_whole, write_json
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product
from mvpde.particles.blocks import wrap
from mvpde.runs.compare import FAINT, without_faint
from mvpde.runtime import MPI, CaseError

pytestmark = pytest.mark.ranks

CASES = Path(__file__).parents[2] / "cases"
SMALL = {
    "domain.cells": [24, 20],
    "ensemble.particles": 500,
    "ensemble.runs": 2,
    "characteristics.nodes": [16, 8],
    "output.particles": 200,
}
SHORT = {"time.end": 1.0, "time.outputs": 2}
MPIRUN = Path(sys.executable).parent / "mpirun"


def grids(path: Path) -> list[tuple[float, pyvista.DataSet]]:
    """Times and data sets of an XDMF index, as ParaView's own reader finds them."""
    reader = pyvista.get_reader(str(path))
    found = []
    for t in reader.time_values:
        reader.set_active_time_value(t)
        grid = reader.read()
        found.append((t, grid.combine() if isinstance(grid, pyvista.MultiBlock) else grid))
    return found


def function(points: np.ndarray, t: float) -> np.ndarray:
    """Periodic in the first direction with period 2, different at every point."""
    return np.cos(np.pi * points[:, 0]) + np.sum(points[:, 1:] * [1.0, 0.3][: points.shape[1] - 1], axis=1) + t


@pytest.mark.parametrize("cells", [[9], [6, 5], [4, 3, 5]])
def test_fields_on_any_ranks_are_what_vtk_reads(comm: MPI.Intracomm, shared_tmp_path: Path, cells: list[int]) -> None:
    """Values compared at the points themselves, whatever their order, in 1, 2 and 3 dimensions with a periodic direction."""
    dimension = len(cells)
    domain = box([0.0] * dimension, [2.0, 1.0, 1.0][:dimension], cells, [True, False, False][:dimension], comm=comm)
    mesh = domain.mesh_arrays()
    times = [0.0, 0.1, 1 / 3]
    series = FieldSeries(shared_tmp_path / "density", "density")
    if mesh is not None:
        series.write_mesh(*mesh, ("y", "b", "c")[:dimension])
    for t in times:
        values = domain.to_mesh(function(domain.coordinates[: domain.owned], t))
        if values is not None:
            series.append_on_mesh(t, {"rho": values})
    comm.Barrier()
    if comm.rank > 0:
        return
    found = grids(shared_tmp_path / "density.xdmf")
    assert [t for t, _ in found] == times
    for t, grid in found:
        points = np.asarray(grid.points)[:, :dimension]
        assert len(points) == np.prod(np.add(cells, 1))  # a periodic face is drawn twice
        np.testing.assert_allclose(grid.point_data["rho"], function(points, t), atol=1e-10)
        sized = grid.compute_cell_sizes()
        size = sum(np.abs(sized.cell_data[key]).sum() for key in ("Length", "Area", "Volume"))
        assert size == pytest.approx(2.0, rel=1e-12)  # the cells fill the box


def test_particles_are_what_vtk_reads(tmp_path: Path) -> None:
    """Drawn in three coordinates, complete in four."""
    rng = np.random.default_rng(1)
    clouds = {0.0: rng.normal(size=(30, 4)), 2.5: rng.normal(size=(30, 4))}
    series = FieldSeries(tmp_path / "particles", "particles")
    for t, points in clouds.items():
        series.append_points(t, points, ("a1", "a2", "b", "c"))
    for (t, grid), (wanted_t, points) in zip(grids(tmp_path / "particles.xdmf"), clouds.items(), strict=True):
        assert t == wanted_t
        np.testing.assert_allclose(grid.points, points[:, :3], atol=1e-10)
        for axis, name in enumerate(("a1", "a2", "b", "c")):
            np.testing.assert_allclose(grid.point_data[name], points[:, axis], atol=1e-10)


def small_run(folder: Path, **changes: Any) -> mvpde.runs.run.Result:  # type: ignore[name-defined]
    overrides = {**SMALL, **SHORT, **{key.replace("__", "."): value for key, value in changes.items()}}
    return mvpde.run(CASES / "circle_rbf.toml", set=overrides, out=folder)


def test_folder_and_summary(comm: MPI.Intracomm, shared_tmp_path: Path) -> None:
    result = small_run(shared_tmp_path / "x", output__projections=8)
    files = (
        "case.toml provenance.json series.csv predictions.csv summary.json density.h5 density.xdmf particles.h5 particles.xdmf"
    )
    pictures = "density.png loss.png optimality.png prediction.png"
    assert {path.name for path in result.folder.iterdir()} == {*files.split(), *pictures.split(), "checkpoint"}
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.summary))
    assert summary["status"] == "done" and summary["ranks"] == comm.size and summary["times"] == [0.0, 0.5, 1.0]
    assert summary["wall_seconds"] > 0.0
    density = summary["density"]
    assert density["nodes"] == 24 * 21 and density["steps"] > 0 and density["node_updates_per_second"] > 0.0
    assert density["mass_defect"] <= 1e-12 and -1e-14 <= density["minimum"] <= 1.0
    lists = [density["loss"], density["free_energy"], *(summary["ensemble"][key] for key in ("loss", "loss_standard_error"))]
    lists += [summary["characteristics"]["loss"]]
    for pair in ("density_vs_characteristics", "ensemble_vs_density"):
        lists += [summary["comparison"][pair][key] for key in ("prediction_error", "sliced_wasserstein")]
    assert all(len(values) == 3 and np.isfinite(values).all() for values in lists)
    assert density["free_energy"] == pytest.approx(density["loss"])  # at temperature 0 they are the same


def test_a_run_opens_in_xarray(shared_tmp_path: Path) -> None:
    result = small_run(shared_tmp_path / "x", output__pictures=False)
    data = result.dataset
    sizes = {"time": 3, "node": 25 * 21, "axis": 2, "cell": 2 * 24 * 20, "vertex": 3, "particle": 200, "coordinate": 2}
    assert dict(data.sizes) == {**sizes, "data_point": 64}
    assert list(data.coordinate.values) == ["y", "c"]
    np.testing.assert_array_equal(data.density_loss, result.summary["density"]["loss"])
    # f(x_p) = ½Σw(f − f*)² is the loss that the summary gives
    loss = 0.5 * ((data.prediction_density - data.target) ** 2).mean("data_point")
    np.testing.assert_allclose(loss, result.summary["density"]["loss"], rtol=1e-10)
    # the nodal values integrate to 1 over the triangles
    corners = data.mesh_points.values[data.cells.values]
    areas = 0.5 * np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    mass = (data.density.values[:, data.cells.values].mean(axis=2) * areas).sum(axis=1)
    np.testing.assert_allclose(mass, 1.0, rtol=1e-12)
    with pytest.raises(CaseError, match="holds no run"):
        mvpde.open(shared_tmp_path / "nothing")


def test_a_checkpoint_holds_the_state(comm: MPI.Intracomm, shared_tmp_path: Path) -> None:
    result = small_run(shared_tmp_path / "x", output__pictures=False)
    with h5py.File(result.folder / "checkpoint" / "state.h5") as file:
        assert file["density/time"][()] == file["ensemble/time"][()] == 1.0
        np.testing.assert_array_equal(file["density/values"][()], result.dataset.density.isel(time=-1))
        assert file["ensemble/particles"].shape == (2, 500, 2)


def test_values_replace_those_of_a_loaded_case(shared_tmp_path: Path) -> None:
    case = mvpde.load(CASES / "circle_rbf.toml", {"time.end": 0.5, "time.outputs": 1, "output.pictures": False})
    changes = {"domain.cells": [8, 8], "ensemble.particles": 50, "ensemble.seed": 3, "time.end": 0.25, "time.outputs": 1}
    result = mvpde.run(case, set=changes, out=shared_tmp_path / "run", without=["characteristics"])
    assert result.summary["times"] == [0.0, 0.25]
    assert result.summary["ensemble"]["seed"] == 3
    with pytest.raises(CaseError, match="ensemble"):
        mvpde.run(case, set={"ensemble.particle": 50}, out=shared_tmp_path / "other")


@pytest.mark.parametrize(
    ("case", "changes", "seeds"),
    [
        ("sgd_neuron", {"sgd.runs": 50, "sgd.seed": 7}, {"sgd": 7}),
        ("three_spin_circle", {"ensemble.particles": 50, "ensemble.seed": 3, "data.seed": 9}, {"ensemble": 3}),
    ],
)
def test_provenance_knows_the_seeds(shared_tmp_path: Path, case: str, changes: dict[str, Any], seeds: dict[str, int]) -> None:
    """That of the ensemble, else that of runs of SGD; none of a data set."""
    small = {**changes, "time.end": 0.2, "time.outputs": 1, "output.pictures": False, "output.sliced_wasserstein": False}
    left_out = ["density"] if case == "sgd_neuron" else ["density", "characteristics"]
    folder = mvpde.run(CASES / f"{case}.toml", set=small, out=shared_tmp_path / "run", without=left_out).folder
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["seed"], provenance["seeds"]) == (next(iter(seeds.values())), seeds)


def test_what_is_not_wanted_is_not_written(shared_tmp_path: Path) -> None:
    changes = {"output__pictures": False, "output__fields": False, "output__particles": 0, "output__sliced_wasserstein": False}
    result = small_run(shared_tmp_path / "x", **changes)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {"case.toml", "provenance.json", "series.csv", "predictions.csv", "summary.json", "checkpoint"}
    told = {"prediction_error", "prediction_error_standard_error", "agrees"}
    assert set(result.summary["comparison"]["ensemble_vs_density"]) == told


def test_periodic_coordinates_are_written_where_the_domain_is(shared_tmp_path: Path) -> None:
    """A circle cut at −π: the particles lie on the mesh, and distances are those of the circle cut at 0."""
    shift = {
        "domain__lower": ["-pi", -5.0],
        "domain__upper": ["pi", 5.0],
        "initial__y": {"law": "uniform", "lower": "-pi", "upper": "pi"},
    }
    shifted = small_run(shared_tmp_path / "a", output__pictures=False, **shift)
    particles = shifted.dataset.particles.sel(coordinate="y")
    assert float(particles.min()) >= -np.pi and -3.0 < float(particles.mean()) < 1.0 and float(particles.max()) < np.pi
    usual = small_run(shared_tmp_path / "b", output__pictures=False)
    # the same mesh turned by half a circle, 12 of its 24 cells: the density does not know where the circle is cut
    a, b = (one.summary["density"]["loss"] for one in (shifted, usual))
    np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.serial
@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside this Python")
def test_two_ranks_write_what_one_writes(tmp_path: Path) -> None:
    """Density to 1e-10 and particles to the bit, read back with PyVista from 2 ranks and with h5py from 1."""
    one = small_run(tmp_path / "one", output__pictures=False)
    overrides = {**SMALL, **SHORT, "output.pictures": "false"}
    settings = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    run = ["-m", "mvpde", "run", str(CASES / "circle_rbf.toml"), *settings, "--out", str(tmp_path / "two")]
    subprocess.run([str(MPIRUN), "-n", "2", sys.executable, *run], check=True, timeout=150, capture_output=True)
    held, arrays = read_fields(one.folder / "density.h5")
    points = read_mesh(one.folder / "density.h5")[0]
    for k, (t, grid) in enumerate(grids(tmp_path / "two" / "density.xdmf")):
        assert t == held.times[k]
        np.testing.assert_allclose(grid.points, points, atol=1e-10)
        np.testing.assert_allclose(grid.point_data["rho"], arrays["rho"][k], atol=1e-10 * arrays["rho"][k].max())
    with h5py.File(one.folder / "particles.h5") as a, h5py.File(tmp_path / "two" / "particles.h5") as b:
        for name in ("y", "c"):
            np.testing.assert_array_equal(a[f"{name}/000002"], b[f"{name}/000002"])
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["ranks"] == 2 and two["ensemble"]["loss"] == one.summary["ensemble"]["loss"]
    np.testing.assert_allclose(two["density"]["loss"], one.summary["density"]["loss"], rtol=1e-10)


def test_faint_points_hardly_weigh() -> None:
    law = Product((Normal(0.0, 1.0), Normal(0.0, 1.0)))
    points, weights = law.quadrature([60, 60])
    kept, rest = without_faint((points, weights))
    assert len(kept) < len(points)
    assert 0.0 <= 1.0 - rest.sum() < FAINT


def test_turning_changes_no_angle() -> None:
    y = np.array([[-7.0, 5.0], [0.0, 0.0], [-1e-300, 1.0], [3.2, -9.0], [100.0, 2.0]])
    t = wrap(y, (2 * np.pi, None), (-np.pi, 0.0))
    assert (t[:, 0] >= -np.pi).all() and (t[:, 0] < np.pi).all()
    np.testing.assert_allclose(np.exp(1j * t[:, 0]), np.exp(1j * y[:, 0]), atol=1e-13)
    np.testing.assert_array_equal(t[:, 1], y[:, 1])


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    """Nobody reads half of a file: an attempt that fails leaves the old one and no remains."""
    path = tmp_path / "a.json"
    write_json(path, {"x": float("nan"), "y": [np.float64(1.5), float("inf")], "z": np.int64(3)})
    assert json.loads(path.read_text()) == {"x": None, "y": [1.5, None], "z": 3}

    def half(aside: Path) -> None:
        aside.write_text("{")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_whole(path, half)
    assert json.loads(path.read_text())["z"] == 3 and list(tmp_path.iterdir()) == [path]
