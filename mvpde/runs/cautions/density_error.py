"""Errors of the density that are too large, or not to be relied on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mvpde.cases.problem import Problem
from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.errors.estimates import Assessment

BOUND = 0.01  # of a quantity: a larger error is told
DOUBTFUL = 0.025  # the same where the order is not that of the scheme: the error is then the whole difference, mostly too much
HEADLINES = ("loss", "free_energy", "predictions")  # beside the observables; arrays of layers have their errors beside them


@dataclass(frozen=True)
class Worst:
    """Where the error of a quantity is the largest part of it, among the times whose largest error is of one kind.

    Attributes:
        name, time, share, error: which quantity, when, the error as a part of it, and the error.
        order: of that entry, NaN where it shows none.
        asymptotic: whether that order is the one of the scheme.
    """

    name: str
    share: float
    time: float
    error: float
    order: float
    asymptotic: bool


def judge(found: Findings) -> Iterator[Caution]:
    """Companions that are missing, and the quantities whose error passes the bound, the worst of them with numbers."""
    if found.companions is None:
        return
    for reason in found.companions.missing():
        yield Caution("density.companions", f"density: no error is known from the companion {reason}")
    names = [*HEADLINES, *found.problem.model.observables]
    times = [record.time for record in found.records]
    known = {name: estimate for name, estimate in found.companions.found.items() if name in names or name.startswith("⟨")}
    alone = sum(not level.failed for level in found.companions.levels) < 2  # one companion shows no order
    for code, asymptotic, bound in (("density.error", True, BOUND), ("density.order", False, DOUBTFUL)):
        bad = [one for one in _worst(known, times, asymptotic) if one.share > bound]
        if bad:
            worst = max(bad, key=lambda one: one.share)
            doubt = "" if asymptotic else _doubt(worst, alone)
            yield _told(code, bound, worst, [one.name for one in bad], f"{doubt}; {remedy(found.problem)}")


def _worst(known: Mapping[str, Assessment], times: list[float], asymptotic: bool) -> Iterator[Worst]:
    """Of each quantity of which an error is known, among the times at which it is asymptotic, or is not."""
    for name, estimate in known.items():
        at_times = [one for one in _at_times(name, estimate, times) if one.asymptotic is asymptotic]
        if at_times:
            yield max(at_times, key=lambda one: one.share)


def _at_times(name: str, estimate: Assessment, times: list[float]) -> Iterator[Worst]:
    """The largest error at each time."""
    found = estimate.found
    for k, share in enumerate(estimate.shares()):
        if np.isfinite(share):
            errors, orders, settled = (np.reshape(part[k], -1) for part in (found.error, found.order, found.asymptotic))
            entry = int(np.nanargmax(np.where(np.isfinite(errors), errors, np.nan)))
            yield Worst(name, float(share), times[k], float(errors[entry]), float(orders[entry]), bool(settled[entry]))


def _doubt(worst: Worst, alone: bool) -> str:
    """Why an error is not to be relied on."""
    if alone:
        return (
            ", the whole difference to the one companion, which shows no order: [density] companions = 2 may tell a smaller one"
        )
    if math.isfinite(worst.order):
        return f", and the meshes are too coarse to rely on it: their order is {worst.order:.1f}"
    return ", and the meshes are too coarse to rely on it: their differences have two signs"


def remedy(problem: Problem) -> str:
    """What makes the mesh of a case finer."""
    domain = problem.sections.domain
    finer = "raise [domain] cells"
    if domain is not None and domain.shell is not None:
        finer = "raise frequency and layers of [domain] shell"
    elif domain is not None and domain.mesh is not None:
        finer = "refine the mesh file of [domain] mesh"
    return f"{finer} (and lower [density] tolerance where steps are implicit)"


def _told(code: str, bound: float, worst: Worst, names: list[str], rest: str) -> Caution:
    others = f" (also {', '.join(name for name in names if name != worst.name)})" * (len(names) > 1)
    text = (
        f"density: the error of {worst.name} at t = {worst.time:g} is about {worst.error:.1e}, {100 * worst.share:.2g} % of it"
        f"{others}{rest}"
    )
    return Caution(code, text, worst.share, bound)
