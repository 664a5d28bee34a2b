"""`[domain] lower = "auto"`: a box that holds the law at all times, the same on any number of ranks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from mvpde.cases.file import Case, load, parse
from mvpde.cases.problem import problem
from mvpde.runtime import MPI, CaseError

CASES = Path(__file__).parents[2] / "cases"


def well(**changes: object) -> Case:
    """A particle in a unit well that starts at 3 with σ = .1 and ends at N(0, 1)."""
    table = {
        "model": {"kind": "mean_field", "coordinates": ["x"], "potential": "x**2/2", "temperature": 1.0},
        "initial": {"x": {"law": "normal", "mean": 3.0, "std": 0.1}},
        "domain": {"lower": "auto", "upper": "auto", "cells": [100]},
        "density": {},
        "time": {"end": 6.0},
    }
    return parse({**table, **changes}, Path("well.toml"))


@pytest.mark.ranks
def test_the_box_holds_the_start_and_the_end(comm: MPI.Intracomm) -> None:
    """All but 1e-6 of N(0, 1) and of N(3e^{−t}, 1 − e^{−2t} + .01e^{−2t}) at all t, and not twice as much as needed."""
    found = problem(well(), comm)
    lower, upper = found.sections.domain.box
    t = np.linspace(0.01, 6.0, 400)
    mean, deviation = 3.0 * np.exp(-t), np.sqrt(1.0 - 0.99 * np.exp(-2.0 * t))
    outside = ndtr((lower[0] - mean) / deviation) + ndtr((mean - upper[0]) / deviation)
    assert outside.max() < 1e-5  # the quantiles of 2,048 particles are a twentieth of σ off
    needed = (mean + 4.9 * deviation).max() - (mean - 4.9 * deviation).min()
    assert upper[0] - lower[0] < 1.4 * needed
    assert comm.allgather((lower, upper)) == [(lower, upper)] * comm.size
    assert parse(found.case.table(), Path("again.toml")).sections.domain.box == (lower, upper)


@pytest.mark.serial
def test_one_corner_may_be_given() -> None:
    found = problem(well(domain={"lower": [-20.0], "upper": "auto", "cells": [100]}))
    assert found.sections.domain.lower == [-20.0]
    assert 5.0 < found.sections.domain.upper[0] < 9.0


@pytest.mark.serial
def test_a_law_that_is_to_be_stationary_is_inside_at_the_end() -> None:
    """At t = .4 the law is N(2, .55); its stationary law N(0, 1) is inside if it is asked for."""
    short, lasting = (problem(well(time={"end": 0.4}, **more)) for more in ({}, {"stationary": {}}))
    assert -2.5 < short.sections.domain.lower[0] < -1.0
    assert lasting.sections.domain.lower[0] < -4.0


@pytest.mark.serial
def test_stiff_wells_are_followed_with_shorter_steps() -> None:
    """V = 50x²: a step of .08 is 80 times too long for a sum of particles, which would fill any box."""
    found = problem(well(model={"kind": "mean_field", "coordinates": ["x"], "potential": "50*x**2", "temperature": 1.0}))
    assert found.sections.domain.upper[0] < 5.0
    assert -3.0 < found.sections.domain.lower[0] < -0.45


@pytest.mark.serial
def test_circles_keep_their_period_and_spaces_their_ends() -> None:
    lower, upper = problem(load(CASES / "kuramoto.toml", {"domain.lower": "auto", "domain.upper": "auto"})).sections.domain.box
    assert (lower[0], upper[0]) == pytest.approx((-math.pi, math.pi))
    radius = {"domain.lower": "auto", "domain.upper": "auto", "time.end": 0.2, "time.outputs": 2}
    assert problem(load(CASES / "mmn_isotropic.toml", radius)).sections.domain.lower == [0.0]


@pytest.mark.serial
def test_what_has_no_such_box_is_refused() -> None:
    with pytest.raises(CaseError, match="give numbers for this kind of model"):
        problem(load(CASES / "deep_network_warm.toml", {"domain.lower": "auto", "domain.upper": "auto"}))
    with pytest.raises(CaseError, match='the list is empty; give them, or "auto"'):
        well(domain={"lower": [], "upper": "auto", "cells": [100]})
    runaway = {"kind": "mean_field", "coordinates": ["x"], "potential": "-x**4", "temperature": 1.0}
    with pytest.raises(CaseError, match=r'"auto" cannot be found: .* give numbers'):
        problem(well(model=runaway))


@pytest.mark.serial
@pytest.mark.parametrize(("rate", "end"), [(100.0, 1.0), (1.0, 300.0), (1000.0, 1.0)])
def test_steps_that_the_drift_forbids_are_halved(rate: float, end: float) -> None:
    """dx = −rate x dt + √2 dB from N(0, .1²): the first step, 1/24 or end/72, is unstable; the law ends at N(0, 1/rate)."""
    model = {"kind": "fokker_planck", "drift": [f"-{rate}*x"], "temperature": 1.0}
    start = {"x": {"law": "normal", "mean": 0.0, "std": 0.1}}
    lower, upper = problem(well(model=model, initial=start, time={"end": end})).sections.domain.box
    needed = 4.9 * max(0.1, rate**-0.5)
    assert needed < min(upper[0], -lower[0])
    assert max(upper[0], -lower[0]) < 2.0 * needed  # of the longer of the last two steps, too, which spreads particles more


@pytest.mark.serial
@pytest.mark.parametrize("drift", ["0.5 - x", "0.2 - 2*x"])
def test_ends_that_the_noise_implies_are_kept(drift: str) -> None:
    """dx = (a − bx) dt + √(2x) dB stays at x ≥ 0; its law becomes a gamma law of shape a and rate b."""
    model = {"kind": "fokker_planck", "drift": [drift], "diffusion": [["x"]]}
    start = {"x": {"law": "normal", "mean": 1.0, "std": 0.1}}
    lower, upper = problem(well(model=model, initial=start)).sections.domain.box
    assert lower == [0.0]
    assert 5.0 < upper[0] < 25.0


@pytest.mark.serial
def test_both_ends_of_an_interval_are_kept() -> None:
    """A = x(1 − x) with a drift to the middle: Jacobi's process on [0, 1]."""
    model = {"kind": "fokker_planck", "drift": ["0.5 - x"], "diffusion": [["x*(1-x)"]]}
    found = problem(well(model=model, initial={"x": {"law": "normal", "mean": 0.5, "std": 0.05}}))
    assert found.sections.domain.box == ([0.0], [1.0])


