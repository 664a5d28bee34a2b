"""Particles: the laws of their schemes, streams, statistics, and that no bit depends on the number of ranks."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

from mvpde.runtime import MPI, InvariantError  # isort: skip

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline

from at_hand.models import circle_network
from mvpde.models.data import Data
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network
from mvpde.particles.blocks import BLOCK
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.schemes import PARTICLE_SCHEMES, Flow

# Constructors take all ranks unless they are told.
pytestmark = pytest.mark.usefixtures("comm")

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF


def quadratic_interaction(stiffness=1.0, attraction=1.0, temperature=0.0, quartic=0.0) -> MeanField:
    """V0 = ½a z² + ¼q z⁴ and the attraction ½θ(z − z')²: φ = (z, z²), R = ½θ(m_2 − m_1²). Desai–Zwanzig for a = −1, q = 1."""

    def field(y, r):
        return r[0] * y[:, 0] + r[1] * y[:, 0] ** 2, r[0] + 2.0 * r[1] * y

    return MeanField(
        coordinates=("z",),
        profile=lambda y: np.column_stack([y[:, 0], y[:, 0] ** 2]),
        profile_field=field,
        outer_energy=lambda m: 0.5 * attraction * (m[..., 1] - m[..., 0] ** 2),
        outer_gradient=lambda m: 0.5 * attraction * np.stack([-2.0 * m[..., 0], np.ones(m.shape[:-1])], axis=-1),
        temperature=temperature,
        external_potential=lambda z: 0.5 * stiffness * z[:, 0] ** 2 + 0.25 * quartic * z[:, 0] ** 4,
        external_gradient=lambda z: stiffness * z + quartic * z**3,
        periods=(None,),
    )


def circle(points=64, temperature=0.0) -> MeanField:
    x = 2.0 * np.pi * np.arange(points) / points
    data = Data(x[:, None], np.full(points, 1.0 / points), 0.6 * np.cos(x) + 0.3 * np.sin(2.0 * x))
    base = Product((Uniform(0.0, 2.0 * np.pi, True), Normal(0.0, 1.0)))
    return network("circle_rbf", data, temperature=temperature, kappa=2.0, base=base)


LINE = Product((Normal(0.5, 0.8),))
CYLINDER = Product((Uniform(0.0, 2.0 * np.pi, True), Normal(0.0, 0.7)))
MODELS = {
    "desai_zwanzig": (quadratic_interaction(-1.0, 1.0, quartic=1.0), Product((Normal(0.5, 0.3),))),
    "network": (circle(16), CYLINDER),
}


# --- schemes: every entry of the table has the order that it declares -----------------------------------------------------------


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("name", PARTICLE_SCHEMES)
def test_order_at_zero_temperature(name, model_name):
    """The error against an independent integration of the same particles falls like h^order."""
    model, law = MODELS[model_name]
    steps, errors = np.array([0.1, 0.05, 0.025, 0.0125]), []
    for h in steps:
        e = Ensemble(model, law, particles=40, step=h, scheme=name, comm=SELF)
        z0 = e.state()["particles"][0]
        e.advance(1.0)
        errors.append(np.abs(e.state()["particles"][0] - exact_flow(model, z0, 1.0)).max())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - PARTICLE_SCHEMES[name].order) < 0.2  # the next term of the error changes it by O(h)


def exact_flow(model, z0, t):
    def velocity(_, flat):
        z = flat.reshape(z0.shape)
        return -model.potential_gradient(z, model.feature_sum(z) / len(z)).ravel()

    return solve_ivp(velocity, (0.0, t), z0.ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(z0.shape)


@pytest.mark.parametrize("name", PARTICLE_SCHEMES)
def test_weak_order_without_sampling_error(name):
    """A linear drift −kz makes Z(t) a sum of independent normals; carrying their coefficients gives the variance exactly.

    Var Z(t) = v e^{−2kt} + (τ/k)(1 − e^{−2kt}).
    """
    k, tau, t, v = 2.0, 0.7, 1.0, 0.3
    exact = v * math.exp(-2 * k * t) + tau / k * (1 - math.exp(-2 * k * t))
    counts, errors = np.array([16, 32, 64]), []
    for count in counts:
        h = t / count
        z = [np.zeros((count + 1, 1))]
        z[0][0] = math.sqrt(v)
        normals = iter(np.sqrt(2 * tau * h) * np.eye(count + 1)[1:, :, None])
        flow = Flow(
            lambda z, m: [-k * x for x in z],
            lambda z, t: np.zeros((1, 1)),
            lambda z, m, h, source=normals: [next(source)],
        )
        for _ in range(count):
            z = PARTICLE_SCHEMES[name].step(flow, z, np.zeros((1, 1)), 0.0, h)
        errors.append(abs(float(np.sum(z[0] ** 2)) - exact))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - PARTICLE_SCHEMES[name].order) < 0.2


