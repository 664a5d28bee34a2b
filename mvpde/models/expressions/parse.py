"""Expressions of case files: parsed into a small tree over a fixed vocabulary, never by `eval`; `programs` evaluates it.

    expression = number | name | -e | +e | e + e | e - e | e * e | e / e | e ** e | e < e | … | e >= e | function(e, …)

A comparison is 1 where it holds and 0 elsewhere; where(c, a, b) is a where c is not 0 and b elsewhere, whatever the other is.

An expression is text from a stranger: its length, nesting and constant exponents are bounded before anything is computed, and
every refusal is an `ExpressionError` that names what was found and at which column. A result may still be infinite or NaN, as
log(0): that is for the caller to check, who knows where it was evaluated.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from mvpde.registry import hint

Array = NDArray[np.float64]

MAX_LENGTH = 2000
MAX_PARENTHESES = 50
MAX_DEPTH = 200  # of the tree; a sum of n terms is n deep
MAX_EXPONENT = 100.0

CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e}
NO_PARAMETERS: Mapping[str, float] = MappingProxyType({})


Value = Array | float

KEPT, DROPPED = "kept where", "dropped where"


@dataclass(frozen=True)
class Operation:
    """An operation of the vocabulary: its number of arguments and the numpy function behind it, which takes ``out``."""

    arguments: int
    call: Callable[..., Value]


def _heaviside(x: Value, out: Array | None = None) -> Value:
    return np.heaviside(x, 0.5, out=out)


def _comparison(holds: np.ufunc) -> Callable[..., Value]:
    """1 or 0: true and false would be added as such."""

    def call(x: Value, y: Value, out: Array | None = None) -> Value:
        return cast("Value", np.multiply(holds(x, y), 1.0, out=out))

    return call


def _kept(condition: Value, x: Value, out: Array | None = None) -> Value:
    """x where the condition is not 0, and 0 elsewhere."""
    return _put(np.where(np.not_equal(condition, 0.0), x, 0.0), out)


def _dropped(condition: Value, x: Value, out: Array | None = None) -> Value:
    """x where the condition is 0, and 0 elsewhere."""
    return _put(np.where(np.not_equal(condition, 0.0), 0.0, x), out)


def _put(values: Array, out: Array | None) -> Value:
    if out is None:
        return values
    out[...] = values
    return out


def _where(condition: Value, x: Value, y: Value) -> Value:
    return np.where(np.not_equal(condition, 0.0), x, y)


FUNCTIONS: dict[str, Operation] = {
    "sin": Operation(1, np.sin),
    "cos": Operation(1, np.cos),
    "tan": Operation(1, np.tan),
    "exp": Operation(1, np.exp),
    "log": Operation(1, np.log),
    "sqrt": Operation(1, np.sqrt),
    "sinh": Operation(1, np.sinh),
    "cosh": Operation(1, np.cosh),
    "tanh": Operation(1, np.tanh),
    "atan": Operation(1, np.arctan),
    "atan2": Operation(2, np.arctan2),
    "abs": Operation(1, np.abs),
    "sign": Operation(1, np.sign),
    "heaviside": Operation(1, _heaviside),
    "erf": Operation(1, erf),
    "minimum": Operation(2, np.minimum),
    "maximum": Operation(2, np.maximum),
    "where": Operation(3, _where),
}

OPERATORS: dict[str, Operation] = {
    "+": Operation(2, np.add),
    "-": Operation(2, np.subtract),
    "*": Operation(2, np.multiply),
    "/": Operation(2, np.divide),
    "**": Operation(2, np.power),
    "negative": Operation(1, np.negative),
    "<": Operation(2, _comparison(np.less)),
    "<=": Operation(2, _comparison(np.less_equal)),
    ">": Operation(2, _comparison(np.greater)),
    ">=": Operation(2, _comparison(np.greater_equal)),
    KEPT: Operation(2, _kept),  # where(c, a, b) is the sum of what is kept of a and what is dropped of b
    DROPPED: Operation(2, _dropped),
}

_BINARY: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,()+-*/<> \t\r\n")


class ExpressionError(ValueError):
    """An expression was refused. The message names what was found, and the column (from 1)."""


@dataclass(frozen=True)
class Number:
    """A leaf: a finite number."""

    value: float


@dataclass(frozen=True)
class Variable:
    """A leaf: one of the variables that the expression was compiled for."""

    name: str


@dataclass(frozen=True)
class Apply:
    """An inner node: ``operation`` names an entry of `FUNCTIONS` or `OPERATORS`, applied to as many arguments as it takes."""

    operation: str
    arguments: tuple[Node, ...]


Node = Number | Variable | Apply


@dataclass(frozen=True)
class Expression:
    """An expression that has been checked.

    Attributes:
        text: as it was written.
        variables: the names it may use.
        tree: its nodes.
    """

    text: str
    variables: tuple[str, ...]
    tree: Node


def number(tree: Node) -> float:
    """The value of a tree without variables; it may be infinite or NaN."""
    match tree:
        case Number(value):
            return value
        case Apply(operation, arguments):
            with np.errstate(all="ignore"):
                return float((OPERATORS | FUNCTIONS)[operation].call(*(number(a) for a in arguments)))
    raise ValueError(f"'{tree.name}' is no number")


def compile_expression(text: str, variables: Sequence[str], parameters: Mapping[str, float] = NO_PARAMETERS) -> Expression:
    """Parse and check an expression in the given variables.

    Args:
        text: at most 2000 characters.
        variables: the names it may use; none of them a constant or a function of the vocabulary.
        parameters: numbers that it may use by name; they are put in, so that the expression depends on the variables only.

    Raises:
        ExpressionError: if the text is not an expression of this vocabulary.
        ValueError: if a variable or parameter has the name of a constant or function.
    """
    taken = sorted((set(variables) | parameters.keys()) & (CONSTANTS.keys() | FUNCTIONS.keys()))
    if taken:
        raise ValueError(f"a variable of an expression cannot be called '{taken[0]}': that name has a fixed meaning")
    names: dict[str, Node] = {name: Number(float(value)) for name, value in parameters.items()}
    names |= {name: Variable(name) for name in variables}
    return Expression(text, tuple(variables), _convert(_parse(text), names, 0))


def constant(value: str | float) -> float:
    """The number that a number, or an expression without variables such as ``"2*pi"``, stands for.

    Raises:
        ExpressionError: if it is neither, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ExpressionError(f"{value!r} is not a number")
    result = number(compile_expression(value, ()).tree) if isinstance(value, str) else _finite(value, 1)
    if not math.isfinite(result):
        raise ExpressionError(f"'{value}' is not a finite number (at column 1)")
    return result


