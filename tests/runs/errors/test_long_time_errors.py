"""Errors of stationary laws, branches and modes bracket the true ones: of the mesh, of walls, of a compressed interaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvpde.cases.file import parse
from mvpde.cases.measures import density_of
from mvpde.cases.problem import problem
from mvpde.equilibrium import accuracy
from mvpde.equilibrium.approach import LongTime
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.mesh.walls import without_strips
from mvpde.models.mean_field import Array
from mvpde.runs.cautions import long_time as judge
from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.errors.companions import companions
from mvpde.runs.errors.long_time import long_time_of
from mvpde.runtime import MPI

pytestmark = pytest.mark.serial
ROOT = Path(__file__).parents[3]
NORMAL = {"law": "normal", "mean": 0.5, "std": 0.1}


def long_time(
    model: dict[str, Any],
    lower: Sequence[float],
    upper: Sequence[float],
    cells: Sequence[int],
    modes: int | None = 4,
    **more: Any,
) -> tuple[LongTime, list[Caution]]:
    """What a run finds before it starts, and what it warns of."""
    axes = model.get("coordinates", ["x", "y", "z"])[: len(cells)]
    table = {
        "model": {"kind": "fokker_planck", **model},
        "initial": dict.fromkeys(axes, NORMAL),
        "domain": {"lower": list(lower), "upper": list(upper), "cells": list(cells), **more.get("domain", {})},
        "density": {},
        "stationary": more.get("stationary", {}),
        "time": {"end": 1.0},
        **({} if modes is None else {"spectrum": {"modes": modes}}),
    }
    described = problem(parse(table, Path("case.toml")), MPI.COMM_SELF)
    found = long_time_of(described, {"density": density_of(described, MPI.COMM_SELF)})
    assert isinstance(found, LongTime)
    return found, list(judge.judge(Findings(described, [], {}, found)))


def bracketed(value: Array | complex, error: Any, exact: Any, scare: float = 12.0) -> None:
    """True error ≤ 2 × estimate and ≥ estimate/``scare``, entry by entry."""
    true, told = np.abs(np.asarray(value) - exact), np.asarray(error, float)
    assert (true <= 2.0 * told).all(), (true, told)
    assert (true >= told / scare).all(), (true, told)


@pytest.mark.parametrize("b", [1.0, 2.0])
def test_walls_change_slow_modes_and_it_is_told(b: float) -> None:
    """Generator x∂² + (b − x)∂: λ_k = k on the half-line, mean and variance b; the box ends at 10."""
    found, warnings = long_time({"drift": [f"{b} - x"], "diffusion": [["x"]]}, [0.0], [10.0], [400])
    assert found.modes is not None
    error = found.errors.of("eigenvalues")
    assert error is not None
    bracketed(found.modes.eigenvalues, error[:, 0], [1.0, 2.0, 3.0, 4.0], scare=2.0)
    bracketed(found.law.mean, found.errors.of("mean"), b, scare=2.0)
    bracketed(found.law.covariance, found.errors.of("covariance"), b, scare=2.0)
    assert found.law.entropy_production == 0.0 and not found.law.current.any()
    (eigenvalues,) = [one for one in warnings if one.code == "spectrum.eigenvalues"]
    assert "widen" in eigenvalues.message and eigenvalues.value is not None and eigenvalues.value > 0.1
    assert not [one for one in warnings if one.code == "stationary.outer_mass"]  # x = 0 is an end of the space


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.3, 0.3), (0.7, 1.5)])
def test_a_density_without_bound_at_natural_ends(a: float, b: float) -> None:
    """x(1 − x)∂² + (a(1 − x) − bx)∂: a Beta law of index a − 1, b − 1 at the ends, λ_n = n(a + b + n − 1), order below two."""
    found, _ = long_time({"drift": [f"{a}*(1 - x) - {b}*x"], "diffusion": [["x*(1 - x)"]]}, [0.0], [1.0], [80])
    assert found.modes is not None
    error = found.errors.of("eigenvalues")
    assert error is not None
    exact = [n * (a + b + n - 1.0) for n in range(1, 5)]
    bracketed(found.modes.eigenvalues[1:], error[1:, 0], exact[1:])
    bracketed(found.law.covariance, found.errors.of("covariance"), a * b / (a + b) ** 2 / (a + b + 1.0))


def test_weak_noise_around_a_ring_is_named() -> None:
    """72² cells do not hold a ring of width 0.03: E(r² − 1)² is 0.011 for 0.004, identities miss by a third; 144² have 0.0044."""
    drift = ["x*(1 - x**2 - y**2) - 5*y", "y*(1 - x**2 - y**2) + 5*x"]
    model = {"drift": drift, "diffusion_matrix": [[0.002, 0.0], [0.0, 0.002]]}
    for cells, bound, told in ((72, 0.012, 0.1), (144, 0.0044, 0.0)):
        found, warnings = long_time(model, [-1.8, -1.8], [1.8, 1.8], [cells, cells], modes=2 if cells == 72 else None)
        values = {one.code: one.value or 0.0 for one in warnings}
        assert values.get("stationary.identities", 0.0) >= told  # sharpened laws of 144² cells miss them by less than is told
        law, owned = found.law, found.law.domain.owned
        radii = (law.domain.coordinates[:owned] ** 2).sum(axis=1)
        assert 0.004 < (law.domain.graph.lumped * law.values[:owned]) @ (radii - 1.0) ** 2 < bound
        assert law.minimum >= -1e-14
        if found.modes is not None:
            assert "stationary.limiter_share" in values
            assert (found.modes.eigenvalues.real == 0.0).all()  # they are 0.002, far below their error


def test_ornstein_uhlenbeck_with_strong_rotation() -> None:
    """dz = −Mz dt + √(2A)dB with M = [[1, 10], [−10, 1]], A = diag(1, ¼): mean eigenvalues 1 ± 10i, Σ from MΣ + ΣMᵀ = 2A."""
    m, a = np.array([[1.0, 10.0], [-10.0, 1.0]]), np.diag([1.0, 0.25])
    one = np.eye(2)
    covariance = np.linalg.solve(np.kron(m, one) + np.kron(one, m), 2.0 * a.ravel()).reshape(2, 2)
    found, warnings = long_time({"drift_matrix": m.tolist(), "diffusion_matrix": a.tolist()}, [-5.0] * 2, [5.0] * 2, [48, 48], 2)
    assert found.modes is not None
    error, eigenvalues = found.errors.of("eigenvalues"), found.modes.eigenvalues
    assert error is not None
    assert (np.abs(found.law.covariance - covariance) <= 2.0 * found.errors.of("covariance")).all()  # type: ignore[operator]
    assert (np.abs(eigenvalues.real - 1.0) <= 2.0 * error[:, 0]).all()
    assert (np.abs(np.abs(eigenvalues.imag) - 10.0) <= 2.0 * error[:, 1]).all()
    assert {one.code for one in warnings} <= {"stationary.covariance", "stationary.limiter_share", "spectrum.eigenvalues"}


def kuramoto(coupling: float) -> dict[str, Any]:
    return {
        "kind": "mean_field",
        "coordinates": ["x"],
        "periods": {"x": "2*pi"},
        "features": ["cos(x)", "sin(x)"],
        "outer_energy": "-K/2*(m0**2 + m1**2)",
        "temperature": 1.0,
        "parameters": {"K": coupling},
    }


CIRCLE: dict[str, Any] = {"domain": {"periodic": [True]}, "stationary": {"starts": [[0.0, 0.0]]}}


def test_a_growth_rate_below_its_error_has_no_sign() -> None:
    """Incoherent oscillators at noise 1: growth rate K/2 − 1, which the mesh of the Galerkin operator changes by O(h²)."""
    for coupling, stable in ((1.9, True), (2.0001, None), (2.1, False)):
        drifting = {**kuramoto(coupling), "drift": ["K*(m1*cos(x) - m0*sin(x))"]}
        del drifting["outer_energy"]
        found, warnings = long_time(drifting, ["-pi"], ["pi"], [64], 2, **CIRCLE)
        (branch,) = found.branches
        assert branch.stable is stable, branch.leading_eigenvalue
        error = found.errors.of("branches.0.leading_eigenvalue")
        assert error is not None and abs(branch.leading_eigenvalue - (coupling / 2.0 - 1.0)) <= 2.0 * error
        assert ("stationary.stable" in [one.code for one in warnings]) == (stable is None)
        assert (branch.leading_eigenvalue == 0.0) == (stable is None)


def test_motion_along_a_circle_of_states_has_rate_zero() -> None:
    found, _ = long_time(
        kuramoto(3.0), ["-pi"], ["pi"], [64], 2, domain={"periodic": [True]}, stationary={"starts": [[0.5, 0.0]]}
    )
    assert found.modes is not None and found.modes.eigenvalues[0] == 0.0
    assert found.branches[0].stable is True  # that motion does not count
    assert found.summary([])["spectrum"]["eigenvalues"][0] == 0.0


@pytest.mark.parametrize("tolerance", [0.1, 0.5])
def test_the_rank_of_an_interaction_is_an_error_too(tolerance: float) -> None:
    """A kernel cut to rank_tolerance moves mean, free energy and eigenvalues by as much as is told."""

    def at(part: float) -> tuple[LongTime, list[Caution]]:
        model = {
            "kind": "mean_field",
            "coordinates": ["x"],
            "potential": "x**4/4 - x**2/2 - x/5",
            "interaction": "-exp(-(x - x')**2)",
            "rank_tolerance": part,
            "temperature": 0.3,
        }
        return long_time(model, [-3.0], [3.0], [120], 2, stationary={"starts": [{"x": NORMAL}]})

    (cut, warnings), (exact, silent) = at(tolerance), at(1e-8)
    assert cut.modes is not None and exact.modes is not None and not silent
    error = cut.errors.pairs
    assert cut.errors.interaction is not None and exact.errors.interaction is not None
    bracketed(cut.modes.eigenvalues, error["eigenvalues"][:, 0], exact.modes.eigenvalues, scare=2.0)
    bracketed(cut.law.mean, error["mean"], exact.law.mean, scare=2.0)
    energies = [np.asarray(one.branches[0].free_energy) for one in (cut, exact)]
    bracketed(energies[0], error["branches.0.free_energy"], energies[1], scare=2.0)
    assert exact.errors.interaction < 1e-7 < 1e-4 < cut.errors.interaction
    if tolerance == 0.5:
        assert any("rank_tolerance" in one.message for one in warnings)


def test_a_branch_of_the_finest_mesh_alone_is_told() -> None:
    """Attracting particles a little below their critical temperature: coarse meshes are above theirs."""
    found, warnings = long_time(kuramoto(3.0), ["-pi"], ["pi"], [64], None, domain={"periodic": [True]})
    assert found.errors.missing == () and warnings == []
    lost = replace(found.errors, missing=(1,))
    told = [one.code for one in judge._branches(replace(found, errors=lost))]
    assert told == ["stationary.branches"]


def test_boxes_lose_whole_cells_at_open_walls_only() -> None:
    assert without_strips([0.0], [10.0], [40], [(False, True)], 1) == ([0.0], [9.0], [36])
    assert without_strips([-2.0, 0.0], [2.0, 6.0], [20, 12], [(True, True), (False, False)], 2) == (
        [-1.2, 0.0],
        [1.2, 6.0],
        [12, 12],
    )
    assert without_strips([0.0], [1.0], [6], [(True, True)], 2) is None


def test_the_fewest_cells_have_no_eigenvalue_too_many() -> None:
    """On 16 cells all modes are found, and what has mass with them: it is none. K = 1.9: the growth rate is −0.05 + O(h²)."""
    drifting = {**kuramoto(1.9), "drift": ["K*(m1*cos(x) - m0*sin(x))"]}
    del drifting["outer_energy"]
    found, _ = long_time(drifting, ["-pi"], ["pi"], [16], 2, **CIRCLE)
    assert found.branches[0].leading_eigenvalue == pytest.approx(-0.0614, abs=1e-3)


# --- other meshes, walls that cannot move, labels -------------------------------------------------------------------------------


def test_a_mesh_from_a_file_has_errors_where_companions_are_asked_for() -> None:
    """The unit well on a disc: its covariance by a quadrature of degree 6 on the triangles."""
    model = {"kind": "mean_field", "coordinates": ["x", "y"], "potential": "(x**2 + 3*y**2)/2", "temperature": 0.3}
    table = {
        "model": model,
        "initial": {"x": {"law": "normal", "mean": 0.0, "std": 0.3}, "y": {"law": "normal", "mean": 0.0, "std": 0.3}},
        "domain": {"mesh": str(ROOT / "meshes" / "disc.msh")},
        "density": {"companions": 2},
        "stationary": {},
        "time": {"end": 1.0},
    }
    described = problem(parse(table, Path("case.toml")), MPI.COMM_SELF)
    density = density_of(described, MPI.COMM_SELF)
    found = long_time_of(described, {"density": density}, None, companions(described, density, MPI.COMM_SELF))
    assert isinstance(found, LongTime)
    gibbs = lambda z: np.exp(-(z[:, 0] ** 2 + 3.0 * z[:, 1] ** 2) / 0.6)  # noqa: E731
    mass, x, y = (
        integrate_against_basis(density.domain, lambda z, h=h: h(z) * gibbs(z)).sum()
        for h in (lambda z: np.ones(len(z)), lambda z: z[:, 0] ** 2, lambda z: z[:, 1] ** 2)
    )
    bracketed(np.diag(found.law.covariance), np.diag(found.errors.of("covariance")), np.array([x, y]) / mass)  # type: ignore[arg-type]
    alone = long_time_of(described, {"density": density})  # the same meshes, made for it
    assert isinstance(alone, LongTime)
    np.testing.assert_allclose(alone.errors.of("covariance"), found.errors.of("covariance"), rtol=1e-6)  # type: ignore[arg-type]


def test_companions_lend_their_meshes() -> None:
    """The numbers of the coarser meshes do not depend on where the densities on them come from."""
    table = {
        "model": {"kind": "fokker_planck", "drift": ["x - x**3"], "diffusion": [["0.5"]]},
        "initial": {"x": NORMAL},
        "domain": {"lower": [-3.0], "upper": [3.0], "cells": [90]},  # of which four do not divide
        "density": {},
        "stationary": {},
        "time": {"end": 1.0},
        "spectrum": {"modes": 2},
    }
    described = problem(parse(table, Path("case.toml")), MPI.COMM_SELF)
    density = density_of(described, MPI.COMM_SELF)
    beside = companions(described, density, MPI.COMM_SELF)
    lent, made = (long_time_of(described, {"density": density}, None, one) for one in (beside, None))
    assert isinstance(lent, LongTime) and isinstance(made, LongTime)
    for name in ("covariance", "eigenvalues"):
        np.testing.assert_allclose(lent.errors.of(name), made.errors.of(name), rtol=1e-6, atol=1e-12)  # type: ignore[arg-type]
    exact, _ = long_time(table["model"], [-3.0], [3.0], [720], 2)  # type: ignore[arg-type]
    assert exact.modes is not None and lent.modes is not None
    bracketed(lent.modes.eigenvalues, lent.errors.of("eigenvalues")[:, 0], exact.modes.eigenvalues)  # type: ignore[index]


def test_walls_that_no_smaller_box_tells_of_are_unknown_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an error of zero: where no smaller box has a law, there is no error at all."""
    model = {"drift": ["x - x**3"], "diffusion": [["0.5"]]}
    known, silent = long_time(model, [-3.0], [3.0], [16], 2)  # quarters are too few to lose some; halves do
    assert np.isfinite(known.errors.of("covariance")).all()  # type: ignore[arg-type]
    assert "stationary.walls" not in [one.code for one in silent]
    monkeypatch.setattr("mvpde.runs.errors.long_time._smaller", lambda *_: None)
    found, warnings = long_time(model, [-3.0], [3.0], [64], 2)
    assert np.isnan(found.errors.of("covariance")).all()  # type: ignore[arg-type]
    assert found.summary([])["stationary"]["covariance_error"] == [[None]]
    (told,) = [one for one in warnings if one.code == "stationary.walls"]
    assert "covariance" in told.message and "widen" in told.message


