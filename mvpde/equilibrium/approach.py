"""What a case says of long times: its stationary law, its slowest modes, and how fast a run approaches the law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mvpde.density.density import Density
from mvpde.equilibrium.accuracy import Found, LongTimeErrors, errors, pairs_of, settled, told
from mvpde.equilibrium.branches import Branch, Start, moments_to_begin_from, nearest_stable, search
from mvpde.equilibrium.decay import Approach, Rate, measured, ruling
from mvpde.equilibrium.optimality.certificate import energy_gap, entropy_to, no_certificate
from mvpde.equilibrium.spectrum import Spectrum, dirichlet_energy, solved, spectrum, typical_rate
from mvpde.equilibrium.stationary import Stationary, is_gibbs, stationary
from mvpde.fields import FieldSeries
from mvpde.models.mean_field import Array
from mvpde.runtime import SolverError, on_first_rank

_EXPLICIT = "flux_corrected"  # whose steps are short by themselves


@dataclass
class LongTime:
    """The stationary law of a density's equation, its modes if asked for, and the distance to it at the output times.

    Attributes:
        found: the stationary law (of an interacting model the one of the stable branch nearest to the start of the run), the
            slowest modes or None, and all laws found of an interacting model.
        errors: what is known of the errors of these.
        tolerance: of the steps of the run in L¹; infinite where steps are given, None where they are short by themselves.
        failures: what was looked for and not found.
        approach: what is seen of it at the output times, `mvpde.equilibrium.decay`.
        energies: the Dirichlet energy ½∫∇u·A∇u dρ_∞ of u = ρ_t/ρ_∞.
        entropies, gaps: τKL(ρ_t|ρ_∞) ≤ 𝓕[ρ_t] − 𝓕[ρ_∞], where the outer energy is convex, so that ρ_∞ is the best law.
    """

    found: Found
    errors: LongTimeErrors = field(default_factory=LongTimeErrors)
    tolerance: float | None = None
    failures: tuple[SolverError, ...] = ()
    approach: Approach = field(init=False)
    energies: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing is seen yet."""
        self.approach = Approach(self.law, self.modes)

    @property
    def law(self) -> Stationary:
        """The stationary law."""
        return self.found.law

    @property
    def modes(self) -> Spectrum | None:
        """The slowest modes, or None."""
        return self.found.modes

    @property
    def branches(self) -> Sequence[Branch]:
        """All stationary laws found, of an interacting model."""
        return self.found.branches

    def knowing(self, errors: LongTimeErrors) -> LongTime:
        """With these errors: what lies below its own is no rate, and says nothing about stability."""
        return replace(self, found=settled(self.found, errors), errors=errors)

    def observe(self, density: Density) -> None:
        """Add the present distance to the stationary law. Collective."""
        if self.law.escape_rate is not None:  # mass is lost on the way, which is no approach to a law of mass 1
            return
        self.approach.observe(density)
        self.energies.append(dirichlet_energy(self.law, density.values))
        if no_certificate(density.model) is None and is_gibbs(density):
            self.entropies.append(entropy_to(density, self.law.values, self.law.moments))
            self.gaps.append(energy_gap(density, self.law.values, self.law.moments))

    def summary(self, times: Sequence[float]) -> dict[str, Any]:
        """The entries `stationary` and `spectrum` of summary.json."""
        del times
        law, known = self.law, self.errors
        entries: dict[str, Any] = {
            "stationary": {
                "mean": law.mean.tolist(),
                **known.entries("mean", "mean"),
                "covariance": law.covariance.tolist(),
                **known.entries("covariance", "covariance"),
                "identities": law.identities,
                "entropy_production": law.entropy_production,
                **known.entries("entropy_production", "entropy_production"),
                "limiter_share": law.limiter_share,
                "minimum": law.minimum,
                "outer_mass": law.outer_mass,
                "residual": law.residual,
                "distance": [sight.distance for sight in self.approach.sights],
            }
        }
        if law.escape_rate is not None:
            entries["stationary"] |= {"escape_rate": law.escape_rate, **known.entries("escape_rate", "escape_rate")}
        if known.interaction is not None:
            entries["stationary"]["interaction_error"] = known.interaction
        if self.gaps:
            entries["stationary"] |= {"relative_entropy": self.entropies, "gap": self.gaps}
        if self.branches:
            entries["stationary"]["branches"] = [self._of_branch(k, branch) for k, branch in enumerate(self.branches)]
        if self.modes is not None:
            entries["spectrum"] = self._of_modes(self.modes)
        return entries

    def _of_branch(self, number: int, branch: Branch) -> dict[str, Any]:
        """A branch with the errors of its numbers."""
        known = branch.entry()
        for key in ("moments", "free_energy", "leading_eigenvalue", "mean"):
            known |= self.errors.entries(f"branches.{number}.{key}", key)
        return {**known, "on_coarser_meshes": None if not self.errors.mesh else number not in self.errors.missing}

    def _of_modes(self, modes: Spectrum) -> dict[str, Any]:
        """Eigenvalues with their errors, and the rates that the run shows, or why it shows none."""
        error, better = self.errors.of("eigenvalues"), self.errors.extrapolated("eigenvalues")
        all_of = {"eigenvalues": pairs_of(modes.eigenvalues), "eigenvalues_error": error, "eigenvalues_extrapolated": better}
        entries: dict[str, Any] = {
            key: told(None if values is None else values[:, 0] if modes.reversible else values) for key, values in all_of.items()
        }
        entries["reversible"] = modes.reversible
        rates = self.rates()
        for key, rate in rates.items():
            entries |= {key: rate.value, f"{key}_error": rate.error}
        first = rates["decay_rate_measured"]
        return {**entries, "decay_mode": first.mode, "decay_rate_reason": first.reason}

    def rates(self) -> dict[str, Rate]:
        """What the distance, the Dirichlet energy and the gap show of a rate."""
        norms = {
            "decay_rate_measured": ([sight.distance for sight in self.approach.sights], 1),
            "energy_decay_rate_measured": (self.energies, 2),
            "gap_decay_rate_measured": (self.gaps, 2),
        }
        if not self.approach.sights:
            why = "there is no output yet" if self.law.escape_rate is None else "mass is lost at absorbing walls"
            return {key: Rate(reason=why) for key in norms if key != "gap_decay_rate_measured"}
        ruled = ruling(self.approach, self.tolerance)
        return {key: measured(self.approach, ruled, list(of), power) for key, (of, power) in norms.items() if of}

    def write(self, folder: Path, coordinates: tuple[str, ...]) -> None:
        """Fields for ParaView: `stationary.xdmf` with ρ and current J, `modes.xdmf` with one mode per time. Collective.

        Of a labelled law they are averaged over the labels.
        """
        domain = self.law.domain
        mesh = domain.mesh_arrays()
        current = [domain.averaged(np.ascontiguousarray(column)) for column in self.law.current.T]
        rho = domain.averaged(self.law.values)
        modes = (
            []
            if self.modes is None
            else [(domain.averaged(m.real.copy()), domain.averaged(m.imag.copy())) for m in self.modes.modes]
        )

        def store() -> None:
            assert mesh is not None
            series = FieldSeries(folder / "stationary", "stationary")
            series.write_mesh(*mesh, coordinates)
            series.append_on_mesh(0.0, {"rho": _present(rho), "current": _vectors(current)})
            if modes:
                series = FieldSeries(folder / "modes", "modes")
                series.write_mesh(*mesh, coordinates)
                for number, (real, imaginary) in enumerate(modes, start=1):
                    series.append_on_mesh(float(number), {"real": _present(real), "imaginary": _present(imaginary)})

        on_first_rank(domain.comm, store)


