"""Where data sets come from: what [data] may say, and the data that it describes.

A new source of data is one `DataSet` and one entry of `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mvpde.cases.schema import DataSection
from mvpde.cases.values import Choice, Number, Positive, refuse, same_lengths
from mvpde.models import data as datasets
from mvpde.models import spins
from mvpde.models.data import TARGETS, Data, target_function
from mvpde.registry import Registry
from mvpde.runtime import CaseError

Content = Callable[[Path], bytes]


class DataSet(DataSection):
    """A source of points with weights and targets.

    Attributes:
        blamed: the key that a wrong value most likely comes from.
        remedy: what to do about it.
    """

    blamed: ClassVar[str] = "target"
    remedy: ClassVar[str] = "choose a target that is finite at all data points"

    def read(self, directory: Path, content: Content) -> Data:
        """The data set.

        Args:
            directory: that names of files are relative to.
            content: what a file holds.

        Raises:
            ValueError: for a file or a target without meaning.
        """
        raise NotImplementedError


def _one_input(x: object) -> object:
    return [row if isinstance(row, list) else [row] for row in x] if isinstance(x, list) else x


Target = Annotated[
    str,
    AfterValidator(Choice(TARGETS, otherwise=target_function)),  # what does not parse is refused here, under its own key
    Field(description="the target, an expression in x or one of {names}", examples=["cos(x)"]),
]
Points = Annotated[
    int, Field(ge=1, le=100_000, description="number of data points, a whole number from 1 to 100000", examples=[64])
]


class CircleData(DataSet):
    """Equispaced angles, equally weighted."""

    points: Points
    target: Target

    def read(self, directory: Path, content: Content) -> Data:
        """The angles and the target there."""
        return datasets.circle(self.points, target_function(self.target))


class IntervalData(DataSet):
    """Gauss–Legendre quadrature of the uniform measure on [lower, upper]."""

    lower: Number = Field(description="lower end of the interval of inputs", examples=[-1.0])
    upper: Number = Field(description="upper end of the interval of inputs, above lower", examples=[1.0])
    points: Points
    target: Target

    @model_validator(mode="after")
    def _ordered(self) -> IntervalData:
        if self.lower >= self.upper:
            raise refuse(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")
        return self

    def read(self, directory: Path, content: Content) -> Data:
        """The quadrature points and the target there."""
        return datasets.interval(self.lower, self.upper, self.points, target_function(self.target))


class PointsData(DataSet):
    """Points given in the case file."""

    x: Annotated[list[list[Number]], BeforeValidator(_one_input)] = Field(
        description="one list of inputs per point, or one number per point", examples=[[-1.0, 0.0, 1.0]]
    )
    target: list[Number] = Field(description="one number per point", examples=[[0.3, -0.2, 0.4]])
    weights: list[Positive] | None = Field(
        None, description="weight of each point, > 0; absent: equal", examples=[[0.5, 0.25, 0.25]]
    )

    @model_validator(mode="after")
    def _same_lengths(self) -> PointsData:
        same_lengths("point", {"x": len(self.x), "target": len(self.target), "weights": len(self.weights or self.target)})
        if len({len(row) for row in self.x}) > 1 or not self.x[0]:
            raise refuse("every point in `x` needs the same number of inputs, at least one; correct the list")
        return self

    def read(self, directory: Path, content: Content) -> Data:
        """The points."""
        return datasets.points(np.array(self.x), np.array(self.target), None if self.weights is None else np.array(self.weights))


class CsvData(DataSet):
    """Columns of a CSV file with a header line."""

    blamed: ClassVar[str] = "file"
    remedy: ClassVar[str] = "correct the file (its path is relative to the case file), or the names in `inputs` and `output`"

    file: str = Field(description="a CSV file, relative to the case file", examples=["data/copper.csv"])
    inputs: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="names of the input columns; absent: all others", examples=[["temperature"]]
    )
    output: str = Field(description="name of the column to predict", examples=["expansion"])
    standardise: bool = Field(
        False, description="whether columns are scaled to mean 0, deviation 1, true or false", examples=[True]
    )

    def files(self) -> dict[str, str]:
        """The CSV file."""
        return {"file": self.file}

    def read(self, directory: Path, content: Content) -> Data:
        """The rows of the file."""
        return datasets.csv(directory / self.file, self.inputs, self.output, self.standardise, content)


Share = Annotated[Number, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


class HeldOut(DataSet):
    """A source whose points are split into those to train on and those to test with; the former may be given noise."""

    test_share: Share | None = Field(
        None, description="share of the points that are held out to test with, in (0, 1); absent: none", examples=[0.5]
    )
    split_seed: Seed = Field(0, description="seed of the choice of the points held out, a whole number ≥ 0", examples=[0])
    target_noise: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="standard deviation of noise added to the targets that are trained on, ≥ 0", examples=[0.5]
    )
    noise_seed: Seed = Field(0, description="seed of that noise, a whole number ≥ 0", examples=[0])

    def read(self, directory: Path, content: Content) -> Data:
        """What the source has, split, with noise."""
        data = super().read(directory, content)
        try:
            parts = data if self.test_share is None else datasets.split(data, self.test_share, self.split_seed)
        except ValueError as error:
            raise CaseError(f"[data] test_share: {error}; choose another share") from None
        return datasets.noisy(parts, self.target_noise, self.noise_seed) if self.target_noise > 0.0 else parts


class SplitCsv(HeldOut, CsvData):
    """Columns of a CSV file with a header line, some of its rows held out."""


class SplitPoints(HeldOut, PointsData):
    """Points given in the case file, some of them held out."""


class ThreeSpinData(DataSet):
    """The 3-spin energy with random couplings on the sphere of radius √dimension, by a quadrature of the sphere."""

    blamed: ClassVar[str] = "points"
    remedy: ClassVar[str] = "choose another number of points"

    dimension: Annotated[int, Field(ge=2, le=3)] = Field(
        description="d, 2 (a circle, x its arc length) or 3 (a sphere, x in R³)", examples=[2]
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the couplings, a whole number ≥ 0", examples=[0])
    points: Points

    def read(self, directory: Path, content: Content) -> Data:
        """The quadrature points and the energy there."""
        return spins.MEASURES[self.dimension](self.points, self.seed)


SOURCES: Registry[type[DataSet]] = Registry(
    "source of data",
    {"circle": CircleData, "interval": IntervalData, "points": PointsData, "three_spin": ThreeSpinData, "csv": CsvData},
)


def data_of(section: DataSection | None, directory: Path, content: Content) -> Data | None:
    """The data set that a section [data] describes, None for a model without one.

    Raises:
        CaseError: with key and remedy, for a file or a target without meaning.
    """
    if not isinstance(section, DataSet):
        return None
    try:
        return section.read(directory, content)
    except ValueError as error:
        raise CaseError(f"[data] {section.blamed}: {error}; {section.remedy}") from None
