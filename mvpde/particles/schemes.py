"""Time steps of interacting particles, dZ_i = b(Z_i; m_n) dt + √(2A(Z_i; m_n)) dB_i, and the dynamics of runs of SGD, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.walls.mirrors import Mirrors
from mvpde.registry import At, Registry

if TYPE_CHECKING:
    from mvpde.models.sgd_network import SgdNetwork
    from mvpde.particles.sgd_runs import Dynamics

type Blocks = list[Array]


@dataclass(frozen=True)
class Flow:
    """What a scheme may do with particles, given as the blocks of this rank.

    Attributes:
        velocity: (blocks, moments (runs, K)) → b(z; m), block by block, at the start of the step.
        moments: (blocks, t) → m that moves particles at time t, shape (runs, K): their own, or that of another law. Collective.
        noise: (blocks, moments, h) → √(2A(z; m)) (B_{t+h} − B_t), block by block; it advances the streams. Zero, shape (), where
            A = τI, τ = 0. An A that depends on time is that of the middle of the step, which keeps weak order 2.
        moving: t → the flow whose velocity is that of time t, for coefficients that depend on time.
        walls: that the particles meet, None where there are none.
        tensor: (blocks, moments) → A(z; m), block by block, for walls that the particles meet.
        turned: ±1 across each direction for each particle, block by block: whether the last step mirrored it; schemes write it.
    """

    velocity: Callable[[Blocks, Array], Blocks]
    moments: Callable[[Blocks, float], Array]
    noise: Callable[[Blocks, Array, float], Blocks]
    moving: Callable[[float], Flow] | None = None
    walls: Mirrors | None = None
    tensor: Callable[[Blocks, Array], Blocks] | None = None
    turned: Blocks = field(default_factory=list)

    def now(self, t: float) -> Flow:
        """With the velocity of time t."""
        return self if self.moving is None else self.moving(t)


def euler(flow: Flow, z: Blocks, m: Array, t: float, h: float) -> Blocks:
    """Z' = Z + h b(Z; m) + √(2A(Z; m)) ΔB: Euler–Maruyama, gradient descent where A = 0 and b = −∇V.

    Weak order 1 for any A (Kloeden & Platen, Numerical Solution of SDE, §14.1).
    """
    b, noise = flow.velocity(z, m), flow.noise(z, m, h)
    ends = [x + h * v + dw for x, v, dw in zip(z, b, noise, strict=True)]
    if flow.walls is None:
        return ends
    met = _met(flow, z, ends, m)
    ends = [x + 0.5 * h * (v + w) + dw for x, v, w, dw in zip(z, b, _turned(flow, b, met), noise, strict=True)]
    return _within(flow, (z, [fold for fold, _, _ in met], ends), noise, (m, m), t, h)


def heun(flow: Flow, z: Blocks, m: Array, t: float, h: float) -> Blocks:
    """Z' = Z + ½h [b(Z; m) + b(Z̃; m̃)] + √(2A) ΔB with Z̃ the Euler step with the same ΔB and m̃ its moments.

    Weak order 2 if A is constant (Kloeden & Platen, Numerical Solution of SDE, §15.1). For other A order 2 takes iterated
    integrals of the noise, and averaging the noise like the drift would solve the Stratonovich equation.
    """
    before, noise = flow.velocity(z, m), flow.noise(z, m, h)
    predicted = [x + h * b + dw for x, b, dw in zip(z, before, noise, strict=True)]
    if flow.walls is None:
        after = flow.now(t + h).velocity(predicted, flow.moments(predicted, t + h))
        return [x + 0.5 * h * (b + c) + dw for x, b, c, dw in zip(z, before, after, noise, strict=True)]
    met = _met(flow, z, predicted, m)
    predicted = [fold for fold, _, _ in met]
    later = flow.moments(predicted, t + h)
    after = _turned(flow, flow.now(t + h).velocity(predicted, later), met)
    ends = [x + 0.5 * h * (b + c) + dw for x, b, c, dw in zip(z, before, after, noise, strict=True)]
    return _within(flow, (z, predicted, ends), noise, (m, later), t, h)


def _met(flow: Flow, z: Blocks, ends: Blocks, m: Array) -> list[tuple[Array, Array, Array | None]]:
    """Ends of a step from z mirrored at the walls, the signs of their directions, and A at z where it matters, block by block."""
    assert flow.walls is not None
    tensors = flow.tensor(z, m) if flow.walls.slanted and flow.tensor is not None else [None] * len(z)
    return [(*flow.walls.fold(y, a), a) for y, a in zip(ends, tensors, strict=True)]


def _turned(flow: Flow, velocities: Blocks, met: list[tuple[Array, Array, Array | None]]) -> Blocks:
    """Velocities mirrored at the walls that particles have met."""
    assert flow.walls is not None
    return [flow.walls.turned(v, signs, a) for v, (_, signs, a) in zip(velocities, met, strict=True)]


def _within(
    flow: Flow, step: tuple[Blocks, Blocks, Blocks], noise: Blocks, moments: tuple[Array, Array], t: float, h: float
) -> Blocks:
    """Ends of a ``step``, given as start, predictor and end, brought inside the walls; ``moments``: at start and end."""
    assert flow.walls is not None
    z, _, ends = step
    if flow.walls.walls.singular:
        now = flow.now(t + h)
        ends = flow.walls.settle(step, noise, h, lambda blocks: now.velocity(blocks, moments[1]))
    met = _met(flow, z, ends, moments[0])
    flow.turned[:] = [signs for _, signs, _ in met]
    return [fold for fold, _, _ in met]


def _state_dependent(model: MeanField) -> str | None:
    """Why Heun's scheme is wrong for a model."""
    if model.additive_noise:
        return None
    return '"heun" needs a constant diffusion, this model has another; write scheme = "euler" (weak order 1)'


@dataclass(frozen=True)
class ParticleScheme:
    """A one-step map.

    Attributes:
        sentence: what it is.
        order: of the weak error with noise, of the error without.
        step: (flow, blocks, m, t, h) → blocks.
        refuses: model → why it does not have this order there, None where it has.
    """

    sentence: str
    order: int
    step: Callable[[Flow, Blocks, Array, float, float], Blocks]
    refuses: Callable[[MeanField], str | None] = lambda _: None


PARTICLE_SCHEMES: Registry[ParticleScheme] = Registry(
    "scheme of particles",
    {
        "heun": ParticleScheme("weak order 2, for a diffusion that is the same everywhere", 2, heun, _state_dependent),
        "euler": ParticleScheme("explicit Euler(–Maruyama), weak order 1, for any diffusion", 1, euler),
    },
)

ONE_PASS = "one-pass SGD"  # what moves the units of networks that are no particles of their limit

SCHEMES = PARTICLE_SCHEMES  # as it was called before; `mvpde.SCHEMES` are those of the density

# (problem, order of the diffusion, longest step) → one step of independent runs.
DYNAMICS: Registry[Callable[[SgdNetwork, int, float | None], Dynamics]] = Registry(
    "dynamics of runs",
    {
        "sgd": At("mvpde.particles.sgd_runs:sgd", "stochastic gradient descent itself"),
        "diffusion": At("mvpde.particles.sgd_runs:diffusion", "paths of its diffusion, Euler–Maruyama"),
    },
)
