"""What a killed process leaves in the cache of compiled forms, and how to clear it.

FFCx reserves a form by creating ``libffcx_<signature>.c`` (empty), compiles it, and writes ``….c.cached`` last. A process that is
killed in between leaves the reservation without the mark: every later run waits ten seconds for the mark and then fails
(``get_cached_module`` in ``ffcx/codegeneration/jit.py``), until somebody deletes the file by hand.
"""

from __future__ import annotations

import time
from pathlib import Path

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

import dolfinx.jit

# FFCx itself gives up on a form that is not compiled after this many seconds.
PATIENCE = 10.0


def cache_directory() -> Path:
    """Where DOLFINx keeps compiled forms: ``$XDG_CACHE_HOME/fenics``, or ``~/.cache/fenics``, or as its JIT options say."""
    return Path(dolfinx.jit.get_options()["cache_dir"])


_CLEAN: dict[Path, int] = {}  # folder → its state when nothing unfinished was in it


def _changed(folder: Path) -> int:
    """When a file was last made or deleted in a folder; 0 where there is none."""
    return folder.stat().st_mtime_ns if folder.exists() else 0


def unfinished_forms(cache: Path) -> list[Path]:
    """C files without their mark, and C files marked as ready whose library is missing or empty."""
    return [source for source in sorted(cache.glob("libffcx_*.c")) if not _usable(source)]


def _usable(source: Path) -> bool:
    libraries = source.parent.glob(source.stem + ".*so")
    return Path(f"{source}.cached").exists() and any(library.stat().st_size > 0 for library in libraries)


def _age(path: Path) -> float:
    """Seconds since the file was written; a file that is gone is as old as can be."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def clear_stale_forms(comm: MPI.Comm, cache: Path | None = None, patience: float = PATIENCE) -> list[Path]:
    """Delete what killed processes left in the cache of compiled forms. Collective; to be called before the first form.

    Rank 0 looks, unless the folder has not changed since it found nothing there. A file older than ``patience`` seconds that is
    still unfinished belongs to nobody. A younger one may be in the making by another run: it is given the rest of that time to
    become ready, so the call returns at once unless there is one.

    Args:
        comm: the ranks that are about to compile forms.
        cache: the folder; default: DOLFINx's.
        patience: seconds that a compilation may take, ≥ 0.

    Returns:
        The C files that were deleted, the same list on every rank.
    """
    removed: list[Path] = []
    if comm.rank == 0:
        folder = cache_directory() if cache is None else cache
        state = _changed(folder)
        if _CLEAN.get(folder) == state:
            return comm.bcast(removed)
        suspects = unfinished_forms(folder)
        deadline = time.monotonic() + patience - max(0.0, min(map(_age, suspects), default=patience))
        while suspects and time.monotonic() < deadline:
            time.sleep(0.1)
            suspects = [source for source in suspects if source.exists() and not _usable(source)]
        for source in suspects:
            _remove(source)
        removed = suspects
        if not removed:
            _CLEAN[folder] = state  # from before it was read
    return comm.bcast(removed)


def _remove(source: Path) -> None:
    """The reservation goes last: a run that starts in between then finds either all of it or nothing."""
    for left in sorted(source.parent.glob(source.stem + ".*"), key=lambda path: path == source):
        left.unlink(missing_ok=True)
