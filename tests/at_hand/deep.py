"""The deep networks that several tests compute, and the numbers that they were computed to elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mvpde.density.deep.density import DeepDensity
from mvpde.mesh.box import box
from mvpde.models.data import Data, points
from mvpde.models.deep.network import DeepNetwork, FirstLayer, repeated
from mvpde.models.deep.sweeps import Labels, labels
from mvpde.models.deep.units import DeepLayer
from mvpde.models.laws import Law1D, Normal, Product, Uniform
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.samples import Samples
from mvpde.runtime import MPI


def five_points() -> Data:
    """y = sin(1.5x) + 0.3 at five points of equal weight."""
    x = np.array([-1.5, -0.7, 0.3, 0.9, 1.6])
    return points(x, np.sin(1.5 * x) + 0.3)


@dataclass(frozen=True)
class Reference:
    """A deep network, the laws of its weights at the start, and its loss at some times."""

    network: DeepNetwork
    laws: Mapping[str, Law1D]
    losses: Mapping[float, float]


def _reference(
    depth: int, layer: DeepLayer, laws: Mapping[str, Law1D], losses: Mapping[float, float], offset: float = 0.5
) -> Reference:
    return Reference(DeepNetwork(repeated(layer, depth), five_points(), FirstLayer("tanh", offset)), laws, losses)


_ENDS: dict[str, Law1D] = {"a": Normal(1.0, 0.7), "b": Normal(1.0, 0.7)}
_UNIFORM_ENDS: dict[str, Law1D] = {"a": Uniform(0.0, 2.0), "b": Uniform(-0.5, 2.0)}
_VW = DeepLayer("tanh", ("v", "w"), {"c": 0.0})

S3 = _reference(
    3,
    _VW,
    {**_ENDS, "v": Normal(1.0, 0.5), "w": Normal(1.0, 0.5)},
    {0.0: 0.135237, 0.5: 0.095683, 1.0: 0.074052, 2.0: 0.055297, 4.0: 0.045232},
    offset=0.0,
)
S4 = _reference(
    4,
    _VW,
    {**_ENDS, "v": Normal(1.2, 0.5), "w": Normal(1.0, 0.5)},
    {0.0: 0.0781416, 0.5: 0.0570423, 1.0: 0.0466296, 2.0: 0.0379180, 4.0: 0.0334368},
)
S5 = _reference(
    5,
    DeepLayer("tanh", ("w", "c"), {"v": 1.5}),
    {**_ENDS, "w": Normal(0.6, 0.5), "c": Normal(0.0, 0.4)},
    {0.0: 0.2286070, 0.5: 0.1367872, 1.0: 0.0844177, 2.0: 0.0428597, 4.0: 0.0276409},
)
S2 = _reference(
    2,
    _VW,
    {**_UNIFORM_ENDS, "v": Uniform(0.2, 2.0), "w": Uniform(0.2, 2.0)},
    {0.0: 0.122434, 1.0: 0.088433, 2.0: 0.072924, 4.0: 0.058329},
)
S4S = _reference(
    4,
    DeepLayer("tanh", ("w",), {"v": 1.5, "c": 0.0}),
    {**_ENDS, "w": Normal(1.0, 0.5)},
    {0.0: 0.0375234, 1.0: 0.0353338, 2.0: 0.0341490, 4.0: 0.0330128},
)
S3D = _reference(
    3,
    DeepLayer("tanh", ("v", "w", "c"), {}),
    {**_UNIFORM_ENDS, "v": Normal(1.0, 0.35), "w": Normal(1.0, 0.35), "c": Normal(0.0, 0.35)},
    {0.0: 0.1728391, 1.0: 0.1030878, 2.0: 0.0742855, 4.0: 0.0535619},
)


def laws_of(reference: Reference) -> list[Product]:
    """The law of the weights of each layer."""
    return [Product(tuple(reference.laws[name] for name in layer.trained)) for layer in reference.network.layers]


def with_probes(known: Labels, values: tuple[float, ...]) -> Labels:
    """The labels with more of share 0 in front, at given values of a and of b."""
    more, none = np.array(values), np.zeros(len(values))
    return Labels(
        np.concatenate([more[:, None], known.a]),
        np.concatenate([none, known.of_a]),
        np.concatenate([more, known.b]),
        np.concatenate([none, known.of_b]),
    )


def density_of(
    reference: Reference, cells: int, lower: float, upper: float, nodes: int, comm: MPI.Intracomm, **options: object
) -> DeepDensity:
    """The densities of a reference on a box with as many cells in each direction."""
    network, known = reference.network, labels(reference.network, reference.laws, nodes, nodes)
    directions = len(network.coordinates)
    mesh = box([lower] * directions, [upper] * directions, [cells] * directions, comm=comm)
    return DeepDensity(network, [mesh] * len(network.layers), known, laws_of(reference), **options)  # type: ignore[arg-type]


def characteristics_of(
    reference: Reference, nodes: int, each: int, probes: tuple[float, ...] = (), samples: Samples | None = None
) -> DeepCharacteristics:
    """The characteristics of a reference, by themselves on every rank."""
    network = reference.network
    known = with_probes(labels(network, reference.laws, nodes, nodes), probes)
    counts = [each] * len(network.coordinates)
    return DeepCharacteristics(
        network, known, laws_of(reference), nodes=counts, tolerance=1e-7, samples=samples, comm=MPI.COMM_SELF
    )
