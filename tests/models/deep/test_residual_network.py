"""Residual networks with one weight vector for all layers: Gibbs laws, descent and SGD at any depth, against numbers."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mvpde.cases.file import load
from mvpde.cases.measures import measures, training
from mvpde.cases.problem import problem
from mvpde.equilibrium.stationary import stationary
from mvpde.models.data import points
from mvpde.models.deep.residual_network import isotropic_model, residual_network, shared_weights
from mvpde.models.laws import Normal, Product
from mvpde.models.mean_field import Array
from mvpde.models.sgd_network import SgdNetwork
from mvpde.particles.sgd_runs import SgdRuns
from mvpde.runtime import MPI, CaseError

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[3] / "cases" / "residual_network.toml"
X = np.array([-1.5, -0.7, 0.3, 0.9, 1.6])
TEMPERATURE = 0.05
LOWER, UPPER, SIDE = np.array([-3.0, -3.0]), np.array([3.5, 5.0]), 101


def network(layers: float, **others: Any) -> SgdNetwork:
    keys = {"learning_rate": 0.1, "batch_size": 1, "weight_decay": 0.1, "centre": [0.0, 1.0], **others}
    forward = shared_weights("v*tanh(w*x + 0.2)", ["v", "w"], layers)
    return residual_network(forward, points(X, 1.3 * np.tanh(1.2 * X) + 0.2), **keys)


@functools.cache
def gibbs(layers: float) -> tuple[Array, Array, Array, float]:
    """Points, cell, the law ∝ exp(−V_L/T) there, and −T log Z: the trapezoidal rule, as the law vanishes at the walls."""
    axes = [np.linspace(a, b, SIDE) for a, b in zip(LOWER, UPPER, strict=True)]
    z = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
    cell = float(np.prod((UPPER - LOWER) / (SIDE - 1)))
    weights = np.exp(-network(layers).loss(z) / TEMPERATURE)
    total = cell * weights.sum()
    return z, np.array(cell), weights / total, -TEMPERATURE * math.log(total)


def test_the_gibbs_law_of_the_flow():
    """E loss without the decay, E θ, Cov and −T log Z."""
    z, cell, law, energy = gibbs(math.inf)
    mean = cell * (law @ z)
    covariance = cell * ((z - mean).T @ (law[:, None] * (z - mean)))
    assert cell * (law @ network(math.inf, weight_decay=0.0).loss(z)) == pytest.approx(0.062935127, abs=1e-6)
    assert mean == pytest.approx([0.01078033, 0.80610386], abs=1e-6)
    assert covariance[np.triu_indices(2)] == pytest.approx([0.16999366, -0.06897759, 0.51954557], abs=1e-6)
    assert energy == pytest.approx(0.026460780, abs=1e-6)


@pytest.mark.parametrize("layers", [8, 32])
def test_laws_of_networks_tend_to_that_of_the_flow_like_one_over_the_depth(layers):
    """L times the differences of E θ, of the laws in L¹ and of the free energy, within 5 %; without 1/L they would grow."""
    (z, cell, deep, energy), (*_, limit, limit_energy) = gibbs(layers), gibbs(math.inf)
    shift = layers * cell * ((deep - limit) @ z)
    assert shift == pytest.approx([0.02985, -0.01210], rel=0.05)
    assert layers * cell * np.abs(deep - limit).sum() == pytest.approx(0.0695, rel=0.05)
    assert layers * (energy - limit_energy) == pytest.approx(0.001613, rel=0.05)


def test_descent_at_any_depth():
    """The gradient flow from (.3, .4) at t = 1 and 5, and L times what L layers change at t = 1."""

    def descended(layers: float) -> Array:
        there = network(layers)
        path = solve_ivp(
            lambda t, w: -there.gradient(w[None])[0],
            (0.0, 5.0),
            [0.3, 0.4],
            method="DOP853",
            rtol=1e-9,
            atol=1e-11,
            t_eval=[1, 5],
        )
        return path.y.T

    limit = descended(math.inf)
    assert limit[0] == pytest.approx([0.21618014, 0.41497943], abs=1e-7)
    assert limit[1] == pytest.approx([0.03120165, 0.56808751], abs=1e-7)
    assert 64 * (descended(64)[0] - limit[0]) == pytest.approx([0.00435, 0.00177], rel=0.05)


def test_sgd_on_the_same_minibatches_at_every_depth():
    """L·E|θ_L − θ| over 4000 runs, one data point a step, η = .1: .0063 at t = 2, the same at two depths."""
    start = Product((Normal(0.3, 1e-9), Normal(0.4, 1e-9)))
    runs = {layers: SgdRuns(network(layers), start, runs=4000, seed=1, comm=MPI.COMM_SELF) for layers in (4, 32, math.inf)}
    for moved in runs.values():
        moved.advance(2.0)
    limit = runs[math.inf].cloud()[0]
    for layers in (4, 32):
        distances = layers * np.sqrt(((runs[layers].cloud()[0] - limit) ** 2).sum(axis=1))
        assert distances.mean() == pytest.approx(0.0063, abs=5e-5 + 3.0 * distances.std() / math.sqrt(4000))


@pytest.mark.parametrize("layers", [1, 5, math.inf])
def test_derivatives_are_those_of_the_loss(layers):
    """Gradient, Hessian, per-sample and batch gradients against differences."""
    there, w, e = network(layers, loss="least_squares"), np.array([[0.4, -0.8], [1.2, 0.6]]), 1e-5
    shifts = [e * axis for axis in np.eye(2)]
    slope = np.stack([(there.loss(w + s) - there.loss(w - s)) / (2 * e) for s in shifts], axis=1)
    curvature = np.stack([(there.gradient(w + s) - there.gradient(w - s)) / (2 * e) for s in shifts], axis=2)
    assert np.abs(slope - there.gradient(w)).max() < 1e-8
    assert np.abs(curvature - there.hessian(w)).max() < 1e-8
    samples = there.per_sample_gradient(w)
    assert np.abs(samples.mean(axis=1) - there.gradient(w)).max() < 1e-14
    assert np.abs(there.batch_gradient(w, np.array([[1, 3], [4, 4]]))[1] - samples[1, 4]).max() < 1e-14


@pytest.mark.parametrize(("v", "w"), [(-8.0, 10.0), (-6.0, 8.0), (3.0, 4.0), (-40.0, 25.0)])
def test_the_flow_of_steep_blocks(v, w):
    """x' = v tanh(wx + .2) and its derivatives in v and w, by an implicit method, beside a mild block in the same batch.

    Steps of order 8 are no longer than 1/|h_x|: errors of 2e-7 at (3, 4), where h expands, and of rounding where it contracts.
    """

    def rates(_: float, y: Array) -> list[float]:
        t = math.tanh(w * y[0] + 0.2)
        slope = 1.0 - t * t
        return [v * t, v * w * slope * y[1] + t, v * slope * (w * y[2] + y[0])]

    columns = [np.array([v, 0.4]), np.array([w, -0.8])]
    forward = shared_weights("v*tanh(w*x + 0.2)", ["v", "w"], math.inf)
    value, gradient = forward.jet(None, columns, np.array([[-1.5], [0.3], [1.6]]))
    for k, x in enumerate((-1.5, 0.3, 1.6)):
        end = solve_ivp(rates, (0.0, 1.0), [x, 0.0, 0.0], method="Radau", rtol=1e-9, atol=1e-12).y[:, -1]
        assert [value[k, 0], gradient[0][k, 0], gradient[1][k, 0]] == pytest.approx(end, abs=1e-6)


def test_one_layer_is_written_by_hand():
    """f = x + h(x)."""
    v, w = 0.7, -1.1
    assert network(1).prediction(np.array([[v, w]]), X)[0] == pytest.approx(X + v * np.tanh(w * X + 0.2), abs=1e-15)


def test_the_stationary_law_on_a_mesh():
    """The density's Gibbs state at 8 layers has the mean of the law by quadrature, to the mesh's error."""
    case = problem(load(CASE, {"domain.cells": [48, 48]}))
    density = measures(case, ["density"], MPI.COMM_SELF)["density"]
    law = stationary(density)
    z, cell, exact, _ = gibbs(8)
    assert law.mean == pytest.approx(cell * (exact @ z), abs=2e-3)
    model = isotropic_model(network(8), TEMPERATURE)
    assert model.gradient_flow
    assert case.model.potential(z[:5], np.zeros(1)) == pytest.approx(model.potential(z[:5], np.zeros(1)), abs=1e-15)


def test_the_noise_may_be_that_of_sgd():
    """The diffusion is gC with the covariance of one sample's gradient, and runs of SGD are of the same problem."""
    case = problem(load(CASE, SGD))
    w = np.array([[0.4, 0.7]])
    gradients = network(8).per_sample_gradient(w)[0]
    centred = gradients - gradients.mean(axis=0)
    assert case.model.diffusion(w, np.zeros(1))[0] == pytest.approx(0.05 * centred.T @ centred / 5, abs=1e-15)
    assert training(case).architecture.layers == 8


