"""`mvpde check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mvpde.cases.file import assignments, load
from mvpde.cases.measures import chosen_measures, sizes
from mvpde.cases.problem import problem
from mvpde.runtime import MPI


def carry_out(case: Path, settings: Sequence[str]) -> None:
    """Validate a case; print it with every default, and its sizes."""
    comm = MPI.COMM_WORLD
    checked = problem(load(case, assignments(settings), comm=comm), comm)
    answer = {"measures": ", ".join(chosen_measures(checked)), **sizes(checked, comm)}
    click.echo(checked.case.text())
    for key, value in answer.items():
        click.echo(f"# {key}: {value}")
