"""Propagation of chaos and the empirical law in small; and with the simulator broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at_hand.models import circle_network
from at_hand.studies import compute_here, entries, write_study
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import MeanField
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, SolverError
from mvpde.studies.laws.limits.chaos import GrowthOptions, _bounded, pair_covariances, rates

CASES = Path(__file__).parents[4] / "cases"
SLOPES: list[dict[str, Any]] = [
    {
        "kind": "slope",
        "name": "coupling",
        "x": "ensemble.particles",
        "y": "chaos.coupling",
        "standard_error": "chaos.coupling_standard_error",
        "predicted": -0.5,
        "tolerance": 0.1,
        "discretisation": "chaos.discretisation",
        "times": [2.0],
    },
    {
        "kind": "slope",
        "name": "pairs",
        "x": "ensemble.particles",
        "y": "chaos.pair_covariance_size",
        "standard_error": "chaos.pair_covariance_standard_error",
        "predicted": -1.0,
        "tolerance": 0.25,
        "times": [2.0],
    },
]
GROWTH = {"kind": "chaos_growth", "fitted_until": 1.0}
KEYS = "ensemble.particles,ensemble.runs,ensemble.seed"
VARY = {KEYS: [[25, 128, 1], [100, 64, 2], [400, 32, 3]]}
COLD: dict[str, Any] = {
    "base": str(CASES / "gaussian_mixture.toml"),
    "task": "chaos",
    "set": {
        "characteristics.nodes": [32, 24],
        "ensemble.step": 0.125,
        "time.end": 2.0,
        "time.outputs": [0.0, 0.5, 1.0, 2.0],
    },
    "options": {"euler_steps": [0.125, 0.25, 0.5]},
    "vary": VARY,
    "measure": [*SLOPES, GROWTH],
}
WARM: dict[str, Any] = {
    "base": str(CASES / "circle_rbf_warm.toml"),
    "task": "chaos",
    "set": {"domain.cells": [48, 48], "ensemble.step": 0.125, "time.end": 2.0, "time.outputs": [1.0, 2.0]},
    "vary": {"ensemble.particles,ensemble.runs,ensemble.seed": [[50, 128, 1], [800, 32, 2]]},
    "measure": SLOPES[:1],
}


@pytest.mark.serial
def test_copies_come_near_and_pairs_decorrelate(tmp_path: Path) -> None:
    """Means over 3200 particles or more: slopes are known to 0.07."""
    data = compute_here(write_study(tmp_path, **COLD), tmp_path / "out")
    found = {entry["law"]: entry for entry in entries(tmp_path / "out")}
    assert [entry["holds"] for entry in found.values()] == ["holds"] * 4, found
    assert data["chaos.coupling"].isel(time=0).values == pytest.approx(0.0, abs=1e-15)
    assert (tmp_path / "out" / "growth.png").stat().st_size > 10_000


@pytest.mark.serial
@pytest.mark.parametrize("broken", ["drift", "start"])
def test_the_verdict_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Half too large a drift moves the particles away from the limit that drives the copies; a common shift correlates pairs."""
    right, sample = Ensemble._velocity, Product.sample
    if broken == "drift":
        monkeypatch.setattr(Ensemble, "_velocity", lambda *arguments, **keys: [1.5 * b for b in right(*arguments, **keys)])
    else:
        monkeypatch.setattr(Product, "sample", lambda law, rng, n: sample(law, rng, n) + 0.5 * rng.standard_normal())
    fewer = {**COLD, "options": {}, "vary": {KEYS: [[25, 64, 1], [100, 32, 2], [400, 16, 3]]}, "measure": SLOPES}
    compute_here(write_study(tmp_path, **fewer), tmp_path / "out")
    coupling, pairs = entries(tmp_path / "out")
    assert coupling["holds"] == "does not hold"
    assert broken == "drift" or pairs["holds"] == "does not hold"


@pytest.mark.serial
def test_a_density_drives_the_copies_at_finite_temperature(tmp_path: Path) -> None:
    compute_here(write_study(tmp_path, **WARM), tmp_path / "out")
    (entry,) = entries(tmp_path / "out")
    assert entry["holds"] == "holds", entry
    assert 0.0 < entry["discretisation"] < entry["smallest"] / 3.0


