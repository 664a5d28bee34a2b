"""What is measured at one output time: a row of every measure, their comparison, and the arrays that are written and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.sgd_runs import weak_errors
from mvpde.runs.compare import loss, prediction_error, prediction_error_standard_error, sliced_wasserstein
from mvpde.runtime import MPI, on_first_rank

ROWS = 2048  # of a feature matrix in work at once
FAINT = 1e-9  # share of the mass whose nodes are left out of transport distances: changes W² by at most 1e-9 diameter²

PAIRS = (("sgd", "density"), ("density", "characteristics"), ("ensemble", "density"), ("ensemble", "characteristics"))


@dataclass
class Record:
    """One output time. `numbers` are the same on every rank; the arrays are there on rank 0 only.

    Attributes:
        time: t.
        numbers: measure → quantity → number.
        comparison: "a_vs_b" → quantity → number.
        predictions: measure → f(x_p), shape (P,), mean over runs.
        prediction_error: standard error of the ensemble's f(x_p), shape (P,).
        fields: name → values at the mesh points.
        particles: the first particles of run 0, shape (n, D).
        clouds: measure → points (N, D) and weights (N,).
        weak_errors: test function → its mean over runs of SGD, the standard error, and its mean under the density.
    """

    time: float
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    comparison: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: dict[str, Array] = field(default_factory=dict)
    prediction_error: Array | None = None
    fields: dict[str, Array] = field(default_factory=dict)
    particles: Array | None = None
    clouds: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    weak_errors: dict[str, dict[str, float]] = field(default_factory=dict)


def _density_numbers(density: Any) -> dict[str, float]:
    statistics = density.statistics()
    keys = ("mass_defect", "minimum", "steps")
    energy = density.free_energy()  # None where the model is no gradient flow
    numbers = {} if energy is None else {"free_energy": energy}
    return {**numbers, "outer_mass": density.outer_mass(), **{key: statistics[key] for key in keys}}


_NUMBERS: dict[str, Callable[[Any], dict[str, float]]] = {
    "density": _density_numbers,
    "ensemble": lambda ensemble: {"loss_standard_error": ensemble.loss_standard_error(), "steps": ensemble.statistics()["steps"]},
    "sgd": lambda runs: {"loss_standard_error": runs.loss_standard_error(), "steps": runs.statistics()["steps"]},
    "characteristics": lambda characteristics: {"steps": characteristics.statistics()["steps"]},
}


@dataclass(frozen=True)
class Wanted:
    """What a record is to hold beside the numbers.

    Attributes:
        particles: how many particles of run 0 to keep.
        projections: directions of the sliced Wasserstein distances; 0: none are computed.
        lower: lower end of each coordinate; periodic ones are given in [lower, lower + period).
    """

    particles: int
    projections: int
    lower: tuple[float, ...]


def record(model: MeanField, measures: Mapping[str, Any], t: float, wanted: Wanted, comm: MPI.Intracomm) -> Record:
    """Everything that is known of the measures, all at time t. Collective."""
    found = Record(t)
    moments = {name: measure.moments() for name, measure in measures.items()}
    for name, measure in measures.items():
        losses = measure.losses() if hasattr(measure, "losses") else loss(model, moments[name])
        found.numbers[name] = {"loss": float(np.mean(losses)), "step": measure.step or 0.0, **_NUMBERS[name](measure)}
        found.numbers[name] |= {key: float(np.mean(measure.expectation(h))) for key, h in model.observables.items()}
        cloud = measure.cloud()
        if cloud is not None:
            found.clouds[name] = (turned(cloud[0], model.periods, wanted.lower), cloud[1])
    if "density" in measures:
        values = measures["density"].domain.to_mesh(measures["density"].values)
        found.fields = {"rho": values} if comm.rank == 0 else {}
    if {"sgd", "density"} <= measures.keys():
        found.weak_errors = weak_errors(measures["sgd"], measures["density"])
    if model.data is not None:
        found.predictions = {name: model.predictions(m).mean(axis=0) for name, m in moments.items()}
    on_first_rank(comm, lambda: _derive(found, model, moments, wanted.particles))
    pairs = [(a, b) for a, b in PAIRS if a in measures and b in measures]
    found.comparison = on_first_rank(
        comm, lambda: {f"{a}_vs_{b}": _compare(found, model, moments, a, b, wanted.projections) for a, b in pairs}
    )
    return found


def turned(points: Array, periods: Sequence[float | None], lower: Sequence[float]) -> Array:
    """Points (N, D) with each periodic coordinate in [lower, lower + period)."""
    result = points.copy()
    for axis, (period, start) in enumerate(zip(periods, lower, strict=True)):
        if period is not None:
            angle = np.mod(points[:, axis] - start, period)
            result[:, axis] = start + np.where(angle < period, angle, 0.0)  # mod of a tiny negative number rounds to the period
    return result


def _derive(found: Record, model: MeanField, moments: Mapping[str, Array], particles: int) -> None:
    for name in ("ensemble", "sgd"):
        if name in moments:
            found.particles = found.clouds[name][0][:particles]
    if "ensemble" in moments and model.data is not None:
        found.prediction_error = _prediction_standard_error(model, moments["ensemble"], found.clouds["ensemble"][0])


def _compare(found: Record, model: MeanField, moments: Mapping[str, Array], a: str, b: str, projections: int) -> dict[str, float]:
    result = {} if model.data is None else {"prediction_error": prediction_error(model, moments[a], moments[b])}
    if model.data is not None and len(moments[a]) > 1:  # of runs that are independent, against one law
        result["prediction_error_standard_error"] = prediction_error_standard_error(model, moments[a], moments[b])
    if projections:
        clouds = without_faint(found.clouds[a]), without_faint(found.clouds[b])
        result["sliced_wasserstein"] = sliced_wasserstein(*clouds, model.periods, projections=projections)
    return result


def without_faint(cloud: tuple[Array, Array]) -> tuple[Array, Array]:
    """A cloud without its lightest points, which together hold less than a share FAINT of the mass."""
    points, weights = cloud
    order = np.argsort(weights)
    light = np.cumsum(np.maximum(weights[order], 0.0)) < FAINT * weights.sum()
    keep = np.ones(len(weights), bool)
    keep[order[light]] = False
    return points[keep], weights[keep]


def _prediction_standard_error(model: MeanField, moments: Array, points: Array) -> Array:
    """Standard error of the mean over runs of f(x_p) = m_p, shape (P,): from the runs, or from one run's particles."""
    f = model.predictions(moments)
    runs, count = f.shape
    if runs > 1:
        return np.asarray(f.std(axis=0, ddof=1) / np.sqrt(runs))
    squares = np.zeros(count)
    for start in range(0, len(points), ROWS):
        z = points[start : start + ROWS]
        squares += model.amplitude(z) ** 2 @ model.profile(z[:, : model.profile_dimension])[:, :count] ** 2
    variance = np.maximum(squares / len(points) - f[0] ** 2, 0.0)
    return np.asarray(np.sqrt(variance / max(len(points) - 1, 1)))
