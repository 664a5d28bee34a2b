"""Errors, extrapolated values and observed orders of all that is recorded of a density, from its companions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mvpde.measure import Array
from mvpde.richardson import LONGEST, RANGE, ROUNDING, Richardson, as_if, three_levels, two_levels
from mvpde.runs.errors.companions import Companions, Level, Observed
from mvpde.runs.record import Record

_SAFETY = 1.25  # as in `mvpde.richardson`
_CROSSING = 0.2  # of the differences at the times beside it: no doubtful error is smaller
_SEVERAL = 3  # output times from which on those beside one say something
_TOGETHER = 3  # values at least, of all entries and times, whose common order says more than that of each
_PART = 0.5  # of the root mean square of the differences: no error is taken from a smaller one where the common order is 2
_MARGIN = 1.25  # by which a common order above the expected range is believed less
_RESOLVED = 0.2  # of its size: if the two coarser meshes differ by more, a high order says that the coarsest is useless
_SLOW = 2.5  # times a difference: what it may be of an error where its sign is not that of the one before
_SMALL = 0.1  # of its size: what a quantity is smaller than counts as that large, when its error is judged


@dataclass(frozen=True)
class Assessment:
    """What is known of one quantity over the output times.

    Attributes:
        found: arrays of shape (times, …); see `mvpde.richardson`.
        order: that all times and entries show together; NaN where the differences are rounding or a level is missing.
        scale: size of the quantity, > 0: the largest over the times, for a mean ⟨h⟩ no less than ⟨|h|⟩.
    """

    found: Richardson
    order: float
    scale: float

    def shares(self) -> Array:
        """The largest error at each time as a share of the largest entry then, or of a tenth of the size where that is more."""
        errors, values = (np.abs(part).reshape(len(part), -1) for part in (self.found.error, self.found.value))
        largest = np.array([row[np.isfinite(row)].max(initial=0.0) for row in values])
        worst = np.array([row[np.isfinite(row)].max(initial=-1.0) for row in errors])
        return np.asarray(np.where(worst < 0.0, np.nan, worst / np.maximum(largest, _SMALL * self.scale)))


def observe(companions: Companions, recorded: Record) -> None:
    """Record what companions say at an output time, and tell ``recorded`` the errors of the density's numbers. Collective."""
    companions.observe(recorded)
    began = time.perf_counter()
    companions.found = estimates(companions)
    companions.seconds += time.perf_counter() - began
    name, numbers = companions.fine.name, recorded.numbers[companions.fine.name]
    errors = {quantity: one.found.error[-1] for quantity, one in companions.found.items()}
    numbers |= {f"{quantity}_error": float(error) for quantity, error in errors.items() if quantity in numbers}
    recorded.errors[name] = {quantity: error for quantity, error in errors.items() if error.ndim}
    recorded.mean_errors[name] = {quantity: _of_mean(companions, recorded, quantity) for quantity in recorded.functions}


def _of_mean(companions: Companions, recorded: Record, quantity: str) -> float:
    """Error of one of the means that are compared."""
    mean, order = recorded.means[companions.fine.name][quantity], float(companions.order)
    value = np.array([mean.value])
    levels = {
        level.merged: _scaled(value, np.array([level.means.get(quantity, np.nan)]), level, order) for level in companions.levels
    }
    size = max(mean.spread, abs(mean.value), 1e-300)
    return float(_known(value, levels, order, size, _hidden_now(companions)).error[0])


def _hidden_now(companions: Companions) -> float:
    """What a vanishing difference of a mean may hide at this time alone, from the quantities that are known of it."""
    now = replace(companions, observed=companions.observed[-1:], levels=[_last(level) for level in companions.levels])
    known = [_differences(now, name) for name in now.observed[0]]
    return _hidden(known, float(companions.order))


def _last(level: Level) -> Level:
    return replace(level, observed=level.observed[-1:])


def estimates(companions: Companions) -> dict[str, Assessment]:
    """Of each quantity that the density has at all output times so far."""
    times = companions.observed
    names = [name for name in times[0] if all(name in at_t for at_t in times)] if times else []
    everything = {name: _differences(companions, name) for name in names}
    longest = _hidden(list(everything.values()), float(companions.order)) if len(times) < _SEVERAL else LONGEST
    return {name: _assessed(one, float(companions.order), longest) for name, one in everything.items()}


@dataclass(frozen=True)
class _Levels:
    """One quantity on all meshes: values over the times, what coarser meshes say by 2 and 4, and its size."""

    values: Array
    coarse: dict[int, Array]
    size: float

    @property
    def differences(self) -> tuple[Array, Array]:
        """d₁ and d₂, NaN where a level is missing."""
        half, quarter = (self.coarse.get(merged, np.full(self.values.shape, np.nan)) for merged in (2, 4))
        return self.values - half, half - quarter


def _differences(companions: Companions, name: str) -> _Levels:
    values = np.stack([np.asarray(at_t[name], float) for at_t in companions.observed])
    order = float(companions.order)
    coarse = {level.merged: _scaled(values, _of_level(values, level, name), level, order) for level in companions.levels}
    size = max(float(np.abs(values[np.isfinite(values)]).max(initial=1e-300)), companions.sizes.get(name, 0.0))
    return _Levels(values, coarse, size)


def _assessed(one: _Levels, order: float, longest: float) -> Assessment:
    d1, d2 = one.differences
    common = _common_order(d1, d2, one.size)
    known = _beside_neighbours(_known(one.values, one.coarse, order, one.size, longest), d1)
    return Assessment(_together(known, (d1, d2), common, order, one.size), common, one.size)


