"""Implicit time steps for any edge-flux operator: a two-stage diagonally implicit Runge–Kutta method with error control."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.edge_fluxes import ShiftedSystem, add_fluxes, make_positive, rate
from mvpde.domain import Domain
from mvpde.limiter import add_limited_fluxes
from mvpde.nodal_features import NodalFeatures
from mvpde.runtime import SolverError

Array = NDArray[np.float64]

GAMMA = 1.0 - 1.0 / math.sqrt(2.0)  # L-stable, order 2 (Alexander 1977)
# Weights of the difference to a quadrature of order 3 through the rates at 0, γ and 1
_B1 = (1.0 / 6.0) / (GAMMA * (1.0 - GAMMA))
_B2 = 0.5 - _B1 * GAMMA
ERROR_WEIGHTS = (1.0 - _B1 - _B2, _B1 - (1.0 - GAMMA), _B2 - GAMMA)
SOLVER_TOLERANCE = 1e-13
_PASSES = 400  # of the limiter: about the ratio of an implicit step to an explicit one
_WORTHWHILE = 1.5  # growth of the step that pays for new factors where the old ones would do
_SAME = 1e-11  # steps that differ by less than this part of themselves use one matrix; the fluxes then differ by as much, the mass not at all
_NEGATIVE = -1e-15  # below this part of the maximum a value is negative by more than rounding


# (moments, inward, outward): fills in k_ij and k_ji of each entry, with which the flux into i from j is F_ij = k_ij ρ_j − k_ji ρ_i
Coefficients = Callable[[Array, Array, Array], None]


@dataclass
class _Positive:
    """The static operator made positive, with the system of its implicit Euler step and the step length that one is filled in for."""

    inward: Array
    outward: Array
    system: ShiftedSystem
    shift: float = math.nan


class ImplicitSteps:
    """M dρ/dt = 𝓕(m)ρ with the edge fluxes F_ij = k_ij(m) ρ_j − k_ji(m) ρ_i and the lumped mass M.

    With γ = 1 − 1/√2 a step of length h is

        M Y₁ = M ρ + γh 𝓕(m₁)Y₁,     M Y₂ = M ρ + (1−γ)h 𝓕(m₁)Y₁ + γh 𝓕(m₂)Y₂,     ρ_next = ρ + h M⁻¹[(1−γ)𝓕(m₁)Y₁ + γ𝓕(m₂)Y₂],

    order 2, L-stable. m₁ and m₂ are moments extrapolated to the stage times from m, dm/dt and m(Y₁), to an error O(h²), so
    each stage is one linear system. The update in flux form conserves mass to rounding, whatever the linear solver leaves. If it has
    a negative value (neither a second-order step nor an operator with some k_ij < 0 need be positive), its fluxes are limited against
    those of an implicit Euler step with the operator made positive by discrete upwinding. The local error is estimated against a quadrature of order 3, smoothed by one more solve, in the L¹ norm.
    """

    order = 2
    stages = 2

    def __init__(
        self,
        domain: Domain,
        features: NodalFeatures,
        coefficients: Coefficients,
        *,
        tolerance: float,
        step: float | None = None,
        static: bool = False,
    ) -> None:
        """``tolerance`` bounds the local error of a step in L¹ (the mass is 1); ``step`` fixes the step length instead.

        ``static``: the coefficients do not depend on the moments, so that they are computed once, and matrices factored once per step length.
        """
        graph, entries = domain.graph, len(domain.graph.columns)
        self._domain, self._features, self._coefficients_at, self._static = domain, features, coefficients, static
        self._tolerance, self._fixed, self._proposal = tolerance, step, math.inf
        self._rows, self._lumped = (graph.offsets, graph.columns), graph.lumped
        self._inward, self._outward = [np.zeros(entries) for _ in range(2)], [np.zeros(entries) for _ in range(2)]
        self._system, self._shift = self._new_system(), math.nan
        self._positive: _Positive | None = None
        if static:
            moments = features.moments(graph.lumped / domain.sum(np.array([graph.lumped.sum()])))
            coefficients(moments, self._inward[0], self._outward[0])
            self._inward[1], self._outward[1] = self._inward[0], self._outward[0]
        self.limited_steps = 0
        self.rejected_steps = 0
        self._offered, self._cut = 0.0, 0.0

    def _new_system(self) -> ShiftedSystem:
        """Of factors that are used again and again, complete ones are the cheapest, where the mesh keeps them sparse."""
        return ShiftedSystem(self._domain, direct=self._static and self._domain.dimension < 3)

    @property
    def iterations(self) -> int:
        """Iterations of the linear solver so far."""
        return self._system.iterations + (self._positive.system.iterations if self._static and self._positive is not None else 0)

    @property
    def limiter_share(self) -> float:
        """Part of the antidiffusive fluxes Σ|f_ij| that the limiter cut, over all steps it was called in so far; the same on all ranks."""
        return self._cut / self._offered if self._offered > 0.0 else 0.0

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        """The density (owned + ghosts) one step later and the step's length ≤ remaining. Collective.

        Raises:
            SolverError: if the linear solver fails or the error control finds no step, on all ranks alike.
        """
        if self._fixed is not None:
            length = remaining / max(1, math.ceil(remaining / self._fixed * (1.0 - 1e-12)))
            return self._attempt(density, length)[0], length
        wish = min(self._proposal, remaining)
        if math.isinf(self._proposal):
            wish = min(remaining, self._first_step(density))
        while True:
            length = remaining / max(1, math.ceil(remaining / wish * (1.0 - 1e-12)))
            result, error = self._attempt(density, length)
            growth = min(3.0, 0.9 * (self._tolerance / max(error, 1e-16)) ** (1.0 / 3.0)) if math.isfinite(error) else 0.1
            if self._static and 1.0 <= growth < _WORTHWHILE:
                growth = 1.0
            if error <= self._tolerance:
                # A step cut short by an output time says nothing against the longer one proposed before.
                self._proposal = max(length * growth, min(self._proposal, wish) if growth >= 1.0 and not math.isinf(self._proposal) else 0.0)
                return result, length
            self.rejected_steps += 1
            wish = length * max(0.1, min(0.9, growth))
            if wish < 1e-12 * max(1.0, remaining):
                raise SolverError(f"no step length meets density.tolerance = {self._tolerance:g}; it fell to {wish:.1e}")

    def _first_step(self, density: Array) -> float:
        """Where the rate of change, taken as constant, would move a tenth of the cube root of the tolerance."""
        moments = self._moments(density)
        speed = self._norm(self._rate(density, moments, 0))
        return 0.1 * self._tolerance ** (1.0 / 3.0) / max(speed, 1e-16)

    def _attempt(self, density: Array, length: float) -> tuple[Array, float]:
        """One step and its estimated error."""
        owned, lumped = self._domain.owned, self._lumped
        start = density[:owned]
        m0 = self._moments(density)
        k0 = self._rate(density, m0, 0)
        slope = self._features.moments(lumped * k0)
        self._coefficients(m0 + GAMMA * length * slope, 0)
        y1 = self._solve(0, GAMMA * length, lumped * start, start)
        k1 = self._apply(y1, 0)
        # parabola through m(0), m'(0) and m(Y₁), at the end of the step
        m1 = self._moments(y1)
        m2 = m0 + length * slope + (m1 - m0 - GAMMA * length * slope) / GAMMA**2
        self._coefficients(m2, 1)
        right = start + (1.0 - GAMMA) * length * k1
        y2 = self._solve(1, GAMMA * length, lumped * right, y1[:owned])
        k2 = self._apply(y2, 1)
        result = self._with_ghosts(right + GAMMA * length * k2)
        if self._fixed is None:
            error = length * (ERROR_WEIGHTS[0] * k0 + ERROR_WEIGHTS[1] * k1 + ERROR_WEIGHTS[2] * k2)
            smooth = self._system.solve(lumped * error, error, 1e-3)
            estimate = self._norm(smooth)
        else:
            estimate = 0.0
        if self._negative(result[:owned]) and estimate <= self._tolerance:
            result = self._limited(density, y1, y2, length)
        return result, estimate

    def _limited(self, density: Array, y1: Array, y2: Array, length: float) -> Array:
        """The step's fluxes limited against an implicit Euler step with the potential of its end."""
        self.limited_steps += 1
        (offsets, columns), lumped, owned = self._rows, self._lumped, self._domain.owned
        fluxes = np.zeros(len(columns))
        for stage, weight, values in ((0, 1.0 - GAMMA, y1), (1, GAMMA, y2)):
            add_fluxes(offsets, columns, self._inward[stage], self._outward[stage], values, weight * length, fluxes)
        inward, outward, system = self._positive_operator(length)
        euler = self._with_ghosts(system.solve(lumped * density[:owned], y2[:owned], SOLVER_TOLERANCE))
        low = np.empty(owned)
        rate(offsets, columns, lumped, inward, outward, euler, low)
        add_fluxes(offsets, columns, inward, outward, euler, -length, fluxes)
        result = self._with_ghosts(density[:owned] + length * low)
        offered = np.abs(fluxes).sum()
        add_limited_fluxes(self._domain, fluxes, result, passes=_PASSES)
        self._offered, self._cut = np.array([self._offered, self._cut]) + self._domain.sum(np.array([offered, np.abs(fluxes).sum()]))
        return result

    def _positive_operator(self, length: float) -> tuple[Array, Array, ShiftedSystem]:
        """The coefficients of the second stage made positive, and the system of their implicit Euler step.

        They overwrite those of the first stage, but for static coefficients, which have a place, a matrix and factors of their own.
        """
        if not self._static:
            self._inward[0][:], self._outward[0][:] = self._inward[1], self._outward[1]
            make_positive(self._inward[0], self._outward[0])
            self._system.set(self._inward[0], self._outward[0], length)
            return self._inward[0], self._outward[0], self._system
        if self._positive is None:
            self._positive = _Positive(self._inward[0].copy(), self._outward[0].copy(), self._new_system())
            make_positive(self._positive.inward, self._positive.outward)
        low = self._positive
        if not math.isclose(length, low.shift, rel_tol=_SAME):
            low.system.set(low.inward, low.outward, length)
            low.shift = length
        return low.inward, low.outward, low.system

    def _moments(self, density: Array) -> Array:
        return self._features.moments(self._lumped * density[: self._domain.owned])

    def _coefficients(self, moments: Array, stage: int) -> None:
        if not self._static:
            self._coefficients_at(moments, self._inward[stage], self._outward[stage])

    def _rate(self, density: Array, moments: Array, stage: int) -> Array:
        self._coefficients(moments, stage)
        return self._apply(density, stage)

    def _apply(self, density: Array, stage: int) -> Array:
        """M⁻¹𝓕ρ on owned nodes."""
        result = np.empty(self._domain.owned)
        rate(*self._rows, self._lumped, self._inward[stage], self._outward[stage], density, result)
        return result

    def _solve(self, stage: int, factor: float, right: Array, guess: Array) -> Array:
        if not (self._static and math.isclose(factor, self._shift, rel_tol=_SAME)):
            self._system.set(self._inward[stage], self._outward[stage], factor)
            self._shift = factor
        return self._with_ghosts(self._system.solve(right, guess, SOLVER_TOLERANCE))

    def _with_ghosts(self, owned: Array) -> Array:
        values = np.empty(len(self._domain.coordinates))
        values[: self._domain.owned] = owned
        self._domain.exchange.update(values)
        return values

    def _norm(self, values: Array) -> float:
        return float(self._domain.sum(np.array([self._lumped @ np.abs(values)]))[0])

    def _negative(self, values: Array) -> bool:
        smallest, largest = self._domain.extremes(values)
        return smallest < _NEGATIVE * largest
