"""Generalisation against the noise scale: train and test loss under the law of SGD, at equal and at different g = η/(2B).

    ∂_tρ = ∇·(ρ∇L + g∇·(Cρ)),        ⟨L_train⟩_ρ and ⟨L_test⟩_ρ at the output times.

The law of the diffusion, and with it both losses, depends on η and B through g alone. Runs with the same g therefore generalise
alike, to O(η); extrapolated to η = 0 at equal g they have the density's losses, to the O(g) of the skewness of a batch gradient.
The test loss may have an optimum at a g > 0, where the noise keeps the weights from what is particular to the training points
(Smith & Le, arXiv:1710.06451).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.special import ndtri

from mvpde.cases.measures import density_of, measures, training
from mvpde.cases.meshes.coarser import TwoMeshes, coarser
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Number, Positive, Section
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI
from mvpde.studies.figures import GREY, draw_errors, finish, plain_ticks
from mvpde.studies.laws.sgd.training import later_times, needs_of_comparison, whole_steps
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import Need
from mvpde.studies.quantities import Key, at, axis, failures, grouped
from mvpde.studies.task import task_of
from mvpde.studies.verdict import COARSE, FAILS, HOLDS, SMALL_SHARE, Json, Verdict, decide

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

NEEDS = [
    *needs_of_comparison("generalisation"),
    Need(
        lambda problem: problem.data is not None and problem.data.test is not None,
        '[data] test_share: the task "generalisation" needs points to test with; add test_share = 0.5',
    ),
]
DRAWS = 2000  # of the errors, behind intervals of what is no linear function of the losses
SAME = 1e-9  # relative, of two noise scales


# --- what is computed -----------------------------------------------------------------------------------------------------------


class GeneralisationOptions(Section):
    """[options] of the task "generalisation"."""


@dataclass(frozen=True)
class MeanLosses:
    """Mean losses over the output times, without the weight decay, and how well they are known."""

    train_loss: list[float]
    test_loss: list[float]
    train_loss_standard_error: list[float] | None = None  # of runs
    test_loss_standard_error: list[float] | None = None
    train_loss_mesh_error: list[float] | None = None  # of a density
    test_loss_mesh_error: list[float] | None = None


@dataclass(frozen=True)
class GeneralisationResult:
    """The summary of a point."""

    noise_scale: float  # g
    times: list[float]  # output times after the start
    density: MeanLosses
    sgd: MeanLosses
    outer_mass: float  # the largest at these times


def generalisation(problem: Problem, options: GeneralisationOptions, comm: MPI.Intracomm) -> GeneralisationResult:
    """Train and test loss of the density and of runs with the case's η and B, at every output time after the start. Collective.

    Raises:
        CaseError: times between two steps, cells that cannot be made fewer.
    """
    train, times = training(problem), later_times(problem)
    for t in times:
        whole_steps(problem, train, t, "[time] outputs")
    (fine, outer), (rough, _) = (_of_density(mesh, train, times, comm) for mesh in (problem, coarser(problem)))
    means, errors = _of_runs(problem, train, times, comm)
    return GeneralisationResult(
        train.noise_scale,
        times,
        MeanLosses(*_columns(fine), None, None, *_columns(TwoMeshes(fine, rough).error)),
        MeanLosses(*_columns(means), *_columns(errors)),
        outer,
    )


def _columns(losses: Array) -> tuple[list[float], list[float]]:
    train, test = losses.T
    return train.tolist(), test.tolist()


def _losses(train: SgdNetwork) -> list[Callable[[Array], Array]]:
    return [train.train_loss, train.test_loss]


def _of_density(problem: Problem, train: SgdNetwork, times: Sequence[float], comm: MPI.Intracomm) -> tuple[Array, float]:
    """Both losses at each time, shape (times, 2), and the largest mass at the walls."""
    density, rows, outer = density_of(problem, comm), [], 0.0
    for t in times:
        density.advance(t)
        rows.append([float(density.expectation(loss)[0]) for loss in _losses(train)])
        outer = max(outer, density.numbers()["outer_mass"])
    return np.array(rows), outer


def _of_runs(problem: Problem, train: SgdNetwork, times: Sequence[float], comm: MPI.Intracomm) -> tuple[Array, Array]:
    """Both losses and their standard errors at each time, shapes (times, 2)."""
    runs, rows = measures(problem, ["sgd"], comm)["sgd"], []
    assert isinstance(runs, SgdRuns)
    for t in times:
        runs.advance(t)
        rows.append([runs.estimate(loss) for loss in _losses(train)])
    values = np.array(rows)
    return values[:, :, 0], values[:, :, 1]


GENERALISATION = task_of(GeneralisationOptions, generalisation, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class GeneralisationLawOptions(MeasurementOptions):
    """The test loss is a function of g, that of the density, with its optimum where that has one."""

    name: str = Field("generalisation", description="name of its figure, <name>.png", examples=["generalisation"])
    time: Number | None = Field(None, description="output time; absent: the last", examples=[20.0])
    by: str | None = Field(
        None, description="a varied key, such as the split, each value of which is judged", examples=["data.split_seed"]
    )
    tolerance: Positive = Field(
        0.1, description="difference of losses that is not the law's, as a share of what g changes, > 0", examples=[0.1]
    )
    factor: Number = Field(1.5, gt=1.0, description="how far apart the optima may be, > 1", examples=[1.5])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


@dataclass(frozen=True)
class Curve:
    """MeanLosses against g at one time: (η, B) of the same g are beside each other.

    Attributes:
        g: noise scales, increasing, shape (G,).
        rate, batch, group, loss, error: of each run: η, B, the place of its g, test loss, its standard error, shape (n,).
        density, mesh_error: the density's test loss and its error at each g, shape (G,).
    """

    g: Array
    rate: Array
    batch: Array
    group: np.ndarray
    loss: Array
    error: Array
    density: Array
    mesh_error: Array

    @property
    def span(self) -> float:
        """How much g changes the density's test loss."""
        return float(np.ptp(self.density))

    def pooled(self, values: Array) -> Array:
        """Means over runs of the same g, shape (..., G), of values for each run, shape (..., n)."""
        beside = self.beside
        return np.asarray(values @ (beside / beside.sum(axis=1, keepdims=True)).T)

    def extrapolated(self, values: Array) -> Array:
        """The same at η = 0, by a line in η through the runs of the same g; the mean where they have one η."""
        beside = self.beside
        count = beside.sum(axis=1, keepdims=True)
        middle = (beside @ self.rate)[:, None] / count
        away = beside * (self.rate - middle)
        square = np.sum(away**2, axis=1, keepdims=True)
        slope = np.divide(away, square, out=np.zeros_like(away), where=square > 0.0)
        return np.asarray(values @ (beside / count - middle * slope).T)

    @property
    def beside(self) -> Array:
        """1 where a run has that g, else 0, shape (G, n)."""
        return np.asarray(self.group == np.arange(len(self.g))[:, None], float)


