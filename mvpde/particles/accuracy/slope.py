"""How fast a drift changes along the coordinates, and which steps that allows.

    λ = max(λ₁, λ₂),    λ₁: |∂b/∂z| of nine of ten particles is no larger,    λ₂: of the moments' answer, b(z; m(z + εv))

both by a few power iterations of differences. Explicit schemes of order 1 and 2 are stable on the negative axis for hλ ≤ 2; at a
tenth of that Heun's scheme gives a stationary variance 1 % too small, Euler's 11 % too large: it needs a hundredth for 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mvpde.runtime import MPI, ArgumentError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from numpy.typing import NDArray

from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.schemes import Blocks

STABLE = 2.0  # largest hλ, of Euler's and Heun's schemes for rates on the negative axis
DOUBTFUL = 0.1 * STABLE  # the largest hλ that gives Heun's scheme a variance within 1 %
SAMPLE = 256  # particles that are asked
ITERATIONS = 6
TOGETHER = 8  # of a network as a whole, where one direction among very many may be the fastest
MOST = 0.9  # share of the particles that λ₁ covers
CONTRACTING = 0.7  # cosine between v and −(∂b/∂z)v: a saddle, which stretches as fast as it contracts, has none of its own
DIFFERENCE = 1e-5  # of a difference quotient, relative to the particles


@dataclass(frozen=True)
class Slope:
    """How fast the drift changes where particles are.

    Attributes:
        rate: λ.
        stiffness: median of |∂b/∂z| over the particles, 0 where it is not a contraction: what a step must be stable for, since
            beyond 2 over it half of the particles are thrown out.
    """

    rate: float
    stiffness: float

    def numbers(self) -> dict[str, float]:
        """As measures record it."""
        return {"slope": self.rate, "stiffness": self.stiffness}


def slope(model: MeanField, z: Array, m: Array) -> Slope:
    """λ at points z, shape (N, D), and moments m, shape (K,). Local.

    NaN where the drift is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rates, contracted = _own(model, z, m)
        together = _together(model, z, m) if model.interacting else 0.0
    covered = math.ceil(MOST * (len(z) - 1))
    return Slope(float(max(np.sort(rates)[covered], together)), float(np.median(np.where(contracted, rates, 0.0))))


def _scale(z: Array) -> float:
    return DIFFERENCE * max(float(np.abs(z).max(initial=0.0)), 1e-3)


def _normals(model: MeanField, count: int) -> Array:
    """Directions that hit every one of some weight, the same at every call; 0 along frozen coordinates."""
    v = np.random.Generator(np.random.Philox(1)).standard_normal((count, model.dimension))
    v[:, len(model.directions) :] = 0.0
    return v


def _own(model: MeanField, z: Array, m: Array) -> tuple[Array, NDArray[np.bool_]]:
    """|∂b/∂z| of each point after some iterations, and whether it contracts, v·(∂b/∂z)v ≪ 0, shapes (N,)."""
    e, v = _scale(z), _normals(model, len(z))
    unit = v
    for _ in range(ITERATIONS):
        unit = v / np.maximum(np.linalg.norm(v, axis=1), np.finfo(float).tiny)[:, None]
        v = (model.drift(z + e * unit, m) - model.drift(z - e * unit, m)) / (2.0 * e)
    rates = np.linalg.norm(v, axis=1)
    return rates, (unit * v).sum(axis=1) < -CONTRACTING * rates


def _together(model: MeanField, z: Array, m: Array) -> float:
    """The rate of z ↦ b(z; m) through the moments alone: of v ↦ ∂_m b ⟨∂g v⟩, in mean square over the points."""
    e, v, rate = _scale(z), _normals(model, len(z)) + model.drift(z, m), 0.0
    for _ in range(ITERATIONS):
        size = math.sqrt(float(np.mean(v**2)) * model.dimension)
        if not size > 0.0:
            return 0.0
        v /= size
        dm = (model.feature_sum(z + e * v) - model.feature_sum(z - e * v)) / (2.0 * e * len(z))
        length = float(np.linalg.norm(dm))
        if not length > 0.0:
            return 0.0
        small = DIFFERENCE * max(float(np.linalg.norm(m)), 1e-3) / length
        v = (model.drift(z, m + small * dm) - model.drift(z, m - small * dm)) / (2.0 * small)
        rate = math.sqrt(float(np.mean(v**2)) * model.dimension)
    return rate


