"""Stationary laws of deep networks at τ > 0: every layer a Gibbs state in its own potential, for every label.

    ρ^ℓ(θ|λ) ∝ exp(−V^ℓ(θ|λ)/τ),    V^ℓ = V0 − Σ_p M^ℓ_p σ^ℓ(z^ℓ_p, θ)

where z and M are those of the laws themselves: a fixed point in a few vectors of P numbers, which Anderson's method finds. The
energy is not convex, so there may be others; this one is found from where the density is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvpde.density.deep.density import DeepDensity
from mvpde.density.resolution import outer_mass
from mvpde.fields import FieldSeries
from mvpde.models.deep.units import Array
from mvpde.richardson import three_levels, two_levels
from mvpde.runtime import MPI, ArgumentError, SolverError, on_first_rank

if TYPE_CHECKING:
    from collections.abc import Callable

_SOLVED = 1e-12  # change of any z or M at which the search ends
_ROUNDS = 500
_KEPT = 6  # earlier rounds that Anderson's method combines


@dataclass(frozen=True)
class DeepStationary:
    """A stationary law of all layers.

    Attributes:
        density: the measure in that law; its time says nothing.
        residual: the largest change of any z or M in one more round.
        rounds: how many it took.
        outer_mass: share of the mass in the outer layer of cells.
    """

    density: DeepDensity
    residual: float
    rounds: int
    outer_mass: float

    def entry(self) -> dict[str, object]:
        """What summary.json says of it. Collective."""
        arrays = {name: values.tolist() for name, values in self.density.arrays().items()}
        numbers = {"loss": float(self.density.losses()[0]), "free_energy": self.density.free_energy()}
        return {**numbers, **arrays, "outer_mass": self.outer_mass, "residual": self.residual, "rounds": self.rounds}

    def numbers(self) -> dict[str, Array]:
        """Those of the law that its mesh has an error of. Collective."""
        known = {"loss": self.density.losses()[0], "free_energy": self.density.free_energy(), **self.density.arrays()}
        return {name: np.asarray(values, float) for name, values in known.items()}

    def distance(self, density: DeepDensity) -> float:
        """‖ρ_t/ρ_∞ − 1‖ in L²(ρ_∞), the root of the sum over layers of the squares. Collective."""
        owned, lumped = density.domain.owned, density.domain.graph.lumped
        law = np.maximum(self.density.values[:owned], 1e-300)
        squares = lumped * (density.values[:owned] - law) ** 2 / law
        return float(np.sqrt(density.domain.sum(np.array([squares.sum()]))[0]))


def deep_stationary(density: DeepDensity) -> DeepStationary:
    """The stationary law of the equation that ``density`` solves, from where it is; it stays as it is. Collective.

    Raises:
        ArgumentError: temperature 0, or ends that are trained, which come to rest in no Gibbs state.
        SolverError: the search does not settle. On all ranks alike.
    """
    if density.network.temperature == 0.0:
        raise ArgumentError("density", "needs diffusion: model.temperature is 0, so the laws end in minima of their potentials")
    if density.network.train_ends:
        raise ArgumentError("density", "has trained ends, for which no stationary law is sought; set train_ends = false")
    domain, features = density.domain, density.features

    def gibbs(moments: Array) -> Array:
        potential = np.empty(len(density.values))
        features.potential(moments, potential)
        lowest = np.full(len(domain.weights), np.inf)
        np.minimum.at(lowest, domain.part, potential)
        domain.comm.Allreduce(MPI.IN_PLACE, lowest, MPI.MIN)
        return domain.normalised(np.exp(-(potential - lowest[domain.part]) / density.network.temperature))

    def moments_of(values: Array) -> Array:
        return features.moments(domain.graph.lumped * values[: domain.owned])

    found, residual, rounds = anderson(lambda m: moments_of(gibbs(m)), moments_of(density.values))
    law = density.with_values(gibbs(found))
    return DeepStationary(law, residual, rounds, outer_mass(domain, law.values, law.model))


def anderson(step: Callable[[Array], Array], start: Array) -> tuple[Array, float, int]:
    """x with step(x) = x by Anderson's method (J. ACM 12 (1965) 547), the last change, and the number of rounds.

    Raises:
        SolverError: no fixed point found.
    """
    x, points, changes = start, list[Array](), list[Array]()
    for rounds in range(1, _ROUNDS + 1):
        change = step(x) - x
        residual = float(np.abs(change).max())
        if residual < _SOLVED:
            return x + change, residual, rounds
        if not np.isfinite(residual):
            break
        points, changes = [*points[-_KEPT:], x], [*changes[-_KEPT:], change]
        x = x + change
        if len(points) > 1:
            differences = np.stack([b - a for a, b in pairwise(changes)], axis=1)
            moved = np.stack([b - a for a, b in pairwise(points)], axis=1)
            weights = np.linalg.lstsq(differences, change, rcond=1e-12)[0]
            x = x - (moved + differences) @ weights
    raise SolverError(
        f"no stationary law of the deep network found: inputs and multipliers still change by {residual:.1e} after {rounds} "
        "rounds; begin nearer to it, or raise the temperature",
        "stationary",
    )


@dataclass
class DeepLongTime:
    """The stationary law and the distance to it at the output times.

    Attributes:
        law: the law.
        entry: what is said of it.
        distances: one per output time, see `DeepStationary.distance`.
    """

    law: DeepStationary
    entry: dict[str, object]
    distances: list[float] = field(default_factory=list)

    def observe(self, density: DeepDensity) -> None:
        """Add the present distance to the stationary law. Collective."""
        self.distances.append(self.law.distance(density))

    def summary(self, times: Sequence[float]) -> dict[str, dict[str, object]]:
        """The entry `stationary` of summary.json."""
        del times
        return {"stationary": {**self.entry, "distance": self.distances}}

    def write(self, folder: Path, coordinates: tuple[str, ...]) -> None:
        """Fields for ParaView: `stationary.xdmf` with what `density.xdmf` has at an output time. Collective."""
        mesh, fields = self.law.density.mesh(), self.law.density.fields()

        def store() -> None:
            assert mesh is not None
            series = FieldSeries(folder / "stationary", "stationary")
            series.write_mesh(*mesh, coordinates)
            series.append_on_mesh(0.0, fields)

        on_first_rank(self.law.density.comm, store)


def deep_long_time(density: DeepDensity, coarser: Sequence[DeepDensity] = ()) -> DeepLongTime:
    """The stationary law of what ``density`` solves, with the errors of its numbers. Collective.

    ``coarser``: the same on half of the cells, or on half and on a quarter, in any state; without them no error is known.
    """
    law = deep_stationary(density)
    return DeepLongTime(law, law.entry() | errors(law, coarser))


def errors(law: DeepStationary, coarser: Sequence[DeepDensity]) -> dict[str, object]:
    """`<x>_error` and `<x>_extrapolated` by `mvpde.richardson`, of the mesh; the labels are the same. Collective."""
    levels = []
    for density in coarser[:2]:
        try:
            levels.append(deep_stationary(density).numbers())
        except SolverError:
            break
    told: dict[str, object] = {}
    for name, fine in law.numbers().items() if levels else ():
        there = [level[name] for level in levels]
        known = two_levels(fine, there[0]) if len(there) == 1 else three_levels(fine, there[0], there[1], cancelling=False)
        told |= {f"{name}_error": known.error.tolist(), f"{name}_extrapolated": known.extrapolated.tolist()}
    return told
