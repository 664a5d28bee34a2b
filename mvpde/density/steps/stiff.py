"""Implicit time steps of order 4 for any edge-flux operator: a stiffly accurate diagonally implicit Runge–Kutta method.

    M Y_i = M ρ + h Σ_{j<i} a_ij 𝓕(m_j)Y_j + h/4 𝓕(m_i)Y_i,     i = 2 … 6,     Y_1 = ρ,      ρ_next = ρ + h M⁻¹ Σ_i b_i 𝓕(m_i)Y_i

with the tableau ESDIRK4(3)6L[2]SA of Kennedy & Carpenter (Appl. Numer. Math. 44, 2003): order 4, L-stable, stage order 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.fluxes import add_fluxes, rate
from mvpde.density.implicit import ROUNDING, Coefficients, ImplicitSteps
from mvpde.density.schemes import Options, Steps, whole_part
from mvpde.density.steps.dyadic import fitting
from mvpde.density.steps.positive import SAME, SOLVER_TOLERANCE, PositiveUpdate, with_ghosts
from mvpde.density.systems import ShiftedSystem, for_kept_steps, for_steps
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.runtime import SolverError

Array = NDArray[np.float64]

GAMMA = 0.25
STAGES = (
    (),
    (0.25,),
    (8611 / 62500, -1743 / 31250),
    (5012029 / 34652500, -654441 / 2922500, 174375 / 388108),
    (15267082809 / 155376265600, -71443401 / 120774400, 730878875 / 902184768, 2285395 / 8070912),
    (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211),
)  # a_ij, j < i; a_ii = γ but for the first, and the last row is b
TIMES = (0.0, 0.5, 83 / 250, 31 / 50, 17 / 20, 1.0)
WEIGHTS = (*STAGES[-1], GAMMA)
_THIRD = (
    4586570599 / 29645900160,
    0.0,
    178811875 / 945068544,
    814220225 / 1159782912,
    -3700637 / 11593932,
    61727 / 225920,
)  # weights of order 3
_CAUTION = 2.0  # the difference to them is smaller than the error where steps are long; any multiple of it is of order 3 too
ERROR_WEIGHTS = tuple(_CAUTION * (b - third) for b, third in zip(WEIGHTS, _THIRD, strict=True))
_CUBIC = sum(b * c**3 for b, c in zip(WEIGHTS, TIMES, strict=True))  # 1/4
_FIRST = 2.5  # in units of tolerance^{1/4}: the part of the mass that the first step may move
_SAFETY = 0.8  # of the tolerance
_GROWTH = 8.0  # a longer step is no longer foreseen
_NUDGE = 1e-3  # part of a step over which coefficients are differenced in time
_TIGHT = 1e-6  # tolerance at which order 4 is faster although matrices change
_KEPT = 4  # matrices with their factors


@dataclass(frozen=True)
class StepStart:
    """What a step begins with.

    Attributes:
        density: ρ (owned + ghosts).
        rate: M⁻¹𝓕(m)ρ at owned unknowns.
        moments: m, dm/dt and d²m/dt² by the equation.
    """

    density: Array
    rate: Array
    moments: tuple[Array, Array, Array]


class KeptSystems:
    """Linear systems of the shifts last used, each with its matrix and its factors. Collective."""

    def __init__(self, make: Callable[[], ShiftedSystem]) -> None:
        """``make``: a system without a matrix."""
        self._make, self._systems, self._past = make, dict[float, ShiftedSystem](), 0

    @property
    def iterations(self) -> int:
        """Iterations of all of them so far."""
        return self._past + sum(system.iterations for system in self._systems.values())

    def get(self, shift: float) -> tuple[ShiftedSystem, bool]:
        """The system of that shift, and whether it is new, without a matrix."""
        for known in self._systems:
            if math.isclose(known, shift, rel_tol=SAME):
                self._systems[known] = self._systems.pop(known)  # the last used comes last
                return self._systems[known], False
        if len(self._systems) == _KEPT:
            self._past += self._systems.pop(next(iter(self._systems))).iterations
        self._systems[shift] = self._make()
        return self._systems[shift], True


class StiffSteps:
    """M dρ/dt = 𝓕(m)ρ by steps of order 4; see the head of this module for the method.

    The moments of the stages are those of the parabola through m with the slopes dm/dt and d²m/dt² that the equation gives, so a
    stage is one linear system. What the parabola misses grows as the cube of time: its effect on the step is a quarter of that
    on the rate at its end, and is added. Coefficients that depend on time are those of the stage's time.

    Steps have lengths of `dyadic`, whose matrices are kept with their factors; where coefficients change, factors of an earlier
    matrix of the same length precondition the present one. The error is estimated in L¹ against a formula of order 3, and
    by the effect of the moments. Positivity, mass and free energy: as `ImplicitSteps`.
    """

    stages = len(STAGES) - 1

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
        """Arguments: as those of `ImplicitSteps`."""
        graph, model = domain.graph, features.model
        self.name, self.time, self.proposal, self.rejected_steps = name, 0.0, math.inf, 0
        self._domain, self._features, self._coefficients_at, self._energy = domain, features, coefficients, energy
        self._interacting, self._moving = model.interacting, model.moving is not None
        self._static = not (self._interacting or self._moving)
        self._tolerance, self._fixed = options.tolerance, options.step
        self._rows, self._lumped = (graph.offsets, graph.columns), graph.lumped
        self._moments_of_all = features.moments(graph.lumped / domain.sum(np.array([graph.lumped.sum()])))
        entries = len(graph.columns)
        self._edges = np.zeros(entries), np.zeros(entries)
        if self._static:
            coefficients(self._moments_of_all, *self._edges)
        kept = partial(for_kept_steps, domain, tensor=tensor, asked=options.solver, same=self._static)
        self._systems = KeptSystems(lambda: ShiftedSystem(domain, kept()))
        if options.solver:
            ShiftedSystem(domain, kept())  # refuses at once what PETSc does not know
        euler = partial(for_steps, domain, stays=False, tensor=tensor, asked=options.solver)
        self._update = PositiveUpdate(
            domain, options.tolerance, static=self._static, system=lambda: ShiftedSystem(domain, euler()), means=tensor
        )
        self._keeps = domain.dimension > 1  # in one dimension factors cost no more than iterations
        self._end, self._interval, self._last = math.nan, math.nan, 0.0

    @property
    def limited_steps(self) -> int:
        """Steps so far whose fluxes were limited."""
        return self._update.limited_steps

    @property
    def iterations(self) -> int:
        """Iterations of the linear solver so far."""
        return self._systems.iterations + (0 if self._update.system is None else self._update.system.iterations)

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
        self._enter(self.time + remaining, remaining)
        start, rejected = self._start(density, remaining), False
        first = math.isinf(self.proposal)
        wish = min(remaining, _FIRST * self._tolerance**0.25 / max(self._norm(start.rate), 1e-16)) if first else self.proposal
        while True:
            if wish < 1e-12 * max(1.0, remaining):
                raise SolverError(f"density: no step length meets tolerance = {self._tolerance:g}; it fell to {wish:.1e}")
            length = fitting(wish, self._interval, remaining, self._last)
            result, error = self._attempt(start, length)
            if error <= self._tolerance and self._rises(density, result):
                error = 16.0 * self._tolerance  # a shorter step, whatever the estimate says
            growth = min(_GROWTH, (_SAFETY * self._tolerance / max(error, 1e-18)) ** 0.25) if math.isfinite(error) else 0.1
            if error <= self._tolerance:
                # A step cut short by an output time says nothing against the longer one proposed before.
                longer = self.proposal if growth >= 1.0 and not (rejected or first) else 0.0
                self.proposal, self._last = max(length * (1.0 if rejected else max(growth, 1.0)), longer), length
                return result, length
            self.rejected_steps, rejected = self.rejected_steps + 1, True
            wish, self._last = length * max(0.1, min(0.5, growth)), 0.0

    def exactly(self, density: Array, length: float) -> Array:
        """The density ``length`` later, in one step without error control. Collective.

        Raises:
            SolverError: if the linear solver fails, on all ranks alike.
        """
        return self._attempt(self._start(density, length), length, controlled=False)[0]

    def _enter(self, end: float, remaining: float) -> None:
        """Begin an interval, unless the last step was in it."""
        if not math.isclose(end, self._end, rel_tol=1e-12, abs_tol=1e-12 * remaining):
            self._end, self._interval, self._last = end, remaining, 0.0

    # -- one step

    def _start(self, density: Array, longest: float) -> StepStart:
        """ρ, its rate, and the moments with two derivatives, differenced over a small part of the ``longest`` step."""
        nothing = self._moments_of_all
        if not self._interacting:
            return StepStart(density, self._rate(density, nothing, 0.0), (nothing, 0.0 * nothing, 0.0 * nothing))
        moments = self._moments(density)
        rates = self._rate(density, moments, 0.0)
        slope = self._features.moments(self._lumped * rates)
        turn = self._apply(with_ghosts(self._domain, rates))
        nudge = _NUDGE * min(longest, 0.1 / max(self._norm(rates), 1e-16))
        turn += (self._rate(density, moments + nudge * slope, nudge) - rates) / nudge
        return StepStart(density, rates, (moments, slope, self._features.moments(self._lumped * turn)))

    def _attempt(self, start: StepStart, length: float, *, controlled: bool = True) -> tuple[Array, float]:
        """One step and its estimated error, 0 where nobody asks."""
        owned = self._domain.owned
        density, rates, values = start.density[:owned], [start.rate], [start.density]
        system, new = self._systems.get(GAMMA * length)
        for i in range(1, len(STAGES)):
            self._evaluate(start, i, length)
            if new or not self._static:
                system.set(*self._edges, GAMMA * length, keep=self._keeps and not new)
                new = False
            right = density + length * _combined(STAGES[i], rates)
            solution = system.solve(self._lumped * right, right + GAMMA * length * rates[-1], SOLVER_TOLERANCE)
            values.append(with_ghosts(self._domain, solution))
            rates.append(self._apply(values[-1]))
        missing = self._missing(values[-1], rates[-1], length)
        result = with_ghosts(self._domain, density + length * (_combined(WEIGHTS, rates) + missing))
        error = self._error(system, length * (_combined(ERROR_WEIGHTS, rates) + missing)) if controlled else 0.0
        if error <= self._tolerance and self._update.needed(result[:owned]):
            result = self._limited(start, values, result, length)
        return result, error

    def _evaluate(self, start: StepStart, stage: int, length: float) -> None:
        """Take the coefficients of a stage."""
        later = TIMES[stage] * length
        moments, slope, turn = start.moments
        self._coefficients(moments + later * slope + 0.5 * later**2 * turn if self._interacting else moments, later)

    def _missing(self, end: Array, last: Array, length: float) -> Array | float:
        """What the rates of the step lack, in all, as their moments were foreseen, from what the last one lacks."""
        return _CUBIC * (self._rate(end, self._moments(end), length) - last) if self._interacting else 0.0

    def _error(self, system: ShiftedSystem, error: Array) -> float:
        """‖error‖ in L¹, without the part that later steps damp where that decides."""
        size = self._norm(error)
        if size <= self._tolerance or not math.isfinite(size):
            return size
        return self._norm(system.solve(self._lumped * error, error, 1e-3))

    def _limited(self, start: StepStart, values: list[Array], result: Array, length: float) -> Array:
        """The step made positive, see `PositiveUpdate`."""
        fluxes = np.zeros(len(self._rows[1]))
        if self._interacting:
            self._coefficients(self._moments(values[-1]), length)
            add_fluxes(*self._rows, _CUBIC, *self._edges, values[-1], fluxes)
        for stage, (weight, y) in enumerate(zip(WEIGHTS, values, strict=True)):
            self._evaluate(start, stage, length)
            last = _CUBIC if self._interacting and stage == len(values) - 1 else 0.0
            add_fluxes(*self._rows, weight - last, *self._edges, y, fluxes)
        quarter = self._systems.get(GAMMA * length)[0] if self._static else None
        return self._update.limited(start.density, fluxes, self._edges, values[-1], result, length, quarter)

    def _rises(self, density: Array, result: Array) -> bool:
        """Whether the step raises the free energy by more than rounding."""
        if self._energy is None:
            return False
        before, after = (self._energy(values[: self._domain.owned]) for values in (density, result))
        return after > before + ROUNDING * (1.0 + abs(before))

    def _moments(self, density: Array) -> Array:
        return self._features.moments(self._lumped * density[: self._domain.owned])

    def _coefficients(self, moments: Array, later: float) -> None:
        """Those at these moments, ``later`` than the start of the step."""
        if not self._static:
            self._coefficients_at(moments, *self._edges, *([self.time + later] if self._moving else []))

    def _rate(self, density: Array, moments: Array, later: float) -> Array:
        self._coefficients(moments, later)
        return self._apply(density)

    def _apply(self, density: Array) -> Array:
        """M⁻¹𝓕ρ on owned nodes."""
        result = np.empty(self._domain.owned)
        rate(*self._rows, self._lumped, *self._edges, density, result)
        return result

    def _norm(self, values: Array) -> float:
        return float(self._domain.sum(np.array([self._lumped @ np.abs(values)]))[0])


def _combined(weights: tuple[float, ...], rates: list[Array]) -> Array:
    """Σ_j w_j k_j."""
    result = weights[0] * rates[0]
    for weight, k in zip(weights[1:], rates[1:], strict=True):
        if weight:
            result += weight * k
    return result


def implicit_steps(
    domain: Domain,
    features: NodalFeatures,
    coefficients: Coefficients,
    *,
    name: str,
    options: Options,
    tensor: bool = False,
    energy: Callable[[Array], float] | None = None,
) -> Steps:
    """Steps of the order asked for, or of the faster one; arguments as those of `ImplicitSteps`. Collective."""
    steps = StiffSteps if _order(features.model, options) == 4 else ImplicitSteps
    return steps(domain, features, coefficients, name=name, options=options, tensor=tensor, energy=energy)


def _order(model: MeanField, options: Options) -> int:
    """4 where matrices stay the same, so that their factors serve many steps, and else where many steps are saved."""
    if options.order_in_time != "auto":
        return options.order_in_time
    changing = model.interacting or model.moving is not None
    return 2 if changing and options.tolerance > _TIGHT else 4