@pytest.mark.parametrize(("name", "unbiased"), [("euler", False), ("heun", True)])
def test_moments_of_interacting_ornstein_uhlenbeck(name, unbiased):
    """dZ_i = −aZ_i − θ(Z_i − Z̄) + √(2τ)dB: Z̄ has rate a and noise τ/n, deviations have rate k = a + θ.

    E Z̄ = μe^{−at}, E n⁻¹Σ(Z_i − Z̄)² = (1 − 1/n)[v e^{−2kt} + (τ/k)(1 − e^{−2kt})]. At kh = 0.1 Euler–Maruyama's variance is
    5 % too large (exact bias of its recursion), 16 standard errors here; Heun's bias is 0.3 %, one standard error.
    """
    a, theta, tau, t, n, runs = 0.5, 1.5, 0.6, 2.0, 50_000, 4
    k = a + theta
    e = Ensemble(quadratic_interaction(a, theta, tau), LINE, particles=n, runs=runs, step=0.05, scheme=name, seed=3, comm=WORLD)
    e.advance(t)
    m = e.moments()
    mean, variance = m[:, 0].mean(), (m[:, 1] - m[:, 0] ** 2).mean()
    exact = (1 - 1 / n) * (0.8**2 * math.exp(-2 * k * t) + tau / k * (1 - math.exp(-2 * k * t)))
    error_of_variance = exact * math.sqrt(2 / (n * runs))
    variance_of_mean = (0.8**2 * math.exp(-2 * a * t) + tau / a * (1 - math.exp(-2 * a * t))) / (n * runs)
    assert (abs(variance - exact) < 4 * error_of_variance) == unbiased
    if unbiased:  # Euler's (1 − ah)^m misses e^{−at} by 1 %; this is a test of the drift, not of the scheme
        assert abs(mean - 0.5 * math.exp(-a * t)) < 4 * math.sqrt(variance_of_mean)


# --- ranks ----------------------------------------------------------------------------------------------------------------------

SIZES = {"three blocks, two runs": (2 * BLOCK + 809, 2, 64), "one block": (100, 1, 64), "long sums": (BLOCK + 1, 1, 500)}


def fingerprint(comm, size: str) -> str:
    particles, runs, points = SIZES[size]
    e = Ensemble(circle(points, 0.05), CYLINDER, particles=particles, runs=runs, seed=7, step=0.1, comm=comm)
    e.advance(0.25)
    state = e.state()
    assert (state is None) == (comm.rank > 0)
    bits = None if state is None else state["particles"].tobytes() + state["streams"].tobytes()
    moments = np.concatenate([e.moments(), e.expectation(lambda z: z[:, 1] ** 2)[:, None]], axis=1)
    everywhere = comm.allgather(moments.tobytes())
    assert all(m == everywhere[0] for m in everywhere)
    return hashlib.sha256(comm.bcast(bits) + everywhere[0]).hexdigest()


@pytest.mark.ranks
@pytest.mark.parametrize("size", SIZES)
def test_all_ranks_together_give_the_bits_of_one(size):
    assert fingerprint(WORLD, size) == fingerprint(SELF, size)


