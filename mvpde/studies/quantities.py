"""Quantities of a study's dataset: along a varied key, at an output time, in parts with one value of a key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mvpde.studies.verdict import Array

if TYPE_CHECKING:
    import xarray

Key = str | float | int | None  # a value of a varied key; None where it is not varied


def axis(dataset: xarray.Dataset, key: str | None) -> xarray.DataArray | None:
    """The values of a varied key, by the key or its name in the dataset; None if the study does not vary it."""
    known = {name: (values.attrs.get("key"), name) for name, values in dataset.coords.items()}
    return next((dataset.coords[name] for name, names in known.items() if key is not None and key in names), None)


def grouped(dataset: xarray.Dataset, key: str) -> Iterator[tuple[Key, xarray.Dataset]]:
    """(value, part of the dataset) for every value of a varied key, in increasing order; (None, all) if it is not varied."""
    varied = axis(dataset, key)
    if varied is None:
        yield None, dataset
        return
    for value in np.unique(varied.values):
        yield value, dataset.isel({varied.dims[0]: np.flatnonzero(varied.values == value)})


def number(value: object) -> float:
    """A parameter as a number: itself, or the geometric mean of a list (cells = [64, 64] → 64); NaN for anything else."""
    parts = str(value).split("x")
    try:
        return float(np.prod([float(part) for part in parts]) ** (1.0 / len(parts)))
    except ValueError:
        return math.nan


def at(dataset: xarray.Dataset, name: str | None, t: float | None) -> xarray.DataArray | None:
    """A quantity at time t over the parameters; None if there is none or t is no output time."""
    if name is None or name not in dataset:
        return None
    values = dataset[name]
    if t is None or "time" not in values.dims:
        return values
    close = np.flatnonzero(np.isclose(dataset["time"].values, t, rtol=1e-9, atol=1e-12))
    return values.isel(time=int(close[0])) if len(close) else None


def columns(along: xarray.DataArray, values: Sequence[xarray.DataArray]) -> list[Array]:
    """The numbers of a varied key and those of some quantities at the same points, one flat array for each."""
    x = along.copy(data=[number(value) for value in along.values]).astype(float)
    whole = x
    for array in values:
        whole = array.broadcast_like(whole)
    return [np.asarray(array.broadcast_like(whole).values, float).ravel() for array in (x, *values)]


def largest(dataset: xarray.Dataset, name: str | None, t: float | None) -> float:
    """The largest value of a quantity over the parameters: 0 if it was not asked for, NaN if it was and is not there."""
    if name is None:
        return 0.0
    values = at(dataset, name, t)
    return math.nan if values is None or not np.isfinite(values.values).any() else float(np.nanmax(values.values))


def table_of(dataset: xarray.Dataset, prefix: str, kept: Sequence[str]) -> xarray.Dataset:
    """The quantities whose names begin so, without that beginning: means over all dimensions but `kept` and their own.

    A standard error becomes that of the mean of independent points.
    """
    names = [name for name in dataset.data_vars if str(name).startswith(prefix)]

    def mean(values: xarray.DataArray) -> xarray.DataArray:
        others = [d for d in values.dims if d not in kept and not str(d).startswith(prefix)]
        if str(values.name).endswith("standard_error"):
            return ((values**2).mean(others) / values.notnull().sum(others)) ** 0.5
        return values.mean(others)

    return dataset[names].map(mean).rename({name: str(name).removeprefix(prefix) for name in names})


def failures(dataset: xarray.Dataset) -> int:
    """How many points failed."""
    return int((dataset["status"] == "failed").sum())
