"""Laws of several coordinates together, of points, and of parts on nodes: mass, mean and covariance, narrower than a cell too."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mvpde.density.starts.projection import project
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.interaction import gradient_flow
from mvpde.models.laws import (
    Cloud,
    CorrelatedNormal,
    Dirac,
    Empirical,
    Law,
    Mixture,
    Normal,
    Product,
    Uniform,
)
from mvpde.models.laws.positive import Gamma
from mvpde.runtime import MPI

H = 0.05


def flat(names: str, periods: dict[str, float] | None = None):
    return gradient_flow(list(names), potential="0*x", temperature=1.0, periods=periods or {})


def held(domain: Domain, law: Law, **periods: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, mean and covariance on the mesh."""
    values, inside = project(domain, flat("xyz"[: domain.dimension], periods), law)
    assert inside == pytest.approx(1.0, abs=2e-8)
    masses, z = domain.graph.lumped * values[: domain.owned], domain.coordinates[: domain.owned, : domain.dimension]
    assert domain.extremes(values[: domain.owned])[0] >= 0.0
    mass = float(domain.sum(np.array([masses.sum()]))[0])
    mean = domain.sum(masses @ z)
    second = domain.sum(((z - mean).T @ (masses[:, None] * (z - mean))).ravel())
    return mass, mean, second.reshape(domain.dimension, domain.dimension)


@pytest.mark.ranks
@pytest.mark.parametrize("cells", [0.4, 1.0, 3.0, 12.0])
def test_a_correlated_law_keeps_its_covariance(comm: MPI.Intracomm, cells: float) -> None:
    """Correlation .9: across, the law is .32 to 9 times as wide as a cell's .4, …, 12 in a deviation."""
    n = 40 if cells < 10.0 else 160
    domain = box([-0.5 * n * H] * 2, [0.5 * n * H] * 2, [n, n], comm=comm)
    scale = (cells * H) ** 2
    covariance = ((scale, 0.9 * scale), (0.9 * scale, scale))
    mass, mean, second = held(domain, CorrelatedNormal((0.31 * H, -1.8 * H), covariance))
    assert mass == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(mean, [0.31 * H, -1.8 * H], atol=1e-6 * H)
    np.testing.assert_allclose(second[0, 1], covariance[0][1], rtol=1e-6)
    if cells >= 1.0:
        np.testing.assert_allclose(np.diag(second), scale, rtol=1e-6)
    else:  # no masses with this mean have less than θ(1 − θ)h², and with this correlation not much more is left
        least = np.array([0.31 * 0.69, 0.2 * 0.8]) * H**2
        assert np.all(np.diag(second) >= least - 1e-12) and np.all(np.diag(second) <= 1.3 * least)


@pytest.mark.serial
def test_points_in_space_keep_mean_and_covariance() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(200, 3)) @ np.array([[0.3, 0.1, 0.0], [0.0, 0.2, 0.0], [0.1, 0.0, 0.1]])
    domain = box([-1.6] * 3, [1.6] * 3, [16] * 3)
    mass, mean, second = held(domain, Cloud(points))
    assert mass == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(mean, points.mean(axis=0), atol=1e-3)
    exact = np.cov(points.T, ddof=0)
    np.testing.assert_allclose(second[~np.eye(3, dtype=bool)], exact[~np.eye(3, dtype=bool)], atol=1e-3)
    np.testing.assert_allclose(np.diag(second), np.diag(exact), rtol=0.02)


@pytest.mark.serial
def test_the_nodes_of_another_run_on_the_same_mesh_are_what_they_were() -> None:
    """No spreading and no sharpening of masses that are at nodes."""
    domain = box([-1.0, -1.0], [1.0, 1.0], [20, 20])
    values, _ = project(domain, flat("xy"), Product((Normal(0.1, 0.2), Uniform(-0.5, 0.3))))
    masses = domain.graph.lumped * values[: domain.owned]
    again, _ = project(domain, flat("xy"), Cloud(domain.coordinates[: domain.owned, :2], masses))
    np.testing.assert_allclose(again, values, atol=1e-9)


@pytest.mark.ranks
def test_each_part_of_a_mixture_has_its_own_moments(comm: MPI.Intracomm) -> None:
    """A point, a normal law of a tenth of a cell and a wide one: mean and variance of all together."""
    domain = box([-2.0], [2.0], [80], comm=comm)
    law = Mixture((Dirac(0.51), Normal(-0.7, 0.1 * H), Normal(0.0, 0.3)), (0.2, 0.3, 0.5))
    mass, mean, second = held(domain, Product((law,)))
    assert mass == pytest.approx(1.0, abs=1e-12)
    exact = 0.2 * 0.51 - 0.3 * 0.7
    assert mean[0] == pytest.approx(exact, abs=1e-9)
    least = 0.2 * 0.2 * 0.8 * H**2 + 0.3 * (0.1 * H) ** 2  # the point lies .2 of a cell from a node, the narrow law on one
    assert second[0, 0] == pytest.approx(least + 0.5 * 0.09 + 0.2 * 0.51**2 + 0.3 * 0.49 - exact**2, rel=1e-6)


@pytest.mark.serial
@pytest.mark.parametrize("law", [Gamma(0.4, 0.5), Gamma(2.0, 0.02)], ids=repr)
def test_laws_of_a_half_line_have_their_moments(law: Gamma) -> None:
    """Infinite at 0, or narrower than a cell there; and no mass beyond the end."""
    domain = box([0.0], [12.0], [300])
    _, mean, second = held(domain, Product((law,)))
    assert mean[0] == pytest.approx(law.shape * law.scale, rel=1e-6)
    h = 12.0 / 300
    share = (mean[0] / h) % 1.0
    assert second[0, 0] == pytest.approx(max(law.shape * law.scale**2, share * (1.0 - share) * h * h), rel=1e-3)


@pytest.mark.serial
@pytest.mark.parametrize(("mean", "sigma"), [(2.5, 1.3), (0.0, 1.2), (9.0, 0.01), (-3.1, 5.0)])
def test_circles_hold_wrapped_laws_wherever_they_are(mean: float, sigma: float) -> None:
    """E e^{ix} = e^{iμ − σ²/2}; the mesh of 256 cells lowers it by 1 − h²/6 at most."""
    period = 2.0 * math.pi
    domain = box([-math.pi], [math.pi], [256], [True])
    values, inside = project(domain, flat("x", {"x": period}), Product((Normal(mean, sigma),)))
    wave = (domain.graph.lumped * values[: domain.owned]) @ np.exp(1j * domain.coordinates[: domain.owned, 0])
    assert inside == pytest.approx(1.0, abs=1e-7)
    assert wave == pytest.approx(np.exp(1j * mean - 0.5 * sigma**2), abs=(period / 256) ** 2 / 6 * 1.01)


@pytest.mark.serial
def test_samples_on_a_circle_are_wound_around_it() -> None:
    domain = box([0.0], [1.0], [50], [True])
    law = Product((Empirical(np.array([-0.01, 3.01, 7.99])),))
    values, _ = project(domain, flat("x", {"x": 1.0}), law)
    wave = (domain.graph.lumped * values[: domain.owned]) @ np.exp(2j * np.pi * domain.coordinates[: domain.owned, 0])
    assert np.angle(wave) / (2 * np.pi) == pytest.approx(-0.01 / 3, abs=2e-4)
