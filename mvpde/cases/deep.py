"""How the measures of a case of deep networks are built; importing this loads the solver."""

from __future__ import annotations

import math
from typing import cast

from mvpde.cases.kinds.deep_network import DeepCompanionSection, DeepNetworkModel, LabelsSection, deep_network
from mvpde.cases.problem import Problem
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.sweeps import Labels, labels
from mvpde.models.laws import Product
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.driven import LimitPath
from mvpde.particles.deep.modes import MODES
from mvpde.particles.deep.network import Network
from mvpde.particles.deep.samples import Samples
from mvpde.particles.deep.steps import Start
from mvpde.runtime import MPI, CaseError

_MOST_LABELS = 100_000  # of a layer: more take hours, and mean that there are many inputs


def network_of(problem: Problem) -> DeepNetwork:
    """The network of a case."""
    assert problem.data is not None
    return deep_network(cast("DeepNetworkModel", problem.sections.model), problem.data)


def laws_of(problem: Problem, network: DeepNetwork) -> list[Product]:
    """The law of the trained weights of each layer at the start: of [initial], or of the layer's own table."""
    model = cast("DeepNetworkModel", problem.sections.model)
    general = dict(zip(network.coordinates, cast("Product", problem.law).factors, strict=True))
    return [
        Product(tuple(own.initial[name].factor() if name in own.initial else general[name] for name in layer.trained))
        for own, layer in zip(model.each, network.layers, strict=True)
    ]


def labels_of(problem: Problem, network: DeepNetwork) -> Labels:
    """Nodes of the frozen laws.

    Raises:
        CaseError: another number of entries than of inputs, or more labels than there is time for.
    """
    section = cast("LabelsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)
    names = network.first_names
    counts = section.a * len(names) if len(section.a) == 1 else section.a
    if len(counts) != len(names):
        raise CaseError(
            f"[labels] a: has {len(counts)} entries, and the data have {len(names)} inputs; give one for each, or one number"
        )
    if math.prod(counts) * (section.b if network.depth == 2 else 1) > _MOST_LABELS:
        raise CaseError(
            f"[labels] a: {' × '.join(map(str, counts))} nodes are too many labels; give fewer, or leave out [density] and "
            "[characteristics]: [network] takes any number of inputs"
        )
    return labels(network, problem.frozen, counts, section.b)


def samples_of(problem: Problem) -> Samples | None:
    """The prescribed data points of a case whose networks are trained on them; their limit then is, too."""
    section = cast("DeepCompanionSection | None", getattr(problem.sections, "network", None))
    if section is None or section.mode != "prescribed" or problem.data is None:
        return None
    count = len(problem.data.weights)
    order = tuple(section.order or range(count))
    if max(order) >= count:
        raise CaseError(
            f"[network] order: names data point {max(order)}, and there are {count}; give numbers from 0 to {count - 1}"
        )
    return Samples(order, section.step)


def characteristics(problem: Problem, comm: MPI.Intracomm) -> DeepCharacteristics:
    """Quadrature nodes of the laws of all layers. Collective."""
    s, network = problem.sections.characteristics, network_of(problem)
    assert s is not None
    return DeepCharacteristics(
        network,
        labels_of(problem, network),
        laws_of(problem, network),
        nodes=s.nodes,
        tolerance=s.tolerance,
        samples=samples_of(problem),
        comm=comm,
    )


def network(problem: Problem, comm: MPI.Intracomm) -> Network:
    """True networks. Collective."""
    return networks(problem, comm)


def networks(
    problem: Problem,
    comm: MPI.Intracomm,
    *,
    mode: str | None = None,
    step: float | None = None,
    stratified: bool = False,
    limit: LimitPath | None = None,
) -> Network:
    """True networks of a case, with some of its keys changed; those of the same seed have the same start. Collective.

    Args:
        problem: with [network].
        comm: communicator.
        mode, step: instead of those of [network].
        stratified: whether a and b are drawn one from each of N parts of equal mass.
        limit: drives the weights instead of their own network.
    """
    section = cast("DeepCompanionSection | None", getattr(problem.sections, "network", None))
    assert section is not None
    described, chosen = network_of(problem), mode or section.mode
    ends = [problem.frozen[name] for name in described.first_names]
    return Network(
        described,
        Start(laws_of(problem, described), ends, problem.frozen["b"], stratified),
        width=section.width,
        runs=section.runs,
        seed=section.seed,
        mode=chosen,
        step=section.step if step is None else step,
        samples=samples_of(problem) if MODES[chosen].prescribed else None,
        limit=limit,
        comm=comm,
    )
