"""What is said of all weights of wide deep networks: means over them, products with the labels, distances, checkpoints.

Sums over rows are sums over blocks in their order; weights of layer ℓ = 1 … L − 1, means over all N² of them in each run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvpde.particles.deep.rows import NetworkRows, block_sums, streams_of, words_of  # isort: skip  (loads the solver libraries)

import numpy as np

from mvpde.measure import Cloud, State
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.mean_field import Array
from mvpde.particles.deep.passes import Weights
from mvpde.particles.deep.steps import RunGroup, trained_rows

SHOWN = 128  # units between which the weights of a cloud lie


@dataclass(frozen=True)
class ConditionalMoments:
    """Means over the N² weights of a layer in each run; D trained weights, a list over layers for the first two.

    Attributes:
        first, second: of θ and θ², shape (runs, D) each.
        with_a: Cov(a_i, θ¹_ij), shape (runs, q, D), a the labels: A at t = 0.
        with_b: Cov(b_j, θ^{L−1}_ij), shape (runs, D).
    """

    first: list[Array]
    second: list[Array]
    with_a: Array
    with_b: Array


def conditional_moments(network: DeepNetwork, group: RunGroup) -> ConditionalMoments:
    """Of the runs of a group. Collective."""
    rows, a, b = group.rows, group.start.first, group.start.last
    chosen = [theta[trained_rows(u.trained)] for u, theta in zip(network.layers, group.weights.layers, strict=True)]
    first = [mean_of_rows(rows, theta.sum(axis=2).T) for theta in chosen]
    second = [mean_of_rows(rows, (theta**2).sum(axis=2).T) for theta in chosen]
    centred_a = (a - a.mean(axis=1, keepdims=True))[rows.run, rows.row]
    centred_b = (b - b.mean(axis=1, keepdims=True))[rows.run]
    with_a = mean_of_rows(rows, centred_a[:, :, None] * chosen[0].sum(axis=2).T[:, None, :])
    with_b = mean_of_rows(rows, np.einsum("rj,drj->rd", centred_b, chosen[-1]))
    return ConditionalMoments(first, second, with_a, with_b)


def mean_of_rows(rows: NetworkRows, sums: Array) -> Array:
    """Means over N² weights of each run from sums over the columns, shape (R, ...). Collective."""
    return np.asarray(rows.mean(block_sums(rows, sums)) / rows.width)


def column_means(network: DeepNetwork, group: RunGroup, number: int) -> Array:
    """N⁻¹ Σ_i θ_ij of the trained weights of layer 1 … L − 1, shape (runs, N, D): of those into unit j. Collective."""
    theta = group.weights.layers[number - 1][trained_rows(network.layers[number - 1].trained)]
    return np.asarray(group.rows.mean(block_sums(group.rows, np.moveaxis(theta, 0, 2))))


def row_means(network: DeepNetwork, group: RunGroup, number: int) -> Array:
    """N⁻¹ Σ_j θ_ij, shape (runs, N, D): of the weights out of unit i. Collective."""
    theta = group.weights.layers[number - 1][trained_rows(network.layers[number - 1].trained)]
    return np.asarray(group.rows.everywhere(theta.mean(axis=2).T).transpose(0, 2, 1))


def joined(parts: Sequence[ConditionalMoments]) -> ConditionalMoments:
    """Of the runs of several groups."""
    first, second = (
        [np.concatenate(x) for x in zip(*lists, strict=True)] for lists in ([p.first for p in parts], [p.second for p in parts])
    )
    return ConditionalMoments(first, second, np.concatenate([p.with_a for p in parts]), np.concatenate([p.with_b for p in parts]))


def layer_arrays_of(network: DeepNetwork, moments: ConditionalMoments) -> dict[str, Array]:
    """`models.deep.statistics.layer_arrays` of networks: means over runs of what is found within each."""
    shape = (len(network.layers), len(network.coordinates))
    mean, variance = np.empty(shape), np.zeros(shape)
    for number, layer in enumerate(network.layers):
        mean[number] = network.embedded(layer, moments.first[number].mean(axis=0))
        spread = moments.second[number] - moments.first[number] ** 2
        variance[number, network.columns(layer)] = spread.mean(axis=0)
    covariance = np.zeros((moments.with_a.shape[1] + 1, shape[1]))
    covariance[:-1, network.columns(network.layers[0])] = moments.with_a.mean(axis=0)
    covariance[-1, network.columns(network.layers[-1])] = moments.with_b.mean(axis=0)
    return {"label_covariance": covariance, "layer_mean": mean, "layer_variance": variance}


def gaps(a: RunGroup, b: RunGroup) -> Array:
    """Mean of |θ_ij − θ'_ij| over the weights of each layer, shape (runs, L − 1). Collective."""
    lengths = [np.sqrt(((x - y) ** 2).sum(axis=0)).sum(axis=1) for x, y in zip(a.weights.layers, b.weights.layers, strict=True)]
    return mean_of_rows(a.rows, np.stack(lengths, axis=1))


def mean_over_weights(network: DeepNetwork, group: RunGroup, f: Callable[[Array], Array]) -> Array:
    """Mean of f, (N, D) → (N,), over the weights of all layers as points of all coordinates, shape (runs,). Collective."""
    total = np.zeros(len(group.rows.run))
    for layer, theta in zip(network.layers, group.weights.layers, strict=True):
        points = network.embedded(layer, np.moveaxis(theta[trained_rows(layer.trained)], 0, 2))
        total += f(points.reshape(-1, points.shape[-1])).reshape(points.shape[:2]).sum(axis=1)
    return mean_of_rows(group.rows, total / len(network.layers))


