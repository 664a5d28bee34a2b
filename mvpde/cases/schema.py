"""The sections of a case file: names, types, ranges and defaults, and what a message says about each key.

The `description` of a field states its meaning and allowed range, `examples` a value that works: messages about a wrong value and
the tables of `docs/cases.md` are made of them. What depends on the kind of model is in `kinds`
and `sources`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from mvpde.cases.starts.laws import Law
from mvpde.cases.values import Count, Number, Positive, PositiveOrAuto, Section, one_of, refuse, same_lengths
from mvpde.density.schemes import SCHEMES
from mvpde.models.walls.box import WALLS
from mvpde.particles.schemes import DYNAMICS, PARTICLE_SCHEMES


class ModelSection(Section):
    """What every kind of model has."""

    kind: str = Field(description="the kind of model", examples=["network"])

    def files(self) -> dict[str, str]:
        """Keys that name a file, with their values."""
        return {}


class DataSection(Section):
    """What every source of data has."""

    source: str = Field(description="where the data comes from", examples=["interval"])

    def files(self) -> dict[str, str]:
        """Keys that name a file, with their values."""
        return {}


class MeanFieldSection(ModelSection):
    """What models of interacting particles have."""

    temperature: Annotated[Number, Field(ge=0)] = Field(0.0, description="temperature, ≥ 0", examples=[0.05])
    base_measure: dict[str, Law] | None = Field(
        None,
        description="law of every coordinate that the entropy is relative to; absent: flat",
        examples=[{"c": {"law": "normal", "mean": 0.0, "std": 1.0}}],
    )


class ShellSection(Section):
    """S² × [lower, upper]: triangles of a refined icosahedron in layers."""

    lower: Number = Field(description="smallest output weight c", examples=[-4.0])
    upper: Number = Field(description="largest output weight c, above lower", examples=[4.0])
    frequency: Annotated[int, Field(ge=1)] = Field(
        description="parts of each edge of the icosahedron, a whole number ≥ 1", examples=[8]
    )
    layers: Count = Field(description="cells in the direction of c, a whole number ≥ 1", examples=[24])

    @model_validator(mode="after")
    def _ordered(self) -> ShellSection:
        if self.lower >= self.upper:
            raise refuse(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")
        return self


_AUTO: list[float] = []  # a corner until it is found


def _corner(value: object) -> object:
    if value == "auto":
        return _AUTO
    if value == []:
        raise refuse('a corner needs one number per coordinate, and the list is empty; give them, or "auto"')
    return value


Corner = Annotated[list[Number], BeforeValidator(_corner)]


class DomainSection(Section):
    """The truncated parameter space that the density lives on: a box, a Gmsh mesh, or a spherical shell."""

    lower: Corner | None = Field(
        None,
        description='lower corner of the box, one number per coordinate, or "auto": found by a pilot of particles',
        examples=[[-4, -6]],
    )
    upper: Corner | None = Field(
        None, description='upper corner of the box, one number per coordinate, or "auto", as `lower`', examples=[[4, 6]]
    )
    cells: list[Count] | None = Field(
        None, description="number of cells in each direction, whole numbers ≥ 1", examples=[[128, 128]]
    )
    mesh: str | None = Field(
        None, description="a Gmsh mesh file instead of a box, relative to the case file", examples=["disc.msh"]
    )
    shell: ShellSection | None = Field(
        None,
        description="S² × [lower, upper] instead of a box, for units on a sphere of R³: `lower`, `upper`, `frequency`, `layers`",
        examples=[{"lower": -4.0, "upper": 4.0, "frequency": 8, "layers": 24}],
    )
    periodic: list[bool] | None = Field(
        None, description="which directions are periodic; by default those of the model", examples=[[True, False]]
    )

    walls: dict[str, list[Annotated[str, one_of(WALLS)]]] | None = Field(
        None,
        description="the two walls of a coordinate: reflecting, absorbing or natural; absent: as coefficients and start imply",
        examples=[{"x": ["reflecting", "absorbing"]}],
    )

    @field_validator("walls")
    @classmethod
    def _pairs(cls, walls: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        for name, pair in (walls or {}).items():
            if len(pair) != 2:
                raise refuse(f"`{name}` has {len(pair)} entries; give two, for its lower and its upper wall")
        return walls

    @model_validator(mode="after")
    def _complete(self) -> DomainSection:
        box = {"lower": self.lower, "upper": self.upper, "cells": self.cells}
        given = [key for key, value in {"mesh": self.mesh, "shell": self.shell, **box}.items() if value is not None]
        if self.mesh is not None or self.shell is not None:
            if len(given) > 1:
                raise refuse(f"`{given[0]}` and `{given[1]}` exclude each other; remove `{given[1]}` or `{given[0]}`")
            return self
        missing = [key for key, value in box.items() if value is None]
        if missing:
            raise refuse(f"a box needs `lower`, `upper` and `cells`, and `{missing[0]}` is missing; add it, or name a `mesh`")
        return self._checked_box(self.lower or [], self.upper or [], self.cells or [])

    @property
    def box(self) -> tuple[list[float], list[float]] | None:
        """The corners, None where it is no box, or none yet."""
        return (self.lower, self.upper) if self.lower and self.upper else None

    @property
    def automatic(self) -> bool:
        """Whether a corner is still to be found."""
        return self.lower == _AUTO or self.upper == _AUTO

    def _checked_box(self, lower: list[float], upper: list[float], cells: list[int]) -> DomainSection:
        lengths = {"lower": len(lower or cells), "upper": len(upper or cells), "cells": len(cells)}
        lengths["periodic"] = len(self.periodic or cells)
        same_lengths("direction", lengths)
        for axis, (a, b) in enumerate(zip(lower, upper, strict=False)):
            if a >= b:
                raise refuse(f"lower[{axis}] = {a:g} must lie below upper[{axis}] = {b:g}; exchange or correct them")
        return self


Companions = Annotated[int, Field(ge=0, le=2)] | None
COMPANIONS = Field(
    None,
    description="coarser meshes that tell its error, 0 to 2; absent: 2 on a box; a mesh or shell is refined once for each",
    examples=[2],
)
Accuracy = Annotated[Number, Field(gt=0, lt=1)] | None
ACCURACY = Field(
    None,
    description="relative error to be reached, in (0, 1); cells and `tolerance` are then found, `cells` gives a ratio only",
    examples=[1e-3],
)
AccuracyOf = Annotated[list[str], Field(min_length=1)] | None
ACCURACY_OF = Field(
    None,
    description="what must have the accuracy; absent: predictions, or without data moments, loss and observables",
    examples=[["loss"]],
)
MAX_NODES = Field(
    2_000_000, description="nodes that are not passed for the sake of `accuracy`, a whole number ≥ 1", examples=[2_000_000]
)


class DensitySection(Section):
    """The finite-element density."""

    scheme: Annotated[str, one_of(SCHEMES)] = Field("auto", description="one of {names}", examples=["auto"])
    cfl: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.8, description="explicit step as a share of the largest positive one, in (0, 1]", examples=[0.8]
    )
    tolerance: Positive = Field(1e-5, description="bound on the local error of an implicit step, in L¹, > 0", examples=[1e-5])
    step: Positive | None = Field(
        None, description="longest explicit step, or the fixed implicit step, > 0; absent: chosen by the scheme", examples=[0.01]
    )
    order_in_time: Literal["auto", 2, 4] = Field(
        "auto", description='of implicit steps: 2, 4, or "auto", the one that is faster at the tolerance', examples=[4]
    )
    solver: dict[str, bool | int | float | str] | None = Field(
        None,
        description="PETSc's options for the linear systems of implicit steps, by name; absent: chosen by dimension and model",
        examples=[{"pc_type": "gamg"}],
    )
    companions: Companions = COMPANIONS
    accuracy: Accuracy = ACCURACY
    accuracy_of: AccuracyOf = ACCURACY_OF
    max_nodes: Count = MAX_NODES


class ExplicitDensitySection(Section):
    """A density that is carried by explicit steps alone."""

    scheme: str = Field("auto", description="the scheme", examples=["auto"])
    cfl: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.8, description="explicit step as a share of the largest positive one, in (0, 1]", examples=[0.8]
    )
    step: Positive | None = Field(None, description="longest step, > 0; absent: chosen by the scheme", examples=[0.01])
    companions: Companions = COMPANIONS
    accuracy: Accuracy = ACCURACY
    accuracy_of: AccuracyOf = ACCURACY_OF
    max_nodes: Count = MAX_NODES

    @model_validator(mode="before")
    @classmethod
    def _no_implicit_steps(cls, section: object) -> object:
        for key in ("tolerance", "solver"):
            if isinstance(section, dict) and key in section:
                raise refuse(f"`{key}` is of implicit steps, and this density takes explicit ones alone; remove it")
        return section


class EnsembleSection(Section):
    """Independent runs of the interacting particles."""

    particles: Count = Field(description="number of particles in a run, a whole number ≥ 1", examples=[10000])
    runs: Count = Field(1, description="number of independent runs, a whole number ≥ 1", examples=[4])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all random numbers, a whole number ≥ 0", examples=[0])
    step: PositiveOrAuto = Field(
        0.05, description='largest time step, > 0, or "auto": chosen by the slope of the drift', examples=[0.05]
    )
    companion: bool = Field(
        True, description="copies of some particles tell the error of the step, true or false", examples=[True]
    )
    scheme: Annotated[str, one_of(PARTICLE_SCHEMES)] = Field("heun", description="one of {names}", examples=["heun"])


class CharacteristicsSection(Section):
    """Quadrature nodes of the initial law carried by the flow (temperature 0)."""

    nodes: list[Count] = Field(description="quadrature nodes per coordinate, whole numbers ≥ 1", examples=[[128, 32]])
    tolerance: Annotated[Number, Field(gt=0, le=1e-2)] = Field(
        1e-10, description="relative error of the time integration, in (0, 0.01]", examples=[1e-10]
    )


class SgdSection(Section):
    """Independent runs of the training of a small network (kind = "sgd_network")."""

    runs: Count = Field(100000, description="number of runs, a whole number ≥ 1", examples=[100000])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the random streams, a whole number ≥ 0", examples=[0])
    dynamics: Annotated[str, one_of(DYNAMICS)] = Field("sgd", description="one of {names}", examples=["sgd"])
    step: Positive | None = Field(
        None, description="longest step of the diffusion's paths, > 0; absent: a quarter of the learning rate", examples=[0.05]
    )


def _form_of_start(value: object) -> str:
    return "law" if isinstance(value, dict) else "moments"


Start = Annotated[Annotated[list[Number], Tag("moments")] | Annotated[dict[str, Law], Tag("law")], Discriminator(_form_of_start)]


class StationarySection(Section):
    """The stationary law, its current and its exact identities; of an interacting model all branches that the starts lead to."""

    starts: Annotated[list[Start], Field(min_length=1)] | None = Field(
        None,
        description="where the search for the branches of an interacting model begins: moments, or laws as in [initial]",
        examples=[[[0.5, 0.5], [0.0, 0.5]]],
    )


class SpectrumSection(Section):
    """The slowest modes at the stationary law, and how fast the run approaches it."""

    modes: Count = Field(4, description="number of modes, a whole number ≥ 1", examples=[4])


class TimeSection(Section):
    """Dimensionless training time."""

    end: Positive = Field(description="time at which the run ends, > 0", examples=[10.0])
    outputs: list[Number] = Field(
        10,
        validate_default=True,
        description="increasing times in [0, end], or a number of equal intervals",
        examples=[[0, 1, 5, 10]],
    )

    annealing: list[Annotated[list[Number], Field(min_length=2, max_length=2)]] = Field(
        [],
        description="pairs [t, τ]: from t on the temperature is τ ≥ 0 instead of that in [model]; increasing times in (0, end)",
        examples=[[[2.0, 0.05], [4.0, 0.02]]],
    )

    @field_validator("annealing")
    @classmethod
    def _falling_in_place(cls, pairs: list[list[float]], info: ValidationInfo) -> list[list[float]]:
        end, times = info.data.get("end", float("inf")), [t for t, _ in pairs]
        if any(b <= a for a, b in pairwise([0.0, *times])) or any(t >= end for t in times):
            raise refuse(f"the times {', '.join(f'{t:g}' for t in times)} must increase within (0, {end:g}); correct them")
        if any(temperature < 0 for _, temperature in pairs):
            raise refuse("a temperature is negative; give pairs [t, τ] with τ ≥ 0")
        return pairs

    @field_validator("outputs", mode="before")
    @classmethod
    def _equal_intervals(cls, value: object, info: ValidationInfo) -> object:
        if type(value) is not int:
            return value
        if value < 1:
            raise refuse(f"{value} equal intervals are not possible; give a whole number ≥ 1 or a list of times")
        return [info.data.get("end", 1.0) * i / value for i in range(value + 1)]

    @field_validator("outputs")
    @classmethod
    def _increasing(cls, times: list[float], info: ValidationInfo) -> list[float]:
        end = info.data.get("end", float("inf"))
        if not times:
            raise refuse("the list is empty; give at least one time in [0, end]")
        if any(b <= a for a, b in pairwise(times)):
            raise refuse("the times must increase; sort them and remove repetitions")
        outside = [t for t in times if not 0 <= t <= end]
        if outside:
            raise refuse(f"{outside[0]:g} lies outside [0, end] = [0, {end:g}]; remove it or change `end`")
        return times


class OutputSection(Section):
    """What is written into the run's folder."""

    fields: bool = Field(True, description="write the density at every output time, true or false", examples=[True])
    particles: Annotated[int, Field(ge=0)] = Field(
        10000, description="particles of run 0 written at every output time, a whole number ≥ 0", examples=[10000]
    )
    pictures: bool = Field(True, description="draw density.png, loss.png, prediction.png, true or false", examples=[True])
    sliced_wasserstein: bool = Field(True, description="compute distances between the measures, true or false", examples=[True])
    projections: Count = Field(32, description="directions that these distances average over, a whole number ≥ 1", examples=[32])


class CaseSections(Section):
    """A case file. `model` and `data` are refined by the kind of model (see `kinds`)."""

    title: str = Field("", description="one line of text", examples=["RBF network on the circle"])
    model: ModelSection
    data: DataSection | None = None
    initial: dict[str, Law] = Field(
        description="the initial law of every coordinate", examples=[{"c": {"law": "normal", "mean": 0.0, "std": 1.0}}]
    )
    domain: DomainSection | None = None
    density: DensitySection | None = None
    ensemble: EnsembleSection | None = None
    characteristics: CharacteristicsSection | None = None
    sgd: SgdSection | None = None
    stationary: StationarySection | None = None
    spectrum: SpectrumSection | None = None
    time: TimeSection
    output: OutputSection = OutputSection()

    @property
    def refinements(self) -> int:
        """How often a mesh or shell is refined: once for each companion that the case asks for."""
        box = self.domain is None or self.domain.cells is not None
        return 0 if box or self.density is None else self.density.companions or 0
