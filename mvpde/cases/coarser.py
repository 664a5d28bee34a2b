"""Coarser discretisations: fewer cells or nodes in each direction, and what two of them tell about the error of the finer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mvpde.cases.problem import Problem
from mvpde.models.mean_field import Array
from mvpde.runtime import CaseError

HALF, THREE_QUARTERS = 0.5, 0.75  # of the cells or nodes, in each direction
_GAIN = 1.0 / (THREE_QUARTERS**-2 - 1.0)  # of a difference that is quadratic in the spacing, up to the limit


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


def fewer(counts: Sequence[int], share: float, least: int = 1) -> list[int]:
    """A share of the cells or nodes in each direction, rounded down, and ``least`` where less is left."""
    return [max(least, int(share * count)) for count in counts]


def with_fewer(problem: Problem, share: float, least: int = 1) -> Problem:
    """The same on fewer cells and nodes; what the case has not stays away."""
    sections = problem.sections
    domain, characteristics = sections.domain, sections.characteristics
    if domain is not None and domain.cells is not None:
        domain = domain.model_copy(update={"cells": fewer(domain.cells, share, least)})
    if characteristics is not None:
        characteristics = characteristics.model_copy(update={"nodes": fewer(characteristics.nodes, share, least)})
    changed = sections.model_copy(update={"domain": domain, "characteristics": characteristics})
    return replace(problem, case=replace(problem.case, sections=changed))


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
    longer = density.model_copy(update={"step": None if density.step is None else density.step / share})
    rough = with_fewer(problem, share)
    return replace(rough, case=replace(case, sections=rough.case.sections.model_copy(update={"density": longer})))
