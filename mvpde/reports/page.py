"""The building blocks of a report's page: HTML in which every text is escaped, tables, numbers, pictures as data.

A page is one file: its style is inline, its pictures are data, it has no script, and its content security policy forbids a
browser to fetch anything. It reads the same without a network.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup, escape

from mvpde import __version__

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
MINUS = "−"


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other; what is no `Markup`, HTML already, is escaped."""
    return escape(between).join(escape(part) for part in parts)


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """<name attributes>children</name>; `class_` is the attribute class, an attribute that is None is left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    head = joined([name, *(Markup('{}="{}"').format(key, value) for key, value in given.items())], " ")
    return Markup("<{}>{}</{}>").format(head, joined(children), name)


def image(source: str, alt: str) -> Markup:
    """<img> of a data URI."""
    return Markup('<img src="{}" alt="{}">').format(source, alt)


def picture(source: str, caption: str, *, broad: bool = False, single: bool = False) -> Markup:
    """A figure with its caption, over the whole width if `broad`, large but not as wide as that if `single`."""
    width = " ".join(["broad"] * broad + ["single"] * single)
    return tag("figure", image(source, caption), tag("figcaption", caption), class_=width or None)


def section(heading: str, *children: Markup) -> Markup:
    """A section; nothing where all its children are empty."""
    return tag("section", tag("h2", heading), *children) if any(children) else Markup()


def card(heading: str, values: Mapping[str, object]) -> Markup:
    """A small list of names and values under a heading."""
    pairs = [cell for key, value in values.items() for cell in (tag("dt", key), tag("dd", value))]
    return tag("div", tag("h3", heading), tag("dl", *pairs), class_="card")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> Markup:
    """A table; the first cell of a row is its heading, columns of numbers are set to the right."""
    lines = [list(row) for row in rows]
    right = ["number" if all(_numeric(line[k]) for line in lines) and lines else None for k in range(len(head))]
    columns = list(zip(head, right, strict=True))
    header = tag("thead", tag("tr", *(tag("th", breakable(cell), scope="col", class_=kind) for cell, kind in columns)))
    return tag(
        "div", tag("table", tag("caption", caption) if caption else "", header, tag("tbody", *map(_row, lines))), class_="wide"
    )


def _row(cells: Sequence[object]) -> Markup:
    others = (tag("td", shown(cell), class_="number" if _numeric(cell) else None) for cell in cells[1:])
    return tag("tr", tag("th", breakable(cells[0]), scope="row"), *others)


def _numeric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def breakable(value: object) -> Markup:
    """A name such as ensemble.loss_standard_error, which may be broken after a dot or a low line."""
    return value if isinstance(value, Markup) else Markup(re.sub(r"([._])(?=[a-z])", r"\1<wbr>", escape(shown(value))))


def shown(value: object, digits: int = 4) -> object:
    """A value as it is read: 0.0321, 1.2e−05, −1, true, [1, 2], law = normal; None is a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("-", MINUS)
    if isinstance(value, int):
        return str(value).replace("-", MINUS)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {shown(inner, digits)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(shown(inner, digits)) for inner in value)}]"
    return value


def data_uri(content: bytes, suffix: str) -> str:
    """A picture as the data: address of itself."""
    return f"data:{MEDIA_TYPES[suffix]};base64,{base64.b64encode(content).decode('ascii')}"


def aspect(content: bytes, suffix: str) -> float:
    """How many times as wide as high a picture is; 1 where it does not say."""
    if suffix == ".png":
        sides = [float(int.from_bytes(content[start : start + 4], "big")) for start in (16, 20)]
    else:
        box = re.search(rb'viewBox="[-0-9.]+ [-0-9.]+ ([0-9.]+) ([0-9.]+)"', content[:2000])
        sides = [float(side) for side in box.groups()] if box else []
    return sides[0] / sides[1] if len(sides) == 2 and sides[1] > 0 else 1.0


def page(title: str, *body: Markup, source: str) -> str:
    """The whole file.

    Args:
        title: of the window.
        body: what it shows.
        source: what it was made from, for the last line.
    """
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    made = f"Made by mvpde {__version__} on {datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC')} from {source}."
    head = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"{tag('title', title)}\n<style>\n{style}</style>\n</head>",
    ]
    return "\n".join([*head, tag("body", tag("main", *body), tag("footer", made)), "</html>\n"])
