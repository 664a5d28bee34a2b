"""Stationary laws with coordinates that never move: Kuramoto with natural frequencies, Desai–Zwanzig in a random field."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from mvpde.density.density import Density
from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.fluxes import rate
from mvpde.equilibrium.branches import Branch, branches
from mvpde.equilibrium.spectrum import spectrum
from mvpde.mesh.box import box
from mvpde.mesh.union import union
from mvpde.models.interaction import diffusion, gradient_flow
from mvpde.models.laws import Law1D, Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI

D, GAMMA = 0.5, 0.8  # of the noise, and half the width of the uniform law of frequencies
FREQUENCIES = Uniform(-GAMMA, GAMMA)
CRITICAL = 2.0 * GAMMA / np.arctan(GAMMA / D)  # 2/∫Dg/(ω² + D²)dω (Sakaguchi 1988)


def kuramoto(coupling: float) -> MeanField:
    return diffusion(
        ["theta", "omega"],
        drift=[f"omega + {coupling}*(m1*cos(theta) - m0*sin(theta))", "0"],
        temperature=D,
        features=["cos(theta)", "sin(theta)"],
        periods={"theta": 2 * np.pi},
        frozen=["omega"],
    )


def free() -> MeanField:
    return diffusion(["theta", "omega"], drift=["omega", "0"], temperature=D, periods={"theta": 2 * np.pi}, frozen=["omega"])


def oscillators(model: MeanField, cells: int, labels: int, comm: MPI.Intracomm) -> Density:
    nodes, weights = FREQUENCIES.quadrature(labels)
    circle = box([-np.pi], [np.pi], [cells], [True], comm=comm)
    law = Product((Uniform(-np.pi, np.pi, True), FREQUENCIES))
    return Density(model, union([circle] * labels, weights, nodes), law)


def growth_of_incoherence(coupling: float) -> float:
    """λ of 1 = (K/2)∫g/(λ + D + iω)dω = K/(2γ) arctan(γ/(λ + D)) (Strogatz & Mirollo 1991)."""
    return float(GAMMA / np.tan(2.0 * GAMMA / coupling) - D)


def order_parameter(coupling: float) -> float:
    """r = ∫g Re z₁ dω, z_n = ⟨e^{inθ}⟩ given ω: z_n(nD − iω) = (Kr/2)(z_{n−1} − z_{n+1}), a continued fraction."""
    t, w = np.polynomial.legendre.leggauss(60)

    def gap(r: float) -> float:
        ratio = np.zeros(60, complex)
        for n in range(60, 0, -1):
            ratio = 0.5 * coupling * r / (n * D - 1j * GAMMA * t + 0.5 * coupling * r * ratio)
        return float(0.5 * w @ ratio.real) - r

    return float(brentq(gap, 1e-3, 1.0, xtol=1e-14))


def extrapolated(of: Branch, finer: Branch) -> tuple[float, float]:
    """Order parameter and growth rate without the mesh's error of order 2."""
    size = [np.hypot(*branch.moments[:2]) for branch in (of, finer)]
    growth = [branch.leading_eigenvalue for branch in (of, finer)]
    return size[1] + (size[1] - size[0]) / 3.0, growth[1] + (growth[1] - growth[0]) / 3.0


@pytest.mark.ranks
def test_oscillators_synchronise_above_the_critical_coupling(comm: MPI.Intracomm) -> None:
    """Incoherence grows with the rate of the closed form; the partly synchronised branch has the r of the continued fraction."""
    coarse, fine = (branches(oscillators(kuramoto(2.2), cells, 12, comm), [[0.0, 0.0], [0.7, 0.0]]) for cells in (32, 64))
    assert [(branch.stable, branch.circles) for branch in fine] == [(True, ("theta",)), (False, ())]
    assert extrapolated(coarse[0], fine[0])[0] == pytest.approx(order_parameter(2.2), abs=2e-5)
    assert extrapolated(coarse[1], fine[1])[1] == pytest.approx(growth_of_incoherence(2.2), abs=2e-4)
    assert np.hypot(*fine[0].moments[:2]) == pytest.approx(order_parameter(2.2), abs=2e-3)


def test_incoherence_loses_its_stability_at_the_critical_coupling() -> None:
    """The growth rate without the mesh's error vanishes at K_c = 2γ/arctan(γ/D), to 1e-4 of D."""
    coarse, fine = (branches(oscillators(kuramoto(CRITICAL), cells, 12, MPI.COMM_SELF), [[0.0, 0.0]])[0] for cells in (48, 96))
    assert abs(extrapolated(coarse, fine)[1]) < 5e-5
    assert growth_of_incoherence(CRITICAL) == pytest.approx(0.0, abs=1e-14)


