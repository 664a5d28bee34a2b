"""`mvpde report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mvpde.cli.study import sentence
from mvpde.reports.write import report as write_reports


def carry_out(folders: Sequence[Path], out: Path | None) -> None:
    """Write the pages of runs and studies."""
    for written in write_reports(folders, out):
        click.echo(f"{written.path}: {written.content.kind}, {written.content.state}")
        for entry in written.content.verdicts:
            click.echo(f"  {sentence(entry)}")
