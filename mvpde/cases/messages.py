"""One message for everything that is wrong with a case: key, section, nearest valid name, allowed range, remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_origin

import tomli_w
from pydantic import AfterValidator, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mvpde import registry as names
from mvpde.cases.starts.laws import LawSection, law_sections
from mvpde.cases.values import Choice, Section
from mvpde.runtime import ArgumentError, CaseError, SolverError


def nearest(name: str, options: Iterable[str]) -> str:
    """ "; did you mean `…`?" with the most similar of the options, or nothing."""
    near = names.nearest(str(name), options)
    return f"; did you mean `{near}`?" if near else ""


def listed(options: Iterable[str]) -> str:
    """`a`, `b`, `c`."""
    return ", ".join(f"`{name}`" for name in options)


def toml_value(value: object) -> str:
    """A value as TOML writes it, on one line; what TOML cannot write as it is."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        entries = (tomli_w.dumps({key: 0}).removesuffix("0\n") + toml_value(inner) for key, inner in value.items())
        return f"{{ {', '.join(entries)} }}" if value else "{}"
    try:
        return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
    except TypeError:
        return str(value)


@dataclass(frozen=True)
class Place:
    """Where an error is: the keys on the way (list indices attached), the schema's field there and the keys beside it."""

    keys: tuple[str, ...]
    field: FieldInfo | None
    siblings: tuple[str, ...]

    @property
    def label(self) -> str:
        """`[section] key`, `[section]`, or a top-level key."""
        if len(self.keys) > 1:
            return f"[{'.'.join(self.keys[:-1])}] {self.keys[-1]}"
        is_section = self.field is None or self.field.annotation is type(None) or sections_in(self.field.annotation)
        return f"[{self.keys[0]}]" if is_section else self.keys[0]


def sections_in(annotation: object) -> list[type[Section]]:
    """Every section schema inside a type such as `X | None` or `dict[str, X | Y]`."""
    if annotation is LawSection:
        return list(law_sections().values())
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]


def _tag(schema: type[Section]) -> str | None:
    """The law's name that chooses this schema among several."""
    law = schema.model_fields.get("law")
    return next(iter(get_args(law.annotation)), None) if law is not None else None


def _forms(annotation: object) -> set[str]:
    """The tags of a union somewhere inside a type."""
    own = {mark.tag for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Tag)}
    return own.union(*(_forms(inner) for inner in get_args(annotation)))


def _has_names(annotation: object) -> bool:
    """Whether a dictionary by name is somewhere inside a type."""
    return get_origin(annotation) is dict or any(_has_names(inner) for inner in get_args(annotation))


def locate(schema: type[Section], location: Sequence[str | int]) -> Place:
    """The place in a case file that a pydantic location means."""
    keys: list[str] = []
    field: FieldInfo | None = None
    current: list[type[Section]] = [schema]
    siblings: tuple[str, ...] = ()
    forms, named = set[str](), False  # the names of a union's members, and whether the keys are names such as coordinates
    for item in location:
        if isinstance(item, int):
            keys[-1] += f"[{item}]"
        elif item in forms:
            forms = set()
        elif named:
            named, field = False, None
            keys.append(item)
        elif any(_tag(option) == item for option in current):
            current = [option for option in current if _tag(option) == item]
        else:
            siblings = tuple(dict.fromkeys(key for option in current for key in option.model_fields))
            owner = next((option for option in current if item in option.model_fields), None)
            field = owner.model_fields[item] if owner else None
            current = sections_in(field.annotation) if field else current
            forms, named = (_forms(field.annotation), bool(current) and _has_names(field.annotation)) if field else (set(), False)
            keys.append(item)
    return Place(tuple(keys), field, siblings)


def described(field: FieldInfo) -> str:
    """What a key of a section is, with the names that it may have now; empty where the schema does not say."""
    checks = [check.func for check in field.metadata if isinstance(check, AfterValidator)]
    names = next((check.names for check in checks if isinstance(check, Choice)), ())
    return (field.description or "").replace("{names}", ", ".join(names))


def _remedy(place: Place) -> str:
    if place.field is None or not place.field.description:
        return ""
    name = place.keys[-1].split("[")[0]
    example = f", for example {name} = {toml_value(place.field.examples[0])}" if place.field.examples else ""
    return f" ({described(place.field)}{example})"


