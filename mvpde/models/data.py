"""Data sets: points x_p, weights w_p of the measure μ, targets f_p; by quadrature of a known μ, from lists, or from a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from csv import Error as CsvError
from csv import reader
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_legendre

from mvpde.models.expressions.parse import compile_expression
from mvpde.models.expressions.programs import program
from mvpde.registry import Registry, hint

Array = NDArray[np.float64]
Target = Callable[[Array], Array]  # x, shape (P, q) → f(x), shape (P,)

# Targets that a case file may name instead of writing the expression.
TARGETS: Registry[str] = Registry(
    "target",
    {
        "circle_two_modes": "0.6*cos(x) + 0.3*sin(2*x)",
        "mixture": "(exp(-(x + 2)**2)/sqrt(pi) - 2*exp(-x**2/2)/sqrt(2*pi) + exp(-(x - 2)**2)/sqrt(pi))/3",
        "step": "sign(x)",
        "sine": "sin(pi*x)",
        "ramp": "maximum(-1, minimum(1, 2*x))",
    },
)


@dataclass(frozen=True)
class Data:
    """A measure μ on inputs with a target on it.

    Attributes:
        x: inputs, shape (P, q).
        weights: w_p > 0 with ∫h dμ ≈ Σ_p w_p h(x_p), shape (P,). They sum to 1 where μ is a probability measure.
        target: f(x_p), shape (P,).
        test: points that were held out and that nothing is trained on; None where none were.

    Raises:
        ValueError: for other shapes, no points, a weight that is not positive, or a value that is not finite.
    """

    x: Array
    weights: Array
    target: Array
    test: Data | None = None

    def __post_init__(self) -> None:
        """Check shapes, weights and finiteness."""
        count = len(self.target)
        if count == 0 or self.x.ndim != 2 or len(self.x) != count or self.weights.shape != (count,) or self.target.ndim != 1:
            raise ValueError(
                f"data need shapes (P, q), (P,), (P,) with P > 0 for inputs, weights and target, "
                f"not {self.x.shape}, {self.weights.shape}, {self.target.shape}"
            )
        for what, values in (("an input", self.x), ("a weight", self.weights), ("the target", self.target)):
            wrong = np.flatnonzero(~np.isfinite(values).reshape(count, -1).all(axis=1))
            if len(wrong):
                raise ValueError(f"{what} of data point {wrong[0] + 1} (x = {self.x[wrong[0]].tolist()}) is not a finite number")
        if not np.all(self.weights > 0.0):
            raise ValueError("the weights of data points must be positive")


def target_function(text: str, inputs: int = 1) -> Target:
    """The target x, shape (P, q) → f(x), shape (P,), for a name in `TARGETS` or an expression.

    Args:
        text: name or expression; its variables are ``x`` for one input, ``x1``, ``x2``, … for several.
        inputs: q.

    Raises:
        ExpressionError: if the text is no name of `TARGETS` and not an expression either.
    """
    names = ("x",) if inputs == 1 else tuple(f"x{k + 1}" for k in range(inputs))
    run = program([compile_expression(TARGETS.get(text, text), names).tree], names)

    def target(x: Array) -> Array:
        if x.shape[1] != inputs:
            raise ValueError(f"the target is a function of {inputs} input(s), the data have {x.shape[1]}")
        with np.errstate(all="ignore"):  # `Data` refuses what is not finite
            return run.at(x)[0]

    return target


def circle(points: int, target: Target | str) -> Data:
    """The uniform probability measure on the circle: P equispaced angles x_p = 2πp/P, weights 1/P.

    Args:
        points: P ≥ 1.
        target: x, shape (P, 1) → f(x), shape (P,), or a text as for `target_function`.

    Raises:
        ValueError: no point, or a target that is not finite. ExpressionError: the text is no expression.
    """
    _positive(points)
    x = 2.0 * np.pi * np.arange(points)[:, None] / points
    return Data(x, np.full(points, 1.0 / points), _evaluated(target, x))


def interval(lower: float, upper: float, points: int, target: Target | str) -> Data:
    """The uniform probability measure on [lower, upper] by P Gauss–Legendre points: exact for polynomials of degree 2P − 1.

    Args:
        lower, upper: ends of the interval, lower < upper.
        points: P ≥ 1.
        target: as for `circle`.

    Raises:
        ValueError: lower ≥ upper; otherwise as `circle`.
    """
    _positive(points)
    if not lower < upper:
        raise ValueError(f"data source 'interval' needs lower < upper, not {lower} and {upper}")
    t, w = roots_legendre(points)
    x = (lower + 0.5 * (upper - lower) * (t + 1.0))[:, None]
    return Data(x, w / w.sum(), _evaluated(target, x))


def points(x: ArrayLike, target: Target | str | ArrayLike, weights: ArrayLike | None = None) -> Data:
    """Given points: x, shape (P, q) or (P,) for one input; weights, shape (P,), by default 1/P.

    Args:
        x: inputs.
        target: values f_p, shape (P,), or a function or text as for `circle`.
        weights: w_p > 0.

    Raises:
        ValueError: as `Data`. ExpressionError: the text is no expression.
    """
    inputs = np.asarray(x, dtype=np.float64)
    inputs = inputs[:, None] if inputs.ndim == 1 else inputs
    values = _evaluated(target, inputs) if callable(target) or isinstance(target, str) else np.asarray(target, dtype=np.float64)
    shares = np.full(len(inputs), 1.0 / max(len(inputs), 1)) if weights is None else np.asarray(weights, dtype=np.float64)
    return Data(inputs, shares, values)


def csv(
    path: str | Path,
    inputs: Sequence[str] | None,
    output: str,
    standardise: bool = False,
    content: Callable[[Path], bytes] = Path.read_bytes,
) -> Data:
    """The empirical measure of a table: weights 1/P. Lines starting with # are comments; the first other line names the columns.

    Args:
        path: a comma-separated file in UTF-8.
        inputs: names of the columns of x; None: all but that of f.
        output: name of the column of f.
        standardise: subtract the mean from each column used and divide by its standard deviation.
        content: reads the file.

    Raises:
        ValueError: for a missing file or column, a ragged line, a field that is not a finite number, or fewer than two rows; the
            message names line and column.
    """
    lines = _table_lines(Path(path), content)
    header = next(lines, (0, []))[1]
    inputs = [name for name in header if name != output] if inputs is None else inputs
    if not inputs:
        raise ValueError(f"{path}: name at least one input column")
    columns = [_column(header, name, path) for name in (*inputs, output)]
    rows = [[_number(row[c], path, line, header[c]) for c in columns] for line, row in _even(lines, len(header), path)]
    if len(rows) < 2:
        raise ValueError(f"{path}: {len(rows)} row(s) of data; at least 2 are needed")
    table = np.array(rows)
    if standardise:
        table = _standardised(table, (*inputs, output), path)
    return Data(table[:, :-1], np.full(len(table), 1.0 / len(table)), table[:, -1])


def columns(path: str | Path, content: Callable[[Path], bytes] = Path.read_bytes) -> dict[str, list[float]]:
    """All columns of a table of numbers by name, as `csv` reads it.

    Raises:
        ValueError: as `csv`; for a column named twice, or no row.
    """
    lines = _table_lines(Path(path), content)
    header = next(lines, (0, []))[1]
    places = {name: _column(header, name, path) for name in header}
    rows = [[_number(row[c], path, line, header[c]) for c in places.values()] for line, row in _even(lines, len(header), path)]
    if not rows:
        raise ValueError(f"{path}: no rows of data; at least 1 is needed")
    return {name: list(column) for name, column in zip(places, zip(*rows, strict=True), strict=True)}


def split(data: Data, share: float, seed: int = 0) -> Data:
    """The empirical measure of some of the points, with the rest held out as its `test`; the weights of each sum to 1.

    The order is kept. round(share · P) points are held out: the first ones of a random permutation.

    Args:
        data: P points.
        share: of the points that are held out, in (0, 1).
        seed: ≥ 0, of the permutation.

    Raises:
        ValueError: for a share that leaves no point to train on or none to test with.
    """
    count = len(data.target)
    held = round(share * count)
    if not 0 < held < count:
        raise ValueError(f"{share:g} of {count} points leave {count - held} to train on and {held} to test with; both need one")
    order = np.random.default_rng(seed).permutation(count)
    return replace(_part(data, np.sort(order[held:])), test=_part(data, np.sort(order[:held])))


def noisy(data: Data, deviation: float, seed: int = 0) -> Data:
    """The same with independent N(0, deviation²) added to the targets, but not to those of `test`.

    Args:
        data: the points.
        deviation: standard deviation, ≥ 0.
        seed: ≥ 0, of a stream of its own: also different from that of `split` with the same seed.
    """
    noise = np.random.default_rng([seed, 1]).standard_normal(len(data.target))
    return replace(data, target=data.target + deviation * noise)


def _part(data: Data, rows: NDArray[np.intp]) -> Data:
    weights = data.weights[rows]
    return Data(data.x[rows], weights / weights.sum(), data.target[rows])


def _positive(points: int) -> None:
    if points < 1:
        raise ValueError(f"a data set needs at least 1 point, not {points}")


def _evaluated(target: Target | str, x: Array) -> Array:
    function = target_function(target, x.shape[1]) if isinstance(target, str) else target
    return np.asarray(function(x), dtype=np.float64)


def _table_lines(path: Path, content: Callable[[Path], bytes]) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of the lines that are neither blank nor comments. (pandas forgets the numbers.)"""
    try:
        text = content(path).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read the data file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the data file {path} is not a text in UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield number, [field.strip() for field in next(reader([line], skipinitialspace=True))]
            except CsvError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None


def _even(lines: Iterator[tuple[int, list[str]]], width: int, path: str | Path) -> Iterator[tuple[int, list[str]]]:
    for number, row in lines:
        if len(row) != width:
            raise ValueError(f"{path}, line {number}: {len(row)} fields where the header has {width}")
        yield number, row


def _column(header: Sequence[str], name: str, path: str | Path) -> int:
    if header.count(name) != 1:
        raise ValueError(f"{path}: {header.count(name) or 'no'} columns called '{name}'; {hint(name, header)}")
    return header.index(name)


def _number(field: str, path: str | Path, line: int, column: str) -> float:
    try:
        value = float(field)
    except ValueError:
        raise ValueError(f"{path}, line {line}, column '{column}': {field!r} is not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{path}, line {line}, column '{column}': {field} is not a finite number")
    return value


def _standardised(table: Array, names: Sequence[str], path: str | Path) -> Array:
    for name, width in zip(names, np.ptp(table, axis=0), strict=True):
        if width == 0.0:  # the standard deviation of a constant may be its rounding error
            raise ValueError(f"{path}: column '{name}' is constant and cannot be standardised")
    return np.asarray((table - table.mean(axis=0)) / table.std(axis=0))
