"""Whether means over runs of width N go to their limit: d_N = A + B/N, and A is zero within a small standard error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.figures import draw_errors, finish, look
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import at, axis, failures
from mvpde.studies.verdict import FAILS, HOLDS, UNRESOLVED, Array, Json, Verdict, line_in_inverse

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class TowardsOptions(MeasurementOptions):
    """Differences to a limit, extrapolated to infinite width."""

    name: str = Field("towards", description="name of its figure, <name>.png", examples=["loss"])
    law: str = Field("", description="the law in words or as a formula", examples=["E_N → E"])
    x: str = Field("network.width", description="the varied width", examples=["network.width"])
    y: str = Field(
        description="<y>_difference, _standard_error and _limit are quantities of summary.json", examples=["width.loss"]
    )
    times: list[Number] | None = Field(None, description="output times; absent: all", examples=[[1.0, 4.0]])
    errors: Positive = Field(
        3.0, description="how many standard errors an extrapolated difference may be from 0, > 0", examples=[3.0]
    )
    resolution: Positive = Field(
        0.05, description="share of the limit that these standard errors may be for the law to hold, > 0", examples=[0.05]
    )
    ylabel: str = Field("", description="label of the y axis", examples=["E_N − E"])


@dataclass(frozen=True)
class Extrapolation:
    """d_N = A + B/N for each of K numbers at one time.

    Attributes:
        time: t.
        n: widths, shape (n,).
        d, s: differences and their standard errors, shape (n, K).
        a, a_error, b: A, its standard error, B, shape (K,).
        limit: size of the limit, the largest of its K numbers.
    """

    time: float
    n: Array
    d: Array
    s: Array
    a: Array
    a_error: Array
    b: Array
    limit: float

    @property
    def worst(self) -> int:
        """The number whose A is farthest from 0, in standard errors."""
        return int(np.argmax(np.abs(self.a) / self.a_error))


def extrapolation(time: float, n: Array, d: Array, s: Array, limit: float) -> Extrapolation:
    """The fit. Numbers without scatter that are 0, such as those of given starts, count as known to rounding."""
    floor = np.maximum(s, 1e-14)
    fits = [line_in_inverse(n, d[:, k], floor[:, k]) for k in range(d.shape[1])]
    a, b = np.array([found for found, _ in fits]).T
    return Extrapolation(time, n, d, s, a, np.sqrt([covariance[0, 0] for _, covariance in fits]), b, limit)


def towards(dataset: xarray.Dataset, options: TowardsOptions) -> Outcome:
    """One verdict for each output time."""
    varied = axis(dataset, options.x)
    asked = [f"{options.y}_{what}" for what in ("difference", "limit")]
    if varied is None or len(np.unique(varied.values)) < 2 or not all(name in dataset for name in asked):
        law = options.law or options.y
        return Outcome([Verdict(law, 0.0, None, None, FAILS, f"needs {' and '.join(asked)} at two widths or more")])
    times = options.times if options.times is not None else [float(t) for t in dataset["time"].values]
    found = [fit for t in times if (fit := _at(dataset, options, varied, t)) is not None]
    verdicts = [judged(fit, options, failures(dataset)) for fit in found]
    return Outcome(
        verdicts, Picture("\n".join(text for text in (title(dataset), options.law) if text), [partial(_draw, found, options)])
    )


def _at(dataset: xarray.Dataset, options: TowardsOptions, varied: xarray.DataArray, t: float) -> Extrapolation | None:
    columns = [at(dataset, f"{options.y}_{what}", t) for what in ("difference", "standard_error")]
    limit = at(dataset, f"{options.y}_limit", t)
    if columns[0] is None or columns[1] is None or limit is None:
        return None
    n = varied.values.astype(float)
    d, s = (np.moveaxis(x.values, x.dims.index(varied.dims[0]), 0).reshape(len(n), -1) for x in columns if x is not None)
    known = np.isfinite(d).all(axis=1) & np.isfinite(s).all(axis=1)
    size = float(np.nanmax(np.abs(limit.values), initial=0.0))
    return extrapolation(t, n[known], d[known], s[known], size) if len(np.unique(n[known])) > 1 else None


def judged(fit: Extrapolation, options: TowardsOptions, failed: int = 0) -> Verdict:
    """Whether every A is within some standard errors of 0, and these are small beside the limit; measured is the farthest off."""
    k = fit.worst
    half = options.errors * fit.a_error[k]
    a, widest = float(fit.a[k]), options.errors * float(fit.a_error.max())
    holds = FAILS if abs(a) > half else HOLDS if widest <= options.resolution * fit.limit else UNRESOLVED
    details: dict[str, Json] = {
        "measure": options.name,
        "time": fit.time,
        "standard_error": float(fit.a_error[k]),
        "bias": float(fit.b[k]),
        "numbers": len(fit.a),
        "widths": fit.n.tolist(),
        "limit": fit.limit,
        "widest": widest,
    }
    notes = [f"{failed} points failed"] * (failed > 0)
    notes.append(f"A of A + B/N, of {len(fit.a)} the farthest from 0 in its standard error; B = {fit.b[k]:.3g}")
    if holds == UNRESOLVED:
        notes.append(
            f"{options.errors:g} standard errors are {widest:.2g}, more than {options.resolution:g} of the limit {fit.limit:.3g}"
        )
    return Verdict(
        f"{options.law or options.y}, t = {fit.time:g}",
        0.0,
        a,
        (a - half, a + half),
        holds,
        "; ".join(notes),
        details,
    )


def _draw(found: list[Extrapolation], options: TowardsOptions, axes: Axes) -> None:
    for number, fit in enumerate(found):
        k = fit.worst
        draw_errors(axes, 1.0 / fit.n, fit.d[:, k], fit.s[:, k], f"t = {fit.time:g}", number)
        x = np.array([0.0, 1.0 / fit.n.min()])
        axes.plot(x, fit.a[k] + fit.b[k] * x, color=look(number)["color"], linewidth=1.0)
    axes.axhline(0.0, color="k", linewidth=0.8)
    finish(axes, "1/N", options.ylabel or f"{options.y}_difference", log="")


TOWARDS = Measurement(TowardsOptions, towards)
