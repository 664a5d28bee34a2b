"""From a validated case to the objects of the computation, which see plain values and no case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from mvpde.cases.auto_box import with_box
from mvpde.cases.file import Case
from mvpde.cases.kinds import KINDS, Given
from mvpde.cases.labels import characteristic_nodes, check_labels
from mvpde.cases.laws import LawSection
from mvpde.cases.measures import check_accuracy, check_observables
from mvpde.cases.messages import blaming, in_file, listed, nearest
from mvpde.cases.schema import CaseSections, DomainSection, ModelSection
from mvpde.cases.sources import data_of
from mvpde.density.schemes import SCHEMES
from mvpde.models.data import Data
from mvpde.models.expressions.vocabulary import check_finite
from mvpde.models.laws import Law, Law1D, Product, mass_between
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.shell import ShellLaw
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.runtime import MPI, CaseError, on_first_rank

_HELD = 0.9895  # of the initial law: less than what a density asks for by more than rounding

Periods = tuple[float | None, ...]
Start = Array | Law


@dataclass(frozen=True)
class Problem:
    """What a case describes, before anything is discretised.

    Attributes:
        case: the case with every default, also those that depend on the model.
        model: the mean-field model.
        law: its initial law; that of a shell for a model with a metric.
        data: its data set, None for a model without one.
        frozen: laws of what [initial] names and what never moves, such as the outer weights of deep networks.
    """

    case: Case
    model: MeanField
    law: Law
    data: Data | None = None
    frozen: Mapping[str, Law1D] = field(default_factory=dict)

    @property
    def sections(self) -> CaseSections:
        """What the case says about everything else."""
        return self.case.sections


def problem(case: Case, comm: MPI.Intracomm = MPI.COMM_SELF) -> Problem:
    """The model and the initial law of a case, every number of coordinates checked against every other. Collective.

    Args:
        case: the same on all ranks.
        comm: rank 0 reads the data file, for all.

    Raises:
        CaseError: with one message that names section, key and remedy, on all ranks alike.
    """
    with in_file(case.path):
        sections = case.sections.model_copy(
            update={"initial": _complete("initial", case.sections.initial or {}, case.sections.model)}
        )
        data = on_first_rank(comm, lambda: data_of(sections.data, case.directory, case.read))
        given = Given(sections, data, read=lambda name: on_first_rank(comm, lambda: _content(case, name)))
        model = _annealed(_model(given), given)
        still = KINDS[sections.model.kind].frozen(sections.model, data)
        with blaming("[initial]"):
            frozen = {name: sections.initial[name].factor() for name in still if name in sections.initial}
            moving = {name: law for name, law in sections.initial.items() if name not in still}
            _check_frozen(frozen, still)
            law = _own_law(sections) or _law("initial", moving, sections.model, model)
        with blaming("[model] observables"):
            check_observables(model, sections)
        check_labels(sections, model, law)
        _check_nodes(sections, model)
        check_accuracy(sections, model)
        _check_companions(sections, model)
        _starts(sections, model)
        boxed = with_box(sections, model, law, comm)
        if boxed is not sections:  # a model may know where its law is
            case = replace(case, sections=case.sections.model_copy(update={"domain": boxed.domain}))
            given = replace(given, sections=boxed)
            model = _annealed(_model(given), given)
        described = Problem(_with_periodic(case, model), model, law, data, frozen)
        _check_density(described)
        KINDS[sections.model.kind].check(described)
        return described


def _own_law(sections: CaseSections) -> Law | None:
    """The initial law that the kind of model states itself."""
    law = KINDS[sections.model.kind].law
    if law is not None and sections.initial:
        raise CaseError("[initial]: the model has an initial law of its own, which its keys describe; remove the section")
    return None if law is None else law(sections.model)


def validate(case: Case) -> None:
    """Find what is wrong with a case of any kind, and compute nothing.

    Raises:
        CaseError: as `problem`.
    """
    computation = KINDS[case.sections.model.kind].computation
    if computation is None:
        problem(case)
        return
    with in_file(case.path):
        computation.sizes(case)


def _check_frozen(laws: Mapping[str, Law1D], names: Sequence[str]) -> None:
    for name in names:
        if name not in laws:
            raise CaseError(f'[initial] {name}: is missing; add {name} = {{ law = "normal", mean = 0.0, std = 1.0 }}')


def _content(case: Case, name: str) -> tuple[Path, bytes]:
    path = case.directory / name
    return path, case.read(path)


def _model(given: Given) -> MeanField:
    """The model of a case, first without its base measure, which tells the coordinates."""
    section = given.sections.model
    base: Mapping[str, LawSection] | None = getattr(section, "base_measure", None)  # where the kind of model has one
    with blaming("[model]"):
        flat = KINDS[section.kind].build(section, given)
        if base is None:
            return flat
        law = _law("model.base_measure", base, section, flat)
        return KINDS[section.kind].build(section, replace(given, base_measure=law))


def _complete(name: str, laws: Mapping[str, LawSection], model: ModelSection) -> dict[str, LawSection]:
    """The laws of a section; those that leave a number to the model have the model's."""
    complete = {}
    for coordinate, law in laws.items():
        missing = [key for key, value in law.model_dump().items() if value is None]
        for key in missing:
            if not isinstance(getattr(model, key, None), float):
                example = f"{key} = {(type(law).model_fields[key].examples or [1.0])[0]}"
                raise CaseError(f"[{name}] {coordinate}: the law `{law.law}` needs `{key}` here; add it, for example {example}")
        complete[coordinate] = law.model_copy(update={key: getattr(model, key) for key in missing})
    return complete


