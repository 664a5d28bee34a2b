"""The table of measures tells the truth about them, and they go on from what they kept as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvpde.cases.file import load
from mvpde.cases.measures import EVERY, LABELLED, LAYERS, MEASURES, OF_STEPS, measures, pairs
from mvpde.cases.problem import problem
from mvpde.density.density import Density
from mvpde.measure import Measure, carry
from mvpde.runs.compare import compare
from mvpde.runtime import MPI, CaseError

CASES = Path(__file__).parents[2] / "cases"
CIRCLE = {
    "domain.cells": [16, 16],
    "characteristics.nodes": [8, 6],
    "ensemble.particles": 4100,
    "ensemble.runs": 2,
    "ensemble.step": 0.1,
}
SMALL: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "explicit density": ("circle_rbf", "density", CIRCLE),
    "implicit density": ("circle_rbf_warm", "density", {"domain.cells": [16, 16], "density.scheme": "edge_averaged"}),
    "annealed density": (
        "circle_rbf_warm",
        "density",
        {"domain.cells": [16, 16], "density.scheme": "flux_corrected", "time.annealing": [[0.25, 0.001]]},
    ),
    "ensemble": ("circle_rbf", "ensemble", CIRCLE),
    "networks": (
        "mmn_isotropic",
        "ensemble",
        {"model.dimension": 10, "ensemble.particles": 30, "ensemble.runs": 3, "ensemble.step": 1e-3},
    ),
    "characteristics": ("circle_rbf", "characteristics", CIRCLE),
    "sgd": ("sgd_neuron", "sgd", {"sgd.runs": 5000, "data.test_share": 0.5}),
    "paths": ("sgd_neuron", "sgd", {"sgd.runs": 5000, "data.test_share": 0.5, "sgd.dynamics": "diffusion"}),
}
OF_SOME_KINDS = {*LAYERS, *LABELLED}  # of deep networks and of labelled laws, whose measures bear the same names
OF_A_STEP = {"slope", "stiffness", *(f"{name}_step_error" for name in (*OF_STEPS, "mean_radius"))}  # where steps approximate
OF_WALLS = {"outside", "survival", "survival_standard_error"}
KEYS = sorted({key for name in ("density", "ensemble") for key in MEASURES[name].keys} - OF_SOME_KINDS | set(EVERY))


def built(which: str, comm: MPI.Intracomm, **others: Any) -> Measure:
    name, measure, changes = SMALL[which]
    return measures(problem(load(CASES / f"{name}.toml", {**changes, **others})), [measure], comm)[measure]


# --- the table ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", SMALL)
def test_the_table_knows_every_number_that_a_measure_writes(which: str) -> None:
    measure = built(which, MPI.COMM_SELF)
    measure.advance(0.01)
    written = {*measure.numbers(), *measure.statistics()}
    some = OF_SOME_KINDS | OF_A_STEP | OF_WALLS
    assert written - set(EVERY) - some == set(MEASURES[measure.name].keys) - some
    assert set(measure.listed) <= set(measure.numbers())
    assert set(measure.listed).isdisjoint(measure.statistics())
    assert measure.losses().shape == (len(measure.moments()),)


@pytest.mark.parametrize("name", [*KEYS, "vs_density_prediction_error"])
def test_no_observable_takes_the_name_of_a_number(name: str) -> None:
    """It would replace it in summary.json, or its column in series.csv."""
    with pytest.raises(CaseError, match=rf"\[model\] observables: '{name}' cannot be the name of one, .*; choose another"):
        problem(load(CASES / "desai_zwanzig.toml", {"model.observables": {name: "x"}}))


def test_names_of_numbers_that_no_measure_of_a_case_has_are_free() -> None:
    free = ("inputs", "labels", "width", "mode", "layers", "evaluations", "predictions", "noise_scale")
    described = problem(load(CASES / "desai_zwanzig.toml", {"model.observables": dict.fromkeys(free, "x")}))
    assert set(free) <= set(described.model.observables)
    carried = load(CASES / "residual_flow.toml", {"model.observables": {"evaluations": "x"}})
    with pytest.raises(CaseError, match="'evaluations' cannot be"):
        problem(carried)
    with pytest.raises(CaseError, match="'labels' cannot be"):
        problem(load(CASES / "kuramoto_frequencies.toml", {"model.observables": {"labels": "omega"}}))


def test_measures_are_compared_with_more_exact_ones() -> None:
    assert pairs(["ensemble", "characteristics", "density"]) == [
        ("density", "characteristics"),
        ("ensemble", "density"),
        ("ensemble", "characteristics"),
    ]
    assert pairs(["sgd", "density"]) == [("sgd", "density")]
    assert pairs(["ensemble", "sgd"]) == []


def test_errors_of_measures_are_told_in_terms_of_the_case() -> None:
    with pytest.raises(CaseError, match=r"\[domain\] lower, upper: the domain holds .*; enlarge it.* narrow \[initial\]"):
        problem(load(CASES / "circle_rbf_warm.toml", {"domain.lower": [0.0, -0.5], "domain.cells": [16, 16]}))
    with pytest.raises(CaseError, match=r"\[characteristics\] tolerance: 0.5 is not allowed"):
        load(CASES / "circle_rbf.toml", {"characteristics.tolerance": 0.5})
    long = problem(load(CASES / "sgd_neuron.toml", {"sgd.step": 0.1}))
    with pytest.raises(CaseError, match=r"\[sgd\]: sgd.step is 0.1, but a step of SGD takes .* = 0.2; leave it out$"):
        measures(long, ["sgd"], MPI.COMM_SELF)


# --- going on -------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize("which", SMALL)
def test_a_restored_measure_continues_as_if_uninterrupted(comm: MPI.Intracomm, which: str) -> None:
    """Bit for bit, also from one rank to many; with implicit steps to the tolerance of the linear solver."""
    whole, other = built(which, comm), built(which, comm)
    whole.advance(0.4)
    kept = whole.state()
    assert (kept is None) == (comm.rank > 0)
    other.restore(kept)
    assert other.time == 0.4
    alone = built(which, MPI.COMM_SELF)
    alone.restore(comm.bcast(kept))
    assert list(carry([whole, other, alone], [0.6, 0.8])) == [0.6, 0.8]
    tolerance = 1e-10 if which == "implicit density" else 0.0
    np.testing.assert_allclose(other.moments(), whole.moments(), rtol=tolerance)
    assert other.numbers() == pytest.approx(whole.numbers(), rel=max(tolerance, 1e-300))
    sums_know_ranks = isinstance(alone, Density)
    np.testing.assert_allclose(alone.moments(), whole.moments(), rtol=0.0, atol=1e-9 if sums_know_ranks else 0.0)


@pytest.mark.parametrize("which", SMALL)
def test_the_state_of_another_measure_is_refused(which: str) -> None:
    smaller = {"density": {"domain.cells": [12, 12]}, "characteristics": {"characteristics.nodes": [6, 6]}}
    fewer = {"ensemble": {"ensemble.particles": 20}, "sgd": {"sgd.runs": 20}}
    changes = {**smaller, **fewer}[SMALL[which][1]]
    with pytest.raises(ValueError, match="checkpoint"):
        built(which, MPI.COMM_SELF).restore(built(which, MPI.COMM_SELF, **changes).state())


@pytest.mark.parametrize("t", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", SMALL)
def test_no_measure_goes_to_a_time_that_is_none(which: str, t: float) -> None:
    with pytest.raises(ValueError, match=f"at t = 0 cannot go to t = {t}"):
        built(which, MPI.COMM_SELF).advance(t)


# --- together -------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_measures_are_carried_and_compared_together(comm: MPI.Intracomm) -> None:
    density, ensemble, nodes = (built(which, comm) for which in ("explicit density", "ensemble", "characteristics"))
    times = []
    for t in carry([density, ensemble, nodes], [0.1, 0.3]):
        times.append((t, density.time, ensemble.time, nodes.time))
    assert times == [(0.1,) * 4, (0.3,) * 4]
    near, far = compare(density, nodes), compare(ensemble, nodes)
    assert set(near) == {"prediction_error", "sliced_wasserstein"}
    assert set(far) == {"prediction_error", "prediction_error_standard_error", "sliced_wasserstein"}
    assert all(0.0 < value < 0.3 for value in (*near.values(), *far.values()))
    assert comm.allgather(far) == [far] * comm.size
