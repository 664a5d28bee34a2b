"""What SGD adds: with minibatches of P = n^{2α} inputs, ‖f_n^SGD − f_n^GD‖ ~ n^{-α} at a fixed time, from the same start.

Steps of Δt with minibatches of P inputs make noise of strength θ = Δt/P = Δt n^{-2α} (Rotskoff & Vanden-Eijnden,
arXiv:1805.00915, §3). Beside it is the error of n particles in gradient descent, ~ n^{-½}; the two add in squares, so batches
that grow faster than n bring no gain until that error has healed. Growing P late in training quenches the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from mvpde.cases.meshes.coarser import HALF
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Number, Positive, Section
from mvpde.particles.common_noise import CommonNoise
from mvpde.runs.compare import root_mean, squared_errors
from mvpde.runtime import MPI
from mvpde.studies.figures import GREY, bars, draw_series, finish, guide
from mvpde.studies.laws.sgd.driven import MINIBATCHES, carried, check_times, driven, sgd_ensemble, stepped_nodes
from mvpde.studies.laws.sgd.sgd_path import Errors, errors
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import given, runs, sections
from mvpde.studies.quantities import failures, grouped
from mvpde.studies.slope import Series, SlopeOptions, judged, series_at
from mvpde.studies.task import task_of
from mvpde.studies.verdict import FAILS, HOLDS, Array, Estimate, Json, Verdict, combination, decide, logarithm

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

NEEDS = [
    *sections("ensemble", "characteristics"),
    runs(2, "[ensemble] runs: what SGD adds is a mean over runs; take at least 2"),
    *MINIBATCHES,
]

Alpha = Annotated[Number, Field(gt=0, le=2)]


class AlphaOptions(Section):
    """[options] of the task "sgd_alpha"."""

    alpha: Alpha = Field(0.5, description="α of P = n^(2α), in (0, 2]", examples=[0.5])
    interval: Positive = Field(0.1, description="Δt, the length of a step, > 0; output times are its multiples", examples=[0.5])
    quench_time: Positive | None = Field(None, description="time from which P = n^(2 quench_alpha), > 0", examples=[8.0])
    quench_alpha: Alpha = Field(1.0, description="α from quench_time on, in (0, 2]", examples=[1.0])


def batch_size(particles: int, options: AlphaOptions, t: float) -> float:
    """P at time t."""
    late = options.quench_time is not None and t >= options.quench_time * (1.0 - 1e-12)
    return float(particles) ** (2.0 * (options.quench_alpha if late else options.alpha))


@dataclass(frozen=True)
class Ratios:
    """(added² + finite_n²)^{-1} total² over the output times, and its standard error over runs."""

    ratio: list[float]
    standard_error: list[float]


@dataclass(frozen=True)
class AlphaResult:
    """The summary of a point, over the output times."""

    times: list[float]  # output times
    added: Errors  # ‖f_n^SGD − f_n^GD‖ from the same starts
    total: Errors  # ‖f_n^SGD − f_t‖
    finite_n: Errors  # ‖f_n^GD − f_t‖
    sum_of_squares: Ratios  # how far the squares are from adding up
    quadrature_error: list[float]  # of f_t, against half the nodes in each direction
    step_difference: list[float]  # of f_t in steps of Δt against the gradient flow
    batch_size: list[float]  # P


def alpha(problem: Problem, options: AlphaOptions, comm: MPI.Intracomm) -> AlphaResult:
    """SGD and gradient descent of n particles from the same starts, beside infinitely many particles. Collective.

    Raises:
        CaseError: for output times between two steps.
    """
    check_times(problem, options.interval)
    model, times, section = problem.model, problem.sections.time.outputs, given(problem.sections.ensemble)
    quiet = CommonNoise(model, interval=options.interval)
    flow = driven("characteristics", problem, quiet, comm)
    limits = carried(quiet, [stepped_nodes(problem, quiet), stepped_nodes(problem, quiet, HALF), flow], times)
    limit, coarse, descent = limits
    seeds = np.random.SeedSequence(section.seed).generate_state(section.runs)
    squares = np.array([_run(problem, options, quiet, int(seed), limit, comm) for seed in seeds])
    added, total, finite_n = (_roots(part) for part in squares.transpose(1, 2, 0))
    return AlphaResult(
        list(times),
        added,
        total,
        finite_n,
        _ratios(*squares.transpose(1, 2, 0)),
        errors(model, limit, coarse).prediction_error,
        errors(model, limit, descent).prediction_error,
        [batch_size(section.particles, options, t) for t in times],
    )


def _run(
    problem: Problem, options: AlphaOptions, quiet: CommonNoise, seed: int, limit: list[Array], comm: MPI.Intracomm
) -> Array:
    """Squares of what SGD adds, of its error and of gradient descent's, shape (3, times), for one start and one sequence."""
    n, times = given(problem.sections.ensemble).particles, problem.sections.time.outputs

    def size(t: float) -> float:
        return batch_size(n, options, t)

    noise = CommonNoise(problem.model, interval=options.interval, size=size, sequence=seed)
    (sgd,) = carried(noise, [sgd_ensemble(problem, noise, comm, runs=1, seed=seed)], times)
    (descent,) = carried(quiet, [sgd_ensemble(problem, quiet, comm, runs=1, seed=seed)], times)
    pairs = ((sgd, descent), (sgd, limit), (descent, limit))
    return np.array([[squared_errors(problem.model, x, y)[0] for x, y in zip(a, b, strict=True)] for a, b in pairs])


