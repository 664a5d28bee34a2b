"""Communicators of our own, and what all ranks give back together.

A mesh of DOLFINx and a graph of neighbours hold communicators, which MPI wants back from all ranks alike. Python lets go on each
rank when it comes to it, perhaps while an exception unwinds: then mpi4py's lock, which it takes whenever a communicator is freed
that objects went through (DOLFINx sends some through that of a mesh), stays closed, and the next of them waits for ever. Hence
the holders wait here until their users are gone on all ranks, and are let go in one order when the next mesh is made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from mvpde.runtime import MPI  # isort: skip  (loads the solver libraries)

from petsc4py import PETSc


@dataclass
class _Ours:
    """What some ranks have in common.

    Attributes:
        comm: their communicator, never freed.
        kept: by number, how to give back what waits; the numbers are the same on all ranks.
        unused: numbers of those that nobody uses any more on this rank.
        count: how many were ever kept.
    """

    comm: MPI.Intracomm
    kept: dict[int, Callable[[], None]] = field(default_factory=dict)
    unused: set[int] = field(default_factory=set)
    count: int = 0


_OURS: list[_Ours] = []


def own(comm: MPI.Intracomm | None) -> MPI.Intracomm:
    """The communicator of ours for the ranks of ``comm``, for all ranks by default. Collective."""
    return _of(MPI.COMM_WORLD if comm is None else comm).comm


def keep(comm: MPI.Intracomm, user: object, give_back: Callable[[], None]) -> None:
    """Have ``give_back`` called by `give_back_unused` once ``user`` is gone on all ranks. Collective."""
    ours = _of(comm)
    ours.kept[ours.count] = give_back
    weakref.finalize(user, ours.unused.add, ours.count).atexit = False
    ours.count += 1


def give_back_unused(comm: MPI.Intracomm) -> None:
    """Give back what nobody uses any more on any of these ranks. Collective."""
    ours = _of(comm)
    for number in sorted(set.intersection(*ours.comm.allgather(ours.unused))):
        ours.unused.discard(number)
        ours.kept.pop(number)()
    PETSc.garbage_cleanup(ours.comm)  # where there are several ranks, petsc4py destroys nothing by itself


def _of(comm: MPI.Intracomm) -> _Ours:
    for ours in _OURS:
        if MPI.Comm.Compare(comm, ours.comm) in (MPI.IDENT, MPI.CONGRUENT):
            return ours
    _OURS.append(_Ours(comm.Dup()))
    return _OURS[-1]
