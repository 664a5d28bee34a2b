"""Stationary laws, branches and modes of a run, found also on coarser meshes and in smaller boxes, which tell their errors.

They are looked for when the run is over, from where it ended and where it began, and its way to them is seen in copies of the
density at the output times. What is not found is a warning.
The coarser meshes are those of the density's companions, which are there already.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, cast

from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import density_of, on_mesh
from mvpde.cases.meshes.coarser import THREE_QUARTERS, companion, fewer
from mvpde.cases.meshes.coarser import levels as companions_of
from mvpde.cases.messages import about
from mvpde.cases.problem import Problem, stationary_starts
from mvpde.cases.problem import problem as described
from mvpde.cases.starts.labels import label_nodes
from mvpde.measure import Array, Measure
from mvpde.models.laws import Product, Uniform, marginals, restricted
from mvpde.models.laws.product import Joint, joined
from mvpde.richardson import as_if
from mvpde.runs.cautions.caution import Caution
from mvpde.runs.errors.companions import Companions
from mvpde.runtime import ArgumentError, CaseError, SolverError

if TYPE_CHECKING:
    from mvpde.density.density import Density
    from mvpde.equilibrium.accuracy import Numbers
    from mvpde.equilibrium.approach import LongTime
    from mvpde.equilibrium.deep import DeepLongTime
    from mvpde.equilibrium.walls.escape import Exit

EXACT, FINER = 1e-10, 1e-2  # error of a compressed interaction that is rounding; part of the error that a higher rank is to have
LEAST = 4  # cells along each direction of the coarsest
SEEN = 16  # cells along each direction from which on walls and labels make the difference that they make on finer meshes


@dataclass(frozen=True)
class CoarseMesh:
    """A coarser mesh.

    Attributes:
        problem: the case on it.
        ratio, wanted: of its spacing to that of the density; and 2 or 4, which the differences are scaled to.
        density: on it, in any state; None where there is none yet.
    """

    problem: Problem
    ratio: float
    wanted: float
    density: Density | None


class Snapshot(Protocol):
    """A density at one time."""

    values: Array

    def moments(self) -> Array:
        """m = ∫g dρ, shape (1, K). Collective."""


def sight_of(problem: Problem, measures: Mapping[str, Measure]) -> Snapshot | None:
    """The density as it is now, where its way to a stationary law is to be seen: a copy that stays as it is."""
    sections, density = problem.sections, cast("Snapshot | None", on_mesh(measures))
    if (sections.stationary is None and sections.spectrum is None) or density is None:
        return None
    still = copy.copy(density)
    still.values = density.values.copy()
    return still


def after_run(
    problem: Problem, measures: Mapping[str, Measure], sights: Sequence[Snapshot], beside: Companions | None = None
) -> tuple[LongTime | DeepLongTime | None, list[Caution]]:
    """Stationary law and modes of a run that is over, with its way there; and what was not found. Collective.

    They come last: a search that fails, or takes too long, leaves the run as it is.
    """
    try:
        found = long_time_of(problem, measures, sights[0].moments()[0] if sights else None, beside)
        if found is None:
            return None, []
        for sight in sights:
            found.observe(cast("Any", sight))  # of the kind that the law was found for
    except (SolverError, CaseError) as error:
        section = getattr(error, "sought", "") or "stationary"
        return None, [Caution(f"{section}.failed", f"not found: {error}")]
    failures = getattr(found, "failures", ())
    return found, [Caution(f"{one.sought or 'stationary'}.failed", f"{one.sought}: {one}") for one in failures]


def exit_of(measures: Mapping[str, Measure]) -> tuple[Exit | None, list[Caution]]:
    """Where and when absorbing walls are met from the density as it is; and why it is not known. Collective."""
    from mvpde.equilibrium.walls.escape import exits_of

    try:
        return exits_of(on_mesh(measures)), []
    except SolverError as error:
        return None, [Caution("exit.failed", f"exit: {error}")]


def long_time_of(
    problem: Problem, measures: Mapping[str, Measure], began: Array | None = None, beside: Companions | None = None
) -> LongTime | DeepLongTime | None:
    """Stationary law and modes of the density. Collective.

    Args:
        problem: the case.
        measures: with the density.
        began: moments at the start of a run that is over.
        beside: the companions of the density, whose meshes serve here too; meshes that are not there are made.
    """
    sections, density = problem.sections, on_mesh(measures)
    if (sections.stationary is None and sections.spectrum is None) or density is None:
        return None
    from mvpde.equilibrium.approach import long_time

    own = KINDS[sections.model.kind].long_time
    modes = None if sections.spectrum is None else sections.spectrum.modes
    with about("[stationary]"):
        if own is not None:
            coarser = [] if beside is None else [level.measure for level in beside.levels if not level.failed]
            return cast("Callable[[Density, Sequence[Measure]], DeepLongTime]", own.load())(density, coarser)
        return with_errors(problem, density, long_time(density, modes, stationary_starts(problem), began), beside)


def with_errors(problem: Problem, density: Density, fine: LongTime, beside: Companions | None = None) -> LongTime:
    """The same with the errors of its numbers, from coarser meshes, smaller boxes, higher ranks, fewer labels. Collective.

    Of meshes that are no boxes, which have coarser ones where the case asks for companions, no smaller ones are made.
    """
    from mvpde.equilibrium.accuracy import Others, compared, errors

    def found_on(other: Density | Problem) -> Numbers | None:
        try:
            return compared(density_of(_flat(other), density.comm) if isinstance(other, Problem) else other, fine.found)
        except (CaseError, ArgumentError):
            return None

    known = [(level, found_on(level.density or level.problem)) for level in _levels(problem, density, beside)]
    coarser = [(level, numbers) for level, numbers in takewhile(lambda pair: pair[1] is not None, known) if numbers is not None]
    if not coarser:
        return fine.knowing(errors(density, fine.found))
    rough, last = coarser[-1][0].problem, coarser[-1][1]
    finer = _finer_rank(rough, density)
    others = Others(
        boxes=_boxes([(level.problem, numbers) for level, numbers in coarser], density, fine, found_on),
        ranks=_beside(last, [None if finer is None else found_on(finer)]),
        labels=_labels(coarser, found_on),
    )
    return fine.knowing(errors(density, fine.found, [_scaled(fine, numbers, level) for level, numbers in coarser], others))


def _levels(problem: Problem, density: Density, beside: Companions | None) -> list[CoarseMesh]:
    """From fine to coarse; none with fewer than LEAST cells in a direction."""
    known = {} if beside is None else {level.merged: level.measure for level in beside.levels if not level.failed}
    result = []
    for k in range(1, companions_of(problem) + 1):
        rough = companion(problem, k, density.scheme)
        if rough is None or any(count < LEAST for count in _cells(rough.problem)):
            break
        result.append(CoarseMesh(rough.problem, rough.ratio, 2.0**k, cast("Density | None", known.get(2**k))))
    return result


def _scaled(fine: LongTime, found: Numbers, level: CoarseMesh) -> Numbers:
    """As they would be on half or on a quarter of the cells, where these are rounded."""
    from mvpde.equilibrium.accuracy import numbers

    if level.ratio == level.wanted:
        return found
    here = numbers(fine.found)
    return {name: as_if(here[name], values, level.ratio, level.wanted) for name, values in found.items()}


def _boxes(
    coarser: Sequence[tuple[Problem, Numbers]], density: Density, fine: LongTime, found_on: Callable[[Problem], Numbers | None]
) -> list[Numbers]:
    """The numbers on one mesh, and on those that lose strips at walls which cut the space off; empty without such walls.

    The mesh is the coarsest that has cells to lose, and enough of them to see what the walls change.
    """
    from mvpde.equilibrium.accuracy import cut_offs, hardly_differ

    walls = [] if _box(coarser[0][0]) is None else cut_offs(density, fine.law)
    if not any(any(sides) for sides in walls):
        return []
    wide = [pair for pair in coarser if _smaller(pair[0], walls, 1) is not None]
    seen = [pair for pair in wide if min(_cells(pair[0])) >= SEEN]
    problem, last = seen[-1] if seen else (wide or coarser)[0]
    boxes = [last]
    for strips in (1, 2):
        smaller = _smaller(problem, walls, strips)
        numbers = None if smaller is None else found_on(smaller)
        if numbers is None:
            break
        boxes.append(numbers)
        if strips == 1 and hardly_differ(fine.found, density, *boxes):
            break
    return boxes


def _beside(last: Numbers, others: Sequence[Numbers | None]) -> list[Numbers]:
    """Those that were found, after the one that they are compared with; empty where there are none."""
    found = [numbers for numbers in others if numbers is not None]
    return [last, *found] if found else []


def _labels(coarser: Sequence[tuple[CoarseMesh, Numbers]], found_on: Callable[[Problem], Numbers | None]) -> list[Numbers]:
    """The numbers with all labels of frozen coordinates, and with three quarters of them; empty where there are no labels.

    The mesh is the coarsest on which labels make the difference that they make on finer ones.
    """
    fine = [(level.problem, numbers) for level, numbers in coarser if min(_cells(level.problem), default=0) >= SEEN]
    problem, last = (fine or [(coarser[0][0].problem, coarser[0][1])])[-1]
    names = problem.model.coordinates[len(problem.model.directions) :]
    counts = label_nodes(problem.sections, problem.model) if names else []
    few = fewer(counts, THREE_QUARTERS)
    if few == counts:
        return []
    return _beside(last, [found_on(_with_sections(problem, labels=dict(zip(names, few, strict=True))))])


def _finer_rank(problem: Problem, density: Density) -> Problem | None:
    """The same with its interaction of pairs at a higher rank; None where nothing is compressed, or not further."""
    if problem.model.pairs is None or problem.model.facts["interaction_error"] < EXACT:
        return None
    tolerance = FINER * problem.model.facts["interaction_error"]
    try:
        return described(_with(problem, "model", rank_tolerance=tolerance).case, density.comm)
    except CaseError:
        return None


def _box(problem: Problem) -> tuple[list[float], list[float]] | None:
    """Lower and upper corner; None where the mesh is no box."""
    domain = problem.sections.domain
    if domain is None or domain.cells is None or domain.lower is None or domain.upper is None:
        return None
    return domain.lower, domain.upper


def _cells(problem: Problem) -> list[int]:
    domain = problem.sections.domain
    return [] if domain is None or domain.cells is None else domain.cells


def _with(problem: Problem, section: str, **changes: object) -> Problem:
    """With other keys in a section."""
    return _with_sections(problem, **{section: getattr(problem.sections, section).model_copy(update=changes)})


def _with_sections(problem: Problem, **changes: object) -> Problem:
    return replace(problem, case=replace(problem.case, sections=problem.sections.model_copy(update=changes)))


def _smaller(problem: Problem, walls: Sequence[tuple[bool, bool]], strips: int) -> Problem | None:
    """In a box without strips at these walls; None where there are too few cells."""
    from mvpde.mesh.walls import without_strips

    box = _box(problem)
    smaller = None if box is None else without_strips(box[0], box[1], _cells(problem), walls, strips)
    return None if smaller is None else _with(problem, "domain", lower=smaller[0], upper=smaller[1], cells=smaller[2])


def _flat(problem: Problem) -> Problem:
    """From a flat law, which any mesh of the box holds; labels keep theirs."""
    box, law, moving = _box(problem), problem.law, len(problem.model.directions)
    if box is None or marginals(law) is None:
        return problem
    periods = problem.model.periods
    flat = [Uniform(a, b, periods[k] is not None) for k, (a, b) in enumerate(zip(*box, strict=True))]
    still = restricted(law, moving, law.dimension) if law.dimension > moving else None
    both: list[tuple[tuple[int, ...], Joint | Product]] = [(tuple(range(moving)), Product(tuple(flat)))]
    both += [] if still is None else [(tuple(range(moving, law.dimension)), cast("Joint | Product", still))]
    return replace(problem, law=joined(both))
