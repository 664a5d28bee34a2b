"""Mean-field models, numpy only: they know no mesh, no time step, no rank. `MODELS` maps the kinds of case files to builders."""

from __future__ import annotations

from collections.abc import Callable

from mvpde.models.data import TARGETS, Data
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import LAWS, Normal, ProductLaw, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.models.outer import OUTER
from mvpde.models.units import UNITS

MODELS: dict[str, Callable[..., MeanField]] = {"network": network, "gaussian_mixture": gaussian_mixture}

__all__ = [
    "LAWS",
    "MODELS",
    "OUTER",
    "TARGETS",
    "UNITS",
    "Data",
    "MeanField",
    "Normal",
    "ProductLaw",
    "Uniform",
    "gaussian_mixture",
    "network",
]
