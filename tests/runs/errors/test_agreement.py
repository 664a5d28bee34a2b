"""Measures agree where their difference is explained by their errors, and a run says so where it is not."""

from __future__ import annotations

from pathlib import Path

from mvpde.runtime import MPI, on_first_rank  # isort: skip

import numpy as np
import pytest

import mvpde
from mvpde.runs.errors.agreement import Agreement, agreements
from mvpde.runs.errors.means import Mean, between, functions_of, means_under, student_factor
from mvpde.runs.record import Record

WELL = """
[model]
kind = "fokker_planck"
potential = "x**2/2"
temperature = 1.0
[initial]
x = { law = "normal", mean = 0.0, std = 1.0 }
[domain]
lower = [-7.0]
upper = [7.0]
cells = [280]
[density]
[ensemble]
particles = 100000
seed = 1
step = 0.02
[time]
end = 0.5
outputs = 1
[output]
fields = false
particles = 0
pictures = false
sliced_wasserstein = false
"""


def ran(folder: Path, text: str, changes: dict) -> dict:
    """The summary of a case."""
    on_first_rank(MPI.COMM_WORLD, lambda: (folder / "case.toml").write_text(text, encoding="utf-8") and None)
    return mvpde.run(folder / "case.toml", set=changes, out=folder / "out", overwrite=True, comm=MPI.COMM_WORLD).summary


def codes(summary: dict) -> list[str]:
    return [warning["code"] for warning in summary["warnings"]]


# --- standard errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_two_standard_errors_from_four_runs_hold_in_95_percent() -> None:
    """t_{.975}(3) = 3.1824; 4,000 means of four normal numbers, binomial standard error .35 %."""
    assert student_factor(4) == pytest.approx(3.1824463 / 1.959964, rel=1e-6)
    samples = np.random.default_rng(0).standard_normal((4000, 4))
    held = np.abs(samples.mean(axis=1)) <= 1.959964 * np.array([between(s, 4) for s in samples.std(axis=1, ddof=1)])
    assert held.mean() == pytest.approx(0.95, abs=3 * 0.0035)


class Line:
    """What is asked of a model on the line."""

    coordinates, periods, dimension, metric, observables, walls = ("x",), (None,), 1, None, {}, None


class Drawn:
    """Runs of independent normal points."""

    model = Line()

    def __init__(self, seed: int, runs: int, n: int) -> None:
        self.z = np.random.default_rng(seed).standard_normal((runs, n, 1))

    def expectation(self, function):
        return np.array([function(run).mean() for run in self.z])


def under(model, measures, sampled):
    return means_under(measures, sampled, functions_of(model, list(measures.values())[-1]))


@pytest.mark.serial
@pytest.mark.parametrize("runs", [1, 2, 4])
def test_five_errors_are_never_passed_by_chance(runs: int) -> None:
    """Means and variances of 200 ensembles of the right law: none is five errors off, and 80 % are within two."""
    found = [under(Line, {"e": Drawn(seed, runs, 100)}, {"e": 100 * runs})["e"] for seed in range(200)]
    scores = np.array([(e["x"].value) / e["x"].sampling for e in found])
    assert np.abs(scores).max() < 5.0
    assert (np.abs(scores) <= 2.0).mean() > 0.8


@pytest.mark.serial
def test_moments_of_a_circle_are_its_waves() -> None:
    class Circle(Line):
        periods = (4.0,)

    found = under(Circle, {"e": Drawn(0, 1, 400)}, {})["e"]
    assert set(found) == {"cos x", "sin x"}
    assert found["cos x"].value == pytest.approx(np.exp(-0.5 * (np.pi / 2) ** 2), abs=4 * 0.6 / 20)


# --- records --------------------------------------------------------------------------------------------------------------------


def judged(
    density: dict, ensemble: dict, said: dict | None = None, mean: tuple[float, float] = (0.0, 0.0), error: float | None = None
) -> Agreement:
    """Density and ensemble with these losses, and means of x that are these, σ = 1; ``error``: of the density's."""
    recorded = Record(1.0, numbers={"density": density, "ensemble": ensemble})
    sampled = {"particles": 10000, "runs": 4, "step": 0.01, "scheme": "heun", **(said or {})}
    square = {"(x - 0)^2": Mean(1.0, 1.0)}
    recorded.means = {"density": {"x": Mean(mean[0], 1.0), **square}, "ensemble": {"x": Mean(mean[1], 1.0, 0.01), **square}}
    recorded.mean_errors = {} if error is None else {"density": {"x": error}}
    return agreements([recorded], {"density": {"nodes": 100}, "ensemble": sampled}, None)["ensemble", "density"]


@pytest.mark.serial
def test_the_error_of_both_counts() -> None:
    """.004 apart: 20 errors of the mesh, 2 of mesh and Student's of the runs (1.62 · .001), none of a mesh known to 1 %."""
    density, ensemble = {"loss": 1.0, "loss_error": 2e-4}, {"loss": 1.004, "loss_standard_error": 1e-3, "loss_step_error": 0.0}
    found = judged(density, ensemble)
    assert found.worst.quantity == "the loss"
    assert found.worst.ratio == pytest.approx(0.004 / (np.hypot(1.6237e-3, 2e-4) + 1.004e-4), rel=1e-3)
    assert found.verdict == "agree"
    assert judged(density, {**ensemble, "loss": 1.02}).verdict == "differ"
    assert judged(density, {**ensemble, "loss": 1.007}).verdict == "unknown"
    assert judged({"loss": 1.0}, {**ensemble, "loss": 1.02}).verdict == "agree"  # no companion: .5 % is allowed
    assert judged({"loss": 1.0}, {**ensemble, "loss": 1.04}).verdict == "differ"


