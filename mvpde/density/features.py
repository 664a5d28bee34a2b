"""Moments and potential of a nodal density in O(r·N_y) work: marginal first, then a feature matrix cut to its numerical rank.

With g = cφ(y) the moments m = Σ_i m_i ρ_i c_i φ(y_i) need of ρ only the weighted marginal γ over the distinct values of y, and

    m = B (Aᵀγ),        U = A (Bᵀ ∂R(m)),       Φ ≈ A Bᵀ,  A = ΦB,

where B holds the right singular vectors of Φ (one row per distinct y) that rise above rounding. On a tensor-product mesh there
are N_y distinct y; on any other mesh each node is its own, by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numba import njit
from numpy.typing import NDArray

from mvpde.density.walls.drain import drain
from mvpde.density.walls.places import OF_FLUXES, OF_POTENTIALS, places
from mvpde.mesh.domain import Domain
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError

Array = NDArray[np.float64]

RANK_TOLERANCE = 1e-13  # singular values below this part of the largest change no moment beyond rounding
_ROWS = 4096  # rows of Φ evaluated at a time


@dataclass(frozen=True)
class NodalFeatures:
    """Features of a model at the nodes of this rank (owned, then ghosts).

    Attributes:
        model: where R comes from.
        comm: communicator of the reductions.
        place: for each local node the row of ``left`` that belongs to its y, shape (owned + ghosts,).
        weight: c_i (1 without an output weight) at the local nodes.
        external: V0 at the local nodes.
        left: A, shape (distinct y on this rank, r).
        right: B, shape (K, r), the same on all ranks.
        places: where drift and tensor of the local nodes are taken, shape (owned + ghosts, D): see `mvpde.density.walls.places`.
        of_potential: where V0 is.
        alive: 0 at owned nodes on absorbing walls, 1 elsewhere; None where there are none.
    """

    model: MeanField
    comm: MPI.Intracomm
    place: NDArray[np.int32]
    weight: Array
    external: Array
    left: Array
    right: Array
    places: Array
    of_potential: Array
    alive: Array | None = None

    @property
    def rank(self) -> int:
        """r, the numerical rank of the feature matrix."""
        return int(self.right.shape[1])

    def of(self, model: MeanField) -> NodalFeatures:
        """The same features under another model that has them, with its own outer energy and potential. Local."""
        if model is self.model:
            return self
        same = model.external_potential is self.model.external_potential
        return replace(self, model=model, external=self.external if same else model.external_potential(self.of_potential))

    def at(self, t: float) -> NodalFeatures:
        """With what the model is at time t."""
        return self.of(self.model.now(t))

    def moments(self, masses: Array) -> Array:
        """m = Σ masses_i g(z_i), shape (K,), from the nodal masses m_iρ_i of the owned nodes. Collective."""
        masses = masses if self.alive is None else masses * self.alive
        marginal = np.zeros(len(self.left))
        _marginal(self.place, self.weight, masses, marginal)
        reduced = marginal @ self.left
        self.comm.Allreduce(MPI.IN_PLACE, reduced)
        return np.asarray(self.right @ reduced)

    def potential(self, moments: Array, result: Array) -> None:
        """V(·; m) at owned and ghost nodes into ``result``, from the moments m, shape (K,). Local: needs no exchange."""
        slope = self.model.outer_gradient(moments)
        _potential(self.place, self.weight, self.external, self.left @ (slope @ self.right), result)


def nodal_features(model: MeanField, coordinates: Array, comm: MPI.Intracomm, domain: Domain | None = None) -> NodalFeatures:
    """Features of ``model`` at local nodes, shape (owned + ghosts, D). Collective.

    ``domain``: where nodes on singular walls are moved inside for drift, tensor and potential; None: they stay.

    Raises:
        ArgumentError: one is not finite; on all ranks alike.
    """
    y = coordinates[:, : model.profile_dimension]
    first, place = _distinct(y)
    triangle = np.zeros((0, 0))
    with np.errstate(all="ignore"):  # what is not finite is found below
        for start in range(0, len(first), _ROWS):
            block = model.profile(y[first[start : start + _ROWS]])
            stacked = block if triangle.size == 0 else np.vstack([triangle, block])
            triangle = np.linalg.qr(stacked, mode="r")
    triangles = [t for t in comm.allgather(triangle) if t.size]
    if not all(np.isfinite(t).all() for t in triangles):
        raise ArgumentError("domain", "a feature of the model is no finite number at some node of the mesh; make it smaller")
    right = _right_factor(triangles)
    right = comm.bcast(right)
    left = np.empty((len(first), right.shape[1]))
    for start in range(0, len(first), _ROWS):
        left[start : start + _ROWS] = model.profile(y[first[start : start + _ROWS]]) @ right
    shares = OF_FLUXES, OF_POTENTIALS
    of_fluxes, inside = (coordinates if domain is None else places(domain, model, share) for share in shares)
    weight, external = model.amplitude(coordinates), model.external_potential(inside)
    absorbing = None if domain is None else drain(domain, model)
    alive = None if absorbing is None else absorbing.alive
    return NodalFeatures(model, comm, place, weight, external, left, right, of_fluxes, inside, alive)


def _distinct(y: Array) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Indices of representatives of the distinct rows of y (to rounding), and for each row the place of its representative."""
    scale = np.ptp(y, axis=0).max() if len(y) else 1.0
    keys = np.round(y / (scale or 1.0) * 2.0**36).astype(np.int64)
    combined = np.zeros(len(y), np.int64)
    for column in keys.T:  # number the pairs (seen so far, this column): sorting integers is faster than sorting rows
        values, inverse = np.unique(column, return_inverse=True)
        combined = combined * len(values) + inverse
    _, first, place = np.unique(combined, return_index=True, return_inverse=True)
    return first, place.astype(np.int32)


def _right_factor(triangles: list[Array]) -> Array:
    """Right singular vectors of the stacked triangular factors whose singular values rise above rounding, shape (K, r)."""
    _, values, vectors = np.linalg.svd(np.vstack(triangles), full_matrices=False)
    keep = max(1, int(np.sum(values > RANK_TOLERANCE * values[0])))
    return np.ascontiguousarray(vectors[:keep].T)


def free_energy(domain: Domain, features: NodalFeatures, owned_values: Array) -> float:
    """R(m) + ∫V0 dρ + τ∫ρ log ρ with the lumped mass. Collective."""
    masses, logarithm = domain.graph.lumped * owned_values, np.log(np.maximum(owned_values, 1e-300))
    local = masses @ (features.external[: domain.owned] + features.model.temperature * logarithm)
    return float(features.model.outer_energy(features.moments(masses))) + float(domain.sum(np.array([local]))[0])


@njit(cache=True)
def _marginal(place: NDArray[np.int32], weight: Array, masses: Array, marginal: Array) -> None:
    for i in range(masses.size):
        marginal[place[i]] += weight[i] * masses[i]


@njit(cache=True)
def _potential(place: NDArray[np.int32], weight: Array, external: Array, profile: Array, result: Array) -> None:
    for i in range(result.size):
        result[i] = external[i] + weight[i] * profile[place[i]]
