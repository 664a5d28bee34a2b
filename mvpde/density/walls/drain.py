"""Absorbing walls of a density: ρ = 0 there, and what arrives is counted.

A node on an absorbing wall takes what flows in and gives nothing back: of the edge fluxes F_ij = k_ij ρ_j − k_ji ρ_i those
coefficients vanish that stand before its own value. Each node inside then has the equation with ρ = 0 on the wall, of second
order; positivity and the sum of all masses are those of any edge fluxes, so that mass and outflow together stay 1 to rounding.
After each step what the nodes of a wall hold is its outflow, and they are emptied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import ABSORBING, Face

Array = NDArray[np.float64]


def name_of(face: Face, coordinates: Sequence[str]) -> str:
    """Such as "x_lower"."""
    return f"{coordinates[face.axis]}_{('lower', 'upper')[face.side]}"


@dataclass(frozen=True)
class Drain:
    """The absorbing walls of a domain.

    Attributes:
        domain: the mesh.
        names: of the walls, such as "x_lower".
        wall: the number of the wall that each local unknown lies on, of two the first, −1 inside, shape (owned + ghosts,).
        from_wall, to_wall: entries of the edge graph whose column, and whose row, lies on one.
    """

    domain: Domain
    names: tuple[str, ...]
    wall: NDArray[np.int64]
    from_wall: NDArray[np.bool_]
    to_wall: NDArray[np.bool_]

    @property
    def alive(self) -> Array:
        """1 at owned unknowns inside, 0 at those on an absorbing wall."""
        return (self.wall[: self.domain.owned] < 0).astype(float)

    def close(self, inward: Array, outward: Array) -> None:
        """Let nothing come back: coefficients k_ij and k_ji of each entry, in place. Local."""
        inward[self.from_wall] = 0.0
        outward[self.to_wall] = 0.0

    def taken(self, values: Array) -> Array:
        """The mass at each wall of nodal ``values`` (owned + ghosts), which are 0 there then. Collective."""
        owned, dead = self.domain.owned, self.wall[: self.domain.owned] >= 0
        masses = (self.domain.graph.lumped * values[:owned])[dead]
        result = self.domain.sum(np.bincount(self.wall[:owned][dead], weights=masses, minlength=len(self.names)))
        values[self.wall >= 0] = 0.0
        return result

    @property
    def listed(self) -> tuple[str, ...]:
        """What a density says of these walls at each output time."""
        return ("survival", *(f"flux_{name}" for name in self.names))

    def flux(self, values: Array, inward: Array) -> Array:
        """∫J·n over each wall: the mass that ``values`` (owned + ghosts) lose there in unit time. Collective."""
        entries = np.flatnonzero(self.to_wall & ~self.from_wall)
        rows, columns = self.domain.graph.rows()[entries], self.domain.graph.columns[entries]
        rates = inward[entries] * values[columns]
        return self.domain.sum(np.bincount(self.wall[rows], weights=rates, minlength=len(self.names)))

    def start(self, values: Array) -> Array:
        """A start law (owned + ghosts) with what lies on the walls moved to the nodes beside them. Collective.

        Mass so near a wall changes what survives by the square of the cells' width only.
        """
        graph, owned, row = self.domain.graph, self.domain.owned, self.domain.graph.rows()
        weight = np.where(self.from_wall, 0.0, np.maximum(graph.stiffness, 0.0))
        share = np.zeros(len(values))
        share[:owned] = np.bincount(row, weights=weight, minlength=owned)
        held = np.zeros(len(values))
        held[:owned] = np.where(self.wall[:owned] >= 0, graph.lumped * values[:owned], 0.0)
        for array in (share, held):
            self.domain.exchange.update(array)
        given = np.divide(held, share, out=np.zeros_like(held), where=share > 0.0)
        into = np.where(self.to_wall, 0.0, np.maximum(graph.stiffness, 0.0))
        gained = np.bincount(row, weights=into * given[graph.columns], minlength=owned)
        result = values.copy()
        result[:owned] += gained / graph.lumped
        result[self.wall >= 0] = np.where(share > 0.0, 0.0, values)[self.wall >= 0]
        self.domain.exchange.update(result)
        return result


def drain(domain: Domain, model: MeanField) -> Drain | None:
    """The absorbing walls of a model on its mesh; None where there are none. Local."""
    walls = model.walls
    faces = [] if walls is None else list(walls.faces(ABSORBING))
    if walls is None or not faces:
        return None
    wall = np.full(len(domain.coordinates), -1)
    for number, face in reversed(list(enumerate(faces))):
        wall[walls.on(domain.coordinates, face)] = number
    rows, columns = domain.graph.rows(), domain.graph.columns
    names = tuple(name_of(face, model.coordinates) for face in faces)
    return Drain(domain, names, wall, wall[columns] >= 0, wall[rows] >= 0)
