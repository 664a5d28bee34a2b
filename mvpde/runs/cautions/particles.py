"""What steps of particles and nodes of characteristics say about themselves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mvpde.measure import Number
from mvpde.particles.accuracy.slope import DOUBTFUL, STABLE, careful, rounded_down
from mvpde.particles.deep.modes import MODES
from mvpde.particles.schemes import ONE_PASS, PARTICLE_SCHEMES
from mvpde.runs.cautions.caution import Caution, Findings

LARGEST = 1e-2  # error of the step that passes: of the loss, of the predictions in their target's norm, of mean and variance
OUTSIDE = 5e-3  # share of the particles beyond a box that only cuts the space off
QUANTITIES = {"loss": "the loss", "prediction": "the predictions", "law": "means or variances"}
ROUNDING = 1e-3  # by which hλ may pass its bound, relative

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class StepsTaken:
    """How points of a measure are moved.

    Attributes:
        name: of the measure.
        order: of the scheme.
        chosen: whether the case leaves the length of the steps to the program.
        suits: hλ that leaves what the steps do below 1 %.
        judged: what their errors are judged of.
    """

    name: str
    order: int
    chosen: bool
    suits: float
    judged: Collection[str]


def judge(found: Findings) -> Iterator[Caution]:
    """The largest error of the step that each measure knows, and steps that are unstable where the particles have come; nodes."""
    for name, statistics in found.statistics.items():
        section = getattr(found.problem.sections, name, None)
        if name == "ensemble" and getattr(section, "layers", None) is not None:
            continue  # its steps are the layers of a network, no approximation
        rows = [row.numbers[name] | {"t": row.time} for row in found.records if "slope" in row.numbers[name]]
        rows = [row for row in rows if row["steps"] > 0]  # before the first step its length is only what was asked for
        order = PARTICLE_SCHEMES[_scheme(statistics)].order
        suits = DOUBTFUL if found.problem.model.deterministic else careful(order)
        # Samples that all units see widen a narrow law of radii at any rate that can be afforded: told, but no fault of the step.
        judged = set(QUANTITIES) - {"law"} if statistics.get("scheme") == ONE_PASS else QUANTITIES
        steps = StepsTaken(name, order, getattr(section, "step", None) == "auto", suits, judged)
        long = list(_of_errors(steps, rows))
        yield from long
        yield from _of_slope(steps, rows, doubtful=not long)
    yield from _of_nodes(found)
    yield from _of_box(found)


def _scheme(statistics: Mapping[str, Number]) -> str:
    """Name of the scheme: that of the particles, of the way networks are trained, or of paths of the diffusion."""
    if "mode" in statistics:
        return MODES[str(statistics["mode"])].scheme
    given = str(statistics.get("scheme"))
    return given if given in PARTICLE_SCHEMES else "euler"


def _of_errors(steps: StepsTaken, rows: Rows) -> Iterator[Caution]:
    sizes = [(_relative(row, quantity, rows), quantity, row) for row in rows for quantity in steps.judged]
    known = [one for one in sizes if not math.isnan(one[0])]
    if not known:
        return
    error, quantity, row = max(known, key=lambda one: one[0])
    if error > LARGEST:
        helps = f"choose [{steps.name}] step = {shorter(row['step'], row['slope'], error, steps.order, steps.suits):g}"
        if steps.chosen:  # they are as short as the sampling deserves, and what is told is mostly the noise of few copies
            helps = (
                f'give more [{steps.name}] particles, for which step = "auto" takes shorter ones and their error is known better'
            )
        text = (
            f"{steps.name}: steps of {row['step']:.3g} are long for this drift, which changes at rates up to {row['slope']:.3g}: "
            f"their error in {QUANTITIES[quantity]} is about {100.0 * error:.2g} % at t = {row['t']:g}; {helps}"
        )
        yield Caution(f"{steps.name}.step", text, error, LARGEST)


def shorter(step: float, rate: float, error: float, order: int, suits: float) -> float:
    """The step whose error passes, h·(LARGEST/error)^{1/p} for weak order p, at most half of it and with the hλ that suits."""
    fits = step * min(0.5, (LARGEST / error) ** (1.0 / order)) if math.isfinite(error) else 0.1 * step
    return rounded_down(min(fits, suits / rate) if rate > 0.0 else fits)


def _relative(row: Mapping[str, float], quantity: str, rows: Sequence[Mapping[str, float]]) -> float:
    """The error relative to the quantity: of the loss to its largest size so far, and 0 where sampling hides it."""
    error = row.get(f"{quantity}_step_error", math.nan)
    if quantity != "loss":
        return error
    largest = max(abs(other["loss"]) for other in rows)
    hidden = error < row.get("loss_standard_error", 0.0)
    return 0.0 if hidden or largest == 0.0 else error / largest


def _of_box(found: Findings) -> Iterator[Caution]:
    """Particles beyond a box that is no wall to them, where a density beside them has no flux."""
    rows = [(row.numbers["ensemble"], row.time) for row in found.records if "ensemble" in row.numbers]
    share, t = max(((numbers.get("outside", 0.0), t) for numbers, t in rows), default=(0.0, 0.0))
    if share > OUTSIDE and "density" in found.statistics:
        names = found.problem.model.directions
        text = (
            f"ensemble: {100.0 * share:.2g} % of the particles are beyond the box at t = {t:g}, where no density is: it has no "
            f"flux through the ends of [domain], and particles pass. If walls are meant, write [domain.walls] {names[0]} = "
            '["reflecting", "reflecting"], or absorbing; else widen [domain] lower and upper'
        )
        yield Caution("ensemble.outside", text, share, OUTSIDE)


def _of_slope(steps: StepsTaken, rows: Rows, *, doubtful: bool) -> Iterator[Caution]:
    """Steps beyond the bound of stability or, where it is asked, beyond a tenth of it for half of the particles."""
    unstable = _worst(rows, "slope", STABLE)
    row = unstable or (_worst(rows, "stiffness", DOUBTFUL) if doubtful else None)
    if row is None:
        return
    rate = row["slope" if unstable else "stiffness"]
    helps = f"choose [{steps.name}] step = {rounded_down((steps.suits if unstable else DOUBTFUL) / rate):g}"
    if steps.chosen:
        helps = 'give more output times, at which step = "auto" looks at it again'
    what = "unstable" if unstable else f"{row['step'] * rate:.2g} over the rate, more than a tenth of the bound of stability,"
    verb = "changes" if unstable else "contracts"
    text = (
        f"{steps.name}: steps of {row['step']:.3g} are {what} where the particles are at t = {row['t']:g}, where the drift "
        f"{verb} at the rate {rate:.3g}; {helps}"
    )
    yield Caution(f"{steps.name}.stability", text, row["step"] * rate, STABLE if unstable else DOUBTFUL)


def _worst(rows: Rows, rate: str, bound: float) -> Mapping[str, float] | None:
    """The row with the largest hλ, where that passes the bound."""
    worst = max(rows, key=lambda row: row["step"] * row[rate], default=None)
    return worst if worst is not None and worst["step"] * worst[rate] > bound * (1.0 + ROUNDING) else None


def _of_nodes(found: Findings) -> Iterator[Caution]:
    """Characteristics whose quadrature is too coarse for a percent of the loss."""
    name = "characteristics"
    rows = [row for row in found.records if "loss_error" in row.numbers.get(name, {})]
    largest = max((abs(row.numbers[name]["loss"]) for row in rows), default=0.0)
    errors = [(row.numbers[name]["loss_error"], row.time) for row in rows if not math.isnan(row.numbers[name]["loss_error"])]
    error, t = max(errors, default=(0.0, 0.0))
    if error > LARGEST * largest > 0.0:
        text = (
            f"{name}: the error of the quadrature in the loss is about {100.0 * error / largest:.2g} % at t = {t:g}; give more "
            f"[{name}] nodes"
        )
        yield Caution(f"{name}.nodes", text, error / largest, LARGEST)
