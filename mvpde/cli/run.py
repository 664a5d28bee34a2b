"""`mvpde run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mvpde.cases.file import assignments, load
from mvpde.runs.folder import check_folder, default_folder
from mvpde.runs.progress import shown
from mvpde.runtime import MPI, on_first_rank


def carry_out(case: Path, *, settings: Sequence[str], out: Path | None, overwrite: bool, without: Sequence[str]) -> None:
    """Compute a case and write its folder."""
    comm = MPI.COMM_WORLD
    loaded = load(case, assignments(settings), comm=comm)
    folder = out if out is not None else default_folder(loaded)
    on_first_rank(comm, lambda: check_folder(folder, overwrite))
    from mvpde.runs.run import run  # the solver, when nothing is wrong any more

    with shown(comm.rank == 0, loaded.sections.title) as progress:
        result = run(loaded, out=folder, overwrite=overwrite, without=without, command=sys.argv, progress=progress)
    for warning in result.summary["warnings"] if comm.rank == 0 else []:
        click.echo(f"warning: {warning['message']}", err=True)
    click.echo(f"{result.folder}: done in {result.summary['wall_seconds']:.1f} s")
