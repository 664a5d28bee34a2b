"""`[domain.walls]`: what a case says of the walls of its box, and what follows where it says nothing.

A wall is what the section says. Where it says nothing of a coordinate, a wall is natural if the coefficients make it an end of
the space, reflecting if the initial law ends on it, and else open: the box ends there, the space does not.
"""

from __future__ import annotations

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import listed, nearest
from mvpde.cases.schema import CaseSections, DomainSection
from mvpde.models.laws import Law, Product
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.walls.box import ABSORBING, OPEN, REFLECTING, BoxWalls, with_walls
from mvpde.models.walls.natural import classified
from mvpde.runtime import CaseError

_SAMPLE = 256  # points of the initial law whose moments stand in the coefficients


def walled(sections: CaseSections, model: MeanField, law: Law, *, given: bool = True) -> MeanField:
    """The model with the walls of the case; the same where there is no box.

    ``given``: whether the box stands in the case; one that was made around the law says nothing about where the law ends.

    Raises:
        CaseError: walls of what is no coordinate of a box, is periodic, or belongs to a measure that does not see them.
    """
    domain = sections.domain
    if domain is None:
        return model
    said = domain.walls or {}
    if said:
        _check_said(sections, domain, model)
    if domain.box is None or not _sees(sections, model):
        return model
    lower, upper = (tuple(map(float, corner)) for corner in domain.box)
    count = len(model.directions)
    if not len(lower) == len(upper) == count:
        return model  # refused elsewhere
    start = law if given and sections.characteristics is None else None  # these would go on where others turn back
    kinds = [_of_coordinate(said, model, start, axis, (lower[axis], upper[axis])) for axis in range(count)]
    try:
        walls = classified(model, BoxWalls(lower, upper, tuple(kinds)), moments_at_start(model, law))
    except ValueError as error:
        raise CaseError(f"[domain.walls] {error}") from None
    return with_walls(model, walls)


def _sees(sections: CaseSections, model: MeanField) -> bool:
    """Whether the measures of a case are those of one law of particles in a box."""
    kind = KINDS[sections.model.kind]
    return not kind.measures and kind.network is None and model.metric is None


def _check_said(sections: CaseSections, domain: DomainSection, model: MeanField) -> None:
    where = "[domain.walls]"
    for name in domain.walls or {}:
        if name not in model.directions:
            what = "never moves" if name in model.coordinates else f"is no coordinate{nearest(name, model.directions)}"
            raise CaseError(f"{where} {name}: {what}; give walls of {listed(model.directions)}")
        if model.periods[model.directions.index(name)] is not None:
            raise CaseError(f"{where} {name}: this coordinate has a period, and no walls; remove the key")
    if ABSORBING in [kind for pair in (domain.walls or {}).values() for kind in pair]:
        _check_absorbing(where, sections, model)
    if domain.cells is None:
        raise CaseError(f"{where}: are those of a box, and [domain] has none; remove the section, or give a box")
    if not _sees(sections, model):
        raise CaseError(f"{where}: this kind of model does not see walls; remove the section")
    if sections.characteristics is not None:
        raise CaseError(f"{where}: [characteristics] are carried by a flow that does not see walls; remove one of the sections")
    if sections.sgd is not None:
        raise CaseError(f"{where}: the weights of [sgd] do not see walls; remove one of the sections")


def _check_absorbing(where: str, sections: CaseSections, model: MeanField) -> None:
    if model.own_diffusion is None and not min(model.temperatures) > 0.0:
        raise CaseError(f"{where}: absorbing ones take noise across them; give a temperature > 0, or write reflecting")
    if model.frozen:
        raise CaseError(f"{where}: labelled laws have no absorbing walls; leave `frozen` out, or write reflecting")
    if model.interacting and (sections.stationary is not None or sections.spectrum is not None):
        raise CaseError(f"{where}: no law of interacting particles lasts between absorbing ones; remove [stationary], [spectrum]")
    if sections.density is not None and sections.density.scheme == "flux_corrected":
        raise CaseError('[density] scheme: "flux_corrected" has no absorbing walls; write "auto"')


def _of_coordinate(
    said: dict[str, list[str]], model: MeanField, law: Law | None, axis: int, ends: tuple[float, float]
) -> tuple[str, str]:
    """The lower and the upper wall across a direction."""
    name = model.directions[axis]
    if model.periods[axis] is not None:
        return "", ""
    if name in said:
        return said[name][0], said[name][1]
    factor = law.factors[axis] if isinstance(law, Product) else None
    if factor is None:
        return OPEN, OPEN
    close = 1e-9 * (ends[1] - ends[0])
    low, high = (abs(end - wall) <= close for end, wall in zip(factor.extent(), ends, strict=True))
    return REFLECTING if low else OPEN, REFLECTING if high else OPEN


def moments_at_start(model: MeanField, law: Law) -> Array:
    """Moments of the initial law, to the accuracy of a sample, shape (K,)."""
    z = law.sample(np.random.Generator(np.random.Philox(0)), _SAMPLE)
    with np.errstate(all="ignore"):
        return np.asarray(model.feature_sum(z) / len(z))
