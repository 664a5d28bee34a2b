"""Laws of spectra: known gaps, Ornstein–Uhlenbeck eigenvalues, modes that decay as they should, rates measured over runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from at_hand.gaussians import PAIRS, around, ornstein_uhlenbeck
from at_hand.models import free
from mvpde.density.density import Density
from mvpde.equilibrium.spectrum import Spectrum, decay_rate, dirichlet_energy, distance, spectrum
from mvpde.equilibrium.stationary import Stationary, stationary
from mvpde.mesh.box import box
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI

QUARTIC = (lambda z: (z[:, 0] ** 2 - 1.0) ** 2 / 4.0, lambda z: z**3 - z)
DEEP = (lambda z: z[:, 0] ** 4 - 2.0 * z[:, 0] ** 2, lambda z: 4.0 * z**3 - 4.0 * z)
Potential = tuple[Callable[[Array], Array], Callable[[Array], Array]]


def gradient_flow(potential: Potential, temperature: float) -> MeanField:
    return replace(free(1, temperature, *potential), interacting=False)


def line(comm: MPI.Intracomm, model: MeanField, cells: int, scheme: str = "edge_averaged", **options: float) -> Density:
    law = Product((Normal(0.3, 0.3),))
    return Density(model, box([-3.5], [3.5], [cells], comm=comm), law, scheme=scheme, **options)  # type: ignore[arg-type]


def solve(density: Density, modes: int) -> tuple[Stationary, Spectrum]:
    found = stationary(density)
    return found, spectrum(density, modes, found)


@pytest.mark.parametrize(
    ("potential", "temperature", "gap"), [(QUARTIC, 0.5, 0.4229446457), (QUARTIC, 0.1, 0.03354528728), (DEEP, 0.5, 0.2272733005)]
)
def test_gaps_of_double_wells(comm: MPI.Intracomm, potential: Potential, temperature: float, gap: float) -> None:
    """λ₁ of −T∂² + V'∂ to 1e-4 on 2,000 cells, of second order; the modes are orthogonal in L²(1/ρ_∞) and without mass."""
    density = line(comm, gradient_flow(potential, temperature), 2000)
    law, found = solve(density, 4)
    assert found.reversible
    assert found.decay_rate == pytest.approx(gap, rel=1e-4)
    coarse = [
        abs(solve(line(comm, gradient_flow(potential, temperature), cells), 1)[1].decay_rate / gap - 1.0) for cells in (100, 200)
    ]
    assert coarse[0] / coarse[1] > 3.5
    domain, modes = density.domain, found.modes
    lumped, owned = domain.graph.lumped, domain.owned
    assert np.abs(domain.sum((modes @ lumped).real)).max() < 1e-9
    weighted = modes.real * np.sqrt(lumped / law.values[:owned])
    products = domain.sum(weighted @ weighted.T)
    scale = np.sqrt(np.diag(products))
    assert np.allclose(products / np.outer(scale, scale), np.eye(4), atol=1e-7)


@pytest.mark.serial
@pytest.mark.parametrize("pair", PAIRS)
def test_eigenvalues_of_ornstein_uhlenbeck(comm: MPI.Intracomm, pair: str) -> None:
    """They are the sums n₁μ₁ + n₂μ₂ of eigenvalues of M, complex where those are, also with a singular A."""
    m, a, covariance = PAIRS[pair]
    density = Density(ornstein_uhlenbeck(m, a), around(comm, covariance, 96), Product((Normal(0.0, 0.3), Normal(0.0, 0.3))))
    _, found = solve(density, 5)
    first, second = np.linalg.eigvals(np.array(m))
    sums = np.array([i * first + j * second for i in range(7) for j in range(7) if i + j > 0])
    exact = sums[np.argsort(sums.real, kind="stable")]
    assert not found.reversible
    assert found.decay_rate == pytest.approx(exact[0].real, rel=1e-4)
    assert np.allclose(np.sort(found.eigenvalues.real), exact.real[:5], rtol=1e-3)
    assert max(np.abs(sums - value).min() / abs(value) for value in found.eigenvalues) < 1e-3
    # the first modes are the linear functions times ρ_∞: their second moments vanish, their first do not
    z = density.domain.coordinates[: density.domain.owned]
    first_moments = density.domain.sum(((found.modes[0] * density.domain.graph.lumped) @ z).real)
    assert np.linalg.norm(first_moments) > 0.1 * np.sqrt(np.trace(covariance))