@pytest.mark.serial
def test_the_mean_of_few_particles_may_be_off_by_one_over_n() -> None:
    """|1 − 1.1| = 10/n at n = 100, where the runs are so many that nothing else explains it; at n = 10 it is 1/n."""
    density, ensemble = {"loss": 1.0, "loss_error": 0.0}, {"loss": 1.1, "loss_standard_error": 1e-5, "loss_step_error": 0.0}
    assert judged(density, ensemble, {"particles": 100, "runs": 10000}).verdict == "differ"
    assert judged(density, ensemble, {"particles": 10, "runs": 10000}).verdict == "agree"


@pytest.mark.serial
def test_means_of_coordinates_are_compared() -> None:
    losses = {"loss": 0.0}, {"loss": 0.0, "loss_standard_error": 0.0}
    assert judged(*losses, mean=(0.0, 0.02)).verdict == "agree"
    found = judged(*losses, mean=(0.0, 0.2))
    assert found.verdict == "differ"
    assert (found.worst.quantity, found.worst.values) == ("E[x]", (0.2, 0.0))


@pytest.mark.serial
def test_errors_as_large_as_the_law_decide_nothing() -> None:
    """One particle in one run has no standard error."""
    recorded = Record(0.0, numbers={"density": {"loss": 0.0}, "ensemble": {"loss": 0.0}})
    recorded.means = {"density": {"x": Mean(0.0, 1.0)}, "ensemble": {"x": Mean(0.3, 0.0, np.nan)}}
    said = {"density": {}, "ensemble": {"particles": 1, "runs": 1}}
    assert agreements([recorded], said, None)["ensemble", "density"].entry() == {"ratio": None, "verdict": "unknown"}


@pytest.mark.serial
def test_an_error_that_is_nan_counts_as_untold() -> None:
    """As of a companion that was given up: half a per cent of σ is allowed, and with known errors far less."""
    losses = {"loss": 0.0}, {"loss": 0.0, "loss_standard_error": 0.0, "law_step_error": 1e-6}
    for error in (np.nan, None):
        assert judged(*losses, mean=(0.0, 0.02), error=error).worst.error == pytest.approx(0.0151, rel=1e-3)
    assert judged(*losses, mean=(0.0, 0.02), error=1e-4).worst.error == pytest.approx(0.0101, rel=1e-3)


@pytest.mark.serial
def test_steps_whose_error_is_known_are_allowed_no_more() -> None:
    """σ/n = 10⁻⁴ beside the root of all squares; hσ = .01 where nothing is known of Euler steps."""
    losses = {"loss": 0.0}, {"loss": 0.0, "loss_standard_error": 0.0}
    euler = {"step": 0.01, "scheme": "euler"}
    said = judged(losses[0], {**losses[1], "law_step_error": 0.02}, euler, (0.0, 0.02), 0.0)
    assert said.worst.error == pytest.approx(np.hypot(0.01, 0.02) + 1e-4, rel=1e-6)
    assert judged(*losses, euler, (0.0, 0.02), 0.0).worst.error == pytest.approx(0.01 + 0.01 + 1e-4, rel=1e-6)


# --- runs -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_a_density_in_a_box_that_cuts_its_law_does_not_agree_with_particles(shared_tmp_path: Path) -> None:
    """N(0, 1) has variance 1, and .929 between ±2.6: 15 standard errors of 100,000 particles; in ±7 nothing is cut."""
    whole = ran(shared_tmp_path, WELL, {})
    assert whole["comparison"]["ensemble_vs_density"]["agrees"]["verdict"] == "agree"
    assert whole["warnings"] == []
    cut = ran(shared_tmp_path, WELL, {"domain.lower": [-2.6], "domain.upper": [2.6], "domain.cells": [104]})
    said = cut["comparison"]["ensemble_vs_density"]["agrees"]
    assert said["verdict"] == "differ"
    assert said["quantity"].startswith("E[(x")
    assert said["difference"] == pytest.approx(0.0707, abs=3 * np.sqrt(2 / 100000))
    warning = next(warning for warning in cut["warnings"] if warning["code"] == "comparison.ensemble_vs_density.agrees")
    assert warning["value"] == said["ratio"] > warning["bound"] == 5.0
    assert all(part in warning["message"] for part in ("ensemble and density", "0.92", "lower and upper"))


@pytest.mark.serial
def test_few_nodes_do_not_agree_with_a_density(tmp_path: Path) -> None:
    """Four by two quadrature nodes lose 9 % of the loss until t = 8; 32 by 16 do not."""
    case = Path(__file__).parents[3] / "cases" / "circle_rbf.toml"
    small = {"domain.cells": [48, 48], "time.end": 8.0, "time.outputs": [0.0, 8.0], "output.sliced_wasserstein": False}
    small |= {"output.fields": False, "output.particles": 0, "output.pictures": False}
    for nodes, verdict in (([4, 2], "differ"), ([32, 16], "agree")):
        changes = {**small, "characteristics.nodes": nodes}
        found = mvpde.run(case, set=changes, out=tmp_path / "out", overwrite=True, without=["ensemble"]).summary
        assert found["comparison"]["density_vs_characteristics"]["agrees"]["verdict"] == verdict
        assert ("comparison.density_vs_characteristics.agrees" in codes(found)) == (verdict == "differ")
