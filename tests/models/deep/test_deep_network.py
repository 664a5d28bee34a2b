"""Layers of deep networks, their ends, and the sweeps: derivatives are those of the values, the energy falls as it must."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from at_hand.deep import S4, five_points
from mvpde.models.data import points
from mvpde.models.deep.activations import ACTIVATIONS, TRAINED, Activation, OfValue
from mvpde.models.deep.network import DeepNetwork, FirstLayer, repeated
from mvpde.models.deep.sweeps import Labels, Sweep, end_rates, labels, nodes, sweep
from mvpde.models.deep.units import OUTPUT_MAPS, DeepLayer, differentiable
from mvpde.models.laws import Normal, Uniform
from mvpde.registry import Registry

pytestmark = pytest.mark.serial

STEP = 1e-6
CHOICES = [names for n in (1, 2, 3) for names in itertools.combinations(("v", "w", "c"), n)]


def layer_of(activation: str, trained: tuple[str, ...]) -> DeepLayer:
    fixed = {name: value for name, value in {"v": 1.3, "w": -0.7, "c": 0.2}.items() if name not in trained}
    return DeepLayer(activation, trained, fixed)


@pytest.mark.parametrize("activation", sorted(TRAINED))
@pytest.mark.parametrize("trained", CHOICES)
def test_derivatives_of_a_layer_are_those_of_its_values(activation: str, trained: tuple[str, ...]) -> None:
    layer, rng = layer_of(activation, trained), np.random.default_rng(0)
    theta, z = rng.normal(size=(7, 1, len(trained))), rng.normal(size=(1, 5))
    slope = (layer.value(z + STEP, theta) - layer.value(z - STEP, theta)) / (2 * STEP)
    assert np.allclose(layer.input_slope(z, theta), slope, atol=1e-9)
    gradient = layer.gradient(z, theta)
    assert gradient.shape == (7, 5, len(trained))
    for k in range(len(trained)):
        step = STEP * np.eye(len(trained))[k]
        by_differences = (layer.value(z, theta + step) - layer.value(z, theta - step)) / (2 * STEP)
        assert np.allclose(gradient[..., k], by_differences, atol=1e-9)


@pytest.mark.parametrize("output_map", sorted(OUTPUT_MAPS))
@pytest.mark.parametrize("loss", ["least_squares", "logistic"])
def test_the_pull_is_minus_the_slope_of_the_energy_before_the_output_map(output_map: str, loss: str) -> None:
    data = points([[0.5, 1.0], [-1.0, 0.3], [0.2, -2.0]], np.array([1.0, -1.0, 1.0]))
    network = DeepNetwork((DeepLayer(),), data, output_map=output_map, loss=loss)
    h = np.array([0.3, -0.4, 1.1])
    moved = [network.energy(network.predictions(h + s * STEP * np.eye(3))) for s in (1, -1)]
    assert np.allclose(network.pull(h), -(moved[0] - moved[1]) / (2 * STEP), atol=1e-8)


@pytest.mark.parametrize("activation", sorted(TRAINED))
def test_derivatives_of_both_ends(activation: str) -> None:
    data = points([[0.5, 1.0], [-1.0, 0.3], [0.2, -2.0]], np.zeros(3))
    network = DeepNetwork((DeepLayer(),), data, FirstLayer(activation, 0.4), output=activation)
    assert network.frozen_names == ("a1", "a2", "b")
    a, z, b = np.array([[0.3, -0.8], [1.0, 0.1]]), np.array([[0.2, -0.5, 1.3]]), np.array([[0.7], [-1.1]])
    for k, step in enumerate(STEP * np.eye(2)):
        by_differences = (network.first_values(a + step) - network.first_values(a - step)) / (2 * STEP)
        assert np.allclose(network.first.gradient(data.x, a)[..., k], by_differences, atol=1e-9)
    slope = (network.last_values(z + STEP, b) - network.last_values(z - STEP, b)) / (2 * STEP)
    assert np.allclose(network.last_slopes(z, b), slope, atol=1e-9)
    gradient = (network.last_values(z, b + STEP) - network.last_values(z, b - STEP)) / (2 * STEP)
    assert np.allclose(np.broadcast_to(network.last_gradients(z), gradient.shape), gradient, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_multipliers_are_the_first_variation_of_the_energy(depth: int) -> None:
    """Move the law of one label of one layer by δρ: E changes by −ω_λ Σ_p M_p ∫σ(z_p, θ) δρ(dθ), and through A and B likewise."""
    network = DeepNetwork(repeated(layer_of("tanh", ("v", "w", "c")), depth), five_points(), FirstLayer("tanh", 0.5))
    rng = np.random.default_rng(depth)
    known = Labels(rng.normal(size=(3, 1)), np.array([0.2, 0.5, 0.3]), rng.normal(size=4), np.array([0.1, 0.2, 0.3, 0.4]))
    theta = [rng.normal(size=(*known.shape(layer, depth), 6, 1, 3)) for layer in range(1, depth)]
    shares = [np.full(cloud.shape[:3], 1.0 / 6.0) for cloud in theta]
    ends = [known.a, known.b]

    def swept() -> Sweep:
        def means(layer: int, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            unit, cloud, weight = network.layers[layer - 1], theta[layer - 1], shares[layer - 1]
            s, t = (np.einsum("abm,abmp->abp", weight, h(z[:, :, None], cloud)) for h in (unit.value, unit.input_slope))
            return s, t

        return sweep(network, known, *ends, means, network.pull)

    def energy() -> float:
        return float(network.energy(network.predictions(swept().before)))

    at = swept()
    for number in range(depth - 1):
        for place in ((0, 0, 0), tuple(n - 1 for n in shares[number].shape)):
            shares[number][place] += STEP
            up = energy()
            shares[number][place] -= 2 * STEP
            slope = (up - energy()) / (2 * STEP)
            shares[number][place] += STEP
            values = network.layers[number].value(at.inputs[number], theta[number][..., place[2], :, :])
            expected = -known.shares(number + 1, depth)[place[:2]] * (at.multipliers[number] * values).sum(axis=-1)[place[:2]]
            assert slope == pytest.approx(expected, rel=1e-6, abs=1e-10)
    rates = end_rates(network, at, known.a)
    for which, weights in enumerate((known.of_a, known.of_b)):
        moved = []
        for sign in (1, -1):
            shifted = ends[which].copy()
            shifted[1] += sign * STEP
            kept, ends[which] = ends[which], shifted
            moved.append(energy())
            ends[which] = kept
        expected = weights[1] * float(np.ravel(rates[which])[1])
        assert -(moved[0] - moved[1]) / (2 * STEP) == pytest.approx(expected, rel=1e-6, abs=1e-10)


def test_label_nodes_integrate_what_a_network_asks() -> None:
    """∫tanh(1.6a + ½)² over N(1, ·7) to 1e-7 with 56 nodes; uniform laws keep Gauss–Legendre nodes."""
    a, of_a = nodes(Normal(1.0, 0.7), 56)
    many = Normal(1.0, 0.7).quadrature(400)
    assert of_a @ np.tanh(1.6 * a + 0.5) ** 2 == pytest.approx(many[1] @ np.tanh(1.6 * many[0] + 0.5) ** 2, abs=1e-7)
    assert np.array_equal(nodes(Uniform(0.0, 1.0), 5)[0], Uniform(0.0, 1.0).quadrature(5)[0])


def test_several_inputs_have_a_tensor_of_labels() -> None:
    data = points([[0.5, 1.0], [-1.0, 0.3]], np.zeros(2))
    network = DeepNetwork((DeepLayer(),), data)
    laws = {"a1": Uniform(0.0, 1.0), "a2": Normal(0.0, 1.0), "b": Normal(0.0, 1.0)}
    known = labels(network, laws, [3, 9], 7)
    assert known.a.shape == (27, 2)
    assert known.of_a.sum() == pytest.approx(1.0)
    assert known.of_a @ known.a[:, 0] == pytest.approx(0.5)
    assert known.shape(1, 2) == (27, 7)
    with pytest.raises(ValueError, match="a1, a2"):
        labels(network, laws, [3], 7)


def test_what_is_no_deep_network_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="trained is empty"):
        DeepLayer("tanh", (), {"v": 1.0, "w": 1.0, "c": 0.0})
    with pytest.raises(ValueError, match=r"c is neither trained nor fixed; add fixed = \{ c = 0.0 \}"):
        DeepLayer("tanh", ("v", "w"), {})
    with pytest.raises(ValueError, match="w is both in trained and in fixed"):
        DeepLayer("tanh", ("v", "w"), {"w": 1.0, "c": 0.0})
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        DeepLayer("tahn")
    with pytest.raises(ValueError, match="L ≥ 2"):
        repeated(DeepLayer(), 1)
    with pytest.raises(ValueError, match="L ≥ 2"):
        DeepNetwork((), five_points())
    with pytest.raises(ValueError, match="base_measure needs a law of each of v, w"):
        replace(S4.network, base={"v": Normal(0.0, 1.0)})
    with pytest.raises(ValueError, match=r"\+1 or -1"):
        replace(S4.network, loss="logistic")


def test_an_activation_without_a_slope_is_refused() -> None:
    ACTIVATIONS["step"] = Activation("sign z", np.sign)
    try:
        with pytest.raises(ValueError, match="'step' has no slope.*take one of identity, relu, sigmoid, tanh"):
            DeepLayer("step")
    finally:
        del ACTIVATIONS["step"]


def test_layers_with_different_trained_weights_share_their_coordinates() -> None:
    layers = (DeepLayer("tanh", ("w",), {"v": 1.5, "c": 0.1}), DeepLayer("relu", ("c", "v"), {"w": 2.0}))
    network = DeepNetwork(layers, five_points())
    assert network.coordinates == ("v", "w", "c")
    assert layers[1].trained == ("v", "c")
    assert network.columns(layers[1]) == [0, 2]
    assert np.array_equal(network.embedded(layers[0], np.array([[0.3]])), [[1.5, 0.3, 0.1]])
    model = network.mean_field()
    assert model.coordinates == network.coordinates
    assert model.outer_energy(np.zeros((1, 5)))[0] == pytest.approx(float(network.energy(np.zeros(5))))


def test_a_slope_that_is_no_derivative_is_refused() -> None:
    """It is a function of act(u); one of u trains with wrong gradients."""
    table = Registry(
        "activation", {"wrong": Activation("tanh z", np.tanh, of_value=OfValue(lambda u: 1.0 - np.tanh(u) ** 2, np.zeros_like))}
    )
    with pytest.raises(ValueError, match="the slope of activation 'wrong' is not its derivative; it must be a function of act"):
        differentiable(table, "wrong")
