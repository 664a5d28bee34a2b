"""How long a run will take and how much memory, from its sizes.

    density          steps · (fixed + nodes · per node), + COMPANIONS of it where these are asked for
    particles        particles · runs · steps · evaluations in a step · time of one evaluation of the drift, measured here
    characteristics  nodes · EVALUATIONS · the same
    SGD              runs · steps · PER_RUN_STEP

Explicit steps follow from the drift at the start, end · max Σ_a |b_a|/h_a / cfl, as if it stayed; implicit ones are chosen by
their error, and count as STEPS · (10⁻⁵/tolerance)^{1/3}, or end/step. The constants are those of one core of a machine of 2024.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection

import numpy as np

from mvpde.cases.kinds import KINDS
from mvpde.cases.problem import Problem
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.schemes import PARTICLE_SCHEMES

START = 6.0  # seconds that loading takes
STEPS = 80  # implicit steps at the usual tolerance
EXPLICIT, IMPLICIT = (3e-4, 5e-7), (1.2e-3, 1.2e-6)  # seconds of a step: fixed, per node
SOLID = 6.0  # times more of an implicit step in three dimensions
COMPANIONS, LONG_TIME = 0.5, 0.6  # shares of the density's own time, of companions and of stationary laws and modes
EVALUATIONS = 250  # of the drift, along characteristics
PER_RUN_STEP = 3e-7
PER_WEIGHT = 6e-9  # of a network of one pass, for each of its weights
BASE = 350.0  # MB that a process takes with nothing in it
PER_NODE = {1: 1e-3, 2: 1e-3, 3: 3e-3}  # MB
_SAMPLE, _REPEATS = 1024, 3


def costs(problem: Problem, names: Collection[str], nodes: int) -> dict[str, str]:
    """Time and memory of a run, a line each, as `mvpde check` says them.

    Args:
        problem: the case.
        names: the measures that are computed.
        nodes: of the density's mesh, all labels together; 0 where they are not known.
    """
    parts = {name: seconds for name in names if (seconds := _seconds(problem, name, nodes)) is not None}
    memory = BASE + nodes * (PER_NODE[min(3, len(problem.model.directions))] + 8e-6 * min(problem.model.features, 150))
    s = problem.sections
    if s.ensemble is not None and "ensemble" in names:
        memory += s.ensemble.particles * s.ensemble.runs * problem.model.dimension * 6 * 8e-6
    detail = ", ".join(f"{name} {_said(seconds)}" for name, seconds in parts.items())
    total = START + sum(parts.values())
    unknown = [name for name in names if name not in parts]
    others = f", without {', '.join(unknown)}" if unknown else ""
    return {"time": f"about {_said(total)} on one core ({detail}{others})", "memory": f"about {memory:.0f} MB"}


def _said(seconds: float) -> str:
    for least, unit in ((7200.0, 3600.0), (120.0, 60.0)):
        if seconds >= least:
            return f"{seconds / unit:.1f} {'h' if unit == 3600.0 else 'min'}"
    return f"{seconds:.2g} s"


def _seconds(problem: Problem, name: str, nodes: int) -> float | None:
    s, network = problem.sections, KINDS[problem.sections.model.kind].network
    if name == "density" and s.density is not None and nodes:
        return _of_density(problem, nodes)
    if name == "characteristics" and s.characteristics is not None:
        return math.prod(s.characteristics.nodes) * EVALUATIONS * _evaluation(problem)
    if name == "ensemble" and s.ensemble is not None:
        longest = 0.05 if isinstance(s.ensemble.step, str) else s.ensemble.step
        updates = s.ensemble.particles * s.ensemble.runs * math.ceil(s.time.end / longest)
        if network is not None:
            return updates * PER_WEIGHT * min(getattr(s.model, "dimension", 1.0), _SAMPLE)
        return updates * (1 + PARTICLE_SCHEMES[s.ensemble.scheme].order) * _evaluation(problem)
    if name == "sgd" and s.sgd is not None:
        rate = getattr(s.model, "learning_rate", None)
        longest = rate if isinstance(rate, float) and s.sgd.dynamics == "sgd" else s.sgd.step or 0.05
        return s.sgd.runs * math.ceil(s.time.end / longest) * PER_RUN_STEP
    return None


def _of_density(problem: Problem, nodes: int) -> float:
    s, model = problem.sections, problem.model
    assert s.density is not None
    explicit = model.deterministic or s.density.scheme == "flux_corrected"
    fixed, per_node = EXPLICIT if explicit else IMPLICIT
    step = getattr(s.density, "step", None)
    if step is not None:
        steps = s.time.end / step
    elif explicit:
        steps = _explicit_steps(problem)
    else:
        steps = STEPS * (1e-5 / getattr(s.density, "tolerance", 1e-5)) ** (1.0 / 3.0)
    solid = SOLID if len(model.directions) == 3 and not explicit else 1.0
    own = max(steps, len(s.time.outputs)) * (fixed + nodes * per_node * solid * (1.0 + 0.01 * min(model.features, 150)))
    more = COMPANIONS * (s.density.companions != 0) + LONG_TIME * ((s.stationary is not None) + (s.spectrum is not None))
    return own * (1.0 + more)


def _explicit_steps(problem: Problem) -> float:
    """As many as the drift at the start would need, if it stayed."""
    domain, model, density = problem.sections.domain, problem.model, problem.sections.density
    own = "density" in KINDS[problem.sections.model.kind].measures  # which has layers or a path as labels
    if own or domain is None or domain.box is None or domain.cells is None or density is None:
        return 2.0 * STEPS
    b = _drift_at_start(model, problem)
    widths = np.subtract(*domain.box[::-1]) / np.array(domain.cells)
    rate = float((np.abs(b[:, : len(model.directions)]) / widths).sum(axis=1).max())
    return 1.0 + problem.sections.time.end * rate / density.cfl if math.isfinite(rate) else 2.0 * STEPS


def _drift_at_start(model: MeanField, problem: Problem) -> Array:
    z = problem.law.sample(np.random.default_rng(0), _SAMPLE)
    with np.errstate(all="ignore"):
        return model.drift(z, model.feature_sum(z) / len(z))


def _evaluation(problem: Problem) -> float:
    """Seconds of moments and drift at one particle."""
    _drift_at_start(problem.model, problem)
    started = time.perf_counter()
    for _ in range(_REPEATS):
        _drift_at_start(problem.model, problem)
    return (time.perf_counter() - started) / (_REPEATS * _SAMPLE)
