"""What densities on copies of meshes do alike: the checks after a step, what they say of themselves, and checkpoints."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mvpde.density.density import MASS_TOLERANCE
from mvpde.density.explicit import FluxCorrected
from mvpde.density.resolution import outer_mass
from mvpde.measure import Cloud, Number, State
from mvpde.mesh.domain import Domain
from mvpde.models.deep.units import Array
from mvpde.models.mean_field import MeanField
from mvpde.runtime import InvariantError


class OnCopies(Protocol):
    """A density on a union of copies of meshes, each of which keeps its mass.

    Attributes:
        model: what others see of the network.
        domain: the union.
        values: at owned and ghost unknowns of the union.
        time: t.
        steps, step: how many so far, and the length of the last.
        mass_defect: worst of a copy so far, over the mass it must have.
        minimum: smallest value so far, over the largest at that time.
        mass_inside: smallest share of a law at t = 0 that its mesh held.
    """

    model: MeanField
    domain: Domain
    values: Array
    time: float
    steps: int
    step: float
    mass_defect: float
    minimum: float
    mass_inside: float


def relative_masses(density: OnCopies, values: Array) -> Array:
    """Mass of every copy, over the mass that it must have. Collective."""
    return density.domain.part_masses(values) / density.domain.weights


def relative_minimum(domain: Domain, values: Array) -> float:
    """Smallest value over the largest. Collective."""
    smallest, largest = domain.extremes(values[: domain.owned])
    return smallest / largest


def nodal_masses(density: OnCopies) -> Array:
    """m_iρ_i of the owned unknowns. Local."""
    return density.domain.graph.lumped * density.values[: density.domain.owned]


def accept(density: OnCopies, values: Array, where: str) -> None:
    """Take ``values`` as those after a step, if every copy, ``where`` says of what, has kept its mass. Collective.

    Raises:
        InvariantError: on all ranks; the values stay what they were.
    """
    defect = float(np.abs(relative_masses(density, values) - 1.0).max())
    if not np.isfinite(defect):
        raise InvariantError(
            f"density: not a number after t = {density.time:g}; the drift is not finite there: check data and domain"
        )
    density.mass_defect = max(density.mass_defect, defect)
    if density.mass_defect > MASS_TOLERANCE:
        raise InvariantError(f"density: mass {where} changed by {density.mass_defect:.1e} of itself after t = {density.time:g}")
    density.minimum = min(density.minimum, relative_minimum(density.domain, values))
    density.values = values


def gathered(domain: Domain, points: Cloud) -> Cloud | None:
    """The points of all ranks and their masses on rank 0, None elsewhere. Collective."""
    there, masses = (domain.comm.gather(local) for local in points)
    return None if there is None or masses is None else (np.concatenate(there), np.concatenate(masses))


def numbers(density: OnCopies) -> dict[str, float]:
    """Mass at the walls, worst mass defect and smallest value so far, steps. Collective."""
    return {
        "outer_mass": outer_mass(density.domain, density.values, density.model),
        "mass_defect": density.mass_defect,
        "minimum": density.minimum,
        "steps": density.steps,
    }


def statistics(density: OnCopies, name: str, scheme: FluxCorrected, seconds: float) -> dict[str, Number]:
    """Scheme by its name, sizes, steps, and what went on in them in so many seconds. Local."""
    nodes = density.domain.nodes
    return {
        "scheme": name,
        "nodes": nodes,
        "steps": density.steps,
        "stages": scheme.stages,
        "mass_defect": density.mass_defect,
        "minimum": density.minimum,
        "mass_inside": density.mass_inside,
        "rejected_steps": scheme.rejected_steps,
        "node_updates_per_second": nodes * scheme.stages * density.steps / seconds if seconds else 0.0,
    }


def state(density: OnCopies) -> State | None:
    """Nodal values in mesh-input order, time and counts on rank 0, None elsewhere. Collective."""
    values = density.domain.to_mesh(density.values[: density.domain.owned])
    if values is None:
        return None
    return {
        "time": np.float64(density.time),
        "values": values,
        "steps": np.int64(density.steps),
        "step": np.float64(density.step),
        "extremes": np.array([density.mass_defect, density.minimum]),
    }


def restore(density: OnCopies, given: State | None) -> State:
    """Continue from `state` of a density on the same meshes, read on rank 0 (others pass None); it, on all ranks. Collective.

    Raises:
        ValueError: on all ranks, when it is that of others.
    """
    known = density.domain.comm.bcast(given)
    if known is None or np.size(known.get("values", np.empty(0))) != density.domain.points:
        raise ValueError(f"the checkpoint is none of a density on these copies of meshes, {density.domain.points} points in all")
    density.time, density.steps, density.step = float(known["time"]), int(known["steps"]), float(known["step"])
    density.values = density.domain.from_mesh(np.asarray(known["values"], float))
    density.mass_defect, density.minimum = map(float, np.asarray(known["extremes"]))
    return known
