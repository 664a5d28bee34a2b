"""A run's folder as an xarray dataset."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import xarray

from mvpde.fields import read_fields, read_mesh
from mvpde.runtime import CaseError


def open_run(folder: str | Path) -> xarray.Dataset:
    """Everything a run has written, also while it is still running.

    Variables: the columns of series.csv over `time`; `density` (time, node) with `mesh_points` (node, axis) and `cells` (cell,
    vertex); `particles` (time, particle, coordinate); `target`, `x` and `prediction_<measure>` (time, data_point). The attribute
    `summary` holds summary.json.

    Of a random network: the columns of layers.csv over `layer`, `kernel` and `tangent_kernel` (input, other_input),
    `fixed_point_q`, `_c`, `_chi`, `_xi_c`, `_xi_grad`, `xi_q`, `trainable_depth` and `critical_weight_variance`.

    Raises:
        CaseError: if the folder holds no run.
    """
    folder = Path(folder)
    if not (folder / "summary.json").is_file():
        raise CaseError(f"{folder}: holds no run (there is no summary.json in it); give the folder that `mvpde run` wrote")
    dataset = _series(folder / "series.csv")
    for add in (_density, _particles, _predictions):
        dataset = dataset.merge(add(folder), join="inner")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if (folder / "layers.csv").is_file():  # nothing moves there
        dataset = _layers(folder / "layers.csv", summary)
    dataset.attrs["summary"] = summary
    return dataset


def _layers(path: Path, summary: Mapping[str, Any]) -> xarray.Dataset:
    """Of a random network: columns of layers.csv over `layer`, kernels over pairs of inputs, the fixed point as numbers."""
    columns = _columns(path)
    layers = columns.pop("layer", np.zeros(0)).astype(int)
    found: dict[str, Any] = {key: ("layer", values) for key, values in columns.items()}
    found |= {key: (("input", "other_input"), np.array(summary[key])) for key in ("kernel", "tangent_kernel") if key in summary}
    numbers = {f"fixed_point_{key}": value for key, value in summary.get("fixed_point", {}).items()}
    numbers |= {key: summary[key] for key in ("xi_q", "trainable_depth", "critical_weight_variance") if key in summary}
    found |= {key: ((), _number(value)) for key, value in numbers.items()}
    return xarray.Dataset(found, coords={"layer": layers})


def _number(value: float | str | None) -> float:
    """From summary.json: "infinity" is ∞, null NaN."""
    return math.nan if value is None else math.inf if value == "infinity" else float(value)


def _columns(path: Path) -> dict[str, np.ndarray]:
    try:
        table = pandas.read_csv(path, dtype=str).astype(float)  # to the last digit
    except (FileNotFoundError, pandas.errors.EmptyDataError):  # nothing is recorded yet
        return {}
    return {} if table.empty else {str(key): table[key].to_numpy() for key in table}


def _series(path: Path) -> xarray.Dataset:
    columns = _columns(path)
    times = columns.pop("t", np.zeros(0))
    return xarray.Dataset({key: ("time", values) for key, values in columns.items()}, coords={"time": times})


def _density(folder: Path) -> xarray.Dataset:
    path = folder / "density.h5"
    if not path.is_file():
        return xarray.Dataset()
    (held, values), (points, cells) = read_fields(path), read_mesh(path)
    return xarray.Dataset(
        {
            "density": (("time", "node"), values.get("rho", np.zeros((0, held.nodes)))),
            "mesh_points": (("node", "axis"), points[:, : len(held.coordinates)]),
            "cells": (("cell", "vertex"), cells),
        },
        coords={"time": held.times, "axis": list(held.coordinates)},
    )


def _particles(folder: Path) -> xarray.Dataset:
    if not (folder / "particles.h5").is_file():
        return xarray.Dataset()
    held, fields = read_fields(folder / "particles.h5")
    values = np.stack([fields[name] for name in held.coordinates], axis=-1)
    return xarray.Dataset(
        {"particles": (("time", "particle", "coordinate"), values)},
        coords={"time": held.times, "coordinate": list(held.coordinates)},
    )


def _predictions(folder: Path) -> xarray.Dataset:
    columns = _columns(folder / "predictions.csv")
    if not columns:
        return xarray.Dataset()
    times = np.unique(columns.pop("t"))
    tables = {key: values.reshape(len(times), -1) for key, values in columns.items()}
    inputs = {key: ("data_point", tables.pop(key)[0]) for key in list(tables) if key == "target" or key.startswith("x")}
    fits = {f"prediction_{key}": (("time", "data_point"), table) for key, table in tables.items()}
    return xarray.Dataset({**inputs, **fits}, coords={"time": times})
