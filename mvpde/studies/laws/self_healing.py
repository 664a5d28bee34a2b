"""Self-healing: ‖f_n(t) − f_t‖ ~ A(t) n^{-½} with A(t) falling, and ‖f_n(a_n) − f*‖ along times a_n that grow with n.

Where a_n / log n → ∞, n^ξ (f_n(a_n) − f*) → 0 for every ξ < 1 (Rotskoff & Vanden-Eijnden, arXiv:1805.00915): an exponent of 1
or more, provided that the bias ‖f_{a_n} − f*‖ of the limit itself is negligible. Nothing in n makes it so: it is measured, and
where it reaches a third of the error the verdict is "bias dominates".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mvpde.cases.file import Case
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Section
from mvpde.runtime import MPI, CaseError
from mvpde.studies.laws.distances import root_mean, squared_errors
from mvpde.studies.task import Task, summarised
from mvpde.studies.verdict import Array

if TYPE_CHECKING:
    from mvpde.particles.ensemble import Ensemble

SHARE = 16  # one in so many runs is repeated with half the time step, two at least


class HealingOptions(Section):
    """[options] of the task "self_healing": none. a_n is time.end."""


def _healing(case: Case, _: HealingOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    from mvpde.particles.characteristics import Characteristics

    sections: Any = case.sections
    for name in ("ensemble", "characteristics"):
        if getattr(sections, name) is None:
            raise CaseError(f"{case.path}: [{name}]: the section is missing, and this task needs it; add it to the base case")
    if sections.ensemble.runs < 2:
        raise CaseError(f"{case.path}: [ensemble] runs: the error is a mean over runs; take at least 2")
    setting = problem(case, comm)
    if setting.model.data is None:
        raise CaseError(
            f"{case.path}: [model] kind: the limit is compared with the target of a data set, and this model has none"
        )
    if setting.model.temperature > 0.0:
        raise CaseError(
            f"{case.path}: [model] temperature: the limit is carried by characteristics, at temperature 0; set it to 0"
        )
    times = [t for t in sections.time.outputs if t < sections.time.end] + [sections.time.end]
    nodes, tolerance = sections.characteristics.nodes, sections.characteristics.tolerance
    ensemble, repeated = sections.ensemble, max(2, sections.ensemble.runs // SHARE)
    measures: dict[str, Any] = {
        "ensemble": _particles(setting, comm, ensemble.runs, 1.0),
        "steps": _particles(setting, comm, repeated, 1.0),
        "half_steps": _particles(setting, comm, repeated, 0.5),
        "limit": Characteristics(setting.model, setting.law, nodes=nodes, tolerance=tolerance, comm=comm),
        "coarse": Characteristics(
            setting.model, setting.law, nodes=[max(1, count // 2) for count in nodes], tolerance=tolerance, comm=comm
        ),
    }
    found: list[dict[str, float]] = []
    for t in times:
        for measure in measures.values():
            measure.advance(t)
        found.append(_numbers(setting, {name: measure.moments() for name, measure in measures.items()}))
    # The last entry is a_n's, which differs from point to point: numbers of their own, not lists over common times.
    lists = {key: [one[key] for one in found[:-1]] for key in found[0]}
    return {"times": times[:-1], **lists, "final": {"time": times[-1], **found[-1]}}


def _particles(setting: Problem, comm: MPI.Intracomm, runs: int, share: float) -> Ensemble:
    """The case's particles with a share of its time step; runs of the same number have the same start. Collective."""
    from mvpde.particles.ensemble import Ensemble

    s: Any = setting.case.sections.ensemble
    keys = {"particles": s.particles, "runs": runs, "seed": s.seed, "step": share * s.step, "scheme": s.scheme}
    return Ensemble(setting.model, setting.law, **keys, comm=comm)


def _numbers(setting: Problem, moments: Mapping[str, Array]) -> dict[str, float]:
    """Errors relative to ‖target‖, root mean squares over runs, at one time."""
    model = setting.model
    assert model.data is not None
    target = np.zeros_like(moments["limit"])
    target[0, : len(model.data.target)] = model.data.target  # only predictions of the moments are compared
    limit = moments["limit"]
    fluctuation = root_mean(squared_errors(model, moments["ensemble"], limit))
    error = root_mean(squared_errors(model, moments["ensemble"], target))
    quadrature = root_mean(squared_errors(model, moments["coarse"], limit))[0]
    step = root_mean(squared_errors(model, moments["steps"], moments["half_steps"]))[0]
    return {
        "fluctuation": fluctuation[0],
        "fluctuation_standard_error": fluctuation[1],
        "error": error[0],
        "error_standard_error": error[1],
        "bias": root_mean(squared_errors(model, limit, target))[0],
        "quadrature_error": quadrature,
        "step_error": step,
        "discretisation": float(np.hypot(quadrature, step)),
    }


SELF_HEALING = Task(HealingOptions, summarised(_healing))
