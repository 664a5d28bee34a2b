"""How far the error estimates of densities can be trusted, over all shipped cases (`make reliability`).

`reliability.toml` says what is run: each case with parameters drawn at random, on three meshes, beside a much finer one whose
extrapolated values stand for the true ones. For each value with an error it is asked whether the true error is at most twice the
estimate, and at least a tenth of it; and of runs with `[density] accuracy` whether what they claim is true. Each point is
computed once and kept in a folder (--out); references do not depend on what is tested and need not be computed again. The
tables go to the terminal, and with --docs between the marks in docs/accuracy.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvpde import run
from mvpde.cases.file import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = ("errors", "accuracy")
ACCURACIES = (1e-2, 1e-3, 1e-4)
COMPANIONS = ("ensemble", "characteristics", "sgd", "network")  # measures that are left out
SMALL = {"output.pictures": False, "output.fields": False, "output.sliced_wasserstein": False}
MOST_NODES = 20_000  # of runs with an accuracy
ROUNDING = 1e-9  # of the largest value over the output times: errors below are rounding or the linear solver's
NO_ERRORS = ("optimality_gap",)  # whose "_error" is a bound of another kind
MARKS = "<!-- reliability: {} -->"

Array = NDArray[np.float64]
Summary = dict[str, Any]


# --- what is run ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A case of reliability.toml.

    Attributes:
        name: of the case file.
        cells, shell: of the coarsest mesh.
        meshes: how many times as many cells each mesh has, in each direction.
        reference: the same for the true values.
        draws: how often parameters are drawn.
        set: values of the case, by "section.key".
        draw: ranges that values are drawn from.
    """

    name: str
    cells: tuple[int, ...] = ()
    shell: Mapping[str, int] = field(default_factory=dict)
    meshes: tuple[int, ...] = (1, 2, 4)
    reference: int = 8
    draws: int = 2
    set: Mapping[str, Any] = field(default_factory=dict)
    draw: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def drawn(self, number: int) -> dict[str, Any]:
        """Parameters of one draw, rounded to three digits; the first draw of a case is always the same."""
        random = np.random.default_rng([zlib.crc32(self.name.encode()), number])
        return dict(self.set) | {key: float(f"{random.uniform(*ends):.3g}") for key, ends in self.draw.items()}

    def on_mesh(self, times: int) -> dict[str, Any]:
        """The mesh of `times` as many cells as the coarsest."""
        if self.shell:
            return {f"domain.shell.{key}": times * count for key, count in self.shell.items()}
        return {"domain.cells": [times * count for count in self.cells]}


def problems(names: Sequence[str]) -> list[Problem]:
    table = tomllib.loads((HERE / "reliability.toml").read_text(encoding="utf-8"))
    unknown = [name for name in names if name not in table]
    if unknown:
        raise SystemExit(f"{unknown[0]}: not in reliability.toml, which has {', '.join(table)}")
    lists = {name: {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()} for name, entry in table.items()}
    return [Problem(name, **entry) for name, entry in lists.items() if not names or name in names]


def computed(name: str, settings: Mapping[str, Any]) -> Summary:
    """summary.json of the density alone, with its predictions."""
    case = load(ROOT / "cases" / f"{name}.toml", {**settings, **SMALL})
    others = [key for key in COMPANIONS if getattr(case.sections, key, None) is not None]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        summary = run(case, out=Path(folder) / "run", without=others).summary
        density = {**predictions(Path(folder) / "run"), **summary["density"]}
        return {**summary, "density": density, "total": time.perf_counter() - began}


def predictions(folder: Path) -> dict[str, list[float]]:
    """Of the density, with errors, one output time after another; nothing for a model without data."""
    path = folder / "predictions.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    columns = {"predictions": "density", "predictions_error": "density_error", "predictions_extrapolated": "density_extrapolated"}
    return {key: [float(row[column]) for row in rows] for key, column in columns.items() if rows[0].get(column)}


# --- values with errors ---------------------------------------------------------------------------------------------------------


def estimated(summary: Summary) -> dict[str, dict[str, Any]]:
    """quantity → {"value", "error", "extrapolated"} of whatever has an error, by "section.key"."""
    found = {}
    for section in ("density", "stationary", "spectrum"):
        table = summary.get(section)
        for key in table if isinstance(table, dict) else {}:
            if key not in NO_ERRORS and f"{key}_error" in table and table[f"{key}_error"] is not None:
                best = table.get(f"{key}_extrapolated", table[key])
                found[f"{section}.{key}"] = {"value": table[key], "error": table[f"{key}_error"], "extrapolated": best}
    moments = summary["density"].get("moments", {}).values()
    if moments:
        found["density.moments"] = {key: [one[key] for one in moments] for key in ("value", "error", "extrapolated")}
    return found


