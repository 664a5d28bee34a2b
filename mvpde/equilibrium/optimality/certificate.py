"""How far a law is from the best one, where the outer energy R is convex: bounds on the free energy's gap, from one potential.

With V = V(·; m[ρ]) the first variation at ρ, convexity of R gives for any two laws

    𝓕[ρ'] ≥ 𝓕[ρ] + ∫V d(ρ' − ρ) + τ(∫ρ' log ρ' − ∫ρ log ρ).

The right side is least at ρ̂ ∝ e^{−V/τ}, the Gibbs state of ρ's own potential, where it is 𝓕[ρ] − τKL(ρ|ρ̂). So with ρ* the
minimiser, which is its own ρ̂ and with which the left side is 𝓕[ρ] = 𝓕[ρ*] + D_R(m|m*) + τKL(ρ|ρ*), D_R ≥ 0,

    τKL(ρ|ρ*) ≤ 𝓕[ρ] − 𝓕[ρ*] ≤ τKL(ρ|ρ̂)

(Nitanda, Wu & Suzuki, arXiv:2201.10469; Chizat, arXiv:2202.01009). At τ = 0 the upper bound becomes ∫V dρ − min V.

On a mesh both hold exactly. With lumped masses a density is a law p_i = m_iρ_i on finitely many points, 𝓕 = R(Σp_i g_i) +
Σp_iV0_i + τΣp_i log(p_i/m_i), and each step above is about such p: R is convex, and Σp_i(V_i + τ log(p_i/m_i)) is least over
laws on the nodes at p_i ∝ m_i e^{−V_i/τ}, by the inequality of Gibbs. Moments and potential use the same features, cut to their
numerical rank, so not even this cut matters. What a mesh does change is the value of the gap, and the laws that are compared:
those that live on the domain. Of labelled laws, whose labels never move, the best law and ρ̂ have the same share at each label.

From moments m alone, as those of particles, follows what concerns the Gibbs state ρ̂ of their potential, m̂ = ∫g dρ̂:

    0 ≤ 𝓕[ρ̂] − 𝓕[ρ*] ≤ D_R(m̂|m) = R(m̂) − R(m) − ∂R(m)·(m̂ − m),

since min 𝓕 ≥ R(m) − ∂R(m)·m − τ log ∫e^{−V(·; m)/τ} for any m, moments of a law or not. For least squares D_R = ½‖f̂ − f‖².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.equilibrium.stationary import log_gibbs, potential_at
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import ABSORBING
from mvpde.runtime import ArgumentError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

FAINT = 1e-6  # of the flat density: nodes with less are outside the support; together they hold less than this share of the mass
_EMPTY = 1e-300  # as in `mvpde.density.features.free_energy`
_SHALLOW = 1e-3  # of the largest |c|: nodes with less do not tell U = V/c on a shell


@dataclass(frozen=True)
class Certificate:
    """A bound on 𝓕[ρ] − min 𝓕 over all laws on the mesh.

    Attributes:
        gap: the bound, ≥ 0.
        error: its change under another quadrature of second order, 0 at temperature 0, where it is a difference of nodal values.
    """

    gap: float
    error: float


def no_certificate(model: MeanField) -> str | None:
    """Why nothing is certified for ``model``; None where it is."""
    if not model.gradient_flow:
        return "the model is no gradient flow: it has no free energy"
    if model.walls is not None and any(model.walls.faces(ABSORBING)):
        return "its walls absorb: mass is lost, and no law is the best"
    return None if model.convex else "its outer energy is not known to be convex, so a stationary law need not be the best"


def certificate(density: Density) -> Certificate:
    """τKL(ρ|ρ̂) ≥ 𝓕[ρ] − min 𝓕 for the present law, ∫V dρ − min V at τ = 0; exact on the mesh. Collective.

    Raises:
        ArgumentError: a model without a free energy, or whose R is not known to be convex.
    """
    reason = no_certificate(density.model)
    if reason is not None:
        raise ArgumentError("density", f"has no certificate: {reason}")
    domain, potential = density.domain, density.potential()
    if density.model.temperature == 0.0:
        lowest = domain.spread(domain.part_minima(potential), potential[: domain.owned])
        above = domain.graph.lumped * density.values[: domain.owned] @ (potential[: domain.owned] - lowest)
        return Certificate(max(0.0, float(domain.sum(np.array(above)))), 0.0)
    logarithm, gibbs = np.log(np.maximum(density.values, _EMPTY)), log_gibbs(density, potential)
    local = np.array([relative_entropy(domain.graph.lumped, logarithm[: domain.owned], gibbs[: domain.owned])])
    gap = density.model.temperature * float(domain.sum(local)[0])
    return Certificate(gap, abs(gap - density.model.temperature * _between_nodes(density, logarithm, gibbs)))


def entropy_to(density: Density, values: Array, moments: Array | None = None) -> float:
    """τKL(ρ|ρ') to a law with nodal ``values`` (local). Collective.

    ``moments``: at which ρ' is the Gibbs state, so that its logarithm is known where its values are too small for floating point.
    """
    domain, owned = density.domain, density.domain.owned
    both = [np.log(np.maximum(law[:owned], _EMPTY)) for law in (density.values, values)]
    if moments is not None:
        both[1] = np.where(values[:owned] > _EMPTY, both[1], log_gibbs(density, potential_at(density, moments))[:owned])
    return density.model.temperature * float(domain.sum(np.array(relative_entropy(domain.graph.lumped, *both))))


def energy_gap(density: Density, values: Array, moments: Array) -> float:
    """𝓕[ρ] − 𝓕[ρ*] = D_R(m|m*) + τKL(ρ|ρ*) above the law that is stationary at its own moments: no difference of energies.

    Args:
        density: ρ.
        values, moments: of ρ* (local nodal values, and shape (K,)).
    """
    return divergence(density.model, density.moments()[0], moments) + entropy_to(density, values, moments)


def divergence(model: MeanField, there: Array, here: Array) -> float:
    """Bregman's D_R(m'|m) = R(m') − R(m) − ∂R(m)·(m' − m) at moments of shape (K,)."""
    change = there - here
    return float(model.outer_energy(there) - model.outer_energy(here) - model.outer_gradient(here) @ change)


def gibbs_gaps(density: Density, moments: Array) -> Array:
    """D_R(m̂|m) ≥ 𝓕[ρ̂] − min 𝓕 for the Gibbs state ρ̂ on the mesh of the potential at each of ``moments``, (runs, K) → (runs,).

    Collective; the temperature must be positive.
    """
    domain, owned = density.domain, density.domain.owned
    gaps = np.empty(len(moments))
    for run, m in enumerate(moments):
        masses = domain.graph.lumped * np.exp(log_gibbs(density, potential_at(density, m))[:owned])
        gaps[run] = divergence(density.model, density.features.moments(masses), m)
    return gaps


def residual_potential(density: Density) -> tuple[float, float] | None:
    """sup |U| over the support of the law and over all of the mesh, U = −F + Kγ with V = V0 + cU. Collective.

    A law without noise is stationary where U = 0 on the support of its marginal in y, and of least loss where it vanishes
    everywhere. The support is where the density is above `FAINT` times that of the flat law, the joint one of y and c: y belongs
    to it if some (y, c) does. None for a model without an output weight c.
    """
    model, domain = density.model, density.domain
    if not (model.output_weight or model.metric is not None):
        return None
    owned = domain.owned
    moments = density.moments()[0]
    if model.output_weight:
        features = density.features
        size = np.abs(features.left @ (model.outer_gradient(moments) @ features.right))[features.place[:owned]]
        deep = np.ones(owned, bool)
    else:
        size, deep = _on_shell(density, moments)
    volume = float(domain.sum(np.array(domain.graph.lumped.sum())))
    inside = deep & (density.values[:owned] > FAINT / volume)
    return domain.extremes(size[inside])[1], domain.extremes(size[deep])[1]


def _on_shell(density: Density, moments: Array) -> tuple[Array, NDArray[np.bool_]]:
    """|U| = |V − V0|/|c| at owned nodes of a shell, and where c is large enough to divide by."""
    shell, domain = density.model.metric, density.domain
    assert shell is not None
    potential = np.empty(len(density.values))
    density.features.potential(moments, potential)
    height = np.abs(shell.height(domain.coordinates[: domain.owned]))
    deep = height > _SHALLOW * domain.extremes(height)[1]
    size = np.abs(potential - density.features.external)[: domain.owned]
    return np.divide(size, height, out=np.zeros_like(size), where=deep), deep


# --- sums over the mesh ---------------------------------------------------------------------------------------------------------


def relative_entropy(weights: Array, logarithm: Array, other: Array) -> float:
    """Σ w_i [ρ_i log(ρ_i/ρ'_i) − ρ_i + ρ'_i] from logarithms: KL of two laws, term by term ≥ 0, without cancellation. Local."""
    return float(weights @ _terms(logarithm, other))


def _terms(logarithm: Array, other: Array) -> Array:
    """ρ(d + e^{−d} − 1), d = log ρ − log ρ': about ½ρd² where the laws agree."""
    d = logarithm - other
    near = np.abs(d) < 1.0
    rho = np.exp(logarithm)
    small = np.where(near, d, 0.0)
    return np.where(near, rho * (small + np.expm1(-small)), rho * (d - 1.0) + np.exp(other))


def _between_nodes(density: Density, logarithm: Array, gibbs: Array) -> float:
    """KL(ρ|ρ̂) with both laws linear in their logarithms along edges, by the rule of the edges' midpoints. Collective.

    In D dimensions ∫h ≈ (D + 2)/D Σ_{i ≠ j} m_ij h(½(z_i + z_j)), each edge counted from both ends; the factor drops out.
    """
    domain, graph = density.domain, density.domain.graph
    rows = _midpoints(graph.offsets, graph.columns, graph.mass, logarithm, gibbs)
    mass, other, entropy = (domain.part_sums(row) for row in rows)
    return float(domain.weights @ (entropy / mass + np.log(other / mass)))


@njit(cache=True)
def _midpoints(offsets: Integers, columns: Integers, mass: Array, logarithm: Array, gibbs: Array) -> Array:
    """Σ_j m_ij ρ, Σ_j m_ij ρ̂ and Σ_j m_ij ρ log(ρ/ρ̂) at the midpoints of the edges of owned nodes i, shape (3, owned)."""
    sums = np.zeros((3, offsets.size - 1))
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            a, b = 0.5 * (logarithm[i] + logarithm[columns[e]]), 0.5 * (gibbs[i] + gibbs[columns[e]])
            rho = mass[e] * math.exp(a)
            sums[0, i] += rho
            sums[1, i] += mass[e] * math.exp(b)
            sums[2, i] += rho * (a - b)
    return sums
