"""Wide deep networks: gradients, their limits, modes and steps, and that no bit depends on the number of ranks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip

import numpy as np
import pytest

from at_hand.additions import put_back
from at_hand.deep import S2, S3, S4, S4S, S5, Reference, five_points
from mvpde.models.data import points
from mvpde.models.deep.activations import ACTIVATIONS
from mvpde.models.deep.network import DeepNetwork, FirstLayer, repeated
from mvpde.models.deep.sweeps import labels
from mvpde.models.deep.sweeps import nodes as nodes_of
from mvpde.models.deep.units import DeepLayer
from mvpde.models.laws import Normal, Uniform
from mvpde.particles.deep import steps
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.driven import between, limit_path
from mvpde.particles.deep.kernels import activate
from mvpde.particles.deep.network import Network
from mvpde.particles.deep.passes import Scratch, ahead
from mvpde.particles.deep.rows import groups
from mvpde.particles.deep.samples import Samples
from mvpde.particles.deep.steps import Motion, drawn, one_in_each_part, start_of

WORLD, SELF = MPI.COMM_WORLD, MPI.COMM_SELF
TWO_INPUTS = points([[0.5, 1.0], [-1.0, 0.3], [0.2, -2.0]], np.array([1.0, -1.0, 1.0]))
WARM = replace(S4S.network, temperature=0.05, base={"w": Normal(1.0, 0.5)})


def wide(case: Reference, *, network: DeepNetwork | None = None, stratified: bool = True, **keys) -> Network:
    network = network or case.network
    return Network(network, start_of(network, case.laws, stratified=stratified), **{"comm": SELF, "mode": "heun", **keys})


def estimate(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


# --- gradients ------------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
def test_the_vectorised_hyperbolic_tangent_is_right_in_the_last_places():
    x = np.concatenate([np.linspace(-25.0, 25.0, 20001), np.logspace(-300, 1, 500), [np.inf, -np.inf]])
    u = x.copy()
    activate(0, u)
    assert np.abs(u / np.where(x == 0.0, 1.0, np.tanh(x)) - (x != 0.0)).max() < 5e-16
    broken = np.array([np.nan])
    activate(0, broken)
    assert np.isnan(broken[0])


@pytest.mark.serial
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("loss", ["least_squares", "logistic"])
def test_velocities_are_the_gradient_at_rate_n_squared_and_those_of_the_ends_at_rate_n(activation: str, loss: str) -> None:
    layers = (DeepLayer(activation, ("v", "w", "c"), {}), DeepLayer(activation, ("w",), {"v": 1.2, "c": 0.3}))
    network = DeepNetwork(layers, TWO_INPUTS, FirstLayer("tanh", 0.5), output_map="tanh", loss=loss, train_ends=True)
    laws = {"a1": Normal(0.4, 1.0), "a2": Normal(-0.2, 1.0), "b": Normal(0.5, 1.0), **{k: Normal(0.3, 1.0) for k in "vwc"}}
    (rows,) = groups(2, 3, 1, SELF)
    group = drawn(network, rows, start_of(network, laws), 5)
    motion = Motion(network, Scratch())
    found = motion.velocity(group, group.weights, 0.0, 0, None).copy()

    def energy() -> np.ndarray:
        return network.energy(network.predictions(ahead(network, rows, group.weights, Scratch()).h))

    def slope(array: np.ndarray, index: tuple[int, ...], run: int) -> float:
        values, step = [], 1e-6
        for sign in (1.0, -1.0):
            array[index] += sign * step
            values.append(energy()[run])
            array[index] -= sign * step
        return (values[0] - values[1]) / (2.0 * step)

    for number, layer in enumerate(layers):
        for k in [("v", "w", "c").index(name) for name in layer.trained]:
            for row, column in [(0, 0), (2, 1), (4, 2)]:
                by_differences = -(rows.width**2) * slope(group.weights.layers[number], (k, row, column), rows.run[row])
                assert found.layers[number][k, row, column] == pytest.approx(by_differences, rel=1e-5, abs=1e-7)
    for run, unit in [(0, 2), (1, 0)]:
        of_a = -rows.width * slope(group.weights.first, (run, unit, 1), run)
        of_b = -rows.width * slope(group.weights.last, (run, unit), run)
        assert found.first[run, unit, 1] == pytest.approx(of_a, rel=1e-5, abs=1e-8)
        assert found.last[run, unit] == pytest.approx(of_b, rel=1e-5, abs=1e-8)


@pytest.mark.serial
def test_the_mean_over_samples_of_a_velocity_is_that_of_all_data():
    (rows,) = groups(1, 6, 1, SELF)
    group = drawn(S4.network, rows, start_of(S4.network, S4.laws), 1)
    motion = Motion(S4.network, Scratch())

    def velocity(samples: np.ndarray | None) -> np.ndarray:
        return np.array(motion.velocity(group, group.weights, 0.0, 0, samples).copy().layers)

    each = [velocity(np.array([[p]])) for p in range(5)]
    assert np.allclose(np.mean(each, axis=0), velocity(None), atol=1e-14)
    assert np.abs(each[0] - each[1]).max() > 0.01


@pytest.mark.serial
def test_an_activation_of_ones_own_moves_networks_too():
    with put_back():
        ACTIVATIONS["mine"] = ACTIVATIONS["tanh"]
        like = replace(S4.network, layers=repeated(DeepLayer("mine", ("v", "w"), {"c": 0.0}), 4))
        networks = [wide(S4, network=n, width=20, seed=2, step=0.2) for n in (S4.network, like)]
        for network in networks:
            network.advance(1.0)
        assert np.allclose(networks[0].moments(), networks[1].moments(), rtol=1e-13)


# --- their limit ----------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
@pytest.mark.parametrize(("case", "bias"), [(S2, 0.1), (S3, 0.05), (S4, 0.1), (S5, 0.3)], ids=["S2", "S3", "S4", "S5"])
def test_losses_are_those_of_the_limit_but_for_the_width(case: Reference, bias: float) -> None:
    """Within three standard errors and c/N, c the bias that extrapolation of many widths has shown."""
    network = wide(case, width=60, runs=16, step=0.2, seed=1)
    for t, expected in case.losses.items():
        network.advance(t)
        mean, error = estimate(network.losses())
        assert abs(mean - expected) < 3.0 * error + bias / network.width


@pytest.mark.serial
@pytest.mark.parametrize(("case", "spread"), [(S3, 0.1190), (S4, 0.1533), (S5, 0.3560)], ids=["S3", "S4", "S5"])
def test_units_of_the_second_layer_scatter_by_the_variance_of_what_they_sum(case: Reference, spread: float) -> None:
    """N Var_j z²_j = ∫Var(σ¹(σ⁰(x, a), θ)|a) dμ_A, mean over x: independent sums given A."""
    network = wide(case, width=64, runs=60, seed=3)
    mean, error = estimate(64 * network.units()[1].var(axis=2, ddof=1).mean(axis=1))
    assert abs(mean - spread) < 3.5 * error + 5e-4


@pytest.mark.serial
def test_trained_ends_move_at_rate_n():
    ends = wide(S4, network=replace(S4.network, train_ends=True), width=80, runs=8, step=0.1, seed=1)
    for t, expected in {0.0: 0.078142, 1.0: 0.036486, 2.0: 0.030383, 4.0: 0.02867}.items():
        ends.advance(t)
        mean, error = estimate(ends.losses())
        assert abs(mean - expected) < 3.0 * error + 0.1 / ends.width
    assert ends.arrays()["ends_mean"] == pytest.approx([1.0452, 1.2049], abs=0.02)


@pytest.mark.serial
def test_the_same_samples_move_networks_and_their_limit():
    """Euler's steps of 0.1 on one sample at a time, in the order of the data; the limit's loss by quadrature."""
    network = wide(S4, width=120, runs=8, mode="prescribed", samples=Samples((0, 1, 2, 3, 4), 0.1), seed=1)
    for t, expected in {2.0: 0.036962, 4.0: 0.033060}.items():
        network.advance(t)
        mean, error = estimate(network.losses())
        assert abs(mean - expected) < max(3e-4, 3.0 * error)
    assert network.moments().mean(axis=0) == pytest.approx([-0.76809, -0.52633, 0.79918, 0.81224, 0.81464], abs=2e-3)


@pytest.mark.serial
@pytest.mark.parametrize("keys", [{"mode": "sgd", "step": 0.2}, {"mode": "prescribed", "samples": Samples((0, 3), 0.2)}])
def test_steps_on_samples_are_not_cut(keys: dict[str, object]) -> None:
    """ε is part of the model: five steps of .2 until t = 1 with outputs between or without, and none until .25."""
    once, often = (wide(S4, **{"width": 4, "runs": 2, **keys}) for _ in range(2))
    once.advance(1.0)
    for t in (0.2, 0.6, 0.8, 1.0):
        often.advance(t)
        assert often.step == 0.2
    assert once.statistics()["steps"] == often.statistics()["steps"] == 5
    assert np.array_equal(once.moments(), often.moments())
    with pytest.raises(ValueError, match=r"from t = 1 to 1\.25 is no whole number of steps of 0\.2"):
        often.advance(1.25)


@pytest.mark.serial
def test_langevin_networks_reach_the_law_of_noisy_weights():
    """Means and variances of w from the Hermite–Galerkin solution of each labelled law."""
    network = wide(S4S, network=WARM, width=80, runs=8, mode="langevin", step=0.1, seed=1)
    for t, expected in {0.0: 0.037523, 1.0: 0.035531, 2.0: 0.034632, 4.0: 0.033923}.items():
        network.advance(t)
        mean, error = estimate(network.losses())
        assert abs(mean - expected) < 3.0 * error + 0.05 / network.width
    arrays = network.arrays()
    assert arrays["layer_mean"][:, 0] == pytest.approx([1.020066, 1.033039, 1.058560], abs=0.008)
    assert arrays["layer_variance"][:, 0] == pytest.approx([0.246122, 0.240329, 0.231191], abs=0.005)


@pytest.mark.serial
def test_covariances_with_the_labels_stay():
    """Limit values: correlations of S4's table times the standard deviations; a network's own error beside them."""
    network = wide(S4, width=100, runs=16, step=0.2, seed=1)
    network.advance(4.0)
    moments, arrays = network.conditional_moments(), network.arrays()
    for values, expected in ((moments.with_a[:, 0, 1], 0.0339), (moments.with_b[:, 1], 0.0657)):
        mean, error = estimate(values)
        assert abs(mean - expected) < 3.0 * error + 0.1 / network.width
    assert arrays["label_covariance"].shape == (2, 2)
    assert arrays["layer_mean"][1, 1] == pytest.approx(1.09682, abs=3e-3)
    assert arrays["layer_variance"][1, 1] == pytest.approx(0.22168, abs=3e-3)
    assert arrays["inputs"].shape == (3, 5)
    assert arrays["inputs"][0] == pytest.approx([-0.57643, -0.23109, 0.72312, 0.81717, 0.83819], abs=3e-3)


@pytest.mark.serial
def test_given_b_zero_the_last_layer_does_not_move():
    network = wide(S4, network=S4.network, width=12, seed=1, step=0.5)
    group = network._groups[0]
    for ends in (group.weights, group.other, group.start):
        ends.last[0, 3] = 0.0
    before = network.layer(3)
    network.advance(2.0)
    moved = np.abs(network.layer(3) - before)[0].max(axis=(0, 2))
    assert moved[3] == 0.0
    assert np.delete(moved, 3).min() > 1e-4


# --- steps ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.serial
@pytest.mark.parametrize(("mode", "order"), [("descent", 1), ("heun", 2)])
def test_order_of_the_steps(mode: str, order: int) -> None:
    finest = wide(S4, width=10, step=0.01, seed=1)
    finest.advance(1.0)
    errors = []
    for step in (0.25, 0.125):
        network = wide(S4, width=10, step=step, mode=mode, seed=1)
        network.advance(1.0)
        errors.append(network.distance(finest).max())
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.2


@pytest.mark.serial
def test_descent_lowers_the_loss_as_fast_as_it_must():
    """dE/dt = −N⁻² Σ |θ̇|², layer by layer."""
    network = wide(S4, width=30, runs=2, step=0.01, seed=1)
    network.advance(0.49)
    group = network._groups[0]
    before = network.losses()
    velocity = network._motion.velocity(group, group.weights, 0.0, 0, None)
    pushes = np.sum([(x[:2] ** 2).sum(axis=0) for x in velocity.layers], axis=0).reshape(2, 30, 30).sum(axis=(1, 2)) / 30**2
    network.advance(0.51)
    later = network.losses()
    network.advance(0.53)
    assert (later - before) / 0.02 == pytest.approx(-pushes, rel=0.03)


@pytest.mark.serial
def test_stratified_draws_have_one_in_each_part_of_equal_mass():
    for law in (Normal(1.0, 0.7), Uniform(0.0, 2.0)):
        draws = np.sort(one_in_each_part(law, np.random.default_rng(0), 4))
        u = np.array([np.trapezoid(law.density(g := np.linspace(law.extent()[0], z, 4001)), g) for z in draws])
        assert (np.floor(4.0 * u) == np.arange(4)).all()


@pytest.mark.serial
@pytest.mark.parametrize(
    ("keys", "argument"),
    [
        ({"width": 0}, "width"),
        ({"runs": 1.5}, "runs"),
        ({"seed": -1}, "seed"),
        ({"step": 0.0}, "step"),
        ({"mode": "momentum"}, "mode"),
        ({"mode": "langevin"}, "mode"),
        ({"samples": Samples((0,), 0.1)}, "samples"),
        ({"mode": "prescribed"}, "samples"),
        ({"mode": "prescribed", "samples": Samples((7,), 0.1)}, "samples"),
    ],
)
def test_arguments_are_refused_by_name(keys: dict[str, object], argument: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        wide(S4, **{"width": 4, **keys})
    assert caught.value.argument == argument


@pytest.mark.serial
def test_descent_is_refused_at_positive_temperature():
    with pytest.raises(ArgumentError, match="langevin"):
        wide(S4S, network=WARM, width=4)


# --- ranks ----------------------------------------------------------------------------------------------------------------------

MANY = {
    "descent": lambda comm: wide(S4, width=70, runs=3, step=0.25, seed=7, comm=comm),
    "sgd": lambda comm: wide(S5, stratified=False, width=40, runs=2, mode="sgd", step=0.1, comm=comm),
    "langevin with ends": lambda comm: wide(
        S4S, network=replace(WARM, train_ends=True), width=33, mode="langevin", step=0.25, comm=comm
    ),
}


def copies(comm: MPI.Intracomm) -> Network:
    described = replace(S3.network, train_ends=True)
    laws = start_of(described, S3.laws).layers
    limit = DeepCharacteristics(described, labels(described, S3.laws, 8, 8), laws, nodes=[4, 4], tolerance=1e-5, comm=comm)
    return wide(S3, network=described, width=40, runs=2, step=0.25, limit=limit_path(limit, np.linspace(0.0, 1.0, 5)), comm=comm)


MANY["copies that a limit drives"] = copies


def fingerprint(made: Callable[[MPI.Intracomm], Network], comm: MPI.Intracomm) -> str:
    network = made(comm)
    network.advance(0.5)
    state = network.state()
    assert (state is None) == (comm.rank > 0)
    bits = b"" if state is None else b"".join(np.ascontiguousarray(part).tobytes() for part in state.values())
    numbers = [network.moments(), network.expectation(lambda z: z[:, 0] ** 2), *network.arrays().values()]
    everywhere = comm.allgather(b"".join(np.ascontiguousarray(x).tobytes() for x in numbers))
    assert all(m == everywhere[0] for m in everywhere)
    return hashlib.sha256(comm.bcast(bits) + everywhere[0]).hexdigest()


@pytest.mark.ranks
@pytest.mark.parametrize("name", MANY)
def test_all_ranks_together_give_the_bits_of_one(name: str, comm: MPI.Intracomm) -> None:
    assert fingerprint(MANY[name], comm) == fingerprint(MANY[name], SELF)


@pytest.mark.ranks
@pytest.mark.parametrize("name", MANY)
def test_a_restored_network_continues_bit_for_bit(name: str, comm: MPI.Intracomm) -> None:
    whole, other, alone = MANY[name](comm), MANY[name](comm), MANY[name](SELF)
    whole.advance(0.5)
    saved = whole.state()
    whole.advance(1.0)
    other.restore(saved)
    alone.restore(comm.bcast(saved))
    for restored in (other, alone):
        assert restored.time == 0.5
        restored.advance(1.0)
        assert np.array_equal(whole.moments(), restored.moments())
    with pytest.raises(ValueError, match="checkpoint"):
        wide(S4, width=5, comm=comm).restore(saved)


def test_weights_that_become_infinite_stop_all_ranks_and_are_kept_as_they_were(comm: MPI.Intracomm) -> None:
    steep = replace(S4.network, layers=repeated(DeepLayer("relu", ("v", "w"), {"c": 0.0}), 4), output="relu")
    network = wide(S4, network=replace(steep, data=replace(five_points(), target=np.full(5, 1e20))), width=40, comm=comm)
    before = network.moments()
    with pytest.raises(InvariantError, match=r"network\.step"):
        network.advance(10.0)
    kept, state = network.time, network.state()
    assert state is None or np.isfinite(np.concatenate([state[f"layer{k}"].ravel() for k in (1, 2, 3)])).all()
    assert kept < 10.0
    assert kept > 0.0 or np.array_equal(network.moments(), before)


@pytest.mark.serial
def test_first_weights_that_become_infinite_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trained ends, as those of the layers are."""
    right = steps.Motion.put

    def put(self, group, moved, h, noise, t):  # type: ignore[no-untyped-def]
        right(self, group, moved, h, noise, t)
        group.other.first[0, 1, 0] = np.inf

    network = wide(S4, network=replace(S4.network, train_ends=True), width=3, mode="descent")
    monkeypatch.setattr(steps.Motion, "put", put)
    with pytest.raises(InvariantError, match=r"network\.step"):
        network.advance(0.05)
    assert network.time == 0.0


