"""Laws of deep networks in small; and what their verdicts say where networks or limits are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at_hand.studies import compute_here, entries, write_study
from mvpde.models.deep.sweeps import Sweep, over_b
from mvpde.particles.deep import driven, steps
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.network import Network
from mvpde.runtime import CaseError
from mvpde.studies.laws.deep.coupling import DeepGrowthOptions, Depths, _in_depth, _in_time, factor
from mvpde.studies.laws.deep.towards import TowardsOptions, extrapolation, judged

pytestmark = pytest.mark.serial

BASE = str(Path(__file__).parents[4] / "cases" / "deep_network.toml")
SMALL = {
    "labels.a": 10,
    "labels.b": 10,
    "characteristics.nodes": [5, 5],
    "characteristics.tolerance": 1e-6,
    "network.mode": "heun",
    "network.step": 0.25,
    "time.end": 2.0,
    "time.outputs": [1.0, 2.0],
}
WIDTHS = "network.width,network.runs,network.seed"


def towards(y: str, **keys: Any) -> dict[str, Any]:
    return {"kind": "towards_limit", "name": y.replace(".", "_"), "y": y, "times": [2.0], "resolution": 0.5, **keys}


def slope(x: str, y: str, predicted: float, tolerance: float, **keys: Any) -> dict[str, Any]:
    law = {"kind": "slope", "name": y.replace(".", "_"), "x": x, "y": y, "standard_error": f"{y}_standard_error"}
    return {**law, "predicted": predicted, "tolerance": tolerance, "times": [2.0], **keys}


def verdicts(folder: Path, **study: Any) -> dict[str, dict[str, Any]]:
    compute_here(write_study(folder, **{"base": BASE, "set": SMALL, **study}), folder / "out")
    return {entry["law"]: entry for entry in entries(folder / "out")}


def all_hold(found: dict[str, dict[str, Any]]) -> bool:
    return {entry["holds"] for entry in found.values()} == {"holds"}


# --- width ----------------------------------------------------------------------------------------------------------------------

WIDTH: dict[str, Any] = {
    "task": "deep_width",
    "options": {"stratified": True},
    "vary": {WIDTHS: [[20, 32, 1], [50, 24, 2]]},
    "measure": [towards("width.loss"), towards("width.prediction"), towards("width.input")],
}


def test_networks_go_to_their_limit(tmp_path: Path) -> None:
    found = verdicts(tmp_path, **WIDTH)
    assert all_hold(found), found
    assert len(found) == 3
    assert (tmp_path / "out" / "width_loss.png").stat().st_size > 10_000


def unconditional(swept: Callable[..., Sweep]) -> Callable[..., Sweep]:
    """The sweep with z^L replaced by its mean over b."""

    def wrong(network, labels, a, b, means, pull):  # type: ignore[no-untyped-def]
        def without_b(layer: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, slope = means(layer, z)
            return (np.broadcast_to(over_b(value, labels), value.shape) if layer == network.depth - 1 else value), slope

        return swept(network, labels, a, b, without_b, pull)

    return wrong


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """θ̇ without the factor N²: time that runs N² too slowly."""
    right = steps.Motion.put

    def put(self, group, moved, h, noise, t):  # type: ignore[no-untyped-def]
        right(self, group, moved, h / group.rows.width**2, noise, t)

    monkeypatch.setattr(steps.Motion, "put", put)


def eager_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A and B that move at rate N² like the others, and should move at rate N."""
    right = steps.Motion.velocity

    def velocity(self, group, weights, t, stage, samples):  # type: ignore[no-untyped-def]
        moved = right(self, group, weights, t, stage, samples)
        moved.first *= group.rows.width
        moved.last *= group.rows.width
        return moved

    monkeypatch.setattr(steps.Motion, "velocity", velocity)


