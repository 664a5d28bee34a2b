"""The result of a study as rows: one for each point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mvpde.studies.points import DONE, POINTS, Point, State, short_value
from mvpde.studies.verdict import Json

Row = dict[str, Json]

# Depends on the machine and its load, so it is no result: it has a table of its own.
UPDATES = ("particle_updates_per_second", "node_updates_per_second", "weight_updates_per_second")
TIMINGS = ("ranks", "seconds", "wall_seconds", "companion_seconds", *UPDATES)
NOT_OVER_TIME = ("stationary", "spectrum", "representable", "warnings", "times")


def read_summary(folder: Path, point: Point, state: State) -> Row:
    """summary.json of a finished point as {"a.b": value}; empty for any other."""
    if state.status != DONE:
        return {}
    return flat(json.loads((folder / POINTS / point.name / "summary.json").read_text(encoding="utf-8")))


def flat(table: Mapping[str, Json], above: str = "") -> Row:
    """{"a.b": v} from {"a": {"b": v}}."""
    whole: Row = {}
    for key, value in table.items():
        whole |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return whole


def _is_timing(key: str) -> bool:
    return key.split(".")[-1] in TIMINGS


def results(summary: Mapping[str, Json]) -> Row:
    """All that is no timing."""
    return {key: value for key, value in summary.items() if key not in ("status", "title") and not _is_timing(key)}


def _parameters(point: Point) -> Row:
    return {key: short_value(value) if isinstance(value, list) else value for key, value in point.parameters.items()}


def row(point: Point, state: State, summary: Mapping[str, Json]) -> Row:
    """A row of table.csv: parameters, state, every scalar of the summary, the last entry of every list over the output times."""
    cells = _parameters(point) | {"status": state.status, "message": state.message, "folder": f"{POINTS}/{point.name}"}
    count = len(times_of(summary))
    for key, value in results(summary).items():
        if key in cells:
            continue  # a parameter keeps its value: what the summary calls characteristics.nodes is their product
        if over_time(key, value, count):
            cells[f"{key}[-1]"] = cast("list[Json]", value)[-1]
        elif not isinstance(value, list):
            cells[key] = value
    warnings = [str(entry["message"]) for entry in cast("Sequence[Mapping[str, Json]]", summary.get("warnings", ()))]
    return {**cells, "warnings": "; ".join(warnings)} if warnings else cells


def timing_row(point: Point, state: State, summary: Mapping[str, Json]) -> Row:
    """A row of timing.csv."""
    measured = {key: value for key, value in summary.items() if _is_timing(key)}
    return {"folder": f"{POINTS}/{point.name}", **_parameters(point), "process_seconds": state.seconds, **measured}


def times_of(summary: Mapping[str, Json]) -> Sequence[float]:
    """The output times."""
    return cast("Sequence[float]", summary.get("times", ()))


def over_time(key: str, value: Json, count: int) -> bool:
    """Whether a quantity is a list over the output times."""
    return isinstance(value, list) and len(value) == count > 0 and key.split(".")[0] not in NOT_OVER_TIME
