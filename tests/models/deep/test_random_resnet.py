"""The random ResNet as a McKean–Vlasov equation: density and networks against the covariance that Gaussian means alone give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.models.deep.activations import Array
from mvpde.models.deep.random_resnet import CentredNormal, covariance_at, random_resnet
from mvpde.models.deep.signal_maps import covariance_map
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, ArgumentError, CaseError

CASE = Path(__file__).parents[3] / "cases" / "random_resnet.toml"
START = np.array([[1.0, 0.5], [0.5, 1.0]])
NORMAL = {"law": "normal", "mean": 0.0, "std": 1.0}
PARTS = ([0, 1, 0], [0, 1, 1])


@pytest.mark.serial
def test_the_covariance_is_the_known_one() -> None:
    k = covariance_at("tanh", START, 1.0, 0.05, [1.0, 2.0])
    np.testing.assert_allclose(k[:, *PARTS], [[1.481623962] * 2 + [0.753931110], [2.026940214] * 2 + [1.035582578]], atol=2e-9)
    k = covariance_at("relu", START[:1, :1], 1.0, 0.3, [0.0, 2.0])[:, 0, 0]
    np.testing.assert_allclose(k, [1.0, (1.0 + 0.6) * math.e - 0.6], rtol=1e-10)  # K' = ½K + .3


def observed(density: Density) -> Array:
    return np.array([float(density.expectation(h)[0]) for h in density.model.observables.values()])


def density(activation: str, start: Array, cells: int, end: float, **options: Any) -> Array:
    """(K₁₁, K₂₂, K₁₂) of the density at s = end."""
    d = len(start)
    model = random_resnet(activation, 1.0, 0.05, d)
    domain = box([-7.0] * d, [7.0] * d, [cells] * d, **options)
    found = Density(model, domain, CentredNormal(start), tolerance=1e-7)
    found.advance(end)
    return observed(found)


@pytest.mark.ranks
def test_the_density_has_second_order(comm: MPI.Intracomm) -> None:
    """Of the full tensor with σ_w² = 1, σ_b² = .05: s = 1, 2·10⁻⁴ at 64² and by order 1.8 better at 128²."""
    truth = covariance_at("tanh", START, 1.0, 0.05, [1.0])[0][PARTS]
    errors = [float(np.abs(density("tanh", START, n, 1.0, comm=comm) - truth).max()) for n in (64, 128)]
    assert errors[0] < 3e-4 and math.log2(errors[0] / errors[1]) > 1.8


@pytest.mark.serial
@pytest.mark.parametrize("activation", ["tanh", "erf"])
def test_one_input_on_a_line(activation: str) -> None:
    start = START[:1, :1]
    truth = covariance_at(activation, start, 1.0, 0.05, [1.0])[0, 0, 0]
    errors = [abs(density(activation, start, n, 1.0, comm=MPI.COMM_SELF)[0] - truth) for n in (100, 200)]
    assert errors[1] < 3e-4 and math.log2(errors[0] / errors[1]) > 1.8


@pytest.mark.serial
def test_relu_is_exact_in_space() -> None:
    """E φ² is half the variance, whose equation the scheme keeps exactly: what is left is the error in time, on any mesh."""
    truth = covariance_at("relu", START[:1, :1], 1.0, 0.05, [1.0])[0, 0, 0]
    errors = [density("relu", START[:1, :1], n, 1.0, comm=MPI.COMM_SELF)[0] - truth for n in (50, 100)]
    assert np.abs(errors).max() < 3e-6  # steps of order 4


@pytest.mark.serial
def test_inputs_that_are_nearly_the_same() -> None:
    """At correlation .96 the tensor is almost singular: its noise goes along u = v, and the difference moves slowly."""
    start = np.array([[1.0, 0.96], [0.96, 1.0]])
    truth = covariance_at("tanh", start, 1.0, 0.05, [0.5])[0][PARTS]
    np.testing.assert_allclose(density("tanh", start, 80, 0.5, comm=MPI.COMM_SELF), truth, atol=2e-3)


@pytest.mark.serial
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_networks_are_particles_with_the_step_of_a_layer(activation: str) -> None:
    """L = 8 layers up to s = 1: means over networks are those of the chain K_{k+1} = K_k + (σ_w² E[φφ] + σ_b²)/L, not the limit.

    Of order 1/N the mean is biased; at N = 200 that is below the standard error of 400 networks. All D numbers of a unit get one
    matrix: without correlated noise K₁₂ would stay where it was.
    """
    layers, runs = 8, 400
    model = random_resnet(activation, 1.0, 0.05, 2)
    ensemble = Ensemble(
        model, CentredNormal(START), particles=200, runs=runs, seed=7, step=1.0 / layers, scheme="euler", comm=MPI.COMM_SELF
    )
    ensemble.advance(1.0)
    chain = START
    for _ in range(layers):
        chain = chain + covariance_map(activation, chain, 1.0, 0.05) / layers
    values = np.array([ensemble.expectation(h) for h in model.observables.values()])
    error = values.std(axis=1, ddof=1) / math.sqrt(runs)
    assert (np.abs(values.mean(axis=1) - chain[PARTS]) < 3.0 * error).all()
    assert values[2].mean() - 0.5 > 20.0 * error[2]


@pytest.mark.serial
def test_the_chain_of_layers_is_of_first_order() -> None:
    """L(K_L − K) tends to a number: a step that is not 1/L would show."""
    truth, scaled = covariance_at("tanh", START, 1.0, 0.05, [1.0])[0], []
    for layers in (8, 16, 32):
        chain = START
        for _ in range(layers):
            chain = chain + covariance_map("tanh", chain, 1.0, 0.05) / layers
        scaled.append(layers * (chain - truth)[PARTS])
    np.testing.assert_allclose(scaled[1], scaled[2], rtol=0.03)
    assert (np.abs(scaled[2]) > 0.01).all()


@pytest.mark.serial
def test_the_law_stays_normal() -> None:
    """Moments of a Gaussian mesh law: kurtosis 3 and the density at the middle, on a line."""
    model = random_resnet("tanh", 1.0, 0.05, 1)
    found = Density(model, box([-8.0], [8.0], [200], comm=MPI.COMM_SELF), CentredNormal(START[:1, :1]), tolerance=1e-7)
    found.advance(1.0)
    second, fourth = (float(found.expectation(lambda z, k=k: z[:, 0] ** k)[0]) for k in (2, 4))
    assert fourth / second**2 == pytest.approx(3.0, rel=2e-3)
    assert found.values[100] == pytest.approx(1.0 / math.sqrt(2.0 * math.pi * second), rel=2e-3)


@pytest.mark.serial
def test_a_correlated_normal_law() -> None:
    k = np.array([[2.0, -0.7], [-0.7, 0.5]])
    law = CentredNormal(k)
    points, weights = law.quadrature([12, 12])
    np.testing.assert_allclose(np.einsum("n,na,nb->ab", weights, points, points), k, rtol=1e-12)
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(np.cov(law.sample(rng, 200_000).T), k, atol=0.02)
    z = np.array([[0.3, -0.2]])
    expected = math.exp(-0.5 * float(z[0] @ np.linalg.solve(k, z[0]))) / (2.0 * math.pi * math.sqrt(np.linalg.det(k)))
    assert law.density(z)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.serial
def test_the_case_says_its_limit() -> None:
    there = problem(load(CASE, {"time.end": 1.0, "time.outputs": [1.0]}))
    assert there.model.facts == pytest.approx(
        {"limit_K11": 1.481623962, "limit_K22": 1.481623962, "limit_K12": 0.753931110}, abs=2e-9
    )
    np.testing.assert_array_equal(there.law.sample(np.random.default_rng(1), 3).shape, (3, 2))


@pytest.mark.serial
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.covariance": [[1.0, 2.0], [2.0, 1.0]]}, r"\[model\] covariance: is not positive definite; .* \[i\]\[j\]² below"),
        ({"model.covariance": [[1.0, 0.2], [0.3, 1.0]]}, r"\[model\] covariance: is not a symmetric matrix"),
        ({"model.covariance": [[1.0, 0.2]]}, r"\[model\] covariance: has rows of 2; give \[\[k\]\] or two rows of two"),
        ({"model.weight_variance": -1.0}, r"\[model\] weight_variance: -1.0 is not allowed"),
        ({"model.weight_variance": 0.0, "model.bias_variance": 0.0}, r"\[model\] weight_variance: and bias_variance are both 0"),
        (
            {"initial": {"u": {"law": "normal", "mean": 0.0, "std": 1.0}}},
            r"\[initial\]: the model has an initial law of its own.*remove",
        ),
        ({"ensemble.scheme": "heun"}, r"\"heun\" needs a constant diffusion.*scheme = \"euler\""),
        ({"characteristics": {"nodes": [8, 8]}}, r"\[characteristics\]: follow a flow without noise"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CaseError, match=said):
        problem(load(CASE, changes))


@pytest.mark.serial
def test_arguments_of_the_law_are_refused() -> None:
    with pytest.raises(ArgumentError, match="covariance: is not a symmetric matrix"):
        CentredNormal(np.array([1.0, 2.0]))