@pytest.mark.parametrize("broken", ["unconditional limit", "no factor N²", "ends at rate N²"])
def test_networks_do_not_go_to_a_wrong_limit_nor_wrong_networks_to_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    from mvpde.particles.deep import characteristics

    changes: dict[str, Any] = {"model.train_ends": broken == "ends at rate N²"}
    if broken == "unconditional limit":
        monkeypatch.setattr(characteristics, "sweep", unconditional(characteristics.sweep))
    elif broken == "no factor N²":
        slow(monkeypatch)
    else:
        eager_ends(monkeypatch)
    found = verdicts(
        tmp_path,
        **{**WIDTH, "set": {**SMALL, **changes}, "vary": {WIDTHS: [[12, 24, 1], [36, 12, 2]]}, "measure": WIDTH["measure"][:1]},
    )
    assert found["width.loss, t = 2"]["holds"] == "does not hold", found


def test_trained_ends_at_rate_n_go_to_their_limit(tmp_path: Path) -> None:
    changed, vary = {**SMALL, "model.train_ends": True}, {WIDTHS: [[12, 24, 1], [36, 12, 2]]}
    found = verdicts(tmp_path, **{**WIDTH, "set": changed, "vary": vary, "measure": WIDTH["measure"][:1]})
    assert all_hold(found), found


def test_an_extrapolated_difference_is_judged_by_its_standard_error() -> None:
    n = np.array([25.0, 50.0, 100.0])
    for a, holds in ((2e-4, "holds"), (5e-3, "does not hold")):
        fit = extrapolation(1.0, n, (a + 0.3 / n)[:, None], np.full((3, 1), 2e-4), 0.04)
        assert fit.a[0] == pytest.approx(a)
        assert fit.b[0] == pytest.approx(0.3)
        assert judged(fit, TowardsOptions(kind="towards_limit", y="width.loss")).holds == holds


def test_a_limit_is_not_held_by_errors_of_its_own_size() -> None:
    """.5 ± .4 and .4 ± .4 at N = 3 and 4 tell nothing of a limit of .1; what is far off is refuted at any resolution."""
    options, n = TowardsOptions(kind="towards_limit", y="width.loss"), np.array([3.0, 4.0])
    vague = judged(extrapolation(1.0, n, np.array([[0.5], [0.4]]), np.full((2, 1), 0.4), 0.1), options)
    assert vague.holds == "not resolved"
    assert "more than 0.05 of the limit 0.1" in vague.note
    assert judged(extrapolation(1.0, n, np.array([[50.0], [50.0]]), np.full((2, 1), 0.4), 0.1), options).holds == "does not hold"
    sharp = np.full((2, 1), 1e-4)
    assert judged(extrapolation(1.0, n, np.array([[0.4], [0.3]]), sharp, 0.1), options).holds == "holds"
    two = np.column_stack([sharp, np.full((2, 1), 0.4)])  # the second number is no farther off, but not known
    assert judged(extrapolation(1.0, n, np.array([[0.4, 0.4], [0.3, 0.3]]), two, 0.1), options).holds == "not resolved"


# --- coupling -------------------------------------------------------------------------------------------------------------------

COUPLING: dict[str, Any] = {
    "task": "deep_coupling",
    "vary": {f"{WIDTHS},options.depths": [[16, 96, 1, [2, 3]], [64, 40, 2, []]]},
    "measure": [
        *(
            slope("network.width", f"coupling.layer{layer}", -0.5, 0.2, discretisation="coupling.discretisation")
            for layer in (1, 2, 3)
        ),
        {"kind": "deep_growth", "fitted_until": 1.0},
    ],
}


def test_copies_come_near_in_every_layer(tmp_path: Path) -> None:
    """40 runs and more, which scatter by half of the mean: a slope is known to 0.07, and the tolerance is three times that."""
    data = compute_here(write_study(tmp_path, **{"base": BASE, "set": SMALL, **COUPLING}), tmp_path / "out")
    found = {entry["law"]: entry for entry in entries(tmp_path / "out")}
    assert all_hold(found), found
    assert len(found) == 5
    scaled = 4.0 * data["coupling.layer1"].isel(time=0).values[0]
    assert scaled == pytest.approx(0.105, abs=0.03)  # √N E|θ − θ̄| of a network programmed elsewhere
    assert (tmp_path / "out" / "growth.png").stat().st_size > 10_000


