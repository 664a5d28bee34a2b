"""The approach of a run to its stationary law, the rate that it shows, and whether that rate says anything.

With modes h_k of the equation (linearised at ρ_∞) a law near ρ_∞ is ρ_t = ρ_∞ + Σ_k c_k h_k e^{−λ_k t}. At each output time
the part of ρ_t − ρ_∞ along each mode is its best approximation in L²(1/ρ_∞), where ‖ρ_t − ρ_∞‖ = ‖ρ_t/ρ_∞ − 1‖ in L²(ρ_∞) is
what the rate is fitted to. A rate is told only if

- one mode, or a complex pair, makes nearly all of the distance throughout the later half of the run. It need not be the
  slowest: an even start in an even double well has no part along the first mode, and decays with λ₂;
- the steps resolve it: where an implicit scheme controls its error, the distance in L¹ is far above its tolerance, or the steps
  are short against 1/|λ|, or the rate is that of the mode all the same. Where less is left than the tolerance allows for, steps
  grow as they like, and decay at their own rate;
- the logarithm of the distance is a straight line (up to the oscillation of a complex pair).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.equilibrium.spectrum import Spectrum, decay_fit, distance, relative_to
from mvpde.equilibrium.stationary import Stationary

Array = NDArray[np.float64]

LATE = 3  # output times that a rate is fitted to, at least
_ROUNDING = 1e-10  # of the largest distance: less is rounding
_RULED = 0.9  # share of the squared distance that one mode has where it rules
_ABOVE = 100.0  # times the tolerance, in L¹: where less is left, steps do not see it
_SHORT = 0.25  # |λ| times the step, below which any scheme of second order has the rate to a per cent
_BLURRED = 0.02  # of the rate: what it may differ from that of its mode where steps may not see what is left
_BENT = 0.05  # of the decline: largest deviation of the logarithm from the line


@dataclass(frozen=True)
class Sight:
    """A density at one output time, as seen from the stationary law.

    Attributes:
        time: t.
        distance: ‖ρ_t/ρ_∞ − 1‖ in L²(ρ_∞).
        absolute: ‖ρ_t − ρ_∞‖ in L¹.
        shares: of the squared distance along each mode, a complex pair counted with either of its members; shape (modes,).
        step: mean length of the steps since the output before, 0 at the start.
    """

    time: float
    distance: float
    absolute: float
    shares: Array
    step: float


@dataclass
class Approach:
    """All that is seen of the approach.

    Attributes:
        law, modes: the stationary law, and its slowest modes or None.
        sights: one per output time.
    """

    law: Stationary
    modes: Spectrum | None
    sights: list[Sight] = field(default_factory=list)
    _made: tuple[float, int] = (0.0, 0)

    def observe(self, density: Density) -> Sight:
        """Add the present. Collective."""
        length, steps = density.time - self._made[0], density.steps - self._made[1]
        self._made = density.time, density.steps
        change = (density.values - self.law.values)[: self.law.domain.owned]
        absolute = float(self.law.domain.sum(np.array(self.law.domain.graph.lumped @ np.abs(change))))
        far = distance(self.law, density.values)
        shares = np.zeros(0) if self.modes is None else shares_of(self.law, self.modes, density.values, far)
        self.sights.append(Sight(density.time, far, absolute, shares, length / steps if steps else 0.0))
        return self.sights[-1]


@dataclass(frozen=True)
class Rate:
    """A fitted rate of decay.

    Attributes:
        value: the rate, None where it says nothing.
        reason: why not; empty where it does.
        mode: number of the mode that rules, from 1; None where none does.
        error: of the value: how far the logarithm is from a line, and the rate from that of the mode on the mesh.
    """

    value: float | None = None
    reason: str = ""
    mode: int | None = None
    error: float | None = None


def shares_of(law: Stationary, modes: Spectrum, values: Array, far: float) -> Array:
    """‖part of ρ − ρ_∞ along mode k‖²/‖ρ − ρ_∞‖² in L²(1/ρ_∞), shape (modes,). Collective.

    Args:
        law: ρ_∞.
        modes: found at it.
        values: ρ (local).
        far: the distance, `mvpde.equilibrium.spectrum.distance`.
    """
    owned = law.domain.owned
    u, seen = relative_to(law, values)
    weight = law.domain.graph.lumped * np.where(seen, law.values, 0.0)[:owned]
    ground = np.where(seen, law.values, 1.0)[:owned]
    pairs = np.array([[mode.real, mode.imag] for mode in modes.modes]).reshape(-1, owned) / ground
    products = law.domain.sum((pairs * weight) @ np.column_stack([pairs.T, u[:owned] - 1.0]))
    gram, along = products[:, :-1], products[:, -1]
    amplitudes = np.linalg.lstsq(gram, along, rcond=1e-10)[0]
    result = np.zeros(len(modes.eigenvalues))
    for k, value in enumerate(modes.eigenvalues):
        alike = [n for n, other in enumerate(modes.eigenvalues) if _same_rate(other, value)]
        part = np.isin(np.arange(len(amplitudes)) // 2, alike) * amplitudes
        result[k] = part @ gram @ part / max(far**2, 1e-300)
    return result


def _same_rate(one: complex, other: complex) -> bool:
    """Members of a pair, and modes that a symmetry makes decay alike."""
    return abs(one.real - other.real) <= 1e-6 * (1e-300 + abs(other)) and abs(abs(one.imag) - abs(other.imag)) <= 1e-6 * abs(
        other
    )


def ruling(approach: Approach, tolerance: float | None) -> Rate:
    """Which mode rules the later half of the run, without its rate; or why none does.

    Args:
        approach: what was seen.
        tolerance: bound on the local error of a step in L¹; infinite where steps are given, None where they are short by
            themselves.
    """
    if approach.modes is None or approach.modes.eigenvalues[0].real < 0.0:
        return Rate(reason="a mode grows")
    sights = [sight for sight in approach.sights if sight.time >= 0.5 * (approach.sights[0].time + approach.sights[-1].time)]
    if len(sights) < LATE:
        return Rate(reason=f"a rate takes {LATE} output times in the later half of the run")
    if min(sight.distance for sight in sights) < _ROUNDING * max(sight.distance for sight in approach.sights):
        return Rate(reason="nothing but rounding is left to decay in the later half of the run; end it earlier")
    mode = int(np.argmax(sights[-1].shares))
    least = min(float(sight.shares[mode]) for sight in sights)
    if least < _RULED:
        return Rate(
            reason=f"no mode rules the later half of the run (that of rate {approach.modes.eigenvalues[mode].real:.4g} has "
            f"{max(0.0, 100 * least):.0f} % of the squared distance); let it go on, or ask for more modes"
        )
    return _resolved(approach.modes, sights, mode, tolerance)


def _resolved(modes: Spectrum, sights: Sequence[Sight], mode: int, tolerance: float | None) -> Rate:
    """Whether the steps see what is left to decay."""
    size = abs(modes.eigenvalues[mode])
    blurred = [s for s in sights if tolerance is not None and s.absolute < _ABOVE * tolerance and size * s.step > _SHORT]
    if not blurred:
        return Rate(mode=mode + 1)
    left, t, step = blurred[0].absolute, blurred[0].time, blurred[0].step
    if tolerance == np.inf:
        return Rate(
            mode=mode + 1,
            reason=f"below the accuracy of the steps: {step:.2g} is long for a rate of {size:.4g}; use a shorter [density] step",
        )
    return Rate(
        mode=mode + 1,
        reason=f"below the accuracy of the steps: {left:.1e} of the mass is left to decay at t = {t:g}, for a tolerance of "
        f"{tolerance:g}; use a smaller [density] tolerance, or end earlier",
    )


def measured(approach: Approach, ruled: Rate, norms: Sequence[float], power: int = 1) -> Rate:
    """The rate at which ``norms`` decay in the later half of the run, and its error.

    Args:
        approach: what was seen.
        ruled: from `ruling`.
        norms: of the output times, > 0.
        power: of the distance that they are: 1, or 2 for energies.
    """
    if ruled.mode is None or approach.modes is None:
        return ruled
    value = approach.modes.eigenvalues[ruled.mode - 1]
    times = [sight.time for sight in approach.sights]
    if not min(norms) > 0.0:
        return Rate(reason="nothing but rounding is left to decay", mode=ruled.mode)
    fit = decay_fit(times, norms, float(value.imag))
    if fit is None:
        return Rate(reason="too few output times for a rate that wavers; record more of them")
    rate, bend, decline = fit
    if bend > _BENT * max(decline, 1.0):
        return Rate(reason=f"the logarithm of the distance is no straight line (it is off by {bend:.2g})", mode=ruled.mode)
    expected, late = power * float(value.real), [t for t in times if t >= 0.5 * (times[0] + times[-1])]
    if ruled.reason and abs(rate - expected) > _BLURRED * abs(expected):
        return ruled
    return Rate(rate, "", ruled.mode, abs(rate - expected) + 2.0 * bend / (late[-1] - late[0]))
