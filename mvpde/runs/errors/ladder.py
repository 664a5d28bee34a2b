"""A case with `[density] accuracy`: the density alone on finer and finer meshes, until one is expected to do for the run.

That run is a rung itself. Where it is not accurate enough after all, it is done again on a finer mesh in the same folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from mvpde.cases.measures import accuracy_names, density_of
from mvpde.cases.problem import Problem
from mvpde.cases.schema import DensitySection, DomainSection
from mvpde.measure import Array, Measure
from mvpde.models.laws import Law1D, marginals
from mvpde.runs.cautions.caution import Caution
from mvpde.runs.errors import rungs as steps
from mvpde.runs.errors.companions import Companions, companions, moments
from mvpde.runs.errors.estimates import Assessment, estimates
from mvpde.runs.errors.rungs import Rung
from mvpde.runs.stopping import Stopped
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError, on_first_rank

HOPELESS = 3  # rungs without an error, after which the run itself tells why

Said = Callable[[str], None]
Values = tuple[tuple[int, ...], dict[str, Array]]  # cells, and the extrapolated values of each quantity there
Known = tuple[float | None, float | None, str]  # relative error, observed order, why there is no error


@dataclass
class Ladder:
    """The meshes so far, and the next one.

    Attributes:
        given: the case, whose cells are a shape.
        comm: communicator.
        accuracy: wanted.
        names: of the quantities that must have it.
        scale: of the next mesh, times the cells of the case.
        alone: whether the density is all that the run computes, so that each rung may be the run and none is computed twice.
        rungs: so far.
        values: of the quantities wanted, extrapolated, of each rung that has them; on rank 0.
        first: cells of the first rung.
        why: the error of the last rung is not known, "" where it is.
        done: whether the last rung is the run itself.
    """

    given: Problem
    comm: MPI.Intracomm
    accuracy: float
    names: Sequence[str]
    scale: float
    alone: bool
    rungs: list[Rung] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    first: tuple[int, ...] = ()
    why: str = ""
    done: bool = False

    @property
    def cells(self) -> tuple[int, ...]:
        """Of the next mesh."""
        return steps.scaled(_shape(self.given), self.scale)

    @property
    def problem(self) -> Problem:
        """The case on the next mesh."""
        return on_cells(self.given, self.cells, steps.tolerance(self.first or self.cells, self.cells))

    @property
    def last(self) -> str:
        """The last rung, for the log."""
        return steps.told(self.rungs[-1], self.accuracy)

    def entries(self) -> Mapping[str, object]:
        """What `summary.json` says of the meshes so far."""
        return {"ladder": [rung.entry() for rung in self.rungs], "accuracy_reached": self._reached}

    @property
    def ended(self) -> bool:
        """Whether the last rung is accurate enough, or as fine as may be, or the last ones know no error."""
        return self._reached or self._widest or self._hopeless

    @property
    def _reached(self) -> bool:
        """Whether the run itself is accurate enough."""
        return self.done and steps.reached(self.rungs, self.accuracy)

    @property
    def _widest(self) -> bool:
        """Whether there may be no finer mesh than the last one."""
        return bool(self.rungs) and self.rungs[-1].cells == self.cells

    @property
    def _hopeless(self) -> bool:
        """Whether the error was not known so often that a finer mesh will not tell it either."""
        return len(self.rungs) >= HOPELESS and all(rung.error is None for rung in self.rungs[-HOPELESS:])

    def climb(self, between_steps: Callable[[], None], say: Said) -> Stopped | None:
        """Rungs of the density alone, until the next mesh is expected to do, or a request to stop. Collective."""
        try:
            while not self._within_reach():
                self._pilot(between_steps)
                say(self.last)
        except Stopped as stop:
            return stop
        return None

    def take(self, observed: Companions, seconds: float) -> None:
        """Add the rung that has just been computed on the next mesh, and choose the one after it. Collective."""
        known = on_first_rank(self.comm, lambda: self._known(observed))
        self._add(_nodes(observed.fine), known, seconds)
        self.done = True

    def doubts(self, finished: bool = True) -> list[Caution]:
        """What is to be said where the accuracy was not reached, of a run that came to its end or did not."""
        if self._reached and finished:
            return []
        if not finished:
            return [Caution("density.accuracy", self._unfinished(), None, self.accuracy)]
        last, names, asked = self.rungs[-1], ", ".join(self.names), f"and {self.accuracy:g} was asked for"
        if last.error is None:
            reason = f" ({self.why})" if self.why else ""
            remedy = "give [domain] cells and no [density] accuracy, or what is known as [density] accuracy_of"
            text = f"the relative error of {names} is not known on {last.nodes} nodes{reason}, {asked}; {remedy}"
        else:
            text = (
                f"the relative error of {names} is {last.error:.1e} on {last.nodes} nodes, the most that [density] max_nodes "
                f"allows, {asked}; choose a larger max_nodes, a larger accuracy, or a smaller [domain]"
            )
        return [Caution("density.accuracy", f"density: {text}", last.error, self.accuracy)]

    def _unfinished(self) -> str:
        last = self.rungs[-1] if self.rungs else None
        best = "" if last is None or last.error is None else f", which was {last.error:.1e} on {last.nodes} nodes"
        return (
            f"density: the run ended before the relative error of {', '.join(self.names)} was known on its mesh{best}, and "
            f"{self.accuracy:g} was asked for; give it more time, or a larger accuracy"
        )

    def _within_reach(self) -> bool:
        """Whether the next mesh is expected to be accurate enough, or is the last that there may be."""
        if not self.rungs:
            return False
        if self._hopeless:
            return True
        if self._limit() <= self.scale or (self.alone and self.rungs[-1].error is not None):
            return True
        trusted = self.rungs[-1].known <= steps.CREDIBLE
        return trusted and steps.growth(self.rungs, self.accuracy) <= steps.MOST

    def _pilot(self, between_steps: Callable[[], None]) -> None:
        """The density alone on the next mesh. Collective."""
        began = time.perf_counter()
        try:
            found, nodes = _observed(self.problem, self.comm, between_steps)
            known = on_first_rank(self.comm, lambda: self._known(found))
        except (CaseError, SolverError, InvariantError) as error:  # too coarse for it; if not, the run itself will tell
            known, nodes = (None, None, str(error)), math.prod(count + 1 for count in self.cells)
        self._add(nodes, known, self.comm.bcast(time.perf_counter() - began))

    def _known(self, observed: Companions) -> Known:
        """The error of the extrapolated values, by companions or by the meshes before, the order, and why nothing is known."""
        found = estimates(observed)
        wanted = [name for asked in self.names for name in (moments(self.given.model) if asked == "moments" else [asked])]
        chosen = {name: found[name] for name in wanted if name in found}
        values = {name: one.found.extrapolated for name, one in chosen.items()}
        if not chosen or not all(np.isfinite(x).all() for x in values.values()):
            return None, None, "; ".join(observed.missing()) or "it has no such numbers, or not at all times"
        error = max(self._relative(name, one, one.found.extrapolated_error) for name, one in chosen.items())
        rows = [(cells, then) for cells, then in self.values if cells != self.cells and then.keys() == values.keys()]
        rows = [*rows[-2:], (self.cells, values)]
        differences = [
            max(self._relative(name, one, last[name] - first[name]) for name, one in chosen.items())
            for (_, first), (_, last) in pairwise(rows)
        ]
        of_meshes, order = steps.of_meshes([cells for cells, _ in rows], differences)
        self.values.append((self.cells, values))
        known = np.nanmin([error, of_meshes])
        return (float(known), order, "") if math.isfinite(known) else (None, order, "; ".join(observed.missing()))

    def _relative(self, name: str, one: Assessment, errors: Array) -> float:
        data = self.given.model.data
        weights = data.weights if data is not None and name == "predictions" else None
        return steps.relative(one.found.extrapolated, errors, one.scale, weights)

    def _add(self, nodes: int, known: Known, seconds: float) -> None:
        section, (error, order, self.why) = self.problem.sections.density, known
        assert section is not None
        self.first = self.first or self.cells
        tolerance = getattr(section, "tolerance", None)
        self.rungs.append(Rung(self.cells, nodes, tolerance, error, seconds, order))
        more = min(steps.growth(self.rungs, self.accuracy), steps.MOST)
        if more > 1.0:
            self.scale = min(steps.whole(_shape(self.given), self.scale * more), max(self._limit(), self.scale))

    def _limit(self) -> float:
        """The largest scale within max_nodes."""
        section, shape, last = self.given.sections.density, _shape(self.given), self.rungs[-1]
        assert section is not None
        each = last.nodes / math.prod(last.cells)
        scale = float((section.max_nodes / (each * math.prod(shape))) ** (1.0 / len(shape)))
        return steps.whole(shape, scale, down=True)


def ladder(problem: Problem, measures: Sequence[str], comm: MPI.Intracomm) -> Ladder | None:
    """That of a run which computes these ``measures``; None without a density or an accuracy."""
    section, domain = problem.sections.density, problem.sections.domain
    if section is None or domain is None or section.accuracy is None or "density" not in measures:
        return None
    alone = len(measures) == 1 and problem.sections.stationary is None and problem.sections.spectrum is None
    names = accuracy_names(problem.model, section)
    return Ladder(problem, comm, section.accuracy, names, _first_scale(problem, section, domain), alone)


def on_cells(problem: Problem, cells: Sequence[int], tolerance: float) -> Problem:
    """The same on so many cells, with that tolerance of implicit steps, or a fixed step in proportion to their width."""
    sections = problem.sections
    domain, density = sections.domain, sections.density
    assert domain is not None and density is not None
    coarser = max(few / many for few, many in zip(domain.cells or cells, cells, strict=True))
    step = None if density.step is None else density.step * coarser
    implicit = {"tolerance": tolerance} if hasattr(density, "tolerance") else {}  # some densities take explicit steps alone
    changed = {
        "domain": domain.model_copy(update={"cells": list(cells)}),
        "density": density.model_copy(update={**implicit, "step": step, "companions": 2}),
    }
    return replace(problem, case=replace(problem.case, sections=sections.model_copy(update=changed)))


def _shape(problem: Problem) -> list[int]:
    domain = problem.sections.domain
    assert domain is not None and domain.cells is not None
    return domain.cells


def _first_scale(problem: Problem, section: DensitySection, domain: DomainSection) -> float:
    shape = _shape(problem)
    lengths = [b - a for a, b in zip(domain.lower or [], domain.upper or [], strict=True)]
    law, widths = problem.law, [0.0] * len(shape)
    known = marginals(law)
    if known is not None:
        widths = [_deviation(known[axis]) / length for axis, length in enumerate(lengths)]
    most = steps.whole(shape, (section.max_nodes / math.prod(shape)) ** (1.0 / len(shape)), down=True)
    return min(steps.whole(shape, steps.first_scale(shape, widths)), most)


def _deviation(law: Law1D) -> float:
    """Standard deviation of one coordinate."""
    places, weights = law.quadrature(32)
    mean = float(places @ weights / weights.sum())
    return math.sqrt(float((places - mean) ** 2 @ weights / weights.sum()))


def _observed(problem: Problem, comm: MPI.Intracomm, between_steps: Callable[[], None]) -> tuple[Companions, int]:
    """The density and its companions at all output times. Collective."""
    fine = density_of(problem, comm)
    both = companions(problem, fine, comm)
    for t in problem.sections.time.outputs:
        fine.advance(t, between_steps)
        both.advance(t, between_steps)
        both.observe_alone()
        between_steps()
    return both, _nodes(fine)


def _nodes(measure: Measure) -> int:
    nodes = measure.statistics()["nodes"]
    assert isinstance(nodes, int)
    return nodes
