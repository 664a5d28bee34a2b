"""Mean and variance of n(f_n − f) in Langevin runs against the prediction: as n → ∞, and at every n with its O(1/n) part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Positive
from mvpde.studies.grouped import axis
from mvpde.studies.laws.clt_laws import line_in_inverse
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import BIASED, COARSE, FAILS, HOLDS, SHARE, Array, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

PLACE = "finite_temperature."


class LangevinMeasure(Measurement):
    """Predicted beside measured."""

    name: str = Field("finite_temperature", description="name of its figure, <name>.png", examples=["finite_temperature"])
    x: str = Field("ensemble.particles", description="the varied number of particles", examples=["ensemble.particles"])
    errors: Positive = Field(3.0, description="standard errors that are allowed, > 0", examples=[3.0])


def finite_temperature_measure(dataset: xarray.Dataset, options: LangevinMeasure) -> Outcome:
    """Two verdicts on each component of mean and variance, the table `finite_temperature`, and a figure."""
    coordinate = axis(dataset, options.x)
    if coordinate is None or f"{PLACE}mean" not in dataset:
        return Outcome([Verdict("n(f_n − f) as predicted", 0.0, None, None, FAILS, "no point has the averages")])
    table = _table(dataset, str(coordinate.dims[0]))
    n = coordinate.values.astype(float)
    verdicts = [
        verdict
        for quantity, sign in (("mean", "E"), ("variance", "Var"))
        for p in range(table.sizes["data_point"])
        for verdict in _verdicts(table.isel(data_point=p), n, quantity, f"{sign} n(f_n − f)(x_{p + 1})", options)
    ]
    title = str(dataset.attrs.get("title", ""))
    return Outcome(verdicts, _figure(table, n, title, options.errors), {"finite_temperature": table})


def _table(dataset: xarray.Dataset, dimension: str) -> xarray.Dataset:
    """The averages over particles × data_point, means over other parameters (errors: of that mean)."""
    import xarray

    found = {}
    for name in (key for key in dataset.data_vars if str(key).startswith(PLACE)):
        values = dataset[name]
        inner = [d for d in values.dims if str(d).startswith(PLACE)]
        if len(inner) != 1:
            continue
        others = [d for d in values.dims if d not in (dimension, *inner)]
        error = str(name).endswith("standard_error")
        mean = values.mean(others) if not error else ((values**2).mean(others) / values.notnull().sum(others)) ** 0.5
        found[str(name).removeprefix(PLACE)] = mean.rename({inner[0]: "data_point"}).transpose(dimension, "data_point")
    return xarray.Dataset(found)


def _verdicts(part: xarray.Dataset, n: Array, quantity: str, what: str, options: LangevinMeasure) -> list[Verdict]:
    predicted, measured = part[f"predicted_{quantity}"].values, part[quantity].values
    errors, bias = part[f"{quantity}_standard_error"].values, np.abs(part["step_bias"].values) * (quantity == "variance")
    details = {"measure": options.name, "particles": n.tolist(), "differences": (measured - predicted).tolist()}
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
    floor = _FLOORS[bool(np.any(coarse[good] > SHARE * errors[good])), bool(np.any(bias[good] > SHARE * slack))]
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


def _figure(table: xarray.Dataset, n: Array, title: str, errors: float) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import style

    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("mean", "variance"), strict=True):
        for p in range(table.sizes["data_point"]):
            part = table.isel(data_point=p)
            difference = part[quantity].values - part[f"predicted_{quantity}"].values
            bars = errors * part[f"{quantity}_standard_error"].values
            place = 1.0 / n * (1.0 + 0.02 * (p - 1))
            look = {"linestyle": "none", "markersize": 5, "capsize": 3, **style(p)}
            axes.errorbar(place, difference, yerr=bars, label=f"data point {p + 1}", **look)
        axes.axhline(0.0, color="#777777", linestyle="--", linewidth=1.2)
        axes.set(xlabel="1/n", ylabel=f"{quantity} of n(f_n − f): measured − predicted")
        axes.set_title(f"bars: ± {errors:g} standard errors", fontsize=10)
        axes.set_xlim(0.0, 1.15 / n.min())
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


FINITE_TEMPERATURE_MEASURE = Measure(LangevinMeasure, finite_temperature_measure)
