"""Expressions that use the time t, as functions of points made anew for each time from programs that are made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mvpde.models.expressions.derivatives import gradient
from mvpde.models.expressions.parse import compile_expression, has_variable
from mvpde.models.expressions.programs import program
from mvpde.models.mean_field import Array

TIME = "t"
Field = Callable[[Array], Array]  # z, shape (N, D) → values, shape (N, …)


def uses_time(texts: Sequence[str], coordinates: Sequence[str], parameters: Mapping[str, float]) -> bool:
    """Whether any text depends on t, where that is neither a coordinate nor a parameter.

    Raises:
        ExpressionError: as `compile_expression`.
    """
    if TIME in coordinates or TIME in parameters:
        return False
    return any(has_variable(compile_expression(text, (*coordinates, TIME), parameters).tree, [TIME]) for text in texts)


def timed(
    texts: Sequence[str], coordinates: Sequence[str], parameters: Mapping[str, float], shape: tuple[int, ...]
) -> Callable[[float], Field]:
    """t → z → values of all texts, shape (N, *shape)."""
    names = tuple(coordinates)
    run = program([compile_expression(text, (*names, TIME), parameters).tree for text in texts], names, (TIME,))
    return lambda t: lambda z: np.ascontiguousarray(run.at(z, [t]).T).reshape(len(z), *shape)


def timed_potential(
    text: str, coordinates: Sequence[str], parameters: Mapping[str, float]
) -> Callable[[float], tuple[Field, Field]]:
    """t → V, shape (N,), and ∇V, shape (N, D)."""
    names = tuple(coordinates)
    expression = compile_expression(text, (*names, TIME), parameters)
    value = program([expression.tree], names, (TIME,))
    slope = program([e.tree for e in gradient(expression, names)], names, (TIME,))
    return lambda t: (lambda z: value.at(z, [t])[0], lambda z: slope.at(z, [t]).T)
