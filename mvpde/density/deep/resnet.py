"""The law at every depth of a residual network of infinite depth and width, as finite-element densities.

    ∂_tρ(s, θ) = ∇_θ·(ρ∇_θV(θ|s)),     V(θ|s) = V0 − Σ_p M_p(s) f(X_p(s), θ),

one equation for each label s, coupled through the features X and multipliers M of `mvpde.models.deep.resnet` alone. Depths never
move, so each has a copy of the mesh of θ, and all advance together on the disjoint union, in the same stages of one scheme.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from mvpde.density.deep import copies
from mvpde.density.deep.layers import LayerMesh, mesh_of_layer
from mvpde.density.deep.names import told_apart
from mvpde.density.deep.start import projected
from mvpde.density.explicit import FluxCorrected, PotentialFluxes
from mvpde.density.features import NodalFeatures
from mvpde.measure import Cloud, Mesh, Number, State, nothing, require_ahead
from mvpde.mesh.domain import Domain
from mvpde.mesh.union import union
from mvpde.models.deep.resnet import DepthRule, Passage, ResidualLimit, passage, told
from mvpde.models.deep.units import Array
from mvpde.models.laws import Product
from mvpde.models.mean_field import MeanField
from mvpde.runtime import MPI, ArgumentError

SCHEMES = ("auto", "flux_corrected")  # implicit steps extrapolate moments that are linear in the density, which these are not


@dataclass
class ResidualFeatures:
    """What a scheme asks of the features of a model, for all depths at once.

    Attributes:
        limit, model, depths: the network, what others see of it, and its labels.
        union: the copies of the mesh.
        mesh: the unit on them.
        guess: features X of the last pass, where the next one begins.
    """

    limit: ResidualLimit
    model: MeanField
    depths: DepthRule
    union: Domain
    mesh: LayerMesh
    guess: Array | None = None

    def at(self, t: float) -> ResidualFeatures:
        """Nothing here depends on time."""
        del t
        return self

    def passed(self, masses: Array) -> Passage:
        """Forward and backward, from the masses m_iρ_i of the owned unknowns. Collective: a sum over ranks for each round."""

        def means(x: Array) -> tuple[Array, Array]:
            both = self.union.sum(self.mesh.means(masses, x[:, None]))
            return both[0, :, 0], both[1, :, 0]

        passed = passage(self.limit, self.depths, means, self.guess)
        self.guess = passed.inputs
        return passed

    def moments(self, masses: Array) -> Array:
        """X, then M, flat: what the potential depends on. Collective."""
        passed = self.passed(masses)
        return np.concatenate([passed.inputs.ravel(), passed.multipliers.ravel()])

    def potential(self, moments: Array, result: Array) -> None:
        """V at owned and ghost unknowns into ``result``, from ``moments``. Local."""
        x, multipliers = moments.reshape(2, len(self.depths.nodes), 1, -1)
        self.mesh.potential(multipliers, x, result)


class ResidualDensity:
    """ρ(s, θ) at the nodes of all copies of the mesh; ∫ρ(s, θ)dθ = 1 at each label, which has the weight of its depth.

    Attributes:
        limit, depths: what moves, and the labels that its laws are given on.
        model: the network as a `MeanField`: moments are predictions.
        domain: the union of the copies.
        features: the passes.
        time: t.
        values: ρ at owned and ghost unknowns of the union, local to the rank.
    """

    name = label = "density"
    listed = ("outer_mass",)

    def __init__(
        self,
        limit: ResidualLimit,
        mesh: Domain,
        depths: DepthRule,
        law: Product,
        *,
        scheme: str = "auto",
        cfl: float = 0.8,
        step: float | None = None,
    ) -> None:
        """Project the law. Collective.

        Args:
            limit: the network.
            mesh: of the trained weights.
            depths: labels s.
            law: of the trained weights at t = 0, the same at every depth.
            scheme: "auto" or "flux_corrected".
            cfl: part of the largest positive step, in (0, 1].
            step: longest step, > 0.

        Raises:
            ArgumentError: another scheme, an option outside its range, or a mesh that does not hold the law to 1 %.
        """
        _check(limit, mesh, law, scheme, cfl, step)
        count = len(depths.nodes)
        self.limit, self.depths, self.model, self.time = limit, depths, limit.mean_field(), 0.0
        self.domain = union([mesh] * count, depths.weights, depths.nodes)
        on_copies = mesh_of_layer(limit.unit, self.domain.parts, (count, 1), np.zeros(len(mesh.coordinates)))
        self.features = ResidualFeatures(limit, self.model, depths, self.domain, on_copies)
        self.values = np.zeros(len(self.domain.coordinates))
        self.values[on_copies.rows], self.mass_inside = projected(limit.unit, mesh, law)
        given = cast("NodalFeatures", self.features)  # all of them that the scheme asks for
        self._scheme = FluxCorrected(self.domain, given, PotentialFluxes(self.domain, given), cfl=cfl, step=step)
        self.steps, self.step, self.mass_defect, self._seconds = 0, 0.0, 0.0, 0.0
        self.minimum = copies.relative_minimum(self.domain, self.values)

    @property
    def comm(self) -> MPI.Intracomm:
        """The ranks that share the mesh."""
        return self.domain.comm

    @property
    def scheme(self) -> str:
        """Name of the scheme at work."""
        return self._scheme.name

    # -- motion

    def advance(self, t: float, /, between_steps: Callable[[], None] = nothing) -> None:
        """Solve up to t ≥ time, hit exactly; ``between_steps`` is called after each step. Collective.

        Raises:
            ValueError: t lies before the present time. SolverError, InvariantError: on all ranks alike, with the last good state
            kept.
        """
        require_ahead("a density", self.time, t)
        while self.time < t:
            began = time.perf_counter()
            values, length = self._scheme.step(self.values, t - self.time)
            self._seconds += time.perf_counter() - began
            copies.accept(self, values, "at a depth")
            self.time = t if length >= t - self.time else self.time + length
            self.steps, self.step = self.steps + 1, length
            between_steps()

    def _nodal_masses(self) -> Array:
        return copies.nodal_masses(self)

    # -- what it says

    def passed(self) -> Passage:
        """Features and multipliers as they are now, the same on all ranks. Collective."""
        return self.features.passed(self._nodal_masses())

    def moments(self) -> Array:
        """X(1, x_p), shape (1, P). Collective."""
        return self.passed().outputs[None]

    def losses(self) -> Array:
        """E, shape (1,). Collective."""
        return np.asarray(self.limit.energy(self.moments()))

    def expectation(self, function: Callable[[Array], Array]) -> Array:
        """∫∫h ρ(s, dθ)ds over all depths, shape (1,), for h: (N, D) → (N,). Collective."""
        points, masses = self._points()
        return self.domain.sum(np.array([masses @ function(points)]))

    def conditional(self, power: int = 1) -> Array:
        """E[θ^power | s] at the labels, shape (S, D). Collective."""
        return self.domain.sum(self.features.mesh.conditional(self._nodal_masses(), power))[:, 0]

    def _points(self) -> Cloud:
        """Owned nodes of all copies and their masses; local."""
        owned = self.domain.owned
        return self.domain.coordinates[:owned, : self.domain.dimension], self._nodal_masses()

    def cloud(self) -> Cloud | None:
        """The weights of all depths together on rank 0, None elsewhere. Collective."""
        return copies.gathered(self.domain, self._points())

    def numbers(self) -> dict[str, float]:
        """Mass at the walls, worst mass defect of a depth and smallest value so far, steps. Collective."""
        return copies.numbers(self)

    def statistics(self) -> dict[str, Number]:
        """Scheme, sizes, steps, and what went on in them."""
        return {**copies.statistics(self, self.scheme, self._scheme, self._seconds), "labels": len(self.depths.nodes)}

    def arrays(self) -> dict[str, Array]:
        """Predictions, and at depths 0, ½ and 1 features, means and variances; see `told`. Collective."""
        return told(self.depths, self.passed(), self.conditional(1), self.conditional(2))

    # -- files

    def mesh(self) -> Mesh | None:
        """The mesh of θ on rank 0, None elsewhere. Collective."""
        return self.domain.mesh_arrays()

    def fields(self) -> dict[str, Array]:
        """ "rho", the mean over the depths, and ρ at each label, by a name that tells s; on rank 0. Collective."""
        values = self.domain.to_mesh(self.values)
        if values is None:
            return {}
        rows = values.reshape(len(self.depths.nodes), -1)
        by_depth = {f"rho at s = {s}": row for s, row in zip(told_apart(self.depths.nodes[:, None]), rows, strict=True)}
        return {"rho": self.depths.weights @ rows, **by_depth}

    def state(self) -> State | None:
        """Nodal values in mesh-input order, time and counts on rank 0, None elsewhere: enough to go on. Collective."""
        return copies.state(self)

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of a density on the same mesh and depths, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of others.
        """
        copies.restore(self, state)
        self.features.guess = None


def _check(limit: ResidualLimit, mesh: Domain, law: Product, scheme: str, cfl: float, step: float | None) -> None:
    if scheme not in SCHEMES:
        raise ArgumentError("scheme", f'"{scheme}" does not know residual networks; use "auto" or "flux_corrected"')
    if not 0.0 < cfl <= 1.0:
        raise ArgumentError("cfl", f"must lie in (0, 1], not {cfl!r}")
    if step is not None and not step > 0.0:
        raise ArgumentError("step", f"must be positive, not {step!r}")
    names = limit.unit.trained
    if not mesh.dimension == law.dimension == len(names):
        raise ArgumentError("domain", f"give a mesh and a law of the trained weights {', '.join(names)}")
