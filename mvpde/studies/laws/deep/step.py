"""What a step ε of training adds to the flow of the same network: O(ε) by descent, O(√ε) by one-pass SGD.

    θ_{k+1} = θ_k − εN² ∂E_N(θ_k),   E|θ_ε − θ_flow| ≤ Cε;   with one fresh sample a step, common to all weights, ≤ C√ε

ε is in the clock of the limit: an ordinary learning rate η on the loss of a network is ε = ηN². All three have the same start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from mvpde.cases.deep import networks
from mvpde.cases.messages import in_file
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive, Section
from mvpde.particles.deep.network import Network
from mvpde.runtime import MPI
from mvpde.studies.laws.deep.limit import mean_and_error, needs
from mvpde.studies.needs import cold
from mvpde.studies.task import task_of
from mvpde.studies.verdict import Json

NEEDS = [
    *needs("deep_step", limit=False),
    cold('[model] temperature: the task "deep_step" compares paths without noise; set it to 0'),
]


class StepOptions(Section):
    """[options] of the task "deep_step"."""

    reference: Positive = Field(0.05, description="longest step of the flow, of second order, > 0", examples=[0.05])


@dataclass(frozen=True)
class StepResult:
    """The summary of a point; `step` has distances to the flow over the output times, mean over runs and weights."""

    times: list[float]
    step: dict[str, list[Json]]


def step(problem: Problem, options: StepOptions, comm: MPI.Intracomm) -> StepResult:
    """Distances of descent and of SGD with network.step to the flow, in all layers together and in each. Collective.

    Raises:
        CaseError: output times that SGD does not reach in whole steps.
    """
    with in_file(problem.case.path):
        flow = networks(problem, comm, mode="heun", step=options.reference)
        moved = {mode: networks(problem, comm, mode=mode) for mode in ("descent", "sgd")}
    found: dict[str, list[Json]] = {}
    for t in problem.sections.time.outputs:
        for made in (flow, *moved.values()):
            made.advance(t)
        for mode, made in moved.items():
            for key, value in distances(made, flow, mode).items():
                found.setdefault(key, []).append(value)
    return StepResult(list(problem.sections.time.outputs), found)


def distances(one: Network, other: Network, name: str) -> dict[str, float]:
    """E|θ − θ'| over all weights, with its standard error over runs, and in each layer: name, name_layer1, … Collective."""
    gaps = one.distance(other)
    means, errors = mean_and_error(np.column_stack([gaps.mean(axis=1), gaps]))
    keys = [name, *(f"{name}_layer{number}" for number in range(1, gaps.shape[1] + 1))]
    with_errors = {f"{key}_standard_error": error for key, error in zip(keys, errors, strict=True)}
    return dict(zip(keys, means, strict=True)) | with_errors


STEP = task_of(StepOptions, step, NEEDS)
