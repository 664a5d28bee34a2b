"""All that a study file can ask for: `TASKS`, what is computed at a point, and `MEASURES`, what is fitted to the points.

A new law is a module in `mvpde/limits/` and its entries here. Often a task is enough: "slope" fits any number of a summary.
"""

from __future__ import annotations

from mvpde.studies.laws.agreement import AGREEMENT
from mvpde.studies.laws.batch_schedule import BATCH_SCHEDULE
from mvpde.studies.laws.bifurcation import BIFURCATION
from mvpde.studies.laws.bifurcation_laws import PITCHFORK
from mvpde.studies.laws.boltzmann import BOLTZMANN
from mvpde.studies.laws.chaos import CHAOS
from mvpde.studies.laws.chaos_growth import GROWTH
from mvpde.studies.laws.clt import CLT
from mvpde.studies.laws.clt_laws import CLT_MEASURE
from mvpde.studies.laws.empirical_law import EMPIRICAL_LAW
from mvpde.studies.laws.finite_temperature import FINITE_TEMPERATURE
from mvpde.studies.laws.finite_temperature_laws import FINITE_TEMPERATURE_MEASURE
from mvpde.studies.laws.noise_scale import NOISE_SCALE
from mvpde.studies.laws.one_radius import ONE_RADIUS
from mvpde.studies.laws.self_healing import SELF_HEALING
from mvpde.studies.laws.self_healing_laws import HEALING
from mvpde.studies.laws.sgd_alpha import SGD_ALPHA
from mvpde.studies.laws.sgd_alpha_laws import ALPHA, QUENCH
from mvpde.studies.laws.sgd_path import PATH, SGD_PATH
from mvpde.studies.laws.spin_error import SPIN_ERROR
from mvpde.studies.laws.spin_laws import SPIN_LAWS
from mvpde.studies.laws.weak_error import WEAK_ERROR
from mvpde.studies.laws.weak_order import WEAK_ORDER
from mvpde.studies.slope import SLOPE, Measure
from mvpde.studies.task import RUN, Task

TASKS: dict[str, Task] = {
    "run": RUN,
    "chaos": CHAOS,
    "clt": CLT,
    "empirical_law": EMPIRICAL_LAW,
    "finite_temperature": FINITE_TEMPERATURE,
    "one_radius": ONE_RADIUS,
    "self_healing": SELF_HEALING,
    "sgd_path": SGD_PATH,
    "sgd_alpha": SGD_ALPHA,
    "spin_error": SPIN_ERROR,
    "weak_error": WEAK_ERROR,
    "noise_scale": NOISE_SCALE,
    "batch_schedule": BATCH_SCHEDULE,
    "bifurcation": BIFURCATION,
}

MEASURES: dict[str, Measure] = {
    "slope": SLOPE,
    "chaos_growth": GROWTH,
    "clt": CLT_MEASURE,
    "finite_temperature": FINITE_TEMPERATURE_MEASURE,
    "agreement": AGREEMENT,
    "self_healing": HEALING,
    "sgd_path": PATH,
    "sgd_alpha": ALPHA,
    "quench": QUENCH,
    "spin_error": SPIN_LAWS,
    "weak_order": WEAK_ORDER,
    "boltzmann": BOLTZMANN,
    "pitchfork": PITCHFORK,
}
