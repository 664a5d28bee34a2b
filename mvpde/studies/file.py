"""Study files: read and validate. A base case, what is varied in it, and the law that is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field, ValidationError, create_model

from mvpde.cases.additions import import_additions
from mvpde.cases.file import read_toml
from mvpde.cases.messages import explain, listed, nearest
from mvpde.cases.schema import CaseSections
from mvpde.cases.values import Section, Table, one_of
from mvpde.runtime import CaseError
from mvpde.studies.laws import MEASUREMENTS, TASKS
from mvpde.studies.measurement import MeasurementOptions
from mvpde.studies.verdict import Json

MODES = {"product": "every combination of the values", "zip": "first values together, second values together, …"}
OPTIONS = "options."  # keys of [set] and [vary] that begin so belong to the task, all others to the case


class StudySections(Section):
    """A study file. `options` and `measure` are refined by the task and the kind of measurement."""

    title: str = Field("", description="one line of text", examples=["Law of large numbers"])
    base: str = Field(description="the case that is varied, relative to the study file", examples=["../cases/circle_rbf.toml"])
    mode: Annotated[str, one_of(MODES)] = Field("product", description="product or zip", examples=["product"])
    task: Annotated[str, one_of(TASKS)] = Field("run", description="one of {names}", examples=["run"])
    set: Table = Field({}, description="values that replace the base case's at every point, by key", examples=[{"time.end": 2.0}])
    vary: Table = Field(description="lists of values, by key", examples=[{"ensemble.particles": [100, 1000]}])


@dataclass(frozen=True)
class Axis:
    """One direction of a study: keys that change together (mostly a single one) and their values, one tuple for each step."""

    keys: tuple[str, ...]
    values: tuple[tuple[Json, ...], ...]


@dataclass(frozen=True)
class Study:
    """A validated study file.

    Attributes:
        path: the file.
        title: one line of text.
        base: path of the base case.
        mode: product or zip.
        task: key of `TASKS`.
        options: the task's options as given, by name.
        fixed: overrides of the base case at every point, by key.
        axes: what is varied.
        measures: kind and validated options of each measurement.
    """

    path: Path
    title: str
    base: Path
    mode: str
    task: str
    options: Mapping[str, Json]
    fixed: Mapping[str, Json]
    axes: tuple[Axis, ...]
    measures: tuple[tuple[str, MeasurementOptions], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every varied key in the file's order."""
        return tuple(key for axis in self.axes for key in axis.keys)


def load_study(path: str | Path, overrides: Mapping[str, object] | None = None) -> Study:
    """Read and validate a study file.

    Args:
        path: the TOML file.
        overrides: values for the base case that replace those of the case and of [set], by "section.key".

    Raises:
        CaseError: with one message that names file, section, key and remedy.
    """
    path = Path(path)
    import_additions()
    table = read_toml(path, "study file")
    try:
        return _study(path, table, overrides or {})
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def _study(path: Path, table: Table, overrides: Mapping[str, object]) -> Study:
    known = (*StudySections.model_fields, "options", "measure")
    for key in table:
        if key not in known:
            what = (
                "is a section of case files; put what it changes in [set]"
                if key in CaseSections.model_fields
                else f"there is no such key{nearest(key, known)}"
            )
            raise CaseError(f"{key}: {what} (a study file has {listed(known)})")
    top = _validated(StudySections, {key: value for key, value in table.items() if key in StudySections.model_fields})
    axes = _axes(top.vary, top.mode)
    fixed = {**by_key("set", top.set), **cast("Table", overrides)}
    for key in fixed:
        if key in [varied for axis in axes for varied in axis.keys]:
            where = "--set" if key in overrides else "[set]"
            raise CaseError(f"{where} {key}: [vary] gives this key its values; remove it from one of them")
    given = table.get("options", {})
    _section("options", TASKS[top.task].options, given)
    measures = tuple(_measures(table.get("measure", []), [key for axis in axes for key in axis.keys]))
    return Study(path, top.title, path.parent / top.base, top.mode, top.task, given, fixed, axes, measures)


