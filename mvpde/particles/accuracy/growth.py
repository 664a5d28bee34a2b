"""Points that run away: none goes a thousandfold farther than its start, its first velocity and its noise explain.

|z_a| ≤ 10³ max(1, max|z(0)|, t max|b(0)|, √(2 t max|A(0)|))    for every coordinate a that is not periodic
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.models.mean_field import Array, MeanField

GROWTH = 1e3


def largest(blocks: Sequence[Array], comm: MPI.Intracomm, axes: Sequence[int] | None = None) -> float:
    """max|z_a| over the points of all ranks and the coordinates ``axes``, by default all. Collective."""
    mine = [np.abs(x if axes is None else x[..., axes]).max(initial=0.0) for x in blocks]
    return float(comm.allreduce(max(mine, default=0.0), op=MPI.MAX))


@dataclass(frozen=True)
class Extent:
    """How far points went at the start, and how fast.

    Attributes:
        start: max|z(0)|.
        speed: max|b| at the start.
        noise: max|A| at the start.
    """

    start: float
    speed: float = 0.0
    noise: float = 0.0

    def bound(self, t: float) -> float:
        """What no coordinate exceeds at time t."""
        return GROWTH * max(1.0, self.start, t * self.speed, math.sqrt(2.0 * t * self.noise))

    def array(self) -> Array:
        """All three, for checkpoints."""
        return np.array([self.start, self.speed, self.noise])

    def said(self, size: float) -> str:
        """What a size beyond the bound means, after "the particles"."""
        return (
            f"have grown to {size:.3g}, {GROWTH:g} times what start ({self.start:.3g}), velocity and noise explain, on the way "
            "to become infinite or NaN,"
        )


def unbounded(model: MeanField) -> list[int]:
    """The coordinates that are not periodic."""
    return [axis for axis, period in enumerate(model.periods) if period is None]


def extent_of(model: MeanField, blocks: Sequence[Array], m: Sequence[Array], comm: MPI.Intracomm) -> Extent:
    """That of particles where they start; velocity and noise by the first ones of every block. Collective.

    Args:
        model: with the coefficients of the time.
        blocks: points of this rank.
        m: moments that move each block, shape (K,).
        comm: communicator.
    """
    axes, some = unbounded(model), [x[:256] for x in blocks]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        speed = largest([model.drift(x, at) for x, at in zip(some, m, strict=True)], comm, axes)
        noise = largest([model.diffusion(x, at) for x, at in zip(some, m, strict=True)], comm)
    return Extent(largest(blocks, comm, axes), speed, noise)
