"""Arguments of the Python interface that cannot be: refused in words that name them, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import mvpde
from mvpde.runtime import MPI, ArgumentError, CaseError

pytestmark = pytest.mark.serial

box = partial(mvpde.box, comm=MPI.COMM_SELF)
NORMAL = mvpde.Product((mvpde.Normal(0.0, 0.5),))
CIRCLE = mvpde.Product((mvpde.Uniform(0.0, 2.0, periodic=True),))


def flow(periods: dict[str, float] | None = None) -> mvpde.MeanField:
    return mvpde.gradient_flow(["x"], temperature=0.1, periods=periods or {})


def cold() -> mvpde.MeanField:
    return mvpde.gradient_flow(["x"], potential="x**2")


def density() -> mvpde.Density:
    return mvpde.Density(flow(), box([-4], [4], [20]), NORMAL)


def particles(**options: Any) -> mvpde.Ensemble:
    return mvpde.Ensemble(flow(), NORMAL, **{"particles": 5, "comm": MPI.COMM_SELF, **options})


def later() -> mvpde.Ensemble:
    moved = particles()
    moved.advance(0.1)
    return moved


def plane() -> mvpde.Ensemble:
    law = mvpde.Product((mvpde.Normal(0.0, 1.0),) * 2)
    return mvpde.Ensemble(mvpde.gradient_flow(["x", "y"]), law, particles=5, comm=MPI.COMM_SELF)


def nodes(count: Any) -> mvpde.Characteristics:
    return mvpde.Characteristics(cold(), NORMAL, nodes=count, comm=MPI.COMM_SELF)


def pair(lower: list[float], upper: list[float]) -> mvpde.MeanField:
    return mvpde.pair_interaction(["x"], interaction="(x - x')**2", lower=lower, upper=upper)


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: box([0], [float("inf")], [4]), "direction 1 runs from 0 to inf; both ends must be finite"),
    (lambda: box([float("nan")], [1], [4]), "both ends must be finite"),
    (lambda: box([0], [1], [2.5]), "cells: direction 1 has 2.5; give a whole number"),
    (lambda: box(0, 1, 3), r"lower: needs a list with one entry per direction, such as \[0\], not 0"),
    (lambda: box([0], [1], [3], True), "periodic: needs a list"),
    (lambda: mvpde.Density(flow({"x": 2.0}), box([0], [2], [8]), CIRCLE), "x has the period 2, so the mesh must be periodic"),
    (lambda: mvpde.Density(flow(), box([-4], [4], [8], [True]), NORMAL), "x has no period, so the mesh must not be periodic"),
    (lambda: particles(particles=2.5), "particles: must be a whole number, not 2.5"),
    (lambda: particles(runs=1.5), "runs: must be a whole number, not 1.5"),
    (lambda: particles(seed=0.5), "seed: must be a whole number, not 0.5"),
    (lambda: nodes([2.5]), "nodes: must be 1 positive integers"),
    (lambda: nodes(3), "nodes: must be 1 positive integers"),
    (lambda: mvpde.compare(particles(), later()), "at the times 0 and 0.1; carry both to the same time"),
    (lambda: mvpde.compare(particles(), plane()), "have 1 and 2 coordinates"),
    (lambda: list(mvpde.carry(particles(), [1.0])), r"give a list, such as carry\(\[density\], times\)"),  # type: ignore[arg-type]
    (lambda: mvpde.report([], comm=MPI.COMM_SELF), "there is no folder to report on"),
    (lambda: mvpde.report("nowhere", comm=MPI.COMM_SELF), "^nowhere: there is no such folder"),
    (lambda: pair([1.0], [0.0]), "lower, upper: must be finite, lower below upper"),
    (lambda: pair([0.0, 0.0], [1.0, 1.0]), "lower, upper: need 1 numbers each, one for each of x"),
    (lambda: mvpde.stationary(particles()), "density: must be a Density.* not Ensemble"),  # type: ignore[arg-type]
    (lambda: mvpde.spectrum(particles(), 1), "density: must be a Density.* not Ensemble"),  # type: ignore[arg-type]
    (lambda: mvpde.branches(particles()), "density: must be a Density.* not Ensemble"),  # type: ignore[arg-type]
    (lambda: density().restore({}), "the checkpoint is none of a density"),
    (lambda: nodes([3]).restore({}), "the checkpoint is none of 3 nodes"),
    (lambda: mvpde.gradient_flow("xy"), "coordinates: is one text; give a list of texts, such as .'xy'."),
    (lambda: mvpde.gradient_flow(["x"], features="x", outer_energy="m0"), "features: is one text"),
    (lambda: mvpde.diffusion(["x"], drift="x", temperature=1.0), "drift: is one text"),
]


@pytest.mark.parametrize(("made", "said"), WRONG, ids=[f"{k}" for k in range(len(WRONG))])
def test_an_argument_that_cannot_be_is_refused_in_words(made: Callable[[], object], said: str) -> None:
    with pytest.raises((ArgumentError, ValueError, CaseError), match=said):
        made()


def test_a_dictionary_of_measures_is_carried() -> None:
    measures = {"ensemble": particles(), "density": density()}
    assert list(mvpde.carry(measures, [0.1])) == [0.1]
    assert {measure.time for measure in measures.values()} == {0.1}
