"""How well a mesh and its walls hold a density: cells in its narrowest feature, and what is near walls that cut the space off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mvpde.mesh.domain import Domain
from mvpde.mesh.walls import on_walls, open_walls
from mvpde.models.mean_field import MeanField

Array = NDArray[np.float64]

STRIP = 0.025  # width of the strip along a wall, as a part of the domain's extent


def cells_per_deviation(domain: Domain, values: Array, model: MeanField, ends: NDArray[np.bool_]) -> float:
    """1/(h_k √I_k) in the direction k where it is least, I_k = ∫(∂_kρ)²/ρ. Collective.

    I is the Fisher information, 1/σ² of a normal law and of a sum of narrow ones that lie apart: how many cells a standard
    deviation of the typical feature has. With √ρ linear in each cell h_k²I_k = 4 Σ s_ij |z_i − z_j|² (√ρ_i − √ρ_j)² over the
    edges in direction k; a single node that holds all mass has 1/√8. What lies at an end of Z itself, ``ends``, does not count:
    atoms belong there.
    """
    graph, row, dimension = domain.graph, domain.graph.rows(), domain.dimension
    steps = domain.coordinates[graph.columns, :dimension] - domain.coordinates[row, :dimension]
    for axis, period in enumerate(domain.periods):
        if period is not None:
            steps[:, axis] -= period * np.rint(steps[:, axis] / period)
    lengths = (steps**2).sum(axis=1)
    if model.metric is not None:
        lengths *= model.metric.scale(domain.coordinates[row]) ** 2
    root = np.sqrt(np.maximum(values, 0.0))
    parts = 2.0 * graph.stiffness * lengths * (root[row] - root[graph.columns]) ** 2  # each edge is there twice
    parts[ends[row] | ends[graph.columns]] = 0.0
    direction = np.argmax(np.abs(steps) / np.subtract(domain.upper, domain.lower), axis=1)
    found = domain.sum(np.bincount(direction, parts, dimension))
    return float(1.0 / np.sqrt(max(found.max(), np.finfo(float).tiny)))


def negative_share(domain: Domain, values: Array) -> float:
    """Σ|s_ij|ρ over edges of negative weight over that of all edges: how much of the diffusion goes against a mesh with obtuse
    angles. Collective.
    """
    weights = np.abs(domain.graph.stiffness) * np.maximum(values[domain.graph.rows()], 0.0)
    against, whole = domain.sum(np.array([weights[domain.graph.stiffness < 0.0].sum(), weights.sum()]))
    return float(against / whole)


@dataclass(frozen=True)
class Walls:
    """The strip along walls that cut the space off, ends of Z itself left out; arrays over owned unknowns, local.

    Attributes:
        domain: the mesh.
        inside: owned unknowns in the strip, numbers.
        outward: unit vectors from these to the next wall, 0 on it, divided by the width of the strip there.
    """

    domain: Domain
    inside: NDArray[np.int64]
    outward: Array

    def mass(self, values: Array) -> float:
        """Share of the mass of nodal ``values`` (local) in the strip. Collective."""
        masses = self.domain.graph.lumped * values[: self.domain.owned]
        near, whole = self.domain.sum(np.array([masses[self.inside].sum(), masses.sum()]))
        return float(near / whole)

    def flux(self, values: Array, model: MeanField, moments: Array) -> float:
        """∫ρ (b·n)⁺ over the walls, from means over the strip: share of the mass that the drift carries out in unit time.
        Collective.
        """
        masses = self.domain.graph.lumped[self.inside] * values[self.inside]
        drift = model.drift(self.domain.coordinates[self.inside], moments) if len(masses) else np.zeros((0, model.dimension))
        speed = (drift[:, : self.domain.dimension] * self.outward).sum(axis=1)
        return float(self.domain.sum(np.array([masses @ np.maximum(speed, 0.0)]))[0])


def ends_of_space(domain: Domain, model: MeanField, moments: Array | None = None) -> NDArray[np.bool_]:
    """Whether owned nodes lie at an end of Z itself, which a wider box would not move. Collective.

    Those that the model names, and with ``moments`` those that its own A implies: A_aa vanishes there beside its largest value,
    and b does not point outwards, as at 0 for A = z and b ≥ 0. An A that vanishes everywhere implies none.
    """
    owned = domain.owned
    named = model.natural_wall(domain.coordinates[:owned])
    if moments is None or model.own_diffusion is None or model.constant_diffusion:
        return named
    z, moving = domain.coordinates[:owned], domain.dimension
    b, a = model.drift(z, moments)[:, :moving], model.diffusion(z, moments)[:, :moving, :moving]
    noisy = [domain.extremes(a[:, axis, axis])[1] > 0.0 for axis in range(moving)]
    return named | (domain.boundary & ~open_walls(domain, b, a) & _across(domain, noisy))


def _across(domain: Domain, chosen: Sequence[bool]) -> NDArray[np.bool_]:
    """Owned nodes on no wall but those across the chosen directions."""
    others = [on_walls(domain, axis) for axis, is_chosen in enumerate(chosen) if not is_chosen]
    return ~np.any(others, axis=0) if others else np.ones(domain.owned, bool)


def natural_ends(domain: Domain, model: MeanField, moments: Array | None = None) -> NDArray[np.bool_]:
    """Owned and ghost unknowns at ends of Z itself, and those beside them (local): see `ends_of_space`. Collective."""
    graph, end = domain.graph, np.zeros(len(domain.coordinates))
    end[: domain.owned] = ends_of_space(domain, model, moments)
    domain.exchange.update(end)
    end[: domain.owned] += np.bincount(graph.rows(), weights=end[graph.columns], minlength=domain.owned)
    domain.exchange.update(end)
    return np.asarray(end > 0.0)


def walls(domain: Domain, model: MeanField, moments: Array | None = None) -> Walls:
    """The strip of width STRIP of the extent, at least a cell; with a metric it is a cell. ``moments`` as in `ends_of_space`.
    Collective.
    """
    owned, dimension = domain.owned, domain.dimension
    wall = np.zeros(len(domain.coordinates))
    wall[:owned] = domain.boundary & ~ends_of_space(domain, model, moments)
    domain.exchange.update(wall)
    row, extent = domain.graph.rows(), np.subtract(domain.upper, domain.lower)
    near = np.bincount(row, weights=wall[domain.graph.columns], minlength=owned) + wall[:owned] > 0
    z = domain.coordinates[:owned, :dimension] / extent
    everywhere = np.unique(np.concatenate(domain.comm.allgather(z[wall[:owned] > 0])), axis=0)
    if not len(everywhere):
        return Walls(domain, np.zeros(0, np.int64), np.zeros((0, dimension)))
    distance, nearest = cKDTree(everywhere).query(z)  # straight across: in the maximum norm the nearest is many
    if domain.metric is None:
        near |= distance <= STRIP * (1.0 + 1e-9)
    inside = np.flatnonzero(near)
    parts = everywhere[nearest[inside]] - z[inside]
    steps, across = parts * extent, np.argmax(np.abs(parts), axis=1)
    length = np.sqrt((steps**2).sum(axis=1))
    width = np.maximum(STRIP, distance[inside]) * extent[across]
    return Walls(domain, inside, steps / np.maximum(length * width, 1e-300)[:, None])


def outer_mass(domain: Domain, values: Array, model: MeanField, moments: Array | None = None) -> float:
    """Share of the mass of nodal ``values`` (local) in the outer layer of cells along the walls that cut Z off. Collective.

    ``moments``: m, to leave out ends of Z that the model's drift and noise imply, too.
    """
    graph, owned = domain.graph, domain.owned
    wall = np.zeros(len(domain.coordinates))
    wall[:owned] = domain.boundary & ~ends_of_space(domain, model, moments)
    domain.exchange.update(wall)
    row = graph.rows()
    near = np.bincount(row, weights=wall[graph.columns], minlength=owned) + wall[:owned] > 0
    masses = graph.lumped * values[:owned]
    outer, total = domain.sum(np.array([masses[near].sum(), masses.sum()]))
    return float(outer / total)
