"""What is measured at one output time: a row of every measure, their comparison, and the arrays that are written and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mvpde.models.mean_field import Array, MeanField, amplitude, predictions
from mvpde.observables import loss, prediction_error, sliced_wasserstein
from mvpde.runtime import MPI, on_first_rank

ROWS = 2048  # of a feature matrix in work at once

PAIRS = (("density", "characteristics"), ("ensemble", "density"), ("ensemble", "characteristics"))


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
        states: measure → arrays of a checkpoint.
    """

    time: float
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    comparison: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: dict[str, Array] = field(default_factory=dict)
    prediction_error: Array | None = None
    fields: dict[str, Array] = field(default_factory=dict)
    particles: Array | None = None
    clouds: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


def _density_numbers(density: Any) -> dict[str, float]:
    statistics = density.statistics()
    keys = ("mass_defect", "minimum", "steps")
    return {"free_energy": density.free_energy(), "outer_mass": density.outer_mass(), **{key: statistics[key] for key in keys}}


_NUMBERS: dict[str, Callable[[Any], dict[str, float]]] = {
    "density": _density_numbers,
    "ensemble": lambda ensemble: {"loss_standard_error": ensemble.loss_standard_error(), "steps": ensemble.statistics()["steps"]},
    "characteristics": lambda characteristics: {"steps": characteristics.statistics()["steps"]},
}


def record(model: MeanField, measures: Mapping[str, Any], t: float, *, particles: int, distances: bool, comm: MPI.Intracomm) -> Record:
    """Everything that is known of the measures at time t. Collective.

    Args:
        model: the model of all measures.
        measures: by name, all at time t.
        t: the output time.
        particles: how many particles of run 0 to keep.
        distances: whether to compute sliced Wasserstein distances.
        comm: communicator.
    """
    found = Record(t)
    moments = {name: measure.moments() for name, measure in measures.items()}
    for name, measure in measures.items():
        found.numbers[name] = {"loss": float(np.mean(loss(model, moments[name]))), "step": measure.step or 0.0, **_NUMBERS[name](measure)}
        cloud = measure.cloud()
        state = measure.state() if hasattr(measure, "state") else None
        if comm.rank == 0:
            found.clouds[name], found.states[name] = cloud, state or {}
    if "density" in measures:
        values = measures["density"].domain.to_mesh(measures["density"].values)
        found.fields = {"rho": values} if comm.rank == 0 else {}
    if model.data is not None:
        found.predictions = {name: predictions(model, m).mean(axis=0) for name, m in moments.items()}
    on_first_rank(comm, lambda: _derive(found, model, moments, particles))
    pairs = [(a, b) for a, b in PAIRS if a in measures and b in measures]
    found.comparison = on_first_rank(comm, lambda: {f"{a}_vs_{b}": _compare(found, model, moments, a, b, distances) for a, b in pairs})
    return found


def _derive(found: Record, model: MeanField, moments: Mapping[str, Array], particles: int) -> None:
    if "ensemble" not in moments:
        return
    points = found.clouds["ensemble"][0]
    found.particles = points[:particles]
    if model.data is not None:
        found.prediction_error = _prediction_standard_error(model, moments["ensemble"], points)


def _compare(found: Record, model: MeanField, moments: Mapping[str, Array], a: str, b: str, distances: bool) -> dict[str, float]:
    result = {} if model.data is None else {"prediction_error": prediction_error(model, moments[a], moments[b])}
    if distances:
        result["sliced_wasserstein"] = sliced_wasserstein(found.clouds[a], found.clouds[b], model.periods or (None,) * model.dimension)
    return result


def _prediction_standard_error(model: MeanField, moments: Array, points: Array) -> Array:
    """Standard error of the mean over runs of f(x_p) = m_p, shape (P,): from the runs, or from the spread of one run's particles."""
    f = predictions(model, moments)
    runs, count = f.shape
    if runs > 1:
        return np.asarray(f.std(axis=0, ddof=1) / np.sqrt(runs))
    squares = np.zeros(count)
    for start in range(0, len(points), ROWS):
        z = points[start : start + ROWS]
        squares += amplitude(model, z) ** 2 @ model.profile(z[:, : model.profile_dimension])[:, :count] ** 2
    variance = np.maximum(squares / len(points) - f[0] ** 2, 0.0)
    return np.asarray(np.sqrt(variance / max(len(points) - 1, 1)))
