"""What the mesh of a density and its box say about themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from mvpde.runs.cautions.caution import Caution, Findings

OUTER_MASS = 1e-3  # a larger share of the mass at the walls means that the domain is too small


def judge(found: Findings) -> Iterator[Caution]:
    """Mass at walls that cut the space off, and obtuse cells."""
    outer = max((numbers.get("outer_mass", 0.0) for row in found.records for numbers in row.numbers.values()), default=0.0)
    if outer > OUTER_MASS:
        text = f"domain: {outer:.1e} of the mass reached the outer layer of cells; widen [domain] lower and upper, or its mesh"
        yield Caution("density.outer_mass", text, outer, OUTER_MASS)
    for said in found.statistics.values():
        count = cast("float", said.get("negative_edges") or 0)
        if count:
            text = f"mesh: {count} edges have a negative weight (obtuse angles) and are treated by upwinding; use a better mesh"
            yield Caution("density.negative_edges", text, count, 0)
