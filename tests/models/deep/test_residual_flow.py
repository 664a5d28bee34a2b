"""What residual flows refuse, and how their weights are read."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.models.deep.depth_weights import depth_weights
from mvpde.models.deep.residual_flow import BlockWords, layered_block, linear_block, residual_flow, written_block

pytestmark = pytest.mark.serial


def test_blocks_say_the_same_in_three_ways():
    """W₂ identity(W₁x + c) = Ax + b = the same written out."""
    words = BlockWords(("x", "y"), ("a",), {"k": 2.0})
    weights = depth_weights({"a": "1 + s"})
    layered = layered_block(words, [["a", "k"], [0.5, "-s"]], [[1, 0], ["s", 1]], [0.5, "a"], "identity")
    linear = linear_block(words, [["a", "k"], ["s*a + 0.5", "s*k - s"]], [0.5, "0.5*s + a"])
    written = written_block(words, ["a*x + k*y + 0.5", "(s*a + 0.5)*x + (s*k - s)*y + 0.5*s + a"])
    z = np.array([[0.3, -0.7], [1.1, 0.2]])
    for s in (0.0, 0.4, 1.0):
        values = [residual_flow(("x", "y"), block, weights).now(s).drift(z, np.zeros(1)) for block in (layered, linear, written)]
        assert np.abs(values[0] - values[1]).max() < 1e-14
        assert np.abs(values[0] - values[2]).max() < 1e-14


def test_what_does_not_depend_on_the_depth_stands_still():
    """Constant weights make an equation that is the same at all depths, a table one that changes at its rows."""
    words = BlockWords(("x",), ("a",))
    block = written_block(words, ["a*sin(x)"])
    assert residual_flow(("x",), block, depth_weights({"a": "2"})).still
    stepped = residual_flow(("x",), block, depth_weights({"s": [0.0, 0.5], "a": [1.0, 2.0]}))
    assert [until for until, _ in stepped.stretches(0.0, 1.0)] == [0.5, 1.0]
    assert stepped.moving is None
    assert residual_flow(("x",), block, depth_weights({"a": "s"})).moving is not None


@pytest.mark.parametrize(
    ("weights", "interpolation", "said"),
    [
        ({"a": "1", "s": [0.0]}, "constant", "'a' is an expression and 's' a list"),
        ({"a": [1.0]}, "constant", "needs the depths of its rows"),
        ({"s": [0.0, 1.0], "a": [1.0]}, "constant", "'a' has 1 numbers, 's' 2"),
        ({"s": [0.1, 1.0], "a": [1.0, 2.0]}, "constant", "begin at 0 and increase"),
        ({"s": [0.0, 0.0], "a": [1.0, 2.0]}, "constant", "begin at 0 and increase"),
        ({"s": [0.0], "a": [1.0]}, "linear", "needs two rows"),
        ({"s": [0.0], "a": [1.0]}, "cubic", "'cubic' is neither"),
        ({"a": "t"}, "constant", "weights.a"),
    ],
)
def test_weights_that_cannot_be(weights, interpolation, said):
    with pytest.raises(ValueError, match=said):
        depth_weights(weights, interpolation)


def test_a_table_ends_where_its_last_layer_does():
    """Constant: the last row lasts as long as the one before; linear: at the last row."""
    table = {"s": [0.0, 0.5], "a": [1.0, 2.0]}
    depth_weights(table).require(1.0)
    with pytest.raises(ValueError, match="the table ends at s = 1, the flow at s = 1.5"):
        depth_weights(table).require(1.5)
    with pytest.raises(ValueError, match=r"the table ends at s = 0\.5"):
        depth_weights(table, "linear").require(1.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda w: layered_block(w, [["1"]], [["1"], ["1"]]), "inner: needs 1 rows of 2 entries"),
        (lambda w: layered_block(w, [["1", "0"]], [["1"]]), "outer: needs 2 rows of 1 entries"),
        (lambda w: layered_block(w, [["1", "0"]], [["1"], ["1"]], ["1", "2"]), "bias: needs 1 rows of 1 entries"),
        (lambda w: layered_block(w, [["1", "0"]], [["1"], ["1"]], activation="tanhh"), "did you mean 'tanh'"),
        (lambda w: layered_block(w, [["1", "x"]], [["1"], ["1"]]), "inner"),
        (lambda w: linear_block(w, [["1"]]), "matrix: needs 2 rows of 2 entries"),
        (lambda w: written_block(w, ["x"]), "has 1 expressions"),
        (lambda w: written_block(w, ["x", "b"]), "block, row 1"),
        (lambda w: BlockWords(("x", "s")), "'s'"),
        (lambda w: BlockWords(("x",), ("x",)), "given twice"),
    ],
)
def test_blocks_that_cannot_be(make, said):
    with pytest.raises(ValueError, match=said):
        make(BlockWords(("x", "y"), ("a",)))
