"""Kinds of models: what [model] and [data] may say, and the model that this describes.

A new kind is one file, with its section, its builder and its `KIND`, and one entry of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from mvpde.cases.schema import CaseSections, DataSection, ModelSection
from mvpde.models.data import Data
from mvpde.models.laws import Law, Product
from mvpde.models.mean_field import MeanField
from mvpde.models.shell import ShellLaw
from mvpde.registry import At, Registry
from mvpde.runtime import MPI

if TYPE_CHECKING:
    from mvpde.cases.file import Case
    from mvpde.cases.problem import Problem

if TYPE_CHECKING:  # the models of other kinds than a case's are not loaded
    from mvpde.models.isotropic_gaussians import Classification
    from mvpde.models.sgd_network import SgdNetwork


def read_file(name: str) -> tuple[Path, bytes]:
    """The path of a file, relative to the working directory, and what it holds."""
    return Path(name), Path(name).read_bytes()


@dataclass(frozen=True)
class Given:
    """What a model may depend on beside [model].

    Attributes:
        sections: the case, with the model's numbers in laws that leave them out.
        data: the data set, None for a model without one.
        base_measure: in the order of the coordinates; None for the flat one, and when a model is first asked for its coordinates.
        read: name of a file, relative to the case file → its path and what it holds. Collective.
    """

    sections: CaseSections
    data: Data | None
    base_measure: Product | ShellLaw | None = None
    read: Callable[[str], tuple[Path, bytes]] = read_file


@dataclass(frozen=True)
class Equation:
    """What a model's law ρ solves, as a report prints it: in words, and in symbols, where _x and _{xy} are subscripts."""

    words: str
    symbols: str


class Asked(Protocol):
    """Whether somebody asked a run to stop: raises if so."""

    def check(self) -> None:
        """Of all ranks. Collective."""

    def here(self) -> None:
        """Of this rank. Local."""


@dataclass(frozen=True)
class Computation:
    """What a run of a case without laws that move computes.

    Attributes:
        sizes: what `mvpde check` says of the case, by name; raises `CaseError` for whatever `compute` would refuse.
        place: of `compute`: (case, folder, communicator, `StopRequest` to ask now and then) → entries of summary.json, which may
            write files of its own into the folder on rank 0. Collective.
    """

    sizes: Callable[[Case], Mapping[str, int | str]]
    place: At

    def compute(self, case: Case, folder: Path, comm: MPI.Intracomm, request: Asked) -> Mapping[str, object]:
        """The entries. Collective.

        Raises:
            Exception: what ``request`` raises where somebody asked the run to stop.
        """
        there = cast("Callable[[Case, Path, MPI.Intracomm, Asked], Mapping[str, object]]", self.place.load())
        return there(case, folder, comm, request)


def none_frozen(_: ModelSection, __: Data | None) -> Sequence[str]:
    """All that [initial] names moves."""
    return ()


def nothing_more(_: Problem) -> None:
    """What is checked for all kinds is enough."""


@dataclass(frozen=True)
class Kind[Model: ModelSection]:
    """A kind of model.

    Attributes:
        schema: the keys of [model]; the first line of its docstring says what the kind is.
        build: ([model], what else is given) → the model.
        sources: the keys of [data] by the name of the source; empty for a model without data.
        network: [model] → the network whose one-pass SGD takes the place of the particles, where the model is a reduction of it.
        training: ([model], data set) → the network whose SGD the section [sgd] runs.
        equation: [model] → what a report says was solved; None, or no function, for a gradient flow of interacting particles.
        fields: sections that only this kind has, or that it replaces, as pydantic has them: name → (type, default).
        measures: sections whose measure this kind builds itself: name → where (problem, communicator) → the measure is.
        frozen: ([model], data set) → names in [initial] that are no coordinates, as they never move; their laws are
            `Problem.frozen`.
        long_time: where density → what a run says of its stationary law is, for a kind whose density is one of its own.
        sizes: (sections, model) → what `mvpde check` says of sizes in other words than of other kinds.
        computation: for a kind without laws that move; [initial] and [time] are then in ``fields`` if it has them at all.
        law: [model] → the initial law, for a kind where that is no product; [initial] is then in ``fields`` and stays away.
        check: refuses, with a `CaseError`, what a run of this kind would, before the solver is loaded.
    """

    schema: type[Model]
    build: Callable[[Model, Given], MeanField]
    sources: Mapping[str, type[DataSection]] = field(default_factory=dict)
    network: Callable[[Model], Classification] | None = None
    training: Callable[[Model, Data | None], SgdNetwork] | None = None
    equation: Callable[[Mapping[str, object]], Equation | None] | None = None
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    measures: Mapping[str, At] = field(default_factory=dict)
    frozen: Callable[[Model, Data | None], Sequence[str]] = none_frozen
    computation: Computation | None = None
    long_time: At | None = None
    sizes: Callable[[CaseSections, MeanField], Mapping[str, int | str]] | None = None
    law: Callable[[Model], Law] | None = None
    check: Callable[[Problem], None] = nothing_more

    @property
    def sentence(self) -> str:
        """What the kind is."""
        return (self.schema.__doc__ or "").strip().splitlines()[0]


_SHIPPED = (
    "network",
    "gaussian_mixture",
    "mean_field",
    "fokker_planck",
    "mmn_isotropic",
    "spikes",
    "sgd_network",
    "deep_network",
    "random_network",
    "residual_flow",
    "random_resnet",
    "residual_network",
    "mean_field_resnet",
)

KINDS: Registry[Kind[Any]] = Registry("kind of model", {name: At(f"mvpde.cases.kinds.{name}:KIND") for name in _SHIPPED})
