"""The error of a quadrature: the same law carried by half and by a quarter of the nodes in each direction.

    |x_n − x_{n/2}| min(1, 2r),        r = |x_n − x_{n/2}| / |x_{n/2} − x_{n/4}|

for everything x that is recorded. The difference is the error of half the nodes; with errors that fall by the factor r from one
number of nodes to the next, that of all nodes is r times it or, where the quadrature is spectrally accurate, far less. Where r is
no small number the nodes resolve nothing yet, and the whole difference is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mvpde.measure import Measure, State
from mvpde.runtime import MPI, InvariantError, SolverError

PARTS = (2, 4)  # of the nodes


def fewer(nodes: Sequence[int], part: int) -> list[int]:
    """A part of the nodes in each direction, at least one."""
    return [max(1, count // part) for count in nodes]


def told(values: Sequence[float]) -> float:
    """The error of the first of x_n, x_{n/2}, x_{n/4}; NaN from fewer than two."""
    if len(values) < 2:
        return math.nan
    half = abs(values[0] - values[1])
    quarter = abs(values[1] - values[2]) if len(values) > 2 else 0.0
    return half * min(1.0, 2.0 * half / quarter) if quarter > 0.0 else half


class CoarserNodes:
    """The same measure with fewer nodes, finer ones first, carried along."""

    def __init__(self, coarser: Sequence[Measure]) -> None:
        """At the same time as the measure."""
        self._coarser, self._lost = list(coarser), False

    def advance(self, t: float) -> None:
        """Carry them to time t; from one that breaks down on they are left out. Collective."""
        for k, measure in enumerate(self._coarser):
            try:
                measure.advance(t)
            except (SolverError, InvariantError):
                self._coarser, self._lost = self._coarser[:k], True
                return

    @property
    def told(self) -> bool:
        """Whether there are errors to tell: coarser ones, or ones that were left out on the way. Local."""
        return bool(self._coarser) or self._lost

    def errors(self, recorded: Callable[[Measure], Mapping[str, float]], measure: Measure) -> dict[str, float]:
        """x_error of what is ``recorded`` of the ``measure``; {} where there are no coarser ones. Collective."""
        if not self.told:
            return {}
        rows = [recorded(one) for one in (measure, *self._coarser)]
        return {f"{key}_error": told([row[key] for row in rows]) for key in rows[0]}

    # -- checkpoints

    def state(self) -> State:
        """Theirs on rank 0, with a number before each name; {} elsewhere. Collective."""
        return {f"coarser{k}_{key}": value for k, one in enumerate(self._coarser) for key, value in (one.state() or {}).items()}

    def restore(self, state: State | None, comm: MPI.Intracomm) -> None:
        """Go on from a `state` on rank 0; from one that it does not have on they are left out. Collective."""
        for k, one in enumerate(self._coarser):
            first = f"coarser{k}_"
            mine = {key.removeprefix(first): value for key, value in (state or {}).items() if key.startswith(first)}
            if not comm.bcast(bool(mine)):
                self._coarser, self._lost = self._coarser[:k], True
                return
            one.restore(mine if comm.rank == 0 else None)


def loss_and_means(measure: Measure) -> dict[str, float]:
    """Loss and observables, as they are recorded. Collective."""
    means = {key: float(np.mean(measure.expectation(h))) for key, h in measure.model.observables.items()}
    return {"loss": float(np.mean(measure.losses())), **means}
