"""Propagation of chaos: particles beside copies that the limit law drives, from the same start with the same noise.

    dZ̄_i = −∇V(Z̄_i; m_t) dt + √(2τ) dB_i,     m_t = ∫ g dρ_t,     E|Z_i − Z̄_i| ≤ C_t (ε + n^{-½}),
    Σ_k w_k Cov(g_k(Z_1), g_k(Z_2)) = O(1/n),

ε the step of the particles' dynamics (Araújo, Oliveira & Yukimura, arXiv:1906.00193; Mei, Montanari & Nguyen, arXiv:1804.06561).
m_t comes from characteristics at τ = 0, from the density at τ > 0, interpolated in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.interpolate import CubicSpline

from mvpde.cases.measures import measures
from mvpde.cases.meshes.coarser import HALF, with_fewer
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Number, Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, CaseError
from mvpde.studies.figures import finish, look, plain_ticks
from mvpde.studies.laws.ensembles import ensemble_of, step_of
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import box, hot, sections, where
from mvpde.studies.quantities import axis
from mvpde.studies.task import over_times, task_of
from mvpde.studies.verdict import FAILS, HOLDS, Estimate, Json, Verdict, loglog_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

FEWEST = 3  # cells or nodes in a direction that a coarse limit keeps

NEEDS = [
    *where(hot, sections("density", "domain", task="chaos")),
    *where(hot, [box('[domain] cells: the task "chaos" needs a box, whose cells it can halve')]),
    *where(lambda problem: not hot(problem), sections("characteristics", task="chaos")),
    *sections("ensemble", task="chaos"),
]


class ChaosOptions(Section):
    """[options] of the task "chaos"."""

    euler_steps: list[Positive] = Field(
        [], description="steps of Euler's method that are compared with ensemble.step, temperature 0 only", examples=[[0.1, 0.2]]
    )


# --- the limit that drives the copies -------------------------------------------------------------------------------------------


def limit_moments(problem: Problem, comm: MPI.Intracomm) -> Callable[[float], Array]:
    """t → m_t, shape (K,), on [0, last output time], interpolated by cubics between times ensemble.step apart. Collective.

    Args:
        problem: with [characteristics], or [density] where τ > 0.
        comm: communicator.
    """
    name = "density" if hot(problem) else "characteristics"
    step, end = step_of(problem), problem.sections.time.outputs[-1]
    measure = measures(problem, [name], comm)[name]
    times = np.linspace(0.0, end, max(4, math.ceil(end / step)) + 1)
    rows = []
    for t in times:
        measure.advance(float(t))
        rows.append(measure.moments()[0])
    spline = CubicSpline(times, np.array(rows))
    return lambda t: np.asarray(spline(t))


# --- the task -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distances:
    """What is measured at an output time."""

    coupling: float  # E|Z_i − Z̄_i|, the copies driven by the limit
    coupling_standard_error: float  # over runs, as the next ones
    discretisation: float  # E|Z̄_i − Z̄'_i|, Z̄' driven by a limit on half the cells or nodes
    pair_covariance: float  # Σ_k w_k Cov(g_k(Z_1), g_k(Z_2))
    pair_covariance_standard_error: float  # of it
    pair_covariance_size: float  # its absolute value
    step_part: list[float] | None  # E|Z^ε_i − Z_i| for each of the Euler steps ε
    step_part_standard_error: list[float] | None  # of them
    with_step: list[float] | None  # E|Z^ε_i − Z̄_i|


@dataclass(frozen=True)
class ChaosResult:
    """The summary of a point; `chaos` has the fields of `Distances` over the output times, and euler_steps."""

    times: list[float]
    chaos: dict[str, Json]


def chaos(problem: Problem, options: ChaosOptions, comm: MPI.Intracomm) -> ChaosResult:
    """Distances to the copies and covariances of pairs at every output time. Collective.

    Raises:
        CaseError: Euler steps at τ > 0, where the noise of other steps is another noise.
    """
    _check_steps(problem, options.euler_steps)
    limit, coarse = limit_moments(problem, comm), limit_moments(with_fewer(problem, HALF, FEWEST), comm)
    particles, copies, shadows = (ensemble_of(problem, comm, scheme="heun", driven_by=m) for m in (None, limit, coarse))
    rough = [ensemble_of(problem, comm, scheme="euler", step=step) for step in options.euler_steps]
    rows = []
    for t in problem.sections.time.outputs:
        for moved in (particles, copies, shadows, *rough):
            moved.advance(t)
        rows.append(_distances(problem.model, particles, copies, shadows, rough))
    return ChaosResult(list(problem.sections.time.outputs), {**over_times(rows), "euler_steps": list(options.euler_steps)})


def _distances(
    model: MeanField, particles: Ensemble, copies: Ensemble, shadows: Ensemble, rough: Sequence[Ensemble]
) -> Distances:
    """At the present time of all. Collective."""
    covariance, covariance_error = _with_error(pair_covariances(model, particles))
    parts = [_with_error(moved.distance(particles)) for moved in rough]
    return Distances(
        *_with_error(particles.distance(copies)),
        float(copies.distance(shadows).mean()),
        covariance,
        covariance_error,
        abs(covariance),
        [part for part, _ in parts] or None,
        [error for _, error in parts] or None,
        [float(moved.distance(copies).mean()) for moved in rough] or None,
    )


def _check_steps(problem: Problem, steps: Sequence[float]) -> None:
    """Steps are compared that are really taken, of particles with the same noise."""
    path, times = problem.case.path, problem.sections.time.outputs
    if steps and hot(problem):
        raise CaseError(
            f"{path}: options.euler_steps: only at temperature 0 is the noise of different steps the same; leave it out"
        )
    for step in steps:
        counts = np.diff([0.0, *times]) / step
        if not np.allclose(counts, np.round(counts), atol=1e-9):
            raise CaseError(
                f"{path}: options.euler_steps: {step:g} does not divide the intervals between time.outputs; change it"
            )


def _with_error(values: Array) -> tuple[float, float]:
    """Mean over runs and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def pair_covariances(model: MeanField, ensemble: Ensemble) -> Array:
    """Σ_k w_k Cov(g_k(Z_1), g_k(Z_2)) as one number for each run, shape (runs,), whose mean is unbiased. Collective.

    With m the mean of g over the n particles of a run and s² the sample variance of g within it,
    n Var m = s² + (n − 1)Cov. w_k are the weights of the data points, zero for features that belong to none; without data
    they are 1.
    """
    m = ensemble.moments()
    runs, n = len(m), ensemble.particles
    if runs < 2:
        return np.full(runs, math.nan)
    weights = np.ones(m.shape[1])
    if model.data is not None:
        weights[:] = 0.0
        weights[: len(model.data.weights)] = model.data.weights

    def squares(z: Array) -> Array:
        return model.amplitude(z) ** 2 * (model.profile(z[:, : model.profile_dimension]) ** 2 @ weights)

    within = n / (n - 1) * (ensemble.expectation(squares) - m**2 @ weights)
    between = runs / (runs - 1) * ((m - m.mean(axis=0)) ** 2 @ weights)
    return np.asarray((n * between - within) / (n - 1))


