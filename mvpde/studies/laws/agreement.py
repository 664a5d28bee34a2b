"""Two numbers that a law says are the same: of one quantity and its reference, or of one quantity across a varied key."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from mvpde.cases.schema import Number, Positive, refuse
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import FAILS, HOLDS, Array, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class AgreementOptions(Measurement):
    """|y − reference| ≤ tolerance + sigmas · standard error, at every point."""

    name: str = Field("agreement", description="name of its figure, <name>.png", examples=["agreement"])
    law: str = Field("", description="the law in words or as a formula", examples=["stationary risk = risk of one radius"])
    y: str = Field(description="a quantity of summary.json", examples=["density.loss"])
    reference: str | None = Field(None, description="the quantity it should equal", examples=["atom.risk"])
    across: str | None = Field(None, description="or the varied key that it should not depend on", examples=["domain.upper"])
    standard_error: str | None = Field(None, description="a quantity: the standard error of y at a point", examples=["error"])
    tolerance: Positive = Field(description="largest difference that is not the law's, > 0", examples=[1e-3])
    sigmas: Positive = Field(3.0, description="standard errors that are allowed on top, > 0", examples=[3.0])
    times: list[Number] | None = Field(None, description="output times that count; absent: all", examples=[[1.0, 5.0]])
    condition: str | None = Field(None, description="a quantity: points where it is not 1 are left out", examples=["atom.stays"])
    inverted: bool = Field(False, description="points where the condition is 1 are left out instead", examples=[False])
    xlabel: str = Field("", description="label of the x axis", examples=["Δ"])
    ylabel: str = Field("", description="label of the y axis", examples=["risk"])

    @model_validator(mode="after")
    def _one(self) -> AgreementOptions:
        if (self.reference is None) == (self.across is None):
            raise refuse("give one of `reference` and `across`")
        return self


def agreement(dataset: xarray.Dataset, options: AgreementOptions) -> Outcome:
    """The largest difference over all points, against what is allowed at that point."""
    named = (options.y, options.reference, options.condition, options.standard_error)
    missing = [name for name in named if name is not None and name not in dataset]
    if missing:
        return Outcome([_verdict(options, math.nan, math.nan, 0, f"no point has the quantity {missing[0]}")])
    if options.across is not None and _dimension(dataset, options.across) is None:
        return Outcome([_verdict(options, math.nan, math.nan, 0, f"`{options.across}` is not varied")])
    y = _chosen(dataset, options.y, options)
    spread = 0.0 * y if options.standard_error is None else _chosen(dataset, options.standard_error, options)
    if options.across is None:
        reference = _chosen(dataset, str(options.reference), options)
        difference = abs(y - reference)
    else:  # the largest difference of any two values of the key; none where a point is missing
        along = _dimension(dataset, options.across)
        reference = y.mean(along)
        difference = 0.0 * y + (y.max(along, skipna=False) - y.min(along, skipna=False))
    allowed = options.tolerance + options.sigmas * spread
    ratio = np.asarray((difference / allowed).values, dtype=float)
    if not np.isfinite(ratio).any():
        return Outcome([_verdict(options, math.nan, math.nan, 0, "no point has both numbers")])
    worst = int(np.nanargmax(ratio))
    found, limit = (np.broadcast_to(part.values, ratio.shape).ravel()[worst] for part in (difference, allowed))
    count = int(np.isfinite(ratio).sum())
    failed = int((dataset["status"] == "failed").sum()) if "status" in dataset else 0
    note = f"{failed} points failed" if failed else ""
    return Outcome([_verdict(options, float(found), float(limit), count, note)], _figure(dataset, options, y, reference, spread))


def _dimension(dataset: xarray.Dataset, key: str | None) -> str | None:
    """The dimension of a varied key, by the key or by its name in the dataset; None if it is not varied."""
    return next((str(c.dims[0]) for name, c in dataset.coords.items() if key in (c.attrs.get("key"), name)), None)


def _chosen(dataset: xarray.Dataset, name: str | None, options: AgreementOptions) -> xarray.DataArray:
    values = dataset[name].astype(float)
    if options.condition is not None:
        values = values.where((dataset[options.condition] == 1) != options.inverted)
    if "time" in values.dims and options.times is not None:
        values = values.sel(time=options.times, method="nearest", tolerance=1e-9)
    return values


def _verdict(options: AgreementOptions, found: float, limit: float, count: int, note: str) -> Verdict:
    law = options.law or f"{options.y} = {options.reference or 'the same across ' + str(options.across)}"
    holds = HOLDS if found <= limit else FAILS
    measured = None if math.isnan(found) else found
    details = {"measure": options.name, "tolerance": options.tolerance, "allowed": limit if count else None, "compared": count}
    allowed = options.tolerance if measured is None else limit
    return Verdict(f"{law}: largest difference", allowed, measured, None, holds, note, details, "≤")


def _figure(
    dataset: xarray.Dataset, options: AgreementOptions, y: xarray.DataArray, reference: xarray.DataArray, spread: xarray.DataArray
) -> Figure:
    """y as marks and its reference as a line against `x`, one colour for each other parameter and time."""
    import xarray
    from matplotlib.figure import Figure

    from mvpde.studies.slope_figure import COLOURS

    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes = figure.subplots()
    x = options.x and _dimension(dataset, options.x)
    y, reference, spread = xarray.broadcast(y, reference, spread)
    others = [str(d) for d in y.dims if d != x]
    stacked = [one.stack(series=others) if others else one.expand_dims("series") for one in (y, reference, spread)]
    for k in range(min(stacked[0].sizes["series"], 4 * len(COLOURS))):
        values, line, error = (one.isel(series=k) for one in stacked)
        if not np.isfinite(values.values).any():
            continue
        at, bars = _numbers(values, x), options.sigmas * error.values
        # Hollow and of different sizes: what coincides is seen to coincide.
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "markersize": 9 - 1.5 * (k % 4), "markerfacecolor": "none"}
        drawn = axes.errorbar(at, values.values, yerr=bars if bars.any() else None, fmt="os^Dv"[k % 5], **style)
        drawn.set_label(_label(values, others))
        axes.plot(at, line.values, color=style["color"], linewidth=1.0)
    axes.set(xlabel=options.xlabel or options.x or "point", ylabel=options.ylabel or options.y)
    axes.set_title("\n".join(text for text in (str(dataset.attrs.get("title", "")), options.law) if text), fontsize=10)
    axes.grid(alpha=0.3, linewidth=0.5)
    handles, labels = axes.get_legend_handles_labels()
    if handles and len(labels) <= 14:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _numbers(values: xarray.DataArray, x: str | None) -> Array:
    try:
        return np.asarray(values[x].values, dtype=float)
    except (TypeError, ValueError, KeyError):
        return np.arange(values.size, dtype=float)


def _label(values: xarray.DataArray, others: list[str]) -> str:
    found = [(name, values.coords[name].item()) for name in others if name in values.coords and values.coords[name].ndim == 0]
    return ", ".join(f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {value}" for name, value in found)


AGREEMENT = Measure(AgreementOptions, agreement)
