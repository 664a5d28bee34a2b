"""Time steps of wide deep networks: descent by Euler and Heun, one-pass SGD, Langevin, and copies driven by the limit.

    θ' = θ + hθ̇(θ) + √(2τh) ξ,   Heun: θ' = θ + ½h[θ̇(θ) + θ̇(θ̃)] + √(2τh) ξ,   θ̃ Euler's step with the same ξ.

In SGD's steps θ̇ is that of one sample, which all weights of a run see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mvpde.particles.deep.rows import NetworkRows, network_stream, words_of  # isort: skip  (loads the solver libraries)

import numpy as np

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.units import WEIGHTS
from mvpde.models.laws import Law1D, Product, Sampler
from mvpde.models.laws.product import has_density
from mvpde.models.mean_field import Array
from mvpde.particles.blocks import Words
from mvpde.particles.deep.driven import LimitPath, driven_velocity, ends_at
from mvpde.particles.deep.kernels import Integers
from mvpde.particles.deep.passes import Scratch, Weights, ahead, back, pulls

Draw = Callable[[np.random.Generator, int], Array]

GRID = 20001  # points of a distribution function that is inverted


@dataclass(frozen=True)
class Start:
    """Laws of the weights at t = 0.

    Attributes:
        layers: of the trained weights of each layer, in the order v, w, c.
        first: of the components of a.
        last: of b.
        stratified: whether a and b are drawn one from each of N parts of equal mass instead of independently.
    """

    layers: Sequence[Sampler]
    first: Sequence[Law1D]
    last: Law1D
    stratified: bool = False


def start_of(network: DeepNetwork, laws: Mapping[str, Law1D], *, stratified: bool = False) -> Start:
    """The start of a network whose layers are all drawn from the same laws.

    Args:
        network: its names are those of the laws.
        laws: of each trained weight, of each component of a, and of b.
        stratified: as in `Start`.
    """
    layers = [Product(tuple(laws[name] for name in layer.trained)) for layer in network.layers]
    return Start(layers, [laws[name] for name in network.first_names], laws["b"], stratified)


def one_in_each_part(law: Law1D, rng: np.random.Generator, n: int) -> Array:
    """One draw from each of n parts of equal mass, in random order: the quantiles at (k + U_k)/n; of points, any n draws."""
    if not has_density(Product((law,))):
        return law.sample(rng, n)
    grid = np.linspace(*law.extent(), GRID)
    density = law.density(grid)
    distribution = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    u = (np.arange(n) + rng.random(n)) / n
    return rng.permutation(np.interp(u, distribution / distribution[-1], grid))


@dataclass
class RunGroup:
    """Runs that go through the sweeps together: their weights and streams.

    Attributes:
        rows: which of them this rank owns.
        weights: at present.
        start: A and B at t = 0, no layers.
        noise: streams of the owned blocks, for each layer.
        samples: streams of the samples of SGD, of every run, on every rank.
        other: weights that a step writes and then takes.
        push: velocities, of two stages.
    """

    rows: NetworkRows
    weights: Weights
    start: Weights
    noise: list[list[np.random.Generator]]
    samples: list[np.random.Generator]
    other: Weights = field(init=False)
    push: tuple[list[Array], list[Array]] = field(init=False)

    def __post_init__(self) -> None:
        """Room for a step."""
        self.other = self.weights.copy()
        self.push = ([np.empty_like(x) for x in self.weights.layers], [np.empty_like(x) for x in self.weights.layers])

    def sample_words(self) -> Words:
        """States of the streams of samples."""
        return words_of(self.samples)


def drawn(model: DeepNetwork, rows: NetworkRows, start: Start, seed: int) -> RunGroup:
    """The runs at t = 0. Local."""
    depth, runs = model.depth, range(rows.first_run, rows.first_run + rows.runs)
    draw = one_in_each_part if start.stratified else _independent
    ends = [[network_stream(seed, run, layer, 0) for run in runs] for layer in (0, depth)]
    first = np.array([[draw(law, rng, rows.width) for law in start.first] for rng in ends[0]])
    last = np.array([draw(start.last, rng, rows.width) for rng in ends[1]])
    a = np.ascontiguousarray(np.moveaxis(first, 1, 2))
    noise = [rows.streams(seed, layer) for layer in range(1, depth)]
    layers = []
    for layer, law, streams in zip(model.layers, start.layers, noise, strict=True):
        theta = np.empty((len(WEIGHTS), len(rows.run), rows.width))
        for k, name in enumerate(WEIGHTS):
            theta[k] = layer.fixed.get(name, 0.0)
        theta[trained_rows(layer.trained)] = rows.drawn(streams, len(layer.trained), law.sample)
        layers.append(theta)
    samples = [network_stream(seed, run, depth + 1, 0) for run in runs]
    return RunGroup(rows, Weights(a, last, layers), Weights(a.copy(), last.copy(), []), noise, samples)


def _independent(law: Law1D, rng: np.random.Generator, n: int) -> Array:
    return law.sample(rng, n)


def trained_rows(names: Sequence[str]) -> list[int]:
    """Where the trained weights stand among v, w, c."""
    return [WEIGHTS.index(name) for name in names]


@dataclass(frozen=True)
class Chance:
    """What is random in a step of the runs of a group.

    Attributes:
        noise: √(2τh) ξ of the trained weights of each layer, shape (D, R, N), or 0.
        samples: that the step sees in each run, shape (runs, 1); None: all of them.
    """

    noise: Sequence[Array | float]
    samples: Integers | None = None


def of_whole_steps(halves: Sequence[Sequence[Chance]]) -> list[list[Chance]]:
    """The chance of each whole step, group by group, from that of its two halves: their noise together, one's samples."""
    noise = [[x + y for x, y in zip(a.noise, b.noise, strict=True)] for a, b in zip(*halves, strict=True)]
    sampled = halves[0][0].samples is not None
    return [[Chance(xi, half.samples) for xi, half in zip(noise, own, strict=True)] for own in halves[: 2 if sampled else 1]]