def slope_of(model: MeanField, blocks: Blocks, m: Array, comm: MPI.Intracomm) -> Slope:
    """That at the first particles of the first block, the same on all ranks. Collective.

    Args:
        model: with the coefficients of the time.
        blocks: particles of this rank, in order.
        m: moments of their run, shape (K,).
        comm: that shares the blocks.
    """
    first = comm.gather(blocks[0][:SAMPLE] if blocks else None)

    def found() -> Slope:
        sample = next(z for z in first or [] if z is not None)
        return slope(model, sample, m)

    return on_first_rank(comm, found)


def slope_of_flow(velocity: Callable[[Array], Array], z: Array, dot: Callable[[Array, Array], float]) -> Slope:
    """λ of ż = velocity(z) as a whole, for weights that all see each other, at z, shape (n,) on this rank. Collective.

    Args:
        velocity: shape (n,) → (n,).
        z: where they are.
        dot: product of two such vectors over all ranks, the same on all; weights that do not move count for nothing.
    """
    speed = velocity(z)
    size = math.sqrt(dot(speed, speed))
    v = np.random.Generator(np.random.Philox(1)).standard_normal(len(z))
    v = v / math.sqrt(dot(v, v)) + (speed / size if 0.0 < size < math.inf else 0.0)
    e, rate, along = DIFFERENCE * math.sqrt(dot(z, z)) or DIFFERENCE, 0.0, 0.0
    for _ in range(TOGETHER):
        length = math.sqrt(dot(v, v))
        if not 0.0 < length < math.inf:
            break
        unit = v / length
        v = (velocity(z + e * unit) - speed) / e
        rate, along = math.sqrt(dot(v, v)), dot(unit, v)
    return Slope(rate, rate if along < -CONTRACTING * rate else 0.0)


def careful(order: int) -> float:
    """The largest hλ that leaves a stationary variance within 1 %: (hλ)²/4 for weak order 2, hλ/2 for order 1."""
    return DOUBTFUL if order > 1 else 0.1 * DOUBTFUL


def require_stable(step: float, found: Slope, order: int, *, t: float = 0.0, otherwise: str = ', or step = "auto"') -> None:
    """Refuse a step beyond the bound of stability.

    Args:
        step: h.
        found: slopes of the drift at time t.
        order: weak order of the scheme, for the step that is advised.
        t: time, for the message.
        otherwise: what else helps.

    Raises:
        ArgumentError: naming the largest good one.
    """
    rate = found.stiffness
    if step * rate > STABLE:
        raise ArgumentError(
            "step",
            f"is {step:g}, but the drift contracts at the rate {rate:.3g} where the particles are at t = {t:g}, and steps longer "
            f"than {STABLE / rate:.3g} are unstable there; choose at most {STABLE / rate:.3g}, better "
            f"{rounded_down(careful(order) / max(rate, found.rate)):g}{otherwise}",
        )


def rounded_down(x: float) -> float:
    """x to one digit, not above it: 0.0137 → 0.01."""
    if not 0.0 < x < math.inf:
        return x
    digit = 10.0 ** math.floor(math.log10(x))
    return float(f"{math.floor(x / digit + 1e-9) * digit:.1g}")


def fitting(rate: float, samples: int, order: int) -> float:
    """The step whose error should lie below a quarter of the sampling error of so many samples.

    hλ = ε^{1/2} for weak order 2 and ½ε for order 1, with ε = √(2/samples) the relative error of a variance: Heun's scheme is off
    by (hλ)²/4, Euler's by hλ/2, which are below 1 % however few samples there are.
    """
    relative = math.sqrt(2.0 / samples)
    wanted = min(max(relative**0.5, 0.01), 0.75 * careful(2)) if order > 1 else min(max(0.5 * relative, 0.001), careful(1))
    return wanted / rate if rate > 0.0 else math.inf
