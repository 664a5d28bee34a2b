"""Two isotropic Gaussians told apart by a wide layer, reduced by rotation symmetry to the radius r = |w| of its weights.

    y = ±1 with probability ½,   x ~ N(0, (1 ± Δ)² I_d),   ŷ(x) = ∫ σ(⟨w, x⟩) ρ(dw),   σ(t) = s_0 + Σ_j κ_j (t − t_j)_+.

One-pass SGD of the squared loss has the limit ∂_tρ̄ = 2∂_r(ρ̄ ∂_rψ) on the half line, ψ = v + ∫u_d(·, r')ρ̄(dr'): Mei, Montanari &
Nguyen, arXiv:1804.06561, §3.1. With he_k the normalised Hermite polynomials and G ~ N(0, 1), the functions

    c_k(r) = E[σ(rG) he_k(G)],   c_0 = s_0 + Σ_j κ_j h_j,  h_j(r) = rφ(t_j/r) − t_jΦᶜ(t_j/r),
                                 c_k = r Σ_j κ_j φ(t_j/r) He_{k−2}(t_j/r)/√k!   (k ≥ 2)

give v = −½[c_0(τ_+r) − c_0(τ_−r)], u_d(r, r') = ½Σ_± Σ_{k even} m_k(d) c_k(τ_±r) c_k(τ_±r'), τ_± = 1 ± Δ, and m_k(d) the mean
of the k-th power of the cosine of two random directions. The features are c_k(τ_±r), k even, and the risk E(y − ŷ)² is

    R(M) = 1 − (M_{0+} − M_{0−}) + ½ Σ_± Σ_k m_k(d) M_{k±}²,        V = Σ ∂R/∂M g = 2ψ.

SGD with weight decay and noise, θ ← (1 − 2λs)θ + 2s(y − ŷ)∇σ + √(4s/β)ξ, adds V0 = λr² − τ(d − 1) log max(r, INNER),
τ = 2/β.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from mvpde.models.mean_field import Array, MeanField

NEGLIGIBLE = 1e-8  # part of u_d(r, r) that is left out
MOST_TERMS = 80  # of the sum over even k, for each sign: all that d = 2, where they fall slowest, is given
INNER = 0.02  # radius below which noise pushes no harder outwards: its force grows like 1/r
_SMALLEST = 1e-9  # radius below which the features are those of this radius


@dataclass(frozen=True)
class PiecewiseLinear:
    """σ(t) = offset + Σ_j changes_j (t − knots_j)_+.

    Attributes:
        offset: s_0, the value left of all knots.
        knots: t_j, J real numbers.
        changes: κ_j, the changes of slope there.
    """

    offset: float
    knots: tuple[float, ...]
    changes: tuple[float, ...]

    def value(self, t: Array) -> Array:
        """σ(t), shape of t."""
        return self.offset + np.maximum(t[..., None] - np.array(self.knots), 0.0) @ np.array(self.changes)

    def slope(self, t: Array) -> Array:
        """σ'(t), shape of t, that of the right at a knot."""
        return (t[..., None] >= np.array(self.knots)) @ np.array(self.changes)

    def mean_square(self, r: Array) -> Array:
        """E[σ(rG)²], shape (N,), exactly: ∫(rg − a)(rg − b)φ over g > max(a, b)/r for each pair of knots."""
        r = np.maximum(r, _SMALLEST)
        total = self.offset**2 + 2.0 * self.offset * (hermite(self, r, 1)[:, 0] - self.offset)
        for a, change_a in zip(self.knots, self.changes, strict=True):
            for b, change_b in zip(self.knots, self.changes, strict=True):
                x = max(a, b) / r
                above, bell = ndtr(-x), _bell(x)
                total = total + change_a * change_b * ((r**2 + a * b) * above + r * bell * (max(a, b) - a - b))
        return np.asarray(total)


@dataclass(frozen=True)
class Classification:
    """The learning problem: what is sampled, and how the network is trained.

    Attributes:
        dimension: d ≥ 2, finite.
        delta: Δ in (0, 1).
        activation: σ.
        temperature: τ ≥ 0.
        weight_decay: λ ≥ 0.
    """

    dimension: int
    delta: float
    activation: PiecewiseLinear
    temperature: float = 0.0
    weight_decay: float = 0.0


CLIP = PiecewiseLinear(-2.5, (0.5, 1.5), (10.0, -10.0))


def _bell(x: Array) -> Array:
    return np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)


def hermite(activation: PiecewiseLinear, r: Array, count: int) -> Array:
    """c_k(r) for k = 0, …, count − 1, shape (N, count), at radii r, shape (N,)."""
    return _coefficients(activation, r, count, slopes=False)


def hermite_slopes(activation: PiecewiseLinear, r: Array, count: int) -> Array:
    """c_k'(r), shape (N, count).

    c_0' = Σκ_jφ(x_j), c_1' = Σκ_j[Φᶜ(x_j) + x_jφ(x_j)], c_k' = Σκ_jφ(x_j)[He_{k−2}(x_j) + x_j He_{k−1}(x_j)]/√k!, x_j = t_j/r.
    """
    return _coefficients(activation, r, count, slopes=True)