def _annealed(model: MeanField, given: Given) -> MeanField:
    """The model with those that follow it at the times of [time] annealing."""
    sections = given.sections
    pairs, kind = sections.time.annealing, KINDS[sections.model.kind]
    if not pairs:
        return model
    if "temperature" not in kind.schema.model_fields or model.own_drift is not None or kind.network is not None:
        raise CaseError("[time] annealing: changes the temperature of a gradient flow, and this model is none; remove the key")
    if sections.stationary is not None or sections.spectrum is not None:
        raise CaseError("[time] annealing: [stationary] and [spectrum] are about one temperature; remove them or the key")

    def at(temperature: float) -> MeanField:
        there = sections.model.model_copy(update={"temperature": temperature})
        return _model(replace(given, sections=sections.model_copy(update={"model": there})))

    return replace(model, later=tuple((t, at(temperature)) for t, temperature in pairs))


def _law(name: str, laws: Mapping[str, LawSection], section: ModelSection, model: MeanField) -> Product | ShellLaw:
    """The law of the coordinates, or of y and c where they are those of a shell."""
    laws = _complete(name, laws, section)
    if model.metric is None:
        return _product_law(name, laws, model.coordinates, model.periods)
    if set(laws) != {"y", "c"} or laws["y"].law != "sphere":
        raise CaseError(
            f'[{name}]: y lies on a sphere and c is the output weight; give y = {{ law = "sphere" }} and a law of c, nothing else'
        )
    return ShellLaw(model.metric, model.dimension, laws["c"].factor())


def _product_law(name: str, laws: Mapping[str, LawSection], coordinates: Sequence[str], periods: Periods) -> Product:
    for coordinate in laws:
        if coordinate not in coordinates:
            near = nearest(coordinate, coordinates) or ";"
            raise CaseError(
                f"[{name}] {coordinate}: the model has no such coordinate{near} its coordinates are {listed(coordinates)}"
            )
    for coordinate in coordinates:
        if coordinate not in laws:
            raise CaseError(f'[{name}] {coordinate}: is missing; add {coordinate} = {{ law = "normal", mean = 0.0, std = 1.0 }}')
    return Product(tuple(laws[c].factor(period) for c, period in zip(coordinates, periods, strict=True)))


def _check_companions(sections: CaseSections, model: MeanField) -> None:
    """Characteristics follow a flow without noise; Heun's scheme needs additive noise; runs of SGD need a training problem."""
    if sections.characteristics is not None and model.own_diffusion is not None:
        raise CaseError(
            "[characteristics]: follow a flow without noise, and this model has a diffusion of its own; remove the section"
        )
    if (sections.stationary is not None or sections.spectrum is not None) and not model.still and not sections.time.annealing:
        raise CaseError("[stationary], [spectrum]: this model's coefficients depend on time; no law is stationary, remove them")
    reason = None if sections.ensemble is None else PARTICLE_SCHEMES[sections.ensemble.scheme].refuses(model)
    if reason is not None:
        raise CaseError(f"[ensemble] scheme: {reason}")
    _check_steps(sections)
    if sections.sgd is not None and KINDS[sections.model.kind].training is None:
        raise CaseError('[sgd]: runs of SGD need kind = "sgd_network" in [model]; remove the section')


