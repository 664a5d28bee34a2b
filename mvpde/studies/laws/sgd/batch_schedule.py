"""Raising the batch size against lowering the learning rate, at the same noise scale g(t) in the clock t = Ση_k.

    raise: (η, f B),   lower: (η/f, B),   constant: (η, B),       with a factor f of each stretch of time.

The first two have g(t) = η/(2fB), and their laws differ from one another and from ∂_tρ = ∇·(ρ∇L + g(t)∇·(Cρ)) by O(η). The third
has another g(t), and its law stays away (Smith & Le, arXiv:1710.06451).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from pydantic import Field, model_validator

from mvpde.cases.measures import density_of, training
from mvpde.cases.meshes.coarser import TwoMeshes, coarser
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Positive, Section, refuse
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI, CaseError
from mvpde.studies.laws.sgd.moment_distance import Yardstick, distance, expectations, yardstick
from mvpde.studies.laws.sgd.training import later_times, needs_of_comparison, whole_steps
from mvpde.studies.needs import given
from mvpde.studies.task import task_of

Stretch = tuple[float, SgdNetwork]  # when it ends, and how is trained until then

NEEDS = needs_of_comparison("batch_schedule")


class BatchScheduleOptions(Section):
    """[options] of the task "batch_schedule"."""

    switches: list[Positive] = Field(
        description="increasing times at which the factor changes", examples=[[2.0, 4.0]], min_length=1
    )
    factors: list[Count] = Field(description="one factor for each stretch between them, whole numbers ≥ 1", examples=[[1, 2, 4]])

    @model_validator(mode="after")
    def _fitting(self) -> BatchScheduleOptions:
        if len(self.factors) != len(self.switches) + 1:
            raise refuse(
                f"`factors` needs {len(self.switches) + 1} entries, one more than `switches`; it has {len(self.factors)}"
            )
        if any(b <= a for a, b in pairwise(self.switches)):
            raise refuse("`switches` must increase; sort them")
        return self


@dataclass(frozen=True)
class BatchScheduleResult:
    """The summary of a point: distances of laws, see `moment_distance`, by the names of two schedules."""

    times: list[float]  # output times after the start
    distance: dict[str, list[float]]  # over them
    standard_error: dict[str, list[float]]  # of the distances
    mesh_error: list[float]  # the density's own, as a distance


PAIRS = [("raise", "lower"), ("raise", "density"), ("lower", "density"), ("constant", "density"), ("constant", "raise")]


def batch_schedule(problem: Problem, options: BatchScheduleOptions, comm: MPI.Intracomm) -> BatchScheduleResult:
    """Distances of the laws at every output time after the start. Collective.

    Raises:
        CaseError: times between two steps, a switch that is not before the end, cells that cannot be made fewer.
    """
    train, times, end = training(problem), later_times(problem), problem.sections.time.end
    if options.switches[-1] >= end:
        said = f"{options.switches[-1]:g} is not before the end, {end:g}; leave it out"
        raise CaseError(f"{problem.case.path}: [options] switches: {said}")
    plans = schedules(train, options, end)
    for plan in plans.values():
        _check_times(problem, plan, times)
    (box, fine), rough = (_of_density(mesh, plans["raise"], times, comm) for mesh in (problem, coarser(problem)))
    scales = [yardstick(box, values, problem.model.coordinates) for values in fine]
    means = [
        np.array([expectations(mesh, v, scale.functions) for v, scale in zip(values, scales, strict=True)])
        for mesh, values in ((box, fine), rough)
    ]
    runs = {name: _of_runs(problem, plan, times, scales, seed, comm) for seed, (name, plan) in enumerate(plans.items())}
    laws = runs | {"density": (means[0], np.zeros_like(means[0]))}
    distances = {
        f"{a}_vs_{b}": [distance(*row) for row in zip(laws[a][0] - laws[b][0], np.hypot(laws[a][1], laws[b][1]), strict=True)]
        for a, b in PAIRS
    }
    return BatchScheduleResult(
        times,
        {name: [d for d, _ in rows] for name, rows in distances.items()},
        {name: [s for _, s in rows] for name, rows in distances.items()},
        np.sqrt(np.mean(TwoMeshes(*means).error ** 2, axis=1)).tolist(),
    )


def schedules(train: SgdNetwork, options: BatchScheduleOptions, end: float) -> dict[str, list[Stretch]]:
    """The three schedules by name."""
    ends = [*options.switches, end]
    eta, batch = train.learning_rate, train.batch_size
    return {
        "raise": [(t, replace(train, batch_size=f * batch)) for t, f in zip(ends, options.factors, strict=True)],
        "lower": [(t, replace(train, learning_rate=eta / f)) for t, f in zip(ends, options.factors, strict=True)],
        "constant": [(t, train) for t in ends],
    }


def _check_times(problem: Problem, plan: Sequence[Stretch], times: Sequence[float]) -> None:
    start = 0.0
    for k, (end, train) in enumerate(plan):
        last = k == len(plan) - 1
        for t in [t for t in times if start < t and (t <= end or last)] + ([] if last else [end]):
            whole_steps(problem, train, t - start, f"[time] outputs, or [options] switches, {start:g} to {t:g}")
        start = end


def _of_runs(
    problem: Problem, plan: Sequence[Stretch], times: Sequence[float], scales: Sequence[Yardstick], seed: int, comm: MPI.Intracomm
) -> tuple[Array, Array]:
    """⟨h⟩ and standard errors at each time, shapes (times, K)."""
    section = given(problem.sections.sgd)
    runs = SgdRuns(plan[0][1], problem.law, runs=section.runs, seed=section.seed + seed, comm=comm)
    ahead, estimates = list(plan[1:]), []
    switch = plan[0][0]
    for t, scale in zip(times, scales, strict=True):
        while ahead and switch < t:
            runs.advance(switch)
            switch, train = ahead.pop(0)
            runs.change(train)
        runs.advance(t)
        estimates.append([runs.estimate(h) for h in scale.functions])
    values = np.array(estimates)
    return values[:, :, 0], values[:, :, 1]


def _of_density(
    problem: Problem, plan: Sequence[Stretch], times: Sequence[float], comm: MPI.Intracomm
) -> tuple[Domain, list[Array]]:
    """The mesh, and ρ at each time (local)."""
    ahead, values = list(plan), []
    switch, train = ahead.pop(0)
    density = density_of(replace(problem, model=diffusion_model(train)), comm)
    for t in times:
        while ahead and switch < t:
            density.advance(switch)
            switch, train = ahead.pop(0)
            before = density
            density = density_of(replace(problem, model=diffusion_model(train)), comm)
            density.values, density.time = before.values, before.time
        density.advance(t)
        values.append(density.values.copy())
    return density.domain, values


BATCH_SCHEDULE = task_of(BatchScheduleOptions, batch_schedule, NEEDS)
