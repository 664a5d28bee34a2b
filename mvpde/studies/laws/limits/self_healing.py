"""Self-healing: ‖f_n(t) − f_t‖ ~ A(t) n^{-½} with A(t) falling, and ‖f_n(a_n) − f*‖ along times a_n that grow with n.

Where a_n / log n → ∞, n^ξ (f_n(a_n) − f*) → 0 for every ξ < 1 (Rotskoff & Vanden-Eijnden, arXiv:1805.00915): an exponent of 1
or more, provided that the bias ‖f_{a_n} − f*‖ of the limit itself is negligible. Nothing in n makes it so: it is measured, and
where it reaches a third of the error the verdict is "bias dominates".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.meshes.coarser import HALF, fewer
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Number, Positive, Section
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.runs.compare import root_mean, squared_errors
from mvpde.runtime import MPI
from mvpde.studies.figures import bars, draw_series, finish, guide, look
from mvpde.studies.laws.ensembles import ensemble_of, step_of
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, Table, title
from mvpde.studies.needs import cold, given, runs, sections, with_data
from mvpde.studies.quantities import failures, grouped
from mvpde.studies.slope import Series, SlopeOptions, judged, series_at, unmeasured
from mvpde.studies.task import task_of
from mvpde.studies.verdict import (
    BIASED,
    COARSE,
    FAILS,
    HOLDS,
    Array,
    Estimate,
    Json,
    Verdict,
    combination,
    decide,
    logarithm,
)

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

REPEATED = 16  # one in so many runs is repeated with half the time step, two at least

NEEDS = [
    *sections("ensemble", "characteristics"),
    runs(2, "[ensemble] runs: the error is a mean over runs; take at least 2"),
    with_data("[model] kind: the limit is compared with the target of a data set, and this model has none"),
    cold("[model] temperature: the limit is carried by characteristics, at temperature 0; set it to 0"),
]


class HealingOptions(Section):
    """[options] of the task "self_healing": none. a_n is time.end."""


@dataclass(frozen=True)
class HealingErrors:
    """Distances of predictions at one time, relative to ‖target‖, root mean squares over runs."""

    time: float  # t
    fluctuation: float  # ‖f_n − f_t‖
    fluctuation_standard_error: float  # of it
    error: float  # ‖f_n − f*‖
    error_standard_error: float  # of it
    bias: float  # ‖f_t − f*‖
    quadrature_error: float  # of f_t, against half the nodes in each direction
    step_error: float  # of f_n, against half the step
    discretisation: float  # both


@dataclass(frozen=True)
class HealingResult:
    """The summary of a point: `HealingErrors` over the common output times, and at a_n, which differs from point to point."""

    times: list[float]
    fluctuation: list[float]
    fluctuation_standard_error: list[float]
    error: list[float]
    error_standard_error: list[float]
    bias: list[float]
    quadrature_error: list[float]
    step_error: list[float]
    discretisation: list[float]
    final: HealingErrors


def healing(problem: Problem, _: HealingOptions, comm: MPI.Intracomm) -> HealingResult:
    """Particles and their limit, and both at coarser steps and nodes, through all output times to a_n. Collective."""
    time, section = problem.sections.time, given(problem.sections.characteristics)
    times = [t for t in time.outputs if t < time.end] + [time.end]
    step = step_of(problem)
    repeated = max(2, given(problem.sections.ensemble).runs // REPEATED)

    def limit(nodes: Sequence[int]) -> Characteristics:
        return Characteristics(problem.model, problem.law, nodes=nodes, tolerance=section.tolerance, comm=comm)

    measures: dict[str, Ensemble | Characteristics] = {
        "ensemble": ensemble_of(problem, comm),
        "steps": ensemble_of(problem, comm, runs=repeated),
        "half_steps": ensemble_of(problem, comm, runs=repeated, step=0.5 * step),
        "limit": limit(section.nodes),
        "coarse": limit(fewer(section.nodes, HALF)),
    }
    rows: list[HealingErrors] = []
    for t in times:
        for measure in measures.values():
            measure.advance(t)
        rows.append(_errors(problem, t, {name: measure.moments() for name, measure in measures.items()}))
    lists = {field.name: [getattr(row, field.name) for row in rows[:-1]] for field in fields(HealingErrors)}
    return HealingResult(lists.pop("time"), **lists, final=rows[-1])


def _errors(problem: Problem, t: float, moments: Mapping[str, Array]) -> HealingErrors:
    model, limit = problem.model, moments["limit"]
    data = given(model.data)
    target = np.zeros_like(limit)
    target[0, : len(data.target)] = data.target  # only predictions of the moments are compared

    def distance(a: Array, b: Array) -> tuple[float, float]:
        return root_mean(squared_errors(model, a, b))

    quadrature, step = distance(moments["coarse"], limit)[0], distance(moments["steps"], moments["half_steps"])[0]
    return HealingErrors(
        t,
        *distance(moments["ensemble"], limit),
        *distance(moments["ensemble"], target),
        distance(limit, target)[0],
        quadrature,
        step,
        float(np.hypot(quadrature, step)),
    )


SELF_HEALING = task_of(HealingOptions, healing, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class HealingLawOptions(MeasurementOptions):
    """‖f_n(t) − f_t‖ ~ A(t) n^{-½}, A falling; ‖f_n(a_n) − f*‖ ~ n^{-1} or faster along a_n = time.end."""

    name: str = Field("healing", description="name of its figure, <name>.png", examples=["healing"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("data.points", description="another varied key, told apart", examples=["data.points"])
    times: list[Number] | None = Field(
        None, description="output times whose slope is fitted; absent: all", examples=[[0.0, 50.0]]
    )
    tolerance: Positive = Field(0.1, description="how far slopes may differ, > 0", examples=[0.1])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


@dataclass(frozen=True)
class Healed:
    """What is drawn for one value of `each`."""

    label: str  # the value
    times: Sequence[float]  # output times
    amplitude: Sequence[Estimate]  # A(t) at each of them
    bias: Sequence[float]  # ‖f_t − f*‖ at each of them
    final: Series  # ‖f_n(a_n) − f*‖ against n
    final_bias: Sequence[float]  # ‖f_{a_n} − f*‖ at the same n


def healing_law(dataset: xarray.Dataset, options: HealingLawOptions) -> Outcome:
    """Slopes at each time, A(t) falling, and the exponent along a_n, for each value of `each`."""
    if "fluctuation" not in dataset or "final.error" not in dataset:
        return Outcome([unmeasured(_slope(options, "fluctuation", "self-healing", -0.5), "no point has its quantities")])
    failed = failures(dataset)
    verdicts: list[Verdict] = []
    drawn, tables = [], {}
    for value, part in grouped(dataset, options.each):
        said = "" if value is None else f", {options.each} = {value}"
        healed = _healed(part, options, "" if value is None else f"{options.each.split('.')[-1]} = {value}")
        law = _slope(options, "fluctuation", f"‖f_n(t) − f_t‖ ~ A(t) n^-1/2{said}", -0.5)
        times = healed.times if options.times is None else options.times
        verdicts += [judged(series_at(part, law, t), law, failed) for t in times]
        verdicts += [_falls(healed, said, options), _along(part, healed, said, options)]
        drawn.append(healed)
        tables[f"{options.name}{'' if value is None else f'_{value}'}"] = _table(healed, options)
    return Outcome(verdicts, Picture(title(dataset), _panels(drawn, options)), tables)


def _slope(options: HealingLawOptions, quantity: str, law: str, predicted: float) -> SlopeOptions:
    prefix = "final." if quantity.startswith("final.") else ""
    return SlopeOptions(
        kind="slope",
        name=options.name,
        law=law,
        x=options.x,
        y=quantity,
        standard_error=f"{quantity}_standard_error",
        discretisation=f"{prefix}discretisation",
        predicted=predicted,
        tolerance=options.tolerance,
        level=options.level,
    )


def _healed(part: xarray.Dataset, options: HealingLawOptions, label: str) -> Healed:
    times = [float(t) for t in part["time"].values]
    law = _slope(options, "fluctuation", "", -0.5)
    amplitude = [_amplitude(series_at(part, law, t)) for t in times]
    bias = part["bias"].values.reshape(-1, len(times))
    final = series_at(part, _slope(options, "final.error", "", -1.0), None)
    final_bias = series_at(part, _slope(options, "final.bias", "", -1.0), None)
    return Healed(
        label, times, amplitude, np.nanmean(bias, axis=0).tolist(), final, [estimate.value for estimate in final_bias.y]
    )


def _amplitude(series: Series) -> Estimate:
    """A(t) = the geometric mean over n of n^½ ‖f_n − f_t‖, from the estimates' independent errors."""
    logs = [logarithm(estimate) for estimate in series.y]
    if not logs:
        return Estimate(math.nan)
    mean = combination(np.full(len(logs), 1.0 / len(logs)), logs)
    value = math.exp(mean.value + 0.5 * float(np.mean(np.log(series.x))))
    return Estimate(value, value * mean.standard_error, mean.degrees)


