"""What the mesh of a density and its box say about themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from mvpde.cases.problem import Problem
from mvpde.measure import Number
from mvpde.models.laws import marginals
from mvpde.models.walls.box import OPEN
from mvpde.runs.cautions.caution import Caution, Findings

OUTER_MASS = 1e-3  # a larger share of the mass at the walls means that the domain is too small
MASS_INSIDE = 5e-4  # share of the initial law outside the box: more than 1 % of the variance of a normal law
START = 0.75  # cells in a standard deviation of the start
NARROWEST = 0.5  # cells in a standard deviation of the typical feature later
NEGATIVE = 0.2  # share of the diffusion on edges of negative weight
LIMITED = 0.3  # share of the fluxes of second order that was cut
RESOLVED = 3.0  # cells in a standard deviation from which on features are resolved, whatever was cut
MASS_DEFECT = 1e-11  # relative change of the mass that is no rounding
MINIMUM = -1e-12  # smallest value over the largest
DENSITY = "density"

Numbers = Mapping[str, float]


def judge(found: Findings) -> Iterator[Caution]:
    """Box, mesh and conservation, of the measure that lives on a mesh."""
    times = [(recorded.time, recorded.numbers[DENSITY]) for recorded in found.records if DENSITY in recorded.numbers]
    said = found.statistics.get(DENSITY, {})
    yield from _of_walls(times)
    yield from _of_start(said, meant=_meant(found))
    yield from _of_features(times, found.problem)
    yield from _of_edges(times)
    yield from _of_limiter(times, said)
    yield from _of_conservation(said)


def _worst(times: Sequence[tuple[float, Numbers]], key: str) -> float:
    return max((numbers.get(key, 0.0) for _, numbers in times), default=0.0)


def _of_walls(times: Sequence[tuple[float, Numbers]]) -> Iterator[Caution]:
    """Mass at walls that cut the space off: in a cell along them, or in a strip of fixed width, which a fine mesh shows too."""
    outer, strip = _worst(times, "outer_mass"), _worst(times, "wall_mass")
    carried = sum(0.5 * (u - t) * (a.get("outward_flux", 0.0) + b.get("outward_flux", 0.0)) for (t, a), (u, b) in pairwise(times))
    if max(outer, strip, carried) <= OUTER_MASS:
        return
    away = f"; the drift has carried {carried:.1e} of it out there" if carried > OUTER_MASS else ""
    remedy = 'widen [domain] lower and upper, or its mesh; "auto" finds a box'
    if outer > OUTER_MASS:
        text = f"domain: {outer:.1e} of the mass reached the outer layer of cells{away}; {remedy}"
        yield Caution("density.outer_mass", text, outer, OUTER_MASS)
    elif strip > OUTER_MASS:
        text = f"domain: {strip:.1e} of the mass lies in a strip of 2.5 % of the domain's width along its walls{away}; {remedy}"
        yield Caution("density.wall_mass", text, strip, OUTER_MASS)
    else:
        text = f"domain: the drift has carried {carried:.1e} of the mass to walls that cut the space off; {remedy}"
        yield Caution("density.outward_flux", text, carried, OUTER_MASS)


def _meant(found: Findings) -> bool:
    """Whether no end of the box is a mere end."""
    walls = found.problem.model.walls
    return walls is not None and not any(walls.faces(OPEN))


def _of_start(said: Mapping[str, Number], *, meant: bool = False) -> Iterator[Caution]:
    """An initial law that the box cuts."""
    inside = said.get("mass_inside")
    if isinstance(inside, float) and abs(inside - 1.0) > MASS_INSIDE:
        text = (
            f"domain: it holds {inside:.5f} of the initial law, whose part inside is scaled to mass 1: its moments are those of "
            f"a cut law; {'narrow [initial] to what lies between its walls' if meant else 'widen [domain] lower and upper'}"
        )
        yield Caution("density.mass_inside", text, inside, 1.0 - MASS_INSIDE)


def _of_features(times: Sequence[tuple[float, Numbers]], problem: Problem) -> Iterator[Caution]:
    """A start, or what it became, that is narrower than cells."""
    known = [(t, numbers["cells_per_deviation"]) for t, numbers in times if "cells_per_deviation" in numbers]
    if not known:
        return
    (first, start), later = known[0], min(known, key=lambda pair: pair[1])
    if first == 0.0 and start < START:
        text = (
            f"mesh: a standard deviation of the initial law has {start:.2g} cells; mass and mean are right, the variance is no "
            f"less than nodes allow{least_variance(problem)}; refine [domain] cells, or widen [initial]"
        )
        yield Caution("density.start_resolution", text, start, START)
    elif later[1] < NARROWEST:
        text = (
            f"mesh: at t = {later[0]:g} a standard deviation of what the law consists of has {later[1]:.2g} cells; "
            "refine [domain] cells, or end before"
        )
        yield Caution("density.resolution", text, later[1], NARROWEST)


def least_variance(problem: Problem) -> str:
    """Of coordinates whose law is narrower than any masses on the nodes with its mean: θ(1 − θ)h² for the law's variance."""
    domain, known = problem.sections.domain, marginals(problem.law)
    if domain is None or domain.box is None or domain.cells is None or known is None:
        return ""
    said = []
    for name, law, low, high, cells in zip(problem.model.directions, known, *domain.box, domain.cells, strict=False):
        z, w = law.quadrature(32)
        mean, h = float(w @ z), (high - low) / cells
        share = ((mean - low) / h) % 1.0
        wanted, least = float(w @ (z - mean) ** 2), share * (1.0 - share) * h * h
        if wanted < (1.0 - 1e-9) * least:
            said.append(f"that of {name} is {least:.3g} on the mesh for {wanted:.3g}")
    return f" ({', '.join(said)})" if said else ""


