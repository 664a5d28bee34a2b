"""The command line: `mvpde run | check | study | report | list`, alone or under mpirun.

    0 done    2 wrong case or command    3 a solver failed    4 an invariant was violated    5 stopped on request

Every rank runs this, finds the same, and leaves with the same code; rank 0 alone speaks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from mvpde import __version__, runtime
from mvpde.runs.stopping import Stopped
from mvpde.runtime import MPI, CaseError, InvariantError, SolverError

# Imports inside the commands keep --help, usage errors and wrong cases quick.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvpde")
def commands() -> None:
    """Finite elements for the McKean–Vlasov limits of neural-network training, with the particles beside them.

    Case files are described in docs/cases.md, results in docs/output.md. `mpirun -n N mvpde run CASE` uses N processes.
    """


def _with_overrides(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Replace a value of the case, e.g. domain.cells=[64,64].",
    )(command)
    return click.argument("case", type=click.Path(path_type=Path))(command)


@commands.command()
@_with_overrides
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Output folder; default: results/<name of the case file>."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the output folder.")
@click.option(
    "--without", multiple=True, metavar="MEASURE", help="Leave out density, ensemble, characteristics or sgd; may be repeated."
)
def run(case: Path, settings: Sequence[str], out: Path | None, overwrite: bool, without: Sequence[str]) -> None:
    """Compute a case and write its folder."""
    from mvpde.cases.file import assignments, load
    from mvpde.runs.folder import check_folder, default_folder
    from mvpde.runs.progress import shown

    comm = MPI.COMM_WORLD
    loaded = load(case, assignments(settings), comm)
    folder = out if out is not None else default_folder(loaded)
    runtime.on_first_rank(comm, lambda: check_folder(folder, overwrite))  # before the solver is loaded: a quick answer
    from mvpde.runs.run import run as compute

    with shown(comm.rank == 0, loaded.sections.title) as progress:
        result = compute(loaded, out=folder, overwrite=overwrite, without=without, command=sys.argv, progress=progress)
    for warning in result.summary["warnings"] if comm.rank == 0 else []:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{result.folder}: done in {result.summary['wall_seconds']:.1f} s")


@commands.command()
@_with_overrides
def check(case: Path, settings: Sequence[str]) -> None:
    """Validate a case with its data and mesh; print it with every default, and its sizes. Computes nothing."""
    from mvpde.cases.file import assignments, load
    from mvpde.cases.measures import chosen_measures, sizes
    from mvpde.cases.problem import problem

    comm = MPI.COMM_WORLD
    setting = problem(load(case, assignments(settings), comm), comm)
    names = chosen_measures(setting)
    answer = {"measures": ", ".join(names), **sizes(setting, comm)}
    click.echo(setting.case.text())
    for key, value in answer.items():
        click.echo(f"# {key}: {value}")


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Replace a value of the base case.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="The study's folder; default: results/<name of the study file>."
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Points computed at the same time.")
@click.option("--ranks", type=click.IntRange(1), default=1, show_default=True, help="MPI processes for each point.")
@click.option("--dry-run", is_flag=True, help="List the points and how far they are; compute and write nothing.")
@click.option("--gather", is_flag=True, help="Make table and verdicts from what is there; compute nothing.")
@click.option("--slurm", is_flag=True, help="Write a Slurm job array for the points and submit it.")
@click.option(
    "--template", type=click.Path(path_type=Path), metavar="FILE", help="Job script of --slurm; default: mpi_runs/slurm_study.sh."
)
def study(file: Path, settings: Sequence[str], out: Path | None, **how: Any) -> None:
    """Run a base case over lists of values and measure the law that a study file names; what is finished stays."""
    from mvpde.cases.file import assignments
    from mvpde.cli.study import study_command

    study_command(file, settings, assignments(settings), out, **how)


@commands.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An .html file for one DIR, or a folder for the pages of all and their index; default: DIR/report.html.",
)
def report(folders: Sequence[Path], out: Path | None) -> None:
    """Make a page that reads without a network from each run or study: pictures, verdicts, values, provenance."""
    from mvpde.cli.study import sentence
    from mvpde.reports.write import write_reports

    for one in runtime.on_first_rank(MPI.COMM_WORLD, lambda: write_reports(folders, out)):
        click.echo(f"{one.path}: {one.content.kind}, {one.content.state}")
        for entry in one.content.verdicts:
            click.echo(f"  {sentence(entry)}")


@commands.command(name="list")
def list_everything() -> None:
    """Cases at hand, and the names that a case file may use."""
    from mvpde.cases.kinds import KINDS
    from mvpde.cases.sources import SOURCES
    from mvpde.density.schemes import SCHEMES
    from mvpde.models.data import TARGETS
    from mvpde.models.laws import LAWS
    from mvpde.models.losses import LOSSES
    from mvpde.models.units import UNITS
    from mvpde.particles.schemes import SCHEMES as PARTICLE_SCHEMES

    click.echo("cases")
    for path, title in _cases():
        click.echo(f"  {path}  {title}")
    tables: dict[str, Any] = {
        "models": {name: KINDS.sentence(name) for name in KINDS},
        "units": {name: unit.__doc__ for name, unit in UNITS.items()},
        "losses": {name: loss.__doc__ for name, loss in LOSSES.items()},
        "laws": {name: LAWS.sentence(name) for name in LAWS},
        "data": {name: SOURCES.sentence(name) for name in SOURCES},
        "targets": TARGETS,
        "density schemes": {name: SCHEMES.sentence(name) for name in SCHEMES},
        "ensemble schemes": {name: PARTICLE_SCHEMES.sentence(name) for name in PARTICLE_SCHEMES},
    }
    for heading, names in tables.items():
        click.echo(heading)
        for name, text in names.items():
            click.echo(f"  {name:<17} {str(text).strip().splitlines()[0]}")


def _cases() -> list[tuple[Path, str]]:
    """Case files in ./cases, or beside an installed source tree, with their titles."""
    import tomllib

    folders = (Path("cases"), Path(__file__).resolve().parents[2] / "cases")
    folder = next((candidate for candidate in folders if candidate.is_dir()), folders[0])
    found = []
    for path in sorted(folder.glob("*.toml")):
        try:
            found.append((path, str(tomllib.loads(path.read_text(encoding="utf-8")).get("title", ""))))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            found.append((path, f"({error})"))
    return found


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
