"""The limit laws, one module each, loaded when a study names it: what is computed at a point, and how the law is judged.

A new law is a module here and its lines in these tables. Often a task is enough: "slope" fits any number of a summary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvpde.registry import At, Registry

if TYPE_CHECKING:
    from mvpde.cases.schema import Section
    from mvpde.studies.measurement import Measurement, MeasurementOptions
    from mvpde.studies.task import Task

LIMITS, SGD, DEEP = (f"mvpde.studies.laws.{folder}." for folder in ("limits", "sgd", "deep"))

TASKS: Registry[Task[Section]] = Registry(
    "task",
    {
        "run": At("mvpde.studies.task:RUN", "an ordinary run of the case"),
        "chaos": At(f"{LIMITS}chaos:CHAOS", "particles beside copies that the limit law drives"),
        "clt": At(f"{LIMITS}clt:CLT", "fluctuations of the predictions beside the predicted ones"),
        "empirical_law": At(f"{LIMITS}empirical_law:EMPIRICAL_LAW", "distance of the particles' law to the density"),
        "finite_temperature": At(f"{LIMITS}finite_temperature:FINITE_TEMPERATURE", "long Langevin runs beside their exact law"),
        "one_radius": At(f"{LIMITS}one_radius:ONE_RADIUS", "whether a law of radii contracts to one"),
        "self_healing": At(f"{LIMITS}self_healing:SELF_HEALING", "how fluctuations fall along a training"),
        "sgd_path": At(f"{SGD}sgd_path:SGD_PATH", "density and particles driven by the same minibatches"),
        "sgd_alpha": At(f"{SGD}sgd_alpha:SGD_ALPHA", "what SGD adds with batches that grow with n"),
        "spin_error": At(f"{LIMITS}spin_error:SPIN_ERROR", "networks trained on the 3-spin energy"),
        "weak_error": At(f"{SGD}weak_error:WEAK_ERROR", "diffusions of SGD against the exact chain"),
        "noise_scale": At(f"{SGD}noise_scale:NOISE_SCALE", "stationary laws of SGD at equal noise scale"),
        "batch_schedule": At(f"{SGD}batch_schedule:BATCH_SCHEDULE", "larger batches against smaller learning rates"),
        "phase_diagram": At(f"{DEEP}phase_diagram:PHASE_DIAGRAM", "fields over the variances of a random network's weights"),
        "trainable_depth": At(f"{DEEP}trainable_depth:TRAINABLE_DEPTH", "deep classifiers trained from random weights"),
        "generalisation": At(f"{SGD}generalisation:GENERALISATION", "train and test loss against the noise scale of SGD"),
        "bifurcation": At(f"{LIMITS}bifurcation:BIFURCATION", "a symmetric state that loses its stability"),
        "representation": At(f"{LIMITS}representation:REPRESENTATION", "where training ends, and what units can represent"),
        "residual_depth": At(f"{DEEP}residual_depth:RESIDUAL_DEPTH", "residual networks beside the flow of the same features"),
        "deep_width": At(f"{DEEP}width:WIDTH", "deep networks of width N minus their limit"),
        "deep_coupling": At(f"{DEEP}coupling:COUPLING", "deep networks beside copies that their limit drives"),
        "deep_dependence": At(f"{DEEP}dependence:DEPENDENCE", "what depends on what in deep networks"),
        "deep_step": At(f"{DEEP}step:STEP", "what steps of descent and SGD add to a deep network's flow"),
    },
)

MEASUREMENTS: Registry[Measurement[MeasurementOptions]] = Registry(
    "measurement",
    {
        "slope": At("mvpde.studies.slope:SLOPE", "the log-log slope of a quantity against a varied key"),
        "chaos_growth": At(f"{LIMITS}chaos:GROWTH", "growth in time of the distance to the copies"),
        "clt": At(f"{LIMITS}clt:FLUCTUATIONS", "predicted beside measured fluctuations"),
        "finite_temperature": At(f"{LIMITS}finite_temperature:LANGEVIN", "predicted beside measured mean and variance"),
        "agreement": At(f"{LIMITS}agreement:AGREEMENT", "two numbers that are the same"),
        "self_healing": At(f"{LIMITS}self_healing:HEALING", "slopes at each time, and along times that grow with n"),
        "sgd_path": At(f"{SGD}sgd_path:PATH", "a slope for each sequence of minibatches"),
        "sgd_alpha": At(f"{SGD}sgd_alpha:ALPHA", "a slope for each growth of the batches"),
        "quench": At(f"{SGD}sgd_alpha:QUENCH", "what late, large batches gain"),
        "spin_error": At(f"{LIMITS}spin_error:SPIN_LAWS", "slopes of error and fluctuation"),
        "spin_circles": At(f"{LIMITS}spin_circles:SPIN_CIRCLES", "networks beside the 3-spin energy on a great circle"),
        "weak_order": At(f"{SGD}weak_error:WEAK_ORDER", "orders of the diffusions in the learning rate"),
        "boltzmann": At(f"{SGD}boltzmann:BOLTZMANN", "distance to every Boltzmann law"),
        "representation": At(f"{LIMITS}representation:ENDS", "losses that end at f*, or at its distance to the span"),
        "deep_growth": At(f"{DEEP}coupling:GROWTH", "growth of the distance to the copies in time and in depth"),
        "deep_dependence": At(f"{DEEP}dependence:STAYS", "covariances that stay, and conditional means"),
        "towards_limit": At(f"{DEEP}towards:TOWARDS", "differences to a limit, extrapolated to infinite width"),
        "trainable_depth": At(f"{DEEP}trainable_depth:DEPTH_LAW", "the depth that can be trained against the depth of signals"),
        "generalisation": At(f"{SGD}generalisation:GENERALISATION_LAW", "test losses of equal noise scale, and their optimum"),
        "pitchfork": At(f"{LIMITS}bifurcation:PITCHFORK", "critical value, and fluctuations there"),
    },
)
