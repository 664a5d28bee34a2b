"""Stationary laws, branches and modes of a run, found also on coarser meshes and in smaller boxes, which tell their errors.

They are looked for when the run is over, from where it ended and where it began, and its way to them is seen in copies of the
density at the output times. What is not found is a warning.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, cast

from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import density_of, on_mesh
from mvpde.cases.meshes.coarser import HALF, with_fewer
from mvpde.cases.meshes.coarser import levels as companions_of
from mvpde.cases.messages import about
from mvpde.cases.problem import Problem, stationary_starts
from mvpde.cases.problem import problem as described
from mvpde.measure import Array, Measure
from mvpde.models.laws import Product, Uniform, marginals, restricted
from mvpde.models.laws.product import Joint, joined
from mvpde.runs.cautions.caution import Caution
from mvpde.runtime import ArgumentError, CaseError, SolverError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvpde.density.density import Density
    from mvpde.equilibrium.accuracy import Numbers
    from mvpde.equilibrium.approach import LongTime
    from mvpde.equilibrium.deep import DeepLongTime

EXACT, FINER = 1e-10, 1e-2  # error of a compressed interaction that is rounding; part of the error that a higher rank is to have
LEAST = 4  # cells along each direction of the coarsest


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
    problem: Problem, measures: Mapping[str, Measure], sights: Sequence[Snapshot]
) -> tuple[LongTime | DeepLongTime | None, list[Caution]]:
    """Stationary law and modes of a run that is over, with its way there; and what was not found. Collective.

    They come last: a search that fails, or takes too long, leaves the run as it is.
    """
    try:
        found = long_time_of(problem, measures, sights[0].moments()[0] if sights else None)
        if found is None:
            return None, []
        for sight in sights:
            found.observe(cast("Any", sight))  # of the kind that the law was found for
    except (SolverError, CaseError) as error:
        section = getattr(error, "sought", "") or "stationary"
        return None, [Caution(f"{section}.failed", f"not found: {error}")]
    failures = getattr(found, "failures", ())
    return found, [Caution(f"{one.sought or 'stationary'}.failed", f"{one.sought}: {one}") for one in failures]


def long_time_of(problem: Problem, measures: Mapping[str, Measure], began: Array | None = None) -> LongTime | DeepLongTime | None:
    """Stationary law and modes of the density; ``began``: moments at the start of a run that is over. Collective."""
    sections, density = problem.sections, on_mesh(measures)
    if (sections.stationary is None and sections.spectrum is None) or density is None:
        return None
    from mvpde.equilibrium.approach import long_time

    own = KINDS[sections.model.kind].long_time
    modes = None if sections.spectrum is None else sections.spectrum.modes
    with about("[stationary]"):
        if own is not None:
            return cast("Callable[[Density], DeepLongTime]", own.load())(density)
        return with_errors(problem, density, long_time(density, modes, stationary_starts(problem), began))


def with_errors(problem: Problem, density: Density, fine: LongTime) -> LongTime:
    """The same with the errors of its numbers, from coarser meshes and smaller boxes. Collective.

    Meshes that are no boxes have none: neither files nor shells are made coarser here.
    """
    from mvpde.equilibrium.accuracy import compared, cut_offs, errors, hardly_differ

    box = _box(problem)
    many = range(1, companions_of(problem) + 1)
    levels = [] if box is None else [with_fewer(_by(problem, density.scheme), HALF**k) for k in many]

    def found_on(other: Problem) -> Numbers | None:
        try:
            return compared(density_of(_flat(other), density.comm), fine.found)
        except (CaseError, ArgumentError):
            return None

    known = [found_on(level) for level in levels if min(_cells(level)) >= LEAST]
    coarser = [numbers for numbers in takewhile(lambda numbers: numbers is not None, known) if numbers is not None]
    boxes = coarser[-1:]
    walls = cut_offs(density, fine.law) if boxes else []
    for strips in (1, 2) if any(any(sides) for sides in walls) else ():
        if strips == 2 and hardly_differ(fine.found, density, *boxes):
            break
        smaller = _smaller(levels[len(coarser) - 1], walls, strips)
        numbers = None if smaller is None else found_on(smaller)
        if numbers is None:
            boxes = []
            break
        boxes.append(numbers)
    finer = _finer_rank(levels[len(coarser) - 1], density) if coarser else None
    numbers = None if finer is None else found_on(finer)
    return fine.knowing(errors(density, fine.found, coarser, boxes, None if numbers is None else (coarser[-1], numbers)))


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
    sections = problem.sections.model_copy(update={section: getattr(problem.sections, section).model_copy(update=changes)})
    return replace(problem, case=replace(problem.case, sections=sections))


def _by(problem: Problem, scheme: str) -> Problem:
    """By the scheme that "auto" chose on the finest mesh."""
    return problem if problem.sections.density is None else _with(problem, "density", scheme=scheme)


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
