"""Studies of SGD in small: weak orders, noise scales, schedules; the density against the chain, runs and a spectral method."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mvpde.runtime import MPI, CaseError  # isort: skip

import numpy as np
import pytest
from numpy.polynomial import hermite_e
from scipy.linalg import expm
from scipy.special import factorial, roots_hermitenorm

import mvpde.models.sgd_network
import mvpde.particles.sgd_runs
from at_hand.studies import compute_here, entries, write_study
from mvpde.cases.file import load
from mvpde.cases.measures import measures, training
from mvpde.cases.meshes.coarser import TwoMeshes, coarser
from mvpde.cases.problem import Problem, problem
from mvpde.models.data import points
from mvpde.models.laws import Normal, Product
from mvpde.models.sgd_network import SgdNetwork, sgd
from mvpde.particles.exact_chain import exact_chain
from mvpde.particles.sgd_runs import SgdRuns, observed
from mvpde.studies.laws.sgd.boltzmann import best_fit, law_of
from mvpde.studies.laws.sgd.moment_distance import distance, yardstick

pytestmark = pytest.mark.serial

ROOT = Path(__file__).parents[4]
NEURON, BIAS = ROOT / "cases" / "sgd_neuron.toml", ROOT / "cases" / "sgd_neuron_bias.toml"
WORLD = MPI.COMM_WORLD


def setting_of(path: Path, changes: Mapping[str, Any]) -> tuple[Problem, SgdNetwork]:
    setting = problem(load(path, changes))
    return setting, training(setting)


def hermite(train: SgdNetwork, law: Product, centre: Any, width: float, degree: int, times: list[float]) -> np.ndarray:
    """E h(W_t) of the diffusion of order 1, shape (times, functions), by a method that shares nothing with the density.

    u(t, W) = E[h(W_t) | W_0 = W] solves ∂_tu = b·∇u + A:∇∇u: Galerkin with Hermite polynomials of total degree ≤ `degree` in
    L²(N(centre, width²I)), the exponential of its matrix, and the integral over the initial law by Gauss–Hermite quadrature.
    """
    d, nodes = train.dimension, degree + 6
    x, w = roots_hermitenorm(nodes)
    powers = np.array([a for a in itertools.product(range(degree + 1), repeat=d) if sum(a) <= degree])
    grid = np.array(list(itertools.product(range(nodes), repeat=d)))
    weights, xi = np.prod((w / w.sum())[grid], axis=1), x[grid]

    def basis(xi: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
        """∂^order of the normalised polynomials, shape (basis, points)."""
        columns = []
        for k in range(d):
            derived = [
                hermite_e.hermeder(np.eye(degree + 1)[n] / np.sqrt(float(factorial(n))), order[k]) for n in range(degree + 1)
            ]
            columns.append(np.array([hermite_e.hermeval(xi[:, k], c) for c in derived])[powers[:, k]])
        return np.prod(columns, axis=0)

    unit, z = np.eye(d, dtype=int), np.asarray(centre) + width * xi
    b, a = train.drift(z), train.diffusion(z)
    applied = sum(b[:, k] / width * basis(xi, tuple(unit[k])) for k in range(d))
    for k, c in itertools.product(range(d), repeat=2):
        applied = applied + a[:, k, c] / width**2 * basis(xi, tuple(unit[k] + unit[c]))
    weighted = basis(xi, (0,) * d) * weights
    generator, ends = weighted @ applied.T, np.column_stack([weighted @ h(z) for h in observed(train).values()])
    places, shares = law.quadrature([nodes] * d)
    start = basis((places - centre) / width, (0,) * d) @ shares
    return np.array([start @ expm(t * generator) @ ends for t in times])


# --- the density, the chain and the runs ----------------------------------------------------------------------------------------


def test_the_error_of_two_meshes_is_that_to_a_spectral_method() -> None:
    """What the two meshes say of the finer one's error is right to a half, and the extrapolated density is far nearer."""
    changes = {"domain.cells": [96, 96], "density.step": 0.02, "model.learning_rate": 0.1}
    setting, train = setting_of(NEURON, changes)
    truth = hermite(train, setting.law, [0.84, 1.15], 0.12, 10, [0.8])[0]
    means = []
    for one in (setting, coarser(setting)):
        density = measures(one, ["density"], WORLD)["density"]
        density.advance(0.8)
        means.append([density.expectation(h)[0] for h in observed(train).values()])
    found = TwoMeshes(np.array(means[0]), np.array(means[1]))
    assert found.error.max() < 1e-5
    assert np.abs(found.fine - truth).max() < 1.5 * found.error.max()
    assert np.abs(found.extrapolated - truth).max() < 0.3 * found.error.max()


