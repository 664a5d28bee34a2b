"""Laws of several coordinates together: the correlated normal law, samples from a file, the last state of another run."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import h5py
import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from mvpde.cases.messages import listed, nearest
from mvpde.cases.starts.laws import Keys, LawSection, Reader
from mvpde.cases.values import Number, refuse
from mvpde.models.data import columns
from mvpde.models.laws import Cloud, CorrelatedNormal, Empirical, Law1D, in_period
from mvpde.models.laws.product import Joint
from mvpde.models.mean_field import Array
from mvpde.runtime import CaseError

Periods = Sequence[float | None]


class JointSection(LawSection):
    """A law of all coordinates that its entry names."""

    def joint(self, names: Sequence[str], periods: Periods) -> Joint:
        """The law of these coordinates.

        Raises:
            CaseError: if it is none of so many, or does not know them.
        """
        raise NotImplementedError

    def factor(self, period: float | None = None) -> Law1D:
        """There is none of one coordinate alone."""
        raise CaseError(f'law = "{self.law}" is here for one coordinate alone, and is one of several; give a law of one')

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """The hull of those of all coordinates."""
        raise NotImplementedError


class CorrelatedNormalLaw(JointSection):
    """N(mean, covariance) of the coordinates that its entry names, in their order."""

    law: Literal["correlated_normal"]
    mean: list[Number] = Field(description="one number per coordinate of the entry", examples=[[0.0, 1.0]])
    covariance: list[list[Number]] = Field(
        description="D rows of D numbers, symmetric, positive definite", examples=[[[1.0, 0.5], [0.5, 1.0]]]
    )

    @model_validator(mode="after")
    def _is_a_law(self) -> CorrelatedNormalLaw:
        try:
            self._normal()
        except ValueError as error:
            raise refuse(str(error)) from None
        return self

    def _normal(self) -> CorrelatedNormal:
        return CorrelatedNormal(tuple(self.mean), tuple(map(tuple, self.covariance)))

    def joint(self, names: Sequence[str], periods: Periods) -> Joint:
        """The law of as many coordinates as there are means."""
        if len(names) != len(self.mean):
            raise CaseError(
                f'law = "correlated_normal" has {len(self.mean)} means, and its entry names {listed(names)}; '
                f'give one mean for each, or name {len(self.mean)}, such as "x, y" = {{ law = "correlated_normal", … }}'
            )
        return self._normal().in_periods(periods)

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """The hull."""
        ends = [one.extent() for one in self._normal().marginals]
        return min(a for a, _ in ends), max(b for _, b in ends)


class SamplesLaw(JointSection):
    """Empirical in a CSV file, the same weight for each or that of a column; of one coordinate or of several together."""

    law: Literal["samples"]
    file: str = Field(description="a CSV file with a header, relative to the case file", examples=["data/start.csv"])
    column: str | list[str] | None = Field(
        None, description="the column of the coordinate, or those of all; absent: columns named like them", examples=["x"]
    )
    weights: str | None = Field(None, description="the column of weights ≥ 0; absent: equal ones", examples=["w"])

    _table: Mapping[str, Sequence[float]] | None = PrivateAttr(None)
    _name: str = PrivateAttr("z")

    def placed(self, name: str, read: Reader | None = None) -> LawSection:
        """With the file read."""
        copy = self.model_copy()
        copy._name = name
        if read is not None:
            try:
                path, content = read(self.file)
                copy._table = columns(path, lambda _: content)
            except (OSError, ValueError) as error:
                raise CaseError(f"[initial.{name}] file: {error}") from None
        return copy

    def files(self) -> dict[Keys, str]:
        """The table."""
        return {("file",): self.file}

    def factor(self, period: float | None = None) -> Law1D:
        """Of one coordinate."""
        points, masses = self._points([self._name])
        return in_period(Empirical(points[:, 0], masses), period)

    def joint(self, names: Sequence[str], periods: Periods) -> Joint:
        """Of all coordinates."""
        return Cloud(*self._points(names), periods=tuple(periods))

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """The hull."""
        points, _ = self._points([self._name])
        return float(points.min()), float(points.max())

    def _points(self, names: Sequence[str]) -> tuple[Array, Array | None]:
        if self._table is None:
            raise CaseError('law = "samples" reads a file, which [initial] can; give another law here')
        given = [self.column] if isinstance(self.column, str) else self.column
        wanted = list(names) if given is None else given
        if given is None and len(names) == 1 and len(self._table) == 1:
            wanted = list(self._table)
        if len(wanted) != len(names):
            raise CaseError(f"[initial.{self._name}] column: has {len(wanted)} entries for {listed(names)}; give one for each")
        for name in [*wanted, *([self.weights] if self.weights else [])]:
            if name not in self._table:
                near = nearest(name, self._table) or ";"
                raise CaseError(
                    f"[initial.{self._name}] column: '{self.file}' has no column '{name}'{near} it has {listed(self._table)}"
                )
        try:
            masses = None if self.weights is None else np.array(self._table[self.weights])
            found = Cloud(np.column_stack([self._table[name] for name in wanted]), masses)
        except ValueError as error:
            raise CaseError(f"[initial.{self._name}] file: '{self.file}': {error}") from None
        return found.points, found.masses


class RunLaw(JointSection):
    """The law at the last output time of another run, of all its coordinates in their order."""

    law: Literal["run"]
    folder: str = Field(description="the folder of the run, relative to the case file", examples=["results/first"])
    measure: Literal["density", "particles"] = Field(
        "density", description='what of it: its "density", or the "particles" of its first run', examples=["particles"]
    )

    _points: Array | None = PrivateAttr(None)
    _masses: Array | None = PrivateAttr(None)
    _cells: tuple[float, ...] = PrivateAttr(())
    _key: str = PrivateAttr("*")

    @property
    def _file(self) -> str:
        return self.folder if self.folder.endswith(".h5") else f"{self.folder}/{self.measure}.h5"

    def files(self) -> dict[Keys, str]:
        """The file that holds the law."""
        return {("folder",): self._file}

    def placed(self, name: str, read: Reader | None = None) -> LawSection:
        """With the file read."""
        copy = self.model_copy()
        copy._key = name
        if read is not None:
            try:
                _, content = read(self._file)
                with h5py.File(io.BytesIO(content)) as file:
                    copy._points, copy._masses, copy._cells = (_last_density if "mesh" in file else _last_points)(file)
            except (OSError, KeyError, ValueError) as error:
                raise CaseError(
                    f"[initial.{name}] folder: '{self._file}' holds no {self.measure} of a finished run ({error}); "
                    'name the folder of a run with one, or measure = "particles"'
                ) from None
        return copy

    def joint(self, names: Sequence[str], periods: Periods) -> Joint:
        """Of all coordinates."""
        if self._points is None:
            raise CaseError('law = "run" reads a file, which [initial] can; give another law here')
        held = self._points.shape[1]
        if held < len(names) or (self._masses is not None and held != len(names)):
            raise CaseError(
                f"[initial.{self._key}] folder: the run there has {held} coordinates, and the entry names {listed(names)}; "
                "name as many, in their order"
            )
        return Cloud(self._points[:, : len(names)], self._masses, self._cells, tuple(periods))

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """The hull."""
        return (-1.0, 1.0) if self._points is None else (float(self._points.min()), float(self._points.max()))


def _last_density(file: h5py.File) -> tuple[Array, Array, tuple[float, ...]]:
    """Nodes, their masses, and the mean width of cells."""
    cells, points = np.asarray(file["mesh/cells"]), np.asarray(file["mesh/points"])
    if "rho" not in file:
        raise KeyError("no law of one population")
    values = np.asarray(file["rho"][sorted(file["rho"])[-1]], float).ravel()
    d = cells.shape[1] - 1
    points = points[:, :d]
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volumes = np.abs(np.linalg.det(edges)) / math.factorial(d + 1)
    lumped = np.bincount(cells.ravel(), np.repeat(volumes, d + 1), len(points))
    widths = np.abs(edges).max(axis=1).mean(axis=0)
    return points, np.maximum(lumped * values, 0.0), tuple(map(float, widths))


def _last_points(file: h5py.File) -> tuple[Array, None, tuple[float, ...]]:
    """Particles of equal weight, shape (n, D)."""
    last = [np.asarray(file[name][sorted(file[name])[-1]], float) for name in file.attrs["coordinates"]]
    return np.column_stack(last), None, ()
