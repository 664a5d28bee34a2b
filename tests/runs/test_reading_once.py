"""Rank 0 reads a case and its data, once; what was read is what is computed with and what is kept."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mvpde
from mvpde.runtime import MPI, on_first_rank

pytestmark = pytest.mark.ranks

CASES = Path(__file__).parents[2] / "cases"
SMALL = {
    "ensemble.particles": 20,
    "ensemble.runs": 1,
    "time.end": 0.1,
    "time.outputs": 1,
    "output.pictures": False,
    "model.temperature": 0.0,
}


@pytest.fixture
def opened() -> Iterator[Counter[str]]:
    """How often this rank opens each file, by name."""
    count: Counter[str] = Counter()
    listening = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and listening:
            count[Path(str(arguments[0])).name] += 1

    sys.addaudithook(hear)  # for ever
    yield count
    listening.clear()


def test_a_case_and_its_data_are_opened_once(shared_tmp_path: Path, comm: MPI.Intracomm, opened: Counter[str]) -> None:
    on_first_rank(comm, lambda: shutil.copytree(CASES / "data", shared_tmp_path / "data") and None)
    on_first_rank(comm, lambda: shutil.copy(CASES / "sigmoid_regression.toml", shared_tmp_path / "fit.toml") and None)
    opened.clear()
    path = shared_tmp_path / "fit.toml"
    result = mvpde.run(path, set=SMALL, out=shared_tmp_path / "out", without=["density", "characteristics"], comm=comm)
    read = [opened["fit.toml"], opened["copper.csv"] - (comm.rank == 0)]  # one more is the copy in the run's folder, written
    assert comm.gather(read) in (None, [[1, 1]] + [[0, 0]] * (comm.size - 1))
    assert (result.folder / "inputs" / "copper.csv").read_bytes() == (CASES / "data" / "copper.csv").read_bytes()
