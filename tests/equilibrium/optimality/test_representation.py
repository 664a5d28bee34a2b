"""What units can represent of a target: answers known by hand, on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.models import TWO_PI
from mvpde.density.density import Density
from mvpde.equilibrium.optimality.representation import no_representation, representation
from mvpde.mesh.box import box
from mvpde.models import data
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.models.spikes import spikes
from mvpde.runtime import MPI, ArgumentError

X, W = np.polynomial.legendre.leggauss(16)
W = W / 2.0  # uniform measure on [−1, 1]


def on_interval(unit: str, target: str, **others: float) -> MeanField:
    return network(unit, data.interval(-1.0, 1.0, 16, target), **others)  # type: ignore[arg-type]


def line(model: MeanField, comm: MPI.Intracomm) -> Density:
    mesh = box([-4.0, -3.0], [4.0, 3.0], [40, 6], comm=comm)
    return Density(model, mesh, Product((Normal(0.0, 0.8), Normal(0.0, 0.5))))


def ring(target: str, comm: MPI.Intracomm) -> Density:
    mesh = box([0.0, -3.0], [TWO_PI, 3.0], [32, 6], [True, False], comm=comm)
    model = network("circle_rbf", data.circle(24, target), kappa=2.0)
    return Density(model, mesh, Product((Uniform(0.0, TWO_PI, periodic=True), Normal(0.0, 0.5))))


def part(f: np.ndarray, g: np.ndarray) -> float:
    """‖f‖² less its part along g, with the weights of the data."""
    return float(W @ f**2 - (W @ (f * g)) ** 2 / (W @ g**2))


# unit, target → ‖f* − Pf*‖², by hand: RBF units on the circle have all Fourier modes; tanh(ax) are odd, and span all odd
# functions on 16 symmetric points; max(0, ax) span x and |x|
BY_HAND = {
    ("circle_rbf", "cos(x)"): 0.0,
    ("circle_rbf", "1"): 0.0,
    ("circle_rbf", "sin(2*x) - 0.3*cos(5*x)"): 0.0,
    ("tanh", "x**3"): 0.0,
    ("tanh", "x**2"): 1.0 / 5.0,
    ("tanh", "sin(2*x) + cos(x)"): float(W @ np.cos(X) ** 2),
    ("relu", "abs(x)"): 0.0,
    ("relu", "x**2"): part(X**2, np.abs(X)),
    ("relu", "x + 1"): part(np.ones(16), np.abs(X)),
}


@pytest.mark.parametrize(("unit", "target"), BY_HAND, ids=[f"{unit}-{target}" for unit, target in BY_HAND])
def test_three_units_and_three_targets(comm: MPI.Intracomm, unit: str, target: str) -> None:
    expected = BY_HAND[unit, target]
    density = ring(target, comm) if unit == "circle_rbf" else line(on_interval(unit, target, bias=False), comm)
    found = representation(density)
    assert density.model.data is not None
    norm = float(density.model.data.weights @ density.model.data.target**2)
    assert found.verdict is (expected == 0.0)
    assert found.distance**2 == pytest.approx(expected, rel=1e-10, abs=1e-16)
    assert found.loss_floor == pytest.approx(0.5 * expected, rel=1e-10, abs=1e-16)
    assert found.unreachable == pytest.approx(expected / norm, rel=1e-10, abs=1e-16)
    assert found.rank == {"circle_rbf": 24, "tanh": 8, "relu": 2}[unit]
    assert len(found.eigenvalues) == found.rank
    assert np.all(np.diff(found.eigenvalues) <= 0.0) and np.all(np.diff(found.share_below) <= 1e-15)


@pytest.mark.ranks
def test_eigenvalues_are_those_of_the_kernel_on_the_circle(comm: MPI.Intracomm) -> None:
    """K's eigenvalues on the circle are the squares of e^{−κ}I_k(κ), twice for k > 0; cos 3x lies in those of k = 3."""
    from scipy.special import ive

    found = representation(ring("cos(3*x)", comm))
    expected = np.repeat(ive(np.arange(6), 2.0) ** 2, 2)[1:]
    assert found.eigenvalues[:11] == pytest.approx(expected, rel=1e-9)
    share = dict(zip(found.thresholds, found.share_below, strict=True))
    assert share[1e-2] == pytest.approx(1.0, abs=1e-12)  # (I_3/I_0)² = 0.0087
    assert share[1e-4] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.serial
def test_units_see_no_further_than_their_domain() -> None:
    """max(0, ax) with a > 0 alone: half of |x| is out of reach."""
    model = on_interval("relu", "abs(x)", bias=False)
    mesh = box([0.5, -3.0], [2.0, 3.0], [10, 6], comm=MPI.COMM_SELF)
    found = representation(Density(model, mesh, Product((Uniform(0.5, 2.0), Normal(0.0, 0.5)))))
    assert (found.rank, found.verdict) == (1, False)
    assert found.unreachable == pytest.approx(0.5, rel=1e-12)


@pytest.mark.serial
def test_a_mixture_in_closed_form_is_representable() -> None:
    """f* = Σ a_j N(y_j, s_j²) with s_j² above the unit's variance is ∫N(y, s²)γ(dy) for a smooth γ."""
    model = gaussian_mixture([-1.0, 1.5], [0.8, 0.9], [0.5, -0.4])
    mesh = box([-9.0, -4.0], [9.0, 4.0], [90, 4], comm=MPI.COMM_SELF)
    found = representation(Density(model, mesh, Product((Normal(0.0, 1.0), Normal(0.0, 0.5)))))
    assert found.verdict
    assert found.unreachable < 1e-12


@pytest.mark.serial
def test_losses_and_models_without_an_answer_say_why() -> None:
    table = data.circle(8, lambda x: np.sign(np.cos(x[:, 0] + 0.1)))
    logistic = network("circle_rbf", table, loss="logistic", kappa=2.0)
    assert "not the square of a distance" in str(no_representation(logistic))
    assert "no network" in str(no_representation(spikes([[1.0]])))
    mesh = box([0.0, -3.0], [TWO_PI, 3.0], [8, 6], [True, False], comm=MPI.COMM_SELF)
    law = Product((Uniform(0.0, TWO_PI, periodic=True), Normal(0.0, 0.5)))
    with pytest.raises(ArgumentError, match="no target to represent"):
        representation(Density(logistic, mesh, law))
