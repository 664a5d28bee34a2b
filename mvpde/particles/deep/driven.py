"""Copies of the weights of a wide deep network that the limit drives: AOY's coupling.

    θ̄̇^ℓ_ij = Σ_p k_p B̄^{ℓ+1}_pj ∂σ^ℓ(z̄^ℓ_pi, θ̄_ij)/∂θ,   z̄¹_pi = σ⁰(x_p, A_i),   B̄^L_pj = ∂σ^L(z̄^L(x_p, B_j), B_j)/∂z

with k, z̄ and B̄ of the limit, which know of no other weight: copies are independent given A and B (Araújo, Oliveira & Yukimura,
arXiv:1906.00193). They start where the network does and, at τ > 0, have its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mvpde.particles.deep.passes import Scratch, Weights, first_inputs, pushed, through  # isort: skip  (loads the solver)

import numpy as np

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.mean_field import Array
from mvpde.particles.deep.rows import NetworkRows


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
