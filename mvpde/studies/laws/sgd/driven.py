"""The measures of a case in the flow of a sequence of minibatches, `mvpde.particles.common_noise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from mvpde.cases.measures import measures
from mvpde.cases.meshes.coarser import fewer
from mvpde.cases.problem import Problem
from mvpde.measure import Array, Measure
from mvpde.particles.common_noise import CommonNoise, SteppedNodes, one_for_each_point
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, CaseError
from mvpde.studies.laws.ensembles import ensemble_of
from mvpde.studies.needs import Need, cold, flat, given

_BESIDE = 1e-9  # relative, of an output time to a multiple of Δt

MINIBATCHES = [
    Need(
        lambda problem: one_for_each_point(problem.model),
        '[model] kind: minibatches are drawn from the data of a network; use kind = "network"',
    ),
    flat("[model] unit: minibatches do not drive units on a sphere; choose another unit"),
    cold("[model] temperature: minibatches drive gradient flows at temperature 0, not {temperature}; set it to 0"),
]


def check_times(problem: Problem, interval: float) -> None:
    """Output times are multiples of Δt.

    Raises:
        CaseError: with the first that is none.
    """
    for t in problem.sections.time.outputs:
        if abs(t - round(t / interval) * interval) > _BESIDE * max(t, interval):
            said = f"{t:g} is no multiple of options.interval = {interval:g}; correct one of them"
            raise CaseError(f"{problem.case.path}: [time] outputs: {said}")


class Moved(Protocol):
    """What is asked of a measure that a sequence drives."""

    time: float

    def advance(self, t: float, /) -> None:
        """Carry it to time t."""

    def moments(self) -> Array:
        """m of each run, shape (runs, K)."""


def carried(noise: CommonNoise, measures: Sequence[Moved], times: Sequence[float]) -> list[list[Array]]:
    """Moments of each measure at each time. Collective."""
    moments: list[list[Array]] = [[] for _ in measures]
    for t in times:
        noise.advance(measures, t)
        for rows, measure in zip(moments, measures, strict=True):
            rows.append(measure.moments())
    return moments


def driven(name: str, problem: Problem, noise: CommonNoise, comm: MPI.Intracomm) -> Measure:
    """The case's density or characteristics in the minibatches' flow. Collective."""
    return measures(replace(problem, model=noise.model), [name], comm)[name]


def stepped_nodes(problem: Problem, noise: CommonNoise, share: float = 1.0) -> SteppedNodes:
    """A share of the nodes of the case's characteristics, in SGD steps. Local."""
    nodes = fewer(given(problem.sections.characteristics).nodes, share)
    return SteppedNodes(noise.model, problem.law, nodes=nodes, step=noise.interval)


def sgd_ensemble(problem: Problem, noise: CommonNoise, comm: MPI.Intracomm, *, runs: int, seed: int) -> Ensemble:
    """The case's number of particles in SGD steps: Euler steps of length Δt, whatever the case's scheme and step. Collective."""
    there = replace(problem, model=noise.model)
    return ensemble_of(there, comm, runs=runs, seed=seed, step=noise.interval, scheme="euler")
