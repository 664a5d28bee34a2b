"""What reports read, and what the page of a folder consists of."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mvpde.runtime import CaseError

type Table = Mapping[str, Any]  # of a JSON or TOML file


@dataclass(frozen=True)
class Content:
    """The page of one folder.

    Attributes:
        kind: "run" or "study".
        title: of the case or the study.
        state: how far it is, in words.
        complete: whether nothing is missing.
        verdicts: entries of verdict.json; of a run none.
        body: what the page shows.
    """

    kind: str
    title: str
    state: str
    complete: bool
    verdicts: list[Table]
    body: list[Markup]


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CaseError: if it cannot be read.
    """
    return _read(path, "JSON", json.loads)


def read_toml(path: Path) -> Table:
    """The content of a TOML file.

    Raises:
        CaseError: if it cannot be read.
    """
    return _read(path, "TOML", tomllib.loads)


def _read[Parsed](path: Path, language: str, parse: Callable[[str], Parsed]) -> Parsed:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: cannot be read as {language} ({error}); compute this folder again") from None
