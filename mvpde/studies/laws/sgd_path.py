"""Density and particles driven by the same minibatches: E[‖f_n − f_t‖² | minibatches]^½ ~ n^{-½}, path by path.

f_n are n particles in SGD steps of length Δt, f_t is the density in the potential of the same minibatches, each held for Δt.
Steps and flow differ by O(Δt), which infinitely many particles in SGD steps tell (Rotskoff & Vanden-Eijnden, arXiv:1805.00915).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.problem import problem
from mvpde.cases.schema import Count, Number, Positive, Section
from mvpde.runtime import MPI
from mvpde.studies.grouped import grouped
from mvpde.studies.laws.distances import errors
from mvpde.studies.slope import Measure, Measurement, Outcome, SlopeOptions, judged, series_at
from mvpde.studies.task import Task, summarised
from mvpde.studies.verdict import Array

if TYPE_CHECKING:
    import xarray

DENSITY, STEPS = "density_vs_characteristics", "stepped_vs_characteristics"


class PathOptions(Section):
    """[options] of the task "sgd_path"."""

    batch_size: Count = Field(16, description="P, the inputs in a minibatch, a whole number ≥ 1", examples=[16])
    interval: Positive = Field(0.1, description="Δt, an SGD step, > 0; output times are its multiples", examples=[0.1])
    sequence: Annotated[int, Field(ge=0)] = Field(0, description="seed of the minibatches, a whole number ≥ 0", examples=[1])
    particles: bool = Field(True, description="false: the limits alone, without density and particles", examples=[True])


def _path(case: Case, options: PathOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    from mvpde.studies.laws.common_noise import (
        CommonNoise,
        check_case,
        driven_characteristics,
        driven_density,
        sgd_ensemble,
        stepped_nodes,
    )

    finite = ("density", "domain", "ensemble") if options.particles else ()
    check_case(case, options.interval, "characteristics", *finite)
    setting = problem(case, comm)
    noise = CommonNoise(setting.model, interval=options.interval, size=options.batch_size, sequence=options.sequence)
    quiet = CommonNoise(setting.model, interval=options.interval)
    driven: dict[str, Any] = {
        "characteristics": driven_characteristics(setting, noise, comm),
        "stepped": stepped_nodes(setting, noise),
    }
    if options.particles:
        section: Any = case.sections.ensemble
        driven["density"] = driven_density(setting, noise, comm)
        driven["ensemble"] = sgd_ensemble(setting, noise, comm, runs=section.runs, seed=section.seed)
    flow = driven_characteristics(setting, quiet, comm)
    moments: dict[str, list[Array]] = {name: [] for name in (*driven, "flow")}
    for t in case.sections.time.outputs:
        noise.advance(list(driven.values()), t)
        quiet.advance([flow], t)
        for name, measure in {**driven, "flow": flow}.items():
            moments[name].append(measure.moments())
    pairs = {DENSITY: ("density", "characteristics"), STEPS: ("stepped", "characteristics")}
    pairs |= {"ensemble_vs_density": ("ensemble", "density"), "sgd_vs_gradient_flow": ("characteristics", "flow")}
    return {
        "times": case.sections.time.outputs,
        "comparison": {
            name: errors(setting.model, list(zip(moments[a], moments[b], strict=True)))
            for name, (a, b) in pairs.items()
            if a in moments and b in moments
        },
        "loss": {name: [float(np.mean(setting.model.outer_energy(m))) for m in found] for name, found in moments.items()},
    }


SGD_PATH = Task(PathOptions, summarised(_path))


# --- the law --------------------------------------------------------------------------------------------------------------------


class PathMeasure(Measurement):
    """‖f_n − f_t‖ ~ n^{-½} for each sequence of minibatches."""

    name: str = Field("path", description="name of its figure, <name>.png", examples=["path"])
    x: str = Field("ensemble.particles", description="the varied key that the law is about", examples=["ensemble.particles"])
    each: str = Field("options.sequence", description="the varied key that tells the paths apart", examples=["options.sequence"])
    times: list[Number] | None = Field(None, description="output times that are fitted; absent: all", examples=[[2.0, 4.0]])
    predicted: Number = Field(-0.5, description="the slope that the law predicts", examples=[-0.5])
    tolerance: Positive = Field(0.1, description="how far the measured slope may differ, > 0", examples=[0.1])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def _law(options: PathMeasure, sequence: Any) -> SlopeOptions:
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


def _path_law(dataset: xarray.Dataset, options: PathMeasure) -> Outcome:
    from mvpde.studies.figures import lines_figure

    times = options.times or [float(t) for t in dataset.get("time", ()) if t > 0]
    failed = int((dataset["status"] == "failed").sum())
    verdicts, drawn = [], []
    for sequence, part in grouped(dataset, options.each):
        fit = _law(options, sequence)
        found = [series_at(part, fit, t) for t in times]
        verdicts += [judged(one, fit, failed) for one in found]
        drawn += [(f"sequence {sequence}", one) for one in found[-1:] if one.line is not None]
    figure = lines_figure(
        drawn,
        title=f"{dataset.attrs.get('title', '')}" + "".join(f"\nat t = {t:g}" for t in times[-1:]),
        predicted=[options.predicted],
        level=options.level,
        xlabel="number of particles n",
        ylabel="‖f_n − f_t‖ / ‖target‖",
        floors={"discretisation": "discretisation error of the density", "bias": "SGD steps against the minibatches' flow"},
    )
    return Outcome(verdicts, figure)


PATH = Measure(PathMeasure, _path_law)
