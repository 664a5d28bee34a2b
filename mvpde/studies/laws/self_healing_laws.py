"""What is fitted to the points of "self_healing": n^{-½} at each time, A(t) falling, and the exponent along a_n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.grouped import grouped
from mvpde.studies.slope import Measure, Measurement, Outcome, Series, SlopeOptions, judged, series_at, unmeasured
from mvpde.studies.verdict import BIASED, COARSE, FAILS, HOLDS, Estimate, Verdict, combination, decide, logarithm

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class HealingMeasure(Measurement):
    """‖f_n(t) − f_t‖ ~ A(t) n^{-½}, A falling; ‖f_n(a_n) − f*‖ ~ n^{-1} or faster along a_n = time.end."""

    name: str = Field("healing", description="name of its figure, <name>.png", examples=["healing"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("data.points", description="another varied key, told apart", examples=["data.points"])
    times: list[Number] | None = Field(
        None, description="output times whose slope is fitted; absent: all", examples=[[0.0, 50.0]]
    )
    tolerance: Positive = Field(0.1, description="how far slopes may differ, > 0", examples=[0.1])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


@dataclass(frozen=True)
class Healed:
    """What is drawn for one value of `each`.

    Attributes:
        label: the value.
        times: output times.
        amplitude: A(t) at each of them.
        bias: ‖f_t − f*‖ at each of them.
        final: ‖f_n(a_n) − f*‖ against n.
        final_bias: ‖f_{a_n} − f*‖ at the same n.
    """

    label: str
    times: Sequence[float]
    amplitude: Sequence[Estimate]
    bias: Sequence[float]
    final: Series
    final_bias: Sequence[float]


def _healing_law(dataset: xarray.Dataset, options: HealingMeasure) -> Outcome:
    import xarray

    if "fluctuation" not in dataset or "final.error" not in dataset:
        return Outcome([unmeasured(_slope(options, "fluctuation", "self-healing", -0.5), "no point has its quantities")])
    failed = int((dataset["status"] == "failed").sum())
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
        tables[f"{options.name}{'' if value is None else f'_{value}'}"] = xarray.Dataset(_table(healed, options))
    return Outcome(verdicts, _figure(drawn, options, str(dataset.attrs.get("title", ""))), tables)


def _slope(options: HealingMeasure, quantity: str, law: str, predicted: float) -> SlopeOptions:
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


def _healed(part: xarray.Dataset, options: HealingMeasure, label: str) -> Healed:
    times = [float(t) for t in part["time"].values]
    law = _slope(options, "fluctuation", "", -0.5)
    amplitude = [_amplitude(series_at(part, law, t)) for t in times]
    bias = part["bias"].values.reshape(-1, len(times))
    final = series_at(part, _slope(options, "final.error", "", -1.0), None)
    final_bias = series_at(part, _slope(options, "final.bias", "", -1.0), None)
    return Healed(label, times, amplitude, np.nanmean(bias, axis=0).tolist(), final, [one.value for one in final_bias.y])


def _amplitude(series: Series) -> Estimate:
    """A(t) = the geometric mean over n of n^½ ‖f_n − f_t‖, from the estimates' independent errors."""
    logs = [logarithm(one) for one in series.y]
    if not logs:
        return Estimate(math.nan)
    mean = combination(np.full(len(logs), 1.0 / len(logs)), logs)
    value = math.exp(mean.value + 0.5 * float(np.mean(np.log(series.x))))
    return Estimate(value, value * mean.standard_error, mean.degrees)


def _falls(healed: Healed, said: str, options: HealingMeasure) -> Verdict:
    first, last = healed.amplitude[0], healed.amplitude[-1]
    ratio = combination(np.array([1.0, -1.0]), [logarithm(last), logarithm(first)])
    interval = ratio.interval(options.level)
    ends = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    details = {"measure": options.name, "level": options.level, "times": list(healed.times)}
    details |= {"amplitude": [one.value for one in healed.amplitude]}
    details |= {"amplitude_interval": [list(one.interval(options.level) or ()) for one in healed.amplitude]}
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


