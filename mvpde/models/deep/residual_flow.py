"""The law of features along the depth of a residual network: depth as time.

    x_{k+1} = x_k + L⁻¹ h(x_k, θ(k/L)),        ẋ = h(x, θ(s)),        ∂_sp + ∇·(h p) = 0,        x(0) ~ p_0.

A network of L layers is Euler's method with the step 1/L for the flow on the right, so it is off by O(1/L) (Avelin & Nyström,
arXiv:1906.12183; Haber & Ruthotto, arXiv:1705.03341). The block h is

    W₂ σ(W₁x + c)        or        Ax + c        or        written out,

with entries that are expressions of the depth s and of the weights θ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mvpde.models.deep.activations import ACTIVATIONS
from mvpde.models.deep.depth_weights import DEPTH, DepthWeights
from mvpde.models.expressions.parse import Node, compile_expression, has_variable
from mvpde.models.expressions.programs import program
from mvpde.models.expressions.vocabulary import NO_EXPRESSIONS, check_list, check_name, naming, vocabulary
from mvpde.models.interaction import gradient_flow
from mvpde.models.mean_field import Array, MeanField
from mvpde.registry import check_known

Entry = str | float
Values = Callable[[float], Array]  # s → θ(s), shape (names,)
Velocity = Callable[[Array], Array]  # x, shape (N, D) → h(x), shape (N, D)


@dataclass(frozen=True)
class Block:
    """h, ready for any depth.

    Attributes:
        at: (θ, s) → x → h(x, θ).
        moving: whether it depends on s beside θ.
    """

    at: Callable[[Array, float], Velocity]
    moving: bool


def residual_flow(
    coordinates: Sequence[str], block: Block, weights: DepthWeights, observables: Mapping[str, str] = NO_EXPRESSIONS
) -> MeanField:
    """The flow ẋ = h(x, θ(s)) as a model whose time is the depth s; no particle sees another and nothing diffuses.

    A measure that is carried beyond the end of a table gets a `ValueError` there.

    Args:
        coordinates: names of the D features.
        block: h, from `layered_block`, `linear_block` or `written_block` with the names of ``weights``.
        weights: θ(s), from `depth_weights`.
        observables: expressions in the coordinates whose means are recorded, by name.

    Raises:
        ValueError: as `gradient_flow`.
    """
    bare = gradient_flow(coordinates, observables=observables)
    pieces = [_piece(bare, block, weights, k) for k in range(len(weights.pieces))]
    later = list(zip(weights.starts[1:], pieces[1:], strict=True))
    if math.isfinite(weights.end):
        later.append((weights.last, replace(pieces[-1], moving=partial(_beyond, weights.end))))
    return replace(pieces[0], later=tuple(later))


def _beyond(end: float, _: float) -> MeanField:
    """Refuse coefficients where there are none, on all ranks alike, as each asks for the model of its time."""
    raise ValueError(f"weights: the table ends at s = {end:g}, and the flow is to go beyond; add rows to the table or end sooner")


def _piece(bare: MeanField, block: Block, weights: DepthWeights, k: int) -> MeanField:
    """The model of one piece of θ."""
    values = weights.pieces[k]

    def at(s: float) -> MeanField:
        velocity = block.at(values(s), s)
        return replace(bare, own_drift=lambda x, _: velocity(x))

    model = at(weights.starts[k])
    return replace(model, moving=at) if block.moving or weights.moving else model


# --- blocks ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockWords:
    """What the entries of a block may be written in.

    Attributes:
        coordinates: names of the D features.
        names: of the weights.
        parameters: numbers, by name.

    Raises:
        ValueError: for a name that is none, is used twice or is that of the depth.
    """

    coordinates: tuple[str, ...]
    names: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names."""
        everything = [*self.coordinates, *self.names, *self.parameters, DEPTH]
        vocabulary(self.coordinates, {}, self.parameters)
        for where, names in (("coordinates", self.coordinates), ("weights", self.names), ("parameters", tuple(self.parameters))):
            for name in names:
                check_name(where, name, everything)

    def entries(self, key: str, rows: Sequence[Sequence[Entry]], coordinates: Sequence[str] = ()) -> list[Node]:
        """The trees of all entries, row by row, in ``coordinates``, weights and depth."""
        return [
            self.entry(f"{key}, row {i}" if len(rows) > 1 else key, value, coordinates)
            for i, row in enumerate(rows)
            for value in row
        ]

    def entry(self, key: str, value: Entry, coordinates: Sequence[str] = ()) -> Node:
        """The tree of one."""
        with naming(key):
            return compile_expression(str(value), (*coordinates, *self.names, DEPTH), self.parameters).tree