def _coefficients(activation: PiecewiseLinear, r: Array, count: int, slopes: bool) -> Array:
    r = np.maximum(r, _SMALLEST)
    result = np.zeros((len(r), max(count, 2)))
    if not slopes:
        result[:, 0] = activation.offset
    for knot, change in zip(activation.knots, activation.changes, strict=True):
        x = knot / r
        above, bell = ndtr(-x), _bell(x)
        result[:, 0] += change * (bell if slopes else r * bell - knot * above)
        result[:, 1] += change * (above + x * bell if slopes else r * above)
        before, now = np.zeros_like(x), bell  # φ He_{n−1}/√(n−1)! and φ He_n/√n! for n = k − 2; 0 where φ underflows
        for k in range(2, count):
            after = (x * now - math.sqrt(k - 2) * before) / math.sqrt(k - 1)
            result[:, k] += change / math.sqrt(k * (k - 1.0)) * (now + math.sqrt(k - 1) * x * after if slopes else r * now)
            before, now = now, after
    return result[:, :count]


def cosine_moments(dimension: float, count: int) -> Array:
    """E[cos^k] of the angle of two random directions in R^d for k = 0, 2, …, shape (count,): Π_{i<k/2} (½ + i)/(d/2 + i)."""
    i = np.arange(count - 1)
    ratios = (0.5 + i) / (dimension / 2.0 + i) if math.isfinite(dimension) else np.zeros(count - 1)
    return np.concatenate([[1.0], np.cumprod(ratios)])


def terms(activation: PiecewiseLinear, dimension: float, scales: tuple[float, float], largest: float) -> int:
    """How many even k the sums need: what is left out is below NEGLIGIBLE of u_d(r, r), at any radius up to ``largest``."""
    radii = np.linspace(largest / 400, largest, 400)
    weights = cosine_moments(dimension, 2 * MOST_TERMS)
    sizes = [hermite(activation, s * radii, 4 * MOST_TERMS)[:, ::2] ** 2 * weights for s in scales]
    tails = [part[:, ::-1].cumsum(axis=1)[:, ::-1] for part in sizes]  # sums over k and all later ones
    needed = [part > NEGLIGIBLE * part[:, :1] for part in tails]
    return max(1, min(MOST_TERMS, int(np.max([part.sum(axis=1) for part in needed]))))


def isotropic_gaussians(
    dimension: float,
    delta: float,
    *,
    activation: PiecewiseLinear = CLIP,
    temperature: float = 0.0,
    weight_decay: float = 0.0,
    largest: float = 10.0,
) -> MeanField:
    """The radial mean-field model.

    Args:
        dimension: d ≥ 2, or infinite.
        delta: Δ in (0, 1).
        activation: σ.
        temperature: τ = 2/β ≥ 0.
        weight_decay: λ ≥ 0.
        largest: the largest radius that will occur; it decides how many terms u_d has.

    Raises:
        ValueError: for numbers outside their ranges, or a temperature in infinite dimension.
    """
    if not dimension >= 2 or not 0.0 < delta < 1.0 or weight_decay < 0.0:
        raise ValueError(f"needs dimension ≥ 2, 0 < delta < 1, weight_decay ≥ 0, not {dimension}, {delta}, {weight_decay}")
    if temperature > 0.0 and math.isinf(dimension):
        raise ValueError("temperature > 0 needs a finite dimension: its force (d − 1)τ/r grows with d")
    scales = (1.0 + delta, 1.0 - delta)
    count = terms(activation, dimension, scales, largest)
    weights = np.tile(cosine_moments(dimension, count), 2)
    linear = np.zeros(2 * count)
    linear[0], linear[count] = -1.0, 1.0

    def profile(y: Array) -> Array:
        return np.concatenate([hermite(activation, s * y[:, 0], 2 * count)[:, ::2] for s in scales], axis=1)

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        slopes = [s * hermite_slopes(activation, s * y[:, 0], 2 * count)[:, ::2] for s in scales]
        return profile(y) @ r, (np.concatenate(slopes, axis=1) @ r)[:, None]

    pull = temperature * (dimension - 1.0) if temperature > 0.0 else 0.0

    return MeanField(
        coordinates=("r",),
        profile=profile,
        profile_field=profile_field,
        outer_energy=lambda m: 1.0 + m @ linear + 0.5 * m**2 @ weights,
        outer_gradient=lambda m: linear + weights * m,
        convex=True,
        temperature=temperature,
        external_potential=lambda z: weight_decay * z[:, 0] ** 2 - pull * np.log(np.maximum(z[:, 0], INNER)),
        external_gradient=lambda z: 2.0 * weight_decay * z - pull * (z > INNER) / np.maximum(z, INNER),
        natural_wall=lambda z: z[:, 0] < INNER,
        observables={"mean_radius": lambda z: z[:, 0]},
    )
