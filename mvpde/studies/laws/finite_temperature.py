"""Finite temperature and finite n: the stationary law of n(f_n − f) of Langevin runs with temperature τ = 1/(βn).

Rotskoff & Vanden-Eijnden, arXiv:1805.00915, Proposition 3, with a base measure m̂ (V0 = −τ log m̂) and data weights W = diag(w_p):

    ρ_ε ∝ m̂ exp(−Σ_p w_p ε_p c φ(x_p, y)),     f_ρ(x_p) = ∫ cφ(x_p, y) dρ_ε = f_p + ε_p/(βn),     Γ_pq = Cov_ρ[cφ(x_p), cφ(x_q)],
    E n(f_n − f) = ε/β + O(1/n),     Cov n(f_n − f) = (βW + (nΓ)^{-1})^{-1} + O(1/n).

As n → ∞, ε → ε* with f_ρ = f, and the covariance → W^{-1}/β. ε minimises the convex dual
log ∫ m̂ exp(−Σ w ε g) + Σ w ε f + Σ w ε²/(2βn). The O(1/n) are relative; they come from the cumulants of f_n beyond the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import Field
from scipy.linalg import solve_discrete_lyapunov

from mvpde.cases.file import Case
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Positive, Section
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI, CaseError, SolverError, on_first_rank
from mvpde.studies.task import Task, summarised

_DRAWS = 256  # from the proposal for each particle drawn
_DIFFERENCE = 1e-5  # of coordinates
LARGER = 4.0 / 3.0  # box and cells with which the quadrature of ρ_ε is compared
_RANK = 1e-10  # of Γ's largest eigenvalue: what is below it is left out of the linearised dynamics


class LangevinOptions(Section):
    """[options] of the task "finite_temperature". Times are in units of 1/τ, in which the law of one particle relaxes."""

    equilibration: Positive = Field(1.0, description="time that is left out of the averages, in 1/τ, > 0", examples=[1.0])
    averaging: Positive = Field(5.0, description="time that is averaged over, in 1/τ, > 0", examples=[5.0])
    interval: Positive = Field(1.0, description="time between samples, > 0", examples=[1.0])


@dataclass(frozen=True)
class Prediction:
    """At P data points: ε, shape (P,), mean and covariance of n(f_n − f), and Γ, shapes (P,) and (P, P).

    Attributes:
        mobility: ∫ ∇g ∇gᵀ dρ_ε, shape (P, P): f_n answers a force on the predictions with it.
    """

    epsilon: Array
    mean: Array
    covariance: Array
    gamma: Array
    mobility: Array


def midpoints(domain: Any, periods: Sequence[float | None], larger: float = 1.0) -> Array:
    """Centres of the cells of a box, shape (N, D): spectrally accurate for what is smooth and periodic or fades.

    With ``larger`` > 1 the box and its cells are so much larger, or a periodic direction has so many times fewer cells.
    """
    lines = []
    for lower, upper, count, period in zip(domain.lower, domain.upper, domain.cells, periods, strict=True):
        cells = count if period is None else max(3, round(count / larger))
        half = 0.5 * (upper - lower) * (larger if period is None else 1.0)
        lines.append(0.5 * (lower + upper) + half * (2.0 * (np.arange(cells) + 0.5) / cells - 1.0))
    return np.column_stack([axis.ravel() for axis in np.meshgrid(*lines, indexing="ij")])


def prediction(model: MeanField, z: Array, beta: float, n: float) -> Prediction:
    """Solve for ε by Newton's method. Local.

    Args:
        model: a network with τ > 0, least squares.
        z: equally weighted quadrature nodes, shape (N, D), with all of ρ_ε inside.
        beta: β > 0.
        n: number of particles; infinity for the limit ε*.

    Raises:
        SolverError: if no ρ_ε has these predictions.
    """
    assert model.data is not None
    g = model.predictions(model.feature_values(z))
    w, f = model.data.weights, model.data.target
    logarithm = -model.external_potential(z) / model.temperature
    noise = 1.0 / (beta * n)

    def dual(epsilon: Array) -> tuple[float, Array]:
        exponents = logarithm - g @ (w * epsilon)
        top = exponents.max()
        mass = np.exp(exponents - top)
        return top + math.log(mass.sum()) + float(w * epsilon @ (f + 0.5 * noise * epsilon)), mass / mass.sum()

    epsilon = np.zeros(len(w))
    value, mass = dual(epsilon)
    for _ in range(100):
        mean = mass @ g
        gamma = (g - mean).T * mass @ (g - mean)
        slope = w * (f + noise * epsilon - mean)
        if np.abs(slope).max() < 1e-12 * (1.0 + np.abs(mean).max()):
            return _predicted(model, z, mass, epsilon, gamma, beta, n)
        step = -np.linalg.solve(gamma * np.outer(w, w) + noise * np.diag(w), slope)
        length = 1.0
        rounding = 1e-14 * (1.0 + abs(value))
        while length > 1e-6 and not dual(epsilon + length * step)[0] <= value + 1e-4 * length * float(slope @ step) + rounding:
            length *= 0.5
        epsilon = epsilon + length * step
        value, mass = dual(epsilon)
    raise SolverError("finite temperature: no multiplier ε was found; the base measure reaches no such predictions")


def _predicted(model: MeanField, z: Array, mass: Array, epsilon: Array, gamma: Array, beta: float, n: float) -> Prediction:
    assert model.data is not None
    slopes = [(_features(model, z + shift) - _features(model, z - shift)) / (2.0 * _DIFFERENCE) for shift in _shifts(model)]
    mobility = sum(slope.T * mass @ slope for slope in slopes)
    return Prediction(epsilon, epsilon / beta, _covariance(model.data.weights, gamma, beta, n), gamma, np.asarray(mobility))


def _covariance(weights: Array, gamma: Array, beta: float, n: float) -> Array:
    """(βW + (nΓ)^{-1})^{-1}, in a form that no nearly singular Γ, that of many data points, spoils."""
    root = np.sqrt(beta * weights)
    if math.isinf(n):
        return np.diag(root**-2)
    values, directions = np.linalg.eigh(n * gamma * np.outer(root, root))
    share = np.maximum(values, 0.0) / (1.0 + np.maximum(values, 0.0))
    return np.asarray((directions * share) @ directions.T / np.outer(root, root))


def _shifts(model: MeanField) -> Array:
    return np.asarray(_DIFFERENCE * np.eye(model.dimension))


def _features(model: MeanField, z: Array) -> Array:
    return np.asarray(model.predictions(model.feature_values(z)))


def step_bias(found: Prediction, weights: Array, beta: float, n: float, h: float) -> Array:
    """What Heun's step h adds to the covariance C of u = n(f_n − f) if its dynamics are linear, shape (P, P).

    With v = u − ū, M the mobility and L = M(W + (βnΓ)^{-1}), dv = −Lv dt + √(2M/β) dB becomes
    v' = (1 − hL + ½h²L²)v + (1 − ½hL)√(2hM/β) ξ.
    """
    values, directions = np.linalg.eigh(found.gamma)
    moving = values > _RANK * values[-1]  # where Γ vanishes, f_n does not move
    v = directions[:, moving]
    mobility, one = v.T @ found.mobility @ v, np.eye(v.shape[1])
    rate = mobility @ (v.T * weights @ v + np.diag(1.0 / (beta * n * values[moving])))
    once, half = one - h * rate + 0.5 * h**2 * rate @ rate, one - 0.5 * h * rate
    discrete = solve_discrete_lyapunov(once, half @ (2.0 * h * mobility / beta) @ half.T)
    return np.asarray(v @ discrete @ v.T - found.covariance)


# --- Langevin runs --------------------------------------------------------------------------------------------------------------


class Proposal(Protocol):
    """A law that is easily drawn."""

    def sample(self, rng: np.random.Generator, n: int, /) -> Array:
        """n independent points, shape (n, D)."""
        ...

    def log_density(self, z: Array, /) -> Array:
        """log ρ(z), shape (N,)."""
        ...


@dataclass(frozen=True)
class Tilted:
    """ρ_ε, drawn by resampling a proposal with weights exp(−V0/τ − Σ wεg)/proposal: where Langevin runs begin."""

    model: MeanField
    proposal: Proposal
    tilt: Array

    @property
    def dimension(self) -> int:
        """D."""
        return self.model.dimension

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n points, shape (n, D), nearly independent."""
        z = self.proposal.sample(rng, _DRAWS * n)
        exponents = -self.model.external_potential(z) / self.model.temperature - self.proposal.log_density(z)
        exponents -= _features(self.model, z) @ self.tilt
        mass = np.exp(exponents - exponents.max())
        return np.asarray(z[rng.choice(len(z), n, p=mass / mass.sum())])


