"""What a study computes at a point. The tasks there are: `mvpde.studies.laws.TASKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path

from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Section
from mvpde.files import write_json
from mvpde.runs import folder as output
from mvpde.runtime import MPI, on_first_rank
from mvpde.studies.needs import Need, check
from mvpde.studies.verdict import Json

type Summary = Mapping[str, Json]


@dataclass(frozen=True)
class Task[Options: Section]:
    """One computation.

    Attributes:
        options: the keys that [options] of the study file may have (and `options.key` in [set] and [vary]).
        compute: (case, options, folder, communicator) → summary. Collective. It leaves in `folder` at least summary.json, with
            status "done"; `folder` does not exist yet.
    """

    options: type[Options]
    compute: Callable[[Case, Options, Path, MPI.Intracomm], Summary]


def task_of[Options: Section](
    options: type[Options], compute: Callable[[Problem, Options, MPI.Intracomm], object], needs: Sequence[Need] = ()
) -> Task[Options]:
    """The task of a limit law, whose function writes nothing itself.

    The folder gets what every run's has: case.toml, provenance.json, and the result in summary.json.

    Args:
        options: as in `Task`.
        compute: (problem, options, communicator) → a frozen dataclass, whose fields are the keys of the summary. Collective.
            Lists that belong to output times have the length of its `times`.
        needs: what the law needs of a case, checked first.
    """

    def carry_out(case: Case, chosen: Options, folder: Path, comm: MPI.Intracomm) -> Summary:
        there = problem(case, comm)
        check(there, needs)
        summary = {"status": "done", "title": case.sections.title, "ranks": comm.size, **entries(compute(there, chosen, comm))}
        provenance = output.provenance(case, comm.size, ())  # on all ranks: it may load PETSc, which is collective

        def write() -> None:
            output.create_folder(folder, case, provenance)
            write_json(folder / "summary.json", summary)

        on_first_rank(comm, write)
        return summary

    return Task(options, carry_out)


def entries(result: object) -> dict[str, Json]:
    """The fields of a dataclass, and of those in it, by name; None has no entry, a list of dataclasses is `over_times`."""
    return {name: _plain(value) for name, value in vars(result).items() if value is not None}


def _plain(value: object) -> Json:
    if is_dataclass(value):
        return entries(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and is_dataclass(value[0]):
        return over_times(value)
    return value  # type: ignore[return-value]  # fields of results are numbers, text and lists of them


def over_times(rows: Sequence[object]) -> dict[str, list[Json]]:
    """{"a": [a of the first, a of the second, …]} of dataclasses of one type, one for each output time."""
    tables = [entries(row) for row in rows]
    return {name: [table[name] for table in tables] for name in (tables[0] if tables else ())}


class RunOptions(Section):
    """[options] of a study whose points are ordinary runs."""

    without: list[str] = Field([], description="measures to leave out at every point", examples=[["characteristics"]])


def _run(case: Case, options: RunOptions, folder: Path, comm: MPI.Intracomm) -> Summary:
    from mvpde.runs.run import run  # what it needs is long to load, and a study's list of points needs none of it

    return run(case, out=folder, without=options.without, comm=comm).summary


RUN = Task(RunOptions, _run)
