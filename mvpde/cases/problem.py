"""From a validated case to the objects of the computation, which see plain values and no case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from mvpde.cases.file import Case
from mvpde.cases.kinds import KINDS, Given
from mvpde.cases.measures import check_accuracy, check_observables
from mvpde.cases.meshes.auto_box import with_box
from mvpde.cases.meshes.coefficients import check_coefficients
from mvpde.cases.meshes.domain import check_held, with_periodic
from mvpde.cases.meshes.walls import walled
from mvpde.cases.messages import blaming, in_file, listed
from mvpde.cases.schema import CaseSections
from mvpde.cases.sources import data_of
from mvpde.cases.starts.entries import of_frozen, without
from mvpde.cases.starts.initial import Start, completed, law_of, own_law, searched
from mvpde.cases.starts.labels import characteristic_nodes, check_labels
from mvpde.cases.starts.laws import LawSection
from mvpde.density.schemes import SCHEMES
from mvpde.models.data import Data
from mvpde.models.expressions.vocabulary import check_finite
from mvpde.models.laws import Law, Law1D, Product, marginals
from mvpde.models.laws.product import has_density
from mvpde.models.mean_field import MeanField
from mvpde.models.shell import ShellLaw
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.runtime import MPI, CaseError, on_first_rank


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

        def read(name: str) -> tuple[Path, bytes]:
            return on_first_rank(comm, lambda: _content(case, name))

        laws = {name: law.placed(name, read) for name, law in (case.sections.initial or {}).items()}
        sections = case.sections.model_copy(update={"initial": completed("initial", laws, case.sections.model)})
        data = on_first_rank(comm, lambda: data_of(sections.data, case.directory, case.read))
        given = Given(sections, data, read=read)
        model = _annealed(_model(given), given)
        still = KINDS[sections.model.kind].frozen(sections.model, data)
        with blaming("[initial]"):
            frozen = of_frozen(sections.initial, still)
            law = own_law(sections) or law_of("initial", without(sections.initial, still), sections.model, model, still)
            if sections.initial and "density" in KINDS[sections.model.kind].measures and not isinstance(law, Product):
                raise CaseError(
                    f'[initial]: kind = "{sections.model.kind}" needs a law of each weight of its own, not one of several'
                )
        with blaming("[model] observables"):
            check_observables(model, sections)
        check_labels(sections, model, law)
        _check_nodes(sections, model)
        check_accuracy(sections, model)
        _check_companions(sections, model)
        searched(sections, model)
        boxed = with_box(sections, model, law, comm)
        if boxed is not sections:  # a model may know where its law is
            case = replace(case, sections=case.sections.model_copy(update={"domain": boxed.domain}))
            given = replace(given, sections=boxed)
            model = _annealed(_model(given), given)
        periodic = with_periodic(case, model)
        model = walled(periodic.sections, model, law, given=boxed is sections)
        described = Problem(periodic, model, law, data, frozen)
        _check_density(described)
        KINDS[sections.model.kind].check(described)
        check_coefficients(periodic.sections, model, law)
        return described


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
        law = law_of("model.base_measure", base, section, flat)
        if not isinstance(law, Product | ShellLaw) or not has_density(law):
            raise CaseError("[model] base_measure: needs the density of a law of each coordinate, not samples or a joint law")
        return KINDS[section.kind].build(section, replace(given, base_measure=law))


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
    known = marginals(law)
    if known is not None:
        moving, product = len(model.directions), isinstance(law, Product)
        check_held(sections, model.directions, known[:moving], independent=product)


def check_block(problem: Problem, times: Sequence[float] = (0.0,), points: int = 256) -> None:
    """Refuse an expression `block` that gives no finite numbers where the law is, at points spread over the box or the law.

    Raises:
        CaseError: with the first such place.
    """
    domain, factors = problem.sections.domain, marginals(problem.law) or ()
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
    return searched(problem.sections, problem.model)


def _check_nodes(sections: CaseSections, model: MeanField) -> None:
    section = sections.characteristics
    if section is not None and len(characteristic_nodes(sections, model)) != model.dimension:
        raise CaseError(
            f"[characteristics] nodes: has {len(section.nodes)} entries, but the model has {model.dimension} coordinates, "
            f"{listed(model.coordinates)}; give one number per coordinate"
        )