def finite_temperature(case: Case, options: LangevinOptions, comm: MPI.Intracomm) -> Mapping[str, Any]:
    """Prediction and time averages over long runs. Collective.

    Raises:
        CaseError: for a case without temperature, base measure, data or ensemble of ≥ 4 runs, or another loss.
    """
    setting = problem(case)
    _check(setting)
    from mvpde.particles.ensemble import Ensemble

    model, section = setting.model, setting.case.sections.ensemble
    assert section is not None and model.data is not None
    n, weights = section.particles, model.data.weights
    beta = 1.0 / (n * model.temperature)
    box = setting.case.sections.domain
    nodes, other = midpoints(box, model.periods), midpoints(box, model.periods, LARGER)
    found, limit, coarse = on_first_rank(
        comm, lambda: tuple(prediction(model, z, beta, size) for z, size in ((nodes, n), (nodes, math.inf), (other, n)))
    )
    start = Tilted(model, setting.law, weights * found.epsilon)
    ensemble = Ensemble(
        model, start, particles=n, runs=section.runs, seed=section.seed, step=section.step, scheme=section.scheme, comm=comm
    )
    samples = _samples(ensemble, options)
    bias = step_bias(found, weights, beta, n, section.step)
    return {
        "finite_temperature": {
            "beta": beta,
            "multiplier": limit.epsilon.tolist(),
            "limit": limit.mean.tolist(),
            "predicted_mean": found.mean.tolist(),
            "predicted_variance": np.diag(found.covariance).tolist(),
            "predicted_covariance": found.covariance.tolist(),
            "step_bias": np.diag(bias).tolist(),
            "quadrature_mean": np.abs(found.mean - coarse.mean).tolist(),
            "quadrature_variance": np.abs(np.diag(found.covariance - coarse.covariance)).tolist(),
            **statistics(samples),
        }
    }


