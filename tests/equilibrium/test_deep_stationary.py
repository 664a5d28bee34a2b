"""Stationary laws of deep networks: Gibbs in every layer, the numbers from elsewhere, and where the motion ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from at_hand.deep import S4S, Reference, density_of
from mvpde.equilibrium.deep import anderson, deep_long_time, deep_stationary
from mvpde.models.laws import Normal, Uniform
from mvpde.runtime import MPI, ArgumentError, SolverError

S4N = Reference(replace(S4S.network, temperature=0.05, base={"w": Normal(1.0, 0.5)}), S4S.laws, {})


@pytest.mark.serial
def test_numbers_and_gibbs_laws_of_every_layer_and_label() -> None:
    density = density_of(S4N, 60, -1.5, 3.5, 24, MPI.COMM_SELF)
    before = density.values.copy()
    law = deep_stationary(density)
    assert np.array_equal(density.values, before)
    assert law.residual < 1e-12
    assert law.density.losses()[0] == pytest.approx(0.033517, abs=2e-6)
    assert law.density.free_energy() == pytest.approx(0.034748, abs=2e-6)
    arrays = law.density.arrays()
    assert np.allclose(arrays["layer_mean"][:, 0], (1.02247, 1.03882, 1.07256), atol=2e-5)
    assert np.allclose(arrays["layer_variance"][:, 0], (0.24724, 0.24058, 0.23249), atol=2e-5)
    potential, owned = np.empty(len(density.values)), density.domain.owned
    features = law.density.features
    features.potential(features.moments(density.domain.graph.lumped * law.density.values[:owned]), potential)
    constant = np.log(law.density.values[:owned]) + potential[:owned] / 0.05
    part = density.domain.part[:owned]
    spread = [np.ptp(constant[part == number]) for number in range(len(density.domain.weights))]
    assert max(spread) < 1e-9  # of residual/τ


@pytest.mark.serial
def test_errors_bracket_those_of_the_mesh() -> None:
    """Against four times as many cells, by as many labels. As far as walls let them Gibbs states converge faster than a power."""
    fine, half, quarter, finest = (density_of(S4N, cells, -1.5, 3.5, 4, MPI.COMM_SELF) for cells in (24, 12, 6, 96))
    found, right = deep_long_time(fine, [half, quarter]).entry, deep_stationary(finest).numbers()
    shares = []
    for name in ("loss", "free_energy", "layer_mean", "layer_variance"):
        true, told = np.abs(np.asarray(found[name]) - right[name]), np.asarray(found[f"{name}_error"])
        assert (true <= 2.0 * told + 5e-6 * np.abs(right[name])).all(), (name, true, told)
        shares += (true / told).ravel().tolist()
    assert np.median(shares) > 0.02
    assert "loss_error" not in deep_long_time(fine).entry


@pytest.mark.serial
def test_the_motion_ends_in_the_stationary_law() -> None:
    """Edge-averaged steps know the same Gibbs states. b > 0, for where it is very negative V has two wells and takes its time."""
    reference = replace(S4N, laws={**S4N.laws, "b": Uniform(0.2, 2.0)})
    density = density_of(reference, 24, -1.5, 3.5, 5, MPI.COMM_SELF)
    law = deep_stationary(density)
    distances = [law.distance(density)]
    for t in (15.0, 30.0):
        density.advance(t)
        distances.append(law.distance(density))
    assert distances[1] < 0.1 * distances[0]
    assert distances[2] < 0.1 * distances[1]
    assert density.losses()[0] == pytest.approx(law.density.losses()[0], abs=2e-3 * distances[0])
    assert 0.0 <= density.free_energy() - law.density.free_energy() < distances[2] ** 2
    moved = deep_stationary(density)
    assert np.allclose(moved.density.moments(), law.density.moments(), atol=1e-10)


@pytest.mark.ranks
def test_the_number_of_ranks_does_not_matter(comm: MPI.Intracomm) -> None:
    shared, alone = (deep_stationary(density_of(S4N, 20, -1.5, 3.5, 6, c)) for c in (comm, MPI.COMM_SELF))
    assert np.allclose(shared.density.moments(), alone.density.moments(), atol=1e-11)
    assert shared.entry()["free_energy"] == pytest.approx(alone.entry()["free_energy"], abs=1e-12)


@pytest.mark.serial
def test_what_has_no_stationary_law_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match="temperature is 0"):
        deep_stationary(density_of(S4S, 8, -2.5, 5.5, 4, MPI.COMM_SELF))
    ends = replace(S4N, network=replace(S4N.network, train_ends=True))
    with pytest.raises(ArgumentError, match="train_ends = false"):
        deep_stationary(density_of(ends, 20, -1.5, 3.5, 4, MPI.COMM_SELF))
    with pytest.raises(SolverError, match="still change by"):
        anderson(lambda x: x**2 + 1.0, np.array([0.3]))  # has no fixed point
    assert anderson(np.cos, np.array([0.3]))[0] == pytest.approx(0.7390851332151607, abs=1e-12)
