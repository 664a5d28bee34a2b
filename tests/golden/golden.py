"""The golden files: numbers of every case and every study at reduced size, computed again and compared.

`cases/NAME.json` holds the summary of cases/NAME.toml, `studies/NAME.json` verdicts and table of studies/NAME.toml, with all
digits and at the sizes of `sizes.toml`. `make golden` computes them anew, prints every number that changed, and writes them;
`make golden NAMES="circle_rbf lln"` does so for some.

Numbers behind which no linear solver stands are explicit: particles, characteristics, explicit densities, what compares them.
They must be the same bit for bit on a machine like the one where the file was written, and to EXPLICIT elsewhere: another
processor, or another number of threads, adds in another order. Implicit densities, stationary laws, modes and branches must be
equal to SOLVED: linear systems are solved to 1e-12, and one that smooths the error estimate, on which step lengths depend, to
1e-3 of that estimate. (Complete factors instead of the iteration change no number by more than 2e-9.) Errors that companions
tell are differences of such numbers, equal to ESTIMATED. Text and keys are always the same. Wall times, the iterations of linear
solvers and observed orders are left out, and so is by how many errors measures differ, where another quantity may be the worst
by a little; of warnings the codes are kept.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import mvpde.runtime  # isort: skip - loads the solver libraries in the right order
import llvmlite.binding
import tomli_w

import mvpde
from mvpde.runtime import MPI
from mvpde.studies.points import compute
from mvpde.studies.runner import conclude, plan, prepare

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KINDS = ("cases", "studies")

Key = tuple[str | int, ...]  # ("density", "loss", 2)
Leaf = str | int | float | bool | None
Content = dict[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """|a − b| ≤ relative · max(|a|, |b|) + absolute: the second for numbers that are zero but for rounding."""

    relative: float
    absolute: float


SAME = Tolerance(0.0, 0.0)
EXPLICIT = Tolerance(1e-9, 1e-12)
SOLVED = Tolerance(1e-7, 1e-10)
ESTIMATED = Tolerance(1e-5, 1e-8)  # errors and extrapolated values: differences of solved numbers

EXPLICIT_SCHEMES = ("flux_corrected",)
# The columns of a study's table behind which linear solvers stand, by task and beginning; of the task "run" see `_solved_in_run`.
# Tasks that are not here compute with particles, characteristics and explicit densities, or by quadrature.
SOLVED_COLUMNS: dict[str, tuple[str, ...]] = {
    "empirical_law": ("law.",),
    "weak_error": ("weak_error.", "mesh_error."),
    "noise_scale": ("distance.", "standard_error.", "mesh_error", "outer_mass", "boltzmann."),
    "batch_schedule": ("distance.", "standard_error.", "mesh_error"),
    "generalisation": ("density.", "outer_mass"),
    "bifurcation": ("symmetric.", "broken."),
}
LEFT_OUT = re.compile(
    r"(^|\.)(((\w+_)?seconds|\w+_per_second|solver_iterations)$|(agrees|order)($|\.)|⟨)"
    r"|^(density|ensemble|characteristics|sgd)\.(mean|variance|mean_standard_error)($|[.[])"
)


# --- what is computed -----------------------------------------------------------------------------------------------------------


def sizes() -> dict[str, Any]:
    """The content of sizes.toml."""
    return tomllib.loads((HERE / "sizes.toml").read_text(encoding="utf-8"))


def shipped(kind: str) -> list[str]:
    """Names of all cases or studies."""
    return sorted(path.stem for path in (ROOT / kind).glob("*.toml"))


def summary(name: str, folder: Path) -> Content:
    """The summary of a case at reduced size."""
    known = sizes()
    mvpde.run(ROOT / "cases" / f"{name}.toml", set={**known["common"], **known["cases"][name]}, out=folder / name)
    found = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
    return {"summary": {**_kept(found), "warnings": [warning["code"] for warning in found["warnings"]]}}


def verdict(name: str, folder: Path) -> Content:
    """Verdicts and table of a study at reduced size, its points computed in this process and its figures not drawn."""
    path, out = folder / f"{name}.toml", folder / name
    path.write_text(tomli_w.dumps(reduced(name)), encoding="utf-8")
    with mock.patch("matplotlib.figure.Figure.savefig", lambda figure, file, **_: Path(file).touch()):
        study = plan(path, out)
        prepare(study)
        for k, point in enumerate(study.points):
            compute(out, point, MPI.COMM_WORLD)
            study.look(k)
        conclude(study)
    return written(study.study.task, out)


def written(task: str, folder: Path) -> Content:
    """What a study's golden file holds, from the study's folder."""
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {
        column: [_cell(row[column]) for row in rows] for column in rows[0] if not LEFT_OUT.search(column) and column != "warnings"
    }
    return {"task": task, "verdict": json.loads((folder / "verdict.json").read_text(encoding="utf-8")), "table": table}


def reduced(name: str) -> dict[str, Any]:
    """The content of a study file at reduced size."""
    known, path = sizes(), ROOT / "studies" / f"{name}.toml"
    table, change = tomllib.loads(path.read_text(encoding="utf-8")), known["studies"][name]
    given = table.get("measure", [])
    measures = given if isinstance(given, list) else [given]
    changes = [*change.get("measure", []), *[{}] * len(measures)]
    return {
        **table,
        "base": str((path.parent / table["base"]).resolve()),
        "set": {**table.get("set", {}), **known["common"], **change.get("set", {})},
        "options": {**table.get("options", {}), **change.get("options", {})},
        "vary": change["vary"],
        "measure": [{**one, **other} for one, other in zip(measures, changes, strict=False)],
    }


COMPUTED: dict[str, Callable[[str, Path], Content]] = {"cases": summary, "studies": verdict}


def _kept(value: Any, above: str = "") -> Any:
    """A nested table without means of coordinates, and what depends on the machine's load and on the linear solver's work."""
    if isinstance(value, Mapping):
        return {key: _kept(inner, f"{above}{key}.") for key, inner in value.items() if not LEFT_OUT.search(f"{above}{key}")}
    return value


def _cell(text: str) -> Any:
    """A number or a list where the text is one that JSON has."""
    if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?|\[.*\]", text):
        return json.loads(text)
    return text


# --- files ----------------------------------------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """All that the last bits depend on."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "cpu": f"{cpu[1].strip() if cpu else 'unknown'}, {llvmlite.binding.get_host_cpu_name()}",
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        **{name: importlib.metadata.version(name) for name in ("numpy", "numba", "scipy", "POT")},
    }


