"""Stationary branches of interacting models: fixed points in the space of moments, their free energy and linear stability.

A law is stationary if it is stationary at its own moments: m = ∫g dρ_m, with ρ_m ∝ exp(−V(·; m)/τ) for a gradient flow and the
null vector of the operator at moments m otherwise. That is a problem in R^K, solved by Newton's method in the r ≤ K directions
that the features really have,

    F(m) = m − ∫g dρ_m = 0,        ∂F = I + τ⁻¹ Cov_{ρ_m}(g, g) R''(m),

the derivative of ρ_m coming from a linear solve where there is no Gibbs state. A branch is stable if all growth rates of the
linearised equation (`mvpde.equilibrium.linearised`) are negative. Where the model has a symmetry, of translations or rotations,
and a branch has not, a circle or line of laws is stationary: one stands for them all, and the growth rate 0 of motion among them
does not count (`mvpde.equilibrium.symmetries`).
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
from mvpde.equilibrium.linearised import linearised, slow_modes
from mvpde.equilibrium.newton import Fixed, settled_at
from mvpde.equilibrium.spectrum import solved, typical_rate
from mvpde.equilibrium.stationary import Stationary, is_gibbs, require_density, stationary
from mvpde.equilibrium.symmetries import CIRCLE, LINE, ROTATION, SAME, Symmetry, freedom, neutral_modes, place_of, same
from mvpde.equilibrium.truncation import interaction_error
from mvpde.mesh.domain import Domain
from mvpde.mesh.failures import as_solver_error
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.models.laws import Law, on_circles
from mvpde.models.laws.product import has_density
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError, SolverError

Array = NDArray[np.float64]
Start = Array | Sequence[float] | Law

_ERRORS = 10.0  # times a compressed interaction's error, by which the moments of one law may differ


@dataclass(frozen=True)
class Branch:
    """A stationary law of an interacting model.

    Attributes:
        moments: m, shape (K,), of the one that stands for a circle or a line of them.
        free_energy: 𝓕, None where there is none.
        leading_eigenvalue: the largest growth rate (real part), motion among states that a symmetry relates left out; NaN
            where the search for it failed.
        frequency: its imaginary part, ≥ 0.
        stable: whether the leading eigenvalue is negative; None where it is zero but for rounding, or but for its error where
            that is known (`mvpde.equilibrium.accuracy`), or not known.
        circles: periodic coordinates along which its translates are stationary too, and different.
        lines: the same of coordinates without a period.
        rotation: the coordinates of the plane in which its rotations are, or none.
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
    lines: tuple[str, ...]
    rotation: tuple[str, ...]
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
            "lines": list(self.lines),
            "rotation": list(self.rotation),
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


def search(density: Density, starts: Sequence[Array], like: Stationary | None = None, *, checked: bool = True) -> Search:
    """What `branches` finds from these moments, shape (K,) each; ``checked``: see `stationary`. Collective.

    ``like``: the law to whose place those on lines are brought; None: the present law of the density.

    Raises:
        SolverError: no start leads to a stationary law. On all ranks alike.
    """
    free = freedom(density)
    there = (density.domain, density.values) if like is None else (like.domain, like.values)
    place = place_of(*there, free.motions)
    fixed_points: list[Fixed] = []
    lost: list[SolverError] = []
    unjudged: list[SolverError] = []
    for number, start in enumerate(starts):
        try:
            with as_solver_error("Newton's method", "stationary"):
                fixed = replace(settled_at(density, start, free, place), starts=(number,))
        except SolverError as error:
            lost.append(SolverError(f"from {np.round(start, 6).tolist()[:8]}: {error}", "stationary"))
            continue
        tolerance = max(SAME, _ERRORS * (interaction_error(density, fixed.law) or 0.0))
        twins = [k for k, other in enumerate(fixed_points) if same(fixed.moments, other.moments, tolerance)]
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


# --- stability ------------------------------------------------------------------------------------------------------------------


def _branch(density: Density, fixed: Fixed, unjudged: list[SolverError], checked: bool) -> Branch:
    law = stationary(density, fixed.moments, checked=checked)
    try:
        eigenvalue = _leading(density, law, fixed.motions)
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
        circles=_names(density, fixed, CIRCLE),
        lines=_names(density, fixed, LINE),
        rotation=_names(density, fixed, ROTATION),
        residual=fixed.residual,
        starts=fixed.starts,
        law=law,
    )


def _names(density: Density, fixed: Fixed, kind: str) -> tuple[str, ...]:
    return tuple(density.model.coordinates[axis] for motion in fixed.motions if motion.kind == kind for axis in motion.axes)


def _leading(density: Density, law: Stationary, motions: Sequence[Symmetry]) -> complex:
    """λ of least real part, the modes of the motions left out."""
    rate = typical_rate(density, law)
    equation = linearised(density, law, law.moments)
    values, modes = slow_modes(equation, 6 + 2 * len(motions), rate)
    others = np.delete(values, neutral_modes(density, law, equation, motions, values, modes, rate))
    return complex(min(others, key=lambda value: value.real))
