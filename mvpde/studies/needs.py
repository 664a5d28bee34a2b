"""What a limit law needs of a case: declared beside the law, and checked here before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mvpde.cases.problem import Problem
from mvpde.runtime import CaseError


@dataclass(frozen=True)
class Need:
    """One condition.

    Attributes:
        met: whether a problem fulfils it; the needs before it in a list are fulfilled.
        otherwise: what the user reads if not: "[section] key: what is wrong; the remedy", `{temperature}` is the model's.
    """

    met: Callable[[Problem], bool]
    otherwise: str


def check(problem: Problem, needs: Iterable[Need]) -> None:
    """Ask for the needs in their order.

    Raises:
        CaseError: with the words of the first that is not met.
    """
    unmet = next((need for need in needs if not need.met(problem)), None)
    if unmet is not None:
        said = unmet.otherwise.replace("{temperature}", f"{problem.model.temperature:g}")
        raise CaseError(f"{problem.case.path}: {said}")


def given[Content](section: Content | None) -> Content:
    """A section that the needs have asked for."""
    assert section is not None
    return section


# --- the needs of several laws --------------------------------------------------------------------------------------------------


def sections(*names: str, task: str | None = None) -> list[Need]:
    """Sections that must be in the case file."""
    remedy = "this task needs it; add it to the base case" if task is None else f'the task "{task}" needs it; add it'
    return [section(name, f"[{name}]: the section is missing, and {remedy}") for name in names]


def section(name: str, otherwise: str) -> Need:
    """A section that must be in the case file."""
    return Need(lambda problem: getattr(problem.sections, name) is not None, otherwise)


def runs(least: int, otherwise: str) -> Need:
    """Independent runs of the ensemble; [ensemble] is there."""
    return Need(lambda problem: given(problem.sections.ensemble).runs >= least, otherwise)


def runs_of_networks(least: int, otherwise: str) -> Need:
    """Independent runs of true networks; [network] is there."""
    return Need(lambda problem: getattr(problem.sections, "network").runs >= least, otherwise)  # noqa: B009  (of one kind)


def cold(otherwise: str) -> Need:
    """A gradient flow at temperature 0, at all times."""
    return Need(lambda problem: problem.model.gradient_flow and not hot(problem), otherwise)


def hot(problem: Problem) -> bool:
    """Whether there is noise at some time."""
    return problem.model.ever_hot


def flat(otherwise: str) -> Need:
    """Coordinates without a metric."""
    return Need(lambda problem: problem.model.metric is None, otherwise)


def with_data(otherwise: str) -> Need:
    """A network: a model with data to compare its predictions with."""
    return Need(lambda problem: problem.model.data is not None, otherwise)


def box(otherwise: str) -> Need:
    """A domain whose cells are counted in each direction."""
    return Need(lambda problem: problem.sections.domain is not None and problem.sections.domain.cells is not None, otherwise)


def kind(name: str, otherwise: str) -> Need:
    """A kind of model."""
    return Need(lambda problem: getattr(problem.sections.model, "kind", None) == name, otherwise)


def later_outputs(task: str) -> Need:
    """An output time after the start."""
    otherwise = f'[time] outputs: the task "{task}" compares laws at output times after 0; add some'
    return Need(lambda problem: problem.sections.time.outputs[-1] > 0.0, otherwise)


def where(condition: Callable[[Problem], bool], needs: Iterable[Need]) -> list[Need]:
    """Needs of those problems only that fulfil a condition."""
    return [Need(_either(condition, need.met), need.otherwise) for need in needs]


def _either(condition: Callable[[Problem], bool], met: Callable[[Problem], bool]) -> Callable[[Problem], bool]:
    return lambda problem: not condition(problem) or met(problem)
