"""How many cells an accuracy takes: each mesh of a ladder says by its error how much finer the next one must be.

With n cells in each direction the relative error is e ≈ C n^{−q}. From rungs with n₁ < n₂ cells

    q = log(e₁/e₂) / log(n₂/n₁),   between 1 and 4, and 2 from a single rung,
    n = n₂ (e₂ / (a·SHARE))^{1/q},   at most 2 n₂,

for the accuracy a. Twice as many cells are 4 to 16 times the work, so that rungs on the way cost little beside the last one. The
local error of implicit steps is of third order in their length, so their tolerance falls like n⁻³ and steps get shorter as cells
do. What must be below a is the error of the extrapolated value, which is the best that a run knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FEWEST = {1: 32, 2: 16, 3: 12}  # cells in a direction of the first mesh, by the number of directions
FIRST_TOLERANCE = 1e-4  # of the first rung
LEAST_TOLERANCE = 1e-10
MOST = 2.0  # times as many cells in a direction as on the rung before
SHARE = 0.6  # of the accuracy that the next rung is to have as its error
FLOOR = (
    0.1  # of the largest value over the output times, and of a root mean square: errors of smaller values are relative to that
)
CREDIBLE = 0.3  # a larger error says nothing about the next mesh
_ORDERS = 1.0, 4.0  # between which an observed one is believed
_ALONE = 2.0  # the order that a single rung is taken to have
_LEAST_GROWTH = 1.2
_UNKNOWN = 2.0  # growth where a rung knows no error


@dataclass(frozen=True)
class Rung:
    """One mesh of a ladder.

    Attributes:
        cells: in each direction.
        nodes: of the density, with those of all labels and layers.
        tolerance: of implicit steps; None of a density that takes explicit ones alone.
        error: of the extrapolated values, relative; None where it is not known.
        seconds: that it took.
    """

    cells: tuple[int, ...]
    nodes: int
    tolerance: float | None
    error: float | None
    seconds: float

    @property
    def known(self) -> float:
        """The error, infinite where it is not known; to three digits, so that all numbers of ranks agree."""
        return math.inf if self.error is None else float(f"{self.error:.3g}")

    def entry(self) -> dict[str, object]:
        """As `summary.json` has it."""
        return {**asdict(self), "cells": list(self.cells)}


def scaled(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    """Cells in each direction: ``scale`` times those of ``shape``, in multiples of 4, so that half and a quarter exist; ≥ 12."""
    return tuple(max(12, 4 * round(scale * count / 4)) for count in shape)


def first_scale(shape: Sequence[int], widths: Sequence[float]) -> float:
    """Scale of the first mesh: few cells in every direction, but one in every standard deviation of the start at least.

    Args:
        shape: cells that give the ratio of the directions.
        widths: standard deviations of the initial law over the lengths of the box, in each direction; 0 or less: none known.
    """
    fewest = FEWEST.get(len(shape), FEWEST[3])
    needed = [max(float(fewest), 1.0 / width if width > 0.0 else 0.0) for width in widths]
    return max(count / cells for count, cells in zip(needed, shape, strict=True))


def growth(rungs: Sequence[Rung], accuracy: float) -> float:
    """How many times as many cells in each direction the next mesh is to have, not bounded above; 1 after one that will do."""
    last = rungs[-1]
    if last.known <= accuracy:
        return 1.0
    if not math.isfinite(last.known):
        return _UNKNOWN
    return float(max(_LEAST_GROWTH, (last.known / (SHARE * accuracy)) ** (1.0 / observed_order(rungs))))


def observed_order(rungs: Sequence[Rung]) -> float:
    """q, from the last two rungs."""
    if len(rungs) < 2 or not math.isfinite(rungs[-2].known):
        return _ALONE
    before, last = rungs[-2:]
    ratio = max(b / a for a, b in zip(before.cells, last.cells, strict=True))
    if ratio <= 1.0 or last.known <= 0.0:
        return _ALONE
    return float(np.clip(math.log(max(before.known, 1e-300) / last.known) / math.log(ratio), *_ORDERS))


def tolerance(first: Sequence[int], cells: Sequence[int]) -> float:
    """Of implicit steps on ``cells``, where the ``first`` rung has its own."""
    finer = max(b / a for a, b in zip(first, cells, strict=True))
    return float(f"{max(FIRST_TOLERANCE * finer**-3, LEAST_TOLERANCE):.2g}")


def relative(values: ArrayLike, errors: ArrayLike, scale: float = 0.0, weights: ArrayLike | None = None) -> float:
    """The largest relative error over the output times.

    Args:
        values: shape (times,) or (times, K).
        errors: of these, ≥ 0.
        scale: size of the quantity, no less than the largest value; for a mean ⟨h⟩ no less than ⟨|h|⟩.
        weights: shape (K,): errors are those of the vector at each time, in L²; None: each entry counts for itself.
    """
    x, e = (np.abs(np.asarray(a, float)).reshape(len(np.asarray(a)), -1) for a in (values, errors))
    if weights is not None:
        w = np.asarray(weights, float)
        x, e = (np.sqrt(a**2 @ w)[:, None] for a in (x, e))
        scale = 0.0  # of single entries
    size = np.maximum(x, FLOOR * max(scale, x.max(initial=0.0)))
    return float(np.max(np.where(e <= 1e-300, 0.0, e / np.maximum(size, 1e-300)), initial=0.0))


def told(rung: Rung, wanted: float) -> str:
    """A rung in a line of the log."""
    cells = " × ".join(map(str, rung.cells))
    error = "unknown" if rung.error is None else f"{rung.error:.1e}"
    return f"accuracy {wanted:g}: {cells} cells, {rung.nodes} nodes, relative error {error}, {rung.seconds:.1f} s"


def entries(rungs: Sequence[Rung], accuracy: float) -> Mapping[str, object]:
    """What `summary.json` says of a ladder."""
    return {"ladder": [rung.entry() for rung in rungs], "accuracy_reached": reached(rungs, accuracy)}


def reached(rungs: Sequence[Rung], accuracy: float) -> bool:
    """Whether the last rung is accurate enough."""
    return bool(rungs) and rungs[-1].known <= accuracy