@pytest.mark.skipif(WORLD.size > 1, reason="starts mpirun itself")
@pytest.mark.parametrize(("ranks", "threads"), [(2, 1), (3, 2)])
def test_two_and_three_ranks_give_the_bits_of_one(ranks, threads):
    """Also where the BLAS may use another number of threads: binding ranks to cores changes that number."""
    script = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parents[k]) for k in range(3)]!r}\n"
        "from test_ensemble import *\n"
        "found = [fingerprint(WORLD, size) for size in SIZES]\n"
        "print(*(found if WORLD.rank == 0 else []), end='')"
    )
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "HYDRA", "MPI"))}
    environment = {**inherited, "OPENBLAS_NUM_THREADS": str(threads)}
    mpirun = Path(sys.executable).parent / "mpirun"
    command = [str(mpirun) if mpirun.exists() else "mpirun", "-n", str(ranks), sys.executable, "-c", script]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout
    assert out.split() == [fingerprint(SELF, size) for size in SIZES]


@pytest.mark.ranks
def test_more_ranks_than_blocks():
    e = Ensemble(circle(8), CYLINDER, particles=5, comm=WORLD)
    e.advance(0.1)
    assert e.moments().shape == (1, 8)
    assert e.expectation(lambda z: np.ones(len(z))).tolist() == [1.0]


# --- streams --------------------------------------------------------------------------------------------------------------------


def test_a_run_does_not_depend_on_the_number_of_runs():
    model = circle(8, 0.1)
    few, many = (Ensemble(model, CYLINDER, particles=5000, runs=runs, step=0.1, comm=WORLD) for runs in (1, 3))
    few.advance(0.3)
    many.advance(0.3)
    assert np.array_equal(few.moments()[0], many.moments()[0])
    assert len({tuple(row) for row in many.moments()}) == 3


def test_noise_has_the_right_size_and_continues():
    """Without drift Z(t) − Z(0) ~ N(0, 2τt I): variance 2τt, increments of successive stretches uncorrelated, as are blocks."""
    free = quadratic_interaction(0.0, 0.0, temperature=0.3)
    n, runs = 3 * BLOCK, 2
    e = Ensemble(free, LINE, particles=n, runs=runs, step=0.1, comm=SELF)
    states = []
    for t in (0.0, 0.2, 0.4):
        e.advance(t)
        states.append(e.state()["particles"][..., 0])
    first, second = (states[1] - states[0]).ravel(), (states[2] - states[1]).ravel()
    count, expected = n * runs, 2 * 0.3 * 0.2
    for increment in (first, second):
        assert abs(increment.var() - expected) < 4 * expected * math.sqrt(2 / count)
        assert abs(increment.mean()) < 4 * math.sqrt(expected / count)
    assert abs(np.mean(first * second)) < 4 * expected / math.sqrt(count)
    blocks = first.reshape(-1, BLOCK)
    correlations = np.corrcoef(np.concatenate([blocks, states[0].reshape(-1, BLOCK)]))
    off_diagonal = np.abs(correlations[np.triu_indices_from(correlations, 1)])
    assert off_diagonal.max() < 5 / math.sqrt(BLOCK)  # 66 pairs


def test_seeds_differ_and_repeat():
    def moments(seed):
        return Ensemble(circle(8), CYLINDER, particles=100, seed=seed, comm=WORLD).moments()

    assert np.array_equal(moments(1), moments(1))
    assert not np.array_equal(moments(1), moments(2))


def test_start_is_independent_samples_of_the_law():
    n = 40_000
    e = Ensemble(quadratic_interaction(), LINE, particles=n, comm=WORLD)
    mean, square = e.moments()[0]
    assert abs(mean - 0.5) < 4 * 0.8 / math.sqrt(n)
    assert abs(square - mean**2 - 0.64) < 4 * 0.64 * math.sqrt(2 / n)


@pytest.mark.ranks
def test_restored_state_continues_bit_for_bit_on_any_number_of_ranks():
    def fresh(seed, comm):
        return Ensemble(circle(8, 0.1), CYLINDER, particles=5000, runs=2, seed=seed, step=0.1, comm=comm)

    whole, other, alone = fresh(1, WORLD), fresh(2, WORLD), fresh(2, SELF)
    whole.advance(0.25)
    saved = whole.state()
    whole.advance(0.5)
    other.restore(saved)
    alone.restore(WORLD.bcast(saved))
    for restored in (other, alone):
        assert restored.time == 0.25
        restored.advance(0.5)
        assert np.array_equal(whole.moments(), restored.moments())
    with pytest.raises(ValueError, match="checkpoint"):
        Ensemble(circle(8), CYLINDER, particles=4, comm=WORLD).restore(saved)