def test_without_coupling_each_oscillator_turns_with_its_own_frequency() -> None:
    """The modes given ω are e^{ikθ} with λ = k²D ± ikω, and no mode changes the mass of a label."""
    density = oscillators(free(), 64, 5, MPI.COMM_SELF)
    modes = spectrum(density, 8)
    nodes = FREQUENCIES.quadrature(5)[0]
    assert np.allclose(np.sort(modes.eigenvalues.real), D, rtol=2e-3)
    assert np.all(np.abs(np.abs(modes.eigenvalues.imag)[:, None] - np.abs(nodes)).min(axis=1) < 2e-3)
    for mode in modes.modes:
        assert np.abs(density.domain.part_masses(mode.real)).max() < 1e-10


# --- a gradient flow ------------------------------------------------------------------------------------------------------------

FIELD = Normal(0.02, 0.2)
T, PULL = 0.2, 1.0


def random_field() -> MeanField:
    return gradient_flow(
        ["x", "h"],
        potential="x**4/4 - x**2/2 - h*x",
        features=["x", "x**2"],
        outer_energy="0.5*(m1 - m0**2)",
        temperature=T,
        frozen=["h"],
    )


def in_field(cells: int, labels: int, law: Law1D = FIELD, comm: MPI.Intracomm = MPI.COMM_SELF) -> Density:
    nodes, weights = law.quadrature(labels)
    mesh = union([box([-3.0], [3.0], [cells], comm=comm)] * labels, weights, nodes)
    return Density(random_field(), mesh, Product((Normal(0.5, 0.4), law)), scheme="edge_averaged")


def consistent_means(labels: int) -> list[float]:
    """All m = ∫g(h) ⟨x⟩ of exp(−(x⁴/4 − x²/2 + ½(x − m)² − hx)/T) dh."""
    h, w = FIELD.quadrature(labels)
    x = np.linspace(-3.0, 3.0, 2001)

    def gap(m: float) -> float:
        v = x**4 / 4 - x**2 / 2 + 0.5 * PULL * (x - m) ** 2 - h[:, None] * x
        weights = np.exp(-(v - v.min(axis=1, keepdims=True)) / T)
        return float(w @ (weights @ x / weights.sum(axis=1))) - m

    grid = np.linspace(-1.23, 1.2, 50)
    signs = [gap(m) for m in grid]
    return [float(brentq(gap, a, b)) for a, b, u, v in zip(grid, grid[1:], signs, signs[1:], strict=False) if u * v < 0.0]


@pytest.mark.ranks
def test_branches_of_a_random_field_are_those_of_the_self_consistency(comm: MPI.Intracomm) -> None:
    """Gibbs states label by label, each with its own normalisation: all three means, the middle one unstable."""
    density = in_field(240, 10, comm=comm)
    found = sorted(branches(density, [[-1.0, 1.0], [0.0, 0.5], [1.0, 1.0]]), key=lambda branch: float(branch.moments[0]))
    means = consistent_means(10)
    assert len(means) == 3
    assert np.allclose([branch.moments[0] for branch in found], means, atol=1e-4)
    assert [branch.stable for branch in found] == [True, False, True]
    for branch in found:
        masses = density.domain.part_masses(branch.law.values)
        assert np.allclose(masses, density.domain.weights, rtol=1e-12)


def dense_rates(density: Density, values: Array) -> Array:
    """The growth rates of small changes, from differences of the whole right side: nothing known of labels."""
    domain, graph = density.domain, density.domain.graph
    at = edge_averaged(domain, density.features, density.model.temperature)
    inward, outward = np.empty(len(graph.columns)), np.empty(len(graph.columns))

    def right_side(rho: Array) -> Array:
        at(density.features.moments(graph.lumped * rho), inward, outward)
        result = np.empty(len(rho))
        rate(graph.offsets, graph.columns, graph.lumped, inward, outward, rho, result)
        return result

    step = 1e-5
    columns = [(right_side(values + step * e) - right_side(values - step * e)) / (2.0 * step) for e in np.eye(len(values))]
    return np.sort(np.linalg.eigvals(np.array(columns).T).real)[::-1]


def test_growth_rates_are_those_of_the_dense_linearisation() -> None:
    """The Jacobian of 4 labels has 4 rates 0, of their masses, which are no instability; the others are those of the branch."""
    density = in_field(40, 4)
    for branch in branches(density, [[1.0, 1.0], [0.0, 0.5]]):
        rates = dense_rates(density, branch.law.values)
        others = np.delete(rates, np.argsort(np.abs(rates))[:4])
        assert np.abs(rates[np.argsort(np.abs(rates))[:4]]).max() < 1e-5
        assert branch.leading_eigenvalue == pytest.approx(others[0], abs=1e-5)
        assert np.allclose(-spectrum(density, 3, branch.law).eigenvalues.real, others[:3], atol=1e-5)
