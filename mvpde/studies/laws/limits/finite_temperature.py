"""Finite temperature and finite n: Langevin runs with τ = 1/(βn) beside their stationary law, `mvpde.particles.finite_n`.

Mean and variance of n(f_n − f) are compared as n → ∞, and at every n with the O(1/n) part that the prediction leaves open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive, Section
from mvpde.models.mean_field import Array
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.finite_n import Tilted, midpoints, prediction, step_bias
from mvpde.runtime import MPI, on_first_rank
from mvpde.studies.figures import GREY, draw_errors, finish
from mvpde.studies.laws.ensembles import ensemble_of, step_of
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import Need, box, given, runs, section
from mvpde.studies.quantities import axis, table_of
from mvpde.studies.task import task_of
from mvpde.studies.verdict import BIASED, COARSE, FAILS, HOLDS, SMALL_SHARE, Json, Verdict, line_in_inverse

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

PREFIX = "finite_temperature."
LARGER = 4.0 / 3.0  # box and cells with which the quadrature of ρ_ε is compared
TASK = '(task "finite_temperature")'


def _written(problem: Problem, key: str) -> object:
    """What [model] says."""
    return getattr(problem.sections.model, key, None)


NEEDS = [
    Need(
        lambda problem: problem.model.data is not None and problem.model.output_weight,
        f"[model] kind: the task needs a network {TASK}",
    ),
    Need(
        lambda problem: problem.model.temperature > 0.0,
        f"[model] temperature: the task needs it above 0, 1/(β·particles) {TASK}",
    ),
    Need(
        lambda problem: _written(problem, "base_measure") is not None,
        f"[model] base_measure: is missing; without one there is no stationary law {TASK}",
    ),
    Need(lambda problem: _written(problem, "loss") == "least_squares", f"[model] loss: the task needs least_squares {TASK}"),
    section("ensemble", f"[ensemble]: the section is missing {TASK}"),
    runs(4, f"[ensemble] runs: the errors come from the scatter of at least 4 {TASK}"),
    box(f"[domain] cells: a box is missing; its cells are the quadrature of ρ_ε {TASK}"),
]


class LangevinOptions(Section):
    """[options] of the task "finite_temperature". Times are in units of 1/τ, in which the law of one particle relaxes."""

    equilibration: Positive = Field(1.0, description="time that is left out of the averages, in 1/τ, > 0", examples=[1.0])
    averaging: Positive = Field(5.0, description="time that is averaged over, in 1/τ, > 0", examples=[5.0])
    interval: Positive = Field(1.0, description="time between samples, > 0", examples=[1.0])


@dataclass(frozen=True)
class Averages:
    """What is predicted and measured at a point; one number for each data point, unless said."""

    beta: float  # β, one number
    multiplier: list[float]  # ε*, the limit n → ∞ of ε
    limit: list[float]  # of the mean
    predicted_mean: list[float]  # E n(f_n − f)
    predicted_variance: list[float]  # Var n(f_n − f)
    predicted_covariance: list[list[float]]  # all of it, data points × data points
    step_bias: list[float]  # what the time step adds to the variance
    quadrature_mean: list[float]  # how much a box and cells 4/3 as large change the predicted mean
    quadrature_variance: list[float]  # and the variance
    mean: list[float]  # of all runs and sampling times
    mean_standard_error: list[float]  # from the scatter of the runs
    variance: list[float]  # as the mean
    variance_standard_error: list[float]  # as that of the mean


@dataclass(frozen=True)
class LangevinResult:
    """The summary of a point."""

    finite_temperature: Averages


def finite_temperature(problem: Problem, options: LangevinOptions, comm: MPI.Intracomm) -> LangevinResult:
    """Prediction and time averages over long runs. Collective."""
    model, domain = problem.model, given(problem.sections.domain)
    section = given(problem.sections.ensemble)
    n, weights = section.particles, given(model.data).weights
    beta = 1.0 / (n * model.temperature)
    lower, upper, cells = given(domain.lower), given(domain.upper), given(domain.cells)
    nodes, other = (midpoints(lower, upper, cells, model.periods, larger) for larger in (1.0, LARGER))
    predicted, limit, coarse = on_first_rank(
        comm, lambda: tuple(prediction(model, z, beta, size) for z, size in ((nodes, n), (nodes, math.inf), (other, n)))
    )
    start = Tilted(model, problem.law, weights * predicted.epsilon)
    ensemble = ensemble_of(problem, comm, law=start)
    return LangevinResult(
        Averages(
            beta=beta,
            multiplier=limit.epsilon.tolist(),
            limit=limit.mean.tolist(),
            predicted_mean=predicted.mean.tolist(),
            predicted_variance=np.diag(predicted.covariance).tolist(),
            predicted_covariance=predicted.covariance.tolist(),
            step_bias=np.diag(step_bias(predicted, weights, beta, n, step_of(problem))).tolist(),
            quadrature_mean=np.abs(predicted.mean - coarse.mean).tolist(),
            quadrature_variance=np.abs(np.diag(predicted.covariance - coarse.covariance)).tolist(),
            **statistics(_samples(ensemble, options)),
        )
    )


def _samples(ensemble: Ensemble, options: LangevinOptions) -> Array:
    """n(f_n − f) of every run at every sampling time, shape (times, runs, P)."""
    model, unit = ensemble.model, 1.0 / ensemble.model.temperature
    start, count = options.equilibration * unit, max(2, math.ceil(options.averaging * unit / options.interval))
    rows = []
    for k in range(1, count + 1):
        ensemble.advance(start + k * options.interval)
        rows.append(ensemble.particles * (model.predictions(ensemble.moments()) - given(model.data).target))
    return np.array(rows)


def statistics(samples: Array) -> dict[str, list[float]]:
    """Mean and variance of u, shape (times, runs, P), with standard errors from the scatter of the runs' time averages."""
    runs = samples.shape[1]
    means = samples.mean(axis=0)
    mean, error = means.mean(axis=0), means.std(axis=0, ddof=1) / math.sqrt(runs)
    squares = ((samples - mean) ** 2).mean(axis=0)
    return {
        "mean": mean.tolist(),
        "mean_standard_error": error.tolist(),
        "variance": (squares.mean(axis=0) + error**2).tolist(),  # E(u − ū)² = Var u − Var ū
        "variance_standard_error": (squares.std(axis=0, ddof=1) / math.sqrt(runs)).tolist(),
    }


