"""Runs of cases without laws that move: the folder and the summary of what such a kind computes."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvpde.cases.file import Case
from mvpde.cases.kinds import Computation
from mvpde.cases.messages import in_file
from mvpde.files import write_json
from mvpde.runs import folder as output
from mvpde.runs.stopping import Stopped, listening
from mvpde.runtime import MPI, CaseError, on_first_rank

Summary = dict[str, Any]


def refuse_without(case: Case, without: Collection[str]) -> None:
    """What is computed here is a section, and no measure that may be left out.

    Raises:
        CaseError: for the first name in ``without``.
    """
    for name in without:
        kind = case.sections.model.kind
        raise CaseError(
            f'{case.path}: --without {name}: kind = "{kind}" has no measures to leave out; remove the section [{name}]'
        )


def computed(computation: Computation, case: Case, folder: Path, comm: MPI.Intracomm, command: Sequence[str]) -> Summary:
    """The summary of a computation, which is in its folder whatever the end. Collective.

    Raises:
        CaseError: before anything is written. Whatever the computation raises, with the summary's status "failed", or "stopped".
    """
    began = time.perf_counter()
    with in_file(case.path):
        computation.sizes(case)
    provenance = output.provenance(case, comm.size, command)
    on_first_rank(comm, lambda: output.create_folder(folder, case, provenance))
    summary: Summary = {"status": "running", "message": "", "title": case.sections.title, "ranks": comm.size}
    on_first_rank(comm, lambda: write_json(folder / "summary.json", summary))
    try:
        with listening(comm) as request, np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # null in the summary
            found = computation.compute(case, folder, comm, request)
    except BaseException as error:
        if comm.rank == 0:  # nothing collective: the others may be elsewhere
            status = "stopped" if isinstance(error, (KeyboardInterrupt, Stopped)) else "failed"
            said = str(error) or "stopped on request" * (status == "stopped")
            write_json(folder / "summary.json", {**summary, "status": status, "message": said})
        raise
    summary |= {"status": "done", "wall_seconds": time.perf_counter() - began, "warnings": [], **found}
    on_first_rank(comm, lambda: write_json(folder / "summary.json", summary))
    return summary
