"""What is measured on a finished study: verdicts, a picture, tables. The kinds there are: `mvpde.studies.laws.MEASUREMENTS`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mvpde.cases.schema import Number, Section
from mvpde.studies.verdict import Verdict

if TYPE_CHECKING:
    import xarray

    from mvpde.studies.figures import Panel

COMPANION = "companion"  # the density's error, measured by a run at half the cells
COMPANION_VARIABLE = "density_discretisation_error"

Table = Mapping[Hashable, object]  # a dataset, or {name: (dimension, values)}
Level = Annotated[Number, Field(gt=0, lt=1)]


class MeasurementOptions(Section):
    """What every measurement has."""

    kind: str
    name: str = Field("", description="name of its figure, <name>.png", examples=["slope"])
    x: str | None = Field(None, description="the varied key that the law is about", examples=["ensemble.particles"])
    discretisation: str | None = Field(
        None, description="where the density's own error is: a quantity of summary.json, or companion", examples=["companion"]
    )


@dataclass(frozen=True)
class Picture:
    """One or two panels side by side, drawn when they are written."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Outcome:
    """What a measurement found.

    Attributes:
        verdicts: entries of verdict.json.
        picture: written as <name>.png.
        tables: written into study.nc as groups.
    """

    verdicts: Sequence[Verdict]
    picture: Picture | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement[Options: MeasurementOptions]:
    """A kind of measurement: the keys of its section, and (dataset of the study, options) → outcome."""

    options: type[Options]
    measure: Callable[[xarray.Dataset, Options], Outcome]


def title(dataset: xarray.Dataset) -> str:
    """The study's title."""
    return str(dataset.attrs.get("title", ""))
