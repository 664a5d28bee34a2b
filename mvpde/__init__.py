"""mvpde: finite elements for the McKean–Vlasov limits of neural-network training, with the particles beside them.

    model = mvpde.network("tanh", mvpde.data.interval(-1, 1, 16, "sin(pi*x)"), bias=False)
    law = mvpde.Product((mvpde.Normal(0.5, 0.7), mvpde.Normal(0.0, 0.7)))
    density = mvpde.Density(model, mvpde.box([-4, -4], [5, 4], [64, 64]), law)
    density.advance(1.0)
    result = mvpde.run("cases/circle_rbf.toml", set={"domain.cells": [64, 64]}, out="results/small")

Every name is imported at its first use, so that the command line answers quickly; docs/api.md describes them all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvpde.cases.file import load as load
    from mvpde.cases.kinds import KINDS as KINDS
    from mvpde.cases.kinds import Kind as Kind
    from mvpde.density.density import Density as Density
    from mvpde.density.schemes import SCHEMES as SCHEMES
    from mvpde.equilibrium.branches import branches as branches
    from mvpde.equilibrium.optimality.certificate import certificate as certificate
    from mvpde.equilibrium.optimality.representation import representation as representation
    from mvpde.equilibrium.spectrum import spectrum as spectrum
    from mvpde.equilibrium.stationary import stationary as stationary
    from mvpde.measure import carry as carry
    from mvpde.mesh.box import box as box
    from mvpde.mesh.gmsh import gmsh as gmsh
    from mvpde.models import data as data
    from mvpde.models.deep.fixed_points import critical_line as critical_line
    from mvpde.models.deep.fixed_points import fixed_point as fixed_point
    from mvpde.models.fokker_planck import fokker_planck as fokker_planck
    from mvpde.models.interaction import diffusion as diffusion
    from mvpde.models.interaction import gradient_flow as gradient_flow
    from mvpde.models.laws import LAWS as LAWS
    from mvpde.models.laws import Chi as Chi
    from mvpde.models.laws import Normal as Normal
    from mvpde.models.laws import Product as Product
    from mvpde.models.laws import Uniform as Uniform
    from mvpde.models.losses import LOSSES as LOSSES
    from mvpde.models.mean_field import MeanField as MeanField
    from mvpde.models.mean_field import from_features as from_features
    from mvpde.models.network import network as network
    from mvpde.models.pair_interaction import pair_interaction as pair_interaction
    from mvpde.models.sgd_network import sgd as sgd
    from mvpde.models.units import UNITS as UNITS
    from mvpde.particles.characteristics import Characteristics as Characteristics
    from mvpde.particles.ensemble import Ensemble as Ensemble
    from mvpde.particles.fluctuations import fluctuations as fluctuations
    from mvpde.particles.sgd_runs import SgdRuns as SgdRuns
    from mvpde.reports.write import report as report
    from mvpde.runs.compare import compare as compare
    from mvpde.runs.pictures import picture as picture
    from mvpde.runs.reading import open_run as open  # noqa: F401
    from mvpde.runs.run import run as run
    from mvpde.studies.runner import study as study

__version__ = "0.1.0"

# What a page about the interface shows, in this order: heading → name → where it is defined.
GROUPS = {
    "Cases, runs, studies, reports": {
        "load": "cases.file",
        "run": "runs.run",
        "open": "runs.reading:open_run",
        "study": "studies.runner",
        "report": "reports.write",
    },
    "Models": {
        "network": "models.network",
        "gradient_flow": "models.interaction",
        "pair_interaction": "models.pair_interaction",
        "diffusion": "models.interaction",
        "fokker_planck": "models.fokker_planck",
        "sgd": "models.sgd_network",
        "from_features": "models.mean_field",
        "MeanField": "models.mean_field",
    },
    "Data and laws": {
        "data": "models.data:",
        "Uniform": "models.laws",
        "Normal": "models.laws",
        "Chi": "models.laws",
        "Product": "models.laws",
    },
    "Meshes": {"box": "mesh.box", "gmsh": "mesh.gmsh"},
    "Measures": {
        "Density": "density.density",
        "Ensemble": "particles.ensemble",
        "Characteristics": "particles.characteristics",
        "SgdRuns": "particles.sgd_runs",
        "carry": "measure",
        "compare": "runs.compare",
        "picture": "runs.pictures",
    },
    "Equilibrium and fluctuations": {
        "stationary": "equilibrium.stationary",
        "branches": "equilibrium.branches",
        "spectrum": "equilibrium.spectrum",
        "certificate": "equilibrium.optimality.certificate",
        "representation": "equilibrium.optimality.representation",
        "fluctuations": "particles.fluctuations",
    },
    "Random networks": {"fixed_point": "models.deep.fixed_points", "critical_line": "models.deep.fixed_points"},
    "Tables that take additions": {
        "UNITS": "models.units",
        "LOSSES": "models.losses",
        "LAWS": "models.laws",
        "KINDS": "cases.kinds",
        "Kind": "cases.kinds",
        "SCHEMES": "density.schemes",
    },
}
_HOMES = {name: place for names in GROUPS.values() for name, place in names.items()}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """The thing of this name, imported at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mvpde' has no attribute '{name}'")
    module, colon, attribute = _HOMES[name].partition(":")
    home = importlib.import_module(f"mvpde.{module}")
    thing: object = home if colon and not attribute else getattr(home, attribute or name)
    globals()[name] = thing
    return thing


def __dir__() -> list[str]:
    """Every public name."""
    return sorted(__all__)
