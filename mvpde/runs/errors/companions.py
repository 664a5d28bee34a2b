"""The density once more on half and on a quarter of the cells, with steps twice and four times as long.

Errors of space and time then fall together from one level to the next. Explicit steps get longer by themselves as cells get
wider. Of error-controlled ones a companion takes those of the density, two or four in one, so that each step of the finer
splits one of the coarser. Where an output time falls between, the companion goes there in a shorter step; where the density took
fewer than CLOSED steps since the output before, so that this would be none of the longer steps it should take, a fork of it does,
which is thrown away after it is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np

from mvpde.cases.measures import density_of
from mvpde.cases.meshes.coarser import Coarse, companion, levels
from mvpde.cases.problem import Problem
from mvpde.density.schemes import SCHEMES
from mvpde.measure import Array, Measure, Number, State, nothing
from mvpde.models.mean_field import MeanField
from mvpde.runs.errors.means import Function, plain_moments
from mvpde.runs.record import Record
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError

if TYPE_CHECKING:
    from mvpde.density.density import Density
    from mvpde.runs.errors.estimates import Assessment

NAMES = ("half", "quarter")
CLOSED = 4  # steps of the density between two outputs, from which on a companion ends its steps at the second, too
LAWS = ("loss", "free_energy")  # numbers of the law, beside the observables: others are of its mesh and steps

Observed = dict[str, Array]  # quantity → number or array, at one time


class Led(Protocol):
    """A density whose steps are chosen, so that others can take the same."""

    lengths: list[float]
    scheme: str


@runtime_checkable
class HasEnergy(Protocol):
    """A density with a free energy, None where its model is no gradient flow."""

    def free_energy(self) -> float | None:
        """𝓕. Collective."""


@dataclass
class Level:
    """The density on one coarser mesh.

    Attributes:
        name: "half" or "quarter".
        ratio: of its spacing to that of the density.
        merged: steps of the density in one of its own.
        measure: at the end of the last whole step.
        ends: of the density's steps since then.
        failed: why it stopped, "" while it goes on.
        observed: at each output time; empty after it stopped.
        means: at the last output time, of the functions whose means are compared.
        fork: what goes to output times between whole steps.
    """

    name: str
    ratio: float
    merged: int
    measure: Measure
    ends: list[float] = field(default_factory=list)
    failed: str = ""
    observed: list[Observed] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)
    fork: Density | None = None

    def follow(self, between_steps: Callable[[], None], closing: bool) -> None:
        """Take as many whole steps as there are, and if ``closing`` the rest in a shorter one. Collective."""
        while len(self.ends) >= self.merged or (closing and self.ends):
            taken = self.ends[: self.merged]
            _led(self.measure).advance(taken[-1], between_steps, led=True)
            del self.ends[: len(taken)]

    def at(self, t: float) -> Measure:
        """The density here at t, the present time of the fine one. Collective."""
        if not self.ends:
            return self.measure
        here = _led(self.measure)
        self.fork = fork = here.twin() if self.fork is None else self.fork  # whose matrices are kept
        fork.time, fork.values = here.time, here.values
        fork.advance(t, led=True)
        return fork

    def observe(self, t: float, functions: Mapping[str, Function]) -> None:
        """Record what is known at t, the present time of the density, and means. Collective."""
        here = self.at(t)
        self.observed[-1] = observed(here)
        self.means = {name: float(here.expectation(h)[0]) for name, h in functions.items()}


@dataclass
class Companions:
    """All levels of one density.

    Attributes:
        fine: the density.
        order: of its scheme.
        levels: from fine to coarse.
        without: what the case asks for and is not there, with the reason.
        observed: of the density itself, at each output time.
        seconds: spent here, with the set-up.
        seen: time of the density up to which its steps are known here.
        found: what is known of each quantity from all that is observed.
        sizes: the largest ⟨|h|⟩ of each observable h so far: what its mean may cancel from.
    """

    fine: Measure
    order: int
    levels: list[Level]
    without: list[str]
    observed: list[Observed] = field(default_factory=list)
    seconds: float = 0.0
    seen: float = 0.0
    found: dict[str, Assessment] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Follow the density, which is at t. Collective.

        Raises:
            What ``between_steps`` raises; a level that fails is given up.
        """
        began, led, ends = time.perf_counter(), _is_led(self.fine), self._ends()
        for level in self._alive():  # all of them, before one may be interrupted
            level.ends = level.ends + ends if led else []
        for level in self._alive():
            free = partial(level.measure.advance, t, between_steps)
            _guarded(level, partial(level.follow, between_steps, len(ends) >= CLOSED) if led else free)
        self.seconds += time.perf_counter() - began

    def observe(self, recorded: Record) -> None:
        """Record what the companions say at an output time of the density, whose numbers are ``recorded``. Collective."""
        began = time.perf_counter()
        known = _of_record(recorded, self.fine)
        known |= {name: self.fine.expectation(h)[0] for name, h in moments(self.fine.model).items()}
        self._observe(recorded.time, known, recorded.functions)
        self.seconds += time.perf_counter() - began

    def observe_alone(self) -> None:
        """The same where nothing is recorded. Collective."""
        self._observe(self.fine.time, observed(self.fine), {})

    def _observe(self, t: float, known: Observed, functions: Mapping[str, Function]) -> None:
        self.observed.append(known)
        for name, h in {**self.fine.model.observables, **moments(self.fine.model)}.items():
            size = float(self.fine.expectation(lambda z, h=h: np.abs(h(z)))[0])  # type: ignore[misc]
            self.sizes[name] = max(size, self.sizes.get(name, 0.0))
        for level in self.levels:
            level.means = {}
            level.observed.append({})
            if not level.failed:
                _guarded(level, partial(level.observe, t, functions))

    def missing(self) -> list[str]:
        """Which companions are not there, or not any more, each with the reason."""
        return [*self.without, *(f"{level.name}: {level.failed}" for level in self.levels if level.failed)]

    def statistics(self) -> dict[str, Number]:
        """How many companions there are, and the time they took."""
        return {"companions": len(self._alive()), "companion_seconds": self.seconds}

    def _alive(self) -> list[Level]:
        return [level for level in self.levels if not level.failed]

    def _ends(self) -> list[float]:
        """Ends of the density's steps that are new."""
        if not _is_led(self.fine) or self.fine.time <= self.seen:
            return []
        self.seen, lengths = self.fine.time, cast("Led", self.fine).lengths
        before = list(accumulate(reversed(lengths[1:]), initial=0.0))  # from each end to the last one
        return [self.fine.time - rest for rest in reversed(before)][: len(lengths)]

    def states(self) -> dict[str, State]:
        """From what each companion can continue, by name; on rank 0, empty elsewhere. Collective."""
        ends = self._ends()
        for level in self._alive():
            level.ends += ends
        states = {f"density_{level.name}": (level, level.measure.state()) for level in self._alive()}
        return {name: {**(state or {}), "ends": np.array(level.ends)} for name, (level, state) in states.items()}

    def restore(self, states: Mapping[str, State]) -> None:
        """Go on from `states` of the companions of a density that is itself restored, read on rank 0. Collective."""
        comm = self.fine.comm
        for level in self.levels:
            state = states.get(f"density_{level.name}")
            ends = comm.bcast(None if state is None else [float(end) for end in np.asarray(state["ends"])])
            if ends is None:
                level.failed = level.failed or "not in the checkpoint"
                continue
            level.ends = ends
            level.measure.restore(state)
        self.seen = self.fine.time


