"""`mvpde list`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from mvpde.cases.additions import import_additions
from mvpde.cases.kinds import KINDS
from mvpde.cases.sources import SOURCES
from mvpde.density.schemes import SCHEMES
from mvpde.models.data import TARGETS
from mvpde.models.laws import LAWS
from mvpde.models.losses import LOSSES
from mvpde.models.units import UNITS
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.registry import Registry


def carry_out() -> None:
    """Print the cases at hand, and the names that a case file may use."""
    import_additions()
    click.echo("cases")
    for path, title in _cases():
        click.echo(f"  {path}  {title}")
    _print("models", KINDS)
    _print("units", UNITS)
    _print("losses", LOSSES)
    _print("laws", LAWS)
    _print("data", SOURCES)
    _print("targets", TARGETS)
    _print("density schemes", SCHEMES)
    _print("ensemble schemes", PARTICLE_SCHEMES)


def _print[Entry](heading: str, registry: Registry[Entry]) -> None:
    click.echo(heading)
    for name in registry:
        click.echo(f"  {name:<17} {registry.sentence(name)}")


def _cases() -> list[tuple[Path, str]]:
    """Case files in ./cases, or beside an installed source tree, with their titles."""
    folders = (Path("cases"), Path(__file__).resolve().parents[2] / "cases")
    folder = next((candidate for candidate in folders if candidate.is_dir()), folders[0])
    return [(path, _title(path)) for path in sorted(folder.glob("*.toml"))]


def _title(path: Path) -> str:
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("title", ""))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return f"({error})"
