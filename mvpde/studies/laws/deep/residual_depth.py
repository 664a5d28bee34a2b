"""How far a residual network of L layers is from its flow: (E|x_L − x(s)|²)^{½} = O(1/L) for the same features x(0).

    x_{k+1} = x_k + L⁻¹h(x_k, θ(k/L)),        ẋ = h(x, θ(s))

(Avelin & Nyström, arXiv:1906.12183). The flow of the same features comes from Heun's method with FINER steps in each layer, which
is off by O(L⁻² FINER⁻²).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mvpde.cases.problem import Problem
from mvpde.cases.schema import Section
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI
from mvpde.studies.laws.ensembles import ensemble_of, step_of
from mvpde.studies.needs import Need, later_outputs, sections
from mvpde.studies.task import task_of

FINER = 8

NEEDS = [
    *sections("ensemble", task="residual_depth"),
    Need(
        lambda problem: problem.model.deterministic and not problem.model.interacting,
        '[model] kind: the task "residual_depth" needs kind = "residual_flow"; change the base case',
    ),
    later_outputs("residual_depth"),
]


class DepthOptions(Section):
    """[options] of the task "residual_depth"; it has none."""


@dataclass(frozen=True)
class DepthErrors:
    """What a network misses at every output depth.

    Attributes:
        distance: E|x_L − x(s)|.
        rms: (E|x_L − x(s)|²)^{½}.
        means: E h(x_L) − E h(x(s)) for each observable, by name.
        mean_size: their absolute values.
    """

    distance: list[float]
    rms: list[float]
    means: Mapping[str, list[float]]
    mean_size: Mapping[str, list[float]]


@dataclass(frozen=True)
class DepthResult:
    """The summary of a point."""

    times: list[float]
    depth: DepthErrors


def residual_depth(problem: Problem, options: DepthOptions, comm: MPI.Intracomm) -> DepthResult:
    """Errors of the network of the case at the output depths after 0. Collective."""
    step = step_of(problem)
    network, flow = ensemble_of(problem, comm, scheme="euler"), ensemble_of(problem, comm, scheme="heun", step=step / FINER)
    times = [s for s in problem.sections.time.outputs if s > 0.0]
    rows = []
    for s in times:
        for moved in (network, flow):
            moved.advance(s)
        rows.append((_mean(network.distance(flow)), _mean(network.squared_distance(flow)) ** 0.5, _means(problem, network, flow)))
    names = problem.model.observables
    means = {name: [row[2][name] for row in rows] for name in names}
    sizes = {name: [abs(value) for value in values] for name, values in means.items()}
    return DepthResult(times, DepthErrors([row[0] for row in rows], [row[1] for row in rows], means, sizes))


def _mean(runs: object) -> float:
    return float(np.mean(np.asarray(runs, float)))


def _means(problem: Problem, network: Ensemble, flow: Ensemble) -> dict[str, float]:
    """E h(x_L) − E h(x(s)) over all runs. Collective."""
    return {name: _mean(network.expectation(h) - flow.expectation(h)) for name, h in problem.model.observables.items()}


RESIDUAL_DEPTH = task_of(DepthOptions, residual_depth, NEEDS)
