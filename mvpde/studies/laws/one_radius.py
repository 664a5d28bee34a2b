"""Below a critical Δ, the law of the radius of two isotropic Gaussians contracts to one radius: the risk it ends with, predicted.

The risk of a single radius is R(δ_r) = 1 + 2v(r) + u_d(r, r). The law at its minimum r* minimises the risk over all laws if no
radius has a lower potential V(r; δ_{r*}) than r* (Mei, Montanari & Nguyen, arXiv:1804.06561, §3.1). This fails above Δ_h(d): mass
escapes to infinity and the infimum of the risk is not attained. In finite dimension it fails for very small Δ too, and where
d ≤ 12 at every Δ: the best law there has more than one radius.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field
from scipy.optimize import minimize_scalar

from mvpde.cases.file import Case
from mvpde.cases.schema import Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, CaseError
from mvpde.studies.task import Task, summarised

POINTS = 4000  # radii at which the potential is looked at


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
    found = minimize_scalar(lambda r: float(risk(np.array([r]))[0]), bounds=bounds, method="bounded", options={"xatol": 1e-10})
    moments = model.profile(np.array([[found.x]]))[0]
    least = model.potential(np.array([[found.x]]), moments)[0]
    stays = bool(model.potential(grid[:, None], moments).min() > least - 1e-8)
    return float(found.x), float(found.fun), stays


def one_radius(case: Case, options: OneRadiusOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """The density's risk and radius over time, and the prediction. Collective."""
    from mvpde.cases.measures import measures
    from mvpde.cases.problem import problem

    if case.sections.density is None:
        raise CaseError(f"{case.path}: [density]: the section is missing, and this task needs it; add it to the base case")
    setting = problem(case, comm)
    model = setting.model
    if "mean_radius" not in model.observables or model.temperature > 0.0:
        raise CaseError(f'{case.path}: the task "one_radius" needs kind = "mmn_isotropic" at temperature 0')
    density = measures(setting, ["density"], comm)["density"]
    times = list(case.sections.time.outputs)
    risks, radii, outer = [], [], []
    for t in times:
        density.advance(t)
        risks.append(float(model.outer_energy(density.moments())[0]))
        radii.append(float(density.expectation(model.observables["mean_radius"])[0]))
        outer.append(density.outer_mass())
    radius, risk, stays = best_radius(model, options.largest)
    last = {"risk": risks[-1], "radius": radii[-1]}
    return {
        "times": times,
        "density": {"loss": risks, "mean_radius": radii, "outer_mass": outer},
        "end": last,
        "atom": {"radius": radius, "risk": risk, "stays": int(stays)},
    }


ONE_RADIUS = Task(OneRadiusOptions, summarised(one_radius))
