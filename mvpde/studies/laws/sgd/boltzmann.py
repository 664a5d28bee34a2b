"""How far a stationary law of SGD is from every Boltzmann law e^{−L/T}/Z.

    KL(ρ | e^{−L/T}/Z) = ∫ρ log ρ + ⟨L⟩_ρ/T + log Z(T)

is convex in 1/T, and least where ⟨L⟩ is the same under both. With Σ = σI it vanishes at T = ησ/2; with the anisotropic
covariance of real gradients it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.optimize import brentq

from mvpde.cases.measures import density_of
from mvpde.cases.meshes.coarser import HALF, THREE_QUARTERS, TwoMeshes, coarser
from mvpde.cases.messages import about
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive
from mvpde.equilibrium.stationary import Stationary, stationary
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.sgd_network import SgdNetwork
from mvpde.runtime import MPI
from mvpde.studies.figures import bars, finish, guide, plain_ticks
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.verdict import COARSE, FAILS, HOLDS, SMALL_SHARE, Estimate, Json, Verdict, decide, loglog_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

SHARES = (1.0, THREE_QUARTERS, HALF)  # of the cells in each direction


@dataclass(frozen=True)
class Boltzmann:
    """The best fit of a Boltzmann law."""

    temperature: float  # T on the finest mesh
    divergence: list[float]  # KL on each mesh
    mesh_error: float  # of the first of them
    control: list[float]  # KL on each mesh of a law with the noise A = TI instead


def best_fit(domain: Domain, values: Array, loss: Array) -> tuple[float, float]:
    """T and KL of the nearest Boltzmann law on the mesh; values and loss at the unknowns (local), mass 1. Collective.

    Raises:
        ValueError: where ⟨L⟩ is not below its mean over the domain, which no T > 0 reaches.
    """
    owned, lumped = domain.owned, domain.graph.lumped
    rho, height = np.maximum(values[:owned], 0.0), loss[:owned] - domain.extremes(loss[:owned])[0]
    entropy, mean = domain.sum(
        np.array([lumped @ np.where(rho > 0.0, rho * np.log(np.maximum(rho, 1e-300)), 0.0), lumped * rho @ height])
    )

    def partition(beta: float) -> tuple[float, float]:
        """Z and ⟨L⟩ with the least L taken as 0."""
        weights = lumped * np.exp(-beta * height)
        z, total = domain.sum(np.array([weights.sum(), weights @ height]))
        return float(z), float(total / z)

    if not mean < partition(0.0)[1]:
        raise ValueError("the mean loss is not below that of the uniform law; no Boltzmann law with T > 0 has it")
    above = 1.0 / mean
    while partition(above)[1] > mean:
        above *= 2.0
    beta = float(brentq(lambda b: partition(b)[1] - mean, 0.0, above, rtol=1e-12))
    return 1.0 / beta, float(entropy + beta * mean + np.log(partition(beta)[0]))


def law_of(problem: Problem, comm: MPI.Intracomm) -> Stationary:
    """The stationary law on the mesh of a case. Collective."""
    density = density_of(problem, comm)
    with about("[stationary]"):
        return stationary(density)


def laws_on_meshes(problem: Problem, comm: MPI.Intracomm) -> list[Stationary]:
    """The stationary laws with each of the SHARES of the cells. Collective."""
    return [law_of(coarser(problem, share), comm) for share in SHARES]


def boltzmann(problem: Problem, train: SgdNetwork, laws: Sequence[Stationary], comm: MPI.Intracomm) -> Boltzmann:
    """KL to the best fit of the laws, and of those with the noise A = TI instead, on the same meshes. Collective."""

    def fitted(law: Stationary) -> tuple[float, float]:
        return best_fit(law.domain, law.values, train.loss(law.domain.coordinates))

    temperatures, divergence = zip(*map(fitted, laws), strict=True)
    even = replace(problem.model, own_diffusion=isotropic(problem.model, temperatures[0]))
    control = [fitted(law)[1] for law in laws_on_meshes(replace(problem, model=even), comm)]
    error = float(TwoMeshes(np.array(divergence[0]), np.array(divergence[1])).error)
    return Boltzmann(temperatures[0], list(divergence), error, control)


def isotropic(model: MeanField, temperature: float) -> Callable[[Array, Array], Array]:
    """A = TI for the coordinates of a model."""
    return lambda w, _: np.broadcast_to(temperature * np.eye(model.dimension), (len(w), model.dimension, model.dimension))


# --- the measurement ------------------------------------------------------------------------------------------------------------


class BoltzmannOptions(MeasurementOptions):
    """KL > 0 beyond the mesh error; with isotropic noise KL ~ h⁴, the square of an error O(h²)."""

    name: str = Field("boltzmann", description="name of its figure, <name>.png", examples=["boltzmann"])
    order: Positive = Field(4.0, description="in the mesh size, of KL with isotropic noise", examples=[4.0])
    tolerance: Positive = Field(1.0, description="how far the measured order may fall short, > 0", examples=[1.0])


def boltzmann_distance(dataset: xarray.Dataset, options: BoltzmannOptions) -> Outcome:
    """Two verdicts, from the first point that has the numbers: all points of equal noise scale have the same."""
    names = ("boltzmann.divergence", "boltzmann.control", "boltzmann.mesh_error")
    laws = ("anisotropic Σ: KL(ρ_∞ | best Boltzmann law) > 0", "Σ = σI: KL(ρ_∞ | best Boltzmann law) ~ h^4")
    if any(name not in dataset for name in names):
        return Outcome([Verdict(law, 0.0, None, None, FAILS, "no point has these numbers") for law in laws])
    rows = [dataset[name].values.reshape(-1, *([len(SHARES)] if k < 2 else [])) for k, name in enumerate(names)]
    first = int(np.flatnonzero(np.isfinite(rows[2]))[0])
    divergence, control, error = rows[0][first], rows[1][first], float(rows[2][first])
    verdicts = [
        Verdict(
            laws[0],
            0.0,
            float(divergence[0]),
            (float(divergence[0]) - error, float(divergence[0]) + error),
            _present(divergence[0], control[0], error),
            "",
            {"measure": options.name, "mesh_error": error, "control": float(control[0])},
            ">",
        ),
        _vanishing(laws[1], control, options),
    ]
    panel = partial(_draw, divergence=divergence, control=control, order=options.order)
    return Outcome(verdicts, Picture(title(dataset), [panel]))


_NOTHING = 1.5  # times KL with isotropic noise, below which nothing is there but the mesh


def _present(divergence: float, control: float, error: float) -> str:
    """Whether KL is told from 0: far above what isotropic noise leaves on the same mesh, its mesh error below a third."""
    if not divergence > _NOTHING * control:
        return FAILS
    return HOLDS if max(control, error) < SMALL_SHARE * divergence else COARSE


def _vanishing(law: str, control: Array, options: BoltzmannOptions) -> Verdict:
    sizes = 1.0 / np.array(SHARES)
    positive = np.all(control > 0.0)
    slope = loglog_line(sizes, [Estimate(float(k)) for k in control]).slope.value if positive else float("nan")
    holds = decide(min(slope, options.order), options.order, options.tolerance)
    details: dict[str, Json] = {"measure": options.name, "tolerance": options.tolerance, "finest": float(control[0])}
    return Verdict(law, options.order, slope if positive else None, None, holds, "" if positive else "KL ≤ 0 on a mesh", details)


def _draw(axes: Axes, divergence: Array, control: Array, order: float) -> None:
    sizes = 1.0 / np.array(SHARES)
    for k, (values, label) in enumerate(
        ((divergence, "gradient noise of the data, A = gC"), (control, "isotropic noise, A = TI"))
    ):
        bars(axes, sizes, [Estimate(float(value)) for value in values], 0.95, label, k, "-")
    guide(axes, sizes, 1.8 * float(control[0]), order, f"slope {order:g}")
    finish(axes, "mesh size, in that of the finest mesh", "KL(ρ_∞ | best Boltzmann law)")
    plain_ticks(axes, sizes)


BOLTZMANN = Measurement(BoltzmannOptions, boltzmann_distance)
