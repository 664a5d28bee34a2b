"""Kernels of wide random networks: covariances of the layers at given inputs, the tangent kernel, spread of singular values.

    K¹ = σ_b² + σ_w² x·x'/N_0,     K^{ℓ+1} = σ_w² E[φφ] + σ_b²,     Θ¹ = K¹,     Θ^{ℓ+1} = K^{ℓ+1} + σ_w² E[φ'φ'] Θ^ℓ

(Lee et al., arXiv:1711.00165; Jacot et al., arXiv:1806.07572). The squared singular values of ∂z^{ℓ+n}/∂z^ℓ, at variances q_ℓ,
have the mean Π χ(q_ℓ) and the variance Π χ² Σ (μ_2/μ_1² − s), μ_k = E[φ'^{2k}], s = 0 for Gaussian, 1 for orthogonal weights
(Pennington et al., arXiv:1711.04735).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from mvpde.measure import nothing
from mvpde.models.deep.activations import Activation, Array
from mvpde.models.deep.signal_maps import activation_of, check_variances, largest_variance, pairwise, slope_power
from mvpde.runtime import ArgumentError


def first_covariance(inputs: Array, weight_variance: float, bias_variance: float) -> Array:
    """K¹ of M inputs, shape (M, N_0): shape (M, M).

    Raises:
        ArgumentError: a negative variance, inputs that are no finite table of numbers, or too large for their squares.
    """
    check_variances(weight_variance, bias_variance)
    x = np.asarray(inputs, float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ArgumentError("inputs", f"have the shape {x.shape}; give M ≥ 1 rows of N_0 ≥ 1 finite numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        k = np.asarray(bias_variance + weight_variance * (x @ x.T) / x.shape[1])
    if not np.isfinite(k).all():
        raise ArgumentError("inputs", f"are so large ({np.abs(x).max():.3g}) that their squares are no numbers; scale them")
    return k


def covariances(
    activation: str,
    first: Array,
    weight_variance: float,
    bias_variance: float,
    depth: int,
    between_layers: Callable[[], None] = nothing,
) -> Array:
    """K^ℓ for ℓ = 1 … depth, shape (depth, M, M), from K¹ = ``first``, shape (M, M).

    ``between_layers`` is called after each layer.

    Raises:
        ArgumentError: as `fixed_point`; a depth below 1; a variance beyond all quadrature.
    """
    phi = activation_of(activation)
    check_variances(weight_variance, bias_variance)
    if depth < 1:
        raise ArgumentError("depth", f"is {depth}; a network has at least 1 layer")
    k = [np.asarray(first, float)]
    for layer in range(1, depth):
        require_moderate(phi, float(np.diagonal(k[-1]).max()), layer)
        k.append(weight_variance * pairwise(phi, k[-1]) + bias_variance)
        between_layers()
    return np.stack(k)


def require_moderate(phi: Activation, variance: float, layer: int) -> None:
    """Refuse a variance of a layer, from 1 on, whose means cannot be computed, or not in any time.

    Raises:
        ArgumentError: "inputs" for the first layer, "depth" for later ones.
    """
    if variance > (most := largest_variance(phi)):
        grown = "scale them" if layer == 1 else "give fewer layers, or a smaller weight_variance"
        said = f"layer {layer} has the variance {variance:.3g}, and means are computed up to {most:g}; {grown}"
        raise ArgumentError("inputs" if layer == 1 else "depth", said)


def tangent_kernel(activation: str, covariances: Array, weight_variance: float) -> Array:
    """Θ^ℓ of the last layer, shape (M, M), from K^1 … K^ℓ, shape (ℓ, M, M).

    Raises:
        ArgumentError: an activation that there is not, or without φ'.
    """
    phi, theta = activation_of(activation), covariances[0]
    for before, k in itertools.pairwise(covariances):
        theta = k + weight_variance * pairwise(phi, before, slopes=True) * theta
    return np.asarray(theta)


def isometry(activation: str, variances: Array, weight_variance: float, *, orthogonal: bool = False) -> tuple[float, float]:
    """Mean and variance of the squared singular values of the Jacobian of layers with the variances q_ℓ, one for each layer.

    Args:
        activation, weight_variance: as for `fixed_point`.
        variances: q_ℓ, shape (n,); q* n times for n deep layers.
        orthogonal: weights are σ_w times an orthogonal matrix.

    Raises:
        ArgumentError: as `tangent_kernel`.
    """
    phi, q = activation_of(activation), np.asarray(variances, float)
    first, second = slope_power(phi, q), slope_power(phi, q, 2)
    mean = math.prod(weight_variance * first)
    spread = float((second / np.maximum(first, 1e-300) ** 2 - float(orthogonal)).sum())
    return mean, mean**2 * spread


def correlations(k: Array) -> Array:
    """K_ab/√(K_aa K_bb), shape of k, NaN where there is no variance."""
    size = np.sqrt(np.einsum("...aa->...a", k))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(k / (size[..., :, None] * size[..., None, :]))
