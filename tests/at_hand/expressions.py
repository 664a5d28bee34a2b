"""Expressions drawn at random from the whole vocabulary, and their values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mvpde.models.expressions.parse import FUNCTIONS, OPERATORS, Apply, Expression, Node, Number
from mvpde.models.expressions.programs import program
from mvpde.models.mean_field import Array


def random_expression(rng: np.random.Generator, depth: int) -> str:
    if depth == 0:
        return str(rng.choice(["x", "y", "pi", "0.7", "2", "-1.3"]))
    operands = [random_expression(rng, depth - 1) for _ in range(3)]
    smooth = sorted(FUNCTIONS.keys() - {"sign", "heaviside"})
    name = str(rng.choice([*smooth, "+", "-", "*", "/", "**2", "**-1", "**x", "negative"]))
    if name in FUNCTIONS:
        return f"{name}({', '.join(operands[: FUNCTIONS[name].arguments])})"
    return f"-({operands[0]})" if name == "negative" else f"(({operands[0]}){name if '**' in name else f'{name}({operands[1]})'})"


def evaluated(expression: Expression, *columns: Array) -> Array:
    """The values at points given by columns, one for each variable, as models compute them."""
    with np.errstate(all="ignore"):
        return program([expression.tree], expression.variables).at(np.column_stack(columns))[0]


def meaning(tree: Node, values: Mapping[str, Array]) -> Array | float:
    """What a tree means, one operation at a time."""
    if isinstance(tree, Apply):
        return (OPERATORS | FUNCTIONS)[tree.operation].call(*(meaning(a, values) for a in tree.arguments))
    return tree.value if isinstance(tree, Number) else values[tree.name]