def _section[Content: Section](name: str, schema: type[Content], content: object) -> Content:
    """One section of the file, checked."""
    whole = create_model("Whole", __base__=Section, **{name: (schema, Field())})  # type: ignore[call-overload]
    return cast("Content", getattr(_validated(whole, {name: content}), name))


def _validated[Content: Section](schema: type[Content], table: Mapping[str, object]) -> Content:
    try:
        return schema.model_validate(table)
    except ValidationError as error:
        raise CaseError(explain(schema, error)) from None


def by_key(section: str, table: Table) -> dict[str, Json]:
    """{"a.b": v} from {"a.b": v} as from {"a": {"b": v}}: TOML reads an unquoted a.b as the second.

    Raises:
        CaseError: for a key that is given twice.
    """
    values: dict[str, Json] = {}
    for key, value in _leaves(table):
        if key in values:
            raise CaseError(f"[{section}] {key}: is given twice; remove one of them")
        values[key] = value
    return values


def _leaves(table: Table) -> list[tuple[str, Json]]:
    leaves: list[tuple[str, Json]] = []
    for key, value in table.items():
        nested = isinstance(value, dict) and "." not in key  # a quoted "a.b" means its whole value
        leaves += [(f"{key}.{inner}", content) for inner, content in _leaves(value)] if nested else [(key, value)]
    return leaves


def _axes(table: Table, mode: str) -> tuple[Axis, ...]:
    axes = tuple(_axis(label, values) for label, values in by_key("vary", table).items())
    if not axes:
        raise CaseError('[vary]: is empty; add a key with its values, for example "ensemble.particles" = [100, 1000]')
    keys = [key for axis in axes for key in axis.keys]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise CaseError(f"[vary] {twice}: is given twice; remove one of them")
    lengths = {" ".join(axis.keys): len(axis.values) for axis in axes}
    if mode == "zip" and len(set(lengths.values())) > 1:
        counts = ", ".join(f"`{key}` has {n}" for key, n in lengths.items())
        raise CaseError(f'[vary]: mode = "zip" needs lists of the same length, but {counts}')
    return axes


def _axis(label: str, values: Json) -> Axis:
    keys = tuple(key.strip() for key in label.split(","))
    if not isinstance(values, list) or not values:
        raise CaseError(f"[vary] {label}: give a list of values, at least one, for example [100, 1000]")
    rows = tuple(tuple(value) if len(keys) > 1 and isinstance(value, list) else (value,) for value in values)
    for value, row in zip(values, rows, strict=True):
        if len(row) != len(keys):
            raise CaseError(f"[vary] {label}: {value!r} should be a list of {len(keys)} values, one for each of the keys")
    if any(row in rows[:k] for k, row in enumerate(rows)):
        raise CaseError(f"[vary] {label}: a value is given twice; remove one (repetitions differ by their ensemble.seed)")
    return Axis(keys, rows)


def _measures(given: Json, keys: Sequence[str]) -> list[tuple[str, MeasurementOptions]]:
    measures = [_measure(table, keys) for table in (given if isinstance(given, list) else [given])]
    names = [options.name for _, options in measures]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CaseError(
            f"[measure] name: two measurements are called `{twice}`; give one another `name`, its figure is <name>.png"
        )
    return measures


def _measure(table: Json, keys: Sequence[str]) -> tuple[str, MeasurementOptions]:
    kind = table.get("kind") if isinstance(table, dict) else None
    if not isinstance(kind, str) or kind not in MEASUREMENTS:
        said, near = ("is missing; add", "") if kind is None else (f"{kind!r} is not", nearest(str(kind), MEASUREMENTS))
        raise CaseError(f"[measure] kind: {said} one of {listed(MEASUREMENTS)}{near}")
    options = _section("measure", MEASUREMENTS[kind].options, table)
    if options.x is not None and options.x not in keys:
        raise CaseError(f"[measure] x: `{options.x}` is not varied{nearest(options.x, keys)} ([vary] has {listed(keys)})")
    return kind, options
