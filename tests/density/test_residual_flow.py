"""The law of features along the depth of a residual network, on a mesh, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from at_hand.residual_flows import LINE, NORMAL, PLANE, SPACE, Flow, linear
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.mean_field import Array
from mvpde.runtime import MPI

Test = Callable[[Array], Array]


def first(z: Array) -> Array:
    return z[:, 0]


def square(z: Array) -> Array:
    return z[:, 0] ** 2


# at s = 1: test functions and their means
LINE_MEANS: dict[Test, float] = {first: 0.410540336, square: 1.357130672, lambda z: np.cos(z[:, 0]): 0.478821174}
PLANE_MEANS: dict[Test, float] = {
    first: 0.565736325,
    lambda z: z[:, 1]: 0.013644785,
    square: 2.006780883,
    lambda z: z[:, 0] * z[:, 1]: 0.944372246,
    lambda z: z[:, 1] ** 2: 0.635263876,
    lambda z: np.cos(z[:, 0] + z[:, 1]): -0.100858607,
}
SPACE_MEANS: dict[Test, float] = {
    first: 0.343482854,
    lambda z: z[:, 1]: 0.161845125,
    lambda z: z[:, 2]: -0.220283681,
    square: 1.455798499,
}


def carried(flow: Flow, cells: int, comm: MPI.Intracomm) -> Density:
    dimension = len(flow.growth)
    density = Density(flow.model, box(list(flow.lower), list(flow.upper), [cells] * dimension, comm=comm), flow.law)
    density.advance(1.0)
    assert density.scheme == "flux_corrected"
    assert density.mass_defect < 1e-12
    assert density.minimum >= 0.0
    return density


def error(density: Density, flow: Flow) -> float:
    """∫|ρ − p(1, ·)|."""
    owned = density.domain.owned
    gap = np.abs(density.values[:owned] - flow.density(density.domain.coordinates[:owned]))
    return float(density.domain.sum(np.array(density.domain.graph.lumped @ gap)))


@pytest.mark.serial
@pytest.mark.parametrize(
    ("flow", "means", "coarse", "fine", "bound"),
    [(LINE, LINE_MEANS, 64, 128, 1e-3), (PLANE, PLANE_MEANS, 48, 96, 1e-3), (SPACE, SPACE_MEANS, 16, 24, 2e-3)],
    ids=["line", "plane", "space"],
)
def test_density_follows_the_closed_form_at_second_order(flow, means, coarse, fine, bound):
    """Means at s = 1 on the finer mesh, and the order of the error in L¹ between the two."""
    rough, good = (carried(flow, cells, MPI.COMM_SELF) for cells in (coarse, fine))
    for function, value in means.items():
        assert good.expectation(function) == pytest.approx(value, abs=bound)
    assert math.log(error(rough, flow) / error(good, flow)) / math.log(fine / coarse) > 1.8


@pytest.mark.serial
def test_values_of_the_density():
    """p(1, ·) of the one- and the two-dimensional flow at points, from the formula and on the mesh."""
    at = {0.0: 0.281926894, 0.5: 0.325178073, 1.0: 0.342856524}
    density = carried(LINE, 128, MPI.COMM_SELF)
    order = np.argsort(density.domain.coordinates[:, 0])
    line = density.domain.coordinates[order, 0], density.values[order]
    for x, value in at.items():
        assert LINE.density(np.array([[x]])) == pytest.approx(value, abs=1e-9)
        assert np.interp(x, *line) == pytest.approx(value, abs=1e-3)
    plane = PLANE.density(np.array([[0.0, 0.0], [0.5, 0.5], [1.0, -0.5]]))
    assert plane == pytest.approx([0.162324460, 0.075072434, 0.025951502], abs=1e-9)
    assert SPACE.density(np.zeros((1, 3))) == pytest.approx(0.232986001, abs=1e-9)


@pytest.mark.ranks
def test_a_linear_flow_keeps_the_law_normal(comm):
    """A(s) does not commute with itself: mean and covariance at s = 1, the same on any number of ranks."""
    density = Density(linear(), box([-3.0, -3.0], [3.5, 3.5], [64, 64], comm=comm), NORMAL)
    density.advance(1.0)
    mean = [float(density.expectation(h)[0]) for h in (first, lambda z: z[:, 1])]
    assert mean == pytest.approx([0.36151306, 0.713693215], abs=1e-4)
    pairs = [(0, 0), (0, 1), (1, 1)]
    second = [float(density.expectation(lambda z, i=i, j=j: z[:, i] * z[:, j])[0]) - mean[i] * mean[j] for i, j in pairs]
    assert second == pytest.approx([0.114376416, -0.063702505, 0.328511881], abs=1e-3)
    assert density.mass_defect < 1e-12


@pytest.mark.serial
def test_the_equation_in_the_form_that_loses_mass_is_another():
    """∂_sp + h·∇p = 0 only carries values along: at x = .5 it would give p_0(x_0), which is far from p(1, x)."""
    x = np.array([[0.5]])
    back = np.arcsinh(np.exp(-LINE.growth) * np.sinh(x))
    assert abs(LINE.law.density(back) - LINE.density(x)) > 0.1
