"""The walls of a box as part of a problem, for every measure alike.

reflecting   n·J = 0: nothing goes through; particles are mirrored along the normal of A
absorbing    ρ = 0: what arrives is gone; the law is that of the survivors
natural      nothing arrives, or nothing could cross: A vanishes across it, or the drift pushes inwards without bound
open         the box ends, the space does not: a density has no flux there, particles go on
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mvpde.models.mean_field import MeanField

Array = NDArray[np.float64]

REFLECTING, ABSORBING, NATURAL, OPEN = "reflecting", "absorbing", "natural", "open"
WALLS = {
    REFLECTING: "nothing goes through it: the flux of the law vanishes, particles are mirrored",
    ABSORBING: "what arrives is gone: the law is that of the survivors",
    NATURAL: "an end of the space itself, which the coefficients keep the law from crossing",
}

_CLOSE = 1e-9  # of the box: what lies on a wall, and how near to a singular one coefficients are still asked for


@dataclass(frozen=True)
class Face:
    """One wall of a box: across the direction ``axis``, at its lower end (``side`` 0) or upper end (1)."""

    axis: int
    side: int

    @property
    def inwards(self) -> float:
        """1 at a lower end, −1 at an upper one: the inward normal along the direction."""
        return 1.0 - 2.0 * self.side


@dataclass(frozen=True)
class BoxWalls:
    """The walls of a box.

    Attributes:
        lower, upper: corners, one number for each direction; frozen coordinates, which come last, have none.
        kinds: of the lower and the upper wall of each direction, names in `WALLS`, or "open"; "" where a direction is periodic.
        singular: natural walls at which a coefficient is no finite number.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    kinds: tuple[tuple[str, str], ...]
    singular: frozenset[Face] = frozenset()

    def faces(self, *kinds: str) -> Iterator[Face]:
        """The walls of these kinds, in order."""
        for axis, pair in enumerate(self.kinds):
            for side, kind in enumerate(pair):
                if kind in kinds:
                    yield Face(axis, side)

    def kind(self, face: Face) -> str:
        """What a wall is."""
        return self.kinds[face.axis][face.side]

    def place(self, face: Face) -> float:
        """Where a wall stands along its direction."""
        return (self.lower, self.upper)[face.side][face.axis]

    def width(self, axis: int) -> float:
        """Of the box in a direction."""
        return self.upper[axis] - self.lower[axis]

    def distance(self, z: Array, face: Face) -> Array:
        """From points z, shape (N, D), to a wall, negative beyond it, shape (N,)."""
        return np.asarray(face.inwards * (z[:, face.axis] - self.place(face)))

    @cached_property
    def _clips(self) -> tuple[tuple[Face, float], ...]:
        """Natural walls, each with the nearest place at which coefficients exist."""
        return tuple((face, self._nearest(face)) for face in self.faces(NATURAL))

    def _nearest(self, face: Face) -> float:
        off = _CLOSE * self.width(face.axis) if face in self.singular else 0.0
        return self.place(face) + face.inwards * off

    def inside(self, z: Array) -> Array:
        """The points, those beyond a natural wall on it, shape (N, D): where the coefficients exist."""
        if not self._clips:
            return z
        result = z.copy()
        for face, place in self._clips:
            (np.maximum, np.minimum)[face.side](result[:, face.axis], place, out=result[:, face.axis])
        return result

    def meant(self, z: Array) -> NDArray[np.bool_]:
        """Whether points lie on a wall that is no mere end of the box, shape (N,)."""
        result = np.zeros(len(z), bool)
        for face in self.faces(*WALLS):
            result |= self.on(z, face)
        return result

    def on(self, z: Array, face: Face) -> NDArray[np.bool_]:
        """Whether points lie on a wall, shape (N,)."""
        return np.asarray(np.abs(self.distance(z, face)) < _CLOSE * self.width(face.axis))

    def beyond(self, z: Array) -> NDArray[np.bool_]:
        """Whether points lie beyond an open wall, shape (N,)."""
        result = np.zeros(len(z), bool)
        for face in self.faces(OPEN):
            result |= self.distance(z, face) < 0.0
        return result


def with_walls(model: MeanField, walls: BoxWalls) -> MeanField:
    """The model with these walls, at all times; mass at those that are meant says nothing about the domain."""
    known, moving = model.natural_wall, model.moving
    return replace(
        model,
        walls=walls,
        natural_wall=lambda z: known(z) | walls.meant(z),
        later=tuple((t, with_walls(follower, walls)) for t, follower in model.later),
        moving=None if moving is None else lambda t: with_walls(moving(t), walls),
    )
