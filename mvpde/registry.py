"""Tables of names that a user may write: one object each, which schema, messages, `mvpde list`, docs and numerics all read.

An entry may be given as the place of its code, which is then imported at its first use, so that a name can be listed and checked
without loading the solver. What a script adds is seen wherever the table is read afterwards, case files included.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True)
class At:
    """Where an entry is defined, "package.module:attribute", and what it is, in a sentence; without one, its code is asked."""

    place: str
    sentence: str = ""

    def load(self) -> object:
        """What is defined there, imported if need be."""
        module, _, attribute = self.place.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry[Entry](MutableMapping[str, Entry]):
    """name → entry, in the order of addition: ``registry["name"] = entry`` adds or replaces one.

    Attributes:
        what: what an entry is, as messages call it, such as "unit".
    """

    def __init__(self, what: str, entries: Mapping[str, Entry | At]) -> None:
        """With the entries that the package brings."""
        self.what = what
        self._entries: dict[str, Entry | At] = dict(entries)
        self._loaded: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        """The entry, imported if need be.

        Raises:
            KeyError: there is none; `require` says it in words.
        """
        entry = self._entries[name]
        if not isinstance(entry, At):
            return entry
        if name not in self._loaded:
            self._loaded[name] = cast("Entry", entry.load())
        return self._loaded[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        """Add or replace an entry."""
        self._entries[name] = entry
        self._loaded.pop(name, None)

    def __delitem__(self, name: str) -> None:
        """Take an entry out."""
        del self._entries[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a name; nothing is imported."""
        return name in self._entries

    def require(self, name: str) -> Entry:
        """The entry.

        Raises:
            ValueError: there is none, with the nearest name or all of them.
        """
        if name not in self._entries:
            raise ValueError(f"there is no {self.what} '{name}'; {hint(name, self)}")
        return self[name]

    def sentence(self, name: str) -> str:
        """What the entry is: a text itself, its own ``sentence``, or the first line of its docstring."""
        kept = self._entries[name]
        entry = self[name] if isinstance(kept, At) and not kept.sentence else kept
        said = entry if isinstance(entry, str) else getattr(entry, "sentence", None) or getattr(entry, "__doc__", None) or ""
        return str(said).strip().splitlines()[0] if str(said).strip() else ""


class Selection[Entry](Collection[str]):
    """The names of those entries of a registry that fit a use, also of those that are added later."""

    def __init__(self, registry: Registry[Entry], fits: Callable[[Entry], bool]) -> None:
        """Those that ``fits`` says so of."""
        self.registry, self._fits = registry, fits

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the registry."""
        return (name for name in self.registry if self._fits(self.registry[name]))

    def __len__(self) -> int:
        """How many there are."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a name, and its entry fits."""
        return isinstance(name, str) and name in self.registry and self._fits(self.registry[name])

    def require(self, name: str) -> Entry:
        """The entry.

        Raises:
            ValueError: there is none, or it does not fit, with the nearest name that does or all of them.
        """
        if name not in self:
            what, there = self.registry.what, name in self.registry
            said = f"the {what} '{name}' lacks what is needed here" if there else f"there is no {what} '{name}'"
            raise ValueError(f"{said}; {hint(name, self)}")
        return self.registry[name]


def check_known(name: str, known: Iterable[str], what: str) -> None:
    """Refuse a name that ``what``, such as "the table of units", does not have.

    Raises:
        ValueError: with the nearest name or all of them.
    """
    names = list(known)
    if name not in names:
        raise ValueError(f"{what} has no '{name}'; {hint(name, names)}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like the given one, None where none is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def hint(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names as a question, or all of them."""
    names = list(known)
    near = nearest(name, names)
    return f"did you mean '{near}'?" if near else f"known: {', '.join(names) or 'none'}"
