"""Data sets: quadrature of known measures, lists, and CSV files, whose faults are named by line and column."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mvpde.models.data import TARGETS, Data, circle, csv, interval, noisy, points, split, target_function

COPPER = Path(__file__).parents[2] / "cases" / "data" / "copper.csv"


def test_the_copper_data_leave_the_residual_that_nist_certifies() -> None:
    """Residual standard deviation of NIST's certified cubic/cubic fit of Hahn1: one digit wrong in the copy would change it."""
    data = csv(COPPER, ["temperature"], "expansion", standardise=False)
    x = data.x[:, 0]
    b1, b2, b3, b4 = 1.0776351733, -1.2269296921e-01, 4.0863750610e-03, -1.4262662514e-06
    b5, b6, b7 = -5.7609940901e-03, 2.4053735503e-04, -1.2314450199e-07
    fit = (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)
    assert len(x) == 236
    assert math.isclose(math.sqrt(np.sum((data.target - fit) ** 2) / 229), 8.1803852243e-02, rel_tol=1e-9)


def test_standardised_columns_have_mean_zero_and_deviation_one() -> None:
    raw = csv(COPPER, ["temperature"], "expansion")
    data = csv(COPPER, ["temperature"], "expansion", standardise=True)
    for column, original in ((data.x[:, 0], raw.x[:, 0]), (data.target, raw.target)):
        assert abs(column.mean()) < 1e-14
        assert math.isclose(column.std(), 1.0, rel_tol=1e-13)
        assert math.isclose(np.corrcoef(column, original)[0, 1], 1.0, rel_tol=1e-13)
    assert math.isclose(data.weights.sum(), 1.0, rel_tol=1e-13)


