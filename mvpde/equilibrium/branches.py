"""Stationary branches of interacting models: fixed points in the space of moments, their free energy and linear stability.

A law is stationary if it is stationary at its own moments: m = ∫g dρ_m, with ρ_m ∝ exp(−V(·; m)/τ) for a gradient flow and the
null vector of the operator at moments m otherwise. That is a problem in R^K, solved by Newton's method in the r ≤ K directions
that the features really have,

    F(m) = m − ∫g dρ_m = 0,        ∂F = I + τ⁻¹ Cov_{ρ_m}(g, g) R''(m),

the derivative of ρ_m coming from a linear solve where there is no Gibbs state. A branch is stable if all growth rates of the
linearised equation (`mvpde.equilibrium.linearised`) are negative. Where the model has the symmetry of translations along a
periodic
coordinate and a branch has not, a circle of states is stationary: the one of phase 0 stands for them all, and the growth
rate 0 of motion along the circle does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.density.features import free_energy
from mvpde.density.starts.projection import of_moving, project
from mvpde.equilibrium.circles import along_circles, circles, moved_moments, same, shift_to_phase_zero
from mvpde.equilibrium.linearised import (
    feature_covariance,
    feature_rows,
    linearised,
    operator_changes,
    second_derivative,
    slow_modes,
)
from mvpde.equilibrium.spectrum import solved, typical_rate
from mvpde.equilibrium.stationary import SOLVED, Balance, Stationary, balance, is_gibbs, long_system, require_density, stationary
from mvpde.mesh.domain import Domain
from mvpde.mesh.failures import as_solver_error
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.models.laws import Law, on_circles
from mvpde.models.laws.product import has_density
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError, SolverError

Array = NDArray[np.float64]
Start = Array | Sequence[float] | Law

_STEPS = 60  # of Newton's method
_HALVINGS = 10
_MET = 1e-12  # residual that ends it, relative to the moments
_ACCEPTED = 1e-8  # residual of a fixed point where rounding or the mesh's broken symmetry leave no better one
_RANK = 1e-8  # singular values of ∂F below this part of the largest: along a circle of states


@dataclass(frozen=True)
class Branch:
    """A stationary law of an interacting model.

    Attributes:
        moments: m, shape (K,), of the state of phase 0 where there is a circle of them.
        free_energy: 𝓕, None where there is none.
        leading_eigenvalue: the largest growth rate (real part), motion along a circle of states left out; NaN where the search
            for it failed.
        frequency: its imaginary part, ≥ 0.
        stable: whether the leading eigenvalue is negative; None where it is zero but for rounding, or but for its error where
            that is known (`mvpde.equilibrium.accuracy`), or not known.
        circles: coordinates along which its translates are stationary too, and different.
        residual: |m − ∫g dρ_m|.
        starts: places in the list of starts that led here.
        law: the law itself.
    """

    moments: Array
    free_energy: float | None
    leading_eigenvalue: float
    frequency: float
    stable: bool | None
    circles: tuple[str, ...]
    residual: float
    starts: tuple[int, ...]
    law: Stationary

    def entry(self) -> dict[str, Any]:
        """What `summary.json` says of it."""
        return {
            "moments": self.moments.tolist(),
            "free_energy": self.free_energy,
            "stable": self.stable,
            "leading_eigenvalue": None if math.isnan(self.leading_eigenvalue) else self.leading_eigenvalue,
            "frequency": None if math.isnan(self.frequency) else self.frequency,
            "circles": list(self.circles),
            "mean": self.law.mean.tolist(),
            "residual": self.residual,
            "starts": list(self.starts),
        }


def branches(density: Density, starts: Sequence[Start] | None = None) -> list[Branch]:
    """All stationary laws that Newton's method reaches from ``starts``, by rising free energy. Collective.

    Args:
        density: model, mesh and scheme; its present state does not matter where ``starts`` are given.
        starts: moments, shape (K,) each, or laws; None: the present law, the flat one, and points spread over the domain.

    Raises:
        ArgumentError: temperature 0, or starts that are neither moments of the model nor laws of its coordinates.
        SolverError: no start leads to a stationary law. On all ranks alike.
    """
    return search(density, moments_to_begin_from(density, starts)).found


def moments_to_begin_from(density: Density, starts: Sequence[Start] | None) -> list[Array]:
    """The moments of the ``starts`` of `branches`. Collective.

    Raises:
        ArgumentError: as there.
    """
    require_density(density)
    if starts is not None and len(starts) == 0:
        raise ArgumentError("starts", "the list is empty; give moments or laws to begin from, or leave it out")
    return default_starts(density) if starts is None else [_moments_of(density, k, start) for k, start in enumerate(starts)]


@dataclass(frozen=True)
class Search:
    """What a search for stationary laws found, and what it did not.

    Attributes:
        found: the laws, by rising free energy.
        lost: for each start that leads to no law, why.
        unjudged: for each law whose growth rates were not found, why.
    """

    found: list[Branch]
    lost: list[SolverError]
    unjudged: list[SolverError]


def search(density: Density, starts: Sequence[Array], *, checked: bool = True) -> Search:
    """What `branches` finds from these moments, shape (K,) each; ``checked``: see `stationary`. Collective.

    Raises:
        SolverError: no start leads to a stationary law. On all ranks alike.
    """
    fixed_points: list[_Fixed] = []
    lost: list[SolverError] = []
    unjudged: list[SolverError] = []
    for number, start in enumerate(starts):
        try:
            with as_solver_error("Newton's method", "stationary"):
                fixed = _newton(density, start)
                axes = circles(density, fixed.law.values, fixed.moments)
                fixed = replace(_pinned(density, fixed, axes), circles=axes, starts=(number,))
        except SolverError as error:
            lost.append(SolverError(f"from {np.round(start, 6).tolist()[:8]}: {error}", "stationary"))
            continue
        twins = [k for k, other in enumerate(fixed_points) if same(fixed.moments, other.moments)]
        if twins:
            fixed_points[twins[0]] = replace(fixed_points[twins[0]], starts=(*fixed_points[twins[0]].starts, number))
        else:
            fixed_points.append(fixed)
    if not fixed_points:
        text = "\n".join(["no start leads to a stationary law; give other `starts`", *map(str, lost)])
        raise SolverError(text, "stationary")
    laws = [_branch(density, fixed, unjudged, checked) for fixed in fixed_points]
    return Search(sorted(laws, key=_place), lost, unjudged)


def _place(branch: Branch) -> tuple[float, list[float]]:
    """Free energy first, up to what rounding makes of states that a symmetry relates; of these the largest moments first."""
    return round(branch.free_energy or 0.0, 8), (-np.round(branch.moments, 5)).tolist()


def default_starts(density: Density) -> list[Array]:
    """Moments of the present law, of the flat law on the domain, and of points spread over it. Collective.

    Where there are no Gibbs states each step of the search takes linear solves, and the points are left out.
    """
    domain, model = density.domain, density.model
    flat = density.features.moments(domain.graph.lumped / domain.sum(np.array([domain.graph.lumped.sum()]))[0])
    if not is_gibbs(density):
        return [density.moments()[0], flat]
    count = {1: 5, 2: 3}.get(domain.dimension, 2)
    axes = [a + (b - a) * (np.arange(count) + 0.5) / count for a, b in zip(domain.lower, domain.upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, domain.dimension)
    return [density.moments()[0], flat, *_at_points(model, domain, points)]


def _at_points(model: MeanField, domain: Domain, points: Array) -> Array:
    """Moments of the laws at single points of the mesh, shape (n, K), with the marginal of the labels where there are any."""
    pieces = [model.feature_values(np.column_stack([points, np.tile(label, (len(points), 1))])) for label in domain.labels]
    return np.asarray(np.tensordot(domain.weights / domain.weights.sum(), np.array(pieces), axes=1))


def _moments_of(density: Density, number: int, start: Start) -> Array:
    """Moments as they are, and those of a law on the mesh. Collective."""
    domain, model = density.domain, density.model
    if isinstance(start, np.ndarray | Sequence | float | int):
        moments = np.asarray(start, float)
        if moments.shape != (model.features,) or not np.isfinite(moments).all():
            wanted = f"{model.features} finite numbers, one for each moment, or a law of {', '.join(model.coordinates)}"
            raise ArgumentError("starts", f"entry {number} must be {wanted}; it is {moments.tolist()}")
        return moments
    if start.dimension != model.dimension:
        names = ", ".join(model.coordinates)
        raise ArgumentError("starts", f"entry {number} is a law of {start.dimension} coordinates, but the model has {names}")
    start = on_circles(start, model.periods)
    if not has_density(start):
        values, _ = project(domain, model, start)
        return density.features.moments(values[: domain.owned] * domain.graph.lumped)
    loads = integrate_against_basis(domain, of_moving(start, domain).density)
    return density.features.moments(loads / domain.sum(np.array([loads.sum()]))[0])


def nearest_stable(known: Sequence[Branch], moments: Array) -> Branch:
    """The stable branch with the moments nearest to ``moments``; the one of lowest free energy if none is stable."""
    stable = [branch for branch in known if branch.stable]
    return min(stable, key=lambda b: float(np.linalg.norm(b.moments - moments))) if stable else known[0]


# --- fixed points ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fixed:
    """A fixed point: its moments, its law, and what `Branch` says of it."""

    moments: Array
    law: Balance
    residual: float
    circles: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()


def _newton(density: Density, start: Array) -> _Fixed:
    """Newton's method with halved steps where |F| does not fall, and a step of the plain iteration where none does."""
    right = density.features.right
    mu = right.T @ start
    law = balance(density, right @ mu)
    residual = mu - _reduced_moments(density, law)
    for _ in range(_STEPS):
        if not math.isfinite(_size(residual) + _size(mu)):
            raise SolverError("the law at these moments is not finite")
        if _size(residual) <= _MET * (1.0 + _size(mu)):
            break
        slope = np.eye(len(mu)) - _response(density, law, right @ mu)
        direction = np.linalg.lstsq(slope, -residual, rcond=_RANK)[0]
        tried = _line_search(density, mu, law, residual, direction)
        if tried is None:
            if _size(residual) <= _ACCEPTED * (1.0 + _size(mu)):
                break
            mu = mu - residual
            law = balance(density, right @ mu, law)
            tried = mu, law, mu - _reduced_moments(density, law)
        mu, law, residual = tried
    size = _size(residual)
    if math.isinf(size) or not size <= _ACCEPTED * (1.0 + _size(mu)):
        raise SolverError(f"Newton's method stopped at a residual of {size:.1e} after {_STEPS} steps")
    return _Fixed(right @ mu, law, size)


