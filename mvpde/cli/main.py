"""The command line: `mvpde run | check | study | report | list`, alone or under mpirun.

    0 done    2 wrong case or command    3 a solver failed    4 an invariant was violated    5 stopped on request

Every rank runs this, finds the same, and leaves with the same code; rank 0 alone speaks. What a verb does is in a module of its
name, which is imported when the command turns out to be well formed: help and wrong commands are answered at once.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import click

from mvpde import __version__, runtime
from mvpde.runs.stopping import Stopped
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError

_PATH = click.Path(path_type=Path)


def _carry_out(verb: str, *arguments: object, **options: object) -> None:
    importlib.import_module(f"mvpde.cli.{verb}").carry_out(*arguments, **options)


def _settings[Command: Callable[..., object]](text: str) -> Callable[[Command], Command]:
    return click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help=text)


_case = click.argument("case", type=_PATH)
_case_settings = "Replace a value of the case, e.g. domain.cells=[64,64]."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvpde")
def commands() -> None:
    """Finite elements for the McKean–Vlasov limits of neural-network training, with the particles beside them.

    Case files are described in docs/cases.md, results in docs/output.md. `mpirun -n N mvpde run CASE` uses N processes.
    """


@commands.command()
@_case
@_settings(_case_settings)
@click.option("--out", type=_PATH, metavar="DIR", help="Output folder; default: results/<name of the case file>.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the output folder.")
@click.option(
    "--without", multiple=True, metavar="MEASURE", help="Leave out a measure, by the name of its section; may be repeated."
)
def run(case: Path, **how: object) -> None:
    """Compute a case and write its folder."""
    _carry_out("run", case, **how)


@commands.command()
@_case
@_settings(_case_settings)
def check(case: Path, settings: Sequence[str]) -> None:
    """Validate a case with its data and mesh; print it with every default, its sizes, and the time and memory of a run."""
    _carry_out("check", case, settings)


@commands.command()
@click.argument("file", type=_PATH)
@_settings("Replace a value of the base case.")
@click.option("--out", type=_PATH, metavar="DIR", help="The study's folder; default: results/<name of the study file>.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Points computed at the same time.")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="MPI processes for each point.")
@click.option("--dry-run", is_flag=True, help="List the points and how far they are; compute and write nothing.")
@click.option("--gather", is_flag=True, help="Make table and verdicts from what is there; compute nothing.")
@click.option("--slurm", is_flag=True, help="Write a Slurm job array for the points and submit it.")
@click.option("--template", type=_PATH, metavar="FILE", help="Job script of --slurm; default: mpi_runs/slurm_study.sh.")
def study(file: Path, **how: object) -> None:
    """Run a base case over lists of values and measure the law that a study file names; what is finished stays."""
    _carry_out("study", file, **how)


@commands.command()
@click.argument("folders", nargs=-1, required=True, type=_PATH, metavar="DIR...")
@click.option(
    "--out",
    type=_PATH,
    metavar="FILE",
    help="An .html file for one DIR, or a folder for the pages of all and their index; default: DIR/report.html.",
)
def report(folders: Sequence[Path], out: Path | None) -> None:
    """Make a page that reads without a network from each run or study: pictures, verdicts, values, provenance."""
    _carry_out("report", folders, out)


@commands.command(name="list")
def list_everything() -> None:
    """Cases at hand, and the names that a case file may use."""
    _carry_out("names")


_CODES: dict[type[Exception], int] = {
    CaseError: runtime.EXIT_USAGE,
    click.ClickException: runtime.EXIT_USAGE,
    SolverError: runtime.EXIT_SOLVER,
    InvariantError: runtime.EXIT_INVARIANT,
    Stopped: runtime.EXIT_STOPPED,
}


def _explained(error: Exception) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Collective.

    What none of the codes stands for is a defect: it leaves with its traceback, and takes all ranks with it.
    """
    runtime.install_abort_hook()
    if not sys.warnoptions:  # what is doubtful is judged and told in words; `python -W default -m mvpde` shows what numpy says
        warnings.simplefilter("ignore")
    comm = MPI.COMM_WORLD
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(sys.stdout if comm.rank == 0 else nowhere):  # noqa: PTH123
        try:
            commands.main(args=None if arguments is None else list(arguments), prog_name="mvpde", standalone_mode=False)
        except tuple(_CODES) as error:
            if comm.rank == 0:
                click.echo(f"mvpde: {_explained(error)}", err=True)
            return next(code for kind, code in _CODES.items() if isinstance(error, kind))
        except click.Abort:  # Ctrl-C before the run listens to it
            if comm.size > 1:
                comm.Abort(runtime.EXIT_STOPPED)
            return runtime.EXIT_STOPPED
    return runtime.EXIT_DONE
