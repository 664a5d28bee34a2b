"""How deep a network can be trained from random weights, against how deep signals get in it: a depth near 6ξ_c.

At each point of the phase diagram networks of several depths L are trained on real data, for the same number of steps. Their
accuracy falls with L from 1 to that of guessing; L_½ is where it passes half-way between. The law is L_½ = 6ξ_c, with ξ_c from
the maps of infinite width alone: not a theorem but what Schoenholz et al. found for images of digits (arXiv:1611.01232, fig. 5).
Hence two verdicts, on the exponent of L_½ ~ ξ_c^p and on the constant, over points with 6ξ_c within the depths that are trained.
Of those some may have no L_½, as they learn at all depths or at none: they are no part of the fit, but can refute the law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, Field

from mvpde.cases.file import Case
from mvpde.cases.kinds.random_network import RandomNetworkModel
from mvpde.cases.schema import Count, Number, Positive, Section, refuse
from mvpde.files import write_json
from mvpde.models import data as datasets
from mvpde.models.deep.fixed_points import critical_line, fixed_point, fixed_points
from mvpde.models.mean_field import Array
from mvpde.particles.deep.classifiers import ClassifierTraining, accuracies, centred
from mvpde.runs import folder as output
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.figures import COLOURS, DASHES, GREY, draw_errors, finish
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import failures
from mvpde.studies.task import Summary, Task, entries
from mvpde.studies.verdict import FAILS, HOLDS, Estimate, Json, Verdict, decide, mean

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

LAW = 6.0  # L_½/ξ_c
CURVE = 400  # points of the curve that is drawn


# --- what is computed -----------------------------------------------------------------------------------------------------------


def _increasing(depths: list[int]) -> list[int]:
    if any(b <= a for a, b in pairwise(depths)):
        raise refuse("`depths` must increase; sort them")
    return depths


class TrainableDepthOptions(Section):
    """[options] of the task "trainable_depth"."""

    file: str = Field(description="a CSV file of inputs and classes, relative to the base case", examples=["data/digits.csv"])
    output: str = Field(description="name of the column of classes; all others are inputs", examples=["digit"])
    depths: Annotated[list[Count], Field(min_length=2), AfterValidator(_increasing)] = Field(
        description="increasing numbers of hidden layers", examples=[[4, 8, 16, 32]]
    )
    width: Count = Field(description="units in every hidden layer, a whole number ≥ 1", examples=[100])
    runs: Annotated[int, Field(ge=2)] = Field(2, description="networks of each depth, a whole number ≥ 2", examples=[2])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of weights and batches, a whole number ≥ 0", examples=[0])
    steps: Count = Field(description="minibatches, a whole number ≥ 1", examples=[300])
    learning_rate: Positive = Field(description="step of stochastic gradient descent, > 0", examples=[0.01])
    batch_size: Count = Field(32, description="samples in a minibatch, a whole number ≥ 1", examples=[32])
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.0, description="of the descent, in [0, 1)", examples=[0.0])


@dataclass(frozen=True)
class TrainableDepthResult:
    """The summary of a point."""

    weight_variance: float
    bias_variance: float
    xi_c: float | None  # ξ_c; None where it is infinite or there is none
    chance: float  # accuracy of the best guess that does not look
    depths: list[int]
    accuracy: list[float]  # mean over runs, by depth
    accuracies: list[list[float]]  # of each run, by depth


def trainable_depth(case: Case, options: TrainableDepthOptions, comm: MPI.Intracomm) -> TrainableDepthResult:
    """Accuracies after the training, at one point of the phase diagram. Collective.

    Raises:
        CaseError: another kind of model or activation, σ_w² = 0, a table that cannot be read.
    """
    model = case.sections.model
    if not isinstance(model, RandomNetworkModel) or model.activation != "tanh" or model.weight_variance == 0.0:
        said = 'the task "trainable_depth" is for kind = "random_network", activation = "tanh", weight_variance > 0'
        raise CaseError(f"{case.path}: [model]: {said}; choose such a base case")
    x, labels = on_first_rank(comm, lambda: _data(case, options))
    training = ClassifierTraining(
        options.width,
        model.weight_variance,
        model.bias_variance,
        options.steps,
        options.learning_rate,
        options.batch_size,
        options.momentum,
    )
    rows = [
        accuracies(training, depth, x, labels, runs=options.runs, seed=options.seed, comm=comm).tolist()
        for depth in options.depths
    ]
    xi = fixed_point(model.activation, model.weight_variance, model.bias_variance).xi_c
    return TrainableDepthResult(
        model.weight_variance,
        model.bias_variance,
        None if xi is None or math.isinf(xi) else xi,
        float(np.bincount(labels).max() / len(labels)),
        options.depths,
        [float(np.mean(row)) for row in rows],
        rows,
    )


def _data(case: Case, options: TrainableDepthOptions) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = datasets.csv(case.directory / options.file, None, options.output, content=case.read)
    except ValueError as error:
        raise CaseError(f"{case.path}: [options] file: {error}; correct the file, or the name in `output`") from None
    return centred(table.x), np.unique(table.target, return_inverse=True)[1].ravel()


def _carry_out(case: Case, options: TrainableDepthOptions, folder: Path, comm: MPI.Intracomm) -> Summary:
    summary = {
        "status": "done",
        "title": case.sections.title,
        "ranks": comm.size,
        **entries(trainable_depth(case, options, comm)),
    }
    provenance = output.provenance(case, comm.size, ())

    def write() -> None:
        output.create_folder(folder, case, provenance)
        write_json(folder / "summary.json", summary)

    on_first_rank(comm, write)
    return summary


TRAINABLE_DEPTH = Task(TrainableDepthOptions, _carry_out)


# --- the law --------------------------------------------------------------------------------------------------------------------


class DepthLawOptions(MeasurementOptions):
    """L_½ = 6ξ_c."""

    name: str = Field("trainable_depth", description="name of its figure, <name>.png", examples=["trainable_depth"])
    tolerance: Positive = Field(0.25, description="how far the exponent may differ from 1, > 0", examples=[0.25])
    factor: Number = Field(1.5, gt=1.0, description="how far the constant may be from 6, as a factor > 1", examples=[1.5])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


@dataclass(frozen=True)
class TrainedDepths:
    """The points of a study, by increasing σ_w².

    Attributes:
        weight: σ_w², shape (W,). bias: σ_b².
        xi: ξ_c, ∞ on the critical line, shape (W,).
        depths: L, shape (D,). accuracy: means over runs, shape (W, D).
        half, half_error: mean L_½ of the runs and its standard error, shape (W,); NaN where accuracy does not pass half-way.
        least, most: what that mean lies between, shape (W,): the same where it is known; see `half_bounds`.
    """

    weight: Array
    bias: float
    xi: Array
    depths: Array
    accuracy: Array
    half: Array
    half_error: Array
    least: Array
    most: Array

    @property
    def inside(self) -> np.ndarray:
        """The points with 6ξ_c within the depths trained. Shape (W,), bool."""
        return np.asarray((self.depths[0] <= LAW * self.xi) & (LAW * self.xi <= self.depths[-1]))

    @property
    def fitted(self) -> np.ndarray:
        """Those of them that have a depth L_½. Shape (W,), bool."""
        return np.asarray(self.inside & np.isfinite(self.half))

    @property
    def censored(self) -> np.ndarray:
        """And those of which only a bound of L_½ is known. Shape (W,), bool."""
        return np.asarray(self.inside & ~np.isfinite(self.half))

    def against(self, factor: float) -> np.ndarray:
        """The censored points whose L_½ cannot be 6ξ_c up to a factor. Shape (W,), bool."""
        off = (self.least > factor * LAW * self.xi) | (self.most < LAW * self.xi / factor)
        return np.asarray(self.censored & off)


def half_depth(depths: Array, accuracy: Array, chance: float) -> float:
    """Where an accuracy (D,) first passes half-way from 1 to that of guessing, by a line in log L; NaN where it does not."""
    level = 0.5 * (1.0 + chance)
    below = np.flatnonzero(accuracy < level)
    if not len(below) or below[0] == 0:
        return math.nan
    k = int(below[0])
    share = (accuracy[k - 1] - level) / (accuracy[k - 1] - accuracy[k])
    return float(depths[k - 1] * (depths[k] / depths[k - 1]) ** share)


def half_bounds(depths: Array, accuracy: Array, chance: float) -> tuple[float, float]:
    """Ends of L_½: itself; (0, first depth) of a network that fails at once; (last depth, ∞) of one that never does."""
    half = half_depth(depths, accuracy, chance)
    if math.isfinite(half):
        return half, half
    failing = accuracy[0] < 0.5 * (1.0 + chance)
    return (0.0, float(depths[0])) if failing else (float(depths[-1]), math.inf)


def depths_of(dataset: xarray.Dataset) -> TrainedDepths | None:
    """The numbers of a dataset; None where no point has them."""
    if "accuracies" not in dataset:
        return None
    table = dataset["accuracies"].values
    runs = table.reshape(-1, *table.shape[-2:])
    done = np.isfinite(runs).all(axis=(1, 2))
    order = np.flatnonzero(done)[np.argsort(dataset["weight_variance"].values.ravel()[done], kind="stable")]
    if not len(order):
        return None
    flat = {name: dataset[name].values.reshape(len(runs), -1)[order] for name in ("weight_variance", "bias_variance", "chance")}
    depths = dataset["depths"].values.reshape(len(runs), -1)[order[0]]
    xi = dataset["xi_c"].values.ravel()[order] if "xi_c" in dataset else np.full(len(order), math.nan)
    curves = [(point.T, float(chance)) for point, chance in zip(runs[order], flat["chance"][:, 0], strict=True)]
    half = [mean([half_depth(depths, curve, chance) for curve in point]) for point, chance in curves]
    bounds = np.array([np.mean([half_bounds(depths, curve, chance) for curve in point], axis=0) for point, chance in curves])
    weight, bias = flat["weight_variance"][:, 0], float(flat["bias_variance"][0, 0])
    values, errors = np.array([(estimate.value, estimate.standard_error) for estimate in half]).T
    xi, accuracy = np.where(np.isfinite(xi), xi, math.inf), runs[order].mean(axis=2)
    return TrainedDepths(weight, bias, xi, depths, accuracy, values, errors, bounds[:, 0], bounds[:, 1])


def exponent(xi: Array, half: Array) -> Estimate:
    """The slope of log L_½ on log ξ_c by least squares; its error from how the points scatter about the line."""
    x, y = np.log(xi) - np.log(xi).mean(), np.log(half)
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    degrees = len(x) - 2
    return Estimate(slope, math.sqrt(float(rest @ rest) / degrees / float(x @ x)) if degrees else math.nan, degrees)


def _note(dataset: xarray.Dataset, there: TrainedDepths, factor: float) -> str:
    """What the fit does not show: points that failed, and points without L_½, some of which may refute the law."""
    said = [f"{failures(dataset)} points failed"] if failures(dataset) else []
    if count := int(there.censored.sum()):
        said.append(f"{count} points with 6ξ_c within the depths never pass half-way or fail at the first depth")
    if count := int(there.against(factor).sum()):
        said.append(f"{count} of them cannot have 6ξ_c within a factor {factor:g} of L_½")
    return "; ".join(said)


def depth_law(dataset: xarray.Dataset, options: DepthLawOptions) -> Outcome:
    """Two verdicts, on the exponent and on the constant; none holds where a point without L_½ is against 6ξ_c."""
    there = depths_of(dataset)
    laws = ("L_½ ~ ξ_c^p: the depth that can be trained grows in proportion to that of signals", "L_½ = 6ξ_c: the constant")
    if there is None or there.fitted.sum() < 3:
        reason = "fewer than three points have 6ξ_c within the depths, and an accuracy that passes half-way"
        picture = None if there is None else Picture(title(dataset), [partial(_draw_accuracy, there=there)])
        return Outcome([Verdict(law, p, None, None, FAILS, reason) for law, p in zip(laws, (1.0, LAW), strict=True)], picture)
    chosen = there.fitted
    xi, half = there.xi[chosen], there.half[chosen]
    power, logs = exponent(xi, half), mean(np.log(half / xi))
    ends = logs.interval(options.level)
    constant = None if ends is None else (math.exp(ends[0]), math.exp(ends[1]))
    note, against = _note(dataset, there, options.factor), bool(there.against(options.factor).any())
    details: dict[str, Json] = {"measure": options.name, "points": int(chosen.sum()), "level": options.level}
    details |= {"censored": int(there.censored.sum()), "contradicting": int(there.against(options.factor).sum())}
    near = abs(logs.value - math.log(LAW)) <= math.log(options.factor)
    verdicts = [
        Verdict(
            laws[0],
            1.0,
            power.value,
            power.interval(options.level),
            FAILS if against else decide(power.value, 1.0, options.tolerance),
            note,
            {**details, "tolerance": options.tolerance},
        ),
        Verdict(
            laws[1],
            LAW,
            math.exp(logs.value),
            constant,
            HOLDS if near and not against else FAILS,
            note,
            {**details, "factor": options.factor},
        ),
    ]
    panels = [partial(_draw_accuracy, there=there), partial(_draw_law, there=there, power=power, level=options.level)]
    return Outcome(verdicts, Picture(title(dataset), panels))


# --- the figure -----------------------------------------------------------------------------------------------------------------


def _edges(values: Array) -> Array:
    """Borders of cells around increasing values, half-way between them."""
    if len(values) == 1:
        return values[0] * np.array([0.5, 1.5])
    middle = 0.5 * (values[1:] + values[:-1])
    return np.concatenate([[1.5 * values[0] - 0.5 * values[1]], middle, [1.5 * values[-1] - 0.5 * values[-2]]])


def _draw_accuracy(axes: Axes, there: TrainedDepths) -> None:
    """Accuracy over (σ_w², L), with the curve 6ξ_c."""
    across, up = _edges(there.weight), _edges(there.depths)
    colours = axes.pcolormesh(across, up, there.accuracy.T, cmap="inferno", vmin=0.0, vmax=1.0, rasterized=True)
    axes.figure.colorbar(colours, ax=axes, label="training accuracy")
    w = np.linspace(across[0], across[-1], CURVE)
    xi = fixed_points("tanh", w, np.full(CURVE, there.bias)).xi_c
    inside = np.where(LAW * xi <= up[-1], LAW * xi, math.nan)
    axes.plot(w, inside, color="white", linewidth=2.4, label="6ξ_c")
    axes.axvline(float(critical_line("tanh", [there.bias])[0]), color="white", linestyle=DASHES, linewidth=1.2, label="critical")
    axes.plot(there.weight, there.half, "o", color=COLOURS[4], markersize=5, label="half-way")
    axes.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]), xlabel="weight variance σ_w²", ylabel="depth L")
    axes.legend(fontsize=8, loc="upper right", facecolor="#444444", labelcolor="white", framealpha=0.8, edgecolor="none")


def _draw_law(axes: Axes, there: TrainedDepths, power: Estimate, level: float) -> None:
    """L_½ against ξ_c, the two phases apart, with the line 6ξ_c."""
    critical = float(critical_line("tanh", [there.bias])[0])
    for k, (side, label) in enumerate(((there.weight < critical, "ordered phase"), (there.weight > critical, "chaotic phase"))):
        chosen = there.fitted & side
        draw_errors(axes, there.xi[chosen], there.half[chosen], np.nan_to_num(there.half_error[chosen]), label, k)
    xi = np.sort(there.xi[there.fitted])
    axes.plot(xi, LAW * xi, color=GREY, linestyle=DASHES, linewidth=1.2, label="6ξ_c")
    ends = power.interval(level)
    said = "" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
    finish(axes, "depth of signals ξ_c", "depth L_½ that can be trained", heading=f"exponent {power.value:.2f}{said}")
    for which, values in ((axes.xaxis, xi), (axes.yaxis, LAW * xi)):
        ticks = np.geomspace(values[0], values[-1], 5).round()
        which.set_ticks(ticks, labels=[f"{tick:.0f}" for tick in ticks])
        which.set_ticklabels([], minor=True)


DEPTH_LAW = Measurement(DepthLawOptions, depth_law)
