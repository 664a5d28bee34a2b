"""Expressions as straight-line programs of numpy calls: what several trees share is computed once.

A program is a list of steps over numbered places, made once and run on blocks of points that stay in the cache. Parts that depend
on scalars only are scalars, whole powers are products, and a step overwrites an argument that is not needed any more. Nothing is
generated as text and nothing is evaluated but the vocabulary of `expressions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mvpde.models.expressions.parse import FUNCTIONS, OPERATORS, Apply, Node, Number, Value, Variable

Array = NDArray[np.float64]
Call = Callable[..., Value]

ROWS = 4096  # points in work at once
_PRODUCTS = 16  # whole powers up to here are products

_CALLS: dict[str, Call] = {
    **{name: operation.call for name, operation in (FUNCTIONS | OPERATORS).items()},
    "square": np.square,
    "reciprocal": np.reciprocal,
}


# (function, place of the first argument, of the second or −1, of the result, where it is written): over an argument's place if
# that is ≥ 0, into the row −1 − n of the program's result if it is n < 0, into a new array if it is None
Step = tuple[Call, int, int, int, int | None]


@dataclass(frozen=True)
class Program:
    """Trees over named inputs, ready to run.

    Attributes:
        inputs: names, in the order of the values that a run is given.
        start: places before a run: numbers, and 0 where a run puts its inputs and results.
        steps: in order.
        outputs: place of each tree's value.
        unwritten: outputs that no step writes into the result: inputs, numbers and scalars.
    """

    inputs: tuple[str, ...]
    start: tuple[float, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    unwritten: tuple[int, ...]

    def run(self, values: Sequence[Value], result: Array) -> None:
        """The trees' values at ``values``, arrays that broadcast together, into ``result``, one row for each tree."""
        places: list[Value] = list(self.start)
        places[: len(values)] = values
        for call, first, second, place, into in self.steps:
            out = None if into is None else places[into] if into >= 0 else result[-1 - into]
            places[place] = call(places[first], out=out) if second < 0 else call(places[first], places[second], out=out)
        for row in self.unwritten:
            result[row] = places[self.outputs[row]]

    def at(self, points: Array, scalars: Sequence[float] | Array = ()) -> Array:
        """Values at points, shape (N, D), the first D inputs, and scalars, the other inputs: shape (trees, N)."""
        result = np.empty((len(self.outputs), len(points)))
        columns = np.ascontiguousarray(points.T)
        if len(points) <= ROWS:  # the pieces of particle loops, where a microsecond counts
            self.run([*columns, *scalars], result)
            return result
        with np.errstate(all="ignore"):  # infinite and NaN are for the caller to find
            for start in range(0, len(points), ROWS):
                stop = start + ROWS
                self.run([*columns[:, start:stop], *scalars], result[:, start:stop])
        return result


def program(trees: Sequence[Node], points: Sequence[str], scalars: Sequence[str] = (), others: Sequence[str] = ()) -> Program:
    """The program of ``trees``.

    Args:
        trees: over the names below.
        points: variables that have one value for each point.
        scalars: variables that have one value in a run.
        others: variables of another shape, which the points broadcast with; the result's rows have the shape of both.
    """
    names = (*points, *scalars, *others)
    kinds = {**dict.fromkeys(points, 1), **dict.fromkeys(scalars, 0), **dict.fromkeys(others, 2)}
    maker = _Maker(dict(zip(names, range(len(names)), strict=True)), [kinds[name] for name in names], [None] * len(names))
    outputs = tuple(maker.place(tree) for tree in trees)
    return Program(
        names, tuple(0.0 if value is None else value for value in maker.start), *maker.finished(outputs, 3 if others else 1)
    )


