"""The empirical law of n particles beside the density: sliced Wasserstein distances SW_1(L_n, ρ_t) ~ n^{-½}.

For independent points of a law on the line E W_1(L_n, ρ) ≤ n^{-½} ∫ √(F(1 − F)) dx, F its distribution function. The integral is
finite if the law has more than two moments, and so it is for every projection. W_2 has that rate under stronger conditions only:
for a Gaussian law E W_2² ~ log log n / n (Bobkov & Ledoux, Mem. Amer. Math. Soc. 261 (2019) no. 1259).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.measures import measures
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Count, Section
from mvpde.models.mean_field import Array
from mvpde.runs.compare import sliced_wasserstein
from mvpde.runs.record import without_faint
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.coarser import TwoMeshes, coarser
from mvpde.studies.task import Task, summarised

Cloud = tuple[Array, Array]


class EmpiricalOptions(Section):
    """[options] of the task "empirical_law"."""

    projections: Count = Field(32, description="directions that the distances average over, a whole number ≥ 1", examples=[32])


def empirical_law(case: Case, options: EmpiricalOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Mean over ensemble.runs runs, standard error and the density's own error, at every output time. Collective.

    Raises:
        CaseError: for a section that is missing.
    """
    setting = problem(case)
    section: Any = setting.case.sections.ensemble
    if section is None or setting.case.sections.density is None:
        raise CaseError(f'{case.path}: [ensemble], [density]: the task "empirical_law" needs both sections; add them')
    laws = {"density": _density_clouds(setting, comm), "coarse": _density_clouds(coarser(setting), comm)}
    runs = [_ensemble_clouds(setting, section.seed + run, comm) for run in range(section.runs)]
    periods = setting.model.periods

    def distance(a: Cloud, b: Cloud) -> float:
        return sliced_wasserstein(a, b, periods, projections=options.projections, order=1)

    def compare() -> dict[str, Any]:
        found = np.array([[distance(a, b) for a, b in zip(run, laws["density"], strict=True)] for run in runs])
        between = np.array([distance(a, b) for a, b in zip(laws["density"], laws["coarse"], strict=True)])
        error = TwoMeshes(between, np.zeros_like(between)).error
        spread = found.std(axis=0, ddof=1) / math.sqrt(len(runs)) if len(runs) > 1 else np.full(len(between), math.nan)
        return {
            "distance": found.mean(axis=0).tolist(),
            "standard_error": spread.tolist(),
            "discretisation": error.tolist(),
        }

    return {"times": list(setting.case.sections.time.outputs), "law": on_first_rank(comm, compare)}


def _density_clouds(setting: Problem, comm: MPI.Intracomm) -> list[Any]:
    """The density as points and masses at every output time; on rank 0. Collective."""
    density, clouds = measures(setting, ["density"], comm)["density"], []
    for t in setting.case.sections.time.outputs:
        density.advance(t)
        cloud = density.cloud()
        clouds.append(cloud if cloud is None else without_faint(cloud))
    return clouds


def _ensemble_clouds(setting: Problem, seed: int, comm: MPI.Intracomm) -> list[Any]:
    """One run's particles at every output time; on rank 0. Collective."""
    from mvpde.particles.ensemble import Ensemble

    s: Any = setting.case.sections.ensemble
    ensemble = Ensemble(setting.model, setting.law, particles=s.particles, seed=seed, step=s.step, scheme=s.scheme, comm=comm)
    clouds: list[Any] = []
    for t in setting.case.sections.time.outputs:
        ensemble.advance(t)
        clouds.append(ensemble.cloud())
    return clouds


EMPIRICAL_LAW = Task(EmpiricalOptions, summarised(empirical_law))
