"""Symmetries of a model that a stationary law has not: circles, lines and rotations of stationary laws.

A motion x ↦ x_s is a symmetry if b(x_s; m_s) is b(x; m) moved along, with m_s = ∫g(x_s) dρ, and A likewise. Then all that it
makes of a stationary ρ is stationary. One of these laws is singled out, and the rate 0 of motion among them counts for nothing:

    circle      translation along a periodic coordinate: the law of phase 0
    line        translation along a coordinate without a period, where no potential holds the law
    rotation    in the plane, about the origin, or about the law's mean where there are lines along both axes

Of lines and rotations it is the law at the place of a given one, that of the run. Walls, the mesh and a compressed interaction
break the symmetry by a little; so what is asked of ρ is that it is stationary but for motion, and how far it is from that is told
by its residual. The symmetry itself is that of the model: it is seen on random points, or in the kernel before it was compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.density.galerkin import edge_geometry, gradient
from mvpde.equilibrium.linearised import Linearised
from mvpde.equilibrium.stationary import Stationary
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

SAME = 1e-6  # relative distance of the moments of one state found twice
CIRCLE, LINE, ROTATION = "circle", "line", "rotation"
_SYMMETRIC = 1e-8  # relative change of the drift under a motion that counts as none
_HARMONICS = 6
_SEEN = 1e-6  # a harmonic of the law below this is no phase
_TURNED = 2e-2  # the same of a rotation: meshes are not round
_SLOW = {CIRCLE: 1e-2, LINE: 0.1, ROTATION: 0.1}  # in units of a typical rate: where the rate 0 of a symmetry is looked for
_WEIGHED = 1e-12  # of the largest √ρ_∞: where less is left, modes do not tell what they are
_ROWS = 4096
_POINTS = 40  # of the law on which a symmetry is seen
_PARTS = (0.2345, 0.618)  # of a period, a box, or a turn: motions that are tried
_STEP = 1e-4  # of the box, or of a radian: to differentiate


@dataclass(frozen=True)
class Symmetry:
    """A family of maps x ↦ x_s, s = 0 the identity.

    Attributes:
        kind: CIRCLE, LINE or ROTATION.
        axes: the coordinate that changes, or both of the plane.
        centre: of a rotation.
    """

    kind: str
    axes: tuple[int, ...]
    centre: tuple[float, float] = (0.0, 0.0)

    def moved(self, z: Array, s: float) -> Array:
        """x_s of points, shape (N, D)."""
        result = z.copy()
        if self.kind != ROTATION:
            result[:, self.axes[0]] += s
            return result
        plane, centre = list(self.axes), np.array(self.centre)
        result[:, plane] = centre + (z[:, plane] - centre) @ _turn(s).T
        return result

    def turned(self, vectors: Array, s: float) -> Array:
        """What vectors at x, shape (N, D), or tensors, shape (N, D, D), are at x_s."""
        if self.kind != ROTATION:
            return vectors
        matrix = np.eye(vectors.shape[1])
        matrix[np.ix_(self.axes, self.axes)] = _turn(s)
        turned = np.einsum("ab,nb...->na...", matrix, vectors)
        return turned if vectors.ndim == 2 else np.einsum("cb,nab->nac", matrix, turned)

    def along(self, z: Array, slopes: Array) -> Array:
        """d/ds of the law at s = 0, but for its sign, from its gradient ``slopes`` at points z."""
        if self.kind != ROTATION:
            return slopes[:, self.axes[0]]
        a, b = self.axes
        return (z[:, a] - self.centre[0]) * slopes[:, b] - (z[:, b] - self.centre[1]) * slopes[:, a]


@dataclass(frozen=True)
class Position:
    """Where a law is.

    Attributes:
        mean: of the coordinates, shape (D,).
        harmonics: ∫w^k dρ, k = 1 …, of w = x + iy in the plane about ``centre``, in units of its deviation and cut to |w| ≤ 1;
            empty in other dimensions.
        centre: the mean where both axes are lines, else the origin.
    """

    mean: Array
    harmonics: Complex
    centre: tuple[float, float]


def _turn(s: float) -> Array:
    return np.array([[np.cos(s), -np.sin(s)], [np.sin(s), np.cos(s)]])


def same(first: Array, second: Array, tolerance: float = SAME) -> bool:
    """Whether two vectors of moments are those of one state."""
    return bool(np.linalg.norm(first - second) <= tolerance * (1.0 + np.linalg.norm(first)))


def moved_moments(density: Density, values: Array, motion: Symmetry, s: float) -> Array:
    """∫g(x_s) dρ, the moments of the moved law: from the features, not the mesh. Collective.

    Args:
        density: model and mesh.
        values: ρ (local).
        motion: the motion.
        s: how far.
    """
    domain, model = density.domain, density.model
    z = motion.moved(domain.coordinates[: domain.owned], s)
    masses = domain.graph.lumped * values[: domain.owned]
    parts = [masses[k : k + _ROWS] @ model.feature_values(z[k : k + _ROWS]) for k in range(0, len(z), _ROWS)]
    local = np.sum(parts, axis=0) if parts else np.zeros(density.features.right.shape[0])
    return domain.sum(local)


# --- what a model has -----------------------------------------------------------------------------------------------------------


def free_motions(density: Density) -> list[Symmetry]:
    """Lines and rotations of the model, whatever the law; circles depend on the law, see `circles`."""
    model, domain = density.model, density.domain
    if not model.interacting or model.metric is not None:
        return []
    directions = range(domain.dimension)
    lines = [Symmetry(LINE, (axis,)) for axis in directions if model.periods[axis] is None]
    found = [line for line in lines if _is_symmetry(density, line, domain.upper[line.axes[0]] - domain.lower[line.axes[0]])]
    if domain.dimension == 2 and len(lines) == 2 and _is_symmetry(density, Symmetry(ROTATION, (0, 1)), 2.0 * np.pi):
        found.append(Symmetry(ROTATION, (0, 1)))
    return found


def _is_symmetry(density: Density, motion: Symmetry, whole: float) -> bool:
    """Seen on random points of the box and their empirical law, the same on all ranks."""
    model, domain = density.model, density.domain
    random = np.random.default_rng(0)
    points = random.uniform(domain.lower, domain.upper, (_POINTS, domain.dimension))
    labels = domain.labels[random.integers(len(domain.labels), size=_POINTS)] if domain.labels.size else np.zeros((_POINTS, 0))
    z = np.column_stack([points, labels])
    with np.errstate(all="ignore"):
        seen = _kernel_moves if model.pairs is not None else _coefficients_move
        return all(seen(model, z, motion, part * whole) for part in _PARTS)


def _coefficients_move(model: MeanField, z: Array, motion: Symmetry, s: float) -> bool:
    there = motion.moved(z, s)
    moments = [model.feature_values(points).mean(axis=0) for points in (z, there)]
    pairs = [(motion.turned(np.asarray(at(z, moments[0])), s), at(there, moments[1])) for at in (model.drift, model.diffusion)]
    return _alike(pairs)


def _kernel_moves(model: MeanField, z: Array, motion: Symmetry, s: float) -> bool:
    """The same of W(x, x') up to a constant, and of ∇V0."""
    assert model.pairs is not None
    there = motion.moved(z, s)
    kernels = [model.pairs(points, points)[0] for points in (z, there)]
    kernels = [kernel - kernel.mean() for kernel in kernels]
    return _alike([(kernels[0], kernels[1]), (motion.turned(model.external_gradient(z), s), model.external_gradient(there))])


def _alike(pairs: Sequence[tuple[Array, Array]]) -> bool:
    gap = sum(float(np.abs(a - b).sum()) for a, b in pairs)
    return gap <= _SYMMETRIC * sum(float(np.abs(a).sum()) for a, _ in pairs)


def circles(density: Density, values: Array, moments: Array) -> tuple[Symmetry, ...]:
    """Translations along periodic axes that change the law of these values (local) and moments, and not the model. Collective."""
    axes = [axis for axis, period in enumerate(density.model.periods) if period is not None]
    return tuple(Symmetry(CIRCLE, (axis,)) for axis in axes if _breaks_symmetry(density, values, moments, axis))


def _breaks_symmetry(density: Density, values: Array, moments: Array, axis: int) -> bool:
    """Whether translated laws have other moments, and translated drift and diffusion at these are the same."""
    domain, model, motion = density.domain, density.model, Symmetry(CIRCLE, (axis,))
    here, moved = domain.coordinates[: domain.owned], False
    for part in _PARTS:
        shift = part * (model.periods[axis] or 0.0)
        translated, there = moved_moments(density, values, motion, shift), motion.moved(here, shift)
        gaps = []
        for coefficient in (model.drift, model.diffusion):
            a, b = coefficient(here, moments), coefficient(there, translated)
            gaps.append([np.abs(a - b).sum(), np.abs(a).sum()])
        gap, size = domain.sum(np.sum(gaps, axis=0))
        if gap > _SYMMETRIC * size:
            return False
        moved = moved or not same(moments, translated)
    return moved


# --- where a law is -------------------------------------------------------------------------------------------------------------


def place_of(domain: Domain, values: Array, motions: Sequence[Symmetry]) -> Position:
    """Where the law of these values (local) is; ``motions``: those of the model. Collective."""
    masses, z = domain.graph.lumped * values[: domain.owned], domain.coordinates[: domain.owned]
    mean = domain.sum(masses @ z) / domain.sum(np.array(masses.sum()))
    if domain.dimension != 2:
        return Position(mean, np.array([], np.complex128), (0.0, 0.0))
    centre = (float(mean[0]), float(mean[1])) if sum(motion.kind == LINE for motion in motions) == 2 else (0.0, 0.0)
    w = (z[:, 0] - centre[0]) + 1j * (z[:, 1] - centre[1])
    w /= max(float(np.sqrt(domain.sum(np.array(masses @ np.abs(w) ** 2)) / domain.sum(np.array(masses.sum())))), 1e-300)
    w /= np.maximum(np.abs(w), 1.0)  # what is far out counts no more than it weighs
    powers = np.array([masses @ w**k for k in range(1, _HARMONICS + 1)])
    return Position(mean, np.asarray(domain.sum(powers.real) + 1j * domain.sum(powers.imag), np.complex128), centre)


def moving(density: Density, values: Array, motions: Sequence[Symmetry]) -> list[Symmetry]:
    """Those of the lines and rotations that change the law of these values (local), rotations about their centre. Collective."""
    place = place_of(density.domain, values, motions)
    turned = bool((np.abs(place.harmonics) > _TURNED).any())
    return [about(motion, place) for motion in motions if motion.kind == LINE or turned]


def about(motion: Symmetry, place: Position) -> Symmetry:
    """The motion, a rotation about the centre of the place."""
    return Symmetry(motion.kind, motion.axes, place.centre) if motion.kind == ROTATION else motion


def shift_to(place: Position, here: Position, motion: Symmetry) -> float:
    """s that brings a law from ``here`` to the ``place``, of lines and rotations."""
    if motion.kind == LINE:
        axis = motion.axes[0]
        return float(place.mean[axis] - here.mean[axis])
    turned = np.abs(here.harmonics) > _TURNED
    if not turned.any():
        return 0.0
    k = int(np.argmax(turned))
    wanted = place.harmonics[k] if len(place.harmonics) > k and abs(place.harmonics[k]) > _TURNED else 1.0
    return float(np.angle(wanted / here.harmonics[k])) / (k + 1)


def shift_to_phase_zero(density: Density, values: Array, axis: int) -> float:
    """s that makes ∫exp(2πik(z_a + s)/L) dρ positive for the first k at which it does not vanish. Collective."""
    domain, period = density.domain, density.model.periods[axis] or 0.0
    masses = domain.graph.lumped * values[: domain.owned]
    angles = np.arange(1, _HARMONICS + 1)[:, None] * (2.0 * np.pi * domain.coordinates[: domain.owned, axis] / period)
    harmonics = domain.sum(np.cos(angles) @ masses) + 1j * domain.sum(np.sin(angles) @ masses)
    seen = np.flatnonzero(np.abs(harmonics) > _SEEN)
    return -float(np.angle(harmonics[seen[0]])) * period / (2.0 * np.pi * (seen[0] + 1)) if len(seen) else 0.0


@dataclass(frozen=True)
class Freedom:
    """The lines and rotations of a model, and how they change its features at the nodes of a mesh.

    Attributes:
        motions: lines, then rotations.
        rates: dg(x_s)/ds at s = 0 in the singular directions of the features, for the line along each axis and, last, for the
            rotation about the origin; shape (owned, r) each, None where not needed.
    """

    motions: tuple[Symmetry, ...]
    rates: tuple[Array | None, ...] = ()

    def of(self, motions: Sequence[Symmetry]) -> Freedom:
        """With some of the motions."""
        return Freedom(tuple(motions), self.rates)

    def tangents(self, domain: Domain, values: Array, rank: int) -> Array:
        """d/ds ∫g(x_s) dρ at s = 0 in these directions as columns, shape (r, motions). Collective."""
        masses = domain.graph.lumped * values[: domain.owned]
        columns = [domain.sum(masses @ self._rate(motion)) for motion in self.motions]
        return np.column_stack(columns) if columns else np.zeros((rank, 0))

    def _rate(self, motion: Symmetry) -> Array:
        """A rotation about c is that about the origin less the translation by its velocity there."""
        if motion.kind != ROTATION:
            return _there(self.rates[motion.axes[0]])
        (x, y), (a, b) = motion.centre, motion.axes
        return _there(self.rates[-1]) + y * _there(self.rates[a]) - x * _there(self.rates[b])


def _there(rate: Array | None) -> Array:
    assert rate is not None
    return rate


def freedom(density: Density) -> Freedom:
    """Lines and rotations of the model of ``density`` on its mesh."""
    motions, dimension = free_motions(density), density.domain.dimension
    round_ = any(motion.kind == ROTATION for motion in motions)
    every = [Symmetry(LINE, (axis,)) for axis in range(dimension)] + [Symmetry(ROTATION, (0, 1))] * round_
    wanted = [round_ or motion in motions for motion in every]
    return Freedom(
        tuple(motions), tuple(_rate_of(density, motion) if asked else None for motion, asked in zip(every, wanted, strict=True))
    )


def _rate_of(density: Density, motion: Symmetry) -> Array:
    """By central differences of the features."""
    domain, model, right = density.domain, density.model, density.features.right
    z, axis = domain.coordinates[: domain.owned], motion.axes[0]
    step = _STEP * (1.0 if motion.kind == ROTATION else domain.upper[axis] - domain.lower[axis])
    result = np.empty((len(z), right.shape[1]))
    for k in range(0, len(z), _ROWS):
        ahead, behind = (model.feature_values(motion.moved(z[k : k + _ROWS], s)) @ right for s in (step, -step))
        result[k : k + _ROWS] = (ahead - behind) / (2.0 * step)
    return result


def width(domain: Domain, values: Array, axis: int) -> float:
    """The standard deviation along an axis, a hundredth of the box at least. Collective."""
    masses, z = domain.graph.lumped * values[: domain.owned], domain.coordinates[: domain.owned, axis]
    whole, first, second = domain.sum(np.array([masses.sum(), masses @ z, masses @ z**2]))
    return float(max(np.sqrt(max(second / whole - (first / whole) ** 2, 0.0)), 0.01 * (domain.upper[axis] - domain.lower[axis])))


# --- modes ----------------------------------------------------------------------------------------------------------------------


def neutral_modes(
    density: Density,
    law: Stationary,
    equation: Linearised,
    motions: Sequence[Symmetry],
    values: Complex,
    modes: Complex,
    rate: float,
) -> list[int]:
    """Which of the modes h with eigenvalues λ are motions: the slow ones most alike to d/ds of the law. Collective.

    Args:
        density, law, equation: the model, the stationary law and its linearisation.
        motions: that change the law and not the model.
        values, modes: λ and h (owned rows).
        rate: a typical rate; motions have |λ| far below it.
    """
    if not motions:
        return []
    domain = density.domain
    slopes = gradient(domain, edge_geometry(domain), law.values)
    seen = equation.weight > _WEIGHED * domain.extremes(equation.weight)[1]
    weight = np.where(seen, domain.graph.lumped, 0.0) / np.where(seen, equation.weight, 1.0) ** 2
    found: list[int] = []
    for motion in motions:
        along = motion.along(domain.coordinates[: domain.owned], slopes)
        products = domain.sum(((modes * weight) @ along).real)
        norms = domain.sum((np.abs(modes) ** 2 @ weight).real)
        likeness = np.where(np.abs(values) < _SLOW[motion.kind] * rate, np.abs(products) / np.sqrt(norms), -1.0)
        likeness[found] = -1.0
        best = int(np.argmax(likeness))
        if likeness[best] > 0.0:
            found.append(best)
    return found
