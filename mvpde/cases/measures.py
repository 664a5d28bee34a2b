"""From a problem to its measures: which ones there are, which a case asks for, and what is said of them.

`mvpde check` and wrong cases answer before the libraries of the solver are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import blaming, in_file, listed, nearest
from mvpde.cases.schema import CaseSections, DensitySection, DomainSection
from mvpde.cases.starts.labels import characteristic_nodes, label_nodes
from mvpde.measure import Measure
from mvpde.models.mean_field import MeanField
from mvpde.registry import At, Registry
from mvpde.runtime import MPI, ArgumentError, CaseError

if TYPE_CHECKING:
    from mvpde.cases.problem import Problem
    from mvpde.density.density import Density
    from mvpde.mesh.domain import Domain
    from mvpde.models.sgd_network import SgdNetwork


# --- the table ------------------------------------------------------------------------------------------------------------------

Builder = Callable[["Problem", MPI.Intracomm], Measure]


@dataclass(frozen=True)
class MeasureEntry:
    """A measure that a case may ask for, by a section of the same name.

    Attributes:
        sentence: what it is.
        builder: (problem, communicator) → the measure at t = 0, or where that function is.
        exactness: SAMPLES, MESH or NODES: each measure is compared with those more exact.
        keys: all its `numbers` and `statistics`: what no observable of a model with this measure may be called.
        left_out: problem → why a run does without the measure though the case asks for it; None where it does not.
        places: argument of the numerics → how a message about it begins; by default with its section and name.
        remedies: argument → what helps, in terms of the case file.
    """

    sentence: str
    builder: Builder | At
    exactness: int
    keys: tuple[str, ...]
    left_out: Callable[[Problem], str | None] = lambda _: None
    places: Mapping[str, str] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)

    def build(self, problem: Problem, comm: MPI.Intracomm) -> Measure:
        """The measure at t = 0. Collective."""
        builder = cast("Builder", self.builder.load()) if isinstance(self.builder, At) else self.builder
        return builder(problem, comm)


SAMPLES, MESH, NODES = range(3)
EVERY = ("loss", "step", "seconds")  # keys of any measure
LAYERS = ("predictions", "inputs", "label_covariance", "layer_mean", "layer_variance", "dissipation")  # of deep networks
# what a run adds to a density
OF_COMPANIONS = ("companions", "companion_seconds", "order", "moments", "ladder", "accuracy_reached")
OF_ERRORS = ("_error", "_extrapolated", "_step_error")  # endings of what it says of another number
LABELLED = ("labels", "label_defect")  # of laws with frozen coordinates
OF_POINTS = ("loss", "law", "prediction")  # what measures made of points know the error of their steps or nodes of
OF_STEPS = (*OF_POINTS, "train_loss", "test_loss")  # and paths of the diffusion
OF_OPTIMALITY = (  # what a run adds to measures of models with a convex outer energy
    *("optimality_gap", "optimality_gap_error", "optimality_gap_standard_error"),
    *("residual_potential", "residual_potential_support", "residual_potential_everywhere"),
)


def _hot(problem: Problem) -> str | None:
    return "they exist at temperature 0 only" if problem.model.ever_hot else None


def _infinite(problem: Problem) -> str | None:
    infinite = getattr(problem.case.sections.model, "dimension", 0.0) == math.inf
    return "there is no network in infinite dimension" if infinite else None


MEASURES: Registry[MeasureEntry] = Registry(
    "measure",
    {
        "density": MeasureEntry(
            "the law as finite elements on a mesh",
            At("mvpde.cases.meshes.on_mesh:density"),
            MESH,
            (
                *("free_energy", "outer_mass", "mass_defect", "minimum", "steps", "scheme", "nodes", "stages", "mass_inside"),
                *("feature_rank", "negative_edges", "limited_steps", "limiter_share", "rejected_steps", "solver_iterations"),
                *("node_updates_per_second", "labels", "label_defect", "wall_mass", "outward_flux", "cells_per_deviation"),
                *("negative_share", *LAYERS),
            ),
            places={
                "scheme": "[density] scheme: ",
                "solver": "[density] solver: ",
                "order_in_time": "[density] order_in_time: ",
                "law": "[domain] lower, upper: ",
                "domain": "[domain]: ",
                "diffusion": "[model] diffusion: ",
            },
            remedies={"law": 'enlarge it, or write "auto", or narrow [initial] (a period counted twice shows the same)'},
        ),
        "characteristics": MeasureEntry(
            "quadrature nodes of the initial law, carried by the flow",
            At("mvpde.cases.of_particles:characteristics"),
            NODES,
            ("steps", "nodes", "evaluations", "tolerance", *(f"{name}_error" for name in OF_POINTS), *LAYERS),
            _hot,
        ),
        "ensemble": MeasureEntry(
            "independent runs of interacting particles",
            At("mvpde.cases.of_particles:ensemble"),
            SAMPLES,
            (
                *("loss_standard_error", "steps", "particles", "runs", "seed", "scheme", "particle_updates_per_second"),
                *("outside", "survival", "survival_standard_error"),
                *("slope", "stiffness", *(f"{name}_step_error" for name in OF_STEPS)),
            ),
            _infinite,
        ),
        "sgd": MeasureEntry(
            "independent runs of stochastic gradient descent",
            At("mvpde.cases.of_particles:sgd"),
            SAMPLES,
            (
                *("loss_standard_error", "steps", "runs", "seed", "dynamics", "learning_rate", "batch_size", "replacement"),
                *("noise_scale", "run_steps_per_second", "train_loss_standard_error", "test_loss_standard_error"),
                *("slope", "stiffness", *(f"{name}_step_error" for name in OF_STEPS)),
            ),
        ),
        "network": MeasureEntry(
            "true networks of finite width, trained beside their limit",
            At("mvpde.cases.deep:network"),
            SAMPLES,
            (
                *(
                    "loss_standard_error",
                    "steps",
                    "runs",
                    "seed",
                    "layers",
                    "width",
                    "mode",
                    "weight_updates_per_second",
                    *LAYERS,
                ),
                *("slope", "stiffness", *(f"{name}_step_error" for name in OF_POINTS)),
            ),
        ),
    },
)


def domain(problem: Problem, comm: MPI.Intracomm) -> Domain:
    """The mesh of a case: `on_mesh.domain`, which loads the solver. Collective."""
    made = cast("Callable[[Problem, MPI.Intracomm], Domain]", At("mvpde.cases.meshes.on_mesh:domain").load())
    return made(problem, comm)


def training(problem: Problem) -> SgdNetwork:
    """The network of a case that [sgd] may run, and how it is trained.

    Raises:
        CaseError: for a model that is not a limit of one.
    """
    section = problem.sections.model
    made = KINDS[section.kind].training
    if made is None:
        raise CaseError('[sgd]: runs of SGD need kind = "sgd_network" in [model]; remove the section')
    return made(section, problem.data)


def pairs(names: Collection[str]) -> list[tuple[str, str]]:
    """(a, b) for all measures of these that are compared: b is the more exact one."""
    known = {name: entry.exactness for name, entry in MEASURES.items() if name in names}
    return [(a, b) for a in known for b in known if known[a] < known[b]]


def on_mesh(measures: Mapping[str, Measure]) -> Density | None:
    """The measure that lives on a mesh, where there is one."""
    return cast("Density | None", measures.get("density"))


def check_observables(model: MeanField, sections: CaseSections) -> None:
    """Refuse means under names that `summary.json` or `series.csv` use for something else in this case.

    Raises:
        ValueError: naming the first such observable.
    """
    asked = [name for name in MEASURES if getattr(sections, name, None) is not None]
    taken = {*EVERY, *OF_COMPANIONS, *OF_OPTIMALITY, *(key for name in asked for key in _keys(name, model, sections))}
    taken |= {f"{name}{ending}" for name in (*taken, *model.observables) for ending in OF_ERRORS}
    for name in model.observables:
        if name in taken or name.startswith("vs_"):
            raise ValueError(f"'{name[:40]}' cannot be the name of one, as a measure here has such a number; choose another")


def _keys(name: str, model: MeanField, sections: CaseSections) -> set[str]:
    """The keys of a measure in this case: not those that only deep networks or labelled laws have, where it is none."""
    if name in KINDS[sections.model.kind].measures:
        return set(MEASURES[name].keys)
    return set(MEASURES[name].keys) - {*LAYERS, *(() if model.frozen else LABELLED)}


def accuracies(model: MeanField) -> tuple[str, ...]:
    """What [density] accuracy_of may name: numbers of a density that have an error."""
    data = model.data is not None
    known = {"predictions": data, "moments": not data, "loss": True, "free_energy": model.gradient_flow}
    return (*(name for name, there in known.items() if there), *model.observables)


def accuracy_names(model: MeanField, section: DensitySection) -> tuple[str, ...]:
    """What must have the accuracy of [density].

    Raises:
        CaseError: a name of nothing that the density of this model has.
    """
    known = accuracies(model)
    for name in section.accuracy_of or ():
        if name not in known:
            raise CaseError(
                f"[density] accuracy_of: the density has no {name!r}{nearest(name, known)}; give some of {listed(known)}"
            )
    if section.accuracy_of:
        return tuple(dict.fromkeys(section.accuracy_of))
    return ("predictions",) if model.data is not None else ("moments", "loss", *model.observables)


def check_accuracy(sections: CaseSections, model: MeanField) -> None:
    """[density] accuracy needs a box, whose cells can be chosen, and companions, which tell the error."""
    section, domain = sections.density, sections.domain
    if section is None or section.accuracy is None:
        if section is not None and section.accuracy_of is not None:
            raise CaseError(
                "[density] accuracy_of: says what `accuracy` is of, which is missing; add accuracy = 1e-3, or remove it"
            )
        return
    if domain is not None and domain.cells is None:
        given = "mesh" if domain.mesh is not None else "shell"
        raise CaseError(
            f"[density] accuracy: finds the cells of a box, and [domain] has a `{given}`; remove the key, or give a box"
        )
    if section.companions is not None and section.companions < 2:
        raise CaseError("[density] companions: both of them tell the error that `accuracy` bounds; write 2, or remove the key")
    accuracy_names(model, section)


# --- those of a case ------------------------------------------------------------------------------------------------------------


def chosen_measures(problem: Problem, without: Collection[str] = ()) -> list[str]:
    """Names of the measures that a run of the case computes.

    Raises:
        CaseError: if none is left, or `without` names what is no measure.
    """
    for name in without:
        if name not in MEASURES:
            raise CaseError(f"--without {name}: there is no such measure{nearest(name, MEASURES)}; measures: {listed(MEASURES)}")
    names = [name for name in _asked(problem, without) if MEASURES[name].left_out(problem) is None]
    if not names:
        raise CaseError(
            f"{problem.case.path}: no measure is left to compute; add one of the sections [density], [ensemble], "
            "[characteristics] (temperature 0 only), or leave out less by --without"
        )
    return names


def _asked(problem: Problem, without: Collection[str]) -> list[str]:
    return [name for name in MEASURES if getattr(problem.case.sections, name, None) is not None and name not in without]


def left_out(problem: Problem, without: Collection[str] = ()) -> list[str]:
    """What the case asks for and a run does without, each with the reason."""
    reasons = {name: MEASURES[name].left_out(problem) for name in _asked(problem, without)}
    return [f"{name}: left out, {reason}" for name, reason in reasons.items() if reason is not None]


def measures(problem: Problem, names: Sequence[str], comm: MPI.Intracomm) -> dict[str, Measure]:
    """The measures of a case at t = 0, by name. Collective.

    Raises:
        CaseError: for parameters that make no measure, on all ranks alike.
    """
    built = {}
    for name in names:
        with in_file(problem.case.path), blaming(f"[{name}]"), _in_terms_of_the_case(name):
            built[name] = _builder(problem, name)(problem, comm)
    return built


def _builder(problem: Problem, name: str) -> Builder:
    """Of the kind of model where that has one of its own."""
    own = KINDS[problem.sections.model.kind].measures.get(name)
    return MEASURES[name].build if own is None else cast("Builder", own.load())


def density_of(problem: Problem, comm: MPI.Intracomm) -> Density:
    """The density of a case at t = 0, as `measures` makes it. Collective."""
    return cast("Density", measures(problem, ["density"], comm)["density"])


@contextmanager
def _in_terms_of_the_case(name: str) -> Iterator[None]:
    """Errors about arguments of a measure learn which key of the case they are."""
    try:
        yield
    except ArgumentError as error:
        entry, argument = MEASURES[name], error.argument
        wrong, _, helps = error.text.partition("; ")
        helps = entry.remedies.get(argument, helps)
        place = entry.places.get(argument, f"[{name}]: {name}.{argument} ")
        raise CaseError(place + wrong + f"; {helps}" * bool(helps)) from None


def sizes(problem: Problem, comm: MPI.Intracomm) -> dict[str, int | str]:
    """The sizes of a case's discretisation. Nothing is computed; only a mesh file is read. Collective."""
    s, model = problem.case.sections, problem.model
    answer: dict[str, int | str] = {"coordinates": ", ".join(model.coordinates)}
    if model.data is not None:
        answer["data points"] = len(model.data.weights)
    answer["features"] = model.profile(np.zeros((1, model.profile_dimension))).shape[1]
    if s.density is not None and s.domain is not None and s.domain.box is not None:
        answer["box"] = " × ".join(f"[{a:.6g}, {b:.6g}]" for a, b in zip(*s.domain.box, strict=True))
    if s.density is not None and s.density.accuracy is not None:
        found = f"found for an accuracy of {s.density.accuracy:g} of {', '.join(accuracy_names(model, s.density))}"
        answer["cells"] = f"{found}, up to {s.density.max_nodes} nodes"
    elif s.density is not None and s.domain is not None:
        nodes, cells = _mesh_sizes(problem, s.domain, comm)
        labels = math.prod(label_nodes(s, model))
        nodes, answer = nodes * labels, answer | ({"labels": labels} if model.frozen else {})
        memory = f"about {nodes * (3000 if len(model.directions) == 3 else 1000) / 1e6:.0f} MB"
        answer |= {"density nodes": nodes, "cells": cells, "density memory": memory}
    if s.ensemble is not None:
        answer["particles"] = s.ensemble.particles * s.ensemble.runs
    if s.characteristics is not None:
        answer["characteristics"] = math.prod(characteristic_nodes(s, model))
    own = KINDS[s.model.kind].sizes
    answer |= {} if own is None else own(s, model)
    if s.density is not None and s.density.accuracy is not None:  # what cells make of it is not known
        answer = {key: size for key, size in answer.items() if not key.startswith("density ")}
    return {**answer, "output times": len(s.time.outputs)}


def _mesh_sizes(problem: Problem, section: DomainSection, comm: MPI.Intracomm) -> tuple[int, int]:
    """Numbers of nodes, identified ones counted once, and of simplices."""
    if section.shell is not None:
        finer = 2**problem.sections.refinements
        directions, layers = 10 * (finer * section.shell.frequency) ** 2, finer * section.shell.layers
        return (directions + 2) * (layers + 1), 3 * 2 * directions * layers  # a prism is three tetrahedra
    if section.mesh is not None:
        mesh = domain(problem, comm)
        return mesh.nodes, mesh.space.mesh.topology.index_map(len(problem.model.directions)).size_global
    cells, periodic = section.cells or [], section.periodic or []
    nodes = math.prod(n + (not p) for n, p in zip(cells, periodic, strict=True))
    return nodes, math.prod(cells) * math.factorial(len(cells))