def numbers(values: object) -> Array:
    """A flat array; what is not known is NaN."""
    return np.array(values, dtype=float).reshape(-1)


def verdicts(values: Mapping[str, Any], truth: Mapping[str, Any]) -> Iterator[tuple[float, float, float]]:
    """(estimate, true error, error of the reference) for each number of a quantity that is more than rounding."""
    columns = [numbers(values[key]) for key in ("value", "error")] + [numbers(truth[key]) for key in ("extrapolated", "error")]
    if len({len(column) for column in columns}) > 1:
        return
    size = np.nanmax(np.abs(columns[2]), initial=0.0)
    for value, estimate, true, doubt in zip(*columns, strict=True):
        error = abs(value - true)
        if np.isfinite([value, estimate, true]).all() and max(error, estimate) > ROUNDING * size + 1e-300:
            yield estimate, error, doubt


# --- points: each is computed once, and kept in a file --------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Results by key, in a folder; a key's file is written when its result is there."""

    folder: Path

    def known(self, key: str) -> Any | None:
        """The result, None where it is not there."""
        path = self.folder / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The result, computed where it is not there."""
        known = self.known(key)
        if known is None:
            known = compute()
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{key}.json").write_text(json.dumps(known), encoding="utf-8")
        return known


def reference(problem: Problem, number: int) -> dict[str, Any]:
    """Values with errors on the finest mesh, whose steps are as much shorter."""
    settings = problem.drawn(number)
    case = load(ROOT / "cases" / f"{problem.name}.toml", settings)
    density = case.sections.density
    finer = 1.0 / problem.reference
    if density is not None and density.step is not None:
        settings["density.step"] = density.step * finer
    elif hasattr(density, "tolerance"):
        settings["density.tolerance"] = max(density.tolerance * finer**3, 1e-10)  # the error of a step is of third order
    return estimated(computed(problem.name, settings | problem.on_mesh(problem.reference)))


def on_mesh(problem: Problem, number: int, times: int, truth: Mapping[str, Any]) -> dict[str, Any]:
    """quantity → (estimate, true error, error of the reference) of each number, and what the run warns of."""
    summary = computed(problem.name, problem.drawn(number) | problem.on_mesh(times))
    found = {name: list(verdicts(values, truth[name])) for name, values in estimated(summary).items() if name in truth}
    codes = [warning["code"] for warning in summary["warnings"] if warning["code"] != "case.passed_over"]
    return {"found": found, "warnings": codes, "seconds": summary["total"]}


def accurate(problem: Problem, number: int, accuracy: float, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a run with this accuracy says that it has it, and its true relative error, of predictions or moments."""
    summary = computed(problem.name, problem.drawn(number) | {"density.accuracy": accuracy, "density.max_nodes": MOST_NODES})
    density, found, times = summary["density"], estimated(summary), len(summary["times"])
    data = "density.predictions" in found
    name, shape, axis = ("density.predictions", (times, -1), 1) if data else ("density.moments", (-1, times), 0)
    columns = (found[name], "extrapolated"), (truth[name], "extrapolated"), (truth[name], "error")
    best, true, doubt = (numbers(values[key]).reshape(*shape) for values, key in columns)
    size = np.linalg.norm(true, axis=axis)
    size = np.maximum(size, 0.1 * size.max())
    error, doubts = (float(np.max(np.linalg.norm(e, axis=axis) / size)) for e in (best - true, doubt))
    rungs = [{key: rung[key] for key in ("cells", "nodes", "error", "seconds")} for rung in density["ladder"]]
    return {"reached": density["accuracy_reached"], "error": error, "doubt": doubts, "ladder": rungs, "seconds": summary["total"]}


def points(chosen: Sequence[Problem]) -> Iterator[tuple[Problem, int]]:
    """Each problem's first draw, then the second ones, and so on: whatever is done is spread over the cases."""
    for number in range(max(problem.draws for problem in chosen)):
        yield from ((problem, number) for problem in chosen if number < problem.draws)


