"""The law as a finite-element density: P1 nodal values with lumped mass on the edge graph of a mesh."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from mvpde.density.features import free_energy, nodal_features
from mvpde.density.resolution import cells_per_deviation, natural_ends, negative_share, outer_mass, walls
from mvpde.density.schemes import SCHEMES, DensityScheme, Options, OrderInTime, SolverOptions, Steps
from mvpde.density.starts.projection import project
from mvpde.density.walls.drain import drain
from mvpde.density.walls.survival import survivors
from mvpde.measure import Cloud, Mesh, Number, State, no_arrays, nothing, require_ahead
from mvpde.mesh.domain import Domain
from mvpde.models.laws import Law, check_law
from mvpde.models.mean_field import MeanField
from mvpde.runtime import MPI, ArgumentError, InvariantError, entry

Array = NDArray[np.float64]

MASS_TOLERANCE = 1e-9  # a larger relative defect means the scheme is not the one documented


@dataclass(frozen=True)
class Counts:
    """What schemes count: see `ImplicitSteps`."""

    limited_steps: int = 0
    rejected_steps: int = 0
    iterations: int = 0

    def plus(self, scheme: Steps) -> Counts:
        """These and the scheme's."""
        return Counts(
            self.limited_steps + scheme.limited_steps,
            self.rejected_steps + scheme.rejected_steps,
            self.iterations + scheme.iterations,
        )


