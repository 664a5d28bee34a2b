"""Laws of the parameters at the start, and base measures.

A new law of one coordinate is a file of this folder: one frozen dataclass with the methods of `Law1D`, whose parameters say by a
`Key` what they are in a case file, and one entry of `LAWS` below it. All files of the folder are imported here.
"""

from importlib import import_module
from pkgutil import iter_modules

from mvpde.models.laws.basic import Chi as Chi
from mvpde.models.laws.basic import Normal as Normal
from mvpde.models.laws.basic import Uniform as Uniform
from mvpde.models.laws.correlated import CorrelatedNormal as CorrelatedNormal
from mvpde.models.laws.expression import ExpressionLaw as ExpressionLaw
from mvpde.models.laws.law import LAWS as LAWS
from mvpde.models.laws.law import Array as Array
from mvpde.models.laws.law import Key as Key
from mvpde.models.laws.law import Law as Law
from mvpde.models.laws.law import Law1D as Law1D
from mvpde.models.laws.law import Sampler as Sampler
from mvpde.models.laws.law import check_law as check_law
from mvpde.models.laws.law import keys_of as keys_of
from mvpde.models.laws.law import mass_between as mass_between
from mvpde.models.laws.mixture import Mixture as Mixture
from mvpde.models.laws.periodic import Wrapped as Wrapped
from mvpde.models.laws.periodic import in_period as in_period
from mvpde.models.laws.points import Cloud as Cloud
from mvpde.models.laws.points import Dirac as Dirac
from mvpde.models.laws.points import Empirical as Empirical
from mvpde.models.laws.product import Grouped as Grouped
from mvpde.models.laws.product import Product as Product
from mvpde.models.laws.product import base_potential as base_potential
from mvpde.models.laws.product import marginals as marginals
from mvpde.models.laws.product import on_circles as on_circles
from mvpde.models.laws.product import restricted as restricted

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
