"""What a run records of optimality: bounds on the gap to the best law, and what the units can represent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mvpde.cases.measures import on_mesh
from mvpde.density.density import Density
from mvpde.equilibrium.optimality.certificate import certificate, gibbs_gaps, no_certificate, residual_potential
from mvpde.equilibrium.optimality.representation import Representation, no_representation, representation
from mvpde.measure import Measure

RUNS = 16  # of an ensemble whose Gibbs states are computed, at most
GAP, ERROR, SPREAD = "optimality_gap", "optimality_gap_error", "optimality_gap_standard_error"
SUPPORT, EVERYWHERE = "residual_potential_support", "residual_potential_everywhere"

Numbers = dict[str, dict[str, float]]  # measure → quantity → number


@dataclass(frozen=True)
class Optimality:
    """What is watched during a run of a model with a convex outer energy.

    Attributes:
        density: whose mesh all integrals are taken on.
        ensemble: particles whose moments give a potential, where there are any.
        representable: what the units can represent of the target; None without one.
    """

    density: Density
    ensemble: Measure | None
    representable: Representation | None

    def observe(self, numbers: Numbers) -> None:
        """Add to the ``numbers`` of an output time what is known of the measures as they are now. Collective."""
        model = self.density.model
        bound = certificate(self.density)
        numbers["density"] |= {GAP: bound.gap, ERROR: bound.error}
        residual = None if model.ever_hot else residual_potential(self.density)
        if residual is not None:
            numbers["density"] |= {SUPPORT: residual[0], EVERYWHERE: residual[1]}
        if self.ensemble is not None and model.temperature > 0.0:
            gaps = gibbs_gaps(self.density, self.ensemble.moments()[:RUNS])
            numbers["ensemble"][GAP] = float(gaps.mean())
            if len(gaps) > 1:
                numbers["ensemble"][SPREAD] = float(gaps.std(ddof=1) / math.sqrt(len(gaps)))

    def entries(self, rows: Sequence[Numbers]) -> dict[str, Any]:
        """Lists over the output times, by measure, and `representable`; what is not known at all of them is left out."""
        density, ensemble = lists(rows, "density", (GAP, ERROR)), lists(rows, "ensemble", (GAP, SPREAD))
        residual = lists(rows, "density", (SUPPORT, EVERYWHERE))
        if residual:
            density["residual_potential"] = {"support": residual[SUPPORT], "everywhere": residual[EVERYWHERE]}
        found: dict[str, Any] = {"density": density} | ({"ensemble": ensemble} if ensemble else {})
        return found if self.representable is None else {**found, "representable": asdict(self.representable)}


def lists(rows: Sequence[Numbers], name: str, keys: Sequence[str]) -> dict[str, Any]:
    """key → its values over the output times, for keys that the measure has at each of them."""
    measured = [row.get(name, {}) for row in rows]
    return {key: [row[key] for row in measured] for key in keys if measured and all(key in row for row in measured)}


def watch(measures: Mapping[str, Measure]) -> Optimality | None:
    """What to watch; None without a density on a mesh, or where R is not known to be convex. Collective."""
    density = on_mesh(measures)
    if not isinstance(density, Density) or no_certificate(density.model) is not None:
        return None
    known = representation(density) if no_representation(density.model) is None else None
    return Optimality(density, measures.get("ensemble"), known)
