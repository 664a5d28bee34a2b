"""Coarser discretisations: fewer cells or nodes in each direction, and what two of them tell about the error of the finer one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mvpde.cases.problem import Problem
from mvpde.models.mean_field import Array
from mvpde.runtime import CaseError

LEVELS = 2  # companions of a density on a box: on half and on a quarter of its cells
HALF, THREE_QUARTERS = 0.5, 0.75  # of the cells or nodes, in each direction
_GAIN = 1.0 / (THREE_QUARTERS**-2 - 1.0)  # of a difference that is quadratic in the spacing, up to the limit
_LEAST_RATIO = 1.5  # of the spacings of two meshes, to the power of the levels between them: below, their difference says little


@dataclass(frozen=True)
class TwoMeshes:
    """Numbers on the mesh and on the coarse one, arrays of the same shape."""

    fine: Array
    coarse: Array

    @property
    def error(self) -> Array:
        """|x_h − x_{4h/3}| / ((4/3)² − 1): the error of x_h if it is quadratic in h, and more if it is of higher order."""
        return np.asarray(_GAIN * np.abs(self.fine - self.coarse))

    @property
    def extrapolated(self) -> Array:
        """x_h without its part that is quadratic in h."""
        return np.asarray(self.fine + _GAIN * (self.fine - self.coarse))


def fewer(counts: Sequence[int], share: float, least: int | Sequence[int] = 1) -> list[int]:
    """The whole numbers nearest to a share of the cells or nodes in each direction, and ``least`` where less is left.

    The one way in which runs, studies and reports coarsen.
    """
    bounds = [least] * len(counts) if isinstance(least, int) else least
    return [max(bound, math.floor(share * count + 0.5)) for count, bound in zip(counts, bounds, strict=True)]


def with_fewer(problem: Problem, share: float, least: int = 1) -> Problem:
    """The same on fewer cells and nodes, with a given time step of the density that is longer by as much.

    What the case has not stays away; a periodic direction keeps three cells.
    """
    sections = problem.sections
    domain, density, characteristics = sections.domain, sections.density, sections.characteristics
    if domain is not None and domain.cells is not None:
        closed = domain.periodic or [False] * len(domain.cells)
        bounds = [max(least, 3 if circle else 1) for circle in closed]
        domain = domain.model_copy(update={"cells": fewer(domain.cells, share, bounds)})
    if density is not None and density.step is not None:
        density = density.model_copy(update={"step": density.step / share})
    if characteristics is not None:
        characteristics = characteristics.model_copy(update={"nodes": fewer(characteristics.nodes, share, least)})
    changed = {"domain": domain, "density": density, "characteristics": characteristics}
    return replace(problem, case=replace(problem.case, sections=sections.model_copy(update=changed)))


def coarser(problem: Problem, share: float = THREE_QUARTERS) -> Problem:
    """The same on fewer cells, and with a fixed time step that is longer by as much.

    Raises:
        CaseError: for a domain that is no box, or numbers of cells that cannot be divided so.
    """
    case = problem.case
    domain, density = case.sections.domain, case.sections.density
    if domain is None or domain.cells is None or density is None:
        raise CaseError(f"{case.path}: [domain] cells: the density's own error is measured on a box; give lower, upper, cells")
    if any((share * n) % 1.0 != 0.0 for n in domain.cells):
        raise CaseError(
            f"{case.path}: [domain] cells: {domain.cells}: the density's own error is measured on {share:g} of the cells; "
            "give multiples of 4"
        )
    return with_fewer(problem, share)


# --- companions of a density ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coarse:
    """A density on a coarser mesh.

    Attributes:
        problem: the same problem, with that mesh and with time steps that are longer by as much.
        ratio: of the spacings, the geometric mean over the directions; 2 or 4 but for numbers of cells that 2 or 4 do not divide.
    """

    problem: Problem
    ratio: float


def levels(problem: Problem) -> int:
    """How many companions the density of a case has: those asked for, by default two on a box and none on a mesh or shell."""
    domain, density = problem.sections.domain, problem.sections.density
    if domain is None or density is None:
        return 0
    return density.companions if density.companions is not None else LEVELS * (domain.cells is not None)


def companion(problem: Problem, level: int, scheme: str | None = None) -> Coarse | None:
    """The density of a case on 2^−level of its cells in each direction; None where there are too few of them.

    Of a mesh or shell, which is refined as often as there are companions, it is that of one refinement less for each level.

    Args:
        problem: with a density on a mesh.
        level: 1 or 2.
        scheme: that of the density, instead of one that "auto" would choose on the coarser mesh.
    """
    rough = with_fewer(problem, 0.5**level)
    fine, domain, density = problem.sections.domain, rough.sections.domain, rough.sections.density
    assert fine is not None and domain is not None and density is not None
    ratio = 2.0**level
    changes: dict[str, object] = {"scheme": scheme or density.scheme}
    if fine.cells is None or domain.cells is None:
        changes["companions"] = (density.companions or 0) - level
    else:
        ratios = [many / few for many, few in zip(fine.cells, domain.cells, strict=True)]
        if min(ratios) < _LEAST_RATIO**level:
            return None
        ratio = math.prod(ratios) ** (1.0 / len(ratios))
    changed = rough.sections.model_copy(update={"density": density.model_copy(update=changes)})
    return Coarse(replace(rough, case=replace(rough.case, sections=changed)), ratio)
