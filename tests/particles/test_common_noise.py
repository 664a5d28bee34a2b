"""SGD as common noise: minibatches, measures driven by them, and the laws of the studies in small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from at_hand.models import circle_network
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.common_noise import CommonNoise, SteppedNodes
from mvpde.particles.ensemble import Ensemble
from mvpde.runs.compare import root_mean, squared_errors
from mvpde.runtime import MPI
from mvpde.studies.laws.sgd.sgd_path import errors

CASE = str(Path(__file__).parents[2] / "cases" / "circle_rbf.toml")
MODEL, LAW = circle_network(0.0)
P = len(MODEL.data.weights)  # type: ignore[union-attr]


# --- minibatches ----------------------------------------------------------------------------------------------------------------


def many(size: float, count: int) -> np.ndarray:
    return np.array([CommonNoise(MODEL, interval=0.1, size=size, sequence=s).factors(3) for s in range(count)])


def test_a_minibatch_depends_on_sequence_and_step_alone() -> None:
    one, other = (CommonNoise(MODEL, interval=0.1, size=8, sequence=5) for _ in range(2))
    late = other.factors(7)
    assert (one.factors(0) == other.factors(0)).all() and (one.factors(7) == late).all()
    assert (one.factors(7) != one.factors(8)).any()
    assert (one.factors(7) != CommonNoise(MODEL, interval=0.1, size=8, sequence=6).factors(7)).any()


def test_factors_are_those_of_p_draws_from_mu() -> None:
    """N_p/(P w_p): whole N_p that sum to P; mean 1, variance (1/w_p − 1)/P, each within five standard errors."""
    size, count = 8, 4000
    factors, w = many(size, count), np.full(P, 1.0 / P)
    draws = factors * w * size
    assert np.abs(draws - np.round(draws)).max() < 1e-12 and np.allclose(draws.sum(axis=1), size)
    variance = (1.0 / w - 1.0) / size
    assert np.all(np.abs(factors.mean(axis=0) - 1.0) < 5.0 * np.sqrt(variance / count))
    assert np.allclose(factors.var(axis=0), variance, rtol=5.0 * np.sqrt(2.0 / count) * 2.0)  # kurtosis: a factor below 2


def test_the_potential_has_the_variance_of_the_limit_equation() -> None:
    """Var V(z) = c² A_0/P with A_0 = E[r²φ²] − E[rφ]², r = f[ρ] − f; its mean is the potential of all data."""
    assert MODEL.data is not None
    z, m, size, count = np.array([[0.7, 1.3]]), np.linspace(-0.4, 0.6, P), 5, 4000
    noises = [CommonNoise(MODEL, interval=1.0, size=size, sequence=s) for s in range(count)]
    for noise in noises:
        noise.advance([Idle()], 1.0)
    values = np.array([noise.model.potential(z, m)[0] for noise in noises])
    terms = 1.3 * (m - MODEL.data.target) * MODEL.profile(z[:, :1])[0]
    expected = (np.mean(terms**2) - np.mean(terms) ** 2) / size
    assert abs(values.mean() - MODEL.potential(z, m)[0]) < 5.0 * np.sqrt(expected / count)
    assert values.var() == pytest.approx(expected, rel=5.0 * np.sqrt(2.0 / count) * 1.5)


class Idle:
    """A measure that only keeps the time."""

    time = 0.0

    def advance(self, t: float) -> None:
        self.time = t


def test_batches_may_grow_and_any_size_is_cheap() -> None:
    noise = CommonNoise(MODEL, interval=1.0, size=lambda t: 1 if t < 2.0 else 1e12, sequence=1)
    assert noise.factors(1).max() == P and np.abs(noise.factors(2) - 1.0).max() < 1e-4


def test_models_and_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at temperature 0, not 0.1"):
        CommonNoise(replace(MODEL, temperature=0.1), interval=0.1)
    with pytest.raises(ValueError, match="data of a network"):
        CommonNoise(gaussian_mixture([0.0], [1.0], [1.0]), interval=0.1)
    with pytest.raises(ValueError, match="interval"):
        CommonNoise(MODEL, interval=0.0)
    with pytest.raises(ValueError, match="no multiple"):
        CommonNoise(MODEL, interval=0.3).advance([Idle()], 1.0)


# --- measures on the same path --------------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_all_measures_follow_the_path_of_the_minibatches(comm: MPI.Intracomm) -> None:
    """Density, particles and characteristics differ by mesh and sampling, far less than any differs from the gradient flow."""
    noise, quiet = CommonNoise(MODEL, interval=0.25, size=2, sequence=4), CommonNoise(MODEL, interval=0.25)
    domain = box([0.0, -5.0], [2.0 * np.pi, 5.0], [48, 48], [True, False], comm=comm)
    density = Density(noise.model, domain, LAW)
    nodes = Characteristics(noise.model, LAW, nodes=[48, 12], tolerance=1e-8, comm=comm)
    particles = Ensemble(noise.model, LAW, particles=20000, seed=2, step=0.125, comm=comm)
    flow = Characteristics(quiet.model, LAW, nodes=[48, 12], tolerance=1e-8, comm=comm)
    noise.advance([density, nodes, particles], 2.0)
    quiet.advance([flow], 2.0)
    mesh, sampling, noisy = (
        float(root_mean(squared_errors(MODEL, a.moments(), nodes.moments()))[0]) for a in (density, particles, flow)
    )
    assert mesh < 2e-3  # 48² cells, second order: sixteen ninths of the 1e-3 or so at 64²
    assert sampling < 5.0 * 0.7 / np.sqrt(20000)  # ‖f_n − f_t‖ ≈ 0.7 n^{-½} at t = 0, and it heals
    assert noisy > 10.0 * max(mesh, sampling / 5.0)


def test_all_data_are_the_gradient_flow_itself(comm: MPI.Intracomm) -> None:
    noise = CommonNoise(MODEL, interval=0.5)
    driven, free = (Characteristics(model, LAW, nodes=[32, 8], tolerance=1e-9, comm=comm) for model in (noise.model, MODEL))
    noise.advance([driven], 2.0)
    free.advance(2.0)
    assert driven.moments() == pytest.approx(free.moments(), abs=1e-8)


def test_particles_in_sgd_steps_approach_the_nodes_in_sgd_steps(comm: MPI.Intracomm) -> None:
    """A law of one particle, at the nodes: the ensemble's Euler steps and those of `SteppedNodes` are the same map."""
    noise = CommonNoise(MODEL, interval=0.5, size=3, sequence=1)
    nodes = SteppedNodes(noise.model, LAW, nodes=[1, 1], step=0.5)
    start = LAW.quadrature([1, 1])[0]

    class Atom:
        dimension = 2

        def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
            return np.repeat(start, n, axis=0)

    particles = Ensemble(noise.model, Atom(), particles=3, step=0.5, scheme="euler", comm=comm)
    noise.advance([nodes, particles], 3.0)
    assert particles.moments() == pytest.approx(nodes.moments(), rel=1e-12)


def test_errors_of_runs() -> None:
    """One run a distance d away and one at none: root mean square d/√2; a single run has no standard error."""
    a, b = np.zeros((2, P)), np.zeros((1, P))
    a[0] = 0.2
    assert MODEL.data is not None
    expected = 0.2 / np.sqrt(2.0) / np.sqrt(MODEL.data.weights @ MODEL.data.target**2)
    assert errors(MODEL, [a], [b]).prediction_error == pytest.approx([expected])
    assert np.isnan(root_mean(np.array([1.0]))[1]) and root_mean(np.array([1.0, 3.0]))[1] == pytest.approx(0.5 / np.sqrt(2.0))
