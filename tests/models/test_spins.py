"""The 3-spin energy on circle and sphere, and spikes on a torus with annealed noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import mvpde
from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.data import points
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.network import network
from mvpde.models.spikes import spikes
from mvpde.models.spins import couplings, energy, on_circle, on_sphere
from mvpde.models.units import UNITS
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.runs.compare import prediction_error
from mvpde.runtime import MPI, CaseError

CASES = Path(__file__).parents[2] / "cases"
TWO_PI = 2.0 * math.pi


def order(errors: list[float], sizes: list[int]) -> float:
    return float(-np.polyfit(np.log(sizes), np.log(errors), 1)[0])


# --- the target and its units ---------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_the_energy_is_the_sum_over_couplings() -> None:
    a = np.random.default_rng(4).standard_normal((5, 5, 5))
    x = np.random.default_rng(1).standard_normal((6, 5))
    np.testing.assert_allclose(energy(couplings(5, 4), x), np.einsum("pqr,np,nq,nr->n", a, x, x, x) / 5.0, rtol=1e-12)


@pytest.mark.serial
def test_the_quadratures_are_exact_for_the_energy_and_its_square() -> None:
    for few, many in ((on_circle(8, 3), on_circle(64, 3)), (on_sphere(32, 3), on_sphere(512, 3))):
        assert few.weights @ few.target == pytest.approx(0.0, abs=1e-14)  # f is odd
        assert few.weights @ few.target**2 == pytest.approx(many.weights @ many.target**2, rel=1e-12)
    np.testing.assert_allclose((on_sphere(32, 3).x ** 2).sum(axis=1), 3.0)
    with pytest.raises(ValueError, match="288 of them, not 300"):
        on_sphere(300, 0)


@pytest.mark.serial
@pytest.mark.parametrize("dimension", [2, 3])
def test_gaussian_units_with_centres_on_the_sphere(dimension: int) -> None:
    """exp(−½α|x − y|²) with κ = αR², gradients along the arc length on the circle, in R³ on the sphere."""
    alpha, radius = 2.5, math.sqrt(dimension)
    data = {2: on_circle(12, 0), 3: on_sphere(18, 0)}[dimension]
    keys = {"kappa": alpha * radius**2} | ({"radius": radius} if dimension == 2 else {})
    unit = UNITS[{2: "circle_rbf", 3: "sphere_rbf"}[dimension]](data.x, **keys)
    rng = np.random.default_rng(5)
    y = rng.standard_normal((7, dimension))
    y *= radius / np.linalg.norm(y, axis=1, keepdims=True)
    place = y if dimension == 3 else radius * np.arctan2(y[:, 1], y[:, 0])[:, None]
    x = data.x if dimension == 3 else radius * np.column_stack([np.cos(data.x / radius), np.sin(data.x / radius)])
    squares = ((y[:, None] - x[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(unit.profile(place), np.exp(-0.5 * alpha * squares), rtol=1e-12)
    r, h = rng.standard_normal(len(x)), 1e-6
    value, slope = unit.profile_field(place, r)
    np.testing.assert_allclose(value, unit.profile(place) @ r)
    shifts = h * np.eye(place.shape[1])
    numeric = [(unit.profile(place + e) - unit.profile(place - e)) @ r / (2 * h) for e in shifts]
    np.testing.assert_allclose(slope, np.column_stack(numeric), atol=1e-8)
    if dimension == 2:
        assert unit.periods == (pytest.approx(TWO_PI * radius),)
        np.testing.assert_allclose(unit.profile(place + unit.periods[0]), unit.profile(place), atol=1e-13)


@pytest.mark.serial
def test_units_on_spheres_want_data_on_spheres() -> None:
    with pytest.raises(ValueError, match="one sphere"):
        network("sphere_rbf", points([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [1.0, 2.0]))


def test_the_circle_converges_to_its_characteristics(comm: MPI.Intracomm) -> None:
    radius, t = math.sqrt(2.0), 1.0
    model = network("circle_rbf", on_circle(64, 1), kappa=5.0, radius=radius)
    law = Product((Uniform(0.0, TWO_PI * radius, periodic=True), Normal(0.0, 1.0)))
    truth = Characteristics(model, law, nodes=[96, 24], tolerance=1e-8, comm=comm)
    truth.advance(t)
    sizes, errors = [32, 64, 128], []
    for n in sizes:
        density = Density(model, box([0.0, -6.0], [TWO_PI * radius, 6.0], [n, n], [True, False], comm=comm), law)
        density.advance(t)
        errors.append(prediction_error(model, density.moments(), truth.moments()))
    assert order(errors, sizes) > 1.8
    assert errors[-1] < 1e-4


# --- spikes on a torus, temperatures that change --------------------------------------------------------------------------------

ATOMS = [[1.0, 2.0], [4.0, 3.5], [2.5, 5.0]]


@pytest.mark.serial
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_features_give_the_kernel_and_gradients_their_derivatives(dimension: int) -> None:
    """½MMD² by the kernel Π [1 + 2Σcos(kΔ)/(1 + k)] itself."""
    rng = np.random.default_rng(2)
    atoms, z = rng.uniform(0.0, TWO_PI, (4, dimension)), rng.uniform(0.0, TWO_PI, (9, dimension))
    model = spikes(atoms, temperature=0.1)
    assert model.features == 11**dimension

    def kernel(a: Array, b: Array) -> Array:
        difference = (a[:, None] - b[None])[..., None] * np.arange(1, 6)
        return np.asarray(np.prod(1.0 + 2.0 * (np.cos(difference) / (1.0 + np.arange(1, 6))).sum(axis=-1), axis=-1))

    distance = kernel(z, z).mean() - 2.0 * kernel(z, atoms).mean() + kernel(atoms, atoms).mean()
    m = model.profile(z).mean(axis=0)
    assert model.outer_energy(m) == pytest.approx(0.5 * distance, rel=1e-10)
    shifts = 1e-6 * np.eye(dimension)
    numeric = np.column_stack([(model.potential(z + e, m) - model.potential(z - e, m)) / 2e-6 for e in shifts])
    np.testing.assert_allclose(model.potential_gradient(z, m), numeric, atol=1e-7)


def spectral(model: MeanField, cells: int, end: float) -> tuple[Array, Array]:
    """ρ at ``end`` from the uniform law on the grid of ``cells``² points, shape (cells²,), by Fourier series; and the points."""
    axis = TWO_PI * np.arange(cells) / cells
    grid = np.column_stack([g.ravel() for g in np.meshgrid(axis, axis, indexing="ij")])
    profile, area = model.profile(grid), (TWO_PI / cells) ** 2
    k = np.fft.fftfreq(cells, 1.0 / cells)
    k[cells // 2] = 0.0  # of the derivative of the highest mode
    waves = 1j * np.array(np.meshgrid(k, k, indexing="ij"))
    squares = -(np.abs(waves) ** 2).sum(axis=0)

    def rate(temperature: float) -> Callable[[float, Array], Array]:
        def at(_: float, flat: Array) -> Array:
            rho = flat.reshape(cells, cells)
            v = (profile @ model.outer_gradient(area * flat @ profile)).reshape(cells, cells)
            force = np.fft.ifft2(waves * np.fft.fft2(v)).real
            change = (waves * np.fft.fft2(rho * force)).sum(axis=0) + temperature * squares * np.fft.fft2(rho)
            return np.asarray(np.fft.ifft2(change).real.ravel())

        return at

    rho, time = np.full(cells**2, TWO_PI**-2), 0.0
    for until, current in model.stretches(0.0, end):
        rho = solve_ivp(rate(current.temperature), (time, until), rho, method="DOP853", rtol=1e-8, atol=1e-11).y[:, -1]
        time = until
    return rho, grid


def test_the_torus_converges_to_its_fourier_series_while_the_temperature_falls(comm: MPI.Intracomm) -> None:
    """Constant in time, the temperature would be off by more than ten times the error of the finest mesh."""
    later = spikes(ATOMS, modes=2, temperature=0.2)
    model = replace(spikes(ATOMS, modes=2, temperature=0.4), later=((0.3, later),))
    truth, _ = spectral(model, 64, 0.8)
    law = Product((Uniform(0.0, TWO_PI, periodic=True),) * 2)
    sizes, errors = [16, 32, 64], []
    for n in sizes:
        density = Density(model, box([0.0, 0.0], [TWO_PI] * 2, [n, n], [True, True], comm=comm), law, tolerance=1e-6)
        density.advance(0.8)
        owned, lumped = density.domain.owned, density.domain.graph.lumped
        index = np.rint(density.domain.coordinates[:owned] / TWO_PI * 64).astype(int) % 64
        difference = density.values[:owned] - truth[index[:, 0] * 64 + index[:, 1]]
        errors.append(math.sqrt(density.domain.sum(np.array([lumped @ difference**2]))[0]))
        assert density.mass_defect < 1e-12 and density.model is later
    assert order(errors, sizes) > 1.8
    warm, _ = spectral(spikes(ATOMS, modes=2, temperature=0.4), 64, 0.8)
    assert math.sqrt(((warm - truth) ** 2).sum()) * TWO_PI / 64 > 10.0 * errors[-1]


@pytest.mark.serial
def test_the_models_that_rule_in_turn() -> None:
    base = spikes(ATOMS)
    first, second, third = (replace(base, temperature=t) for t in (0.3, 0.2, 0.1))
    model = replace(first, later=((1.0, second), (2.0, third)))
    assert [(t, m.temperature) for t, m in model.stretches(0.0, 3.0)] == [(1.0, 0.3), (2.0, 0.2), (3.0, 0.1)]
    assert [(t, m.temperature) for t, m in model.stretches(1.0, 1.5)] == [(1.5, 0.2)]
    assert [(t, m.temperature) for t, m in model.stretches(0.5, 1.0)] == [(1.0, 0.3)]
    assert list(model.stretches(2.0, 2.0)) == []
    assert [model.at(t) for t in (0.0, 0.9, 1.0, 5.0)] == [model, model, second, third]
    assert model.temperatures == (0.3, 0.2, 0.1) and model.ever_hot
    with pytest.raises(ValueError, match="increase"):
        replace(first, later=((2.0, second), (1.0, third)))


def test_particles_and_density_cool_down_alike(comm: MPI.Intracomm) -> None:
    """An Ornstein–Uhlenbeck process whose noise stops: the variance relaxes to τ, then decays like e^{−2t}."""

    def well(temperature: float) -> MeanField:
        return MeanField(
            coordinates=("z",),
            profile=lambda z: np.zeros((len(z), 1)),
            profile_field=lambda z, r: (np.zeros(len(z)), np.zeros_like(z)),
            outer_energy=lambda m: 0.0 * m[..., 0],
            outer_gradient=np.zeros_like,
            temperature=temperature,
            external_potential=lambda z: 0.5 * z[:, 0] ** 2,
            external_gradient=lambda z: z,
            interacting=False,
        )

    model, law, n = replace(well(0.5), later=((1.0, well(0.05)),)), Product((Normal(0.0, 0.5),)), 40_000
    variance = 0.05 + (0.5 + (0.25 - 0.5) * math.exp(-2.0) - 0.05) * math.exp(-1.0)
    density = Density(model, box([-5.0], [5.0], [400], comm=comm), law, scheme="edge_averaged", tolerance=1e-6)
    particles = Ensemble(model, law, particles=n, step=0.02, seed=1, comm=comm)
    for measure in (density, particles):
        measure.advance(0.4)  # times of output do not matter
        measure.advance(1.5)
    square = [measure.expectation(lambda z: z[:, 0] ** 2)[0] for measure in (density, particles)]
    assert square[0] == pytest.approx(variance, rel=5e-3)
    assert square[1] == pytest.approx(variance, abs=4.0 * variance * math.sqrt(2.0 / n))
    assert density.statistics()["solver_iterations"] >= 0


# --- cases ----------------------------------------------------------------------------------------------------------------------

QUICK = {"output.pictures": False, "output.fields": False, "ensemble.particles": 1000}


@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("three_spin_circle", {"domain.cells": [48, 48], "characteristics.nodes": [64, 24], "time.end": 1.0, "time.outputs": 2}),
        (
            "three_spin_sphere",
            {
                "domain.shell": {"lower": -5.0, "upper": 5.0, "frequency": 4, "layers": 16},
                "characteristics.nodes": [8, 16, 12],
                "data.points": 32,
                "time.end": 2.0,
                "time.outputs": 2,
            },
        ),
        ("torus_spikes", {"domain.cells": [32, 32], "time.end": 3.0, "time.outputs": 3, "time.annealing": [[1.0, 0.03]]}),
    ],
)
def test_cases_run_small_and_their_measures_agree(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    result = mvpde.run(CASES / f"{name}.toml", set={**QUICK, **change}, out=tmp_path / name)
    density, ensemble = result.summary["density"], result.summary["ensemble"]
    assert density["mass_defect"] < 1e-10 and density["minimum"] >= -1e-14
    assert density["loss"][-1] < density["loss"][0]
    if name == "torus_spikes":
        # E R(m_n) − R is half the variance of the features over n, at most ½k(z, z)/n
        kernel = (1.0 + 2.0 * sum(1.0 / (1.0 + k) for k in range(1, 6))) ** 2
        assert 0.0 < ensemble["loss"][-1] - density["loss"][-1] < 2.0 * 0.5 * kernel / 1000
        return
    compared = result.summary["comparison"]
    assert compared["density_vs_characteristics"]["prediction_error"][-1] < 0.01
    assert compared["ensemble_vs_density"]["prediction_error"][-1] < 0.03


@pytest.mark.serial
def test_the_sphere_is_drawn(tmp_path: Path) -> None:
    change = {
        "domain.shell": {"lower": -5.0, "upper": 5.0, "frequency": 4, "layers": 16},
        "data.points": 18,
        "time.outputs": [0, 0.1],
    }
    mvpde.run(
        CASES / "three_spin_sphere.toml",
        set={**change, "ensemble.particles": 500},
        out=tmp_path / "s",
        without=["characteristics"],
    )
    assert (tmp_path / "s" / "density.png").stat().st_size > 10_000


@pytest.mark.serial
def test_an_error_in_an_annealed_stretch_names_the_file_once() -> None:
    case = load(CASES / "three_spin_sphere.toml", {"time.annealing": [[1.0, 0.1]], "ensemble.scheme": "heun"})
    with pytest.raises(CaseError, match=r"\[ensemble\] scheme: .* needs a constant diffusion") as error:
        problem(case)
    assert str(error.value).count("three_spin_sphere.toml") == 1


@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("torus_spikes", {"time.annealing": [[4.0, 0.1], [2.0, 0.1]]}, ["[time] annealing", "increase"]),
        ("torus_spikes", {"time.annealing": [[4.0, -0.1]]}, ["[time] annealing", "negative"]),
        ("torus_spikes", {"stationary": {}}, ["[time] annealing", "[stationary]"]),
        ("torus_spikes", {"model.atoms": [[1.0, 2.0], [1.0]]}, ["[model] atoms", "angles"]),
        ("mmn_isotropic", {"time.annealing": [[1.0, 0.1]]}, ["[time] annealing", "remove"]),
        ("rotating", {"time.annealing": [[1.0, 0.1]]}, ["[time] annealing", "remove"]),
        ("three_spin_sphere", {"data.points": 300}, ["[data] points", "288"]),
        ("three_spin_sphere", {"initial": {"c": {"law": "normal", "mean": 0, "std": 1}}}, ["[initial]", "sphere"]),
        ("three_spin_sphere", {"model.temperature": 0.1}, ["[ensemble] scheme", "euler"]),
        ("three_spin_circle", {"initial.y": {"law": "sphere"}}, ["sphere_rbf"]),
        ("three_spin_circle", {"domain": {"shell": {"lower": -1, "upper": 1, "frequency": 2, "layers": 2}}}, ["[domain] shell"]),
        ("three_spin_sphere", {"domain": {"lower": [0] * 3, "upper": [1] * 3, "cells": [2] * 3}}, ["[domain]", "shell = {"]),
    ],
)
def test_wrong_cases_are_refused(name: str, change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(CaseError) as error:
        problem(load(CASES / f"{name}.toml", change))
    assert [word for word in words if word not in str(error.value)] == []
