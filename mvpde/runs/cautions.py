"""What a run warns of: numbers that say by themselves that a domain, a mesh or a step does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from mvpde.cases.problem import Problem
from mvpde.measure import Number
from mvpde.particles.deep.modes import MODES
from mvpde.runs.record import Record

OUTER_MASS = 1e-3  # a larger share of the mass at the walls means that the domain is too small
TRAINED = ("deep_network", "mean_field_resnet")  # kinds whose measures all go down the loss itself at temperature 0
RISE = 1e-6, 1e-12  # relative and absolute rise of a loss that passes as rounding
REMEDIES = {
    "network": "choose a smaller [network] step",
    "density": "refine its mesh, [domain] cells, or choose a smaller [density] step",
    "characteristics": "choose a smaller [characteristics] tolerance",
}


def cautions(
    problem: Problem, records: Sequence[Record], statistics: Mapping[str, Mapping[str, Number]], stationary_outer_mass: float
) -> list[str]:
    """One sentence for each, with its remedy.

    Args:
        problem: the case and its model.
        records: the output times so far.
        statistics: of each measure.
        stationary_outer_mass: that of a stationary law, 0 without one.
    """
    texts = []
    outer = max((numbers.get("outer_mass", 0.0) for row in records for numbers in row.numbers.values()), default=0.0)
    if outer > OUTER_MASS:
        texts.append(
            f"domain: {outer:.1e} of the mass reached the outer layer of cells; widen [domain] lower and upper, or its mesh"
        )
    if stationary_outer_mass > OUTER_MASS:
        texts.append(
            f"stationary: {stationary_outer_mass:.1e} of the mass of the stationary law lies in the outer layer of cells; "
            "the model does not confine it to this box: widen [domain] lower and upper, or add confinement"
        )
    bad_edges = [said["negative_edges"] for said in statistics.values() if said.get("negative_edges")]
    texts += [
        f"mesh: {count} edges have a negative weight (obtuse angles) and are treated by upwinding; use a better mesh"
        for count in bad_edges
    ]
    return texts + [text for name in _descending(problem, statistics) if (text := _risen(name, records))]


def _descending(problem: Problem, statistics: Mapping[str, object]) -> list[str]:
    """The measures whose loss cannot rise: gradient flows on all data without noise."""
    sections = problem.case.sections
    if sections.model.kind not in TRAINED or problem.model.ever_hot:
        return []
    section = getattr(sections, "network", None)  # of these kinds' own
    mode = MODES[section.mode] if section is not None else MODES["descent"]
    if mode.prescribed:  # the limit sees the same samples
        return []
    return [name for name in statistics if name in REMEDIES and not (name == "network" and mode.sampled)]


def _risen(name: str, records: Sequence[Record]) -> str:
    """A sentence on the first rise of the loss of a measure between two output times; empty without one."""
    for before, after in pairwise(records):
        first, then = before.numbers[name]["loss"], after.numbers[name]["loss"]
        if then > first * (1.0 + RISE[0]) + RISE[1]:
            return (
                f"{name}: the loss rises from {first:.6g} at t = {before.time:g} to {then:.6g} at t = {after.time:g}, which no "
                f"descent on all data does: its steps are too long or too coarse; {REMEDIES[name]}"
            )
    return ""
