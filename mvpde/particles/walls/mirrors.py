"""Reflecting and natural walls for particles.

Reflection: the equation continued over the wall, with the drift mirrored there, is one on the whole space, whose image under the
fold of the space is the reflected one. A step is taken unfolded and folded at its end,

    z' = fold(z + ½h [b(z) + S b(z̃)] + √(2A) ΔB),      z̃ = fold(z + h b + √(2A) ΔB),

with S = −1 across the walls that the predictor crossed an odd number of times; Euler's scheme takes b(z) for b(z̃), so that a
particle that crosses is not pushed across the wall at all. Weak order 1 (Bossy, Gobet & Talay, J. Appl. Probab. 41 (2004) 877),
with a constant about thirty times smaller than that of folded Euler steps. Where A has entries beside the diagonal, fold and S go
along A n, as no flux wants it.

A natural wall at which A vanishes needs no fold: coefficients are those of the nearest point inside, full truncation (Lord,
Koekkoek & van Dijk, Quant. Finance 10 (2010) 177). At one with an unbounded drift steps that start near it are implicit across
it, z' = z + h b(z') + √(2A) ΔB, which has a solution inside for every ΔB: weak order 1 (Neuenkirch & Szpruch, Numer. Math. 128
(2014) 103).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.models.mean_field import Array, MeanField
from mvpde.models.walls.box import ABSORBING, REFLECTING, BoxWalls, Face

type Blocks = list[Array]
Velocity = Callable[[Blocks], Blocks]

_NEAR = 0.05  # a step starts near a singular wall where its drift alone moves a particle by more of the distance to it
_ITERATIONS = 60  # of the implicit step across a wall; about ten do
_SOLVED = 1e-12  # relative
_PART = 0.01  # of w²/A, the longest step between two walls
_ALONG = 9  # points of the box at which A is asked for
_ROUNDS = 8  # of folds in a corner, along the conormals of both walls


@dataclass(frozen=True)
class Mirrors:
    """The walls of a model as particles meet them.

    Attributes:
        walls: of the box.
        slanted: whether the diffusion may have entries beside its diagonal.
    """

    walls: BoxWalls
    slanted: bool = False

    def fold(self, z: Array, a: Array | None = None) -> tuple[Array, Array]:
        """Points, shape (N, D), with those beyond reflecting walls mirrored, and ±1 across each direction, shapes (N, D).

        ``a``: A at the points, shape (N, D, D), along whose normal they go back; None: along the directions. In a corner one way
        back may lead over the other wall: then there is another round.
        """
        signs, result = np.ones(z.shape), z
        axes = sorted({face.axis for face in self.walls.faces(REFLECTING)})
        for _ in range(_ROUNDS if a is not None and len(axes) > 1 else 1):
            before = result
            for axis in axes:
                result, turned = self._across(axis, result, a)
                signs[:, axis] *= turned
            if (result == before).all():
                break
        else:
            for axis in axes:  # deep in a corner
                result[:, axis] = self._folded(axis, result[:, axis])[0]
        return result, signs

    def _across(self, axis: int, z: Array, a: Array | None) -> tuple[Array, Array]:
        """Mirrored at the walls across one direction."""
        place, turned = self._folded(axis, z[:, axis])
        back, result = place - z[:, axis], z.copy()
        if a is not None and (moved := np.flatnonzero(back)).size:
            result[moved] += back[moved, None] * _conormal(a[moved], axis)
        result[:, axis] = place
        return result, turned

    def turned(self, v: Array, signs: Array, a: Array | None = None) -> Array:
        """Vectors v, shape (N, D), mirrored at the walls that ``signs`` say were crossed; ``a`` as in `fold`."""
        if a is None:
            return v * signs
        result = v
        for axis in range(v.shape[1]):
            if (rows := np.flatnonzero(signs[:, axis] < 0.0)).size:
                result = result.copy() if result is v else result
                result[rows] -= 2.0 * result[rows, axis, None] * _conormal(a[rows], axis)
        return result

    def _folded(self, axis: int, x: Array) -> tuple[Array, Array]:
        """One coordinate folded, and whether its direction is turned round, −1, or not, 1."""
        low, high = self.walls.lower[axis], self.walls.upper[axis]
        both = tuple(kind == REFLECTING for kind in self.walls.kinds[axis])
        if both == (True, True):
            turned = np.mod(x - low, 2.0 * (high - low))
            back = turned > high - low
            folded = low + np.where(back, 2.0 * (high - low) - turned, turned)
            inside = (x >= low) & (x <= high)  # these keep their bits
            return np.where(inside, x, np.clip(folded, low, high)), np.where(back & ~inside, -1.0, 1.0)
        wall = low if both[0] else high
        beyond = x < wall if both[0] else x > wall
        return np.where(beyond, 2.0 * wall - x, x), np.where(beyond, -1.0, 1.0)

    def settle(self, step: tuple[Blocks, Blocks, Blocks], noise: Blocks, h: float, velocity: Velocity) -> Blocks:
        """The ends of a step, those of particles near a singular wall found implicitly across it.

        Args:
            step: particles at the start, as Euler's scheme predicts them, and as an explicit scheme leaves them at the end.
            noise: √(2A) ΔB.
            h: length of the step.
            velocity: blocks → b, at the end of the step.
        """
        starts, predicted, ends = step
        for face in sorted(self.walls.singular, key=lambda one: (one.axis, one.side)):
            ends = self._settled(face, (starts, predicted, ends), noise, h, velocity)
        return ends

    def _settled(self, face: Face, step: tuple[Blocks, Blocks, Blocks], noise: Blocks, h: float, velocity: Velocity) -> Blocks:
        walls, axis, sign = self.walls, face.axis, face.inwards
        starts, predicted, ends = step

        def pushed(blocks: Blocks) -> Blocks:
            return [sign * b[:, axis] for b in velocity(blocks)]

        def near(points: Blocks) -> list[NDArray[np.bool_]]:
            """Where the drift of a step is not small beside the distance, or where there is no distance."""
            distances = [walls.distance(x, face) for x in points]
            return [~(h * push <= _NEAR * d) | ~(d > 0.0) for push, d in zip(pushed(points), distances, strict=True)]

        rows = [np.flatnonzero(a | b) for a, b in zip(near(starts), near(predicted), strict=True)]
        if not any(len(found) for found in rows):
            return ends
        asked = [found if len(found) else np.zeros(1, np.intp) for found in rows]  # a velocity of no points is not asked for
        free = [
            walls.distance(x[chosen], face) + sign * np.broadcast_to(dw, x.shape)[chosen, axis]
            for x, dw, chosen in zip(starts, noise, asked, strict=True)
        ]

        def push_at(distances: Blocks) -> Blocks:
            points = [y[chosen] for y, chosen in zip(predicted, asked, strict=True)]
            for z, d in zip(points, distances, strict=True):
                z[:, axis] = walls.place(face) + sign * d
            return pushed(points)

        result = []
        found = _implicit(free, push_at, h, walls.width(axis))
        for end, y, chosen, d in zip(ends, predicted, rows, found, strict=True):
            z = end.copy()
            if len(chosen):
                z[chosen] = y[chosen]
                z[chosen, axis] = walls.place(face) + sign * d
            result.append(z)
        return result


def _conormal(a: Array, axis: int) -> Array:
    """A n/(n·A n), shape (N, D), for A, shape (N, D, D), and the normal along an axis; n where A n = 0."""
    across, unit = a[:, axis, axis, None], np.zeros(a.shape[:2])
    unit[:, axis] = 1.0
    return np.divide(a[:, :, axis], across, where=across > 0.0, out=unit)


def _implicit(free: list[Array], push: Callable[[list[Array]], list[Array]], h: float, width: float) -> list[Array]:
    """d > 0 with d = y + h p(d), p the push away from a wall at the distance d.

    By d ← ½[y + √(y² + 4h q(d))], q(d) = d p(d), which is exact where p has a simple pole alone. Where p has none there may be no
    solution: the mirror image |y| then.
    """
    least = 1e-9 * width
    d = [np.maximum(np.abs(y), least) for y in free]
    for _ in range(_ITERATIONS):
        q = [distance * p for distance, p in zip(d, push(d), strict=True)]
        root = [0.5 * (y + np.sqrt(np.maximum(y**2 + 4.0 * h * value, 0.0))) for y, value in zip(free, q, strict=True)]
        found = [np.where(x > least, x, np.maximum(np.abs(y), least)) for x, y in zip(root, free, strict=True)]
        done = all((np.abs(new - old) <= _SOLVED * new).all() for new, old in zip(found, d, strict=True))
        d = found
        if done:
            break
    return d


def longest_step(model: MeanField, m: Array) -> float:
    """h with √(2hA_aa) = w/7 for the width w of the box between two walls that particles meet; infinite without such.

    Between mirrors the bias of the mean is below 10⁻³w then, as measured for potential 2x on [0, 1].
    """
    walls = model.walls
    met = [] if walls is None else [axis for axis, pair in enumerate(walls.kinds) if {*pair} <= {REFLECTING, ABSORBING}]
    if walls is None or not met:
        return math.inf
    low, high, z = np.array(walls.lower), np.array(walls.upper), np.zeros((_ALONG, model.dimension))
    z[:, : len(low)] = low + (high - low) * ((np.arange(_ALONG) + 0.5) / _ALONG)[:, None]
    a = model.diffusion(z, m)
    largest = [float(a[:, axis, axis].max()) for axis in met]
    return min(
        (_PART * walls.width(axis) ** 2 / most for axis, most in zip(met, largest, strict=True) if most > 0.0), default=math.inf
    )


def mirrors(model: MeanField) -> Mirrors | None:
    """The walls of a model as particles meet them, None where none does anything to them."""
    walls = model.walls
    if walls is None or not (walls.singular or any(walls.faces(REFLECTING, ABSORBING))):
        return None
    return Mirrors(walls, slanted=model.own_diffusion is not None and model.dimension > 1)