def _check_density(problem: Problem) -> None:
    """A scheme that can solve the model, noise where a stationary law is sought, a box that holds the initial law."""
    sections, model, law = problem.sections, problem.model, problem.law
    if sections.density is None:
        return
    scheme, solver = sections.density.scheme, getattr(sections.density, "solver", None)
    reason = SCHEMES[scheme].refuses(model)
    if reason is not None:
        raise CaseError(f"[density] scheme: {reason}")
    if solver and (scheme == "flux_corrected" or (scheme == "auto" and model.deterministic)):
        raise CaseError("[density] solver: explicit steps solve no linear systems; remove it")
    for name in ("stationary", "spectrum"):
        if getattr(sections, name) is not None and model.deterministic:
            raise CaseError(f"[{name}]: model.temperature is 0, so the law ends in points; raise it, or remove the section")
    if isinstance(law, Product):
        check_held(sections, model.directions, law.factors[: len(model.directions)])


def check_held(sections: CaseSections, names: Sequence[str], laws: Sequence[Law1D], *, independent: bool = True) -> None:
    """Refuse a box that does not hold the initial law.

    Args:
        sections: with the box.
        names: of the coordinates.
        laws: of each of them.
        independent: whether the law is their product; of another its marginals tell a bound.

    Raises:
        CaseError: as the density itself would, with the share that is missed.
    """
    domain = sections.domain
    if domain is None or domain.box is None:
        return
    lower, upper = domain.box
    shares = [mass_between(law, low, high) for law, low, high in zip(laws, lower, upper, strict=True)]
    share = math.prod(shares) if independent else min(shares)
    if share < _HELD:
        said = f"{'' if independent else 'at most '}{100 * share:.1f} %"
        raise CaseError(
            f"[domain] lower, upper: the domain holds {said} of the initial law of {', '.join(names)}; "
            'enlarge it, write "auto", or narrow [initial]'
        )


def check_block(problem: Problem, times: Sequence[float] = (0.0,), points: int = 256) -> None:
    """Refuse an expression `block` that gives no finite numbers where the law is, at points spread over the box or the law.

    Raises:
        CaseError: with the first such place.
    """
    domain, factors = problem.sections.domain, cast("Product", problem.law).factors
    box = None if domain is None or problem.sections.density is None else domain.box
    lower, upper = box or tuple(zip(*(factor.extent() for factor in factors), strict=True))
    try:
        for t in times:
            check_finite(problem.model.at(t), lower, upper, points)
    except ValueError as error:
        what, _, text = str(error).partition(": ")
        raise CaseError(f"[model] block: {text} ({what})") from None


def _check_steps(sections: CaseSections) -> None:
    """Steps of a given length are made between any two output times: else the runs stand still there.

    Those of SGD take the time η, those of networks of one pass the time [ensemble] step.
    """
    rate = getattr(sections.model, "learning_rate", None)
    lengths: list[tuple[str, float]] = []
    if sections.sgd is not None and sections.sgd.dynamics == "sgd" and isinstance(rate, float):
        lengths.append(("learning_rate", rate))
    if sections.ensemble is not None and KINDS[sections.model.kind].network is not None:
        step = sections.ensemble.step
        lengths += [] if isinstance(step, str) else [("[ensemble] step", step)]
    for what, length in lengths:
        for before, after in pairwise([0.0, *(t for t in sections.time.outputs if t > 0.0)]):
            if round(after / length) == round(before / length):
                raise CaseError(
                    f"[time] outputs: no step is made between t = {before:g} and t = {after:g}, as a step takes the time "
                    f"{what} = {length:g}; give output times at least that far apart, or a smaller {what}"
                )


def stationary_starts(problem: Problem) -> list[Start] | None:
    """Where the search for stationary branches begins, moments as arrays or laws; None where the case does not say.

    Raises:
        CaseError: for a model without interaction, another number of moments than the model has, or laws of other coordinates.
    """
    return _starts(problem.sections, problem.model)


