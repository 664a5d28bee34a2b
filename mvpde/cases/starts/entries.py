"""Which coordinates an entry of [initial] is about: one, several with commas between them, or all that match a pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mvpde.cases.messages import listed, nearest
from mvpde.cases.starts.joint import JointSection
from mvpde.cases.starts.laws import LawSection
from mvpde.models.laws import Law1D
from mvpde.runtime import CaseError

_SIGNS = "*?["


def words(entry: str) -> list[str]:
    """The names and patterns of an entry."""
    return entry.replace(",", " ").split()


def plain(entry: str) -> list[str]:
    """Its names that are no patterns."""
    return [word for word in words(entry) if not any(sign in word for sign in _SIGNS)]


def matched(entry: str, names: Sequence[str]) -> list[str]:
    """The names that it is about, those given by name in its own order."""
    found = [name for word in words(entry) for name in ([word] if word in names else [n for n in names if fnmatchcase(n, word)])]
    return list(dict.fromkeys(found))


def assigned(
    section: str, laws: Mapping[str, LawSection], coordinates: Sequence[str], others: Sequence[str] = ()
) -> list[tuple[str, list[str]]]:
    """(entry, its coordinates) in the order of the first of them; a name goes before a pattern.

    Raises:
        CaseError: an entry about nothing, or a coordinate of two entries.
    """
    named = {name for entry in laws for name in plain(entry)}
    found: list[tuple[str, list[str]]] = []
    for entry in laws:
        own = set(plain(entry))
        mine = [name for name in matched(entry, coordinates) if name in own or name not in named]
        _check_entry(section, entry, [*coordinates, *others])
        if mine:
            found.append((entry, mine))
    for coordinate in coordinates:
        twice = [entry for entry, names in found if coordinate in names]
        if len(twice) > 1:
            raise CaseError(f'[{section}] {coordinate}: has a law in the entries "{twice[0]}" and "{twice[1]}"; remove one')
    return sorted(found, key=lambda pair: min(coordinates.index(name) for name in pair[1]))


def _check_entry(section: str, entry: str, names: Sequence[str]) -> None:
    for word in words(entry) or [entry]:
        if not matched(word, names):
            near = nearest(word, names) or ";"
            raise CaseError(f"[{section}] {entry}: the model has no such coordinate{near} its coordinates are {listed(names)}")


def of_frozen(laws: Mapping[str, LawSection], names: Sequence[str]) -> dict[str, Law1D]:
    """The laws of what never moves, by name.

    Raises:
        CaseError: one is missing, or depends on others.
    """
    found = {}
    for name in names:
        entry = next((e for e in laws if name in plain(e)), None) or next((e for e in laws if matched(e, [name])), None)
        if entry is None:
            raise CaseError(f'[initial] {name}: is missing; add {name} = {{ law = "normal", mean = 0.0, std = 1.0 }}')
        if isinstance(laws[entry], JointSection) and words(entry) != [name]:
            raise CaseError(f"[initial] {entry}: `{name}` never moves, and needs a law of its own; give it one")
        found[name] = laws[entry].placed(name).factor()
    return found


def without(laws: Mapping[str, LawSection], names: Sequence[str]) -> dict[str, LawSection]:
    """The entries that are about more than these names."""
    return {entry: law for entry, law in laws.items() if not words(entry) or not set(words(entry)) <= set(names)}


def extent_of(laws: Mapping[str, LawSection], name: str, period: float | None = None) -> tuple[float, float] | None:
    """Ends of an interval that holds the law of a coordinate, None where no entry is about it."""
    entry = next((e for e in laws if name in plain(e)), None) or next((e for e in laws if matched(e, [name])), None)
    return None if entry is None else laws[entry].placed(name).extent(period)