def layered_block(
    words: BlockWords,
    inner: Sequence[Sequence[Entry]],
    outer: Sequence[Sequence[Entry]],
    bias: Sequence[Entry] | None = None,
    activation: str = "tanh",
) -> Block:
    """h = W₂ σ(W₁x + c).

    Args:
        words: the coordinates, weights and parameters.
        inner: W₁, K rows of D entries.
        outer: W₂, D rows of K entries.
        bias: c, K entries; None: 0.
        activation: σ, a name in `ACTIVATIONS`.

    Raises:
        ValueError: rows of other lengths, an unknown activation. `ExpressionError`: an entry is refused.
    """
    check_known(activation, ACTIVATIONS, "the table of activations")
    d, units = len(words.coordinates), len(inner)
    check_shape("inner", inner, units, d)
    check_shape("outer", outer, d, units)
    constants = [0.0] * units if bias is None else list(bias)
    check_shape("bias", [constants], 1, units)
    first, second, third = _matrix(words, "inner", inner), _matrix(words, "outer", outer), _matrix(words, "bias", [constants])
    sigma = ACTIVATIONS[activation].values

    def at(theta: Array, s: float) -> Velocity:
        w1, w2, c = first(theta, s).T, second(theta, s).T, third(theta, s)
        return lambda x: np.asarray(sigma(x @ w1 + c) @ w2)

    return Block(at, any(entries.moving for entries in (first, second, third)))


def linear_block(words: BlockWords, matrix: Sequence[Sequence[Entry]], bias: Sequence[Entry] | None = None) -> Block:
    """h = Ax + c: A is D rows of D entries, c D entries; None: 0.

    Raises:
        ValueError: rows of other lengths. `ExpressionError`: an entry is refused.
    """
    d = len(words.coordinates)
    constants = [0.0] * d if bias is None else list(bias)
    check_shape("matrix", matrix, d, d)
    check_shape("bias", [constants], 1, d)
    a, c = _matrix(words, "matrix", matrix), _matrix(words, "bias", [constants])

    def at(theta: Array, s: float) -> Velocity:
        slope, constant = a(theta, s).T, c(theta, s)
        return lambda x: x @ slope + constant

    return Block(at, a.moving or c.moving)


def written_block(words: BlockWords, block: Sequence[str]) -> Block:
    """h, one expression for each coordinate, in coordinates, weights and s.

    Raises:
        ValueError: another number of expressions. `ExpressionError`: one is refused.
    """
    check_list("block", block)
    if len(block) != len(words.coordinates):
        raise ValueError(f"block: has {len(block)} expressions for the coordinates {', '.join(words.coordinates)}")
    trees = words.entries("block", [[text] for text in block], words.coordinates)
    run = program(trees, words.coordinates, (*words.names, DEPTH))
    return Block(lambda theta, s: lambda x: run.at(x, [*theta, s]).T, any(has_variable(tree, [DEPTH]) for tree in trees))


@dataclass(frozen=True)
class _Entries:
    """(θ, s) → a matrix."""

    run: Callable[[Array, float], Array]
    moving: bool

    def __call__(self, theta: Array, s: float) -> Array:
        return self.run(theta, s)


def _matrix(words: BlockWords, key: str, rows: Sequence[Sequence[Entry]]) -> _Entries:
    trees, nowhere = words.entries(key, rows), np.empty((1, 0))
    run, shape = program(trees, (), (*words.names, DEPTH)), (len(rows), len(rows[0]))
    return _Entries(
        lambda theta, s: run.at(nowhere, [*theta, s])[:, 0].reshape(shape), any(has_variable(tree, [DEPTH]) for tree in trees)
    )


def check_shape(key: str, rows: Sequence[Sequence[Entry]], height: int, width: int) -> None:
    """Refuse another number of rows or entries.

    Raises:
        ValueError: naming both.
    """
    if len(rows) != height or any(len(row) != width for row in rows) or not width or not height:
        said = ", ".join(str(len(row)) for row in rows) or "none"
        raise ValueError(f"{key}: needs {height} rows of {width} entries, it has rows of {said}")