def _hidden(everything: Sequence[_Levels], order: float) -> float:
    """What a difference that nearly vanishes may hide, where there are no times beside it to tell.

    Anything, if the quantities show, by their median, the order of the scheme: one that seems to converge much faster has then a
    difference that changes its sign. Where all converge faster, as means of smooth laws do, it is as small as it looks.
    """
    orders = np.array([_common_order(*one.differences, one.size) for one in everything])
    orders = orders[np.isfinite(orders)]
    return math.inf if len(orders) > 1 and float(np.median(orders)) <= order + RANGE else LONGEST


def _beside_neighbours(found: Richardson, d1: Array) -> Richardson:
    """Errors of doubtful entries in the light of the output times before and after.

    A difference that is on its way from one sign to the other is small by chance: the error is no less than a part of the
    differences beside it. And it is no more than the larger of these where coarser meshes than the half say nothing sensible.
    """
    whole = _SAFETY * np.nan_to_num(np.abs(d1))
    beside = np.zeros_like(whole)
    beside[1:] = whole[:-1]
    beside[:-1] = np.maximum(beside[:-1], whole[1:])
    with np.errstate(invalid="ignore"):
        several = ~found.asymptotic & (len(whole) >= _SEVERAL)
        opposite = several & np.isnan(found.order)
        most = np.where(opposite, np.maximum(_SLOW * whole, beside), np.inf)
        error = np.where(several, np.maximum(np.minimum(found.error, most), _CROSSING * beside), found.error)
    error = np.where(np.isfinite(found.error), error, found.error)
    return replace(found, error=error, extrapolated_error=np.where(several, error, found.extrapolated_error))


def _together(found: Richardson, differences: tuple[Array, Array], common: float, order: float, size: float) -> Richardson:
    """Errors of doubtful entries in the light of all entries and times together, which cannot cancel all at once.

    With their common order q and d the larger of |d₁| and a part c of its root mean square over entries and times, no error is
    more than 1.25 d/(2^q − 1): c = ½ where q is near the expected p, and c = 1 and q − 1.25 instead of q where it is
    larger, unless the coarsest mesh is so wrong that q says nothing else.
    """
    d1, d2 = differences
    known, fast = np.isfinite(d1) & np.isfinite(d2), common > order + RANGE
    if known.sum() < _TOGETHER or not common >= order - RANGE:
        return found
    if fast and float(np.sqrt(np.mean(d2[known] ** 2))) > _RESOLVED * size:
        return found
    rate = max(common - _MARGIN, order - RANGE) if fast else common
    least = (1.0 if fast else _PART) * float(np.sqrt(np.mean(d1[known] ** 2)))
    most = _SAFETY * np.maximum(np.abs(d1), least) / (2.0**rate - 1.0)
    error = np.where(found.asymptotic, found.error, np.fmin(found.error, most))
    error = np.where(np.isfinite(found.error), error, found.error)
    return replace(found, error=error, extrapolated_error=np.where(found.asymptotic, found.extrapolated_error, error))


def _known(values: Array, coarse: Mapping[int, Array], order: float, size: float, longest: float) -> Richardson:
    """From three levels where they are there, else from two."""
    half, quarter = (coarse.get(merged, np.full(values.shape, np.nan)) for merged in (2, 4))
    three, two = three_levels(values, half, quarter, order, size, longest=longest), two_levels(values, half, order, size)
    return Richardson(**{key: np.where(np.isfinite(quarter), getattr(three, key), getattr(two, key)) for key in vars(three)})


def _scaled(values: Array, coarse: Array, level: Level, order: float) -> Array:
    """What the level says, as it would with 2 or 4 as the ratio of the spacings."""
    return as_if(values, coarse, level.ratio, level.merged, order)


def _of_level(values: Array, level: Level, name: str) -> Array:
    missing = np.full(values.shape[1:], np.nan)
    return np.stack([_fitting(at_t, name, missing) for at_t in level.observed])


def _fitting(at_t: Observed, name: str, missing: Array) -> Array:
    found = np.asarray(at_t.get(name, missing), float)
    return found if found.shape == missing.shape else missing


def _common_order(d1: Array, d2: Array, size: float) -> float:
    """log₂ of the ratio of the differences, each in mean square over all times and entries."""
    known = np.isfinite(d1) & np.isfinite(d2)
    rough, fine = (float(np.sqrt(np.mean(d[known] ** 2))) if known.any() else 0.0 for d in (d2, d1))
    return float("nan") if fine <= ROUNDING * size or rough == 0.0 else float(np.log2(rough / fine))


def entries(found: Mapping[str, Assessment], listed: Sequence[str]) -> dict[str, Any]:
    """What `summary.json` says of those quantities that it lists: error and extrapolated value of each, and orders."""
    told: dict[str, Any] = {}
    for name in (name for name in listed if name in found):
        known = found[name].found
        told |= {f"{name}_error": known.error.tolist(), f"{name}_extrapolated": known.extrapolated.tolist()}
    moments = {
        name: {key: getattr(one.found, key).tolist() for key in ("value", "error", "extrapolated")}
        for name, one in found.items()
        if name.startswith("⟨")
    }
    told |= {"moments": moments} if moments else {}
    return {**told, "order": {name: estimate.order for name, estimate in found.items()}}
