"""Particles of models with any drift and diffusion tensor: roots, weak orders, exact moments, the density beside them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from mvpde.runtime import MPI, InvariantError  # isort: skip

import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov

import mvpde
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.blocks import BLOCK
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.noise import apply_root, increment
from mvpde.particles.schemes import PARTICLE_SCHEMES, Flow

# Constructors take all ranks unless they are told.
pytestmark = pytest.mark.usefixtures("comm")

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF

PAIRS = {
    "rotating": ([[1.0, 2.0], [-2.0, 1.0]], [[1.0, 0.0], [0.0, 0.25]]),
    "crossed": ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.9], [0.9, 1.0]]),
    "degenerate": ([[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]),
}
PLANE = Product((Normal(0.8, 0.5), Normal(-0.3, 0.4)))
LINE = Product((Normal(0.5, 0.3),))


def linear(pair: str) -> MeanField:
    m, a = PAIRS[pair]
    return fokker_planck(("x", "y"), drift_matrix=m, diffusion_matrix=a)


def covariance_at(m: Array, a: Array, start: Array, t: float) -> Array:
    """Of dz = −Mz dt + √(2A)dB: Σ + e^{−Mt}(Σ_0 − Σ)e^{−Mᵀt}, MΣ + ΣMᵀ = 2A."""
    limit, flow = solve_continuous_lyapunov(m, 2.0 * a), expm(-m * t)
    return limit + flow @ (start - limit) @ flow.T


# --- roots ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_root_of_a_tensor(dimension: int) -> None:
    """R(A)ξ is linear in ξ, and R Rᵀ = A, also where A is degenerate or 0; a negative eigenvalue gives no number."""
    rng = np.random.default_rng(4)
    factors = rng.normal(size=(6, dimension, dimension))
    factors[0] = 0.0
    factors[1, :, 1:] = 0.0
    tensors = factors @ factors.transpose(0, 2, 1)
    roots = np.stack([apply_root(tensors, np.tile(e, (6, 1))) for e in np.eye(dimension)], axis=2)
    np.testing.assert_allclose(roots @ roots.transpose(0, 2, 1), tensors, atol=1e-7 * np.abs(tensors).max())
    with np.errstate(invalid="ignore"):
        assert np.isnan(apply_root(tensors[2:] - 9.0 * np.eye(dimension) * np.abs(tensors).max(), np.ones((4, dimension)))).any()


@pytest.mark.parametrize("pair", PAIRS)
def test_a_constant_tensor_and_the_same_written_out_give_the_same_noise(pair: str) -> None:
    constant = linear(pair)
    z, m = np.zeros((500, 2)), np.zeros(1)
    one, other = (
        increment(model)(z, m, np.random.default_rng(1), 0.3) for model in (constant, replace(constant, constant_diffusion=False))
    )
    np.testing.assert_allclose(one, other, atol=1e-7)


# --- every scheme has the weak order that it declares, without sampling error ---------------------------------------------------


class Coefficients:
    """Stands for a stream: Z = Σ_k c_k ξ_k with independent normals ξ_k is carried as its coefficients c_k ∈ R^D."""

    def __init__(self, dimension: int) -> None:
        self.drawn = self.dimension = dimension

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        unit = np.zeros(shape)
        unit[self.drawn : self.drawn + self.dimension] = np.eye(self.dimension)
        self.drawn += self.dimension
        return unit


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", PARTICLE_SCHEMES)
def test_weak_order_for_constant_tensors(name: str, pair: str) -> None:
    """The covariance of a linear model; a root applied from the wrong side or a factor 2 has no order at all."""
    m, a = (np.array(x) for x in PAIRS[pair])
    model, start, t = linear(pair), np.diag([0.25, 0.16]), 1.0
    counts, errors = np.array([16, 32, 64]), []
    noise, unused = increment(model), np.zeros(1)
    for count in counts:
        z = np.zeros((2 * (count + 1), 2))
        z[:2] = np.sqrt(start)
        stream = Coefficients(2)
        flow = Flow(
            lambda z, _: [model.drift(x, unused) for x in z],
            lambda z, t: unused[None],
            lambda z, _, h, stream=stream: [noise(x, unused, stream, h) for x in z],  # type: ignore[arg-type, misc]
        )
        blocks = [z]
        for _ in range(count):
            blocks = PARTICLE_SCHEMES[name].step(flow, blocks, unused[None], 0.0, t / count)
        errors.append(np.abs(blocks[0].T @ blocks[0] - covariance_at(m, a, start, t)).max())
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - PARTICLE_SCHEMES[name].order) < 0.25


class Nodes:
    """Stands for a stream: the nodes of a Gauss–Hermite rule, exact for polynomials of degree 9."""

    nodes, weights = np.polynomial.hermite_e.hermegauss(5)

    def standard_normal(self, shape: tuple[int, ...]) -> Array:
        return self.nodes.reshape(shape)


VARYING = fokker_planck(("x",), drift=["-x"], diffusion=[["1 + x**2"]])


@pytest.mark.parametrize("name", [name for name, scheme in PARTICLE_SCHEMES.items() if not scheme.refuses(VARYING)])
def test_weak_order_for_a_tensor_that_varies(name: str) -> None:
    """dz = −az dt + s z dB (Itô): ⟨z²⟩ = z_0² e^{(s² − 2a)t}; a step multiplies ⟨z²⟩ by a number, the same at every z."""
    a, s, t = 1.0, 0.8, 1.0
    model = fokker_planck(("x",), drift=["-a*x"], diffusion=[["s**2*x**2/2"]], parameters={"a": a, "s": s})
    assert not model.additive_noise
    noise, unused, counts, errors = increment(model), np.zeros(1), np.array([32, 64, 128]), []
    flow = Flow(
        lambda z, _: [model.drift(x, unused) for x in z],
        lambda z, t: unused[None],
        lambda z, _, h: [noise(x, unused, Nodes(), h) for x in z],  # type: ignore[arg-type]
    )
    for count in counts:
        z = PARTICLE_SCHEMES[name].step(flow, [np.ones((5, 1))], unused[None], 0.0, t / count)[0]
        factor = Nodes.weights @ z[:, 0] ** 2 / Nodes.weights.sum()
        errors.append(abs(factor**count - math.exp((s**2 - 2.0 * a) * t)))
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - PARTICLE_SCHEMES[name].order) < 0.2


@pytest.mark.parametrize("name", [name for name, scheme in PARTICLE_SCHEMES.items() if scheme.refuses(VARYING)])
def test_schemes_for_additive_noise_refuse_other(name: str) -> None:
    with pytest.raises(ValueError, match='constant diffusion.*"euler"'):
        Ensemble(VARYING, LINE, particles=10, scheme=name, comm=WORLD)


# --- ensembles ------------------------------------------------------------------------------------------------------------------


def swirling(omega: float = 2.0) -> MeanField:
    """b = −(z − ⟨z⟩) + ωJ(z − ⟨z⟩) − ½⟨z⟩, A degenerate: no gradient flow, and particles see each other."""
    turn, a = omega * np.array([[0.0, -1.0], [1.0, 0.0]]) - np.eye(2), np.diag([0.5, 0.0])
    return MeanField(
        coordinates=("x", "y"),
        profile=lambda y: y.copy(),
        profile_field=lambda y, r: (y @ r, np.tile(r, (len(y), 1))),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        own_drift=lambda z, m: (z - m) @ turn.T - 0.5 * m,
        own_diffusion=lambda z, m: np.broadcast_to(a, (len(z), 2, 2)),
        constant_diffusion=True,
    )


def test_mean_and_covariance_of_interacting_particles_with_a_rotating_drift() -> None:
    """⟨z⟩ decays like e^{−t/2}; deviations obey the linear equation with M = I − ωJ, times 1 − 1/n for their own mean."""
    n, runs, t = 20_000, 2, 1.5
    e = Ensemble(swirling(), PLANE, particles=n, runs=runs, step=0.02, seed=2, comm=WORLD)
    e.advance(t)
    mean = e.moments()
    exact = covariance_at(np.array([[1.0, 2.0], [-2.0, 1.0]]), np.diag([0.5, 0.0]), np.diag([0.25, 0.16]), t)
    decayed = np.array([0.8, -0.3]) * math.exp(-0.5 * t)
    # noise of the mean: its own linear equation with rate ½
    spread = np.diag([0.25, 0.16]) / n * math.exp(-t) + np.diag([0.5, 0.0]) / (0.5 * n) * (1.0 - math.exp(-t))
    assert np.all(np.abs(mean.mean(axis=0) - decayed) < 4.0 * np.sqrt(np.diag(spread) / runs) + 1e-4)  # and the step's h²
    for a, b in ((0, 0), (0, 1), (1, 1)):
        found = e.expectation(lambda z, a=a, b=b: z[:, a] * z[:, b]) - mean[:, a] * mean[:, b]
        error = math.sqrt((exact[a, a] * exact[b, b] + exact[a, b] ** 2) / (n * runs))
        assert abs(found.mean() - (1.0 - 1.0 / n) * exact[a, b]) < 4.0 * error


FUNCTIONS = {
    "x": lambda z: z[:, 0],
    "y": lambda z: z[:, 1],
    "xx": lambda z: z[:, 0] ** 2,
    "xy": lambda z: z[:, 0] * z[:, 1],
    "yy": lambda z: z[:, 1] ** 2,
    "wave": lambda z: np.cos(2.0 * z[:, 0] - z[:, 1]),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_density_and_particles_are_one_law(comm: MPI.Intracomm, pair: str) -> None:
    """Every test function within four standard errors of the particles and a quarter of one for the mesh."""
    model, n = linear(pair), 40_000
    density = Density(model, box([-5.0, -5.0], [5.0, 5.0], [96, 96], comm=comm), PLANE, tolerance=1e-6)
    particles = Ensemble(model, PLANE, particles=n, step=0.02, seed=3, comm=comm)
    density.advance(0.6)
    particles.advance(0.6)
    for name, h in FUNCTIONS.items():
        mean = particles.expectation(h)[0]
        error = math.sqrt((particles.expectation(lambda z, h=h: h(z) ** 2)[0] - mean**2) / n)
        assert abs(mean - density.expectation(h)[0]) < 4.25 * error, name


def test_particles_under_a_tensor_that_varies() -> None:
    """dz = −z dt + √(1 + z²) dB: ⟨z²⟩' = 1 − ⟨z²⟩ in Itô form; with the noise of Stratonovich it would be 1."""
    model, n, t = fokker_planck(("x",), drift=["-x"], diffusion=[["(1 + x**2)/2"]]), 40_000, 1.0
    e = Ensemble(model, LINE, particles=n, step=0.01, scheme="euler", seed=5, comm=WORLD)
    e.advance(t)
    square = e.expectation(lambda z: z[:, 0] ** 2)[0]
    error = math.sqrt((e.expectation(lambda z: z[:, 0] ** 4)[0] - square**2) / n)
    start = 0.5**2 + 0.3**2
    assert abs(square - (1.0 - (1.0 - start) * math.exp(-t))) < 4.0 * error + 0.01  # order 1: the bias is below h
    assert 4.0 * error < 0.1


