"""What finite width adds to the covariances of a random network: mean and variance of order 1/N.

Given its layer ℓ, the N numbers of layer ℓ + 1 are independent N(0, K̂_ℓ₊₁), K̂ = σ_w² N⁻¹ Σ_i φ(z_i)φ(z_i)ᵀ + σ_b². For a pair
of inputs, with the state K = (K₁₁, K₂₂, K₁₂), its map T and J = T',

    m_ℓ = lim N (E K̂_ℓ − K_ℓ),  m_{ℓ+1} = J m_ℓ + ½ T''[v_ℓ],     v_ℓ = lim N Cov K̂_ℓ,  v_{ℓ+1} = J v_ℓ Jᵀ + σ_w⁴ Cov(φφ),

m_1 = v_1 = 0. For ReLU without biases all orders are known: Var K̂_ℓ/K_ℓ² = (1 + 5/N)^{ℓ−1} − 1. Derivatives are taken by a
complex step, which loses no digits, second ones by central differences of first ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mvpde.measure import nothing
from mvpde.models.deep.activations import Activation, Array, Numbers
from mvpde.models.deep.signal_maps import activation_of, line_mean, overlap, pair_mean

COMPLEX_STEP = 1e-30
ALIKE = 1e-12  # relative change from layer to layer that counts as none
DIFFERENCE = 4e-3  # of the size of K; fourth order leaves 1e-10


def finite_width(
    activation: str,
    covariances: Array,
    weight_variance: float,
    bias_variance: float,
    between_layers: Callable[[], None] = nothing,
) -> tuple[Array, Array]:
    """m_ℓ and v_ℓ of two inputs. Layers that have come to their limit share their derivatives, to 1e-12.

    Args:
        activation, weight_variance, bias_variance: as for `fixed_point`.
        covariances: K^1 … K^depth of the pair, shape (depth, 2, 2).
        between_layers: is called after each layer.

    Returns:
        m, shape (depth, 3), and v, shape (depth, 3, 3), of (K₁₁, K₂₂, K₁₂).
    """
    phi = activation_of(activation)
    m, v = [np.zeros(3)], [np.zeros((3, 3))]
    at, bent_at = np.full(3, np.inf), np.full((3, 3), np.inf)
    jacobian, spread, bend = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3)
    for k in covariances[:-1]:
        state = np.array([k[0, 0], k[1, 1], k[0, 1]])
        moved = not _alike(state, at)
        if moved:
            jacobian = np.column_stack([weight_variance * _along(phi, state, e) for e in np.eye(3)])
            spread, at = weight_variance**2 * _spread(phi, state), state
        if moved or not _alike(v[-1], bent_at):
            bend, bent_at = 0.5 * weight_variance * _second(phi, at, v[-1]), v[-1]
        m.append(jacobian @ m[-1] + bend)
        v.append(jacobian @ v[-1] @ jacobian.T + spread)
        between_layers()
    return np.array(m), np.array(v)


def _alike(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max() <= ALIKE * np.abs(a).max())


def _map(phi: Activation, state: Numbers) -> Numbers:
    """E φφ for (11, 22, 12)."""
    k11, k22, k12 = state
    if phi.overlap is not None:
        return overlap(phi, np.array([k11, k22, k11]), np.array([k11, k22, k22]), np.array([k11, k22, k12]))
    own = line_mean(lambda z: phi.value(z) ** 2, np.array([k11, k22]), phi.strip)
    return np.append(own, overlap(phi, np.array([k11]), np.array([k22]), np.array([k12])))


def _along(phi: Activation, state: Array, direction: Array) -> Array:
    """The derivative of `_map` along a direction."""
    return np.asarray(_map(phi, state + 1j * COMPLEX_STEP * direction).imag / COMPLEX_STEP)


def _second(phi: Activation, state: Array, v: Array) -> Array:
    """Σ_ab v_ab ∂_a∂_b of `_map`, from second derivatives along the axes of v."""
    k11, k22, k12 = state
    smallest = float(np.linalg.eigvalsh([[k11, k12], [k12, k22]])[0])
    size = max(smallest, 1e-12) if phi.homogeneous else k11 + k22  # the map of a smooth φ goes on beyond |c| = 1
    total = np.zeros(3)
    shares, axes = np.linalg.eigh(v)
    for share, axis in zip(shares, axes.T, strict=True):
        if share > 0.0:
            wide, narrow = (_difference(phi, state, axis, step * size) for step in (DIFFERENCE, 0.5 * DIFFERENCE))
            total += share * (4.0 * narrow - wide) / 3.0
    return total


def _difference(phi: Activation, state: Array, axis: Array, step: float) -> Array:
    return np.asarray((_along(phi, state + step * axis, axis) - _along(phi, state - step * axis, axis)) / (2.0 * step))


def _spread(phi: Activation, state: Array) -> Array:
    """Covariance of (φ(u)², φ(v)², φ(u)φ(v)), shape (3, 3)."""
    first = _map(phi, state)
    e40, e31, e22, e13, e04 = (_power(phi, state, 4 - k, k) for k in range(5))
    return np.array([[e40, e22, e31], [e22, e04, e13], [e31, e13, e22]]) - np.outer(first, first)


def _power(phi: Activation, state: Array, a: int, b: int) -> float:
    """E[φ(u)^a φ(v)^b], a + b = 4."""
    k11, k22, k12 = state
    if phi.fourth is None:
        f = phi.value
        return float(pair_mean(lambda u, v: f(u) ** a * f(v) ** b, (np.array(k11), np.array(k22), np.array(k12)), phi.strip))
    cubic, square = phi.fourth(np.array(k12 / np.sqrt(k11 * k22)))
    own = phi.fourth(np.array(1.0))[0]
    return float(k11 ** (a / 2) * k22 ** (b / 2) * {4: own, 0: own, 2: square}.get(a, cubic))
