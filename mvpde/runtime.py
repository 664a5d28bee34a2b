"""Start-up and the way errors leave the program: the only module that knows which build of DOLFINx is installed.

Importing this module loads the wheel's solver libraries when the wheel is what is installed (conda installs have none), and
makes an exception on any rank end the whole run instead of leaving the other ranks waiting.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar, cast

from mvpde.registry import Registry

# One thread per rank unless the user says otherwise: ranks are the parallelism here, and BLAS threads would fight over their
# cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

if importlib.util.find_spec("dolfinx_solver") is not None:  # must precede petsc4py and dolfinx
    importlib.import_module("dolfinx_solver")

from mpi4py import MPI  # noqa: E402 - after the solver libraries

Result = TypeVar("Result")

EXIT_DONE, EXIT_USAGE, EXIT_SOLVER, EXIT_INVARIANT, EXIT_STOPPED = 0, 2, 3, 4, 5


class CaseError(Exception):
    """The case file or the command is wrong (exit code 2). The message names the key, its section and the remedy."""


class ArgumentError(ValueError):
    """An argument of a function or class that cannot be: what it is called, what is wrong with it and what helps.

    Numerics raise it and know no case file; `mvpde.cases` says which section and key the argument came from.
    """

    def __init__(self, argument: str, text: str) -> None:
        """About ``argument``."""
        super().__init__(f"{argument}: {text}")
        self.argument, self.text = argument, text

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        """Errors travel between ranks."""
        return ArgumentError, (self.argument, self.text)


def entry[Entry](table: Registry[Entry], name: str, argument: str) -> Entry:
    """What a table of names has for a name given as ``argument``.

    Raises:
        ArgumentError: nothing, with the nearest name or all of them.
    """
    try:
        return table.require(name)
    except ValueError as error:
        raise ArgumentError(argument, str(error)) from None


class SolverError(Exception):
    """A solver did not converge (exit code 3). The last good state is kept.

    Attributes:
        sought: "stationary" or "spectrum" where that could not be found, which a case has a section for; else empty.
    """

    def __init__(self, text: str, sought: str = "") -> None:
        """With what went wrong and what helps."""
        super().__init__(text)
        self.sought = sought


class InvariantError(Exception):
    """A conservation law or positivity was violated, or a NaN appeared (exit code 4). The last good state is kept."""


def _abort(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, value, trace)
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)


def install_abort_hook() -> None:
    """Let an uncaught exception on one rank end all of them: without it the others wait for ever in the next collective call."""
    if MPI.COMM_WORLD.size > 1:
        sys.excepthook = _abort


def on_first_rank(comm: MPI.Intracomm, work: Callable[[], Result]) -> Result:
    """Do ``work`` on rank 0 and give its result, or raise its error, on all ranks alike. Collective.

    Whatever one rank can find out (a file, a case, a folder) goes through here, so that all ranks stop together with one message.
    """
    outcome: tuple[Result | None, Exception | None] = (None, None)
    if comm.rank == 0:
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, error)
    result, raised = comm.bcast(outcome)
    if raised is not None:
        raise raised
    return cast("Result", result)