def _falls(healed: Healed, said: str, options: HealingLawOptions) -> Verdict:
    first, last = healed.amplitude[0], healed.amplitude[-1]
    ratio = combination(np.array([1.0, -1.0]), [logarithm(last), logarithm(first)])
    interval = ratio.interval(options.level)
    ends = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    details: dict[str, Json] = {"measure": options.name, "level": options.level, "times": list(healed.times)}
    details |= {"amplitude": [estimate.value for estimate in healed.amplitude]}
    details |= {"amplitude_interval": [list(estimate.interval(options.level) or ()) for estimate in healed.amplitude]}
    return Verdict(
        f"A(t) falls: A({healed.times[-1]:g})/A({healed.times[0]:g}){said}",
        1.0,
        math.exp(ratio.value),
        ends,
        HOLDS if ends is not None and ends[1] < 1.0 else FAILS,
        "holds where the interval lies below 1; times, A and its intervals are beside",
        details,
        "<",
    )


_WHY = {
    COARSE: "the discretisation error is not below a third of the error at every n",
    BIASED: "the bias of the limit is not below a third of the error at every n",
}


def _along(part: xarray.Dataset, healed: Healed, said: str, options: HealingLawOptions) -> Verdict:
    """The exponent to f* along a_n; steeper than predicted agrees with the theorem, which holds for every ξ < 1."""
    law = _slope(options, "final.error", f"‖f_n(a_n) − f*‖ ~ n^-1 or faster, a_n = time.end{said}", -1.0)
    series = healed.final
    if series.line is None:
        return unmeasured(law, "fewer than two values of n")
    values = np.array([estimate.value for estimate in series.y])
    coarse = series_at(part, _slope(options, "final.discretisation", "", -1.0), None)
    floors = {"bias": np.array(healed.final_bias), "discretisation": np.array([estimate.value for estimate in coarse.y])}
    shares = {name: float(np.max(floor / values)) for name, floor in floors.items()}
    slope = series.line.slope
    holds = decide(max(slope.value, -1.0), -1.0, options.tolerance, smallest=1.0, **shares)
    ends = series_at(part, _slope(options, "final.time", "", -1.0), None)
    fluctuation = series_at(part, _slope(options, "final.fluctuation", "", -1.0), None)
    details: dict[str, Json] = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    details |= {"particles": series.x.tolist(), "a_n": [estimate.value for estimate in ends.y], "error": values.tolist()}
    details |= {name: floor.tolist() for name, floor in floors.items()}
    details |= {"fluctuation_slope": None if fluctuation.line is None else fluctuation.line.slope.value}
    fall = details["fluctuation_slope"]
    steady = "" if fall is None else f"−½ is that of n, the rest how A falls along the chosen a_n (‖f_n − f_t‖ alone: {fall:.2f})"
    return Verdict(law.law, -1.0, slope.value, slope.interval(options.level), holds, _WHY.get(holds, steady), details)


