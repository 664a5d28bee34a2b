"""What depends on what in wide deep networks: weights along a path, weights and the labels, weights given a label.

    Cov(θ^ℓ_ij, θ^{ℓ+1}_jk) = O(1/N),   while Cov(θ¹_ij, A_i) and Cov(θ^{L−1}_ij, B_j) stay,
    E[θ^{L−1}_ij | B_j = b] → ∫θ μ^{L−1}(dθ|b)

The law of a path (A_i, θ¹, …, θ^{L−1}, B_k) tends to μ^{0,1} ⊗ μ² ⊗ … ⊗ μ^{L−2} ⊗ μ^{L−1,L} (Araújo, Oliveira & Yukimura,
arXiv:1906.00193). Covariances are those of a network given A and B: over the units in the middle of the path. What the start
happens to have of them, zero in the mean, is taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from pydantic import Field

from mvpde.cases.deep import networks
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Section
from mvpde.cases.values import Count
from mvpde.models.deep.sweeps import Labels
from mvpde.models.mean_field import Array
from mvpde.particles.deep.driven import between
from mvpde.particles.deep.network import Network
from mvpde.runtime import MPI, CaseError
from mvpde.studies.figures import draw_errors, finish, look, plain_ticks
from mvpde.studies.laws.deep.limit import limit_of, mean_and_error, needs, of_the_flow
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import axis
from mvpde.studies.task import over_times, task_of
from mvpde.studies.verdict import FAILS, HOLDS, Json, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


class DependenceOptions(Section):
    """[options] of the task "deep_dependence"."""

    weight: str = Field("w", description="the trained weight whose covariances and means are taken: v, w or c", examples=["w"])
    layer: Count = Field(1, description="ℓ of Cov(θ^ℓ, θ^{ℓ+1}), a whole number from 1 to L − 2", examples=[1])
    bins: Count = Field(6, description="parts of equal mass of the law of b, in which conditional means are taken", examples=[6])


class LabelledLimit(Protocol):
    """A limit on labels, as both measures of it are."""

    labels: Labels

    def advance(self, t: float, /) -> None:
        """Go on to t."""

    def conditional(self, power: int = 1) -> list[Array]:
        """E[θ^power | λ] of each layer, shapes (A or 1, B or 1, D)."""

    def arrays(self) -> dict[str, Array]:
        """With "label_covariance"."""


@dataclass(frozen=True)
class Dependence:
    """What is measured at an output time, with standard errors over runs."""

    path: float  # Cov(θ^ℓ_ij, θ^{ℓ+1}_jk)
    path_standard_error: float
    path_size: float  # its absolute value
    with_a: float  # Cov(θ¹_ij, A_i), the largest over the components of a
    with_a_limit: float
    with_a_difference: float  # minus its limit
    with_a_standard_error: float
    with_b: float  # Cov(θ^{L−1}_ij, B_j)
    with_b_limit: float
    with_b_difference: float
    with_b_standard_error: float
    label: list[float]  # mean b of each bin
    given_b_limit: list[float]  # E[θ^{L−1} | b] of the limit, mean over the b_j of each bin
    given_b_difference: list[float]  # mean over the weights into these units, minus it
    given_b_standard_error: list[float]
    mean_limit: float  # E θ^{L−1}


@dataclass(frozen=True)
class DependenceResult:
    """The summary of a point."""

    times: list[float]
    dependence: dict[str, list[Json]]


def dependence(problem: Problem, options: DependenceOptions, comm: MPI.Intracomm) -> DependenceResult:
    """Covariances and conditional means at every output time. Collective.

    Raises:
        CaseError: a weight that is not trained where it is asked for, or no two layers.
    """
    made, limit = networks(problem, comm), cast("LabelledLimit", limit_of(problem, comm))
    _check(problem, options, made)
    start, rows = path_covariances(made, options), []
    for t in problem.sections.time.outputs:
        made.advance(t)
        limit.advance(t)
        rows.append(_dependence(made, limit, options, start))
    return DependenceResult(list(problem.sections.time.outputs), over_times(rows))


def _check(problem: Problem, options: DependenceOptions, made: Network) -> None:
    layers, path = made.network.layers, problem.case.path
    if options.layer + 1 > len(layers):
        raise CaseError(f"{path}: options.layer: {options.layer}: there are {len(layers)} layers, and two in turn are compared")
    for number in {1, options.layer, options.layer + 1, len(layers)}:
        if options.weight not in layers[number - 1].trained:
            raise CaseError(f"{path}: options.weight: layer {number} does not train {options.weight}; choose another")
    if made.width < 2:
        raise CaseError(f"{path}: [network] width: is 1, and covariances are over the units of a layer; give 2 or more")
    if options.bins > made.runs * made.width:
        raise CaseError(
            f"{path}: options.bins: {options.bins}: there are {made.runs * made.width} values of b, one for each unit of each "
            "run; give no more bins than these, or more runs"
        )


def path_covariances(made: Network, options: DependenceOptions) -> Array:
    """Cov(θ^ℓ_ij, θ^{ℓ+1}_jk) within each run, without bias given A and B, shape (runs,). Collective."""
    columns = [made.network.layers[number - 1].trained.index(options.weight) for number in (options.layer, options.layer + 1)]
    into = made.means_into(options.layer)[:, :, columns[0]]
    out = made.means_out_of(options.layer + 1)[:, :, columns[1]]
    centred = (x - x.mean(axis=1, keepdims=True) for x in (into, out))
    return np.asarray(np.prod(list(centred), axis=0).sum(axis=1) / (made.width - 1))


def _dependence(made: Network, limit: LabelledLimit, options: DependenceOptions, start: Array) -> Dependence:
    """At the present time of both. Collective."""
    first, last = (made.network.layers[k].trained.index(options.weight) for k in (0, -1))
    column = made.network.coordinates.index(options.weight)
    moments, expected = made.conditional_moments(), np.asarray(limit.arrays()["label_covariance"])[:, column]
    component = int(np.argmax(np.abs(expected[:-1])))
    (path,), (path_error,) = mean_and_error((path_covariances(made, options) - start)[:, None])
    (of_a,), (a_error,) = mean_and_error(moments.with_a[:, component, first][:, None])
    (of_b,), (b_error,) = mean_and_error(moments.with_b[:, last][:, None])
    return Dependence(
        path,
        path_error,
        abs(path),
        of_a,
        float(expected[component]),
        of_a - float(expected[component]),
        a_error,
        of_b,
        float(expected[-1]),
        of_b - float(expected[-1]),
        b_error,
        *given_b(made, limit, last, options.bins),
    )


def given_b(
    made: Network, limit: LabelledLimit, column: int, bins: int
) -> tuple[list[float], list[float], list[float], list[float], float]:
    """Labels, limits, differences and standard errors in bins of b, and the unconditional mean. Collective."""
    labels, conditional = limit.labels, limit.conditional(1)[-1][..., column]
    of_a = labels.of_a if len(conditional) > 1 else np.ones(1)
    of_b = of_a @ conditional
    b = made.labels()[1]
    expected = between(labels.b, of_b)(b.ravel()).reshape(b.shape)
    residuals = made.means_into(len(made.network.layers))[:, :, column] - expected
    number = np.argsort(np.argsort(b.ravel())).reshape(b.shape) * bins // b.size
    rows = [_in_bin(number == k, b, expected, residuals) for k in range(bins)]
    label, limits, differences, errors = (list(column) for column in zip(*rows, strict=True))
    return label, limits, differences, errors, float(labels.of_b @ of_b)


def _in_bin(chosen: Array, b: Array, expected: Array, residuals: Array) -> tuple[float, float, float, float]:
    """Means over a bin, and the standard error of the third from the runs: the units of a run share its other weights."""
    count = chosen.sum()
    mean = float((residuals * chosen).sum() / count)
    off = (residuals * chosen).sum(axis=1) - mean * chosen.sum(axis=1)
    runs = len(b)
    error = math.sqrt(float(off @ off) * runs / (runs - 1)) / count
    return float((b * chosen).sum() / count), float((expected * chosen).sum() / count), mean, error


NEEDS = [*needs("deep_dependence"), *of_the_flow("deep_dependence")]
DEPENDENCE = task_of(DependenceOptions, dependence, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class StaysOptions(MeasurementOptions):
    """Covariances that stay, beside those along a path, and the conditional means."""

    name: str = Field("stays", description="name of its figure, <name>.png", examples=["stays"])
    x: str = Field("network.width", description="the varied width", examples=["network.width"])


def stays(dataset: xarray.Dataset, options: StaysOptions) -> Outcome:
    """At the last time and the largest width: Cov(θ, label) is many standard errors from 0, and larger than along the path."""
    varied = axis(dataset, options.x)
    if varied is None or "dependence.path" not in dataset:
        return Outcome([Verdict("Cov(θ, label) stays", 0.0, None, None, FAILS, "no point has covariances")])
    n, dimension = varied.values.astype(float), str(varied.dims[0])
    widest, last = int(np.argmax(n)), dataset.isel(time=-1)
    t, verdicts = float(dataset["time"].values[-1]), []
    path = float(last["dependence.path_size"].isel({dimension: widest}).mean())
    for name in ("with_a", "with_b"):
        value, error = (
            float(last[f"dependence.{key}"].isel({dimension: widest}).mean()) for key in (name, f"{name}_standard_error")
        )
        low, high = value - 3.0 * error, value + 3.0 * error
        clear = (low > path or high < -path) and (low > 0.0 or high < 0.0)
        verdicts.append(
            Verdict(
                f"Cov(θ, {name[-1]}) does not vanish, N = {n[widest]:g}, t = {t:g}",
                path,
                abs(value),
                (abs(value) - 3.0 * error, abs(value) + 3.0 * error),
                HOLDS if clear else FAILS,
                "predicted is the size of the covariance along a path, which does",
                {"measure": options.name, "time": t},
                ">",
            )
        )
    panels = [partial(_draw_covariances, n, last, dimension), partial(_draw_means, last, dimension, widest)]
    return Outcome(verdicts, Picture(title(dataset), panels))


def _draw_covariances(n: Array, last: xarray.Dataset, dimension: str, axes: Axes) -> None:
    names = {"with_a": "Cov(θ¹, a)", "with_b": "Cov(θ^{L−1}, b)", "path_size": "|Cov(θ^ℓ, θ^{ℓ+1})|"}
    for k, (name, label) in enumerate(names.items()):
        error = last[f"dependence.{name.replace('_size', '')}_standard_error"]
        y, s = (values.mean([d for d in values.dims if d != dimension]).values for values in (last[f"dependence.{name}"], error))
        draw_errors(axes, n, np.abs(y), s, label, k, "-")
    finish(axes, "width N", "covariance", heading="those with labels stay")
    plain_ticks(axes, n)


def _draw_means(last: xarray.Dataset, dimension: str, widest: int, axes: Axes) -> None:
    at = last.isel({dimension: widest})
    label, limit, difference, error = (
        np.asarray(at[f"dependence.{name}"].values, float).reshape(-1, at[f"dependence.{name}"].shape[-1]).mean(axis=0)
        for name in ("label", "given_b_limit", "given_b_difference", "given_b_standard_error")
    )
    axes.plot(label, limit, color=look(0)["color"], label="limit given b")
    draw_errors(axes, label, limit + difference, error, "networks", 1)
    axes.axhline(float(at["dependence.mean_limit"].mean()), color="k", linestyle="--", linewidth=0.8, label="mean over b")
    finish(axes, "b", "E[θ^{L−1} | b]", heading="conditional means", log="")


STAYS = Measurement(StaysOptions, stays)
