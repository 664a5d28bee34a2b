"""`mvpde report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mvpde.cli.study import sentence
from mvpde.reports.write import write_reports
from mvpde.runtime import MPI, on_first_rank


def carry_out(folders: Sequence[Path], out: Path | None) -> None:
    """Write the pages of runs and studies."""
    for one in on_first_rank(MPI.COMM_WORLD, lambda: write_reports(folders, out)):
        click.echo(f"{one.path}: {one.content.kind}, {one.content.state}")
        for entry in one.content.verdicts:
            click.echo(f"  {sentence(entry)}")
