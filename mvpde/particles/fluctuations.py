"""The central limit theorem, predicted: the covariance of √n(f_n − f_t) from the tangent flow of the characteristics.

Particles start independent, so the empirical law is ρ_0 + n^{-½}ω_0 with ω_0 Gaussian white noise of ρ_0. The moments at time T
answer linearly: √n(m_n − m)(T) → ∫ h_T(z) ω_0(dz), where the influence h_T(z) ∈ R^K of one more particle at z solves the Volterra
equation of Chen, Rotskoff, Bruna & Vanden-Eijnden, arXiv:2008.09623, eq. (19). Then Cov = ∫ h hᵀ dρ_0 − ∫h dρ_0 ∫hᵀ dρ_0; with
g(Θ_T) in the place of h it is their resampling bound. The equation is solved by its adjoint: h_T = w_0, where w_s, the influence
on m(T) of a particle added at time s, and p_s = ∇w_s satisfy, along the characteristics Θ_s(z), backwards from w_T = g, p_T = ∇g,

    dw/ds = A_s R''(m_s) g(Θ_s),    dp/ds = p ∇∇V(Θ_s) + A_s R''(m_s) ∇g(Θ_s),    A_s = ∫ p_s ∇gᵀ(Θ_s) dρ_0 ∈ R^{K×K}.

A_s R'' g is the answer of m(T) to the push that the particle gives to all others. One number per node and moment is carried, not
one per pair of nodes, and all times T share one sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvpde.models.laws import Law, check_law
from mvpde.models.mean_field import Array, MeanField

_DIFFERENCE = 1e-5  # of coordinates: central differences of exact values, error ~1e-10 for features of unit scale
RANK_TOLERANCE = 1e-8  # singular values of the feature matrix left out, relative; their part of a covariance is the square


@dataclass(frozen=True)
class Fluctuations:
    """Predictions at the times asked for.

    Attributes:
        times: t.
        moments: m of the limit, shape (times, K).
        covariance: limit covariance of √n(m_n − m), shape (times, K, K).
        resampling: covariance of g under ρ_t, shape (times, K, K): what fresh independent particles of ρ_t would show.
        predicted: lim n E‖f_n − f_t‖²_{L²(μ)}, shape (times,).
        resampling_bound: the same for fresh particles, shape (times,).
    """

    times: Array
    moments: Array
    covariance: Array
    resampling: Array
    predicted: Array
    resampling_bound: Array


@dataclass(frozen=True)
class _Frame:
    """What the adjoint needs of the flow at one time, at N nodes, in features reduced to r.

    Attributes:
        features: Bᵀg, shape (N, r).
        slopes: ∂(Bᵀg)_k/∂z_a, shape (N, D, r).
        weighted: the same times the weights of the nodes.
        hessian: ∇∇V, shape (N, D, D).
        curvature: BᵀR''(m)B, shape (r, r).
    """

    features: Array
    slopes: Array
    weighted: Array
    hessian: Array
    curvature: Array


def fluctuations(model: MeanField, law: Law, nodes: Sequence[int], times: Sequence[float], *, step: float = 0.25) -> Fluctuations:
    """The limit covariance of √n(m_n − m) for n particles that start independent, at the times asked for.

    N quadrature nodes are carried forward, then the adjoint back, by Runge–Kutta of order 4. Local: no communication.
    Work is O(N D r² × times) per step for features of numerical rank r, memory O(N D r × times + N D × steps).

    Args:
        model: a gradient flow with τ = 0, in coordinates with the metric |dz|².
        law: ρ_0, a `Product`, also in one dimension.
        nodes: quadrature nodes in each direction, ≥ 1.
        times: increasing, ≥ 0.
        step: longest time step, > 0.

    Raises:
        ValueError: τ > 0 at some time, or no gradient flow, or another metric: the flow would not be this one; times or a step
            out of range.
    """
    if model.ever_hot or not model.gradient_flow:
        raise ValueError("the tangent flow exists at temperature 0 only")
    if model.metric is not None:
        raise ValueError("the tangent flow is that of coordinates with the metric |dz|²; this model has another")
    check_law(law)
    spans = np.diff([0.0, *times])
    if not (len(spans) and spans[0] >= 0.0 and np.all(spans[1:] > 0.0)):
        raise ValueError(f"times must be ≥ 0 and increase, not {[float(t) for t in times]}")
    if not step > 0.0:
        raise ValueError(f"step must be positive, not {step!r}")
    z, weights = law.quadrature(nodes)
    basis = _basis(model, z)
    steps = [max(1, int(np.ceil(span / step * (1.0 - 1e-12)))) for span in spans]
    paths = _paths(model, weights, z, times, steps)
    influences = _influences(model, basis, weights, paths, times, steps)
    ends = [path[-1] for path in paths]
    covariance = np.array([_covariance(weights, influence, basis) for influence in influences])
    resampling = np.array([_covariance(weights, _features(model, basis, end), basis) for end in ends])
    moments = np.array([weights @ model.feature_values(end) for end in ends])
    traces = _trace(model, covariance), _trace(model, resampling)
    return Fluctuations(np.array(times, float), moments, covariance, resampling, *traces)


def _paths(model: MeanField, weights: Array, z: Array, times: Sequence[float], steps: Sequence[int]) -> list[Array]:
    """Nodes at every half step of every interval between times, each of shape (2·steps + 1, N, D)."""
    paths = []
    for span, count in zip(np.diff([0.0, *times]), steps, strict=True):
        path = [z]
        for _ in range(2 * count):
            path.append(_forward(model, weights, path[-1], 0.5 * span / count))
        paths.append(np.array(path))
        z = path[-1]
    return paths


def _forward(model: MeanField, weights: Array, z: Array, h: float) -> Array:
    """One classical Runge–Kutta step of the characteristics."""
    total, rate = np.zeros_like(z), np.zeros_like(z)
    for share, reach in _STAGES:
        at = z + reach * h * rate
        rate = -model.potential_gradient(at, weights @ model.feature_values(at))
        total += share * rate
    return z + h * total


_STAGES = ((1.0 / 6.0, 0.0), (1.0 / 3.0, 0.5), (1.0 / 3.0, 0.5), (1.0 / 6.0, 1.0))


def _influences(
    model: MeanField, basis: Array, weights: Array, paths: Sequence[Array], times: Sequence[float], steps: Sequence[int]
) -> list[Array]:
    """h_T(z) in reduced features for every T of `times`, each of shape (N, r).

    The columns of all T are carried together: those of T join when the sweep comes down to T.
    """
    count, rank = paths[0].shape[1], basis.shape[1]
    w, p = np.zeros((count, 0)), np.zeros((count, model.dimension, 0))
    for path, span, number in reversed(list(zip(paths, np.diff([0.0, *times]), steps, strict=True))):
        frame = _frame(model, basis, weights, path[-1])
        w, p = np.concatenate([frame.features, w], axis=1), np.concatenate([frame.slopes, p], axis=2)
        for k in range(2 * number, 0, -2):
            middle, start = (_frame(model, basis, weights, path[k - j]) for j in (1, 2))
            w, p = _backward((frame, middle, middle, start), w, p, span / number)
            frame = start
    return [w[:, k * rank : (k + 1) * rank] for k in range(len(times))]


def _backward(frames: Sequence[_Frame], w: Array, p: Array, h: float) -> tuple[Array, Array]:
    """One classical Runge–Kutta step of the adjoint from s to s − h; `frames` are those of its four stages."""
    total_w, total_p, rate_p = np.zeros_like(w), np.zeros_like(p), np.zeros_like(p)
    for frame, (share, reach) in zip(frames, _STAGES, strict=True):
        rate_w, rate_p = _rates(frame, p - reach * h * rate_p)
        total_w += share * rate_w
        total_p += share * rate_p
    return w - h * total_w, p - h * total_p


def _rates(frame: _Frame, p: Array) -> tuple[Array, Array]:
    """dw/ds, shape (N, columns), and dp/ds, shape (N, D, columns)."""
    answer = frame.curvature @ (frame.weighted.reshape(-1, frame.weighted.shape[-1]).T @ p.reshape(-1, p.shape[-1]))
    return frame.features @ answer, frame.hessian @ p + frame.slopes @ answer


def _frame(model: MeanField, basis: Array, weights: Array, z: Array) -> _Frame:
    features, slopes = model.feature_values(z), _slopes(model, basis, z)
    m = weights @ features
    return _Frame(features @ basis, slopes, slopes * weights[:, None, None], _hessian(model, z, m), _curvature(model, basis, m))


def _trace(model: MeanField, covariance: Array) -> Array:
    """Σ_p w_p Cov_pp over the data points."""
    assert model.data is not None
    return np.asarray(model.predictions(np.einsum("tkk->tk", covariance)) @ model.data.weights)


def _basis(model: MeanField, z: Array) -> Array:
    """Right singular vectors B of the profile, shape (K, r): g ≈ B Bᵀg; over a range wider than the start, as particles move."""
    y = z[:, : model.profile_dimension]
    wide = np.concatenate([y, y + 0.5 * (y - y.mean(axis=0))])
    _, values, vectors = np.linalg.svd(model.profile(wide), full_matrices=False)
    return np.ascontiguousarray(vectors[values > RANK_TOLERANCE * values[0]].T)


def _features(model: MeanField, basis: Array, z: Array) -> Array:
    """Reduced features Bᵀg(z), shape (N, r)."""
    return model.feature_values(z) @ basis


def _slopes(model: MeanField, basis: Array, z: Array) -> Array:
    """∂(Bᵀg)_k/∂z_a, shape (N, D, r); ∇φ by central differences."""
    y, columns = z[:, : model.profile_dimension], []
    for shift in _DIFFERENCE * np.eye(model.profile_dimension):
        change = (model.profile(y + shift) - model.profile(y - shift)) @ basis
        columns.append(model.amplitude(z)[:, None] * change / (2.0 * _DIFFERENCE))
    return np.stack([*columns, model.profile(y) @ basis] if model.output_weight else columns, axis=1)


def _hessian(model: MeanField, z: Array, m: Array) -> Array:
    """∇∇V(z; m), shape (N, D, D), by central differences of the exact gradient."""
    columns = []
    for a in range(model.dimension):
        shift = np.zeros(model.dimension)
        shift[a] = _DIFFERENCE
        columns.append((model.potential_gradient(z + shift, m) - model.potential_gradient(z - shift, m)) / (2.0 * _DIFFERENCE))
    hessian = np.stack(columns, axis=-1)
    return 0.5 * (hessian + hessian.transpose(0, 2, 1))


def _curvature(model: MeanField, basis: Array, m: Array) -> Array:
    """Bᵀ R''(m) B, shape (r, r), by central differences of the exact gradient; exact for a quadratic R."""
    size = 1e-4 * (1.0 + float(np.abs(m).max()))
    change = model.outer_gradient(m + size * basis.T) - model.outer_gradient(m - size * basis.T)
    return np.asarray(change @ basis / (2.0 * size)).T


def _covariance(weights: Array, reduced: Array, basis: Array) -> Array:
    """Covariance under the nodes' weights of functions given in reduced features, in all K."""
    centred = reduced - weights @ reduced
    return np.asarray(basis @ (centred.T * weights @ centred) @ basis.T)
