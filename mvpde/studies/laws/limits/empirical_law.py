"""The empirical law of n particles beside the density: sliced Wasserstein distances SW_1(L_n, ρ_t) ~ n^{-½}.

For independent points of a law on the line E W_1(L_n, ρ) ≤ n^{-½} ∫ √(F(1 − F)) dx, F its distribution function. The integral is
finite if the law has more than two moments, and so it is for every projection. W_2 has that rate under stronger conditions only:
for a Gaussian law E W_2² ~ log log n / n (Bobkov & Ledoux, Mem. Amer. Math. Soc. 261 (2019) no. 1259).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from mvpde.cases.measures import density_of
from mvpde.cases.meshes.coarser import TwoMeshes, coarser
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Section
from mvpde.measure import Cloud
from mvpde.runs.compare import sliced_wasserstein, without_faint
from mvpde.runtime import MPI, on_first_rank
from mvpde.studies.laws.ensembles import ensemble_of
from mvpde.studies.needs import Need, given
from mvpde.studies.task import task_of

NEEDS = [
    Need(
        lambda problem: problem.sections.ensemble is not None and problem.sections.density is not None,
        '[ensemble], [density]: the task "empirical_law" needs both sections; add them',
    )
]


class EmpiricalOptions(Section):
    """[options] of the task "empirical_law"."""

    projections: Count = Field(32, description="directions that the distances average over, a whole number ≥ 1", examples=[32])


@dataclass(frozen=True)
class LawDistances:
    """SW_1(L_n, ρ_t) at every output time: mean over runs, its standard error, and the density's own error."""

    distance: list[float]
    standard_error: list[float]
    discretisation: list[float]


@dataclass(frozen=True)
class EmpiricalLawResult:
    """The summary of a point."""

    times: list[float]
    law: LawDistances


def empirical_law(problem: Problem, options: EmpiricalOptions, comm: MPI.Intracomm) -> EmpiricalLawResult:
    """Distances of ensemble.runs runs, each on its own, at every output time. Collective."""
    section = given(problem.sections.ensemble)
    fine, coarse = (_density_clouds(mesh, comm) for mesh in (problem, coarser(problem)))
    runs = [_ensemble_clouds(problem, section.seed + run, comm) for run in range(section.runs)]

    def distances(a: Sequence[Cloud | None], b: Sequence[Cloud | None]) -> list[float]:
        return [
            sliced_wasserstein(given(x), given(y), problem.model.periods, projections=options.projections, order=1)
            for x, y in zip(a, b, strict=True)
        ]

    def compare() -> LawDistances:
        values, between = np.array([distances(run, fine) for run in runs]), np.array(distances(fine, coarse))
        error = TwoMeshes(between, np.zeros_like(between)).error
        spread = values.std(axis=0, ddof=1) / math.sqrt(len(runs)) if len(runs) > 1 else np.full(len(between), math.nan)
        return LawDistances(values.mean(axis=0).tolist(), spread.tolist(), error.tolist())

    return EmpiricalLawResult(list(problem.sections.time.outputs), on_first_rank(comm, compare))


def _density_clouds(problem: Problem, comm: MPI.Intracomm) -> list[Cloud | None]:
    """The density as points and masses at every output time; on rank 0. Collective."""
    density, clouds = density_of(problem, comm), []
    for t in problem.sections.time.outputs:
        density.advance(t)
        cloud = density.cloud()
        clouds.append(cloud if cloud is None else without_faint(cloud))
    return clouds


def _ensemble_clouds(problem: Problem, seed: int, comm: MPI.Intracomm) -> list[Cloud | None]:
    """One run's particles at every output time; on rank 0. Collective."""
    ensemble, clouds = ensemble_of(problem, comm, runs=1, seed=seed), []
    for t in problem.sections.time.outputs:
        ensemble.advance(t)
        clouds.append(ensemble.cloud())
    return clouds


EMPIRICAL_LAW = task_of(EmpiricalOptions, empirical_law, NEEDS)
