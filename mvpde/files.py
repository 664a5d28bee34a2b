"""Files that can be looked at while a run goes on.

Small ones are replaced whole: written aside, then renamed, so that nobody ever reads half of one. HDF5 files are opened here,
without locks: the lock of one reader would end the run at its next output.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

Result = TypeVar("Result")

_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # s between attempts to open a file that another one holds or is writing


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
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


def _plain(value: object) -> object:
    """JSON has no NaN and no infinity: they become null; numpy numbers become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: object) -> None:
    """Replace a JSON file; NaN and infinities are written as null."""
    write_aside(path, json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Replace a CSV file; its columns are the keys of the rows in order of appearance, numbers keep their last digit."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    write_aside(path, text.getvalue())


def write_arrays(path: Path, groups: Mapping[str, Mapping[str, object]]) -> None:
    """Replace an HDF5 file of groups of arrays."""

    def write(aside: Path) -> None:
        with open_hdf5(aside, "w") as file:
            for group, arrays in groups.items():
                for name, values in arrays.items():
                    file[f"{group}/{name}"] = values

    replace_whole(path, write)


def open_hdf5(path: Path, mode: str) -> h5py.File:
    """An HDF5 file to write into, whoever reads it.

    HDF5_USE_FILE_LOCKING=TRUE in the environment overrules `locking`, and a reader in the same process is not told apart from a
    writer: hence a few attempts.

    Raises:
        OSError: if it still cannot be opened after three seconds.
    """
    try:
        return _patiently(lambda: h5py.File(path, mode, locking=False), OSError)
    except OSError as error:
        error.add_note(f"{path}: if another program holds this file, close it there, or set HDF5_USE_FILE_LOCKING=FALSE for both")
        raise


def read_hdf5(path: Path, read: Callable[[h5py.File], Result]) -> Result:
    """What `read` makes of an HDF5 file, without a lock on it.

    A run may be writing the file: what then looks broken is whole a moment later.

    Raises:
        OSError, KeyError, RuntimeError, ValueError: of h5py or `read`, if they last for three seconds.
    """

    def attempt() -> Result:
        with _unlocked(path) as file:
            return read(file)

    return _patiently(attempt, OSError, KeyError, RuntimeError, ValueError)


def _unlocked(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise
    except OSError:  # HDF5 wants the same of every opening in a process, and the user's, with a lock, may have come first
        return h5py.File(path, "r")


def _patiently(work: Callable[[], Result], *passing: type[Exception]) -> Result:
    """The result of `work`, tried again a few times after errors that may pass."""
    for wait in _WAITS:
        try:
            return work()
        except FileNotFoundError:
            raise
        except passing:
            time.sleep(wait)
    return work()