def companions(problem: Problem, fine: Measure, comm: MPI.Intracomm) -> Companions:
    """Those of a density at t = 0. Collective."""
    began, made, without = time.perf_counter(), list[Level](), list[str]()
    name: str = getattr(fine, "scheme", "auto")
    for level in range(1, levels(problem) + 1):
        coarse = companion(problem, level, None if problem.model.later else name)
        if coarse is None:
            without.append(f"{NAMES[level - 1]}: the mesh has too few cells")
            continue
        try:
            measure = density_of(coarse.problem, comm)
        except CaseError as error:
            without.append(f"{NAMES[level - 1]}: {error}")
            continue
        if problem.model.later and hasattr(fine, "schemes"):  # which it may choose anew where the model changes
            measure.leading = fine.schemes
            measure = measure.twin()
        made.append(_level(level, coarse, measure))
    order = SCHEMES[name].order if name in SCHEMES else 2
    return Companions(fine, order, made, without, seconds=time.perf_counter() - began)


def _level(level: int, coarse: Coarse, measure: Measure) -> Level:
    return Level(NAMES[level - 1], coarse.ratio, 2**level, measure)


def observed(measure: Measure) -> Observed:
    """Everything recorded of a density that is a number of its law: those in tables, arrays, and predictions. Collective."""
    model = measure.model
    energy = measure.free_energy() if isinstance(measure, HasEnergy) else None
    known: Observed = {"loss": np.asarray(np.mean(measure.losses()))}
    known |= {} if energy is None else {"free_energy": np.asarray(energy)}
    known |= {name: np.asarray(np.mean(measure.expectation(h))) for name, h in model.observables.items()}
    if model.data is not None:
        known["predictions"] = model.predictions(measure.moments()).mean(axis=0)
    known |= {name: measure.expectation(h)[0] for name, h in moments(model).items()}
    return known | measure.arrays()


def moments(model: MeanField) -> dict[str, Function]:
    """What else is observed of a law without data, by name."""
    return {} if model.data is not None else plain_moments(model)


def _of_record(recorded: Record, fine: Measure) -> Observed:
    """The same of the density itself, which is recorded already; predictions on rank 0."""
    name, numbers = fine.name, recorded.numbers[fine.name]
    known: Observed = {key: np.asarray(numbers[key]) for key in (*LAWS, *fine.model.observables) if key in numbers}
    if name in recorded.predictions:
        known["predictions"] = recorded.predictions[name]
    return known | recorded.arrays[name]


def _guarded(level: Level, work: Callable[[], None]) -> None:
    """Do it, or give the level up, on all ranks alike."""
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            work()
    except (SolverError, InvariantError) as error:
        level.failed = str(error)


def _is_led(fine: Measure) -> bool:
    """Whether steps of other lengths than the density's own would have other errors than they should."""
    scheme = getattr(fine, "scheme", "")
    return hasattr(fine, "lengths") and not (scheme in SCHEMES and SCHEMES[scheme].explicit)


def _led(measure: Measure) -> Density:
    return cast("Density", measure)
