"""`[domain] lower = "auto"`, `upper = "auto"`: the box that a case leaves to a pilot of particles."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.schema import CaseSections, DomainSection
from mvpde.models.laws import Law, marginals
from mvpde.models.mean_field import MeanField
from mvpde.registry import At
from mvpde.runtime import MPI, ArgumentError, CaseError, on_first_rank

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvpde.models.mean_field import Array

_PILOT = At("mvpde.particles.pilot:box_of")  # loads the solver libraries


def with_box(sections: CaseSections, model: MeanField, law: Law, comm: MPI.Intracomm) -> CaseSections:
    """The sections with numbers in place of "auto". Collective.

    Raises:
        CaseError: for a kind whose density has boxes of its own, or a model whose particles run away.
    """
    domain = sections.domain
    if domain is None or not domain.automatic:
        return sections
    if "density" in KINDS[sections.model.kind].measures or model.metric is not None:
        raise CaseError('[domain] lower, upper: "auto" is for the box of one law; give numbers for this kind of model')
    lower, upper = on_first_rank(comm, lambda: _found(domain, sections, model, law))
    return sections.model_copy(update={"domain": domain.model_copy(update={"lower": lower, "upper": upper})})


def _found(domain: DomainSection, sections: CaseSections, model: MeanField, law: Law) -> tuple[list[float], list[float]]:
    pilot = cast("Callable[..., tuple[Array, Array]]", _PILOT.load())
    lasting = sections.stationary is not None or sections.spectrum is not None
    try:
        ends = pilot(model, law, sections.time.end, lasting=lasting)
    except ArgumentError as error:
        raise CaseError(f'[domain] lower, upper: "auto" {error.text}') from None
    lower, upper = (list(map(float, end)) for end in ends)
    for axis in range(len(model.directions)):
        lower[axis], upper[axis] = _of_direction(model, law, axis, lower[axis], upper[axis])
    return domain.lower or lower, domain.upper or upper


def _of_direction(model: MeanField, law: Law, axis: int, lower: float, upper: float) -> tuple[float, float]:
    """A circle keeps its period, and a space its ends."""
    period = model.periods[axis]
    known = marginals(law)
    extent = (lower, upper) if known is None else known[axis].extent()
    if period is not None:
        begin = extent[0] if abs(extent[1] - extent[0] - period) < 1e-9 * period else 0.5 * (sum(extent) - period)
        return begin, begin + period
    for end in extent:
        place = np.zeros((1, model.dimension))
        place[0, axis] = end
        if model.natural_wall(place)[0]:
            lower, upper = (end, upper) if end == extent[0] else (lower, end)
    return lower, upper
