"""Exact laws of stationary densities, against which what was found is held; their means, also of coordinates on circles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import ABSORBING, REFLECTING

Array = NDArray[np.float64]

_DIFFERENCE = 1e-5  # step of the differences of the drift, in units of the box
NO_DIRECTION = 1e-9  # |E e^{2πix/L}| that is 0 to rounding
_ROTATION = 1e-6  # a drift whose ∇b is symmetric to this part is a gradient


def identities(
    model: MeanField,
    domain: Domain,
    values: Array,
    drift_at: Callable[[Array], Array],
    a: Array,
    places: Array | None = None,
) -> dict[str, float]:
    """Residuals of exact laws of any stationary ρ without mass at the wall: ⟨b·∇h + A:∇∇h⟩ = 0, h = z_a, z_a z_c, |z|²/2, L.

        drift_a             ⟨b_a⟩ = 0
        second_moment_a_c   ⟨z_a b_c⟩ + ⟨z_c b_a⟩ + 2⟨A_ac⟩ = 0
        virial              ⟨z·b⟩ + ⟨Tr A⟩ = 0
        squared_drift       ⟨|b|²⟩ + ⟨Tr(A∇b)⟩ = 0, where b = −∇L

    Each is |Σ of the means| over the mean of ⟨|term|⟩. Along periodic directions, around which a current may flow, and along
    those with walls that mirror or absorb, where ρ ends, there is none. With A = gC and b = −∇L they read ⟨∇L⟩ = 0,
    ⟨W_a∂_cL + W_c∂_aL⟩ = 2g⟨C_ac⟩, ⟨W·∇L⟩ = g⟨Tr C⟩ and ⟨|∇L|²⟩ = g⟨Tr(C∇²L)⟩. Collective.

    Args:
        model: for the names of its coordinates.
        domain: of ``values``.
        values: ρ (local).
        drift_at: points, shape (N, D) → b, shape (N, D).
        a: A at the local unknowns, shape (owned + ghosts, D, D).
        places: where drift and tensor of the local unknowns are taken, by default at their coordinates.
    """
    owned = domain.owned
    z, a = (domain.coordinates if places is None else places)[:owned], a[:owned]
    b, masses = drift_at(z), domain.graph.lumped * values[:owned]

    def residual(*terms: Array) -> float:
        means = domain.sum(np.array([masses @ term for term in terms]))
        scales = domain.sum(np.array([masses @ np.abs(term) for term in terms]))
        return float(abs(means.sum()) / max(scales.mean(), 1e-300))

    ended = set() if model.walls is None else {face.axis for face in model.walls.faces(REFLECTING, ABSORBING)}
    free = [k for k in range(domain.dimension) if domain.periods[k] is None and k not in ended]
    name = model.coordinates
    poles = set() if model.walls is None else {face.axis for face in model.walls.singular}
    result = {f"drift_{name[k]}": residual(b[:, k]) for k in free if k not in poles}  # ⟨b⟩ takes a finer mesh at a pole
    for n, k in enumerate(free):
        for c in free[n:]:
            result[f"second_moment_{name[k]}_{name[c]}"] = residual(z[:, k] * b[:, c], z[:, c] * b[:, k], 2.0 * a[:, k, c])
    if len(free) < domain.dimension:
        return result
    result["virial"] = residual((z * b).sum(axis=1), np.trace(a, axis1=1, axis2=2))
    if poles:  # ⟨|b|²⟩ may be infinite
        return result
    jacobian = _jacobian(domain, drift_at, z)
    rotation = np.abs(jacobian - jacobian.swapaxes(1, 2)).sum(axis=(1, 2))
    rotating, total = domain.sum(np.array([masses @ rotation, masses @ np.abs(jacobian).sum(axis=(1, 2))]))
    if rotating <= _ROTATION * total:
        result["squared_drift"] = residual((b**2).sum(axis=1), np.einsum("nij,nji->n", a, jacobian))
    return result


def _jacobian(domain: Domain, drift_at: Callable[[Array], Array], z: Array) -> Array:
    """∂b_k/∂z_c at z, shape (owned, D), by central differences of the model's own drift."""
    result = np.empty((len(z), domain.dimension, domain.dimension))
    for c in range(domain.dimension):
        step = np.zeros(z.shape[1])
        step[c] = _DIFFERENCE * (domain.upper[c] - domain.lower[c])
        difference = drift_at(z + step) - drift_at(z - step)
        result[:, :, c] = difference[:, : domain.dimension] / (2.0 * step[c])
    return result


def mean_and_covariance(domain: Domain, periods: Sequence[float | None], masses: Array) -> tuple[Array, Array]:
    """Means, shape (D,), and covariance, shape (D, D), of the masses of owned unknowns. Collective.

    Of a coordinate of period L with r e^{iφ} = E e^{2πix/L} the mean is Lφ/2π, within the domain, and distances go the short way
    round; where r is 0 to rounding, any place is as good a mean, and it is that of the coordinate along the domain.
    """
    z = domain.coordinates[: domain.owned]
    mean = domain.sum(masses @ z)
    for axis, period in enumerate(periods):
        if period is not None:
            wave = domain.sum((masses @ np.exp(2j * np.pi * z[:, axis] / period)).reshape(1).view(float))
            if np.hypot(*wave) > NO_DIRECTION:
                low = domain.lower[axis] if axis < domain.dimension else 0.0
                mean[axis] = low + (period / (2.0 * np.pi) * np.arctan2(wave[1], wave[0]) - low) % period
    centred = z - mean
    for axis, period in enumerate(periods):
        if period is not None:
            centred[:, axis] -= period * np.rint(centred[:, axis] / period)
    return mean, domain.sum((masses[:, None] * centred).T @ centred)
