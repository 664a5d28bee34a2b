"""Implicit time steps for any edge-flux operator: a two-stage diagonally implicit Runge–Kutta method with error control."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.fluxes import add_fluxes, rate
from mvpde.density.schemes import Options, whole_part
from mvpde.density.steps.positive import SAME, SOLVER_TOLERANCE, PositiveUpdate, with_ghosts
from mvpde.density.systems import ShiftedSystem, for_steps
from mvpde.mesh.domain import Domain
from mvpde.runtime import SolverError

Array = NDArray[np.float64]

GAMMA = 1.0 - 1.0 / math.sqrt(2.0)  # L-stable, order 2 (Alexander 1977)
# Weights of the difference to a quadrature of order 3 through the rates at 0, γ and 1
_B1 = (1.0 / 6.0) / (GAMMA * (1.0 - GAMMA))
_B2 = 0.5 - _B1 * GAMMA
ERROR_WEIGHTS = (1.0 - _B1 - _B2, _B1 - (1.0 - GAMMA), _B2 - GAMMA)
_WORTHWHILE = 1.5  # growth of the step that pays for new factors where the old ones would do
ROUNDING = 1e-14  # relative, of a free energy


class Coefficients(Protocol):
    """k_ij and k_ji of each entry (i, j), with which the flux into i from j is F_ij = k_ij ρ_j − k_ji ρ_i."""

    def __call__(self, moments: Array, inward: Array, outward: Array, /, time: float = 0.0) -> None:
        """Fill in ``inward`` k_ij and ``outward`` k_ji; ``time`` is given where the model's coefficients depend on it."""


