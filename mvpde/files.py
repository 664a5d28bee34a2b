"""Small files, replaced whole: written aside, then renamed, so that nobody ever reads half of one."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def replace_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path` and rename it to `path`; the suffix stays, for writers that look at it."""
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_aside(path: Path, text: str) -> None:
    """Replace a text file."""
    replace_whole(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null; numpy numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file; NaN and infinities are written as null."""
    write_aside(path, json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a CSV file; its columns are the keys of the rows in order of appearance, numbers keep their last digit."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    write_aside(path, text.getvalue())


def write_arrays(path: Path, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace an HDF5 file of groups of arrays."""

    def write(aside: Path) -> None:
        with h5py.File(aside, "w") as file:
            for group, arrays in groups.items():
                for name, values in arrays.items():
                    file[f"{group}/{name}"] = values

    replace_whole(path, write)
