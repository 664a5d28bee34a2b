"""The bar of a study on a terminal; imported where there is one, since Rich takes its time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mvpde.studies.runner import Listener


@contextmanager
def bar(title: str, total: int) -> Iterator[Listener]:
    """A bar of points, with what was said last."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("", total=total)
        width = shutil.get_terminal_size().columns // 2
        yield lambda text, done, of: shown.update(task, completed=done, total=of, description=text[:width])
