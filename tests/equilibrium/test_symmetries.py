"""Lines, planes and circles of stationary laws in free space: one law stands for all, in the place of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mvpde.density.density import Density
from mvpde.equilibrium.branches import branches, search
from mvpde.equilibrium.spectrum import spectrum
from mvpde.equilibrium.symmetries import LINE, ROTATION, Symmetry, free_motions
from mvpde.mesh.box import box
from mvpde.models.interaction import diffusion, gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.models.pair_interaction import pair_interaction
from mvpde.runtime import MPI

COUPLING, TEMPERATURE = 2.0, 0.5


def attracting(**others: Any) -> MeanField:
    """W = θ(x − x')²/2 and no potential: Gaussians of variance τ/θ anywhere."""
    return gradient_flow(
        ["x"],
        features=["x", "x**2"],
        outer_energy="th/2*(m1 - m0**2)",
        temperature=TEMPERATURE,
        parameters={"th": COUPLING},
        **others,
    )


def on(model: MeanField, lower: Sequence[float], upper: Sequence[float], cells: Sequence[int], *law: Any, **more: Any) -> Density:
    comm = more.pop("comm", MPI.COMM_SELF)
    return Density(model, box(lower, upper, cells, comm=comm), Product(law), **more)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("lower", "upper", "cells", "wall"),
    [(-5.0, 7.0, 240, 0.0), (-20.0, 22.0, 840, 0.0), (-1.0, 3.0, 80, 1e-3), (-1.0, 8.0, 180, 1e-3), (-0.5, 2.5, 60, 0.02)],
)
def test_one_line_of_gaussians(comm: MPI.Intracomm, lower: float, upper: float, cells: int, wall: float) -> None:
    """Every start leads to it, in boxes of any size and place; ``wall``: what walls at two to four deviations change."""
    density = on(attracting(), [lower], [upper], [cells], Normal(1.0, 0.4), comm=comm)
    (only,) = branches(density)
    assert only.lines == ("x",) and only.circles == () and only.stable
    assert only.law.mean[0] == pytest.approx(1.0, abs=1e-6 + wall)
    assert only.law.covariance[0, 0] == pytest.approx(TEMPERATURE / COUPLING, abs=1e-6 + wall)
    modes = spectrum(density, 3, only.law).eigenvalues.real
    assert modes[0] == 0.0
    # about its own centre the law is that of an Ornstein–Uhlenbeck process, λ = 2θ, 3θ, up to the mesh
    assert modes[1:] == pytest.approx([2.0 * COUPLING, 3.0 * COUPLING], rel=0.01 + 20.0 * wall)
    assert only.leading_eigenvalue == pytest.approx(-modes[1])


@pytest.mark.serial
def test_a_line_of_a_scheme_without_gibbs_states() -> None:
    """The drift −θ(x − m) itself, whose law is the null vector of an operator."""
    model = diffusion(["x"], drift=["-2*(x - m0)"], features=["x"], temperature=TEMPERATURE)
    density = on(model, [-4.0], [5.0], [180], Normal(1.0, 0.4))
    (only,) = branches(density, [[1.0], [-0.5], [2.0]])
    assert only.lines == ("x",) and only.stable and only.starts == (0, 1, 2)
    assert only.law.mean[0] == pytest.approx(1.0, abs=1e-6)
    assert only.law.covariance[0, 0] == pytest.approx(TEMPERATURE / COUPLING, abs=1e-3)


@pytest.mark.serial
@pytest.mark.parametrize(
    ("kernel", "temperature"), [("1 - exp(-(x - x')**2)", 0.05), ("sqrt(1 + (x - x')**2)", 0.1), ("2*(x - x')**2/2", 0.5)]
)
def test_translates_of_one_cluster(kernel: str, temperature: float) -> None:
    """Compressed kernels break the symmetry a little; laws closer than that are one, in the place of the run."""
    model = pair_interaction(["x"], interaction=kernel, lower=[-4.0], upper=[6.0], temperature=temperature)
    density = on(model, [-4.0], [6.0], [160], Normal(1.0, 0.4))
    starts = [model.feature_values(np.random.default_rng(k).normal(k, 0.3, (400, 1))).mean(axis=0) for k in range(4)]
    (only,) = branches(density, starts)
    assert only.lines == ("x",) and only.stable
    assert only.law.mean[0] == pytest.approx(1.0, abs=1e-4)
    assert only.residual < 1e-5


