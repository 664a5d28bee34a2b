"""The box of a case against the coordinates, the periods and the initial law of its model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mvpde.cases.file import Case
from mvpde.cases.messages import listed
from mvpde.cases.schema import CaseSections, DomainSection
from mvpde.models.laws import Law1D, mass_between
from mvpde.models.mean_field import MeanField
from mvpde.runtime import CaseError

_HELD = 0.9895  # of the initial law: less than what a density asks for by more than rounding


def check_held(sections: CaseSections, names: Sequence[str], laws: Sequence[Law1D], *, independent: bool = True) -> None:
    """Refuse a box that does not hold the initial law.

    Args:
        sections: with the box.
        names: of the coordinates.
        laws: of each of them.
        independent: whether the law is their product; of another its marginals tell a bound.

    Raises:
        CaseError: as the density itself would, with the share that is missed.
    """
    domain = sections.domain
    if domain is None or domain.box is None:
        return
    lower, upper = domain.box
    shares = [mass_between(law, low, high) for law, low, high in zip(laws, lower, upper, strict=True)]
    share = math.prod(shares) if independent else min(shares)
    if share < _HELD:
        said = f"{'' if independent else 'at most '}{100 * share:.1f} %"
        raise CaseError(
            f"[domain] lower, upper: the domain holds {said} of the initial law of {', '.join(names)}; "
            'enlarge it, write "auto", or narrow [initial]'
        )


def with_periodic(case: Case, model: MeanField) -> Case:
    """The case with the periodic directions of the model, after a check of the domain against the model."""
    sections = case.sections
    if sections.density is not None and sections.domain is None:
        raise CaseError("[domain]: the section is missing; [density] needs `lower`, `upper` and `cells`, or a `mesh`")
    if sections.domain is None:
        return case
    periodic = sections.domain.periodic or [period is not None for period in model.periods[: len(model.directions)]]
    domain = sections.domain.model_copy(update={"periodic": periodic})
    _check_domain(domain, model, sections.density is not None, "periods" in type(sections.model).model_fields)
    return replace(case, sections=sections.model_copy(update={"domain": domain}))


def _check_domain(domain: DomainSection, model: MeanField, meshed: bool, given: bool) -> None:
    moving = model.directions
    entries = {"cells": len(domain.cells or moving), "periodic": len(domain.periodic or [])}
    what = "coordinates that move" if model.frozen else "coordinates"
    for key, count in entries.items():
        if count != len(moving):
            raise CaseError(
                f"[domain] {key}: has {count} entries, but the model has {len(moving)} {what}, "
                f"{listed(moving)}; give one entry per coordinate in `lower`, `upper`, `cells`, `periodic`"
            )
    if len(moving) > 3 and meshed:
        raise CaseError(
            f"[domain] cells: a mesh has 1 to 3 directions and the model has {len(moving)} coordinates; "
            "remove [density] and [domain], the ensemble runs in any dimension"
        )
    if (domain.shell is not None) != (model.metric is not None) and domain.mesh is None:
        shell = "shell = { lower = -4.0, upper = 4.0, frequency = 8, layers = 24 }"
        raise CaseError(
            f"[domain]: this model lives on a sphere times a line; give {shell}"
            if model.metric is not None
            else "[domain] shell: is for the unit sphere_rbf; give `lower`, `upper` and `cells`"
        )
    if domain.shell is not None and model.dimension != 3:
        raise CaseError(f"[domain] shell: needs a sphere of R³, not of R^{model.dimension}; remove [density] and [domain]")
    for axis, (name, period) in enumerate(zip(moving, model.periods, strict=False)):
        _check_direction(domain, axis, name, period, given)


def _of_period(domain: DomainSection, axis: int, name: str, period: float | None, given: bool) -> str:
    """What helps where mesh and model disagree about a circle."""
    if period is not None:
        return (
            f"[domain] periodic: the model's coordinate `{name}` has a period; write true in entry {axis}, or leave the key out, "
            "as it follows from the model"
        )
    length = "L" if domain.box is None else f"{domain.box[1][axis] - domain.box[0][axis]:.12g}"
    where = "[model]" if given else '[model] of kind = "mean_field", which has `drift` and `diffusion` too,'
    return (
        f"[domain] periodic: the model's coordinate `{name}` has no period; give it one in {where} "
        f"periods = {{ {name} = {length} }}, and leave the key out here, or write false in entry {axis}"
    )


def _check_direction(domain: DomainSection, axis: int, name: str, period: float | None, given: bool) -> None:
    periodic = bool(domain.periodic and domain.periodic[axis])
    if periodic != (period is not None):
        raise CaseError(_of_period(domain, axis, name, period, given))
    if domain.cells is None or domain.lower is None or domain.upper is None or period is None:
        return
    length = domain.upper[axis] - domain.lower[axis]
    if not math.isclose(length, period, rel_tol=1e-9):
        raise CaseError(
            f"[domain] upper: `{name}` has the period {period:.12g} but the domain's length there is {length:.12g}; "
            f"choose upper = lower + {period:.12g}"
        )
    if domain.cells[axis] < 3:
        raise CaseError(f"[domain] cells: entry {axis} is {domain.cells[axis]}; a periodic direction needs at least 3 cells")