def _table(healed: Healed, options: HealingLawOptions) -> Table:
    ends = np.array([estimate.interval(options.level) or (math.nan, math.nan) for estimate in healed.amplitude])
    return {
        "time": ("time", np.array(healed.times)),
        "amplitude": ("time", np.array([estimate.value for estimate in healed.amplitude])),
        "lower": ("time", ends[:, 0]),
        "upper": ("time", ends[:, 1]),
        "bias": ("time", np.array(healed.bias)),
    }


def _panels(drawn: Sequence[Healed], options: HealingLawOptions) -> list[partial[None]]:
    return [partial(_draw_amplitudes, drawn=drawn, level=options.level), partial(_draw_ends, drawn=drawn, level=options.level)]


def _draw_amplitudes(axes: Axes, drawn: Sequence[Healed], level: float) -> None:
    for k, healed in enumerate(drawn):
        times = np.array(healed.times)
        late = times > 0
        chosen = [estimate for estimate, kept in zip(healed.amplitude, late, strict=True) if kept]
        bars(axes, times[late], chosen, level, f"A(t), {healed.label}", k, "-")
        label = f"bias ‖f_t − f*‖, {healed.label}"
        axes.plot(times[late], np.array(healed.bias)[late], color=look(k)["color"], linestyle=":", label=label)
    finish(axes, "time t", "relative to ‖target‖", heading="A(t) = √n ‖f_n(t) − f_t‖")


def _draw_ends(axes: Axes, drawn: Sequence[Healed], level: float) -> None:
    for k, healed in enumerate(drawn):
        if healed.final.line is not None:
            draw_series(axes, healed.label, healed.final, level, k)
            label = f"bias, {healed.label}"
            axes.plot(healed.final.x, healed.final_bias, color=look(k)["color"], linestyle=":", label=label)
    if drawn and drawn[0].final.line is not None:
        guide(axes, drawn[0].final.x, 1.5 * drawn[0].final.y[0].value, -1.0, "slope −1")
    heading = "along a_n: ‖f_n(a_n) − f*‖ and the limit's bias"
    finish(axes, "number of particles n", "relative to ‖target‖", heading=heading)


HEALING = Measurement(HealingLawOptions, healing_law)
