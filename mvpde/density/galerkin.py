"""The Galerkin operator of a general drift and diffusion tensor on the edge graph.

For ∂_tρ = ∇·(−bρ + ∇·(Aρ)) with b and A ⪰ 0 (full, degenerate, dependent on the state) the group finite-element form
interpolates bρ and Aρ at the nodes, so that (Kρ)_i = Σ_j k_ij ρ_j with

    k_ij = b_j·G_ij − A_j : S_ij,        G_ij = ∫φ_j ∇φ_i,   S_ij = ∫∇φ_i ⊗ ∇φ_j.

Its columns sum to zero because the φ_i sum to one, hence (Kρ)_i = Σ_j (k_ij ρ_j − k_ji ρ_i): edge fluxes like those of the other
schemes. G and S are geometry, integrated once; a step needs nodal values of b and A only. On meshes where each node is the
centre of its patch the means of 1, z and z⊗z obey their exact equations away from the walls. Nothing keeps k_ij ≥ 0: positivity
is the business of discrete upwinding and the limiter (Kuzmin & Turek 2002; Fletcher 1983 for the group form).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.features import NodalFeatures
from mvpde.density.implicit import Coefficients
from mvpde.density.schemes import Options, Steps
from mvpde.density.steps.stiff import implicit_steps
from mvpde.density.walls.drain import drain
from mvpde.mesh.assembly import identified_rows
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError

import ufl  # isort: skip  (after the solver libraries)
from dolfinx import fem

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_ROUNDING = 1e-10  # A may miss symmetry and A ⪰ 0 by this part of its largest entry


@dataclass(frozen=True)
class EdgeGeometry:
    """Integrals of the shape functions of each entry (i, j) of the edge graph (local).

    Attributes:
        inward: G_ij = ∫φ_j∇φ_i, shape (entries, D).
        outward: G_ji = ∫φ_i∇φ_j, shape (entries, D); −G_ij but on edges along a wall.
        stiffness: symmetric part of S_ij = ∫∇φ_i⊗∇φ_j, shape (entries, D, D).
    """

    inward: Array
    outward: Array
    stiffness: Array


def galerkin(domain: Domain, features: NodalFeatures, model: MeanField) -> Coefficients:
    """The coefficients k_ij, k_ji as a function of the moments, and of time where those of the model depend on it. Collective.

    Raises:
        ArgumentError: from the coefficients, on all ranks alike, where A is not a symmetric positive semidefinite D × D matrix at
        each node.
    """
    graph, z, geometry, absorbing = domain.graph, features.places, edge_geometry(domain), drain(domain, features.model)
    check_tensor(domain, model.diffusion(z, features.moments(graph.lumped)))

    def at(moments: Array, inward: Array, outward: Array, time: float = 0.0) -> None:
        present = model.now(time)
        b, a = present.drift(z, moments), present.diffusion(z, moments)
        coefficients(graph.offsets, graph.columns, geometry.inward, geometry.outward, geometry.stiffness, b, a, inward, outward)
        if absorbing is not None:
            absorbing.close(inward, outward)

    return at


def galerkin_steps(domain: Domain, features: NodalFeatures, values: Array, options: Options) -> Steps:
    """The scheme at work, see `mvpde.density.schemes`. Collective."""
    return implicit_steps(
        domain, features, galerkin(domain, features, features.model), name="galerkin", options=options, tensor=True
    )


_KNOWN: dict[int, EdgeGeometry] = {}  # by the domain's id, as long as it lives


def edge_geometry(domain: Domain) -> EdgeGeometry:
    """G_ij, G_ji and S_ij of each entry of the graph, integrated once. Collective."""
    if id(domain) not in _KNOWN:
        _KNOWN[id(domain)] = _side_by_side(domain) if domain.parts else _integrated(domain)
        weakref.finalize(domain, _KNOWN.pop, id(domain), None)
    return _KNOWN[id(domain)]


def _integrated(domain: Domain) -> EdgeGeometry:
    space, dimension = domain.space, domain.dimension
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    p, q = (fem.Constant(space.mesh, np.zeros(dimension)) for _ in range(2))
    along = lambda w, direction: ufl.inner(ufl.grad(w), direction)  # noqa: E731
    unit, entries = np.eye(dimension), len(domain.graph.columns)
    result = EdgeGeometry(
        np.empty((entries, dimension)), np.empty((entries, dimension)), np.empty((entries, dimension, dimension))
    )
    into, out = (fem.form(w * along(other, p) * ufl.dx) for w, other in ((u, v), (v, u)))
    stiffness = fem.form(0.5 * (along(u, p) * along(v, q) + along(u, q) * along(v, p)) * ufl.dx)
    for k in range(dimension):  # forms stay, directions change
        p.value[:] = unit[k]
        result.inward[:, k] = _entries(domain, into)
        result.outward[:, k] = _entries(domain, out)
        for other in range(k + 1):
            q.value[:] = unit[other]
            both = _entries(domain, stiffness)
            result.stiffness[:, k, other] = result.stiffness[:, other, k] = both
    return result


def _side_by_side(union: Domain) -> EdgeGeometry:
    """That of a union of meshes of one dimension: theirs, each times its weight."""
    pieces = []
    for part in union.parts:
        geometry = edge_geometry(part.domain)
        pieces.append([part.weight * array for array in (geometry.inward, geometry.outward, geometry.stiffness)])
    return EdgeGeometry(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))


def gradient(domain: Domain, geometry: EdgeGeometry, values: Array) -> Array:
    """∇h at owned nodes, shape (owned, D): the lumped projection (1/m_i)∫φ_i∇h of nodal values h (owned + ghosts)."""
    graph = domain.graph
    row = graph.rows()
    rise = values[graph.columns] - values[row]
    sums = [np.bincount(row, weights=rise * geometry.outward[:, k], minlength=domain.owned) for k in range(domain.dimension)]
    return np.column_stack(sums) / graph.lumped[:, None]


@njit(cache=True)
def coefficients(
    offsets: Integers,
    columns: Integers,
    into: Array,
    out: Array,
    stiffness: Array,
    b: Array,
    a: Array,
    inward: Array,
    outward: Array,
) -> None:
    """For each entry (i, j): ``inward`` k_ij = b_j·G_ij − A_j:S_ij and ``outward`` k_ji = b_i·G_ji − A_i:S_ij."""
    dimension = into.shape[1]
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            from_j = 0.0
            from_i = 0.0
            for k in range(dimension):
                from_j += b[j, k] * into[e, k]
                from_i += b[i, k] * out[e, k]
                for c in range(dimension):
                    from_j -= a[j, k, c] * stiffness[e, k, c]
                    from_i -= a[i, k, c] * stiffness[e, k, c]
            inward[e] = from_j
            outward[e] = from_i


def _entries(domain: Domain, integrand: fem.Form) -> Array:
    """Off-diagonal values of a bilinear form's matrix, in the order of the graph."""
    offsets, columns, values = identified_rows(integrand, domain.space, domain.numbers, domain.owned)
    row = np.repeat(np.arange(domain.first, domain.first + domain.owned), np.diff(offsets))
    return values[columns != row]


def check_tensor(domain: Domain, a: Array) -> None:
    """Refuse what is no diffusion tensor, on all ranks together."""
    number, count = domain.coordinates.shape
    expected = (number, count, count)
    if a.shape != expected:
        raise ArgumentError("diffusion", f"A has the shape {a.shape[1:]}; {expected[1:]} is needed, one row per coordinate")
    faults = np.abs(a - a.swapaxes(1, 2)).max(initial=0.0), -np.linalg.eigvalsh(a).min(initial=0.0), np.abs(a).max(initial=0.0)
    skew, negative, scale = (domain.extremes(np.array([value]))[1] for value in faults)
    if not np.isfinite(scale):
        raise ArgumentError(
            "diffusion", "A is not a finite number at some node of the mesh; check the expression or make the domain smaller"
        )
    if skew > _ROUNDING * scale:
        raise ArgumentError(
            "diffusion", f"A is not symmetric (entries differ by {skew:.3g}); only its symmetric part diffuses: give that"
        )
    if negative > _ROUNDING * scale:
        raise ArgumentError(
            "diffusion", f"A has the negative eigenvalue {-negative:.3g}; a diffusion tensor must be positive semidefinite"
        )