# --- time -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "count"), [(0.3, 4), (0.25, 4), (1.0, 1), (7.0, 1), (0.1, 10), (1 / 3, 3)])
def test_steps_are_equal_and_end_exactly(step, count):
    e = Ensemble(quadratic_interaction(), LINE, particles=3, step=step, comm=WORLD)
    e.advance(1.0)
    e.advance(1.0)
    assert (e.time, e.statistics()["steps"]) == (1.0, count)
    assert e.step == pytest.approx(1.0 / count)
    with pytest.raises(ValueError, match="cannot go back"):
        e.advance(0.5)


# --- what is measured -----------------------------------------------------------------------------------------------------------


def test_moments_and_expectation_are_means_over_the_cloud():
    model = circle(12)
    e = Ensemble(model, CYLINDER, particles=6000, runs=2, comm=WORLD)
    cloud = e.cloud()
    assert (cloud is None) == (WORLD.rank > 0)
    z, w = WORLD.bcast(cloud)
    assert (z.shape, w.sum()) == ((6000, 2), pytest.approx(1.0))
    assert e.moments().shape == (2, 12)
    np.testing.assert_allclose(e.moments()[0], (w * z[:, 1]) @ model.profile(z[:, :1]), rtol=0, atol=1e-14)
    np.testing.assert_allclose(e.expectation(lambda z: z[:, 1] ** 3)[0], w @ z[:, 1] ** 3, rtol=0, atol=1e-14)


def test_periodic_coordinates_are_wrapped_only_on_the_way_out():
    drift = MeanField(
        coordinates=("y",),
        profile=lambda y: np.cos(y),
        profile_field=lambda y, r: (r[0] * np.cos(y[:, 0]), -r[0] * np.sin(y)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=lambda m: 0.0 * m,
        external_gradient=lambda z: np.full_like(z, 3.0),
        periods=(1.0,),
    )
    e = Ensemble(drift, Product((Uniform(0.0, 1.0, True),)), particles=50, step=1.0, comm=WORLD)
    before = e.expectation(lambda z: z[:, 0])[0]
    e.advance(1.5)
    assert e.expectation(lambda z: z[:, 0])[0] == pytest.approx(before - 4.5)
    z, _ = WORLD.bcast(e.cloud())
    assert z.min() >= 0.0
    assert z.max() < 1.0
    assert np.mean(np.exp(2j * np.pi * z)) == pytest.approx(
        e.expectation(lambda z: np.cos(2 * np.pi * z[:, 0]))[0] + 1j * e.expectation(lambda z: np.sin(2 * np.pi * z[:, 0]))[0]
    )


def test_delta_method_agrees_with_the_spread_of_independent_runs():
    """Both estimate the standard deviation of R(m_n) over samples of n.

    From 400 runs it is known to 1/√800 = 3.5 %; the delta method's own relative spread at n = 500 is about 5 % (that of its slope
    R'(m_n), measured here), averaged over 16 seeds. Four standard errors of the two together.
    """
    runs = Ensemble(circle(), CYLINDER, particles=500, runs=400, seed=11, comm=WORLD)
    spread = runs.loss_standard_error() * math.sqrt(400)
    assert spread == pytest.approx(np.std(runs.model.outer_energy(runs.moments()), ddof=1))
    single = [Ensemble(circle(), CYLINDER, particles=500, seed=s, comm=WORLD).loss_standard_error() for s in range(16)]
    error = math.hypot(spread / math.sqrt(800), np.std(single, ddof=1) / 4)
    assert abs(np.mean(single) - spread) < 4 * error
    assert 4 * error < 0.25 * spread  # the comparison says something


def test_fluctuations_about_the_limit_obey_the_central_limit_theorem():
    """n E‖f_n − f_t‖² in L²(R) → .398942 at t = 0 and .26598 at t = 1 for the Gaussian mixture (interacting particles).

    Linearised equation of Chen, Rotskoff, Bruna & Vanden-Eijnden, arXiv:2008.09623; independent particles would give .40276 at
    t = 1.
    """
    model = gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1 / 3, -2 / 3, 1 / 3])
    law = Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))
    n, runs = 400, 150
    e = Ensemble(model, law, particles=n, runs=runs, step=0.1, comm=WORLD)
    limit = Characteristics(model, law, nodes=(24, 12), tolerance=1e-7, comm=WORLD)
    for t, expected in ((0.0, 0.398942), (1.0, 0.26598)):
        e.advance(t)
        limit.advance(t)
        points = len(model.data.weights)
        squares = n * (e.moments() - limit.moments())[:, :points] ** 2 @ model.data.weights
        assert abs(squares.mean() - expected) < 4 * squares.std(ddof=1) / math.sqrt(runs)
        assert squares.std() / math.sqrt(runs) < 0.1 * expected


