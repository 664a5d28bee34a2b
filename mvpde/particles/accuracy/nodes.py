"""The error of a quadrature: the same law carried by half and by a quarter of the nodes in each direction.

    |x_n − x_{n/2}| min(1, √(2r)),        r = |x_n − x_{n/2}| / |x_{n/2} − x_{n/4}|

for everything x that is recorded. The difference is the error of half the nodes; with errors that fall by the factor r from one
number of nodes to the next, that of all nodes is r times it or, where the quadrature is spectrally accurate, far less. But nodes
that a flow draws out converge more slowly the more there are: the root of r holds in 96 of 100 cases, r itself in 91. Where r is
no small number the nodes resolve nothing yet, and the whole difference is told. The error of the integrator is what ten times its
tolerance changes with half of the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from mvpde.measure import Array, State
from mvpde.models.mean_field import MeanField
from mvpde.particles.accuracy.growth import unbounded
from mvpde.runtime import MPI, InvariantError, SolverError

PARTS = (2, 4, 2)  # of the nodes; the last with a looser tolerance
NARROW = 1e-6  # standard deviation, relative to the mean, of what counts as a point
LOOSER = 10.0  # that tolerance over the measure's

Values = Mapping[str, Array]  # what is recorded of a measure


class Quadrature(Protocol):
    """A measure made of nodes: of `mvpde.measure.Measure` what is needed here."""

    @property
    def model(self) -> MeanField:
        """Of the present time."""

    def advance(self, t: float, /) -> None:
        """Go on to t."""

    def losses(self) -> Array:
        """R(m), shape (1,)."""

    def moments(self) -> Array:
        """m, shape (1, K)."""

    def expectation(self, function: Callable[[Array], Array], /) -> Array:
        """∫h dρ, shape (1,)."""

    def loosen(self, factor: float) -> None:
        """Integrate with so many times the tolerance. Local."""

    def state(self) -> State | None:
        """All that it takes to go on, on rank 0."""

    def restore(self, state: State | None) -> None:
        """Go on from it."""


def fewer(nodes: Sequence[int], part: int) -> list[int]:
    """A part of the nodes in each direction, at least one."""
    return [max(1, count // part) for count in nodes]


def told(half: float, quarter: float) -> float:
    """The error of x_n from the sizes of x_n − x_{n/2} and x_{n/2} − x_{n/4}, 0 where that is not known; NaN for NaN."""
    return half * min(1.0, math.sqrt(2.0 * half / quarter)) if quarter > 0.0 else half


def recorded(model: MeanField) -> tuple[str, ...]:
    """What the errors are told of: loss and law, the predictions of a model with data, the observables."""
    return ("loss", "law", *("prediction",) * (model.data is not None), *model.observables)


class CoarserNodes:
    """The same measure with the parts `PARTS` of its nodes, the last one with a looser tolerance, carried along."""

    def __init__(self, coarser: Sequence[Quadrature]) -> None:
        """At the same time as the measure; none, or one for each of `PARTS`."""
        self._coarser: list[Quadrature | None] = list(coarser)
        for one in coarser[len(PARTS) - 1 :]:
            one.loosen(LOOSER)

    def advance(self, t: float) -> None:
        """Carry them to time t; those that break down are left out from then on. Collective."""
        for k, measure in enumerate(self._coarser):
            try:
                if measure is not None:
                    measure.advance(t)
            except (SolverError, InvariantError):
                self._coarser[k] = None

    @property
    def told(self) -> bool:
        """Whether there are errors to tell. Local."""
        return bool(self._coarser)

    def listed(self, model: MeanField) -> tuple[str, ...]:
        """Names of the errors. Local."""
        return tuple(f"{name}_error" for name in recorded(model)) if self.told else ()

    def errors(self, measure: Quadrature) -> dict[str, float]:
        """Of the loss, the observables, the predictions in their target's norm, and of the law. Collective.

        That of the law is the largest change of a mean, in standard deviations, or of a variance, in variances, over the
        coordinates without a period. {} where there are no coarser ones, NaN where one that is needed has broken down.
        """
        if not self.told:
            return {}
        values_of = _values(measure)
        all_nodes = values_of(measure)
        half, quarter, loose = (None if one is None else values_of(one) for one in self._coarser)
        found = {}
        for key, value in all_nodes.items():
            apart = math.nan if half is None else _size(key, value - half[key])
            farther = 0.0 if half is None or quarter is None else _size(key, half[key] - quarter[key])
            in_time = math.nan if half is None or loose is None else _size(key, half[key] - loose[key])
            found[f"{key}_error"] = math.hypot(told(apart, farther), in_time)
        return {f"{key}_error": found[f"{key}_error"] for key in recorded(measure.model)}

    # -- checkpoints

    def state(self) -> State:
        """Theirs on rank 0, with a number before each name; {} elsewhere. Collective."""
        states = [{} if one is None else one.state() or {} for one in self._coarser]
        return {f"coarser{k}_{key}": value for k, state in enumerate(states) for key, value in state.items()}

    def restore(self, state: State | None, comm: MPI.Intracomm) -> None:
        """Go on from a `state` on rank 0; those that it does not have are left out. Collective."""
        for k, one in enumerate(self._coarser):
            first = f"coarser{k}_"
            mine = {key.removeprefix(first): value for key, value in (state or {}).items() if key.startswith(first)}
            if one is None or not comm.bcast(bool(mine)):
                self._coarser[k] = None
            else:
                one.restore(mine if comm.rank == 0 else None)


def _size(key: str, difference: Array) -> float:
    return float(np.linalg.norm(difference)) if key == "prediction" else float(np.abs(difference).max(initial=0.0))


def _values(measure: Quadrature) -> Callable[[Quadrature], Values]:
    """What is recorded of any measure, moments about the mean and in the standard deviations of this one. Collective."""
    model, axes = measure.model, unbounded(measure.model)
    centres = np.array([_mean(measure, lambda z, a=a: z[:, a]) for a in axes])  # type: ignore[misc]
    squares = [_mean(measure, lambda z, a=a, c=c: (z[:, a] - c) ** 2) for a, c in zip(axes, centres, strict=True)]  # type: ignore[misc]
    scales = np.sqrt(np.maximum(squares, (NARROW * np.maximum(np.abs(centres), NARROW)) ** 2))

    def values(one: Quadrature) -> Values:
        law = [
            _mean(one, lambda z, a=a, c=c, s=s, p=p: ((z[:, a] - c) / s) ** p)  # type: ignore[misc]
            for a, c, s in zip(axes, centres, scales, strict=True)
            for p in (1, 2)
        ]
        found = {"loss": np.array([np.mean(one.losses())]), "law": np.array(law)}
        if model.data is not None:
            w, target = model.data.weights, model.data.target
            norm = math.sqrt(float(w @ target**2)) or 1.0
            found["prediction"] = np.sqrt(w) * model.predictions(one.moments())[0] / norm
        return found | {key: np.array([_mean(one, h)]) for key, h in model.observables.items()}

    return values


def _mean(measure: Quadrature, h: Callable[[Array], Array]) -> float:
    return float(np.mean(measure.expectation(h)))
