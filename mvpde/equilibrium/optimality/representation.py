"""Whether a network's units can represent its target at all: the minimum of the convex quadratic in the signed density γ.

The loss of a shallow network sees its law only through γ = ∫cρ dc, as a quadratic,

    ℓ(γ) = C_f − ∫F dγ + ½∬K dγ dγ = ½‖f* − ∫φ(·, y)γ(dy)‖²_{L²(μ)},

whose infimum is half the squared distance of f* to the closure of the span of the units φ(·, y), y ∈ D: zero for every f* if
the unit is discriminating (Cybenko, Math. Control Signals Systems 2 (1989) 303; Rotskoff & Vanden-Eijnden, arXiv:1805.00915).
With P data points that span is the range of M = ∫φφᵀ dy, a P × P matrix: f* loses its part in the eigenvectors of M whose
eigenvalues are zero. No training can do better than this floor, and f_t → f* is possible only where it is zero.

The eigenvalues are squares of the singular values of the features at the nodes, which are found by orthogonal
factors, so that an eigenvalue is told from zero down to 1e-26 of the largest, and not only to 1e-16. f* is looked for in the
span of those that remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.density.features import NodalFeatures
from mvpde.models.losses import quadratic_part
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError

Array = NDArray[np.float64]

REACHED = 1e-10  # unreachable part of ‖f*‖² that is left by rounding: 1e-5 of f*
_SINGULAR = 1e-10  # of the largest: eigenvalues of R'' that are zero, as where two moments carry the same
_GENERIC = 8  # directions in which a loss is seen to be quadratic
_ROWS = 4096  # of the features in work at once
_THRESHOLDS = tuple(10.0**-k for k in range(2, 27, 2))


@dataclass(frozen=True)
class Representation:
    """What of the target f* the units on a domain can represent; norms are those of L²(μ).

    Attributes:
        verdict: whether all of it, to rounding.
        distance: ‖f* − Pf*‖, P the projection on the span of the units.
        unreachable: ‖f* − Pf*‖²/‖f*‖², the part in eigenvectors of M with eigenvalue zero.
        loss_floor: ½‖f* − Pf*‖², below which no loss can fall.
        rank: number of eigenvalues of M that are not zero to rounding.
        eigenvalues: of M over the volume of the domain, in falling order, shape (rank,).
        thresholds: parts of the largest eigenvalue.
        share_below: the share of ‖f*‖² in eigenvectors with eigenvalues below each of them, the unreachable part included: what
            is learned slowly, if at all.
    """

    verdict: bool
    distance: float
    unreachable: float
    loss_floor: float
    rank: int
    eigenvalues: list[float]
    thresholds: list[float]
    share_below: list[float]


def no_representation(model: MeanField) -> str | None:
    """Why the question makes no sense for ``model``; None where it does."""
    if not (model.gradient_flow and model.data is not None and (model.output_weight or model.metric is not None)):
        return "the model is no network with an output weight and a data set"
    count = model.features
    directions = np.random.default_rng(0).standard_normal((count, min(count, _GENERIC)))
    if not model.convex or quadratic_part(model.outer_gradient, directions) is None:
        return "its loss is not the square of a distance to the target"
    return None


def representation(density: Density) -> Representation:
    """What the units with y on the mesh of ``density`` can represent of the target. Collective.

    The present state of the density does not matter.

    Raises:
        ArgumentError: a model without output weight or data, or with another loss than least squares.
    """
    reason = no_representation(density.model)
    if reason is not None:
        raise ArgumentError("density", f"has no target to represent: {reason}")
    return represented(density.features, density.domain.graph.lumped)


def represented(features: NodalFeatures, weights: Array) -> Representation:
    """The same for units at any points, with positive ``weights`` of the first of them (owned ones), local. Collective."""
    model, basis = features.model, features.right
    second = quadratic_part(model.outer_gradient, basis)
    assert second is not None
    values, vectors = np.linalg.eigh(second)
    kept = values > _SINGULAR * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    slope = model.outer_gradient(np.zeros(len(basis))) @ basis
    # With m = basis·vectors·a/√values the loss is R(0) + (slope, a) + ½|a|²: a = −slope is the best, and |a|² its part of ‖f*‖².
    best = -(slope @ vectors) / np.sqrt(values)
    floor = float(model.outer_energy(basis @ (vectors @ (best / np.sqrt(values)))))
    whole = float(model.outer_energy(np.zeros(len(basis))))
    singular, axes = _axes(features, weights, vectors * np.sqrt(values))
    share = (axes @ best) ** 2 / (2.0 * whole or 1.0)
    unreachable = max(0.0, floor) / (whole or 1.0)
    below = [unreachable + float(share[singular**2 < part * singular[0] ** 2].sum()) for part in _THRESHOLDS]
    return Representation(
        verdict=unreachable <= REACHED,
        distance=float(np.sqrt(2.0 * max(0.0, floor))),
        unreachable=unreachable,
        loss_floor=max(0.0, floor),
        rank=len(values),
        eigenvalues=(singular**2).tolist(),
        thresholds=list(_THRESHOLDS),
        share_below=below,
    )


def _axes(features: NodalFeatures, weights: Array, root: Array) -> tuple[Array, Array]:
    """Singular values and right vectors (rows) of the features times ``root``, each node with its share of the volume.

    Nodes with the same y are one row, on each rank; triangular factors of all ranks are stacked, as in `nodal_features`.
    """
    comm = features.comm
    volumes = np.bincount(features.place[: len(weights)], weights=weights, minlength=len(features.left))
    scale, triangle = np.sqrt(volumes / comm.allreduce(float(volumes.sum()))), np.zeros((0, root.shape[1]))
    for start in range(0, len(scale), _ROWS):
        block = scale[start : start + _ROWS, None] * (features.left[start : start + _ROWS] @ root)
        triangle = np.linalg.qr(np.vstack([triangle, block]), mode="r")
    _, singular, axes = np.linalg.svd(np.vstack(comm.allgather(triangle)), full_matrices=False)
    return comm.bcast((singular, axes))
