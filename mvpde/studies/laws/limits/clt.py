"""The central limit theorem: the predicted law of √n(f_n − f_t) beside that of an ensemble.

At temperature 0, with Cov the limit covariance of `mvpde.particles.fluctuations` (Chen, Rotskoff, Bruna &
Vanden-Eijnden, arXiv:2008.09623),

    n E‖f_n − f_t‖²_{L²(μ)} = Σ_p w_p Cov_pp + O(1/n),     ξ_k = √n ⟨v_k, f_n − f_t⟩_{L²(μ)} / √λ_k → N(0, 1),

v_k, λ_k the principal directions and variances of Cov in L²(μ).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.special import kolmogi, ndtr, ndtri  # scipy.stats takes a second to import

from mvpde.cases.measures import measures
from mvpde.cases.meshes.coarser import HALF, fewer
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.fluctuations import Fluctuations, fluctuations
from mvpde.runtime import MPI, on_first_rank
from mvpde.studies.figures import GREY, draw_errors, finish, look
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import cold, flat, given, runs, sections, with_data
from mvpde.studies.quantities import axis, table_of
from mvpde.studies.task import task_of
from mvpde.studies.verdict import COARSE, FAILS, HOLDS, SMALL_SHARE, Json, Verdict, line_in_inverse

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

LEVELS = np.linspace(0.025, 0.975, 39)  # of the quantiles that are kept and drawn
PREFIX = "clt."

NEEDS = [
    cold('[model] temperature: the task "clt" predicts at temperature 0 only; set it to 0'),
    flat('[model] unit: the task "clt" predicts in flat coordinates only; take a unit on no sphere'),
    with_data('[model] kind: the task "clt" needs a network, a model with data'),
    *sections("ensemble", "characteristics", task="clt"),
    runs(20, '[ensemble] runs: the task "clt" estimates a law from runs; give at least 20'),
]


class CltOptions(Section):
    """[options] of the task "clt"."""

    projections: Count = Field(3, description="principal directions that are tested, a whole number ≥ 1", examples=[3])
    step: Positive = Field(0.5, description="time step of the predicted covariance, > 0", examples=[0.5])


@dataclass(frozen=True)
class Statistics:
    """At an output time: what is predicted for n E‖f_n − f_t‖², and what √n(f_n − f_t) of all runs are."""

    predicted: float  # the limit n → ∞
    discretisation: float  # its difference to half the nodes in each direction
    resampling_bound: float  # what it would be for n new independent points of ρ_t
    measured: float  # n E‖f_n − f_t‖²
    standard_error: float  # of it
    skewness: list[float]  # of each projection ξ_k, as the next
    excess_kurtosis: list[float]  # as the last
    kolmogorov: float  # distance of the law of all projections to N(0, 1)
    projected: int  # how many numbers these are
    quantiles: list[float]  # of all projections, at LEVELS


@dataclass(frozen=True)
class CltResult:
    """The summary of a point."""

    times: list[float]
    clt: list[Statistics]


def clt(problem: Problem, options: CltOptions, comm: MPI.Intracomm) -> CltResult:
    """Prediction, and the statistics of an ensemble, at every output time. Collective."""
    model, nodes, times = problem.model, given(problem.sections.characteristics).nodes, problem.sections.time.outputs

    def predicted(counts: list[int]) -> Fluctuations:
        return fluctuations(model, problem.law, counts, times, step=options.step)

    limit, coarse = on_first_rank(comm, lambda: (predicted(nodes), predicted(fewer(nodes, HALF))))
    ensemble, n = measures(problem, ["ensemble"], comm)["ensemble"], given(problem.sections.ensemble).particles
    rows = []
    for k, t in enumerate(times):
        ensemble.advance(t)
        deviations = math.sqrt(n) * model.predictions(ensemble.moments() - limit.moments[k])
        error = abs(limit.predicted[k] - coarse.predicted[k])
        rows.append(_statistics(model, limit, k, error, deviations, options.projections))
    return CltResult(list(times), rows)


def _statistics(model: MeanField, limit: Fluctuations, k: int, error: float, deviations: Array, count: int) -> Statistics:
    """What is measured at output time k on √n(f_n − f_t), shape (runs, P)."""
    weights, runs = given(model.data).weights, len(deviations)
    squares = deviations**2 @ weights
    root = np.sqrt(weights)
    covariance = limit.covariance[k][: len(weights), : len(weights)] * np.outer(root, root)
    variances, directions = np.linalg.eigh(covariance)
    chosen = slice(len(weights) - 1, len(weights) - 1 - min(count, len(weights)), -1)
    xi = deviations * root @ directions[:, chosen] / np.sqrt(variances[chosen])
    centred = xi - xi.mean(axis=0)
    spread = centred.std(axis=0)
    return Statistics(
        predicted=float(limit.predicted[k]),
        discretisation=float(error),
        resampling_bound=float(limit.resampling_bound[k]),
        measured=float(squares.mean()),
        standard_error=float(squares.std(ddof=1) / math.sqrt(runs)),
        skewness=(np.mean(centred**3, axis=0) / spread**3).tolist(),
        excess_kurtosis=(np.mean(centred**4, axis=0) / spread**4 - 3.0).tolist(),
        kolmogorov=kolmogorov_distance(xi.ravel()),
        projected=xi.size,
        quantiles=np.quantile(xi, LEVELS).tolist(),
    )


def kolmogorov_distance(sample: Array) -> float:
    """sup_x |F_S(x) − Φ(x)| of a sample, shape (S,), to the standard normal law."""
    below, count = ndtr(np.sort(sample)), len(sample)
    grid = np.arange(count + 1) / count
    return float(max(np.max(grid[1:] - below), np.max(below - grid[:-1])))


CLT = task_of(CltOptions, clt, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class CltLawOptions(MeasurementOptions):
    """Predicted beside measured fluctuations."""

    name: str = Field("clt", description="name of its figure, <name>.png", examples=["clt"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    particles: Count = Field(description="n at which prediction and measurement are compared", examples=[400])
    errors: Positive = Field(3.0, description="standard errors that they may differ by, > 0", examples=[3.0])
    level: Level = Field(0.999, description="level of the Kolmogorov–Smirnov test, in (0, 1)", examples=[0.999])


def clt_law(dataset: xarray.Dataset, options: CltLawOptions) -> Outcome:
    """Verdicts at n = `particles` and for n → ∞, the table `clt` over time and particles, and a figure."""
    table = clt_table(dataset, options)
    if table is None:
        return Outcome([Verdict("√n(f_n − f_t) is Gaussian", 0.0, None, None, FAILS, "no point has fluctuations")])
    verdicts = [verdict for k in range(table.sizes["time"]) for verdict in _verdicts(table.isel(time=k), options)]
    compared = table.sel(particles=[options.particles] if options.particles in table["particles"] else [])
    panels = [lambda axes: _draw_sizes(axes, table, options.errors), lambda axes: _draw_quantiles(axes, compared)]
    return Outcome(verdicts, Picture(title(dataset), panels), {"clt": table})


def clt_table(dataset: xarray.Dataset, options: CltLawOptions) -> xarray.Dataset | None:
    """The quantities of the task over time × particles, means over all other parameters; None without any."""
    n = axis(dataset, options.x)
    if f"{PREFIX}measured" not in dataset or n is None:
        return None
    dimension = str(n.dims[0])
    table = table_of(dataset, PREFIX, ("time", dimension)).transpose("time", dimension, ...)
    table = table if dimension == "particles" else table.rename({dimension: "particles"})
    return table.drop_vars([name for name in table.coords if name not in ("time", "particles")])


def _verdicts(row: xarray.Dataset, options: CltLawOptions) -> list[Verdict]:
    """The three verdicts at one time."""
    t = float(row["time"])
    details: dict[str, Json] = {"measure": options.name, "time": t}
    chosen = row.sel(particles=options.particles) if options.particles in row["particles"] else None
    if chosen is None or not np.isfinite(chosen["measured"]):
        reason = f"no point has ensemble.particles = {options.particles}"
        return [Verdict(f"n E‖f_n − f_t‖², t = {t:g}", math.nan, None, None, FAILS, reason, details)]
    return [*_size(chosen, t, options, details), *_remainder(row, t, options, details), _normality(chosen, t, options, details)]


def _size(row: xarray.Dataset, t: float, options: CltLawOptions, details: Mapping[str, Json]) -> list[Verdict]:
    measured, error, predicted = (float(row[key]) for key in ("measured", "standard_error", "predicted"))
    holds = _decided(measured, error, predicted, float(row["discretisation"]), options.errors)
    more = {**details, "standard_error": error, "resampling_bound": float(row["resampling_bound"])}
    law = f"n E‖f_n − f_t‖² as predicted, n = {options.particles}, t = {t:g}"
    return [Verdict(law, predicted, measured, _interval(measured, error, options.errors), holds, "", more)]


def _decided(measured: float, error: float, predicted: float, discretisation: float, errors: float) -> str:
    if not discretisation < SMALL_SHARE * error:
        return COARSE
    return HOLDS if abs(measured - predicted) <= errors * error else FAILS


def _interval(value: float, error: float, errors: float) -> tuple[float, float]:
    return value - errors * error, value + errors * error


def _remainder(row: xarray.Dataset, t: float, options: CltLawOptions, details: Mapping[str, Json]) -> list[Verdict]:
    """A of the weighted fit A + B/n, where there are three n at least."""
    good = np.isfinite(row["measured"].values)
    n, y, s = (row[key].values[good].astype(float) for key in ("particles", "measured", "standard_error"))
    if len(n) < 3:
        return []
    values, covariance = line_in_inverse(n, y, s)
    error, predicted = math.sqrt(covariance[0, 0]), float(row["predicted"].mean())
    holds = _decided(values[0], error, predicted, float(row["discretisation"].max()), options.errors)
    note = f"n E‖f_n − f_t‖² = A + B/n; B = {values[1]:.3g} ± {math.sqrt(covariance[1, 1]):.2g}"
    more = {**details, "standard_error": error, "remainder": float(values[1])}
    interval = _interval(values[0], error, options.errors)
    return [Verdict(f"n E‖f_n − f_t‖² → predicted, n → ∞, t = {t:g}", predicted, values[0], interval, holds, note, more)]


def _normality(row: xarray.Dataset, t: float, options: CltLawOptions, details: Mapping[str, Json]) -> Verdict:
    """Kolmogorov–Smirnov on all projections together: they are independent in the limit."""
    count, distance = int(row["projected"]), float(row["kolmogorov"])
    critical = float(kolmogi(1.0 - options.level)) / math.sqrt(count)
    runs = count / row["skewness"].size
    shape = {key: np.round(row[key].values, 4).tolist() for key in ("skewness", "excess_kurtosis")}
    errors = {"skewness_error": math.sqrt(6.0 / runs), "excess_kurtosis_error": math.sqrt(24.0 / runs)}
    note = f"Kolmogorov–Smirnov distance to N(0, predicted), which that law stays below with probability {options.level:g}"
    law = f"√n(f_n − f_t) is Gaussian, n = {options.particles}, t = {t:g}"
    more = {**details, **shape, **errors, "critical": critical}
    coarse = not float(row["discretisation"]) < SMALL_SHARE * float(row["standard_error"])  # f_t itself may be what is off
    holds = HOLDS if distance <= critical else COARSE if coarse else FAILS
    return Verdict(law, critical, distance, None, holds, note, more, "≤")


def _draw_sizes(axes: Axes, table: xarray.Dataset, errors: float) -> None:
    t = table["time"].values
    axes.plot(t, table["resampling_bound"].values[:, 0], "--", color=GREY, linewidth=1.2, label="resampling bound")
    axes.plot(t, table["predicted"].values[:, 0], "-", color="black", linewidth=1.2, label="predicted, n → ∞")
    width = 0.006 * (t[-1] - t[0])
    for k, n in enumerate(table["particles"].values):
        row = table.isel(particles=k)
        place = t + width * (k - 0.5 * (table.sizes["particles"] - 1))
        draw_errors(axes, place, row["measured"].values, errors * row["standard_error"].values, f"n = {n}", k)
    finish(axes, "time t", "n E‖f_n − f_t‖²", heading=f"bars: ± {errors:g} standard errors", log="y")


def _draw_quantiles(axes: Axes, compared: xarray.Dataset) -> None:
    """Of the one n that is compared."""
    normal, heading = ndtri(LEVELS), ""
    axes.plot(normal, normal, color=GREY, linestyle="--", linewidth=1.2, label="N(0, 1)")
    for row in (compared.isel(particles=k) for k in range(compared.sizes["particles"])):
        heading = f"principal projections of √n(f_n − f_t), n = {int(row['particles'])}"
        for k, t in enumerate(row["time"].values):
            values = row["quantiles"].isel(time=k).values
            axes.plot(normal, values, linestyle="none", markersize=4, label=f"t = {t:g}", **look(k))
    finish(axes, "quantiles of N(0, 1)", "quantiles of the projections / predicted deviation", heading=heading, log="")


FLUCTUATIONS = Measurement(CltLawOptions, clt_law)