# What people call things that have another name here.
_CALLED = {
    "boundary": "walls are a key of [domain]",
    "boundaries": "walls are a key of [domain]",
    "boundary_conditions": "walls are a key of [domain]",
    "walls": "walls are a key of [domain]",
    "mesh": "it is a part of [domain]",
    "grid": "it is a part of [domain], `lower`, `upper`, `cells`",
    "particles": "particles have the section [ensemble]",
    "solver": "it is a key of [density]",
    "noise": "the noise is `temperature` or `diffusion` of [model]",
    "sigma": "the noise is `temperature` or `diffusion`, with √(2τ) dB",
    "beta": "write temperature = 1/beta",
    "start": "the law at the start is the section [initial]",
    "initial_condition": "the law at the start is the section [initial]",
    "observables": "they are a key of [model]",
}


def _unknown(place: Place, _: ErrorDetails) -> str:
    *above, name = place.keys
    here, what = (f"[{'.'.join(above)}]", "key") if above else ("a case", "key or section")
    said = _CALLED.get(name)
    helps = f"; {said}" if said and (not above or name not in ("mesh", "walls")) else nearest(name, place.siblings)
    return f"there is no such {what}{helps} (known in {here}: {listed(place.siblings)})"


def _missing(place: Place, _: ErrorDetails) -> str:
    return f"is missing; add it{_remedy(place)}"


def _choice(place: Place, error: ErrorDetails) -> str:
    options = error.get("ctx", {}).get("options", [])
    return f"{toml_value(error['input'])} is not one of {listed(options)}{nearest(error['input'], options)}"


def _no_law(place: Place, error: ErrorDetails) -> str:
    tag, options = error.get("ctx", {})["law"], error.get("ctx", {})["options"]
    said = f"law = {toml_value(tag)} is" if tag else "`law` is missing or"
    return f"{said} not one of {listed(options)}{nearest(tag, options) if tag else ''}"


def _refused(_: Place, error: ErrorDetails) -> str:
    return str(error.get("ctx", {})["reason"])


def _raised(place: Place, error: ErrorDetails) -> str:
    return f"{error.get('ctx', {})['error']}{_remedy(place)}"


# What a value must be, in words of case files; {…} are the numbers of the error.
_WANTED = {
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "finite_number": "it must be a finite number",
    "int_type": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "string_type": "it must be a text in quotes",
    "list_type": "it must be a list in brackets",
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "literal_error": "it must be one of {expected}",
}


def _plain(place: Place, error: ErrorDetails) -> str:
    wanted = _WANTED.get(error["type"], error["msg"].replace("Input should", "it should")).format(**error.get("ctx", {}))
    return f"{toml_value(error['input'])} is not allowed, {wanted}{_remedy(place)}"


def _no_section(place: Place, _: ErrorDetails) -> str:
    example = f", for example {toml_value(place.field.examples[0])}" if place.field and place.field.examples else ""
    name = place.keys[-1]
    if any("[" in key for key in place.keys):  # an entry of a list has no heading of its own
        return f'must be a section with keys of its own, not a value; write {name} = {{ law = "normal", mean = 0.0, std = 1.0 }}'
    return f"must be a section with keys of its own, not a value; write [{'.'.join(place.keys)}] and its keys below it{example}"


def _too_short(place: Place, error: ErrorDetails) -> str:
    count, least = (error.get("ctx", {}).get(key, 0) for key in ("actual_length", "min_length"))
    said = f"the list has {count} of at least {least} entries" if count else "the list is empty"
    return f"{said}{_remedy(place)}"


def _too_long(place: Place, error: ErrorDetails) -> str:
    count, most = (error.get("ctx", {}).get(key, 0) for key in ("actual_length", "max_length"))
    return f"the list has {count} entries, and may have {most}{_remedy(place)}"


_EXPLANATIONS = {
    "model_type": _no_section,
    "dict_type": _no_section,
    "too_short": _too_short,
    "too_long": _too_long,
    "extra_forbidden": _unknown,
    "missing": _missing,
    "choice": _choice,
    "no_law": _no_law,
    "refused": _refused,
    "value_error": _raised,
}


def explain(schema: type[Section], error: ValidationError) -> str:
    """Everything that pydantic found, one line each."""
    lines = []
    for detail in error.errors():
        place = locate(schema, detail["loc"])
        lines.append(f"{place.label}: {_EXPLANATIONS.get(detail['type'], _plain)(place, detail)}")
    return "\n".join(dict.fromkeys(lines))


@contextmanager
def blaming(place: str) -> Iterator[None]:
    """Errors of models and data sets say what is wrong; here they learn which file and section said so."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise CaseError(f"{place}: {error}") from None


@contextmanager
def about(place: str) -> Iterator[None]:
    """Errors about an argument of a computation become errors about that part of the case; those of its solvers name theirs."""
    try:
        yield
    except ArgumentError as error:
        raise CaseError(f"{place} {error.text}") from None
    except SolverError as error:
        raise SolverError(f"[{error.sought}] {error}" if error.sought else str(error)) from None


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Errors about a case learn which file it came from."""
    try:
        yield
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None
