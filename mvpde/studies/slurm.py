"""A study as a Slurm job array whose points are the folders that `mvpde study` itself would fill."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mvpde.files import write_aside
from mvpde.runtime import CaseError
from mvpde.studies.points import LOGS
from mvpde.studies.runner import Progress, point_command, prepare

TEMPLATE = "slurm_study.sh"
SCRIPT, GATHER = "slurm.sh", "slurm_gather.sh"  # in the study's folder


def template(path: Path | None = None) -> str:
    """The text of the template: the one named, else the package's own, to which mpi_runs/ has a link.

    Raises:
        CaseError: if there is none.
    """
    file = Path(__file__).with_name(TEMPLATE) if path is None else path
    if not file.is_file():
        raise CaseError(f"--template: there is no file {file}; name a copy of mpi_runs/{TEMPLATE}")
    return file.read_text(encoding="utf-8")


def indices(numbers: Sequence[int]) -> str:
    """Increasing numbers as Slurm writes them: 0-3,7,9-10."""
    spans: list[tuple[int, int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], n)
        else:
            spans.append((n, n))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def write_scripts(progress: Progress, *, jobs: int, ranks: int, command: Sequence[str], path: Path | None = None) -> list[Path]:
    """slurm.sh, an array over the points that are not done, and slurm_gather.sh, which makes the table; no files if all are done.

    Args:
        progress: the study.
        jobs: tasks of the array that may run at the same time.
        ranks: MPI processes for each.
        command: the `mvpde study` command that makes the table from what is there.
        path: another template.

    Raises:
        CaseError: if there is no template or the folder cannot be written.
    """
    text = template(path)
    prepare(progress)
    if not progress.left:
        return []
    folder = progress.folder.resolve()
    *start, _ = point_command(folder, "", ranks)
    values = {
        "NAME": re.sub(r"[^A-Za-z0-9_.-]+", "_", progress.study.path.stem),
        "ARRAY": f"{indices(progress.left)}%{jobs}",
        "RANKS": str(ranks),
        "LOGS": str(folder / LOGS),
        "DIRECTORY": shlex.quote(str(Path.cwd())),
        "COMMAND": shlex.join(start),
    }
    array, gather = folder / SCRIPT, folder / GATHER
    write_aside(array, re.sub(r"@([A-Z]+)@", lambda match: values.get(match[1], match[0]), text))
    head = f"#!/bin/bash\n#SBATCH --job-name=mvpde-{values['NAME']}-table\n#SBATCH --ntasks=1\n"
    head += f"#SBATCH --output={folder / LOGS}/slurm-table-%j.log\n"
    write_aside(gather, f"{head}set -euo pipefail\ncd {values['DIRECTORY']}\n{shlex.join(command)}\n")
    return [array, gather]


def submit(scripts: Sequence[Path]) -> str | None:
    """Submit the array, and the table after it whatever becomes of the points; the array's number, None where there is no sbatch.

    Raises:
        CaseError: if Slurm refuses.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        return None
    array, gather = scripts
    number = _sbatch([sbatch, "--parsable", str(array)]).split(";")[0]
    _sbatch([sbatch, "--parsable", f"--dependency=afterany:{number}", str(gather)])
    return number


def _sbatch(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        said = result.stderr.strip() or result.stdout.strip()
        raise CaseError(f"sbatch refused {command[-1]}: {said}; adapt a copy of the template (--template)")
    return result.stdout.strip()


def gather_command(progress: Progress, settings: Sequence[str]) -> list[str]:
    """`mvpde study FILE --out DIR --gather` with the same overrides."""
    overrides = [word for text in settings for word in ("--set", text)]
    here = [sys.executable, "-m", "mvpde", "study", str(progress.study.path.resolve()), "--out", str(progress.folder.resolve())]
    return [*here, *overrides, "--gather"]
