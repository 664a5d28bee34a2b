"""Fixed points m = ∫g dρ_m in the space of moments, by Newton's method; of models with symmetries but for motion.

With the tangents T of the motions x ↦ x_s of `mvpde.equilibrium.symmetries` at ρ_m a step δ solves

    ∂F δ + T c = −F,     Tᵀδ = 0,

and F in the span of T ends it: what walls, the mesh and compression do to the place of a law is left, and told as its residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.equilibrium.linearised import feature_covariance, feature_rows, operator_changes, second_derivative
from mvpde.equilibrium.stationary import SOLVED, Balance, balance, is_gibbs, long_system
from mvpde.equilibrium.symmetries import (
    LINE,
    Freedom,
    Position,
    Symmetry,
    about,
    circles,
    moved_moments,
    moving,
    place_of,
    shift_to,
    shift_to_phase_zero,
    width,
)
from mvpde.runtime import SolverError

Array = NDArray[np.float64]

_STEPS = 60  # of Newton's method
_HALVINGS = 10
_MET = 1e-12  # residual that ends it, relative to the moments
_ACCEPTED = 1e-8  # residual of a fixed point where rounding or the mesh's broken symmetry leave no better one
_RANK = 1e-8  # singular values of ∂F below this part of the largest: along a circle of states
_PUSHED = 0.03  # of the law's width: by how much walls may move a law in one round without being what holds it
_ROUNDS, _PLACED = 4, 1e-9  # of bringing a law to its place, and how near that is


@dataclass(frozen=True)
class Fixed:
    """A fixed point.

    Attributes:
        moments: m.
        law: the law.
        residual: |m − ∫g dρ_m|.
        pushed: how far it moves in one round of m ↦ ∫g dρ_m along each motion, see there.
        motions: those that make other stationary laws of it.
        starts: places in the list of starts that led here.
    """

    moments: Array
    law: Balance
    residual: float
    pushed: Array
    motions: tuple[Symmetry, ...] = ()
    starts: tuple[int, ...] = ()


def settled_at(density: Density, start: Array, free: Freedom, place: Position) -> Fixed:
    """The fixed point that a start leads to: on circles that of phase 0, of other motions that at the place. Collective.

    Args:
        density: model and mesh.
        start: moments, shape (K,).
        free: lines and rotations of the model.
        place: where the law is wanted.

    Raises:
        SolverError: none is found. On all ranks alike.
    """
    lines = free.of([motion for motion in free.motions if motion.kind == LINE])
    begun = lines if len(lines.motions) == len(free.motions) else free.of(_of_start(density, start, free))
    fixed = _newton(density, start, begun)
    rounds = circles(density, fixed.law.values, fixed.moments)
    for circle in rounds:
        shift = shift_to_phase_zero(density, fixed.law.values, circle.axes[0])
        fixed = _newton(density, moved_moments(density, fixed.law.values, circle, shift), lines)
    placed = _placed(density, fixed, free, place)
    if placed is None:
        return replace(_newton(density, start, free.of([])), motions=rounds)
    return replace(placed, motions=(*rounds, *placed.motions))


def _of_start(density: Density, start: Array, free: Freedom) -> list[Symmetry]:
    """Lines, and rotations where the law at the start is not round: meshes are not, and lead it around."""
    right = density.features.right
    return moving(density, balance(density, right @ (right.T @ start)).values, free.motions)


def _placed(density: Density, fixed: Fixed, free: Freedom, place: Position) -> Fixed | None:
    """Moved to its place, with its motions; None where walls hold it, or would move it fast.

    Lines come before rotations: a law that is round in its place may not be so near a wall.
    """
    lines = [motion for motion in free.motions if motion.kind == LINE]
    brought: Fixed | None = _brought(density, fixed, free.of(lines), place) if lines else fixed
    if brought is None or len(lines) == len(free.motions):
        return brought
    changing = moving(density, brought.law.values, free.motions)
    return _brought(density, brought, free.of(changing), place) if len(changing) > len(lines) else brought


def _brought(density: Density, fixed: Fixed, free: Freedom, place: Position) -> Fixed | None:
    """Moved along these motions until it is in its place."""
    motions, far = free.motions, [0.0]
    for _ in range(_ROUNDS):
        far = []
        for motion in motions:
            here = place_of(density.domain, fixed.law.values, free.motions)
            shift = shift_to(place, here, motion)
            far.append(abs(shift) / _size_of(density, fixed, motion))
            if far[-1] > _PLACED or len(fixed.pushed) != len(motions):
                motions = tuple(about(one, here) for one in free.motions)
                fixed = _newton(density, moved_moments(density, fixed.law.values, about(motion, here), shift), free.of(motions))
        if max(far) < _PLACED:
            break
    sizes = np.array([_size_of(density, fixed, motion) for motion in motions])
    held = max(far) > _PUSHED or (np.abs(fixed.pushed) > _PUSHED * sizes).any()
    return None if held else replace(fixed, motions=motions)


def _size_of(density: Density, fixed: Fixed, motion: Symmetry) -> float:
    """A length to compare motions with: the law's width, or a radian."""
    return width(density.domain, fixed.law.values, motion.axes[0]) if motion.kind == LINE else 1.0


