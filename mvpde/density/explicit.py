"""Flux-corrected explicit transport on the edge graph: positive, without ripples, second order where smooth.

For ∂_tρ = ∇·(ρ∇V + τ∇ρ) with nodal V, edge ij carries into i the flux

    F_ij = w_ij (ρ_i + ρ_j)/2 + τ s_ij (ρ_j − ρ_i) = k_ij ρ_j − k_ji ρ_i,      w_ij = s_ij (V_j − V_i) = −w_ji,

which is what walls without flux need: nothing leaves through a node. Other equations have other k_ij (`transport`). What makes an
Euler step with any of them positive and free of ripples is in `sweeps`. Time: SSP Runge–Kutta of order 3 (Shu & Osher 1988),
whose stages are convex combinations of such steps, so positivity, bounds, mass and mean carry over.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.limiter import mean_drift, moment_sums
from mvpde.density.schemes import whole_part
from mvpde.density.sweeps import SLOPE, afford, correct, predict, shift, weigh
from mvpde.mesh.domain import Domain
from mvpde.runtime import MPI, SolverError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

# (share of the state at the start of the step, share of the Euler step from the last stage): Shu–Osher form
STAGES = ((0.0, 1.0), (0.75, 0.25), (1.0 / 3.0, 2.0 / 3.0))
TIMES = (0.0, 1.0, 0.5)  # of the stages, in steps
LIMITED = 1e-10  # fluxes cut in a step, in units of the mass, below which it does not count as limited
_ATTEMPTS = 50  # at one step; two or three do where the drift is smooth in time


@njit(cache=True)
def sharpened(offsets: Integers, columns: Integers, mass: Array, lumped: Array, central: Array, rate: Array) -> Array:
    """ρ̇ + Σ_j m_ij (r_i − r_j)/m_i on owned rows: one more term of the series for the rate with the consistent mass matrix.

    Each term takes another power of what the lumped mass misses from the error of f_ij, which is that of waves a few cells long.
    """
    result = np.empty_like(central)
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += mass[e] * (rate[i] - rate[columns[e]])
        result[i] = central[i] + total / lumped[i]
    return result


class Fluxes(Protocol):
    """What a drift and a tensor are to a step: coefficients k_ij of the fluxes F_ij = k_ij ρ_j − k_ji ρ_i.

    Attributes:
        inward, outward: k_ij and k_ji of each edge once, as in `Domain.recovery` (local).
        sharpenings: how often the rates are sharpened before they enter f_ij.
        damping, power: of ripples, c and n (1 or 2) in `mvpde.density.sweeps`.
    """

    inward: Array
    outward: Array
    sharpenings: int
    damping: float
    power: int

    def evaluate(self, moments: Array, time: float) -> None:
        """Take the coefficients at these moments and at this time. Local."""


class PotentialFluxes:
    """Those of ∇·(ρ∇V + τ∇ρ), from differences of V along the edges: k_ij = s_ij [τ + ½(V_j − V_i)]."""

    sharpenings = 0
    damping, power = 2.0, 1

    def __init__(self, domain: Domain, features: NodalFeatures) -> None:
        """Allocate V and k."""
        graph = domain.recovery.graph
        self._features, self._rows = features, (graph.offsets, graph.columns, graph.stiffness)
        self._potential = np.zeros(len(domain.coordinates))
        self.inward, self.outward = np.zeros(len(graph.columns)), np.zeros(len(graph.columns))

    def evaluate(self, moments: Array, time: float) -> None:
        """V(·; m) at this time, and with it k."""
        present = self._features.at(time)
        present.potential(moments, self._potential)
        coefficients(*self._rows, self._potential, present.model.temperature, self.inward, self.outward)


@njit(cache=True)
def coefficients(
    offsets: Integers, columns: Integers, stiffness: Array, potential: Array, temperature: float, inward: Array, outward: Array
) -> None:
    """For each entry (i, j): ``inward`` k_ij = s[τ + ½(V_j − V_i)] and ``outward`` k_ji = s[τ − ½(V_j − V_i)]."""
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            conduction, half = temperature * stiffness[e], 0.5 * stiffness[e] * (potential[columns[e]] - potential[i])
            inward[e] = conduction + half
            outward[e] = conduction - half


class FluxCorrected:
    """∂_tρ = ∇·(ρ∇V + τ∇ρ), or ∇·(−bρ + ∇·(Aρ)), on the edge graph; for noise that is none or too small to be stiff.

    Each stage evaluates the moments of its own state and coefficients that depend on time at its own time, so both are as
    accurate in time as the transport. Arrays are local to the rank.
    """

    name = "flux_corrected"
    stages = len(STAGES)
    proposal = math.inf  # a step depends on the state alone

    def __init__(self, domain: Domain, features: NodalFeatures, fluxes: Fluxes, *, cfl: float, step: float | None = None) -> None:
        """Allocate work arrays. ``cfl`` in (0, 1] is the part of the largest positive step to take, ``step`` a further bound."""
        local, dimension, recovery = len(domain.coordinates), domain.dimension, domain.recovery
        graph = recovery.graph
        self._domain, self._features, self._fluxes, self._cfl, self._bound = domain, features, fluxes, cfl, step
        self._lumped, self._update, self.time = graph.lumped, domain.exchange.update, 0.0
        self._rate, self._outflow, self._state, self._next = (np.zeros(local) for _ in range(4))
        self._nodes, self._work, self._shares = np.zeros((local, SLOPE + dimension)), np.zeros((local, 5)), np.zeros((local, 3))
        self._antidiffusion = np.zeros(len(graph.columns))
        self._sums = np.zeros((len(domain.weights), moment_sums(dimension)))
        self._rows = (graph.offsets.view(np.uint32), graph.columns.view(np.uint32))
        self._geometry = (graph.mass, recovery.edges, recovery.inside, graph.lumped, domain.part)
        self.limited_steps = self.rejected_steps = self.iterations = 0
        self._offered, self._cut, self._now = 0.0, 0.0, np.zeros(2)

    @property
    def limiter_share(self) -> float:
        """Part of Σ|f_ij| that was cut in the limited steps so far; 0 without such a step."""
        return self._cut / self._offered if self._offered > 0.0 else 0.0

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        """The density (owned + ghosts) one step later and the step's length, a whole part of ``remaining``. Collective.

        Raises:
            SolverError: the drift grows faster than any step, on all ranks alike.
        """
        limit = math.inf if self._bound is None else self._bound
        for _ in range(_ATTEMPTS):
            result, length, fastest = self._try(density, remaining, limit)
            if length * fastest <= 1.0 or not math.isfinite(fastest):
                self._count()
                return result, length
            self.rejected_steps += 1
            limit = 0.9 * self._cfl / fastest  # the drift grew during the step; positivity needs a shorter one
        raise SolverError(
            f"density: no step is short enough, the last one tried was {limit:.1e}: the drift grows without bound; "
            "check the size of the targets and of the domain"
        )

    def exactly(self, density: Array, length: float) -> Array:
        """The density ``length`` later, by as few even steps as `step` would take. Collective."""
        begin, done = self.time, 0.0
        while done < length:
            self.time = begin + done
            density, taken = self.step(density, length - done)
            done = length if taken >= length - done else done + taken
        self.time = begin
        return density

    def longest(self, density: Array, remaining: float) -> float:
        """The length of the step that `step` would begin with. Collective."""
        outflow = float(self._domain.comm.allreduce(self._predict(density, self.time), MPI.MAX))
        return self._length(outflow, remaining, math.inf if self._bound is None else self._bound)

    def _length(self, outflow: float, remaining: float, limit: float) -> float:
        largest = min(limit, self._cfl / outflow if outflow > 0.0 else math.inf)
        return whole_part(remaining, largest)

    def _try(self, start: Array, remaining: float, limit: float) -> tuple[Array, float, float]:
        """A step, its length, and the largest outflow rate of its stages over all ranks, which decides whether it counts."""
        state, length, fastest, self._now = start, remaining, 0.0, np.zeros(2)
        for stage, (of_start, of_step) in enumerate(STAGES):
            outflow = self._predict(state, self.time + TIMES[stage] * length)
            if stage == 0:
                outflow = float(self._domain.comm.allreduce(outflow, MPI.MAX))
                length = self._length(outflow, remaining, limit)
            fastest = max(fastest, outflow)
            state = self._correct(state, start, of_start, of_step, length, self._state if stage % 2 == 0 else self._next)
        return state.copy(), length, float(self._domain.comm.allreduce(fastest, MPI.MAX))

    def _predict(self, state: Array, time: float) -> float:
        """Rates at ``state``; returns the largest outflow rate on this rank."""
        self._fluxes.evaluate(self._features.moments(self._lumped * state[: self._domain.owned]), time)
        pair, recovery = (self._fluxes.inward, self._fluxes.outward), self._domain.recovery
        place = ((recovery.inverse, recovery.lean), state, self._rate, self._nodes, self._outflow)
        fastest = float(predict(self._rows, pair, self._geometry, *place))
        self._update(self._nodes)
        self._update(self._rate)
        self._sharpen()
        return fastest

    def _sharpen(self) -> None:
        graph, owned = self._domain.graph, self._domain.owned
        central = self._rate[:owned].copy()
        for _ in range(self._fluxes.sharpenings):
            self._rate[:owned] = sharpened(graph.offsets, graph.columns, graph.mass, graph.lumped, central, self._rate)
            self._update(self._rate)

    def _correct(self, state: Array, start: Array, of_start: float, of_step: float, length: float, result: Array) -> Array:
        """The Shu–Osher combination of ``start`` and the limited Euler step from ``state``. Collective."""
        self._sums[:] = 0.0
        pair, f, shares = (self._fluxes.inward, self._fluxes.outward), self._antidiffusion, self._shares
        before = (state, self._rate, self._nodes, length, self._fluxes.damping, self._fluxes.power)
        afford(self._rows, pair, self._geometry, before, self._work, f, shares, self._sums)
        self._update(shares)
        combined = (start, of_start, of_step)
        cut = correct(self._rows, self._geometry, self._nodes, length, f, shares, combined, result, self._sums)
        weigh(self._rows, self._geometry, shares, self._sums)
        total = self._domain.sum(np.concatenate([self._sums.ravel(), cut]))
        self._now += length * total[-2:]
        drift = mean_drift(self._domain, total[:-2].reshape(self._sums.shape), length)
        shift(self._rows, self._geometry, shares, drift, of_step, result)
        self._update(result)
        return result

    def _count(self) -> None:
        """Whether the step just taken was limited, and by how much."""
        if self._now[1] > LIMITED:
            self.limited_steps += 1
            self._offered, self._cut = np.array([self._offered, self._cut]) + self._now