def curve_of(dataset: xarray.Dataset, time: float | None) -> Curve | None:
    """The numbers of a dataset; None where fewer than three noise scales have all of them."""
    t = time if time is not None or "time" not in dataset.coords else float(dataset["time"].values[-1])
    along = [axis(dataset, key) for key in ("model.learning_rate", "model.batch_size")]
    names = ["sgd.test_loss", "sgd.test_loss_standard_error", "density.test_loss", "density.test_loss_mesh_error"]
    values = [at(dataset, name, t) for name in names]
    scale = dataset.get("noise_scale")
    if scale is None or any(value is None for value in (*values, *along)):
        return None
    table = np.array(
        [np.asarray(v.broadcast_like(scale).values, float).ravel() for v in (*along, scale, *values) if v is not None]
    )
    table = table[:, np.isfinite(table).all(axis=0)]
    table = table[:, np.lexsort((table[0], table[2]))]
    rate, batch, g, loss, error, density, mesh_error = table
    first = np.append(True, np.diff(g) > SAME * g[1:]) if len(g) else np.zeros(0, bool)
    if first.sum() < 3:
        return None
    group = np.cumsum(first) - 1
    return Curve(g[first], rate, batch, group, loss, error, density[first], mesh_error[first])


def optimum(g: Array, loss: Array) -> Array:
    """Where losses of shape (..., G) are least, shape (...,): NaN where that is at an end.

    It is the vertex of the parabola in log g through the least value and its neighbours.
    """
    x = np.log(g)
    least = loss.argmin(axis=-1)
    k = np.clip(least, 1, len(g) - 2)
    low, mid, high = (np.take_along_axis(loss, (k + step)[..., None], -1)[..., 0] for step in (-1, 0, 1))
    rise, fall = (high - mid) / (x[k + 1] - x[k]), (mid - low) / (x[k] - x[k - 1])
    curvature = (rise - fall) / (x[k + 1] - x[k - 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = 0.5 * (x[k - 1] + x[k]) - 0.5 * fall / curvature
    return np.where(least == k, np.exp(vertex), math.nan)


def optima(curve: Curve) -> Array:
    """The optimum of the runs for each of DRAWS errors, NaN where there is none; the same each time."""
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(curve.loss)))
    return optimum(curve.g, curve.pooled(curve.loss + noise * curve.error))


