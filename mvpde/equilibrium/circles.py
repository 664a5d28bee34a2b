"""Circles of stationary states: where a model has the symmetry of translations along a periodic coordinate and a law has not.

If V(z + s e_a; m_s) = V(z; m) with m_s = ∫g(z + s e_a) dρ for all s, all translates of a stationary ρ are stationary. One of them
is singled out by its phase, and −∂_aρ is a mode that neither grows nor decays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.density.galerkin import edge_geometry, gradient
from mvpde.equilibrium.linearised import Linearised
from mvpde.equilibrium.stationary import Stationary

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

SAME = 1e-6  # relative distance of the moments of one state found twice
_SYMMETRIC = 1e-8  # relative change of the drift under a translation that counts as none
_HARMONICS = 6
_SEEN = 1e-6  # a harmonic of the law below this is no phase
_SLOW = 1e-2  # in units of a typical rate: where the rate 0 of a symmetry is looked for
_WEIGHED = 1e-12  # of the largest √ρ_∞: where less is left, modes do not tell what they are
_ROWS = 4096


def same(first: Array, second: Array) -> bool:
    """Whether two vectors of moments are those of one state."""
    return bool(np.linalg.norm(first - second) <= SAME * (1.0 + np.linalg.norm(first)))


def moved_moments(density: Density, values: Array, axis: int, shift: float) -> Array:
    """∫g(z + s e_a) dρ, the moments of the law moved by s along a coordinate: from the features, not the mesh. Collective.

    Args:
        density: model and mesh.
        values: ρ (local).
        axis: a.
        shift: s.
    """
    domain, model = density.domain, density.model
    z = domain.coordinates[: domain.owned].copy()
    z[:, axis] += shift
    masses = domain.graph.lumped * values[: domain.owned]
    parts = [masses[k : k + _ROWS] @ model.feature_values(z[k : k + _ROWS]) for k in range(0, len(z), _ROWS)]
    local = np.sum(parts, axis=0) if parts else np.zeros(density.features.right.shape[0])
    return domain.sum(local)


def circles(density: Density, values: Array, moments: Array) -> tuple[int, ...]:
    """Periodic axes along which the model does not change and the law of these values (local) and moments does. Collective."""
    axes = [axis for axis, period in enumerate(density.model.periods) if period is not None]
    return tuple(axis for axis in axes if _breaks_symmetry(density, values, moments, axis))


def _breaks_symmetry(density: Density, values: Array, moments: Array, axis: int) -> bool:
    """Whether translated laws have other moments, and translated drift and diffusion at these are the same."""
    domain, model = density.domain, density.model
    here, there, moved = domain.coordinates[: domain.owned], domain.coordinates[: domain.owned].copy(), False
    for part in (0.2345, 0.618):
        shift = part * (model.periods[axis] or 0.0)
        translated = moved_moments(density, values, axis, shift)
        there[:, axis] = here[:, axis] + shift
        gaps = []
        for coefficient in (model.drift, model.diffusion):
            a, b = coefficient(here, moments), coefficient(there, translated)
            gaps.append([np.abs(a - b).sum(), np.abs(a).sum()])
        gap, size = domain.sum(np.sum(gaps, axis=0))
        if gap > _SYMMETRIC * size:
            return False
        moved = moved or not same(moments, translated)
    return moved


def shift_to_phase_zero(density: Density, values: Array, axis: int) -> float:
    """s that makes ∫exp(2πik(z_a + s)/L) dρ positive for the first k at which it does not vanish. Collective."""
    domain, period = density.domain, density.model.periods[axis] or 0.0
    masses = domain.graph.lumped * values[: domain.owned]
    angles = np.arange(1, _HARMONICS + 1)[:, None] * (2.0 * np.pi * domain.coordinates[: domain.owned, axis] / period)
    harmonics = domain.sum(np.cos(angles) @ masses) + 1j * domain.sum(np.sin(angles) @ masses)
    seen = np.flatnonzero(np.abs(harmonics) > _SEEN)
    return -float(np.angle(harmonics[seen[0]])) * period / (2.0 * np.pi * (seen[0] + 1)) if len(seen) else 0.0


def along_circles(
    density: Density,
    law: Stationary,
    equation: Linearised,
    axes: Sequence[int],
    values: Complex,
    modes: Complex,
    rate: float,
) -> list[int]:
    """Which of the modes h with eigenvalues λ are the translations: the slow ones most alike to ∂_aρ. Collective.

    Args:
        density, law, equation: the model, the stationary law and its linearisation.
        axes: those with a circle of states.
        values, modes: λ and h (owned rows).
        rate: a typical rate; translations have |λ| far below it.
    """
    if not axes:
        return []
    domain = density.domain
    slopes = gradient(domain, edge_geometry(domain), law.values)
    seen = equation.weight > _WEIGHED * domain.extremes(equation.weight)[1]
    weight = np.where(seen, domain.graph.lumped, 0.0) / np.where(seen, equation.weight, 1.0) ** 2
    motions: list[int] = []
    for axis in axes:
        products = domain.sum(((modes * weight) @ slopes[:, axis]).real)
        norms = domain.sum((np.abs(modes) ** 2 @ weight).real)
        likeness = np.where(np.abs(values) < _SLOW * rate, np.abs(products) / np.sqrt(norms), -1.0)
        likeness[motions] = -1.0
        best = int(np.argmax(likeness))
        if likeness[best] > 0.0:
            motions.append(best)
    return motions
