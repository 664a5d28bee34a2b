"""A law whose density is an expression in the coordinate, up to a factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mvpde.models.expressions.derivatives import derivative
from mvpde.models.expressions.parse import ExpressionError, compile_expression
from mvpde.models.expressions.programs import program
from mvpde.models.laws.gauss import gauss, panels
from mvpde.models.laws.law import Array, Law1D

_SCALES = 14.0  # logarithm of the farthest place, where no interval is given, at which mass is looked for
_LOOKED = 40_001  # places there
_FAINT = 1e-13  # of the largest value of |z|ρ counts as none
_CELLS = 8192  # that draws are made in
_DIFFERENCE = 1e-6  # of the interval, for slopes where there is no derivative


@dataclass(frozen=True, eq=False)
class ExpressionLaw:
    """The law with density e(z)/∫e on [lower, upper], 0 outside.

    Attributes:
        text: e, an expression in one coordinate.
        name: of that coordinate.
        lower, upper: ends of the interval; None: found where e is not negligible, or one period.
        period: of a circle; there e has this period, or is one of an interval no longer than it.

    Raises:
        ValueError: for an e that is no expression in one coordinate, negative or not finite somewhere, or not integrable.
    """

    text: str
    name: str
    lower: float | None = None
    upper: float | None = None
    period: float | None = None
    _ends: tuple[float, float] = field(init=False, repr=False)
    _rule: tuple[Array, Array] = field(init=False, repr=False)
    _mass: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find the interval and the integral."""
        value = self._function()
        object.__setattr__(self, "_ends", self._found(value))
        z, w = panels(*self._ends)
        masses = w * _checked(value, z, self.text)
        total = float(masses.sum())
        if not 0.0 < total < math.inf:
            raise ValueError(f"density: '{self.text}' has the integral {total:g} over [{self._ends[0]:g}, {self._ends[1]:g}]")
        object.__setattr__(self, "_mass", total)
        object.__setattr__(self, "_rule", (z, masses / total))

    def _function(self) -> Callable[[Array], Array]:
        run = program([compile_expression(self.text, (self.name,)).tree], (self.name,))
        return lambda z: run.at(np.asarray(z, float).reshape(-1, 1))[0].reshape(np.shape(z))

    def _found(self, value: Callable[[Array], Array]) -> tuple[float, float]:
        """The interval."""
        low, high = self.lower, self.upper
        if low is not None and high is not None:
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"lower = {low:g} must lie below upper = {high:g}; exchange or correct them")
            if self.period is not None and high - low > self.period * (1.0 + 1e-9):
                raise ValueError(f"the interval [{low:g}, {high:g}] is longer than the period {self.period:g}; shorten it")
            return low, high
        if self.period is not None:
            start = 0.0 if low is None else low
            return (start, start + self.period) if high is None else (high - self.period, high)
        return _where_it_is(value, self.text, -math.inf if low is None else low, math.inf if high is None else high)

    def _folded(self, z: Array) -> Array:
        """z moved into the interval by whole periods."""
        low = self._ends[0]
        return np.asarray(z, float) if self.period is None else low + np.mod(np.asarray(z, float) - low, self.period)

    def density(self, z: Array) -> Array:
        """e(z)/∫e in the interval, 0 outside."""
        z = self._folded(z)
        with np.errstate(all="ignore"):
            value = self._function()(z) / self._mass
        return np.where((z >= self._ends[0]) & (z <= self._ends[1]), value, 0.0)

    def log_density(self, z: Array) -> Array:
        """log ρ(z), −∞ where it is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.density(z))

    def log_density_gradient(self, z: Array) -> Array:
        """e'(z)/e(z); by differences where e has no derivative that is an expression."""
        z = self._folded(z)
        try:
            run = program([derivative(compile_expression(self.text, (self.name,)).tree, self.name)], (self.name,))
        except ExpressionError:
            h = _DIFFERENCE * (self._ends[1] - self._ends[0])
            return (self.log_density(z + h) - self.log_density(z - h)) / (2.0 * h)
        with np.errstate(all="ignore"):
            slope = run.at(z.reshape(-1, 1))[0].reshape(np.shape(z))
            return np.nan_to_num(slope / (self._mass * self.density(z)), posinf=0.0, neginf=0.0)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws: the density counts as constant in each of many cells."""
        ends = np.linspace(*self._ends, _CELLS + 1)
        shares = np.cumsum(self.density(0.5 * (ends[1:] + ends[:-1])))
        return np.interp(rng.random(n), np.append(0.0, shares / shares[-1]), ends)

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1: of a Gauss rule, or equispaced over a whole circle."""
        low, high = self._ends
        if self.period is not None and math.isclose(high - low, self.period, rel_tol=1e-9):
            z = low + self.period * (np.arange(n) + 0.5) / n
            w = self.density(z)
            if w.sum() > 0.0:
                return z, w / w.sum()
        return gauss(*self._rule, n)

    def extent(self) -> tuple[float, float]:
        """The interval."""
        return self._ends

    def in_period(self, period: float) -> Law1D:
        """On a circle of this length."""
        return ExpressionLaw(self.text, self.name, self.lower, self.upper, period)


def _checked(value: Callable[[Array], Array], z: Array, text: str) -> Array:
    with np.errstate(all="ignore"):
        found = value(z)
    for wrong, said in ((~np.isfinite(found), "is not a finite number"), (found < 0.0, "is negative")):
        if wrong.any():
            raise ValueError(f"density: '{text}' {said} at {z[np.argmax(wrong)]:.4g}; change it, or give `lower` and `upper`")
    return found


def _where_it_is(value: Callable[[Array], Array], text: str, low: float, high: float) -> tuple[float, float]:
    """An interval outside of which |z|e is negligible beside its largest value inside."""
    z = np.clip(np.sinh(np.linspace(-_SCALES, _SCALES, _LOOKED)), low, high)
    with np.errstate(all="ignore"):
        seen = np.abs(value(z))
        seen = np.where(np.isfinite(seen), seen, 0.0) * np.maximum(np.abs(z), 1e-3)
    some = np.flatnonzero(seen > _FAINT * seen.max()) if seen.max() > 0.0 else np.empty(0, int)
    if not len(some):
        raise ValueError(f"density: '{text}' is 0 wherever it was looked at; give `lower` and `upper`")
    first, last = max(some[0] - 1, 0), min(some[-1] + 1, _LOOKED - 1)
    if (first == 0 and low == -math.inf) or (last == _LOOKED - 1 and high == math.inf):
        raise ValueError(f"density: '{text}' does not fade towards the ends of the line; give `lower` and `upper`")
    return float(z[first]), float(z[last])