def largest(differences: Callable[[Array], Array], curve: Curve, level: float) -> tuple[float, float]:
    """max |differences(loss)|, a linear map of losses (..., n) and a constant, and how large errors alone make it."""
    noise = curve.error * np.random.default_rng(1).standard_normal((DRAWS, len(curve.loss)))
    alone = np.abs(differences(noise) - differences(0.0 * noise)).max(axis=1)
    return float(np.abs(differences(curve.loss)).max()), float(np.quantile(alone, level))


def generalisation_law(dataset: xarray.Dataset, options: GeneralisationLawOptions) -> Outcome:
    """Three verdicts for each value of the key `by`: equal g, the density, and the optimum."""
    parts = [(value, curve_of(part, options.time)) for value, part in _parts(dataset, options)]
    notes = [f"{failures(dataset)} points failed"] * (failures(dataset) > 0)
    verdicts = [v for value, curve in parts for v in judged(curve, options, value, notes)]
    shown = [(value, curve) for value, curve in parts if curve is not None][:2]
    panels = [partial(_draw_scale, curve=curve, heading=_heading(options, value), level=options.level) for value, curve in shown]
    if len(shown) == 1:
        panels.insert(0, partial(_draw_rate, curve=shown[0][1]))
    return Outcome(verdicts, Picture(title(dataset), panels) if panels else None)


def _parts(dataset: xarray.Dataset, options: GeneralisationLawOptions) -> list[tuple[Key, xarray.Dataset]]:
    return [(None, dataset)] if options.by is None else list(grouped(dataset, options.by))


def _heading(options: GeneralisationLawOptions, value: Key) -> str:
    return "" if value is None else f"{options.by} = {value}"


def judged(curve: Curve | None, options: GeneralisationLawOptions, value: Key, notes: Sequence[str]) -> list[Verdict]:
    """The verdicts on one curve."""
    where = f", {_heading(options, value)}" if value is not None else ""
    details: dict[str, Json] = {"measure": options.name}
    laws = ["equal g: (η, B) have the same test loss", "η → 0 at equal g: the test loss of the runs is that of the density"]
    if curve is None:
        return [Verdict(law + where, 0.0, None, None, FAILS, "fewer than three noise scales have these numbers") for law in laws]
    details |= {"span": curve.span, "tolerance": options.tolerance}
    ways = [lambda loss: loss - curve.pooled(loss)[..., curve.group], lambda loss: curve.extrapolated(loss) - curve.density]
    floors = [0.0, float(curve.mesh_error.max()) / curve.span]
    verdicts = []
    for law, way, floor in zip(laws, ways, floors, strict=True):
        worst, reach = (size / curve.span for size in largest(way, curve, options.level))
        holds = decide(worst, 0.0, options.tolerance, smallest=options.tolerance, discretisation=floor)
        told = reach < options.tolerance
        said = [*notes] + ([] if told else ["the errors of the runs are larger than the tolerance: more runs"])
        interval = (max(0.0, worst - reach), worst + reach)
        decided = holds if told or holds != HOLDS else FAILS
        verdicts.append(Verdict(law + where, 0.0, worst, interval, decided, "; ".join(said), {**details, "mesh_error": floor}))
    return [*verdicts, _optimum_verdict(curve, options, where, notes)]


