"""Expressions: what they mean, and that everything else is refused with a position before it is evaluated."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy.special import erf

from at_hand.expressions import evaluated
from mvpde.models.data import TARGETS
from mvpde.models.expressions.derivatives import differentiate
from mvpde.models.expressions.parse import FUNCTIONS, MAX_LENGTH, ExpressionError, compile_expression, constant

X = np.linspace(0.2, 3.0, 7)
Y = np.linspace(-1.0, 2.0, 7)

MEANING = {
    "0.6*cos(x) + 0.3*sin(2*x)": 0.6 * np.cos(X) + 0.3 * np.sin(2 * X),
    "-x**2": -(X**2),  # a power binds tighter than a sign
    "(-x)**2": X**2,
    "2**-1": np.full(7, 0.5),
    "2**3**2": np.full(7, 512.0),  # powers group from the right
    "8/4/2": np.ones(7),  # quotients and differences from the left
    "x - y - 1": X - Y - 1,
    "1 - 2*y/x + +3e-1": 1 - 2 * Y / X + 0.3,
    "exp(-x)*log(x) + sqrt(x)": np.exp(-X) * np.log(X) + np.sqrt(X),
    "tan(x) + tanh(y) + abs(y)": np.tan(X) + np.tanh(Y) + np.abs(Y),
    "sign(y) + 2*heaviside(y) + erf(x)": np.sign(Y) + 2 * np.heaviside(Y, 0.5) + erf(X),
    "minimum(x, y) - maximum(x, 1)": np.minimum(X, Y) - np.maximum(X, 1),
    "sinh(y) + cosh(y)*atan(x)": np.sinh(Y) + np.cosh(Y) * np.arctan(X),
    "atan2(y, -x)": np.arctan2(Y, -X),
    "(y < 0.5) + (y <= 0.5) + 2*(x > 1) - (x >= y)*3": (Y < 0.5) + 1.0 * (Y <= 0.5) + 2 * (X > 1) - (X >= Y) * 3,
    "where(y > 0, y, -2*y) + where(1, x, y)": np.where(Y > 0, Y, -2 * Y) + X,
    "where(y > 0, log(y), exp(y))": np.where(Y > 0, np.log(np.where(Y > 0, Y, 1.0)), np.exp(Y)),
    "pi*e": np.full(7, math.pi * math.e),
    " x\n + y ": X + Y,
}


@pytest.mark.parametrize("text", MEANING)
def test_an_expression_means_what_python_means_by_it(text: str) -> None:
    np.testing.assert_allclose(evaluated(compile_expression(text, ("x", "y")), X, Y), MEANING[text], rtol=1e-15)


def test_a_constant_expression_has_the_shape_of_its_variables() -> None:
    assert evaluated(compile_expression("3", ("x",)), X).shape == X.shape


def test_every_function_is_evaluated() -> None:
    for name, operation in FUNCTIONS.items():
        arguments = ", ".join("xyx"[: operation.arguments])
        assert evaluated(compile_expression(f"{name}({arguments})", ("x", "y")), X, Y).shape == X.shape


def test_the_named_targets_are_expressions_in_x() -> None:
    for text in TARGETS.values():
        assert np.all(np.isfinite(evaluated(compile_expression(text, ("x",)), X)))


REFUSED = {  # text: (part of the message, column)
    "x.real": ("attribute", 1),
    "__import__('os')": ("character", 12),
    "open(x)": ("unknown function 'open'", 1),
    "x + csin(x)": ("did you mean 'sin'", 5),
    "2*z": ("unknown name 'z'", 3),
    "sin": ("needs its argument", 1),
    "sin(x, x)": ("takes 1 argument", 1),
    "maximum(x)": ("takes 2 argument", 1),
    "sin(x=1)": ("character '='", 6),
    "sin(*x)": ("before an argument", 5),
    "sin(x)(x)": ("this call", 1),
    "x(2)": ("not a function", 1),
    "2x": ("a product is written with *", 1),
    "x^2": ("a power is written **", 2),
    "x//2": ("'//'", 2),
    "x % 2": ("character '%'", 3),
    "x @ x": ("character '@'", 3),
    "0 < x < 1": ("multiply them: (0 < x)*(x < 1)", 1),
    "x == 1": ("comparisons are <, <=, >, >=", 3),
    "x << 1": ("'x << 1'", 1),
    "where(x, 1)": ("takes 3 argument", 1),
    "1, 2": ("list of values", 1),
    "True": ("'True'", 1),
    "1j": ("'1j'", 1),
    "x and x": ("'x and x'", 1),
    "1 if x else 2": ("'1 if x else 2'", 1),
    "lambda": ("not an expression", 6),
    "[x]": ("character '['", 1),
    "x)": ("')' without '('", 2),
    "x)+(x": ("')' without '('", 2),
    "(x": ("not closed", 2),
    "x +": ("not an expression", 3),
    "": ("empty", 1),
    "Ωx": ("character 'Ω'", 1),
    "x\0": ("character", 2),
    "1e999": ("too large", 1),
    "9" * 1999: ("too large", 1),
    "x**101": ("exponent 101", 4),
    "9**9**9**9": ("exponent", 7),
    "x**(10*100)": ("exponent 1000", 5),
    "x**-200": ("exponent -200", 4),
    "-" * 1999 + "1": ("nested", 202),
    "(" * 60 + "x" + ")" * 60: ("nested", 51),
    "(" * 10**5: ("100000 characters", MAX_LENGTH + 1),
    "x**" * 600 + "x": ("nested", 601),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20].encode("unicode_escape").decode())
def test_everything_else_is_refused_with_its_column(text: str) -> None:
    what, column = REFUSED[text]
    with pytest.raises(ExpressionError, match=re.escape(what)) as caught:
        compile_expression(text, ("x",))
    assert re.search(rf"at column {column}\b", str(caught.value)), caught.value


def test_a_variable_cannot_take_a_name_that_has_a_meaning() -> None:
    for name in ("e", "sin"):
        with pytest.raises(ValueError, match=f"'{name}'"):
            compile_expression("1", (name,))


def test_constants() -> None:
    assert constant("2*pi") == 2 * math.pi
    assert constant(3) == 3.0
    for wrong in ("x", "1/0", "log(-1)", math.nan, math.inf, 10**400, True, None):
        with pytest.raises(ExpressionError):
            constant(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "slope"),
    [
        ("sinh(2*x)", 2 * np.cosh(2 * X)),
        ("cosh(x)**2", 2 * np.cosh(X) * np.sinh(X)),
        ("atan(x*x)", 2 * X / (1 + X**4)),
        ("atan2(x, y)", Y / (X**2 + Y**2)),
        ("atan2(y, x)", -Y / (X**2 + Y**2)),
        ("where(x < 1, x**2, 3*x)", np.where(X < 1, 2 * X, 3.0)),
        ("where(x < y, 1, 2)", 0.0 * X),
        ("where(y > 0, log(y)*x, 1/0*y)", np.where(Y > 0, np.log(np.where(Y > 0, Y, 1.0)), 0.0)),
    ],
)
def test_slopes_of_the_vocabulary(text: str, slope: np.ndarray) -> None:
    found = differentiate(compile_expression(text, ("x", "y")), "x")
    np.testing.assert_allclose(evaluated(found, X, Y), slope, rtol=1e-13)


def test_a_comparison_alone_has_no_slope() -> None:
    with pytest.raises(ExpressionError, match=r"'<' jumps.*where"):
        differentiate(compile_expression("x*(x < 1)", ("x",)), "x")
