"""What a case says of long times: its stationary law, its slowest modes, and how fast a run approaches the law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mvpde.density.density import Density
from mvpde.equilibrium.branches import Branch, Start, branches, nearest_stable
from mvpde.equilibrium.optimality import energy_gap, entropy_to, no_certificate
from mvpde.equilibrium.spectrum import Spectrum, decay_rate, dirichlet_energy, distance, spectrum
from mvpde.equilibrium.stationary import Stationary, is_gibbs, stationary
from mvpde.fields import FieldSeries
from mvpde.models.mean_field import Array
from mvpde.runtime import on_first_rank

_GROWS = 1e-8  # part of the fastest rate beyond which a mode grows; a circle of states has a mode of rate 0
_LATE = 3  # output times that a rate of decay is fitted to, at least


@dataclass
class LongTime:
    """The stationary law of a density's equation, its modes if asked for, and the distance to it at the output times.

    Attributes:
        law: the stationary law; of an interacting model the one of the stable branch nearest to the start of the run.
        modes: the slowest modes, or None.
        distances: ‖ρ_t/ρ_∞ − 1‖ in L²(ρ_∞), one per output time.
        energies: the Dirichlet energy ½∫∇u·A∇u dρ_∞ of u = ρ_t/ρ_∞.
        branches: all stationary laws found, of an interacting model.
        entropies, gaps: τKL(ρ_t|ρ_∞) ≤ 𝓕[ρ_t] − 𝓕[ρ_∞], where the outer energy is convex, so that ρ_∞ is the best law.
    """

    law: Stationary
    modes: Spectrum | None
    distances: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def observe(self, density: Density) -> None:
        """Add the present distance to the stationary law. Collective."""
        self.distances.append(distance(self.law, density.values))
        self.energies.append(dirichlet_energy(self.law, density.values))
        if no_certificate(density.model) is None and is_gibbs(density):
            self.entropies.append(entropy_to(density, self.law.values))
            self.gaps.append(energy_gap(density, self.law.values, self.law.moments))

    def summary(self, times: Sequence[float]) -> dict[str, Any]:
        """The entries `stationary` and `spectrum` of summary.json."""
        law = self.law
        entries: dict[str, Any] = {
            "stationary": {
                "mean": law.mean.tolist(),
                "covariance": law.covariance.tolist(),
                "identities": law.identities,
                "entropy_production": law.entropy_production,
                "limiter_share": law.limiter_share,
                "minimum": law.minimum,
                "outer_mass": law.outer_mass,
                "residual": law.residual,
                "distance": self.distances,
            }
        }
        if self.gaps:
            entries["stationary"] |= {"relative_entropy": self.entropies, "gap": self.gaps}
        if self.branches:
            entries["stationary"]["branches"] = [branch.entry() for branch in self.branches]
        if self.modes is not None:
            values = self.modes.eigenvalues
            entries["spectrum"] = {
                "eigenvalues": values.real.tolist() if self.modes.reversible else [[v.real, v.imag] for v in values.tolist()],
                "reversible": self.modes.reversible,
                "decay_rate_measured": self._rate(times, self.distances),
                "energy_decay_rate_measured": self._rate(times, self.energies),
            }
            if self.gaps:
                entries["spectrum"]["gap_decay_rate_measured"] = self._rate(times, self.gaps)
        return entries

    def _rate(self, times: Sequence[float], norms: Sequence[float]) -> float | None:
        """The fitted rate, or None where there are too few times, nothing but rounding is left to decay, or a mode grows."""
        assert self.modes is not None
        rates = self.modes.eigenvalues.real
        if rates[0] < -_GROWS * np.abs(rates).max():
            return None
        late = [norm for t, norm in zip(times, norms, strict=True) if t >= 0.5 * (times[0] + times[-1])]
        if len(late) < _LATE or min(late) < 1e-10 * max(norms):
            return None
        return decay_rate(times, norms, float(self.modes.eigenvalues[0].imag))

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


def long_time(density: Density, modes: int | None, starts: Sequence[Start] | None = None) -> LongTime:
    """The stationary law of what ``density`` solves, and its ``modes`` slowest modes unless None. Collective.

    Args:
        density: at the start of its run.
        modes: how many.
        starts: of the search for the stationary laws of an interacting model, moments or laws; None: those of `branches`.

    Raises:
        ArgumentError: temperature 0. SolverError: nothing found. On all ranks alike.
    """
    if not density.model.interacting:
        law, laws = stationary(density), []
    else:
        laws = branches(density, starts)
        law = nearest_stable(laws, density.moments()[0]).law
    return LongTime(law, None if modes is None else spectrum(density, modes, law), branches=laws)


def _present(values: Array | None) -> Array:
    assert values is not None  # on rank 0, where this is called
    return values


def _vectors(columns: Sequence[Array | None]) -> Array:
    """Vectors of three components, shape (n, 3), as files want them."""
    values = np.zeros((len(_present(columns[0])), 3))
    for axis, column in enumerate(columns):
        values[:, axis] = _present(column)
    return values
