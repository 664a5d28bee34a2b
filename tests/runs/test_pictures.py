"""Pictures name what they show and show what the numbers say; so does the line of an output time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mvpde.mesh.box import box
from mvpde.models import data
from mvpde.runs import pictures as plots
from mvpde.runs.progress import line
from mvpde.runs.record import Record
from mvpde.runtime import MPI

pytestmark = pytest.mark.serial


def record_of(dimension: int) -> tuple[Record, tuple[np.ndarray, np.ndarray]]:
    """A Gaussian density on a box mesh of one rank with particles of the same law."""
    domain = box([-4.0] * dimension, [4.0] * dimension, [12] * dimension, comm=MPI.COMM_SELF)
    mesh = domain.mesh_arrays()
    rho = np.exp(-0.5 * (domain.coordinates**2).sum(axis=1)) / (2 * np.pi) ** (dimension / 2)
    values = domain.to_mesh(rho)
    assert mesh is not None
    assert values is not None
    found = Record(1.5, fields={"rho": values}, particles=np.random.default_rng(0).normal(size=(3000, dimension)))
    found.clouds["density"] = (domain.coordinates, domain.graph.lumped * rho)
    return found, mesh


@pytest.mark.parametrize(("dimension", "panels"), [(1, 1), (2, 1), (3, 3)])
def test_a_picture_of_the_density_names_its_axes_and_time(dimension: int, panels: int) -> None:
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


def test_marginals_integrate_to_one() -> None:
    """Bins that hold one layer of nodes each: Σ ρ(bin) |bin| = 1 up to the mass outside ±4, and the peak is that of N(0, I₂)."""
    found, mesh = record_of(3)
    figure = plots.density_figure(("a", "b", "c"), (None,) * 3, mesh, found, "")
    for axes in (axes for axes in figure.axes if axes.get_label() != "<colorbar>"):
        quads: Any = axes.collections[0]
        corners = quads.get_coordinates()
        areas = np.diff(corners[..., 0], axis=1)[:-1] * np.diff(corners[..., 1], axis=0)[:, :-1]
        assert float((quads.get_array().reshape(areas.shape) * areas).sum()) == pytest.approx(1.0, abs=5e-4)
        assert quads.get_array().max() == pytest.approx(1 / (2 * np.pi), rel=5e-3)


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


def test_a_fit_is_drawn_in_the_order_of_its_inputs() -> None:
    table = data.points([1.0, -1.0, 0.0], [2.0, 1.0, 5.0])
    axes = plots.prediction_figure(table, Record(0.0, predictions={"density": np.array([20.0, 10.0, 50.0])}), "").axes[0]
    fit = next(curve[0] for curve in axes.containers if curve.get_label() == "density")
    assert fit.get_xdata().tolist() == [-1.0, 0.0, 1.0]
    assert fit.get_ydata().tolist() == [10.0, 50.0, 20.0]


@pytest.mark.parametrize(("name", "label"), [("ensemble", "ensemble"), ("sgd", "SGD"), ("ensemble", "one-pass SGD")])
def test_the_legend_of_a_fit_says_what_was_fitted(name: str, label: str) -> None:
    """Also of runs of SGD, whose fit used to be called that of the ensemble; errors only where they are known."""
    table, f = data.points([1.0, -1.0], [2.0, 1.0]), np.array([1.0, 2.0])
    without = Record(0.0, predictions={name: f}, labels={name: label})
    known = replace(without, prediction_standard_error={name: np.array([0.1, 0.2])})
    for record, words in ((without, label), (known, f"{label} (± 2 SE)")):
        axes = plots.prediction_figure(table, record, "").axes[0]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["target", words]


def test_the_line_of_an_output_time_says_what_matters() -> None:
    numbers = {"loss": 0.125, "step": 0.01, "mass_defect": 1e-16, "minimum": 0.0, "free_energy": 0.25}
    said = line(Record(2.5, numbers={"density": numbers, "ensemble": {"loss": 0.126}}))
    assert all(
        part in said for part in ("t = 2.5", "dt 1.00e-02", "mass defect 1.0e-16", "min +0.0e+00", "0.125", "0.126", "0.25")
    )
    assert "\n" not in said


@pytest.mark.parametrize("words", [3, 40])
def test_a_title_stays_inside_its_picture(words: int) -> None:
    """Long titles are broken into lines no wider than the figure."""
    figure = plots.loss_figure([Record(0.0, numbers={"density": {"loss": 1.0}})], " ".join(["measurement"] * words))
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1