@pytest.mark.parametrize("broken", ["the last layer is driven by the mean over b", "copies that start elsewhere"])
def test_copies_of_a_wrong_limit_or_start_do_not_come_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "copies that start elsewhere":
        right = Network.distance

        def distance(self, other):  # type: ignore[no-untyped-def]
            return right(self, other) + 0.5

        monkeypatch.setattr(Network, "distance", distance)
    else:
        right_multipliers = driven.last_multipliers

        def mean_over_b(*arguments):  # type: ignore[no-untyped-def]
            found = right_multipliers(*arguments)
            return np.ascontiguousarray(np.broadcast_to(found.mean(axis=2, keepdims=True), found.shape))

        monkeypatch.setattr(driven, "last_multipliers", mean_over_b)
    vary = {f"{WIDTHS},options.depths": [[24, 10, 1, []], [120, 2, 2, []]]}
    found = verdicts(tmp_path, **{**COUPLING, "vary": vary, "measure": COUPLING["measure"][2:3]})
    assert found["coupling.layer3 ~ (network.width)^-0.5, t = 2"]["holds"] != "holds", found


def test_copies_have_the_limit_of_their_own_mode() -> None:
    """Copies and networks are of the flow; samples that [network] prescribes drive neither."""
    from mvpde.cases.file import load
    from mvpde.cases.problem import problem
    from mvpde.runtime import MPI
    from mvpde.studies.laws.deep.coupling import CouplingOptions, coupling

    small = {**SMALL, "network.width": 6, "network.runs": 2, "time.end": 1.0, "time.outputs": [1.0], "labels.a": 4, "labels.b": 4}
    found = [
        coupling(problem(load(BASE, {**small, "network.mode": mode})), CouplingOptions(depths=[2]), MPI.COMM_SELF)
        for mode in ("heun", "prescribed", "descent")
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("task", ["deep_width", "deep_dependence"])
@pytest.mark.parametrize("mode", ["descent", "sgd"])
def test_networks_in_long_steps_are_not_compared_with_the_flow(task: str, mode: str) -> None:
    from mvpde.cases.file import load
    from mvpde.cases.problem import problem
    from mvpde.studies.laws.deep import dependence, width
    from mvpde.studies.needs import check

    needs = {"deep_width": width.NEEDS, "deep_dependence": dependence.NEEDS}[task]
    small = {**SMALL, "network.width": 6, "network.runs": 2}
    for good in ("heun", "prescribed"):
        check(problem(load(BASE, {**small, "network.mode": good})), needs)
    with pytest.raises(CaseError, match=r"\[network\] mode: .*mode must be heun, langevin or prescribed"):
        check(problem(load(BASE, {**small, "network.mode": mode})), needs)


def test_growth_in_time_and_depth_is_bounded_by_what_came_first() -> None:
    options, t = DeepGrowthOptions(kind="deep_growth", fitted_until=1.0), np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    assert _in_time(t, np.expm1(0.3 * t), options).holds == "holds"
    assert _in_time(t, np.expm1(0.3 * t**1.5), options).holds == "does not hold"
    depth, error = np.array([2.0, 3.0, 5.0]), np.full(3, 1e-3)
    assert factor(depth, np.array([1.0, 1.5, 2.0])) == pytest.approx(1.5)
    assert factor(depth, np.array([1.0, 0.5, 2.0])) == 1.0
    assert _in_depth(Depths(depth, np.array([1.0, 1.5, 3.3]), error), 4.0, options).holds == "holds"
    assert _in_depth(Depths(depth, np.array([1.0, 1.5, 3.6]), error), 4.0, options).holds == "does not hold"


def test_depths_need_layers_that_are_alike(tmp_path: Path) -> None:
    from mvpde.cases.file import load
    from mvpde.cases.problem import problem
    from mvpde.studies.laws.deep.coupling import _of_depth

    alike = {"trained": ["v", "w"], "fixed": {"c": 0.0}}
    two = problem(load(BASE, {"model.layers": [alike, alike]}))
    with pytest.raises(CaseError, match=r"options\.depths: 3"):
        _of_depth(two, 3)


# --- dependence -----------------------------------------------------------------------------------------------------------------

DEPENDENCE: dict[str, Any] = {
    "task": "deep_dependence",
    "vary": {WIDTHS: [[16, 80, 1], [64, 24, 2]]},
    "measure": [
        slope("network.width", "dependence.path_size", -1.0, 0.25, standard_error="dependence.path_standard_error"),
        slope("network.width", "dependence.with_b", -1.0, 0.25, name="stays"),
        {"kind": "deep_dependence", "name": "dependence"},
        *(towards(f"dependence.{name}") for name in ("with_a", "with_b", "given_b")),
    ],
}
STAYS = "dependence.with_b ~ (network.width)^-1, t = 2"


def test_covariances_along_a_path_vanish_and_those_with_labels_stay(tmp_path: Path) -> None:
    found = verdicts(tmp_path, **DEPENDENCE)
    assert found.pop(STAYS)["holds"] == "does not hold"
    assert len(found) == 6
    assert all_hold(found), found
    assert (tmp_path / "out" / "dependence.png").stat().st_size > 10_000


def test_the_last_layer_is_not_independent_of_b(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = DeepCharacteristics.conditional

    def independent(self, power: int = 1) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
        return [np.broadcast_to(over_b(x, self.labels), x.shape) for x in right(self, power)]

    monkeypatch.setattr(DeepCharacteristics, "conditional", independent)
    vary = {WIDTHS: [[16, 20, 1], [48, 12, 2]]}
    found = verdicts(tmp_path, **{**DEPENDENCE, "vary": vary, "measure": DEPENDENCE["measure"][-1:]})
    assert found["dependence.given_b, t = 2"]["holds"] == "does not hold"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 3}, r"options\.layer"),
        ({"weight": "c"}, r"options\.weight: layer \d does not train c"),
        ({"bins": 9}, r"options\.bins: 9: there are 8 values of b"),
        ({"width": 1}, r"\[network\] width: is 1, .*give 2 or more"),
    ],
)
def test_what_is_not_there_has_no_covariance(options: dict[str, Any], said: str) -> None:
    from mvpde.cases.file import load
    from mvpde.cases.problem import problem
    from mvpde.runtime import MPI
    from mvpde.studies.laws.deep.dependence import DependenceOptions, dependence

    changes = {**SMALL, "network.width": options.get("width", 4), "network.runs": 2}
    chosen = DependenceOptions(**{key: value for key, value in options.items() if key != "width"})
    with pytest.raises(CaseError, match=said):
        dependence(problem(load(BASE, changes)), chosen, MPI.COMM_SELF)


