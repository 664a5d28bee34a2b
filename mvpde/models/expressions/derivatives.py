"""Exact derivatives of expressions: a tree in, a tree of the same vocabulary out.

Where a function has a kink (abs, minimum, maximum) its derivative is the mean of both sides, by sign(0) = 0 and heaviside(0) =
½. Where it jumps (sign, heaviside, a comparison) there is no derivative that is a function, and the expression is refused;
where(c, a, b) has that of a or b, on either side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mvpde.models.expressions.parse import DROPPED, KEPT, Apply, Expression, ExpressionError, Node, Number, Variable, number

ZERO, ONE, TWO = Number(0.0), Number(1.0), Number(2.0)


def differentiate(expression: Expression, variable: str) -> Expression:
    """∂e/∂variable, an expression in the same variables.

    Args:
        expression: e.
        variable: one of its variables.

    Raises:
        ExpressionError: if e applies sign or heaviside to something that depends on the variable.
        ValueError: if e has no such variable.
    """
    if variable not in expression.variables:
        raise ValueError(
            f"the expression '{expression.text}' is not one in '{variable}' but in {', '.join(expression.variables)}"
        )
    return Expression(f"d({expression.text})/d{variable}", expression.variables, derivative(expression.tree, variable))


def gradient(expression: Expression, variables: tuple[str, ...]) -> tuple[Expression, ...]:
    """(∂e/∂v for v in variables)."""
    return tuple(differentiate(expression, v) for v in variables)


def derivative(tree: Node, variable: str) -> Node:
    """The tree of ∂/∂variable, with sums, products and powers of 0 and 1 already taken away."""
    match tree:
        case Variable(name):
            return ONE if name == variable else ZERO
        case Apply(operation, arguments):
            still = operation in (KEPT, DROPPED)  # conditions count as constant
            inner = tuple(ZERO if still and k == 0 else derivative(a, variable) for k, a in enumerate(arguments))
            return ZERO if all(d == ZERO for d in inner) else RULES[operation](tree, inner)
    return ZERO


# --- building trees without superfluous nodes -----------------------------------------------------------------------------------


def _folded(operation: str, *arguments: Node) -> Node:
    """The operation as a number where all its arguments are numbers and the result is finite, else as a node."""
    tree = Apply(operation, arguments)
    if all(isinstance(a, Number) for a in arguments):
        value = number(tree)
        if math.isfinite(value):
            return Number(value)
    return tree


def _add(a: Node, b: Node) -> Node:
    if a == ZERO:
        return b
    return a if b == ZERO else _folded("+", a, b)


def _negative(a: Node) -> Node:
    return ZERO if a == ZERO else _folded("negative", a)


def _subtract(a: Node, b: Node) -> Node:
    if b == ZERO:
        return a
    return _negative(b) if a == ZERO else _folded("-", a, b)


def _times(a: Node, b: Node) -> Node:
    """ab with one number in front at most."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    if b == ONE:
        return a
    match a, b:
        case Apply("*", (Number(), inner)), _:
            return _times(a.arguments[0], _times(inner, b))
        case Number(), Apply("*", (Number() as second, inner)):
            return _times(_folded("*", a, second), inner)
        case _, Number() if not isinstance(a, Number):
            return _times(b, a)
        case _, Apply("*", (Number() as second, inner)):
            return _times(second, _times(a, inner))
    return _folded("*", a, b)


def _over(a: Node, b: Node) -> Node:
    if a == ZERO:
        return ZERO
    match a, b:
        case Apply("*", (Number(first), inner)), Number(second) if second != 0.0:
            return _times(Number(first / second), inner)
    return a if b == ONE else Apply("/", (a, b))  # not folded: 1/0 has to stay what it is


def _power(a: Node, b: Node) -> Node:
    if b == ZERO:
        return ONE
    return a if b == ONE else Apply("**", (a, b))


def _call(function: str, a: Node) -> Node:
    return Apply(function, (a,))


# --- rules: (tree, derivatives of its arguments, not all of them 0) → derivative ------------------------------------------------

Rule = Callable[[Apply, tuple[Node, ...]], Node]


