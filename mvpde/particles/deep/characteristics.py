"""Deep networks of infinite width at τ = 0, spectrally accurate: quadrature nodes of every law, carried by the flow.

    θ̇ = Σ_p M^ℓ_p ∂_θσ^ℓ(z^ℓ_p, θ) for every node θ of every layer ℓ and label λ,   and with trained ends  Ȧ, Ḃ

with z and M of `mvpde.models.deep.sweeps`. The weights of the nodes never change, so the only errors are those of quadratures
and of an integrator of order eight with error control; all layers are one system of ordinary differential equations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mvpde.runtime import MPI, ArgumentError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing
from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.statistics import ends_mean, layer_arrays, sweep_arrays
from mvpde.models.deep.sweeps import Labels, Sweep, end_rates, sweep
from mvpde.models.deep.units import Array, DeepLayer
from mvpde.models.laws import Product
from mvpde.particles.accuracy.nodes import CoarserNodes
from mvpde.particles.blocks import whole
from mvpde.particles.deep.carried import Carried, Gone
from mvpde.particles.deep.samples import Samples


class LayerNodes:
    """The nodes of one layer, their weights, and what one pass through it leaves for the velocity.

    Attributes:
        layer: the unit.
        theta: nodes, shape (A or 1, B or 1, M, D).
        weights: shape (M,), with sum 1, the same for every label.
    """

    def __init__(self, layer: DeepLayer, theta: Array, weights: Array) -> None:
        """Nodes at some time."""
        self.layer, self.theta, self.weights = layer, theta, weights
        self._z, self._active = np.empty(0), np.empty(0)

    def means(self, z: Array) -> tuple[Array, Array]:
        """S and T at inputs z, shape (A or 1, 1, P)."""
        layer, theta = self.layer, self.theta[..., None, :]
        v, w, _ = layer.weights(theta)
        t = np.broadcast_to(layer.active(z[:, :, None], theta), (*self.theta.shape[:3], z.shape[-1]))
        self._z, self._active = z[:, :, None], t
        of_v, of_w = (np.broadcast_to(self.weights[:, None] * h, (*self.theta.shape[:3], 1))[..., 0] for h in (v, v * w))
        return np.einsum("abm,abmp->abp", of_v, t), np.einsum("abm,abmp->abp", of_w, layer.of_active(t))

    def velocity(self, multipliers: Array) -> Array:
        """θ̇ of every node after `means`, from M, shape (1, B or 1, P); the shape of ``theta``."""
        layer = self.layer
        v = layer.weights(self.theta)[0]
        force = multipliers[:, :, None]
        slopes = force * layer.of_active(self._active)
        parts = {
            "v": lambda: (force * self._active).sum(axis=-1),
            "w": lambda: v * (self._z * slopes).sum(axis=-1),
            "c": lambda: v * slopes.sum(axis=-1),
        }
        return np.stack([np.broadcast_to(parts[name](), self.theta.shape[:3]) for name in layer.trained], axis=-1)


class DeepCharacteristics:
    """The laws of all layers at τ = 0 as points with constant weights, all on rank 0.

    Attributes:
        network, labels: what moves, and the labels that its laws are given on.
        model: the network as a `MeanField`: moments are predictions.
        samples: one data point at a time, or None.
    """

    name = label = "characteristics"

    def __init__(
        self,
        network: DeepNetwork,
        labels: Labels,
        laws: Sequence[Product],
        *,
        nodes: Sequence[int],
        tolerance: float = 1e-10,
        samples: Samples | None = None,
        coarser: Sequence[DeepCharacteristics] = (),
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Take the quadrature nodes of the initial laws. Collective.

        Args:
            network: a network at temperature 0.
            labels: of the first and last weights; labels of share 0 are carried along and tell the law conditioned on them.
            laws: of the trained weights of each layer at t = 0, independent of the labels.
            nodes: quadrature nodes in each of ``network.coordinates``, ≥ 1; a layer uses those of the weights it trains.
            tolerance: relative tolerance of one time step, in (0, 1e-2]; at least 1e-6 where units have kinks.
            samples: one data point at a time by steps of Euler's method, instead of the flow.
            coarser: the same with fewer nodes, one for each of `mvpde.particles.accuracy.nodes.PARTS`, to tell the error.
            comm: rank 0 of it does the work; all ranks get the answers.

        Raises:
            ArgumentError: a network at τ > 0, or an argument outside its range.
        """
        _check(network, laws, nodes, tolerance)
        self.network, self.labels, self.model, self.comm = network, labels, network.mean_field(), comm
        self.samples, self._a, self._b = samples, labels.a.copy(), labels.b.copy()
        self._layers = []
        for number, (layer, law) in enumerate(zip(network.layers, laws, strict=True)):
            theta, weights = law.quadrature([nodes[k] for k in network.columns(layer)])
            shape = (*labels.shape(number + 1, network.depth), *theta.shape)
            self._layers.append(LayerNodes(layer, np.broadcast_to(theta, shape).copy(), weights))
        ends = [self._a, self._b] if network.train_ends else []
        self._carried = Carried([*(nodes.theta for nodes in self._layers), *ends], tolerance, network.kinked, comm)
        self._count = sum(nodes.theta[..., 0].size for nodes in self._layers)
        self._coarser = CoarserNodes(coarser)

    @property
    def time(self) -> float:
        """t."""
        return self._carried.time

    @property
    def step(self) -> float:
        """Length of the integrator's last step, 0 before the first."""
        return self._carried.step

    @property
    def listed(self) -> tuple[str, ...]:
        """The dissipation, and the errors where they are told. Local: one rank alone writes what is listed."""
        return ("dissipation", *self._coarser.listed(self.model))

    def loosen(self, factor: float) -> None:
        """Integrate with so many times the tolerance. Local."""
        self._carried.tolerance *= factor

    # -- motion

    def _swept(self, pull: Callable[[Array], Array]) -> Sweep:
        return sweep(self.network, self.labels, self._a, self._b, lambda layer, z: self._layers[layer - 1].means(z), pull)

    def _rates(self, pull: Callable[[Array], Array]) -> list[Array]:
        """Velocities of everything that moves, in the order of what is carried."""
        swept = self._swept(pull)
        rates = [nodes.velocity(m) for nodes, m in zip(self._layers, swept.multipliers, strict=True)]
        return rates + (list(end_rates(self.network, swept, self._a)) if self.network.train_ends else [])

    def _euler(self, samples: Samples, t: float) -> Gone:
        """Carry everything on rank 0 to time t by one step of Euler's method for each sample."""
        numbers, carried = samples.between(self.time, t), self._carried
        for number in numbers:
            rates = self._rates(samples.pull(self.network, number))
            for part, rate in zip(carried.parts, rates, strict=True):
                part += samples.step * rate.reshape(part.shape)
        return samples.step, len(numbers), len(numbers)

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the nodes to time t with scipy's DOP853; ``between_steps`` is not called. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number; or no whole number of samples.
            SolverError, InvariantError: on all ranks, the latter for nodes that grew a thousandfold; the nodes and the time stay
                what they were.
        """
        samples, carried = self.samples, self._carried
        if samples is None:
            carried.advance(t, lambda: carried.integrate(lambda: self._rates(self.network.pull), t))
        else:
            carried.advance(t, lambda: self._euler(samples, t))
        self._coarser.advance(t)

    # -- what it says

    def swept(self) -> Sweep:
        """Inputs, multipliers and prediction as they are now, the same on all ranks. Collective."""
        return on_first_rank(self.comm, lambda: self._swept(self.network.pull))

    def moments(self) -> Array:
        """Predictions ŷ(x_p), shape (1, P). Collective."""
        return self.network.predictions(self.swept().before)[None]

    def losses(self) -> Array:
        """E, shape (1,). Collective."""
        return np.asarray(self.network.energy(self.moments()))

    def ends(self) -> tuple[Array, Array]:
        """First and last weights of the labels, shapes (A, q) and (B,); they differ from the labels where ends are trained."""
        return on_first_rank(self.comm, lambda: (self._a.copy(), self._b.copy()))

    def conditional(self, power: int = 1) -> list[Array]:
        """E[θ^power | λ] of each layer, shapes (A or 1, B or 1, D). Collective."""
        return on_first_rank(self.comm, lambda: self._conditional(power))

    def _conditional(self, power: int) -> list[Array]:
        return [np.einsum("m,abmd->abd", nodes.weights, nodes.theta**power) for nodes in self._layers]

    def dissipation(self) -> float:
        """−dE/dt = Σ_ℓ E∫|∂_θV^ℓ|² dρ^ℓ, and E|Ȧ|² + E Ḃ² with trained ends. Collective."""
        return on_first_rank(self.comm, self._dissipation)

    def _dissipation(self) -> float:
        rates = self._rates(self.network.pull)
        total = 0.0
        for number, nodes in enumerate(self._layers):
            shares = self.labels.shares(number + 1, self.network.depth)
            total += float(np.einsum("ab,m,abmd->", shares, nodes.weights, rates[number] ** 2))
        for of_label, rate in zip((self.labels.of_a, self.labels.of_b), rates[len(self._layers) :], strict=False):
            total += float(np.sum(of_label @ rate.reshape(len(rate), -1) ** 2))
        return total

    def _points(self) -> Cloud:
        """All nodes of all layers as points of the network's coordinates, each layer with the same mass; on rank 0."""
        points, weights = [], []
        for number, nodes in enumerate(self._layers):
            shares = self.labels.shares(number + 1, self.network.depth)
            points.append(self.network.embedded(nodes.layer, nodes.theta).reshape(-1, len(self.network.coordinates)))
            weights.append((shares[:, :, None] * nodes.weights).ravel() / len(self._layers))
        return np.concatenate(points), np.concatenate(weights)

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """∫f over the weights of all layers together, shape (1,), for f: (N, D) → (N,). Collective."""

        def mean() -> Array:
            points, weights = self._points()
            return np.array([weights @ f(points)])

        return on_first_rank(self.comm, mean)

    def cloud(self) -> Cloud | None:
        """The weights of all layers together on rank 0, None elsewhere."""
        return self._points() if self.comm.rank == 0 else None

    def numbers(self) -> dict[str, float]:
        """Steps taken, the dissipation, and the errors of quadrature and integrator. Collective."""
        return {"steps": self._carried.steps, "dissipation": self.dissipation(), **self._coarser.errors(self)}

    def statistics(self) -> dict[str, Number]:
        """Number of nodes, steps taken, evaluations of the velocity, the last step and the tolerance."""
        return self._carried.statistics(self._count)

    def arrays(self) -> dict[str, Array]:
        """Predictions, inputs of the layers, means, variances and covariances with the labels; see `statistics`. Collective."""
        network, labels = self.network, self.labels
        known = sweep_arrays(network, labels, self.swept())
        known |= layer_arrays(network, labels, self.conditional(1), self.conditional(2))
        return known | (ends_mean(labels, *self.ends()) if network.train_ends else {})

    # -- checkpoints

    fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, nodes, ends, last step and counts on rank 0, else None: enough to continue bit for bit."""
        coarser, state = self._coarser.state(), self._carried.state()
        return None if state is None else {**state, **coarser}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many nodes, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of another network or of other nodes.
        """
        self._carried.restore(state, f"these {self._count} nodes of {len(self._layers)} layers")
        self._coarser.restore(state, self.comm)


def _check(network: DeepNetwork, laws: Sequence[Product], nodes: Sequence[int], tolerance: float) -> None:
    """Refuse what has no characteristics, or arguments outside their range."""
    if network.temperature > 0.0:
        raise ArgumentError(
            "model", f"characteristics exist at zero temperature only, and its temperature is {network.temperature:g}"
        )
    if [law.dimension for law in laws] != [layer.dimension for layer in network.layers]:
        raise ArgumentError("laws", f"give one law of the trained weights for each of the {len(network.layers)} layers")
    names, given = network.coordinates, list(nodes)
    if len(given) != len(names) or not all(whole(count) and count > 0 for count in given):
        raise ArgumentError("nodes", f"must be {len(names)} positive integers, one for each of {', '.join(names)}, not {given}")
    if not 0.0 < tolerance <= 1e-2:
        raise ArgumentError("tolerance", f"must lie in (0, 0.01], not {tolerance!r}")
