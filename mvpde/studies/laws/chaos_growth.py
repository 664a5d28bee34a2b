"""Verdicts on propagation of chaos that are no slope in n: growth in time, and the part of the error that is the time step's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.grouped import axis
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import FAILS, HOLDS, Array, Estimate, Verdict, loglog_line

if TYPE_CHECKING:
    import xarray


class GrowthMeasure(Measurement):
    """√n E|Z_i − Z̄_i| against e^{Ct} − 1, and E|Z^ε − Z| against ε."""

    name: str = Field("growth", description="name of its figure, <name>.png", examples=["growth"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    fitted_until: Positive = Field(description="C is fitted up to here, > 0; later times test it", examples=[2.0])
    tolerance: Positive = Field(0.1, description="how far the slope in ε may be from 1, > 0", examples=[0.1])
    times: list[Number] | None = Field(None, description="output times of the slopes in ε; absent: the last", examples=[[5.0]])


def growth(dataset: xarray.Dataset, options: GrowthMeasure) -> Outcome:
    """One verdict on the growth; one for each of `times` on the order of the step, where Euler steps were compared."""
    coordinate = axis(dataset, options.x)
    if coordinate is None or "chaos.coupling" not in dataset:
        return Outcome([Verdict("√n E|Z_i − Z̄_i| ≤ e^{Ct} − 1", 1.0, None, None, FAILS, "no point has couplings")])
    n = coordinate.values.astype(float)
    dimension = str(coordinate.dims[0])
    kept = (dimension, "time")
    coupling = dataset["chaos.coupling"].mean([d for d in dataset["chaos.coupling"].dims if d not in kept]).transpose(*kept)
    scaled = np.sqrt(n)[:, None] * coupling.values
    t = dataset["time"].values
    verdicts = [_bounded(t, scaled, options)]
    parts = _parts(dataset, dimension)
    verdicts += [_order(parts, n, at, options) for at in options.times or [float(t[-1])]] if parts is not None else []
    return Outcome(verdicts, _figure(dataset, t, n, scaled, parts))


def rates(t: Array, y: Array) -> Array:
    """C(t) with y = e^{Ct} − 1, for t > 0 and y ≥ 0: the constant of Gronwall's lemma, dy/dt ≤ C(y + 1), y(0) = 0."""
    return np.asarray(np.log1p(y) / t)


def _bounded(t: Array, scaled: Array, options: GrowthMeasure) -> Verdict:
    details = {"measure": options.name, "fitted_until": options.fitted_until}
    law = f"√n E|Z_i − Z̄_i| ≤ e^{{Ct}} − 1, C from t ≤ {options.fitted_until:g}"
    early = t[t > 0] <= options.fitted_until
    found = rates(t[t > 0], np.max(scaled[:, t > 0], axis=0))
    if not early.any() or early.all() or not np.isfinite(found).all():
        return Verdict(law, 1.0, None, None, FAILS, "needs output times on both sides of fitted_until", details)
    c, ratio = float(found[early].max()), float(found[~early].max() / found[early].max())
    note = f"C = {c:.3g}; measured is the constant that later times need, relative to it: anything up to 1 is within the bound"
    return Verdict(law, 1.0, ratio, None, HOLDS if ratio <= 1.0 else FAILS, note, {**details, "constant": c}, "≤")


def _parts(dataset: xarray.Dataset, dimension: str) -> tuple[Array, dict[str, xarray.DataArray]] | None:
    """The Euler steps, and quantities over particles × time × step."""
    if "chaos.step_part" not in dataset:
        return None
    steps = dataset["chaos.euler_steps"]
    found = {}
    for name in ("step_part", "step_part_standard_error", "with_step"):
        values = dataset[f"chaos.{name}"]
        inner = f"chaos.{name}_0"
        others = [d for d in values.dims if d not in (dimension, "time", inner)]
        found[name] = values.mean(others).transpose(dimension, "time", inner)
    return steps.values.reshape(-1, steps.shape[-1])[0], found


def _order(parts: tuple[Array, Mapping[str, xarray.DataArray]], n: Array, at: float, options: GrowthMeasure) -> Verdict:
    """Slope of E|Z^ε − Z| in ε at the largest n, whose own n^{-½} is the smallest."""
    steps, values = parts
    row = values["step_part"].sel(time=at, method="nearest").values
    largest, smallest = int(np.argmax(n)), int(np.argmin(n))
    errors = values["step_part_standard_error"].sel(time=at, method="nearest").values[largest]
    estimates = [Estimate(float(y), float(error), math.inf) for y, error in zip(row[largest], errors, strict=True)]
    line = loglog_line(steps, estimates)
    ratio = row[largest] / row[smallest]
    note = f"paired with steps of second order at the same n; at n = {n[smallest]:g} it is {1 / ratio.mean():.3g} times as large"
    details = {
        "measure": options.name,
        "time": at,
        "tolerance": options.tolerance,
        "coefficient": float(row[largest][0] / steps[0]),
    }
    holds = HOLDS if abs(line.slope.value - 1.0) <= options.tolerance else FAILS
    law = f"E|Z^ε − Z| ~ ε, Euler's step, n = {n[largest]:g}, t = {at:g}"
    return Verdict(law, 1.0, line.slope.value, line.slope.interval(0.95), holds, note, details)


def _figure(dataset: xarray.Dataset, t: Array, n: Array, scaled: Array, parts: Any) -> Any:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import style

    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (count, values) in enumerate(zip(n, scaled, strict=True)):
        left.plot(t, values, label=f"n = {count:g}", markersize=4, linewidth=1.0, **style(k))
    left.set(xlabel="time t", ylabel="√n E|Z_i − Z̄_i|", title="distance to the copies")
    if parts is not None:
        steps, values = parts
        for k, (count, one) in enumerate(zip(n, values["with_step"].isel(time=-1).values, strict=True)):
            right.plot(steps, one, label=f"n = {count:g}", markersize=4, linewidth=1.0, **style(k))
        part = values["step_part"].isel(time=-1).values[int(np.argmax(n))]
        right.plot(steps, part, "k--", linewidth=1.2, label="step's part alone")
        right.set(xscale="log", yscale="log", xlabel="Euler's step ε", ylabel=f"E|Z^ε_i − Z̄_i| at t = {t[-1]:g}")
        right.set_xticks(steps, [f"{step:g}" for step in steps], minor=False)
        right.tick_params(axis="x", which="minor", labelbottom=False)
        right.set_title("step and particles")
    for axes in (left, right):
        axes.grid(alpha=0.3, linewidth=0.5)
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
    right.set_visible(parts is not None)
    figure.suptitle(str(dataset.attrs.get("title", "")), fontsize=10)
    return figure


GROWTH = Measure(GrowthMeasure, growth)