def _size(vector: Array) -> float:
    """|v|; infinite where its square is, as for moments of 1e200."""
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(vector))


def _line_search(
    density: Density, mu: Array, law: Balance, residual: Array, direction: Array
) -> tuple[Array, Balance, Array] | None:
    """The longest of the steps direction/2^k that lowers |F|."""
    for k in range(_HALVINGS):
        trial = mu + 0.5**k * direction
        try:
            new = balance(density, density.features.right @ trial, law)
        except SolverError:
            continue
        rest = trial - _reduced_moments(density, new)
        if _size(rest) < (1.0 - 0.1 * 0.5**k) * _size(residual):
            return trial, new, rest
    return None


def _reduced_moments(density: Density, law: Balance) -> Array:
    domain = density.domain
    return density.features.right.T @ density.features.moments(domain.graph.lumped * law.values[: domain.owned])


def _response(density: Density, law: Balance, moments: Array) -> Array:
    """∂(∫g dρ_m)/∂m in the singular directions, shape (r, r)."""
    domain, owned = density.domain, density.domain.owned
    if is_gibbs(density):
        covariance = feature_covariance(density, law.values)
        return -covariance @ second_derivative(density, moments) / density.model.temperature
    system, factor = long_system(domain, law)
    lumped, columns = domain.graph.lumped, operator_changes(density, law, moments)
    rows = feature_rows(density)[:owned]
    result = np.empty((rows.shape[1], rows.shape[1]))
    for k, column in enumerate(columns.T):
        change = system.solve(factor * lumped * column, np.zeros(owned), SOLVED)
        change -= domain.spread(domain.part_masses(change) / domain.weights, change) * law.values[:owned]  # of mass zero
        result[:, k] = domain.sum((lumped * change) @ rows)
    return result


