"""A run in progress: what it is made of, and what it has recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mvpde.cases.problem import Problem
from mvpde.fields import FieldSeries
from mvpde.measure import Measure, Number
from mvpde.runs.cautions.caution import Caution
from mvpde.runs.record import Record
from mvpde.runtime import MPI

if TYPE_CHECKING:
    from mvpde.equilibrium.approach import LongTime
    from mvpde.equilibrium.deep import DeepLongTime
    from mvpde.equilibrium.walls.escape import Exit
    from mvpde.runs.errors.companions import Companions
    from mvpde.runs.errors.ladder import Ladder
    from mvpde.runs.errors.long_time import Snapshot
    from mvpde.runs.optimality import Optimality


@dataclass
class Run:
    """A run in progress: what it is made of and what it has recorded.

    Attributes:
        problem: the case, its model and initial law.
        measures: by name.
        folder: output folder.
        comm: communicator.
        began: clock at the start.
        records: one per output time so far (arrays of the last one only).
        seconds: time spent in each measure's `advance`.
        statistics: `statistics()` of each measure, as of the last output time.
        series: the density's and the particles' files, rank 0.
        passed_over: what the case asks for and the run does not do.
        sights: the density at the output times so far, where its way to a stationary law is to be seen.
        long_time: stationary law and modes, where the case asks for them, once the run is over.
        optimality: bounds on the gap to the best law, where the outer energy is convex.
        companions: of the density, where there is one.
        ladder: of meshes, where an accuracy is asked for.
        exit: where and when absorbing walls are met from the start.
    """

    problem: Problem
    measures: dict[str, Measure]
    folder: Path
    comm: MPI.Intracomm
    began: float
    records: list[Record] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    statistics: dict[str, dict[str, Number]] = field(default_factory=dict)
    series: dict[str, FieldSeries] = field(default_factory=dict)
    passed_over: list[Caution] = field(default_factory=list)
    sights: list[Snapshot] = field(default_factory=list)
    long_time: LongTime | DeepLongTime | None = None
    optimality: Optimality | None = None
    companions: Companions | None = None
    ladder: Ladder | None = None
    exit: Exit | None = None
