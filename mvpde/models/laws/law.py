"""What a law is: of one coordinate, and of all D; the table of the former, and how much of one lies in an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter, isclass, isfunction, signature
from typing import Protocol, cast, get_type_hints

import numpy as np
from numpy.typing import NDArray

from mvpde.registry import Registry

Array = NDArray[np.float64]

_MIDPOINTS = 8192


@dataclass(frozen=True)
class Key:
    """What a case file says about a parameter of a law.

    Attributes:
        description: its meaning and range.
        example: a value that works.
        above: it must be larger.
        least: it must not be smaller.
        of_model: the model's own number of this name stands in where it is absent.
    """

    description: str
    example: float
    above: float | None = None
    least: float | None = None
    of_model: bool = False


def keys_of(law: Callable[..., Law1D]) -> dict[str, Key]:
    """The parameters of a law that a case file gives, by name: those with a `Key`, and others without a default.

    Raises:
        ValueError: it is neither a class nor a function, whose parameters have names and types.
    """
    if not (isclass(law) or isfunction(law)):
        raise ValueError(f"a law is a class or a function of its parameters, not {law!r}; write a function that returns it")
    hints = get_type_hints(law, include_extras=True)
    marked = {name: key for name, hint in hints.items() for key in getattr(hint, "__metadata__", ()) if isinstance(key, Key)}
    named = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
    asked = [p.name for p in signature(law).parameters.values() if p.default is Parameter.empty and p.kind in named]
    return {**{name: Key("a parameter of the law", 1.0) for name in asked}, **marked}


class Law1D(Protocol):
    """A probability law on the line: what `Product` asks of each factor."""

    def density(self, z: Array) -> Array:
        """ρ(z), shape of z."""

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape of z."""

    def log_density_gradient(self, z: Array) -> Array:
        """d log ρ/dz, shape of z."""

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent draws, shape (n,)."""

    def quadrature(self, n: int) -> tuple[Array, Array]:
        """n points and weights summing to 1, shapes (n,), with ∫h dρ ≈ Σ_i w_i h(z_i)."""

    def extent(self) -> tuple[float, float]:
        """Ends of an interval that holds all of the law, or all but 2e-9 of it."""


def atoms_of(law: Law1D) -> tuple[Array, Array] | None:
    """Places, shape (M,), and masses with sum 1, of a law that is made of them and has no density; None for others."""
    return cast("tuple[Array, Array] | None", getattr(law, "atoms", None))


def components_of(law: Law1D) -> tuple[tuple[float, Law1D], ...]:
    """(share, law) of what a mixture mixes; of any other law itself."""
    return cast("tuple[tuple[float, Law1D], ...]", getattr(law, "components", ((1.0, law),)))


def mass_between(law: Law1D, low: float, high: float) -> float:
    """∫ρ over [low, high], by midpoints, to about 1e-4 where ρ jumps; 1 over a whole period of a law on a circle."""
    period = getattr(law, "period", None)
    if isinstance(period, float) and high - low >= (1.0 - 1e-9) * period:
        return 1.0
    parts = components_of(law)
    if len(parts) > 1:
        return sum(share * mass_between(part, low, high) for share, part in parts)
    atoms = atoms_of(law)
    if atoms is not None:
        places, masses = atoms
        return float(masses[(places >= low) & (places <= high)].sum())
    return _density_between(law, low, high)


def _density_between(law: Law1D, low: float, high: float) -> float:
    start, end = law.extent()

    def mass(a: float, b: float) -> float:
        h = max(b - a, 0.0) / _MIDPOINTS
        points: Array = a + h * (np.arange(_MIDPOINTS, dtype=float) + 0.5)
        return float(law.density(points).sum()) * h

    whole = mass(start, end)
    return mass(max(start, low), min(end, high)) / whole if whole > 0.0 else 1.0


LAWS: Registry[Callable[..., Law1D]] = Registry("law of one coordinate", {})


class Sampler(Protocol):
    """What particles ask of an initial law."""

    @property
    def dimension(self) -> int:
        """D."""

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """n independent points, shape (n, D), drawn from the generator alone."""


class Law(Sampler, Protocol):
    """A law of all D coordinates: what is asked of an initial law."""

    def density(self, z: Array) -> Array:
        """ρ(z), shape (N,), at z of shape (N, D)."""

    def log_density(self, z: Array) -> Array:
        """log ρ(z), shape (N,)."""

    def quadrature(self, nodes: Sequence[int]) -> tuple[Array, Array]:
        """Points, shape (N, D), and weights, shape (N,), with ∫h dρ ≈ Σ_i w_i h(z_i)."""


def check_law(law: object) -> None:
    """Refuse a law of one coordinate where one of all D coordinates is asked for, also where D = 1.

    Raises:
        ValueError: saying how it is made one.
    """
    if hasattr(law, "extent"):
        raise ValueError(f"law: {law!r} is a law of one coordinate; put one for each into a product: Product((law,))")
