"""Every case and study gives the numbers, words and keys of its golden file.

`make golden` (see `golden.py`) renews the files and prints what changed: run it after a change that is meant to change numbers,
and say in the commit why they did. A new case or study needs its reduced size in `sizes.toml` first. Which numbers are compared
bit for bit, and which to the tolerance of the linear solvers, is declared by key in `golden.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from golden import golden

pytestmark = pytest.mark.serial

ALL = [(kind, name) for kind in golden.KINDS for name in golden.shipped(kind)]


@pytest.mark.parametrize("kind", golden.KINDS)
def test_every_case_and_study_has_a_size_and_a_file(kind: str) -> None:
    names, sizes = golden.shipped(kind), golden.sizes()[kind]
    without = [name for name in names if name not in sizes]
    assert not without, f"give {', '.join(without)} a reduced size in tests/golden/sizes.toml, [{kind}.NAME], then: make golden"
    files = sorted(path.stem for path in (golden.HERE / kind).glob("*.json"))
    assert (sorted(sizes), files) == (names, names), "sizes and files of what is no longer there must go"


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[f"{kind}-{name}" for kind, name in ALL])
def test_the_numbers_are_the_golden_ones(kind: str, name: str, tmp_path: Path) -> None:
    old = golden.read(kind, name)
    assert old, "has no golden file: make golden"
    found = golden.differences(old, golden.COMPUTED[kind](name, tmp_path), golden.tolerances(old))
    assert not found, "\n".join(map(str, [f"{len(found)} entries differ (`make golden` renews them):", *found]))


def test_differences_are_told() -> None:
    """A lost key, a new one, a changed word and a number off by one bit, in what is explicit and in what is solved."""
    old = {
        "machine": golden.machine(),
        "summary": {
            "density": {"scheme": "edge_averaged", "loss": [0.5, 0.25]},
            "ensemble": {"loss": [0.5, 0.25]},
            "warnings": [],
        },
    }
    bit = 0.25 * (1.0 + 2.0**-52)
    near = {"scheme": "edge_averaged", "loss": [0.5, bit]}
    new = {"summary": {"density": near, "ensemble": {"loss": [0.5, bit]}, "warnings": ["narrow"], "more": 1}}
    found = golden.differences(old, new, golden.tolerances(old))
    assert [".".join(map(str, one.key[1:])) for one in found] == ["ensemble.loss.1", "warnings", "warnings.0", "more"]
    assert "relative 2.2e-16" in str(found[0])
    elsewhere = {**old, "machine": {"cpu": "another"}}
    assert len(golden.differences(elsewhere, new, golden.tolerances(elsewhere))) == 3
