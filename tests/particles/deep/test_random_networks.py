"""Random networks of finite width: the covariances, gradients and singular values that theory says, on any number of ranks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mvpde.models.deep.activations import ACTIVATIONS, Array
from mvpde.models.deep.fixed_points import critical_line, fixed_point
from mvpde.models.deep.kernels import covariances, first_covariance, isometry
from mvpde.models.deep.signal_maps import slope_power
from mvpde.models.deep.widths import finite_width
from mvpde.particles.deep.random_networks import RandomNetworks, sample
from mvpde.runtime import MPI

PAIR = np.array([(1.0, 1.0), (0.5 + math.sqrt(0.75), 0.5 - math.sqrt(0.75))])  # x² = 1, x·x' = ½ for each of two inputs
TANH = RandomNetworks("tanh", 2.5, 0.05, depth=7, width=20, runs=4000, seed=3, gradients=False)


@pytest.mark.ranks
def test_networks_do_not_know_how_many_ranks_there_are(comm: MPI.Intracomm) -> None:
    networks = RandomNetworks("tanh", 2.0, 0.1, depth=4, width=200, runs=40, seed=5, jacobian=True)
    assert networks.block < 40 / 3  # each rank has some
    here, alone = sample(networks, PAIR, comm), sample(networks, PAIR, MPI.COMM_SELF)
    for ours, all_of_them in zip(vars(here).values(), vars(alone).values(), strict=True):
        np.testing.assert_array_equal(ours, all_of_them)


def limit(networks: RandomNetworks, inputs: Array) -> Array:
    variances = networks.weight_variance, networks.bias_variance
    return covariances(networks.activation, first_covariance(inputs, *variances), *variances, networks.depth)


def off(networks: RandomNetworks) -> tuple[Array, Array, Array]:
    """N(K̂ − K) of (K₁₁, K₂₂, K₁₂) in the last layer, and what is predicted of its mean and of N times the variance of K̂."""
    k = limit(networks, PAIR)
    m, v = finite_width(networks.activation, k, networks.weight_variance, networks.bias_variance)
    found = sample(networks, PAIR, MPI.COMM_SELF).covariances[:, -1, [0, 2, 1]]
    return networks.width * (found - k[-1][[0, 1, 0], [0, 1, 1]]), m[-1], np.diag(v[-1])


@pytest.mark.serial
def test_bias_and_variance_of_order_one_over_the_width() -> None:
    """Three standard errors; what is of higher order is known from 10⁵ runs at N = 20, and lies below the error at N = 80."""
    values, bias, _ = off(TANH)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    assert (np.abs(values.mean(axis=0) - bias) < 3.0 * error + np.array([0.005, 0.007, 0.06])).all()
    assert abs(values[:, 0].mean()) > 3.0 * error[0]  # a theory without bias would be seen
    values, _, variance = off(replace(TANH, width=80, runs=1500))
    found = values.var(axis=0, ddof=1) / 80.0
    assert (np.abs(found / variance - 1.0) < 3.0 * math.sqrt(2.0 / 1500.0) + 0.02).all()


@pytest.mark.serial
def test_the_variance_of_relu_is_known_to_all_orders() -> None:
    """Var K̂_ℓ/K² = (1 + 5/N)^{ℓ−1} − 1, E K̂_ℓ = K."""
    networks = RandomNetworks("relu", 2.0, 0.0, depth=4, width=10, runs=20000, seed=1, gradients=False)
    ratio = sample(networks, PAIR, MPI.COMM_SELF).covariances[:, :, 0] / limit(networks, PAIR)[:, 0, 0]
    assert np.all(np.abs(ratio.mean(axis=0) - 1.0) <= 3.0 * ratio.std(axis=0) / math.sqrt(20000.0) + 1e-12)
    for layer in (2, 3, 4):
        values = (ratio[:, layer - 1] - 1.0) ** 2
        assert values.mean() == pytest.approx(1.5 ** (layer - 1) - 1.0, abs=3.0 * values.std() / math.sqrt(20000.0))


@pytest.mark.serial
@pytest.mark.parametrize("weight_variance", [1.5, 2.5])
def test_gradients_fall_and_grow_by_chi(weight_variance: float) -> None:
    """From layer 20 to layer 1 by Π χ(q_ℓ), per layer by χ_1: .94 in the ordered, 1.13 in the chaotic phase."""
    networks = RandomNetworks("tanh", weight_variance, 0.05, depth=20, width=120, runs=60, seed=2)
    sizes = sample(networks, PAIR, MPI.COMM_SELF).gradients
    assert sizes is not None
    q, chi = limit(networks, PAIR)[:-1, 0, 0], fixed_point("tanh", weight_variance, 0.05).chi
    assert chi is not None
    expected = math.prod(weight_variance * slope_power(ACTIVATIONS["tanh"], q))
    first = sizes[:, 0]
    assert first.mean() == pytest.approx(expected, abs=3.0 * first.std() / math.sqrt(60.0) + 20.0 / 120.0 * expected)
    slope = np.polyfit(np.arange(20), np.log(sizes.mean(axis=0)), 1)[0]
    assert slope == pytest.approx(-math.log(chi), abs=0.03) and slope * math.log(chi) < 0.0


@pytest.mark.serial
@pytest.mark.parametrize(("orthogonal", "spread"), [(False, 5.36902431), (True, 1.36902431)])
def test_singular_values_spread_as_predicted(orthogonal: bool, spread: float) -> None:
    """Four layers at q* on the critical line: variance 4(1.342256 − s) of s², mean 1."""
    w = float(critical_line("tanh", [0.05])[0])
    q = fixed_point("tanh", w, 0.05).q
    assert q is not None
    inputs = np.array([[math.sqrt((q - 0.05) / w)]])
    networks = RandomNetworks("tanh", w, 0.05, 5, 100, 60, seed=4, orthogonal=orthogonal, gradients=False, jacobian=True)
    assert isometry("tanh", np.full(4, q), w, orthogonal=orthogonal) == pytest.approx((1.0, spread), rel=1e-8)
    squares = sample(networks, inputs, MPI.COMM_SELF).squares
    assert squares is not None
    mean, variance = squares[:, 0], squares[:, 1] - squares[:, 0] ** 2
    assert mean.mean() == pytest.approx(1.0, abs=3.0 * mean.std() / math.sqrt(60.0) + 0.01)
    assert variance.mean() == pytest.approx(spread, abs=3.0 * variance.std() / math.sqrt(60.0) + 4.0 * spread / 100.0)


@pytest.mark.serial
def test_orthogonal_matrices_are_orthogonal() -> None:
    """Without activation's bend, at small variance, every singular value is σ_w to the power of the number of layers."""
    networks = RandomNetworks("sin", 1.0, 0.0, 4, 30, 3, orthogonal=True, gradients=False, jacobian=True)
    squares = sample(networks, np.array([[1e-6, 0.0]]), MPI.COMM_SELF).squares
    np.testing.assert_allclose(squares, 1.0, rtol=1e-10)