@pytest.mark.serial
@pytest.mark.parametrize(
    ("drift", "temperature", "mean", "variance"),
    [
        (["2.0"], 0.1, lambda t: [2.0 * t], lambda t: 0.04 + 0.2 * t),
        (["0.5*x"], 0.5, lambda t: [0.0 * t], lambda t: 1.04 * math.exp(t) - 1.0),
        (["-y", "x"], 0.05, lambda t: [2.0 * math.cos(t), 2.0 * math.sin(t)], lambda t: 0.04 + 0.1 * t),
    ],
)
def test_laws_that_drift_grow_and_turn_are_inside_at_all_times(drift, temperature, mean, variance) -> None:
    """Normal laws of independent coordinates: all but 1e-5 at every time, as the quantiles of a pilot are uncertain."""
    names, end = ["x", "y"][: len(drift)], 2.0 if len(drift) == 1 else 6.28
    model = {"kind": "fokker_planck", "drift": drift, "temperature": temperature}
    start = {name: {"law": "normal", "mean": m, "std": 0.2} for name, m in zip(names, mean(0.0), strict=True)}
    domain = {"lower": "auto", "upper": "auto", "cells": [40] * len(drift)}
    lower, upper = problem(well(model=model, initial=start, domain=domain, time={"end": end})).sections.domain.box
    for t in np.linspace(0.0, end, 60):
        sigma = math.sqrt(variance(t))
        assert all(ndtr((a - m) / sigma) + ndtr((m - b) / sigma) < 1e-5 for a, b, m in zip(lower, upper, mean(t), strict=True))


@pytest.mark.serial
def test_a_circle_beside_a_line_keeps_its_period() -> None:
    model = {"kind": "mean_field", "coordinates": ["x", "s"], "periods": {"s": 2.0}, "potential": "x**2/2", "temperature": 0.3}
    start = {"x": {"law": "normal", "mean": 1.0, "std": 0.2}, "s": {"law": "uniform", "lower": 0.5, "upper": 1.5}}
    found = problem(well(model=model, initial=start, domain={"lower": "auto", "upper": "auto", "cells": [40, 32]}))
    lower, upper = found.sections.domain.box
    assert upper[1] - lower[1] == pytest.approx(2.0)
    assert lower[0] < -4.9 * math.sqrt(0.3) * 0.9 and upper[0] > 2.0