def carry_out(chosen: Sequence[Problem], folder: Path, seconds: float, parts: Sequence[str] = PARTS) -> None:
    """Compute what is missing, one point after another, until the time is over."""
    began, runs, references = time.perf_counter(), Store(folder / "runs"), Store(folder / "references")
    for problem, number in points(chosen):
        if time.perf_counter() - began > seconds:
            print("stopped; the same command goes on")
            return
        key = f"{problem.name}-{number}"
        truth = references.get(key, lambda p=problem, n=number: reference(p, n))
        for times in problem.meshes if "errors" in parts else ():
            runs.get(f"{key}-{times}", lambda p=problem, n=number, t=times, r=truth: on_mesh(p, n, t, r))
        for accuracy in ACCURACIES if "accuracy" in parts and problem.cells and len(problem.meshes) > 1 else ():
            runs.get(f"{key}-{accuracy:g}", lambda p=problem, n=number, a=accuracy, r=truth: accurate(p, n, a, r))
        print(f"{key}: {time.perf_counter() - began:.0f} s", flush=True)


# --- tables ---------------------------------------------------------------------------------------------------------------------


def row(name: str, found: Sequence[Sequence[float]]) -> str:
    """Shares of true errors within twice, and above a tenth of, the estimate; the reference's own error counts for neither."""
    estimate, error, doubt = np.array(found, float).reshape(-1, 3).T
    within, no_scare = error - doubt <= 2.0 * estimate, error + doubt >= estimate / 10.0
    median = np.median(estimate / np.maximum(error, 1e-300))
    told = f"{median:.1f}" if median < 1e6 else "(most true errors are 0)"
    return f"| {name} | {len(error)} | {100 * within.mean():.0f} % | {100 * no_scare.mean():.0f} % | {told} |"


def table(chosen: Sequence[Problem], folder: Path) -> str:
    """Per case, per quantity, and in all, as Markdown."""
    runs, of_case, of_quantity, count = Store(folder / "runs"), {}, {}, 0
    for problem, number in points(chosen):
        for times in problem.meshes:
            result = runs.known(f"{problem.name}-{number}-{times}")
            if result is None:
                continue
            count += 1
            for quantity, found in result["found"].items():
                of_case.setdefault(problem.name, []).extend(found)
                of_quantity.setdefault(quantity, []).extend(found)
    lines = [
        f"| {count} runs | values | true error ≤ 2 × estimate | ≥ estimate / 10 | median of estimate / true error |",
        "|---|---|---|---|---|",
    ]
    lines += [row(f"`{name}`", found) for name, found in (*sorted(of_case.items()), *sorted(of_quantity.items())) if found]
    everything = [entry for found in of_case.values() for entry in found]
    return "\n".join([*lines, *([row("**all**", everything)] if everything else [])])


def accuracy_table(chosen: Sequence[Problem], folder: Path) -> str:
    """Per accuracy: how often it is reached, how often that is true, and what a ladder costs beside its last mesh."""
    lines = [
        "| accuracy | runs | reached | of these truly | median time / that of the last mesh |",
        "|---|---|---|---|---|",
    ]
    runs = Store(folder / "runs")
    for accuracy in ACCURACIES:
        found = [runs.known(f"{problem.name}-{number}-{accuracy:g}") for problem, number in points(chosen)]
        known = [result for result in found if result is not None]
        reached = [result for result in known if result["reached"]]
        true = [result["error"] - result["doubt"] <= accuracy for result in reached]
        cost = [sum(rung["seconds"] for rung in result["ladder"]) / result["ladder"][-1]["seconds"] for result in reached]
        if reached:
            lines.append(
                f"| {accuracy:g} | {len(known)} | {len(reached)} | {100 * np.mean(true):.0f} % | {np.median(cost):.1f} |"
            )
    return "\n".join(lines)


def insert(page: Path, name: str, text: str) -> None:
    """Put a table between its marks."""
    before, found, rest = page.read_text(encoding="utf-8").partition(MARKS.format(name) + "\n")
    _, end, after = rest.partition(MARKS.format("end"))
    if not found or not end:
        raise SystemExit(f"{page}: has no marks {MARKS.format(name)} … {MARKS.format('end')}")
    page.write_text(f"{before}{found}{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; by default all of reliability.toml")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "reliability", help="folder of what is computed")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no point after so long")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/accuracy.md")
    options = parser.parse_args()
    chosen = problems(options.names)
    carry_out(chosen, options.out, options.seconds, options.part or PARTS)
    tables = {"errors": table(chosen, options.out), "accuracy": accuracy_table(chosen, options.out)}
    for name, text in tables.items():
        print(text)
        if options.docs:
            insert(ROOT / "docs" / "accuracy.md", name, text)


if __name__ == "__main__":
    main()