def test_density_and_runs_differ_by_the_measured_bias() -> None:
    """cases/sgd_neuron.toml as shipped, up to t = 4. The bias, that of the diffusion against the exact chain, is measured on
    meshes of its own; what is left is sampling error: three standard errors, for each function and time.
    """
    times = [1.0, 2.0, 4.0]
    shipped, train = setting_of(NEURON, {})
    functions = observed(train)
    chain = exact_chain(train, [-0.2, -0.2], [1.8, 2.4], [40, 40])
    exact = chain.expectations(list(functions.values()), shipped.law, 12, [round(t / train.learning_rate) for t in times])
    small, _ = setting_of(NEURON, {"domain.cells": [64, 64], "density.step": 0.05})
    bias = TwoMeshes(*(means_of(one, functions, times) for one in (small, coarser(small)))).extrapolated - exact
    density, runs = means_of(shipped, functions, times), measures(shipped, ["sgd"], WORLD)["sgd"]
    seen = 0
    for k, t in enumerate(times):
        runs.advance(t)
        for n, h in enumerate(functions.values()):
            mean, error = runs.estimate(h)
            assert abs(density[k, n] - mean - bias[k, n]) < 3.0 * error
            assert abs(density[k, n] - mean) < 3.0 * error + abs(bias[k, n])
            seen += abs(bias[k, n]) > 3.0 * error
    assert seen > 9  # the bias is seen in half of them: without it the density would be refuted


def means_of(setting: Problem, functions: Mapping[str, Any], times: list[float]) -> np.ndarray:
    density = measures(setting, ["density"], WORLD)["density"]
    rows = []
    for t in times:
        density.advance(t)
        rows.append([density.expectation(h)[0] for h in functions.values()])
    return np.array(rows)


def test_three_weights_differ_from_their_runs_by_the_bias_of_the_diffusion() -> None:
    """cases/sgd_neuron_bias.toml. A spectral method tells bias and mesh error apart: the first is seen by the runs, the second
    falls as the mesh is refined.
    """
    setting, train = setting_of(BIAS, {"sgd.runs": 400_000})
    end, functions = setting.case.sections.time.end, observed(train)
    truth, other = (hermite(train, setting.law, [0.98, 0.23, 1.19], width, 6, [end])[0] for width in (0.12, 0.13))
    assert np.abs(truth - other).max() < 1e-5
    runs = measures(setting, ["sgd"], WORLD)["sgd"]
    runs.advance(end)
    sampled = np.array([runs.estimate(h) for h in functions.values()])
    assert (np.abs(truth - sampled[:, 0]) > 4.0 * sampled[:, 1]).sum() >= 3
    few = [setting_of(BIAS, {"domain.cells": [n] * 3})[0] for n in (12, 20)]
    coarse, fine = (np.abs(means_of(one, functions, [end])[0] - truth).max() for one in few)
    assert fine < 0.65 * coarse < 5e-3


# --- schedules ------------------------------------------------------------------------------------------------------------------


def test_runs_follow_a_schedule() -> None:
    """f = wx, x = 1: W' = (1 − η)W + ηȳ_B, so mean and variance are known after any sequence of η and B."""
    y = np.array([3.2, 4.4, 4.8, 6.3, 6.7, 4.1])
    stretches = [(0.2, 1, 5), (0.1, 2, 7), (0.4, 4, 3)]
    line = [sgd("weight", points(np.ones(6), y), unit="relu", learning_rate=eta, batch_size=b) for eta, b, _ in stretches]
    runs = SgdRuns(line[0], Product((Normal(5.0, 0.2),)), runs=40_000, comm=WORLD)
    mean, variance, t = 5.0 - y.mean(), 0.04, 0.0
    for train, (eta, batch, steps) in zip(line, stretches, strict=True):
        if t > 0.0:
            runs.change(train)
        t += eta * steps
        runs.advance(t)
        for _ in range(steps):
            mean, variance = (1 - eta) * mean, (1 - eta) ** 2 * variance + eta**2 * np.var(y) / batch
    assert runs.statistics()["steps"] == 15
    found, error = runs.estimate(lambda w: w[:, 0] - y.mean())
    assert abs(found - mean) < 4.0 * error
    found, error = runs.estimate(lambda w: (w[:, 0] - y.mean() - mean) ** 2)
    assert abs(found - variance) < 4.0 * error
    other = SgdRuns(line[2], Product((Normal(5.0, 0.2),)), runs=40_000, seed=1, comm=WORLD)
    other.restore(runs.state())
    for one in (runs, other):
        one.advance(t + 0.8)
    assert other.statistics()["steps"] == 17
    np.testing.assert_array_equal(runs.moments(), other.moments())