def weights_of(network: DeepNetwork, groups: Sequence[RunGroup], number: int) -> Array | None:
    """Trained weights of layer 1 … L − 1, shape (runs, N, N, D), on rank 0, else None. Collective."""
    chosen = trained_rows(network.layers[number - 1].trained)
    parts = [group.rows.gathered(group.weights.layers[number - 1][chosen]) for group in groups]
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def first_weights(network: DeepNetwork, group: RunGroup) -> Cloud | None:
    """Weights between the first units of the first run as points of all coordinates on rank 0, else None. Collective."""
    rows = group.rows
    shown = (rows.run == 0) & (rows.row < SHOWN)
    parts = [
        network.embedded(layer, np.moveaxis(theta[trained_rows(layer.trained)][:, shown, :SHOWN], 0, 2))
        for layer, theta in zip(network.layers, group.weights.layers, strict=True)
    ]
    gathered = rows.shares.comm.gather([part.reshape(-1, part.shape[-1]) for part in parts])
    if gathered is None:
        return None
    points = np.concatenate([piece for layer in zip(*gathered, strict=True) for piece in layer])
    return points, np.full(len(points), 1.0 / len(points))


# --- all that moves, as one vector ----------------------------------------------------------------------------------------------


def moving(network: DeepNetwork, weights: Weights) -> list[Array]:
    """The ends, and each trained weight of the owned rows, shape (R, N) each. Views."""
    layers = zip(network.layers, weights.layers, strict=True)
    return [weights.first, weights.last, *(theta[k] for layer, theta in layers for k in trained_rows(layer.trained))]


def flat(network: DeepNetwork, weights: Weights) -> Array:
    """Those that move as one vector: the trained weights of the owned rows and, where they are trained, the ends."""
    parts = moving(network, weights)
    return np.concatenate([part.ravel() for part in (parts if network.train_ends else parts[2:])])


def unflat(network: DeepNetwork, like: Weights, vector: Array) -> Weights:
    """The other way; weights that do not move are those of ``like``."""
    weights, start = like.copy(), 0
    parts = moving(network, weights)
    for part in parts if network.train_ends else parts[2:]:
        part[...] = vector[start : start + part.size].reshape(part.shape)
        start += part.size
    return weights


def dot(network: DeepNetwork, group: RunGroup, x: Array, y: Array) -> float:
    """Product of two such vectors, the same on every rank and on any number of them. Collective."""
    rows, product = group.rows, x * y
    shape = (sum(layer.dimension for layer in network.layers), len(rows.run), rows.width)  # of none on some ranks
    ends = product.size - math.prod(shape)
    sums = product[ends:].reshape(shape).sum(axis=(0, 2))
    return float(product[:ends].sum() + rows.width * rows.mean(block_sums(rows, sums)).sum())


# --- checkpoints ----------------------------------------------------------------------------------------------------------------


def kept(network: DeepNetwork, groups: Sequence[RunGroup]) -> dict[str, Array] | None:
    """All weights and the states of all streams on rank 0, else None. Collective."""
    layers = range(1, network.depth)
    weights = {f"layer{number}": weights_of(network, groups, number) for number in layers}
    noise = {f"noise{number}": _words(groups, number) for number in layers}
    ends = {
        "first": np.concatenate([group.weights.first for group in groups]),
        "last": np.concatenate([group.weights.last for group in groups]),
        "first_label": np.concatenate([group.start.first for group in groups]),
        "last_label": np.concatenate([group.start.last for group in groups]),
        "samples": np.concatenate([group.sample_words() for group in groups]),
    }
    parts = {**weights, **noise, **ends}
    return None if any(part is None for part in parts.values()) else parts  # type: ignore[return-value]


def _words(groups: Sequence[RunGroup], number: int) -> Array | None:
    parts = [group.rows.shares.comm.gather(words_of(group.noise[number - 1])) for group in groups]
    known = [words for part in parts if part is not None for words in part]
    return np.concatenate(known) if known else None


def take_up(network: DeepNetwork, groups: Sequence[RunGroup], state: State) -> None:
    """The weights and streams of a state, the same on all ranks, into the groups. Local.

    Raises:
        ValueError: it is that of another network; nothing is changed.
    """
    runs, width = sum(group.rows.runs for group in groups), groups[0].rows.width
    for number, layer in enumerate(network.layers, 1):
        expected, there = (runs, width, width, layer.dimension), np.shape(state.get(f"layer{number}", np.empty(0)))
        if there != expected:
            raise ValueError(f"the checkpoint has (runs, N, N, D) = {there} in layer {number}, the network {expected}")
    for group in groups:
        _take_up(network, group, state)


def _take_up(network: DeepNetwork, group: RunGroup, state: State) -> None:
    rows = group.rows
    here = slice(rows.first_run, rows.first_run + rows.runs)
    blocks = [(rows.first_run + run) * rows.shares.per_run + block for run, block in rows.shares.owned]
    group.start = Weights(_floats(state, "first_label")[here], _floats(state, "last_label")[here], [])
    for number, layer in enumerate(network.layers, 1):
        weights = _floats(state, f"layer{number}")[here]
        for there in (group.weights, group.other):
            there.layers[number - 1][trained_rows(layer.trained)] = rows.owned_of(weights)
        group.noise[number - 1] = streams_of(np.asarray(state[f"noise{number}"], np.uint64)[blocks])
    for there in (group.weights, group.other):
        there.first, there.last = _floats(state, "first")[here], _floats(state, "last")[here]
    group.samples = streams_of(np.asarray(state["samples"], np.uint64)[here])


def _floats(state: State, name: str) -> Array:
    """A copy of an array of a state."""
    return np.array(state[name], float)
