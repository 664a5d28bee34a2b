"""Positive implicit steps: the fluxes of any Runge–Kutta step, limited against those of a positive implicit Euler step."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mvpde.density.fluxes import add_fluxes, antidiffusive_fluxes, make_positive, rate
from mvpde.density.limiter import add_limited_fluxes, mend_means
from mvpde.density.systems import ShiftedSystem
from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]

SOLVER_TOLERANCE = 1e-12
SAME = 1e-11  # steps that differ by less than this part use one matrix; fluxes then differ by as much, the mass not at all
_ROUNDS = 20  # of adding nodes to those with upwinding; two or three do
_REFINEMENTS = 4  # of the positive step, where the linear solver has left negative values
_PASSES = 200  # of the limiter; a few do unless the step is long and the density nearly empty
_EMPTY = 1e-10  # part of the maximum below which it does not matter how a node diffuses
_LEFT_OVER = 1e-6  # of the tolerance: fluxes of the limiter that small are not offered again
_NEGATIVE = -1e-15  # below this part of the maximum a value is negative by more than rounding


class PositiveUpdate:
    """Makes a step positive: see `limited`.

    Attributes:
        limited_steps: so far.
    """

    def __init__(
        self,
        domain: Domain,
        tolerance: float,
        *,
        static: bool,
        system: Callable[[], ShiftedSystem],
        means: bool = False,
    ) -> None:
        """``tolerance``: of a step, in L¹; ``static``: coefficients are always the same; ``system``: for the Euler steps;
        ``means``: whether the fluxes keep the equations of the first moments, so that what is cut must not upset them either.
        """
        graph = domain.graph
        self._domain, self._tolerance, self._static, self._make, self._means = domain, tolerance, static, system, means
        self._rows, self._lumped = (graph.offsets, graph.columns), graph.lumped
        self._inward, self._outward = np.zeros(len(graph.columns)), np.zeros(len(graph.columns))
        self._system: ShiftedSystem | None = None
        self._upwinded, self._shift = np.zeros(len(domain.coordinates)), math.nan
        self._offered, self._cut = 0.0, 0.0
        self.limited_steps = 0

    @property
    def system(self) -> ShiftedSystem | None:
        """Of the Euler steps, None while there were none."""
        return self._system

    @property
    def share(self) -> float:
        """Part of the antidiffusive fluxes Σ|f_ij| that was cut, over all limited steps so far; the same on all ranks."""
        return self._cut / self._offered if self._offered > 0.0 else 0.0

    def needed(self, owned: Array) -> bool:
        """Whether a value is negative by more than rounding. Collective."""
        smallest, largest = self._domain.extremes(owned)
        return smallest < _NEGATIVE * largest

    def limited(
        self,
        density: Array,
        fluxes: Array,
        end: tuple[Array, Array],
        guess: Array,
        result: Array,
        length: float,
        quarter: ShiftedSystem | None = None,
    ) -> Array:
        """The step ρ + h M⁻¹ Σ_j f_ij with its fluxes limited against those of a positive implicit Euler step. Collective.

        Args:
            density: ρ ≥ 0 at the start of the step (owned + ghosts).
            fluxes: f_ij, those of the stages times their weights, one for each entry of the graph (local); overwritten.
            end: k_ij and k_ji of each entry at the end of the step.
            guess: the end of the step, owned values at least.
            result: the step before it is limited (owned + ghosts).
            length: h.
            quarter: M + (h/4)𝓛 with these coefficients, where it is at hand: if they are ≥ 0, four Euler steps with it do.

        Returns:
            The new ρ ≥ 0 (owned + ghosts).
        """
        self.limited_steps += 1
        low = None if quarter is None else self._four_eulers(density, end, quarter, length, fluxes)
        if low is None:
            euler, low = self._positive_euler(density, result, end, guess, length)
            offered = antidiffusive_fluxes(*self._rows, self._inward, self._outward, euler, length, fluxes)
        else:
            offered = float(np.abs(fluxes).sum())
        values = with_ghosts(self._domain, low)
        add_limited_fluxes(self._domain, fluxes, values, passes=_PASSES, negligible=_LEFT_OVER * self._tolerance)
        if self._means:
            mend_means(self._domain, fluxes, values)
        self._offered, self._cut = np.array([self._offered, self._cut]) + self._domain.sum(
            np.array([offered, np.abs(fluxes).sum()])
        )
        return values

    def _four_eulers(
        self, density: Array, end: tuple[Array, Array], system: ShiftedSystem, length: float, fluxes: Array
    ) -> Array | None:
        """Four implicit Euler steps of h/4; ``fluxes`` become h times what they lack. None, all unchanged, where not ≥ 0."""
        domain, owned = self._domain, self._domain.owned
        least = min(float(coefficients.min(initial=0.0)) for coefficients in end)
        if domain.extremes(np.array([least]))[0] < 0.0:
            return None
        low, values, change = density[:owned].copy(), density, np.empty(owned)
        euler = np.zeros(len(fluxes))
        for _ in range(4):
            values = with_ghosts(domain, system.solve(self._lumped * values[:owned], values[:owned], SOLVER_TOLERANCE))
            rate(*self._rows, self._lumped, *end, values, change)
            low += 0.25 * length * change
            add_fluxes(*self._rows, 0.25, *end, values, euler)
        if self.needed(low):
            return None
        fluxes -= euler
        fluxes *= length
        return low

    def _positive_euler(
        self, density: Array, trial: Array, end: tuple[Array, Array], guess: Array, length: float
    ) -> tuple[Array, Array]:
        """Y ≥ 0 with M Y = M ρ + h 𝓕⁺Y, where 𝓕⁺ is 𝓕 with discrete upwinding at as few nodes as it takes; and ρ + hM⁻¹𝓕⁺Y.

        It starts with the nodes where ``trial`` < 0 and adds those where Y < 0, until there are no more. Then Y ≥ 0 holds, for
        the fluxes into the set of nodes with Y < 0 would all be ≥ 0, but their sum is that of M(Y − ρ) < 0 over the set.
        Upwinding everywhere is positive at once, but far off under strong cross diffusion. Nodes of the last step that are as
        good as empty stay, so that its matrix may serve again.
        """
        domain = self._domain
        largest = domain.extremes(trial[: domain.owned])[1]
        cut = self._negative_nodes(trial, np.where(trial < _EMPTY * largest, self._upwinded, 0.0))
        for _ in range(_ROUNDS):
            euler, low, more = self._solve_upwinded(density, cut, guess, end, length)
            if more is None:
                return euler, low
            cut, guess = more, euler
        return self._solve_upwinded(density, np.ones(len(trial)), guess, end, length)[:2]

    def _solve_upwinded(
        self, density: Array, cut: Array, guess: Array, end: tuple[Array, Array], length: float
    ) -> tuple[Array, Array, Array | None]:
        """One solve of `_positive_euler`: Y, ρ + hM⁻¹𝓕⁺Y, and where to upwind next, if anywhere; keeps 𝓕⁺."""
        owned, lumped = self._domain.owned, self._lumped
        if self._system is None:
            self._system = self._make()
        system, same = self._system, self._static and math.isclose(length, self._shift, rel_tol=SAME)
        if self._domain.sum(np.array(float(not same) + np.abs(cut - self._upwinded).sum())) > 0.0:
            self._inward[:], self._outward[:] = end
            make_positive(*self._rows, cut, self._inward, self._outward)
            system.set(self._inward, self._outward, length)
            self._upwinded, self._shift = cut, length
        euler = with_ghosts(self._domain, system.solve(lumped * density[:owned], guess[:owned], SOLVER_TOLERANCE))
        more, low = self._negative_nodes(euler, cut), np.empty(owned)
        if self._domain.sum(np.array((more - cut)[:owned].sum())) > 0.0:
            return euler, low, more
        for _ in range(_REFINEMENTS):
            rate(*self._rows, lumped, self._inward, self._outward, euler, low)
            low *= length
            low += density[:owned]
            if not self.needed(low):
                break
            correction = system.solve(lumped * (low - euler[:owned]), np.zeros(owned), 1e-3)
            euler = with_ghosts(self._domain, euler[:owned] + correction)
        return euler, low, None

    def _negative_nodes(self, values: Array, known: Array) -> Array:
        """1 at the nodes that are ``known`` or negative by more than rounding, 0 elsewhere (owned + ghosts)."""
        largest = self._domain.extremes(values[: self._domain.owned])[1]
        return np.maximum(known, np.where(values < _NEGATIVE * largest, 1.0, 0.0))


def with_ghosts(domain: Domain, owned: Array) -> Array:
    """Values at owned and ghost unknowns from those at the owned ones. Collective."""
    values = np.empty(len(domain.coordinates))
    values[: domain.owned] = owned
    domain.exchange.update(values)
    return values