def test_averages_over_times_know_that_times_are_correlated() -> None:
    """W' = (1 − η)W + ηȳ: for a start in the stationary law the average of n times has the variance of the autocorrelated sum."""
    y = np.array([3.2, 4.4, 4.8, 6.3, 6.7, 4.1])
    line = sgd("weight", points(np.ones(6), y), unit="relu", learning_rate=0.2, batch_size=1)
    spread = np.sqrt(0.2 / 1.8 * np.var(y))
    runs = SgdRuns(line, Product((Normal(float(y.mean()), float(spread)),)), runs=40_000, comm=WORLD)
    means, errors = runs.averages([lambda w: w[:, 0]], [0.2 * k for k in range(1, 9)])
    factor = sum(0.8 ** abs(j - k) for j in range(8) for k in range(8)) / 64
    assert errors[0] == pytest.approx(spread * np.sqrt(factor / 40_000), rel=0.02)
    assert abs(means[0] - y.mean()) < 4.0 * errors[0]


def test_a_distance_is_rid_of_what_the_sampling_errors_add() -> None:
    rng = np.random.default_rng(3)
    truth, s = np.array([0.03, -0.02, 0.01, 0.0, 0.02]), np.full(5, 0.01)
    found = [distance(truth + s * rng.standard_normal(5), s) for _ in range(4000)]
    assert np.mean([d**2 for d, _ in found]) == pytest.approx(np.mean(truth**2), rel=0.05)
    assert np.std([d for d, _ in found]) < 1.1 * np.mean([e for _, e in found])
    assert distance(np.zeros(5), s) == (0.0, pytest.approx(0.01))


# --- small studies --------------------------------------------------------------------------------------------------------------

QUICK = {"output.fields": False, "output.particles": 0, "output.pictures": False, "sgd.seed": 1}
WEAK: dict[str, Any] = {
    "base": str(NEURON),
    "task": "weak_error",
    "options": {"chain_points": 24},
    "set": {
        **QUICK,
        "domain.cells": [48, 48],
        "density.step": 0.04,
        "sgd.runs": 400_000,
        "time.end": 0.8,
        "time.outputs": [0.8],
    },
    "vary": {"model.learning_rate": [0.1, 0.2]},
    "measure": [
        {"kind": "weak_order", "name": "one", "order": 1, "functions": ["w", "v"]},
        {"kind": "weak_order", "name": "two", "order": 2, "tolerance": 0.3, "functions": ["w*v", "v*v", "loss"]},
        {"kind": "weak_order", "name": "runs", "order": 1, "against": "runs", "tolerance": 0.4, "functions": ["w"]},
    ],
}


def holds(folder: Path, measure: str) -> set[str]:
    return {entry["holds"] for entry in entries(folder) if entry["measure"] == measure}


