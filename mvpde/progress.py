"""What a run says while it computes: a bar on a terminal, otherwise one line per output time; on stderr, rank 0 only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from mvpde.record import Record

type Progress = Callable[[Record, Sequence[float]], None]


def silent(found: Record, times: Sequence[float]) -> None:
    """Say nothing."""


def line(found: Record) -> str:
    """t, step, mass defect, smallest value, losses, free energy on one line."""
    parts = [f"t = {found.time:<8g}"]
    if "density" in found.numbers:
        n = found.numbers["density"]
        parts.append(f"dt {n['step']:.2e}  mass defect {n['mass_defect']:.1e}  min {n['minimum']:+.1e}  free energy {n['free_energy']:.8g}")
    parts += [f"loss of {name} {numbers['loss']:.8g}" for name, numbers in found.numbers.items()]
    return "  ".join(parts)


def lines(stream: TextIO) -> Progress:
    """One line per output time."""
    return lambda found, times: print(line(found), file=stream, flush=True)


@contextmanager
def shown(first_rank: bool, title: str) -> Iterator[Progress]:
    """The progress of a run for whoever looks: a bar where stderr is a terminal, lines where it is not, nothing on other ranks."""
    if not first_rank:
        yield silent
    elif not sys.stderr.isatty():
        yield lines(sys.stderr)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title or "mvpde", total=None, state="")

            def update(found: Record, times: Sequence[float]) -> None:
                losses = "  ".join(f"{name} {numbers['loss']:.5g}" for name, numbers in found.numbers.items())
                bar.update(task, total=times[-1] or 1.0, completed=found.time, state=f"t = {found.time:g}  loss: {losses}")

            yield update
