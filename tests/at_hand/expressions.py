"""Expressions drawn at random from the whole vocabulary."""

from __future__ import annotations

import numpy as np

from mvpde.models.expressions.parse import FUNCTIONS


def random_expression(rng: np.random.Generator, depth: int) -> str:
    if depth == 0:
        return str(rng.choice(["x", "y", "pi", "0.7", "2", "-1.3"]))
    operands = [random_expression(rng, depth - 1) for _ in range(2)]
    smooth = sorted(FUNCTIONS.keys() - {"sign", "heaviside"})
    name = str(rng.choice([*smooth, "+", "-", "*", "/", "**2", "**-1", "**x", "negative"]))
    if name in FUNCTIONS:
        return f"{name}({', '.join(operands[: FUNCTIONS[name].arguments])})"
    return f"-({operands[0]})" if name == "negative" else f"(({operands[0]}){name if '**' in name else f'{name}({operands[1]})'})"