CHAOS = task_of(ChaosOptions, chaos, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class GrowthOptions(MeasurementOptions):
    """√n E|Z_i − Z̄_i| against e^{Ct} − 1, and E|Z^ε − Z| against ε."""

    name: str = Field("growth", description="name of its figure, <name>.png", examples=["growth"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    fitted_until: Positive = Field(description="C is fitted up to here, > 0; later times test it", examples=[2.0])
    tolerance: Positive = Field(0.1, description="how far the slope in ε may be from 1, > 0", examples=[0.1])
    times: list[Number] | None = Field(None, description="output times of the slopes in ε; absent: the last", examples=[[5.0]])


def growth(dataset: xarray.Dataset, options: GrowthOptions) -> Outcome:
    """One verdict on the growth; one for each of `times` on the order of the step, where Euler steps were compared."""
    varied = axis(dataset, options.x)
    if varied is None or "chaos.coupling" not in dataset:
        return Outcome([Verdict("√n E|Z_i − Z̄_i| ≤ e^{Ct} − 1", 1.0, None, None, FAILS, "no point has couplings")])
    n, dimension = varied.values.astype(float), str(varied.dims[0])
    t, scaled = dataset["time"].values, np.sqrt(n)[:, None] * _mean(dataset["chaos.coupling"], dimension, "time").values
    verdicts, panels = [_bounded(t, scaled, options)], [lambda axes: _draw_couplings(axes, t, n, scaled)]
    parts = _parts(dataset, n, dimension)
    if parts is not None:
        verdicts += [_order(parts, at, options) for at in options.times or [float(t[-1])]]
        panels.append(lambda axes: _draw_steps(axes, parts, float(t[-1])))
    return Outcome(verdicts, Picture(title(dataset), panels))


def _mean(values: xarray.DataArray, *kept: str) -> xarray.DataArray:
    """Over all other dimensions."""
    return values.mean([d for d in values.dims if d not in kept]).transpose(*kept)


def rates(t: Array, y: Array) -> Array:
    """C(t) with y = e^{Ct} − 1, for t > 0 and y ≥ 0: the constant of Gronwall's lemma, dy/dt ≤ C(y + 1), y(0) = 0."""
    return np.asarray(np.log1p(y) / t)


def _bounded(t: Array, scaled: Array, options: GrowthOptions) -> Verdict:
    details: dict[str, Json] = {"measure": options.name, "fitted_until": options.fitted_until}
    law = f"√n E|Z_i − Z̄_i| ≤ e^{{Ct}} − 1, C from t ≤ {options.fitted_until:g}"
    early = t[t > 0] <= options.fitted_until
    constants = rates(t[t > 0], np.max(scaled[:, t > 0], axis=0))
    if not early.any() or early.all() or not np.isfinite(constants).all():
        return Verdict(law, 1.0, None, None, FAILS, "needs output times on both sides of fitted_until", details)
    c, ratio = float(constants[early].max()), float(constants[~early].max() / constants[early].max())
    note = f"C = {c:.3g}; measured is the constant that later times need, relative to it: anything up to 1 is within the bound"
    return Verdict(law, 1.0, ratio, None, HOLDS if ratio <= 1.0 else FAILS, note, {**details, "constant": c}, "≤")


@dataclass(frozen=True)
class Parts:
    """What Euler steps add."""

    n: Array  # numbers of particles
    steps: Array  # the steps ε
    part: xarray.DataArray  # E|Z^ε − Z| over particles × time × step
    error: xarray.DataArray  # its standard error
    whole: xarray.DataArray  # E|Z^ε − Z̄|


def _parts(dataset: xarray.Dataset, n: Array, dimension: str) -> Parts | None:
    if "chaos.step_part" not in dataset:
        return None
    steps = dataset["chaos.euler_steps"]
    names = ("step_part", "step_part_standard_error", "with_step")
    means = [_mean(dataset[f"chaos.{name}"], dimension, "time", f"chaos.{name}_0") for name in names]
    return Parts(n, steps.values.reshape(-1, steps.shape[-1])[0], *means)


def _order(parts: Parts, at: float, options: GrowthOptions) -> Verdict:
    """Slope of E|Z^ε − Z| in ε at the largest n, whose own n^{-½} is the smallest."""
    n, row = parts.n, parts.part.sel(time=at, method="nearest").values
    largest, smallest = int(np.argmax(n)), int(np.argmin(n))
    errors = parts.error.sel(time=at, method="nearest").values[largest]
    line = loglog_line(parts.steps, [Estimate(float(y), float(s), math.inf) for y, s in zip(row[largest], errors, strict=True)])
    ratio = row[largest] / row[smallest]
    return Verdict(
        f"E|Z^ε − Z| ~ ε, Euler's step, n = {n[largest]:g}, t = {at:g}",
        1.0,
        line.slope.value,
        line.slope.interval(0.95),
        HOLDS if abs(line.slope.value - 1.0) <= options.tolerance else FAILS,
        f"paired with steps of second order at the same n; at n = {n[smallest]:g} it is {1 / ratio.mean():.3g} times as large",
        {
            "measure": options.name,
            "time": at,
            "tolerance": options.tolerance,
            "coefficient": float(row[largest][0] / parts.steps[0]),
        },
    )


def _draw_couplings(axes: Axes, t: Array, n: Array, scaled: Array) -> None:
    for k, (count, values) in enumerate(zip(n, scaled, strict=True)):
        axes.plot(t, values, label=f"n = {count:g}", markersize=4, linewidth=1.0, **look(k))
    finish(axes, "time t", "√n E|Z_i − Z̄_i|", heading="distance to the copies", log="")


def _draw_steps(axes: Axes, parts: Parts, end: float) -> None:
    for k, (count, values) in enumerate(zip(parts.n, parts.whole.isel(time=-1).values, strict=True)):
        axes.plot(parts.steps, values, label=f"n = {count:g}", markersize=4, linewidth=1.0, **look(k))
    alone = parts.part.isel(time=-1).values[int(np.argmax(parts.n))]
    axes.plot(parts.steps, alone, "k--", linewidth=1.2, label="step's part alone")
    finish(axes, "Euler's step ε", f"E|Z^ε_i − Z̄_i| at t = {end:g}", heading="step and particles")
    plain_ticks(axes, parts.steps)


GROWTH = Measurement(GrowthOptions, growth)
