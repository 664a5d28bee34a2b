"""Stationary laws of SGD with equal and with different noise scales g = η/(2B).

The law of the diffusion depends on g only. That of the chain depends on η beside it: (η, B) and (kη, kB) have equal g, and the
laws of their runs differ by O(η); (η, kB) has another g, and the difference stays. The chain at equal g differs from the
diffusion by O(η) and by the skewness of a batch gradient, O(η²/B²) = O(g²), which no smaller η at the same g makes vanish but
which is the same for all (η, B): hence runs are compared with runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from mvpde.cases.measures import training
from mvpde.cases.meshes.coarser import TwoMeshes
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Section
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI
from mvpde.studies.laws.sgd.boltzmann import Boltzmann, boltzmann, laws_on_meshes
from mvpde.studies.laws.sgd.moment_distance import Yardstick, distance, expectations, yardstick
from mvpde.studies.laws.sgd.training import later_times, needs_of_comparison
from mvpde.studies.needs import given
from mvpde.studies.task import task_of

NEEDS = needs_of_comparison("noise_scale")


class NoiseScaleOptions(Section):
    """[options] of the task "noise_scale"."""

    factor: int = Field(2, description="k of (kη, kB) and (η, kB), a whole number ≥ 2", examples=[2], ge=2)


@dataclass(frozen=True)
class Pairs[Content]:
    """Of runs with (η, B) against runs of equal noise scale, of another one, and against the density."""

    equal: Content
    other: Content
    density: Content


@dataclass(frozen=True)
class NoiseScaleResult:
    """The summary of a point."""

    noise_scale: float  # g
    distance: Pairs[float]  # of laws, see `moment_distance`
    standard_error: Pairs[float]  # of them
    mesh_error: float  # the density's own, as a distance
    differences: Pairs[list[float]]  # of each mean behind the distances
    outer_mass: float  # mass of the stationary law at the walls
    boltzmann: Boltzmann  # how far that law is from every Boltzmann law


def noise_scale(problem: Problem, options: NoiseScaleOptions, comm: MPI.Intracomm) -> NoiseScaleResult:
    """Distances of stationary laws; runs are averaged over the output times, of which the first should be late. Collective."""
    train, times, laws = training(problem), later_times(problem), laws_on_meshes(problem, comm)
    law, coarse, _ = laws
    scale = yardstick(law.domain, law.values, problem.model.coordinates)
    mesh = TwoMeshes(scale.means, expectations(coarse.domain, coarse.values, scale.functions))
    eta, batch, k = train.learning_rate, train.batch_size, options.factor
    base, equal, other = (
        _sampled(problem, replace(train, learning_rate=a, batch_size=b), scale, times, seed, comm)
        for seed, (a, b) in enumerate(((eta, batch), (k * eta, k * batch), (eta, k * batch)))
    )
    others = (equal, other, (scale.means, np.zeros_like(scale.means)))
    distances = [distance(base[0] - means, np.hypot(base[1], errors)) for means, errors in others]
    return NoiseScaleResult(
        train.noise_scale,
        Pairs(*(d for d, _ in distances)),
        Pairs(*(s for _, s in distances)),
        float(np.sqrt(np.mean(mesh.error**2))),
        Pairs(*((base[0] - means).tolist() for means, _ in others)),
        law.outer_mass,
        boltzmann(problem, train, laws, comm),
    )


def _sampled(
    problem: Problem, train: SgdNetwork, scale: Yardstick, times: Sequence[float], seed: int, comm: MPI.Intracomm
) -> tuple[Array, Array]:
    """⟨h⟩ over runs and output times, and the standard errors, shape (K,)."""
    section = given(problem.sections.sgd)
    runs = SgdRuns(train, problem.law, runs=section.runs, seed=section.seed + seed, comm=comm)
    return runs.averages(scale.functions, times)


NOISE_SCALE = task_of(NoiseScaleOptions, noise_scale, NEEDS)
