"""The benchmark runs, and its page holds every figure that the project promises; no test looks at a time."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "mpi_runs" / "bench.py"

pytestmark = pytest.mark.serial


def test_a_quick_benchmark_measures_everything_that_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, as one run takes half a minute."""
    line = [sys.executable, str(BENCH), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert done.stdout == page
    record = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    every_claim_is_a_positive_number_beside_its_bound(record)
    counts_are_those_of_the_meshes(record)
    every_round_has_all_four_rates(record)
    page_names_machine_date_and_versions(page, record)
    times_taken_on_a_busy_machine_decide_nothing(monkeypatch, record)


def every_claim_is_a_positive_number_beside_its_bound(record: dict) -> None:
    claims = {claim["quantity"].split(",")[0]: claim for claim in record["claims"]}
    assert set(claims) == {
        "explicit stage",
        "two ranks",
        "share of a stage in moments and potential",
        "implicit step with a full tensor",
        "two ranks for implicit steps with a full tensor",
        "memory in 2-D",
        "memory in 3-D",
        "ensemble",
        "gaussian_mixture",
    }
    for claim in claims.values():
        assert math.isfinite(claim["value"]) and claim["value"] > 0.0
        assert claim["bound"][0] in "≥≤" and isinstance(claim["kept"], bool)


def counts_are_those_of_the_meshes(record: dict) -> None:
    """A circle of n cells times an interval of n has n(n + 1) unknowns; ranks share them without overlap; K = 64 angles."""
    results = record["results"]
    for run in results["explicit"]:
        n = run["cells"][0]
        assert run["nodes"] == n * (n + 1)
        assert 0 < run["feature_rank"] <= run["features"] == 64
    n = results["parallel"]["cells"][0]
    assert len(results["parallel"]["owned"]) == 2 and sum(results["parallel"]["owned"]) == n * (n + 1)
    assert [run["nodes"] for run in results["memory_3d"]] == [(run["cells"][0] + 1) ** 3 for run in results["memory_3d"]]
    assert {run["problem"] for run in results["tensor"]} == {run["problem"] for run in results["tensor_parallel"]}
    for run in results["tensor"]:
        assert run["mass_defect"] < 1e-12 and run["minimum"] >= -1e-14
        assert 0.0 < run["median"] <= run["slowest"]
    assert results["implicit"]["solver_iterations"] > 0 and results["mixture"]["mass_defect"] < 1e-12


def every_round_has_all_four_rates(record: dict) -> None:
    runs = [record["results"]["parallel"], *record["results"]["tensor_parallel"]]
    for rates in [rates for run in runs for rates in run["rounds"]]:
        assert set(rates) == {"one_rank", "two_ranks", "one_process", "two_processes"}
        assert all(rate > 0.0 for rate in rates.values())


def page_names_machine_date_and_versions(page: str, record: dict) -> None:
    assert record["circumstances"]["cpu"] in page and record["circumstances"]["date"] in page
    assert all(f"{name} {version}" in page for name, version in record["results"]["machine"]["versions"].items())
    assert all(claim["measured"] in page for claim in record["claims"])
    assert "GB/s" in page and "ns/non-zero" in page and "Load before the start" in page


def times_taken_on_a_busy_machine_decide_nothing(monkeypatch: pytest.MonkeyPatch, record: dict) -> None:
    monkeypatch.syspath_prepend(str(BENCH.parent))
    from bench_table import QUIET, claims, verdict

    for taken, decided in ((0.5 * QUIET, True), (2.0 * QUIET, False)):
        for claim in claims(record["results"], taken):
            assert claim["decided"] == (decided or claim["quantity"].startswith("memory"))
            assert ("undecided" in verdict(claim)) != claim["decided"]


def test_efficiency_is_the_ratio_of_speed_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks 1.6 times as fast as one, two processes 1.8 times as fast as one: 1.6/1.8, whatever the machine's drift."""
    monkeypatch.syspath_prepend(str(BENCH.parent))
    from bench_table import efficiency

    rates = {"one_rank": 10.0, "two_ranks": 16.0, "one_process": 11.0, "two_processes": 19.8}
    found = efficiency([{kind: drift * rate for kind, rate in rates.items()} for drift in (1.0, 0.5, 0.9)])
    assert found == pytest.approx({"speed_up": 1.6, "ceiling": 1.8, "ratio": 1.6 / 1.8, "directly": 16.0 / 19.8})
