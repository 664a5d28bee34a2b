"""Parts of a study's dataset in which a varied key has one value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray


def axis(dataset: xarray.Dataset, key: str) -> xarray.DataArray | None:
    """The coordinate that holds the values of a varied key; None if the study does not vary it."""
    return next((coordinate for coordinate in dataset.coords.values() if coordinate.attrs.get("key") == key), None)


def grouped(dataset: xarray.Dataset, key: str) -> Iterator[tuple[Any, xarray.Dataset]]:
    """(value, part of the dataset) for every value of a varied key, in increasing order; (None, all) if it is not varied."""
    found = axis(dataset, key)
    if found is None:
        yield None, dataset
        return
    for value in np.unique(found.values):
        yield value, dataset.isel({found.dims[0]: np.flatnonzero(found.values == value)})
