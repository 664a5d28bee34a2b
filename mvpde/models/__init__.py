"""Mean-field models, numpy only: they know no mesh, no time step, no rank. `mvpde.cases.kinds` says how case files name them."""

from __future__ import annotations

from mvpde.models.data import TARGETS, Data
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import LAWS, Normal, ProductLaw, Uniform
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.models.units import UNITS

__all__ = [
    "LAWS",
    "LOSSES",
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
