"""What is measured at one output time: a row of every measure, their comparison, and the arrays that are written and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mvpde.cases.measures import MEASURES, SAMPLES, on_mesh, pairs
from mvpde.measure import Cloud, Measure
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.accuracy.student import student
from mvpde.particles.blocks import wrap
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runs.compare import differences, weak_errors
from mvpde.runs.errors.means import Function, Mean, functions_of, means_under, of_coordinates
from mvpde.runtime import MPI, on_first_rank

ROWS = 2048  # of a feature matrix in work at once
ROUNDING = 1e-9  # by which a variance may be negative, relative to the square of the mean


@dataclass
class Record:
    """One output time. `numbers` are the same on every rank; the arrays are there on rank 0 only.

    Attributes:
        time: t.
        numbers: measure → quantity → number.
        comparison: "a_vs_b" → quantity → number.
        arrays: measure → quantity → what is no single number; the same on every rank.
        predictions: measure → f(x_p), shape (P,), mean over runs.
        prediction_standard_error: the same for the standard error of that mean, of measures made of samples.
        fields: name → values at the mesh points.
        particles: the first particles of run 0, shape (n, D).
        clouds: measure → points (N, D) and weights (N,).
        weak_errors: test function → its mean over runs of SGD, the standard error, and its mean under the density.
        labels: measure → its name in legends.
        bars: measure → standard errors in a bar that covers 95 %, by Student's t where runs are few.
        means: measure → quantity → its mean, of moments of the coordinates and observables; where they were asked for.
        functions: quantity → the function that ``means`` are of.
        errors: measure → quantity → error beside sampling of what is no single number, where companions tell it.
        mean_errors: measure → quantity → error of that mean beside sampling, where companions tell it.
        bias: measure made of samples → by how much the loss of n particles is above that of their law, to leading order.
    """

    time: float
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    comparison: dict[str, dict[str, float]] = field(default_factory=dict)
    arrays: dict[str, dict[str, Array]] = field(default_factory=dict)
    predictions: dict[str, Array] = field(default_factory=dict)
    prediction_standard_error: dict[str, Array] = field(default_factory=dict)
    fields: dict[str, Array] = field(default_factory=dict)
    particles: Array | None = None
    clouds: dict[str, Cloud] = field(default_factory=dict)
    weak_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)
    means: dict[str, dict[str, Mean]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    errors: dict[str, dict[str, Array]] = field(default_factory=dict)
    mean_errors: dict[str, dict[str, float]] = field(default_factory=dict)
    bias: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a record is to hold beside the numbers.

    Attributes:
        particles: how many particles of run 0 to keep.
        projections: directions of the sliced Wasserstein distances; 0: none are computed.
        lower: lower end of each coordinate; periodic ones are given in [lower, lower + period).
        means: whether moments of all coordinates are compared.
    """

    particles: int
    projections: int
    lower: tuple[float, ...]
    means: bool = False


def record(model: MeanField, measures: Mapping[str, Measure], t: float, wanted: Wanted, comm: MPI.Intracomm) -> Record:
    """Everything that is known of the measures, all at time t. Collective."""
    recorded = Record(t, labels={name: measure.label for name, measure in measures.items()})
    moments = {name: measure.moments() for name, measure in measures.items()}
    recorded.bars = {name: student(len(m)) if len(m) > 1 else 2.0 for name, m in moments.items()}
    points = _points(measures)
    for name, measure in measures.items():
        placed = of_coordinates(model, measure, wanted.lower or (0.0,) * model.dimension, points.get(name, 0))
        recorded.numbers[name] = placed | numbers_of(model, measure)
        cloud = measure.cloud()
        if cloud is not None:
            recorded.clouds[name] = (wrap(cloud[0], model.periods, wanted.lower), cloud[1])
        recorded.fields |= measure.fields()
        recorded.arrays[name] = measure.arrays()
    recorded.weak_errors = _weak_errors(measures)
    if wanted.means and len(measures) > 1:
        recorded.functions = functions_of(model, list(measures.values())[-1])
        recorded.means = means_under(measures, points, recorded.functions)
    on_first_rank(comm, lambda: _derive(recorded, model, moments, wanted.particles))
    recorded.comparison = on_first_rank(comm, lambda: _comparison(recorded, model, moments, wanted.projections))
    return recorded


