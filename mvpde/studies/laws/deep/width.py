"""Deep networks of width N against their limit: loss, predictions and the inputs of layers.

    E_N → E,   ŷ_N(x_p) → ȳ(x_p),   N⁻¹ Σ_j z^ℓ_j(x_p) → z̄^ℓ(x_p),   with a bias c/N and fluctuations of order N^{-1/2}

(Araújo, Oliveira & Yukimura, arXiv:1906.00193). Means over runs are extrapolated in 1/N, and what is left must be no more than
their standard errors explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.deep import networks
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Section
from mvpde.measure import Measure
from mvpde.models.mean_field import Array
from mvpde.particles.deep.network import Network
from mvpde.runtime import MPI
from mvpde.studies.laws.deep.limit import limit_of, mean_and_error, needs, of_the_flow
from mvpde.studies.task import over_times, task_of
from mvpde.studies.verdict import Json

if TYPE_CHECKING:
    from collections.abc import Sequence


class WidthOptions(Section):
    """[options] of the task "deep_width"."""

    stratified: bool = Field(
        False,
        description="whether a and b are drawn one from each of N parts of equal mass, true or false: less scatter",
        examples=[True],
    )


@dataclass(frozen=True)
class Differences:
    """What is measured at an output time: means over runs minus the limit, and standard errors of these means."""

    loss: float  # mean over runs
    limit_loss: float
    loss_limit: float  # the same, beside its difference
    loss_difference: float
    loss_standard_error: float
    loss_distance: float  # mean over runs of |E_N − E|
    loss_distance_standard_error: float
    prediction_limit: list[float]  # at each data point
    prediction_difference: list[float]
    prediction_standard_error: list[float]
    input_limit: list[float]  # of z̄² … z̄^L at each data point
    input_difference: list[float]
    input_standard_error: list[float]


@dataclass(frozen=True)
class WidthResult:
    """The summary of a point."""

    times: list[float]
    width: dict[str, list[Json]]


def width(problem: Problem, options: WidthOptions, comm: MPI.Intracomm) -> WidthResult:
    """Differences to the limit at every output time. Collective."""
    made, limit = networks(problem, comm, stratified=options.stratified), limit_of(problem, comm)
    rows = []
    for t in problem.sections.time.outputs:
        made.advance(t)
        limit.advance(t)
        rows.append(_differences(made, limit))
    return WidthResult(list(problem.sections.time.outputs), over_times(rows))


def _differences(made: Network, limit: Measure) -> Differences:
    """At the present time of both. Collective."""
    losses, expected = made.losses(), float(limit.losses()[0])
    inputs = np.concatenate([z.mean(axis=2) for z in made.units()[1:]], axis=1)
    of_inputs = _flat(limit.arrays()["inputs"])
    (mean,), (error,) = mean_and_error(losses[:, None])
    (distance,), (distance_error,) = mean_and_error(np.abs(losses - expected)[:, None])
    return Differences(
        mean,
        expected,
        expected,
        mean - expected,
        error,
        distance,
        distance_error,
        limit.moments().tolist(),
        *mean_and_error(made.moments() - limit.moments()),
        of_inputs.tolist(),
        *mean_and_error(inputs - of_inputs),
    )


def _flat(inputs: Array | Sequence[Array]) -> Array:
    return np.asarray(inputs, float).ravel()


NEEDS = [*needs("deep_width"), *of_the_flow("deep_width")]
WIDTH = task_of(WidthOptions, width, NEEDS)
