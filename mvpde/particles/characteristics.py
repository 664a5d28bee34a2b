"""The measure made of weighted quadrature nodes that the flow carries: spectrally accurate at τ = 0.

    Ż_i = b(Z_i; m, t),    m = Σ_i w_i g(Z_i),    Σ_i w_i = 1

with (Z_i(0), w_i) a quadrature of the initial law and b = −∇V for a gradient flow. Without noise the law at time t is the image
of ρ_0 under this flow (Rotskoff & Vanden-Eijnden, arXiv:1805.00915), so the only errors are those of the quadrature of a smooth
function and of an eighth-order integrator with error control: the truth that the other measures are held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mvpde.runtime import MPI, ArgumentError, InvariantError, SolverError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from scipy.integrate import DOP853

from mvpde.measure import Cloud, Number, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.laws import Law, check_law
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.accuracy.growth import Extent, unbounded
from mvpde.particles.accuracy.nodes import PARTS, CoarserNodes, fewer
from mvpde.particles.blocks import in_pieces, rows_in_cache, whole, wrap


def weighted_moments(model: MeanField, z: Array, weights: Array, rows: int) -> Array:
    """Σ_i w_i g(z_i), shape (K,), from z, shape (N, D), and w, shape (N,), ``rows`` rows at a time."""
    d = model.profile_dimension
    weighted = np.column_stack([z[:, :d], weights * model.amplitude(z)])
    return np.asarray(sum(in_pieces(lambda piece: piece[:, d] @ model.profile(piece[:, :d]), weighted, rows)))


def integrated(
    velocity: Callable[[float, Array], Array], start: Array, time: float, t: float, *, step: float, tolerance: float
) -> tuple[DOP853, int]:
    """scipy's DOP853 where it has come from ``start`` at ``time`` to t, and the number of its steps.

    Args:
        velocity: (time, nodes as one array) → dnodes/dt.
        start: nodes as one array.
        time, t: from and to; t > time.
        step: length of the first step to try; 0: chosen.
        tolerance: relative error of one step.

    Raises:
        SolverError: a velocity that is not finite, or an integrator that stops on the way.
    """
    if not np.isfinite(velocity(time, start)).all():  # the integrator would never return
        raise SolverError(f"characteristics: the velocity at t = {time:g} is not finite; check the model and its data")
    # atol: a node near the origin counts against the spread of the whole cloud, not against itself.
    absolute = tolerance * max(float(np.sqrt(np.mean(start**2))), np.finfo(float).tiny)
    solver = DOP853(velocity, time, start, t, rtol=tolerance, atol=absolute, first_step=min(step, t - time) or None)
    steps = 0
    while solver.status == "running":
        message = solver.step()
        steps += 1
    if solver.status == "failed":
        raise SolverError(
            f"characteristics: the integrator stopped at t = {solver.t:g} on the way to {t:g} ({message}); the nodes at "
            f"t = {time:g} are kept. The flow blows up, or characteristics.tolerance = {tolerance:g} is too small."
        )
    return solver, steps


class Characteristics:
    """The law without noise as N = Π nodes points with constant weights, all on rank 0.

    Attributes:
        time: t.
        step: length of the integrator's last step, 0 before the first.
    """

    name = label = "characteristics"

    def __init__(
        self,
        model: MeanField,
        law: Law,
        *,
        nodes: Sequence[int],
        tolerance: float = 1e-10,
        companions: bool = True,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Take the quadrature nodes of the initial law. Collective.

        Args:
            model: a model without noise: A = 0, temperature 0.
            law: law of one particle at t = 0.
            nodes: number of quadrature nodes in each of the D directions, ≥ 1.
            tolerance: relative tolerance of one time step, in (0, 1e-2].
            companions: whether half and a quarter of the nodes in each direction are carried along, with a looser tolerance, to
                tell the error.
            comm: rank 0 of it does the work; all ranks get the answers.

        Raises:
            ArgumentError: a model with noise, or an argument outside its range. ValueError: a law of one
                coordinate.
        """
        _check(model, law, nodes, tolerance)
        self.model, self.comm, self.tolerance, self.time = model, comm, tolerance, 0.0
        self._first = self._ruling = model
        self.step = 0.0
        self._rows = rows_in_cache(model)
        self._steps, self._evaluations, self._count = 0, 0, math.prod(nodes)
        self._moments: Array | None = None
        # Empty on the other ranks, so that no array here depends on more than rank 0.
        self._z, self._weights = law.quadrature(nodes) if comm.rank == 0 else (np.empty((0, model.dimension)), np.empty(0))
        self._extent = on_first_rank(comm, self._started)
        parts = [fewer(nodes, part) for part in PARTS] if companions and math.prod(nodes) > 1 else []
        made = (Characteristics(model, law, nodes=part, tolerance=tolerance, companions=False, comm=comm) for part in parts)
        self._coarser = CoarserNodes(list(made))

    @property
    def listed(self) -> tuple[str, ...]:
        """The errors. Local: one rank alone writes what is listed."""
        return self._coarser.listed(self.model)

    def loosen(self, factor: float) -> None:
        """Integrate with so many times the tolerance. Local."""
        self.tolerance *= factor

    def _velocity(self, t: float, flat: Array) -> Array:
        z, model = flat.reshape(self._z.shape), self._ruling.now(t)
        m = weighted_moments(model, z, self._weights, self._rows) if model.interacting else np.zeros(model.features)
        return np.concatenate(in_pieces(lambda piece: model.drift(piece, m), z, self._rows)).ravel()

    def _started(self) -> Extent:
        """How far the nodes of rank 0 are at the start, and how fast."""
        axes = unbounded(self.model)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            b = self._velocity(0.0, self._z.ravel()).reshape(self._z.shape)
        return Extent(*(float(np.abs(x[:, axes]).max(initial=0.0)) for x in (self._z, b)))

    def _integrate(self, t: float) -> tuple[float, int, int]:
        """Carry the nodes of rank 0 to time t; the last step, and the numbers of steps and of evaluations it took."""
        solver, steps = integrated(self._velocity, self._z.ravel(), self.time, t, step=self.step, tolerance=self.tolerance)
        z = solver.y.reshape(self._z.shape)
        grown = float(np.abs(z[:, unbounded(self.model)]).max(initial=0.0))
        if grown > self._extent.bound(t):
            raise InvariantError(
                f"characteristics: the nodes {self._extent.said(grown)} between t = {self.time:g} and t = {t:g}; the nodes at "
                f"t = {self.time:g} are kept. Choose an earlier end, or a model that confines them."
            )
        self._z = z
        return float(solver.h_abs), steps, solver.nfev

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the nodes to time t with scipy's DOP853; ``between_steps`` is not called. Collective.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            SolverError, InvariantError: on all ranks, the latter for nodes that grew a thousandfold; the nodes and the time stay
                what they were.
        """
        require_ahead("characteristics", self.time, t)
        if t == self.time:
            return
        for until, model in self._first.stretches(self.time, t):
            self._ruling = model
            self._advance(until)
        self.model = self._ruling.now(t)
        self._coarser.advance(t)

    def _advance(self, t: float) -> None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a trial step too far is rejected by the integrator
            self.step, steps, evaluations = on_first_rank(self.comm, lambda: self._integrate(t))
        self.time, self._moments = t, None
        self._steps += steps
        self._evaluations += evaluations

    def moments(self) -> Array:
        """m = Σ_i w_i g(Z_i), shape (1, K), the same bits on every rank. Collective."""
        if self._moments is None:
            m = on_first_rank(self.comm, lambda: weighted_moments(self.model, self._z, self._weights, self._rows))
            self._moments = m[None]
        return self._moments.copy()

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """Σ_i w_i f(Z_i), shape (1,), for f: (N, D) → (N,). Collective."""
        return on_first_rank(self.comm, lambda: np.array([self._weights @ np.concatenate(in_pieces(f, self._z, self._rows))]))

    def losses(self) -> Array:
        """R(m), shape (1,). Collective."""
        return np.asarray(self.model.outer_energy(self.moments()))

    def cloud(self) -> Cloud | None:
        """Nodes (N, D) and weights (N,) on rank 0, else None; periodic coordinates lie in [0, period)."""
        return (wrap(self._z, self.model.periods), self._weights.copy()) if self.comm.rank == 0 else None

    def numbers(self) -> dict[str, float]:
        """Steps taken, and the errors of quadrature and integrator. Collective."""
        return {"steps": self._steps, **self._coarser.errors(self)}

    def statistics(self) -> dict[str, Number]:
        """Number of nodes, steps taken, evaluations of the velocity, the last step and the tolerance."""
        return {
            "nodes": self._count,
            "steps": self._steps,
            "evaluations": self._evaluations,
            "step": self.step,
            "tolerance": self.tolerance,
        }

    # -- checkpoints

    arrays = fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, nodes (N, D), last step and counts on rank 0, else None: enough to continue bit for bit."""
        coarser = self._coarser.state()
        if self.comm.rank > 0:
            return None
        counts = np.array([self._steps, self._evaluations], np.int64)
        times = {"time": np.float64(self.time), "step": np.float64(self.step)}
        return {**times, "nodes": self._z.copy(), "counts": counts, **coarser}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of as many nodes, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of nodes or coordinates differ.
        """

        def received() -> tuple[float, float, list[int]]:
            if state is None or np.shape(state.get("nodes", np.empty(0))) != self._z.shape:
                raise ValueError(f"the checkpoint is none of {self._z.shape[0]} nodes of {self._z.shape[1]} coordinates")
            self._z = np.array(state["nodes"], float)
            return float(state["time"]), float(state["step"]), [int(count) for count in np.asarray(state["counts"])]

        self.time, self.step, (self._steps, self._evaluations) = on_first_rank(self.comm, received)
        self._coarser.restore(state, self.comm)
        self._moments, self._ruling = None, self._first.ruling(self.time)
        self.model = self._ruling.now(self.time)


def _check(model: MeanField, law: Law, nodes: Sequence[int], tolerance: float) -> None:
    """Refuse what has no characteristics, or arguments outside their range."""
    if model.ever_hot:
        hottest = max(model.temperatures)
        raise ArgumentError("model", f"characteristics exist at zero temperature only, and its temperature is {hottest:g}")
    if not model.deterministic:
        raise ArgumentError("model", "characteristics follow a flow without noise, and this model has a diffusion of its own")
    check_law(law)
    given: list[int] = list(nodes) if np.ndim(nodes) == 1 else []
    positive = all(whole(count) and count > 0 for count in given)
    if not positive or not len(given) == law.dimension == model.dimension:
        raise ArgumentError(
            "nodes",
            f"must be {model.dimension} positive integers, one for each of {', '.join(model.coordinates)}; "
            f"got {given or nodes} and an initial law of {law.dimension} coordinates",
        )
    if not 0.0 < tolerance <= 1e-2:
        raise ArgumentError("tolerance", f"must lie in (0, 0.01], not {tolerance!r}")
