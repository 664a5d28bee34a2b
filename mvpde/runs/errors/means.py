"""The first two moments of all coordinates of a measure, with what is known of their errors.

Of a coordinate x on the line E x and E(x − c)², the same c for all measures; of one of period L, E cos(2πx/L) and E sin(2πx/L);
on a sphere times a line those of the direction and of the height. Means of the model's observables beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mvpde.measure import Array, Measure
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import ABSORBING
from mvpde.particles.accuracy.student import student

Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Mean:
    """A mean under a measure.

    Attributes:
        value: E h, averaged over runs.
        spread: the standard deviation of h under the law.
        sampling: standard error of the value; 0 of a measure that is not made of samples, NaN where nothing can be said.
    """

    value: float
    spread: float
    sampling: float = 0.0


def means_under(
    measures: Mapping[str, Measure], sampled: Mapping[str, int], functions: Mapping[str, Function]
) -> dict[str, dict[str, Mean]]:
    """measure → quantity → its mean, for all measures. Collective.

    Args:
        measures: by name.
        sampled: how many independent points each measure that is made of samples has, over all its runs.
        functions: by quantity, see `functions_of`.
    """
    return {
        name: {key: _estimate(measure, h, sampled.get(name, 0)) for key, h in functions.items()}
        for name, measure in measures.items()
    }


def functions_of(model: MeanField, measure: Measure) -> dict[str, Function]:
    """quantity → the function whose mean it is; c is E x under ``measure``. Collective."""
    linear = linear_of(model)
    centre = {name: float(np.mean(measure.expectation(h))) for name, h in linear.items() if name in unbounded(model)}
    squares: dict[str, Function] = {f"({name} {_signed(-c)})^2": partial(_square, linear[name], c) for name, c in centre.items()}
    return {**linear, **squares, **model.observables}


def plain_moments(model: MeanField) -> dict[str, Function]:
    """⟨x⟩, and ⟨x^2⟩ of those on the line, by these names."""
    linear = linear_of(model)
    squares = {f"⟨{name}^2⟩": partial(_square, linear[name], 0.0) for name in linear if name in unbounded(model)}
    return {f"⟨{name}⟩": h for name, h in linear.items()} | squares


def of_coordinates(model: MeanField, measure: Measure, lower: Sequence[float], points: int) -> dict[str, float]:
    """Means and variances of all coordinates, `mean_x` and `variance_x`, of samples with standard errors of the means.

    Collective. All runs are one law, and what absorbing walls have taken is none of it. Of a coordinate of period L with
    r e^{iφ} = E e^{2πix/L} the mean is Lφ/2π in [lower, lower + L), and the variance 2(1 − r)(L/2π)², that of chords to it.

    Args:
        model: whose coordinates.
        measure: a law of them.
        lower: lower end of each coordinate.
        points: how many independent points it has over all runs; 0 where it is not made of samples.
    """
    alive = 1.0 - _of_gone(measure)
    if not alive > 0.0:
        return {}
    result: dict[str, float] = {}
    for axis, (name, period) in enumerate(zip(model.coordinates, model.periods, strict=True)):
        if period is None:
            mean, variance, sampling = _on_line(measure, partial(_column, axis), alive, points)
        else:
            waves = [measure.expectation(partial(_wave, wave, axis, period)) / alive for wave in (np.cos, np.sin)]
            mean, variance, sampling = _on_circle(waves[0], waves[1], period, lower[axis], points)
        result |= {f"mean_{name}": mean, f"variance_{name}": variance}
        result |= {f"mean_standard_error_{name}": sampling} if points else {}
    return result


def _on_line(measure: Measure, function: Function, alive: float, points: int) -> tuple[float, float, float]:
    runs = measure.expectation(function) / alive
    mean = float(np.mean(runs))
    variance = float(np.mean(measure.expectation(partial(_square, function, mean)))) / alive
    return mean, variance, _sampling(runs, math.sqrt(max(variance, 0.0)), points) if points else 0.0


def _on_circle(cosines: Array, sines: Array, period: float, lower: float, points: int) -> tuple[float, float, float]:
    """From those of each run."""
    scale, (c, s) = period / (2.0 * np.pi), (float(np.mean(cosines)), float(np.mean(sines)))
    r, angle = math.hypot(c, s), math.atan2(s, c)
    variance = 2.0 * (1.0 - r) * scale**2
    across = (sines * math.cos(angle) - cosines * math.sin(angle)) * scale / max(r, 1e-300)
    sampling = _sampling(across, math.sqrt(max(variance, 0.0)) / max(r, 1e-300), points) if points else 0.0
    return lower + (angle * scale - lower) % period, variance, sampling


def _estimate(measure: Measure, function: Function, points: int) -> Mean:
    """Mean, spread and standard error of one function. Collective."""
    runs = measure.expectation(function)
    mean = float(np.mean(runs))
    variance = float(np.mean(measure.expectation(partial(_square, function, mean)))) + _of_gone(measure) * mean**2
    spread = math.sqrt(max(variance, 0.0))
    return Mean(mean, spread, _sampling(runs, spread, points) if points else 0.0)


def _of_gone(measure: Measure) -> float:
    """The mass that absorbing walls have taken, whose share of any mean is 0. Collective."""
    walls = measure.model.walls
    if walls is None or not any(walls.faces(ABSORBING)):
        return 0.0
    return 1.0 - float(np.mean(measure.expectation(lambda z: np.ones(len(z)))))


def _sampling(runs: Array, spread: float, points: int) -> float:
    """The larger of two standard errors: between the runs, with Student's factor, and of independent points.

    Two runs that happen to be near each other promise nothing, nor do points that have pulled each other about.
    """
    if points < 2:
        return math.nan
    independent = spread / math.sqrt(points - 1)
    return max(independent, between(float(np.std(runs, ddof=1)), len(runs))) if len(runs) > 1 else independent


def between(deviation: float, runs: int) -> float:
    """s/√R t(R − 1)/1.96: as wide that twice it holds in 95 % of all cases, from R ≥ 2 runs of sample standard deviation s."""
    return deviation / math.sqrt(runs) * student_factor(runs)


def student_factor(runs: int) -> float:
    """t_{.975}(R − 1)/1.96, by which a standard error from R ≥ 2 runs is too small for two of it to hold in 95 %."""
    return student(runs) / student(math.inf)


def _square(function: Function, centre: float, z: Array) -> Array:
    return np.asarray((function(z) - centre) ** 2)


def unbounded(model: MeanField) -> set[str]:
    """Names of coordinates whose second moment says something of its own."""
    if model.metric is not None:
        return {"height"}
    return {name for name, period in zip(model.coordinates, model.periods, strict=True) if period is None}


def linear_of(model: MeanField) -> dict[str, Function]:
    """What first moments are of, by coordinate."""
    if model.metric is not None:
        shell = model.metric
        directions = {f"y{axis + 1}": partial(_direction, shell.direction, axis) for axis in range(model.dimension)}
        return {**directions, "height": shell.height}
    functions: dict[str, Function] = {}
    for axis, (name, period) in enumerate(zip(model.coordinates, model.periods, strict=True)):
        if period is None:
            functions[name] = partial(_column, axis)
        else:
            functions[f"cos {name}"] = partial(_wave, np.cos, axis, period)
            functions[f"sin {name}"] = partial(_wave, np.sin, axis, period)
    return functions


def _column(axis: int, z: Array) -> Array:
    return z[:, axis]


def _direction(of: Function, axis: int, z: Array) -> Array:
    return of(z)[:, axis]


def _wave(wave: Function, axis: int, period: float, z: Array) -> Array:
    return wave(2.0 * np.pi * z[:, axis] / period)


def _signed(number: float) -> str:
    """As a summand: "- 0.5" or "+ 0.5"."""
    return f"{'-' if number < 0.0 else '+'} {abs(number):.3g}"
