"""Disjoint unions of meshes: laws that are carried side by side, one for each label, and never exchange mass.

A labelled law ρ(θ|λ_q) on quadrature labels λ_q with weights ω_q lives on one copy of the mesh of θ for each label. Labels are
no direction of a mesh: what does not move needs no fluxes. The graph of the union is the graphs side by side, m_i, m_ij and
s_ij of copy q multiplied by ω_q, so that Σ_i m_i h(θ_i, λ_q(i)) ρ_i is ∫∫ h dρ(θ|λ) of the marginal of the labels, and whatever
knows of a mesh its graph alone runs on it as it is: all copies advance together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvpde.runtime import MPI, ArgumentError  # isort: skip  (loads the solver libraries)

from mvpde.mesh.assembly import exchange_of
from mvpde.mesh.domain import Array, Domain, EdgeGraph, Part


def union(domains: Sequence[Domain], weights: Sequence[float] | Array, labels: ArrayLike | None = None) -> Domain:
    """The disjoint union of meshes, as one domain. Collective.

    A rank owns what it owns of each mesh: the owned unknowns of the first, of the second, …, then all ghosts, in the order of
    their numbers. Where the meshes have fewer than D directions, D the largest number of any, 0 stands for the others.

    Args:
        domains: Q meshes on the same ranks, which may be the same one.
        weights: ω_q > 0, shape (Q,).
        labels: λ_q, shape (Q, L) or (Q,), that follow the coordinates of the points; None: nothing follows.

    Raises:
        ArgumentError: no mesh, other ranks, other numbers of weights or labels, or a weight that is not positive.
    """
    values = np.zeros((len(domains), 0)) if labels is None else np.asarray(labels, float).reshape(len(domains), -1)
    _check(domains, weights, values)
    comm, largest = domains[0].comm, max(domains, key=lambda domain: domain.dimension)
    owned = sum(domain.owned for domain in domains)
    first = int(comm.scan(owned)) - owned
    numbers = _ghost_numbers(comm, domains, first)
    ghosts = np.sort(np.concatenate(numbers))
    starts = np.cumsum([0, *(domain.owned for domain in domains)])
    parts = tuple(
        Part(
            domain,
            float(weight),
            tuple(label.tolist()),
            np.concatenate([start + np.arange(domain.owned), owned + np.searchsorted(ghosts, number)]).astype(np.int32),
        )
        for domain, weight, label, start, number in zip(domains, weights, values, starts, numbers, strict=False)
    )
    return Domain(
        comm=comm,
        dimension=largest.dimension,
        nodes=sum(domain.nodes for domain in domains),
        lower=largest.lower,
        upper=largest.upper,
        periods=largest.periods,
        coordinates=_coordinates(parts, largest.dimension, owned + len(ghosts)),
        first=first,
        ghosts=ghosts,
        graph=_graph(parts),
        exchange=exchange_of(comm, ghosts, first, owned),
        boundary=np.concatenate([domain.boundary for domain in domains]),
        space=domains[0].space,
        numbers=domains[0].numbers,
        of_mesh=domains[0].of_mesh,
        metric=largest.metric,
        parts=parts,
    )


def _check(domains: Sequence[Domain], weights: Sequence[float] | Array, labels: Array) -> None:
    if not domains:
        raise ArgumentError("domains", "there is none; give at least one mesh")
    if any(MPI.Comm.Compare(domain.comm, domains[0].comm) != MPI.IDENT for domain in domains):
        raise ArgumentError("domains", "are not on the same ranks; make all of them with one communicator")
    if any(domain.parts for domain in domains):
        raise ArgumentError("domains", "one is a union itself; give the meshes that it is made of")
    if len(weights) != len(domains) or not all(0.0 < weight < math.inf for weight in weights):
        raise ArgumentError("weights", f"must be one positive number for each of {len(domains)} meshes, not {list(weights)}")
    if not np.isfinite(labels).all():
        raise ArgumentError("labels", "one is not a finite number; correct it")


def _ghost_numbers(comm: MPI.Intracomm, domains: Sequence[Domain], first: int) -> list[NDArray[np.int64]]:
    """For each mesh, the numbers over all ranks that its ghosts have in the union."""
    firsts = np.array(comm.allgather([domain.first for domain in domains]))  # ranks × Q
    owned = np.array(comm.allgather([domain.owned for domain in domains]))
    begins = np.array(comm.allgather(first))[:, None] + np.cumsum(owned, axis=1) - owned
    numbers = []
    for q, domain in enumerate(domains):
        owner = np.searchsorted(firsts[:, q], domain.ghosts, side="right") - 1
        numbers.append(begins[owner, q] + domain.ghosts - firsts[owner, q])
    return numbers


def _coordinates(parts: Sequence[Part], dimension: int, count: int) -> Array:
    points = np.zeros((count, dimension + len(parts[0].label)))
    for part in parts:
        points[part.local, : part.domain.dimension] = part.domain.coordinates
        points[part.local, dimension:] = part.label
    return points


def _graph(parts: Sequence[Part]) -> EdgeGraph:
    graphs = [part.domain.graph for part in parts]
    counts = np.concatenate([np.diff(graph.offsets) for graph in graphs])
    return EdgeGraph(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        columns=np.concatenate([part.local[part.domain.graph.columns] for part in parts]),
        stiffness=np.concatenate([part.weight * part.domain.graph.stiffness for part in parts]),
        mass=np.concatenate([part.weight * part.domain.graph.mass for part in parts]),
        lumped=np.concatenate([part.weight * part.domain.graph.lumped for part in parts]),
    )
