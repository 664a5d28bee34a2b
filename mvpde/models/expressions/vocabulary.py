"""What the expressions of a model are written in, and functions of points made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mvpde.models.expressions.derivatives import gradient
from mvpde.models.expressions.parse import CONSTANTS, FUNCTIONS, Expression, ExpressionError, Node, compile_expression, number
from mvpde.models.expressions.programs import program
from mvpde.models.mean_field import Array, MeanField, no_potential
from mvpde.registry import nearest

NO_EXPRESSIONS: Mapping[str, str] = {}
OBSERVED = 8  # moments whose values are recorded over a run
_ROUNDING = 1e-9  # relative difference across a period that counts as none
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MOMENT = re.compile(r"m[0-9]+")


@dataclass(frozen=True)
class Vocabulary:
    """What the expressions of a model are written in.

    Attributes:
        coordinates: names of the D coordinates.
        periods: of the coordinates that have one, by name.
        parameters: numbers, by name.

    Raises:
        ValueError: for a name that is none, is used twice or has another meaning; for a period of no coordinate, or not positive.
    """

    coordinates: tuple[str, ...]
    periods: Mapping[str, float]
    parameters: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check the names."""
        if not self.coordinates:
            raise ValueError("coordinates: at least one name is needed")
        for where, names in (("coordinates", self.coordinates), ("parameters", tuple(self.parameters))):
            for name in names:
                check_name(where, name, [*self.coordinates, *self.parameters])
        for name, period in self.periods.items():
            if name not in self.coordinates:
                near = nearest(name, self.coordinates)
                raise ValueError(f"periods: there is no coordinate '{name}'" + (f"; did you mean '{near}'?" if near else ""))
            if not 0.0 < period < np.inf:
                raise ValueError(f"periods: that of '{name}' is {period}; it must be positive")

    def expression(self, key: str, text: str, more: Sequence[str] = ()) -> Expression:
        """The expression of a key, in the coordinates and ``more`` names."""
        with naming(key):
            return compile_expression(text, (*self.coordinates, *more), self.parameters)

    def expressions(self, key: str, texts: Sequence[str], more: Sequence[str] = ()) -> list[Expression]:
        """Those of a list."""
        check_list(key, texts)
        return [self.expression(f"{key}, entry {k}", text, more) for k, text in enumerate(texts)]

    def moments(self, texts: Sequence[str]) -> tuple[str, ...]:
        """m0, m1, …, one for each feature."""
        return tuple(f"m{k}" for k in range(len(texts)))

    def period_list(self) -> tuple[float | None, ...]:
        """The period of each coordinate, None where it has none."""
        return tuple(self.periods.get(name) for name in self.coordinates)

    def points(self, lower: Sequence[float] | None = None, upper: Sequence[float] | None = None, count: int = 64) -> Array:
        """Generic points of the box, by default [−1, 1] and one period, shape (count, D)."""
        low = [-1.0 if p is None else 0.0 for p in self.period_list()] if lower is None else lower
        high = [1.0 if p is None else p for p in self.period_list()] if upper is None else upper
        golden = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0])[np.arange(len(self.coordinates)) % 6]
        return np.array(low) + (np.array(high) - np.array(low)) * np.mod((np.arange(count)[:, None] + 0.5) * golden, 1.0)

    def check_periods(self, key: str, trees: Sequence[Node], more: Sequence[str] = ()) -> None:
        """Refuse expressions that do not have the periods of their coordinates."""
        run, z = program(trees, self.coordinates, more), self.points()
        values = np.linspace(0.3, 0.7, len(more))
        for axis, period in enumerate(self.period_list()):
            if period is not None:
                shifted = z.copy()
                shifted[:, axis] += period
                with np.errstate(all="ignore"):
                    here, there = run.at(z, values), run.at(shifted, values)
                if np.any(np.abs(here - there) > _ROUNDING * (1.0 + np.abs(here))):
                    raise ValueError(f"{key}: does not have the period {period:g} of the coordinate '{self.coordinates[axis]}'")


def vocabulary(coordinates: Sequence[str], periods: Mapping[str, float], parameters: Mapping[str, float]) -> Vocabulary:
    """That of a model with these coordinates.

    Raises:
        ValueError: a text instead of a list of names; as `Vocabulary`.
    """
    check_list("coordinates", coordinates)
    return Vocabulary(tuple(coordinates), periods, parameters)


def check_list(key: str, texts: Sequence[str]) -> None:
    """Refuse a single text, whose letters would be taken one by one.

    Raises:
        ValueError: naming the key.
    """
    if isinstance(texts, str):
        raise ValueError(f"{key}: is one text; give a list of texts, such as [{texts!r}]")