def numbers_of(model: MeanField, measure: Measure) -> dict[str, float]:
    """Loss, step, what the measure says of itself, and the means that the model asks for. Collective."""
    always = {"loss": float(np.mean(measure.losses())), "step": measure.step, **measure.numbers()}
    return always | {key: float(np.mean(measure.expectation(h))) for key, h in model.observables.items()}


def _points(measures: Mapping[str, Measure]) -> dict[str, int]:
    """How many independent points each measure has that is made of samples."""
    said = {name: measure.statistics() for name, measure in measures.items() if MEASURES[name].exactness == SAMPLES}
    sizes = {name: [numbers.get(key, 1) for key in ("runs", "particles", "layers", "width")] for name, numbers in said.items()}
    return {name: math.prod(size for size in counts if isinstance(size, int)) for name, counts in sizes.items()}


def _weak_errors(measures: Mapping[str, Measure]) -> dict[str, dict[str, float]]:
    """Of runs of SGD against the density. Collective."""
    density = on_mesh(measures)
    runs = [measure for measure in measures.values() if isinstance(measure, SgdRuns)]
    return weak_errors(runs[0], density) if runs and density is not None else {}


def _derive(recorded: Record, model: MeanField, moments: Mapping[str, Array], particles: int) -> None:
    """What follows from moments and clouds, on rank 0."""
    sampled = [name for name in moments if MEASURES[name].exactness == SAMPLES]
    for name in sampled:
        recorded.particles = recorded.clouds[name][0][:particles]
    if model.data is None:
        return
    recorded.predictions = {name: model.predictions(m).mean(axis=0) for name, m in moments.items()}
    recorded.prediction_standard_error = {
        name: _prediction_standard_error(model, moments[name], recorded.clouds[name][0]) for name in sampled
    }
    for name, errors in recorded.prediction_standard_error.items():
        recorded.bias[name] = _bias(model, moments[name], errors * math.sqrt(len(moments[name])))


def _bias(model: MeanField, moments: Array, spread: Array) -> float:
    """½ Σ_p R''_pp δ_p² ≈ ½[R(m + δ) + R(m − δ)] − R(m): what predictions that scatter by δ, shape (P,), add to the mean loss."""
    centre, step = moments.mean(axis=0), np.zeros(moments.shape[1])
    step[: len(spread)] = spread
    above, at, below = (float(model.outer_energy(centre + sign * step)) for sign in (1.0, 0.0, -1.0))
    return 0.5 * (above + below) - at


def _comparison(
    recorded: Record, model: MeanField, moments: Mapping[str, Array], projections: int
) -> dict[str, dict[str, float]]:
    sights = {name: (moments[name], cloud) for name, cloud in recorded.clouds.items()}
    return {f"{a}_vs_{b}": differences(model, sights[a], sights[b], projections=projections) for a, b in pairs(sights)}


def _prediction_standard_error(model: MeanField, moments: Array, points: Array) -> Array:
    """Standard error of the mean over runs of f(x_p) = m_p, shape (P,): from the runs, or from one run's particles.

    NaN from one run of weights that are no independent particles, whose features do not make the prediction.
    """
    f = model.predictions(moments)
    runs, count = f.shape
    if runs > 1:
        return np.asarray(f.std(axis=0, ddof=1) / np.sqrt(runs))
    squares = np.zeros(count)
    for start in range(0, len(points), ROWS):
        z = points[start : start + ROWS]
        squares += model.amplitude(z) ** 2 @ model.profile(z[:, : model.profile_dimension])[:, :count] ** 2
    variance = squares / len(points) - f[0] ** 2
    variance = np.where(variance < -ROUNDING * f[0] ** 2, np.nan, np.maximum(variance, 0.0))
    return np.asarray(np.sqrt(variance / (len(points) - 1 if len(points) > 1 else math.nan)))
