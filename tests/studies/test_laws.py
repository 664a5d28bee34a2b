"""What every limit law has: a place in the tables, needs that are told, and a result whose fields are the summary."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mvpde.cases.file import load
from mvpde.cases.meshes.coarser import HALF, fewer, with_fewer
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Section
from mvpde.runtime import CaseError
from mvpde.studies.laws import MEASUREMENTS, TASKS
from mvpde.studies.laws.sgd.driven import MINIBATCHES
from mvpde.studies.measurement import MeasurementOptions
from mvpde.studies.needs import Need, check, hot, sections, where
from mvpde.studies.task import entries

pytestmark = pytest.mark.serial

CASE = Path(__file__).parents[2] / "cases" / "gaussian_mixture.toml"


@pytest.fixture(scope="module")
def cold() -> Problem:
    """A network at temperature 0 with density, characteristics and ensemble."""
    return problem(load(CASE))


def test_every_entry_is_there_and_says_what_it_is() -> None:
    assert all(issubclass(TASKS[name].options, Section) and TASKS.sentence(name) for name in TASKS)
    assert all(
        issubclass(MEASUREMENTS[name].options, MeasurementOptions) and MEASUREMENTS.sentence(name) for name in MEASUREMENTS
    )


def test_a_list_of_points_loads_neither_tables_nor_figures() -> None:
    """xarray and matplotlib take longer to import than the points of a study to list."""
    code = (
        "import sys; from mvpde.studies.runner import plan; plan('studies/lln.toml', '/tmp/no such folder');"
        "sys.exit(', '.join({'xarray', 'matplotlib', 'dolfinx', 'numba'} & set(sys.modules)) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=CASE.parents[1], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_first_unmet_need_is_told(cold: Problem) -> None:
    never = [Need(lambda _: False, "[model] kind: first; change it"), Need(lambda _: False, "[model] kind: second")]
    with pytest.raises(CaseError, match=r"gaussian_mixture\.toml: \[model\] kind: first; change it"):
        check(cold, never)
    with pytest.raises(CaseError, match=r'\[sgd\]: the section is missing, and the task "mine" needs it; add it'):
        check(cold, sections("density", "sgd", task="mine"))
    check(cold, where(hot, never))


def test_fields_of_a_result_are_the_summary() -> None:
    """Those of dataclasses in it too; a list of them, one for each output time, becomes lists; None has no entry."""

    @dataclass(frozen=True)
    class Inner:
        size: float
        exact: float | None

    @dataclass(frozen=True)
    class Result:
        times: list[float]
        rows: list[Inner]
        last: Inner
        named: dict[str, Inner]

    result = Result([0.0, 1.0], [Inner(1.0, None), Inner(2.0, None)], Inner(2.0, 3.0), {"a": Inner(4.0, None)})
    assert entries(result) == {
        "times": [0.0, 1.0],
        "rows": {"size": [1.0, 2.0]},
        "last": {"size": 2.0, "exact": 3.0},
        "named": {"a": {"size": 4.0}},
    }


def test_cells_and_nodes_become_fewer_together(cold: Problem) -> None:
    coarse = with_fewer(cold, HALF).sections
    fine = cold.sections
    assert fine.domain is not None and coarse.domain is not None and fine.domain.cells is not None
    assert fine.characteristics is not None and coarse.characteristics is not None
    assert coarse.domain.cells == [n // 2 for n in fine.domain.cells]
    assert coarse.characteristics.nodes == [n // 2 for n in fine.characteristics.nodes]
    assert (fewer([1, 5, 8], HALF), fewer([4, 8], HALF, least=3)) == ([1, 3, 4], [3, 4])


def test_a_temperature_is_named(cold: Problem) -> None:
    hot_model = replace(cold, model=replace(cold.model, temperature=0.25))
    with pytest.raises(CaseError, match=r"at temperature 0, not 0\.25; set it to 0"):
        check(hot_model, MINIBATCHES[-1:])
