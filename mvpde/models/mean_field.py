"""The mean-field model: all that a measure needs to know of the equation it carries.

With features g: Z → R^K, outer energy R: R^K → R, external potential V0: Z → R and temperature τ ≥ 0, a law ρ on Z has moments
m = ∫ g dρ, and

    V(z; m) = V0(z) + Σ_k ∂_k R(m) g_k(z),
    F[ρ] = R(m) + ∫ V0 dρ + τ ∫ ρ log ρ dz,
    ∂_t ρ = ∇·(ρ ∇V + τ ∇ρ),         dZ_i = −∇V(Z_i; m_n) dt + √(2τ) dB_i.

Rotskoff & Vanden-Eijnden, arXiv:1805.00915, for networks; any finite-rank interaction has this form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mvpde.models.data import Data

Array = NDArray[np.float64]


def _zero_potential(z: Array) -> Array:
    return np.zeros(len(z))


@dataclass(frozen=True)
class MeanField:
    """A finite-rank mean-field model as numpy functions; nothing here depends on a mesh, a time step or a rank.

    The features are g_k(z) = φ_k(z), or, with ``output_weight``, g_k(y, c) = c φ_k(y) where z = (y, c) and c is the last
    coordinate. Below d is the number of arguments of φ: D, or D − 1 with ``output_weight``.

    Attributes:
        coordinates: names of the D coordinates of z, in order.
        profile: y, shape (N, d) → φ(y), shape (N, K).
        profile_field: (y, r) with shapes (N, d), (K,) → Σ_k r_k φ_k(y), shape (N,), and its gradient in y, shape (N, d).
        outer_energy: m, shape (..., K) → R(m), shape (...,).
        outer_gradient: m, shape (..., K) → ∂R/∂m, shape (..., K).
        temperature: τ ≥ 0.
        external_potential: z, shape (N, D) → V0(z), shape (N,); a base measure m̂ enters as −τ log m̂(z).
        external_gradient: z, shape (N, D) → ∇V0(z), shape (N, D).
        output_weight: whether the last coordinate multiplies the profile.
        periods: period of each of the D coordinates, None on the real line; left out, all are on the real line.
        drift: (z, m) with shapes (N, D), (K,) → b(z; m), shape (N, D), for a model that is no gradient flow; None: b = −∇V.
        diffusion: (z, m) → A(z; m) ⪰ 0, shape (N, D, D), in Itô form, dZ = b dt + √(2A) dB; None: A = τI.
        interacting: whether V, b or A depends on m; without interaction the density's equation is linear and its operator
        never changes.
        observables: functions z, shape (N, D) → (N,), whose means under every measure are recorded, by name.
        data: the data set that the first P moments predict (f[ρ](x_p) = m_p, p < P), or None for a model without one.

    Raises:
        ValueError: for a temperature that is negative or not finite, or another number of periods than of coordinates.
    """

    coordinates: tuple[str, ...]
    profile: Callable[[Array], Array]
    profile_field: Callable[[Array, Array], tuple[Array, Array]]
    outer_energy: Callable[[Array], Array]
    outer_gradient: Callable[[Array], Array]
    temperature: float = 0.0
    external_potential: Callable[[Array], Array] = _zero_potential
    external_gradient: Callable[[Array], Array] = np.zeros_like
    output_weight: bool = False
    periods: tuple[float | None, ...] = ()
    drift: Callable[[Array, Array], Array] | None = None
    diffusion: Callable[[Array, Array], Array] | None = None
    interacting: bool = True
    observables: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    data: Data | None = None

    def __post_init__(self) -> None:
        """Check the temperature; complete the periods."""
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or positive")
        object.__setattr__(self, "periods", self.periods or (None,) * self.dimension)
        if len(self.periods) != self.dimension:
            raise ValueError(f"{len(self.periods)} periods for the coordinates {', '.join(self.coordinates)}")

    @property
    def dimension(self) -> int:
        """D, the number of coordinates of z."""
        return len(self.coordinates)

    @property
    def gradient_flow(self) -> bool:
        """Whether b = −∇V and A = τI, so that there is a free energy and Gibbs states are stationary."""
        return self.drift is None and self.diffusion is None

    @property
    def profile_dimension(self) -> int:
        """d, the number of arguments of the profile."""
        return self.dimension - self.output_weight


def amplitude(model: MeanField, z: Array) -> Array:
    """The factor in front of the profile, shape (N,): c where the last coordinate is an output weight, else 1."""
    return z[:, -1] if model.output_weight else np.ones(len(z))


def feature_sum(model: MeanField, z: Array) -> Array:
    """Σ_i g(z_i), shape (K,), over the points z, shape (N, D); divided by their number it is their moment vector."""
    return amplitude(model, z) @ model.profile(z[:, : model.profile_dimension])


def potential(model: MeanField, z: Array, m: Array) -> Array:
    """V(z; m) = V0(z) + Σ_k ∂_k R(m) g_k(z), shape (N,), at the points z, shape (N, D), for moments m, shape (K,)."""
    y = z[:, : model.profile_dimension]
    return model.external_potential(z) + amplitude(model, z) * (model.profile(y) @ model.outer_gradient(m))


def potential_gradient(model: MeanField, z: Array, m: Array) -> Array:
    """∇V(z; m), shape (N, D). For a network V = V0 + cU(y), so the gradient is ∇V0 + (c∇U(y), U(y))."""
    y = z[:, : model.profile_dimension]
    value, slope = model.profile_field(y, model.outer_gradient(m))
    gradient = model.external_gradient(z)
    if model.output_weight:
        return gradient + np.column_stack([z[:, -1:] * slope, value])
    return gradient + slope


def predictions(model: MeanField, m: Array) -> Array:
    """f[ρ](x_p) = m_p at the P data points, shape (..., P), from moments m, shape (..., K)."""
    if model.data is None:
        raise ValueError("this model has no data set to predict")
    return m[..., : len(model.data.weights)]