def _parse(text: str) -> ast.expr:
    """The syntax tree of ``(text)``: in parentheses, so that line breaks and leading blanks are fine; columns count from 1."""
    _scan(text)
    try:
        return ast.parse("(" + "".join(" " if c.isspace() else c for c in text) + ")", mode="eval").body
    except SyntaxError as error:
        column = min(max((error.offset or 2) - 1, 1), len(text))
        what = error.msg.split(".")[0]
        raise ExpressionError(f"not an expression: {what} at column {column}; a product is written with *") from None
    except (RecursionError, MemoryError):
        raise ExpressionError("the expression is nested too deeply at column 1") from None


def _scan(text: str) -> None:
    """Refuse by its characters what could strain Python's parser: length, foreign characters, deep or unbalanced parentheses."""
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is a text, not {text!r} (at column 1)")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text)} characters, more than {MAX_LENGTH} (at column {MAX_LENGTH + 1})")
    if not text.strip():
        raise ExpressionError("the expression is empty at column 1")
    if "//" in text:
        raise ExpressionError(f"operator '//' is not allowed at column {text.index('//') + 1}")
    depth = 0
    for column, character in enumerate(text, 1):
        compares = character == "=" and column > 1 and text[column - 2] in "<>"
        if character not in _CHARACTERS and not compares:
            raise ExpressionError(
                f"character {character!r} is not allowed at column {column}"
                + {"^": "; a power is written **", "=": "; comparisons are <, <=, >, >="}.get(character, "")
            )
        depth += (character == "(") - (character == ")")
        if depth < 0:
            raise ExpressionError(f"')' without '(' at column {column}")
        if depth > MAX_PARENTHESES:
            raise ExpressionError(f"more than {MAX_PARENTHESES} nested parentheses at column {column}")
    if depth > 0:
        raise ExpressionError(f"a '(' is not closed at column {len(text)}")


