"""The density on coarser meshes: its own errors against laws that are known, and what becomes of a companion that fails."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mvpde.runtime  # isort: skip - loads the solver libraries before anything else does
import mvpde
from mvpde.cases.file import changed, parse
from mvpde.cases.measures import density_of
from mvpde.cases.meshes.coarser import companion, fewer, levels
from mvpde.cases.problem import problem
from mvpde.density.density import Density
from mvpde.files import read_hdf5
from mvpde.runs.errors.companions import CLOSED, companions
from mvpde.runs.record import Wanted, record
from mvpde.runtime import CaseError, SolverError

MEAN, VARIANCE, RATE, TAU, END = 0.8, 0.16, 1.0, 0.5, 1.0

# dX = −X dt + √(2τ) dB from N(.8, .16): mean and second moment are known at all times
TABLE = {
    "model": {
        "kind": "mean_field",
        "coordinates": ["x"],
        "potential": "x**2/2",
        "temperature": TAU,
        "observables": {"mean": "x", "square": "x**2"},
    },
    "initial": {"x": {"law": "normal", "mean": MEAN, "std": VARIANCE**0.5}},
    "domain": {"lower": [-5.0], "upper": [5.0], "cells": [80]},
    "density": {},
    "time": {"end": END, "outputs": [0.0, 0.25, 0.5, 1.0]},
    "output": {"fields": False, "particles": 0, "pictures": False, "sliced_wasserstein": False},
}


def exact(t):
    decay = np.exp(-RATE * np.asarray(t))
    mean = MEAN * decay
    return {"mean": mean, "square": mean**2 + TAU + (VARIANCE - TAU) * decay**2}


def case(tmp_path, **changes):
    return changed(parse(TABLE, tmp_path / "case.toml"), changes)


def run(tmp_path, comm=None, **changes):
    asked = {key.replace("_", ".", 1): value for key, value in changes.items()}
    return mvpde.run(case(tmp_path, **asked), out=tmp_path / "out", overwrite=True, comm=comm).summary


# --- errors ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
@pytest.mark.parametrize("cells", [40, 80, 160])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_the_true_error_is_what_the_companions_say(tmp_path, cells, tolerance):
    """Within twice the estimate, and no less than a tenth of it: where the mesh's error rules, and where the steps' does."""
    found = run(tmp_path, domain_cells=[cells], density_tolerance=tolerance)
    for name, right in exact(found["times"]).items():
        true, told = np.abs(np.array(found["density"][name]) - right), np.array(found["density"][f"{name}_error"])
        assert (true <= 2.0 * told + 1e-12).all(), (name, true, told)
        assert np.median(true / told) >= 0.1


@pytest.mark.serial
def test_the_extrapolated_value_is_of_higher_order(tmp_path):
    """Error 4⁻¹ of its leading term and less at half the spacing: extrapolated errors fall by 8 at least, 16 where smooth."""
    left = []
    for cells in (120, 240):
        found = run(tmp_path, domain_cells=[cells], density_tolerance=1e-7)
        right = exact(found["times"])["square"]
        left.append(np.abs(np.array(found["density"]["square_extrapolated"]) - right)[1:].max())
        assert left[-1] < 0.1 * np.abs(np.array(found["density"]["square"]) - right)[1:].max()
        assert found["density"]["order"]["square"] == pytest.approx(2.0, abs=0.2)
    assert left[1] < left[0] / 8.0


@pytest.mark.serial
def test_predictions_have_their_errors_beside_them(tmp_path):
    from mvpde.runs.reading import open_run

    sets = {"domain.cells": [24, 24], "time.end": 1.0, "time.outputs": [0.0, 1.0], "output.pictures": False}
    mvpde.run("cases/circle_rbf.toml", set=sets, out=tmp_path / "out", without=["ensemble", "characteristics"])
    dataset = open_run(tmp_path / "out")
    error, better = dataset.prediction_density_error, dataset.prediction_density_extrapolated
    assert error.shape == better.shape == dataset.prediction_density.shape
    assert (error > 0.0).all() and (np.abs(better - dataset.prediction_density) <= error).all()
    density = dataset.attrs["summary"]["density"]
    assert set(density["order"]) == {"loss", "free_energy", "predictions"}
    assert density["companions"] == 2


@pytest.mark.serial
def test_arrays_of_layers_have_errors_of_the_same_shape(tmp_path):
    sets = {
        "domain.cells": [12, 12],
        "labels.a": 3,
        "labels.b": 3,
        "time.end": 0.5,
        "time.outputs": [0.0, 0.5],
        "output.pictures": False,
    }
    found = mvpde.run("cases/deep_network.toml", set=sets, out=tmp_path / "out", without=["network", "characteristics"]).summary
    density = found["density"]
    for name in ("predictions", "inputs", "label_covariance", "layer_mean", "layer_variance"):
        shape = np.shape(density[name])
        assert np.shape(density[f"{name}_error"]) == np.shape(density[f"{name}_extrapolated"]) == shape
        assert np.isfinite(density[f"{name}_error"]).all()


# --- how many, and on which mesh ------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_without_companions_errors_are_null(tmp_path):
    density = run(tmp_path, density_companions=0)["density"]
    assert density["companions"] == 0
    assert np.isnan(density["mean_error"]).all() and np.isnan(density["mean_extrapolated"]).all()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["density"]["mean_error"] == [None] * 4


@pytest.mark.serial
def test_one_companion_tells_the_difference(tmp_path):
    one, two = (run(tmp_path, density_companions=count)["density"] for count in (1, 2))
    assert one["companions"] == 1 and np.isnan(one["order"]["mean"])
    np.testing.assert_allclose(one["mean"], two["mean"], rtol=1e-14)
    assert (np.array(one["mean_error"]) >= np.array(two["mean_error"]))[1:].all()  # that of the start is at rounding


@pytest.mark.serial
def test_cells_that_two_does_not_divide_are_rounded(tmp_path):
    assert fewer([15, 6, 4], 0.25, [1, 1, 3]) == [4, 2, 3]
    odd = problem(case(tmp_path, **{"domain.cells": [105]}))
    first, second = companion(odd, 1), companion(odd, 2)
    assert [one.problem.sections.domain.cells for one in (first, second)] == [[53], [26]]
    assert (first.ratio, second.ratio) == (105 / 53, 105 / 26)
    found = run(tmp_path, domain_cells=[105])
    true = np.abs(np.array(found["density"]["square_extrapolated"]) - exact(found["times"])["square"])
    assert true[1:].max() < 0.3 * np.array(found["density"]["square_error"])[1:].max()


@pytest.mark.serial
def test_a_mesh_of_too_few_cells_has_none(tmp_path):
    assert companion(problem(case(tmp_path, **{"domain.cells": [1]})), 1) is None
    assert levels(problem(case(tmp_path))) == 2


@pytest.mark.serial
def test_a_companion_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    import mvpde.runs.errors.companions as module

    def refusing(of, comm):
        if of.sections.domain.cells == [20]:
            raise CaseError("[domain] lower, upper: the domain holds 95 % of the initial law")
        return density_of(of, comm)

    monkeypatch.setattr(module, "density_of", refusing)
    found = run(tmp_path)
    assert found["density"]["companions"] == 1 and np.isfinite(found["density"]["mean_error"]).all()
    assert [warning["message"] for warning in found["warnings"] if "quarter: [domain]" in warning["message"]]


# --- steps ----------------------------------------------------------------------------------------------------------------------


def carried(of, comm, times):
    """Density and companions through ``times``, all recorded."""
    fine = density_of(of, comm)
    beside = companions(of, fine, comm)
    for t in times:
        fine.advance(t)
        beside.advance(t)
        beside.observe(record(of.model, {"density": fine}, t, Wanted(0, 0, ()), comm))
    return fine, beside


@pytest.mark.serial
def test_each_step_splits_one_of_the_coarser(tmp_path, monkeypatch):
    """A companion ends its steps where every second, or fourth, step of the density does, from output to output.

    After fewer than four steps of the density it leaves them as they are, and a copy goes to the output.
    """
    ends = {80: [0.0], 40: [0.0], 20: [0.0]}
    advance = Density._advance

    def told(self, end, between_steps, led):
        def note():
            ends[self.domain.nodes - 1].append(self.time)
            between_steps()

        advance(self, end, note, led)

    monkeypatch.setattr(Density, "_advance", told)
    of = problem(case(tmp_path))
    outputs = [0.1, 0.33, 0.5, 1.0]
    carried(of, mvpde.runtime.MPI.COMM_SELF, outputs)
    fine = np.array(ends[80])
    counts = np.diff(np.searchsorted(fine, [0.0, *outputs], side="right"))
    assert min(counts) < CLOSED <= max(counts) and any(count % 4 for count in counts if count >= CLOSED)
    for coarse, every in ((40, 2), (20, 4)):
        waiting, whole = [], [0.0]
        for t, last, count in zip(outputs, np.cumsum(counts), counts, strict=True):
            waiting += list(fine[last - count + 1 : last + 1])
            while len(waiting) >= every or (waiting and count >= CLOSED):
                whole.append(waiting[:every][-1])
                waiting = waiting[every:]
            whole += [t] * bool(waiting)  # the copy
        np.testing.assert_allclose(ends[coarse], whole, rtol=1e-12)


@pytest.mark.serial
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_companion_that_fails_leaves_the_run_and_errors_before(tmp_path, monkeypatch):
    advance = Density.advance

    def failing(self, t, /, *given, led=False):
        if self.domain.nodes == 21 and t > 0.4:
            raise SolverError("no convergence")
        advance(self, t, *given, led=led)

    monkeypatch.setattr(Density, "advance", failing)
    found = run(tmp_path)
    assert found["status"] == "done" and np.isfinite(found["density"]["mean_error"]).all()  # one companion is left
    assert found["warnings"][0]["code"] == "density.companions"
    assert "no convergence" in found["warnings"][0]["message"]


@pytest.mark.serial
def test_checkpoints_hold_companions(tmp_path):
    """Companions restored between whole steps say what those say that were never interrupted."""
    comm, of = mvpde.runtime.MPI.COMM_SELF, problem(case(tmp_path))
    times = [0.1, 0.33, 0.7]
    _, beside = carried(of, comm, times)
    fine_again, again = carried(of, comm, [])
    early, before = carried(of, comm, times[:2])
    fine_again.restore(early.state())
    again.restore(before.states())
    fine_again.advance(times[2])
    again.advance(times[2])
    again.observe(record(of.model, {"density": fine_again}, times[2], Wanted(0, 0, ()), comm))
    for one, other in zip(beside.levels, again.levels, strict=True):
        assert one.observed[-1]["square"] == pytest.approx(other.observed[-1]["square"], rel=1e-9)
    run(tmp_path)
    groups = read_hdf5(tmp_path / "out" / "checkpoint" / "state.h5", list)
    assert groups == ["density", "density_half", "density_quarter"]


@pytest.mark.serial
def test_companions_take_the_scheme_of_the_density_also_where_the_temperature_changes(tmp_path):
    """Alone they would take the explicit one, whose steps of diffusion are longer than those of transport on coarse meshes."""
    well = {**TABLE["model"], "potential": "(x**2 - 1)**2/4", "temperature": 0.1}
    changes = {"model": well, "domain": {"lower": [-3.0], "upper": [3.0], "cells": [120]}}
    annealed = {"initial.x.mean": 0.5, "initial.x.std": 0.3, "time.annealing": [[0.3, 0.0999], [0.6, 0.0]]}
    of = problem(changed(parse({**TABLE, **changes}, tmp_path / "case.toml"), annealed))
    fine = density_of(of, mvpde.runtime.MPI.COMM_SELF)
    beside = companions(of, fine, fine.comm)
    assert density_of(companion(of, 1).problem, fine.comm).scheme == "flux_corrected"
    for t, scheme in ((0.2, "edge_averaged"), (0.5, "edge_averaged"), (1.0, "flux_corrected")):
        fine.advance(t)
        beside.advance(t)
        beside.observe_alone()
        assert [level.failed for level in beside.levels] == ["", ""]
        assert [density.scheme for density in (fine, *(level.measure for level in beside.levels))] == [scheme] * 3


@pytest.mark.serial
def test_a_companion_that_is_not_in_the_checkpoint_is_told(tmp_path):
    comm, of = mvpde.runtime.MPI.COMM_SELF, problem(case(tmp_path))
    early, before = carried(of, comm, [0.1])
    states = {name: state for name, state in before.states().items() if name != "density_quarter"}
    fine, again = carried(of, comm, [])
    fine.restore(early.state())
    again.restore(states)
    assert again.missing() == ["quarter: not in the checkpoint"]
    fine.advance(0.3)
    again.advance(0.3)
    again.observe_alone()
    assert again.levels[0].observed and again.levels[0].measure.time > 0.1


@pytest.mark.serial
def test_an_interruption_of_one_companion_does_not_hold_back_the_other(tmp_path):
    """Stopped in a step of the first, both go on with the steps of the density."""
    comm, of = mvpde.runtime.MPI.COMM_SELF, problem(case(tmp_path))
    fine, beside = carried(of, comm, [])
    fine.advance(0.5)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beside.advance(0.5, stop)
    assert len(fine.lengths) > 4
    beside.advance(0.5)
    for level in beside.levels:
        assert len(level.ends) == len(fine.lengths) % level.merged
        assert level.measure.time == pytest.approx(0.5 - sum(fine.lengths[len(fine.lengths) - len(level.ends) :]), rel=1e-12)


# --- ranks ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_estimates_do_not_depend_on_the_number_of_ranks(comm, shared_tmp_path):
    """Also on a mesh whose quarter has fewer nodes than there are ranks."""
    for cells in (16, 8):
        of = problem(case(shared_tmp_path, **{"domain.cells": [cells], "density.companions": 2}))
        _, together = carried(of, comm, [0.25])
        _, alone = carried(of, mvpde.runtime.MPI.COMM_SELF, [0.25])
        assert [level.name for level in together.levels] == [level.name for level in alone.levels]
        for one, other in zip(together.levels, alone.levels, strict=True):
            for mine, theirs in zip(one.observed, other.observed, strict=True):
                assert mine["square"] == pytest.approx(theirs["square"], rel=1e-8)
