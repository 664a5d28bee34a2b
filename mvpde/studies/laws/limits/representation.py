"""Where training without noise ends: at f* if the units can represent it and no y is missing, else at a known distance.

The loss is the convex quadratic ½‖f* − ∫φ(·, y)γ(dy)‖² of the signed density γ = ∫cρ dc, so no training ends below half the
squared distance of f* to the span of the units. If the unit is discriminating that distance is 0, and f_t → f* if the marginal
in y of the limit law is positive almost everywhere (Rotskoff & Vanden-Eijnden, arXiv:1805.00915). Three things can be told apart:

- f* is in the span of the units with y in the domain, and of those that the law has: f_t → f*;
- f* is not in the span of the units of the domain: f_t stops at its distance to it, whatever the start;
- it is, but the marginal in y has a gap, which the flow does not close: f_t stops at the distance to the span of the units
  that the law has.

The distances come from the features alone (`mvpde.equilibrium.optimality.representation`), the losses from the characteristics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.measures import measures
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive, Section
from mvpde.density.features import nodal_features
from mvpde.equilibrium.optimality.representation import no_representation, represented
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI
from mvpde.studies.figures import COLOURS, finish
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import Need, box, flat, given, later_outputs, sections
from mvpde.studies.task import task_of
from mvpde.studies.verdict import FAILS, HOLDS, Json, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

ROUNDING = 1e-9  # part of the loss at the start by which it may be below its floor

NEEDS = [
    *sections("characteristics", "domain", task="representation"),
    box('[domain] cells: are missing, and the task "representation" looks at units on a grid over them; give a box'),
    flat('the task "representation" looks at units on a box; choose another unit than sphere_rbf'),
    Need(
        lambda problem: no_representation(problem.model) is None,
        '[model] loss: the task "representation" needs a network with loss = "least_squares"',
    ),
    later_outputs("representation"),
]


class RepresentationOptions(Section):
    """What a point is called."""

    example: str = Field("", description="what verdicts and the figure call the point", examples=["tanh, even target"])


@dataclass(frozen=True)
class Span:
    """What some units represent of f*: see `mvpde.equilibrium.optimality.representation.Representation`; verdict is 1 or 0."""

    verdict: int
    distance: float
    loss_floor: float
    rank: int


@dataclass(frozen=True)
class Losses:
    """Of the characteristics, over the output times."""

    loss: list[float]


@dataclass(frozen=True)
class RepresentationResult:
    """The summary of a point.

    Attributes:
        times: the output times.
        characteristics: their losses.
        domain: the units with y in the domain.
        support: the units that the law has at the last output time.
    """

    times: list[float]
    characteristics: Losses
    domain: Span
    support: Span


def representation(problem: Problem, options: RepresentationOptions, comm: MPI.Intracomm) -> RepresentationResult:
    """The losses on the way, and the distances of f* to the spans. Collective."""
    times, losses = list(problem.sections.time.outputs), []
    characteristics = measures(problem, ["characteristics"], comm)["characteristics"]
    for t in times:
        characteristics.advance(t)
        losses.append(float(characteristics.losses()[0]))
    points, weights = comm.bcast(characteristics.cloud())
    grid = _grid(problem)
    everywhere, there = span(problem.model, grid, np.ones(len(grid))), span(problem.model, points, weights)
    return RepresentationResult(times, Losses(losses), everywhere, there)


def span(model: MeanField, points: Array, weights: Array) -> Span:
    """What the units at ``points``, shape (N, D), represent. Local."""
    found = represented(nodal_features(model, points, MPI.COMM_SELF), weights)
    return Span(int(found.verdict), found.distance, found.loss_floor, found.rank)


def _grid(problem: Problem) -> Array:
    """The nodes of the domain in the directions of y, with c = 1."""
    domain, d = given(problem.sections.domain), problem.model.profile_dimension
    lower, upper, cells = domain.lower or [], domain.upper or [], domain.cells or []
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(lower[:d], upper[:d], cells[:d], strict=True)]
    y = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, d)
    return np.column_stack([y, np.ones(len(y))])


REPRESENTATION = task_of(RepresentationOptions, representation, NEEDS)


# --- the verdicts ---------------------------------------------------------------------------------------------------------------


class EndOptions(MeasurementOptions):
    """How near the loss must come to where it should end."""

    name: str = Field("representation", description="name of its figure, <name>.png", examples=["representation"])
    tolerance: Positive = Field(
        0.01, description="largest difference at the last output time, as a part of the loss at the start, > 0", examples=[0.01]
    )


@dataclass(frozen=True)
class Example:
    """A point of the study: its losses over their first, and the floors in the same units."""

    name: str
    times: Array
    losses: Array
    domain: float
    support: float
    representable: bool
    complete: bool


REACHED = "f_t → f*: the units can represent it, and none is missing"
SHORT = "f* is not in the span of the units: the loss ends at half its squared distance to it"
GAP = "f* is in the span, but the start has a gap in y: the loss ends at the distance to the span of the units that are there"


def ends(dataset: xarray.Dataset, options: EndOptions) -> Outcome:
    """One verdict for each point, by what is to be expected of it, and one on what no training can do."""
    examples = [example for example in _examples(dataset) if np.isfinite(example.losses).all()]
    verdicts = [_verdict(example, options.tolerance) for example in examples]
    below = max((float((example.domain - example.losses).max()) for example in examples), default=math.nan)
    law = "no loss is below the floor that the units of the domain set: what it falls below, over the loss at the start"
    measured = None if math.isnan(below) else below
    verdicts.append(Verdict(law, ROUNDING, measured, None, HOLDS if below <= ROUNDING else FAILS, relation="≤"))
    return Outcome(verdicts, Picture(title(dataset), [partial(_draw, examples=examples)]))


def _examples(dataset: xarray.Dataset) -> list[Example]:
    """The points, whatever they are varied by."""
    loss = dataset["characteristics.loss"]
    others = [str(name) for name in loss.dims if name != "time"]
    stacked = dataset.stack(point_=others)
    made = []
    for k in range(stacked.sizes["point_"]):
        point = stacked.isel(point_=k)
        losses = point["characteristics.loss"].values.astype(float)
        name = str(point["example"].values) if "example" in point.coords else f"point {k}"
        floors = [float(point[f"{where}.loss_floor"]) / losses[0] for where in ("domain", "support")]
        verdicts = [bool(point[f"{where}.verdict"] == 1) for where in ("domain", "support")]
        made.append(Example(name, dataset["time"].values, losses / losses[0], *floors, *verdicts))
    return made


def _verdict(example: Example, tolerance: float) -> Verdict:
    expected = REACHED if example.complete else GAP if example.representable else SHORT
    measured, predicted = float(example.losses[-1]), example.support
    note, holds = "", HOLDS if abs(measured - predicted) <= tolerance else FAILS
    if expected != REACHED and predicted < 2.0 * tolerance:
        note, holds = "the distance is too small for this tolerance: it cannot be told from reaching f*", FAILS
    if expected == SHORT and abs(example.domain - predicted) > tolerance:
        note, holds = "the units that are there span less than those of the domain", FAILS
    details: dict[str, Json] = {"example": example.name, "tolerance": tolerance, "time": float(example.times[-1])}
    return Verdict(f"{example.name}: {expected}", predicted, measured, None, holds, note, details)


def _draw(axes: Axes, examples: Sequence[Example]) -> None:
    """Losses over their first, and dashed where they are to end."""
    for k, example in enumerate(examples):
        colour, later = COLOURS[k % len(COLOURS)], example.times > 0.0
        axes.plot(example.times[later], example.losses[later], color=colour, label=example.name, linewidth=1.6)
        if not example.complete:
            axes.axhline(example.support, color=colour, linestyle="--", linewidth=1.0)
    axes.set_ylim(bottom=1e-5, top=1.5)
    finish(axes, "t", "loss / loss at the start (dashed: distance of f* to the span)")


ENDS = Measurement(EndOptions, ends)
