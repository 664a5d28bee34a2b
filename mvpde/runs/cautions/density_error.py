"""Errors of the density that are too large, or not to be relied on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.errors.estimates import Assessment

BOUND = 0.01  # of a quantity: a larger error is told
DOUBTFUL = 0.025  # the same where the order is not that of the scheme: the error is then the whole difference, mostly too much
HEADLINES = ("loss", "free_energy", "predictions")  # beside the observables; arrays of layers have their errors beside them
REMEDY = "raise [domain] cells (and lower [density] tolerance where steps are implicit)"


@dataclass(frozen=True)
class Worst:
    """Where the error of a quantity is the largest part of it."""

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
    for code, asymptotic, bound in (("density.error", True, BOUND), ("density.order", False, DOUBTFUL)):
        bad = [one for one in _worst(known, times) if one.share > bound and one.asymptotic is asymptotic]
        if bad:
            yield _told(code, bound, max(bad, key=lambda one: one.share), [one.name for one in bad])


def _worst(known: Mapping[str, Assessment], times: list[float]) -> Iterator[Worst]:
    """Of each quantity of which an error is known."""
    for name, estimate in known.items():
        shares = estimate.shares()
        if np.isfinite(shares).any():
            k = int(np.nanargmax(shares))
            errors, settled = (np.reshape(part[k], -1) for part in (estimate.found.error, estimate.found.asymptotic))
            entry = int(np.nanargmax(errors))
            yield Worst(name, float(shares[k]), times[k], float(errors[entry]), estimate.order, bool(settled[entry]))


def _told(code: str, bound: float, worst: Worst, names: list[str]) -> Caution:
    others = f" (also {', '.join(name for name in names if name != worst.name)})" * (len(names) > 1)
    doubt = "" if worst.asymptotic else f", and the meshes are too coarse to rely on it: their order is {worst.order:.1f}"
    text = (
        f"density: the error of {worst.name} at t = {worst.time:g} is about {worst.error:.1e}, {100 * worst.share:.2g} % of it"
        f"{others}{doubt}; {REMEDY}"
    )
    return Caution(code, text, worst.share, bound)
