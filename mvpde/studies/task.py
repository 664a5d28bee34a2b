"""What a study computes at a point. The tasks there are: `mvpde.studies.laboratory.TASKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.schema import Section
from mvpde.runtime import MPI, on_first_rank


class RunOptions(Section):
    """[options] of a study whose points are ordinary runs."""

    without: list[str] = Field([], description="measures to leave out at every point", examples=[["characteristics"]])


@dataclass(frozen=True)
class Task:
    """One computation.

    Attributes:
        options: the keys that [options] of the study file may have (and `options.key` in [set] and [vary]).
        compute: (case, options, folder, communicator) → summary. Collective. It leaves in `folder` at least summary.json, with
            status "done"; `folder` does not exist yet.
    """

    options: type[Section]
    compute: Callable[[Case, Any, Path, MPI.Intracomm], Mapping[str, Any]]


def _run(case: Case, options: RunOptions, folder: Path, comm: MPI.Intracomm) -> Mapping[str, Any]:
    from mvpde.runs.run import run

    return run(case, out=folder, without=options.without, comm=comm).summary


def summarised(
    compute: Callable[[Case, Any, MPI.Intracomm], Mapping[str, Any]],
) -> Callable[[Case, Any, Path, MPI.Intracomm], Mapping[str, Any]]:
    """A task from a function (case, options, communicator) → summary that writes nothing itself.

    The folder gets what every run's has: case.toml, provenance.json, and the numbers and lists of the summary in summary.json.
    Lists that belong to output times have the length of `times`, which the summary then holds.
    """

    def task(case: Case, options: Any, folder: Path, comm: MPI.Intracomm) -> Mapping[str, Any]:
        from mvpde.files import write_json
        from mvpde.runs import folder as output

        summary = {"status": "done", "title": case.sections.title, "ranks": comm.size, **compute(case, options, comm)}

        def write() -> None:
            output.create_folder(folder, case, output.provenance(case, comm.size, ()))
            write_json(folder / "summary.json", summary)

        on_first_rank(comm, write)
        return summary

    return task


RUN = Task(RunOptions, _run)
