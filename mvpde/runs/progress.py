"""What a run says while it computes: one line per output time, on a terminal with a bar below them; on stderr, rank 0 only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from mvpde.runs.record import Record

type Progress = Callable[[Record | str, Sequence[float]], None]  # at an output time, or a line of text between them


def silent(recorded: Record | str, times: Sequence[float]) -> None:
    """Say nothing."""


def line(recorded: Record | str) -> str:
    """t, step, mass defect, smallest value, losses, free energy on one line."""
    if isinstance(recorded, str):
        return recorded
    parts = [f"t = {recorded.time:<8g}"]
    for n in (numbers for numbers in recorded.numbers.values() if "mass_defect" in numbers):
        parts.append(f"dt {n['step']:.2e}  mass defect {n['mass_defect']:.1e}  min {n['minimum']:+.1e}")
        parts += [f"free energy {n['free_energy']:.8g}"] if "free_energy" in n else []
    parts += [f"loss of {name} {numbers['loss']:.8g}" for name, numbers in recorded.numbers.items()]
    return "  ".join(parts)


def lines(stream: TextIO) -> Progress:
    """One line per output time."""
    return lambda recorded, times: print(line(recorded), file=stream, flush=True)


@contextmanager
def shown(first_rank: bool, title: str) -> Iterator[Progress]:
    """The progress of a run for whoever looks: lines, with a bar where stderr is a terminal, nothing on other ranks."""
    if not first_rank:
        yield silent
    elif not sys.stderr.isatty():
        yield lines(sys.stderr)
    else:
        from mvpde.runs.bar import bar

        with bar(title, line) as progress:
            yield progress
