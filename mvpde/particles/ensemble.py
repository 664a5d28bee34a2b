"""The measure made of particles: runs × particles × D, the same bits on any number of ranks.

    dZ_i = b(Z_i; m_n) dt + √(2A(Z_i; m_n)) dB_i,        m_n = n⁻¹ Σ_i g(Z_i)

in Itô form. For a gradient flow b = −∇V and A = τI (gradient descent and its noisy form: Rotskoff & Vanden-Eijnden,
arXiv:1805.00915; Mei, Montanari & Nguyen, arXiv:1804.06561); other models state b and A ⪰ 0, which may be degenerate.
How particles are cut into blocks that own random streams: `mvpde.particles.blocks`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from mvpde.runtime import MPI, ArgumentError, InvariantError, entry  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, State, no_arrays, no_mesh, nothing, require_ahead
from mvpde.models.laws import Sampler
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.walls.box import OPEN
from mvpde.particles.accuracy.growth import Extent, extent_of, largest, unbounded
from mvpde.particles.accuracy.halved import HalvedSteps, Step, halving_factor
from mvpde.particles.accuracy.slope import Slope, fitting, require_stable, slope_of
from mvpde.particles.accuracy.step_errors import recorded, step_errors
from mvpde.particles.blocks import Shares, check_sizes, in_pieces, loss_and_steps, rows_in_cache, size_and_speed, wrap
from mvpde.particles.noise import Normals, increment, require_diffusion
from mvpde.particles.schemes import PARTICLE_SCHEMES, Blocks, Flow
from mvpde.particles.walls.mirrors import longest_step, mirrors
from mvpde.particles.walls.survivors import absorbing, left_over, survival, weighted

LOOK = 64  # steps between two looks at the slope where the step is chosen
UPDATES = 1_000_000  # particle steps, a second or so, after which an ensemble lets others look at it


class Ensemble:
    """R independent runs of n interacting particles: the measure L_n = n⁻¹ Σ_i δ_{Z_i} of each run.

    Attributes:
        time: t.
        step: length of the last step taken; before the first, the length asked for.
    """

    name = label = "ensemble"

    def __init__(
        self,
        model: MeanField,
        law: Sampler,
        *,
        particles: int,
        runs: int = 1,
        seed: int = 0,
        step: float | str = 0.05,
        scheme: str = "heun",
        companion: bool = True,
        driven_by: Callable[[float], Array] | None = None,
        comm: MPI.Intracomm = MPI.COMM_WORLD,
    ) -> None:
        """Draw Z_i(0), independent from the law. Collective.

        Args:
            model: the model that moves the particles.
            law: law of one particle at t = 0.
            particles: n ≥ 1, in each run.
            runs: independent runs, ≥ 1.
            seed: ≥ 0; run r, block b draws from the stream (seed, r, b).
            step: longest time step, > 0; "auto": chosen by the slope of the drift, again and again, for an error of the step
                below that of sampling.
            scheme: a name in `mvpde.particles.schemes.PARTICLE_SCHEMES`: "heun", ….
            companion: whether copies of some particles tell the error of the step, for 15 % of the time.
            driven_by: t → m, shape (K,), the moments of another law that moves these particles instead of their own: with the
                moments of the limit ρ_t they are the coupled copies Z̄_i of the ensemble with the same seed and size, which
                has the same start and noise.
            comm: communicator over which the blocks are distributed.

        Raises:
            ArgumentError: an argument outside its range; a scheme that needs constant A for a model whose A varies.
            ValueError: an A that is no diffusion tensor at some particle of the start, on all ranks.
        """
        check_sizes(runs, seed, law, model.coordinates, particles)
        _check_steps(model, step, scheme)
        self.model, self.particles, self.runs, self.seed, self.comm = model, particles, runs, seed, comm
        self._first = self._ruling = model
        self.scheme, self.time = scheme, 0.0
        self._rows = rows_in_cache(model)
        self._steps, self._seconds = 0, 0.0
        self._moments: Array | None = None
        self._shares = Shares(runs, particles, comm)
        self._owned, self._streams = self._shares.owned, self._shares.streams(seed)
        self._z = self._shares.start(law, self._streams)
        self._driven_by, self._asked = driven_by, step
        self._weights = [np.ones(len(x)) for x in self._z] if absorbing(model) is not None else None
        self._flow = self._flow_at(None)
        if model.own_diffusion is not None:
            self._check_diffusion()
        self._increment = increment(model)
        way, watched = PARTICLE_SCHEMES[scheme], companion and driven_by is None
        self._halved = HalvedSteps(model, self._shares, way, seed, self._rows, self._z) if watched else None
        driving = self._driving(self._z, 0.0)
        self._extent = extent_of(model.now(0.0), self._z, [driving[run] for run, _ in self._owned], comm)
        self._axes = unbounded(model)
        self._slope: Slope | None = None
        self._longest_step = self._chosen() if isinstance(step, str) else step
        self.step = self._longest_step

    # -- what the schemes use

    def _velocity(self, z: Blocks, m: Array, t: float | None = None) -> Blocks:
        """b(z; m) at time t, by default at that of the particles."""
        model = self._ruling.now(self.time if t is None else t)
        return [self._block_velocity(model, x, m[run]) for x, (run, _) in zip(z, self._owned, strict=True)]

    def _tensors(self, z: Blocks, m: Array) -> Blocks:
        model = self._ruling.now(self.time)
        return [model.diffusion(x, m[run]) for x, (run, _) in zip(z, self._owned, strict=True)]

    def _block_velocity(self, model: MeanField, x: Array, m: Array) -> Array:
        return np.concatenate(in_pieces(lambda piece: model.drift(piece, m), x, self._rows))

    def _flow_at(self, t: float | None) -> Flow:
        walls = mirrors(self._first)
        return Flow(partial(self._velocity, t=t), self._driving, self._noise, self._flow_at, walls, self._tensors)

    def _moments_of(self, z: Blocks) -> Array:
        if self._weights is not None:
            both = [weighted(self.model.inside(x), w) for x, w in zip(z, self._weights, strict=True)]
            return self._shares.mean([np.add.reduce(in_pieces(self._weighted_sum, x, self._rows)) for x in both])
        return self._shares.mean([np.add.reduce(in_pieces(self._feature_sum, x, self._rows)) for x in z])

    def _driving(self, z: Blocks, t: float) -> Array:
        """The moments in the drift at time t of the particles z."""
        return self._moments_of(z) if self._driven_by is None else np.tile(self._driven_by(t), (self.runs, 1))

    def _feature_sum(self, x: Array) -> Array:
        # 0·Σx adds nothing, but a particle that is no longer finite shows even where the features are bounded.
        return self.model.feature_sum(self.model.inside(x)) + 0.0 * x.sum()

    def _weighted_sum(self, x: Array) -> Array:
        return x[:, -1] @ self.model.feature_values(x[:, :-1]) + 0.0 * x.sum()

    def _noise(self, z: Blocks, m: Array, h: float) -> Blocks:
        moving = self._ruling.moving is not None
        draw = increment(self._ruling.now(self.time + 0.5 * h)) if moving else self._increment
        shares = zip(z, self._owned, self._sources, strict=True)
        return [draw(x, m[run], rng, h) for x, (run, _), rng in shares]

    def _check_diffusion(self) -> None:
        """Look at A where the particles are now; the first complaint is raised on all ranks."""
        m, complaint = self._driving(self._z, self.time), None
        for x, (run, _) in zip(self._z, self._owned, strict=True):
            try:
                require_diffusion(self.model, x, m[run])
            except ValueError as error:
                complaint = str(error)
        _raise_first(self.comm.allgather(complaint))

    # -- the measure's verbs

    def advance(self, t: float, between_steps: Callable[[], None] = nothing) -> None:
        """Carry the particles to time t in equal steps no longer than ``step``. Collective.

        ``between_steps`` is called every million particle steps.

        Raises:
            ValueError: t lies before the present time, or is no finite number.
            ArgumentError: the first step is unstable where the particles are.
            InvariantError: the moments or a particle became infinite or NaN, or grew a thousandfold, on all ranks. The particles
                and the time stay those before the step that failed.
        """
        require_ahead("an ensemble", self.time, t)
        for until, model in self._first.stretches(self.time, t):
            self._follow(model)
            self._steps_to(until, between_steps)
        self.model = self._ruling.now(self.time)

    def _follow(self, model: MeanField) -> None:
        """Let ``model`` move the particles from now on."""
        if model is not self._ruling:
            self.model, self._ruling, self._increment = model, model, increment(model)

    def _steps_to(self, t: float, between_steps: Callable[[], None]) -> None:
        often, taken = max(1, UPDATES // (self.particles * self.runs)), 0
        for start, until, count in self._plan(t):
            for k in range(1, count + 1):
                began = time.perf_counter()
                self._one_step(until if k == count else start + (until - start) * k / count, (until - start) / count)
                self._seconds += time.perf_counter() - began
                taken += 1
                if taken % often == 0:
                    between_steps()

    def _plan(self, t: float) -> Iterator[tuple[float, float, int]]:
        """(from, until, number of equal steps) of what takes the particles to t; "auto" looks at the slope after each."""
        while self.time < t:
            start, until = self.time, t
            if self._steps == 0:
                require_stable(min(self._longest_step, t - start), self.slope(), PARTICLE_SCHEMES[self.scheme].order)
            if isinstance(self._asked, str):
                self._longest_step = min(self._chosen(), 0.25 * (t - start))
                until = min(t, start + LOOK * self._longest_step)
                until = t if t - until < self._longest_step else until
            yield start, until, math.ceil((until - start) / self._longest_step * (1.0 - 1e-12))

    def _chosen(self) -> float:
        """The step that fits the slope where the particles are, and the distance between walls. Collective."""
        between_walls = longest_step(self._ruling.now(self.time), self._driving(self._z, self.time)[0])
        return min(between_walls, fitting(self.slope().rate, self.particles * self.runs, PARTICLE_SCHEMES[self.scheme].order))

    def slope(self) -> Slope:
        """How fast the drift changes where the particles are: see `mvpde.particles.accuracy.slope`. Collective."""
        if self._slope is None:
            m = self.moments() if self._driven_by is None else self._driving(self._z, self.time)
            self._slope = slope_of(self._ruling.now(self.time), self._z, m[0], self.comm)
        return self._slope

    def _one_step(self, t: float, h: float) -> None:
        halved = self._halved
        self._sources: Sequence[Normals] = self._streams if halved is None else (recorders := halved.recorders(self._streams))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # found and reported below
            driving = self.moments() if self._driven_by is None else self._driving(self._z, self.time)
            z = PARTICLE_SCHEMES[self.scheme].step(self._flow, self._z, driving, self.time, h)
            if self._weights is not None and (walls := absorbing(self._first)) is not None:
                self._weights, z = left_over(walls, self._weights, (self._z, z), self._tensors(self._z, driving), h)
            m = self._moments_of(z)
        self._require_good(z, m, t, h)
        if halved is not None:
            halved.follow(Step(self._ruling, self.time, h, [source.kept for source in recorders], driving, m, self._z, z))
            halved.alive = self._weights
        self._z, self._moments, self._slope, self.time, self.step = z, m, None, t, h
        self._steps += 1

    def _require_good(self, z: Blocks, m: Array, t: float, h: float) -> None:
        """Refuse particles that have run away in the step to t; the same numbers, so the same decision, on every rank."""
        grown = largest(z, self.comm, self._axes)
        if np.isfinite(m).all() and grown <= self._extent.bound(t):
            return
        what = "became infinite or NaN" if not np.isfinite(m).all() else self._extent.said(grown)
        raise InvariantError(
            f"ensemble: the particles {what} in the {self.scheme} step from t = {self.time:g} of length {h:g}; the state at "
            f"t = {self.time:g} is kept. Choose an ensemble.step smaller than {h:g}, or a model that confines them."
        )

    def moments(self) -> Array:
        """m_n = n⁻¹ Σ_i g(Z_i) of each run, shape (runs, K), the same bits on every rank. Collective."""
        if self._moments is None:
            self._moments = self._moments_of(self._z)
        return self._moments.copy()

    def expectation(self, f: Callable[[Array], Array]) -> Array:
        """n⁻¹ Σ_i f(Z_i) of each run, shape (runs,), for f: (N, D) → (N,). Collective."""
        z = [self.model.inside(x) for x in self._z]
        if self._weights is not None:
            z = [weighted(x, w) for x, w in zip(z, self._weights, strict=True)]
            of_survivors = lambda x: np.array([x[:, -1] @ f(x[:, :-1])])  # noqa: E731
            return self._shares.mean([np.add.reduce(in_pieces(of_survivors, x, self._rows)) for x in z])[:, 0]
        return self._shares.mean([np.sum([piece.sum() for piece in in_pieces(f, x, self._rows)]) for x in z])[:, 0]

    def distance(self, other: Ensemble) -> Array:
        """n⁻¹ Σ_i |Z_i − Z_i'| to the particles of an ensemble of the same size on the same ranks, shape (runs,). Collective."""
        return self._mean_of_pairs(other, np.sqrt)

    def squared_distance(self, other: Ensemble) -> Array:
        """n⁻¹ Σ_i |Z_i − Z_i'|², as `distance`. Collective."""
        return self._mean_of_pairs(other, lambda squares: squares)

    def _mean_of_pairs(self, other: Ensemble, of_square: Callable[[Array], Array]) -> Array:
        pairs = zip(self._z, other._z, strict=True)
        return self._shares.mean([of_square(((x - y) ** 2).sum(axis=1)).sum(keepdims=True) for x, y in pairs])[:, 0]

    def losses(self) -> Array:
        """R(m_n) of each run, shape (runs,). Collective."""
        return np.asarray(self.model.outer_energy(self.moments()))

    def cloud(self) -> Cloud | None:
        """Points (n, D) and weights (n,) of run 0 on rank 0, else None; periodic coordinates lie in [0, period). Collective."""
        cloud = self._shares.first_run([self.model.inside(x) for x in self._z])
        weights = None if self._weights is None else self._shares.first_run(self._weights)
        if cloud is None:
            return None
        points, shares = wrap(cloud[0], self.model.periods), cloud[1]
        if weights is None:
            return points, shares
        there = weights[0] > 0.0
        return points[there], (shares * weights[0])[there]

    def loss_standard_error(self) -> float:
        """Standard error of the mean over runs of R(m_n). Collective.

        With two runs or more it is their sample standard deviation / √runs. With one it is the delta method's
        [R'(m)ᵀ Cov(g) R'(m) / n]^½, the Cov over the particles: exact to leading order for independent particles (t = 0), later
        the resampling error, which leaves out that the particles have interacted (Chen, Rotskoff, Bruna & Vanden-Eijnden,
        arXiv:2008.09623, find the true one below it at long times).
        """
        if self.runs >= 2:
            return float(np.std(self.losses(), ddof=1) / math.sqrt(self.runs))
        if self.particles < 2:
            return math.nan
        slope = self.model.outer_gradient(self.moments()[0])
        centre = float(slope @ self.moments()[0])

        def squared_deviation(z: Array) -> Array:
            value, _ = self.model.profile_field(z[:, : self.model.profile_dimension], slope)
            return np.asarray((self.model.amplitude(z) * value - centre) ** 2)

        return math.sqrt(self.expectation(squared_deviation)[0] / (self.particles - 1))

    # -- the error of the step

    @property
    def listed(self) -> tuple[str, ...]:
        """Errors of sampling and of the step, and the slope."""
        steps: list[str] = [] if self._halved is None else [f"{name}_step_error" for name in recorded(self.model)]
        walls = self.model.walls
        open_ends = walls is not None and any(walls.faces(OPEN))
        survivors = () if self._weights is None else ("survival", "survival_standard_error")
        return ("loss_standard_error", *steps, "slope", *survivors, *("outside",) * open_ends)

    def step_errors(self) -> dict[str, float]:
        """Errors that the length of the steps has made in loss, predictions and observables; {} without copies. Collective.

        See `mvpde.particles.accuracy.step_errors`. Where hλ is beyond the range of the scheme's order, 2 is the factor.
        """
        if self._halved is None:
            return {}
        factor = halving_factor(PARTICLE_SCHEMES[self.scheme].order, self.step * self.slope().rate)
        return step_errors(self._halved, self._z, self.moments()[self._halved.runs], factor, self._extent.start)

    def numbers(self) -> dict[str, float]:
        """Standard error of the loss, steps taken, errors of the step, and the slope λ of the drift. Collective."""
        return {
            **loss_and_steps(self),
            **{f"{name}_step_error": error for name, error in self.step_errors().items()},
            **self.slope().numbers(),
            **self._at_walls(),
        }

    def _at_walls(self) -> dict[str, float]:
        """What is known of survivors, and the share of particles beyond walls that are no walls of the problem. Collective."""
        walls, known = self.model.walls, {}
        if self._weights is not None:
            left, error = survival(self._shares, self._weights)
            known = {"survival": left, "survival_standard_error": error}
        if walls is not None and any(walls.faces(OPEN)):
            known["outside"] = float(np.mean(self.expectation(lambda z: walls.beyond(z).astype(float))))
        return known

    statistics = size_and_speed

    # -- checkpoints

    arrays = fields = no_arrays
    mesh = no_mesh

    def state(self) -> State | None:
        """Time, particles (runs, n, D), streams (blocks, 13) on rank 0, else None: enough to continue bit for bit. Collective."""
        state = self._shares.state(self.time, self._steps, "particles", self._z, self._streams)
        copies = {} if self._halved is None else self._halved.state()
        weights = None if self._weights is None else self._shares.gather(self._weights)
        left = {} if weights is None else {"weights": weights.reshape(self.runs, -1)}
        return None if state is None else {**state, **copies, **left, "extent": self._extent.array()}

    def restore(self, state: State | None) -> None:
        """Continue from ``state()`` of an ensemble of the same size, read on rank 0 (others pass None). Collective.

        Raises:
            ValueError: on all ranks, when the numbers of runs, particles or coordinates differ.
        """
        kept, self._z, self._streams = self._shares.received(state, "particles", self.model.dimension)
        self.time, self._steps = float(kept["time"]), int(kept["steps"])
        self._moments, self._slope = None, None
        if self._weights is not None:
            self._weights = self._shares.cut(np.asarray(kept["weights"], float))
        if self._halved is not None:
            self._halved.restore(kept, self._z)
            self._halved.alive = self._weights
        self._extent = Extent(*np.asarray(kept["extent"], float).tolist()) if "extent" in kept else self._extent
        self._follow(self._first.ruling(self.time))
        self.model = self._ruling.now(self.time)


def _check_steps(model: MeanField, step: float | str, scheme: str) -> None:
    """Refuse a step or a scheme that cannot be."""
    if step != "auto" if isinstance(step, str) else not (math.isfinite(step) and step > 0):
        raise ArgumentError("step", f'must be positive or "auto", not {step!r}')
    reason = entry(PARTICLE_SCHEMES, scheme, "scheme").refuses(model)
    if reason is not None:
        raise ArgumentError("scheme", reason)


def _raise_first(complaints: Iterable[str | None]) -> None:
    for text in complaints:
        if text is not None:
            raise ValueError(text)
