"""Case files: read, override, validate. What comes out is complete: every default is filled in."""

from __future__ import annotations

import copy
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import tomli_w
from pydantic import ValidationError, create_model

from mvpde.cases.additions import import_additions
from mvpde.cases.kinds import KINDS
from mvpde.cases.messages import explain, listed, nearest
from mvpde.cases.schema import CaseSections, DataSection, ModelSection
from mvpde.cases.values import Table
from mvpde.runtime import MPI, CaseError, on_first_rank

Place = tuple[Any, ...]  # the keys on the way to a value, those of lists as numbers


@dataclass(frozen=True)
class Case:
    """A validated case.

    Attributes:
        path: the file it came from; names of data and mesh files are relative to its folder.
        sections: what the file says, with defaults.
        given: what was read, without defaults: `changed` begins from it, as some defaults depend on other keys.
        contents: data files that were read, on the rank that did: what is computed with is what is copied into a run's folder.
    """

    path: Path
    sections: CaseSections
    given: Table = field(default_factory=dict, compare=False, repr=False)
    contents: dict[Path, bytes] = field(default_factory=dict, compare=False, repr=False)

    @property
    def directory(self) -> Path:
        """The folder of the case file."""
        return self.path.parent

    def inputs(self) -> dict[Place, Path]:
        """The files that the case names, by the keys on the way to them."""
        data, domain = self.sections.data, self.sections.domain
        names: dict[Place, str] = {}
        names |= {} if data is None else {("data", key): name for key, name in data.files().items()}
        names |= {("model", key): name for key, name in self.sections.model.files().items()}
        names |= {} if domain is None or domain.mesh is None else {("domain", "mesh"): domain.mesh}
        for entry, law in (self.sections.initial or {}).items():
            names |= {("initial", entry, *place): name for place, name in law.files().items()}
        return {place: self.directory / name for place, name in names.items()}

    def read(self, path: Path) -> bytes:
        """What a data file holds: it is read once."""
        if path not in self.contents:
            self.contents[path] = path.read_bytes()
        return self.contents[path]

    def table(self) -> Table:
        """The case as plain data, keys without a value left out."""
        return self.sections.model_dump(exclude_none=True)

    def text(self) -> str:
        """The case as a TOML document with every default."""
        return tomli_w.dumps(self.table())


def load(path: str | Path, set: Mapping[str, object] | None = None, *, comm: MPI.Intracomm | None = None) -> Case:
    """Read and validate a case file. Collective.

    Args:
        path: the TOML file.
        set: values that replace or add to the file's, by "section.key".
        comm: whose rank 0 reads the file for all; None: every rank that calls this reads it.

    Raises:
        CaseError: with one message that names file, section, key and remedy, on all ranks alike.
    """
    path = Path(path)
    table = on_first_rank(comm or MPI.COMM_SELF, lambda: read_toml(path, "case file"))
    for key, value in (set or {}).items():
        _override(table, key, value)
    return parse(table, path)


def changed(case: Case, overrides: Mapping[str, object]) -> Case:
    """The case with other values, by "section.key".

    Raises:
        CaseError: as `load`.
    """
    if not overrides:
        return case
    table = copy.deepcopy(case.given)
    for key, value in overrides.items():
        _override(table, key, value)
    return parse(table, case.path)


def parse(table: Mapping[str, object], path: Path) -> Case:
    """Validate a case given as plain data; `path` says whose folder its file names are relative to.

    Raises:
        CaseError: as `load`.
    """
    import_additions()
    try:
        schema = _schema_of(table)
        return Case(path, schema.model_validate(table), copy.deepcopy(dict(table)))
    except ValidationError as error:
        raise CaseError(f"{path}: {explain(schema, error)}") from None
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def holding(table: Table, place: Place) -> Table:
    """The part of a case as plain data that the last key of a place is in."""
    part: Any = table
    for key in place[:-1]:
        part = part[key]
    return cast("Table", part)


def assignments(texts: Sequence[str]) -> dict[str, object]:
    """{"a.b": v} from texts "a.b=v"; v is read as TOML, else taken as a string.

    Raises:
        CaseError: for a text without `=` or without a key.
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise CaseError(f"--set {text}: write it as section.key=value, for example --set domain.cells=[64,64]")
        values[key.strip()] = _value(value.strip())
    return values


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_toml(path: Path, what: str) -> Table:
    """What a TOML file holds, which is a ``what``, such as "case file".

    Raises:
        CaseError: if it is not there, cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = [entry.name for entry in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise CaseError(f"{path}: there is no such {what}{nearest(path.name, near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read as a {what} ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{path}: is not valid TOML: {error}") from None


def _override(table: Table, key: str, value: object) -> None:
    *sections, name = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise CaseError(f"--set {key}: `{section}` is a value, not a section; give its whole value at once")
    table[name] = copy.deepcopy(value)


def _choose(table: Mapping[str, object], section: str, key: str, options: Sequence[str]) -> str:
    """The name that decides which keys a section has."""
    content = table.get(section)
    if not isinstance(content, dict):
        raise CaseError(f"[{section}]: the section is missing; add it with `{key}`, one of {listed(options)}")
    name = content.get(key)
    if name is None:
        raise CaseError(f"[{section}] {key}: is missing; add one of {listed(options)}")
    if name not in options:
        raise CaseError(f"[{section}] {key}: {name!r} is not one of {listed(options)}{nearest(str(name), options)}")
    return str(name)


def _schema_of(table: Mapping[str, object]) -> type[CaseSections]:
    kind = KINDS[_choose(table, "model", "kind", list(KINDS))]
    model: type[ModelSection] = kind.schema
    data = kind.sources[_choose(table, "data", "source", list(kind.sources))] if kind.sources else None
    return _schema(model, data, tuple(kind.fields.items()))


@functools.cache
def _schema(
    model: type[ModelSection], data: type[DataSection] | None, others: tuple[tuple[str, tuple[object, object]], ...]
) -> type[CaseSections]:
    """The schema of cases with this kind of model and source of data, and sections of the kind's own."""
    fields: Table = {"model": (model, ...), "data": (DataSection | None, None) if data is None else (data, ...), **dict(others)}
    return create_model("CaseSections", __base__=CaseSections, **fields)