# --- one step -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Motion:
    """How the weights of a group move.

    Attributes:
        model: of the network.
        scratch: room for the sweeps.
        limit: drives them instead of their own network.
    """

    model: DeepNetwork
    scratch: Scratch
    limit: LimitPath | None = None

    def velocity(self, group: RunGroup, weights: Weights, t: float, stage: int, samples: Integers | None) -> Weights:
        """θ̇ with the base measure's part, in ``group.push[stage]``. Collective."""
        push = group.push[stage]
        if self.limit is None:
            seen = ahead(self.model, group.rows, weights, self.scratch, samples)
            k = pulls(self.model, seen.h, samples)
            moved = back(self.model, group.rows, weights, seen, k, push, samples)
        else:
            driven_velocity(self.model, group.rows, weights, group.start, self.limit(t), self.scratch, push)
            moved = Weights(np.zeros_like(weights.first), np.zeros_like(weights.last), push)
        if self.model.temperature > 0.0 and self.model.base:
            self._confine(weights, push)
        return moved

    def _confine(self, weights: Weights, push: Sequence[Array]) -> None:
        """Add −∂V0/∂θ."""
        for layer, theta, velocity in zip(self.model.layers, weights.layers, push, strict=True):
            rows = trained_rows(layer.trained)
            points = np.moveaxis(theta[rows], 0, 2).reshape(-1, len(rows))
            gradient = self.model.external_gradient(layer, points)
            velocity[rows] -= np.moveaxis(gradient.reshape(*theta.shape[1:], len(rows)), 2, 0)

    def noise(self, group: RunGroup, h: float) -> list[Array | float]:
        """√(2τh) ξ of the trained weights of each layer, shape (D, R, N), or 0. It advances the streams. Local."""
        if self.model.temperature == 0.0:
            return [0.0] * len(self.model.layers)
        scale = math.sqrt(2.0 * self.model.temperature * h)
        return [
            scale * group.rows.drawn(streams, len(layer.trained), _normal(len(layer.trained)))
            for layer, streams in zip(self.model.layers, group.noise, strict=True)
        ]

    def put(self, group: RunGroup, moved: Weights, h: float, noise: Sequence[Array | float], t: float) -> None:
        """Write θ + hθ̇ + noise into ``group.other``; ``moved`` is overwritten."""
        for layer, old, velocity, new, xi in zip(
            self.model.layers, group.weights.layers, moved.layers, group.other.layers, noise, strict=True
        ):
            for number, k in enumerate(trained_rows(layer.trained)):
                np.multiply(velocity[k], h, out=new[k])
                new[k] += old[k]
                if not isinstance(xi, float):
                    new[k] += xi[number]
        if self.limit is not None:
            group.other.first, group.other.last = ends_at(self.limit(t), group.start)
        elif self.model.train_ends:
            group.other.first = group.weights.first + h * moved.first
            group.other.last = group.weights.last + h * moved.last


def _normal(dimension: int) -> Draw:
    return lambda rng, n: rng.standard_normal((n, dimension))


def euler(motion: Motion, group: RunGroup, t: float, h: float, chance: Chance) -> None:
    """Writes Euler's step into ``group.other``. Collective."""
    moved = motion.velocity(group, group.weights, t, 0, chance.samples)
    motion.put(group, moved, h, chance.noise, t + h)


def heun(motion: Motion, group: RunGroup, t: float, h: float, chance: Chance) -> None:
    """Writes Heun's step into ``group.other``. Collective."""
    moved, noise = motion.velocity(group, group.weights, t, 0, chance.samples), chance.noise
    motion.put(group, moved, h, noise, t + h)
    after = motion.velocity(group, group.other, t + h, 1, chance.samples)
    for before, x in zip(moved.layers, after.layers, strict=True):
        x += before
    mean = Weights(moved.first + after.first, moved.last + after.last, after.layers)
    motion.put(group, mean, 0.5 * h, noise, t + h)


SCHEMES: dict[str, Callable[[Motion, RunGroup, float, float, Chance], None]] = {"euler": euler, "heun": heun}
