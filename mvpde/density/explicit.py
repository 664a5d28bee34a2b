"""Flux-corrected explicit transport on the edge graph: positive, conservative, second order where the density is smooth.

For ∂_tρ = ∇·(ρ∇V + τ∇ρ) with nodal V, edge ij carries into i the central flux

    w_ij (ρ_i + ρ_j)/2 + τ s_ij (ρ_j − ρ_i),      w_ij = s_ij (V_j − V_i) = −w_ji,

which is what walls without flux need: nothing leaves through a node. The upwind flux max(w,0)ρ_j + min(w,0)ρ_i
+ τ max(s,0)(ρ_j − ρ_i) is positive under dt·Σ_j outflow ≤ m_i. Their difference, with the correction that turns the lumped
into the consistent mass matrix,

    f_ij = dt [ m_ij (ρ̇_i − ρ̇_j) + (½|w_ij| + τ max(−s_ij,0)) (ρ_i − ρ_j) ] = −f_ji,

is given back as far as the limiter allows. Drift compresses, so ρ has no maximum principle; the physical bound is ρ ≥ 0, and the
limiter (Zalesak 1979, Kuzmin & Turek 2002) takes for each edge the share that the node losing mass can afford. Time: SSP
Runge–Kutta of order 3 (Shu & Osher 1988), whose stages are convex combinations of such steps, so positivity and mass carry over.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.mesh.domain import Domain
from mvpde.runtime import MPI, SolverError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

TINY = 1e-290  # subnormal numbers are slow and lose their sign; a density this small is none
AFFORDABLE = 1.0 - 1e-14  # of what a node has it may lose this part, so that rounding cannot overdraw it
# (share of the state at the start of the step, share of the Euler step from the last stage): Shu–Osher form
STAGES = ((0.0, 1.0), (0.75, 0.25), (1.0 / 3.0, 2.0 / 3.0))
TIMES = (0.0, 1.0, 0.5)  # of the stages, in steps
_ATTEMPTS = 50  # at one step; two or three do where the drift is smooth in time


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def predict(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    low: Array,
    rate: Array,
) -> float:
    """Upwind rate into ``low``, central rate into ``rate`` (dρ_i/dt, owned rows); returns the largest outflow rate per mass.

    ``potential`` and ``density`` hold owned and ghost values. 1/(returned value) is the largest positive Euler step on this rank.
    """
    fastest = 0.0
    for i in range(lumped.size):
        v_i, rho_i = potential[i], density[i]
        upwind, central, outflow = 0.0, 0.0, 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            w = s * (potential[j] - v_i)
            rho_j = density[j]
            conduction = temperature * max(s, 0.0)
            # Gains and losses apart, each of one sign: then not even rounding makes an empty node negative.
            upwind += (max(w, 0.0) + conduction) * rho_j
            outflow += max(-w, 0.0) + conduction
            central += 0.5 * w * (rho_i + rho_j) + temperature * s * (rho_j - rho_i)
        inverse = 1.0 / lumped[i]
        low[i] = (upwind - outflow * rho_i) * inverse
        rate[i] = central * inverse
        fastest = max(fastest, outflow * inverse)
    return fastest


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def afford(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    mass: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    step: float,
    low: Array,
    rate: Array,
    share: Array,
) -> None:
    """The share of its antidiffusive losses that each owned node can pay from what the upwind step leaves it, into ``share``."""
    for i in range(lumped.size):
        v_i, rho_i, rate_i = potential[i], density[i], rate[i]
        loss = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            d = 0.5 * abs(s * (potential[j] - v_i)) + temperature * max(-s, 0.0)
            loss += max(mass[e] * (rate[j] - rate_i) + d * (density[j] - rho_i), 0.0)
        budget = AFFORDABLE * lumped[i] * max(rho_i + step * low[i], 0.0)
        loss *= step
        share[i] = 1.0 if loss <= budget else budget / loss


@njit(cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def correct(
    offsets: Integers,
    columns: Integers,
    stiffness: Array,
    mass: Array,
    lumped: Array,
    potential: Array,
    density: Array,
    temperature: float,
    step: float,
    low: Array,
    rate: Array,
    share: Array,
    start: Array,
    of_start: float,
    of_step: float,
    result: Array,
) -> None:
    """of_start·start + of_step·(upwind step + limited antidiffusion) on owned rows, into ``result``."""
    for i in range(lumped.size):
        v_i, rho_i, rate_i, share_i = potential[i], density[i], rate[i], share[i]
        gain = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            s = stiffness[e]
            j = columns[e]
            d = 0.5 * abs(s * (potential[j] - v_i)) + temperature * max(-s, 0.0)
            f = mass[e] * (rate_i - rate[j]) + d * (rho_i - density[j])
            gain += f * (share[j] if f > 0.0 else share_i)
        value = of_start * start[i] + of_step * (rho_i + step * (low[i] + gain / lumped[i]))
        result[i] = 0.0 if abs(value) < TINY else value


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
    """The sweeps over the edges that an explicit step takes, each with the arrays of the kernels above.

    Attributes:
        sharpenings: how often the rates are sharpened before they enter f_ij.
    """

    sharpenings: int

    def evaluate(self, moments: Array, time: float) -> None:
        """Take the coefficients at these moments and at this time. Local."""

    def predict(self, density: Array, low: Array, rate: Array) -> float:
        """As `predict`."""

    def afford(self, density: Array, step: float, low: Array, rate: Array, share: Array) -> None:
        """As `afford`."""

    def correct(
        self,
        density: Array,
        step: float,
        low: Array,
        rate: Array,
        share: Array,
        start: Array,
        of_start: float,
        of_step: float,
        result: Array,
    ) -> None:
        """As `correct`."""


class PotentialFluxes:
    """Those of ∇·(ρ∇V + τ∇ρ), from differences of V along the edges."""

    sharpenings = 0

    def __init__(self, domain: Domain, features: NodalFeatures) -> None:
        """Allocate V."""
        graph = domain.graph
        self._features, self._temperature = features, features.model.temperature
        self._rows = (graph.offsets, graph.columns, graph.stiffness)
        self._mass, self._lumped, self._potential = graph.mass, graph.lumped, np.zeros(len(domain.coordinates))

    def evaluate(self, moments: Array, time: float) -> None:
        """V(·; m) at this time."""
        present = self._features.at(time)
        self._temperature = present.model.temperature
        present.potential(moments, self._potential)

    def predict(self, density: Array, low: Array, rate: Array) -> float:
        """As `predict`."""
        return float(predict(*self._rows, self._lumped, self._potential, density, self._temperature, low, rate))

    def afford(self, density: Array, step: float, low: Array, rate: Array, share: Array) -> None:
        """As `afford`."""
        terms = (*self._rows, self._mass, self._lumped, self._potential, density, self._temperature)
        afford(*terms, step, low, rate, share)

    def correct(
        self,
        density: Array,
        step: float,
        low: Array,
        rate: Array,
        share: Array,
        start: Array,
        of_start: float,
        of_step: float,
        result: Array,
    ) -> None:
        """As `correct`."""
        terms = (*self._rows, self._mass, self._lumped, self._potential, density, self._temperature)
        correct(*terms, step, low, rate, share, start, of_start, of_step, result)


class FluxCorrected:
    """∂_tρ = ∇·(ρ∇V + τ∇ρ), or −∇·(bρ), on the edge graph; for τ = 0 and for τ too small to be stiff.

    Each stage evaluates the moments of its own state and coefficients that depend on time at its own time, so both are as
    accurate in time as the transport. Arrays are local to the rank.
    """

    name = "flux_corrected"
    stages = len(STAGES)
    proposal = math.inf  # a step depends on the state alone
    limiter_share: float | None = None  # fused into the kernels, not measured

    def __init__(self, domain: Domain, features: NodalFeatures, fluxes: Fluxes, *, cfl: float, step: float | None = None) -> None:
        """Allocate work arrays. ``cfl`` in (0, 1] is the part of the largest positive step to take, ``step`` a further bound."""
        local = len(domain.coordinates)
        self._domain, self._features, self._fluxes, self._cfl, self._bound = domain, features, fluxes, cfl, step
        self._lumped, self._update, self.time = domain.graph.lumped, domain.exchange.update, 0.0
        self._share, self._rate, self._state, self._next = (np.zeros(local) for _ in range(4))
        self._low = np.zeros(domain.owned)
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
        return remaining / max(1, math.ceil(remaining / largest * (1.0 - 1e-12)))

    def _try(self, start: Array, remaining: float, limit: float) -> tuple[Array, float, float]:
        """A step, its length, and the largest outflow rate of its stages over all ranks, which decides whether it counts."""
        state, length, fastest = start, remaining, 0.0
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
        fastest = self._fluxes.predict(state, self._low, self._rate)
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
        self._fluxes.afford(state, length, self._low, self._rate, self._share)
        self._update(self._share)
        self._fluxes.correct(state, length, self._low, self._rate, self._share, start, of_start, of_step, result)
        self._update(result)
        return result
