"""`mvpde study`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mvpde.cases.file import assignments
from mvpde.studies.points import DONE, FAILED, WAITING, State
from mvpde.studies.runner import Listener, Progress, conclude, plan, study
from mvpde.studies.slurm import gather_command, submit, write_scripts
from mvpde.studies.verdict import HOLDS

if TYPE_CHECKING:
    import xarray


def carry_out(
    file: Path,
    *,
    settings: Sequence[str],
    out: Path | None,
    jobs: int,
    ranks: int,
    dry_run: bool,
    gather: bool,
    slurm: bool,
    template: Path | None,
) -> None:
    """Compute a study, or list, gather or submit it.

    Raises:
        CaseError, SolverError, Stopped: as `mvpde.studies.runner.study`.
    """
    overrides = assignments(settings)
    found = plan(file, out, overrides)
    if dry_run:
        _list(found)
    elif gather:
        _report(found, conclude(found))
    elif slurm:
        _submit(found, write_scripts(found, jobs=jobs, ranks=ranks, command=gather_command(found, settings), path=template))
    else:
        with shown(found) as listener:
            data = study(file, out=out, set=overrides, jobs=jobs, ranks=ranks, listener=listener)
        for k in range(len(found.points)):
            found.look(k)
        _report(found, data)


def _list(found: Progress) -> None:
    for k, (point, one) in enumerate(zip(found.points, found.states, strict=True)):
        click.echo(f"{k:4d}  {one.status:<8} {point.name}{_reason(one)}")
    states = [one.status for one in found.states]
    counts = ", ".join(f"{states.count(status)} {status}" for status in (DONE, FAILED, WAITING))
    click.echo(f"{len(states)} points: {counts}; folder {found.folder}")


def _reason(one: State) -> str:
    return f"  {one.message.splitlines()[0]}" if one.message else ""


def _submit(found: Progress, scripts: Sequence[Path]) -> None:
    if not scripts:
        click.echo(f"{found.folder}: every point is done; the same command with --gather instead of --slurm makes the table")
        return
    number = submit(scripts)
    said = f"submitted as job array {number}" if number else f"no sbatch here; where there is one: sbatch {scripts[0]}"
    click.echo(f"{scripts[0]}: {said}")


def _report(found: Progress, data: xarray.Dataset) -> None:
    for point, one in zip(found.points, found.states, strict=True):
        if one.status == FAILED:
            click.echo(f"warning: {point.name} failed: {one.message.splitlines()[0]}", err=True)
    for entry in json.loads(data.attrs["verdict"]):
        click.echo(sentence(entry))
    done = sum(one.status == DONE for one in found.states)
    click.echo(f"{found.folder}: {done} of {len(found.points)} points done; table.csv, study.nc, verdict.json")


def sentence(entry: Mapping[str, Any]) -> str:
    """An entry of verdict.json on one line."""
    if entry["measured"] is None:
        return f"{entry['law']}: {entry['holds']} ({entry['note']})"
    interval = "" if entry["interval"] is None else " [{:.4g}, {:.4g}]".format(*entry["interval"])
    note = f" ({entry['note']})" if entry["note"] and entry["holds"] != HOLDS else ""
    predicted = f"{entry['relation']} {entry['predicted']:.4g}" if "relation" in entry else f"{entry['predicted']:.4g}"
    return f"{entry['law']}: measured {entry['measured']:.4g}{interval}, predicted {predicted}: {entry['holds']}{note}"


@contextmanager
def shown(found: Progress) -> Iterator[Listener]:
    """A bar where stderr is a terminal, a line for each point where it is not."""
    already = sum(one.status == DONE for one in found.states)
    if already:
        click.echo(f"{found.folder}: {already} of {len(found.points)} points are done already", err=True)
    if not sys.stderr.isatty():
        yield lambda text, done, total: click.echo(f"[{done}/{total}] {text}", err=True)
        return
    from mvpde.cli.bar import bar

    with bar(found.study.title or found.study.path.stem, len(found.points) - already) as listener:
        yield listener
