"""Losses that rise where descent without noise cannot let them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from mvpde.particles.deep.modes import MODES
from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.record import Record

TRAINED = ("deep_network", "mean_field_resnet")  # kinds whose measures all go down the loss itself at temperature 0
RISE = 1e-6, 1e-12  # relative and absolute rise of a loss that passes as rounding
REMEDIES = {
    "network": "choose a smaller [network] step",
    "density": "refine its mesh, [domain] cells, or choose a smaller [density] step",
    "characteristics": "choose a smaller [characteristics] tolerance",
}


def judge(found: Findings) -> Iterator[Caution]:
    """The first rise of each measure."""
    for name in _descending(found):
        yield from _risen(name, found.records)


def _descending(found: Findings) -> list[str]:
    """The measures whose loss cannot rise: gradient flows on all data without noise."""
    sections = found.problem.case.sections
    if sections.model.kind not in TRAINED or found.problem.model.ever_hot:
        return []
    section = getattr(sections, "network", None)  # of these kinds' own
    mode = MODES[section.mode] if section is not None else MODES["descent"]
    if mode.prescribed:  # the limit sees the same samples
        return []
    return [name for name in found.statistics if name in REMEDIES and not (name == "network" and mode.sampled)]


def _risen(name: str, records: Sequence[Record]) -> Iterator[Caution]:
    """The first rise of the loss of a measure between two output times."""
    for before, after in pairwise(records):
        first, then = before.numbers[name]["loss"], after.numbers[name]["loss"]
        bound = first * (1.0 + RISE[0]) + RISE[1]
        if then > bound:
            text = (
                f"{name}: the loss rises from {first:.6g} at t = {before.time:g} to {then:.6g} at t = {after.time:g}, which no "
                f"descent on all data does: its steps are too long or too coarse; {REMEDIES[name]}"
            )
            yield Caution(f"{name}.loss", text, then, bound)
            return