def _starts(sections: CaseSections, model: MeanField) -> list[Start] | None:
    given = None if sections.stationary is None else sections.stationary.starts
    if given is None:
        return None
    if not model.interacting:
        raise CaseError("[stationary] starts: this model has no interaction, so its stationary law is unique; remove the key")
    count = model.features
    starts: list[Start] = []
    for number, start in enumerate(given):
        if isinstance(start, dict):
            starts.append(_law(f"stationary.starts[{number}]", start, sections.model, model))
        elif len(start) != count:
            raise CaseError(
                f"[stationary] starts: entry {number} has {len(start)} numbers, but the model has {count} moments; "
                "give one number for each feature, or a law of every coordinate as in [initial]"
            )
        else:
            starts.append(np.array(start, float))
    return starts


def _check_nodes(sections: CaseSections, model: MeanField) -> None:
    section = sections.characteristics
    if section is not None and len(characteristic_nodes(sections, model)) != model.dimension:
        raise CaseError(
            f"[characteristics] nodes: has {len(section.nodes)} entries, but the model has {model.dimension} coordinates, "
            f"{listed(model.coordinates)}; give one number per coordinate"
        )


def _with_periodic(case: Case, model: MeanField) -> Case:
    """The case with the periodic directions of the model, after a check of the domain against the model."""
    sections = case.sections
    if sections.density is not None and sections.domain is None:
        raise CaseError("[domain]: the section is missing; [density] needs `lower`, `upper` and `cells`, or a `mesh`")
    if sections.domain is None:
        return case
    periodic = sections.domain.periodic or [period is not None for period in model.periods[: len(model.directions)]]
    domain = sections.domain.model_copy(update={"periodic": periodic})
    _check_domain(domain, model, sections.density is not None)
    return replace(case, sections=sections.model_copy(update={"domain": domain}))


def _check_domain(domain: DomainSection, model: MeanField, meshed: bool) -> None:
    moving = model.directions
    entries = {"cells": len(domain.cells or moving), "periodic": len(domain.periodic or [])}
    what = "coordinates that move" if model.frozen else "coordinates"
    for key, count in entries.items():
        if count != len(moving):
            raise CaseError(
                f"[domain] {key}: has {count} entries, but the model has {len(moving)} {what}, "
                f"{listed(moving)}; give one entry per coordinate in `lower`, `upper`, `cells`, `periodic`"
            )
    if len(moving) > 3 and meshed:
        raise CaseError(
            f"[domain] cells: a mesh has 1 to 3 directions and the model has {len(moving)} coordinates; "
            "remove [density] and [domain], the ensemble runs in any dimension"
        )
    if (domain.shell is not None) != (model.metric is not None) and domain.mesh is None:
        shell = "shell = { lower = -4.0, upper = 4.0, frequency = 8, layers = 24 }"
        raise CaseError(
            f"[domain]: this model lives on a sphere times a line; give {shell}"
            if model.metric is not None
            else "[domain] shell: is for the unit sphere_rbf; give `lower`, `upper` and `cells`"
        )
    if domain.shell is not None and model.dimension != 3:
        raise CaseError(f"[domain] shell: needs a sphere of R³, not of R^{model.dimension}; remove [density] and [domain]")
    for axis, (name, period) in enumerate(zip(moving, model.periods, strict=False)):
        _check_direction(domain, axis, name, period)


def _check_direction(domain: DomainSection, axis: int, name: str, period: float | None) -> None:
    periodic = bool(domain.periodic and domain.periodic[axis])
    if periodic != (period is not None):
        said, wanted = ("a period", "true") if period is not None else ("no period", "false")
        raise CaseError(
            f"[domain] periodic: the model's coordinate `{name}` has {said}; write {wanted} in entry {axis}, or leave the key out"
        )
    if domain.cells is None or domain.lower is None or domain.upper is None or period is None:
        return
    length = domain.upper[axis] - domain.lower[axis]
    if not math.isclose(length, period, rel_tol=1e-9):
        raise CaseError(
            f"[domain] upper: `{name}` has the period {period:.12g} but the domain's length there is {length:.12g}; "
            f"choose upper = lower + {period:.12g}"
        )
    if domain.cells[axis] < 3:
        raise CaseError(f"[domain] cells: entry {axis} is {domain.cells[axis]}; a periodic direction needs at least 3 cells")