def _check(setting: Problem) -> None:
    sections: Any = setting.case.sections
    faults = {
        "[model] kind: the task needs a network": setting.model.data is None or not setting.model.output_weight,
        "[model] temperature: the task needs it above 0, 1/(β·particles)": setting.model.temperature == 0.0,
        "[model] base_measure: is missing; without one there is no stationary law": getattr(sections.model, "base_measure", None)
        is None,
        "[model] loss: the task needs least_squares": getattr(sections.model, "loss", "") != "least_squares",
        "[ensemble]: the section is missing": sections.ensemble is None,
        "[ensemble] runs: the errors come from the scatter of at least 4": sections.ensemble is not None
        and sections.ensemble.runs < 4,
        "[domain] cells: a box is missing; its cells are the quadrature of ρ_ε": sections.domain is None
        or sections.domain.cells is None,
    }
    for message, wrong in faults.items():
        if wrong:
            raise CaseError(f'{setting.case.path}: {message} (task "finite_temperature")')


def _samples(ensemble: Any, options: LangevinOptions) -> Array:
    """n(f_n − f) of every run at every sampling time, shape (times, runs, P)."""
    model, unit = ensemble.model, 1.0 / ensemble.model.temperature
    start, count = options.equilibration * unit, max(2, math.ceil(options.averaging * unit / options.interval))
    rows = []
    for k in range(1, count + 1):
        ensemble.advance(start + k * options.interval)
        rows.append(ensemble.particles * (model.predictions(ensemble.moments()) - model.data.target))
    return np.array(rows)


def statistics(samples: Array) -> dict[str, Any]:
    """Mean and variance of u, shape (times, runs, P), with standard errors from the scatter of the runs' time averages."""
    runs = samples.shape[1]
    means = samples.mean(axis=0)
    mean, error = means.mean(axis=0), means.std(axis=0, ddof=1) / math.sqrt(runs)
    squares = ((samples - mean) ** 2).mean(axis=0)
    return {
        "mean": mean.tolist(),
        "mean_standard_error": error.tolist(),
        "variance": (squares.mean(axis=0) + error**2).tolist(),  # E(u − ū)² = Var u − Var ū
        "variance_standard_error": (squares.std(axis=0, ddof=1) / math.sqrt(runs)).tolist(),
    }


FINITE_TEMPERATURE = Task(LangevinOptions, summarised(finite_temperature))
