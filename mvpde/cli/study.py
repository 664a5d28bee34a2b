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
    progress = plan(file, out, overrides)
    if dry_run:
        _list(progress)
    elif gather:
        _report(progress, conclude(progress))
    elif slurm:
        _submit(
            progress, write_scripts(progress, jobs=jobs, ranks=ranks, command=gather_command(progress, settings), path=template)
        )
    else:
        with shown(progress) as listener:
            data = study(file, out=out, set=overrides, jobs=jobs, ranks=ranks, listener=listener)
        for k in range(len(progress.points)):
            progress.look(k)
        _report(progress, data)


def _list(progress: Progress) -> None:
    for k, (point, state) in enumerate(zip(progress.points, progress.states, strict=True)):
        click.echo(f"{k:4d}  {state.status:<8} {point.name}{_reason(state)}")
    states = [state.status for state in progress.states]
    counts = ", ".join(f"{states.count(status)} {status}" for status in (DONE, FAILED, WAITING))
    click.echo(f"{len(states)} points: {counts}; folder {progress.folder}")


def _reason(state: State) -> str:
    return f"  {state.message.splitlines()[0]}" if state.message else ""


def _submit(progress: Progress, scripts: Sequence[Path]) -> None:
    if not scripts:
        click.echo(f"{progress.folder}: every point is done; the same command with --gather instead of --slurm makes the table")
        return
    number = submit(scripts)
    said = f"submitted as job array {number}" if number else f"no sbatch here; where there is one: sbatch {scripts[0]}"
    click.echo(f"{scripts[0]}: {said}")


def _report(progress: Progress, data: xarray.Dataset) -> None:
    for point, state in zip(progress.points, progress.states, strict=True):
        if state.status == FAILED:
            click.echo(f"warning: {point.name} failed: {state.message.splitlines()[0]}", err=True)
    for entry in json.loads(data.attrs["verdict"]):
        click.echo(sentence(entry))
    done = sum(state.status == DONE for state in progress.states)
    click.echo(f"{progress.folder}: {done} of {len(progress.points)} points done; table.csv, study.nc, verdict.json")


def sentence(entry: Mapping[str, Any]) -> str:
    """An entry of verdict.json on one line."""
    if entry["measured"] is None:
        return f"{entry['law']}: {entry['holds']} ({entry['note']})"
    interval = "" if entry["interval"] is None else " [{:.4g}, {:.4g}]".format(*entry["interval"])
    note = f" ({entry['note']})" if entry["note"] and entry["holds"] != HOLDS else ""
    predicted = f"{entry['relation']} {entry['predicted']:.4g}" if "relation" in entry else f"{entry['predicted']:.4g}"
    return f"{entry['law']}: measured {entry['measured']:.4g}{interval}, predicted {predicted}: {entry['holds']}{note}"


@contextmanager
def shown(progress: Progress) -> Iterator[Listener]:
    """A bar where stderr is a terminal, a line for each point where it is not."""
    already = sum(state.status == DONE for state in progress.states)
    if already:
        click.echo(f"{progress.folder}: {already} of {len(progress.points)} points are done already", err=True)
    if not sys.stderr.isatty():
        yield lambda text, done, total: click.echo(f"[{done}/{total}] {text}", err=True)
        return
    from mvpde.cli.bar import bar

    with bar(progress.study.title or progress.study.path.stem, len(progress.points) - already) as listener:
        yield listener
