"""Residual networks whose layers share one weight vector θ ∈ R^D, D ≤ 3, as training problems: any number of layers, or the flow.

    x_{k+1} = x_k + L⁻¹h(x_k, θ),  f = x_L,        or  x' = h(x, θ),  f = x(1)  ("infinity"),        x_0 = the input,
    V_L(θ) = N⁻¹ Σ_s ℓ(f(x_s; θ), y_s) + ½λ|θ − θ_0|².

The sensitivities S = ∂x/∂θ and T = ∂²x/∂θ² obey the derivatives of the recursion itself,

    S_{k+1} = S_k + L⁻¹(h_x S_k + h_θ),        T_{k+1} = T_k + L⁻¹(h_x T_k + h_xx SSᵀ + h_xθ Sᵀ + S h_xθᵀ + h_θθ),

so gradient and Hessian of V_L are exact for every L. The laws at depth L tend to those of the flow like 1/L (Avelin & Nyström,
arXiv:1906.12183). The loss needs the confinement λ > 0 where h saturates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.integrate import DOP853

from mvpde.models.data import Data
from mvpde.models.expressions.derivatives import derivative
from mvpde.models.expressions.parse import NO_PARAMETERS, compile_expression
from mvpde.models.expressions.programs import Program, program
from mvpde.models.expressions.vocabulary import check_name, naming, vocabulary
from mvpde.models.mean_field import Array, MeanField
from mvpde.models.sgd_network import Activation, SgdNetwork, diffusion_model, sgd

FEATURE = "x"
FLOW_STEPS = 8  # of order 8, twice as many until |h_x| is no more: errors of 1e-10 at |h_x| ≈ 3, 1e-6 at 12, where h expands
MOST_STEPS = 4096  # beyond |h_x| = 4096 the flow is not followed
Rates = Callable[[Array, Array], tuple[Array, Array]]  # (x, θ) of the entries, state → its derivative in s, and h_x
_STAGES = DOP853.n_stages


@dataclass(frozen=True)
class SharedWeights:
    """f = x_L or x(1), and its derivatives in θ: the forward map of an `SgdNetwork`.

    Attributes:
        coordinates: names of the D weights.
        layers: L; None for the flow.
        first: h, h_x and h_θ as one program in (x, θ).
        both: these and h_xx, h_xθ, h_θθ.
    """

    coordinates: tuple[str, ...]
    layers: int | None
    first: Program
    both: Program

    def jet(self, sigma: Activation, columns: Sequence[Array], x: Array) -> tuple[Array, list[Array]]:
        """f and ∂f/∂θ_k, see `sgd_network.ForwardMap`; ``sigma`` is in h already."""
        d, shape, points = len(self.coordinates), *_points(columns, x)
        state = np.zeros((1 + d, points.shape[1]))
        state[0] = points[0]
        end = self._through(lambda at, y: _first_rates(self.first, at, y), points, state)
        return end[0].reshape(shape), [row.reshape(shape) for row in end[1:]]

    def second(self, sigma: Activation, columns: Sequence[Array], x: Array) -> dict[tuple[int, int], Array]:
        """∂²f/∂θ_j∂θ_k by (j, k), both orders."""
        d, shape, points = len(self.coordinates), *_points(columns, x)
        state = np.zeros((1 + d + d * d, points.shape[1]))
        state[0] = points[0]
        end = self._through(lambda at, y: _second_rates(self.both, at, y, d), points, state)[1 + d :]
        return {(j, k): end[j * d + k].reshape(shape) for j in range(d) for k in range(d)}

    def _through(self, rates: Rates, points: Array, state: Array) -> Array:
        """The state after all layers, or at s = 1."""
        if self.layers is None:
            return _flow(rates, points, state)
        for _ in range(self.layers):
            state = state + rates(points, state)[0] / self.layers
        return state


def _flow(rates: Rates, points: Array, state: Array) -> Array:
    """The state at s = 1, entry by entry in steps of length 1/|h_x| or less: longer ones are unstable where h contracts."""
    end, steps, left = np.empty_like(state), FLOW_STEPS, np.arange(state.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # of entries that are gone through again
        while len(left):
            end[:, left], steep = _in_steps(rates, points[:, left], state[:, left], steps)
            left = left[~(steep <= steps)] if steps < MOST_STEPS else left[:0]
            steps *= 2
    return end


def _in_steps(rates: Rates, points: Array, state: Array, steps: int) -> tuple[Array, Array]:
    """The state at s = 1 after so many steps, and the largest |h_x| met on the way, shape (entries,)."""
    steep = np.zeros(state.shape[1])

    def watched(y: Array) -> Array:
        slope, h_x = rates(points, y)
        np.maximum(steep, np.abs(h_x), out=steep)
        return slope

    for _ in range(steps):
        state = _step_of_order_eight(watched, state, 1.0 / steps)
    return state, steep


def _points(columns: Sequence[Array], x: Array) -> tuple[tuple[int, ...], Array]:
    """The shape that weights and inputs broadcast to, and (x, θ_1, …) over all its entries, shape (1 + D, entries)."""
    everything = np.broadcast_arrays(x, *columns)
    return everything[0].shape, np.stack([part.ravel() for part in everything])


def _first_rates(run: Program, points: Array, state: Array) -> tuple[Array, Array]:
    """h and h_x S + h_θ; and h_x."""
    points[0] = state[0]
    values = run.at(points.T)
    h, h_x, h_w = values[0], values[1], values[2:]
    return np.concatenate([h[None], h_x * state[1:] + h_w]), h_x


def _second_rates(run: Program, points: Array, state: Array, d: int) -> tuple[Array, Array]:
    """These and h_x T + h_xx SSᵀ + h_xθ Sᵀ + S h_xθᵀ + h_θθ; and h_x."""
    points[0] = state[0]
    values = run.at(points.T)
    h, h_x, h_w = values[0], values[1], values[2 : 2 + d]
    h_xx, h_xw, h_ww = values[2 + d], values[3 + d : 3 + 2 * d], values[3 + 2 * d :]
    s, t = state[1 : 1 + d], state[1 + d :]
    mixed = h_xw[:, None] * s[None] + s[:, None] * h_xw[None]
    rates = h_x * t + (h_xx * s[:, None] * s[None] + mixed).reshape(d * d, -1) + h_ww
    return np.concatenate([h[None], h_x * s + h_w, rates]), h_x


def _step_of_order_eight(rates: Callable[[Array], Array], state: Array, h: float) -> Array:
    """One step of the Runge–Kutta method of order 8 by Dormand and Prince (Hairer, Nørsett & Wanner, II.5)."""
    slopes = [rates(state)]
    for stage in range(1, _STAGES):
        shift = sum(a * k for a, k in zip(DOP853.A[stage, :stage], slopes, strict=True) if a != 0.0)
        slopes.append(rates(state + h * shift))
    return np.asarray(state + h * sum(b * k for b, k in zip(DOP853.B, slopes, strict=True) if b != 0.0))


# --- building -------------------------------------------------------------------------------------------------------------------


def shared_weights(
    block: str, coordinates: Sequence[str], layers: float, parameters: Mapping[str, float] = NO_PARAMETERS
) -> SharedWeights:
    """The forward map of a residual network of one feature.

    Args:
        block: h, an expression in the feature x and the weights.
        coordinates: names of the weights.
        layers: L ≥ 1, or infinity for the flow.
        parameters: numbers that the expression may use, by name.

    Raises:
        ValueError: a number of layers that is none, names that are none. `ExpressionError`: the expression is refused.
    """
    names = tuple(coordinates)
    vocabulary(names, {}, parameters)
    for name in names:
        check_name("coordinates", name, [*names, *parameters, FEATURE])
    if not (layers == math.inf or (layers >= 1 and layers == int(layers))):
        raise ValueError(f'layers: is {layers}; it must be a whole number ≥ 1, or "infinity"')
    variables = (FEATURE, *names)
    with naming("block"):
        h = compile_expression(block, variables, parameters).tree
        slopes = [derivative(h, name) for name in variables]
        curvatures = [derivative(slopes[0], name) for name in variables]
        curvatures += [derivative(slope, name) for slope in slopes[1:] for name in names]
    first, both = [h, *slopes], [h, *slopes, *curvatures]
    whole = None if layers == math.inf else int(layers)
    return SharedWeights(names, whole, program(first, variables), program(both, variables))


def residual_network(
    forward: SharedWeights,
    data: Data,
    *,
    learning_rate: float,
    batch_size: int,
    replacement: bool = True,
    loss: str = "least_squares",
    weight_decay: float = 0.0,
    centre: Sequence[float] | None = None,
) -> SgdNetwork:
    """The training problem of a residual network with shared weights. The same seed draws the same minibatches at every depth.

    Args:
        forward: from `shared_weights`.
        data: one input; equal weights.
        learning_rate, batch_size, replacement, loss, weight_decay: as `sgd_network.sgd`.
        centre: θ_0 that the weights decay to; None: 0.

    Raises:
        ValueError: as `sgd_network.sgd`; another number of entries of ``centre`` than of weights.
    """
    if centre is not None and len(centre) != len(forward.coordinates):
        raise ValueError(f"centre: has {len(centre)} entries for the weights {', '.join(forward.coordinates)}; give one for each")
    plain = sgd(
        "weight",
        data,
        learning_rate=learning_rate,
        batch_size=batch_size,
        replacement=replacement,
        loss=loss,
        weight_decay=weight_decay,
    )
    return replace(plain, architecture=forward, centre=None if centre is None else np.array(centre, float))


def isotropic_model(problem: SgdNetwork, temperature: float) -> MeanField:
    """dθ = −∇V_L dt + √(2T) dB: a gradient flow without interaction, whose stationary law is ∝ exp(−V_L/T).

    Raises:
        ValueError: a negative temperature.
    """
    return replace(diffusion_model(problem), own_drift=None, own_diffusion=None, temperature=temperature)


def observed_weights(model: MeanField, problem: SgdNetwork) -> MeanField:
    """The model with the means of all weights, and of the loss without weight decay as `data_loss`, recorded in a run."""
    plain = replace(problem, weight_decay=0.0)
    means = {name: _coordinate(k) for k, name in enumerate(problem.coordinates)}
    return replace(model, observables={**means, "data_loss": plain.loss})


def _coordinate(k: int) -> Callable[[Array], Array]:
    return lambda w: w[:, k]
