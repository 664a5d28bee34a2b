"""The suite under ``mpirun``: one voice, one verdict, no hang.

Rank 0 reports for all. After every phase of every test the ranks exchange their verdicts, so that a test which fails on one rank
fails on all and they stay in step. A rank that failed while the others wait in a collective call ends the run after GRACE s.
Ranks that all wait are ended by pytest's ``faulthandler_timeout`` (pyproject.toml).
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

import mvpde.runtime  # isort: skip  # noqa: F401 - loads the solver libraries in the right order
from mpi4py import MPI

# Messages of the suite itself never meet those of the code under test.
SUITE = MPI.COMM_WORLD.Dup()

# Seconds that a rank whose test failed waits for the others to reach the end of the same test.
GRACE = float(os.environ.get("MVPDE_TEST_GRACE", "30"))

# What a test takes that has to do with ranks; others would do on two the same that they did on one.
OF_RANKS = {"comm", "shared_tmp_path"}

COLLECTION_ERRORS: list[str] = []

# Every rank must draw the same examples, and no test may depend on the time it takes.
hypothesis.settings.register_profile("mvpde", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("mvpde")


@pytest.fixture(scope="session")
def comm() -> MPI.Intracomm:
    """All ranks of this run of the suite."""
    return MPI.COMM_WORLD


@pytest.fixture
def shared_tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh folder, the same on every rank. Collective."""
    path = SUITE.bcast(tmp_path_factory.mktemp("shared") if SUITE.rank == 0 else None)
    yield path
    SUITE.Barrier()


@pytest.fixture
def rendering() -> None:
    """For tests that draw with PyVista: without libEGL its process dies, so they are skipped and say what to install."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        pytest.skip("libEGL.so.1 not found, needed for drawing with PyVista: run 'apt install libegl1'")


@pytest.fixture
def gmsh_library() -> None:
    """For tests that read or make .msh files: Gmsh's library cannot be loaded on a machine without X libraries."""
    try:
        importlib.import_module("gmsh")
    except OSError as error:
        pytest.skip(f"{error}, needed for Gmsh: run 'python .ci/check_machine.py libraries' for the packages to install")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Silence all ranks but the first."""
    if SUITE.rank > 0:
        config.get_terminal_writer()._file = Path(os.devnull).open("w")  # noqa: SIM115 - to the end of the run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is meant for one rank, or knows of none, and on three ranks and more all that two ranks have answered."""
    left = [item for item in items if not _runs(item)]
    items[:] = [item for item in items if _runs(item)]
    if left:
        config.hook.pytest_deselected(items=left)


def _runs(item: pytest.Item) -> bool:
    if SUITE.size == 1:
        return True
    if item.get_closest_marker("serial") is not None:
        return False
    if item.get_closest_marker("ranks") is not None:
        return True
    return SUITE.size == 2 and not OF_RANKS.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Keep what went wrong, for the other ranks to see."""
    if report.failed:
        COLLECTION_ERRORS.append(report.longreprtext)


def pytest_collection_finish(session: pytest.Session) -> None:
    """All ranks must have found the same tests: a module that cannot be imported on one rank would leave the others waiting."""
    found = SUITE.allgather([item.nodeid for item in session.items])
    errors = SUITE.allgather(COLLECTION_ERRORS)
    if any(other != found[0] for other in found) or len({bool(texts) for texts in errors}) > 1:
        details = "".join(f"\nrank {rank}:\n{text}" for rank, texts in enumerate(errors) for text in texts)
        pytest.exit(f"the ranks collected different tests{details}", returncode=3)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the verdicts of all ranks into one."""
    report = yield
    if SUITE.size > 1:
        failures = _exchange(item.nodeid, report.longreprtext if report.failed else None)
        others = {rank: text for rank, text in failures.items() if rank != SUITE.rank}
        if others and not report.failed:
            report.outcome = "failed"
            report.longrepr = "\n".join(f"failed on rank {rank}:\n{text}" for rank, text in others.items())
    return report


def _exchange(name: str, failure: str | None) -> dict[int, str]:
    """Text of the failure on each rank where there was one. Collective.

    The wait is for a counter, not inside a blocking call, so that a rank that failed can give up on others that wait for it.
    """
    arrived = SUITE.Ibarrier()
    start = time.monotonic()
    while not arrived.Test():
        if failure is not None and time.monotonic() - start > GRACE:
            _end(f"{name} failed on rank {SUITE.rank} while another rank did not reach its end:\n{failure}\n")
        time.sleep(0.001 if time.monotonic() - start > 0.01 else 0)
    texts = SUITE.allgather(failure)
    return {rank: text for rank, text in enumerate(texts) if text is not None}


def _end(message: str) -> None:
    """End all ranks at once with a message on the terminal."""
    with os.fdopen(os.dup(2), "w") as terminal:
        terminal.write("\n" + message)
    faulthandler.cancel_dump_traceback_later()
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
