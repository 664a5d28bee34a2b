"""Copies of the weights of a wide deep network that the limit drives: AOY's coupling.

    θ̄̇^ℓ_ij = Σ_p k_p B̄^{ℓ+1}_pj ∂σ^ℓ(z̄^ℓ_pi, θ̄_ij)/∂θ,   z̄¹_pi = σ⁰(x_p, A_i),   B̄^L_pj = ∂σ^L(z̄^L(x_p, B_j), B_j)/∂z

with k, z̄ and B̄ of the limit, which know of no other weight: copies are independent given A and B (Araújo, Oliveira & Yukimura,
arXiv:1906.00193). They start where the network does and, at τ > 0, have its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mvpde.particles.deep.passes import Scratch, Weights, first_inputs, pushed, through  # isort: skip  (loads the solver)

import numpy as np
from scipy.interpolate import BarycentricInterpolator, CubicSpline

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.sweeps import Labels, Sweep
from mvpde.models.mean_field import Array
from mvpde.particles.deep.rows import NetworkRows

FEWEST, MANY = 4, 24  # labels that cubics need; labels with which a polynomial through all of them is no longer wise
ROUNDING = 1e-9  # by which gaps of equispaced nodes may differ, relative to the largest


@dataclass(frozen=True)
class LimitState:
    """What of a limit moves a weight, at one time.

    Attributes:
        pull: k_p = −∂E/∂h_p, shape (P,).
        inputs: z̄^ℓ of ℓ = 2 … L − 1, shape (P,) each.
        last_inputs: b₀, shape (n,) → z̄^L(x_p, b₀), shape (n, P).
        multipliers: M̄^ℓ = k B̄^{ℓ+1} of ℓ = 1 … L − 2, shape (P,) each; that of L − 1 depends on b.
        first, last: the labels a₀, shape (n, q), and b₀, shape (n,) → where these weights are now.
    """

    pull: Array
    inputs: Sequence[Array]
    last_inputs: Callable[[Array], Array]
    multipliers: Sequence[Array]
    first: Callable[[Array], Array] = lambda a: a
    last: Callable[[Array], Array] = lambda b: b


LimitPath = Callable[[float], LimitState]


def ends_at(state: LimitState, start: Weights) -> tuple[Array, Array]:
    """A and B of the copies, shapes (runs, N, q) and (runs, N), from those of the start."""
    first, last = start.first, start.last
    a = state.first(first.reshape(-1, first.shape[2])).reshape(first.shape)
    return a, state.last(last.reshape(-1)).reshape(last.shape)


def driven_velocity(
    model: DeepNetwork,
    rows: NetworkRows,
    weights: Weights,
    start: Weights,
    state: LimitState,
    scratch: Scratch,
    push: Sequence[Array],
) -> None:
    """Writes the velocities of the copies of the owned rows into ``push``. Local.

    Args:
        model, rows, scratch: as in `passes.ahead`.
        weights: of the copies.
        start: A and B at t = 0, the labels.
        state: of the limit.
        push: shape (3, R, N) each.
    """
    first, last = ends_at(state, start)
    shape = (rows.runs, len(state.pull), rows.width)
    z = [first_inputs(model, first, None), *(np.broadcast_to(u[None, :, None], shape) for u in state.inputs)]
    inner = [np.broadcast_to(m[None, :, None], shape) for m in state.multipliers]
    for number, (layer, theta) in enumerate(zip(model.layers, weights.layers, strict=True)):
        u = np.ascontiguousarray(z[number])
        _, values = through(layer, rows, theta, u, scratch, number)
        m = inner[number] if number < len(inner) else last_multipliers(model, state, start.last, last)
        pushed(layer, rows, theta, u, values, m, push[number])


def last_multipliers(model: DeepNetwork, state: LimitState, labels: Array, last: Array) -> Array:
    """k_p B̄^L(x_p, b_j), shape (runs, P, N)."""
    z = state.last_inputs(labels.reshape(-1)).reshape(*labels.shape, -1)
    return np.ascontiguousarray(np.moveaxis(state.pull * model.last_slopes(z, last[:, :, None]), 2, 1))


# --- the path of a limit --------------------------------------------------------------------------------------------------------


class Limit(Protocol):
    """A measure of a deep network's limit, on labels."""

    network: DeepNetwork
    labels: Labels

    def advance(self, t: float, /) -> None:
        """Go on to t."""

    def swept(self) -> Sweep:
        """Inputs, multipliers and pull as they are now."""

    def ends(self) -> tuple[Array, Array]:
        """First and last weights of the labels, shapes (A, q) and (B,)."""


@dataclass(frozen=True)
class Seen:
    """What of a limit moves a weight, on its labels."""

    pull: Array  # (P,)
    inputs: Array  # (L − 2, P)
    last: Array  # (B, P)
    multipliers: Array  # (L − 2, P)
    a: Array  # (A, q)
    b: Array  # (B,)


def limit_path(limit: Limit, times: Array) -> LimitPath:
    """What moves copies at any time of [times[0], times[-1]]: cubics between times and between labels. Collective.

    Args:
        limit: before or at the first of the times; it ends at the last.
        times: increasing, at least four.

    Raises:
        ValueError: trained ends of a network with several inputs, whose labels a are no points of a line.
    """
    network, labels = limit.network, limit.labels
    if network.train_ends and labels.a.shape[1] > 1:
        raise ValueError("copies with trained ends need a single input; leave out train_ends")
    rows = []
    for t in times:
        limit.advance(float(t))
        rows.append(_seen(limit.swept(), *limit.ends()))
    path = {name: CubicSpline(times, np.array([getattr(row, name) for row in rows])) for name in vars(rows[0])}

    def at(t: float) -> LimitState:
        now = Seen(**{name: np.asarray(spline(t)) for name, spline in path.items()})
        last_inputs, last = between(labels.b, now.last), between(labels.b, now.b)
        first = between(labels.a[:, 0], now.a) if network.train_ends else None
        return LimitState(
            now.pull,
            list(now.inputs),
            last_inputs,
            list(now.multipliers),
            (lambda a: a) if first is None else lambda a: first(a[:, 0]),
            last if network.train_ends else lambda b: b,
        )

    return at


def _seen(swept: Sweep, a: Array, b: Array) -> Seen:
    count = len(swept.pull)
    inputs = np.array([z[0, 0] for z in swept.inputs[1:]]).reshape(-1, count)
    multipliers = np.array([m[0, 0] for m in swept.multipliers[:-1]]).reshape(-1, count)
    return Seen(swept.pull, inputs, swept.last[0], multipliers, a, b)


def between(nodes: Array, values: Array) -> Callable[[Array], Array]:
    """Values at the labels, shape (B, ...), as a function of a label, shape (n,) → (n, ...).

    Cubics where the nodes are many or equispaced, else the polynomial through them, which Gauss's nodes are good for.
    """
    gaps = np.diff(nodes)
    if len(nodes) >= MANY or (len(nodes) >= FEWEST and np.ptp(gaps) <= ROUNDING * gaps.max()):
        return CubicSpline(nodes, values)
    # The weights in a fixed order: SciPy's own are those of a random one, so that ranks would differ in the last places.
    apart = (nodes[:, None] - nodes) * (4.0 / (float(np.ptp(nodes)) or 1.0))
    np.fill_diagonal(apart, 1.0)
    return BarycentricInterpolator(nodes, values, wi=1.0 / np.prod(apart, axis=1))