def golden_file(kind: str, name: str) -> Path:
    """Where it lies."""
    return HERE / kind / f"{name}.json"


def read(kind: str, name: str) -> dict[str, Any]:
    """A golden file's content; empty where there is none."""
    path = golden_file(kind, name)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(kind: str, name: str, content: Content) -> None:
    """Replace a golden file; lists of numbers on one line."""
    path = golden_file(kind, name)
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **content}, indent=1, ensure_ascii=False)
    flat = re.sub(r"\[[^\[\]{}\"]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
    path.write_text(flat + "\n", encoding="utf-8")


# --- comparison -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One entry that is not as it was; "absent" where there is none."""

    key: Key
    old: Any
    new: Any

    def __str__(self) -> str:
        change = f"{'.'.join(map(str, self.key))}: {self.old!r} -> {self.new!r}"
        if not _are_numbers(self.old, self.new) or self.new == self.old:
            return change
        return f"{change}  (relative {abs(self.new - self.old) / max(abs(self.old), abs(self.new)):.1e})"


def differences(old: Content, new: Content, tolerance: Callable[[Key], Tolerance]) -> list[Difference]:
    """Every entry that was lost, added, or changed by more than its tolerance, in the order of the files."""
    before, after = (dict(leaves({key: value for key, value in one.items() if key != "machine"})) for one in (old, new))
    keys = dict.fromkeys([*before, *after])
    pairs = [Difference(key, before.get(key, "absent"), after.get(key, "absent")) for key in keys]
    return [pair for pair in pairs if not _agree(pair.old, pair.new, tolerance(pair.key))]


def leaves(value: Any, above: Key = ()) -> Iterator[tuple[Key, Leaf]]:
    """All entries of nested tables and lists with their keys; an empty one is an entry."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield above, value
    elif not value:
        yield above, f"empty {type(value).__name__}"
    else:
        for key, entry in inner:
            yield from leaves(entry, (*above, key))


def _are_numbers(*values: Leaf) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _agree(old: Any, new: Any, tolerance: Tolerance) -> bool:
    if type(old) is not type(new):
        return False
    if not _are_numbers(old, new):
        return bool(old == new)
    return bool(abs(new - old) <= tolerance.relative * max(abs(old), abs(new)) + tolerance.absolute)


def tolerances(content: Content) -> Callable[[Key], Tolerance]:
    """How near each number must come to that of a golden file with this content, on this machine."""
    explicit = SAME if content["machine"] == machine() else EXPLICIT

    def tolerance(key: Key) -> Tolerance:
        if not is_solved(content, key):
            return explicit
        return ESTIMATED if any(str(name).endswith(("_error", "_extrapolated")) for name in key) else SOLVED

    return tolerance


def is_solved(content: Content, key: Key) -> bool:
    """Whether a linear solver stands behind the entry of a golden file."""
    names = tuple(map(str, key[1:]))
    if "summary" in content:
        return _solved_in_run(names, content["summary"].get("density", {}).get("scheme", ""))
    task, table = content["task"], content["table"]
    if key[0] == "table":
        return _solved_column(task, table, names[0])
    return key[0] == "verdict" and any(_solved_column(task, table, column) for column in table)


def _solved_column(task: str, table: Mapping[str, Any], column: str) -> bool:
    if task == "run":
        return any(_solved_in_run(tuple(column.split(".")), scheme) for scheme in table.get("density.scheme", [""]))
    return column.startswith(SOLVED_COLUMNS.get(task, ()))


def _solved_in_run(names: Sequence[str], scheme: str) -> bool:
    """Of a run's summary: all of an implicit density and what is compared with it; stationary laws and modes always."""
    implicit = scheme not in EXPLICIT_SCHEMES
    return {
        "density": implicit,
        "comparison": implicit and "density" in names[1].split("_vs_") if len(names) > 1 else False,
        "weak_errors": implicit and "density" in names,
        "stationary": True,
        "spectrum": True,
    }.get(names[0], False)


# --- the command ----------------------------------------------------------------------------------------------------------------


def renew(kind: str, name: str, folder: Path) -> None:
    """Compute, print all that changed, and write. A file in which nothing changed is left as it is."""
    old, new = read(kind, name), COMPUTED[kind](name, folder)
    changed = differences(old, new, lambda key: SAME) if old else []
    beyond = len(differences(old, new, tolerances(old))) if old else 0
    print(f"{kind}/{name}: {f'{len(changed)} changed, {beyond} by more than allowed' if old else 'new'}", flush=True)
    for one in changed:
        print(f"    {one}", flush=True)
    if changed or not old:
        write(kind, name, new)


def main(names: Sequence[str]) -> None:
    """Renew the golden files with these names, all of them if none is given."""
    unknown = set(names) - {name for kind in KINDS for name in shipped(kind)}
    if unknown:
        sys.exit(f"there is no case or study {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            for name in shipped(kind):
                if not names or name in names:
                    (Path(folder) / kind).mkdir(exist_ok=True)
                    renew(kind, name, Path(folder) / kind)


if __name__ == "__main__":
    main(sys.argv[1:])
