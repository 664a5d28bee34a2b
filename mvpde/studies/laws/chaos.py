"""Propagation of chaos: particles beside copies that the limit law drives, from the same start with the same noise.

    dZ̄_i = −∇V(Z̄_i; m_t) dt + √(2τ) dB_i,     m_t = ∫ g dρ_t,     E|Z_i − Z̄_i| ≤ C_t (ε + n^{-½}),
    Σ_k w_k Cov(g_k(Z_1), g_k(Z_2)) = O(1/n),

ε the step of the particles' dynamics (Araújo, Oliveira & Yukimura, arXiv:1906.00193; Mei, Montanari & Nguyen, arXiv:1804.06561).
m_t comes from characteristics at τ = 0, from the density at τ > 0, interpolated in time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field
from scipy.interpolate import CubicSpline

from mvpde.cases.file import Case
from mvpde.cases.measures import measures
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, CaseError
from mvpde.studies.task import Task, summarised


class ChaosOptions(Section):
    """[options] of the task "chaos"."""

    euler_steps: list[Positive] = Field(
        [], description="steps of Euler's method that are compared with ensemble.step, temperature 0 only", examples=[[0.1, 0.2]]
    )


# --- the limit that drives the copies -------------------------------------------------------------------------------------------


def limit_moments(setting: Problem, comm: MPI.Intracomm, share: int = 1) -> Callable[[float], Array]:
    """t → m_t, shape (K,), on [0, last output time], interpolated by cubics between times ensemble.step apart. Collective.

    Args:
        setting: a case with [characteristics], or [density] where τ > 0.
        comm: communicator.
        share: the cells or nodes in each direction are divided by it.

    Raises:
        CaseError: if the section is missing.
    """
    name, setting = _coarsened(setting, share)
    step, end = setting.case.sections.ensemble.step, setting.case.sections.time.outputs[-1]  # type: ignore[union-attr]
    measure = measures(setting, [name], comm)[name]
    times = np.linspace(0.0, end, max(4, math.ceil(end / step)) + 1)
    rows = []
    for t in times:
        measure.advance(float(t))
        rows.append(measure.moments()[0])
    spline = CubicSpline(times, np.array(rows))
    return lambda t: np.asarray(spline(t))


def _coarsened(setting: Problem, share: int) -> tuple[str, Problem]:
    sections: Any = setting.case.sections
    name, place, key = _SOURCES[setting.model.temperature > 0.0]
    for needed in (name, place, "ensemble"):
        if getattr(sections, needed) is None:
            raise CaseError(f'{setting.case.path}: [{needed}]: the section is missing, and the task "chaos" needs it; add it')
    section = getattr(sections, place)
    if getattr(section, key) is None:
        raise CaseError(f'{setting.case.path}: [{place}] {key}: the task "chaos" needs a box, whose cells it can halve')
    coarse = section.model_copy(update={key: [max(3, count // share) for count in getattr(section, key)]})
    return name, replace(setting, case=replace(setting.case, sections=sections.model_copy(update={place: coarse})))


# τ > 0 → the measure, and where the number of its unknowns stands
_SOURCES = {False: ("characteristics", "characteristics", "nodes"), True: ("density", "domain", "cells")}


# --- the task -------------------------------------------------------------------------------------------------------------------


def chaos(case: Case, options: ChaosOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Distances to the copies and covariances of pairs at every output time. Collective.

    Raises:
        CaseError: for a section that is missing, or Euler steps at τ > 0, where the noise of other steps is another noise.
    """
    setting = problem(case)
    _check_steps(setting, options.euler_steps)
    limit, coarse = limit_moments(setting, comm), limit_moments(setting, comm, 2)
    section: Any = setting.case.sections.ensemble
    build = {"seed": section.seed, "particles": section.particles, "runs": section.runs}

    def ensemble(driven_by: Callable[[float], Array] | None = None, step: float = section.step, scheme: str = "heun") -> Any:
        from mvpde.particles.ensemble import Ensemble

        return Ensemble(setting.model, setting.law, step=step, scheme=scheme, driven_by=driven_by, comm=comm, **build)

    particles, copies, shadows = ensemble(), ensemble(limit), ensemble(coarse)
    rough = [ensemble(step=step, scheme="euler") for step in options.euler_steps]
    rows = []
    for t in setting.case.sections.time.outputs:
        for one in (particles, copies, shadows, *rough):
            one.advance(t)
        row = _with_error("coupling", particles.distance(copies))
        row |= {"discretisation": float(copies.distance(shadows).mean())}
        row |= _with_error("pair_covariance", pair_covariances(setting.model, particles))
        row["pair_covariance_size"] = abs(row["pair_covariance"])
        parts = [_with_error("step_part", one.distance(particles)) for one in rough]
        row |= {key: [part[key] for part in parts] for key in ("step_part", "step_part_standard_error")}
        row |= {"with_step": [float(one.distance(copies).mean()) for one in rough]}
        rows.append(row)
    lists = {key: [row[key] for row in rows] for key in rows[0] if rows[0][key] != []}
    return {"times": list(setting.case.sections.time.outputs), "chaos": lists | {"euler_steps": options.euler_steps}}


def _check_steps(setting: Problem, steps: Sequence[float]) -> None:
    """Steps are compared that are really taken, of particles with the same noise."""
    path, times = setting.case.path, setting.case.sections.time.outputs
    if steps and setting.model.temperature > 0.0:
        raise CaseError(
            f"{path}: options.euler_steps: only at temperature 0 is the noise of different steps the same; leave it out"
        )
    for step in steps:
        counts = np.diff([0.0, *times]) / step
        if not np.allclose(counts, np.round(counts), atol=1e-9):
            raise CaseError(
                f"{path}: options.euler_steps: {step:g} does not divide the intervals between time.outputs; change it"
            )


def _with_error(name: str, values: Array) -> dict[str, Any]:
    """Mean over runs and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {name: float(values.mean()), f"{name}_standard_error": float(error)}


def pair_covariances(model: MeanField, ensemble: Any) -> Array:
    """Σ_k w_k Cov(g_k(Z_1), g_k(Z_2)) as one number for each run, shape (runs,), whose mean is unbiased. Collective.

    With m the mean of g over the n particles of a run and s² the sample variance of g within it,
    n Var m = s² + (n − 1)Cov. w_k are the weights of the data points, zero for features that belong to none; without data
    they are 1.
    """
    m = ensemble.moments()
    runs, n = len(m), ensemble.particles
    if runs < 2:
        return np.full(runs, math.nan)
    weights = np.ones(m.shape[1])
    if model.data is not None:
        weights[:] = 0.0
        weights[: len(model.data.weights)] = model.data.weights

    def squares(z: Array) -> Array:
        return model.amplitude(z) ** 2 * (model.profile(z[:, : model.profile_dimension]) ** 2 @ weights)

    within = n / (n - 1) * (ensemble.expectation(squares) - m**2 @ weights)
    between = runs / (runs - 1) * ((m - m.mean(axis=0)) ** 2 @ weights)
    return np.asarray((n * between - within) / (n - 1))


CHAOS = Task(ChaosOptions, summarised(chaos))
