"""What is said of the layers of a deep network, from the conditional moments of their weights: means, variances, covariances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.sweeps import Labels, Sweep, over_b
from mvpde.models.deep.units import Array

ARRAYS = ("predictions", "inputs", "label_covariance", "layer_mean", "layer_variance")  # in summary.json, by measure


def sweep_arrays(network: DeepNetwork, labels: Labels, swept: Sweep) -> dict[str, Array]:
    """ "predictions" ŷ, shape (P,), and "inputs" z̄² … z̄^L, shape (L − 1, P); z̄^L is its mean over b."""
    between = [z[0, 0] for z in swept.inputs[1:]]
    return {"predictions": network.predictions(swept.before), "inputs": np.array([*between, over_b(swept.last, labels)[0, 0]])}


def layer_arrays(network: DeepNetwork, labels: Labels, first: Sequence[Array], second: Sequence[Array]) -> dict[str, Array]:
    """Means and variances of the weights of each layer, and covariances with the labels.

    Args:
        network: whose coordinates name the columns; a weight that a layer does not train has its value and variance 0.
        labels: with their shares.
        first, second: E[θ|λ] and E[θ²|λ] of each layer, shapes (A or 1, B or 1, D).

    Returns:
        "layer_mean" and "layer_variance", shapes (L − 1, coordinates); "label_covariance", shape (q + 1, coordinates): Cov(a, θ¹)
        for each component of a, then Cov(b, θ^{L−1}).
    """
    shares = [labels.shares(number + 1, network.depth) for number in range(len(network.layers))]
    means = [_mean(share, m) for share, m in zip(shares, first, strict=True)]
    squares = [_mean(share, m) for share, m in zip(shares, second, strict=True)]
    mean, variance = np.empty((len(shares), len(network.coordinates))), np.zeros((len(shares), len(network.coordinates)))
    for number, layer in enumerate(network.layers):
        mean[number] = network.embedded(layer, means[number])
        variance[number, network.columns(layer)] = squares[number] - means[number] ** 2
    covariance = np.zeros((labels.a.shape[1] + 1, len(network.coordinates)))
    centred = labels.a - labels.of_a @ labels.a
    covariance[:-1, network.columns(network.layers[0])] = np.einsum("ab,aq,abd->qd", shares[0], centred, first[0])
    of_b = labels.b - labels.of_b @ labels.b
    covariance[-1, network.columns(network.layers[-1])] = np.einsum("ab,b,abd->d", shares[-1], of_b, first[-1])
    return {"label_covariance": covariance, "layer_mean": mean, "layer_variance": variance}


def ends_mean(labels: Labels, a: Array, b: Array) -> dict[str, Array]:
    """ "ends_mean" of trained ends: the mean of each component of a, then that of b, shape (q + 1,)."""
    return {"ends_mean": np.append(labels.of_a @ a, labels.of_b @ b)}


def _mean(shares: Array, conditional: Array) -> Array:
    return np.asarray(np.einsum("ab,abd->d", shares, conditional))
