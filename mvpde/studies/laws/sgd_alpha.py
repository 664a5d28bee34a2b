"""What SGD adds: with minibatches of P = n^{2α} inputs, ‖f_n^SGD − f_n^GD‖ ~ n^{-α} at a fixed time, from the same start.

Steps of Δt with minibatches of P inputs make noise of strength θ = Δt/P = Δt n^{-2α} (Rotskoff & Vanden-Eijnden,
arXiv:1805.00915, §3). Beside it is the error of n particles in gradient descent, ~ n^{-½}; the two add in squares, so batches
that grow faster than n bring no gain until that error has healed. Growing P late in training quenches the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Number, Positive, Section
from mvpde.runtime import MPI, CaseError
from mvpde.studies.laws.distances import root_mean, squared_errors
from mvpde.studies.task import Task, summarised
from mvpde.studies.verdict import Array

if TYPE_CHECKING:
    from mvpde.studies.laws.common_noise import CommonNoise

Alpha = Annotated[Number, Field(gt=0, le=2)]


class AlphaOptions(Section):
    """[options] of the task "sgd_alpha"."""

    alpha: Alpha = Field(0.5, description="α of P = n^(2α), in (0, 2]", examples=[0.5])
    interval: Positive = Field(0.1, description="Δt, the length of a step, > 0; output times are its multiples", examples=[0.5])
    quench_time: Positive | None = Field(None, description="time from which P = n^(2 quench_alpha), > 0", examples=[8.0])
    quench_alpha: Alpha = Field(1.0, description="α from quench_time on, in (0, 2]", examples=[1.0])


def batch_size(particles: int, options: AlphaOptions, t: float) -> float:
    """P at time t."""
    late = options.quench_time is not None and t >= options.quench_time * (1.0 - 1e-12)
    return float(particles) ** (2.0 * (options.quench_alpha if late else options.alpha))


def _alpha(case: Case, options: AlphaOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    from mvpde.studies.laws.common_noise import CommonNoise, check_case, driven_characteristics, stepped_nodes

    check_case(case, options.interval, "ensemble", "characteristics")
    if case.sections.ensemble is not None and case.sections.ensemble.runs < 2:
        raise CaseError(f"{case.path}: [ensemble] runs: what SGD adds is a mean over runs; take at least 2")
    setting = problem(case, comm)
    times, model = case.sections.time.outputs, setting.model
    quiet = CommonNoise(model, interval=options.interval)
    measures = [stepped_nodes(setting, quiet), stepped_nodes(setting, quiet, 2), driven_characteristics(setting, quiet, comm)]
    limit, coarse, flow = _carried(quiet, measures, times)
    seeds = np.random.SeedSequence(case.sections.ensemble.seed).generate_state(case.sections.ensemble.runs)  # type: ignore[union-attr]
    squares = np.array([_run(setting, options, quiet, int(seed), limit, comm) for seed in seeds])
    return {"times": times, **_summary(squares), **_constants(model, limit, coarse, flow)} | {
        "batch_size": [batch_size(case.sections.ensemble.particles, options, t) for t in times]  # type: ignore[union-attr]
    }


def _carried(noise: CommonNoise, measures: list[Any], times: list[float]) -> list[list[Array]]:
    """Moments of each measure at each time. Collective."""
    found: list[list[Array]] = [[] for _ in measures]
    for t in times:
        noise.advance(measures, t)
        for moments, measure in zip(found, measures, strict=True):
            moments.append(measure.moments())
    return found


def _run(
    setting: Problem, options: AlphaOptions, quiet: CommonNoise, seed: int, limit: list[Array], comm: MPI.Intracomm
) -> Array:
    """Squares of what SGD adds, of its error and of gradient descent's, shape (3, times), for one start and one sequence."""
    from mvpde.studies.laws.common_noise import CommonNoise, sgd_ensemble

    section: Any = setting.case.sections.ensemble
    times, model = setting.case.sections.time.outputs, setting.model

    def size(t: float) -> float:
        return batch_size(section.particles, options, t)

    noise = CommonNoise(model, interval=options.interval, size=size, sequence=seed)
    (sgd,) = _carried(noise, [sgd_ensemble(setting, noise, comm, runs=1, seed=seed)], times)
    (descent,) = _carried(quiet, [sgd_ensemble(setting, quiet, comm, runs=1, seed=seed)], times)
    pairs = ((sgd, descent), (sgd, limit), (descent, limit))
    return np.array([[squared_errors(model, x, y)[0] for x, y in zip(a, b, strict=True)] for a, b in pairs])


def _summary(squares: Array) -> dict[str, Any]:
    """Roots of mean squares over runs, and how far the squares are from adding up."""
    found: dict[str, Any] = {}
    for name, values in zip(("added", "total", "finite_n"), squares.transpose(1, 2, 0), strict=True):
        roots = [root_mean(one) for one in values]
        found[name] = {"prediction_error": [root for root, _ in roots], "standard_error": [error for _, error in roots]}
    added, total, finite = squares.transpose(1, 2, 0)
    parts = (added + finite).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # all zero at t = 0 where nothing has been added
        ratio = total.mean(axis=1) / parts
        error = (total - added - finite).std(axis=1, ddof=1) / np.sqrt(squares.shape[0]) / parts
    return found | {"sum_of_squares": {"ratio": ratio.tolist(), "standard_error": error.tolist()}}


def _constants(model: Any, limit: list[Array], coarse: list[Array], flow: list[Array]) -> dict[str, list[float]]:
    """Errors of what the particles are held against: of its quadrature, and of its steps against the gradient flow."""
    return {
        name: [root_mean(squared_errors(model, a, b))[0] for a, b in zip(limit, other, strict=True)]
        for name, other in (("quadrature_error", coarse), ("step_difference", flow))
    }


SGD_ALPHA = Task(AlphaOptions, summarised(_alpha))
