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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvpde.models.data import Data
from mvpde.models.shell import Shell
from mvpde.models.walls.box import BoxWalls
from mvpde.registry import check_known

Array = NDArray[np.float64]


def no_potential(z: Array) -> Array:
    """V0 = 0, shape (N,)."""
    return np.zeros(len(z))


def _no_wall(z: Array) -> NDArray[np.bool_]:
    return np.zeros(len(z), bool)


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
        own_drift: (z, m) with shapes (N, D), (K,) → b(z; m), shape (N, D), for a model that is no gradient flow; None: b = −∇V.
        own_diffusion: (z, m) → A(z; m) ⪰ 0, shape (N, D, D), in Itô form, dZ = b dt + √(2A) dB; None: A = τI.
        interacting: whether V, b or A depends on m; without interaction the density's equation is linear and its operator
        never changes.
        constant_diffusion: whether ``own_diffusion`` gives the same A for all z and m.
        convex: whether R is known to be convex, so that no law but the best one is stationary at τ > 0, and how far a law is
            from it can be bounded (`mvpde.equilibrium.optimality.certificate`). False claims nothing.
        metric: of Z in these coordinates, None where it is |dz|²; for gradient flows only. Gradients, noise and volume are
            those of the metric, and ρ is a density with respect to its volume.
        later: (time, model) in increasing time: the models that take this one's place from those times on, as where the
            temperature is lowered; they have the same features. Whoever carries a law asks `at` or `stretches` instead.
        moving: t ≥ 0 → the model with the coefficients of that time, for one whose coefficients change all the time; it moves no
            further itself, has the same features, and this one is that of t = 0. Whoever carries a law asks `now`.
        natural_wall: z, shape (N, D) → whether z lies at an end of Z itself, shape (N,): mass there says nothing about the
            domain.
        walls: of the box that the law lives in, None on the whole space. Drift and diffusion are continued constant beyond
            natural ones, where they may not exist.
        observables: functions z, shape (N, D) → (N,), whose means under every measure are recorded, by name.
        pairs: of an interaction of pairs: (x, x') with shapes (N, D), (M, D) → W(x, x') and what the features make of it,
            shape (M, N) each; None for a model that states its features itself.
        facts: what `summary.json` is to say of the model itself, such as the rank of a compressed interaction.
        frozen: how many of the last coordinates never move, < D: labels of the law of the others, such as natural frequencies.
        data: the data set that the first P moments predict (f[ρ](x_p) = m_p, p < P), or None for a model without one.

    Raises:
        ValueError: for a temperature that is negative or not finite, another number of periods than of coordinates, times
            of ``later`` that do not increase, no coordinate that moves, or a metric with a drift or diffusion of the model's own.
    """

    coordinates: tuple[str, ...]
    profile: Callable[[Array], Array]
    profile_field: Callable[[Array, Array], tuple[Array, Array]]
    outer_energy: Callable[[Array], Array]
    outer_gradient: Callable[[Array], Array]
    temperature: float = 0.0
    external_potential: Callable[[Array], Array] = no_potential
    external_gradient: Callable[[Array], Array] = np.zeros_like
    output_weight: bool = False
    periods: tuple[float | None, ...] = ()
    own_drift: Callable[[Array, Array], Array] | None = None
    own_diffusion: Callable[[Array, Array], Array] | None = None
    interacting: bool = True
    constant_diffusion: bool = False
    convex: bool = False
    metric: Shell | None = None
    later: tuple[tuple[float, MeanField], ...] = ()
    moving: Callable[[float], MeanField] | None = None
    natural_wall: Callable[[Array], NDArray[np.bool_]] = _no_wall
    walls: BoxWalls | None = None
    observables: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    pairs: Callable[[Array, Array], tuple[Array, Array]] | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    frozen: int = 0
    data: Data | None = None

    def __post_init__(self) -> None:
        """Check the temperature; complete the periods."""
        if not 0.0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 or positive")
        object.__setattr__(self, "periods", self.periods or (None,) * self.dimension)
        if len(self.periods) != self.dimension:
            raise ValueError(f"{len(self.periods)} periods for the coordinates {', '.join(self.coordinates)}")
        times = [0.0, *(t for t, _ in self.later)]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"the times at which the model changes must be positive and increase, not {times[1:]}")
        if self.metric is not None and not self.gradient_flow:
            raise ValueError("a model with a metric is a gradient flow; it has no drift or diffusion of its own")
        if not 0 <= self.frozen < self.dimension or (self.frozen and self.metric is not None):
            raise ValueError(f"{self.frozen} frozen coordinates: some coordinate must move, and a model with a metric has none")

    @property
    def dimension(self) -> int:
        """D, the number of coordinates of z."""
        return len(self.coordinates)

    @property
    def directions(self) -> tuple[str, ...]:
        """The names of the coordinates that are not frozen: the directions of a mesh."""
        return self.coordinates[: self.dimension - self.frozen]

    @property
    def gradient_flow(self) -> bool:
        """Whether b = −∇V and A = τI, so that there is a free energy and Gibbs states are stationary."""
        return self.own_drift is None and self.own_diffusion is None

    @property
    def deterministic(self) -> bool:
        """Whether A = 0 at all times, so that the law is carried along by a flow."""
        return self.own_diffusion is None and not self.ever_hot

    @property
    def still(self) -> bool:
        """Whether the equation is the same at all times."""
        return self.moving is None and not self.later

    @property
    def additive_noise(self) -> bool:
        """Whether A depends neither on z nor on m, at any time."""
        if self.own_diffusion is not None:
            return self.constant_diffusion
        return self.metric is None or not self.ever_hot

    @property
    def features(self) -> int:
        """K, the number of features."""
        return int(self.profile(np.zeros((1, self.profile_dimension))).shape[1])

    @property
    def profile_dimension(self) -> int:
        """d, the number of arguments of the profile."""
        return self.dimension - self.output_weight

    # -- what the equation is made of, at points z, shape (N, D), and moments m, shape (K,)

    def amplitude(self, z: Array) -> Array:
        """The factor in front of the profile, shape (N,): c where the last coordinate is an output weight, else 1."""
        return z[:, -1] if self.output_weight else np.ones(len(z))

    def feature_values(self, z: Array) -> Array:
        """g(z), shape (N, K)."""
        return self.amplitude(z)[:, None] * self.profile(z[:, : self.profile_dimension])

    def feature_sum(self, z: Array) -> Array:
        """Σ_i g(z_i), shape (K,); divided by the number of points it is their moment vector."""
        return self.amplitude(z) @ self.profile(z[:, : self.profile_dimension])

    def potential(self, z: Array, m: Array) -> Array:
        """V(z; m) = V0(z) + Σ_k ∂_k R(m) g_k(z), shape (N,)."""
        y = z[:, : self.profile_dimension]
        return self.external_potential(z) + self.amplitude(z) * (self.profile(y) @ self.outer_gradient(m))

    def potential_gradient(self, z: Array, m: Array) -> Array:
        """∇V(z; m), shape (N, D). For a network V = V0 + cU(y), so the gradient is ∇V0 + (c∇U(y), U(y)).

        It has no part along frozen coordinates.
        """
        y = z[:, : self.profile_dimension]
        value, slope = self.profile_field(y, self.outer_gradient(m))
        gradient = self.external_gradient(z)
        gradient = gradient + (np.column_stack([z[:, -1:] * slope, value]) if self.output_weight else slope)
        return self._moved(gradient)

    def drift(self, z: Array, m: Array) -> Array:
        """b(z; m), shape (N, D): the model's own, or −∇V.

        With a metric λ²|dz|² it is the drift of the coordinates in Itô form, λ⁻²[−∂V/∂z + τ(D − 2) ∂ log λ/∂z].
        """
        z = self.inside(z)
        if self.own_drift is not None:
            return self._moved(np.asarray(self.own_drift(z, m), float))
        force = -self.potential_gradient(z, m)
        if self.metric is None:
            return force
        if self.temperature > 0.0:
            force += self.temperature * (self.dimension - 2) * self.metric.log_scale_gradient(z)
        return force / self.metric.scale(z)[:, None] ** 2

    def diffusion(self, z: Array, m: Array) -> Array:
        """A(z; m), shape (N, D, D): the model's own, or τI, with a metric τλ⁻²I."""
        z = self.inside(z)
        if self.own_diffusion is not None:
            return self._moved(self._moved(np.asarray(self.own_diffusion(z, m), float), axis=1), axis=2)
        noisy = np.diag((np.arange(z.shape[1]) < self.dimension - self.frozen).astype(float))
        isotropic = np.broadcast_to(self.temperature * noisy, (len(z), z.shape[1], z.shape[1]))
        return isotropic if self.metric is None else isotropic / self.metric.scale(z)[:, None, None] ** 2

    def inside(self, z: Array) -> Array:
        """The points, those beyond a natural wall on it, shape (N, D)."""
        return z if self.walls is None else self.walls.inside(z)

    def _moved(self, values: Array, axis: int = 1) -> Array:
        """The values with 0 at the frozen coordinates, along an axis with one entry for each coordinate."""
        if self.frozen == 0:
            return values
        moves = (np.arange(self.dimension) < self.dimension - self.frozen).astype(float)
        return np.asarray(values * moves.reshape(-1, *(1,) * (values.ndim - 1 - axis)))

    def volume(self, z: Array) -> Array:
        """dvol/dz, shape (N,): 1, or λ^D."""
        return np.ones(len(z)) if self.metric is None else self.metric.scale(z) ** self.dimension

    def predictions(self, m: Array) -> Array:
        """f[ρ](x_p) = m_p at the P data points, shape (..., P), from moments m, shape (..., K)."""
        if self.data is None:
            raise ValueError("this model has no data set to predict")
        return m[..., : len(self.data.weights)]

    # -- coefficients that change in time

    def now(self, t: float) -> MeanField:
        """The model with the coefficients of time t, where they change all the time; else this one."""
        return self if self.moving is None else self.moving(t)

    def stretches(self, start: float = 0.0, end: float = math.inf) -> Iterator[tuple[float, MeanField]]:
        """(until, model) for the models that rule in turn from ``start`` to ``end``; this one is that of t = 0."""
        ruling = [(0.0, self), *self.later]
        for (since, current), (until, _) in pairwise([*ruling, (math.inf, self)]):
            if until > start and since < end:
                yield min(until, end), current

    def at(self, t: float) -> MeanField:
        """The model that rules from t ≥ 0 on, with the coefficients of that time; at a time of change it is the new one."""
        return self.ruling(t).now(t)

    def ruling(self, t: float) -> MeanField:
        """The model of the stretch of time that begins at t or has t in it."""
        return next(model for _, model in self.stretches(t))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """τ of each stretch of time."""
        return tuple(model.temperature for _, model in self.stretches())

    @property
    def ever_hot(self) -> bool:
        """Whether τ > 0 at some time."""
        return max(self.temperatures) > 0.0


def from_features(
    coordinates: tuple[str, ...],
    *,
    features: Callable[[Array], Array],
    gradients: Callable[[Array], Array],
    outer_energy: Callable[[Array], Array],
    outer_gradient: Callable[[Array], Array],
    **others: Any,
) -> MeanField:
    """A model from its features and their gradients, where sums over features need no form of their own.

    Args:
        coordinates: names of the D coordinates.
        features: z, shape (N, D) → g(z), shape (N, K).
        gradients: z, shape (N, D) → ∂g_k/∂z_a, shape (N, K, D).
        outer_energy, outer_gradient: R and ∂R/∂m, as for `MeanField`.
        others: further attributes of `MeanField`, such as ``temperature`` and ``external_potential``.

    Raises:
        ValueError: as `MeanField`; an attribute that it does not have.
    """
    for name in others:
        check_known(name, [key.name for key in fields(MeanField)], "MeanField")

    def profile_field(z: Array, r: Array) -> tuple[Array, Array]:
        return features(z) @ r, np.einsum("nka,k->na", gradients(z), r)

    return MeanField(
        coordinates=coordinates,
        profile=features,
        profile_field=profile_field,
        outer_energy=outer_energy,
        outer_gradient=outer_gradient,
        **others,
    )