def _of_edges(times: Sequence[tuple[float, Numbers]]) -> Iterator[Caution]:
    """Obtuse cells, where they carry much."""
    share = _worst(times, "negative_share")
    if share > NEGATIVE:
        text = (
            f"mesh: {share:.2g} of the diffusion goes along edges of negative weight (obtuse angles), treated by upwinding; "
            "use a mesh with angles below 90°, or refine it"
        )
        yield Caution("density.negative_edges", text, share, NEGATIVE)


def _of_limiter(times: Sequence[tuple[float, Numbers]], said: Mapping[str, Number]) -> Iterator[Caution]:
    """A scheme that was cut down to its first order, where the law is narrow; atoms at ends of the space are not."""
    share = said.get("limiter_share")
    narrowest = min((numbers.get("cells_per_deviation", RESOLVED) for _, numbers in times), default=RESOLVED)
    if isinstance(share, float) and share > LIMITED and narrowest < RESOLVED:
        text = (
            f"density: {100 * share:.2g} % of the fluxes that make the scheme second order had to be cut to keep the law "
            "positive, so it spreads as by a scheme of first order: refine [domain] cells"
        )
        yield Caution("density.limiter_share", text, share, LIMITED)


def _of_conservation(said: Mapping[str, Number]) -> Iterator[Caution]:
    """Mass and positivity, which only a linear solver can have lost."""
    remedy = "choose a direct solver, [density] solver = { pc_type = 'lu' }, or its tolerance ksp_rtol smaller"
    defect, minimum = said.get("mass_defect"), said.get("minimum")
    of_labels = said.get("label_defect")
    for code, value in (("density.mass_defect", defect), ("density.label_defect", of_labels)):
        if isinstance(value, float) and value > MASS_DEFECT:
            what = "the mass" if code == "density.mass_defect" else "the mass of a label"
            yield Caution(code, f"density: {what} changed by {value:.1e} of itself; {remedy}", value, MASS_DEFECT)
    if isinstance(minimum, float) and minimum < MINIMUM:
        text = f"density: the smallest value is {minimum:.1e} of the largest, below 0; {remedy}"
        yield Caution("density.minimum", text, minimum, MINIMUM)
