"""Deep fully connected classifiers, trained from a random start: many independent runs at once, in single precision.

    h⁰ = x,   h^ℓ = tanh(W^ℓ h^{ℓ−1} + b^ℓ),  ℓ = 1 … L,   logits W^{L+1} h^L + b^{L+1},
    W^ℓ_ij ~ N(0, σ_w²/N_{ℓ−1}),   b^ℓ_i ~ N(0, σ_b²),

trained by stochastic gradient descent on the mean cross entropy of minibatches. A run owns its random stream, which draws its
weights and then its batches; matrix products are taken run by run. So no run knows of the others, or of the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from numpy.typing import NDArray

from mvpde.particles.blocks import Shares

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]


@dataclass(frozen=True)
class ClassifierTraining:
    """How the networks are made and trained.

    Attributes:
        width: N of all L hidden layers.
        weight_variance, bias_variance: σ_w² > 0, σ_b² ≥ 0.
        steps: minibatches.
        learning_rate: η > 0.
        batch_size: samples of a minibatch, drawn with replacement.
        momentum: μ in V ← μV + ∇, W ← W − ηV, in [0, 1).
    """

    width: int
    weight_variance: float
    bias_variance: float
    steps: int
    learning_rate: float
    batch_size: int = 32
    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ArgumentError: naming the first argument that is out of range.
        """
        for name in ("width", "batch_size"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, f"must be at least 1, not {getattr(self, name)}")
        for name in ("weight_variance", "learning_rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ArgumentError(name, f"must be positive, not {getattr(self, name)}")
        if not 0.0 <= self.bias_variance < math.inf:
            raise ArgumentError("bias_variance", f"must be 0 or positive, not {self.bias_variance}")
        if not 0.0 <= self.momentum < 1.0:
            raise ArgumentError("momentum", f"must lie in [0, 1), not {self.momentum}")
        if self.steps < 0:
            raise ArgumentError("steps", f"must be 0 or positive, not {self.steps}")


@dataclass
class Layers:
    """Weights (R, N_{ℓ−1}, N_ℓ) and biases (R, 1, N_ℓ) of R networks, one entry for each matrix; velocities are the same."""

    weights: list[Floats]
    biases: list[Floats]


def random_layers(training: ClassifierTraining, sizes: Sequence[int], streams: Sequence[np.random.Generator]) -> Layers:
    """Independent random networks with layers of these sizes, one of each stream."""
    layers = Layers([], [])
    for rows, columns in pairwise(sizes):
        weight = np.stack([rng.standard_normal((rows, columns), dtype=np.float32) for rng in streams])
        bias = np.stack([rng.standard_normal((1, columns), dtype=np.float32) for rng in streams])
        layers.weights.append(weight * np.float32(math.sqrt(training.weight_variance / rows)))
        layers.biases.append(bias * np.float32(math.sqrt(training.bias_variance)))
    return layers


def forward(layers: Layers, x: Floats) -> list[Floats]:
    """x, h¹, …, h^L and the logits, shapes (R, B, N_ℓ), for inputs (R, B, N_0)."""
    values = [x]
    for weight, bias in zip(layers.weights, layers.biases, strict=True):
        z = np.matmul(values[-1], weight)
        z += bias
        values.append(np.tanh(z, out=z) if weight is not layers.weights[-1] else z)
    return values


def backward(layers: Layers, values: Sequence[Floats], labels: Labels) -> Layers:
    """Gradients of the mean cross entropy over the B samples, from `forward` and labels (R, B)."""
    g = softmax(values[-1])
    np.put_along_axis(g, labels[..., None], np.take_along_axis(g, labels[..., None], -1) - 1.0, -1)
    g /= np.float32(labels.shape[-1])
    slopes = Layers([], [])
    for level in range(len(layers.weights) - 1, -1, -1):
        slopes.weights.append(np.matmul(values[level].transpose(0, 2, 1), g))
        slopes.biases.append(g.sum(axis=1, keepdims=True))
        if level:
            g = np.matmul(g, layers.weights[level].transpose(0, 2, 1))
            g *= 1.0 - values[level] ** 2
    return Layers(slopes.weights[::-1], slopes.biases[::-1])


def softmax(logits: Floats) -> Floats:
    """exp(z_k)/Σ exp(z_j) along the last axis."""
    z = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(z / z.sum(axis=-1, keepdims=True))


def descend(layers: Layers, velocity: Layers, slopes: Layers, training: ClassifierTraining) -> None:
    """V ← μV + ∇, W ← W − ηV, in place."""
    eta, mu = np.float32(training.learning_rate), np.float32(training.momentum)
    for part, moved, slope in zip(
        layers.weights + layers.biases, velocity.weights + velocity.biases, slopes.weights + slopes.biases, strict=True
    ):
        moved *= mu
        moved += slope
        part -= eta * moved


def accuracies(
    training: ClassifierTraining,
    depth: int,
    x: Floats,
    labels: Labels,
    *,
    runs: int,
    seed: int = 0,
    comm: MPI.Intracomm = MPI.COMM_SELF,
) -> NDArray[np.float64]:
    """Share of the data that each of R networks classifies rightly after its training, shape (R,). Collective.

    Args:
        training: how they are made and trained.
        depth: L ≥ 1, hidden layers.
        x: inputs, shape (P, N_0).
        labels: classes 0, 1, …, shape (P,).
        runs: R ≥ 1.
        seed: ≥ 0; run r draws from the stream (seed, r, 0).
        comm: communicator over which the runs are distributed.

    A network whose weights overflow counts what its logits still say.

    Raises:
        ArgumentError: for a depth or a number of runs below 1.
    """
    for name, value in (("depth", depth), ("runs", runs)):
        if value < 1:
            raise ArgumentError(name, f"must be at least 1, not {value}")
    shares = Shares(runs, 1, comm)
    streams = shares.streams(seed)
    with np.errstate(over="ignore", invalid="ignore"):  # a learning rate too large for a chaotic network shows in its accuracy
        right = _right(_trained(training, depth, x, labels, streams), x, labels) if streams else []
    return shares.mean([np.array([share]) for share in right])[:, 0]


def _trained(
    training: ClassifierTraining, depth: int, x: Floats, labels: Labels, streams: Sequence[np.random.Generator]
) -> Layers:
    sizes = [x.shape[1], *[training.width] * depth, int(labels.max()) + 1]
    layers = random_layers(training, sizes, streams)
    velocity = Layers([np.zeros_like(w) for w in layers.weights], [np.zeros_like(b) for b in layers.biases])
    for _ in range(training.steps):
        chosen = np.stack([rng.integers(0, len(x), training.batch_size) for rng in streams])
        slopes = backward(layers, forward(layers, x[chosen]), labels[chosen])
        descend(layers, velocity, slopes, training)
    return layers


def _right(layers: Layers, x: Floats, labels: Labels) -> list[float]:
    """The share of each network."""
    everything = np.broadcast_to(x, (len(layers.weights[0]), *x.shape))
    return [float(share) for share in np.mean(forward(layers, everything)[-1].argmax(axis=-1) == labels, axis=1)]


def centred(x: NDArray[np.float64]) -> Floats:
    """Inputs less their mean, scaled to a mean |x|²/N_0 of 1: on average the first layer has the variance σ_w² + σ_b²."""
    moved = x - x.mean(axis=0)
    return np.asarray(moved / math.sqrt(float(np.mean(moved**2))), dtype=np.float32)
