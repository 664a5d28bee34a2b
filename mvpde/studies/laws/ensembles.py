"""The particles of a case, with some of its keys changed."""

from __future__ import annotations

from collections.abc import Callable

from mvpde.cases.problem import Problem
from mvpde.cases.schema import EnsembleSection
from mvpde.models.laws import Sampler
from mvpde.models.mean_field import Array
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, CaseError
from mvpde.studies.needs import given


def step_of(problem: Problem) -> float:
    """The number in [ensemble] step.

    Raises:
        CaseError: where the case leaves it to the run.
    """
    step = given(problem.sections.ensemble).step
    if isinstance(step, str):
        raise CaseError(
            f'{problem.case.path}: [ensemble] step: "auto" is chosen on the way, and this task needs one; give a number'
        )
    return step


def ensemble_of(
    problem: Problem,
    comm: MPI.Intracomm,
    *,
    law: Sampler | None = None,
    driven_by: Callable[[float], Array] | None = None,
    **changes: float | int | str,
) -> Ensemble:
    """Particles of the case's model; runs of the same number have the same start, whatever else is changed. Collective.

    Args:
        problem: with [ensemble].
        comm: communicator.
        law: of the start; by default the case's.
        driven_by: t → m_t that drives them instead of their own moments.
        changes: keys of [ensemble] with other values.
    """
    keys = {**given(problem.sections.ensemble).model_dump(include=set(EnsembleSection.model_fields))}
    keys |= {"companion": False, **changes}
    return Ensemble(problem.model, law or problem.law, driven_by=driven_by, comm=comm, **keys)
