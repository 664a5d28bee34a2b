"""Random networks of finite width: what their layers make of given inputs, of gradients, and of all directions at once.

    z¹ = σ_w N_0^{-½} G¹x + σ_b b¹,     z^{ℓ+1} = σ_w N^{-½} G^{ℓ+1} φ(z^ℓ) + σ_b b^{ℓ+1},     G, b standard normal,

or with N^{-½}G orthogonal and uniform (Haar) from the second layer on. Runs are cut into blocks that own a random stream for each
layer and go to the ranks: neither a network nor any mean knows how many ranks there are. Matrices are drawn again on the way
back, so that a deep network needs the memory of one layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import nothing
from mvpde.models.deep.activations import Array
from mvpde.models.deep.signal_maps import activation_of, slope_of
from mvpde.particles.blocks import Shares, stream

ENTRIES = 2**19  # of the matrices of a block's runs: changing it changes every run


@dataclass(frozen=True)
class RandomNetworks:
    """Independent networks of one kind.

    Attributes:
        activation: a name in `RANDOM`.
        weight_variance, bias_variance: σ_w², σ_b².
        depth: number of layers, ≥ 1.
        width: N.
        runs: number of networks.
        seed: of all random numbers.
        orthogonal: whether matrices are orthogonal instead of Gaussian, from the second layer on.
        gradients: whether to go backwards through the layers.
        jacobian: whether to multiply the matrices of all layers, which takes N³ operations each.
    """

    activation: str
    weight_variance: float
    bias_variance: float
    depth: int
    width: int
    runs: int = 1
    seed: int = 0
    orthogonal: bool = False
    gradients: bool = True
    jacobian: bool = False

    @property
    def block(self) -> int:
        """Runs that share streams."""
        return max(1, ENTRIES // self.width**2)


@dataclass(frozen=True)
class NetworkSamples:
    """What each network shows, the same on all ranks.

    Attributes:
        covariances: K̂_ℓ of layer ℓ given the layer before, for the pairs (a, b) with a ≤ b: shape (runs, depth, pairs).
        gradients: N⁻¹|δ^ℓ|² of a normal δ at the last layer for the first input, shape (runs, depth); None if not asked for.
        squares: N⁻¹ Σ s² and N⁻¹ Σ s⁴ of the singular values s of ∂z^depth/∂z¹ there, shape (runs, 2); None if not asked for.
    """

    covariances: Array
    gradients: Array | None
    squares: Array | None


def sample(
    networks: RandomNetworks, inputs: Array, comm: MPI.Intracomm, between_blocks: Callable[[], None] = nothing
) -> NetworkSamples:
    """Draw all networks and send the inputs, shape (M, N_0), through. Collective, and so may ``between_blocks`` be.

    Raises:
        ArgumentError: an activation that there is not, or without the φ' that gradients need.
    """
    shares = Shares(1, networks.runs, comm, networks.block)
    mine, blocks = [], [(number, count) for (_, number), count in zip(shares.owned, shares.sizes, strict=True)]
    for turn in range(comm.allreduce(len(blocks), MPI.MAX)):  # as often on all ranks
        mine += [_block(networks, inputs, number, count) for number, count in blocks[turn : turn + 1]]
        between_blocks()
    parts = [block for rank in comm.allgather(mine) for block in rank]
    covariances, gradients, squares = (np.concatenate([part[k] for part in parts]) for k in range(3))
    return NetworkSamples(covariances, gradients if networks.gradients else None, squares if networks.jacobian else None)


def _block(networks: RandomNetworks, inputs: Array, number: int, count: int) -> tuple[Array, Array, Array]:
    """Of the networks of one block."""
    phi, n = activation_of(networks.activation), networks.width
    pairs = np.triu_indices(len(inputs))
    known = networks.weight_variance * (inputs @ inputs.T) / inputs.shape[1] + networks.bias_variance
    covariances = [np.broadcast_to(known[pairs], (count, len(pairs[0])))]
    z = _layer(networks, number, 1, count, inputs.T[None])
    first, slopes = [z[:, :, 0]], slope_of(phi) if networks.gradients or networks.jacobian else None
    product = np.broadcast_to(np.eye(n), (count, n, n)) if networks.jacobian else np.eye(n)[None]
    for layer in range(2, networks.depth + 1):
        values = np.asarray(phi.value(z), float)
        covariances.append(_covariance(networks, values)[:, *pairs])
        weights, biases = _drawn(networks, number, layer, count, n)
        if networks.jacobian and slopes is not None:
            product = weights @ (np.asarray(slopes(z[:, :, 0]), float)[:, :, None] * product)
        z = weights @ values + biases
        first.append(z[:, :, 0])
    gradients = _backwards(networks, number, first) if networks.gradients else np.zeros((count, 0))
    return np.stack(covariances, axis=1), gradients, _squares(product, n) if networks.jacobian else np.zeros((count, 0))


def _covariance(networks: RandomNetworks, values: Array) -> Array:
    """K̂, shape (runs, M, M)."""
    return networks.weight_variance / networks.width * (values.swapaxes(1, 2) @ values) + networks.bias_variance


def _drawn(networks: RandomNetworks, number: int, layer: int, count: int, columns: int) -> tuple[Array, Array]:
    """Matrices with their factor, shape (count, N, columns), and biases, shape (count, N, 1), of one layer of a block."""
    rng, n = stream(networks.seed, number, layer), networks.width
    matrices = rng.standard_normal((count, n, columns))
    biases = math.sqrt(networks.bias_variance) * rng.standard_normal((count, n, 1))
    if not networks.orthogonal or layer == 1:
        matrices *= math.sqrt(networks.weight_variance / columns)
        return matrices, biases
    q, r = np.linalg.qr(matrices)
    signs = np.sign(np.einsum("kii->ki", r))  # without them Q is not uniform
    return math.sqrt(networks.weight_variance) * q * signs[:, None, :], biases


def _layer(networks: RandomNetworks, number: int, layer: int, count: int, values: Array) -> Array:
    weights, biases = _drawn(networks, number, layer, count, values.shape[1])
    return np.asarray(weights @ values + biases)


def _backwards(networks: RandomNetworks, number: int, z: Sequence[Array]) -> Array:
    """N⁻¹|δ^ℓ|², shape (runs, depth), δ^ℓ = φ'(z^ℓ) W^{ℓ+1}ᵀ δ^{ℓ+1}."""
    slope, (count, n) = slope_of(activation_of(networks.activation)), z[0].shape
    delta = stream(networks.seed, number, networks.depth + 1).standard_normal((count, n, 1))
    sizes = [(delta**2).mean(axis=(1, 2))]
    for layer in range(networks.depth, 1, -1):
        weights, _ = _drawn(networks, number, layer, count, n)
        delta = np.asarray(slope(z[layer - 2]), float)[:, :, None] * (weights.swapaxes(1, 2) @ delta)
        sizes.append((delta**2).mean(axis=(1, 2)))
    return np.stack(sizes[::-1], axis=1)


def _squares(product: Array, n: int) -> Array:
    """N⁻¹ Σ s² = N⁻¹|J|² and N⁻¹ Σ s⁴ = N⁻¹|JᵀJ|², shape (runs, 2)."""
    second = product.swapaxes(1, 2) @ product
    return np.stack([(product**2).sum(axis=(1, 2)) / n, (second**2).sum(axis=(1, 2)) / n], axis=1)