# --- steps ----------------------------------------------------------------------------------------------------------------------

STEPS: dict[str, Any] = {
    "task": "deep_step",
    "set": {**{k: v for k, v in SMALL.items() if k != "network.step"}, "network.width": 16, "network.runs": 48},
    "options": {"reference": 0.1},
    "vary": {"network.step": [0.2, 0.1, 0.05]},
    "measure": [slope("network.step", "step.descent", 1.0, 0.1), slope("network.step", "step.sgd", 0.5, 0.12)],
}


def test_descent_errs_like_the_step_and_sgd_like_its_root(tmp_path: Path) -> None:
    found = verdicts(tmp_path, **STEPS)
    assert all_hold(found), found


def test_steps_of_sgd_are_not_cut_by_output_times() -> None:
    from mvpde.cases.file import load
    from mvpde.cases.problem import problem
    from mvpde.runtime import MPI
    from mvpde.studies.laws.deep.step import StepOptions, step

    with pytest.raises(CaseError, match=r"deep_network\.toml: \[time\] outputs: 1 is no multiple of network\.step = 0\.4"):
        step(problem(load(BASE, {**SMALL, "network.step": 0.4})), StepOptions(), MPI.COMM_SELF)


def test_the_verdicts_on_steps_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descent by steps of second order, and SGD that sees all samples at once."""
    monkeypatch.setitem(steps.SCHEMES, "euler", steps.heun)
    monkeypatch.setattr(Network, "_samples", lambda self, group: None)
    found = verdicts(tmp_path, **STEPS)
    assert {entry["holds"] for entry in found.values()} == {"does not hold"}