def test_one_smaller_box_is_extrapolated_slowly() -> None:
    """q = .8 where the second strip tells nothing, .2 where the first changes hardly anything."""
    one, two, three = np.array([1.0]), np.array([0.9]), np.array([0.7])
    lost = np.array([np.nan])
    assert accuracy._nested([one, two, three]) == pytest.approx(0.1)  # q = 1/2
    assert accuracy._nested([one, two, lost]) == accuracy._nested([one, two]) == pytest.approx(0.4)
    assert accuracy._nested([one, two], alike=True) == pytest.approx(0.025)
    assert accuracy._nested([one, one, one]) == 0.0
    assert np.isnan(accuracy._nested([one, lost])).all() and np.isnan(accuracy._nested([one])).all()


def test_too_few_labels_are_an_error() -> None:
    """Oscillators with normal frequencies: the order parameter of locked ones from four labels, as against sixteen."""

    def at(labels: int) -> LongTime:
        table = {
            "model": {
                "kind": "mean_field",
                "coordinates": ["x", "w"],
                "frozen": ["w"],
                "periods": {"x": "2*pi"},
                "features": ["cos(x)", "sin(x)"],
                "drift": ["w + K*(m1*cos(x) - m0*sin(x))", "0"],
                "temperature": 0.2,
                "parameters": {"K": 2.0},
            },
            "initial": {"x": {"law": "normal", "mean": 0.0, "std": 0.5}, "w": {"law": "normal", "mean": 0.0, "std": 0.7}},
            "domain": {"lower": ["-pi"], "upper": ["pi"], "cells": [32]},
            "density": {},
            "labels": {"w": labels},
            "stationary": {"starts": [[0.8, 0.0]]},
            "time": {"end": 1.0},
        }
        described = problem(parse(table, Path("case.toml")), MPI.COMM_SELF)
        found = long_time_of(described, {"density": density_of(described, MPI.COMM_SELF)})
        assert isinstance(found, LongTime)
        return found

    few, many = at(4), at(16)
    true = abs(few.branches[0].moments[0] - many.branches[0].moments[0])
    told = float(few.errors.labels["branches.0.moments"][0])
    assert told / 12.0 <= true <= 2.0 * told
    assert many.errors.labels["branches.0.moments"][0] < 0.3 * true
