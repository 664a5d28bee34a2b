"""The folder of a run. Everything here happens on rank 0."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import tomli_w

import mvpde
from mvpde.cases.file import Case, holding
from mvpde.cases.measures import MEASURES
from mvpde.fields import SUFFIXES
from mvpde.files import write_aside, write_json
from mvpde.runtime import CaseError

INPUTS = "inputs"  # data and mesh files of the case, copied
MARKS = ("case.toml", "provenance.json")  # what tells a run's folder from any other
FIELDS = ("density", "particles", "stationary", "modes", "exit", "phase_diagram")  # each an .h5 with an .xdmf beside it
FILES = (
    *MARKS,
    "series.csv",
    "predictions.csv",
    "layers.csv",
    "critical_line.csv",
    "summary.json",
    *(f"{name}{end}" for name in FIELDS for end in SUFFIXES),
)
PICTURES = ("density.png", "loss.png", "prediction.png", "moments.png", "layers.png", "labels.png", "phase_diagram.png")
FOLDERS = (INPUTS, "checkpoint")


def default_folder(case: Case) -> Path:
    """results/<name of the case file> in the current directory."""
    return Path("results") / case.path.stem


def mark_failed(folder: Path, message: str) -> None:
    """Let the summary in a folder say that the run failed, whatever it says else. Local."""
    path = folder / "summary.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"times": []}
    write_json(path, {**known, "status": "failed", "message": message})


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that a run must not write into; nothing is changed.

    Raises:
        CaseError: if it exists and `overwrite` is not asked for, or if it exists and does not hold an earlier run.
    """
    if not (folder.exists() or folder.is_symlink()):
        return
    if not folder.is_dir():
        raise CaseError(f"--out {folder}: is a file, not a folder; choose another name")
    if not overwrite:
        raise CaseError(
            f"--out {folder}: the output folder exists; choose another with --out, or replace the earlier run by --overwrite"
        )
    if any(folder.iterdir()) and not all((folder / mark).is_file() for mark in MARKS):
        raise CaseError(
            f"--out {folder}: holds no earlier run ({' and '.join(MARKS)} are not in it), "
            "so --overwrite leaves it alone; choose another"
        )


def create_folder(folder: Path, case: Case, provenance: Mapping[str, object]) -> None:
    """Make or empty the folder and put the resolved case, its input files and the provenance there.

    Of an earlier run only files that a run writes are removed; whatever else lies there stays.

    Raises:
        CaseError: if the folder cannot be made.
    """
    text, contents = _portable(case)  # before an earlier run's copies are removed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*FILES, *PICTURES):
            (folder / name).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "checkpoint").mkdir()
        if contents:
            (folder / INPUTS).mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        write_aside(folder / "case.toml", text)
        write_json(folder / "provenance.json", provenance)
    except OSError as error:
        raise CaseError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None


def _portable(case: Case) -> tuple[str, dict[str, bytes]]:
    """The case as text, with its data and mesh files under `inputs/`, and what each of these holds."""
    table, inputs = case.table(), case.inputs()
    names: dict[Path, str] = {}
    for place, path in inputs.items():
        alike = [other for other in names if other.name == path.name and other != path]
        names.setdefault(path, f"{INPUTS}/{len(alike) or ''}{path.name}")
        holding(table, place)[place[-1]] = names[path]
    return tomli_w.dumps(table), {name: case.contents.get(path) or path.read_bytes() for path, name in names.items()}


def provenance(case: Case, ranks: int, command: Sequence[str]) -> dict[str, object]:
    """What it takes to know, later, how a run came about."""
    asked = {name: getattr(getattr(case.sections, name, None), "seed", None) for name in MEASURES}
    seeds = {name: seed for name, seed in asked.items() if seed is not None}
    return {
        "command": list(command) or sys.argv,
        "case": str(case.path.resolve()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "ranks": ranks,
        "seed": next(iter(seeds.values()), None),
        "seeds": seeds,
        "versions": _versions(),
        "git_commit": _git_commit(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }


def _versions() -> dict[str, str | None]:
    import dolfinx
    from petsc4py import PETSc

    names = ["numpy", "scipy", "numba", "h5py", "mpi4py", "POT", "pydantic", "matplotlib"]
    return {
        "mvpde": mvpde.__version__,
        "python": platform.python_version(),
        "dolfinx": str(dolfinx.__version__),
        "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
        **{name: _version(name) for name in names},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of mvpde's sources, with "+" if they were changed since; None where they are not under version control."""
    home = Path(__file__).parent

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=10, check=True)
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "folder.py")  # site-packages inside someone else's repository is not ours
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "..") else "")
    except (OSError, subprocess.SubprocessError):
        return None
