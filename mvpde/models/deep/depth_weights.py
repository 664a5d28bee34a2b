"""Weights θ(s) of a network along its depth s: expressions of s, or a table.

    "constant", the layers of a network:  θ(s) = θ_k for s_k ≤ s < s_{k+1};        "linear":  on the line from θ_k to θ_{k+1}.

Where a table bends or jumps, steps of every measure end: within a piece θ is smooth, and what is read at the end of a piece is
its own limit from below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from mvpde.models.expressions.parse import compile_expression, has_variable
from mvpde.models.expressions.programs import program
from mvpde.models.expressions.vocabulary import naming
from mvpde.models.mean_field import Array

DEPTH = "s"
Interpolation = Literal["constant", "linear"]
WeightValues = Mapping[str, str] | Mapping[str, Sequence[float]]
_ROUNDING = 1e-9  # part of the depth by which a table may miss its end


@dataclass(frozen=True)
class DepthWeights:
    """θ(s), piece by piece.

    Attributes:
        names: of the weights.
        starts: where the pieces begin, 0 first, increasing.
        pieces: s → θ(s), shape (names,), one for each piece.
        moving: whether θ depends on s within a piece.
        end: how far θ is known.
    """

    names: tuple[str, ...]
    starts: tuple[float, ...]
    pieces: tuple[Callable[[float], Array], ...]
    moving: bool
    end: float = math.inf

    @property
    def last(self) -> float:
        """The largest depth that may be asked for: the end, and rounding."""
        return self.end * (1.0 + _ROUNDING)

    def require(self, end: float) -> None:
        """Refuse a depth that θ is not known to.

        Raises:
            ValueError: saying how far it is.
        """
        if end > self.last:
            raise ValueError(
                f"weights: the table ends at s = {self.end:g}, the flow at s = {end:g}; add rows to the table or end sooner"
            )


def depth_weights(
    weights: WeightValues, interpolation: Interpolation = "constant", parameters: Mapping[str, float] | None = None
) -> DepthWeights:
    """θ(s) from expressions of s by name, or from columns by name with s among them.

    Args:
        weights: texts, or lists of as many numbers; {} where there are no weights.
        interpolation: of a table. "constant": row k holds from s_k to s_{k+1}, the last one as long as the one before (a single
            row for ever). "linear": on straight lines between the rows.
        parameters: numbers that the expressions may use, by name.

    Raises:
        ValueError: texts and lists together, lists without s or of different lengths, s that does not begin at 0 and increase, an
            unknown interpolation. `ExpressionError`: an expression is refused.
    """
    listed = [name for name, value in weights.items() if not isinstance(value, str)]
    if listed and len(listed) < len(weights):
        odd = next(name for name in weights if name not in listed)
        raise ValueError(f"weights: '{odd}' is an expression and '{listed[0]}' a list; give all as expressions, or all as lists")
    if not listed:
        return _written({name: str(text) for name, text in weights.items()}, parameters or {})
    return _tabulated({name: np.array(weights[name], float) for name in listed}, interpolation)


def _written(texts: Mapping[str, str], parameters: Mapping[str, float]) -> DepthWeights:
    trees = []
    for name, text in texts.items():
        with naming(f"weights.{name}"):
            trees.append(compile_expression(text, (DEPTH,), parameters).tree)
    run, nowhere = program(trees, (), (DEPTH,)), np.empty((1, 0))
    moving = any(has_variable(tree) for tree in trees)
    return DepthWeights(tuple(texts), (0.0,), (lambda s: run.at(nowhere, [s])[:, 0],), moving)


def _tabulated(table: Mapping[str, Array], interpolation: str) -> DepthWeights:
    if interpolation not in ("constant", "linear"):
        raise ValueError(f'interpolation: {interpolation!r} is neither "constant" nor "linear"')
    if DEPTH not in table:
        raise ValueError(f"weights: a table needs the depths of its rows; add a list `{DEPTH}` that begins at 0")
    s, names = table[DEPTH], tuple(name for name in table if name != DEPTH)
    for name in names:
        if table[name].shape != s.shape:
            raise ValueError(f"weights: '{name}' has {table[name].size} numbers, '{DEPTH}' {s.size}; give one for each row")
    if s.size == 0 or s[0] != 0.0 or any(b <= a for a, b in pairwise(s)):
        raise ValueError(f"weights: the depths {DEPTH} of a table must begin at 0 and increase")
    rows = np.stack([table[name] for name in names], axis=1) if names else np.zeros((s.size, 0))
    if interpolation == "constant":
        last = 2.0 * s[-1] - s[-2] if s.size > 1 else math.inf
        return DepthWeights(names, tuple(map(float, s)), tuple(_constant(row) for row in rows), moving=False, end=float(last))
    if s.size < 2:
        raise ValueError('weights: interpolation = "linear" needs two rows or more')
    lines = tuple(_line(a, b, first, last) for (a, b), (first, last) in zip(pairwise(s), pairwise(rows), strict=True))
    return DepthWeights(names, tuple(map(float, s[:-1])), lines, moving=True, end=float(s[-1]))


def _constant(row: Array) -> Callable[[float], Array]:
    return lambda s: row


def _line(a: float, b: float, first: Array, last: Array) -> Callable[[float], Array]:
    return lambda s: first + (s - a) / (b - a) * (last - first)
