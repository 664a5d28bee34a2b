"""Random residual networks as a McKean–Vlasov equation, whose diffusion tensor depends on the law alone.

    x_{k+1} = x_k + L^{-½}(Wφ(x_k) + b),     W ~ N(0, σ_w²/N), b ~ N(0, σ_b²) new in each layer,

are N numbers for each of D inputs, D = 1 or 2. All D inputs meet the same W and b, so the D numbers of one unit get correlated
noise, and given the layer the units are independent: the network is Euler–Maruyama, step 1/L, of N particles in R^D with

    ∂_s p = ∇·∇·(Ap),     A_ij = ½(σ_w² ∫ φ(x_i)φ(x_j) dp + σ_b²),     s = k/L ∈ [0, 1] or beyond,

as N, L → ∞. From a Gaussian the law stays one: p = N(0, K), K' = 2A = σ_w² E[φφ] + σ_b².
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import solve_ivp

from mvpde.models.deep.activations import Array
from mvpde.models.deep.signal_maps import activation_of, check_variances, covariance_map, slope_of
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError

NAMES = ("u", "v")
ENTRIES = {1: ((0, 0),), 2: ((0, 0), (1, 1), (0, 1))}  # of A and K, in the order of the features


@dataclass(frozen=True)
class CentredNormal:
    """N(0, K): the law of D numbers with covariance K.

    Attributes:
        covariance: K, symmetric and positive definite, shape (D, D).

    Raises:
        ArgumentError: it is not.
    """

    covariance: Array

    def __post_init__(self) -> None:
        """Check the matrix."""
        k = np.asarray(self.covariance, float)
        object.__setattr__(self, "covariance", k)
        if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.isfinite(k).all() or not np.allclose(k, k.T, rtol=1e-12, atol=0.0):
            raise ArgumentError("covariance", "is not a symmetric matrix; give D rows of D numbers, [i][j] the same as [j][i]")
        if np.linalg.eigvalsh(k)[0] <= 0.0:
            raise ArgumentError(
                "covariance", "is not positive definite; the diagonal must be > 0 and [i][j]² below [i][i]·[j][j]"
            )

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.covariance)

    @property
    def _root(self) -> Array:
        return np.linalg.cholesky(self.covariance)

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,), at z of shape (N, D)."""
        return np.exp(self.log_density(z))

    def log_density(self, z: Array) -> Array:
        """−½ zᵀK⁻¹z − ½ log det 2πK, shape (N,)."""
        root = self._root
        y = np.linalg.solve(root, z.T)
        return -0.5 * (y**2).sum(axis=0) - float(np.log(np.diag(root)).sum()) - 0.5 * self.dimension * math.log(2.0 * math.pi)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D)."""
        return rng.standard_normal((n, self.dimension)) @ self._root.T

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Gauss–Hermite points of the product of the independent numbers behind, shape (N, D), and weights, shape (N,)."""
        rules = [hermegauss(n) for n in nodes]
        points = np.stack([part.ravel() for part in np.meshgrid(*(x for x, _ in rules), indexing="ij")], axis=1)
        weights = np.prod([part.ravel() for part in np.meshgrid(*(w for _, w in rules), indexing="ij")], axis=0)
        return points @ self._root.T, weights / weights.sum()


def random_resnet(activation: str, weight_variance: float, bias_variance: float, inputs: int) -> MeanField:
    """The model of one or two inputs, in the coordinates u, v, the numbers that a unit has for them.

    Args:
        activation: a name in `RANDOM`, with a derivative.
        weight_variance, bias_variance: σ_w², σ_b² ≥ 0, not both 0.
        inputs: D, 1 or 2.

    Raises:
        ArgumentError: an activation that there is not, a negative variance, no noise at all.
    """
    phi, slope = activation_of(activation), slope_of(activation_of(activation))
    check_variances(weight_variance, bias_variance)
    if weight_variance == bias_variance == 0.0:
        raise ArgumentError("weight_variance", "and bias_variance are both 0: nothing happens from layer to layer; raise one")
    pairs = ENTRIES[inputs]

    def profile(z: Array) -> Array:
        values = np.asarray(phi.value(z), float)
        return np.stack([values[:, i] * values[:, j] for i, j in pairs], axis=1)

    def profile_field(z: Array, r: Array) -> tuple[Array, Array]:
        values, slopes = np.asarray(phi.value(z), float), np.asarray(slope(z), float)
        gradient = np.zeros_like(z)
        for weight, (i, j) in zip(r, pairs, strict=True):
            gradient[:, i] += weight * slopes[:, i] * values[:, j]
            gradient[:, j] += weight * slopes[:, j] * values[:, i]
        return profile(z) @ r, gradient

    def tensor(z: Array, m: Array) -> Array:
        a = np.empty((inputs, inputs))
        for value, (i, j) in zip(m, pairs, strict=True):
            a[i, j] = a[j, i] = 0.5 * (weight_variance * value + bias_variance)
        return np.broadcast_to(a, (len(z), inputs, inputs))

    return MeanField(
        coordinates=NAMES[:inputs],
        profile=profile,
        profile_field=profile_field,
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        own_drift=lambda z, m: np.zeros_like(z),
        own_diffusion=tensor,
        observables={f"K{i + 1}{j + 1}": _product(i, j) for i, j in pairs},
    )


def _product(i: int, j: int) -> Callable[[Array], Array]:
    return lambda z: np.asarray(z[:, i] * z[:, j])


def covariance_at(activation: str, start: Array, weight_variance: float, bias_variance: float, times: Sequence[float]) -> Array:
    """K(s) of K' = σ_w² E[φφ] + σ_b² from K(0) = ``start``, shape (D, D), at increasing times ≥ 0: shape (times, D, D).

    Raises:
        ArgumentError: as `random_resnet`.
    """
    k = np.asarray(start, float)

    def rate(_: float, flat: Array) -> Array:
        return covariance_map(activation, flat.reshape(k.shape), weight_variance, bias_variance).ravel()

    end = max(times[-1], 1e-12)
    found = solve_ivp(rate, (0.0, end), k.ravel(), method="DOP853", t_eval=[*times], rtol=1e-11, atol=1e-13)
    return np.asarray(found.y.T.reshape(len(times), *k.shape))


@dataclass(frozen=True)
class LimitFacts(Mapping[str, float]):
    """K at one time by `covariance_at` as `limit_K11`, …, integrated when they are first asked for.

    Attributes:
        activation, start, weight_variance, bias_variance: as for `covariance_at`.
        end: the time, ≥ 0.
    """

    activation: str
    start: Array
    weight_variance: float
    bias_variance: float
    end: float

    @cached_property
    def _entries(self) -> dict[str, float]:
        k = covariance_at(self.activation, self.start, self.weight_variance, self.bias_variance, [self.end])[-1]
        return {name: float(k[i, j]) for name, (i, j) in self._places().items()}

    def _places(self) -> dict[str, tuple[int, int]]:
        return {f"limit_K{i + 1}{j + 1}": (i, j) for i, j in ENTRIES[len(self.start)]}

    def __getitem__(self, name: str) -> float:
        """One entry."""
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """The names; nothing is integrated."""
        return iter(self._places())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places())
