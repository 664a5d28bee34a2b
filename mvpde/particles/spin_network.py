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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.models.spins import couplings, energy
from mvpde.registry import Registry

Single = NDArray[np.floating]  # of single precision

ROWS = 2**20  # entries of the matrix of units and samples in work at once
TEST = 16384  # samples that the error is measured on
TESTED = 2**31  # seeds of their stream: no run of training has it


@dataclass(frozen=True)
class SpinUnit:
    """The functions of a unit, all for P samples x, shape (P, d), and n units y.

    Attributes:
        start: (stream, n, d, width) → y.
        values: (x, y, height, κ) → hφ(x_p, y_i), shape (P, n).
        push: (x, y, hφ, r, height, κ) → Σ_p r_p h∂φ(x_p, y_i)/∂y, shape of y; overwrites hφ.
        put: y after a step → y where it belongs.
    """

    start: Callable[[np.random.Generator, int, int, float], Single]
    values: Callable[[Single, Single, float, float], Single]
    push: Callable[[Single, Single, Single, Single, float, float], Single]
    put: Callable[[Single], Single]


def on_sphere(rng: np.random.Generator, count: int, dimension: int) -> Single:
    """Points uniform on the sphere of radius √d, shape (count, d)."""
    return _to_sphere(rng.standard_normal((count, dimension), dtype=np.float32))


def _to_sphere(x: Single) -> Single:
    return x * (math.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1, keepdims=True))


def _gaussian_values(x: Single, y: Single, height: float, kappa: float) -> Single:
    values = (np.float32(kappa / x.shape[1]) * x) @ y.T
    values += np.float32(math.log(height) - kappa)
    return np.exp(values, out=values)


def _gaussian_push(x: Single, y: Single, values: Single, r: Single, height: float, kappa: float) -> Single:
    values *= r[:, None]
    slope = np.float32(kappa / x.shape[1]) * (values.T @ x)
    return slope - y * ((slope * y).sum(axis=1, keepdims=True) / np.float32(x.shape[1]))


def _sigmoid_start(rng: np.random.Generator, count: int, dimension: int, width: float) -> Single:
    return np.float32(width) * rng.standard_normal((count, dimension + 1), dtype=np.float32)


def _sigmoid_values(x: Single, y: Single, height: float, kappa: float) -> Single:
    values = x @ y[:, :-1].T
    values += y[:, -1]
    values *= np.float32(0.5)
    np.tanh(values, out=values)
    values += np.float32(1.0)
    values *= np.float32(0.5 * height)
    return values


def _sigmoid_push(x: Single, y: Single, values: Single, r: Single, height: float, kappa: float) -> Single:
    values *= 1.0 - values / np.float32(height)
    values *= r[:, None]
    return np.column_stack([values.T @ x, values.sum(axis=0)])


SPIN_UNITS: Registry[SpinUnit] = Registry(
    "unit",
    {
        "gaussian": SpinUnit(lambda rng, n, d, _: on_sphere(rng, n, d), _gaussian_values, _gaussian_push, _to_sphere),
        "sigmoid": SpinUnit(_sigmoid_start, _sigmoid_values, _sigmoid_push, lambda y: y),
    },
)


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


def train(plan: Training) -> Single:
    """f_n of a trained network at the points of `fresh_samples`, shape (TEST,). Local."""
    unit, n, height, kappa = SPIN_UNITS[plan.unit], plan.units, plan.height, plan.kappa
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(plan.seed, spawn_key=(plan.dimension, n))))
    a = couplings(plan.dimension, plan.couplings).astype(np.float32)
    y = unit.start(rng, n, plan.dimension, plan.width)
    c = np.float32(plan.weight) * rng.standard_normal(n, dtype=np.float32)
    step, rows = np.float32(plan.step), max(1, ROWS // n)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at what comes out
        for k in range(plan.steps + plan.quench_steps):
            batch = plan.batch if k < plan.steps else plan.quench_batch
            of_c, of_y = np.zeros_like(c), np.zeros_like(y)
            for start in range(0, batch, rows):
                x = on_sphere(rng, min(rows, batch - start), plan.dimension)
                values = unit.values(x, y, height, kappa)
                r = (values @ c / np.float32(n) - energy(a, x)) / np.float32(batch)
                of_c += r @ values
                of_y += unit.push(x, y, values, r, height, kappa)
            y = unit.put(y - drift_factor(c) * step * of_y)
            c = c - step * of_c
        x = fresh_samples(plan)[0]
        pieces = [unit.values(x[k : k + rows], y, height, kappa) @ c for k in range(0, len(x), rows)]
    return np.concatenate(pieces) / np.float32(n)


def drift_factor(c: Single) -> Single:
    """What ∇U is multiplied with in the motion of y, shape (n, 1): c."""
    return c[:, None]


def fresh_samples(plan: Training) -> tuple[Single, Single]:
    """TEST points on the sphere, shape (TEST, d), and f there: the same for all networks of a target."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(TESTED + plan.couplings, spawn_key=(plan.dimension,))))
    x = on_sphere(rng, TEST, plan.dimension)
    return x, energy(couplings(plan.dimension, plan.couplings).astype(np.float32), x)
