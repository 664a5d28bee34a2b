"""The central limit theorem, predicted: the covariance of √n(f_n − f_t) from the tangent flow of the characteristics.

Particles start independent, so the empirical law is ρ_0 + n^{-½}ω_0 with ω_0 Gaussian white noise of ρ_0. The moments answer
linearly: √n(m_n − m)(t) → ∫ h_t(z) ω_0(dz), where the influence h_t(z) ∈ R^K of one more particle at z solves, along Θ_t(z),

    h_t(z) = g(Θ_t(z)) + ∫ ∇g(Θ_t(z')) D_t(z', z) ρ_0(dz'),
    ∂_t D_t(z', z) = −∇∇V(Θ_t(z')) D_t(z', z) − ∇g(Θ_t(z'))ᵀ R''(m_t) h_t(z),      D_0 = 0,

with D the displacement at z' that this particle causes. Then Cov = ∫ h hᵀ dρ_0 − ∫h dρ_0 ∫hᵀ dρ_0. Eliminating D gives the
Volterra equation of
Chen, Rotskoff, Bruna & Vanden-Eijnden, arXiv:2008.09623, eq. (19); without the second term of h it is their resampling bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvpde.models.laws import ProductLaw
from mvpde.models.mean_field import Array, MeanField, amplitude, potential_gradient, predictions

_DIFFERENCE = 1e-5  # of coordinates: central differences of the force, error ~1e-10 for features of unit scale
RANK_TOLERANCE = 1e-8  # singular values of the feature matrix left out, relative; their part of a covariance is the square


@dataclass(frozen=True)
class Fluctuations:
    """Predictions at the times asked for.

    Attributes:
        times: t.
        covariance: limit covariance of √n(m_n − m), shape (times, K, K).
        resampling: covariance of g under ρ_t, shape (times, K, K): what fresh independent particles of ρ_t would show.
        predicted: lim n E‖f_n − f_t‖²_{L²(μ)}, shape (times,).
        resampling_bound: the same for fresh particles, shape (times,).
    """

    times: Array
    covariance: Array
    resampling: Array
    predicted: Array
    resampling_bound: Array


def fluctuations(
    model: MeanField, law: ProductLaw, nodes: Sequence[int], times: Sequence[float], *, step: float = 0.25
) -> Fluctuations:
    """Solve the tangent flow at N quadrature nodes by Runge–Kutta of order 4. Local: no communication.

    Work is O(N² D r) per step for features of numerical rank r, memory O(N² D).

    Args:
        model: a gradient flow with τ = 0.
        law: ρ_0.
        nodes: quadrature nodes in each direction.
        times: increasing, ≥ 0.
        step: longest time step.

    Raises:
        ValueError: τ > 0, or no gradient flow: the flow would not be deterministic.
    """
    if model.temperature > 0.0 or not model.gradient_flow:
        raise ValueError("the tangent flow exists at temperature 0 only")
    z, weights = law.quadrature(nodes)
    basis = _basis(model, z)
    displacement = np.zeros((len(z) * model.dimension, len(z)))
    t, covariances, resamplings = 0.0, [], []
    for end in times:
        steps = int(np.ceil((end - t) / step * (1.0 - 1e-12)))
        for _ in range(steps):
            z, displacement = _step(model, basis, weights, z, displacement, (end - t) / steps)
        t = float(end)
        features = _features(model, basis, z)
        covariances.append(_covariance(weights, _influence(model, basis, weights, z, displacement, features), basis))
        resamplings.append(_covariance(weights, features, basis))
    covariance, resampling = np.array(covariances), np.array(resamplings)
    return Fluctuations(np.array(times, float), covariance, resampling, _trace(model, covariance), _trace(model, resampling))


def _trace(model: MeanField, covariance: Array) -> Array:
    """Σ_p w_p Cov_pp over the data points."""
    assert model.data is not None
    return np.asarray(predictions(model, np.einsum("tkk->tk", covariance)) @ model.data.weights)


def _basis(model: MeanField, z: Array) -> Array:
    """Right singular vectors B of the profile, shape (K, r): g ≈ B Bᵀg; over a range wider than the start, as particles move."""
    y = z[:, : model.profile_dimension]
    wide = np.concatenate([y, y + 0.5 * (y - y.mean(axis=0))])
    _, values, vectors = np.linalg.svd(model.profile(wide), full_matrices=False)
    return np.ascontiguousarray(vectors[values > RANK_TOLERANCE * values[0]].T)


def _features(model: MeanField, basis: Array, z: Array) -> Array:
    """Reduced features Bᵀg(z), shape (N, r)."""
    return amplitude(model, z)[:, None] * (model.profile(z[:, : model.profile_dimension]) @ basis)


def _slopes(model: MeanField, basis: Array, z: Array) -> Array:
    """∂(Bᵀg)_k/∂z_a, shape (N, D, r)."""
    y, columns = z[:, : model.profile_dimension], []
    for direction in basis.T:
        value, slope = model.profile_field(y, np.ascontiguousarray(direction))
        columns.append(np.column_stack([z[:, -1:] * slope, value]) if model.output_weight else slope)
    return np.stack(columns, axis=-1)


def _hessian(model: MeanField, z: Array, m: Array) -> Array:
    """∇∇V(z; m), shape (N, D, D), by central differences of the exact gradient."""
    columns = []
    for a in range(model.dimension):
        shift = np.zeros(model.dimension)
        shift[a] = _DIFFERENCE
        columns.append((potential_gradient(model, z + shift, m) - potential_gradient(model, z - shift, m)) / (2.0 * _DIFFERENCE))
    hessian = np.stack(columns, axis=-1)
    return 0.5 * (hessian + hessian.transpose(0, 2, 1))


def _curvature(model: MeanField, basis: Array, m: Array) -> Array:
    """Bᵀ R''(m) B, shape (r, r), by central differences of the exact gradient; exact for a quadratic R."""
    size = 1e-4 * (1.0 + float(np.abs(m).max()))
    change = model.outer_gradient(m + size * basis.T) - model.outer_gradient(m - size * basis.T)
    return np.asarray(change @ basis / (2.0 * size)).T


def _influence(model: MeanField, basis: Array, weights: Array, z: Array, displacement: Array, features: Array) -> Array:
    """h(z_j) in reduced features for every node j, shape (N, r)."""
    slopes = _slopes(model, basis, z) * weights[:, None, None]
    return features + displacement.T @ slopes.reshape(len(displacement), -1)


def _rates(model: MeanField, basis: Array, weights: Array, z: Array, displacement: Array) -> tuple[Array, Array]:
    """dΘ/dt, shape (N, D), and dD/dt, shape (N·D, N)."""
    features = amplitude(model, z)[:, None] * model.profile(z[:, : model.profile_dimension])
    m = weights @ features
    slopes = _slopes(model, basis, z)
    influence = features @ basis + displacement.T @ (slopes * weights[:, None, None]).reshape(len(displacement), -1)
    push = slopes.reshape(len(displacement), -1) @ (influence @ _curvature(model, basis, m).T).T
    pull = np.matmul(_hessian(model, z, m), displacement.reshape(len(z), model.dimension, -1)).reshape(displacement.shape)
    return -potential_gradient(model, z, m), -(pull + push)


def _step(model: MeanField, basis: Array, weights: Array, z: Array, displacement: Array, h: float) -> tuple[Array, Array]:
    """One classical Runge–Kutta step of the flow and its tangent."""
    total_z, total_d = np.zeros_like(z), np.zeros_like(displacement)
    rate_z, rate_d = np.zeros_like(z), np.zeros_like(displacement)
    for share, reach in ((1.0 / 6.0, 0.0), (1.0 / 3.0, 0.5), (1.0 / 3.0, 0.5), (1.0 / 6.0, 1.0)):
        rate_z, rate_d = _rates(model, basis, weights, z + reach * h * rate_z, displacement + reach * h * rate_d)
        total_z += share * rate_z
        total_d += share * rate_d
    return z + h * total_z, displacement + h * total_d


def _covariance(weights: Array, reduced: Array, basis: Array) -> Array:
    """Covariance under the nodes' weights of functions given in reduced features, in all K."""
    centred = reduced - weights @ reduced
    return np.asarray(basis @ (centred.T * weights @ centred) @ basis.T)
