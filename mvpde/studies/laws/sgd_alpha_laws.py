"""What is fitted to the points of "sgd_alpha": slopes −α, squares that add, no gain beyond α = ½, and the quench in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.grouped import grouped
from mvpde.studies.slope import Measure, Measurement, Outcome, Series, SlopeOptions, judged, series_at
from mvpde.studies.verdict import FAILS, HOLDS, Estimate, Verdict, combination, decide, logarithm

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

Level = Annotated[Number, Field(gt=0, lt=1)]


class AlphaMeasure(Measurement):
    """‖f_n^SGD − f_n^GD‖ ~ n^{-α} for each α, and the total error beside it."""

    name: str = Field("alpha", description="name of its figure, <name>.png", examples=["alpha"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("options.alpha", description="the varied key that holds α", examples=["options.alpha"])
    time: Number = Field(description="the output time that is fitted", examples=[8.0])
    tolerance: Positive = Field(0.1, description="how far slopes and ratios may differ, > 0", examples=[0.1])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def _slope(options: AlphaMeasure, quantity: str, law: str, predicted: float, floor: str | None) -> SlopeOptions:
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


def _alpha_law(dataset: xarray.Dataset, options: AlphaMeasure) -> Outcome:
    failed = int((dataset["status"] == "failed").sum())
    verdicts: list[Verdict] = []
    added, total, finite = [], [], None
    for alpha, part in grouped(dataset, options.each):
        if alpha is None or "added.prediction_error" not in dataset:
            continue
        law = _slope(options, "added", f"‖f_n^SGD − f_n^GD‖ ~ n^-{alpha:g} with P = n^{2 * alpha:g}", -float(alpha), None)
        found = series_at(part, law, options.time)
        verdicts.append(judged(found, law, failed))
        whole = _slope(options, "total", "total", -min(float(alpha), 0.5), "quadrature_error")
        added.append((f"α = {alpha:g}", found))
        total.append((f"α = {alpha:g}", series_at(part, whole, options.time)))
        verdicts += _squares(part, options, float(alpha))
        finite = series_at(part, _slope(options, "finite_n", "", -0.5, None), options.time)
    if total and finite is not None:
        verdicts += _no_gain(total[-1], finite, options)
    return Outcome(verdicts, _figure(added, total, finite, options, str(dataset.attrs.get("title", ""))))


def _squares(part: xarray.Dataset, options: AlphaMeasure, alpha: float) -> list[Verdict]:
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


def _no_gain(total: tuple[str, Series], finite: Series, options: AlphaMeasure) -> list[Verdict]:
    """At the largest α and n, the total error against that of gradient descent: nothing is left to gain from larger batches."""
    label, series = total
    if not series.y or not finite.y:
        return []
    ratio = float(series.y[-1].value / finite.y[-1].value)
    law = f"total error of SGD / error of gradient descent → 1, {label}, n = {series.x[-1]:g}"
    holds = decide(ratio, 1.0, options.tolerance, smallest=series.y[-1].value, discretisation=series.floor["discretisation"])
    return [Verdict(law, 1.0, ratio, None, holds, "the same starts in both", _details(options))]


def _entry(law: str, found: Estimate, predicted: float, holds: str, options: AlphaMeasure | QuenchMeasure) -> Verdict:
    return Verdict(law, predicted, found.value, found.interval(options.level), holds, "", _details(options))


def _details(options: AlphaMeasure | QuenchMeasure) -> dict[str, Any]:
    return {"measure": options.name, "level": options.level}


def _figure(
    added: Sequence[tuple[str, Series]],
    total: Sequence[tuple[str, Series]],
    finite: Series | None,
    options: AlphaMeasure,
    title: str,
) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import draw_series, finish, guide, style
    from mvpde.studies.slope_figure import GREY

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for k, (label, one) in enumerate(added):
        if one.line is not None:
            draw_series(left, label, one, options.level, **style(k))
            text = "predicted slopes −α" if k == 0 else "_nolegend_"
            guide(left, one.x, one.y[0].value, -float(label.split()[-1]), text)
    for k, (label, one) in enumerate(total):
        if one.line is not None:
            draw_series(right, label, one, options.level, **style(k))
    if finite is not None and finite.line is not None:
        values = [one.value for one in finite.y]
        right.plot(finite.x, values, color=GREY, linestyle="--", linewidth=1.2, label="gradient descent: finite n alone")
    finish(left, xlabel="number of particles n", ylabel="relative to ‖target‖")
    finish(right, xlabel="number of particles n", ylabel="relative to ‖target‖")
    left.set_title("what SGD adds: ‖f_n^SGD − f_n^GD‖", fontsize=10)
    right.set_title("total error: ‖f_n^SGD − f_t‖", fontsize=10)
    figure.suptitle(f"{title}, t = {options.time:g}", fontsize=10)
    return figure


ALPHA = Measure(AlphaMeasure, _alpha_law)


# --- the quench -----------------------------------------------------------------------------------------------------------------


class QuenchMeasure(Measurement):
    """What SGD adds falls when the batches grow: against going on with small batches."""

    name: str = Field("quench", description="name of its figure, <name>.png", examples=["quench"])
    x: str = Field("options.quench_alpha", description="the varied key: α of the last stretch", examples=["options.quench_alpha"])
    each: str = Field("ensemble.particles", description="another varied key, told apart", examples=["ensemble.particles"])
    start: Number = Field(description="the output time at which the batches grow", examples=[8.0])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def _quench_law(dataset: xarray.Dataset, options: QuenchMeasure) -> Outcome:
    if "added.prediction_error" not in dataset:
        return Outcome([Verdict("quench", 1.0, None, None, FAILS, "no point has the quantity added", _details(options))])
    verdicts, drawn = [], []
    for value, part in grouped(dataset, options.each):
        curves = [(alpha, _curve(one)) for alpha, one in grouped(part, options.x)]
        label = "" if value is None else f", n = {value:g}"
        times = part["time"].values
        grown, going_on = curves[-1][1][-1], curves[0][1][-1]
        law = f"quenched noise: at t = {times[-1]:g}{label} below that without quench"
        verdicts.append(_falls(law, grown, going_on, options))
        drawn += [(f"final α = {alpha:g}{label}", curve) for alpha, curve in curves]
    return Outcome(verdicts, _quench_figure(dataset["time"].values, drawn, options, str(dataset.attrs.get("title", ""))))


def _curve(part: xarray.Dataset) -> list[Estimate]:
    values, deviations = (part[f"added.{name}"].values.reshape(-1) for name in ("prediction_error", "standard_error"))
    return [Estimate(float(v), float(s), np.inf) for v, s in zip(values, deviations, strict=True)]


def _falls(law: str, late: Estimate, early: Estimate, options: QuenchMeasure) -> Verdict:
    """late/early < 1: it holds where the interval of the ratio lies below 1."""
    logs = combination(np.array([1.0, -1.0]), [logarithm(late), logarithm(early)])
    interval = logs.interval(options.level)
    ends = None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))
    holds = HOLDS if ends is not None and ends[1] < 1.0 else FAILS
    note = "the ratio; it holds where the interval lies below 1"
    return Verdict(f"{law}: ratio", 1.0, float(np.exp(logs.value)), ends, holds, note, _details(options), "<")


def _quench_figure(times: Any, drawn: Sequence[tuple[str, list[Estimate]]], options: QuenchMeasure, title: str) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import bars, style
    from mvpde.studies.slope_figure import GREY

    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    for k, (label, curve) in enumerate(drawn):
        shown = [(t, one) for t, one in zip(times, curve, strict=True) if one.value > 0]
        bars(
            axes,
            np.array([t for t, _ in shown]),
            [one for _, one in shown],
            options.level,
            label,
            **{**style(k), "linestyle": "-"},
        )
    axes.axvline(options.start, color=GREY, linestyle=":", linewidth=1.2, label="batches grow")
    axes.set(xlabel="time t", ylabel="‖f_n^SGD − f_n^GD‖ / ‖target‖", yscale="log")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, which="major", linewidth=0.5)
    axes.legend(frameon=False, fontsize=8)
    return figure


QUENCH = Measure(QuenchMeasure, _quench_law)
