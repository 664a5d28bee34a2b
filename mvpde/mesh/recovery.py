"""Each edge once, and the gradients at the nodes that differences along the edges give by least squares.

    g_i = P_i Σ_j m_ij (h_j − h_i)(x_j − x_i),      P_i⁻¹ = Σ_j m_ij (x_j − x_i)⊗(x_j − x_i),

so that Σ_j m_ij (h_j − h_i − g_i·(x_j − x_i))² is least: exact for linear functions, also at walls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mvpde.mesh.domain import Domain, EdgeGraph

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_ROUNDING = 1e-14  # of its trace is added to P_i⁻¹, where neighbours lie in one line only


@dataclass(frozen=True)
class Recovery:
    """Numbers of each edge between two unknowns of a rank, or of each owned unknown (local).

    Attributes:
        graph: the edge graph with the entries (i, j) of j > i alone; ghosts follow the owned unknowns.
        entries: which of the entries of the whole graph these are.
        edges: x_i − x_j, around a period the shorter way, shape (entries, D).
        inside: 0 where i or j is on a wall, else 1, and ½ where j is a ghost, so that sums over ranks count each edge once.
        inverse: P_i, shape (owned, D, D).
        lean: Σ_j m_ij (x_i − x_j), which is 0 where the node is the centre of its patch, shape (owned, D).
        longest: largest |x_i − x_j| in each direction over all ranks, shape (D,).
    """

    graph: EdgeGraph
    entries: Integers
    edges: Array
    inside: Array
    inverse: Array
    lean: Array
    longest: Array


def recovery(domain: Domain) -> Recovery:
    """That of a mesh. Collective."""
    graph, owned, dimension = domain.graph, domain.owned, domain.dimension
    row, points, wall = graph.rows(), domain.coordinates[:, :dimension], np.zeros(len(domain.coordinates))
    wall[:owned] = domain.boundary
    domain.exchange.update(wall)
    edges = points[row] - points[graph.columns]
    for k, period in enumerate(domain.periods[:dimension]):
        if period is not None:
            edges[:, k] -= period * np.round(edges[:, k] / period)
    weighted = graph.mass[:, None] * edges
    summed = lambda values: np.bincount(row, weights=values, minlength=owned)  # noqa: E731
    square = np.empty((owned, dimension, dimension))
    for k in range(dimension):
        for c in range(dimension):
            square[:, k, c] = summed(weighted[:, k] * edges[:, c])
    square += _ROUNDING * np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(dimension)
    entries = np.flatnonzero(graph.columns > row).astype(np.int32)
    offsets = np.searchsorted(entries, graph.offsets).astype(np.int32)
    columns = graph.columns[entries]
    once = replace(graph, offsets=offsets, columns=columns, stiffness=graph.stiffness[entries], mass=graph.mass[entries])
    return Recovery(
        graph=once,
        entries=entries,
        edges=np.ascontiguousarray(edges[entries]),
        inside=np.where(columns < owned, 1.0, 0.5) * ((wall[row] + wall[graph.columns]) == 0.0)[entries],
        inverse=np.linalg.inv(square),
        lean=np.column_stack([summed(column) for column in weighted.T]),
        longest=np.array([domain.extremes(column)[1] for column in np.abs(edges).T]),
    )
