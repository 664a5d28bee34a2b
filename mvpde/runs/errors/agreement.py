"""Whether two measures of a run agree: their difference over the error of both.

    ratio = |a − b| / (√(Σ e²) + s),

e the errors that are known of each: of the mesh and of the quadrature nodes from their companions, of particle steps, and the
standard error of samples. s is what is allowed beside them, since no companion tells it:

    2 b, |L|/n     of the loss of n particles: b their bias ½ tr(R'' Cov)/n, from the spread of the predictions, |L| its size
    σ/n            of a mean under n particles, σ the standard deviation of what is averaged
    σ/K, |L|/K     of residual networks of K layers, whose limit is that of depth too
    hᵖσ, hᵖ|L|     of particles, where nothing tells the error of their step h ≤ .1, p the order of the scheme; of SGD h is its
                   learning rate
    σ/200, |L|/200 of a density without companions, 10⁻⁵ of both for characteristics

The worst ratio over losses and predictions at all output times, and over the first two moments of all coordinates and the
observables at the first and the last, is that of the pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvpde.cases.measures import MEASURES, MESH, NODES, SAMPLES, pairs
from mvpde.measure import Array, Number
from mvpde.models.data import Data
from mvpde.particles.deep.modes import MODES
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.runs.errors.means import student_factor
from mvpde.runs.record import Record

AGREE, DIFFER = 3.0, 5.0  # ratios up to which measures agree, and from which they differ
UNTOLD = {MESH: 0.005, NODES: 1e-5}  # relative error that is allowed to measures without companions
ROUNDING = 1e-9  # relative difference that is none
LONGEST = 0.1  # step beyond which no more is allowed
SAYS_NOTHING = 0.5  # relative error from which a quantity decides nothing

Statistics = Mapping[str, Mapping[str, Number]]


@dataclass(frozen=True)
class Error:
    """What is known of the error of a value.

    Attributes:
        squares: Σe² of independent errors.
        allowed: s, what is allowed beside them.
    """

    squares: float
    allowed: float


@dataclass(frozen=True)
class Gap:
    """A quantity under two measures.

    Attributes:
        quantity: what it is, in words.
        time: t.
        values: under the two, or ‖f‖ of their predictions.
        difference: |a − b|.
        error: of both together, > 0.
        scale: size of the quantity.
    """

    quantity: str
    time: float
    values: tuple[float, float]
    difference: float
    error: float
    scale: float

    @property
    def ratio(self) -> float:
        """Difference over error."""
        return self.difference / self.error

    @property
    def decides(self) -> bool:
        """Whether the error is small enough to tell anything."""
        return self.error < SAYS_NOTHING * self.scale


@dataclass(frozen=True)
class Agreement:
    """What a run says of a pair of measures.

    Attributes:
        verdict: "agree", "differ", or "unknown": between both, or nothing is known well enough.
        worst: where they are farthest apart, in errors; None where nothing could be compared.
    """

    verdict: str
    worst: Gap | None

    def entry(self) -> dict[str, str | float | None]:
        """As `summary.json` has it."""
        if self.worst is None:
            return {"ratio": None, "verdict": self.verdict}
        return {
            "ratio": self.worst.ratio,
            "verdict": self.verdict,
            "quantity": self.worst.quantity,
            "time": self.worst.time,
            "difference": self.worst.difference,
            "error": self.worst.error,
        }


def agreements(records: Sequence[Record], statistics: Statistics, data: Data | None) -> dict[tuple[str, str], Agreement]:
    """(a, b) → whether they agree, for all measures that are compared."""
    return {(a, b): _judged(list(_gaps(records, statistics, data, a, b))) for a, b in pairs(list(statistics))}


def _judged(gaps: list[Gap]) -> Agreement:
    known = [gap for gap in gaps if math.isfinite(gap.ratio)]
    if not known:
        return Agreement("unknown", None)
    worst = max(known, key=lambda gap: gap.ratio)
    if worst.ratio > DIFFER:
        return Agreement("differ", worst)
    return Agreement("agree" if worst.ratio <= AGREE and any(gap.decides for gap in known) else "unknown", worst)


def _gaps(records: Sequence[Record], statistics: Statistics, data: Data | None, a: str, b: str) -> Iterator[Gap]:
    scale = max((abs(recorded.numbers[name]["loss"]) for recorded in records for name in (a, b)), default=0.0)
    for recorded in records:
        if scale > 0.0:
            yield _of_loss(recorded, statistics, a, b, scale)
        if data is not None:
            yield _of_predictions(recorded, statistics, data, a, b)
        yield from _of_means(recorded, statistics, a, b)


# --- losses ---------------------------------------------------------------------------------------------------------------------


def _of_loss(recorded: Record, statistics: Statistics, a: str, b: str, scale: float) -> Gap:
    values = recorded.numbers[a]["loss"], recorded.numbers[b]["loss"]
    error = _together([_loss_error(recorded, statistics[name], name, scale) for name in (a, b)], scale)
    return Gap("the loss", recorded.time, values, abs(values[0] - values[1]), error, scale)


def _loss_error(recorded: Record, said: Mapping[str, Number], name: str, scale: float) -> Error:
    """Of the loss of one measure; ``scale`` is the size of losses."""
    told = _told(recorded, name, "loss_error")
    if MEASURES[name].exactness != SAMPLES:
        return _exact(name, told, scale)
    runs = _number(said, "runs", 1.0)
    sampling = recorded.numbers[name].get("loss_standard_error", math.nan)
    factor = student_factor(int(runs)) if runs > 1 else 1.0
    step = _told(recorded, name, "loss_step_error")
    allowed = max(2.0 * recorded.bias.get(name, 0.0), scale * _of_size(said))
    return Error(
        (factor * (sampling if sampling is not None else math.nan)) ** 2 + (step or 0.0) ** 2,
        allowed + (_of_step(said) * scale if step is None else 0.0),
    )


# --- predictions ----------------------------------------------------------------------------------------------------------------


def _of_predictions(recorded: Record, statistics: Statistics, data: Data, a: str, b: str) -> Gap:
    """‖f_a − f_b‖ in L²(μ) over the root of the mean square of their errors."""
    w, scale = data.weights, _norm(data.weights, data.target)
    f, g = recorded.predictions[a], recorded.predictions[b]
    size = max(scale, _norm(w, f), _norm(w, g))
    parts = [_prediction_error(recorded, statistics[name], name, data, size) for name in (a, b)]
    return Gap("the prediction", recorded.time, (_norm(w, f), _norm(w, g)), _norm(w, f - g), _together(parts, size), size)


def _prediction_error(recorded: Record, said: Mapping[str, Number], name: str, data: Data, size: float) -> Error:
    w, target = data.weights, _norm(data.weights, data.target)
    told = recorded.errors.get(name, {}).get("predictions")
    if MEASURES[name].exactness != SAMPLES:
        if told is not None and bool(np.isfinite(told).all()):
            return Error(float(w @ told**2), 0.0)
        relative = _told(recorded, name, "prediction_error")  # to the target
        return _exact(name, None if relative is None else relative * (target or 1.0), size)
    runs, errors = _number(said, "runs", 1.0), recorded.prediction_standard_error[name]
    factor = student_factor(int(runs)) if runs > 1 else 1.0
    spread = _norm(w, errors) * math.sqrt(runs / _points(said))  # σ/n: the error has σ/√(n·runs)
    spread += size / _number(said, "layers", math.inf) if "width" in said else 0.0
    step = _told(recorded, name, "prediction_step_error")  # relative to the target
    return Error(
        (factor * _norm(w, errors)) ** 2 + ((step or 0.0) * target) ** 2,
        spread + (_of_step(said) * size if step is None else 0.0),
    )


def _norm(w: Array, f: Array) -> float:
    return math.sqrt(float(w @ np.square(f)))


# --- moments of the coordinates -------------------------------------------------------------------------------------------------


def _of_means(recorded: Record, statistics: Statistics, a: str, b: str) -> Iterator[Gap]:
    for quantity, one in recorded.means.get(a, {}).items():
        other = recorded.means[b][quantity]
        scale = max(one.spread, other.spread)
        if scale == 0.0:
            continue
        parts = [_mean_error(recorded, statistics[name], name, quantity, scale) for name in (a, b)]
        size = max(scale, abs(one.value), abs(other.value))
        values = one.value, other.value
        yield Gap(f"E[{quantity}]", recorded.time, values, abs(values[0] - values[1]), _together(parts, size), scale)


def _mean_error(recorded: Record, said: Mapping[str, Number], name: str, quantity: str, spread: float) -> Error:
    """Of a mean under one measure; ``spread`` is σ of what is averaged."""
    if MEASURES[name].exactness != SAMPLES:
        told = recorded.mean_errors.get(name, {}).get(quantity)
        known = told is not None and math.isfinite(told)
        return _exact(name, told if known else _told_of_mean(recorded, name, quantity, spread, "error"), spread)
    mean, step = recorded.means[name][quantity], _told_of_mean(recorded, name, quantity, spread, "step_error")
    allowed = _of_size(said) + (_of_step(said) if step is None else 0.0)
    return Error(mean.sampling**2 + (step or 0.0) ** 2, spread * allowed)


def _told_of_mean(recorded: Record, name: str, quantity: str, spread: float, error: str) -> float | None:
    """Error of steps or nodes in a mean: of an observable its own, of a coordinate on the line that of the law; else None.

    That of the law is in standard deviations for means, and in variances for E(x − c)², of which ``spread`` may be far less.
    """
    if quantity in recorded.numbers[name]:
        return _told(recorded, name, f"{quantity}_{error}")
    law, means = _told(recorded, name, f"law_{error}"), recorded.means[name]
    square = quantity.startswith("(") and quantity.endswith(")^2")
    on_line = square or any(other.startswith(f"({quantity} ") for other in means)
    if law is None or not on_line or "height" in quantity:  # that of a shell is no coordinate of its particles
        return None
    return law * max(spread, abs(means[quantity].value) if square else 0.0)


# --- what errors are made of ----------------------------------------------------------------------------------------------------


def _together(parts: Sequence[Error], size: float) -> float:
    """√(Σe²) + s of both."""
    return math.sqrt(sum(part.squares for part in parts)) + sum(part.allowed for part in parts) + ROUNDING * size


def _told(recorded: Record, name: str, key: str) -> float | None:
    """An error that the measure or its companions tell."""
    told = recorded.numbers[name].get(key)
    return told if told is not None and math.isfinite(told) else None


def _exact(name: str, told: float | None, scale: float) -> Error:
    """Of a measure that is not made of samples; beside what coarser nodes tell some of the last digits are allowed."""
    exactness = MEASURES[name].exactness
    allowed = UNTOLD.get(exactness, 0.0) * scale if told is None or exactness == NODES else 0.0
    return Error((told or 0.0) ** 2, allowed)


def _of_size(said: Mapping[str, Number]) -> float:
    """1/n of points that see each other, and 1/K of residual networks of K layers, whose limit is that of depth too."""
    if not _interacting(said):
        return 0.0
    return 1.0 / _points(said) + (1.0 / _number(said, "layers", math.inf) if "width" in said else 0.0)


def _interacting(said: Mapping[str, Number]) -> bool:
    """Whether points see each other, so that finitely many of them have another law."""
    return "particles" in said or "width" in said


def _of_step(said: Mapping[str, Number]) -> float:
    """hᵖ of particles, η of SGD."""
    if "learning_rate" in said:
        return _number(said, "learning_rate", 0.0)
    scheme = MODES[str(said["mode"])].scheme if "mode" in said else str(said.get("scheme"))
    order = PARTICLE_SCHEMES[scheme].order if scheme in PARTICLE_SCHEMES else 1
    return float(min(_number(said, "step", 0.0), LONGEST) ** order)


def _points(said: Mapping[str, Number]) -> float:
    """n: particles of a run, or units of a network."""
    return _number(said, "particles", _number(said, "width", _number(said, "runs", 1.0)))


def _number(said: Mapping[str, Number], key: str, otherwise: float) -> float:
    value = said.get(key)
    return float(value) if isinstance(value, int | float) else otherwise