def test_the_weak_orders_are_one_and_two(tmp_path: Path) -> None:
    data = compute_here(write_study(tmp_path, **WEAK), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds"] * 6
    scores = np.array([data[f"runs_vs_chain.{h}"].values for h in ("w", "v", "w*v")])
    assert np.abs(scores).max() < 4.0  # standard errors
    assert data["chain_lost"].max() < 1e-6
    assert (tmp_path / "out" / "two.png").stat().st_size > 10_000


@pytest.mark.parametrize("broken", ["noise", "drift"])
def test_a_wrong_equation_loses_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Noise that is half too strong is an error of order 1, since A = O(η): only order 2 is lost. A drift that is 5 % too strong
    is one of order 0, and the modified drift with the wrong sign one of order 1.
    """
    if broken == "noise":
        right = SgdNetwork.diffusion
        monkeypatch.setattr(SgdNetwork, "diffusion", lambda train, w: 1.5 * right(train, w))
    else:
        drifts = mvpde.models.sgd_network.DRIFTS
        first, second = drifts[1], drifts[2]
        monkeypatch.setitem(drifts, 1, lambda train, w: 1.05 * first(train, w))
        monkeypatch.setitem(drifts, 2, lambda train, w: 2.0 * first(train, w) - second(train, w))
    table = {**WEAK, "measure": WEAK["measure"][:2], "set": {**WEAK["set"], "sgd.runs": 1000, "domain.cells": [40, 40]}}
    compute_here(write_study(tmp_path, **table), tmp_path / "out")
    assert holds(tmp_path / "out", "two") == {"does not hold"}
    assert holds(tmp_path / "out", "one") == {"holds" if broken == "noise" else "does not hold"}


def test_a_coarse_mesh_decides_nothing(tmp_path: Path) -> None:
    measure = {"kind": "weak_order", "order": 2, "functions": ["w"]}
    table = {
        **WEAK,
        "options": {"chain_points": 18},
        "measure": measure,
        "set": {**WEAK["set"], "sgd.runs": 1000, "domain.cells": [12, 12], "density.step": 0.1},
    }
    compute_here(write_study(tmp_path, **table), tmp_path / "out")
    assert holds(tmp_path / "out", "weak_order") == {"mesh too coarse"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"density.step": None}, "step"),
        ({"time.end": 0.85}, "multiple of the step"),
        ({"model.batch_size": 4}, "more than 100000"),
        ({"domain.cells": [50, 50]}, "multiples of 4"),
        ({"sgd.dynamics": "diffusion"}, "dynamics.*runs of SGD itself"),
    ],
)
def test_what_the_weak_errors_need_is_said_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    settings = {key: value for key, value in {**WEAK["set"], **changes}.items() if value is not None}
    settings["time.outputs"] = [settings["time.end"]]
    path = write_study(tmp_path, **{**WEAK, "set": settings, "vary": {"model.learning_rate": [0.2]}})
    with pytest.raises(Exception, match="no point is done.*" + words):
        compute_here(path, tmp_path / "out")


SCALES: dict[str, Any] = {
    "base": str(NEURON),
    "task": "noise_scale",
    "set": {
        **QUICK,
        "initial.w": {"law": "normal", "mean": 0.77, "std": 0.08},
        "initial.v": {"law": "normal", "mean": 1.1, "std": 0.11},
        "domain.lower": [0.25, 0.4],
        "domain.upper": [1.4, 2.0],
        "domain.cells": [48, 48],
        "sgd.runs": 16_000,
        "time.end": 32.0,
        "time.outputs": [16.0, 20.0, 24.0, 28.0, 32.0],
    },
    "vary": {"model.learning_rate,model.batch_size": [[0.1, 1], [0.2, 2]]},
    "measure": [
        {
            "kind": "slope",
            "name": name,
            "x": "model.learning_rate",
            "y": f"distance.{name}",
            "standard_error": f"standard_error.{name}",
            "predicted": slope,
            "tolerance": 0.5,
            **({"bias": "distance.equal"} if name == "other" else {}),
        }
        for name, slope in (("equal", 1.0), ("other", 0.0))
    ]
    + [{"kind": "boltzmann", "tolerance": 1.5}],
}


def same_sample(rng: np.random.Generator, runs: int, batch: int, size: int) -> np.ndarray:
    """A batch that holds one sample B times: its gradient has the covariance C, not C/B."""
    return np.repeat(rng.integers(0, size, (runs, 1), dtype=np.int32), batch, axis=1)


def one_too_many(rng: np.random.Generator, runs: int, batch: int, size: int) -> np.ndarray:
    """B + 1 samples: the noise scale is wrong by a factor that does not go to 1 as η → 0 at equal η/B."""
    return rng.integers(0, size, (runs, batch + 1), dtype=np.int32)


def test_stationary_laws_depend_on_the_noise_scale_and_are_not_boltzmann(tmp_path: Path) -> None:
    data = compute_here(write_study(tmp_path, **SCALES), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds"] * 4
    assert np.all(data["distance.other"].values > 4.0 * data["distance.equal"].values)
    assert np.all(data["boltzmann.control"].values[:, 0] < 1e-3 * data["boltzmann.divergence"].values[:, 0])


@pytest.mark.parametrize(("broken", "verdict"), [(one_too_many, 0), (same_sample, 1)])
def test_wrong_batches_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., np.ndarray], verdict: int
) -> None:
    monkeypatch.setattr(mvpde.particles.sgd_runs, "with_replacement", broken)
    table = {**SCALES, "measure": SCALES["measure"][:2], "set": {**SCALES["set"], "domain.cells": [32, 32], "sgd.runs": 4000}}
    compute_here(write_study(tmp_path, **table), tmp_path / "out")
    assert entries(tmp_path / "out")[verdict]["holds"] != "holds"


def test_isotropic_noise_would_be_boltzmann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SgdNetwork, "covariance", lambda train, w: np.broadcast_to(0.2 * np.eye(2), (len(w), 2, 2)))
    table = {
        **SCALES,
        "measure": SCALES["measure"][2],
        "set": {**SCALES["set"], "sgd.runs": 100},
        "vary": {"model.learning_rate,model.batch_size": [[0.1, 1]]},
    }
    compute_here(write_study(tmp_path, **table), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["does not hold", "holds"]


def test_the_best_fit_finds_the_temperature_of_a_boltzmann_law() -> None:
    setting, train = setting_of(NEURON, {**SCALES["set"], "domain.cells": [32, 32]})
    box = law_of(setting, WORLD).domain
    loss = train.loss(box.coordinates)
    values = np.exp(-(loss - loss.min()) / 0.007)
    values /= box.graph.lumped @ values
    temperature, divergence = best_fit(box, values, loss)
    assert temperature == pytest.approx(0.007, rel=1e-9)
    assert abs(divergence) < 1e-10
    scale = yardstick(box, values, ("w", "v"))
    assert scale.names == ("z_w", "z_v", "z_w·z_w", "z_w·z_v", "z_v·z_v")
    np.testing.assert_allclose(scale.means[:2], 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="no Boltzmann law"):
        best_fit(box, values, -loss)


SCHEDULE: dict[str, Any] = {
    "base": str(NEURON),
    "task": "batch_schedule",
    "options": {"switches": [2.0, 4.0], "factors": [1, 2, 4]},
    "set": {
        **QUICK,
        "domain.lower": [0.2, 0.3],
        "domain.upper": [1.5, 2.1],
        "domain.cells": [56, 56],
        "density.step": 0.08,
        "sgd.runs": 40_000,
        "time.end": 6.0,
        "time.outputs": [4.0, 6.0],
    },
    "vary": {"model.learning_rate,model.batch_size": [[0.2, 2], [0.4, 4]]},
    "measure": [
        {
            "kind": "slope",
            "name": name,
            "x": "model.learning_rate",
            "y": f"distance.{name}",
            "standard_error": f"standard_error.{name}",
            "times": [4.0] if name == "raise_vs_density" else [6.0],
            "predicted": slope,
            "tolerance": 0.5,
            **({"discretisation": "mesh_error"} if "density" in name else {}),
        }
        for name, slope in (("raise_vs_lower", 1.0), ("raise_vs_density", 1.0), ("constant_vs_density", 0.0))
    ],
}


def test_raising_the_batch_size_is_lowering_the_learning_rate(tmp_path: Path) -> None:
    data = compute_here(write_study(tmp_path, **SCHEDULE), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds"] * 3
    late = data.sel(time=6.0)
    assert np.all(late["distance.constant_vs_density"] > 10.0 * late["distance.raise_vs_density"])


def test_a_schedule_of_wrong_batches_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mvpde.particles.sgd_runs, "with_replacement", one_too_many)
    table = {**SCHEDULE, "set": {**SCHEDULE["set"], "domain.cells": [32, 32], "density.step": 0.12}}
    compute_here(write_study(tmp_path, **table), tmp_path / "out")
    assert holds(tmp_path / "out", "raise_vs_lower") == {"does not hold"}


def test_wrong_schedules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="factors. needs 3 entries"):
        compute_here(write_study(tmp_path, **{**SCHEDULE, "options": {"switches": [2.0, 4.0], "factors": [1]}}), tmp_path / "out")
    between = {**SCHEDULE, "options": {"switches": [2.1], "factors": [1, 2]}}
    with pytest.raises(Exception, match="no point is done.*2.1 is no multiple of the step"):
        compute_here(write_study(tmp_path, **between), tmp_path / "out")
    late = {**SCHEDULE, "options": {"switches": [2.0, 6.0], "factors": [1, 2, 4]}}
    with pytest.raises(Exception, match="no point is done.*switches: 6 is not before the end"):
        compute_here(write_study(tmp_path, **late), tmp_path / "late")


@pytest.mark.parametrize("study", [SCALES, SCHEDULE], ids=["noise_scale", "batch_schedule"])
def test_laws_are_compared_at_some_time(tmp_path: Path, study: dict[str, Any]) -> None:
    path = write_study(tmp_path, **{**study, "set": {**study["set"], "time.outputs": [0.0]}})
    with pytest.raises(Exception, match=f"no point is done.*outputs.*{study['task']}"):
        compute_here(path, tmp_path / "out")