def _optimum_verdict(curve: Curve, options: GeneralisationLawOptions, where: str, notes: Sequence[str]) -> Verdict:
    """The runs have an optimum where the density has one, and none where that has none."""
    drawn = optima(curve)
    expected, found = (float(optimum(curve.g, loss)) for loss in (curve.density, curve.pooled(curve.loss)))
    share = float(np.isfinite(drawn).mean())
    details: dict[str, Json] = {"measure": options.name, "factor": options.factor, "share_with_optimum": share}
    told_by_mesh = float(curve.mesh_error.max()) < SMALL_SHARE * options.tolerance * curve.span
    fails = FAILS if told_by_mesh else COARSE
    if math.isnan(expected):
        least = float(curve.g[np.argmin(curve.density)])
        best = float(curve.g[np.argmin(curve.pooled(curve.loss))])
        law = f"the test loss has no optimum between the noise scales{where}: it is least at the same end"
        return Verdict(law, least, best, None, HOLDS if best == least else fails, "; ".join(notes), details)
    law = f"the test loss has an optimum at a noise scale g > 0, that of the density{where}"
    if math.isnan(found):
        return Verdict(law, expected, None, None, fails, "; ".join([*notes, "the runs have none"]), details)
    ends = np.nanquantile(drawn, [0.5 - 0.5 * options.level, 0.5 + 0.5 * options.level])
    told = share >= options.level
    said = [*notes] + ([] if told else ["the errors do not tell the optimum from an end: more runs, or more noise scales"])
    holds = told and abs(math.log(found / expected)) <= math.log(options.factor)
    return Verdict(law, expected, found, (float(ends[0]), float(ends[1])), HOLDS if holds else fails, "; ".join(said), details)


# --- the figure -----------------------------------------------------------------------------------------------------------------


def _by_batch(axes: Axes, curve: Curve, x: Array, level: float) -> None:
    """The runs' test losses with their intervals, a colour for each of the factors of B at the same g."""
    place = np.array([np.sum(curve.group[:k] == group) for k, group in enumerate(curve.group)])
    half = float(ndtri(0.5 + 0.5 * level)) * curve.error
    for k in np.unique(place):
        chosen = place == k
        batches = sorted({int(b) for b in curve.batch[chosen]})
        label = f"runs, B = {batches[0]}" if len(batches) == 1 else f"runs, B = {batches[0]} … {batches[-1]}"
        draw_errors(axes, x[chosen], curve.loss[chosen], half[chosen], label, int(k), "-" if x is curve.rate else "none")


def _draw_rate(axes: Axes, curve: Curve) -> None:
    _by_batch(axes, curve, curve.rate, 0.95)
    finish(axes, "learning rate η", "test loss", heading="not a function of η", log="x")
    rates = np.unique(curve.rate)
    axes.set_xticks(rates, [f"{rate:.3g}" for rate in rates])
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def _draw_scale(axes: Axes, curve: Curve, heading: str, level: float) -> None:
    best = float(optimum(curve.g, curve.pooled(curve.loss)))
    if math.isfinite(best):
        ends = np.nanquantile(optima(curve), [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        axes.axvspan(float(ends[0]), float(ends[1]), color=GREY, alpha=0.2, linewidth=0, label=f"optimum of the runs, {best:.2g}")
    axes.plot(curve.g, curve.density, color="black", linewidth=1.3, label="density")
    _by_batch(axes, curve, curve.g[curve.group], level)
    finish(axes, "noise scale g = η/(2B)", "test loss", heading=heading or "a function of g", log="x")
    plain_ticks(axes, curve.g)


GENERALISATION_LAW = Measurement(GeneralisationLawOptions, generalisation_law)
