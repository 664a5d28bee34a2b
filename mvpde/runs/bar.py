"""The bar of a run on a terminal; imported where there is one, since Rich takes its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mvpde.runs.record import Record


@contextmanager
def bar(title: str, line: Callable[[Record | str], str]) -> Iterator[Callable[[Record | str, Sequence[float]], None]]:
    """Lines, with a bar below them."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True, highlight=False)) as shown:
        task = shown.add_task("starting", total=None)
        shown.console.print(title, markup=False)

        def update(recorded: Record | str, times: Sequence[float]) -> None:
            shown.console.print(line(recorded), markup=False)
            if isinstance(recorded, str):
                return
            shown.update(
                task, total=times[-1] or 1.0, completed=recorded.time, description=f"t = {recorded.time:g} of {times[-1]:g}"
            )

        yield update
