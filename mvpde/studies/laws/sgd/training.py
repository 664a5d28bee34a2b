"""What the laws of small networks' training need of a case."""

from __future__ import annotations

import math

from mvpde.cases.problem import Problem
from mvpde.models.sgd_network import SgdNetwork
from mvpde.runtime import CaseError
from mvpde.studies.needs import Need, given, kind, later_outputs, sections

_BESIDE = 1e-9  # relative, of a time to a multiple of η


def needs_of_training(task: str) -> list[Need]:
    """The kind of model, its density, and runs of SGD itself."""
    return [
        kind("sgd_network", f'[model] kind: the task "{task}" needs kind = "sgd_network"'),
        *sections("density", "sgd", task=task),
        Need(
            lambda problem: given(problem.sections.sgd).dynamics == "sgd",
            f'[sgd] dynamics: the task "{task}" needs runs of SGD itself; remove the key',
        ),
    ]


def needs_of_comparison(task: str) -> list[Need]:
    """Those, with batches that can be multiplied, and laws at some time after the start."""
    return [
        *needs_of_training(task),
        Need(
            lambda problem: getattr(problem.sections.model, "replacement", False),
            f'[model] replacement: the task "{task}" multiplies B, and g with it; write true',
        ),
        later_outputs(task),
    ]


def later_times(problem: Problem) -> list[float]:
    """The output times after the start."""
    return [t for t in problem.sections.time.outputs if t > 0.0]


def whole_steps(problem: Problem, train: SgdNetwork, time: float, what: str = "[time] end") -> int:
    """time/η.

    Raises:
        CaseError: if that is no whole number.
    """
    steps = time / train.learning_rate
    if not math.isclose(steps, round(steps), rel_tol=_BESIDE, abs_tol=_BESIDE):
        said = f"{time:g} is no multiple of the step η = {train.learning_rate:g}; choose one"
        raise CaseError(f"{problem.case.path}: {what}: {said}")
    return round(steps)