@pytest.mark.serial
def test_a_plane_of_gaussians_and_a_line_across_a_valley() -> None:
    plane = gradient_flow(
        ["x", "y"],
        features=["x", "y", "x**2 + y**2"],
        outer_energy="m2 - m0**2 - m1**2",
        temperature=TEMPERATURE,
    )
    density = on(plane, [-2.5, -4.0], [4.5, 3.0], [36, 36], Normal(1.0, 0.5), Normal(-0.5, 0.5))
    (only,) = branches(density, [[1.0, -0.5, 2.0], [0.0, 0.3, 0.7]])
    assert only.lines == ("x", "y") and only.rotation == () and only.stable
    assert only.law.mean == pytest.approx([1.0, -0.5], abs=1e-4)
    assert only.law.covariance == pytest.approx(0.25 * np.eye(2), abs=1e-3)
    assert (spectrum(density, 3, only.law).eigenvalues[:2] == 0.0).all()
    valley = gradient_flow(
        ["x", "y"], potential="y**2", features=["x", "x**2"], outer_energy="m1 - m0**2", temperature=TEMPERATURE
    )
    density = on(valley, [-2.5, -3.0], [4.5, 3.0], [32, 32], Normal(1.0, 0.5), Normal(-0.5, 0.5))
    (only,) = branches(density, [[1.0, 2.0], [0.0, 0.7]])
    assert only.lines == ("x",)
    assert only.law.mean == pytest.approx([1.0, 0.0], abs=1e-4)


@pytest.mark.serial
def test_a_circle_of_states_in_the_plane() -> None:
    """A Mexican hat with attraction: the mean may point anywhere; on a mesh only few directions are stationary to rounding."""
    hat = gradient_flow(
        ["x", "y"],
        potential="(x**2 + y**2)**2/4 - (x**2 + y**2)/2",
        features=["x", "y", "x**2 + y**2"],
        outer_energy="(m2 - m0**2 - m1**2)/2",
        temperature=0.1,
    )
    density = on(hat, [-2.0, -2.0], [2.0, 2.0], [32, 32], Normal(0.6, 0.3), Normal(0.3, 0.3))
    ordered, round_ = branches(density, [[0.5, 0.2, 0.5], [-0.5, 0.1, 0.5], [0.0, -0.6, 0.5], [0.0, 0.0, 1.0]])
    assert ordered.rotation == ("x", "y") and ordered.starts == (0, 1, 2) and ordered.stable
    assert np.arctan2(*ordered.law.mean[::-1]) == pytest.approx(np.arctan2(0.3, 0.6), abs=0.02)
    assert round_.rotation == () and round_.stable is False
    modes = spectrum(density, 2, ordered.law).eigenvalues.real
    assert modes[0] == 0.0 and modes[1] > 0.5
    turned = on(hat, [-2.0, -2.0], [2.0, 2.0], [32, 32], Uniform(-2.0, 2.0), Uniform(-2.0, 2.0))
    again = search(turned, [np.array([0.0, -0.6, 0.5])], ordered.law).found[0]
    assert again.law.mean == pytest.approx(ordered.law.mean, abs=1e-4)  # in the place of the law that is given


@pytest.mark.serial
def test_what_holds_a_law_is_no_symmetry() -> None:
    held = attracting(potential="x**2/10")
    assert free_motions(on(held, [-4.0], [4.0], [20], Normal(0.0, 0.5))) == []
    free = on(attracting(), [-4.0], [4.0], [20], Normal(0.0, 0.5))
    assert free_motions(free) == [Symmetry(LINE, (0,))]
    spread = gradient_flow(["x"], features=["x"], outer_energy="0*m0", temperature=1.0)  # flat between walls, wherever the run is
    (flat,) = branches(on(spread, [-1.0], [2.0], [20], Normal(0.0, 0.2)), [[0.0]])
    assert flat.lines == ()
    drifting = diffusion(["x", "y"], drift=["m1 - y - x", "x - m0"], features=["x", "y"], temperature=0.2)
    nothing_along_x = on(drifting, [-3.0] * 2, [3.0] * 2, [8, 8], Normal(0.0, 0.5), Normal(0.0, 0.5))
    assert free_motions(nothing_along_x) == [Symmetry(LINE, (1,))]


@pytest.mark.serial
def test_rotations_turn_vectors_and_tensors() -> None:
    motion, z = Symmetry(ROTATION, (0, 1), (1.0, 2.0)), np.array([[2.0, 2.0]])
    assert motion.moved(z, np.pi / 2.0) == pytest.approx(np.array([[1.0, 3.0]]))
    assert motion.turned(np.array([[1.0, 0.0]]), np.pi / 2.0) == pytest.approx(np.array([[0.0, 1.0]]))
    assert motion.turned(np.diag([1.0, 3.0])[None], np.pi / 2.0) == pytest.approx(np.diag([3.0, 1.0])[None])
