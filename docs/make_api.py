"""docs/api.md from the docstrings of everything in `mvpde.__all__`: `python docs/make_api.py` (`make api`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mvpde
from mvpde.registry import Registry

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Python API

One import, `import mvpde`, gives every name on this page; each is loaded at its first use. The page is made from the docstrings
(`make api`). Everything that takes a mesh or particles runs alone and under `mpirun`: `comm`, always the last keyword, is
`MPI.COMM_WORLD` unless given, and what is marked *Collective* must be called by all of its ranks. A first script is in
[first_script.md](first_script.md).
"""
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
    text = re.sub(r"mappingproxy\((.*?)\)", r"\1", text)
    text = re.sub(r"<mpi4py[^>]*>", "MPI.COMM_WORLD", text)
    return name + re.sub(r"<(?:function|class|factory) ?'?([\w.]*)'?[^>]*>", r"\1", text)


def methods(thing: type) -> list[str]:
    """A line for each public method and property that has a docstring of its own."""
    own = {name: member for base in reversed(thing.__mro__[:-1]) for name, member in vars(base).items()}
    found = []
    for name, member in own.items():
        text = inspect.getdoc(member)
        callable_ = inspect.isfunction(member) or isinstance(member, classmethod)
        if name.startswith("_") or not text or not (callable_ or isinstance(member, property)):
            continue
        shown = signature(name, member) if callable_ else name
        found.append(f"- `{shown}`: {text.splitlines()[0]}")
    return found


def entry(name: str, thing: Any) -> str:
    """What the page says of one name."""
    if isinstance(thing, Registry):
        rows = [f"- `{key}`: {thing.sentence(key)}" for key in thing]
        return "\n".join(
            [f"### `mvpde.{name}`", "", f'The table of {thing.what}s; `mvpde.{name}["name"] = …` adds one.', "", *rows]
        )
    if isinstance(thing, ModuleType):
        public = [
            key
            for key, member in vars(thing).items()
            if not key.startswith("_") and inspect.isfunction(member) and member.__module__ == thing.__name__
        ]
        parts = [
            f"#### `mvpde.{name}.{signature(key, getattr(thing, key))}`\n\n{markdown(getattr(thing, key).__doc__)}"
            for key in public
        ]
        return "\n\n".join([f"### `mvpde.{name}`", markdown(thing.__doc__ or ""), *parts])
    text = markdown(thing.__doc__ or "")
    parts = [f"### `mvpde.{signature(name, thing)}`", text]
    if inspect.isclass(thing):
        start = vars(thing).get("__init__")
        if inspect.isfunction(start) and start.__doc__ and not hasattr(thing, "__dataclass_fields__"):
            parts.append(markdown(start.__doc__))
        parts += ["\n".join(methods(thing))] if methods(thing) else []
    return "\n\n".join(parts)


def page(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The whole page."""
    sections = [
        f"## {title}\n\n" + "\n\n".join(entry(name, getattr(mvpde, name)) for name in names) for title, names in groups.items()
    ]
    return "\n\n".join([HEAD.strip(), *sections]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(mvpde.GROUPS), encoding="utf-8")
