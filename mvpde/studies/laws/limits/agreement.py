"""Two numbers that a law says are the same: of one quantity and its reference, or of one quantity across a varied key."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from mvpde.cases.schema import Number, Positive, refuse
from mvpde.studies.figures import COLOURS, finish
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import axis, failures
from mvpde.studies.verdict import FAILS, HOLDS, Array, Json, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

LONGEST_LEGEND = 14  # entries


class AgreementOptions(MeasurementOptions):
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
    varied = axis(dataset, options.across)
    if options.across is not None and varied is None:
        return Outcome([_verdict(options, math.nan, math.nan, 0, f"`{options.across}` is not varied")])
    y = _chosen(dataset, options.y, options)
    spread = 0.0 * y if options.standard_error is None else _chosen(dataset, options.standard_error, options)
    if varied is None:
        reference = _chosen(dataset, str(options.reference), options)
        difference = abs(y - reference)
    else:  # the largest difference of any two values of the key; none where a point is missing
        along = str(varied.dims[0])
        reference = y.mean(along)
        difference = 0.0 * y + (y.max(along, skipna=False) - y.min(along, skipna=False))
    allowed = options.tolerance + options.sigmas * spread
    ratio = np.asarray((difference / allowed).values, dtype=float)
    if not np.isfinite(ratio).any():
        return Outcome([_verdict(options, math.nan, math.nan, 0, "no point has both numbers")])
    worst = int(np.nanargmax(ratio))
    size, limit = (np.broadcast_to(part.values, ratio.shape).ravel()[worst] for part in (difference, allowed))
    failed = failures(dataset) if "status" in dataset else 0
    verdict = _verdict(
        options, float(size), float(limit), int(np.isfinite(ratio).sum()), f"{failed} points failed" if failed else ""
    )
    whole = y.broadcast_like(reference)
    shape = [part.broadcast_like(whole).transpose(*whole.dims) for part in (y, reference, spread)]
    panel = partial(_draw, x=axis(dataset, options.x), columns=shape, options=options)
    return Outcome([verdict], Picture("\n".join(text for text in (title(dataset), options.law) if text), [panel]))


def _chosen(dataset: xarray.Dataset, name: str | None, options: AgreementOptions) -> xarray.DataArray:
    values = dataset[name].astype(float)
    if options.condition is not None:
        values = values.where((dataset[options.condition] == 1) != options.inverted)
    if "time" in values.dims and options.times is not None:
        values = values.sel(time=options.times, method="nearest", tolerance=1e-9)
    return values


def _verdict(options: AgreementOptions, size: float, limit: float, count: int, note: str) -> Verdict:
    law = options.law or f"{options.y} = {options.reference or 'the same across ' + str(options.across)}"
    holds = HOLDS if size <= limit else FAILS
    measured = None if math.isnan(size) else size
    details: dict[str, Json] = {
        "measure": options.name,
        "tolerance": options.tolerance,
        "allowed": limit if count else None,
        "compared": count,
    }
    allowed = options.tolerance if measured is None else limit
    return Verdict(f"{law}: largest difference", allowed, measured, None, holds, note, details, "≤")


def _draw(axes: Axes, x: xarray.DataArray | None, columns: list[xarray.DataArray], options: AgreementOptions) -> None:
    """y as marks and its reference as a line against `x`, one colour for each other parameter and time."""
    dimension = None if x is None else str(x.dims[0])
    others = [str(d) for d in columns[0].dims if d != dimension]
    stacked = [part.stack(series=others) if others else part.expand_dims("series") for part in columns]
    count = stacked[0].sizes["series"]
    for k in range(min(count, 4 * len(COLOURS))):
        values, line, error = (part.isel(series=k) for part in stacked)
        if not np.isfinite(values.values).any():
            continue
        at, lengths, colour = _numbers(values, dimension), options.sigmas * error.values, COLOURS[k % len(COLOURS)]
        # Hollow and of different sizes: what coincides is seen to coincide.
        size, label = 9 - 1.5 * (k % 4), _label(values, others) if count <= LONGEST_LEGEND else None
        axes.plot(at, values.values, "os^Dv"[k % 5], color=colour, markersize=size, markerfacecolor="none", label=label)
        if lengths.any():
            axes.errorbar(at, values.values, yerr=lengths, color=colour, linestyle="none")
        axes.plot(at, line.values, color=colour, linewidth=1.0)
    finish(axes, options.xlabel or options.x or "point", options.ylabel or options.y, log="")


def _numbers(values: xarray.DataArray, x: str | None) -> Array:
    try:
        return np.asarray(values[x].values, dtype=float)
    except (TypeError, ValueError, KeyError):
        return np.arange(values.size, dtype=float)


def _label(values: xarray.DataArray, others: list[str]) -> str:
    here = [(name, values.coords[name].item()) for name in others if name in values.coords and values.coords[name].ndim == 0]
    return ", ".join(f"{name} = {value:g}" if isinstance(value, int | float) else f"{name} = {value}" for name, value in here)


AGREEMENT = Measurement(AgreementOptions, agreement)
