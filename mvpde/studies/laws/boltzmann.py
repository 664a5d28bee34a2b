"""How far a stationary law of SGD is from every Boltzmann law e^{−L/T}/Z.

    KL(ρ | e^{−L/T}/Z) = ∫ρ log ρ + ⟨L⟩_ρ/T + log Z(T)

is convex in 1/T, and least where ⟨L⟩ is the same under both. With Σ = σI it vanishes at T = ησ/2; with the anisotropic
covariance of real gradients it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field
from scipy.optimize import brentq

from mvpde.cases.measures import measures
from mvpde.cases.problem import Problem
from mvpde.cases.schema import Positive
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.sgd_network import SgdNetwork
from mvpde.runtime import MPI
from mvpde.studies.coarser import TwoMeshes, coarser
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import COARSE, FAILS, HOLDS, SHARE, Estimate, Verdict, decide, loglog_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from mvpde.equilibrium.stationary import Stationary
    from mvpde.mesh.domain import Domain

SHARES = (1.0, 0.75, 0.5)  # of the cells in each direction


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


def law_of(setting: Problem, comm: MPI.Intracomm) -> Stationary:
    """The stationary law on the mesh of a case. Collective."""
    from mvpde.equilibrium.stationary import stationary

    return stationary(measures(setting, ["density"], comm)["density"])


def boltzmann(setting: Problem, train: SgdNetwork, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """KL to the best fit of the law of the model, and of one with the noise A = TI instead, on three meshes. Collective."""
    settings = [coarser(setting, share) for share in SHARES]
    temperature, divergence = zip(*(_fitted(one, train, comm) for one in settings), strict=True)
    even = replace(setting.model, own_diffusion=isotropic(setting.model, temperature[0]))
    control = [_fitted(replace(one, model=even), train, comm)[1] for one in settings]
    return {
        "temperature": temperature[0],
        "divergence": list(divergence),
        "mesh_error": float(TwoMeshes(np.array(divergence[0]), np.array(divergence[1])).error),
        "control": control,
    }


def isotropic(model: MeanField, temperature: float) -> Any:
    """A = TI for the coordinates of a model."""
    return lambda w, _: np.broadcast_to(temperature * np.eye(model.dimension), (len(w), model.dimension, model.dimension))


def _fitted(setting: Problem, train: SgdNetwork, comm: MPI.Intracomm) -> tuple[float, float]:
    found = law_of(setting, comm)
    return best_fit(found.domain, found.values, train.loss(found.domain.coordinates))


# --- the measurement ------------------------------------------------------------------------------------------------------------


class BoltzmannOptions(Measurement):
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
    found, control, error = rows[0][first], rows[1][first], float(rows[2][first])
    constants = {"measure": options.name}
    verdicts = [
        Verdict(
            laws[0],
            0.0,
            float(found[0]),
            (found[0] - error, found[0] + error),
            _present(found[0], control[0], error),
            "",
            {**constants, "mesh_error": error, "control": float(control[0])},
            ">",
        ),
        _vanishing(laws[1], control, options),
    ]
    return Outcome(verdicts, _figure(dataset, found, control, options))


def _present(found: float, control: float, error: float) -> str:
    """Whether KL is told from 0: far above what isotropic noise leaves on the same mesh, its mesh error below a third."""
    if not found > control / SHARE:
        return FAILS
    return HOLDS if error < SHARE * found else COARSE


def _vanishing(law: str, control: Any, options: BoltzmannOptions) -> Verdict:
    sizes = 1.0 / np.array(SHARES)
    positive = np.all(control > 0.0)
    slope = loglog_line(sizes, [Estimate(float(k)) for k in control]).slope.value if positive else float("nan")
    holds = decide(min(slope, options.order), options.order, options.tolerance)
    details = {"measure": options.name, "tolerance": options.tolerance, "finest": float(control[0])}
    return Verdict(law, options.order, slope if positive else None, None, holds, "" if positive else "KL ≤ 0 on a mesh", details)


def _figure(dataset: xarray.Dataset, found: Any, control: Any, options: BoltzmannOptions) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import bars, finish, guide, style

    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes, sizes = figure.subplots(), 1.0 / np.array(SHARES)
    for k, (values, label) in enumerate(((found, "gradient noise of the data, A = gC"), (control, "isotropic noise, A = TI"))):
        bars(axes, sizes, [Estimate(float(one)) for one in values], 0.95, label, **{**style(k), "linestyle": "-"})
    guide(axes, sizes, 1.8 * float(control[0]), options.order, f"slope {options.order:g}")
    finish(axes, xlabel="mesh size, in that of the finest mesh", ylabel="KL(ρ_∞ | best Boltzmann law)")
    axes.set_xticks(sizes, [f"{one:.3g}" for one in sizes], minor=False)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.set_title(str(dataset.attrs.get("title", "")), fontsize=10)
    return figure


BOLTZMANN = Measure(BoltzmannOptions, boltzmann_distance)
