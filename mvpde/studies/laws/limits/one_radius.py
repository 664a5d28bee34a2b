"""Below a critical Δ, the law of the radius of two isotropic Gaussians contracts to one radius: the risk it ends with, predicted.

The risk of a single radius is R(δ_r) = 1 + 2v(r) + u_d(r, r). The law at its minimum r* minimises the risk over all laws if no
radius has a lower potential V(r; δ_{r*}) than r* (Mei, Montanari & Nguyen, arXiv:1804.06561, §3.1). This fails above Δ_h(d): mass
escapes to infinity and the infimum of the risk is not attained. In finite dimension it fails for very small Δ too, and where
d ≤ 12 at every Δ: the best law there has more than one radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.optimize import minimize_scalar

from mvpde.cases.measures import density_of
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI
from mvpde.studies.needs import Need, hot, sections
from mvpde.studies.task import task_of

POINTS = 4000  # radii at which the potential is looked at

NEEDS = [
    *sections("density"),
    Need(
        lambda problem: "mean_radius" in problem.model.observables and not hot(problem),
        'the task "one_radius" needs kind = "mmn_isotropic" at temperature 0',
    ),
]


class OneRadiusOptions(Section):
    """How far the potential is looked at."""

    largest: Positive = Field(200.0, description="largest radius whose potential is compared, > 0", examples=[200.0])


def best_radius(model: MeanField, largest: float) -> tuple[float, float, bool]:
    """r*, R(δ_{r*}), and whether V(·; δ_{r*}) has its least value there, up to the largest radius. Local."""

    def risk(r: Array) -> Array:
        return np.asarray(model.outer_energy(model.profile(r[:, None])))

    grid = np.geomspace(0.05, largest, POINTS)
    near = int(np.argmin(risk(grid)))
    bounds = grid[max(near - 1, 0)], grid[min(near + 1, POINTS - 1)]
    least = minimize_scalar(lambda r: float(risk(np.array([r]))[0]), bounds=bounds, method="bounded", options={"xatol": 1e-10})
    moments = model.profile(np.array([[least.x]]))[0]
    there = model.potential(np.array([[least.x]]), moments)[0]
    stays = bool(model.potential(grid[:, None], moments).min() > there - 1e-8)
    return float(least.x), float(least.fun), stays


@dataclass(frozen=True)
class DensityRisk:
    """Risk, mean radius and mass at the walls over the output times."""

    loss: list[float]
    mean_radius: list[float]
    outer_mass: list[float]


@dataclass(frozen=True)
class End:
    """The density at the last output time."""

    risk: float
    radius: float


@dataclass(frozen=True)
class Atom:
    """The best single radius, its risk, and whether no other has a lower potential (1) or one has (0)."""

    radius: float
    risk: float
    stays: int


@dataclass(frozen=True)
class OneRadiusResult:
    """The summary of a point."""

    times: list[float]
    density: DensityRisk
    end: End
    atom: Atom


def one_radius(problem: Problem, options: OneRadiusOptions, comm: MPI.Intracomm) -> OneRadiusResult:
    """The density's risk and radius over time, and the prediction. Collective."""
    model, times = problem.model, list(problem.sections.time.outputs)
    density = density_of(problem, comm)
    risks, radii, outer = [], [], []
    for t in times:
        density.advance(t)
        risks.append(float(model.outer_energy(density.moments())[0]))
        radii.append(float(density.expectation(model.observables["mean_radius"])[0]))
        outer.append(density.outer_mass())
    radius, risk, stays = best_radius(model, options.largest)
    return OneRadiusResult(times, DensityRisk(risks, radii, outer), End(risks[-1], radii[-1]), Atom(radius, risk, int(stays)))


ONE_RADIUS = task_of(OneRadiusOptions, one_radius, NEEDS)