@pytest.mark.ranks
@pytest.mark.parametrize("model", [linear("crossed"), replace(linear("degenerate"), constant_diffusion=False), swirling()])
def test_all_ranks_together_give_the_bits_of_one(model: MeanField) -> None:
    found = []
    for comm in (WORLD, SELF):
        e = Ensemble(model, PLANE, particles=2 * BLOCK + 77, runs=2, seed=7, step=0.1, scheme="euler", comm=comm)
        e.advance(0.25)
        squares = e.expectation(lambda z: z[:, 0] * z[:, 1])
        state = comm.bcast(e.state())
        found.append((state["particles"].tobytes(), e.moments().tobytes(), squares.tobytes()))
    assert found[0] == found[1]


@pytest.mark.serial
def test_a_case_without_a_potential_carries_particles(tmp_path: Path) -> None:
    """The shipped Ornstein–Uhlenbeck case, with and without a constant tensor."""
    path = Path(__file__).parents[2] / "cases" / "ornstein_uhlenbeck.toml"
    quick = {"domain.cells": [48, 48], "density.tolerance": 1e-5, "ensemble.particles": 4000, "time.end": 0.5, "time.outputs": 2}
    quiet = {"output.pictures": False, "output.fields": False}
    found = mvpde.run(path, set={**quick, **quiet}, out=tmp_path / "run").summary
    # squared: |v|²/D for a translation by v, so about (1/n)·Tr Σ/D, and as much again for the shape
    assert max(found["comparison"]["ensemble_vs_density"]["sliced_wasserstein"]) < 4.0 * math.sqrt(0.7 / 4000)


# --- refusals -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ([[1.0, 0.5], [0.2, 1.0]], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalue -1"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "shape"),
        ([[math.nan, 0.0], [0.0, 1.0]], "finite"),
    ],
)
def test_what_is_no_diffusion_tensor_is_refused(tensor: object, message: str) -> None:
    model = replace(linear("crossed"), own_diffusion=lambda z, m: np.broadcast_to(np.array(tensor), (len(z), *np.shape(tensor))))
    for varies in (False, True):
        with pytest.raises(ValueError, match=message):
            Ensemble(replace(model, constant_diffusion=not varies), PLANE, particles=10, scheme="euler", comm=WORLD)


def test_a_tensor_that_turns_negative_on_the_way_stops_the_run() -> None:
    """A = 1 − z²/4 is none beyond |z| = 2, where the drift pushes."""
    model = fokker_planck(("x",), drift=["x"], diffusion=[["1 - x**2/4"]])
    e = Ensemble(model, LINE, particles=100, step=0.05, scheme="euler", comm=WORLD)
    with pytest.raises(InvariantError, match="infinite or NaN"):
        e.advance(10.0)
    assert model.diffusion(np.array([[0.0]]), np.zeros(1)).shape == (1, 1, 1)
