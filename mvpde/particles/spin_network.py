"""Networks of n units trained on the 3-spin energy in any dimension, by minibatches of fresh samples and a quench.

    f_n(x) = n⁻¹ Σ_i h c_i φ(x, y_i),   x uniform on the sphere of radius √d,
    c_i ← c_i − Δt P⁻¹ Σ_p r_p hφ(x_p, y_i),   y_i ← y_i − Δt c_i P⁻¹ Σ_p r_p h∇φ(x_p, y_i),   r_p = f_n(x_p) − f(x_p),

with P new points at every step, all units seeing the same ones (Rotskoff & Vanden-Eijnden, arXiv:1805.00915, §5). Units:

- "gaussian": exp(−½α|x − y|²), α = κ/d, y on the sphere of x: the gradient is projected on it and y brought back to its length;
- "sigmoid": 1/(1 + e^{−a·x − b}), y = (a, b) ∈ R^{d+1}.

The height h makes c and y move at comparable rates: on a sphere in high dimension most Gaussians are small, φ ~ e^{−κ}. In the
quench the batches grow, which takes away the noise of the minibatches. Numbers are of single precision: what is measured is far
above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mvpde.models.spins import couplings
from mvpde.particles.spin_kernels import Single, energies, gaussian, gaussian_slope, ordered, sigmoid, sigmoid_slope
from mvpde.registry import Registry

ROWS = 2**17  # entries of the matrix of units and samples in work at once: they fit the cache
TEST = 16384  # samples that the error is measured on
TESTED = 2**31  # seeds of their stream: no run of training has it


@dataclass(frozen=True)
class SpinUnit:
    """hφ = g(x'·y), with the kernels of g that `mvpde.particles.spin_kernels` describes.

    Attributes:
        start: (stream, n, d, width) → y, one row for each unit.
        rows: (x, κ) → x', one row for each sample x.
        values: (z, c, height, κ, f) puts g(z) into z and Σ_i c_i g(z_pi) into f.
        slopes: (z, r, height, G) adds Σ_p r_p g(z_pi) to G and puts r_p g'(z_pi) into z, which has g(z).
        tangent: (force on y, y) → the part of it that y follows.
        put: y after a step → y where it belongs.
    """

    start: Callable[[np.random.Generator, int, int, float], Single]
    rows: Callable[[Single, float], Single]
    values: Callable[[Single, Single, np.float32, np.float32, Single], None]
    slopes: Callable[[Single, Single, np.float32, Single], None]
    tangent: Callable[[Single, Single], Single]
    put: Callable[[Single], Single]


def on_sphere(rng: np.random.Generator, count: int, dimension: int) -> Single:
    """Points uniform on the sphere of radius √d, shape (count, d)."""
    return _to_sphere(rng.standard_normal((count, dimension), dtype=np.float32))


def _to_sphere(x: Single) -> Single:
    return x * (np.float32(math.sqrt(x.shape[1])) / np.sqrt(np.einsum("pd,pd->p", x, x)))[:, None]


def _tangent(force: Single, y: Single) -> Single:
    return force - y * (np.einsum("nd,nd->n", force, y) / np.float32(y.shape[1]))[:, None]


def _in_space(rng: np.random.Generator, count: int, dimension: int, width: float) -> Single:
    return np.float32(width) * rng.standard_normal((count, dimension + 1), dtype=np.float32)


GAUSSIAN = SpinUnit(
    lambda rng, n, d, _: on_sphere(rng, n, d),
    lambda x, kappa: np.float32(kappa / x.shape[1]) * x,
    gaussian,
    gaussian_slope,
    _tangent,
    _to_sphere,
)
SIGMOID = SpinUnit(
    _in_space,
    lambda x, _: np.column_stack([x, np.ones(len(x), np.float32)]),
    sigmoid,
    sigmoid_slope,
    lambda force, _: force,
    lambda y: y,
)
SPIN_UNITS: Registry[SpinUnit] = Registry("unit", {"gaussian": GAUSSIAN, "sigmoid": SIGMOID})


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        dimension: d ≥ 2.
        unit: a name in `SPIN_UNITS`.
        units: n ≥ 1.
        height: h > 0.
        width: standard deviation of a and b at the start, for sigmoids.
        weight: standard deviation of c at the start.
        kappa: κ, for Gaussian units.
        step: Δt > 0.
        batch: P ≥ 1.
        steps: number of steps with batches of P.
        quench_batch, quench_steps: the same of the quench.
        couplings: seed of a_pqr.
        seed: of the start and the samples.
    """

    dimension: int
    unit: str
    units: int
    height: float = 1.0
    width: float = 1.0
    weight: float = 1.0
    kappa: float = 5.0
    step: float = 1e-3
    batch: int = 100
    steps: int = 1000
    quench_batch: int = 1000
    quench_steps: int = 100
    couplings: int = 0
    seed: int = 0


@dataclass(frozen=True)
class SpinNetwork:
    """f_n(x) = n⁻¹ Σ_i c_i g(x'·y_i).

    Attributes:
        plan: how it is trained.
        y: its units, one row each.
        c: their weights.
    """

    plan: Training
    y: Single
    c: Single

    @property
    def unit(self) -> SpinUnit:
        """The functions of its units."""
        return SPIN_UNITS[self.plan.unit]

    def values(self, rows: Single) -> tuple[Single, Single]:
        """g, shape (P, n), and f_n, shape (P,), for P rows x'."""
        z, f = rows @ self.y.T, np.empty(len(rows), np.float32)
        self.unit.values(z, self.c, np.float32(self.plan.height), np.float32(self.plan.kappa), f)
        return z, f / np.float32(self.plan.units)

    def predict(self, x: Single) -> Single:
        """f_n at x, shape (P, d)."""
        return np.concatenate([self.values(self.unit.rows(x[piece], self.plan.kappa))[1] for piece in self.pieces(len(x))])

    def pieces(self, samples: int) -> list[slice]:
        """The samples that are in work at once."""
        rows = max(1, ROWS // self.plan.units)
        return [slice(k, k + rows) for k in range(0, samples, rows)]

    def forces(self, x: Single, target: Single) -> tuple[Single, Single]:
        """Means over the samples of r g and of r ∂g/∂y, for each unit: single precision in a piece, double over the pieces."""
        of_c, of_y, r_scale = np.zeros(self.c.shape), np.zeros(self.y.shape), np.float32(1.0 / len(x))
        for piece in self.pieces(len(x)):
            rows, part = self.unit.rows(x[piece], self.plan.kappa), np.zeros_like(self.c)
            z, f = self.values(rows)
            self.unit.slopes(z, (f - target[piece]) * r_scale, np.float32(self.plan.height), part)
            of_c += part
            of_y += z.T @ rows
        return of_c.astype(np.float32), self.unit.tangent(of_y.astype(np.float32), self.y)

    def after_step(self, x: Single, target: Single) -> SpinNetwork:
        """The network after one step with a batch of samples."""
        step = np.float32(self.plan.step)
        of_c, of_y = self.forces(x, target)
        y = self.unit.put(self.y - drift_factor(self.c) * step * of_y)
        return replace(self, y=y, c=self.c - step * of_c)


def started(plan: Training, rng: np.random.Generator) -> SpinNetwork:
    """A network before its first step."""
    y = SPIN_UNITS[plan.unit].start(rng, plan.units, plan.dimension, plan.width)
    return SpinNetwork(plan, y, np.float32(plan.weight) * rng.standard_normal(plan.units, dtype=np.float32))


def train(plan: Training) -> SpinNetwork:
    """A trained network. Local."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(plan.seed, spawn_key=(plan.dimension, plan.units))))
    a, network = ordered(couplings(plan.dimension, plan.couplings)), started(plan, rng)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at what comes out
        for k in range(plan.steps + plan.quench_steps):
            x = on_sphere(rng, plan.batch if k < plan.steps else plan.quench_batch, plan.dimension)
            network = network.after_step(x, energy(a, x))
    return network


def energy(a: Single, x: Single) -> Single:
    """The target at x, shape (P, d), for `ordered` couplings."""
    f = np.empty(len(x), np.float32)
    energies(a, x, f)
    return f


def drift_factor(c: Single) -> Single:
    """What ∇U is multiplied with in the motion of y, shape (n, 1): c."""
    return c[:, None]


def fresh_samples(plan: Training) -> tuple[Single, Single]:
    """TEST points on the sphere, shape (TEST, d), and f there: the same for all networks of a target."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(TESTED + plan.couplings, spawn_key=(plan.dimension,))))
    x = on_sphere(rng, TEST, plan.dimension)
    return x, target_of(plan, x)


def target_of(plan: Training, x: Single) -> Single:
    """f at x, shape (P, d)."""
    return energy(ordered(couplings(plan.dimension, plan.couplings)), x)
