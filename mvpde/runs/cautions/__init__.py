"""What a run warns of: each judge looks at one subject, says what is doubtful, by how much, and what to change that helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mvpde.runs.cautions import comparison, density_error, descent, layers, long_time, mesh, particles
from mvpde.runs.cautions.caution import Caution, Findings

JUDGES: tuple[Callable[[Findings], Iterator[Caution]], ...] = (
    mesh.judge,
    density_error.judge,
    long_time.judge,
    descent.judge,
    comparison.judge,
    layers.judge,
    particles.judge,
)


def cautions(found: Findings) -> list[Caution]:
    """Those of all judges."""
    return [caution for judge in JUDGES for caution in judge(found)]
