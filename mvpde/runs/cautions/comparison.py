"""Measures of one law that do not agree within their errors."""

from __future__ import annotations

from collections.abc import Iterator

from mvpde.cases.measures import MEASURES, MESH, NODES, SAMPLES
from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.errors.agreement import DIFFER, Gap, agreements

CAUSES = {
    SAMPLES: "steps of particles that are too long, or too few particles or runs, of [{name}]",
    MESH: "a mesh too coarse or a box too small, [domain] cells, lower and upper",
    NODES: "too few nodes, [{name}] nodes",
}


def judge(found: Findings) -> Iterator[Caution]:
    """The largest disagreement of each pair."""
    for (a, b), agreement in agreements(found.records, found.statistics, found.problem.model.data).items():
        if agreement.verdict == "differ" and agreement.worst is not None:
            text = _said(a, b, agreement.worst)
            yield Caution(f"comparison.{a}_vs_{b}.agrees", text, agreement.worst.ratio, DIFFER)


def _said(a: str, b: str, gap: Gap) -> str:
    causes = "; or ".join(CAUSES[MEASURES[name].exactness].format(name=name) for name in (a, b))
    return (
        f"{a} and {b} do not agree: {gap.quantity} at t = {gap.time:g} is {gap.values[0]:.5g} and {gap.values[1]:.5g}, "
        f"{gap.difference:.2g} apart with errors of {gap.error:.2g} together; likely {causes}"
    )
