"""Where the coefficients of nodes are taken: at the nodes, but for those on a wall at which a coefficient is no finite number.

There a node stands for its half of the cell beside the wall, [0, h/2]. Drift and tensor are taken at its end h/2, with which the
fluxes of dr = (νD/r)dt + √(2D)dB leave nodal values of r^ν as they are but for the first, ρ(h)(1 − ν/2)/(1 + ν); a potential is
taken at h/4, where e^{−V/D} = r^ν has nearly its mean over that half. Both err by O(h^{1+ν}) in the mass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import BoxWalls, Face

Array = NDArray[np.float64]

OF_FLUXES, OF_POTENTIALS = 0.5, 0.25  # of the cell beside the wall


def places(domain: Domain, model: MeanField, share: float) -> Array:
    """Where coefficients of the local unknowns are taken, shape (owned + ghosts, D): coordinates, or inside. Collective."""
    walls = model.walls
    if walls is None or not walls.singular:
        return domain.coordinates
    result = domain.coordinates.copy()
    for face in sorted(walls.singular, key=lambda one: (one.axis, one.side)):
        here = walls.on(domain.coordinates, face)
        result[here, face.axis] += face.inwards * share * _cell(domain, walls, face)
    return result


def _cell(domain: Domain, walls: BoxWalls, face: Face) -> float:
    """The width of the cells beside a wall: the distance of the nearest unknown that is not on it. Collective."""
    distance = walls.distance(domain.coordinates[: domain.owned], face)
    away = distance[~walls.on(domain.coordinates[: domain.owned], face)]
    return domain.extremes(away)[0]
