"""Networks trained on the 3-spin energy: how the test error falls with the number n of units, in any dimension.

    E‖f_n − f‖² = ‖E f_n − f‖² + E‖f_n − E f_n‖²

Both parts are measured from independent trainings: the fluctuation, which the law of large numbers says falls like 1/n at every
time when batches grow like n, and the bias, which is that of the limit, what training has not learned yet. Where the bias is
negligible the error falls like 1/n (Rotskoff & Vanden-Eijnden, arXiv:1805.00915, §5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mvpde.cases.problem import Problem
from mvpde.cases.schema import Count, Positive, Section, one_of
from mvpde.models.mean_field import Array
from mvpde.particles.spin_network import SPIN_UNITS, Training, fresh_samples, target_of, train
from mvpde.runtime import MPI, InvariantError
from mvpde.studies.figures import fits
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import Key, axis, grouped, number
from mvpde.studies.slope import Series, SlopeOptions, series_at
from mvpde.studies.task import task_of
from mvpde.studies.verdict import BIASED, FAILS, Verdict, decide

if TYPE_CHECKING:
    import xarray


ANGLES = 2.0 * np.pi * np.arange(181) / 180.0  # of the points on a great circle

Axis = Annotated[int, Field(ge=1)]


class SpinOptions(Section):
    """One network and its training; see `mvpde.particles.spin_network.Training`."""

    dimension: Annotated[int, Field(ge=2)] = Field(5, description="d, a whole number ≥ 2", examples=[5])
    unit: Annotated[str, one_of(SPIN_UNITS)] = Field("gaussian", description="one of {names}", examples=["gaussian"])
    units: Count = Field(100, description="number n of units, a whole number ≥ 1", examples=[100])
    kappa: Positive = Field(5.0, description="αd of Gaussian units exp(−½α|x − y|²), > 0", examples=[5.0])
    height: Positive = Field(1.0, description="factor of the unit, > 0", examples=[100.0])
    width: Positive = Field(1.0, description="standard deviation of a sigmoid's parameters at the start, > 0", examples=[1.0])
    weight: Positive = Field(1.0, description="standard deviation of the output weights at the start, > 0", examples=[1.0])
    step: Positive = Field(1e-3, description="time step of SGD, > 0", examples=[0.05])
    batch: Positive = Field(1.0, description="samples in a batch over units, > 0", examples=[0.2])
    steps: Count = Field(1000, description="steps with such batches, a whole number ≥ 1", examples=[1000])
    quench_batch: Positive = Field(0.04, description="samples in a batch of the quench over units², > 0", examples=[0.04])
    quench_steps: Annotated[int, Field(ge=0)] = Field(100, description="steps of the quench, a whole number ≥ 0", examples=[100])
    couplings: Annotated[int, Field(ge=0)] = Field(0, description="seed of the target, a whole number ≥ 0", examples=[0])
    trainings: Annotated[int, Field(ge=2)] = Field(4, description="independent trainings, a whole number ≥ 2", examples=[4])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the first of them, a whole number ≥ 0", examples=[0])
    circle: Annotated[list[Axis], Field(min_length=2, max_length=2)] = Field(
        [1, 2], description="numbers i, j of the axes of a great circle that the first of them is shown on", examples=[[1, 2]]
    )

    @model_validator(mode="after")
    def _two_axes(self) -> SpinOptions:
        i, j = self.circle
        if i == j or max(i, j) > self.dimension:
            raise ValueError(f"circle has the numbers of two different axes from 1 to {self.dimension}, not {self.circle}")
        return self


def training(options: SpinOptions, seed: int) -> Training:
    """The plan of one training: batches of batch·n samples, at least 1, and of quench_batch·n² in the quench."""
    n = options.units
    return Training(
        **options.model_dump(exclude={"batch", "quench_batch", "trainings", "seed", "circle"}),
        batch=max(1, round(options.batch * n)),
        quench_batch=max(1, round(options.quench_batch * n**2)),
        seed=seed,
    )


@dataclass(frozen=True)
class SpinErrors:
    """Relative mean squares over independent trainings."""

    error: float  # E‖f_n − f‖² of a single training
    error_standard_error: float  # from the trainings, as the next one
    fluctuation: float  # the sample variance over trainings, E‖f_n − E f_n‖²
    fluctuation_standard_error: float | None  # of it; unknown from two trainings, which deviate alike from their mean
    bias: float  # what is left of the error, not below 0


@dataclass(frozen=True)
class SpinResult(SpinErrors):
    """The summary of a point."""

    batch: int  # samples in a batch
    quench_batch: int  # and in one of the quench
    circle_target: list[float]  # f at x_i = √d cos θ, x_j = √d sin θ, θ in `ANGLES`
    circle_network: list[float]  # f_n of the first training there


def measured(predictions: Array, target: NDArray[np.floating]) -> SpinErrors:
    """The errors of a result, from f_n of R trainings, shape (R, N), and f, shape (N,)."""
    runs, scale = len(predictions), float((target**2).mean())
    errors = ((predictions - target) ** 2).mean(axis=1) / scale
    deviations = ((predictions - predictions.mean(axis=0)) ** 2).mean(axis=1) / scale * runs / (runs - 1.0)
    error, fluctuation = float(errors.mean()), float(deviations.mean())
    spreads = [float(values.std(ddof=1)) / math.sqrt(runs) for values in (errors, deviations)]
    return SpinErrors(
        error=error,
        error_standard_error=spreads[0],
        fluctuation=fluctuation,
        fluctuation_standard_error=spreads[1] if runs > 2 else None,
        bias=max(0.0, error - fluctuation),
    )


def great_circle(dimension: int, i: int, j: int) -> NDArray[np.float32]:
    """x_i = √d cos θ, x_j = √d sin θ, all others 0, at `ANGLES`; i and j count from 1."""
    x = np.zeros((len(ANGLES), dimension), np.float32)
    x[:, i - 1], x[:, j - 1] = math.sqrt(dimension) * np.cos(ANGLES), math.sqrt(dimension) * np.sin(ANGLES)
    return x


def spin_error(problem: Problem, options: SpinOptions, comm: MPI.Intracomm) -> SpinResult:
    """SpinErrors of networks; trainings are distributed over the ranks, and the case has no part in them. Collective.

    Raises:
        InvariantError: a network is no longer finite; on all ranks alike.
    """
    plan, circle = training(options, 0), great_circle(options.dimension, *options.circle)
    samples, target = fresh_samples(plan)
    seen = np.concatenate([samples, circle])
    seeds = range(options.seed, options.seed + options.trainings)
    parts = comm.allgather([train(training(options, seed)).predict(seen) for seed in seeds[comm.rank :: comm.size]])
    outputs = np.array([parts[k % comm.size][k // comm.size] for k in range(options.trainings)], float)
    if not np.isfinite(outputs).all():
        raise InvariantError(f"a network of {options.units} units became infinite or NaN; choose a smaller options.step")
    errors = measured(outputs[:, : len(target)], target)
    shown = [values.astype(float).tolist() for values in (target_of(plan, circle), outputs[0, len(target) :])]
    return SpinResult(
        **vars(errors), batch=plan.batch, quench_batch=plan.quench_batch, circle_target=shown[0], circle_network=shown[1]
    )


SPIN_ERROR = task_of(SpinOptions, spin_error)


# --- the law --------------------------------------------------------------------------------------------------------------------


LAWS = {"error": "E‖f_n − f‖² ~ 1/n", "fluctuation": "E‖f_n − E f_n‖² ~ 1/n"}


class SpinLawOptions(MeasurementOptions):
    """The slope of a quantity of the task "spin_error" against n, −1 or steeper."""

    name: str = Field("error", description="name of its figure, <name>.png", examples=["error"])
    x: str = Field("options.units", description="the varied number of units", examples=["options.units"])
    y: Annotated[str, Field(pattern="^(error|fluctuation)$")] = Field(
        "error", description="error or fluctuation", examples=["error"]
    )
    tolerance: Positive = Field(0.15, description="how much flatter than −1 the slope may be, > 0", examples=[0.15])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])


def spin_laws(dataset: xarray.Dataset, options: SpinLawOptions) -> Outcome:
    """One verdict for each kind of unit and dimension.

    The error tells of the law only where the bias of the largest network, what even the limit has not learned, is below a third
    of the smallest error; otherwise "bias dominates". Fluctuations have no bias. A steeper slope holds too: networks that have
    come to their limit heal, o(1/n).
    """
    if options.y not in dataset:
        return Outcome([_verdict(options, "all", None, 0.0, FAILS)])
    parts = [(_label(*names), part) for *names, part in by_unit_and_dimension(dataset)]
    series = [(label, _series(part, options), _last_bias(part, options)) for label, part in parts]
    verdicts = [_verdict(options, label, fit, bias, _holds(options, fit, bias)) for label, fit, bias in series]
    panel = fits(
        [(label, fit) for label, fit, _ in series],
        predicted=-1.0,
        level=options.level,
        xlabel="number of units n",
        ylabel=f"{LAWS[options.y].split(' ~')[0]} / E f²",
    )
    return Outcome(verdicts, Picture(title(dataset), [panel]))


def by_unit_and_dimension(dataset: xarray.Dataset) -> Iterator[tuple[Key, Key, xarray.Dataset]]:
    """(unit, d, what belongs to them), None for what the study does not vary."""
    for unit, half in grouped(dataset, "options.unit"):
        for dimension, part in grouped(half, "options.dimension"):
            yield unit, dimension, part


def _label(unit: Key, dimension: Key) -> str:
    return ", ".join([str(unit)] * (unit is not None) + [f"d = {dimension}"] * (dimension is not None))


def _series(part: xarray.Dataset, options: SpinLawOptions) -> Series:
    spread = f"{options.y}_standard_error"
    return series_at(part, SlopeOptions(kind="slope", x=options.x, y=options.y, predicted=-1.0, standard_error=spread), None)


def _last_bias(part: xarray.Dataset, options: SpinLawOptions) -> float:
    """The bias of the largest network; 0 for the fluctuation."""
    units = axis(part, options.x)
    if options.y == "fluctuation" or units is None:
        return 0.0
    sizes = np.array([number(value) for value in units.values])
    return float(part["bias"].isel({units.dims[0]: int(np.argmax(sizes))}).max())


def _holds(options: SpinLawOptions, series: Series, bias: float) -> str:
    if series.line is None:
        return FAILS
    slope = max(series.line.slope.value, -1.0)
    return decide(slope, -1.0, options.tolerance, smallest=min(y.value for y in series.y), bias=bias)


def _verdict(options: SpinLawOptions, label: str, series: Series | None, bias: float, holds: str) -> Verdict:
    line = None if series is None else series.line
    smallest = min((y.value for y in series.y), default=0.0) if series is not None else 0.0
    note = "the bias of the largest network is not below a third of the smallest error" if holds == BIASED else ""
    return Verdict(
        f"{LAWS[options.y]}, {label}",
        -1.0,
        None if line is None else line.slope.value,
        None if line is None else line.slope.interval(options.level),
        holds,
        note if line is not None else "fewer than two sizes have a positive number",
        {"measure": options.name, "tolerance": options.tolerance, "level": options.level, "smallest": smallest, "bias": bias},
    )


SPIN_LAWS = Measurement(SpinLawOptions, spin_laws)
