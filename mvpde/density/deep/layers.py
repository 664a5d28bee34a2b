"""What the nodes of a labelled mesh add up to in a layer, and the potential that they get: the sums of a sweep.

On a mesh of (v, w, c) the unit v·act(wz + c) is needed once for each pair (w, c) that occurs, not for each node: the masses of a
label are first summed over the nodes of a pair, weighted by v, and V is handed out to them from one number each. The inputs z of
a layer change with every stage, so units are evaluated anew each time; on a box of (v, w) that is work for one column of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.mesh.domain import Domain, Part
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.units import Array, DeepLayer

Integers = NDArray[np.int32]


@dataclass(frozen=True)
class LayerMesh:
    """One layer on its copies of a mesh, as this rank has it.

    Attributes:
        layer: the unit.
        shape: (A or 1, B or 1), the numbers of labels; label (i, j) is copy i·B + j.
        shares: mass of each copy, shape (A·B,).
        owned: owned nodes of one copy.
        rows: local unknown of the union for each node of each copy, owned then ghosts, shape (A·B, nodes).
        theta: coordinates of the nodes, shape (nodes, D).
        place: row of ``pairs`` that belongs to each node, shape (nodes,).
        pairs: a θ for each pair (w, c) that occurs, shape (pairs, D).
        outer: v of each node, shape (nodes,).
        external: V0 of each node, shape (nodes,).
    """

    layer: DeepLayer
    shape: tuple[int, int]
    shares: Array
    owned: int
    rows: Integers
    theta: Array
    place: Integers
    pairs: Array
    outer: Array
    external: Array

    def means(self, masses: Array, z: Array) -> Array:
        """The sums of S and T over the nodes of this rank, shape (2, A or 1, B or 1, P), at inputs z, shape (A or 1, 1, P).

        Args:
            masses: m_iρ_i of the owned unknowns of the union.
            z: inputs of the layer.
        """
        marginal = np.zeros((len(self.shares), len(self.pairs)))
        _sum_over_nodes(self.rows, self.owned, self.place, self.outer, 1.0 / self.shares, masses, marginal)
        weights = marginal.reshape(*self.shape, -1)
        t, w = self._active(z), self._inner()[0]
        slopes = self.layer.of_active(t)
        return np.stack([_contract(weights, t), _contract(weights * w, slopes)])

    def potential(self, multipliers: Array, z: Array, result: Array) -> None:
        """V = V0 − v Σ_p M_p act(wz_p + c) at all local unknowns of the layer, into ``result``; M of shape (1, B or 1, P)."""
        profile = _spread(multipliers, self._active(z)).reshape(len(self.shares), -1)
        _hand_out(self.rows, self.place, self.outer, self.external, profile, result)

    def squared_slope(self, multipliers: Array, z: Array, result: Array) -> None:
        """|∂_θV|² without V0 at all local unknowns of the layer, into ``result``."""
        t = self._active(z)
        slopes = self.layer.of_active(t)
        trained = self.layer.trained
        outer = _spread(multipliers, t) ** 2 * ("v" in trained)
        inner = _spread(multipliers, slopes) ** 2 * ("c" in trained)
        inner += np.matmul(z * multipliers, slopes.swapaxes(1, 2)) ** 2 * ("w" in trained)
        copies = len(self.shares)
        result[self.rows] = outer.reshape(copies, -1)[:, self.place]
        result[self.rows] += self.outer**2 * inner.reshape(copies, -1)[:, self.place]

    def _inner(self) -> tuple[Array, Array]:
        _, w, c = self.layer.weights(self.pairs)
        return w, c

    def _active(self, z: Array) -> Array:
        """act(wz + c), shape (A or 1, pairs, P): the inputs do not depend on b."""
        return np.broadcast_to(self.layer.active(z, self.pairs[:, None]), (len(z), len(self.pairs), z.shape[-1]))

    def conditional(self, masses: Array, power: int) -> Array:
        """The sums of θ^power over the nodes of this rank, by label, shape (A or 1, B or 1, D)."""
        mine = masses[self.rows[:, : self.owned]] / self.shares[:, None]
        return np.asarray(mine @ self.theta[: self.owned] ** power).reshape(*self.shape, -1)


def layer_meshes(network: DeepNetwork, union: Domain, shapes: list[tuple[int, int]]) -> list[LayerMesh]:
    """The layers on a union of as many copies of their meshes as they have labels, one layer after the other."""
    made, start = [], 0
    for layer, shape in zip(network.layers, shapes, strict=True):
        parts = union.parts[start : start + shape[0] * shape[1]]
        made.append(mesh_of_layer(layer, parts, shape, network.external(layer, parts[0].domain.coordinates)))
        start += len(parts)
    return made


def mesh_of_layer(layer: DeepLayer, parts: Sequence[Part], shape: tuple[int, int], external: Array) -> LayerMesh:
    """One layer on copies of one mesh, the parts of a union; ``external`` is V0 at the nodes of the mesh."""
    theta = parts[0].domain.coordinates
    first, place = _distinct(theta[:, [k for k, name in enumerate(layer.trained) if name != "v"]])
    return LayerMesh(
        layer=layer,
        shape=shape,
        shares=np.array([part.weight for part in parts]),
        owned=parts[0].domain.owned,
        rows=np.stack([part.local for part in parts]),
        theta=theta,
        place=place,
        pairs=theta[first],
        outer=np.array(np.broadcast_to(layer.weights(theta)[0], len(theta))),
        external=external,
    )


def _distinct(inner: Array) -> tuple[NDArray[np.int64], Integers]:
    """Indices of representatives of the distinct rows, and for each row the place of its representative."""
    if inner.shape[1] == 0:  # only v is trained: one pair serves all
        return np.zeros(min(1, len(inner)), np.int64), np.zeros(len(inner), np.int32)
    keys = np.round(inner / (np.ptp(inner, axis=0).max(initial=0.0) or 1.0) * 2.0**36).astype(np.int64)
    _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, place.ravel().astype(np.int32)


def _contract(weights: Array, t: Array) -> Array:
    """Σ_y weights_aby t_ayp, shape (A, B, P)."""
    return np.matmul(weights, t)


def _spread(multipliers: Array, t: Array) -> Array:
    """Σ_p M_bp t_ayp, shape (A, B, pairs)."""
    return np.matmul(multipliers, t.swapaxes(1, 2))


@njit(cache=True)
def _sum_over_nodes(
    rows: Integers, owned: int, place: Integers, outer: Array, factor: Array, masses: Array, marginal: Array
) -> None:
    for q in range(rows.shape[0]):
        for i in range(owned):
            marginal[q, place[i]] += factor[q] * outer[i] * masses[rows[q, i]]


@njit(cache=True)
def _hand_out(rows: Integers, place: Integers, outer: Array, external: Array, profile: Array, result: Array) -> None:
    for q in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            result[rows[q, i]] = external[i] - outer[i] * profile[q, place[i]]
