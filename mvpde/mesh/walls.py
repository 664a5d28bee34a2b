"""Walls of boxes: which nodes lie on them, which cut the space off, and boxes without a strip at these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]

STRIP = 0.1  # of the box, taken from it at each wall that cuts the space off
_VANISHES = 1e-10  # part of its largest value below which a diffusion vanishes at a wall


def on_walls(domain: Domain, axis: int) -> NDArray[np.bool_]:
    """Whether owned nodes lie on the walls of the bounding box across a direction; no current goes through them."""
    place, width = domain.coordinates[: domain.owned, axis], domain.upper[axis] - domain.lower[axis]
    ends = np.minimum(np.abs(place - domain.lower[axis]), np.abs(place - domain.upper[axis])) < 1e-9 * width
    return ends & domain.boundary & (domain.periods[axis] is None)


def open_walls(domain: Domain, b: Array, a: Array) -> NDArray[np.bool_]:
    """Whether owned nodes lie on a wall that noise or drift would cross were the box larger: at no end of the space itself.

    Across that wall A_aa is more than nothing beside its largest value, or b points outwards. On meshes that are no boxes all
    walls are open.

    Args:
        domain: of the nodes.
        b, a: drift and tensor at them (owned first), shapes (N, D), (N, D, D).
    """
    result, straight = np.zeros(domain.owned, bool), np.zeros(domain.owned, bool)
    for axis in range(domain.dimension):
        here, centre = on_walls(domain, axis), 0.5 * (domain.lower[axis] + domain.upper[axis])
        outwards = np.sign(domain.coordinates[: domain.owned, axis] - centre) * b[: domain.owned, axis]
        across, largest = a[: domain.owned, axis, axis], domain.extremes(a[: domain.owned, axis, axis])[1]
        result |= here & ((across > _VANISHES * largest) | (outwards > 0.0))
        straight |= here
    return result | (domain.boundary & ~straight)


def without_strips(
    lower: Sequence[float], upper: Sequence[float], cells: Sequence[int], walls: Sequence[tuple[bool, bool]], strips: int
) -> tuple[list[float], list[float], list[int]] | None:
    """Box and cells less ``strips`` strips of whole cells at each of these walls; None where the cells are too few.

    Args:
        lower, upper, cells: of the box.
        walls: per direction, whether the lower and the upper wall cuts the space off.
        strips: 0, 1 or 2.
    """
    low, high, counts = list(lower), list(upper), list(cells)
    for axis, sides in enumerate(walls):
        taken = strips * max(1, round(STRIP * cells[axis]))
        width = (upper[axis] - lower[axis]) / cells[axis]
        counts[axis] = cells[axis] - taken * sum(sides)
        low[axis] += taken * width * sides[0]
        high[axis] -= taken * width * sides[1]
        if 2 * counts[axis] < cells[axis] or counts[axis] < 4:
            return None
    return low, high, counts
