"""How the measures of a case of deep networks are built; importing this loads the solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mvpde.cases.kinds.deep_network import (
    DeepCompanionSection,
    DeepDensitySection,
    DeepNetworkModel,
    LabelsSection,
    check_outputs,
    deep_network,
    label_counts,
    sample_order,
)
from mvpde.cases.kinds.mean_field_resnet import (
    DepthsSection,
    MeanFieldResnetModel,
    ResidualDensitySection,
    ResidualRunsSection,
    residual_limit,
)
from mvpde.cases.meshes.on_mesh import domain
from mvpde.cases.of_particles import first_output
from mvpde.cases.problem import Problem
from mvpde.density.deep.density import DeepDensity
from mvpde.density.deep.resnet import ResidualDensity
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.resnet import RULES, DepthRule, ResidualLimit
from mvpde.models.deep.sweeps import Labels, labels
from mvpde.models.laws import Product
from mvpde.particles.accuracy.nodes import PARTS, fewer
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.driven import LimitPath
from mvpde.particles.deep.modes import MODES
from mvpde.particles.deep.network import Network
from mvpde.particles.deep.residual_runs import ResidualRuns
from mvpde.particles.deep.resnet import ResidualCharacteristics
from mvpde.particles.deep.samples import Samples
from mvpde.particles.deep.steps import Start
from mvpde.runtime import MPI


def network_of(problem: Problem) -> DeepNetwork:
    """The network of a case."""
    assert problem.data is not None
    return deep_network(cast("DeepNetworkModel", problem.sections.model), problem.data)


def laws_of(problem: Problem, network: DeepNetwork) -> list[Product]:
    """The law of the trained weights of each layer at the start: of [initial], or of the layer's own table."""
    model = cast("DeepNetworkModel", problem.sections.model)
    general = dict(zip(network.coordinates, cast("Product", problem.law).factors, strict=True))
    special = [{name: law.placed(name).factor() for name, law in layer.initial.items()} for layer in model.each]
    return [
        Product(tuple(own.get(name, general[name]) for name in layer.trained))
        for own, layer in zip(special, network.layers, strict=True)
    ]


