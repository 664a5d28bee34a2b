"""The law at every depth of a residual network on copies of one mesh: order, what is kept, and the numbers of the limit."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.residual import LAW, LIMIT, LOSSES
from mvpde.density.deep.resnet import ResidualDensity
from mvpde.mesh.box import box
from mvpde.models.deep.resnet import gauss
from mvpde.models.laws import Normal, Product
from mvpde.particles.deep.resnet import ResidualCharacteristics
from mvpde.runtime import MPI, ArgumentError

SMOOTH = Product((Normal(0.25, 0.4), Normal(1.0, 0.2)))
LOWER, UPPER = [-1.95, -0.1], [2.45, 2.1]  # 5.5 standard deviations on either side


def test_it_has_order_two_in_the_mesh() -> None:
    """X(1), X(½), E θ and the loss at t = .5 against characteristics: the error falls by 2^1.8 or more as the cells halve."""
    exact = ResidualCharacteristics(LIMIT, gauss(3), SMOOTH, nodes=(10, 10), tolerance=1e-8, comm=MPI.COMM_SELF)
    exact.advance(0.5)
    truth, errors = exact.arrays(), []
    for cells in (28, 56):
        density = ResidualDensity(LIMIT, box(LOWER, UPPER, [cells, cells], comm=MPI.COMM_SELF), gauss(3), SMOOTH)
        density.advance(0.5)
        found = density.arrays()
        gaps = [np.abs(found[key] - truth[key]).max() for key in ("predictions", "inputs", "layer_mean", "layer_variance")]
        errors.append([*gaps, abs(density.losses()[0] - exact.losses()[0])])
    coarse, fine = np.array(errors)
    assert np.all(np.log2(coarse / fine) > 1.8)
    assert fine[0] < 1e-3


@pytest.mark.ranks
def test_every_depth_keeps_its_mass_and_the_loss_is_that_of_the_limit(comm: MPI.Intracomm) -> None:
    """From a law that jumps: ρ ≥ 0, mass to 1e-12 at each depth, the loss within 1e-3 of the limit; the ranks do not matter."""
    both = [
        ResidualDensity(LIMIT, box([-2.25, -1.1], [2.75, 3.1], [24, 24], comm=where), gauss(3), LAW)
        for where in (comm, MPI.COMM_SELF)
    ]
    for density in both:
        density.advance(1.0)
    shared, alone = both
    assert np.abs(shared.domain.part_masses(shared.values) / shared.domain.weights - 1.0).max() < 1e-12
    assert shared.minimum >= 0.0
    assert shared.losses()[0] == pytest.approx(LOSSES[1.0], abs=2e-4)
    assert shared.losses()[0] == pytest.approx(alone.losses()[0], abs=1e-12)
    fields = shared.fields()
    assert comm.rank > 0 or (len(fields) == 4 and fields["rho"].shape == (25 * 25,))


@pytest.mark.ranks
def test_it_goes_on_where_it_stopped(comm: MPI.Intracomm) -> None:
    density, again = (
        ResidualDensity(LIMIT, box([-2.25, -1.1], [2.75, 3.1], [12, 12], comm=comm), gauss(2), LAW) for _ in range(2)
    )
    density.advance(0.3)
    again.restore(density.state())
    density.advance(0.5)
    again.advance(0.5)
    assert np.allclose(density.values, again.values, atol=1e-12)


def test_other_schemes_and_meshes_are_refused() -> None:
    plane = box([-2.25, -1.1], [2.75, 3.1], [12, 12], comm=MPI.COMM_SELF)
    with pytest.raises(ArgumentError, match="scheme"):
        ResidualDensity(LIMIT, plane, gauss(2), LAW, scheme="galerkin")
    with pytest.raises(ArgumentError, match="trained weights v, w"):
        ResidualDensity(LIMIT, box([0.0], [1.0], [4], comm=MPI.COMM_SELF), gauss(2), LAW)
    with pytest.raises(ArgumentError, match="cfl"):
        ResidualDensity(LIMIT, plane, gauss(2), LAW, cfl=2.0)
