"""A symmetric state that loses its stability: stationary branches at one value of a control parameter, particles beside them.

The state whose order parameter m_k is 0 is unstable where the leading eigenvalue of the equation linearised there is positive,
and that is where τI + Cov R'' has a negative eigenvalue, Cov the covariance of the features in that state: here computed by
Gauss–Legendre quadrature, without a mesh.

n particles have the stationary law ∝ exp(−(ΣV0(z_i) + nR(m_n))/τ). For R = b·m − ½θm_k² the square is split off by a Gaussian
variable y (Hubbard & Stratonovich), which leaves independent particles,

    E m_k² = E y² − τ/(θn),    y ~ exp(n[log∫exp(−(V0 + b·g − θyg_k)/τ)dz − ½θy²/τ]),

exact for every n. Beyond the critical value E m_k² → m*², at it only a quartic is left in the exponent and √n E m_k² → const
(Dawson, J. Stat. Phys. 31 (1983) 29).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field
from scipy.special import roots_legendre

from mvpde.cases.file import Case
from mvpde.cases.measures import domain
from mvpde.cases.problem import Problem, problem, stationary_starts
from mvpde.cases.schema import Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, CaseError
from mvpde.studies.task import Task, summarised

_POINTS = 1200  # of the quadrature


class BifurcationOptions(Section):
    """[options] of the task "bifurcation"."""

    parameter: str = Field(description="the control parameter, one of [model.parameters]", examples=["beta"])
    moment: int = Field(0, description="k of the order parameter m_k, a whole number ≥ 0", examples=[0], ge=0)


def bifurcation(case: Case, options: BifurcationOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Branches from [stationary] starts on the mesh, and E m_k² of the particles over the later half of the run. Collective.

    Raises:
        CaseError: a model with several coordinates or without interaction, or without such a parameter or moment.
    """
    from mvpde.density.density import Density
    from mvpde.equilibrium.approach import moments_of
    from mvpde.equilibrium.branches import Branch, branches
    from mvpde.equilibrium.linearised import second_derivative

    setting = problem(case)
    _check(setting, options)
    model, k = setting.model, options.moment
    section: Any = case.sections.density
    density = Density(model, domain(setting, comm), setting.law, scheme=section.scheme, tolerance=section.tolerance)
    found = branches(density, moments_of(density, stationary_starts(setting)))

    def size(branch: Branch) -> float:
        return abs(float(branch.moments[k]))

    symmetric, broken = min(found, key=size), max(found, key=size)
    right = density.features.right
    covariance = _covariance(model, symmetric.moments, density.domain.lower[0], density.domain.upper[0])
    form = (
        np.eye(right.shape[1]) + right.T @ covariance @ right @ second_derivative(density, symmetric.moments) / model.temperature
    )
    parameters: Mapping[str, float] = getattr(case.sections.model, "parameters", {})
    return {
        "control": float(parameters[options.parameter]),
        "temperature": model.temperature,
        "count": len(found),
        "symmetric": {"growth": symmetric.leading_eigenvalue, "margin": float(np.linalg.eigvals(form).real.min())},
        "broken": {"moment": size(broken), "growth": broken.leading_eigenvalue, "stable": int(broken.stable)},
        "ensemble": _particles(setting, k, comm),
    }


def _check(setting: Problem, options: BifurcationOptions) -> None:
    sections: Any = setting.case.sections
    model, parameters = setting.model, getattr(sections.model, "parameters", {})
    if model.dimension != 1 or not (model.interacting and model.gradient_flow):
        raise CaseError(f'{setting.case.path}: the task "bifurcation" needs an interacting gradient flow with one coordinate')
    if options.parameter not in parameters:
        raise CaseError(f"{setting.case.path}: [options] parameter: `{options.parameter}` is not in [model.parameters]")
    if sections.density is None or sections.ensemble is None or sections.domain.lower is None:
        raise CaseError(f'{setting.case.path}: the task "bifurcation" needs [density] on a box, and [ensemble]')


@functools.cache
def _gauss(points: int) -> tuple[Array, Array]:
    nodes, weights = roots_legendre(points)
    return np.asarray(nodes), np.asarray(weights)


def _quadrature(lower: float, upper: float) -> tuple[Array, Array]:
    nodes, weights = _gauss(_POINTS)
    return 0.5 * (lower + upper) + 0.5 * (upper - lower) * nodes, 0.5 * (upper - lower) * weights


def _covariance(model: MeanField, moments: Array, lower: float, upper: float) -> Array:
    """Cov of the features under exp(−V(·; m)/τ) on [lower, upper], shape (K, K)."""
    z, weights = _quadrature(lower, upper)
    exponent = -model.potential(z[:, None], moments) / model.temperature
    masses = weights * np.exp(exponent - exponent.max())
    features = model.feature_values(z[:, None])
    centred = features - masses @ features / masses.sum()
    return np.asarray((masses[:, None] * centred).T @ centred / masses.sum())


def exact_square(model: MeanField, k: int, particles: int, lower: float, upper: float) -> float | None:
    """E m_k² of n particles in their stationary law on [lower, upper]; None where R is not b·m − ½θm_k² with θ > 0.

    Args:
        model: an interacting gradient flow with one coordinate.
        k: which moment.
        particles: n.
        lower, upper: an interval that holds the law.
    """
    z, weights = _quadrature(lower, upper)
    features, temperature = model.feature_values(z[:, None]), model.temperature
    count = features.shape[1]
    slope, unit = model.outer_gradient(np.zeros(count)), np.eye(count)
    bends = [np.array([model.outer_gradient(size * e) - slope for e in unit]) / size for size in (0.5, 1.3)]
    theta = -float(bends[0][k, k])
    if not theta > 0.0 or any(np.abs(b + theta * np.outer(unit[k], unit[k])).max() > 1e-9 * theta for b in bends):
        return None
    alone = -(model.external_potential(z[:, None]) + features @ slope) / temperature
    y, grid = _quadrature(*(float(end(features[:, k])) for end in (np.min, np.max)))
    inner = alone + theta / temperature * y[:, None] * features[:, k]
    largest = inner.max(axis=1)
    exponent = particles * (largest + np.log(np.exp(inner - largest[:, None]) @ weights) - 0.5 * theta * y**2 / temperature)
    masses = grid * np.exp(exponent - exponent.max())
    return float(masses @ y**2 / masses.sum() - temperature / (theta * particles))


def _particles(setting: Problem, k: int, comm: MPI.Intracomm) -> dict[str, Any]:
    """E m_k² over runs and the output times of the later half, its standard error from the runs, and its exact value."""
    from mvpde.particles.ensemble import Ensemble

    section: Any = setting.case.sections.ensemble
    times = [t for t in setting.case.sections.time.outputs if t > 0.0]
    keys = {key: getattr(section, key) for key in ("particles", "runs", "seed", "step", "scheme")}
    ensemble = Ensemble(setting.model, setting.law, **keys, comm=comm)
    squares = []
    for t in times:
        ensemble.advance(t)
        if t > 0.5 * times[-1]:
            squares.append(ensemble.moments()[:, k] ** 2)
    runs = np.mean(squares, axis=0)
    spread = float(runs.std(ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else float("nan")
    box: Any = setting.case.sections.domain
    exact = exact_square(setting.model, k, section.particles, box.lower[0], box.upper[0])
    numbers = {"particles": section.particles, "runs": section.runs, "square": float(runs.mean()), "standard_error": spread}
    return numbers if exact is None else {**numbers, "exact_square": exact}


BIFURCATION = Task(BifurcationOptions, summarised(bifurcation))
