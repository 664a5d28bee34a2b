"""Particles at walls: laws between mirrors and at natural walls, weak orders, and that ranks do not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from at_hand.walls import MIRRORS, OPEN, PRESSED_MEAN, between, pressed, radius, square_root, wright_fisher
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.schemes import PARTICLE_SCHEMES, Flow
from mvpde.particles.walls.mirrors import Mirrors, mirrors
from mvpde.runtime import MPI

serial = pytest.mark.serial
SPAN = Product((Uniform(0.0, 1.0),))


def carried(model: MeanField, law: Product, t: float, particles: int = 20000, **others) -> Ensemble:
    ensemble = Ensemble(model, law, particles=particles, companion=False, comm=MPI.COMM_SELF, **others)
    ensemble.advance(t)
    return ensemble


def mean(ensemble: Ensemble) -> float:
    return float(ensemble.expectation(lambda z: z[:, 0])[0])


@serial
@pytest.mark.parametrize("scheme", ["heun", "euler"])
def test_pressed_against_a_mirror(scheme: str) -> None:
    """Steps of .05 are long, √(2h) = .32 of the box: the bias stays below 2e-3, as measured; folded Euler steps have 4e-2."""
    ensemble = carried(pressed(), SPAN, 1.0, step=0.05, scheme=scheme)
    assert mean(ensemble) == pytest.approx(PRESSED_MEAN, abs=2e-3 + 3.0 * math.sqrt(0.069 / 20000))
    assert ensemble.expectation(lambda z: (z[:, 0] < 0.0) | (z[:, 0] > 1.0))[0] == 0.0


@serial
def test_one_mirror_of_a_half_line() -> None:
    """Drift −1 and a mirror at 0, the upper end of the box open: an exponential law of mean 1."""
    model = between(fokker_planck(["x"], drift=["-1"], diffusion=[["1"]]), [0.0], [12.0], ("reflecting", "open"))
    law = Product((Uniform(0.0, 2.0),))
    ensemble = carried(model, law, 6.0, step=0.02, particles=10000)
    assert mean(ensemble) == pytest.approx(1.0, abs=0.01 + 3.0 / math.sqrt(10000))


@serial
def test_no_flux_goes_along_the_conormal() -> None:
    """A full, b = −A∇V with V = 2x + y²/2: x as between mirrors, y normal; mirrored along the axis alone, y would be dragged."""
    model = fokker_planck(["x", "y"], drift=["-2 - 0.6*y", "-1.2 - y"], diffusion_matrix=[[1.0, 0.6], [0.6, 1.0]])
    walled = between(model, [0.0, -6.0], [1.0, 6.0], MIRRORS, OPEN)
    ensemble = carried(walled, Product((Uniform(0.0, 1.0), Normal(0.0, 1.0))), 4.0, step=0.04, particles=6000)
    assert mean(ensemble) == pytest.approx(PRESSED_MEAN, abs=0.004 + 3.0 * 0.26 / math.sqrt(6000))
    assert ensemble.expectation(lambda z: z[:, 1])[0] == pytest.approx(0.0, abs=0.01 + 3.0 / math.sqrt(6000))


@serial
@pytest.mark.parametrize(
    ("model", "law", "step", "moment", "value", "bias"),
    [
        (square_root(0.5), Normal(1.0, 0.2), 0.05, 2, 1.5, 0.03),
        (wright_fisher(1.0, 1.0), Normal(0.5, 0.1), 0.025, 2, 1.0 / 3.0, 3e-3),
        (radius(1.0), Normal(2.0, 0.3), 0.05, 1, 0.5 * math.sqrt(math.pi), 0.02),
        (radius(0.5), Normal(2.0, 0.3), 0.05, 1, 0.74096, 0.03),
    ],
)
def test_natural_walls(model: MeanField, law: Normal, step: float, moment: int, value: float, bias: float) -> None:
    """Full truncation and implicit steps: particles stay where the coefficients exist, with a bias of the order of the step."""
    ensemble = carried(model, Product((law,)), 4.0, particles=4000, step=step, scheme="euler")
    points = ensemble.cloud()[0][:, 0] ** moment  # type: ignore[index]
    assert points.min() >= 0.0
    assert points.mean() == pytest.approx(value, abs=bias + 3.0 * points.std() / math.sqrt(4000))


def settled(model: MeanField, scheme: str, h: float, upper: float, count: int = 300) -> float:
    """The mean under the law that steps of length h leave as it is, from the matrix of one step."""
    edges = np.linspace(0.0, upper, count + 1)
    x, quantiles = 0.5 * (edges[1:] + edges[:-1]), ndtri((np.arange(600) + 0.5) / 600)
    start = np.repeat(x, 600)[:, None]
    noise = math.sqrt(2.0 * h) * np.sqrt(model.diffusion(start, np.ones(1))[:, 0]) * np.tile(quantiles, count)[:, None]
    flow = Flow(
        lambda z, m: [model.drift(z[0], np.ones(1))],
        lambda z, t: np.ones((1, 1)),
        lambda z, m, step: [noise],
        walls=mirrors(model),
    )
    end = np.clip(PARTICLE_SCHEMES[scheme].step(flow, [start], np.ones((1, 1)), 0.0, h)[0][:, 0], x[0], x[-1])
    cell = np.clip(np.searchsorted(x, end) - 1, 0, count - 2)
    right = (end - x[cell]) / (x[1] - x[0])
    rows = np.repeat(np.arange(count), 600)
    matrix = np.zeros((count, count))
    np.add.at(matrix, (rows, cell), (1.0 - right) / 600)
    np.add.at(matrix, (rows, cell + 1), right / 600)
    law = np.full(count, 1.0 / count)
    for _ in range(12):
        matrix = matrix @ matrix
    return float(law @ matrix @ x)


@serial
@pytest.mark.parametrize(
    ("model", "scheme", "upper", "exact", "steps", "constant"),
    [
        (pressed(), "euler", 1.0, PRESSED_MEAN, (0.05, 0.025, 0.0125), 0.06),
        (pressed(), "heun", 1.0, PRESSED_MEAN, (0.05, 0.025, 0.0125), 0.06),
        (radius(1.0), "euler", 6.0, 0.5 * math.sqrt(math.pi), (0.1, 0.05, 0.025), 0.4),
    ],
)
def test_orders_at_walls(
    model: MeanField, scheme: str, upper: float, exact: float, steps: tuple[float, ...], constant: float
) -> None:
    """Weak order 1 at mirrors and poles: the bias of the mean is below a constant times the step, and falls with it."""
    errors = [abs(settled(model, scheme, h, upper) - exact) for h in steps]
    assert all(error < constant * h for error, h in zip(errors, steps, strict=True))
    assert errors[-1] < 0.7 * errors[0]


@serial
def test_a_box_that_only_ends_lets_particles_pass() -> None:
    model = between(fokker_planck(["x"], potential="2*x", temperature=1.0), [0.0], [1.0])
    ensemble = carried(model, SPAN, 1.0, step=0.05, particles=2000)
    assert mean(ensemble) == pytest.approx(0.5 - 2.0, abs=0.15)
    assert ensemble.numbers()["outside"] == pytest.approx(0.9, abs=0.1)
    assert "outside" not in carried(pressed(), SPAN, 0.1, step=0.05, particles=100).numbers()


@serial
def test_a_chosen_step_is_short_beside_the_distance_of_mirrors() -> None:
    """The drift is the same everywhere, so that only the walls forbid long steps."""
    ensemble = carried(pressed(), SPAN, 1.0, particles=2000, step="auto")
    assert ensemble.step <= 0.01
    assert mean(ensemble) == pytest.approx(PRESSED_MEAN, abs=4.0 * math.sqrt(0.069 / 2000))


@serial
def test_the_fold_is_that_of_the_line() -> None:
    mirrors = Mirrors(pressed().walls)  # type: ignore[arg-type]
    z = np.array([[0.25], [-0.25], [1.25], [2.25], [-1.25]])
    folded, signs = mirrors.fold(z)
    np.testing.assert_allclose(folded[:, 0], [0.25, 0.25, 0.75, 0.25, 0.75])
    np.testing.assert_allclose(signs[:, 0], [1.0, -1.0, -1.0, 1.0, 1.0])


@pytest.mark.ranks
def test_ranks_do_not_matter_at_walls() -> None:
    for model in (pressed(), radius(1.0)):
        law = Product((Uniform(0.1, 0.9),))
        parts = [Ensemble(model, law, particles=9000, step=0.1, comm=comm) for comm in (MPI.COMM_WORLD, MPI.COMM_SELF)]
        for ensemble in parts:
            ensemble.advance(0.3)
        numbers = [ensemble.numbers() for ensemble in parts]
        assert numbers[0] == numbers[1]
        assert (parts[0].moments() == parts[1].moments()).all()


@serial
@pytest.mark.parametrize("h", [0.02, 0.005])
def test_copies_of_half_steps_stay_near_their_particles(h: float) -> None:
    """Within h, not √h, of their mean, so that few of them tell the error of a step."""
    ensemble = Ensemble(pressed(), SPAN, particles=2000, step=h, comm=MPI.COMM_SELF)
    ensemble.advance(0.5)
    change, spread = ensemble._halved.changes(lambda z: z, ensemble._z)  # type: ignore[union-attr]
    assert abs(change[0, 0]) < 0.05 * h + 4.0 * spread[0]
    assert spread[0] < 3.0 * h / math.sqrt(2000)
