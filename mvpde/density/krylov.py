"""BiCGStab with incomplete factors for the linear systems of implicit steps, (M + a𝓛)ρ = b on an edge graph.

Every vector passes through few compiled loops and every iteration through three reductions, so that ranks wait little. Where ρ
and b are almost nothing, the residual stays almost nothing too: incomplete factors of (nearly) M-matrices act locally and keep
signs.
"""

from __future__ import annotations

import math

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.density.incomplete import IncompleteFactors

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_RESTARTS = 5  # where the residual of the recursion has left the true one, or the recursion breaks down


class KrylovSystem:
    """Solves Aρ = b, A = M + a𝓛, by BiCGStab (van der Vorst 1992) preconditioned from the right. Collective.

    Attributes:
        mirrored: entries of the edge graph at which A_ji is asked for too.
        iterations: so far, in all.
    """

    def __init__(self, domain: Domain, level: int) -> None:
        """With incomplete factors of the given ``level`` of fill."""
        owned, everywhere = domain.owned, len(domain.coordinates)
        self._domain, self._factors = domain, IncompleteFactors(domain, level)
        self.mirrored = self._factors.mirrored
        self._matrix: tuple[Integers, Integers, Array, Array]
        self._wide, self._work = [np.zeros(everywhere) for _ in range(3)], [np.zeros(owned) for _ in range(5)]
        self.iterations = 0

    def set(self, values: Array, mirrored: Array, diagonal: Array) -> None:
        """Take A_ij at each entry (i, j) of the edge graph, A_ji at the ``mirrored`` ones, and A_ii, to be left as they are."""
        self._matrix = self._domain.graph.offsets, self._domain.graph.columns, values, diagonal
        self._factors.set(values, mirrored, diagonal)

    def solve(self, right: Array, guess: Array, tolerance: float, limit: int) -> Array | None:
        """ρ (owned, local) with ‖b − Aρ‖ ≤ tolerance ‖b‖ from b = ``right`` and a guess; None if ``limit`` iterations do not do.

        Raises:
            FloatingPointError: a number is not finite, on all ranks alike.
        """
        domain, (x, _, _), (r, *_) = self._domain, self._wide, self._work
        x[: domain.owned] = guess
        domain.exchange.update(x)
        matrix, last = self._matrix, self.iterations + limit
        for _ in range(_RESTARTS):
            squares = domain.sum(_residual(*matrix, x, right, r))
            if not np.isfinite(squares).all():
                raise FloatingPointError
            goal = tolerance**2 * float(squares[1])
            if squares[0] <= goal:
                return x[: domain.owned].copy()
            self._iterate(float(squares[0]), goal, last)
            domain.exchange.update(x)
        return None

    def _iterate(self, square: float, goal: float, last: int) -> None:
        """Iterations from the residual in place until ‖r‖² ≤ ``goal`` by their own account, or they break down."""
        domain, (x, first, second), (r, p, v, t, shadow) = self._domain, self._wide, self._work
        matrix = self._matrix
        shadow[:], p[:], v[:] = r, 0.0, 0.0
        rho, beta, omega = square, 0.0, 0.0
        while square > goal and self.iterations < last:
            self.iterations += 1
            _direction(r, v, beta, omega, p, first)
            self._factors.apply(first)
            across = float(domain.sum(np.array(_product(*matrix, first, shadow, v))))
            alpha = rho / across if across != 0.0 else math.inf
            if not math.isfinite(alpha):
                return
            square = float(domain.sum(np.array(_half_step(v, alpha, first, x, r, second))))
            if square <= goal:
                return
            self._factors.apply(second)
            ts, tt, hs, ht = domain.sum(_products(*matrix, second, shadow, r, t))
            omega = ts / tt if tt > 0.0 else 0.0
            _advance(second, t, omega, x, r)
            square, previous, rho = max(square - omega * ts, 0.0), rho, hs - omega * ht
            if omega == 0.0 or previous == 0.0 or not math.isfinite(square + rho):
                return
            beta = rho / previous * alpha / omega


@njit(cache=True)
def _residual(offsets: Integers, columns: Integers, values: Array, diagonal: Array, x: Array, right: Array, r: Array) -> Array:
    """r = b − Ax; returns ‖r‖² and ‖b‖²."""
    square = size = 0.0
    for i in range(r.size):
        total = right[i] - diagonal[i] * x[i]
        for e in range(offsets[i], offsets[i + 1]):
            total -= values[e] * x[columns[e]]
        r[i] = total
        square += total * total
        size += right[i] * right[i]
    return np.array([square, size])


@njit(cache=True)
def _direction(r: Array, v: Array, beta: float, omega: float, p: Array, z: Array) -> None:
    """p = r + β(p − ωv), and a copy of it in z."""
    for i in range(r.size):
        p[i] = r[i] + beta * (p[i] - omega * v[i])
        z[i] = p[i]


@njit(cache=True)
def _product(offsets: Integers, columns: Integers, values: Array, diagonal: Array, x: Array, shadow: Array, v: Array) -> float:
    """v = Ax; returns ⟨shadow, v⟩."""
    across = 0.0
    for i in range(v.size):
        total = diagonal[i] * x[i]
        for e in range(offsets[i], offsets[i + 1]):
            total += values[e] * x[columns[e]]
        v[i] = total
        across += shadow[i] * total
    return across


@njit(cache=True)
def _half_step(v: Array, alpha: float, first: Array, x: Array, r: Array, z: Array) -> float:
    """x += α·first, r ← s = r − αv, and a copy of it in z; returns ‖s‖²."""
    square = 0.0
    for i in range(r.size):
        x[i] += alpha * first[i]
        r[i] -= alpha * v[i]
        z[i] = r[i]
        square += r[i] * r[i]
    return square


@njit(cache=True)
def _products(
    offsets: Integers, columns: Integers, values: Array, diagonal: Array, x: Array, shadow: Array, s: Array, t: Array
) -> Array:
    """t = Ax; returns ⟨t,s⟩, ⟨t,t⟩, ⟨shadow,s⟩, ⟨shadow,t⟩."""
    ts = tt = hs = ht = 0.0
    for i in range(t.size):
        total = diagonal[i] * x[i]
        for e in range(offsets[i], offsets[i + 1]):
            total += values[e] * x[columns[e]]
        t[i] = total
        ts += total * s[i]
        tt += total * total
        hs += shadow[i] * s[i]
        ht += shadow[i] * total
    return np.array([ts, tt, hs, ht])


@njit(cache=True)
def _advance(second: Array, t: Array, omega: float, x: Array, r: Array) -> None:
    """x += ω·second, r = s − ωt."""
    for i in range(r.size):
        x[i] += omega * second[i]
        r[i] -= omega * t[i]
