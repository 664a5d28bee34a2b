"""Weak errors of the two diffusions of SGD at a finite time, against the exact chain and against runs.

    e_p(h) = ∫hρ_t − E h(W_{t/η}) = O(η^p),       p = 1: drift −∇L,   p = 2: drift −∇(L + ¼η|∇L|²),   the same noise

(Li, Tai & E, arXiv:1511.06251). E h(W_k) comes from the recursion of `mvpde.particles.exact_chain`, without sampling: O(η²) would
drown in the noise of runs. The densities are extrapolated in mesh size and time step together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
from pydantic import Field

from mvpde.cases.measures import density_of, measures, training
from mvpde.cases.meshes.coarser import TwoMeshes, coarser
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Positive, Section, one_of
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.particles.exact_chain import batches, exact_chain
from mvpde.particles.sgd_runs import SgdRuns, observed
from mvpde.runs.cautions.caution import Caution
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.figures import fits
from mvpde.studies.laws.sgd.training import needs_of_training, whole_steps
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import Need, given
from mvpde.studies.quantities import axis, columns
from mvpde.studies.slope import Series
from mvpde.studies.task import task_of
from mvpde.studies.verdict import COARSE, FAILS, SMALL_SHARE, UNRESOLVED, Estimate, Json, Line, Verdict, decide, loglog_line

if TYPE_CHECKING:
    import xarray

ORDERS = (1, 2)
MOST_WORK = 5e9  # numbers in the interpolations of the exact chain: minutes, and what memory holds in pieces
LOST = 1e-3  # expected steps out of the chain's grid that are worth a warning
_LOST = "options.chain_margin: {:.1e} of the chain's steps lead out of its grid; widen it, or [domain]"
_NODES = 12  # quadrature points of the initial law in each direction
_DEGREE = 5  # of the chain's interpolation

Functions = Mapping[str, Callable[[Array], Array]]
Named = dict[str, float]  # by function

NEEDS = [
    *needs_of_training("weak_error"),
    Need(
        lambda problem: given(problem.sections.density).step is not None,
        '[density] step: the task "weak_error" extrapolates in mesh and step together; give a fixed one',
    ),
]


class WeakErrorOptions(Section):
    """[options] of the task "weak_error"."""

    chain_points: Count = Field(48, description="grid points of the exact chain in each direction, ≥ 12", examples=[48], ge=12)
    chain_margin: Positive = Field(
        0.2, description="how far its grid reaches beyond [domain] on each side, in lengths of the domain, > 0", examples=[0.2]
    )


@dataclass(frozen=True)
class Orders:
    """A number for each function, for the diffusion of either order."""

    order_1: Named
    order_2: Named


@dataclass(frozen=True)
class WeakErrors:
    """∫hρ − E h at the end, signed: against the chain, and against runs of SGD."""

    chain: Orders
    runs: Orders


@dataclass(frozen=True)
class WeakErrorResult:
    """The summary of a point, for the weights, their products and the loss."""

    weak_error: WeakErrors  # the errors
    mesh_error: Orders  # the density's own error and the chain's together
    standard_error: Named  # of the runs' means
    runs_vs_chain: Named  # how many of these the runs are away from the chain
    chain_lost: float  # expected steps out of the chain's grid
    warnings: list[Caution]  # about them
    noise_scale: float  # g


def weak_error(problem: Problem, options: WeakErrorOptions, comm: MPI.Intracomm) -> WeakErrorResult:
    """Signed errors at time.end of both orders against the chain, and against the runs. Collective.

    Raises:
        CaseError: an end between two steps, cells that cannot be made fewer, too many batches for an exact mean.
    """
    train, end = training(problem), problem.sections.time.end
    steps, coarse = whole_steps(problem, train, end), coarser(problem)
    _check_work(problem, train, options)
    functions = observed(train)
    chain, coarse_chain, lost = on_first_rank(comm, lambda: _of_chain(problem, train, list(functions.values()), steps, options))
    runs = cast("SgdRuns", measures(problem, ["sgd"], comm)["sgd"])
    runs.advance(end)
    sampled = np.array([runs.estimate(h) for h in functions.values()])
    means = [TwoMeshes(*(_of_density(mesh, train, p, functions, comm) for mesh in (problem, coarse))) for p in ORDERS]

    def named(values: Array) -> Named:
        return {name: float(value) for name, value in zip(functions, values, strict=True)}

    return WeakErrorResult(
        WeakErrors(
            Orders(*(named(two.extrapolated - chain) for two in means)),
            Orders(*(named(two.extrapolated - sampled[:, 0]) for two in means)),
        ),
        Orders(*(named(two.error + np.abs(chain - coarse_chain)) for two in means)),
        named(sampled[:, 1]),
        named((sampled[:, 0] - chain) / sampled[:, 1]),
        lost,
        [Caution("chain.lost", _LOST.format(lost), lost, LOST)] if lost > LOST else [],
        train.noise_scale,
    )


def _check_work(problem: Problem, train: SgdNetwork, options: WeakErrorOptions) -> None:
    """The chain's interpolations are counted before they are made."""
    path = problem.case.path
    try:
        work = len(batches(train)[1]) * float(options.chain_points * (_DEGREE + 1)) ** train.dimension
    except ValueError as error:
        raise CaseError(f"{path}: [model] batch_size: {error}") from None
    if work > MOST_WORK:
        raise CaseError(
            f"{path}: [options] chain_points: {options.chain_points} in {train.dimension} directions make {work:.1e} "
            f"interpolations, more than {MOST_WORK:.0e}; choose fewer, or a smaller batch_size"
        )


