"""mvpde: finite elements for the McKean–Vlasov limits of neural-network training, with the particles beside them.

    case = mvpde.load("cases/circle_rbf.toml", {"domain.cells": [64, 64]})
    result = mvpde.run(case, out="results/small")
    result.dataset.density.isel(time=-1)
    mvpde.study("studies/lln.toml", jobs=2)["comparison.ensemble_vs_density.prediction_error"]

`load`, `run`, `open` and `study` are imported at their first use, so that the command line answers quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvpde.cases.file import load
    from mvpde.runs.reading import open_run as open
    from mvpde.runs.run import run
    from mvpde.studies.runner import study

__version__ = "0.1.0"
__all__ = ["__version__", "load", "open", "run", "study"]

_HOMES = {
    "load": ("mvpde.cases.file", "load"),
    "run": ("mvpde.runs.run", "run"),
    "open": ("mvpde.runs.reading", "open_run"),
    "study": ("mvpde.studies.runner", "study"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mvpde' has no attribute '{name}'")
    module, function = _HOMES[name]
    return getattr(importlib.import_module(module), function)