def test_the_cloud_holds_weights_of_run_zero(comm: MPI.Intracomm) -> None:
    cloud = wide(S3, width=150, runs=2, comm=comm).cloud()
    assert (cloud is None) == (comm.rank > 0)
    if cloud is not None:
        points_, weights = cloud
        assert points_.shape == (2 * 128**2, 2)
        assert weights.sum() == pytest.approx(1.0)
        assert points_.mean(axis=0) == pytest.approx([1.0, 1.0], abs=4 * 0.5 / math.sqrt(len(points_)))


@pytest.mark.serial
@pytest.mark.parametrize(("law", "count"), [(Normal(1.0, 0.7), 28), (Normal(1.0, 0.7), 10), (Uniform(0.0, 2.0), 8)])
def test_between_labels_cubics_are_exact_and_bits_always_the_same(law: Normal | Uniform, count: int) -> None:
    nodes, x = nodes_of(law, count)[0], np.linspace(0.2, 1.8, 31)
    found = [between(nodes, np.column_stack([nodes**3 - nodes, nodes**2]))(x) for _ in range(3)]
    assert np.abs(found[0] - np.column_stack([x**3 - x, x**2])).max() < 1e-11
    assert all(np.array_equal(found[0], again) for again in found)
    assert between(np.array([1.0]), np.array([3.0]))(x) == pytest.approx(np.full(31, 3.0))
