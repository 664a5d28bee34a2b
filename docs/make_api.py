"""docs/api.md from the docstrings of everything in `mvpde.__all__`: `python docs/make_api.py` (`make api`); with `-`, printed."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mvpde
from mvpde.registry import At, Registry

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Python API

One import, `import mvpde`, gives every name on this page; each is loaded at its first use. The page is made from the docstrings
(`make api`). Everything that takes a mesh or particles runs alone and under `mpirun`: `comm`, always the last keyword, is
`MPI.COMM_WORLD` unless given, and what is marked *Collective* must be called by all of its ranks. A first script is in
[first_script.md](first_script.md).
"""
# What functions give back, which nobody makes: in the page, not in `mvpde.__all__`.
COMES_BACK = {
    "Case": "mvpde.cases.file",
    "Result": "mvpde.runs.run",
    "Data": "mvpde.models.data",
    "SgdNetwork": "mvpde.models.sgd_network",
    "Domain": "mvpde.mesh.domain",
    "Measure": "mvpde.measure",
    "Stationary": "mvpde.equilibrium.stationary",
    "Branch": "mvpde.equilibrium.branches",
    "Spectrum": "mvpde.equilibrium.spectrum",
    "Certificate": "mvpde.equilibrium.optimality.certificate",
    "Representation": "mvpde.equilibrium.optimality.representation",
    "Fluctuations": "mvpde.particles.fluctuations",
    "FixedPoint": "mvpde.models.deep.fixed_points",
}
PLURALS = {"loss": "losses", "law of one coordinate": "laws of one coordinate", "kind of model": "kinds of model"}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
ENTRY = re.compile(r"^(?=\S)([^:]{1,60}?): (.*)$")


def markdown(text: str) -> str:
    """A docstring as Markdown: formulas that stand alone as blocks, lists of arguments as lists."""
    lines, inside = list[str](), False
    for line in inspect.cleandoc(text).splitlines():
        if match := SECTION.match(line):
            lines += ["", f"*{match[1]}:*", ""]
            inside = True
        elif inside and line.startswith("    "):
            entry = ENTRY.match(line[4:])
            lines.append(f"- `{entry[1]}`: {entry[2]}" if entry else f"  {line.strip()}")
        else:
            inside = inside and not line.strip()
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def signature(name: str, thing: Any) -> str:
    """`name(arguments)`, types left to the docstring."""
    try:
        plain = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in plain.parameters.values() if p.name != "self"]
    text = str(plain.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    for key, made in _factories(thing).items():
        text = text.replace(f"{key}=<factory>", f"{key}={made}")
    text = re.sub(r"mappingproxy\((.*?)\)", r"\1", text)
    text = re.sub(r"<mpi4py[^>]*>", "MPI.COMM_WORLD", text)
    return name + re.sub(r"<(?:function|class|factory) ?'?([\w.]*)'?[^>]*>", r"\1", text)


def _factories(thing: Any) -> dict[str, str]:
    """Fields of a dataclass whose default is made anew: `observables={}`."""
    known = dataclasses.fields(thing) if inspect.isclass(thing) and dataclasses.is_dataclass(thing) else ()
    return {key.name: repr(key.default_factory()) for key in known if key.default_factory is not dataclasses.MISSING}


def with_answer(text: str, thing: Any) -> str:
    """A function's text with the type of its answer, before what it raises, where its docstring has no section for it."""
    answer = getattr(thing, "__annotations__", {}).get("return")
    if not inspect.isfunction(thing) or answer in (None, "None") or "*Returns:*" in text:
        return text
    before, raises, after = text.partition("*Raises:*")
    return "\n\n".join(part for part in (before.strip(), f"*Returns:* `{answer}`", raises + after) if part)


def methods(thing: type) -> list[str]:
    """A line for each public method and property that has a docstring of its own."""
    own = {name: member for base in reversed(thing.__mro__[:-1]) for name, member in vars(base).items()}
    defaults = getattr(thing, "__dataclass_fields__", {})
    found = []
    for name, member in own.items():
        text = inspect.getdoc(member)
        callable_ = inspect.isfunction(member) or isinstance(member, classmethod)
        if name.startswith("_") or name in defaults or not text or not (callable_ or isinstance(member, property)):
            continue
        shown = signature(name, member) if callable_ else name
        found.append(f"- `{shown}`: {text.splitlines()[0]}")
    return found


def entry(name: str, thing: Any, heading: str = "### `mvpde.") -> str:
    """What the page says of one name."""
    if isinstance(thing, Registry):
        several = PLURALS.get(thing.what, f"{thing.what}s")
        rows = [f"- `{key}`: {thing.sentence(key)}" for key in thing]
        said = f'The table of {several}; `mvpde.{name}["name"] = …` adds one.'
        return "\n".join([f"### `mvpde.{name}`", "", said, "", *rows])
    if isinstance(thing, ModuleType):
        public = [
            key
            for key, member in vars(thing).items()
            if not key.startswith("_") and inspect.isfunction(member) and member.__module__ == thing.__name__
        ]
        parts = [entry(key, getattr(thing, key), f"#### `mvpde.{name}.") for key in public]
        return "\n\n".join([f"### `mvpde.{name}`", markdown(thing.__doc__ or ""), *parts])
    text = markdown(thing.__doc__ or "")
    parts = [f"{heading}{signature(name, thing)}`", with_answer(text, thing)]
    if inspect.isclass(thing):
        start = vars(thing).get("__init__")
        if inspect.isfunction(start) and start.__doc__ and not hasattr(thing, "__dataclass_fields__"):
            parts.append(markdown(start.__doc__))
        parts += ["\n".join(methods(thing))] if methods(thing) else []
    return "\n\n".join(parts)


def answers() -> str:
    """The classes of `COMES_BACK`, without what it takes to make them."""
    found = {f"{module}.{name}": At(f"{module}:{name}").load() for name, module in COMES_BACK.items()}
    return "\n\n".join(
        "\n\n".join(part for part in (f"### `{place}`", markdown(thing.__doc__ or ""), "\n".join(methods(thing))) if part)
        for place, thing in found.items()
        if isinstance(thing, type)
    )


def page(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The whole page."""
    sections = [
        f"## {title}\n\n" + "\n\n".join(entry(name, getattr(mvpde, name)) for name in names) for title, names in groups.items()
    ]
    return "\n\n".join([HEAD.strip(), *sections, "## What comes back", answers()]) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(page(mvpde.GROUPS))
    else:
        PAGE.write_text(page(mvpde.GROUPS), encoding="utf-8")