def _newton(density: Density, start: Array, free: Freedom) -> Fixed:
    """Newton's method with halved steps where |F| does not fall, and a step of the plain iteration where none does."""
    right = density.features.right
    mu = right.T @ start
    law = balance(density, right @ mu)
    residual = mu - _reduced_moments(density, law)
    for _ in range(_STEPS):
        if not math.isfinite(_size(residual) + _size(mu)):
            raise SolverError("the law at these moments is not finite")
        along = free.tangents(density.domain, law.values, len(mu))
        if _size(_across(residual, along)) <= _MET * (1.0 + _size(mu)):
            break
        slope = np.eye(len(mu)) - _response(density, law, right @ mu)
        direction = _direction(slope, along, residual)
        tried = _line_search(density, mu, law, residual, direction, along)
        if tried is None:
            if _size(_across(residual, along)) <= _ACCEPTED * (1.0 + _size(mu)):
                break
            mu = mu - residual
            law = balance(density, right @ mu, law)
            tried = mu, law, mu - _reduced_moments(density, law)
        mu, law, residual = tried
    along = free.tangents(density.domain, law.values, len(mu))
    size = _size(_across(residual, along))
    if math.isinf(size) or not size <= _ACCEPTED * (1.0 + _size(mu)):
        raise SolverError(f"Newton's method stopped at a residual of {size:.1e} after {_STEPS} steps")
    return Fixed(right @ mu, law, _size(residual), np.linalg.lstsq(along, residual)[0] if free.motions else np.zeros(0))


def _direction(slope: Array, along: Array, residual: Array) -> Array:
    """δ of the system above."""
    count, scale = along.shape[1], np.abs(slope).max(initial=0.0)
    if count == 0:
        return np.asarray(np.linalg.lstsq(slope, -residual, rcond=_RANK)[0])
    unit = scale * along / np.maximum(np.linalg.norm(along, axis=0), 1e-300)
    bordered = np.block([[slope, unit], [unit.T, np.zeros((count, count))]])
    return np.asarray(np.linalg.lstsq(bordered, np.append(-residual, np.zeros(count)), rcond=_RANK)[0][: len(residual)])


def _across(residual: Array, along: Array) -> Array:
    """The part of F outside the span of the tangents."""
    return residual - along @ np.linalg.lstsq(along, residual)[0] if along.shape[1] else residual


def _size(vector: Array) -> float:
    """|v|; infinite where its square is, as for moments of 1e200."""
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(vector))


def _line_search(
    density: Density, mu: Array, law: Balance, residual: Array, direction: Array, along: Array
) -> tuple[Array, Balance, Array] | None:
    """The longest of the steps direction/2^k that lowers |F|, but for motion."""
    before = _size(_across(residual, along))
    for k in range(_HALVINGS):
        trial = mu + 0.5**k * direction
        try:
            new = balance(density, density.features.right @ trial, law)
        except SolverError:
            continue
        rest = trial - _reduced_moments(density, new)
        if _size(_across(rest, along)) < (1.0 - 0.1 * 0.5**k) * before:
            return trial, new, rest
    return None


def _reduced_moments(density: Density, law: Balance) -> Array:
    domain = density.domain
    return density.features.right.T @ density.features.moments(domain.graph.lumped * law.values[: domain.owned])


def _response(density: Density, law: Balance, moments: Array) -> Array:
    """∂(∫g dρ_m)/∂m in the singular directions, shape (r, r)."""
    domain, owned = density.domain, density.domain.owned
    if is_gibbs(density):
        covariance = feature_covariance(density, law.values)
        return -covariance @ second_derivative(density, moments) / density.model.temperature
    system, factor = long_system(domain, law)
    lumped, columns = domain.graph.lumped, operator_changes(density, law, moments)
    rows = feature_rows(density)[:owned]
    result = np.empty((rows.shape[1], rows.shape[1]))
    for k, column in enumerate(columns.T):
        change = system.solve(factor * lumped * column, np.zeros(owned), SOLVED)
        change -= domain.spread(domain.part_masses(change) / domain.weights, change) * law.values[:owned]  # of mass zero
        result[:, k] = domain.sum((lumped * change) @ rows)
    return result
