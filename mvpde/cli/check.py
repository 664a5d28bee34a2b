"""`mvpde check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from mvpde.cases.costs import costs
from mvpde.cases.file import assignments, load
from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import chosen_measures, sizes
from mvpde.cases.messages import in_file
from mvpde.cases.problem import problem
from mvpde.cases.trial import tried
from mvpde.runtime import MPI


def carry_out(case: Path, settings: Sequence[str]) -> None:
    """Validate a case; print it with every default, and its sizes."""
    comm = MPI.COMM_WORLD
    read = load(case, assignments(settings), comm=comm)
    if (computation := KINDS[read.sections.model.kind].computation) is not None:
        with in_file(read.path):
            _show(read.text(), computation.sizes(read))
        return
    checked = problem(read, comm)
    names = chosen_measures(checked)
    tried(checked, names)
    known = sizes(checked, comm)
    nodes = known.get("density nodes", 0)
    told = costs(checked, names, nodes if isinstance(nodes, int) else 0)
    _show(checked.case.text(), {"measures": ", ".join(names), **known, **told})


def _show(text: str, answer: Mapping[str, int | str]) -> None:
    click.echo(text)
    for key, value in answer.items():
        click.echo(f"# {key}: {value}")