def labels_of(problem: Problem, network: DeepNetwork) -> Labels:
    """Nodes of the frozen laws.

    Raises:
        CaseError: another number of entries than of inputs, or more labels than there is time for.
    """
    section = cast("LabelsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)
    return labels(network, problem.frozen, label_counts(problem, network.first_names), section.b)


def samples_of(problem: Problem) -> Samples | None:
    """The prescribed data points of a case whose networks are trained on them; their limit then is, too."""
    section = cast("DeepCompanionSection | None", getattr(problem.sections, "network", None))
    if section is None or section.mode != "prescribed":
        return None
    return Samples(sample_order(problem), section.step)


def meshes_of(problem: Problem, network: DeepNetwork, comm: MPI.Intracomm) -> list[Domain]:
    """The mesh of each layer: that of the case in the directions of the weights that the layer trains. Collective."""
    section, every = problem.sections.domain, network.coordinates
    assert section is not None  # `problem` has checked it
    made: dict[tuple[str, ...], Domain] = {}
    for layer in network.layers:
        if layer.trained in made:
            continue
        if layer.trained == every:
            made[every] = domain(problem, comm)
        else:
            assert section.lower is not None and section.upper is not None and section.cells is not None  # `problem` has checked
            lower, upper, cells = (
                [side[k] for k in network.columns(layer)] for side in (section.lower, section.upper, section.cells)
            )
            made[layer.trained] = box(lower, upper, [int(count) for count in cells], comm=comm)
    return [made[layer.trained] for layer in network.layers]


def density(problem: Problem, comm: MPI.Intracomm) -> DeepDensity:
    """The laws of all layers on copies of the mesh of the case. Collective."""
    s, network = cast("DeepDensitySection", problem.sections.density or DeepDensitySection()), network_of(problem)
    laws, known = laws_of(problem, network), labels_of(problem, network)
    return DeepDensity(
        network,
        meshes_of(problem, network, comm),
        known,
        laws,
        scheme=s.scheme,
        cfl=s.cfl,
        step=s.step,
        samples=samples_of(problem),
    )


def characteristics(problem: Problem, comm: MPI.Intracomm) -> DeepCharacteristics:
    """Quadrature nodes of the laws of all layers. Collective."""
    s, network = problem.sections.characteristics, network_of(problem)
    assert s is not None
    section = cast("LabelsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)
    laws, counts = laws_of(problem, network), label_counts(problem, network.first_names)

    def made(part: int, coarser: Sequence[DeepCharacteristics] = ()) -> DeepCharacteristics:
        return DeepCharacteristics(
            network,
            labels(network, problem.frozen, fewer(counts, part), fewer([section.b], part)[0]),
            laws,
            nodes=fewer(s.nodes, part),
            tolerance=s.tolerance,
            samples=samples_of(problem),
            coarser=coarser,
            comm=comm,
        )

    return made(1, [made(part) for part in PARTS])


def network(problem: Problem, comm: MPI.Intracomm) -> Network:
    """True networks, refused where the first step that the output times leave is unstable. Collective."""
    section = cast("DeepCompanionSection", getattr(problem.sections, "network"))  # noqa: B009  (of this kind's own)
    made = networks(problem, comm, companion=section.companion)
    made.require_stable(min(made.step, first_output(problem)))
    return made


def networks(
    problem: Problem,
    comm: MPI.Intracomm,
    *,
    mode: str | None = None,
    step: float | None = None,
    runs: int | None = None,
    stratified: bool = False,
    limit: LimitPath | None = None,
    companion: bool = False,
) -> Network:
    """True networks of a case, with some of its keys changed; those of the same seed have the same start. Collective.

    Args:
        problem: with [network].
        comm: communicator.
        mode, step, runs: instead of those of [network].
        stratified: whether a and b are drawn one from each of N parts of equal mass.
        limit: drives the weights instead of their own network.
        companion: whether smaller ones tell the error of the step.

    Raises:
        CaseError: output times that a mode with samples does not reach in whole steps.
    """
    section = cast("DeepCompanionSection | None", getattr(problem.sections, "network", None))
    assert section is not None
    described, chosen, length = network_of(problem), mode or section.mode, section.step if step is None else step
    check_outputs(problem.sections.time.outputs, chosen, length)
    ends = [problem.frozen[name] for name in described.first_names]
    return Network(
        described,
        Start(laws_of(problem, described), ends, problem.frozen["b"], stratified),
        width=section.width,
        runs=section.runs if runs is None else runs,
        seed=section.seed,
        mode=chosen,
        step=length,
        samples=samples_of(problem) if MODES[chosen].prescribed else None,
        limit=limit,
        companion=companion,
        comm=comm,
    )


# --- residual networks ----------------------------------------------------------------------------------------------------------


def _limit_of(problem: Problem) -> tuple[ResidualLimit, DepthRule, Product]:
    """The network of a case, its depths, and the law of its weights at the start."""
    assert problem.data is not None
    limit = residual_limit(cast("MeanFieldResnetModel", problem.sections.model), problem.data)
    section = cast("DepthsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)
    return limit, RULES[section.rule](section.s), cast("Product", problem.law)


def residual_density(problem: Problem, comm: MPI.Intracomm) -> ResidualDensity:
    """The law at every depth on a mesh. Collective."""
    s = cast("ResidualDensitySection", problem.sections.density or ResidualDensitySection())
    limit, depths, law = _limit_of(problem)
    return ResidualDensity(limit, domain(problem, comm), depths, law, scheme=s.scheme, cfl=s.cfl, step=s.step)


def residual_characteristics(problem: Problem, comm: MPI.Intracomm) -> ResidualCharacteristics:
    """Quadrature nodes of the law at every depth. Collective."""
    s = problem.sections.characteristics
    assert s is not None
    limit, _, law = _limit_of(problem)
    section = cast("DepthsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)

    def made(part: int, coarser: Sequence[ResidualCharacteristics] = ()) -> ResidualCharacteristics:
        own = RULES[section.rule](*fewer([section.s], part))
        nodes = fewer(s.nodes, part)
        return ResidualCharacteristics(limit, own, law, nodes=nodes, tolerance=s.tolerance, coarser=coarser, comm=comm)

    return made(1, [made(part) for part in PARTS])


def residual_runs(problem: Problem, comm: MPI.Intracomm) -> ResidualRuns:
    """True residual networks, refused where the first step that the output times leave is unstable. Collective."""
    s = cast("ResidualRunsSection | None", getattr(problem.sections, "network", None))
    assert s is not None
    limit, _, law = _limit_of(problem)
    made = ResidualRuns(
        limit,
        law,
        layers=s.layers,
        width=s.width,
        runs=s.runs,
        seed=s.seed,
        mode=s.mode,
        step=s.step,
        companion=s.companion,
        comm=comm,
    )
    made.require_stable(min(s.step, first_output(problem)))
    return made
