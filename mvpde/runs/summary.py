"""What a run leaves in tables: the content of summary.json, and rows of series.csv and predictions.csv."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mvpde.models.data import Data
from mvpde.runs.cautions import Findings, cautions
from mvpde.runs.errors.agreement import agreements
from mvpde.runs.errors.estimates import entries
from mvpde.runs.job import Run
from mvpde.runs.record import Record

Summary = dict[str, Any]  # the content of summary.json


def row(recorded: Record) -> dict[str, float]:
    """A row of series.csv."""
    columns = {"t": recorded.time}
    for group in (recorded.numbers, recorded.comparison):
        columns |= {f"{name}_{key}": value for name, numbers in group.items() for key, value in numbers.items()}
    return columns


def prediction_rows(data: Data, job: Run) -> list[dict[str, float]]:
    """Rows of predictions.csv, one for each output time and data point."""
    inputs = ["x"] if data.x.shape[1] == 1 else [f"x{k + 1}" for k in range(data.x.shape[1])]
    known = {} if job.companions is None else job.companions.found
    error = known.get("predictions")
    rows = []
    for k, recorded in enumerate(job.records):
        columns = dict(recorded.predictions)
        columns |= {f"{name}_standard_error": spread for name, spread in recorded.prediction_standard_error.items()}
        if error is not None:
            columns |= {"density_error": error.found.error[k], "density_extrapolated": error.found.extrapolated[k]}
        for p, (x, target) in enumerate(zip(data.x, data.target, strict=True)):
            row = {"t": recorded.time, **dict(zip(inputs, x, strict=True)), "target": target}
            rows.append(row | {name: column[p] for name, column in columns.items()})
    return rows


def _listed(records: Sequence[Record], name: str, keys: Sequence[str]) -> dict[str, list[float]]:
    """Lists over the output times; a key that the measure does not have is left out."""
    rows = [recorded.numbers[name] for recorded in records]
    return {key: [row[key] for row in rows] for key in keys if all(key in row for row in rows)}


def _of_coordinates(records: Sequence[Record], name: str, coordinates: Sequence[str]) -> dict[str, list[list[float]]]:
    """mean, variance, mean_standard_error → lists over the output times of one number for each coordinate.

    An observable of such a name, which a case may define, stands in its place.
    """
    rows = [recorded.numbers[name] for recorded in records]
    keys = ("mean", "variance", "mean_standard_error")
    there = [key for key in keys if rows and all(f"{key}_{one}" in row for row in rows for one in coordinates)]
    return {key: [[row[f"{key}_{one}"] for one in coordinates] for row in rows] for key in there}


def _over_time(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """name → quantity → its values at the output times, for the names and quantities of the last one."""
    last = tables[-1] if tables else {}
    return {name: {key: [table[name][key] for table in tables] for key in numbers} for name, numbers in last.items()}


def _compared(job: Run) -> dict[str, dict[str, Any]]:
    """Pair → its numbers at the output times, and whether its measures agree."""
    over_time = _over_time([recorded.comparison for recorded in job.records])
    agree = agreements(job.records, job.statistics, job.problem.model.data)
    return {f"{a}_vs_{b}": {**over_time.get(f"{a}_vs_{b}", {}), "agrees": found.entry()} for (a, b), found in agree.items()}


def summary_of(job: Run, status: str, message: str = "") -> Summary:
    """The content of summary.json."""
    model, records = job.problem.model, job.records
    summary: Summary = {
        "status": status,
        "message": message,
        "title": job.problem.case.sections.title,
        "ranks": job.comm.size,
        "wall_seconds": time.perf_counter() - job.began,
        "times": [recorded.time for recorded in records],
    }
    for name, measure in job.measures.items():
        lists = _listed(records, name, ("loss", *measure.listed, *model.observables))
        known = records[-1].arrays[name] if records else {}
        arrays = {key: [np.asarray(at_t.arrays[name][key]).tolist() for at_t in records] for key in known}
        places = _of_coordinates(records, name, model.coordinates)
        summary[name] = {**job.statistics[name], **places, **lists, **arrays, "seconds": job.seconds.get(name, 0.0)}
        if job.companions is not None and name == job.companions.fine.name:
            summary[name] |= entries(job.companions.found, [*lists, *arrays]) | job.companions.statistics()
            summary[name] |= {} if job.ladder is None else job.ladder.entries()
        for key, listed in arrays.items():  # beside each other too, as they are compared
            summary.setdefault(key, {})[name] = listed
    summary["comparison"] = _compared(job)
    if any(recorded.weak_errors for recorded in records):
        summary["weak_errors"] = _over_time([recorded.weak_errors for recorded in records])
    if model.facts:
        summary["model"] = dict(model.facts)
    if job.optimality is not None:
        for name, entry in job.optimality.entries([recorded.numbers for recorded in records]).items():
            summary[name] = {**summary.get(name, {}), **entry}
    if job.exit is not None:
        summary["exit"] = job.exit.entry()
    if job.long_time is not None:
        summary |= job.long_time.summary(summary["times"])
    found = Findings(job.problem, records, job.statistics, job.long_time, job.companions)
    return {**summary, "warnings": [caution.entry() for caution in (*job.passed_over, *cautions(found))]}
