"""A law on a mesh has its mass and its moments, also where the mesh does not resolve it; and how narrow it is there is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvpde.density.density import Density
from mvpde.density.resolution import cells_per_deviation, natural_ends, walls
from mvpde.density.starts.projection import project
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.mesh.gmsh import gmsh
from mvpde.mesh.union import union
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.interaction import gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.runtime import MPI, ArgumentError

H = 0.04
DISC = Path(__file__).parents[3] / "meshes" / "disc.msh"
NAMES = ("x", "y", "z")


def well(dimension: int, periods: dict | None = None):
    names = NAMES[:dimension]
    return gradient_flow(
        list(names),
        potential="+".join(f"{n}**2/2" for n in names) if not periods else "0*x",
        temperature=1.0,
        periods=periods or {},
    )


def moments(domain: Domain, values: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, mean and variances."""
    owned = domain.owned
    masses, z = domain.graph.lumped * values[:owned], domain.coordinates[:owned]
    mass = float(domain.sum(np.array([masses.sum()]))[0])
    mean = domain.sum(masses @ z) / mass
    return mass, mean, domain.sum(masses @ (z - mean) ** 2) / mass


@pytest.mark.ranks
@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("width", [0.7, 0.55, 0.2, 0.01])
def test_a_law_narrower_than_a_cell_has_its_moments(comm: MPI.Intracomm, dimension: int, width: float) -> None:
    """σ = .7, …, .01 cells about a point θ = .3 between two nodes: mass and mean are exact, and so is the variance down to
    θ(1 − θ)h², the least of all masses on nodes with this mean.
    """
    n = 20 if dimension == 3 else 40
    domain = box([-0.5 * n * H] * dimension, [0.5 * n * H] * dimension, [n] * dimension, comm=comm)
    law = Product(tuple(Normal(H * (k + 0.3), width * H) for k in range(dimension)))
    values, inside = project(domain, well(dimension), law)
    mass, mean, variance = moments(domain, values)
    assert inside == pytest.approx(1.0, abs=1e-8)
    assert mass == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(mean, [H * (k + 0.3) for k in range(dimension)], atol=1e-8 * H)
    np.testing.assert_allclose(variance, max(width**2, 0.3 * 0.7) * H**2, rtol=1e-6)
    assert domain.extremes(values[: domain.owned])[0] >= 0.0


@pytest.mark.ranks
def test_one_narrow_direction_leaves_the_others_in_second_order(comm: MPI.Intracomm) -> None:
    """σ = .1 cells in x; in y it is 3 cells, where the variance is exact, and the fourth moment to (h/σ)⁴/12."""
    domain = box([-1.0, -1.0], [1.0, 1.0], [50, 50], comm=comm)
    values, _ = project(domain, well(2), Product((Normal(0.0, 0.1 * H), Normal(0.01, 3.0 * H))))
    _, mean, variance = moments(domain, values)
    np.testing.assert_allclose(mean, [0.0, 0.01], atol=1e-9)
    assert variance[1] == pytest.approx((3.0 * H) ** 2, rel=1e-6)
    owned = domain.owned
    fourth = domain.sum(np.array([domain.graph.lumped * values[:owned] @ (domain.coordinates[:owned, 1] - 0.01) ** 4]))[0]
    assert fourth == pytest.approx(3.0 * (3.0 * H) ** 4, rel=2e-3)


@pytest.mark.ranks
def test_a_narrow_law_is_wrapped_on_a_circle(comm: MPI.Intracomm) -> None:
    """About the seam of [0, 1): e^{2πix} has the mean e^{2πi·.995}; no mass is lost."""
    domain = box([0.0], [1.0], [25], [True], comm=comm)
    values, inside = project(domain, well(1, {"x": 1.0}), Product((Normal(0.995, 0.02),)))
    owned = domain.owned
    wave = domain.sum(
        np.array([domain.graph.lumped * values[:owned] @ np.exp(2j * np.pi * domain.coordinates[:owned, 0])]).view(float)
    )
    assert inside == pytest.approx(1.0, abs=1e-8)
    assert np.angle(wave[0] + 1j * wave[1]) / (2 * np.pi) == pytest.approx(-0.005, abs=1e-4)


@pytest.mark.ranks
def test_a_narrow_law_on_a_mesh_that_is_no_box(comm: MPI.Intracomm) -> None:
    """On a disc mass and mean are exact; two points to the left of a face and on it are counted once."""
    domain = gmsh(DISC, comm=comm)
    for centre in ((0.123, -0.2), (0.0, 0.0)):
        values, inside = project(domain, well(2), Product((Normal(centre[0], 1e-3), Normal(centre[1], 1e-3))))
        mass, mean, variance = moments(domain, values)
        assert inside == pytest.approx(1.0, abs=1e-9)
        assert mass == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(mean, centre, atol=1e-9)
        assert variance.max() < 0.1**2


@pytest.mark.ranks
def test_each_label_has_its_narrow_law(comm: MPI.Intracomm) -> None:
    one = box([-1.0], [1.0], [20], comm=comm)
    both = union([one, one], [0.25, 0.75], [(0.0,), (1.0,)])
    model = gradient_flow(["x", "w"], potential="x**2/2", temperature=1.0, frozen=["w"])
    values, _ = project(both, model, Product((Normal(0.03, 1e-3), Uniform(-1.0, 1.0))))
    np.testing.assert_allclose(both.part_masses(values), [0.25, 0.75], rtol=1e-12)
    masses = both.graph.lumped * values[: both.owned]
    assert both.sum(np.array([masses @ both.coordinates[: both.owned, 0]]))[0] == pytest.approx(0.03, abs=1e-9)


