"""Drifts that carry a law faster than its noise spreads it: explicit steps with any tensor, implicit ones that keep the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from at_hand.gaussians import CROSSED, DEGENERATE, OSCILLATING, around, gaussian, general, l1, ornstein_uhlenbeck, sheared
from at_hand.models import free, order
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI


def pushed() -> MeanField:
    """Drift (−x + cos 2⟨s⟩, 1) in (x, s) with noise in x alone: ⟨s⟩ grows by 1 in unit time, and its variance stays."""
    return replace(
        free(2, 0.0, lambda z: 0.0 * z[:, 0]),
        coordinates=("x", "s"),
        profile=lambda y: y[:, 1:2].copy(),
        profile_field=lambda y, r: (r[0] * y[:, 1], np.column_stack([0.0 * y[:, 0], np.full(len(y), r[0])])),
        own_drift=lambda z, m: np.column_stack([np.cos(2.0 * m[0]) - z[:, 0], np.ones(len(z))]),
        own_diffusion=lambda z, m: np.broadcast_to(np.diag([0.25, 0.0]), (len(z), 2, 2)),
    )


def ring(speed: float, noise: float) -> MeanField:
    """Drift x(1 − r²) − vy, y(1 − r²) + vx with noise A = aI: r² is normal about 1 with the variance 2a, around the ring."""

    def drift(z: Array) -> Array:
        towards = 1.0 - np.sum(z**2, axis=1)
        return z * towards[:, None] + speed * np.column_stack([-z[:, 1], z[:, 0]])

    return general(2, drift, lambda z: np.broadcast_to(noise * np.eye(2), (len(z), 2, 2)))


@pytest.mark.parametrize("scheme", ["auto", "galerkin"])
def test_a_mean_that_the_drift_moves_evenly(comm: MPI.Intracomm, scheme: str) -> None:
    """⟨s⟩ = t to 1e-5 although s has two cells a standard deviation and each step is limited; the explicit variance to 2 %."""
    law = Product((Normal(0.0, 0.5), Normal(0.0, 0.3)))
    density = Density(pushed(), box([-4.0, -1.5], [4.0, 2.9], [40, 32], comm=comm), law, scheme=scheme)
    density.advance(1.0)
    assert density.scheme == ("flux_corrected" if scheme == "auto" else "galerkin")
    assert float(str(density.statistics()["limited_steps"])) > 0.5 * density.steps
    mean = density.expectation(lambda z: z[:, 1])[0]
    assert mean == pytest.approx(1.0, abs=1e-5)
    assert density.minimum >= -1e-14
    assert density.mass_defect < 1e-12
    if scheme == "auto":
        assert density.expectation(lambda z: (z[:, 1] - mean) ** 2)[0] == pytest.approx(0.09, rel=0.02)


@pytest.mark.parametrize("pair", [OSCILLATING, CROSSED, DEGENERATE], ids=["oscillating", "crossed", "degenerate"])
def test_explicit_steps_with_full_and_degenerate_tensors(comm: MPI.Intracomm, pair: tuple[object, object, object]) -> None:
    """Order 1.7 and more in L¹ from 20² to 40² cells, ρ ≥ 0; mean and covariance follow their equations."""
    m, a, limit = (np.array(x) for x in pair)
    spread, t = np.sqrt(np.diag(limit)), 0.4
    start, mean = np.diag((0.7 * spread) ** 2), expm(-m * t) @ (0.6 * spread)
    covariance = limit + expm(-m * t) @ (start - limit) @ expm(-m * t).T
    law, errors = Product(tuple(Normal(0.6 * s, 0.7 * s) for s in spread)), []
    for cells in (20, 40):
        density = Density(ornstein_uhlenbeck(m, a), around(comm, limit, cells), law, scheme="flux_corrected")
        density.advance(t)
        errors.append(l1(density.domain, density.values, gaussian(mean, covariance)))
        assert density.minimum >= 0.0
        assert density.mass_defect < 1e-12
    assert order(errors) > 1.7
    assert errors[-1] < 0.05
    first = np.array([density.expectation(lambda z, k=k: z[:, k])[0] for k in range(2)])
    second = [[density.expectation(lambda z, k=k, c=c: z[:, k] * z[:, c])[0] for k in range(2)] for c in range(2)]
    assert np.allclose(first, mean, atol=1e-6)
    assert np.allclose(second, covariance + np.outer(mean, mean), atol=1e-3)


def test_weak_noise_around_a_ring(comm: MPI.Intracomm) -> None:
    """A law around a ring that is 1.3 cells wide stays as wide to 5 %, at 40 of its cells a unit of time: E(r² − 1)² = 2a."""
    model, a = ring(10.0, 0.016), 0.016
    density = Density(model, box([-1.8] * 2, [1.8] * 2, [52] * 2, comm=comm), Product((Normal(0.0, 0.5),) * 2))
    squared = np.sum(density.domain.coordinates**2, axis=1)
    density.values = density.domain.normalised(np.exp(-((squared - 1.0) ** 2) / (4.0 * a)))
    density.advance(0.4)
    assert density.scheme == "flux_corrected"
    assert density.minimum >= 0.0
    assert density.expectation(lambda z: (np.sum(z**2, axis=1) - 1.0) ** 2)[0] == pytest.approx(2.0 * a, rel=0.05)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_jumps_of_the_drift_and_of_the_start(comm: MPI.Intracomm, dimension: int) -> None:
    """A drift that falls from 1 to ½ at 0, a start with edges, tiny noise: ρ ≥ 0, the mass stays; ρ doubles, and hardly more."""
    model = general(
        dimension,
        lambda z: np.where(z > 0.0, 0.5, 1.0) + 0.0 * z,
        lambda z: np.broadcast_to(1e-4 * np.eye(dimension), (len(z), dimension, dimension)),
    )
    cells = {1: 80, 2: 40, 3: 16}[dimension]
    density = Density(
        model,
        box([-2.0] * dimension, [2.0] * dimension, [cells] * dimension, comm=comm),
        Product((Uniform(-1.0, -0.5),) * dimension),
    )
    density.advance(0.9)
    assert density.scheme == "flux_corrected"
    assert density.minimum >= 0.0
    assert density.mass_defect < 1e-12
    assert density.domain.extremes(density.values)[1] < 1.15 * 4.0**dimension


@pytest.mark.ranks
def test_obtuse_triangles_and_a_period(comm: MPI.Intracomm) -> None:
    """A sheared mesh under rotation and full noise, and a drift around a period: positive, the means as they must be."""
    law, t = Product((Normal(0.4, 0.3), Normal(0.0, 0.3))), 0.5
    m = np.array([[0.0, 3.0], [-3.0, 0.0]])
    density = Density(ornstein_uhlenbeck(m, [[0.02, 0.01], [0.01, 0.02]]), sheared(comm, 40), law)
    density.advance(t)
    assert density.scheme == "flux_corrected"
    assert density.minimum >= 0.0
    first = [density.expectation(lambda z, k=k: z[:, k])[0] for k in range(2)]
    assert np.allclose(first, expm(-m * t) @ [0.4, 0.0], atol=1e-3)
    around_period = replace(general(1, lambda z: 1.0 + 0.0 * z, lambda z: np.full((len(z), 1, 1), 1e-3)), periods=(1.0,))
    turning = Density(around_period, box([0.0], [1.0], [64], [True], comm=comm), Product((Normal(0.5, 0.08),)))
    turning.advance(1.0)
    wave = turning.expectation(lambda z: np.cos(2.0 * np.pi * (z[:, 0] - 0.5)))[0]
    assert turning.minimum >= 0.0
    assert wave == pytest.approx(np.exp(-2.0 * np.pi**2 * (0.08**2 + 2e-3)), rel=5e-3)
