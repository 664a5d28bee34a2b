"""The predicted central limit theorem: against published values, against ensembles, and where it is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from at_hand.models import circle_network, free
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.fluctuations import _influences, _paths, fluctuations
from mvpde.runtime import MPI


def test_mixture_has_the_published_fluctuations() -> None:
    """n E‖f_n − f_t‖² and the resampling bound for the problem of Rotskoff et al. 2019, to 1 % (values: CRBV's equation)."""
    model = gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1.0 / 3.0, -2.0 / 3.0, 1.0 / 3.0], unit_variance=0.5)
    found = fluctuations(model, Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0))), (32, 16), [0.0, 1.0, 5.0, 10.0], step=0.5)
    assert found.predicted == pytest.approx([0.398942, 0.26598, 0.09802, 0.05632], rel=1e-2)
    assert found.resampling_bound == pytest.approx([0.398942, 0.40276, 0.44828, 0.50563], rel=1e-2)


def test_the_influence_is_the_derivative_with_respect_to_a_weight() -> None:
    """h_T(z_j) = dm(T)/dw_j of the nodes' own flow, by central differences: the adjoint steps and the forward ones agree."""
    model, law = circle_network()
    nodes, times = (5, 4), [1.0, 2.0]
    z, weights = law.quadrature(nodes)
    basis, steps = np.eye(64), [20, 20]
    paths = _paths(model, weights, z, times, steps)
    influences = _influences(model, basis, weights, paths, times, steps)
    change = np.zeros(len(weights))
    change[7] = 1e-5

    def moments(w: np.ndarray) -> np.ndarray:
        ends = [path[-1] for path in _paths(model, w, z, times, steps)]
        return np.array([w @ (end[:, 1:] * model.profile(end[:, :1])) for end in ends])

    slope = (moments(weights + change) - moments(weights - change)) / 2e-5
    assert np.array([influence[7] for influence in influences]) == pytest.approx(slope, abs=1e-6)


def test_late_fluctuations_need_many_nodes() -> None:
    """t = 30: direct simulation of 6400 particles, 12000 runs, gives .00927 ± .00008 for n E‖f_n − f_t‖²; few nodes miss it."""
    model = gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1.0 / 3.0, -2.0 / 3.0, 1.0 / 3.0], unit_variance=0.5)
    law = Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))
    fine, coarse = (fluctuations(model, law, nodes, [30.0], step=0.5) for nodes in ((96, 32), (24, 16)))
    assert fine.predicted == pytest.approx([0.0093], abs=2e-4)
    assert abs(coarse.predicted[0] - fine.predicted[0]) > 3e-4
    assert fine.resampling_bound == pytest.approx([0.62095], rel=1e-3)


def test_free_particles_fluctuate_like_fresh_ones() -> None:
    """Without interaction the influence of a particle is its own feature: prediction and resampling agree."""
    model, law = circle_network()
    frozen = type(model)(
        **{f: getattr(model, f) for f in model.__dataclass_fields__}
        | {"outer_gradient": lambda m: np.broadcast_to(0.01, np.shape(m))}
    )
    found = fluctuations(frozen, law, (16, 8), [0.0, 2.0])
    assert found.predicted == pytest.approx(found.resampling_bound, rel=1e-10)


@pytest.mark.ranks
def test_ensembles_fluctuate_as_predicted(comm: MPI.Intracomm) -> None:
    """200 runs of 400 particles on the circle: n·E‖f_n − f_t‖² within four standard errors of the prediction."""
    model, law = circle_network()
    found = fluctuations(model, law, (24, 12), [2.0])
    ensemble = Ensemble(model, law, particles=400, runs=200, seed=11, step=0.1, comm=comm)
    ensemble.advance(2.0)
    f = model.predictions(ensemble.moments())
    assert model.data is not None
    squares = 400 * ((f - f.mean(axis=0)) ** 2) @ model.data.weights * 200 / 199
    error = squares.std(ddof=1) / np.sqrt(200)
    assert abs(squares.mean() - found.predicted[0]) < 4.0 * error
    assert abs(squares.mean() - found.resampling_bound[0]) > 6.0 * error  # the two can be told apart


def test_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature 0"):
        fluctuations(free(1, 0.1, lambda z: z[:, 0] ** 2), Product((Normal(0.0, 1.0),)), (4,), [1.0])
