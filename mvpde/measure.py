"""What every measure answers: the protocol through which whatever is measured is written once, and how measures move together.

A measure represents a law ρ_t, or the empirical laws of R independent runs. Every method is collective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mvpde.models.mean_field import MeanField

if TYPE_CHECKING:
    from mpi4py import MPI

Array = NDArray[np.float64]
Cloud = tuple[Array, Array]  # points (N, D) and weights (N,), on rank 0
Mesh = tuple[Array, NDArray[np.int64]]  # points (N, 3) and cells (M, D + 1), in the order the mesh was given in
Number = float | int | str | bool | None
State = Mapping[str, Array | NDArray[np.int64] | NDArray[np.uint64] | np.float64 | np.int64]


def nothing() -> None:
    """What is called between steps where nobody asks for more."""


def no_arrays(_: object) -> dict[str, Array]:
    """For measures that have none."""
    return {}


def no_mesh(_: object) -> None:
    """For measures that live on none."""


def require_ahead(what: str, time: float, t: float) -> None:
    """Refuse to take ``what`` from ``time`` to a t before it, or to one that is no finite number.

    Raises:
        ValueError: saying so.
    """
    if not time <= t < math.inf:
        raise ValueError(f"{what} at t = {time:g} cannot go {'back ' if t < time else ''}to t = {t:g}")


def carry(measures: Iterable[Measure] | Mapping[str, Measure], times: Iterable[float]) -> Iterator[float]:
    """Take all measures to each of the increasing times in turn: ``for t in carry([density, ensemble], times): …``. Collective.

    Raises:
        ValueError: a single measure instead of a list or a dictionary of them.
        ValueError, SolverError, InvariantError: as `Measure.advance`.
    """
    if hasattr(measures, "advance"):
        raise ValueError("measures: is a single one; give a list, such as carry([density], times)")
    together = list(measures.values() if isinstance(measures, Mapping) else measures)
    for t in times:
        for measure in together:
            measure.advance(t)
        yield t


class Measure(Protocol):
    """A law that moves.

    Attributes:
        model: the model that rules at the present time.
        time: t.
        step: length of the last step; before the first, the length asked for, or 0.
    """

    model: MeanField
    time: float
    step: float

    @property
    def comm(self) -> MPI.Intracomm:
        """The ranks that share it."""

    @property
    def name(self) -> str:
        """In case files, `summary.json`, columns of `series.csv`."""

    @property
    def label(self) -> str:
        """In legends."""

    @property
    def listed(self) -> tuple[str, ...]:
        """Those `numbers` that `summary.json` lists over the output times, beside the loss."""

    def advance(self, t: float, /, between_steps: Callable[[], None] = nothing) -> None:
        """Go on to t ≥ time, hit exactly; ``between_steps`` is called now and then between two steps, and may raise.

        Raises:
            ValueError: t lies before the present time. SolverError, InvariantError: on all ranks alike, with the last good state
            kept.
        """

    def moments(self) -> Array:
        """m = ∫g dρ of each run, shape (runs, K), the same on all ranks."""

    def expectation(self, function: Callable[[Array], Array], /) -> Array:
        """∫h dρ of each run, shape (runs,), for h: (N, D) → (N,)."""

    def losses(self) -> Array:
        """R(m) of each run, shape (runs,)."""

    def cloud(self) -> Cloud | None:
        """The law as weighted points on rank 0, None elsewhere."""

    def numbers(self) -> dict[str, float]:
        """What is recorded at every output time, beside loss and step; the same on all ranks."""

    def statistics(self) -> dict[str, Number]:
        """What `summary.json` says once."""

    def arrays(self) -> dict[str, Array]:
        """What `summary.json` lists over the output times and is no number, such as means of layers; the same on all ranks."""

    def mesh(self) -> Mesh | None:
        """The mesh it lives on, on rank 0; None elsewhere, and of a measure without a mesh."""

    def fields(self) -> dict[str, Array]:
        """Values at the points of its `mesh`, by name, on rank 0; the law of the model's coordinates is "rho". {} elsewhere."""

    def state(self) -> State | None:
        """All that it takes to go on, independent of the number of ranks, on rank 0; None elsewhere."""

    def restore(self, state: State | None) -> None:
        """Go on from the ``state`` of a measure made with the same arguments, read on rank 0 (others pass None).

        Raises:
            ValueError: on all ranks, when it is that of another measure.
        """