def _of_chain(
    problem: Problem, train: SgdNetwork, functions: Sequence[Callable[[Array], Array]], steps: int, options: WeakErrorOptions
) -> tuple[Array, Array, float]:
    """E h(W_k) on the grid and on one with two thirds of the points, and the expected number of steps out of it."""
    section = given(problem.sections.domain)
    lower, upper = np.array(section.lower), np.array(section.upper)
    margin = options.chain_margin * (upper - lower)
    means = []
    for points in (options.chain_points, max(8, 2 * options.chain_points // 3)):
        chain = exact_chain(train, list(lower - margin), list(upper + margin), [points] * train.dimension)
        means.append(chain.expectations(list(functions), problem.law, _NODES, [steps])[0])
    return means[0], means[1], chain.lost(problem.law, _NODES, steps)


def _of_density(problem: Problem, train: SgdNetwork, order: int, functions: Functions, comm: MPI.Intracomm) -> Array:
    """∫hρ at the end."""
    density = density_of(replace(problem, model=diffusion_model(train, order)), comm)
    density.advance(problem.sections.time.end)
    return np.array([float(density.expectation(h)[0]) for h in functions.values()])


WEAK_ERROR = task_of(WeakErrorOptions, weak_error, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


AGAINST = {"chain": "the chain itself, without sampling", "runs": "runs of SGD"}


class WeakOrderOptions(MeasurementOptions):
    """|e(h)| ~ η^order for each of some functions h."""

    name: str = Field("weak_order", description="name of its figure, <name>.png", examples=["order_1"])
    x: str = Field("model.learning_rate", description="the varied key η", examples=["model.learning_rate"])
    order: Annotated[int, Field(ge=1, le=2)] = Field(description="of the equation, which is the predicted slope", examples=[2])
    against: Annotated[str, one_of(AGAINST)] = Field("chain", description="chain or runs", examples=["chain"])
    functions: list[str] = Field(description="names of the functions h", examples=[["w", "v", "w*v"]], min_length=1)
    tolerance: Positive = Field(0.2, description="how far a measured slope may differ, > 0", examples=[0.2])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def weak_order(dataset: xarray.Dataset, options: WeakOrderOptions) -> Outcome:
    """One slope, with its verdict, for each function."""
    verdicts, drawn = [], []
    for name in options.functions:
        errors = _errors(dataset, options, name)
        if errors is None:
            verdicts.append(_entry(options, name, None, None, FAILS, "fewer than two points have this quantity", {}))
            continue
        series, verdict = _judged(options, name, *errors)
        verdicts.append(verdict)
        drawn.append((f"h = {name}", series))
    panel = fits(
        drawn,
        predicted=options.order,
        level=options.level,
        xlabel="learning rate η",
        ylabel="|∫hρ − E h(W)|",
        floors={"discretisation": "error of mesh and time step"},
    )
    heading = f"{title(dataset)}\ndiffusion of order {options.order} against {AGAINST[options.against]}"
    return Outcome(verdicts, Picture(heading, [panel]))


def _errors(dataset: xarray.Dataset, options: WeakOrderOptions, name: str) -> tuple[Array, Array, Array, Array] | None:
    """η, the signed errors, the density's own errors, the runs' standard errors (NaN against the chain); η increasing."""
    order = f"order_{options.order}"
    keys = (f"weak_error.{options.against}.{order}.{name}", f"mesh_error.{order}.{name}", f"standard_error.{name}")
    varied = axis(dataset, options.x)
    if varied is None or any(key not in dataset for key in keys):
        return None
    rows = np.array(columns(varied, [dataset[key] for key in keys]))
    rows = rows[:, np.isfinite(rows[:3]).all(axis=0)]
    eta, error, mesh, spread = rows[:, np.argsort(rows[0])]
    spread = spread if options.against == "runs" else np.full(len(eta), np.nan)
    return (eta, error, mesh, spread) if len(np.unique(eta)) > 1 else None


def _judged(options: WeakOrderOptions, name: str, eta: Array, error: Array, mesh: Array, spread: Array) -> tuple[Series, Verdict]:
    sizes, largest = np.abs(error), float(mesh.max())
    estimates = tuple(Estimate(float(e), float(s), np.inf) for e, s in zip(sizes, spread, strict=True))
    line = loglog_line(eta, estimates) if np.all(sizes > 0.0) else None
    series = Series(None, eta, estimates, (1,) * len(eta), {"discretisation": largest}, line)
    details = {"smallest": float(sizes.min()), "discretisation": largest}
    if line is None or len(np.unique(np.sign(error))) > 1:
        return series, _entry(options, name, None, None, *_of_signs(error, mesh, spread), details)
    slope = line.slope.value
    holds = decide(slope, options.order, options.tolerance, smallest=float(sizes.min()), discretisation=largest)
    note = _COARSE if holds == COARSE else ""
    return series, _entry(options, name, slope, _interval(options, line, eta, sizes, mesh), holds, note, details)


_COARSE = "the error of mesh and time step is not below a third of the smallest error shown"


def _of_signs(error: Array, mesh: Array, spread: Array) -> tuple[str, str]:
    """What errors of two signs say: nothing about the law, where the mesh or the sampling of the runs may have made them."""
    sizes, sampled = np.abs(error), 2.0 * np.nan_to_num(spread)
    clear = SMALL_SHARE * sizes > mesh
    if len(np.unique(np.sign(error[clear & (sizes > sampled)]))) > 1:
        return FAILS, "the error changes its sign"
    if clear.all():
        return UNRESOLVED, "the error changes its sign, which is not told from the sampling of the runs: more runs"
    return COARSE, f"the error changes its sign, but {_COARSE}"


def _interval(options: WeakOrderOptions, line: Line, eta: Array, sizes: Array, mesh: Array) -> tuple[float, float]:
    """The slopes that all errors within their sampling interval and ± the density's own error would give."""
    centred = np.log(eta) - np.log(eta).mean()
    reach = float(np.abs(centred / (centred @ centred)) @ (mesh / sizes))
    low, high = line.slope.interval(options.level) or (line.slope.value,) * 2
    return low - reach, high + reach


def _entry(
    options: WeakOrderOptions,
    name: str,
    slope: float | None,
    interval: tuple[float, float] | None,
    holds: str,
    note: str,
    details: Mapping[str, Json],
) -> Verdict:
    law = f"order {options.order}: |∫hρ − E h(W)| ~ η^{options.order} against {AGAINST[options.against]}, h = {name}"
    constants: dict[str, Json] = {"measure": options.name, "tolerance": options.tolerance, "level": options.level}
    return Verdict(law, float(options.order), slope, interval, holds, note, {**constants, **details})


WEAK_ORDER = Measurement(WeakOrderOptions, weak_order)
