"""Explicit time steps of the flux-corrected scheme: SSP Runge–Kutta of order 3 under its CFL condition."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.transport import STAGES, afford, correct, predict
from mvpde.mesh.domain import Domain
from mvpde.runtime import MPI, SolverError

Array = NDArray[np.float64]

_ATTEMPTS = 50  # at one step; two or three do where the drift is smooth in time


class FluxCorrected:
    """∂_tρ = ∇·(ρ∇V + τ∇ρ) by the kernels of `mvpde.density.transport`; for τ = 0 and for τ too small to be stiff.

    Each stage evaluates the moments of its own state, so the mean field is as accurate in time as the transport. Arrays are
    local to the rank.
    """

    order = 3
    stages = len(STAGES)
    limiter_share: float | None = None  # fused into the kernels, not measured

    def __init__(
        self, domain: Domain, features: NodalFeatures, temperature: float, *, cfl: float, step: float | None = None
    ) -> None:
        """Allocate work arrays. ``cfl`` in (0, 1] is the part of the largest positive step to take, ``step`` a further bound."""
        graph, exchange = domain.graph, domain.exchange
        local = len(domain.coordinates)
        self._domain, self._features, self._temperature, self._cfl, self._bound = domain, features, temperature, cfl, step
        self._rows = (graph.offsets, graph.columns, graph.stiffness)
        self._mass, self._lumped, self._update = graph.mass, graph.lumped, exchange.update
        self._potential, self._share, self._rate, self._state = (np.zeros(local) for _ in range(4))
        self._low = np.zeros(domain.owned)
        self._next = np.zeros(local)
        self.limited_steps = self.rejected_steps = self.iterations = 0

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        """The density (owned + ghosts) one step later and the step's length, a whole part of ``remaining``. Collective.

        Raises:
            SolverError: the drift grows faster than any step, on all ranks alike.
        """
        limit = math.inf if self._bound is None else self._bound
        for _ in range(_ATTEMPTS):
            result, length, fastest = self._try(density, remaining, limit)
            if length * fastest <= 1.0 or not math.isfinite(fastest):
                return result, length
            self.rejected_steps += 1
            limit = 0.9 * self._cfl / fastest  # the drift grew during the step; positivity needs a shorter one
        raise SolverError(
            f"density: no step is short enough, the last one tried was {limit:.1e}: the drift grows without bound; "
            "check the size of the targets and of [domain]"
        )

    def _try(self, start: Array, remaining: float, limit: float) -> tuple[Array, float, float]:
        """A step, its length, and the largest outflow rate of its stages over all ranks, which decides whether it counts."""
        state, length, fastest = start, remaining, 0.0
        for stage, (of_start, of_step) in enumerate(STAGES):
            outflow = self._predict(state)
            if stage == 0:
                outflow = float(self._domain.comm.allreduce(outflow, MPI.MAX))
                largest = min(limit, self._cfl / outflow if outflow > 0.0 else math.inf)
                length = remaining / max(1, math.ceil(remaining / largest * (1.0 - 1e-12)))
            fastest = max(fastest, outflow)
            state = self._correct(state, start, of_start, of_step, length, self._state if stage % 2 == 0 else self._next)
        return state.copy(), length, float(self._domain.comm.allreduce(fastest, MPI.MAX))

    def _predict(self, state: Array) -> float:
        """Rates at ``state``; returns the largest outflow rate on this rank."""
        moments = self._features.moments(self._lumped * state[: self._domain.owned])
        self._features.potential(moments, self._potential)
        fastest = predict(*self._rows, self._lumped, self._potential, state, self._temperature, self._low, self._rate)
        self._update(self._rate)
        return float(fastest)

    def _correct(self, state: Array, start: Array, of_start: float, of_step: float, length: float, result: Array) -> Array:
        terms = (*self._rows, self._mass, self._lumped, self._potential, state, self._temperature, length, self._low, self._rate)
        afford(*terms, self._share)
        self._update(self._share)
        correct(*terms, self._share, start, of_start, of_step, result)
        self._update(result)
        return result
