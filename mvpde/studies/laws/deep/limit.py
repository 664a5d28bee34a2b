"""What all laws of deep networks ask of a case: true networks, and the limit that they are compared with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np

from mvpde.cases.kinds.deep_network import DeepCompanionSection, LabelsSection
from mvpde.cases.measures import measures
from mvpde.cases.meshes.coarser import HALF, THREE_QUARTERS, fewer, with_fewer
from mvpde.cases.problem import Problem
from mvpde.measure import Measure
from mvpde.models.mean_field import Array
from mvpde.particles.deep.driven import Limit, LimitPath, limit_path
from mvpde.runtime import MPI
from mvpde.studies.needs import Need, hot, kind, runs_of_networks, section, sections, where

FOLLOWED = ("heun", "langevin", "prescribed")  # modes whose error in the step is not seen beside that in the width
FEWEST, FEWEST_LABELS = 3, 4  # cells or nodes in a direction, and labels, that a coarse limit keeps


def needs(task: str, *, limit: bool = True) -> list[Need]:
    """True networks of several runs, and what their limit is computed with."""
    asked = [
        kind("deep_network", f'[model] kind: the task "{task}" is about deep networks; write kind = "deep_network"'),
        section("network", f'[network]: the section is missing, and the task "{task}" needs it; add it with `width` and `runs`'),
        runs_of_networks(2, f'[network] runs: is 1, and the task "{task}" takes errors from several runs; give 2 or more'),
    ]
    if limit:
        asked += where(hot, sections("density", "domain", task=task))
        asked += where(lambda problem: not hot(problem), sections("characteristics", task=task))
    return asked


def of_the_flow(task: str) -> list[Need]:
    """Networks whose steps are those of their limit: of second order, or on the same samples."""
    asked = (
        f'[network] mode: the task "{task}" compares networks with their limit, which is a flow or on prescribed samples; '
        'mode must be heun, langevin or prescribed: write mode = "heun", or "langevin" at positive temperature'
    )
    return [Need(lambda problem: network_section(problem).mode in FOLLOWED, asked)]


def trained(problem: Problem, mode: str) -> Problem:
    """The same with networks, and so their limit, trained in another mode."""
    section = network_section(problem).model_copy(update={"mode": mode, "order": None})
    sections = problem.sections.model_copy(update={"network": section})
    return replace(problem, case=replace(problem.case, sections=sections))


def network_section(problem: Problem) -> DeepCompanionSection:
    """[network], which the needs have asked for."""
    return cast("DeepCompanionSection", getattr(problem.sections, "network"))  # noqa: B009  (of this kind's own)


def limit_of(problem: Problem, comm: MPI.Intracomm) -> Measure:
    """The limit at t = 0: characteristics at temperature 0, else the density. Collective."""
    name = "density" if hot(problem) else "characteristics"
    return measures(problem, [name], comm)[name]


def path_of(problem: Problem, comm: MPI.Intracomm) -> LimitPath:
    """What drives copies until the last output time, interpolated between times network.step apart. Collective."""
    end = problem.sections.time.outputs[-1]
    times = np.linspace(0.0, end, max(4, math.ceil(end / network_section(problem).step)) + 1)
    return limit_path(cast("Limit", limit_of(problem, comm)), times)


def coarse(problem: Problem) -> Problem:
    """The same with half the nodes or cells of the limit and three quarters of its labels."""
    rough = with_fewer(problem, HALF, FEWEST)
    labels = cast("LabelsSection", getattr(problem.sections, "labels"))  # noqa: B009
    (b,) = fewer([labels.b], THREE_QUARTERS, FEWEST_LABELS)
    few = labels.model_copy(update={"a": fewer(labels.a, THREE_QUARTERS, FEWEST_LABELS), "b": b})
    return replace(rough, case=replace(rough.case, sections=rough.case.sections.model_copy(update={"labels": few})))


def mean_and_error(values: Array) -> tuple[list[float], list[float]]:
    """Means over runs and their standard errors, of numbers (runs, K)."""
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return values.mean(axis=0).tolist(), error.tolist()
