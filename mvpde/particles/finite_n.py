"""Exact laws of n particles at a temperature: of the predictions of a network, and of one moment on the line.

**A network with temperature τ = 1/(βn)** has the stationary law of n(f_n − f) (Rotskoff & Vanden-Eijnden, arXiv:1805.00915,
Proposition 3), with a base measure m̂ (V0 = −τ log m̂) and data weights W = diag(w_p):

    ρ_ε ∝ m̂ exp(−Σ_p w_p ε_p c φ(x_p, y)),     f_ρ(x_p) = ∫ cφ(x_p, y) dρ_ε = f_p + ε_p/(βn),     Γ_pq = Cov_ρ[cφ(x_p), cφ(x_q)],
    E n(f_n − f) = ε/β + O(1/n),     Cov n(f_n − f) = (βW + (nΓ)^{-1})^{-1} + O(1/n).

As n → ∞, ε → ε* with f_ρ = f, and the covariance → W^{-1}/β. ε minimises the convex dual
log ∫ m̂ exp(−Σ w ε g) + Σ w ε f + Σ w ε²/(2βn). The O(1/n) are relative; they come from the cumulants of f_n beyond the second.

**n particles on the line** have the stationary law ∝ exp(−(ΣV0(z_i) + nR(m_n))/τ). For R = b·m − ½θm_k² the square is split off
by a Gaussian variable y (Hubbard & Stratonovich), which leaves independent particles,

    E m_k² = E y² − τ/(θn),    y ~ exp(n[log∫exp(−(V0 + b·g − θyg_k)/τ)dz − ½θy²/τ]),

exact for every n. Beyond the critical value E m_k² → m*², at it only a quartic is left in the exponent and √n E m_k² → const
(Dawson, J. Stat. Phys. 31 (1983) 29).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_discrete_lyapunov
from scipy.special import roots_legendre

from mvpde.models.laws import Law
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import SolverError

_DRAWS = 256  # from the proposal for each particle drawn
_DIFFERENCE = 1e-5  # of coordinates
_RANK = 1e-10  # of Γ's largest eigenvalue: what is below it is left out of the linearised dynamics
_POINTS = 1200  # of the quadrature on the line

# --- predictions of a network ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """At P data points: ε, shape (P,), mean and covariance of n(f_n − f), and Γ, shapes (P,) and (P, P)."""

    epsilon: Array
    mean: Array
    covariance: Array
    gamma: Array
    mobility: Array  # ∫ ∇g ∇gᵀ dρ_ε, shape (P, P): f_n answers a force on the predictions with it


def midpoints(
    lower: Sequence[float], upper: Sequence[float], cells: Sequence[int], periods: Sequence[float | None], larger: float = 1.0
) -> Array:
    """Centres of the cells of a box, shape (N, D): spectrally accurate for what is smooth and periodic or fades.

    With ``larger`` > 1 the box and its cells are so much larger, or a periodic direction has so many times fewer cells.
    """
    lines = []
    for a, b, count, period in zip(lower, upper, cells, periods, strict=True):
        number = count if period is None else max(3, round(count / larger))
        half = 0.5 * (b - a) * (larger if period is None else 1.0)
        lines.append(0.5 * (a + b) + half * (2.0 * (np.arange(number) + 0.5) / number - 1.0))
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
    g = _features(model, z)
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
    shifts = _DIFFERENCE * np.eye(model.dimension)
    slopes = [(_features(model, z + shift) - _features(model, z - shift)) / (2.0 * _DIFFERENCE) for shift in shifts]
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


def _features(model: MeanField, z: Array) -> Array:
    """g_p(z_i) at the data points, shape (N, P)."""
    return np.asarray(model.predictions(model.feature_values(z)))


def step_bias(predicted: Prediction, weights: Array, beta: float, n: float, h: float) -> Array:
    """What Heun's step h adds to the covariance C of u = n(f_n − f) if its dynamics are linear, shape (P, P).

    With v = u − ū, M the mobility and L = M(W + (βnΓ)^{-1}), dv = −Lv dt + √(2M/β) dB becomes
    v' = (1 − hL + ½h²L²)v + (1 − ½hL)√(2hM/β) ξ.
    """
    values, directions = np.linalg.eigh(predicted.gamma)
    moving = values > _RANK * values[-1]  # where Γ vanishes, f_n does not move
    v = directions[:, moving]
    mobility, unit = v.T @ predicted.mobility @ v, np.eye(v.shape[1])
    rate = mobility @ (v.T * weights @ v + np.diag(1.0 / (beta * n * values[moving])))
    once, half = unit - h * rate + 0.5 * h**2 * rate @ rate, unit - 0.5 * h * rate
    discrete = solve_discrete_lyapunov(once, half @ (2.0 * h * mobility / beta) @ half.T)
    return np.asarray(v @ discrete @ v.T - predicted.covariance)


@dataclass(frozen=True)
class Tilted:
    """ρ_ε, drawn by resampling a proposal with weights exp(−V0/τ − Σ wεg)/proposal: where Langevin runs begin."""

    model: MeanField
    proposal: Law
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


# --- one moment on the line -----------------------------------------------------------------------------------------------------


@functools.cache
def _gauss(points: int) -> tuple[Array, Array]:
    nodes, weights = roots_legendre(points)
    return np.asarray(nodes), np.asarray(weights)


def quadrature(lower: float, upper: float) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on an interval."""
    nodes, weights = _gauss(_POINTS)
    return 0.5 * (lower + upper) + 0.5 * (upper - lower) * nodes, 0.5 * (upper - lower) * weights


def exact_square(model: MeanField, k: int, particles: int, lower: float, upper: float) -> float | None:
    """E m_k² of n particles in their stationary law on [lower, upper]; None where R is not b·m − ½θm_k² with θ > 0.

    Args:
        model: an interacting gradient flow with one coordinate.
        k: which moment.
        particles: n.
        lower, upper: an interval that holds the law.
    """
    z, weights = quadrature(lower, upper)
    features, temperature = model.feature_values(z[:, None]), model.temperature
    count = features.shape[1]
    slope, unit = model.outer_gradient(np.zeros(count)), np.eye(count)
    bends = [np.array([model.outer_gradient(size * e) - slope for e in unit]) / size for size in (0.5, 1.3)]
    theta = -float(bends[0][k, k])
    if not theta > 0.0 or any(np.abs(b + theta * np.outer(unit[k], unit[k])).max() > 1e-9 * theta for b in bends):
        return None
    alone = -(model.external_potential(z[:, None]) + features @ slope) / temperature
    y, grid = quadrature(*(float(end(features[:, k])) for end in (np.min, np.max)))
    inner = alone + theta / temperature * y[:, None] * features[:, k]
    largest = inner.max(axis=1)
    exponent = particles * (largest + np.log(np.exp(inner - largest[:, None]) @ weights) - 0.5 * theta * y**2 / temperature)
    masses = grid * np.exp(exponent - exponent.max())
    return float(masses @ y**2 / masses.sum() - temperature / (theta * particles))