# --- errors ---------------------------------------------------------------------------------------------------------------------


def runaway(bounded: bool) -> MeanField:
    """V0 = −¼z⁴ pushes to infinity; with bounded features the moments alone would not notice."""
    f = np.tanh if bounded else (lambda y: y)
    return MeanField(
        coordinates=("z",),
        profile=f,
        profile_field=lambda y, r: (r[0] * f(y[:, 0]), r[0] * y),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=lambda m: 0.0 * m,
        external_gradient=lambda z: -(z**3),
        periods=(None,),
    )


@pytest.mark.ranks
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("name", PARTICLE_SCHEMES)
def test_infinite_particles_stop_all_ranks_and_keep_the_last_good_state(name, bounded):
    e = Ensemble(runaway(bounded), LINE, particles=3 * BLOCK, step=0.5, scheme=name, comm=WORLD)
    with pytest.raises(InvariantError, match=r"from t = .* of length 0\.5; .*ensemble\.step smaller than 0\.5"):
        e.advance(50.0)
    assert 0.0 < e.time < 50.0
    assert np.isfinite(e.moments()).all()
    assert np.isfinite(e.expectation(lambda z: z[:, 0])).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"particles": 0}, "particles: must"),
        ({"runs": 0}, "runs: must"),
        ({"seed": -1}, "seed: must"),
        ({"step": 0.0}, "step: must"),
        ({"step": math.nan}, "step: must"),
        ({"scheme": "milstein"}, "heun, euler"),
        ({"law": CYLINDER}, "2 coordinates"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    arguments = {"law": LINE, "particles": 10, "comm": WORLD} | wrong
    with pytest.raises(ValueError, match=message):
        Ensemble(quadratic_interaction(), arguments.pop("law"), **arguments)


def test_coupled_copies_stay_close_like_the_square_root_of_their_number(comm: MPI.Intracomm) -> None:
    """Copies driven by the limit's moments: E|Z_i − Z̄_i| falls like n^{-½} (propagation of chaos, arXiv:1906.00193)."""
    model, law = circle_network()
    grid = np.linspace(0.0, 2.0, 41)
    truth = Characteristics(model, law, nodes=[48, 16], comm=comm)
    path = []
    for t in grid:
        truth.advance(float(t))
        path.append(truth.moments()[0])
    limit = CubicSpline(grid, np.array(path))
    gaps = []
    for n in (100, 400, 1600):
        options = {"particles": n, "runs": 8, "seed": 5, "step": 0.05, "comm": comm}
        network, copies = Ensemble(model, law, **options), Ensemble(model, law, driven_by=limit, **options)  # type: ignore[arg-type]
        assert network.distance(copies).max() == 0.0
        network.advance(2.0)
        copies.advance(2.0)
        gaps.append(float(network.distance(copies).mean()))
    slope = np.log(gaps[-1] / gaps[0]) / np.log(16.0)
    assert -0.7 < slope < -0.3  # ±0.2: three standard errors of the mean of eight runs, whose gaps scatter by about a half
