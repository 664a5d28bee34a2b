"""How many cells an accuracy takes: each mesh of a ladder says by its error how much finer the next one must be.

What must be below the accuracy a is the error e of the extrapolated value X_n on n cells in each direction, the best that a run
knows. Its companions tell one estimate, number by number. The meshes of the ladder tell another: with r_k = n_k/n_{k−1} and the
relative difference D_k of X_{n_k} and X_{n_{k−1}}

    D₂/D₃ = r₃^q (r₂^q − 1)/(r₃^q − 1),        e = 1.25 D₃ / (r₃^q − 1),        q between 1 and 3, and 1 from two meshes.

The smaller of the two counts: companions must allow for terms of their own expansion that cancel, which X of another mesh shows.
The next mesh is

    n' = n (e / (a·SHARE))^{1/q},   q from D₂ and D₃ or from e of two meshes, else 2;   at most 2 n.

Twice as many cells are 4 to 16 times the work, so that meshes on the way cost little beside the last one. The local error of
implicit steps is of third order in their length, so their tolerance falls like n⁻³ and steps get shorter as cells do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FEWEST = {1: 32, 2: 16, 3: 12}  # cells in a direction of the first mesh, by the number of directions
MULTIPLES = {1: 16, 2: 16, 3: 4}  # of cells in a direction: what lies on a node of one level, as a jump, lies on one of the next
LEAST = 12  # cells in a direction
FIRST_TOLERANCE = 1e-4  # of the first rung
LEAST_TOLERANCE = 1e-10
MOST = 2.0  # times as many cells in a direction as on the rung before
SHARE = 0.8  # of the accuracy that the next rung is to have as its error
FLOOR = (
    0.1  # of the largest value over the output times, and of a root mean square: errors of smaller values are relative to that
)
CREDIBLE = 0.3  # a larger error says nothing about the next mesh
_ORDERS = 1.0, 4.0  # between which an observed one is believed
_MOST_ORDER = 3.0  # of the error that meshes tell of each other
_ALONE = 2.0  # the order that a single rung is taken to have
_SAFETY = 1.25  # as in `mvpde.richardson`
_APART = 1.4  # times as many cells, at least, where two meshes are to show an error
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
        order: at which extrapolated values of the last meshes come nearer to each other; None of fewer than three.
    """

    cells: tuple[int, ...]
    nodes: int
    tolerance: float | None
    error: float | None
    seconds: float
    order: float | None = None

    @property
    def known(self) -> float:
        """The error, infinite where it is not known; to three digits, so that all numbers of ranks agree."""
        return math.inf if self.error is None else float(f"{self.error:.3g}")

    def entry(self) -> dict[str, object]:
        """As `summary.json` has it."""
        return {**asdict(self), "cells": list(self.cells)}


def scaled(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    """Cells in each direction: ``scale`` times those of ``shape``, in multiples of MULTIPLES, and no fewer than LEAST."""
    unit = MULTIPLES.get(len(shape), MULTIPLES[3])
    return tuple(max(LEAST, unit * round(scale * count / unit)) for count in shape)


def whole(shape: Sequence[int], scale: float, *, down: bool = False) -> float:
    """The scale that makes the fewest cells of a direction a whole multiple of MULTIPLES: the next above, or below."""
    unit, fewest = MULTIPLES.get(len(shape), MULTIPLES[3]), min(shape)
    times = scale * fewest / unit
    return unit * (math.floor(times + 1e-9) if down else math.ceil(times - 1e-9)) / fewest


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
    """q, of the last rung or from the last two."""
    if rungs[-1].order is not None:
        return float(np.clip(rungs[-1].order, *_ORDERS))
    if len(rungs) < 2 or not math.isfinite(rungs[-2].known):
        return _ALONE
    before, last = rungs[-2:]
    ratio = _ratio(before.cells, last.cells)
    if ratio <= 1.0 or last.known <= 0.0:
        return _ALONE
    return float(np.clip(math.log(max(before.known, 1e-300) / last.known) / math.log(ratio), *_ORDERS))


def of_meshes(cells: Sequence[Sequence[int]], differences: Sequence[float]) -> tuple[float, float | None]:
    """Error of the last mesh, and the order, from what the values of two or three meshes in a row differ by; see above.

    Args:
        cells: of the meshes, from coarse to fine.
        differences: relative, between each mesh and the one before it; one fewer.

    Returns:
        Error, infinite where the meshes are too much alike, and order, None from two meshes.
    """
    ratios = [_ratio(before, last) for before, last in pairwise(cells)]
    if not ratios or ratios[-1] < _APART or not math.isfinite(differences[-1]):
        return math.inf, None
    order = None
    if len(ratios) > 1 and ratios[-2] >= _APART and math.isfinite(differences[-2]):
        order = _order(ratios[-2:], differences[-2:])
    gain = ratios[-1] ** (_ORDERS[0] if order is None else min(order, _MOST_ORDER)) - 1.0
    return _SAFETY * differences[-1] / gain, order


def _order(ratios: Sequence[float], differences: Sequence[float]) -> float:
    """q of D₂/D₃ = r₃^q (r₂^q − 1)/(r₃^q − 1), which rises with q, to two digits and between the bounds."""
    q = np.linspace(*_ORDERS, 301)
    quotient = ratios[1] ** q * (ratios[0] ** q - 1.0) / (ratios[1] ** q - 1.0)
    return round(float(q[np.argmin(np.abs(quotient * differences[1] - differences[0]))]), 2)


def _ratio(before: Sequence[int], last: Sequence[int]) -> float:
    return max(b / a for a, b in zip(before, last, strict=True))


def tolerance(first: Sequence[int], cells: Sequence[int]) -> float:
    """Of implicit steps on ``cells``, where the ``first`` rung has its own."""
    finer = _ratio(first, cells)
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


def reached(rungs: Sequence[Rung], accuracy: float) -> bool:
    """Whether the last rung is accurate enough."""
    return bool(rungs) and rungs[-1].known <= accuracy