def _pinned(density: Density, fixed: _Fixed, axes: Sequence[int]) -> _Fixed:
    """The state of phase 0 on its circles."""
    for axis in axes:
        shift = shift_to_phase_zero(density, fixed.law.values, axis)
        fixed = _newton(density, moved_moments(density, fixed.law.values, axis, shift))
    return fixed


# --- stability ------------------------------------------------------------------------------------------------------------------


def _branch(density: Density, fixed: _Fixed, unjudged: list[SolverError], checked: bool) -> Branch:
    law = stationary(density, fixed.moments, checked=checked)
    try:
        eigenvalue = _leading(density, law, fixed.circles)
    except SolverError as error:
        place = np.round(fixed.moments, 6).tolist()[:8]
        unjudged.append(SolverError(f"the growth rates at the moments {place}: {error}", "stationary"))
        eigenvalue = complex(math.nan, math.nan)
    owned = law.values[: density.domain.owned]
    return Branch(
        moments=fixed.moments,
        free_energy=free_energy(density.domain, density.features, owned) if density.model.gradient_flow else None,
        leading_eigenvalue=-eigenvalue.real,
        frequency=abs(eigenvalue.imag),
        stable=bool(eigenvalue.real > 0.0) if abs(eigenvalue.real) > solved(density, law) else None,
        circles=tuple(density.model.coordinates[axis] for axis in fixed.circles),
        residual=fixed.residual,
        starts=fixed.starts,
        law=law,
    )


def _leading(density: Density, law: Stationary, axes: Sequence[int]) -> complex:
    """λ of least real part, the modes −∂_aρ of the circles left out."""
    rate = typical_rate(density, law)
    equation = linearised(density, law, law.moments)
    values, modes = slow_modes(equation, 6 + 2 * len(axes), rate)
    others = np.delete(values, along_circles(density, law, equation, axes, values, modes, rate))
    return complex(min(others, key=lambda value: value.real))