FINITE_TEMPERATURE = task_of(LangevinOptions, finite_temperature, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class LangevinLawOptions(MeasurementOptions):
    """Predicted beside measured."""

    name: str = Field("finite_temperature", description="name of its figure, <name>.png", examples=["finite_temperature"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    errors: Positive = Field(3.0, description="standard errors that are allowed, > 0", examples=[3.0])


def finite_temperature_law(dataset: xarray.Dataset, options: LangevinLawOptions) -> Outcome:
    """Two verdicts on each component of mean and variance, the table `finite_temperature`, and a figure."""
    varied = axis(dataset, options.x)
    if varied is None or f"{PREFIX}mean" not in dataset:
        return Outcome([Verdict("n(f_n − f) as predicted", 0.0, None, None, FAILS, "no point has the averages")])
    table, n = _table(dataset, str(varied.dims[0])), varied.values.astype(float)
    verdicts = [
        verdict
        for quantity, sign in (("mean", "E"), ("variance", "Var"))
        for p in range(table.sizes["data_point"])
        for verdict in _verdicts(table.isel(data_point=p), n, quantity, f"{sign} n(f_n − f)(x_{p + 1})", options)
    ]
    panels = [partial(_draw, table=table, n=n, quantity=name, errors=options.errors) for name in ("mean", "variance")]
    return Outcome(verdicts, Picture(title(dataset), panels), {"finite_temperature": table})


def _table(dataset: xarray.Dataset, dimension: str) -> xarray.Dataset:
    """The averages over particles × data_point, means over other parameters (errors: of that mean)."""
    whole = table_of(dataset, PREFIX, (dimension,))
    inner = {name: [d for d in values.dims if str(d).startswith(PREFIX)] for name, values in whole.data_vars.items()}
    rows = {name: whole[name].rename({own[0]: "data_point"}) for name, own in inner.items() if len(own) == 1}
    return whole[[]].assign(rows).transpose(dimension, "data_point")


def _verdicts(part: xarray.Dataset, n: Array, quantity: str, what: str, options: LangevinLawOptions) -> list[Verdict]:
    predicted, measured = part[f"predicted_{quantity}"].values, part[quantity].values
    errors, bias = part[f"{quantity}_standard_error"].values, np.abs(part["step_bias"].values) * (quantity == "variance")
    details: dict[str, Json] = {"measure": options.name, "particles": n.tolist(), "differences": (measured - predicted).tolist()}
    details |= {"standard_errors": errors.tolist(), "step_bias": bias.tolist()}
    coarse = part[f"quadrature_{quantity}"].values
    details |= {"quadrature": coarse.tolist()}
    good = np.isfinite(measured) & np.isfinite(errors)
    if good.sum() < 3:
        return [Verdict(what, math.nan, None, None, FAILS, "needs three numbers of particles", details)]
    difference, slack = (measured - predicted)[good], options.errors * errors[good]
    (value, _), covariance = line_in_inverse(n[good], difference, errors[good])
    margin = options.errors * math.sqrt(covariance[0, 0])
    largest = float(predicted[np.argmax(n)])
    remainder = float((difference / n[good] / errors[good] ** 2).sum() / (1.0 / (n[good] * errors[good]) ** 2).sum())
    part_of_n = np.abs(remainder) / n[good]
    excess = np.abs(difference) / (slack + part_of_n)
    worst = int(np.argmax(excess))
    size, at = int(n[good][worst]), float(measured[good][worst])
    allowed = float(slack[worst] + part_of_n[worst])
    centre = float(predicted[good][worst])
    floor = _FLOORS[bool(np.any(coarse[good] > SMALL_SHARE * errors[good])), bool(np.any(bias[good] > SMALL_SHARE * slack))]
    return [
        Verdict(
            f"{what}, measured − predicted → 0 as n → ∞",
            0.0,
            float(value),
            (float(value) - margin, float(value) + margin),
            floor[0] or _judged(abs(value) <= margin),
            f"A + B/n through n = {', '.join(f'{k:g}' for k in n[good])}; predicted {largest:.4g} at n = {n.max():g}{floor[1]}",
            details,
        ),
        Verdict(
            f"{what} as predicted at every n, worst n = {size}",
            centre,
            at,
            (at - allowed, at + allowed),
            floor[0] or _judged(bool(excess.max() <= 1.0)),
            f"{options.errors:g} standard errors and an O(1/n) part fitted to the same differences, {remainder:.3g}/n{floor[1]}",
            details,
        ),
    ]


# (quadrature too coarse, step too long) → the verdict that this alone decides, and what its note says
_FLOORS = {
    (True, True): (COARSE, "; a box and cells 4/3 as large change the prediction by more than a third of a standard error"),
    (True, False): (COARSE, "; a box and cells 4/3 as large change the prediction by more than a third of a standard error"),
    (False, True): (BIASED, "; the time step's own error is above a third of what is allowed"),
    (False, False): ("", ""),
}


def _judged(right: bool) -> str:
    return HOLDS if right else FAILS


def _draw(axes: Axes, table: xarray.Dataset, n: Array, quantity: str, errors: float) -> None:
    for p in range(table.sizes["data_point"]):
        row = table.isel(data_point=p)
        difference = row[quantity].values - row[f"predicted_{quantity}"].values
        lengths = errors * row[f"{quantity}_standard_error"].values
        draw_errors(axes, 1.0 / n * (1.0 + 0.02 * (p - 1)), difference, lengths, f"data point {p + 1}", p)
    axes.axhline(0.0, color=GREY, linestyle="--", linewidth=1.2)
    axes.set_xlim(0.0, 1.15 / n.min())
    heading = f"bars: ± {errors:g} standard errors"
    finish(axes, "1/n", f"{quantity} of n(f_n − f): measured − predicted", heading=heading, log="")


LANGEVIN = Measurement(LangevinLawOptions, finite_temperature_law)