@dataclass
class _Maker:
    """A program in the making; equal trees get one place. ``kinds`` says what a place depends on: 1 points, 2 others, 3 both."""

    inputs: dict[str, int]
    kinds: list[int]
    start: list[float | None]
    steps: list[Step] = field(default_factory=list)
    known: dict[tuple[object, ...], int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)  # by identity: trees of derivatives share their branches

    def place(self, tree: Node) -> int:
        """Where the value of the tree is; derivatives nest too deeply for a recursion."""
        waiting = [tree]
        while waiting:
            node = waiting[-1]
            if id(node) not in self.seen:
                open_ = [a for a in node.arguments if id(a) not in self.seen] if isinstance(node, Apply) else []
                if open_:
                    waiting += open_
                    continue
                self.seen[id(node)] = self._node(node)
            waiting.pop()
        return self.seen[id(tree)]

    def _node(self, node: Node) -> int:
        match node:
            case Number(value):
                return self._number(value)
            case Variable(name):
                return self.inputs[name]
            case Apply("**", (base, Number(exponent))):
                return self._power(self.seen[id(base)], exponent)
            case Apply("/", (a, Number(divisor))) if divisor != 0.0 and math.frexp(divisor)[0] in (0.5, -0.5):
                return self._step("*", self.seen[id(a)], self._number(1.0 / divisor))  # exact
            case Apply(operation, arguments):
                return self._step(operation, *(self.seen[id(a)] for a in arguments))

    def _number(self, value: float) -> int:
        return self._new(("number", value, math.copysign(1.0, value)), 0, value)

    def _new(self, key: tuple[object, ...], kind: int, value: float | None) -> int:
        if key not in self.known:
            self.known[key] = len(self.start)
            self.start.append(value)
            self.kinds.append(kind)
        return self.known[key]

    def _step(self, operation: str, *arguments: int) -> int:
        key = (operation, *arguments)
        if key in self.known:
            return self.known[key]
        numbers = [value for k in arguments if (value := self.start[k]) is not None]
        if len(numbers) == len(arguments):
            with np.errstate(all="ignore"):
                return self._number(float(_CALLS[operation](*numbers)))
        kind = 0
        for k in arguments:
            kind |= self.kinds[k]
        place = self._new(key, kind, None)
        self.steps.append((_CALLS[operation], arguments[0], (*arguments, -1)[1], place, None))
        return place

    def _power(self, base: int, exponent: float) -> int:
        """Products for small whole exponents, a root for ½."""
        if exponent == 0.5:
            return self._step("sqrt", base)
        if exponent != int(exponent) or not 1.0 <= abs(exponent) <= _PRODUCTS:
            return self._step("**", base, self._number(exponent))
        result = self._whole_power(base, int(abs(exponent)))
        return result if exponent > 0.0 else self._step("reciprocal", result)

    def _whole_power(self, base: int, exponent: int) -> int:
        if exponent == 1:
            return base
        half = self._step("square", self._whole_power(base, exponent // 2))
        return half if exponent % 2 == 0 else self._step("*", half, base)

    def finished(self, outputs: tuple[int, ...], whole: int) -> tuple[tuple[Step, ...], tuple[int, ...], tuple[int, ...]]:
        """Steps with the places that they may write over, the outputs, and those that no step writes."""
        rows = {place: row for row, place in reversed(list(enumerate(outputs))) if self.kinds[place] == whole}
        last = {k: number for number, (_, *arguments, _, _) in enumerate(self.steps) for k in arguments}
        temporary = {place for *_, place, _ in self.steps} - set(outputs)
        steps: list[Step] = []
        written = set()
        for number, (call, first, second, place, _) in enumerate(self.steps):
            kind = self.kinds[place]
            spent = [k for k in (first, second) if k in temporary and last[k] == number and self.kinds[k] == kind > 0]
            into = -1 - rows[place] if place in rows else (spent[0] if spent else None)
            written |= {rows[place]} if place in rows else set()
            steps.append((call, first, second, place, into))
        return tuple(steps), outputs, tuple(row for row in range(len(outputs)) if row not in written)
