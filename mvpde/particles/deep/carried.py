"""Arrays that a flow carries on rank 0: what the characteristics of all networks of infinite width do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mvpde.runtime import MPI, InvariantError, SolverError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Number, State, require_ahead
from mvpde.models.deep.units import Array
from mvpde.particles.accuracy.growth import Extent
from mvpde.particles.characteristics import integrated

KINKED = 1e-6  # smallest tolerance of a step where rates jump

Gone = tuple[float, int, int]  # the last step, and the numbers of steps and of evaluations


class Carried:
    """Nodes, and whatever moves with them: arrays that are written in place.

    Attributes:
        parts: the arrays.
        comm: rank 0 of it does the work; all ranks have the same numbers.
        tolerance: relative, of one time step.
        time: t.
        step: length of the integrator's last step, 0 before the first.
        steps, evaluations: so far.
    """

    def __init__(self, parts: Sequence[Array], tolerance: float, kinked: bool, comm: MPI.Intracomm) -> None:
        """Arrays at t = 0. The tolerance is at least 1e-6 for ``kinked`` units.

        Each node whose rate jumps stops the integrator at that time, and the quadrature of a kink is no better than that anyway.
        """
        self.parts, self.comm, self.tolerance = list(parts), comm, max(tolerance, KINKED) if kinked else tolerance
        self.time, self.step, self.steps, self.evaluations = 0.0, 0.0, 0, 0
        self._extent: Extent | None = None

    def flat(self) -> Array:
        """All arrays as one. Local."""
        return np.concatenate([part.ravel() for part in self.parts])

    def take(self, flat: Array) -> None:
        """Write one array into all. Local."""
        start = 0
        for part in self.parts:
            part[...] = flat[start : start + part.size].reshape(part.shape)
            start += part.size

    def integrate(self, rates: Callable[[], Sequence[Array]], t: float) -> Gone:
        """Carry the arrays of this rank to time t by DOP853; ``rates`` are those of the arrays as they are. Local.

        Raises:
            SolverError, InvariantError: the latter for arrays that grew a thousandfold; they stay what they were.
        """
        if self._extent is None:
            self._extent = Extent(*(_largest(of) for of in (self.parts, rates())))

        def velocity(_: float, flat: Array) -> Array:
            self.take(flat)
            return np.concatenate([rate.ravel() for rate in rates()])

        start = self.flat()
        try:
            solver, steps = integrated(velocity, start, self.time, t, step=self.step, tolerance=self.tolerance)
        except SolverError:
            self.take(start)
            raise
        if (grown := _largest([solver.y])) > self._extent.bound(t):
            self.take(start)
            raise InvariantError(
                f"characteristics: the nodes {self._extent.said(grown)} between t = {self.time:g} and t = {t:g}; the nodes at "
                f"t = {self.time:g} are kept. Choose an earlier end, or a smaller characteristics.tolerance."
            )
        self.take(solver.y)
        return float(solver.h_abs), steps, solver.nfev

    def advance(self, t: float, go: Callable[[], Gone]) -> None:
        """Let ``go`` carry the arrays of rank 0 to time t. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number. Errors of ``go``: on all ranks.
        """
        require_ahead("characteristics", self.time, t)
        if t == self.time:
            return
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a trial step too far is rejected by the integrator
            self.step, steps, evaluations = on_first_rank(self.comm, go)
        self.time = t
        self.steps += steps
        self.evaluations += evaluations

    def statistics(self, nodes: int) -> dict[str, Number]:
        """Number of nodes, steps taken, evaluations of the velocity, the last step and the tolerance."""
        return {
            "nodes": nodes,
            "steps": self.steps,
            "evaluations": self.evaluations,
            "step": self.step,
            "tolerance": self.tolerance,
        }

    def state(self) -> State | None:
        """Time, arrays, last step and counts on rank 0, else None: enough to continue bit for bit."""
        if self.comm.rank > 0:
            return None
        counts = np.array([self.steps, self.evaluations], np.int64)
        kept = {f"part{k}": part.copy() for k, part in enumerate(self.parts)}
        return {"time": np.float64(self.time), "step": np.float64(self.step), "counts": counts, **kept}

    def restore(self, state: State | None, what: str) -> None:
        """Continue from ``state()`` of arrays of the same shapes, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of others; it says ``what`` these are.
        """

        def received() -> tuple[float, float, list[int]]:
            shapes = [np.shape((state or {}).get(f"part{k}", np.empty(0))) for k in range(len(self.parts))]
            if state is None or shapes != [part.shape for part in self.parts]:
                raise ValueError(f"the checkpoint is none of {what}")
            for k, part in enumerate(self.parts):
                part[...] = np.asarray(state[f"part{k}"])
            return float(state["time"]), float(state["step"]), [int(count) for count in np.asarray(state["counts"])]

        self.time, self.step, (self.steps, self.evaluations) = on_first_rank(self.comm, received)


def _largest(arrays: Sequence[Array]) -> float:
    return float(np.max([np.abs(array).max(initial=0.0) for array in arrays]))