class ImplicitSteps:
    """M dρ/dt = 𝓕(m)ρ with the edge fluxes F_ij = k_ij(m) ρ_j − k_ji(m) ρ_i and the lumped mass M.

    With γ = 1 − 1/√2 a step of length h is

        M Y₁ = M ρ + γh 𝓕(m₁)Y₁,     M Y₂ = M ρ + (1−γ)h 𝓕(m₁)Y₁ + γh 𝓕(m₂)Y₂,     ρ_next = ρ + h M⁻¹[(1−γ)𝓕(m₁)Y₁ + γ𝓕(m₂)Y₂],

    order 2, L-stable; coefficients that depend on time are those of t + γh and of t + h. m₁ and m₂ are moments extrapolated to
    these times from m, dm/dt and m(Y₁), to an error O(h²), so each stage is one linear system. The update in flux form conserves
    mass to rounding, whatever the linear solver leaves. If it has a negative value (neither a second-order step nor an operator
    with some k_ij < 0 need be positive), its fluxes are limited against those of an implicit Euler step made positive by discrete
    upwinding where it is needed. The local error is estimated against a quadrature of order 3 and against the stages with the
    moments they turn out to have, smoothed by one more solve, in the L¹ norm. A step that raises the free energy is taken again,
    shorter.
    """

    stages = 2

    def __init__(
        self,
        domain: Domain,
        features: NodalFeatures,
        coefficients: Coefficients,
        *,
        name: str,
        options: Options,
        tensor: bool = False,
        energy: Callable[[Array], float] | None = None,
    ) -> None:
        """``options.tolerance`` bounds the local error of a step in L¹ (the mass is 1); ``options.step`` fixes the step.

        Coefficients that depend neither on moments nor on time are computed once, and matrices factored once per step length.
        ``tensor``: see `for_steps`. ``energy``: (owned values) → 𝓕, which an error-controlled step must not
        raise beyond rounding; None: no law.
        """
        graph, entries, model = domain.graph, len(domain.graph.columns), features.model
        static = not model.interacting and model.moving is None
        self.name = name
        self._domain, self._features, self._static, self.time = domain, features, static, 0.0
        self._coefficients_at, self._moving = coefficients, model.moving is not None
        self._tolerance, self._fixed, self.proposal = options.tolerance, options.step, math.inf
        self._rows, self._lumped = (graph.offsets, graph.columns), graph.lumped
        slots = 2 if static else 3  # of the two stages, and of the rates that their moments would really give
        self._inward, self._outward = [np.zeros(entries) for _ in range(slots)], [np.zeros(entries) for _ in range(slots)]
        self._energy = energy
        self._solvers = partial(for_steps, domain, tensor=tensor, asked=options.solver)
        self._system, self._shift = ShiftedSystem(domain, self._solvers(stays=static)), math.nan
        self._update = PositiveUpdate(domain, options.tolerance, static=static, system=self._system_of_update, means=tensor)
        if static:
            moments = features.moments(graph.lumped / domain.sum(np.array([graph.lumped.sum()])))
            coefficients(moments, self._inward[0], self._outward[0])
            self._inward[1], self._outward[1] = self._inward[0], self._outward[0]
        self.rejected_steps = 0

    def _system_of_update(self) -> ShiftedSystem:
        """For the Euler steps of the limiter: another one where the matrix of the stages stays."""
        return ShiftedSystem(self._domain, self._solvers(stays=False)) if self._static else self._system

    @property
    def limited_steps(self) -> int:
        """Steps so far whose fluxes were limited."""
        return self._update.limited_steps

    @property
    def iterations(self) -> int:
        """Iterations of the linear solver so far."""
        return sum(system.iterations for system in {self._system, self._update.system} if system is not None)

    @property
    def limiter_share(self) -> float:
        """Part of the antidiffusive fluxes Σ|f_ij| that was cut, over all limited steps so far; the same on all ranks."""
        return self._update.share

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        """The density (owned + ghosts) one step later and the step's length ≤ remaining. Collective.

        Raises:
            SolverError: if the linear solver fails or the error control finds no step, on all ranks alike.
        """
        if self._fixed is not None:
            length = whole_part(remaining, self._fixed)
            return self.exactly(density, length), length
        wish = min(self.proposal, remaining)
        if math.isinf(self.proposal):
            wish = min(remaining, self._first_step(density))
        rejected = False
        while True:
            length = whole_part(remaining, wish)
            result, error = self._attempt(density, length)
            if error <= self._tolerance and self._rises(density, result):
                error = 4.0 * self._tolerance  # a shorter step, whatever the estimate says
            growth = min(3.0, 0.9 * (self._tolerance / max(error, 1e-16)) ** (1.0 / 3.0)) if math.isfinite(error) else 0.1
            if rejected or (self._static and growth < _WORTHWHILE):
                growth = min(growth, 1.0)
            if error <= self._tolerance:
                # A step cut short by an output time says nothing against the longer one proposed before.
                self.proposal = max(
                    length * growth,
                    min(self.proposal, wish) if growth >= 1.0 and not rejected and not math.isinf(self.proposal) else 0.0,
                )
                return result, length
            self.rejected_steps, rejected = self.rejected_steps + 1, True
            wish = length * max(0.1, min(0.9, growth))
            if wish < 1e-12 * max(1.0, remaining):
                raise SolverError(f"density: no step length meets tolerance = {self._tolerance:g}; it fell to {wish:.1e}")

    def exactly(self, density: Array, length: float) -> Array:
        """The density ``length`` later, in one step without error control. Collective.

        Raises:
            SolverError: if the linear solver fails, on all ranks alike.
        """
        return self._attempt(density, length, controlled=False)[0]

    def _first_step(self, density: Array) -> float:
        """Where the rate of change, taken as constant, would move a tenth of the cube root of the tolerance."""
        moments = self._moments(density)
        speed = self._norm(self._rate(density, moments, 0, 0.0))
        return 0.1 * self._tolerance ** (1.0 / 3.0) / max(speed, 1e-16)

    def _attempt(self, density: Array, length: float, *, controlled: bool = True) -> tuple[Array, float]:
        """One step and its estimated error, 0 where nobody asks."""
        owned, lumped = self._domain.owned, self._lumped
        start = density[:owned]
        m0 = self._moments(density)
        k0 = self._rate(density, m0, 0, 0.0)
        slope = self._features.moments(lumped * k0)
        self._coefficients(m0 + GAMMA * length * slope, 0, GAMMA * length)
        y1 = self._solve(0, GAMMA * length, lumped * start, start + GAMMA * length * k0)
        k1 = self._apply(y1, 0)
        # parabola through m(0), m'(0) and m(Y₁), at the end of the step
        m1 = self._moments(y1)
        m2 = m0 + length * slope + (m1 - m0 - GAMMA * length * slope) / GAMMA**2
        self._coefficients(m2, 1, length)
        right = start + (1.0 - GAMMA) * length * k1
        y2 = self._solve(1, GAMMA * length, lumped * right, right + GAMMA * length * (k1 + (1.0 - GAMMA) / GAMMA * (k1 - k0)))
        k2 = self._apply(y2, 1)
        result = with_ghosts(self._domain, right + GAMMA * length * k2)
        if controlled:
            error = length * (ERROR_WEIGHTS[0] * k0 + ERROR_WEIGHTS[1] * k1 + ERROR_WEIGHTS[2] * k2)
            if not self._static:  # where moments are stiffer than the step, their extrapolation is what goes wrong
                error += length * (1.0 - GAMMA) * (self._rate(y1, m1, 2, GAMMA * length) - k1)
                error += length * GAMMA * (self._rate(y2, self._moments(y2), 2, length) - k2)
            smooth = self._system.solve(lumped * error, error, 1e-3)
            estimate = self._norm(smooth)
        else:
            estimate = 0.0
        if estimate <= self._tolerance and self._update.needed(result[:owned]):
            fluxes = np.zeros(len(self._rows[1]))
            for k, (weight, y) in enumerate(((1.0 - GAMMA, y1), (GAMMA, y2))):
                add_fluxes(*self._rows, weight, self._inward[k], self._outward[k], y, fluxes)
            result = self._update.limited(density, fluxes, (self._inward[1], self._outward[1]), y2, result, length)
        return result, estimate

    def _rises(self, density: Array, result: Array) -> bool:
        """Whether the step raises the free energy by more than rounding."""
        if self._energy is None:
            return False
        before, after = (self._energy(values[: self._domain.owned]) for values in (density, result))
        return after > before + ROUNDING * (1.0 + abs(before))

    def _moments(self, density: Array) -> Array:
        return self._features.moments(self._lumped * density[: self._domain.owned])

    def _coefficients(self, moments: Array, stage: int, later: float) -> None:
        """Those of a stage, ``later`` than the start of the step."""
        if not self._static:
            places = self._inward[stage], self._outward[stage]
            self._coefficients_at(moments, *places, *([self.time + later] if self._moving else []))

    def _rate(self, density: Array, moments: Array, stage: int, later: float) -> Array:
        self._coefficients(moments, stage, later)
        return self._apply(density, stage)

    def _apply(self, density: Array, stage: int) -> Array:
        """M⁻¹𝓕ρ on owned nodes."""
        result = np.empty(self._domain.owned)
        rate(*self._rows, self._lumped, self._inward[stage], self._outward[stage], density, result)
        return result

    def _solve(self, stage: int, factor: float, right: Array, guess: Array) -> Array:
        if not (self._static and math.isclose(factor, self._shift, rel_tol=SAME)):
            self._system.set(self._inward[stage], self._outward[stage], factor)
            self._shift = factor
        return with_ghosts(self._domain, self._system.solve(right, guess, SOLVER_TOLERANCE))

    def _norm(self, values: Array) -> float:
        return float(self._domain.sum(np.array([self._lumped @ np.abs(values)]))[0])
