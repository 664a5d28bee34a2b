"""Meshes let go of by Python in any order, also while an exception unwinds, never stop the ranks nor use up communicators."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from mvpde.mesh.box import box
from mvpde.mesh.communicators import own
from mvpde.runtime import MPI

pytestmark = pytest.mark.ranks


pytestmark = pytest.mark.ranks


def free_communicators(comm: MPI.Intracomm) -> int:
    """How many more communicators MPI would make. Collective."""
    made = []
    try:
        while len(made) < 5000:
            made.append(comm.Dup())
    except MPI.Exception:
        pass
    count = len(made)
    for one in made:
        one.Free()
    return count


def test_a_mesh_may_die_while_an_exception_unwinds(comm: MPI.Intracomm) -> None:
    """What a temporary holds goes after the exception is set: freed then, mpi4py's lock on communicators would stay closed."""
    for _ in range(3):
        with pytest.raises(ValueError, match="unpack"):
            (_,) = [box([0.0], [1.0], [20], comm=comm), None]
        assert comm.allreduce(1) == comm.size


def test_ranks_may_let_go_of_meshes_at_different_times(comm: MPI.Intracomm) -> None:
    """Rank 0 holds on to the first, the others to the second; a cycle waits for the collector, which runs on rank 0 only."""
    first, second = (box([0.0, 0.0], [1.0, 1.0], [4, 4], [True, False], comm=comm) for _ in range(2))
    cycle: list[object] = [box([0.0], [1.0], [8], comm=comm)]
    cycle.append(cycle)
    held = first if comm.rank == 0 else second
    del first, second, cycle
    if comm.rank == 0:
        gc.collect()
    other = box([0.0], [1.0], [5], comm=comm)
    values = np.concatenate([np.full(other.owned, 1.0), np.zeros(len(other.ghosts))])
    other.exchange.update(values)
    assert values.min() == 1.0
    del held
    assert box([0.0], [1.0], [6], comm=comm).nodes == 7


@pytest.mark.serial  # to make all that there are takes minutes on ranks that share a core
def test_any_number_of_meshes_one_after_the_other(comm: MPI.Intracomm) -> None:
    """Every mesh takes half a dozen of the 2048 communicators that MPICH has; what is dropped gives them all back."""
    box([0.0], [1.0], [6], comm=comm)
    gc.collect()
    box([0.0], [1.0], [6], comm=comm)
    before = free_communicators(comm)
    for _ in range(10):
        box([0.0], [1.0], [6], comm=comm)
    assert free_communicators(comm) == before


def test_one_communicator_for_the_same_ranks(comm: MPI.Intracomm) -> None:
    again = comm.Dup()
    assert own(again) == own(comm) == own(None)
    assert own(comm) != comm
    again.Free()
