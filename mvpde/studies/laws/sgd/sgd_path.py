"""Density and particles driven by the same minibatches: E[‖f_n − f_t‖² | minibatches]^½ ~ n^{-½}, path by path.

f_n are n particles in SGD steps of length Δt, f_t is the density in the potential of the same minibatches, each held for Δt.
Steps and flow differ by O(Δt), which infinitely many particles in SGD steps tell (Rotskoff & Vanden-Eijnden, arXiv:1805.00915).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Number, Positive, Section
from mvpde.models.mean_field import MeanField
from mvpde.particles.common_noise import CommonNoise
from mvpde.runs.compare import root_mean, squared_errors
from mvpde.runtime import MPI
from mvpde.studies.figures import fits
from mvpde.studies.laws.sgd.driven import MINIBATCHES, Moved, carried, check_times, driven, sgd_ensemble, stepped_nodes
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import check, given, sections
from mvpde.studies.quantities import Key, failures, grouped
from mvpde.studies.slope import SlopeOptions, judged, series_at
from mvpde.studies.task import task_of
from mvpde.studies.verdict import Array

if TYPE_CHECKING:
    import xarray

DENSITY, STEPS = "density_vs_characteristics", "stepped_vs_characteristics"
PAIRS = {
    DENSITY: ("density", "characteristics"),
    STEPS: ("stepped", "characteristics"),
    "ensemble_vs_density": ("ensemble", "density"),
    "sgd_vs_gradient_flow": ("characteristics", "flow"),
}

NEEDS = [*sections("characteristics"), *MINIBATCHES]


class PathOptions(Section):
    """[options] of the task "sgd_path"."""

    batch_size: Count = Field(16, description="P, the inputs in a minibatch, a whole number ≥ 1", examples=[16])
    interval: Positive = Field(0.1, description="Δt, an SGD step, > 0; output times are its multiples", examples=[0.1])
    sequence: Annotated[int, Field(ge=0)] = Field(0, description="seed of the minibatches, a whole number ≥ 0", examples=[1])
    particles: bool = Field(True, description="false: the limits alone, without density and particles", examples=[True])


@dataclass(frozen=True)
class Errors:
    """Relative distance of two measures' predictions over the output times, and its standard error over runs."""

    prediction_error: list[float]
    standard_error: list[float]


@dataclass(frozen=True)
class PathResult:
    """The summary of a point: pairs of measures by name, and the loss of each."""

    times: list[float]
    comparison: dict[str, Errors]
    loss: dict[str, list[float]]


def path(problem: Problem, options: PathOptions, comm: MPI.Intracomm) -> PathResult:
    """All measures along one sequence of minibatches, the characteristics also in the gradient flow. Collective.

    Raises:
        CaseError: without a section that particles need, or for output times between two steps.
    """
    check(problem, sections("density", "domain", "ensemble") if options.particles else ())
    check_times(problem, options.interval)
    times = problem.sections.time.outputs
    noise = CommonNoise(problem.model, interval=options.interval, size=options.batch_size, sequence=options.sequence)
    quiet = CommonNoise(problem.model, interval=options.interval)
    measures: dict[str, Moved] = {
        "characteristics": driven("characteristics", problem, noise, comm),
        "stepped": stepped_nodes(problem, noise),
    }
    if options.particles:
        section = given(problem.sections.ensemble)
        measures["density"] = driven("density", problem, noise, comm)
        measures["ensemble"] = sgd_ensemble(problem, noise, comm, runs=section.runs, seed=section.seed)
    moments = dict(zip(measures, carried(noise, list(measures.values()), times), strict=True))
    (moments["flow"],) = carried(quiet, [driven("characteristics", problem, quiet, comm)], times)
    compared = {name: errors(problem.model, moments[a], moments[b]) for name, (a, b) in PAIRS.items() if {a, b} <= set(moments)}
    loss = {name: [float(np.mean(problem.model.outer_energy(m))) for m in rows] for name, rows in moments.items()}
    return PathResult(list(times), compared, loss)


def errors(model: MeanField, a: Sequence[Array], b: Sequence[Array]) -> Errors:
    """From the moments of two measures at each output time."""
    pairs = [root_mean(squared_errors(model, x, y)) for x, y in zip(a, b, strict=True)]
    return Errors([root for root, _ in pairs], [error for _, error in pairs])


SGD_PATH = task_of(PathOptions, path, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class PathLawOptions(MeasurementOptions):
    """‖f_n − f_t‖ ~ n^{-½} for each sequence of minibatches."""

    name: str = Field("path", description="name of its figure, <name>.png", examples=["path"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("options.sequence", description="the varied key that tells the paths apart", examples=["options.sequence"])
    times: list[Number] | None = Field(None, description="output times that are fitted; absent: all", examples=[[2.0, 4.0]])
    predicted: Number = Field(-0.5, description="the slope that the law predicts", examples=[-0.5])
    tolerance: Positive = Field(0.1, description="how far the measured slope may differ, > 0", examples=[0.1])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def _law(options: PathLawOptions, sequence: Key) -> SlopeOptions:
    return SlopeOptions(
        kind="slope",
        name=options.name,
        law=f"‖f_n − f_t‖ ~ n^-1/2, given minibatch sequence {sequence}",
        x=options.x,
        y="comparison.ensemble_vs_density.prediction_error",
        standard_error="comparison.ensemble_vs_density.standard_error",
        discretisation=f"comparison.{DENSITY}.prediction_error",
        bias=f"comparison.{STEPS}.prediction_error",
        predicted=options.predicted,
        tolerance=options.tolerance,
        level=options.level,
    )


def path_law(dataset: xarray.Dataset, options: PathLawOptions) -> Outcome:
    """A slope for each sequence and time."""
    times = options.times or [float(t) for t in dataset.get("time", ()) if t > 0]
    verdicts, drawn = [], []
    for sequence, part in grouped(dataset, options.each):
        law = _law(options, sequence)
        series = [series_at(part, law, t) for t in times]
        verdicts += [judged(fit, law, failures(dataset)) for fit in series]
        drawn += [(f"sequence {sequence}", fit) for fit in series[-1:]]
    panel = fits(
        drawn,
        predicted=options.predicted,
        level=options.level,
        xlabel="number of particles n",
        ylabel="‖f_n − f_t‖ / ‖target‖",
        floors={"discretisation": "discretisation error of the density", "bias": "SGD steps against the minibatches' flow"},
    )
    return Outcome(verdicts, Picture(title(dataset) + "".join(f"\nat t = {t:g}" for t in times[-1:]), [panel]))


PATH = Measurement(PathLawOptions, path_law)
