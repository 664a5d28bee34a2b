"""The laws of all layers of a deep network of infinite width, as finite-element densities.

    ∂_tρ^ℓ(θ|λ) = ∇·(ρ^ℓ∇V^ℓ(θ|λ) + τ∇ρ^ℓ),   ℓ = 1 … L−1,

one equation for each layer and label, coupled through the inputs z^ℓ and multipliers M^ℓ of `mvpde.models.deep.sweeps` alone.
Labels never move, so they are no direction of a mesh: each has a copy of the mesh of θ, and all copies of all layers advance
together as one density on their disjoint union, with one step length, in the same stages of the same scheme.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np

from mvpde.density.auto import suitable
from mvpde.density.deep import copies
from mvpde.density.deep.features import DeepFeatures, EulerField
from mvpde.density.deep.fluxes import edge_averaged_fluxes
from mvpde.density.deep.layers import layer_meshes
from mvpde.density.deep.names import by_label
from mvpde.density.deep.start import projected
from mvpde.density.explicit import FluxCorrected, Fluxes, PotentialFluxes
from mvpde.density.features import NodalFeatures
from mvpde.measure import Cloud, Mesh, Number, State, nothing, require_ahead
from mvpde.mesh.domain import Domain, Part
from mvpde.mesh.union import union
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.statistics import ends_mean, layer_arrays, sweep_arrays
from mvpde.models.deep.sweeps import Labels, Sweep, end_rates
from mvpde.models.deep.units import Array
from mvpde.models.laws import Product
from mvpde.particles.deep.samples import Samples
from mvpde.runtime import MPI, ArgumentError

SCHEMES: dict[str, Callable[[Domain, NodalFeatures], Fluxes]] = {
    "flux_corrected": PotentialFluxes,
    "edge_averaged": edge_averaged_fluxes,
}
_MANY = 2_000_000  # numbers of a field with all labels, above which only averages are written


class DeepDensity:
    """ρ^ℓ(θ|λ) at the nodes of all copies of the meshes; ∫ρ^ℓ(θ|λ)dθ = 1 for each label, and labels have their shares.

    Attributes:
        network, labels: what moves, and the labels that its laws are given on.
        model: the network as a `MeanField`: moments are predictions.
        domain: the union of the copies.
        features: the sweeps.
        scheme: name of the scheme at work.
        time: t.
        values: ρ at owned and ghost unknowns of the union, local to the rank.
    """

    name = label = "density"
    listed = ("free_energy", "outer_mass")

    def __init__(
        self,
        network: DeepNetwork,
        meshes: Sequence[Domain],
        labels: Labels,
        laws: Sequence[Product],
        *,
        scheme: str = "auto",
        cfl: float = 0.8,
        step: float | None = None,
        samples: Samples | None = None,
    ) -> None:
        """Project the laws. Collective.

        Args:
            network: the network, at any temperature.
            meshes: of the weights that each layer trains, one for each layer; layers may share one.
            labels: of the first and last weights, all of positive share.
            laws: of the trained weights of each layer at t = 0, independent of the labels.
            scheme: "flux_corrected"; "edge_averaged" for τ > 0, which keeps Gibbs states; or "auto", which takes the latter where
                noise is faster than transport.
            cfl: part of the largest positive step, in (0, 1].
            step: longest step, > 0.
            samples: one data point at a time, each for a step of Euler's method, instead of the flow; at τ = 0.

        Raises:
            ArgumentError: another scheme, an option outside its range, other numbers of meshes or laws, a mesh that does not hold
                its law to 1 %.
        """
        _check(network, meshes, laws, scheme, cfl, step, samples)
        self.network, self.labels, self.model, self.time = network, labels, network.mean_field(), 0.0
        shapes = [labels.shape(number + 1, network.depth) for number in range(len(network.layers))]
        shares = [labels.shares(number + 1, network.depth).ravel() for number in range(len(network.layers))]
        each = [mesh for mesh, share in zip(meshes, shares, strict=True) for _ in share]
        self.domain = union(each, np.concatenate(shares))
        self._layers = layer_meshes(network, self.domain, shapes)
        self.values, self.mass_inside = self._start(meshes, laws)
        self.features = DeepFeatures(
            network, self.model, self.domain, labels, self._layers, labels.a.copy(), labels.b.copy(), network.pull
        )
        self._cfl, self._longest, self._samples = cfl, step, samples
        given = cast("NodalFeatures", self.features)
        self.scheme = suitable(self.domain, given, self.values) if scheme == "auto" else scheme
        self._scheme = self._steps_with(self.features)
        self.steps, self.step, self.mass_defect, self._seconds = 0, 0.0, 0.0, 0.0
        self.minimum = copies.relative_minimum(self.domain, self.values)

    def _start(self, meshes: Sequence[Domain], laws: Sequence[Product]) -> tuple[Array, float]:
        """Nodal values of the laws on every copy, and the smallest share of any that its mesh holds."""
        values, inside = np.zeros(len(self.domain.coordinates)), math.inf
        known: dict[tuple[int, Product], tuple[Array, float]] = {}
        for layer, mesh, law in zip(self._layers, meshes, laws, strict=True):
            if (id(mesh), law) not in known:
                known[id(mesh), law] = projected(layer.layer, mesh, law)
            nodal, held = known[id(mesh), law]
            values[layer.rows] = nodal
            inside = min(inside, held)
        return values, inside

    @property
    def comm(self) -> MPI.Intracomm:
        """The ranks that share the meshes."""
        return self.domain.comm

    # -- motion

    def advance(self, t: float, /, between_steps: Callable[[], None] = nothing) -> None:
        """Solve up to t ≥ time, hit exactly; ``between_steps`` is called after each step. Collective.

        Raises:
            ValueError: t lies before the present time. SolverError, InvariantError: on all ranks alike, with the last good state
            kept.
        """
        require_ahead("a density", self.time, t)
        began = time.perf_counter()
        if self._samples is not None:
            for number in self._samples.between(self.time, t):
                self._take(number, self._samples, between_steps)
        else:
            while self.time < t:
                turn = self._turn_with_ends if self.network.train_ends else self._go
                turn(t, between_steps)
        self.time = t
        self._seconds += time.perf_counter() - began

    def _steps_with(self, features: DeepFeatures | EulerField) -> FluxCorrected:
        given = cast("NodalFeatures", features)  # all of them that the scheme asks for
        return FluxCorrected(self.domain, given, SCHEMES[self.scheme](self.domain, given), cfl=self._cfl, step=self._longest)

    def _go(self, end: float, between_steps: Callable[[], None]) -> None:
        """One step towards ``end``."""
        values, length = self._scheme.step(self.values, end - self.time)
        copies.accept(self, values, "of a label")
        self.time = end if length >= end - self.time else self.time + length
        self.steps, self.step = self.steps + 1, length
        between_steps()

    def _turn_with_ends(self, end: float, between_steps: Callable[[], None]) -> None:
        """The ends for half a step, all laws for one, the ends for half: of second order, as neither waits for the other."""
        with self._whole_or_not_at_all():
            length = self._scheme.longest(self.values, end - self.time)
            self.features.turn_ends(self._nodal_masses(), 0.5 * length)
            until = min(end, self.time + length) if length < end - self.time else end
            while self.time < until:
                self._go(until, nothing)
            self.features.turn_ends(self._nodal_masses(), 0.5 * length)
        between_steps()

    def _take(self, number: int, samples: Samples, between_steps: Callable[[], None]) -> None:
        """One step of Euler's method on one data point, for all laws and ends from where they are now."""
        features = self.features
        with self._whole_or_not_at_all():
            features.pull = samples.pull(self.network, number)
            masses = self._nodal_masses()
            self._scheme = self._steps_with(features.euler_field(masses, samples.step))
            if self.network.train_ends:
                rates = end_rates(self.network, features.swept(masses), features.a)
                features.a, features.b = features.a + samples.step * rates[0], features.b + samples.step * rates[1]
            until = self.time + samples.step
            while self.time < until:
                self._go(until, nothing)
        between_steps()

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Around steps of several parts, between which no state is one to go on from: an error goes back to where all began."""
        scheme, pull, ends = self._scheme, self.features.pull, (self.features.a, self.features.b)
        kept = {name: getattr(self, name) for name in ("values", "time", "steps", "step", "mass_defect", "minimum")}
        try:
            yield
        except BaseException:
            vars(self).update(kept)
            self.features.a, self.features.b = ends
            raise
        finally:
            self._scheme, self.features.pull = scheme, pull

    def _nodal_masses(self) -> Array:
        return copies.nodal_masses(self)

    # -- what it says

    def with_values(self, values: Array) -> DeepDensity:
        """The same measure with other values (owned + ghosts); this one stays as it is."""
        other = copy.copy(self)
        other.values = values
        return other

    def masses(self) -> Array:
        """Mass of every label of every layer, over the share that it must have, one layer after the other. Collective."""
        return copies.relative_masses(self, self.values)

    def swept(self) -> Sweep:
        """Inputs, multipliers and prediction as they are now, the same on all ranks. Collective."""
        return self.features.swept(self._nodal_masses())

    def moments(self) -> Array:
        """Predictions ŷ(x_p), shape (1, P). Collective."""
        return self.network.predictions(self.swept().before)[None]

    def losses(self) -> Array:
        """E, shape (1,). Collective."""
        return np.asarray(self.network.energy(self.moments()))

    def expectation(self, function: Callable[[Array], Array]) -> Array:
        """∫h over the weights of all layers together, shape (1,), for h: (N, D) → (N,). Collective."""
        points, masses = self._points()
        return self.domain.sum(np.array([masses @ function(points)]))

    def conditional(self, power: int = 1) -> list[Array]:
        """E[θ^power | λ] of each layer, shapes (A or 1, B or 1, D). Collective."""
        masses = self._nodal_masses()
        return [self.domain.sum(layer.conditional(masses, power)) for layer in self._layers]

    def on_mesh(self, layer: int) -> Array | None:
        """ρ of layer 1 … L−1 at the points of its mesh for every label, shape (A or 1, B or 1, points), on rank 0. Collective."""
        mesh = self._layers[layer - 1]
        first = sum(len(before.shares) for before in self._layers[: layer - 1])
        parts = self.domain.parts[first : first + len(mesh.shares)]
        rows = [part.domain.to_mesh(self.values[part.local[: part.domain.owned]]) for part in parts]
        there = [row for row in rows if row is not None]
        return np.stack(there).reshape(*mesh.shape, -1) if there else None

    def free_energy(self) -> float:
        """𝓕 = E + Σ_ℓ E_λ[∫V0 dρ + τ∫ρ log ρ]: with a base measure E + τ Σ_ℓ KL(μ^ℓ | labels ⊗ m̂). Collective."""
        masses, owned = self._nodal_masses(), self.domain.owned
        external = np.zeros(len(self.values))
        for layer in self._layers:
            external[layer.rows] = layer.external
        logarithm = np.log(np.maximum(self.values[:owned], 1e-300))
        local = masses @ (external[:owned] + self.network.temperature * logarithm)
        return float(self.losses()[0]) + float(self.domain.sum(np.array([local]))[0])

    def ends(self) -> tuple[Array, Array]:
        """First and last weights of the labels, shapes (A, q) and (B,); they differ from the labels where ends are trained."""
        return self.features.a.copy(), self.features.b.copy()

    def _points(self) -> Cloud:
        """Owned nodes of all copies as points of the network's coordinates, each layer with the same mass; local."""
        points = np.zeros((self.domain.owned, len(self.network.coordinates)))
        for layer in self._layers:
            points[layer.rows[:, : layer.owned]] = self.network.embedded(layer.layer, layer.theta[: layer.owned])
        return points, self._nodal_masses() / len(self._layers)

    def cloud(self) -> Cloud | None:
        """The weights of all layers together on rank 0, None elsewhere. Collective."""
        return copies.gathered(self.domain, self._points())

    def numbers(self) -> dict[str, float]:
        """Free energy, mass at the walls, worst mass defect of a label and smallest value so far, steps. Collective."""
        return {"free_energy": self.free_energy(), **copies.numbers(self)}

    def statistics(self) -> dict[str, Number]:
        """Scheme, sizes, steps, and what went on in them."""
        return copies.statistics(self, self.scheme, self._scheme, self._seconds)

    def arrays(self) -> dict[str, Array]:
        """Predictions, inputs of the layers, means, variances and covariances with the labels. Collective."""
        known = sweep_arrays(self.network, self.labels, self.swept())
        known |= layer_arrays(self.network, self.labels, self.conditional(1), self.conditional(2))
        return known | (ends_mean(self.labels, *self.ends()) if self.network.train_ends else {})

    # -- files

    def mesh(self) -> Mesh | None:
        """The mesh of the layers that train all coordinates, on rank 0; None elsewhere, and without such a layer. Collective."""
        whole = self._whole()
        return whole[min(whole)].domain.mesh_arrays() if whole else None

    def _whole(self) -> dict[int, Part]:
        """The first copy of the mesh of each layer that trains all coordinates, by number."""
        starts = np.cumsum([0, *(len(layer.shares) for layer in self._layers)])
        trained = [layer.layer.trained for layer in self._layers]
        return {k + 1: self.domain.parts[starts[k]] for k, names in enumerate(trained) if names == self.network.coordinates}

    def fields(self) -> dict[str, Array]:
        """ρ of each layer that `mesh` is of, over its labels and at each a or b; "rho" is their mean over layers. Collective."""
        fields: dict[str, Array] = {}
        for number in self._whole():
            values, layer = self.on_mesh(number), self._layers[number - 1]
            if values is None:
                continue
            shares = layer.shares.reshape(*layer.shape)
            fields[f"layer{number}"] = np.einsum("ab,abn->n", shares, values)
            if values.size > _MANY:
                continue
            if number == 1:
                fields |= by_label(1, "a", self.labels.a, np.einsum("b,abn->an", shares.sum(0), values))
            if number == len(self._layers):
                fields |= by_label(number, "b", self.labels.b[:, None], np.einsum("a,abn->bn", shares.sum(1), values))
        together = [fields[f"layer{number}"] for number in self._whole() if fields]
        return {"rho": np.mean(together, axis=0), **fields} if together else {}

    def state(self) -> State | None:
        """Nodal values in mesh-input order, ends, time and counts on rank 0, None elsewhere: enough to go on. Collective."""
        kept = copies.state(self)
        return None if kept is None else {**kept, "a": self.features.a, "b": self.features.b}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of a density on the same meshes, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of others.
        """
        known = copies.restore(self, state)
        self.features.a, self.features.b = np.array(known["a"], float), np.array(known["b"], float)


def _check(
    network: DeepNetwork,
    meshes: Sequence[Domain],
    laws: Sequence[Product],
    scheme: str,
    cfl: float,
    step: float | None,
    samples: Samples | None,
) -> None:
    if scheme not in ("auto", *SCHEMES):
        raise ArgumentError("scheme", f'"{scheme}" does not know deep networks; use "auto" or "flux_corrected"')
    if scheme == "edge_averaged" and network.temperature == 0.0:
        raise ArgumentError("scheme", '"edge_averaged" needs model.temperature > 0; use "flux_corrected" or "auto"')
    if not 0.0 < cfl <= 1.0:
        raise ArgumentError("cfl", f"must lie in (0, 1], not {cfl!r}")
    if samples is not None and network.temperature > 0.0:
        raise ArgumentError("samples", "are for temperature 0")
    if step is not None and not step > 0.0:
        raise ArgumentError("step", f"must be positive, not {step!r}")
    sizes = [layer.dimension for layer in network.layers]
    if [mesh.dimension for mesh in meshes] != sizes or [law.dimension for law in laws] != sizes:
        raise ArgumentError("domain", f"give for each layer a mesh and a law of the weights that it trains, {sizes} of them")
