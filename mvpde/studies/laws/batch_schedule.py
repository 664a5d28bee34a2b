"""Raising the batch size against lowering the learning rate, at the same noise scale g(t) in the clock t = Ση_k.

    raise: (η, f B),   lower: (η/f, B),   constant: (η, B),       with a factor f of each stretch of time.

The first two have g(t) = η/(2fB), and their laws differ from one another and from ∂_tρ = ∇·(ρ∇L + g(t)∇·(Cρ)) by O(η). The third
has another g(t), and its law stays away (Smith & Le, arXiv:1710.06451).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from mvpde.cases.file import Case
from mvpde.cases.measures import domain
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Count, Positive, Section, refuse
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI, CaseError
from mvpde.studies.coarser import TwoMeshes, coarser
from mvpde.studies.laws.moment_distance import Yardstick, distance, expectations, yardstick
from mvpde.studies.laws.weak_error import later_times, sgd_of, whole_steps
from mvpde.studies.task import Task, summarised

Stretch = tuple[float, SgdNetwork]  # when it ends, and how is trained until then


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


def batch_schedule(case: Case, options: BatchScheduleOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Distances of the laws at every output time after the start. Collective.

    Raises:
        CaseError: another kind of model, batches without replacement, no output time after the start, times between two steps,
            a switch that is not before the end.
    """
    setting = problem(case)
    train = sgd_of(setting, "batch_schedule", ("density", "sgd"))
    if not train.replacement:
        raise CaseError(f'{case.path}: [model] replacement: the task "batch_schedule" multiplies B, and g with it; write true')
    times, end = later_times(setting, "batch_schedule"), setting.case.sections.time.end
    if options.switches[-1] >= end:
        raise CaseError(f"{case.path}: [options] switches: {options.switches[-1]:g} is not before the end, {end:g}; leave it out")
    plans = schedules(train, options, end)
    for plan in plans.values():
        _check_times(case, plan, times)
    meshes = [_of_density(one, plans["raise"], times, comm) for one in (setting, coarser(setting))]
    scales = [yardstick(meshes[0][0], values, setting.model.coordinates) for values in meshes[0][1]]
    means = [np.array([expectations(box, v, s.functions) for v, s in zip(found, scales, strict=True)]) for box, found in meshes]
    two = TwoMeshes(*means)
    runs = {name: _of_runs(setting, plan, times, scales, seed, comm) for seed, (name, plan) in enumerate(plans.items())}
    laws = runs | {"density": (means[0], np.zeros_like(means[0]))}
    pairs = [("raise", "lower"), ("raise", "density"), ("lower", "density"), ("constant", "density"), ("constant", "raise")]
    found = {
        f"{a}_vs_{b}": [distance(*row) for row in zip(laws[a][0] - laws[b][0], np.hypot(laws[a][1], laws[b][1]), strict=True)]
        for a, b in pairs
    }
    return {
        "times": times,
        "distance": {name: [d for d, _ in rows] for name, rows in found.items()},
        "standard_error": {name: [s for _, s in rows] for name, rows in found.items()},
        "mesh_error": np.sqrt(np.mean(two.error**2, axis=1)).tolist(),
    }


def schedules(train: SgdNetwork, options: BatchScheduleOptions, end: float) -> dict[str, list[Stretch]]:
    """The three schedules by name."""
    ends = [*options.switches, end]
    eta, batch = train.learning_rate, train.batch_size
    return {
        "raise": [(t, replace(train, batch_size=f * batch)) for t, f in zip(ends, options.factors, strict=True)],
        "lower": [(t, replace(train, learning_rate=eta / f)) for t, f in zip(ends, options.factors, strict=True)],
        "constant": [(t, train) for t in ends],
    }


def _check_times(case: Case, plan: Sequence[Stretch], times: Sequence[float]) -> None:
    start = 0.0
    for k, (end, train) in enumerate(plan):
        last = k == len(plan) - 1
        for t in [t for t in times if start < t and (t <= end or last)] + ([] if last else [end]):
            whole_steps(case, train, t - start, f"[time] outputs, or [options] switches, {start:g} to {t:g}")
        start = end


def _of_runs(
    setting: Problem, plan: Sequence[Stretch], times: Sequence[float], scales: Sequence[Yardstick], seed: int, comm: MPI.Intracomm
) -> tuple[Array, Array]:
    """⟨h⟩ and standard errors at each time, shapes (times, K)."""
    section: Any = setting.case.sections.sgd
    runs = SgdRuns(plan[0][1], setting.law, runs=section.runs, seed=section.seed + seed, comm=comm)
    ahead, found = list(plan[1:]), []
    switch = plan[0][0]
    for t, scale in zip(times, scales, strict=True):
        while ahead and switch < t:
            runs.advance(switch)
            switch, train = ahead.pop(0)
            runs.change(train)
        runs.advance(t)
        found.append([runs.estimate(h) for h in scale.functions])
    values = np.array(found)
    return values[:, :, 0], values[:, :, 1]


def _of_density(
    setting: Problem, plan: Sequence[Stretch], times: Sequence[float], comm: MPI.Intracomm
) -> tuple[Any, list[Array]]:
    """The mesh, and ρ at each time (local)."""
    from mvpde.density.density import Density

    section: Any = setting.case.sections.density
    options = {key: getattr(section, key) for key in ("scheme", "cfl", "tolerance", "step")}
    box = domain(setting, comm)
    ahead, found = list(plan), []
    switch, train = ahead.pop(0)
    density = Density(diffusion_model(train), box, setting.law, **options)
    for t in times:
        while ahead and switch < t:
            density.advance(switch)
            switch, train = ahead.pop(0)
            before = density
            density = Density(diffusion_model(train), box, setting.law, **options)
            density.values, density.time = before.values, before.time
        density.advance(t)
        found.append(density.values.copy())
    return box, found


BATCH_SCHEDULE = Task(BatchScheduleOptions, summarised(batch_schedule))
