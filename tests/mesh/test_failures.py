"""What PETSc, SLEPc and LAPACK raise is a `SolverError` to everybody else."""

from __future__ import annotations

import numpy as np
import pytest
from petsc4py import PETSc

from mvpde.mesh.failures import as_solver_error
from mvpde.runtime import ArgumentError, SolverError


@pytest.mark.serial
@pytest.mark.parametrize("error", [PETSc.Error(76), np.linalg.LinAlgError("Singular matrix"), SystemError("no result")])
def test_errors_of_the_libraries(error: Exception) -> None:
    with pytest.raises(SolverError, match="a step failed") as raised, as_solver_error("a step", "spectrum"):
        raise error
    assert raised.value.sought == "spectrum"


@pytest.mark.serial
def test_errors_of_callbacks_stay() -> None:
    wrapped = SystemError("returned a result with an exception set")
    wrapped.__cause__ = ArgumentError("modes", "too many")
    with pytest.raises(ArgumentError, match="modes: too many"), as_solver_error("a step"):
        raise wrapped


@pytest.mark.serial
def test_others_stay() -> None:
    with pytest.raises(ZeroDivisionError), as_solver_error("a step"):
        1 / 0  # noqa: B018