def _along(part: xarray.Dataset, healed: Healed, said: str, options: HealingMeasure) -> Verdict:
    """The exponent to f* along a_n; steeper than predicted agrees with the theorem, which holds for every ξ < 1."""
    law = _slope(options, "final.error", f"‖f_n(a_n) − f*‖ ~ n^-1 or faster, a_n = time.end{said}", -1.0)
    series = healed.final
    if series.line is None:
        return unmeasured(law, "fewer than two values of n")
    values = np.array([one.value for one in series.y])
    coarse = series_at(part, _slope(options, "final.discretisation", "", -1.0), None)
    floors = {"bias": np.array(healed.final_bias), "discretisation": np.array([one.value for one in coarse.y])}
    shares = {name: float(np.max(floor / values)) for name, floor in floors.items()}
    slope = series.line.slope
    holds = decide(max(slope.value, -1.0), -1.0, options.tolerance, smallest=1.0, **shares)
    ends = series_at(part, _slope(options, "final.time", "", -1.0), None)
    fluctuation = series_at(part, _slope(options, "final.fluctuation", "", -1.0), None)
    details: dict[str, Any] = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    details |= {"particles": series.x.tolist(), "a_n": [one.value for one in ends.y], "error": values.tolist()}
    details |= {name: floor.tolist() for name, floor in floors.items()}
    details |= {"fluctuation_slope": None if fluctuation.line is None else fluctuation.line.slope.value}
    fall = details["fluctuation_slope"]
    steady = "" if fall is None else f"−½ is that of n, the rest how A falls along the chosen a_n (‖f_n − f_t‖ alone: {fall:.2f})"
    return Verdict(law.law, -1.0, slope.value, slope.interval(options.level), holds, _WHY.get(holds, steady), details)


def _table(healed: Healed, options: HealingMeasure) -> Mapping[str, Any]:
    ends = np.array([one.interval(options.level) or (math.nan, math.nan) for one in healed.amplitude])
    return {
        "time": ("time", np.array(healed.times)),
        "amplitude": ("time", np.array([one.value for one in healed.amplitude])),
        "lower": ("time", ends[:, 0]),
        "upper": ("time", ends[:, 1]),
        "bias": ("time", np.array(healed.bias)),
    }


def _figure(drawn: Sequence[Healed], options: HealingMeasure, title: str) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import bars, draw_series, finish, guide, style

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, one in enumerate(drawn):
        look = style(k)
        times = np.array(one.times)
        shown = times > 0
        chosen = [estimate for estimate, late in zip(one.amplitude, shown, strict=True) if late]
        bars(left, times[shown], chosen, options.level, f"A(t), {one.label}", **{**look, "linestyle": "-"})
        left.plot(
            times[shown], np.array(one.bias)[shown], color=look["color"], linestyle=":", label=f"bias ‖f_t − f*‖, {one.label}"
        )
        if one.final.line is not None:
            draw_series(right, one.label, one.final, options.level, **look)
            right.plot(one.final.x, one.final_bias, color=look["color"], linestyle=":", label=f"bias, {one.label}")
    if drawn and drawn[0].final.line is not None:
        guide(right, drawn[0].final.x, 1.5 * drawn[0].final.y[0].value, -1.0, "slope −1")
    finish(left, xlabel="time t", ylabel="relative to ‖target‖")
    finish(right, xlabel="number of particles n", ylabel="relative to ‖target‖")
    left.set_title("A(t) = √n ‖f_n(t) − f_t‖", fontsize=10)
    right.set_title("along a_n: ‖f_n(a_n) − f*‖ and the limit's bias", fontsize=10)
    figure.suptitle(title, fontsize=10)
    return figure


HEALING = Measure(HealingMeasure, _healing_law)
