"""What steps of particles and nodes of characteristics say about themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from mvpde.particles.accuracy.slope import DOUBTFUL, STABLE, rounded_down
from mvpde.runs.cautions.caution import Caution, Findings

LARGEST = 1e-2  # error of the step that passes: of the loss, of the predictions in their target's norm, of mean and variance
QUANTITIES = {"loss": "the loss", "prediction": "the predictions", "law": "means or variances"}


def judge(found: Findings) -> Iterator[Caution]:
    """The largest error of the step that each measure knows, and steps that are unstable where the particles have come; nodes."""
    for name in found.statistics:
        if getattr(getattr(found.problem.sections, name, None), "layers", None) is not None:
            continue  # its steps are the layers of a network, no approximation
        rows = [row.numbers[name] | {"t": row.time} for row in found.records if "slope" in row.numbers[name]]
        yield from _of_errors(name, rows)
        yield from _of_slope(name, rows)
    yield from _of_nodes(found)


def _of_errors(name: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Caution]:
    sizes = [(_relative(row, quantity, rows), quantity, row) for row in rows for quantity in QUANTITIES]
    known = [one for one in sizes if not math.isnan(one[0])]
    if not known:
        return
    error, quantity, row = max(known, key=lambda one: one[0])
    if error > LARGEST:
        rate = row["slope"]
        shorter = row["step"] * min(0.5, math.sqrt(LARGEST / error)) if math.isfinite(error) else row["step"] / 10.0
        helps = rounded_down(min(shorter, DOUBTFUL / rate) if rate > 0.0 else shorter)
        text = (
            f"{name}: steps of {row['step']:.3g} are long for this drift, which changes at rates up to {rate:.3g}: their error "
            f"in {QUANTITIES[quantity]} is about {100.0 * error:.2g} % at t = {row['t']:g}; choose [{name}] step = {helps:g}"
        )
        yield Caution(f"{name}.step", text, error, LARGEST)


def _relative(row: Mapping[str, float], quantity: str, rows: Sequence[Mapping[str, float]]) -> float:
    """The error relative to the quantity: of the loss to its largest size so far, and 0 where sampling hides it."""
    error = row.get(f"{quantity}_step_error", math.nan)
    if quantity != "loss":
        return error
    largest = max(abs(other["loss"]) for other in rows)
    hidden = error < row.get("loss_standard_error", 0.0)
    return 0.0 if hidden or largest == 0.0 else error / largest


def _of_slope(name: str, rows: Sequence[Mapping[str, float]]) -> Iterator[Caution]:
    worst = max(rows, key=lambda row: row["step"] * row["slope"], default=None)
    if worst is not None and worst["step"] * worst["slope"] > STABLE:
        text = (
            f"{name}: steps of {worst['step']:.3g} are unstable where the particles are at t = {worst['t']:g}, where the drift "
            f"changes at the rate {worst['slope']:.3g}; choose [{name}] step = {rounded_down(DOUBTFUL / worst['slope']):g}"
        )
        yield Caution(f"{name}.stability", text, worst["step"] * worst["slope"], STABLE)


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
