"""Writing TOML (the standard library only reads it)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_WRITERS: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: str,
    float: repr,
    str: lambda value: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f"),
    list: lambda value: "[" + ", ".join(map(toml_value, value)) + "]",
    tuple: lambda value: toml_value(list(value)),
    dict: lambda value: "{ " + ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }" if value else "{}",
}


def toml_value(value: Any) -> str:
    """A value as TOML writes it on one line; floats to their last digit."""
    return _WRITERS.get(type(value), str)(value)


def toml_text(table: Mapping[str, Any]) -> str:
    """A table as a TOML document: top-level values first, then a section for each table in it, deeper tables inline."""
    values = [f"{_key(key)} = {toml_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    parts = ["\n".join(values)] if values else []
    for name, section in table.items():
        if isinstance(section, dict):
            parts.append(
                "\n".join([f"[{_key(name)}]", *(f"{_key(key)} = {toml_value(value)}" for key, value in section.items())])
            )
    return "\n\n".join(parts) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
