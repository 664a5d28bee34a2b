"""What a run says while it computes: one line per output time, on a terminal with a bar below them; on stderr, rank 0 only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from mvpde.runs.record import Record

type Progress = Callable[[Record, Sequence[float]], None]


def silent(found: Record, times: Sequence[float]) -> None:
    """Say nothing."""


def line(found: Record) -> str:
    """t, step, mass defect, smallest value, losses, free energy on one line."""
    parts = [f"t = {found.time:<8g}"]
    if "density" in found.numbers:
        n = found.numbers["density"]
        parts.append(f"dt {n['step']:.2e}  mass defect {n['mass_defect']:.1e}  min {n['minimum']:+.1e}")
        parts += [f"free energy {n['free_energy']:.8g}"] if "free_energy" in n else []
    parts += [f"loss of {name} {numbers['loss']:.8g}" for name, numbers in found.numbers.items()]
    return "  ".join(parts)


def lines(stream: TextIO) -> Progress:
    """One line per output time."""
    return lambda found, times: print(line(found), file=stream, flush=True)


@contextmanager
def shown(first_rank: bool, title: str) -> Iterator[Progress]:
    """The progress of a run for whoever looks: lines, with a bar where stderr is a terminal, nothing on other ranks."""
    if not first_rank:
        yield silent
    elif not sys.stderr.isatty():
        yield lines(sys.stderr)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True, highlight=False)) as bar:
            task = bar.add_task("starting", total=None)
            bar.console.print(title, markup=False)

            def update(found: Record, times: Sequence[float]) -> None:
                bar.console.print(line(found), markup=False)
                bar.update(task, total=times[-1] or 1.0, completed=found.time, description=f"t = {found.time:g} of {times[-1]:g}")

            yield update
