"""Particles between absorbing walls: the weights of survivors, their order, and that ranks and checkpoints do not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from at_hand.walls import between
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import MeanField
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI

serial = pytest.mark.serial
START = Product((Normal(0.0, 1e-3),))
SURVIVAL = 0.24694  # at t = 1


def drifting() -> MeanField:
    return between(fokker_planck(["x"], potential="-x", temperature=0.5), [-1.0], [1.0], ("absorbing", "absorbing"))


@serial
@pytest.mark.parametrize(("step", "scheme"), [(0.02, "euler"), (0.1, "heun")])
def test_survival(step: float, scheme: str) -> None:
    """Also for steps of √h = a third of the way to a wall; without bridges a step of .1 leaves .33."""
    ensemble = Ensemble(drifting(), START, particles=20000, step=step, scheme=scheme, companion=False, comm=MPI.COMM_SELF)
    ensemble.advance(1.0)
    numbers = ensemble.numbers()
    assert numbers["survival_standard_error"] < 0.44 / math.sqrt(20000)
    assert numbers["survival"] == pytest.approx(SURVIVAL, abs=3.0 * numbers["survival_standard_error"] + 1e-3)
    points, weights = ensemble.cloud()  # type: ignore[misc]
    assert weights.sum() == pytest.approx(numbers["survival"], rel=1e-12)
    assert np.abs(points).max() < 1.0


@serial
def test_the_error_of_the_step_sees_the_walls() -> None:
    """The weights of half steps differ from those of whole ones by little, and their error is told."""
    ensemble = Ensemble(drifting(), START, particles=4000, step=0.1, comm=MPI.COMM_SELF)
    ensemble.advance(0.5)
    change, spread = ensemble._halved.changes(lambda z: np.ones((len(z), 1)), ensemble._z)  # type: ignore[union-attr]
    assert abs(change[0, 0]) < 5.0 * spread[0] + 5e-3
    assert 0.0 < spread[0] < 0.03


@serial
def test_a_checkpoint_goes_on_bit_for_bit() -> None:
    made = [Ensemble(drifting(), START, particles=500, step=0.1, comm=MPI.COMM_SELF) for _ in range(2)]
    made[0].advance(0.5)
    made[1].restore(made[0].state())
    for ensemble in made:
        ensemble.advance(1.0)
    assert made[0].numbers() == made[1].numbers()


@pytest.mark.ranks
def test_ranks_do_not_matter_for_survivors() -> None:
    made = [Ensemble(drifting(), START, particles=9000, step=0.1, comm=comm) for comm in (MPI.COMM_WORLD, MPI.COMM_SELF)]
    for ensemble in made:
        ensemble.advance(0.4)
    assert made[0].numbers() == made[1].numbers()