class Density:
    """ρ_t solving ∂_tρ = ∇·(ρ∇V(·; m[ρ]) + τ∇ρ) without flux through the walls, from a product law.

    A model with a drift or a diffusion tensor of its own solves ∂_tρ = ∇·(−bρ + ∇·(Aρ)) instead. With a metric, gradients,
    divergence and ρ itself are those of its volume, which is in m_i.

    Integrals use the lumped mass: ∫hρ ≈ Σ_i m_i h(z_i) ρ_i, with which mass and free energy of the scheme are exact laws. The
    start is ρ_i = (1/m_i)∫ρ_0 φ_i, which keeps the mass and the first moments of ρ_0 even where it jumps.

    Attributes:
        model, domain: what is solved, with the coefficients of the present time, and where.
        time: t.
        outflow: mass that went through each absorbing wall so far, shape (walls,).
        values: ρ at owned and ghost unknowns, local to the rank.
        lengths: of the steps taken since the start of the last `advance`.
        schemes, leading: that of each model that ruled so far, by its id; and those of another density, to be taken instead.
    """

    name = label = "density"

    def __init__(
        self,
        model: MeanField,
        domain: Domain,
        law: Law,
        *,
        scheme: str = "auto",
        cfl: float = 0.8,
        tolerance: float = 1e-5,
        step: float | None = None,
        solver: SolverOptions | None = None,
        order_in_time: OrderInTime = "auto",
    ) -> None:
        """Project ``law`` on ``domain``. Collective.

        Args:
            model: with as many coordinates as the domain has dimensions.
            domain: see `mvpde.mesh.domain`.
            law: ρ_0, a `Product`, also in one dimension.
            scheme: a name in `mvpde.SCHEMES`.
            cfl: part of the largest positive explicit step, in (0, 1].
            tolerance: bound on the local error of an implicit step, in L¹, > 0.
            step: longest explicit step, or the fixed implicit step without error control; > 0.
            solver: PETSc's options for the linear systems of implicit steps, by name, such as {"pc_type": "gamg"}; see
                `mvpde.density.systems`.
            order_in_time: of implicit steps, 2 or 4; "auto": the one that is faster.

        Raises:
            ArgumentError: an option outside its range, or of no use to PETSc; dimensions, periods or metrics that differ;
            a scheme that does not suit the model or its temperature; a mesh that does not hold ``law`` to 1 %.
            ValueError: A is no diffusion tensor; a law of one coordinate that is no `Product`.
        """
        _check_spaces(model, domain, law)
        self._entry, self._options = _chosen(scheme, model), Options(cfl, tolerance, step, solver or {}, order_in_time)
        _check(self._options)
        self.domain, self.time = domain, 0.0
        self._ruling = nodal_features(model, domain.coordinates, domain.comm, domain)
        self._see()
        self._drain = drain(domain, model)
        self.values, self.mass_inside = project(domain, model, law)
        if self._drain is not None:
            self.values = self._drain.start(self.values)
        self._mass, at_start = self.mass(), self.moments()[0]
        self._walls, self._ends = walls(domain, model, at_start), natural_ends(domain, model, at_start)
        self.schemes, self.leading = dict[int, str](), dict[int, str]()
        self._scheme = self._built()
        self._first, self._past = model, Counts()
        self.steps, self.step, self.mass_defect, self._seconds = 0, 0.0, 0.0, 0.0
        self.lengths: list[float] = []
        self.outflow = np.zeros(0) if self._drain is None else self._drain.taken(self.values)
        smallest, largest = domain.extremes(self.values[: domain.owned])
        self.minimum = smallest / largest

    @property
    def comm(self) -> MPI.Intracomm:
        """The ranks that share the mesh."""
        return self.domain.comm

    @property
    def scheme(self) -> str:
        """Name of the scheme at work: "flux_corrected", "edge_averaged" or "galerkin"."""
        return self._scheme.name

    @property
    def listed(self) -> tuple[str, ...]:
        """What else is a list over the output times."""
        return ("free_energy", "outer_mass", *(() if self._drain is None else self._drain.listed))

    @property
    def options(self) -> Options:
        """What was chosen about its steps."""
        return self._options

    @property
    def still(self) -> bool:
        """Whether the coefficients of the present stretch of time do not depend on time."""
        return self._ruling.model.moving is None

    def advance(self, t: float, /, between_steps: Callable[[], None] = nothing, *, led: bool = False) -> None:
        """Solve up to t ≥ time, hit exactly; ``between_steps`` is called after each step. Collective.

        ``led``: in one step whatever its error, but for times at which the model changes; see `Steps.exactly`.

        Raises:
            SolverError: no convergence, InvariantError: not a number or mass lost; on all ranks alike, with the last good state
            kept.
        """
        require_ahead("a density", self.time, t)
        self.lengths = []
        for until, model in self._first.stretches(self.time, t):
            self._follow(model)
            self._advance(until, between_steps, led)

    def _follow(self, model: MeanField) -> None:
        """Let ``model`` rule from now on. Collective."""
        if model is self._ruling.model:
            return
        self._ruling = self._ruling.of(model)
        self._see()
        self._past = self._past.plus(self._scheme)
        self._scheme = self._built()

    def _built(self) -> Steps:
        """The scheme at work from now on. Collective."""
        name = self.leading.get(id(self._ruling.model), "")
        scheme = SCHEMES.get(name, self._entry).build(self.domain, self._ruling, self.values, self._options)
        self.schemes[id(self._ruling.model)] = scheme.name
        return scheme

    def twin(self) -> Density:
        """Another one of this law, now and on this mesh, that takes steps of its own. Collective."""
        other = copy.copy(self)
        other._scheme = self._built()
        return other

    def _see(self) -> None:
        """Take the coefficients of the present time."""
        self.features = self._ruling.at(self.time)
        self.model = self.features.model

    def _advance(self, end: float, between_steps: Callable[[], None], led: bool) -> None:
        while self.time < end:
            began, left = time.perf_counter(), end - self.time
            self._scheme.time = self.time
            values, length = (self._scheme.exactly(self.values, left), left) if led else self._scheme.step(self.values, left)
            self._seconds += time.perf_counter() - began
            self._accept(values)
            self.time = end if length >= left else self.time + length
            self._see()
            self.steps, self.step = self.steps + 1, length
            self.lengths.append(length)
            between_steps()

    def _accept(self, values: Array) -> None:
        owned, lost = values[: self.domain.owned], self.outflow
        if self._drain is not None:
            lost = lost + self._drain.taken(values)
        mass = float(self.domain.sum(np.array([self.domain.graph.lumped @ owned]))[0] + lost.sum())
        smallest, largest = self.domain.extremes(owned)
        if not np.isfinite(mass):
            raise InvariantError(
                f"density: not a number after t = {self.time:g}; the drift is not finite there: "
                "check the data and the domain's size"
            )
        self.mass_defect = max(self.mass_defect, abs(mass - self._mass) / self._mass)
        if self.mass_defect > MASS_TOLERANCE:
            raise InvariantError(f"density: mass changed by {self.mass_defect:.1e} of itself after t = {self.time:g}")
        self.minimum = min(self.minimum, smallest / largest)
        self.values, self.outflow = values, lost

    def mass(self) -> float:
        """Σ_i m_i ρ_i. Collective."""
        return float(self.domain.sum(np.array([self.domain.graph.lumped @ self.values[: self.domain.owned]]))[0])

    def moments(self) -> Array:
        """m = ∫g dρ, shape (1, K), the same on all ranks. Collective."""
        return self.features.moments(self._nodal_masses())[None, :]

    def expectation(self, function: Callable[[Array], Array]) -> Array:
        """∫h dρ, shape (1,), for h: (N, D) → (N,). Collective."""
        return self.domain.sum(np.array([self._nodal_masses() @ function(self.domain.coordinates[: self.domain.owned])]))

    def losses(self) -> Array:
        """R(m), shape (1,). Collective."""
        return np.asarray(self.model.outer_energy(self.moments()))

    def potential(self) -> Array:
        """V(·; m[ρ]) at owned and ghost unknowns (local). Collective."""
        result = np.empty(len(self.values))
        self.features.potential(self.moments()[0], result)
        return result

    def free_energy(self) -> float | None:
        """𝓕 = R(m) + ∫V0 dρ + τ∫ρ log ρ, None for a model that is no gradient flow. Collective."""
        if not self.model.gradient_flow:
            return None
        return free_energy(self.domain, self.features, self.values[: self.domain.owned])

    def outer_mass(self) -> float:
        """Share of the mass in the outer layer of cells along the walls: a domain too small shows here. Collective."""
        return outer_mass(self.domain, self.values, self.model, self.moments()[0])

    def cloud(self) -> Cloud | None:
        """Unknowns' positions (N, D) and masses (N,) on rank 0, None elsewhere: the law as a weighted point cloud. Collective."""
        comm, owned = self.domain.comm, self.domain.owned
        points, masses = comm.gather(self.domain.coordinates[:owned]), comm.gather(self._nodal_masses())
        return None if points is None or masses is None else (np.concatenate(points), np.concatenate(masses))

    def numbers(self) -> dict[str, float]:
        """Free energy of a gradient flow, what tells of mesh and walls, worst mass defect and smallest value so far, steps.
        Collective.
        """
        energy = self.free_energy()
        known = {} if energy is None else {"free_energy": energy}
        kept = {"mass_defect": self.mass_defect, "minimum": self.minimum, "steps": self.steps}
        walls = self._drain
        left = {} if walls is None else survivors(walls, self.features, self.values, self.moments()[0], self.time)
        return {**known, "outer_mass": self.outer_mass(), **self._resolution(), **left, **kept}

    def _resolution(self) -> dict[str, float]:
        """See `mvpde.density.resolution`. Collective."""
        return {
            "wall_mass": self._walls.mass(self.values),
            "outward_flux": self._walls.flux(self.values, self.model, self.moments()[0]),
            "cells_per_deviation": cells_per_deviation(self.domain, self.values, self.model, self._ends),
            "negative_share": negative_share(self.domain, self.values),
        }

    def statistics(self) -> dict[str, Number]:
        """Scheme, sizes, steps, and what went on in them. Collective."""
        graph, counts = self.domain.graph, self._past.plus(self._scheme)
        return {
            **self._of_labels(),
            "scheme": self.scheme,
            "nodes": self.domain.nodes,
            "steps": self.steps,
            "stages": self._scheme.stages,
            "mass_defect": self.mass_defect,
            "minimum": self.minimum,
            "mass_inside": self.mass_inside,
            "feature_rank": self.features.rank,
            "negative_edges": int(self.domain.comm.allreduce(int(np.sum(graph.stiffness < 0.0)))) // 2,
            "limited_steps": counts.limited_steps,
            "limiter_share": self._scheme.limiter_share,
            "rejected_steps": counts.rejected_steps,
            "solver_iterations": counts.iterations,
            "node_updates_per_second": self.domain.nodes * self._scheme.stages * self.steps / (self._seconds or math.inf),
        }

    def _of_labels(self) -> dict[str, Number]:
        """How many labels there are, and the largest relative change of the mass of one since the start."""
        if not self.domain.parts:
            return {}
        defect = np.abs(self.domain.part_masses(self.values) / self.domain.weights - 1.0).max()
        return {"labels": len(self.domain.parts), "label_defect": float(defect)}

    # -- checkpoints

    arrays = no_arrays

    def mesh(self) -> Mesh | None:
        """The mesh on rank 0, None elsewhere. Collective."""
        return self.domain.mesh_arrays()

    def fields(self) -> dict[str, Array]:
        """ρ at the mesh points on rank 0, of a labelled law averaged over the labels. Collective."""
        values = self.domain.averaged(self.values)
        return {} if values is None else {"rho": values}

    def state(self) -> State | None:
        """Nodal values in mesh-input order, time, next step and counts on rank 0, None elsewhere. Collective.

        Enough to continue bit for bit with explicit steps, and within the tolerance of the linear solver with implicit ones.
        """
        values, counts = self.domain.to_mesh(self.values[: self.domain.owned]), self._past.plus(self._scheme)
        if values is None:
            return None
        return {
            "time": np.float64(self.time),
            "values": values,
            "steps": np.int64(self.steps),
            "step": np.float64(self.step),
            "proposal": np.float64(self._scheme.proposal if math.isfinite(self._scheme.proposal) else 0.0),
            "extremes": np.array([self._mass, self.mass_defect, self.minimum]),
            "outflow": self.outflow,
            "counts": np.array(astuple(counts), np.int64),
        }

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of a density on the same mesh, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when it is that of another mesh.
        """
        state = self.domain.comm.bcast(state)
        if state is None or np.size(state.get("values", np.empty(0))) != self.domain.points:
            raise ValueError(f"the checkpoint is none of a density on this mesh of {self.domain.points} points")
        self.time, self.steps, self.step = float(state["time"]), int(state["steps"]), float(state["step"])
        self._follow(self._first.ruling(self.time))
        self._see()
        self.values = self.domain.from_mesh(np.asarray(state["values"], float))
        self._mass, self.mass_defect, self.minimum = map(float, np.asarray(state["extremes"]))
        self.outflow = np.asarray(state.get("outflow", self.outflow), float)
        self._scheme = self._built()
        self._scheme.proposal = float(state["proposal"]) or math.inf
        self._past = Counts(*map(int, np.asarray(state["counts"])))

    def _nodal_masses(self) -> Array:
        return self.domain.graph.lumped * self.values[: self.domain.owned]


def _check_spaces(model: MeanField, domain: Domain, law: Law) -> None:
    """Refuse a mesh or law of other coordinates than the model's."""
    check_law(law)
    labels = domain.labels.shape[1]
    if not model.dimension == domain.dimension + labels == law.dimension:
        raise ArgumentError(
            "domain",
            f"the mesh has {domain.dimension} directions, the model {model.dimension} coordinates "
            f"({', '.join(model.coordinates)}), the initial law {law.dimension}",
        )
    if labels != model.frozen:
        still = ", ".join(model.coordinates[len(model.directions) :])
        text = f"has no label for each of the frozen coordinates ({still}); give a `union` of one mesh for each label"
        raise ArgumentError("domain", text)
    for name, period, length in zip(model.coordinates, model.periods, domain.periods, strict=False):
        if (period is None) != (length is None):
            said, wanted = ("no period", "not be") if period is None else (f"the period {period:g}", "be")
            raise ArgumentError("domain", f"the model's coordinate {name} has {said}, so the mesh must {wanted} periodic there")
        if period is not None and length is not None and not math.isclose(period, length, rel_tol=1e-9):
            raise ArgumentError("domain", f"the coordinate {name} has the period {period:g}; the mesh is {length:g} long there")
    if model.metric != domain.metric:
        raise ArgumentError("domain", f"the mesh has the metric {domain.metric}, the model {model.metric}; they must be the same")


def _chosen(scheme: str, model: MeanField) -> DensityScheme:
    """The scheme of that name, if it can solve the model."""
    chosen = entry(SCHEMES, scheme, "scheme")
    if (reason := chosen.refuses(model)) is not None:
        raise ArgumentError("scheme", reason)
    return chosen


def _check(options: Options) -> None:
    if not 0.0 < options.cfl <= 1.0:
        raise ArgumentError("cfl", f"must lie in (0, 1], not {options.cfl!r}")
    if not options.tolerance > 0.0:
        raise ArgumentError("tolerance", f"must be positive, not {options.tolerance!r}")
    if not (options.step is None or options.step > 0.0):
        raise ArgumentError("step", f"must be positive, not {options.step!r}")
    if options.order_in_time not in ("auto", 2, 4):
        raise ArgumentError("order_in_time", f'must be "auto", 2 or 4, not {options.order_in_time!r}')
