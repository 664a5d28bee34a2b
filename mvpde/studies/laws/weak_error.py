"""Weak errors of the two diffusions of SGD at a finite time, against the exact chain and against runs.

    e_p(h) = ∫hρ_t − E h(W_{t/η}) = O(η^p),       p = 1: drift −∇L,   p = 2: drift −∇(L + ¼η|∇L|²),   the same noise

(Li, Tai & E, arXiv:1511.06251). E h(W_k) comes from the recursion of `mvpde.particles.exact_chain`, without sampling: O(η²) would
drown in the noise of runs. The densities are extrapolated in mesh size and time step together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.measures import measures, training
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Count, Positive, Section
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.particles.exact_chain import batches, exact_chain
from mvpde.particles.sgd_runs import observed
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.coarser import TwoMeshes, coarser
from mvpde.studies.task import Task, summarised

ORDERS = (1, 2)
_NODES = 12  # quadrature points of the initial law in each direction
_BESIDE = 1e-9  # relative, of an output time to a multiple of η


MOST_WORK = 5e9  # numbers in the interpolations of the exact chain: minutes, and what memory holds in pieces
LOST = 1e-3  # expected steps out of the chain's grid that are worth a warning
_LOST = "options.chain_margin: {:.1e} of the chain's steps lead out of its grid; widen it, or [domain]"
_DEGREE = 5  # of the chain's interpolation


class WeakErrorOptions(Section):
    """[options] of the task "weak_error"."""

    chain_points: Count = Field(48, description="grid points of the exact chain in each direction, ≥ 12", examples=[48], ge=12)
    chain_margin: Positive = Field(
        0.2, description="how far its grid reaches beyond [domain] on each side, in lengths of the domain, > 0", examples=[0.2]
    )


def weak_error(case: Case, options: WeakErrorOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Signed errors at time.end of both orders against the chain, of order 1 against the runs, for the weights, their products
    and the loss, with the density's own error, the chain's, and the runs' standard error. Collective.

    Raises:
        CaseError: another kind of model, no fixed density.step, an end between two steps, too many batches for an exact mean.
    """
    setting = problem(case)
    train = sgd_of(setting, "weak_error", ("density", "sgd"))
    steps = whole_steps(case, train, setting.case.sections.time.end)
    if setting.case.sections.density is None or setting.case.sections.density.step is None:
        raise CaseError(
            f'{case.path}: [density] step: the task "weak_error" extrapolates in mesh and step together; give a fixed one'
        )
    coarse = coarser(setting)
    try:
        work = len(batches(train)[1]) * float(options.chain_points * (_DEGREE + 1)) ** train.dimension
    except ValueError as error:
        raise CaseError(f"{case.path}: [model] batch_size: {error}") from None
    if work > MOST_WORK:
        raise CaseError(
            f"{case.path}: [options] chain_points: {options.chain_points} in {train.dimension} directions make {work:.1e} "
            f"interpolations, more than {MOST_WORK:.0e}; choose fewer, or a smaller batch_size"
        )
    functions = observed(train)
    chain, coarse_chain, lost = on_first_rank(comm, lambda: _of_chain(setting, train, list(functions.values()), steps, options))
    runs = measures(setting, ["sgd"], comm)["sgd"]
    runs.advance(setting.case.sections.time.end)
    sampled = np.array([runs.estimate(h) for h in functions.values()])
    found: dict[str, Any] = {"chain": {}, "runs": {}}
    mesh: dict[str, Any] = {}
    for order in ORDERS:
        means = TwoMeshes(*(_of_density(one, train, order, functions, comm) for one in (setting, coarse)))
        key = f"order_{order}"
        found["chain"][key] = _named(functions, means.extrapolated - chain)
        found["runs"][key] = _named(functions, means.extrapolated - sampled[:, 0])
        mesh[key] = _named(functions, means.error + np.abs(chain - coarse_chain))
    return {
        "weak_error": found,
        "mesh_error": mesh,
        "standard_error": _named(functions, sampled[:, 1]),
        "runs_vs_chain": _named(functions, (sampled[:, 0] - chain) / sampled[:, 1]),
        "chain_lost": lost,
        "warnings": [_LOST.format(lost)] if lost > LOST else [],
        "noise_scale": train.noise_scale,
    }


def sgd_of(setting: Problem, task: str, needed: tuple[str, ...]) -> SgdNetwork:
    """The training problem of a case.

    Raises:
        CaseError: for another kind of model, without one of the needed sections, or with runs of another dynamics.
    """
    case, sections = setting.case, cast(Any, setting.case.sections)
    if sections.model.kind != "sgd_network":
        raise CaseError(f'{case.path}: [model] kind: the task "{task}" needs kind = "sgd_network"')
    for name in needed:
        if getattr(sections, name) is None:
            raise CaseError(f'{case.path}: [{name}]: the section is missing, and the task "{task}" needs it; add it')
    if sections.sgd is not None and sections.sgd.dynamics != "sgd":
        raise CaseError(f'{case.path}: [sgd] dynamics: the task "{task}" needs runs of SGD itself; remove the key')
    return training(setting)


def later_times(setting: Problem, task: str) -> list[float]:
    """The output times after the start.

    Raises:
        CaseError: if there is none.
    """
    times = [t for t in setting.case.sections.time.outputs if t > 0.0]
    if not times:
        raise CaseError(f'{setting.case.path}: [time] outputs: the task "{task}" compares laws at output times after 0; add some')
    return times


def whole_steps(case: Case, train: SgdNetwork, time: float, what: str = "[time] end") -> int:
    """time/η.

    Raises:
        CaseError: if that is no whole number.
    """
    steps = time / train.learning_rate
    if not math.isclose(steps, round(steps), rel_tol=_BESIDE, abs_tol=_BESIDE):
        raise CaseError(f"{case.path}: {what}: {time:g} is no multiple of the step η = {train.learning_rate:g}; choose one")
    return round(steps)


def _of_chain(
    setting: Problem, train: SgdNetwork, functions: list[Callable[[Array], Array]], steps: int, options: WeakErrorOptions
) -> tuple[Array, Array, float]:
    """E h(W_k) on the grid and on one with two thirds of the points, and the expected number of steps out of it."""
    section: Any = setting.case.sections.domain
    lower, upper = np.array(section.lower), np.array(section.upper)
    margin = options.chain_margin * (upper - lower)
    found = []
    for points in (options.chain_points, max(8, 2 * options.chain_points // 3)):
        chain = exact_chain(train, list(lower - margin), list(upper + margin), [points] * train.dimension)
        found.append(chain.expectations(functions, setting.law, _NODES, [steps])[0])
    return found[0], found[1], chain.lost(setting.law, _NODES, steps)


def _of_density(
    setting: Problem, train: SgdNetwork, order: int, functions: Mapping[str, Callable[[Array], Array]], comm: MPI.Intracomm
) -> Array:
    """∫hρ at the end."""
    density = measures(replace(setting, model=diffusion_model(train, order)), ["density"], comm)["density"]
    density.advance(setting.case.sections.time.end)
    return np.array([float(density.expectation(h)[0]) for h in functions.values()])


def _named(functions: Mapping[str, Any], values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(functions, values, strict=True)}


WEAK_ERROR = Task(WeakErrorOptions, summarised(weak_error))