def _convert(node: ast.AST, names: Mapping[str, Node], depth: int) -> Node:
    column = max(getattr(node, "col_offset", 1), 1)  # the parenthesis put in front shifts Python's 0-based offset to ours
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the expression is nested more than {MAX_DEPTH} deep at column {column}")

    def convert(child: ast.AST) -> Node:
        return _convert(child, names, depth + 1)

    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Number(_finite(value, column))
        case ast.Name(id=name):
            return _name(name, names, column)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return convert(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Apply("negative", (convert(operand),))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(Apply(_BINARY[type(op)], (convert(left), convert(right))), right.col_offset)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return Apply(_COMPARISONS[type(op)], (convert(left), convert(right)))
        case ast.Compare():
            raise ExpressionError(f"a chain of comparisons is not allowed at column {column}; multiply them: (0 < x)*(x < 1)")
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _called(_function(name, len(arguments), names, column), tuple(convert(a) for a in arguments))
    raise ExpressionError(f"{_describe(node)} is not allowed at column {column}")


def _called(name: str, arguments: tuple[Node, ...]) -> Node:
    if name != "where":
        return Apply(name, arguments)
    condition, one, other = arguments
    return Apply("+", (Apply(KEPT, (condition, one)), Apply(DROPPED, (condition, other))))


def _describe(node: ast.AST) -> str:
    kinds = {
        ast.Attribute: "an attribute ('.')",
        ast.Call: "this call",
        ast.Tuple: "a list of values (',')",
        ast.Starred: "'*' before an argument",
    }
    return kinds.get(type(node)) or f"'{ast.unparse(node)[:40]}'"


def _finite(value: float, column: int) -> float:
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ExpressionError(f"a number is too large or not finite at column {column}")
    return result


def _name(name: str, names: Mapping[str, Node], column: int) -> Node:
    if name in names:
        return names[name]
    if name in CONSTANTS:
        return Number(CONSTANTS[name])
    if name in FUNCTIONS:
        raise ExpressionError(f"function '{name}' needs its argument in parentheses at column {column}")
    raise ExpressionError(f"unknown name '{name}' at column {column}; {hint(name, (*names, *CONSTANTS))}")


def _function(name: str, given: int, names: Mapping[str, Node], column: int) -> str:
    if name in names or name in CONSTANTS:
        raise ExpressionError(f"'{name}' is not a function at column {column}; a product is written with *")
    if name not in FUNCTIONS:
        raise ExpressionError(f"unknown function '{name}' at column {column}; {hint(name, FUNCTIONS)}")
    if given != FUNCTIONS[name].arguments:
        raise ExpressionError(f"function '{name}' takes {FUNCTIONS[name].arguments} argument(s), not {given}, at column {column}")
    return name


def _bounded(node: Apply, column: int) -> Apply:
    """Refuse a power whose exponent is a number beyond ±MAX_EXPONENT: never meant, and all but 0, 1, -1 overflow or vanish."""
    if node.operation == "**" and not has_variable(node.arguments[1]):
        exponent = number(node.arguments[1])
        if not abs(exponent) <= MAX_EXPONENT:
            raise ExpressionError(f"the exponent {exponent:g} is beyond {MAX_EXPONENT:g} at column {column}")
    return node


def has_variable(node: Node, names: Collection[str] | None = None) -> bool:
    """Whether the tree contains a variable, or one of those ``names``."""
    match node:
        case Apply(arguments=arguments):
            return any(has_variable(a, names) for a in arguments)
        case Variable(name):
            return names is None or name in names
    return False
