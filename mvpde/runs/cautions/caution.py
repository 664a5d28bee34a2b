"""A warning of a run, and what judges of a run see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mvpde.cases.problem import Problem
from mvpde.measure import Number
from mvpde.runs.record import Record

if TYPE_CHECKING:
    from mvpde.equilibrium.approach import LongTime
    from mvpde.equilibrium.deep import DeepLongTime
    from mvpde.runs.errors.companions import Companions


@dataclass(frozen=True)
class Caution:
    """What is doubtful in a run, by how much, and what helps.

    Attributes:
        code: what it is about, "<section or measure>.<quantity>", for scripts.
        message: one sentence, with the remedy.
        value: the number that was judged, None where there is none.
        bound: the threshold that it passed.
    """

    code: str
    message: str
    value: float | None = None
    bound: float | None = None

    def entry(self) -> dict[str, str | float | None]:
        """As `summary.json` has it."""
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """What a judge looks at.

    Attributes:
        problem: the case and its model.
        records: the output times so far.
        statistics: of each measure.
        long_time: stationary law and modes, where the case asks for them.
        companions: of the density, where there is one.
    """

    problem: Problem
    records: Sequence[Record]
    statistics: Mapping[str, Mapping[str, Number]]
    long_time: LongTime | DeepLongTime | None = None
    companions: Companions | None = None
