"""What the mesh may have made decides nothing: verdicts on numbers that are given, not computed."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.studies.laws.sgd import boltzmann, weak_error
from mvpde.studies.slope import SLOPE, Series, judged
from mvpde.studies.verdict import Estimate

pytestmark = pytest.mark.serial


# Errors of two signs at η = .04, .08, .16 with the mesh's own and the runs' standard error
SIGNS = [
    ([1e-6, -2e-5, 3e-5], 2e-5, np.nan, "mesh too coarse"),  # the mesh may have made the sign, the size, and 0
    (
        [-1e-5, 2e-4, 9e-4],
        2e-5,
        np.nan,
        "mesh too coarse",
    ),  # the smallest alone is the mesh's: those that are clear have one sign
    ([-1e-4, 2e-4, 9e-4], 2e-5, np.nan, "does not hold"),  # all are clear of it: the sign changes with η
    ([-1e-4, 2e-4, 9e-4], 2e-5, 1e-4, "not resolved"),  # the runs may have made the sign
    ([0.0, 0.0, 0.0], 2e-5, np.nan, "mesh too coarse"),
]


@pytest.mark.parametrize(("error", "mesh", "spread", "verdict"), SIGNS)
def test_a_sign_that_the_mesh_may_have_made_says_nothing(error: list[float], mesh: float, spread: float, verdict: str) -> None:
    options = weak_error.WEAK_ORDER.options(kind="weak_order", name="two", order=2, functions=["w"])
    eta = np.array([0.04, 0.08, 0.16])
    found = weak_error._judged(options, "w", eta, np.array(error), np.full(3, mesh), np.full(3, spread))[1]
    assert found.holds == verdict
    assert "changes its sign" in found.note


def test_a_slope_through_numbers_of_the_mesh_says_nothing() -> None:
    """y = 2e-5, −1e-5, −2e-5 have no logarithm, and an error of 1e-5 says why; one of 1e-7 is none."""
    y = tuple(Estimate(value) for value in (2e-5, -1e-5, -2e-5))
    options = SLOPE.options(kind="slope", x="n", y="error", predicted=-1.0, discretisation="mesh")
    for mesh, verdict in ((1e-5, "mesh too coarse"), (1e-7, "does not hold")):
        series = Series(None, np.array([1.0, 2.0, 4.0]), y, (1, 1, 1), {"discretisation": mesh, "bias": 0.0}, None)
        assert judged(series, options, 0).holds == verdict


# KL of the law, KL with isotropic noise on the same mesh, mesh error of the first
PRESENT = [
    (1e-3, 1e-5, 1e-5, "holds"),
    (1e-5, 1e-5, 1e-6, "does not hold"),  # as much as without anisotropy
    (2e-5, 1e-5, 1e-6, "mesh too coarse"),  # half of it is what the mesh leaves
    (1e-3, 1e-5, 5e-4, "mesh too coarse"),
]


@pytest.mark.parametrize(("divergence", "control", "error", "verdict"), PRESENT)
def test_a_divergence_is_told_from_what_the_mesh_leaves(divergence: float, control: float, error: float, verdict: str) -> None:
    assert boltzmann._present(divergence, control, error) == verdict