def check_name(where: str, name: str, everything: Sequence[str]) -> None:
    """Refuse what cannot be the name of a coordinate or parameter.

    Raises:
        ValueError: saying why.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: '{name[:40]}' is no name; take a letter, then letters, digits and _")
    if name in CONSTANTS or name in FUNCTIONS or _MOMENT.fullmatch(name):
        raise ValueError(f"{where}: '{name}' has a fixed meaning in expressions; choose another name")
    if everything.count(name) > 1:
        raise ValueError(f"{where}: '{name}' is given twice; choose another name")


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Errors of an expression learn which key it stands under."""
    try:
        yield
    except ExpressionError as error:
        raise ExpressionError(f"{key}: {error}") from None


def evaluate_number(key: str, value: float | str, parameters: Mapping[str, float]) -> float:
    """A number, or the value of an expression in the parameters.

    Raises:
        ExpressionError: if it is refused or not finite.
    """
    if not isinstance(value, str):
        return float(value)
    with naming(key):
        result = number(compile_expression(value, (), parameters).tree)
    if not np.isfinite(result):
        raise ExpressionError(f"{key}: '{value}' is not a finite number (at column 1)")
    return result


# --- functions of points --------------------------------------------------------------------------------------------------------


def scalar_function(tree: Node, coordinates: Sequence[str]) -> Callable[[Array], Array]:
    """z, shape (N, D) → values, shape (N,)."""
    run = program([tree], coordinates)
    return lambda z: run.at(z)[0]


def vector_function(trees: Sequence[Node], coordinates: Sequence[str]) -> Callable[[Array], Array]:
    """z, shape (N, D) → values, shape (N, trees)."""
    run = program(trees, coordinates)
    return lambda z: run.at(z).T


def tensor_function(
    trees: Sequence[Node], coordinates: Sequence[str], moments: Sequence[str], shape: tuple[int, ...]
) -> Callable[[Array, Array], Array]:
    """(z, m) with shapes (N, D), (K,) → values, shape (N, *shape), row by row; the trees may use the moments m0, m1, …."""
    run, count = program(trees, coordinates, moments), len(moments)
    return lambda z, m: np.ascontiguousarray(run.at(z, m[:count]).T).reshape(len(z), *shape)


def external(words: Vocabulary, potential: str | None) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """V0 and its gradient."""
    if potential is None:
        return no_potential, np.zeros_like
    expression = words.expression("potential", potential)
    with naming("potential"):
        slopes = [e.tree for e in gradient(expression, words.coordinates)]
    words.check_periods("potential", [expression.tree])
    return scalar_function(expression.tree, words.coordinates), vector_function(slopes, words.coordinates)


def observed(words: Vocabulary, features: Sequence[Node], observables: Mapping[str, str]) -> dict[str, Callable[[Array], Array]]:
    """The first moments under the names m0, m1, …, and further means by name."""
    functions = {f"m{k}": scalar_function(tree, words.coordinates) for k, tree in enumerate(features[:OBSERVED])}
    for name, text in observables.items():
        if not _NAME.fullmatch(name) or name in functions:
            raise ValueError(f"observables: '{name[:40]}' cannot be the name of one; choose another")
        functions[name] = scalar_function(words.expression(f"observables.{name}", text).tree, words.coordinates)
    return functions


def check_finite(model: MeanField, lower: Sequence[float], upper: Sequence[float], count: int = 256) -> None:
    """Refuse a model with a potential, feature, drift or outer energy that is no finite number at generic points of a box.

    Raises:
        ValueError: naming the first such thing and the place.
    """
    z = Vocabulary(model.coordinates, {}, {}).points(lower, upper, count)
    with np.errstate(all="ignore"):
        features = model.feature_values(z)
        m = np.nan_to_num(features).mean(axis=0)
        everything = {"features": features, "potential": model.external_potential(z)}
        everything |= {} if model.own_drift is None else {"drift": model.drift(z, m)}
        everything |= {} if model.own_diffusion is None else {"diffusion": model.diffusion(z, m)}
        energy = model.outer_energy(m)
    for key, values in everything.items():
        wrong = np.flatnonzero(~np.isfinite(values.reshape(len(z), -1)).all(axis=1))
        if len(wrong):
            place = ", ".join(f"{name} = {x:.4g}" for name, x in zip(model.coordinates, z[wrong[0]], strict=True))
            raise ValueError(f"{key}: is not a finite number at {place}; change the expression or the domain")
    if not np.isfinite(energy):
        raise ValueError("outer_energy: is not a finite number at the moments of points spread over the domain")
