"""Numbers with their errors, and the table of what limits an answer."""

from __future__ import annotations

import math

import pytest

from mvpde.reports.limits import errors_of, is_error, limits, limits_section, with_errors

SUMMARY = {
    "times": [0.0, 1.0],
    "density": {"loss": [1.0, 0.37431], "loss_error": [0.0, 0.0002], "loss_extrapolated": [1.0, 0.3741], "nodes": 100},
    "ensemble": {"loss": [1.0, 0.37512], "loss_standard_error": [0.01, 0.0011], "loss_step_error": [0.0, 1e-6], "runs": 4},
    "characteristics": {"loss": [1.0, 0.374], "loss_error": [None, None]},
    "sgd": {"loss": [1.0, 0.3]},
    "comparison": {"ensemble_vs_density": {"prediction_error": [0.0, 0.1]}},
}


@pytest.mark.parametrize(
    ("value", "errors", "text"),
    [
        (0.37431, {"mesh": 0.0002, "sampling": 0.0011}, "0.3743 ± 0.0002 (mesh) ± 0.0011 (sampling)"),
        (-12.345, {"mesh": 0.2}, "−12.35 ± 0.20 (mesh)"),
        (0.37512, {"sampling": 0.0011, "step": 1e-6}, "0.3751 ± 0.0011 (sampling) ± 1e−06 (step)"),
        (1234.5, {"sampling": 120.0}, "1234 ± 120 (sampling)"),
        (0.5, {"mesh": 0.0}, "0.5 ± 0 (mesh)"),
        (0.5, {"mesh": None}, "0.5"),
        (0.5, {"mesh": math.nan}, "0.5"),
        (None, {"mesh": 0.1}, "–"),
        (3.2e9, {"sampling": 1.1e7}, "3.2e+09 ± 1.1e+07 (sampling)"),
        (1.5e-20, {"mesh": 2e-22}, "1.5e−20 ± 2e−22 (mesh)"),
    ],
)
def test_a_number_is_shown_to_the_digits_that_its_error_leaves(value: float, errors: dict[str, float], text: str) -> None:
    assert with_errors(value, errors) == text


def test_errors_belong_to_their_quantity_and_source() -> None:
    assert errors_of("ensemble", SUMMARY["ensemble"], "loss") == {"step": [0.0, 1e-6], "sampling": [0.01, 0.0011]}
    assert errors_of("density", SUMMARY["density"], "loss") == {"mesh": [0.0, 0.0002]}
    moments = {"moments.⟨r⟩.value": [1.0], "moments.⟨r⟩.error": [0.1]}
    assert errors_of("density", moments, "moments.⟨r⟩.value") == {"mesh": [0.1]} and is_error("moments.⟨r⟩.error", moments)
    keys = dict.fromkeys(["density.loss", "density.loss_error", "density.label_error"])
    assert [is_error(key, keys) for key in keys] == [False, True, False]


def test_the_largest_error_comes_first_and_names_the_setting() -> None:
    first, second = limits(SUMMARY)
    assert (first.measure, first.largest, second.measure, second.largest) == ("ensemble", "sampling", "density", "mesh")
    assert first.remedy.startswith("[ensemble] runs") and second.remedy.startswith("[domain] cells")
    text = str(limits_section(SUMMARY))
    assert "0.3751 ± 0.0011 (sampling) ± 1e−06 (step)" in text and "0.37431 ± 0.00020 (mesh)" in text
    assert "What is least exact is ensemble, through its sampling (0.29 % of the number)." in text


def test_without_errors_nothing_is_said() -> None:
    assert limits({"times": [0.0], "density": {"loss": [1.0]}}) == [] and not limits_section({})
    assert limits({"times": [0.0], "density": {"loss": [0.0], "loss_error": [0.0], "free_energy": [2.0]}}) == []


def test_no_measure_is_least_exact_where_the_error_of_another_is_not_known() -> None:
    """Without data the loss is 0 throughout, and particles have no free energy."""
    density = {"loss": [0.0, 0.0], "free_energy": [1.0, 0.9], "free_energy_error": [0.1, 0.01]}
    particles = {"loss": [0.0, 0.0], "loss_standard_error": [0.0, 0.0], "particles": 100, "runs": 4}
    assert "What is least exact is density" in str(limits_section({"density": density}))
    both = str(limits_section({"density": density, "ensemble": particles}))
    assert "free_energy = 0.900" in both and "least exact" not in both
