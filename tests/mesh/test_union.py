"""Laws of disjoint unions: the graphs side by side, values that travel to the right ghosts, the order of each mesh kept."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.mesh.union import union
from mvpde.runtime import MPI, ArgumentError

pytestmark = pytest.mark.ranks

WEIGHTS = [0.2, 0.5, 0.3]
LABELS = [[-1.0], [0.5], [2.0]]


def pieces(comm: MPI.Intracomm) -> list[Domain]:
    """A plane mesh twice, and an interval between the two."""
    plane = box([-1.0, 0.0], [1.0, 3.0], [6, 5], [True, False], comm=comm)
    return [plane, box([0.0], [2.0], [17], comm=comm), plane]


def test_integrals_are_those_of_the_meshes_times_their_weights(comm: MPI.Intracomm) -> None:
    """Σ m_i = ω|mesh| on each part, and every part has its own edges alone."""
    parts = pieces(comm)
    whole = union(parts, WEIGHTS, LABELS)
    assert np.allclose(whole.part_sums(whole.graph.lumped), [0.2 * 6.0, 0.5 * 2.0, 0.3 * 6.0], rtol=1e-13)
    assert np.array_equal(whole.part[whole.graph.rows()], whole.part[whole.graph.columns])
    assert whole.nodes == sum(part.nodes for part in parts) == comm.allreduce(whole.owned)
    loads = integrate_against_basis(whole, lambda z: 1.0 + z[:, 2])
    assert np.allclose(whole.part_sums(loads), np.array([0.2 * 6.0, 0.5 * 2.0, 0.3 * 6.0]) * [0.0, 1.5, 3.0], atol=1e-12)


def test_values_reach_the_ghosts_of_all_parts(comm: MPI.Intracomm) -> None:
    """A function of the coordinates and the label is the same at a ghost and at its owner; numbers are as well."""
    whole = union(pieces(comm), WEIGHTS, LABELS)
    for values in (np.sin(whole.coordinates) @ [1.0, 2.0, 3.0], whole.unknowns.astype(float)):
        sent = values.copy()
        sent[whole.owned :] = np.nan
        whole.exchange.update(sent)
        assert np.array_equal(sent, values)
    assert comm.size == 1 or comm.allreduce(len(whole.ghosts)) > 0


def test_mesh_order_of_each_part_is_that_of_one_rank(comm: MPI.Intracomm) -> None:
    """Gathered values are those of one rank, one mesh after the other, and come back from there."""
    whole, alone = (union(pieces(where), WEIGHTS, LABELS) for where in (comm, MPI.COMM_SELF))
    told, expected = (d.to_mesh(np.exp(d.coordinates) @ [1.0, 2.0, 3.0]) for d in (whole, alone))
    told = comm.bcast(told)
    assert told is not None
    assert expected is not None
    assert np.allclose(told, expected, atol=1e-14)
    assert whole.points == len(told)
    assert np.allclose(whole.from_mesh(told), np.exp(whole.coordinates) @ [1.0, 2.0, 3.0], atol=1e-14)


def test_average_over_copies_is_weighted(comm: MPI.Intracomm) -> None:
    """Copies of one mesh with values λ_q average to Σω_qλ_q; normalised values have the mass ω_q on each."""
    line = box([0.0], [2.0], [9], [True], comm=comm)
    whole = union([line] * 3, WEIGHTS, LABELS)
    average = comm.bcast(whole.averaged(whole.coordinates[:, 1]))
    assert np.allclose(average, -0.2 + 0.25 + 0.6, atol=1e-14)
    assert len(average) == line.points
    values = whole.normalised(2.0 + whole.coordinates[:, 1])
    assert np.allclose(whole.part_sums(whole.graph.lumped * values[: whole.owned]), WEIGHTS, rtol=1e-14)
    assert np.allclose(values[: whole.owned], 0.5, rtol=1e-13)  # each copy is the uniform law


@pytest.mark.parametrize(
    ("weights", "labels", "said"),
    [([1.0], None, "one positive number"), ([1.0, 0.0], None, "positive"), ([0.5, 0.5], [np.nan, 1.0], "finite")],
)
def test_refused(comm: MPI.Intracomm, weights: list[float], labels: list[float] | None, said: str) -> None:
    line = box([0.0], [1.0], [4], comm=comm)
    with pytest.raises(ArgumentError, match=said):
        union([line, line], weights, labels)


def test_unions_of_nothing_and_of_unions_are_refused(comm: MPI.Intracomm) -> None:
    line = box([0.0], [1.0], [4], comm=comm)
    with pytest.raises(ArgumentError, match="at least one mesh"):
        union([], [])
    with pytest.raises(ArgumentError, match="is a union itself"):
        union([union([line], [1.0])], [1.0])
