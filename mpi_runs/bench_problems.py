"""The problems that `bench_tasks.py` measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

import numpy as np
from numpy.typing import NDArray

from mvpde.cases.file import load
from mvpde.cases.problem import problem
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.data import circle, interval
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network

Array = NDArray[np.float64]
Problem = tuple[MeanField, Domain, Product]

ANGLE = Uniform(0.0, 2.0 * np.pi, periodic=True)
START = Product((ANGLE, Normal(0.0, 0.7)))


def circle_target(x: Array) -> Array:
    """f*(x) = 0.6 cos x + 0.3 sin 2x."""
    return 0.6 * np.cos(x[:, 0]) + 0.3 * np.sin(2.0 * x[:, 0])


def circle_model(temperature: float = 0.0) -> MeanField:
    """φ = exp(2(cos(x − y) − 1)) on 64 angles, so K = 64; base measure Unif × N(0, 1) where τ > 0."""
    base = Product((ANGLE, Normal(0.0, 1.0)))
    data = circle(64, circle_target)
    return network("circle_rbf", data, temperature=temperature, base=base, kappa=2.0)


def circle_rbf(cells: Sequence[int], temperature: float = 0.0, comm: MPI.Intracomm = MPI.COMM_SELF) -> Problem:
    """z = (y, c) in the circle × [−5, 5], from Unif × N(0, 0.7²)."""
    domain = box([0.0, -5.0], [2.0 * np.pi, 5.0], cells, [True, False], comm=comm)
    return circle_model(temperature), domain, START


def sigmoid_3d(cells: Sequence[int]) -> Problem:
    """z = (a, b, c): sigmoid(ax + b) on 32 points, τ = 0.05."""
    base = Product((Normal(0.0, 2.0), Normal(0.0, 2.0), Normal(0.0, 1.0)))
    model = network("sigmoid", interval(-1.0, 1.0, 32, lambda x: np.sin(3.0 * x[:, 0])), temperature=0.05, base=base)
    domain = box([-6.0, -6.0, -5.0], [6.0, 6.0, 5.0], cells, comm=MPI.COMM_SELF)
    return model, domain, Product((Normal(0.0, 1.5), Normal(0.0, 1.5), Normal(0.0, 0.7)))


# M, A of dz = −Mz dt + √(2A)dB and the half widths of six standard deviations: a full tensor, and one that is degenerate
PAIRS = {
    "crossed": ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.9], [0.9, 1.0]], (6.0, 3.0)),
    "degenerate": ([[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], (5.2, 3.0)),
}


def tensor(pair: str, cells: Sequence[int], comm: MPI.Intracomm = MPI.COMM_SELF) -> Problem:
    """An Ornstein–Uhlenbeck process from half its stationary standard deviations, a deviation off the centre."""
    m, a, half = PAIRS[pair]
    x, y = (width / 6.0 for width in half)
    domain = box([-half[0], -half[1]], list(half), cells, comm=comm)
    return (
        fokker_planck(("x", "y"), drift_matrix=m, diffusion_matrix=a),
        domain,
        Product((Normal(x, 0.5 * x), Normal(0.0, 0.5 * y))),
    )


def copper(cells: Sequence[int], comm: MPI.Intracomm = MPI.COMM_SELF) -> Problem:
    """Two weights under SGD on real data, as in cases/sgd_neuron.toml: a tensor that varies and nearly degenerates."""
    setting = problem(load(Path(__file__).resolve().parents[1] / "cases" / "sgd_neuron.toml"))
    section: Any = setting.case.sections.domain
    return setting.model, box(section.lower, section.upper, cells, comm=comm), setting.law


TENSORS: dict[str, Callable[..., Problem]] = {**{name: partial(tensor, name) for name in PAIRS}, "copper": copper}


def mixture(cells: Sequence[int]) -> Problem:
    """The Gaussian mixture of Rotskoff & Vanden-Eijnden: y ~ U[−2, 2], c ~ N(0, 1)."""
    model = gaussian_mixture([-2.0, 0.0, 2.0], [0.5, 1.0, 0.5], [1.0 / 3.0, -2.0 / 3.0, 1.0 / 3.0])
    domain = box([-4.0, -6.0], [4.0, 6.0], cells, comm=MPI.COMM_SELF)
    return model, domain, Product((Uniform(-2.0, 2.0), Normal(0.0, 1.0)))
