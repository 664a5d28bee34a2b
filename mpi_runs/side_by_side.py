"""Two source trees, measured in turn: `python mpi_runs/side_by_side.py OTHER [--rounds 3] [--only implicit]`.

Every measurement of `bench_tasks.py` that a tree's own code decides runs A B A B … in fresh processes, one thread each, so that a
machine that changes its speed changes it for both. For each row: the best of the rounds here and there, and the median over the
rounds of the ratio here / there: below 1 this tree is quicker, or needs less memory. The other tree is run by the same Python,
from its own `mpi_runs/`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import environment, mpirun

HERE = Path(__file__).resolve().parents[1]
TENSORS = ("crossed", "degenerate", "copper")

# row: (ranks, task, arguments, figure, True where a larger figure is better)
ROWS: dict[str, tuple[int, str, dict[str, Any], str, bool]] = {
    "explicit stage, 256": (1, "explicit_stage", {"cells": [256, 256], "steps": 60, "repeats": 5}, "updates_per_second", True),
    "explicit stage, 1024": (1, "explicit_stage", {"cells": [1024, 1024], "steps": 6, "repeats": 3}, "updates_per_second", True),
    "implicit step, 256": (1, "implicit_step", {"cells": [256, 256], "end": 2.0}, "seconds_per_step", False),
    "implicit step, 256, 2 ranks": (2, "implicit_step", {"cells": [256, 256], "end": 2.0}, "seconds_per_step", False),
    "mixture, 256, t = 5": (1, "mixture_run", {"cells": [256, 256], "end": 5.0}, "seconds", False),
    "ensemble step, 1e6": (1, "ensemble_step", {"particles": 1_000_000, "repeats": 5}, "seconds", False),
    "memory 2-D, 512, peak": (
        1,
        "memory",
        {"problem": "circle_rbf", "cells": [512, 512], "duration": 0.02},
        "peak_bytes_per_node",
        False,
    ),
    "memory 3-D, 40, peak": (
        1,
        "memory",
        {"problem": "sigmoid_3d", "cells": [40] * 3, "duration": 0.1},
        "peak_bytes_per_node",
        False,
    ),
    **{
        f"tensor step {problem}, 256, {ranks} rank{'s' * (ranks > 1)}, {figure}": (
            ranks,
            "tensor_step",
            {"problem": problem, "cells": [256, 256], "end": 0.25, "repeats": 1},
            figure,
            False,
        )
        for problem in TENSORS
        for ranks in (1, 2)
        for figure in ("mean", "slowest")
    },
}


def measured(tree: Path, ranks: int, task: str, arguments: str) -> dict[str, Any]:
    """What a task of a tree prints."""
    launcher = [mpirun(), "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, sys.executable, str(tree / "mpi_runs" / "bench_tasks.py"), task, arguments]
    surroundings = environment() | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=600, check=False, cwd=tree)
    if done.returncode != 0:
        raise SystemExit(f"{tree}: the measurement '{task}' failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="root of the other source tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    options = parser.parse_args()
    trees = (HERE, options.other.resolve())
    runs: dict[tuple[int, str, str], list[str]] = {}  # figures that one run gives together
    for row, (ranks, task, arguments, _, _) in ROWS.items():
        if options.only in row:
            runs.setdefault((ranks, task, json.dumps(arguments)), []).append(row)
    print(f"load {os.getloadavg()[0]:.2f}; here {trees[0]}, there {trees[1]}")
    print(f"{'row':<45} {'here':>12} {'there':>12} {'here / there':>13}")
    for (ranks, task, arguments), rows in runs.items():
        rounds = [tuple(measured(tree, ranks, task, arguments) for tree in trees) for _ in range(options.rounds)]
        for row in rows:
            _, _, _, figure, larger = ROWS[row]
            pairs = [(here[figure], there[figure]) for here, there in rounds]
            best = [(max if larger else min)(column) for column in zip(*pairs, strict=True)]
            ratio = statistics.median((there / here if larger else here / there) for here, there in pairs)
            print(f"{row:<45} {best[0]:>12.4g} {best[1]:>12.4g} {ratio:>13.3f}", flush=True)


if __name__ == "__main__":
    main()