def long_time(density: Density, modes: int | None, starts: Sequence[Start] | None = None, began: Array | None = None) -> LongTime:
    """The stationary law of what ``density`` solves, and its ``modes`` slowest modes unless None. Collective.

    Args:
        density: at the end of its run, or at the start.
        modes: how many.
        starts: of the search for the stationary laws of an interacting model, moments or laws; None: those of `branches`.
        began: moments at the start of the run, from which the search begins too where there are no ``starts``.

    Raises:
        ArgumentError: temperature 0. SolverError: no law found. On all ranks alike.
    """
    laws, lost = _laws(density, starts, began) if density.model.interacting else ([], [])
    law = nearest_stable(laws, density.moments()[0]).law if laws else stationary(density)
    slowest, missing = (None, []) if modes is None else _slowest(density, modes, law)
    found = Found(law, slowest, laws, typical_rate(density, law), solved(density, law))
    given = np.inf if density.options.step is not None else density.options.tolerance
    tolerance = None if density.scheme == _EXPLICIT else given
    return LongTime(found, tolerance=tolerance, failures=(*lost, *missing)).knowing(errors(density, found))


def _laws(density: Density, starts: Sequence[Start] | None, began: Array | None) -> tuple[list[Branch], list[SolverError]]:
    """Of an interacting model, and what failed; starts that nobody asked for may."""
    given = moments_to_begin_from(density, starts)
    known = search(density, given if starts is not None or began is None else [*given, began])
    return known.found, known.unjudged if starts is None else [*known.lost, *known.unjudged]


def _slowest(density: Density, modes: int, law: Stationary) -> tuple[Spectrum | None, list[SolverError]]:
    """The modes that are found, and what is missing."""
    try:
        known = spectrum(density, modes, law)
    except SolverError as error:
        return None, [error]
    count, there = len(known.eigenvalues), density.domain.nodes - len(density.domain.weights)
    if count >= min(modes, there):
        return known, []
    return known, [SolverError(f"only {count} of {modes} modes converged; ask for fewer, or refine the mesh", "spectrum")]


def _present(values: Array | None) -> Array:
    assert values is not None  # on rank 0, where this is called
    return values


def _vectors(columns: Sequence[Array | None]) -> Array:
    """Vectors of three components, shape (n, 3), as files want them."""
    values = np.zeros((len(_present(columns[0])), 3))
    for axis, column in enumerate(columns):
        values[:, axis] = _present(column)
    return values
