"""The central limit theorem: the predicted law of √n(f_n − f_t) beside that of an ensemble.

At temperature 0, with Cov the limit covariance of `mvpde.particles.fluctuations` (Chen, Rotskoff, Bruna &
Vanden-Eijnden, arXiv:2008.09623),

    n E‖f_n − f_t‖²_{L²(μ)} = Σ_p w_p Cov_pp + O(1/n),     ξ_k = √n ⟨v_k, f_n − f_t⟩_{L²(μ)} / √λ_k → N(0, 1),

v_k, λ_k the principal directions and variances of Cov in L²(μ).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field
from scipy.special import ndtr  # scipy.stats takes a second to import

from mvpde.cases.file import Case
from mvpde.cases.measures import measures
from mvpde.cases.problem import problem
from mvpde.cases.schema import Count, Positive, Section
from mvpde.models.mean_field import Array
from mvpde.particles.fluctuations import Fluctuations, fluctuations
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.task import Task, summarised

LEVELS = np.linspace(0.025, 0.975, 39)  # of the quantiles that are kept and drawn


class CltOptions(Section):
    """[options] of the task "clt"."""

    projections: Count = Field(3, description="principal directions that are tested, a whole number ≥ 1", examples=[3])
    step: Positive = Field(0.5, description="time step of the predicted covariance, > 0", examples=[0.5])


def clt(case: Case, options: CltOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Prediction, and the statistics of an ensemble, at every output time. Collective.

    Raises:
        CaseError: τ > 0, a metric, no data, or a section that is missing.
    """
    setting = problem(case)
    _check(setting.case, setting.model)
    section: Any = setting.case.sections
    nodes, times = section.characteristics.nodes, section.time.outputs

    def predicted(share: int) -> Fluctuations:
        counts = [max(1, n // share) for n in nodes]
        return fluctuations(setting.model, setting.law, counts, times, step=options.step)

    limit, coarse = on_first_rank(comm, lambda: (predicted(1), predicted(2)))
    ensemble = measures(setting, ["ensemble"], comm)["ensemble"]
    rows = []
    for k, t in enumerate(times):
        ensemble.advance(t)
        deviations = math.sqrt(ensemble.particles) * setting.model.predictions(ensemble.moments() - limit.moments[k])
        rows.append(_statistics(setting.model, limit, k, deviations, options.projections))
    found = {
        "predicted": limit.predicted.tolist(),
        "discretisation": np.abs(limit.predicted - coarse.predicted).tolist(),
        "resampling_bound": limit.resampling_bound.tolist(),
        **{key: [row[key] for row in rows] for key in rows[0]},
    }
    return {"times": list(times), "clt": found}


def _check(case: Case, model: Any) -> None:
    sections: Any = case.sections
    if model.ever_hot or not model.gradient_flow:
        raise CaseError(f'{case.path}: [model] temperature: the task "clt" predicts at temperature 0 only; set it to 0')
    if model.metric is not None:
        raise CaseError(f'{case.path}: [model] unit: the task "clt" predicts in flat coordinates only; take a unit on no sphere')
    if model.data is None:
        raise CaseError(f'{case.path}: [model] kind: the task "clt" needs a network, a model with data')
    for name in ("ensemble", "characteristics"):
        if getattr(sections, name) is None:
            raise CaseError(f'{case.path}: [{name}]: the section is missing, and the task "clt" needs it; add it')
    if sections.ensemble.runs < 20:
        raise CaseError(f'{case.path}: [ensemble] runs: the task "clt" estimates a law from runs; give at least 20')


def _statistics(model: Any, limit: Fluctuations, k: int, deviations: Array, count: int) -> dict[str, Any]:
    """What is measured at output time k on √n(f_n − f_t), shape (runs, P)."""
    weights, runs = model.data.weights, len(deviations)
    squares = deviations**2 @ weights
    root = np.sqrt(weights)
    covariance = limit.covariance[k][: len(weights), : len(weights)] * np.outer(root, root)
    variances, directions = np.linalg.eigh(covariance)
    chosen = slice(len(weights) - 1, len(weights) - 1 - min(count, len(weights)), -1)
    xi = deviations * root @ directions[:, chosen] / np.sqrt(variances[chosen])
    centred = xi - xi.mean(axis=0)
    spread = centred.std(axis=0)
    return {
        "measured": float(squares.mean()),
        "standard_error": float(squares.std(ddof=1) / math.sqrt(runs)),
        "skewness": (np.mean(centred**3, axis=0) / spread**3).tolist(),
        "excess_kurtosis": (np.mean(centred**4, axis=0) / spread**4 - 3.0).tolist(),
        "kolmogorov": kolmogorov_distance(xi.ravel()),
        "projected": xi.size,
        "quantiles": np.quantile(xi, LEVELS).tolist(),
    }


def kolmogorov_distance(sample: Array) -> float:
    """sup_x |F_S(x) − Φ(x)| of a sample, shape (S,), to the standard normal law."""
    below, count = ndtr(np.sort(sample)), len(sample)
    grid = np.arange(count + 1) / count
    return float(max(np.max(grid[1:] - below), np.max(below - grid[:-1])))


CLT = Task(CltOptions, summarised(clt))
