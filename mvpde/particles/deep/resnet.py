"""The mean-field limit of training a residual network, spectrally accurate: quadrature nodes of the law at every depth.

    θ̇ = Σ_p M_p(s) ∂_θf(X_p(s), θ)    for every node θ of the law at every label s,

with X and M of `mvpde.models.deep.resnet`. The weights of the nodes never change, so the only errors are those of the
quadratures in θ and s and of an integrator of order eight with error control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mvpde.runtime import MPI, ArgumentError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing
from mvpde.models.deep.activations import ACTIVATIONS, Array
from mvpde.models.deep.resnet import DepthRule, Passage, ResidualLimit, passage, told
from mvpde.models.laws import Product
from mvpde.particles.accuracy.nodes import CoarserNodes
from mvpde.particles.blocks import whole
from mvpde.particles.deep.carried import Carried
from mvpde.particles.deep.characteristics import LayerNodes


class ResidualCharacteristics:
    """ρ(s, dθ) at each of S depths as points with constant weights, all on rank 0.

    Attributes:
        limit, depths: what moves, and the labels that its laws are given on.
        model: the network as a `MeanField`: moments are predictions.
    """

    name = label = "characteristics"

    def __init__(
        self,
        limit: ResidualLimit,
        depths: DepthRule,
        law: Product,
        *,
        nodes: Sequence[int],
        tolerance: float = 1e-10,
        coarser: Sequence[ResidualCharacteristics] = (),
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Take the quadrature nodes of the initial law at every depth. Collective.

        Args:
            limit: the network.
            depths: labels s.
            law: of the trained weights at t = 0, the same at every depth.
            nodes: quadrature nodes in each trained weight, ≥ 1.
            tolerance: relative tolerance of one time step, in (0, 1e-2]; at least 1e-6 where the unit has a kink.
            coarser: the same with fewer nodes, one for each of `mvpde.particles.accuracy.nodes.PARTS`, to tell the error.
            comm: rank 0 of it does the work; all ranks get the answers.

        Raises:
            ArgumentError: an argument outside its range.
        """
        _check(limit, law, nodes, tolerance)
        self.limit, self.depths, self.model, self.comm = limit, depths, limit.mean_field(), comm
        theta, weights = law.quadrature(nodes)
        shape = (len(depths.nodes), 1, *theta.shape)
        self._nodes = LayerNodes(limit.unit, np.broadcast_to(theta, shape).copy(), weights)
        kinked = ACTIVATIONS[limit.unit.activation].kinked
        self._carried = Carried([self._nodes.theta], tolerance, kinked, comm)
        self._guess: Array | None = None
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

    def _means(self, x: Array) -> tuple[Array, Array]:
        value, slope = self._nodes.means(x[:, None])
        return value[:, 0], slope[:, 0]

    def _passed(self) -> Passage:
        passed = passage(self.limit, self.depths, self._means, self._guess)
        self._guess = passed.inputs
        return passed

    def _rates(self) -> list[Array]:
        return [self._nodes.velocity(self._passed().multipliers[:, None])]

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the nodes to time t with scipy's DOP853; ``between_steps`` is not called. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            SolverError, InvariantError: on all ranks, the latter for nodes that grew a thousandfold; the nodes and the time stay
                what they were.
        """
        self._carried.advance(t, lambda: self._carried.integrate(self._rates, t))
        self._coarser.advance(t)

    # -- what it says

    def passed(self) -> Passage:
        """Features and multipliers as they are now, the same on all ranks. Collective."""
        return on_first_rank(self.comm, self._passed)

    def moments(self) -> Array:
        """X(1, x_p), shape (1, P). Collective."""
        return self.passed().outputs[None]

    def losses(self) -> Array:
        """E, shape (1,). Collective."""
        return np.asarray(self.limit.energy(self.moments()))

    def conditional(self, power: int = 1) -> Array:
        """E[θ^power | s] at the labels, shape (S, D). Collective."""
        nodes = self._nodes
        return on_first_rank(self.comm, lambda: np.einsum("m,smd->sd", nodes.weights, nodes.theta[:, 0] ** power))

    def dissipation(self) -> float:
        """−dE/dt = ∫∫|∂_θV|² ρ(s, dθ)ds. Collective."""

        def total() -> float:
            rates = self._rates()[0][:, 0]
            return float(np.einsum("s,m,smd->", self.depths.weights, self._nodes.weights, rates**2))

        return on_first_rank(self.comm, total)

    def _points(self) -> Cloud:
        theta = self._nodes.theta
        return theta.reshape(-1, theta.shape[-1]), np.outer(self.depths.weights, self._nodes.weights).ravel()

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """∫∫f ρ(s, dθ)ds over all depths, shape (1,), for f: (N, D) → (N,). Collective."""

        def mean() -> Array:
            points, weights = self._points()
            return np.array([weights @ f(points)])

        return on_first_rank(self.comm, mean)

    def cloud(self) -> Cloud | None:
        """The weights of all depths together on rank 0, None elsewhere."""
        return self._points() if self.comm.rank == 0 else None

    def numbers(self) -> dict[str, float]:
        """Steps taken, the dissipation, and the errors of quadrature and integrator. Collective."""
        return {"steps": self._carried.steps, "dissipation": self.dissipation(), **self._coarser.errors(self)}

    def statistics(self) -> dict[str, Number]:
        """Number of nodes, steps taken, evaluations of the velocity, the last step and the tolerance."""
        return self._carried.statistics(len(self.depths.nodes) * len(self._nodes.weights))

    def arrays(self) -> dict[str, Array]:
        """Predictions, and at depths 0, ½ and 1 features, means and variances; see `told`. Collective."""
        return told(self.depths, self.passed(), self.conditional(1), self.conditional(2))

    # -- checkpoints

    fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, nodes, last step and counts on rank 0, else None: enough to continue to rounding."""
        coarser, state = self._coarser.state(), self._carried.state()
        return None if state is None else {**state, **coarser}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many nodes, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of other nodes.
        """
        self._carried.restore(state, f"nodes of the shape {self._nodes.theta.shape}")
        self._coarser.restore(state, self.comm)


def _check(limit: ResidualLimit, law: Product, nodes: Sequence[int], tolerance: float) -> None:
    """Refuse arguments outside their range."""
    names, given = limit.unit.trained, list(nodes)
    if law.dimension != len(names):
        raise ArgumentError("law", f"has {law.dimension} coordinates; give one for each of {', '.join(names)}")
    if len(given) != len(names) or not all(whole(count) and count > 0 for count in given):
        raise ArgumentError("nodes", f"must be {len(names)} positive integers, one for each of {', '.join(names)}, not {given}")
    if not 0.0 < tolerance <= 1e-2:
        raise ArgumentError("tolerance", f"must lie in (0, 0.01], not {tolerance!r}")
