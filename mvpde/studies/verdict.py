"""Fits with confidence intervals, and whether a law holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to import

Array = NDArray[np.float64]
type Json = str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None

HOLDS, FAILS, COARSE, BIASED = "holds", "does not hold", "mesh too coarse", "bias dominates"
UNRESOLVED = "not resolved"
SMALL_SHARE = 1.0 / 3.0  # of the smallest error shown: a discretisation error or a bias below it does not carry the fit


@dataclass(frozen=True)
class Verdict:
    """One entry of verdict.json.

    Attributes:
        law: what is claimed, in words or as a formula.
        predicted: its number.
        measured: what was found; None where nothing could be measured.
        interval: confidence interval of the measured number; None where its spread is unknown.
        holds: "holds", "does not hold", "mesh too coarse", "bias dominates" or "not resolved".
        note: what the reader should know beside it.
        details: more keys of the entry, such as the time.
        relation: how the measured number is to compare with the predicted one: "=", "<", "≤" or ">".
    """

    law: str
    predicted: float
    measured: float | None
    interval: tuple[float, float] | None
    holds: str
    note: str = ""
    details: Mapping[str, Json] = field(default_factory=dict)
    relation: str = "="

    def entry(self) -> dict[str, Json]:
        """The entry as plain data."""
        interval = None if self.interval is None else list(self.interval)
        numbers: dict[str, Json] = {
            "law": self.law,
            "predicted": self.predicted,
            "measured": self.measured,
            "interval": interval,
            "holds": self.holds,
        }
        relation: dict[str, Json] = {} if self.relation == "=" else {"relation": self.relation}
        return {**numbers, **relation, "note": self.note, **self.details}


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the degrees of freedom of that error; NaN and 0 where the spread is unknown."""

    value: float
    standard_error: float = math.nan
    degrees: float = 0.0

    def interval(self, level: float) -> tuple[float, float] | None:
        """Student's interval [value ± t s] that covers with probability `level`; None where the spread is unknown."""
        if not (math.isfinite(self.value) and math.isfinite(self.standard_error) and self.degrees > 0):
            return None
        quantile = ndtri(0.5 + 0.5 * level) if math.isinf(self.degrees) else stdtrit(self.degrees, 0.5 + 0.5 * level)
        half = float(quantile) * self.standard_error
        return self.value - half, self.value + half


def mean(samples: Sequence[float] | Array) -> Estimate:
    """The mean of independent samples; its standard error is s/√S with S − 1 degrees of freedom."""
    values = np.asarray(samples, dtype=float)
    if len(values) < 2:
        return Estimate(float(values[0]) if len(values) else math.nan)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), len(values) - 1)


def combination(coefficients: Array, estimates: Sequence[Estimate]) -> Estimate:
    """Σ_i c_i X_i of independent estimates.

    Its variance is Σ c_i² s_i², with (Σ c_i² s_i²)² / Σ (c_i² s_i²)²/ν_i degrees of freedom (Welch, Biometrika 34 (1947) 28;
    Satterthwaite, Biometrics Bulletin 2 (1946) 110).
    """
    value = float(coefficients @ [estimate.value for estimate in estimates])
    parts = np.array([(c * estimate.standard_error) ** 2 for c, estimate in zip(coefficients, estimates, strict=True)])
    total = float(parts.sum())
    if not math.isfinite(total):
        return Estimate(value)
    weights = sum(part**2 / estimate.degrees for part, estimate in zip(parts, estimates, strict=True) if part > 0)
    return Estimate(value, math.sqrt(total), total**2 / weights if weights > 0 else math.inf)


@dataclass(frozen=True)
class Line:
    """log y = intercept + slope · log x."""

    slope: Estimate
    intercept: float

    def at(self, x: Array) -> Array:
        """y on the line."""
        return np.exp(self.intercept + self.slope.value * np.log(x))


def logarithm(estimate: Estimate) -> Estimate:
    """log X by the delta method: the standard error of log X is s/X."""
    if not estimate.value > 0:
        return Estimate(math.nan)
    return Estimate(math.log(estimate.value), estimate.standard_error / estimate.value, estimate.degrees)


def loglog_line(x: Array, y: Sequence[Estimate]) -> Line:
    """Ordinary least squares of log y on log x, the errors of the y propagated to the slope.

    slope = Σ_i c_i log y_i,  c_i = (log x_i − mean)/Σ(log x − mean)². The y are independent, so the interval comes from the
    spread of the samples behind each of them and needs no assumption on how the points scatter about the line.

    Args:
        x: positive, at least two different values, shape (n,).
        y: n positive estimates.

    Raises:
        ValueError: with fewer than two different x, or where an x or y is not positive.
    """
    if len(np.unique(x)) < 2:
        raise ValueError("a slope needs at least two different values of x")
    logs = [logarithm(estimate) for estimate in y]
    if not (np.all(x > 0) and all(math.isfinite(log.value) for log in logs)):
        raise ValueError("a log–log slope needs positive numbers")
    centred = np.log(x) - np.log(x).mean()
    slope = combination(centred / (centred @ centred), logs)
    return Line(slope, float(np.mean([log.value for log in logs]) - slope.value * np.log(x).mean()))


def line_in_inverse(n: Array, y: Array, errors: Array) -> tuple[Array, Array]:
    """Weighted least squares of y = A + B/n: (A, B) and their covariance from the standard errors of y, shape (n,) each."""
    matrix = np.column_stack([np.ones_like(n), 1.0 / n]) / errors[:, None]
    covariance = np.linalg.inv(matrix.T @ matrix)
    return covariance @ (matrix.T @ (y / errors)), covariance


def decide(
    measured: float,
    predicted: float,
    tolerance: float,
    *,
    smallest: float = math.inf,
    discretisation: float = 0.0,
    bias: float = 0.0,
) -> str:
    """Whether |measured − predicted| ≤ tolerance, if the fit is entitled to say so.

    Args:
        measured: NaN counts as a law that does not hold.
        predicted: the law's number.
        tolerance: how far they may differ.
        smallest: the smallest error that enters the fit.
        discretisation: error of the density; from a third of `smallest` on, the verdict is "mesh too coarse". NaN: it could
            not be measured, which is no better.
        bias: distance between what is approached and the limit that the law is about; likewise "bias dominates".
    """
    if not discretisation < SMALL_SHARE * smallest:
        return COARSE
    if not bias < SMALL_SHARE * smallest:
        return BIASED
    return HOLDS if abs(measured - predicted) <= tolerance else FAILS
