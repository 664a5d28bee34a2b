"""SGD in the mean-field limit: all particles see the same minibatch, so its noise is common to them.

At step k, P inputs are drawn from μ and held for Δt. The potential is built from them alone,

    V_k(z; m) = V0(z) + Σ_p (N_p/P) ∂_m ℓ(m_p, f_p) g_p(z),    (N_1, N_2, …) ~ Multinomial(P, w),    t ∈ [kΔt, (k+1)Δt),

where R(m) = Σ_p w_p ℓ(m_p, f_p) over the data points, with Σ_p w_p = 1. Particles and their limit follow the same path, given the
sequence of minibatches (Rotskoff & Vanden-Eijnden, arXiv:1805.00915, §3): the sequence is a sample of the noise of the limit
equation, whose strength is θ = Δt/P, and any measure can be driven by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from mvpde.models.laws import Law
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.blocks import in_pieces, rows_in_cache
from mvpde.particles.characteristics import weighted_moments

_STREAM = 2**31  # first entry of the key of minibatch streams; particles' keys begin with the number of their run
_ENOUGH = 2.0**60  # from this P on, minibatches are all data to rounding, and counts would not fit an integer
_ROUNDING = 1e-9  # of a step: how far from a multiple of Δt a time may lie


class Movable(Protocol):
    """What is asked of a measure that a sequence drives."""

    time: float

    def advance(self, t: float, /) -> None:
        """Carry it to time t."""
        ...


class CommonNoise:
    """One sequence of minibatches, and the model that sees the minibatch in force.

    Measures built with `model` are moved by `advance` of this object only: between its calls the model keeps the last minibatch.
    The outer energy stays that of all data, so losses are comparable.

    Attributes:
        model: the model whose potential is that of the minibatch in force.
        interval: Δt.
    """

    def __init__(
        self, model: MeanField, *, interval: float, size: float | Callable[[float], float] = math.inf, sequence: int = 0
    ) -> None:
        """Minibatches for a model.

        Args:
            model: a network at temperature 0 with one feature for each data point.
            interval: Δt > 0, for which each minibatch is held.
            size: P ≥ 1, rounded to a whole number, or t → P; infinite: all data, the gradient flow itself.
            sequence: ≥ 0, the seed; minibatch k depends on it, k and P alone.

        Raises:
            ValueError: for another model, or an argument outside its range.
        """
        _check_model(model)
        if not (0.0 < interval < math.inf and sequence >= 0):
            raise ValueError(f"interval must be positive and sequence not negative, not {interval!r} and {sequence!r}")
        assert model.data is not None
        self.interval, self._sequence, self._size = interval, sequence, size
        self._shares = model.data.weights / model.data.weights.sum()
        self._full, self._factors = model.outer_gradient, np.ones(len(self._shares))
        self.model = replace(model, outer_gradient=self._gradient)

    def _gradient(self, m: Array) -> Array:
        return np.asarray(self._factors * self._full(m))

    def factors(self, k: int) -> Array:
        """(N_p/P)/w_p of minibatch k, shape (data points,): what multiplies the data's weights. Mean 1."""
        size = self._size(k * self.interval) if callable(self._size) else self._size
        if size >= _ENOUGH:
            return np.ones(len(self._shares))
        count = max(1, round(size))
        seeds = np.random.SeedSequence(self._sequence, spawn_key=(_STREAM, k))
        drawn = np.random.Generator(np.random.Philox(seeds)).multinomial(count, self._shares)
        return np.asarray(drawn / (count * self._shares))

    def advance(self, measures: Sequence[Movable], end: float) -> None:
        """Carry measures, all at the same time, to `end`, a multiple of Δt as their time is. Collective where they are.

        Raises:
            ValueError: for a time that is no multiple of Δt.
        """
        for k in range(self._steps(measures[0].time), self._steps(end)):
            self._factors = self.factors(k)
            for measure in measures:
                measure.advance((k + 1) * self.interval)

    def _steps(self, t: float) -> int:
        k = round(t / self.interval)
        if abs(t - k * self.interval) > _ROUNDING * self.interval * max(k, 1):
            raise ValueError(f"t = {t:g} is no multiple of the interval {self.interval:g} for which a minibatch is held")
        return k


def one_for_each_point(model: MeanField) -> bool:
    """Whether the features are the predictions at the data points."""
    return model.data is not None and model.features == len(model.data.weights)


def _check_model(model: MeanField) -> None:
    if not one_for_each_point(model):
        raise ValueError("minibatches are drawn from the data of a network, with one feature for each data point")
    if model.metric is not None:
        raise ValueError("minibatches do not drive units on a sphere")
    if model.ever_hot or not model.gradient_flow:
        raise ValueError(f"minibatches drive gradient flows at temperature 0, not {model.temperature:g}")


class SteppedNodes:
    """SGD itself with infinitely many particles: weighted quadrature nodes of ρ_0 in explicit Euler steps.

        Z_{k+1} = Z_k − Δt ∇V_k(Z_k; m_k),    m_k = Σ_i w_i g(Z_i)

    The density and the characteristics follow the minibatch's flow for the time Δt instead, which differs by O(Δt). Local to a
    rank: all ranks do the same.

    Attributes:
        time: t.
    """

    def __init__(self, model: MeanField, law: Law, *, nodes: Sequence[int], step: float) -> None:
        """Take the quadrature nodes of the initial law; `nodes` in each direction, `step` > 0 the longest step."""
        self.model, self.time, self._longest_step = model, 0.0, step
        self._rows = rows_in_cache(model)
        self._z, self._weights = law.quadrature(nodes)

    def advance(self, t: float) -> None:
        """To time t in equal steps no longer than `step`."""
        start = self.time
        count = math.ceil((t - start) / self._longest_step * (1.0 - _ROUNDING))
        for _ in range(count):
            self._z = self._z - (t - start) / count * self._gradient(self.moments()[0])
        self.time = t

    def _gradient(self, m: Array) -> Array:
        return np.concatenate(in_pieces(lambda piece: self.model.potential_gradient(piece, m), self._z, self._rows))

    def moments(self) -> Array:
        """m = Σ_i w_i g(Z_i), shape (1, K)."""
        return weighted_moments(self.model, self._z, self._weights, self._rows)[None, :]
