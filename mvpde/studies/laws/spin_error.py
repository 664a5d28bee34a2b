"""Networks trained on the 3-spin energy: how the test error falls with the number n of units, in any dimension.

    E‖f_n − f‖² = ‖E f_n − f‖² + E‖f_n − E f_n‖²

Both parts are measured from independent trainings: the fluctuation, which the law of large numbers says falls like 1/n at every
time when batches grow like n, and the bias, which is that of the limit, what training has not learned yet. Where the bias is
negligible the error falls like 1/n (Rotskoff & Vanden-Eijnden, arXiv:1805.00915, §5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.schema import Count, Positive, Section, one_of
from mvpde.particles.spin_network import SPIN_UNITS, Training, fresh_samples, train
from mvpde.runtime import MPI, InvariantError
from mvpde.studies.task import Task, summarised


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


def training(options: SpinOptions, seed: int) -> Training:
    """The plan of one training: batches of batch·n samples, at least 1, and of quench_batch·n² in the quench."""
    n = options.units
    return Training(
        **options.model_dump(exclude={"batch", "quench_batch", "trainings", "seed"}),
        batch=max(1, round(options.batch * n)),
        quench_batch=max(1, round(options.quench_batch * n**2)),
        seed=seed,
    )


def measured(predictions: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> dict[str, float]:
    """Relative mean-square error, fluctuation and bias, from f_n of R trainings, shape (R, N), and f, shape (N,).

    error: of a single training, in the mean; fluctuation: the sample variance over trainings, E‖f_n − E f_n‖²; bias: what is
    left, not below 0. Standard errors of the first two come from the trainings.
    """
    runs, scale = len(predictions), float((target**2).mean())
    errors = ((predictions - target) ** 2).mean(axis=1) / scale
    deviations = ((predictions - predictions.mean(axis=0)) ** 2).mean(axis=1) / scale * runs / (runs - 1.0)
    fluctuation = float(deviations.mean())
    return {
        "error": float(errors.mean()),
        "error_standard_error": float(errors.std(ddof=1)) / math.sqrt(runs),
        "fluctuation": fluctuation,
        "fluctuation_standard_error": float(deviations.std(ddof=1)) / math.sqrt(runs),
        "bias": max(0.0, float(errors.mean()) - fluctuation),
    }


def spin_error(case: Case, options: SpinOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """What `measured` says, and the sizes of the batches; trainings are distributed over the ranks. Collective.

    Raises:
        InvariantError: a network is no longer finite; on all ranks alike.
    """
    _, target = fresh_samples(training(options, 0))
    seeds = range(options.seed, options.seed + options.trainings)
    mine = [train(training(options, seed)) for seed in seeds[comm.rank :: comm.size]]
    parts = comm.allgather(mine)
    found = np.array([parts[k % comm.size][k // comm.size] for k in range(options.trainings)], float)
    if not np.isfinite(found).all():
        raise InvariantError(f"a network of {options.units} units became infinite or NaN; choose a smaller options.step")
    plan = training(options, 0)
    return {**measured(found, target), "batch": plan.batch, "quench_batch": plan.quench_batch}


SPIN_ERROR = Task(SpinOptions, summarised(spin_error))
