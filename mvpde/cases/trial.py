"""What a run would refuse only when its measures are built, found from the case alone: `mvpde check` loads no solver."""

from __future__ import annotations

import math
from collections.abc import Collection

from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import about, blaming, in_file
from mvpde.cases.problem import Problem
from mvpde.particles.accuracy.slope import SAMPLE, require_stable, slope
from mvpde.particles.blocks import BLOCK, stream
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.runtime import CaseError

_RATE = 1e-5  # a learning rate that networks of one pass bear


def tried(problem: Problem, names: Collection[str]) -> None:
    """Refuse what ensembles and characteristics would.

    Args:
        problem: the case.
        names: the measures that it computes.

    Raises:
        CaseError: as they do.
    """
    with in_file(problem.case.path):
        if "characteristics" in names and "characteristics" not in KINDS[problem.sections.model.kind].measures:
            with blaming("[characteristics]"):
                problem.law.quadrature([1] * problem.law.dimension)
        if "ensemble" in names and "ensemble" not in KINDS[problem.sections.model.kind].measures:
            _try_ensemble(problem)


def _try_ensemble(problem: Problem) -> None:
    s, sections = problem.sections.ensemble, problem.sections
    assert s is not None
    if KINDS[sections.model.kind].network is not None:
        if isinstance(s.step, str):
            raise CaseError(
                f'[ensemble] step: is "auto", but it is the learning rate of these networks; give a number, such as {_RATE:g}'
            )
        return
    if isinstance(s.step, str):
        return
    model = problem.model.now(0.0)
    z = problem.law.sample(stream(s.seed, 0, 0), min(s.particles, BLOCK))
    first = next((t for t in sections.time.outputs if t > 0.0), math.inf)
    with about("[ensemble] step:"):
        found = slope(model, z[:SAMPLE], model.feature_sum(z) / len(z))
        require_stable(min(s.step, first), found, PARTICLE_SCHEMES[s.scheme].order)
