"""Fitting a Gaussian mixture with Gaussian units, everything in closed form (Rotskoff & Vanden-Eijnden, arXiv:1805.00915).

x ∈ R with Lebesgue measure, N(x; μ, v) the normal density of mean μ and variance v:

    φ(x, y) = N(x; y, s²),              f(x) = Σ_j a_j N(x; y_j, s_j²),
    K(y, z) = N(y − z; 0, 2s²),         F(y) = ∫ f φ(·, y) dx = Σ_j a_j N(y; y_j, s_j² + s²),
    C_f = ½ ∫ f² dx,                    loss ½ ∫ (f − ∫cφρ)² dx = C_f − ∫ cF dρ + ½ ∬ c c' K ρ ρ'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvpde.models.data import Data
from mvpde.models.laws import Product, base_potential
from mvpde.models.mean_field import MeanField
from mvpde.models.units import gaussian

Array = NDArray[np.float64]

ACCURACY = 1e-13  # of the finite-rank kernel, relative to K(y, y)
MAX_NODES = 4096


def normal_density(x: ArrayLike, variance: ArrayLike) -> Array:
    """N(x; 0, v) = exp(−x²/(2v)) / √(2πv), of the shape that x and v broadcast to."""
    v = np.asarray(variance, dtype=np.float64)
    return np.asarray(np.exp(-np.square(x) / (2.0 * v)) / np.sqrt(2.0 * np.pi * v))


def target(x: Array, means: Array, variances: Array, amplitudes: Array) -> Array:
    """f(x) = Σ_j a_j N(x; y_j, s_j²), shape of x."""
    return np.asarray(normal_density(np.subtract.outer(x, means), variances) @ amplitudes)


def target_field(y: Array, means: Array, variances: Array, amplitudes: Array, unit_variance: float) -> Array:
    """F(y) = ∫ f φ(·, y) dx = Σ_j a_j N(y; y_j, s_j² + s²), shape of y."""
    return target(y, means, variances + unit_variance, amplitudes)


def kernel(y: ArrayLike, z: ArrayLike, unit_variance: float) -> Array:
    """K(y, z) = ∫ φ(·, y) φ(·, z) dx = N(y − z; 0, 2s²), of the shape that y and z broadcast to."""
    return normal_density(np.subtract(y, z), 2.0 * unit_variance)


def target_energy(means: Array, variances: Array, amplitudes: Array) -> float:
    """C_f = ½ ∫ f² dx = ½ Σ_ij a_i a_j N(y_i − y_j; 0, s_i² + s_j²)."""
    gram = normal_density(np.subtract.outer(means, means), np.add.outer(variances, variances))
    return float(0.5 * amplitudes @ gram @ amplitudes)


def trapezoid(unit_variance: float, reach: float, step: float | None = None) -> Array:
    """Nodes x_p = ph, −L ≤ x_p ≤ L, with h Σ_p φ(x_p, y) φ(x_p, z) = K(y, z) to 1e-13 K(y, y) for |y|, |z| ≤ reach.

    φ(·, y)φ(·, z) is K(y, z) times a normal density of variance s²/2. The rule's relative error on that is 2 exp(−π²s²/h²)
    (Poisson summation); what lies beyond L is at most ½ erfc((L − reach)/s): so h = s/2 and L = reach + 6s leave 1e-16.

    Args:
        unit_variance: s² > 0.
        reach: a > 0, the range in which the parameters y will stay.
        step: h, for trying another one.

    Raises:
        ValueError: if the identity does not hold to that accuracy, or would take more than 4096 nodes.
    """
    s = math.sqrt(unit_variance)
    h = 0.5 * s if step is None else step
    half = math.ceil((reach + 6.0 * s) / h)
    if 2 * half + 1 > MAX_NODES:
        raise ValueError(
            f"unit_variance {unit_variance:g} is too small for parameters up to |y| = {reach:g}: "
            f"{2 * half + 1} quadrature nodes, more than {MAX_NODES}"
        )
    nodes: Array = h * np.arange(-half, half + 1, dtype=np.float64)
    y = reach * np.cos(np.arange(101))  # both ends, and no fixed place between the nodes
    phi = normal_density(np.subtract.outer(y, nodes), unit_variance)
    exact = kernel(y[:, None], y, unit_variance)
    error = float(np.max(np.abs(h * phi @ phi.T - exact)) / exact[0, 0])
    if not error <= ACCURACY:
        raise ValueError(
            f"{len(nodes)} quadrature nodes of step {h:g} give the kernel of the units to {error:.1e} only, "
            f"not {ACCURACY:g}; take a smaller step"
        )
    return nodes


def gaussian_mixture(
    means: Sequence[float] | Array,
    variances: Sequence[float] | Array,
    amplitudes: Sequence[float] | Array,
    *,
    unit_variance: float = 0.5,
    temperature: float = 0.0,
    base_measure: Product | None = None,
    reach: float | None = None,
    step: float | None = None,
) -> MeanField:
    """The mean-field model with z = (y, c) whose outer energy is the loss ½ ∫ (f − f[ρ])² dx over the whole line.

    Moments m_p = f[ρ](x_p) at trapezoid nodes x_p (x = 0 is one of them) and a last one, m_P = ∫ cF dρ:
    R(m) = C_f − m_P + ½ h Σ_p m_p². F and C_f are exact; so is the quadratic term, to 1e-13, while |y| ≤ reach (see `trapezoid`).

    Args:
        means: y_j, shape (J,).
        variances: s_j² > 0, shape (J,).
        amplitudes: a_j, shape (J,).
        unit_variance: s² > 0.
        temperature: τ ≥ 0.
        base_measure: m̂(y, c); None for the flat measure. Without effect at τ = 0.
        reach: bound on |y|; by default five standard deviations of F beyond the outermost mean.
        step: of the nodes, by default s/2.

    Raises:
        ValueError: for arrays of different lengths, a variance that is not positive, τ < 0, or nodes that miss K.
    """
    centres, spreads, heights = _mixture(means, variances, amplitudes, unit_variance)
    bound = float(np.max(np.abs(centres) + 5.0 * np.sqrt(spreads + unit_variance))) if reach is None else reach
    x = trapezoid(unit_variance, bound, step)
    h = float(x[1] - x[0])
    coordinates, periods = ("y", "c"), (None, None)
    profile, profile_field = _profile(x, unit_variance, centres, spreads, heights)
    outer_energy, outer_gradient = _outer(target_energy(centres, spreads, heights), h, len(x))
    potential, gradient = base_potential(base_measure, temperature, coordinates, periods)
    return MeanField(
        coordinates=coordinates,
        profile=profile,
        profile_field=profile_field,
        outer_energy=outer_energy,
        outer_gradient=outer_gradient,
        temperature=temperature,
        external_potential=potential,
        external_gradient=gradient,
        output_weight=True,
        convex=True,
        periods=periods,
        data=Data(x[:, None], np.full(len(x), h), target(x, centres, spreads, heights)),
    )


def _mixture(means: ArrayLike, variances: ArrayLike, amplitudes: ArrayLike, unit_variance: float) -> tuple[Array, Array, Array]:
    """y_j, s_j², a_j as arrays, shape (J,) each."""
    centres, spreads, heights = (np.asarray(v, dtype=np.float64) for v in (means, variances, amplitudes))
    if not centres.shape == spreads.shape == heights.shape == (centres.size,) or centres.size == 0:
        raise ValueError("means, variances and amplitudes of a mixture need the same number of entries, at least one")
    if not (np.all(spreads > 0.0) and unit_variance > 0.0):
        raise ValueError("variances and unit_variance of a mixture must be positive")
    return centres, spreads, heights


def _profile(
    x: Array, unit_variance: float, centres: Array, spreads: Array, heights: Array
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], tuple[Array, Array]]]:
    """φ(x_p, ·) at the nodes and F, and their sums with gradients.

    N(x_p; y, s²) and the terms N(y_j; y, s_j² + s²) of F are one family of Gaussians in y, evaluated together.
    """
    count = len(x)
    unit = gaussian(
        np.concatenate([x, centres])[:, None],
        normalised=1.0,
        variance=np.concatenate([np.full(count, unit_variance), spreads + unit_variance]),
    )

    def profile(y: Array) -> Array:
        values = unit.profile(y)
        values[:, count] = values[:, count:] @ heights
        return values[:, : count + 1]

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        return unit.profile_field(y, np.concatenate([r[:count], r[count] * heights]))

    return profile, profile_field


def _outer(constant: float, h: float, count: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """R(m) = C_f − m_P + ½ h Σ_p m_p² and its gradient."""

    def energy(m: Array) -> Array:
        return np.asarray(constant - m[..., count] + 0.5 * h * np.square(m[..., :count]).sum(axis=-1))

    def gradient(m: Array) -> Array:
        return np.concatenate([h * m[..., :count], np.full((*m.shape[:-1], 1), -1.0)], axis=-1)

    return energy, gradient