def _product(tree: Apply, inner: tuple[Node, ...]) -> Node:
    (a, b), (da, db) = tree.arguments, inner
    return _add(_times(da, b), _times(a, db))


def _quotient(tree: Apply, inner: tuple[Node, ...]) -> Node:
    """(a/b)' = a'/b − a b'/b²."""
    (a, b), (da, db) = tree.arguments, inner
    return _subtract(_over(da, b), _over(_times(a, db), _power(b, TWO)))


def _raised(tree: Apply, inner: tuple[Node, ...]) -> Node:
    """(a^b)' = b a^(b−1) a' + a^b log(a) b'; the second part only where b varies, since a may be negative."""
    (a, b), (da, db) = tree.arguments, inner
    by_base = _times(_times(b, _power(a, _subtract(b, ONE))), da)
    return _add(by_base, _times(_times(tree, _call("log", a)), db))


def _chosen(of_first: Callable[[Node, Node], Node]) -> Rule:
    """max(a, b)' = a' H(a − b) + b' H(b − a), and min with the signs exchanged: ``of_first`` is the argument of H beside a'."""

    def rule(tree: Apply, inner: tuple[Node, ...]) -> Node:
        (a, b), (da, db) = tree.arguments, inner
        return _add(_times(da, _call("heaviside", of_first(a, b))), _times(db, _call("heaviside", of_first(b, a))))

    return rule


def _chain(outer: Callable[[Node, Apply], Node]) -> Rule:
    """f(u)' = f'(u) u', with f'(u) made from u and from the tree of f(u) itself."""
    return lambda tree, inner: _times(outer(tree.arguments[0], tree), inner[0])


def _angle(tree: Apply, inner: tuple[Node, ...]) -> Node:
    """atan2(a, b)' = (b a' − a b')/(a² + b²)."""
    (a, b), (da, db) = tree.arguments, inner
    return _over(_subtract(_times(b, da), _times(a, db)), _add(_power(a, TWO), _power(b, TWO)))


def _jump(tree: Apply, inner: tuple[Node, ...]) -> Node:
    raise ExpressionError(
        f"'{tree.operation}' jumps, so an expression with it has no derivative; write a smooth step such as tanh(x/0.1), or abs, "
        "minimum, maximum, where(…) for a kink"
    )


RULES: dict[str, Rule] = {
    "+": lambda tree, inner: _add(*inner),
    "-": lambda tree, inner: _subtract(*inner),
    "negative": lambda tree, inner: _negative(*inner),
    "*": _product,
    "/": _quotient,
    "**": _raised,
    "sin": _chain(lambda u, f: _call("cos", u)),
    "cos": _chain(lambda u, f: _negative(_call("sin", u))),
    "tan": _chain(lambda u, f: _add(ONE, _power(f, TWO))),
    "exp": _chain(lambda u, f: f),
    "log": _chain(lambda u, f: _over(ONE, u)),
    "sqrt": _chain(lambda u, f: _over(Number(0.5), f)),
    "sinh": _chain(lambda u, f: _call("cosh", u)),
    "cosh": _chain(lambda u, f: _call("sinh", u)),
    "atan": _chain(lambda u, f: _over(ONE, _add(ONE, _power(u, TWO)))),
    "atan2": _angle,
    "tanh": _chain(lambda u, f: _subtract(ONE, _power(f, TWO))),
    "erf": _chain(lambda u, f: _times(Number(2.0 / math.sqrt(math.pi)), _call("exp", _negative(_power(u, TWO))))),
    "abs": _chain(lambda u, f: _call("sign", u)),
    "sign": _jump,
    "heaviside": _jump,
    KEPT: lambda tree, inner: Apply(KEPT, (tree.arguments[0], inner[1])),
    DROPPED: lambda tree, inner: Apply(DROPPED, (tree.arguments[0], inner[1])),
    "<": _jump,
    "<=": _jump,
    ">": _jump,
    ">=": _jump,
    "minimum": _chosen(lambda a, b: _subtract(b, a)),
    "maximum": _chosen(_subtract),
}