@pytest.mark.serial
def test_only_a_box_that_misses_the_law_is_refused() -> None:
    """A hundredth of a cell from the middle of one it was found by no quadrature; outside the box it cannot be found."""
    domain = box([-1.0], [1.0], [50])
    inside = Density(well(1), domain, Product((Normal(0.02, 1e-4),)))
    assert inside.expectation(lambda z: z[:, 0])[0] == pytest.approx(0.02, abs=1e-9)
    for law, held in ((Normal(1.1, 1e-4), "0.0 %"), (Normal(1.0, 1e-4), "50.0 %"), (Normal(0.0, 0.6), "90.4 %")):
        with pytest.raises(ArgumentError, match=held):
            Density(well(1), domain, Product((law,)))


# --- how narrow it is, and what is at the walls ---------------------------------------------------------------------------------


@pytest.mark.ranks
@pytest.mark.parametrize("dimension", [1, 2])
def test_cells_in_a_standard_deviation(comm: MPI.Intracomm, dimension: int) -> None:
    """σ/h of a normal law in its narrowest direction, and of two that lie apart; 1/√8 of a node that has all the mass."""
    domain = box([-2.0] * dimension, [2.0] * dimension, [100] * dimension, comm=comm)
    model = well(dimension)
    ends = natural_ends(domain, model)
    z, others = domain.coordinates, (Normal(0.0, 0.5),) * (dimension - 1)

    def cells(values: np.ndarray) -> float:
        return cells_per_deviation(domain, values, model, ends)

    one = Product((Normal(0.0, 0.12), *others)).density(z)
    assert cells(one) == pytest.approx(3.0, rel=0.02)  # (h/σ)²/8 of the chord of √ρ
    two = 0.5 * sum(Product((Normal(m, 0.12), *others)).density(z) for m in (-1.0, 1.0))
    assert cells(two) == pytest.approx(3.0, rel=0.02)
    atom = np.all(np.abs(z) < 1e-9, axis=1) / H**dimension
    assert cells(atom) == pytest.approx(1.0 / np.sqrt(8.0), rel=1e-12)


@pytest.mark.ranks
def test_the_strip_at_the_walls_is_as_wide_on_every_mesh(comm: MPI.Intracomm) -> None:
    """N(0, 1) within ±2.6 has .0048 of its mass in strips of .13, whether it takes 100 or 3,000 cells; a circle has no walls."""
    for cells in (100, 3000):
        domain = box([-2.6], [2.6], [cells], comm=comm)
        density = Density(well(1), domain, Product((Normal(0.0, 1.0),)))
        numbers = density.numbers()
        assert numbers["wall_mass"] == pytest.approx(0.0043 / 0.9907, rel=0.2)
        assert numbers["outward_flux"] == 0.0  # the well holds
    circle = box([0.0], [1.0], [30], [True], comm=comm)
    assert walls(circle, well(1, {"x": 1.0})).mass(np.ones(len(circle.coordinates))) == 0.0


@pytest.mark.ranks
def test_a_drift_that_leaves_is_seen_at_the_walls(comm: MPI.Intracomm) -> None:
    """V = −x²/2, ρ = ½ on [−1, 1]: ½ goes out through each wall in unit time, .5 · .9875² from the means of the strips."""
    model = gradient_flow(["x"], potential="-x**2/2", temperature=0.1)
    domain = box([-1.0], [1.0], [4000], comm=comm)
    values = np.full(len(domain.coordinates), 0.5)
    found = walls(domain, model)
    assert found.mass(values) == pytest.approx(2 * 0.025, rel=0.03)
    assert found.flux(values, model, np.zeros(model.features)) == pytest.approx(1.0, rel=0.03)


@pytest.mark.serial
def test_a_strip_is_as_wide_as_its_part_of_its_own_direction() -> None:
    """V = −x²/2 + y²/2, ρ = 1/40 on [−10, 10] × [−1, 1]: 10 · 2/40 through each of the two walls across x, nothing across y."""
    model = gradient_flow(["x", "y"], potential="(y**2 - x**2)/2", temperature=0.1)
    domain = box([-10.0, -1.0], [10.0, 1.0], [400, 80])
    values = np.full(len(domain.coordinates), 1.0 / 40.0)
    assert walls(domain, model).flux(values, model, np.zeros(model.features)) == pytest.approx(1.0, rel=0.1)


@pytest.mark.ranks
def test_ends_that_the_noise_implies_cut_nothing_off(comm: MPI.Intracomm) -> None:
    """dx = (½ − x) dt + √(2x) dB on [0, 12]: x = 0 is an end, x = 12 a wall; ρ ∝ x^{−½}e^{−x} has .1 of its mass below .01."""
    model = fokker_planck(["x"], drift=["0.5 - x"], diffusion=[["x"]])
    density = Density(model, box([0.0], [12.0], [600], comm=comm), Product((Normal(1.0, 0.1),)))
    density.advance(4.0)
    numbers = density.numbers()
    assert density.expectation(lambda z: z[:, 0] < 0.02)[0] > 0.1
    assert max(numbers["outer_mass"], numbers["wall_mass"], numbers["outward_flux"]) < 1e-4
    cut = Density(model, box([0.5], [1.5], [100], comm=comm), Product((Normal(1.0, 0.1),)))
    cut.advance(1.0)
    assert cut.outer_mass() > 1e-3
