"""[labels]: how many quadrature nodes stand for the law of each coordinate that never moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from mvpde.cases.messages import listed, nearest
from mvpde.cases.schema import CaseSections
from mvpde.cases.values import Count
from mvpde.models.laws import Law, marginals, restricted
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import CaseError

MOST_LABELS = 100_000  # more take hours, and mean that there are many frozen numbers

# The section of kinds of models with `frozen` coordinates, as `Kind.fields` has it.
SECTION: tuple[object, object] = (
    Annotated[
        dict[str, Count] | None,
        Field(
            description="nodes of the law of each frozen coordinate, whole numbers ≥ 1; a density has one mesh for each of them",
            examples=[{"omega": 24}],
        ),
    ],
    None,
)


def check_labels(sections: CaseSections, model: MeanField, law: Law) -> None:
    """Refuse [labels] of other coordinates than the frozen ones, a density without them, and more than a law has nodes for.

    Raises:
        CaseError: with the remedy.
    """
    section: object = getattr(sections, "labels", None)
    if section is not None and not isinstance(section, dict):
        return  # another kind's, which checks its own
    given: dict[str, int] | None = section
    still = model.coordinates[len(model.directions) :]
    for name in given or {}:
        if name not in still:
            helps = f"those are {listed(still)}" if still else "the model has none: name it in [model] frozen, or remove this"
            raise CaseError(f"[labels] {name}: is no frozen coordinate{nearest(name, still) or ';'} {helps}")
    missing = [name for name in still if name not in (given or {})]
    if missing and (sections.density is not None or _short(sections, model)):
        raise CaseError(
            f"[labels] {missing[0]}: is missing; add [labels] with {missing[0]} = 24, the number of quadrature nodes of its law"
        )
    if math.prod((given or {}).values()) > MOST_LABELS:
        raise CaseError(f"[labels]: {math.prod((given or {}).values())} labels in all take hours; give fewer")
    if sections.density is not None and still:
        try:
            factors = marginals(restricted(law, len(model.directions), model.dimension)) or ()
        except ValueError as error:
            raise CaseError(f"[initial]: {error}") from None
        for name, factor in zip(still, factors, strict=True):
            check_positive(name, (given or {})[name], factor.quadrature)


def check_positive(name: str, count: int, rule: Callable[[int], tuple[Array, Array]]) -> None:
    """Refuse so many nodes of a law that some have no mass: far out, weights of Gaussian rules are 0 to rounding.

    Args:
        name: of the label.
        count: how many nodes there are to be.
        rule: number → nodes and weights.

    Raises:
        CaseError: with a number that serves.
    """
    fewer = count
    while fewer > 1 and not rule(fewer)[1].min() > 0.0:
        fewer //= 2
    if fewer < count:
        raise CaseError(f"[labels] {name}: {count} nodes reach where the law has no mass to rounding; give {fewer}, or fewer")


def label_nodes(sections: CaseSections, model: MeanField) -> list[int]:
    """The number of nodes of each frozen coordinate, in order, after `check_labels`."""
    given: dict[str, int] = getattr(sections, "labels", None) or {}
    return [given[name] for name in model.coordinates[len(model.directions) :]]


def characteristic_nodes(sections: CaseSections, model: MeanField) -> Sequence[int]:
    """Nodes of all coordinates: those of [characteristics], and of [labels] where these are of the moving coordinates alone."""
    assert sections.characteristics is not None
    nodes = sections.characteristics.nodes
    return [*nodes, *label_nodes(sections, model)] if _short(sections, model) else nodes


def _short(sections: CaseSections, model: MeanField) -> bool:
    """Whether [characteristics] gives numbers for the moving coordinates alone."""
    section = sections.characteristics
    return section is not None and model.frozen > 0 and len(section.nodes) == len(model.directions)