def test_both_forms_agree(comm: MPI.Intracomm) -> None:
    """The nonsymmetric Galerkin problem of a gradient flow has the real eigenvalues and the modes of the symmetric form."""
    model = gradient_flow(QUARTIC, 0.5)
    one, other = line(comm, model, 500), line(comm, model, 500, "galerkin")
    symmetric, general = solve(one, 3)[1], solve(other, 3)[1]
    assert not general.reversible
    assert np.allclose(symmetric.eigenvalues, general.eigenvalues, rtol=2e-3)
    gap = np.abs(symmetric.modes - general.modes) @ one.domain.graph.lumped
    assert one.domain.sum(gap).max() < 5e-3


@pytest.mark.parametrize(("temperature", "gap"), [(0.5, 0.4229446457), (0.1, 0.03354528728)])
def test_decay_of_a_double_well(comm: MPI.Intracomm, temperature: float, gap: float) -> None:
    """From an uneven start ‖ρ/ρ_∞ − 1‖ decays with λ₁ and the Dirichlet energy E with 2λ₁, within 1 %; ½ d‖·‖²/dt = −2E."""
    density = line(comm, gradient_flow(QUARTIC, temperature), 400, tolerance=1e-6)
    law = stationary(density)
    times, norms, energies = [], [], []

    def record() -> None:
        times.append(density.time)
        norms.append(distance(law, density.values))
        energies.append(dirichlet_energy(law, density.values))

    record()
    density.advance(5.0 / gap, record)
    assert decay_rate(times, norms) == pytest.approx(gap, rel=1e-2)
    assert decay_rate(times, energies) == pytest.approx(2.0 * gap, rel=1e-2)
    late = slice(len(times) // 2, None)
    t, squares, e = np.array(times)[late], np.array(norms)[late] ** 2, np.array(energies)[late]
    # the trapezoidal rule in time, for a function of rate 2λ₁
    assert np.allclose(np.diff(squares) / np.diff(t), -2.0 * (e[1:] + e[:-1]), rtol=0.1)


def test_an_even_start_does_not_see_the_first_mode(comm: MPI.Intracomm) -> None:
    """The first mode of an even potential is odd: an even start decays with λ₂."""
    model = gradient_flow(QUARTIC, 0.5)
    density = Density(
        model, box([-3.5], [3.5], [400], comm=comm), Product((Normal(0.0, 0.3),)), scheme="edge_averaged", tolerance=1e-8
    )
    law, found = solve(density, 2)
    times, norms = [], []
    density.advance(1.5, lambda: (times.append(density.time), norms.append(distance(law, density.values))))  # type: ignore[func-returns-value]
    assert decay_rate(times, norms) == pytest.approx(found.eigenvalues[1].real, rel=2e-2)


@pytest.mark.parametrize(("pair", "frequency"), [("oscillating", 2.0), ("crossed", 0.0)])
def test_decay_without_detailed_balance(comm: MPI.Intracomm, pair: str, frequency: float) -> None:
    """The rate measured over a run is Re λ₁ within 1 %, with real eigenvalues and with complex ones, where the norm wavers."""
    m, a, covariance = PAIRS[pair]
    spread = np.sqrt(np.diag(np.array(covariance)))
    law = Product(tuple(Normal(0.5 * s, 0.8 * s) for s in spread))
    density = Density(ornstein_uhlenbeck(m, a), around(comm, covariance, 64), law, tolerance=1e-6)
    limit = stationary(density)
    times, norms, energies = [0.0], [distance(limit, density.values)], [dirichlet_energy(limit, density.values)]

    def record() -> None:
        times.append(density.time)
        norms.append(distance(limit, density.values))
        energies.append(dirichlet_energy(limit, density.values))

    density.advance(5.0, record)
    assert decay_rate(times, norms, frequency) == pytest.approx(1.0, rel=1e-2)
    middle = slice(len(times) // 3, 2 * len(times) // 3)
    squares, t, e = np.array(norms) ** 2, np.array(times), np.array(energies)
    assert np.allclose((np.diff(squares) / np.diff(t))[middle], (-2.0 * (e[1:] + e[:-1]))[middle], rtol=0.1)


@pytest.mark.ranks
@pytest.mark.parametrize("scheme", ["edge_averaged", "galerkin"])
def test_result_does_not_depend_on_the_ranks(comm: MPI.Intracomm, scheme: str) -> None:
    together, alone = (line(c, gradient_flow(DEEP, 0.5), 120, scheme) for c in (comm, MPI.COMM_SELF))
    one, other = solve(together, 3)[1], solve(alone, 3)[1]
    assert np.allclose(one.eigenvalues, other.eigenvalues, rtol=1e-8)
    for k in range(3):
        mine, theirs = together.domain.to_mesh(one.modes[k].real), alone.domain.to_mesh(other.modes[k].real)
        if mine is not None and theirs is not None:
            assert np.abs(mine - theirs).max() < 1e-6 * np.abs(theirs).max()