def _roots(squares: Array) -> Errors:
    """Roots of mean squares, shape (times, runs)."""
    roots = [root_mean(row) for row in squares]
    return Errors([root for root, _ in roots], [error for _, error in roots])


def _ratios(added: Array, total: Array, finite: Array) -> Ratios:
    """From squares of shape (times, runs)."""
    parts = (added + finite).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # all zero at t = 0 where nothing has been added
        ratio = total.mean(axis=1) / parts
        error = (total - added - finite).std(axis=1, ddof=1) / np.sqrt(total.shape[1]) / parts
    return Ratios(ratio.tolist(), error.tolist())


SGD_ALPHA = task_of(AlphaOptions, alpha, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class AlphaLawOptions(MeasurementOptions):
    """‖f_n^SGD − f_n^GD‖ ~ n^{-α} for each α, and the total error beside it."""

    name: str = Field("alpha", description="name of its figure, <name>.png", examples=["alpha"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("options.alpha", description="the varied key that holds α", examples=["options.alpha"])
    time: Number = Field(description="the output time that is fitted", examples=[8.0])
    tolerance: Positive = Field(0.1, description="how far slopes and ratios may differ, > 0", examples=[0.1])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def _slope(options: AlphaLawOptions, quantity: str, law: str, predicted: float, floor: str | None) -> SlopeOptions:
    return SlopeOptions(
        kind="slope",
        name=options.name,
        law=law,
        x=options.x,
        y=f"{quantity}.prediction_error",
        standard_error=f"{quantity}.standard_error",
        discretisation=floor,
        predicted=predicted,
        tolerance=options.tolerance,
        level=options.level,
    )


def alpha_law(dataset: xarray.Dataset, options: AlphaLawOptions) -> Outcome:
    """For each α a slope, and whether the squares add; at the largest α, that nothing is left to gain."""
    verdicts: list[Verdict] = []
    added, total, finite = [], [], None
    for value, part in grouped(dataset, options.each):
        if value is None or "added.prediction_error" not in dataset:
            continue
        exponent = float(value)
        law = _slope(options, "added", f"‖f_n^SGD − f_n^GD‖ ~ n^-{exponent:g} with P = n^{2 * exponent:g}", -exponent, None)
        series = series_at(part, law, options.time)
        verdicts.append(judged(series, law, failures(dataset)))
        whole = _slope(options, "total", "total", -min(exponent, 0.5), "quadrature_error")
        added.append((exponent, series))
        total.append((exponent, series_at(part, whole, options.time)))
        verdicts += _squares(part, options, exponent)
        finite = series_at(part, _slope(options, "finite_n", "", -0.5, None), options.time)
    if total and finite is not None:
        verdicts += _no_gain(*total[-1], finite, options)
    panels = [
        partial(_draw_added, added=added, level=options.level),
        partial(_draw_total, total=total, finite=finite, level=options.level),
    ]
    return Outcome(verdicts, Picture(f"{title(dataset)}, t = {options.time:g}", panels))


def _squares(part: xarray.Dataset, options: AlphaLawOptions, alpha: float) -> list[Verdict]:
    """Whether total² = added² + finite², over all n together."""
    at = part.sel(time=options.time, method="nearest")
    ratios, deviations = (at[f"sum_of_squares.{name}"].values.ravel() for name in ("ratio", "standard_error"))
    good = np.isfinite(ratios) & np.isfinite(deviations)
    if not good.any():
        return []
    estimates = [Estimate(float(r), float(s), np.inf) for r, s in zip(ratios[good], deviations[good], strict=True)]
    mean = combination(np.full(len(estimates), 1.0 / len(estimates)), estimates)
    holds = decide(mean.value, 1.0, options.tolerance)
    law = f"‖f_n^SGD − f_t‖² = ‖f_n^SGD − f_n^GD‖² + ‖f_n^GD − f_t‖², α = {alpha:g}"
    return [_entry(law, mean, 1.0, holds, options)]


def _no_gain(exponent: float, series: Series, finite: Series, options: AlphaLawOptions) -> list[Verdict]:
    """At the largest α and n, the total error against that of gradient descent: nothing is left to gain from larger batches."""
    if not series.y or not finite.y:
        return []
    ratio = float(series.y[-1].value / finite.y[-1].value)
    law = f"total error of SGD / error of gradient descent → 1, α = {exponent:g}, n = {series.x[-1]:g}"
    holds = decide(ratio, 1.0, options.tolerance, smallest=series.y[-1].value, discretisation=series.floor["discretisation"])
    return [Verdict(law, 1.0, ratio, None, holds, "the same starts in both", _details(options))]


def _entry(law: str, measured: Estimate, predicted: float, holds: str, options: AlphaLawOptions | QuenchOptions) -> Verdict:
    return Verdict(law, predicted, measured.value, measured.interval(options.level), holds, "", _details(options))


def _details(options: AlphaLawOptions | QuenchOptions) -> dict[str, Json]:
    return {"measure": options.name, "level": options.level}


def _draw_added(axes: Axes, added: Sequence[tuple[float, Series]], level: float) -> None:
    for k, (exponent, series) in enumerate(added):
        if series.line is not None:
            draw_series(axes, f"α = {exponent:g}", series, level, k)
            guide(axes, series.x, series.y[0].value, -exponent, "predicted slopes −α" if k == 0 else None)
    finish(axes, "number of particles n", "relative to ‖target‖", heading="what SGD adds: ‖f_n^SGD − f_n^GD‖")


def _draw_total(axes: Axes, total: Sequence[tuple[float, Series]], finite: Series | None, level: float) -> None:
    for k, (exponent, series) in enumerate(total):
        if series.line is not None:
            draw_series(axes, f"α = {exponent:g}", series, level, k)
    if finite is not None and finite.line is not None:
        values, label = [estimate.value for estimate in finite.y], "gradient descent: finite n alone"
        axes.plot(finite.x, values, color=GREY, linestyle="--", linewidth=1.2, label=label)
    finish(axes, "number of particles n", "relative to ‖target‖", heading="total error: ‖f_n^SGD − f_t‖")


ALPHA = Measurement(AlphaLawOptions, alpha_law)


# --- the quench -----------------------------------------------------------------------------------------------------------------


class QuenchOptions(MeasurementOptions):
    """What SGD adds falls when the batches grow: against going on with small batches."""

    name: str = Field("quench", description="name of its figure, <name>.png", examples=["quench"])
    x: str = Field("options.quench_alpha", description="the varied key: α of the last stretch", examples=["options.quench_alpha"])
    each: str = Field("ensemble.particles", description="another varied key, told apart", examples=["ensemble.particles"])
    start: Number = Field(description="the output time at which the batches grow", examples=[8.0])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def quench_law(dataset: xarray.Dataset, options: QuenchOptions) -> Outcome:
    """What SGD adds at the last time, with the largest batches against the smallest."""
    if "added.prediction_error" not in dataset:
        return Outcome([Verdict("quench", 1.0, None, None, FAILS, "no point has the quantity added", _details(options))])
    times, verdicts, drawn = dataset["time"].values, [], []
    for value, part in grouped(dataset, options.each):
        curves = [(exponent, _curve(row)) for exponent, row in grouped(part, options.x)]
        label = "" if value is None else f", n = {value:g}"
        law = f"quenched noise: at t = {times[-1]:g}{label} below that without quench"
        verdicts.append(_falls(law, curves[-1][1][-1], curves[0][1][-1], options))
        drawn += [(f"final α = {exponent:g}{label}", curve) for exponent, curve in curves]
    panel = partial(_draw_quench, times=times, drawn=drawn, options=options)
    return Outcome(verdicts, Picture(title(dataset), [panel]))


def _curve(part: xarray.Dataset) -> list[Estimate]:
    values, deviations = (part[f"added.{name}"].values.reshape(-1) for name in ("prediction_error", "standard_error"))
    return [Estimate(float(v), float(s), np.inf) for v, s in zip(values, deviations, strict=True)]


def _falls(law: str, late: Estimate, early: Estimate, options: QuenchOptions) -> Verdict:
    """late/early < 1: it holds where the interval of the ratio lies below 1."""
    logs = combination(np.array([1.0, -1.0]), [logarithm(late), logarithm(early)])
    interval = logs.interval(options.level)
    ends = None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))
    holds = HOLDS if ends is not None and ends[1] < 1.0 else FAILS
    note = "the ratio; it holds where the interval lies below 1"
    return Verdict(f"{law}: ratio", 1.0, float(np.exp(logs.value)), ends, holds, note, _details(options), "<")


def _draw_quench(axes: Axes, times: Array, drawn: Sequence[tuple[str, list[Estimate]]], options: QuenchOptions) -> None:
    for k, (label, curve) in enumerate(drawn):
        shown = [(t, estimate) for t, estimate in zip(times, curve, strict=True) if estimate.value > 0]
        bars(axes, np.array([t for t, _ in shown]), [estimate for _, estimate in shown], options.level, label, k, "-")
    axes.axvline(options.start, color=GREY, linestyle=":", linewidth=1.2, label="batches grow")
    finish(axes, "time t", "‖f_n^SGD − f_n^GD‖ / ‖target‖", log="y")


QUENCH = Measurement(QuenchOptions, quench_law)
