"""Stationary laws of SGD with equal and with different noise scales g = η/(2B).

The law of the diffusion depends on g only. That of the chain depends on η beside it: (η, B) and (kη, kB) have equal g, and the
laws of their runs differ by O(η); (η, kB) has another g, and the difference stays. The chain at equal g differs from the
diffusion by O(η) and by the skewness of a batch gradient, O(η²/B²) = O(g²), which no smaller η at the same g makes vanish but
which is the same for all (η, B): hence runs are compared with runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from mvpde.cases.file import Case
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Section
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI, CaseError
from mvpde.studies.coarser import TwoMeshes, coarser
from mvpde.studies.laws.boltzmann import boltzmann, law_of
from mvpde.studies.laws.moment_distance import Yardstick, distance, expectations, yardstick
from mvpde.studies.laws.weak_error import later_times, sgd_of
from mvpde.studies.task import Task, summarised


class NoiseScaleOptions(Section):
    """[options] of the task "noise_scale"."""

    factor: int = Field(2, description="k of (kη, kB) and (η, kB), a whole number ≥ 2", examples=[2], ge=2)


def noise_scale(case: Case, options: NoiseScaleOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Distances of stationary laws; runs are averaged over the output times, of which the first should be late. Collective.

    Raises:
        CaseError: another kind of model, batches without replacement, no output time after the start.
    """
    setting = problem(case)
    train = sgd_of(setting, "noise_scale", ("density", "sgd"))
    if not train.replacement:
        raise CaseError(f'{case.path}: [model] replacement: the task "noise_scale" multiplies B, and g with it; write true')
    times, coarse = later_times(setting, "noise_scale"), coarser(setting)
    law, coarse_law = law_of(setting, comm), law_of(coarse, comm)
    scale = yardstick(law.domain, law.values, setting.model.coordinates)
    mesh = TwoMeshes(scale.means, expectations(coarse_law.domain, coarse_law.values, scale.functions))
    eta, batch, k = train.learning_rate, train.batch_size, options.factor
    base, equal, other = (
        _sampled(setting, replace(train, learning_rate=a, batch_size=b), scale, times, seed, comm)
        for seed, (a, b) in enumerate(((eta, batch), (k * eta, k * batch), (eta, k * batch)))
    )
    still = np.zeros_like(scale.means)
    pairs = {"equal": (base, equal), "other": (base, other), "density": (base, (scale.means, still))}
    found = {name: distance(a[0] - b[0], np.hypot(a[1], b[1])) for name, (a, b) in pairs.items()}
    return {
        "noise_scale": train.noise_scale,
        "distance": {name: d for name, (d, _) in found.items()},
        "standard_error": {name: s for name, (_, s) in found.items()},
        "mesh_error": float(np.sqrt(np.mean(mesh.error**2))),
        "differences": {name: (a[0] - b[0]).tolist() for name, (a, b) in pairs.items()},
        "outer_mass": law.outer_mass,
        "boltzmann": boltzmann(setting, train, comm),
    }


def _sampled(
    setting: Problem, train: SgdNetwork, scale: Yardstick, times: Sequence[float], seed: int, comm: MPI.Intracomm
) -> tuple[Array, Array]:
    """⟨h⟩ over runs and output times, and the standard errors, shape (K,)."""
    section: Any = setting.case.sections.sgd
    runs = SgdRuns(train, setting.law, runs=section.runs, seed=section.seed + seed, comm=comm)
    return runs.averages(scale.functions, times)


NOISE_SCALE = Task(NoiseScaleOptions, summarised(noise_scale))
