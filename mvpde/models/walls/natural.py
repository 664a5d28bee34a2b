"""Which walls of a box are natural: ends of the space itself, which the coefficients of the equation keep a law from crossing.

Across the wall A vanishes beside its largest value and the drift does not point outwards, as at 0 for dx = (a − x)dt + √(2x) dB;
or a coefficient is no finite number on the wall while the drift does not push outwards without bound, as at 0 for the radius
dr = (D/r − r)dt + √(2D) dB (Feller, Ann. Math. 55 (1952) 468).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import NATURAL, OPEN, BoxWalls, Face

Array = NDArray[np.float64]

_VANISHES = 1e-10  # part of its largest value below which a diffusion vanishes at a wall
_ALONG = 9  # points along each other direction of a wall
_DISTANCES = (1e-7, 1e-5, 1e-3)  # from the wall, in widths of the box
_GROWS = 5.0  # over a hundredfold: x^{−0.35} or faster


@dataclass(frozen=True)
class AtWall:
    """Coefficients at a wall and on the way to it.

    Attributes:
        finite: whether all are finite numbers on the wall.
        vanishes: whether A across the wall vanishes on it.
        inwards: the drift into the box on the wall, its least value; NaN where there is none.
        nearing: the same at the distances 1e-7, 1e-5 and 1e-3 of the width.
    """

    finite: bool
    vanishes: bool
    inwards: float
    nearing: tuple[float, ...]

    @property
    def outwards_without_bound(self) -> bool:
        """Whether the drift pushes against the wall, harder and harder."""
        near, between, far = self.nearing
        return near < 0.0 and near < _GROWS * min(between, 0.0) and between < _GROWS * min(far, 0.0)

    @property
    def natural(self) -> bool:
        """Whether it is an end of the space."""
        if not self.finite:
            return not self.outwards_without_bound
        return self.vanishes and self.inwards >= 0.0


def approach(model: MeanField, walls: BoxWalls, face: Face, m: Array) -> AtWall:
    """What the coefficients do at a wall.

    Args:
        model: without walls, or with others.
        walls: for the box.
        face: one of them.
        m: moments in the coefficients, shape (K,).
    """
    bare, axis = replace(model, walls=None), face.axis

    def at(share: float) -> tuple[Array, Array]:
        z = _points(bare, walls, face, share)
        with np.errstate(all="ignore"):
            return bare.drift(z, m), bare.diffusion(z, m)

    b, a = at(0.0)
    with np.errstate(all="ignore"):
        across = np.array([np.nanmax(np.abs(at(share)[1][:, axis, axis])) for share in (0.1, 0.3, 0.5, 0.7, 0.9)])
    scale = np.nanmax(across) if np.isfinite(across).any() else 0.0
    return AtWall(
        finite=bool(np.isfinite(b).all() and np.isfinite(a).all()),
        vanishes=bool(scale > 0.0 and np.abs(a[:, axis, axis]).max() <= _VANISHES * scale),
        inwards=_least(face.inwards * b[:, axis]),
        nearing=tuple(_least(face.inwards * at(share)[0][:, axis]) for share in _DISTANCES),
    )


def _least(values: Array) -> float:
    return float(values.min()) if np.isfinite(values).all() else float("nan")


def _points(model: MeanField, walls: BoxWalls, face: Face, share: float) -> Array:
    """Points of the wall, moved inwards by a share of the width, spread over the other directions but off their own ends."""
    others = [(np.arange(_ALONG) + 0.5) / _ALONG for _ in walls.lower]
    others[face.axis] = np.array([share if face.side == 0 else 1.0 - share])
    parts = np.array(list(product(*others)))
    low, high = np.array(walls.lower), np.array(walls.upper)
    z = np.zeros((len(parts), model.dimension))
    z[:, : len(low)] = low + (high - low) * parts
    if share == 0.0:
        z[:, face.axis] = walls.place(face)  # not but for rounding
    return z


def classified(model: MeanField, walls: BoxWalls, m: Array) -> BoxWalls:
    """The walls with natural ones in place of open ones, and with natural ones marked at which a coefficient does not exist.

    Args:
        model, m: as in `approach`.
        walls: as far as they are said.

    Raises:
        ValueError: beginning with the name of the coordinate, for a wall that cannot be what it is said to be.
    """
    kinds, singular = [list(pair) for pair in walls.kinds], set()
    for face in walls.faces(OPEN, *_SAID):
        found, said = approach(model, walls, face, m), walls.kind(face)
        _check(found, said, f"{model.coordinates[face.axis]}: its {('lower', 'upper')[face.side]} wall at {walls.place(face):g}")
        if found.natural and (said == OPEN or not found.finite):
            kinds[face.axis][face.side] = NATURAL
        if not found.finite:
            singular.add(face)
    return replace(walls, kinds=tuple((low, high) for low, high in kinds), singular=frozenset(singular))


_SAID: Sequence[str] = ("reflecting", "absorbing", NATURAL)


def _check(found: AtWall, said: str, what: str) -> None:
    if not found.finite and found.outwards_without_bound:
        raise ValueError(f"{what} draws the law in without bound (drift {found.nearing[0]:.3g} near it); move the wall inwards")
    if not found.finite and said == "absorbing":
        raise ValueError(f"{what} cannot absorb, as a coefficient does not exist there; move the wall inwards, or write natural")
    if said == NATURAL and not found.natural:
        raise ValueError(f"{what} is not natural: noise or drift crosses it; write reflecting or absorbing")