def test_without_names_all_other_columns_are_inputs(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,f,b\n1,2,3\n4,5,6\n")
    data = csv(path, None, "f")
    assert (data.x.tolist(), data.target.tolist()) == ([[1.0, 3.0], [4.0, 6.0]], [2.0, 5.0])


FAULTS = {  # contents: parts of the message
    "a,b\n1,2\n3\n": ("line 3", "1 fields", "2"),
    "a,b\n# note\n\n1,2\n3,4,5\n": ("line 5", "3 fields"),
    "a,b\n1,2\n3,x\n": ("line 3", "column 'b'", "'x'"),
    "a,b\n1,2\n,4\n": ("line 3", "column 'a'", "''"),
    "# units\na,b\nnan,2\n3,4\n": ("line 3", "column 'a'", "nan"),
    "a,b\n1,2\n3,-inf\n": ("line 3", "column 'b'", "-inf"),
    "a,b\n1,2\n": ("1 row", "at least 2"),
    "": ("no columns called 'a'",),
    "aa,b\n1,2\n3,4\n": ("no columns called 'a'", "did you mean 'aa'"),
    "temperature,b\n1,2\n3,4\n": ("no columns called 'a'", "known: temperature, b"),
    "u,v\n1,2\n3,4\n": ("no columns called 'a'", "known: u, v"),
    "a,b,a\n1,2,3\n": ("2 columns called 'a'",),
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_faulty_table_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table\.csv") as caught:
        csv(path, ["a"], "b")
    for part in FAULTS[text]:
        assert part in str(caught.value)


def test_files_that_are_missing_or_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.csv"):
        csv(tmp_path / "absent.csv", ["a"], "b")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ValueError, match="UTF-8"):
        csv(tmp_path / "binary.csv", ["a"], "b")


def test_quotes_blanks_comments_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('\ufeff# a comment\r\n"the a", b , c\r\n1, 2, 3\r\n # another\r\n-4e0,5,6\r\n', encoding="utf-8")
    data = csv(path, ["c", "the a"], "b")
    np.testing.assert_array_equal(data.x, [[3, 1], [6, -4]])
    np.testing.assert_array_equal(data.target, [2, 5])


def test_a_constant_column_cannot_be_standardised(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n0.1,2\n0.1,3\n0.1,4\n")
    with pytest.raises(ValueError, match="column 'a' is constant"):
        csv(tmp_path / "t.csv", ["a"], "b", standardise=True)


def test_circle_and_interval_are_quadratures_of_the_uniform_probability_measure() -> None:
    data = circle(16, target_function("cos(3*x)**2"))
    assert math.isclose(data.weights @ data.target, 0.5, rel_tol=1e-14)
    data = interval(-1.0, 2.0, 4, target_function("x**7"))
    assert math.isclose(data.weights @ data.target, (2.0**8 - 1) / 24, rel_tol=1e-13)  # ∫x⁷dx/3


def test_targets_by_name_by_expression_and_of_several_inputs() -> None:
    x = np.array([[0.3, 2.0], [0.5, -1.0]])
    one = x[:, :1]
    np.testing.assert_allclose(target_function("circle_two_modes")(one), target_function(TARGETS["circle_two_modes"])(one))
    np.testing.assert_allclose(target_function("x1*x2", inputs=2)(x), [0.6, -0.5])


def test_points_are_taken_as_given() -> None:
    data = points([-1, 0, 1], [0.3, -0.2, 0.4])
    np.testing.assert_array_equal(data.x, [[-1], [0], [1]])
    np.testing.assert_allclose(data.weights, 1 / 3)
    np.testing.assert_allclose(points([[1, 2], [3, 4]], lambda x: x.sum(axis=1), [1, 2]).target, [3, 7])


def test_data_that_make_no_sense_are_refused() -> None:
    one = np.ones(2)
    for x, weights, target, what in (
        (np.ones((3, 1)), one, one, "shapes"),
        (np.ones(2), one, one, "shapes"),
        (np.ones((0, 1)), np.ones(0), np.ones(0), "shapes"),
        (np.ones((2, 1)), np.array([1.0, 0.0]), one, "weights"),
        (np.array([[1.0], [np.nan]]), one, one, "input of data point 2"),
        (np.ones((2, 1)), one, np.array([np.inf, 0.0]), "target of data point 1"),
    ):
        with pytest.raises(ValueError, match=what):
            Data(x, weights, target)
    with pytest.raises(ValueError, match="target of data point 1"):
        circle(4, target_function("log(x)"))  # log 0 at x = 0
    with pytest.raises(ValueError, match="lower < upper"):
        interval(1.0, 1.0, 4, target_function("x"))
    with pytest.raises(ValueError, match="at least 1 point"):
        circle(0, target_function("x"))


# --- points held out ------------------------------------------------------------------------------------------------------------


def test_a_split_takes_every_point_once_and_is_the_same_each_time() -> None:
    data = csv(COPPER, ["temperature"], "expansion")
    parts = split(data, 0.25, seed=3)
    assert parts.test is not None
    assert (len(parts.target), len(parts.test.target)) == (177, 59)
    together = np.concatenate([np.column_stack([part.x[:, 0], part.target]) for part in (parts, parts.test)])
    everything = np.column_stack([data.x[:, 0], data.target])
    assert np.array_equal(together[np.lexsort(together.T)], everything[np.lexsort(everything.T)])
    assert all(math.isclose(part.weights.sum(), 1.0, rel_tol=1e-13) for part in (parts, parts.test))
    again, other = split(data, 0.25, seed=3), split(data, 0.25, seed=4)
    assert np.array_equal(parts.target, again.target) and not np.array_equal(parts.target, other.target)


def test_a_split_keeps_the_shares_of_unequal_weights() -> None:
    parts = split(points(np.arange(4.0), np.arange(4.0), [1.0, 2.0, 3.0, 4.0]), 0.5)
    kept = parts.target + 1.0
    assert parts.weights == pytest.approx(kept / kept.sum())


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_split_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"both need one"):
        split(points(np.arange(4.0), np.arange(4.0)), share)


def test_noise_is_added_to_the_targets_trained_on_alone() -> None:
    """Its mean is 0 and its deviation the one given, within three standard errors of 20000 numbers."""
    data = split(points(np.arange(40000.0), np.zeros(40000)), 0.5)
    loud = noisy(data, 2.0, seed=5)
    assert loud.test is not None and not loud.test.target.any()
    assert abs(loud.target.mean()) < 3.0 * 2.0 / math.sqrt(20000)
    assert abs(loud.target.std() - 2.0) < 3.0 * 2.0 / math.sqrt(2 * 20000)
    assert np.array_equal(loud.x, data.x)
    assert not np.array_equal(loud.target, noisy(data, 2.0, seed=6).target)
