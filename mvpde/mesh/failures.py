"""Where PETSc and SLEPc fail, or LAPACK on their behalf: what they raise becomes `SolverError`, which every caller knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mvpde.runtime import ArgumentError, CaseError, InvariantError, SolverError  # isort: skip  (loads the solver libraries)

from petsc4py import PETSc

_OURS = (SolverError, InvariantError, CaseError, ArgumentError, KeyboardInterrupt)


@contextmanager
def as_solver_error(doing: str, sought: str = "") -> Iterator[None]:
    """Around calls of the solver libraries, or as a decorator; what goes wrong there goes wrong on all ranks alike.

    Args:
        doing: what was tried, at the beginning of a sentence.
        sought: see `SolverError`.

    Raises:
        SolverError: instead of an error of PETSc, SLEPc or LAPACK. What our own functions raise when PETSc calls them stays.
    """
    try:
        yield
    except (PETSc.Error, SystemError, np.linalg.LinAlgError) as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, _OURS):  # petsc4py wraps what its callbacks raise
            raise cause from None
        reason = f"PETSc error {error.ierr}" if isinstance(error, PETSc.Error) else str(cause or error)
        raise SolverError(f"{doing} failed ({reason}); refine the mesh or change the parameters a little", sought) from error
