"""Stationary branches of interacting models against independent quadrature, growth rates against the equation itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import iv

import mvpde
from at_hand.models import TWO_PI, desai_zwanzig, kuramoto
from mvpde.cases.messages import about
from mvpde.density.density import Density
from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.fluxes import rate
from mvpde.density.galerkin import galerkin
from mvpde.equilibrium.branches import Branch, branches, default_starts, nearest_stable
from mvpde.equilibrium.linearised import linearised, slow_modes
from mvpde.equilibrium.spectrum import decay_rate, spectrum, typical_rate
from mvpde.equilibrium.stationary import is_gibbs
from mvpde.mesh.box import box
from mvpde.models.interaction import diffusion, gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.pair_interaction import pair_interaction
from mvpde.runtime import MPI, ArgumentError, CaseError, SolverError

CASES = Path(__file__).parents[2] / "cases"
CIRCLE = Product((Uniform(0.0, TWO_PI, periodic=True),))
START = Product((Normal(0.2, 0.5),))


def on_line(comm: MPI.Intracomm, model: MeanField, cells: int = 400, half: float = 4.0, **options: Any) -> Density:
    return Density(model, box([-half], [half], [cells], comm=comm), START, **{"scheme": "edge_averaged", **options})


def on_circle(comm: MPI.Intracomm, model: MeanField, cells: int = 200, **options: Any) -> Density:
    return Density(model, box([0.0], [TWO_PI], [cells], [True], comm=comm), CIRCLE, **options)


def found(density: Density, starts: Sequence[Sequence[float]] | None = None) -> list[Branch]:
    return branches(density, default_starts(density) if starts is None else [np.array(start) for start in starts])


@pytest.mark.serial
@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ([], "starts: the list is empty"),
        ([[0.5]], r"starts: entry 0 must be 2 finite numbers, .* or a law of x; it is \[0.5\]"),
        ([[0.5, 0.5], [0.5, float("nan")]], "starts: entry 1 must be"),
        ([0.5], "starts: entry 0 must be"),
        ([Product((Normal(0.2, 0.5),) * 2)], "starts: entry 0 is a law of 2 coordinates, but the model has x"),
    ],
)
def test_starts_that_are_none(starts: list[Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        branches(on_line(MPI.COMM_SELF, desai_zwanzig(2.0, 1.0), 20), starts)


@pytest.mark.serial
def test_starts_may_be_lists() -> None:
    density = on_line(MPI.COMM_SELF, desai_zwanzig(2.0, 1.0), 100)
    (listed,), (array,) = branches(density, [[0.5, 0.5]]), branches(density, [np.array([0.5, 0.5])])
    assert listed.moments.tolist() == array.moments.tolist()


@pytest.mark.serial
@pytest.mark.parametrize(("temperature", "said"), [(0.0, "temperature is 0"), (0.5, "come from mvpde.branches")])
def test_a_spectrum_of_an_interacting_model_needs_a_temperature_and_moments(temperature: float, said: str) -> None:
    model = gradient_flow(["x"], potential="x**2", features=["x"], outer_energy="m0**2", temperature=temperature)
    with pytest.raises(ArgumentError, match=said):
        spectrum(on_line(MPI.COMM_SELF, model, 20, scheme="auto"), 1)


# --- independent references: quadrature in one dimension ------------------------------------------------------------------------


def mean_at(beta: float, theta: float, m: float, h: Callable[[float], float] = lambda x: x) -> float:
    """⟨h⟩ under exp(−β(V0 + ½θ(x − m)²))."""

    def weight(x: float) -> float:
        return float(np.exp(-beta * (x**4 / 4 - x**2 / 2 + 0.5 * theta * (x - m) ** 2)))

    return float(quad(lambda x: h(x) * weight(x), -6, 6, epsabs=1e-13)[0] / quad(weight, -6, 6, epsabs=1e-13)[0])


def order_parameter(ratio: float) -> float:
    """r = I₁(Kr/D)/I₀(Kr/D), r > 0, at K/D = ratio."""
    return float(brentq(lambda r: iv(1, ratio * r) / iv(0, ratio * r) - r, 1e-3, 1.0))


# --- Desai–Zwanzig --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "theta", "known"), [(3.0, 1.0, 0.63732441), (4.0, 0.7, None), (2.5, 1.6, None)])
def test_three_branches_below_the_critical_temperature(
    comm: MPI.Intracomm, beta: float, theta: float, known: float | None
) -> None:
    """Means ±m with m = ⟨x⟩_m by independent quadrature, both stable, and 0, unstable; the stable ones have the lower energy."""
    exact = brentq(lambda m: mean_at(beta, theta, m) - m, 0.05, 1.5)
    assert known is None or exact == pytest.approx(known, abs=1e-8)
    states = found(on_line(comm, desai_zwanzig(beta, theta)))
    plus, minus, middle = states
    assert [plus.moments[0], minus.moments[0], middle.moments[0]] == pytest.approx([exact, -exact, 0.0], abs=1e-6)
    assert plus.moments[1] == pytest.approx(mean_at(beta, theta, exact, lambda x: x * x), abs=1e-6)
    assert [b.stable for b in (plus, minus, middle)] == [True, True, False]
    assert plus.free_energy == pytest.approx(minus.free_energy, abs=1e-10)
    assert plus.free_energy is not None and middle.free_energy is not None and plus.free_energy < middle.free_energy
    assert middle.leading_eigenvalue > 0.0 > plus.leading_eigenvalue
    assert plus.circles == ()


@pytest.mark.parametrize(("theta", "known"), [(1.0, 2.1884396), (1.7, None)])
def test_critical_temperature_by_the_change_of_stability(comm: MPI.Intracomm, theta: float, known: float | None) -> None:
    """The growth rate of the symmetric branch vanishes where βϑ⟨x²⟩ = 1, to 1e-3 in β."""
    exact = brentq(lambda beta: beta * theta * mean_at(beta, theta, 0.0, lambda x: x * x) - 1.0, 0.5, 4.0)
    assert known is None or exact == pytest.approx(known, abs=1e-6)

    def growth(beta: float) -> float:
        states = found(on_line(comm, desai_zwanzig(beta, theta)), [[0.0, 0.4]])
        (branch,) = states
        return branch.leading_eigenvalue

    assert brentq(growth, exact - 0.2, exact + 0.2, xtol=1e-5) == pytest.approx(exact, abs=1e-3)


def test_growth_in_a_run(comm: MPI.Intracomm) -> None:
    """From a little off the unstable branch the mean grows with its rate; near a stable one it settles with its own."""
    density = on_line(comm, desai_zwanzig(3.0, 1.0), 200, tolerance=1e-8)
    states = found(density)
    plus, _, middle = states
    for branch, sign in ((middle, 1.0), (plus, -1.0)):
        z = density.domain.coordinates[:, 0]
        density.values = branch.law.values * (1.0 + 1e-3 * np.tanh(z - branch.moments[0]))
        density.values /= density.mass()
        density._mass, density.time = 1.0, 0.0
        times, gaps = [], []

        def observe(branch: Branch = branch, times: list[float] = times, gaps: list[float] = gaps) -> None:
            times.append(density.time)
            gaps.append(abs(float(density.moments()[0, 0] - branch.moments[0])))

        density.advance(6.0, observe)
        assert sign * branch.leading_eigenvalue > 0.0
        assert -decay_rate(times, gaps) == pytest.approx(branch.leading_eigenvalue, rel=1e-2)


# --- Kuramoto -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coupling", "noise", "known"), [(3.0, 1.0, 0.724158717626), (2.5, 0.5, None)])
def test_a_circle_of_states_is_pinned_and_counted_once(
    comm: MPI.Intracomm, coupling: float, noise: float, known: float | None
) -> None:
    """The order parameter r = I₁(Kr/D)/I₀(Kr/D) in the direction of phase 0 from starts of all phases; stable but for its phase.

    The incoherent state grows with K/2 − D.
    """
    exact = order_parameter(coupling / noise)
    assert known is None or exact == pytest.approx(known, abs=1e-10)
    starts = [[0.0, 0.0], *([0.6 * np.cos(a), 0.6 * np.sin(a)] for a in (0.0, 0.4, 1.9, 4.0))]
    states = found(on_circle(comm, kuramoto(coupling, noise)), starts)
    ordered, incoherent = states
    assert ordered.moments == pytest.approx([exact, 0.0], abs=1e-6)
    assert ordered.circles == ("x",) and ordered.starts == (1, 2, 3, 4)
    assert ordered.stable and ordered.leading_eigenvalue < -0.1 * noise
    assert incoherent.moments == pytest.approx([0.0, 0.0], abs=1e-10)
    assert incoherent.circles == () and not incoherent.stable
    assert incoherent.leading_eigenvalue == pytest.approx(coupling / 2 - noise, abs=0.01 * noise)


def test_below_threshold_only_the_incoherent_state_is_left(comm: MPI.Intracomm) -> None:
    states = found(on_circle(comm, kuramoto(1.5, 1.0)))
    (branch,) = states
    assert branch.stable and branch.leading_eigenvalue == pytest.approx(-0.25, abs=0.01)


def test_rates_of_the_ordered_state_by_fourier_series(comm: MPI.Intracomm) -> None:
    """∂_t h = D h'' + Kr(sin x h)' + K(ρ (sin x ⟨cos, h⟩ − cos x ⟨sin, h⟩))' in 41 modes: its first rates, 0 among them."""
    k, d = 3.0, 1.0
    r, n = order_parameter(k / d), np.arange(-20, 21)
    grid = TWO_PI * np.arange(256) / 256
    rho = np.exp(k * r * np.cos(grid) / d)
    rho /= rho.mean() * TWO_PI
    basis = np.exp(1j * np.outer(grid, n))

    def derivative(values: Array) -> Array:
        return np.fft.ifft(1j * np.fft.fftfreq(256, 1 / 256)[:, None] * np.fft.fft(values, axis=0), axis=0)

    def mean(f: Array) -> Array:
        return (f @ basis) * TWO_PI / 256

    pull = np.outer(rho * np.sin(grid), mean(np.cos(grid))) - np.outer(rho * np.cos(grid), mean(np.sin(grid)))
    image = d * derivative(derivative(basis)) + derivative(k * r * np.sin(grid)[:, None] * basis) + k * derivative(pull)
    exact = np.sort(-np.linalg.eigvals(basis.conj().T @ image / 256).real)
    density = on_circle(comm, kuramoto(k, d), 400)
    states = found(density, [[0.5, 0.0]])
    (branch, *_) = states
    eigenvalues = spectrum(density, 4, branch.law).eigenvalues.real
    assert np.allclose(eigenvalues[:2], [0.0, exact[2]], atol=1e-3)  # exact[:2]: the mass and the phase
    assert branch.leading_eigenvalue == pytest.approx(-exact[2], rel=1e-2)
    assert np.allclose(eigenvalues[2:], exact[3:5], rtol=1e-2)


def test_two_circles(comm: MPI.Intracomm) -> None:
    """On a torus with both symmetries each is pinned, and each state that breaks one of them is found."""
    model = gradient_flow(
        ["x", "y"],
        features=["cos(x)", "sin(x)", "cos(y)", "sin(y)"],
        outer_energy="-1.5*(m0**2 + m1**2) - 2*(m2**2 + m3**2)",
        temperature=1.0,
        periods={"x": TWO_PI, "y": TWO_PI},
    )
    grid = box([0.0, 0.0], [TWO_PI, TWO_PI], [24, 24], [True, True], comm=comm)
    density = Density(model, grid, Product((Uniform(0.0, TWO_PI, periodic=True),) * 2))
    starts = [[0.3, 0.4, 0.1, -0.5], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, -0.5, 0.0], [0.0] * 4, [-0.5, 0.1, 0.5, 0.3]]
    states = found(density, starts)
    both, *rest = states
    a, b = order_parameter(3.0), order_parameter(4.0)
    assert both.moments == pytest.approx([a, 0.0, b, 0.0], abs=1e-6)
    assert both.circles == ("x", "y") and both.stable and both.starts == (0, 4)
    assert sorted(branch.circles for branch in rest) == [(), ("x",), ("y",)]
    assert not any(branch.stable for branch in rest)


# --- without a potential --------------------------------------------------------------------------------------------------------


def test_rotating_oscillators(comm: MPI.Intracomm) -> None:
    """ω + K(m₁cos x − m₀sin x): the incoherent state grows with K/2 − D and turns with ω; no other law is stationary."""
    model = diffusion(
        ["x"],
        drift=["omega + K*(m1*cos(x) - m0*sin(x))"],
        temperature=1.0,
        features=["cos(x)", "sin(x)"],
        periods={"x": TWO_PI},
        parameters={"omega": 1.5, "K": 3.0},
    )
    states = found(on_circle(comm, model, 128), [[0.0, 0.0], [0.3, 0.1]])
    (branch,) = states
    assert branch.free_energy is None and not branch.stable
    assert (branch.leading_eigenvalue, branch.frequency) == pytest.approx((0.5, 1.5), abs=0.01)


def test_a_pair_interaction_that_is_not_symmetric(comm: MPI.Intracomm) -> None:
    """W = −K cos(x − x' + α): growth (K cos α)/2 − D, frequency (K sin α)/2, as a drift of finite rank."""
    model = pair_interaction(
        ["x"],
        interaction="-K*cos(x - x' + alpha)",
        lower=[0.0],
        upper=[6.0],
        temperature=1.0,
        periods={"x": TWO_PI},
        parameters={"K": 3.0, "alpha": 0.4},
    )
    assert not model.gradient_flow and model.facts["interaction_rank"] == 2
    states = found(on_circle(comm, model, 128), [[0.0, 0.0]])
    (branch,) = states
    expected = (1.5 * np.cos(0.4) - 1.0, 1.5 * np.sin(0.4))
    assert (branch.leading_eigenvalue, branch.frequency) == pytest.approx(expected, abs=0.01)


def test_linear_rotation_in_the_plane(comm: MPI.Intracomm) -> None:
    """b = −Mz − k(z − ⟨z⟩): (M + k)Σ + Σ(M + k)ᵀ = 2A, and the mean returns with the eigenvalues of M."""
    m, a, k = np.array([[1.0, 2.0], [-2.0, 1.0]]), np.diag([1.0, 0.25]), 1.0
    model = diffusion(
        ["x", "y"],
        drift=["-x - 2*y - k*(x - m0)", "2*x - y - k*(y - m1)"],
        diffusion=[["1", "0"], ["0", "1/4"]],
        features=["x", "y"],
        parameters={"k": k},
    )
    grid, law = box([-3.5, -3.0], [3.5, 3.0], [32, 32], comm=comm), Product((Normal(0.5, 0.5), Normal(0.0, 0.5)))
    states = found(Density(model, grid, law), [[0.4, -0.3]])
    (branch,) = states
    full = m + k * np.eye(2)
    exact = np.linalg.solve(np.kron(full, np.eye(2)) + np.kron(np.eye(2), full), 2.0 * a.ravel()).reshape(2, 2)
    assert np.allclose(branch.law.covariance, exact, rtol=1e-3, atol=1e-4)
    assert np.allclose(branch.moments, 0.0, atol=1e-8) and branch.stable
    assert (branch.leading_eigenvalue, branch.frequency) == pytest.approx((-1.0, 2.0), rel=1e-3)


# --- the linearisation ----------------------------------------------------------------------------------------------------------


def rate_of(density: Density, values: Array) -> Array:
    """dρ/dt of the whole discrete equation at owned nodes."""
    domain, graph = density.domain, density.domain.graph
    gibbs = is_gibbs(density)
    at = (edge_averaged(domain, density.features, density.model.temperature)) if gibbs else None
    inward, outward = np.empty(len(graph.columns)), np.empty(len(graph.columns))
    moments = density.features.moments(graph.lumped * values[: domain.owned])
    (at or galerkin(domain, density.features, density.model))(moments, inward, outward)
    result = np.empty(domain.owned)
    rate(graph.offsets, graph.columns, graph.lumped, inward, outward, values, result)
    return result


@pytest.mark.serial
@pytest.mark.parametrize("scheme", ["edge_averaged", "galerkin"])
@pytest.mark.parametrize("middle", [True, False])
def test_the_modes_are_those_of_the_discrete_equation(comm: MPI.Intracomm, scheme: str, middle: bool) -> None:
    """Eigenvalues of differences of dρ/dt, the rank-K change included, against `slow_modes`, on 40 cells."""
    density = on_line(comm, desai_zwanzig(3.0, 1.0), 40, 2.6, scheme=scheme)
    branch = found(density, [[0.0, 0.4]] if middle else [[0.6, 0.6]])[0]
    values, step = branch.law.values, 1e-6
    columns = [
        (rate_of(density, values + step * unit) - rate_of(density, values - step * unit)) / (2.0 * step)
        for unit in np.eye(len(values))
    ]
    exact = np.linalg.eigvals(-np.array(columns).T)
    exact = np.sort(np.delete(exact, np.argmin(np.abs(exact))).real)  # the stationary law itself apart
    equation = linearised(density, branch.law, branch.moments)
    eigenvalues, _ = slow_modes(equation, 5, typical_rate(density, branch.law))
    tolerance = 1e-5 if is_gibbs(density) else 3e-4  # empty nodes at the walls are upwinded in the second
    assert np.allclose(np.sort(eigenvalues.real)[:4], exact[:4], rtol=tolerance)
    assert branch.leading_eigenvalue == pytest.approx(-exact[0], rel=tolerance)


def test_both_schemes_find_the_same_branches(comm: MPI.Intracomm) -> None:
    """The null vector of the Galerkin operator and Newton's steps by linear solves, against Gibbs states."""
    starts = [[0.6, 0.6], [0.0, 0.4]]
    one, other = (
        found(on_line(comm, desai_zwanzig(3.0, 1.0), 200, 3.0, scheme=s), starts) for s in ("edge_averaged", "galerkin")
    )
    for a, b in zip(one, other, strict=True):
        assert np.allclose(a.moments, b.moments, atol=1e-3)
        assert a.leading_eigenvalue == pytest.approx(b.leading_eigenvalue, rel=2e-2)
        assert a.free_energy == pytest.approx(b.free_energy, abs=1e-3)


@pytest.mark.ranks
def test_branches_do_not_depend_on_the_ranks(comm: MPI.Intracomm) -> None:
    together, alone = (found(on_line(c, desai_zwanzig(3.0, 1.0), 120)) for c in (comm, MPI.COMM_SELF))
    for a, b in zip(together, alone, strict=True):
        assert np.allclose(a.moments, b.moments, atol=1e-9) and a.starts == b.starts
        assert a.leading_eigenvalue == pytest.approx(b.leading_eigenvalue, rel=1e-8)


def test_nearest_stable_branch(comm: MPI.Intracomm) -> None:
    three = found(on_line(comm, desai_zwanzig(3.0, 1.0), 200))
    assert nearest_stable(three, np.array([-0.1, 0.4])).moments[0] < 0.0
    assert nearest_stable(three[2:], np.array([-0.1, 0.4])) is three[2]


@pytest.mark.ranks
def test_what_has_no_branches_is_refused(comm: MPI.Intracomm, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = on_line(comm, desai_zwanzig(np.inf, 1.0), 40, scheme="flux_corrected")
    with pytest.raises(ArgumentError, match="temperature"):
        found(cold)
    monkeypatch.setattr(mvpde.equilibrium.newton, "_STEPS", 0)
    nowhere = on_line(comm, desai_zwanzig(3.0, 1.0), 40), [[0.5, 0.5]]
    with pytest.raises(SolverError, match="^no start leads to a stationary law; give other `starts`"):
        found(*nowhere)
    with pytest.raises(SolverError, match=r"^\[stationary\] no start leads"), about("[stationary]"):  # as a case is told
        found(*nowhere)


@pytest.mark.serial
@pytest.mark.filterwarnings("error")
def test_moments_whose_square_is_infinite_lead_nowhere() -> None:
    with pytest.raises(SolverError, match="^no start leads(.|\n)*from .1e.200, 0.0.: the law at these moments is not finite"):
        found(on_line(MPI.COMM_SELF, desai_zwanzig(3.0, 1.0), 40), [[1e200, 0.0]])


# --- through case files ---------------------------------------------------------------------------------------------------------

QUICK = {"output.pictures": False, "output.sliced_wasserstein": False, "time.outputs": 1, "time.end": 0.1}


def test_starts_of_a_case(shared_tmp_path: Path) -> None:
    """Moments and laws as starts; the list of summary.json, and the law that the run is compared with."""
    laws = [{"x": {"law": "normal", "mean": mean, "std": 0.3}} for mean in (0.6, -0.6)]
    summary = mvpde.run(
        CASES / "desai_zwanzig.toml",
        set={**QUICK, "stationary.starts": [*laws, [0.0, 0.5]], "domain.cells": [200]},
        out=shared_tmp_path / "run",
        without=["ensemble"],
    ).summary
    listed = summary["stationary"]["branches"]
    assert [entry["starts"] for entry in listed] == [[0], [1], [2]]
    assert [entry["stable"] for entry in listed] == [True, True, False]
    assert {"moments", "free_energy", "stable", "leading_eigenvalue"} <= listed[0].keys()
    assert summary["stationary"]["mean"] == pytest.approx([listed[0]["moments"][0]], abs=1e-10)
    assert summary["spectrum"]["eigenvalues"][0] == pytest.approx(-listed[0]["leading_eigenvalue"], rel=1e-8)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stationary.starts": [[0.5]]}, r"\[stationary\] starts: entry 0 has 1 numbers, but the model has 2 moments"),
        ({"stationary.starts": [{"y": {"law": "normal", "mean": 0.0, "std": 1.0}}]}, r"\[stationary.starts\[0\]\] y: .* no such"),
        ({"stationary.starts": ["a"]}, "it must be a list in brackets"),
        ({"stationary.starts": []}, "empty"),
    ],
)
def test_wrong_starts(shared_tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        mvpde.run(CASES / "desai_zwanzig.toml", set={**QUICK, **changes}, out=shared_tmp_path / "run")
    with pytest.raises(CaseError, match="no interaction"):
        mvpde.run(CASES / "double_well.toml", set={**QUICK, "stationary.starts": [[1.0]]}, out=shared_tmp_path / "other")
