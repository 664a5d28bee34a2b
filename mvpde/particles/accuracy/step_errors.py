"""The errors of the step in what is recorded of particles.

    √(d² + s²) · 2^p/(2^p − 1)

with d what half the steps change in a mean over runs, s its standard error, and p the weak order: see `halved`.
"""

from __future__ import annotations

import math

import numpy as np

from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.accuracy.growth import unbounded
from mvpde.particles.accuracy.halved import HalvedSteps
from mvpde.particles.schemes import Blocks


def recorded(model: MeanField) -> tuple[str, ...]:
    """What the errors are told of: loss and law, the predictions of a model with data, the observables."""
    return ("loss", "law", *("prediction",) * (model.data is not None), *model.observables)


def step_errors(halved: HalvedSteps, z: Blocks, m: Array, factor: float, size: float) -> dict[str, float]:
    """By name; that of the predictions is a difference as `mvpde.compare` measures it, that of the law see `_of_law`. Collective.

    Args:
        halved: the copies, at the time of the particles.
        z: particles of this rank.
        m: moments of the runs that have copies, shape (runs, K).
        factor: 2^p/(2^p − 1).
        size: how far the particles went at the start.
    """
    model = halved.model
    found: dict[str, float] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        shift, spread = halved.changes(model.feature_values, z)
        found["loss"] = _of_loss(halved, z, m, shift)
        found["law"] = _of_law(halved, z, size if model.deterministic else 0.0)
        if model.data is not None:
            weights, target = model.data.weights, model.data.target
            squares = shift.mean(axis=0) ** 2 + spread**2
            found["prediction"] = math.sqrt(float(weights @ squares[: len(weights)]) / float(weights @ target**2))
        for name, h in model.observables.items():
            found[name] = _size(*halved.changes(lambda x, h=h: np.asarray(h(x), float)[:, None], z))  # type: ignore[misc]
    return {name: factor * found[name] for name in recorded(model)}


def _of_loss(halved: HalvedSteps, z: Blocks, m: Array, shift: Array) -> float:
    """d of R(m), and the spread of its slope R'(m)·g."""
    model = halved.model
    slope = np.asarray(model.outer_gradient(m.mean(axis=0)))

    def along(x: Array) -> Array:
        value, _ = model.profile_field(x[:, : model.profile_dimension], slope)
        return np.asarray((model.amplitude(x) * value)[:, None])

    _, spread = halved.changes(along, z)
    return _size(np.asarray(model.outer_energy(m + shift) - model.outer_energy(m)), spread)


def _of_law(halved: HalvedSteps, z: Blocks, least: float) -> float:
    """Largest change of a mean, in standard deviations, or of a variance, in variances, over coordinates without a period.

    Where there is no noise these become as small as they like, and are not taken as less than ``least``.
    """
    axes = unbounded(halved.model)
    if not axes:
        return 0.0
    means = halved.means(lambda x: np.concatenate([x[:, axes], x[:, axes] ** 2], axis=1), z).mean(axis=0)
    first, second = np.split(means, 2)
    variances = np.maximum(np.maximum(second - first**2, least**2), np.finfo(float).tiny)

    def centred(x: Array) -> Array:
        y = (x[:, axes] - first) / np.sqrt(variances)
        return np.concatenate([y, y**2], axis=1)

    d, spread = halved.changes(centred, z)
    return float(np.hypot(d.mean(axis=0), spread).max())


def _size(changes: Array, spread: Array) -> float:
    return math.hypot(float(np.mean(changes)), float(spread[0]))
