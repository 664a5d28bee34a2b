"""Linear drifts with any diffusion tensor, whose laws are Gaussian; boxes around them and distances from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from at_hand.models import free
from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import Array, MeanField
from mvpde.runtime import MPI

# M and A of dz = −Mz dt + √(2A)dB, and the solution of MΣ + ΣMᵀ = 2A
OSCILLATING = ([[1.0, 2.0], [-2.0, 1.0]], [[1.0, 0.0], [0.0, 0.25]], [[0.7, 0.15], [0.15, 0.55]])

CROSSED = ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.9], [0.9, 1.0]], [[1.0, 0.36], [0.36, 0.25]])

DEGENERATE = ([[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.75, -0.25], [-0.25, 0.25]])

PAIRS = {"oscillating": OSCILLATING, "crossed": CROSSED, "degenerate": DEGENERATE}


def general(dimension: int, drift: Callable[[Array], Array], diffusion: Callable[[Array], Array]) -> MeanField:
    """A model without interaction: ∂_tρ = ∇·(−bρ + ∇·(Aρ))."""
    return replace(
        free(dimension, 0.0, lambda z: 0.0 * z[:, 0]),
        own_drift=lambda z, m: drift(z),
        own_diffusion=lambda z, m: diffusion(z),
        interacting=False,
    )


def ornstein_uhlenbeck(m: object, a: object) -> MeanField:
    matrix, tensor = np.array(m, float), np.array(a, float)
    return general(len(matrix), lambda z: -z @ matrix.T, lambda z: np.broadcast_to(tensor, (len(z), *tensor.shape)))


def around(comm: MPI.Intracomm, covariance: object, cells: int, widths: float = 6.0) -> Domain:
    """A box of ``widths`` standard deviations to each side."""
    half = widths * np.sqrt(np.diag(np.array(covariance)))
    return box(list(-half), list(half), [cells] * len(half), comm=comm)


def gaussian(mean: Array, covariance: Array) -> Callable[[Array], Array]:
    inverse, scale = np.linalg.inv(covariance), np.sqrt(np.linalg.det(2.0 * np.pi * covariance))
    return lambda z: np.exp(-0.5 * np.einsum("ni,ij,nj->n", z - mean, inverse, z - mean)) / scale


def l1(domain: Domain, values: Array, exact: Callable[[Array], Array]) -> float:
    gap = np.abs(values[: domain.owned] - exact(domain.coordinates[: domain.owned]))
    return float(domain.sum(np.array(domain.graph.lumped @ gap)))


def sheared(comm: MPI.Intracomm, cells: int) -> Domain:
    """A box of half width 2.5, sheared: most triangles are obtuse, no patch is symmetric about its axes."""
    grid = box([-2.5, -2.5], [2.5, 2.5], [cells, cells], comm=comm).space.mesh
    grid.geometry.x[:, 0] += 0.5 * grid.geometry.x[:, 1]
    return from_mesh(grid, (False, False))
