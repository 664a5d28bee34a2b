"""The predicted fluctuations beside the measured ones: at one n, as n → ∞, and whether they are Gaussian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import kolmogi, ndtri  # scipy.stats takes a second to import

from mvpde.cases.schema import Count, Number, Positive
from mvpde.models.mean_field import Array
from mvpde.studies.grouped import axis
from mvpde.studies.laws.clt import LEVELS
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import COARSE, FAILS, HOLDS, SHARE, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class CltMeasure(Measurement):
    """Predicted beside measured fluctuations."""

    name: str = Field("clt", description="name of its figure, <name>.png", examples=["clt"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    particles: Count = Field(description="n at which prediction and measurement are compared", examples=[400])
    errors: Positive = Field(3.0, description="standard errors that they may differ by, > 0", examples=[3.0])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.999, description="level of the Kolmogorov–Smirnov test, in (0, 1)", examples=[0.999]
    )


def clt_measure(dataset: xarray.Dataset, options: CltMeasure) -> Outcome:
    """Verdicts at n = `particles` and for n → ∞, the table `clt` over time and particles, and a figure."""
    table = clt_table(dataset, options)
    if table is None:
        return Outcome([Verdict("√n(f_n − f_t) is Gaussian", 0.0, None, None, FAILS, "no point has fluctuations")])
    verdicts = [one for k in range(table.sizes["time"]) for one in _verdicts(table.isel(time=k), options)]
    return Outcome(verdicts, _figure(table, options, str(dataset.attrs.get("title", ""))), {"clt": table})


def clt_table(dataset: xarray.Dataset, options: CltMeasure) -> xarray.Dataset | None:
    """The quantities of the task over time × particles, means over all other parameters; None without any."""
    import xarray

    if "clt.measured" not in dataset:
        return None
    coordinate = axis(dataset, options.x)
    assert coordinate is not None  # x is one of the varied keys
    dimension = str(coordinate.dims[0])
    names = [str(name) for name in dataset.data_vars if str(name).startswith("clt.")]
    kept = {dimension, "time"}
    found = {}
    for name in names:
        values = dataset[name]
        others = [d for d in values.dims if d not in kept and not str(d).startswith("clt.")]
        mean = values.mean(others)
        if name == "clt.standard_error":  # of the mean of independent points
            mean = ((values**2).mean(others) / values.notnull().sum(others)) ** 0.5
        found[name.removeprefix("clt.")] = mean.transpose("time", dimension, ...)
    table = xarray.Dataset(found)
    if dimension != "particles":
        table = table.rename({dimension: "particles"})
    return table.drop_vars([c for c in table.coords if c not in ("time", "particles")])


def _verdicts(row: xarray.Dataset, options: CltMeasure) -> list[Verdict]:
    """The three verdicts at one time."""
    t = float(row["time"])
    details = {"measure": options.name, "time": t}
    chosen = row.sel(particles=options.particles) if options.particles in row["particles"] else None
    if chosen is None or not np.isfinite(chosen["measured"]):
        reason = f"no point has ensemble.particles = {options.particles}"
        return [Verdict(f"n E‖f_n − f_t‖², t = {t:g}", math.nan, None, None, FAILS, reason, details)]
    return [*_size(chosen, t, options, details), *_remainder(row, t, options, details), _normality(chosen, t, options, details)]


def _size(row: xarray.Dataset, t: float, options: CltMeasure, details: Mapping[str, Any]) -> list[Verdict]:
    measured, error, predicted = (float(row[key]) for key in ("measured", "standard_error", "predicted"))
    holds = _decided(measured, error, predicted, float(row["discretisation"]), options.errors)
    more = {**details, "standard_error": error, "resampling_bound": float(row["resampling_bound"])}
    law = f"n E‖f_n − f_t‖² as predicted, n = {options.particles}, t = {t:g}"
    return [Verdict(law, predicted, measured, _interval(measured, error, options.errors), holds, "", more)]


def _decided(measured: float, error: float, predicted: float, discretisation: float, errors: float) -> str:
    if not discretisation < SHARE * error:
        return COARSE
    return HOLDS if abs(measured - predicted) <= errors * error else FAILS


def _interval(value: float, error: float, errors: float) -> tuple[float, float]:
    return value - errors * error, value + errors * error


def _remainder(row: xarray.Dataset, t: float, options: CltMeasure, details: Mapping[str, Any]) -> list[Verdict]:
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


def line_in_inverse(n: Array, y: Array, errors: Array) -> tuple[Array, Array]:
    """Weighted least squares of y = A + B/n: (A, B) and their covariance from the standard errors of y, shape (n,) each."""
    matrix = np.column_stack([np.ones_like(n), 1.0 / n]) / errors[:, None]
    covariance = np.linalg.inv(matrix.T @ matrix)
    return covariance @ (matrix.T @ (y / errors)), covariance


def _normality(row: xarray.Dataset, t: float, options: CltMeasure, details: Mapping[str, Any]) -> Verdict:
    """Kolmogorov–Smirnov on all projections together: they are independent in the limit."""
    count, distance = int(row["projected"]), float(row["kolmogorov"])
    critical = float(kolmogi(1.0 - options.level)) / math.sqrt(count)
    runs = count / row["skewness"].size
    shape = {key: np.round(row[key].values, 4).tolist() for key in ("skewness", "excess_kurtosis")}
    errors = {"skewness_error": math.sqrt(6.0 / runs), "excess_kurtosis_error": math.sqrt(24.0 / runs)}
    note = f"Kolmogorov–Smirnov distance to N(0, predicted), which that law stays below with probability {options.level:g}"
    law = f"√n(f_n − f_t) is Gaussian, n = {options.particles}, t = {t:g}"
    more = {**details, **shape, **errors, "critical": critical}
    return Verdict(law, critical, distance, None, HOLDS if distance <= critical else FAILS, note, more, "≤")


def _figure(table: xarray.Dataset, options: CltMeasure, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_sizes(left, table, options.errors)
    _draw_quantiles(right, table.sel(particles=[options.particles] if options.particles in table["particles"] else []))
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_sizes(axes: Any, table: xarray.Dataset, errors: float) -> None:
    from mvpde.studies.figures import style

    t = table["time"].values
    axes.plot(t, table["resampling_bound"].values[:, 0], "--", color="#777777", linewidth=1.2, label="resampling bound")
    axes.plot(t, table["predicted"].values[:, 0], "-", color="black", linewidth=1.2, label="predicted, n → ∞")
    width = 0.006 * (t[-1] - t[0])
    for k, n in enumerate(table["particles"].values):
        one = table.isel(particles=k)
        place = t + width * (k - 0.5 * (table.sizes["particles"] - 1))
        look = {"linestyle": "none", "markersize": 4, "capsize": 2, "label": f"n = {n}", **style(k)}
        axes.errorbar(place, one["measured"].values, yerr=errors * one["standard_error"].values, **look)
    axes.set(yscale="log", xlabel="time t", ylabel="n E‖f_n − f_t‖²")
    axes.set_title(f"bars: ± {errors:g} standard errors", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3, linewidth=0.5)


def _draw_quantiles(axes: Any, chosen: xarray.Dataset) -> None:
    """Of the one n that is compared."""
    from mvpde.studies.figures import style

    normal = ndtri(LEVELS)
    axes.plot(normal, normal, color="#777777", linestyle="--", linewidth=1.2, label="N(0, 1)")
    for row in (chosen.isel(particles=k) for k in range(chosen.sizes["particles"])):
        for k, t in enumerate(row["time"].values):
            values = row["quantiles"].isel(time=k).values
            axes.plot(normal, values, linestyle="none", markersize=4, label=f"t = {t:g}", **style(k))
        axes.set_title(f"principal projections of √n(f_n − f_t), n = {int(row['particles'])}", fontsize=10)
    axes.set(xlabel="quantiles of N(0, 1)", ylabel="quantiles of the projections / predicted deviation")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3, linewidth=0.5)


CLT_MEASURE = Measure(CltMeasure, clt_measure)
