"""Absorbing walls for particles: each carries the probability that it is still there.

A step from x to y inside the box has met a wall at the distances d_x, d_y with the probability e^{−d_x d_y/(hA_nn)} of a Brownian
bridge; one that ends beyond it has met it. A particle's weight is the product over its steps and walls of one less that: the
expectation, given its path at the ends of the steps, of the killed particle's being alive, so that means have less variance than
those of killed particles. Weak order 1 (Gobet, Stoch. Proc. Appl. 87 (2000) 167); without the bridge it is ½.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mvpde.models.mean_field import Array, MeanField
from mvpde.models.walls.box import ABSORBING, BoxWalls
from mvpde.particles.blocks import Shares
from mvpde.particles.schemes import Blocks


def absorbing(model: MeanField) -> BoxWalls | None:
    """The walls of a model, None where none of them absorbs."""
    walls = model.walls
    return walls if walls is not None and any(walls.faces(ABSORBING)) else None


def left_over(
    walls: BoxWalls, weights: Blocks, step: tuple[Blocks, Blocks], tensors: Sequence[Array], h: float
) -> tuple[Blocks, Blocks]:
    """Weights, shapes (N,), and particles after a step; those beyond an absorbing wall are put on it, with weight 0.

    Args:
        walls: some of which absorb.
        weights: before the step, block by block.
        step: particles at its start and at its end, shapes (N, D).
        tensors: A at its start, shapes (N, D, D).
        h: its length.
    """
    results, places = [], []
    for w, x, y, a in zip(weights, *step, tensors, strict=True):
        weight, place = w.copy(), y
        for face in walls.faces(ABSORBING):
            before, after = walls.distance(x, face), walls.distance(y, face)
            across = h * a[:, face.axis, face.axis]
            exponent = np.divide(before * after, across, out=np.full(len(x), np.inf), where=across > 0.0)
            weight *= np.where(after > 0.0, -np.expm1(-np.maximum(exponent, 0.0)), 0.0)
            if (gone := after < 0.0).any():
                place = place.copy() if place is y else place
                place[gone, face.axis] = walls.place(face)
        results.append(weight)
        places.append(place)
    return results, places


def survival(shares: Shares, weights: Blocks) -> tuple[float, float]:
    """The mean weight over runs, and its standard error: by the scatter of the runs, or of the weights of one run. Collective."""
    runs = shares.mean([np.array([w.sum(), (w**2).sum()]) for w in weights])
    left = float(runs[:, 0].mean())
    if len(runs) > 1:
        return left, float(np.std(runs[:, 0], ddof=1) / math.sqrt(len(runs)))
    return left, math.sqrt(max(float(runs[0, 1]) - left**2, 0.0) / max(shares.rows - 1, 1))


def weighted(z: Array, weights: Array | None) -> Array:
    """Points and their weights side by side, shape (N, D + 1), to be cut into pieces together; points alone without weights."""
    return z if weights is None else np.column_stack([z, weights])
