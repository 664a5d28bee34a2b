"""Coarser discretisations: fewer cells or nodes in each direction, and what two of them tell about the error of the finer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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


def coarser(setting: Problem, share: float = THREE_QUARTERS) -> Problem:
    """The same on fewer cells, and with a fixed time step that is longer by as much.

    Raises:
        CaseError: for a domain that is no box, or numbers of cells that cannot be divided so.
    """
    case, sections = setting.case, setting.case.sections
    domain: Any = sections.domain
    cells = None if domain is None else domain.cells
    if cells is None or sections.density is None:
        raise CaseError(f"{case.path}: [domain] cells: the density's own error is measured on a box; give lower, upper, cells")
    if any((share * n) % 1.0 != 0.0 for n in cells):
        raise CaseError(
            f"{case.path}: [domain] cells: {cells}: the density's own error is measured on {share:g} of the cells; "
            "give multiples of 4"
        )
    step = sections.density.step
    changed = sections.model_copy(
        update={
            "domain": domain.model_copy(update={"cells": fewer(cells, share)}),
            "density": sections.density.model_copy(update={"step": None if step is None else step / share}),
        }
    )
    return replace(setting, case=replace(case, sections=changed))