SGD = {
    "model": {
        "kind": "residual_network",
        "coordinates": ["v", "w"],
        "block": "v*tanh(w*x + 0.2)",
        "layers": 8,
        "weight_decay": 0.1,
        "centre": [0.0, 1.0],
        "learning_rate": 0.1,
        "batch_size": 1,
    },
    "ensemble.scheme": "euler",
    "sgd": {"runs": 10},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.layers": 0}, ["[model] layers", "whole number ≥ 1"]),
        ({"model.layers": "many"}, ["[model] layers", '"infinity"']),
        ({"model.block": "v*tanhh(w*x)"}, ["[model] block", "tanhh"]),
        ({"model.block": "v*sign(x*w)"}, ["[model] block", "sign"]),
        ({"model.block": "v*tanh(u*x)"}, ["[model] block", "'u'"]),
        ({"model.coordinates": ["v", "x"]}, ["[model] coordinates", "'x'"]),
        ({"model.centre": [0.0]}, ["[model] centre", "give one for each"]),
        ({"model.learning_rate": 0.1}, ["[model]", "`temperature` is of isotropic noise", "remove one"]),
        ({"model.weight_decay": -1.0}, ["[model] weight_decay", "≥ 0"]),
        ({"sgd": {}}, ["[sgd]", "`learning_rate` and `batch_size`"]),
        ({**SGD, "characteristics": {"nodes": [2, 2]}}, ["[characteristics]", "remove the section"]),
        ({**SGD, "model.batch_size": 9, "model.replacement": False}, ["batch_size is 9", "at most 5"]),
    ],
)
def test_bad_input_is_told_with_its_remedy(changes, words):
    with pytest.raises(CaseError) as caught:
        problem(load(CASE, changes))
    for word in words:
        assert word in str(caught.value)
