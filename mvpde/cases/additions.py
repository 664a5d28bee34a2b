"""Modules whose additions to the registries every process of a computation is to know, the points of a study among them.

The environment names them, never a case file: what they hold is run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from mvpde.runtime import CaseError

VARIABLE = "MVPDE_ADDITIONS"  # modules and .py files, with commas between them; processes inherit it


def import_additions() -> None:
    """Import what MVPDE_ADDITIONS names, each at most once in a process: called before a name is looked up.

    Raises:
        CaseError: if one cannot be imported.
    """
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        try:
            _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except Exception as error:  # whatever the user's module raises
            raise CaseError(f"{VARIABLE}: {name} cannot be imported ({type(error).__name__}: {error})") from error


def _import_file(path: Path) -> None:
    """The module is kept under its path, not its name, which another may have; annotations are looked up in it later."""
    key = str(path.resolve())
    spec = importlib.util.spec_from_file_location(key, key)
    if key in sys.modules or spec is None or spec.loader is None:
        return
    sys.modules[key] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[key]
        raise
