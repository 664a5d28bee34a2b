"""What stationary laws and modes say about themselves."""

from __future__ import annotations

from collections.abc import Iterator

from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.cautions.mesh import OUTER_MASS


def judge(found: Findings) -> Iterator[Caution]:
    """Mass of the stationary law at walls that cut the space off."""
    outer = 0.0 if found.long_time is None else found.long_time.law.outer_mass
    if outer > OUTER_MASS:
        text = (
            f"stationary: {outer:.1e} of the mass of the stationary law lies in the outer layer of cells; "
            "the model does not confine it to this box: widen [domain] lower and upper, or add confinement"
        )
        yield Caution("stationary.outer_mass", text, outer, OUTER_MASS)