@pytest.mark.serial
@pytest.mark.parametrize(
    ("study", "options", "words"), [(WARM, [0.25], "only at temperature 0"), (COLD, [0.3], "intervals between time.outputs")]
)
def test_steps_that_cannot_be_compared_are_refused(
    tmp_path: Path, study: dict[str, Any], options: list[float], words: str
) -> None:
    path = write_study(tmp_path, **{**study, "options": {"euler_steps": options}})
    with pytest.raises(SolverError, match=words):
        compute_here(path, tmp_path / "out")


def linear() -> MeanField:
    """One feature, g(z) = z, and no force."""
    return MeanField(
        coordinates=("x",),
        profile=lambda y: y.copy(),
        profile_field=lambda y, r: (y @ r, np.broadcast_to(r, y.shape)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
    )


class Shifted:
    """Normal particles with a common normal shift of variance ¼: their covariance."""

    dimension = 1

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.standard_normal((n, 1)) + 0.5 * rng.standard_normal()


def test_the_covariance_of_pairs_is_unbiased(comm: MPI.Intracomm) -> None:
    """Within four standard errors of 0 for independent particles, of ¼ with a common shift of that variance."""
    for law, exact in ((Product((Normal(0.3, 1.0),)), 0.0), (Shifted(), 0.25)):
        values = pair_covariances(linear(), Ensemble(linear(), law, particles=10, runs=2000, seed=4, comm=comm))
        assert abs(values.mean() - exact) < 4.0 * values.std(ddof=1) / np.sqrt(2000)


def test_rates_of_exponential_growth() -> None:
    t = np.array([0.5, 1.0, 3.0])
    assert rates(t, np.expm1(0.7 * t)) == pytest.approx([0.7] * 3)


@pytest.mark.parametrize(("y", "holds"), [(lambda t: t, "holds"), (lambda t: np.expm1(t**3), "does not hold")])
def test_growth_beyond_an_exponential_is_told(y: Any, holds: str) -> None:
    """C of t ≤ 1 is enough for linear growth later, not for e^{t³}."""
    t = np.array([0.0, 0.5, 1.0, 2.0])
    assert _bounded(t, y(t)[None], GrowthOptions(kind="chaos_growth", fitted_until=1.0)).holds == holds


LAW: dict[str, Any] = {
    "base": str(CASES / "circle_rbf_warm.toml"),
    "task": "empirical_law",
    "set": {"domain.cells": [96, 96], "ensemble.step": 0.25, "time.end": 1.0, "time.outputs": [0.0, 1.0]},
    "options": {"projections": 8},
    "vary": {"ensemble.particles,ensemble.runs,ensemble.seed": [[50, 24, 100], [1000, 16, 200]]},
    "measure": {
        "kind": "slope",
        "x": "ensemble.particles",
        "y": "law.distance",
        "standard_error": "law.standard_error",
        "predicted": -0.5,
        "tolerance": 0.1,
        "discretisation": "law.discretisation",
    },
}


@pytest.mark.serial
def test_the_empirical_law_comes_near_the_density(tmp_path: Path) -> None:
    compute_here(write_study(tmp_path, **LAW), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["holds", "holds"]


@pytest.mark.serial
def test_a_common_shift_keeps_the_empirical_law_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Product.sample
    monkeypatch.setattr(Product, "sample", lambda law, rng, n: sample(law, rng, n) + 0.3 * rng.standard_normal())
    compute_here(write_study(tmp_path, **LAW), tmp_path / "out")
    assert [entry["holds"] for entry in entries(tmp_path / "out")] == ["does not hold"] * 2


@pytest.mark.ranks
def test_the_limit_keeps_its_moments_where_the_network_is_the_same(comm: MPI.Intracomm) -> None:
    """Copies driven by the particles' own moments of an earlier run are that run: the same start, the same noise."""
    model, law = circle_network(0.05)
    build = {"particles": 30, "runs": 1, "seed": 3, "step": 0.25, "scheme": "euler", "comm": comm}
    first, history = Ensemble(model, law, **build), {}
    for k in range(5):
        first.advance(0.25 * k)
        history[0.25 * k] = first.moments()[0]
    copies = Ensemble(model, law, driven_by=lambda t: history[round(4.0 * t) / 4.0], **build)
    copies.advance(1.0)
    assert float(first.distance(copies)[0]) < 1e-12
