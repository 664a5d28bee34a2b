"""Interactions of pairs, ½∬W(x, x')ρ(dx)ρ(dx'), compressed to a finite rank.

W is interpolated in both places through its own values at chosen points (a skeleton, or adaptive cross approximation: Bebendorf,
Numer. Math. 86 (2000) 565; Goreinov, Tyrtyshnikov & Zamarashkin, Linear Algebra Appl. 261 (1997) 1),

    W(x, x') ≈ W(x, J) W(I, J)⁻¹ W(I, x'),

so that features and their gradients are those of W itself, defined everywhere, and exact where W has finite rank. Points I, J are
picked by full pivoting on a sample of a box until the rest is below the tolerance; the error is then measured on other points.

A symmetric W = Σ_k s_k g_k(x)g_k(x'), s_k = ±1, has R(m) = ½Σ s_k m_k². A non-symmetric W(x, x') = Σ_k l_k(x)r_k(x') is the drift
b = −∇V0 − Σ_k m_k∇l_k, m_k = ∫r_k dρ, without a free energy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mvpde.models.expressions.derivatives import gradient
from mvpde.models.expressions.parse import NO_PARAMETERS
from mvpde.models.expressions.programs import program
from mvpde.models.expressions.vocabulary import NO_EXPRESSIONS, Vocabulary, external, naming, observed, vocabulary
from mvpde.models.interaction import with_frozen
from mvpde.models.mean_field import Array, MeanField

LARGEST_RANK = 200
_SAMPLE = 600  # points on which pivots are chosen
_CHECKED = 400  # others on which the error is measured
_TRIES = 3
_MARGIN = 0.3  # of the tolerance, at which pivoting ends
_SYMMETRIC = 1e-12  # relative difference of W(x, x') and W(x', x) that counts as none
_KEPT = 1e-14  # eigenvalues of W(I, I) below this part of the largest are rounding

Kernel = Callable[[Array, Array], Array]  # (x, x') with shapes (N, D), (M, D) → (1 + D, M, N): W and its gradient in x


@dataclass(frozen=True)
class Skeleton:
    """W(x, x') ≈ Σ_k [W(x, right)·left_factor]_k [right_factor·W(left, x')]_k, and how well.

    Attributes:
        left, right: the points I and J, shape (r, D).
        left_factor, right_factor: shapes (r, K), (K, r); for a symmetric W left = right, right_factor = diag(signs)·left_factorᵀ.
        signs: s_k for a symmetric W, else None.
        error: largest |difference| over largest |W|, on points that were not used to make it.
    """

    left: Array
    right: Array
    left_factor: Array
    right_factor: Array
    signs: Array | None
    error: float

    @property
    def rank(self) -> int:
        """K."""
        return self.left_factor.shape[1]


def pair_interaction(
    coordinates: Sequence[str],
    *,
    interaction: str,
    lower: Sequence[float],
    upper: Sequence[float],
    rank_tolerance: float = 1e-6,
    potential: str | None = None,
    temperature: float = 0.0,
    periods: Mapping[str, float] = NO_PARAMETERS,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    observables: Mapping[str, str] = NO_EXPRESSIONS,
    frozen: Sequence[str] = (),
) -> MeanField:
    """The model of particles with V(x) = V0(x) + ∫W(x, x')ρ(dx') and noise of temperature τ.

    Args:
        coordinates: names of the D coordinates.
        interaction: W, an expression in the coordinates x of a particle and x' (or x_) of the other: ``"(x - x')**2"``.
        lower, upper: the box in which W is compressed, D numbers each; periodic directions are taken whole.
        rank_tolerance: largest error of the compression, as part of the largest |W|, in (0, 1).
        potential: V0, an expression in the coordinates; None: 0.
        temperature: τ ≥ 0.
        periods, parameters, observables, frozen: as for `mvpde.gradient_flow`.

    Raises:
        ValueError: a W that is not finite on the box or needs more than 200 terms; names that are none; a function without the
            periods. `ExpressionError`: an expression is refused.
    """
    words = vocabulary(coordinates, periods, parameters)
    if not 0.0 < rank_tolerance < 1.0:
        raise ValueError(f"rank_tolerance: is {rank_tolerance}; it must lie in (0, 1)")
    kernel = _kernel(words, interaction)
    skeleton = compress(kernel, *_box(words, lower, upper), rank_tolerance)
    model = _flow if skeleton.signs is not None else _drifting
    pairs = replace(
        model(words.coordinates, kernel, skeleton, external(words, potential)),
        temperature=temperature,
        periods=words.period_list(),
        observables=observed(words, [], observables),
        pairs=lambda x, other: (kernel(x, other)[0], _interpolated(kernel, skeleton, x, other)),
        facts={"interaction_rank": skeleton.rank, "interaction_error": skeleton.error},
    )
    still = with_frozen(replace(pairs, own_drift=None), frozen).frozen  # the force along frozen coordinates is not followed
    return replace(pairs, frozen=still)


def _box(words: Vocabulary, lower: Sequence[float], upper: Sequence[float]) -> tuple[Array, Array, list[bool]]:
    low, high = np.array(lower, float), np.array(upper, float)
    periodic = [period is not None for period in words.period_list()]
    if not low.shape == high.shape == (len(periodic),):
        raise ValueError(f"lower, upper: need {len(periodic)} numbers each, one for each of {', '.join(words.coordinates)}")
    for axis, period in enumerate(words.period_list()):
        if period is not None:
            high[axis] = low[axis] + period
    if not (np.all(low < high) and np.isfinite(high - low).all()):
        raise ValueError(f"lower, upper: must be finite, lower below upper, not {low.tolist()} and {high.tolist()}")
    return low, high, periodic


def _kernel(words: Vocabulary, text: str) -> Kernel:
    names = words.coordinates
    others = tuple(f"{name}_" for name in names)
    taken = [name for name in others if name in names or name in words.parameters]
    if taken:
        raise ValueError(f"parameters: '{taken[0]}' is the place of the other particle in interaction; choose another name")
    expression = words.expression("interaction", text.replace("'", "_"), others)
    with naming("interaction"):
        trees = [expression.tree, *(e.tree for e in gradient(expression, names))]
    both = {**words.periods, **{f"{name}_": period for name, period in words.periods.items()}}
    Vocabulary((*names, *others), both, words.parameters).check_periods("interaction", trees[:1])
    run = program(trees, names, (), others)

    def kernel(x: Array, other: Array) -> Array:
        result = np.empty((len(trees), len(other), len(x)))
        with np.errstate(all="ignore"):
            run.run([*x.T[:, None, :], *other.T[:, :, None]], result)
        return result

    return kernel


# --- compression ----------------------------------------------------------------------------------------------------------------


def compress(kernel: Kernel, lower: Array, upper: Array, periodic: Sequence[bool], tolerance: float) -> Skeleton:
    """A skeleton of W on a box to a relative error ``tolerance``, measured.

    Raises:
        ValueError: W is not finite somewhere on the box, or has no such skeleton of `LARGEST_RANK` points.
    """
    rng = np.random.default_rng(0)
    sample = _lattice(lower, upper, periodic)
    wanted = _MARGIN * tolerance
    for _ in range(_TRIES):
        others = lower + (upper - lower) * rng.random((2, _CHECKED, len(lower)))
        values = kernel(sample, sample)[0].T
        if not np.isfinite(values).all():
            worst = sample[np.argwhere(~np.isfinite(values))[0]]
            raise ValueError(f"interaction: is not a finite number between the places {worst[0]} and {worst[1]}")
        size = float(np.abs(values).max())
        if size == 0.0:
            raise ValueError("interaction: is zero everywhere; leave it out")
        skeleton = _skeleton(values, sample, wanted)
        if skeleton is None:
            break
        error = float(np.abs(kernel(*others)[0] - _interpolated(kernel, skeleton, *others)).max()) / size
        if error <= tolerance:
            return Skeleton(**{**vars(skeleton), "error": error})
        sample, wanted = np.concatenate([sample, *others]), 0.3 * wanted
    raise ValueError(
        f"interaction: has no form of rank {LARGEST_RANK} or less with a relative error of {tolerance:g} on this domain; "
        "choose a larger rank_tolerance, a smaller domain, or a smoother function"
    )


def _lattice(lower: Array, upper: Array, periodic: Sequence[bool]) -> Array:
    count = int(_SAMPLE ** (1.0 / len(lower)))
    axes = [
        np.linspace(a, b, count, endpoint=not turns) + (0.0 if not turns else 0.37 * (b - a) / count)
        for a, b, turns in zip(lower, upper, periodic, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(lower))


def _skeleton(values: Array, sample: Array, tolerance: float) -> Skeleton | None:
    """From W on the sample, shape (M, M); None where the rank is too large."""
    size = float(np.abs(values).max())
    symmetric = bool(np.abs(values - values.T).max() <= _SYMMETRIC * size)
    pivots = _pivots(0.5 * (values + values.T) if symmetric else values, tolerance * size, symmetric)
    if pivots is None:
        return None
    rows, columns = pivots
    core = values[np.ix_(rows, columns)]
    if symmetric:
        eigenvalues, vectors = np.linalg.eigh(0.5 * (core + core.T))
        kept = np.abs(eigenvalues) > _KEPT * np.abs(eigenvalues).max(initial=0.0)
        signs = np.sign(eigenvalues[kept])
        factor = vectors[:, kept] / np.sqrt(np.abs(eigenvalues[kept]))
        return Skeleton(sample[rows], sample[rows], factor, signs[:, None] * factor.T, signs, np.inf)
    left, singular, right = np.linalg.svd(core)
    kept = singular > _KEPT * singular.max(initial=0.0)
    root = np.sqrt(singular[kept])
    return Skeleton(sample[rows], sample[columns], right[kept].T / root, left[:, kept].T / root[:, None], None, np.inf)


def _pivots(values: Array, bound: float, symmetric: bool) -> tuple[list[int], list[int]] | None:
    """Rows and columns of full pivoting until no entry of the rest exceeds ``bound``; for a symmetric matrix they are the same,
    entries off the diagonal being taken as pairs (Bunch & Parlett, SIAM J. Numer. Anal. 8 (1971) 639)."""
    rest = values.copy()
    rows: list[int] = []
    columns: list[int] = []
    while True:
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(np.abs(rest))), rest.shape))
        if not abs(rest[i, j]) > bound:
            return rows, columns
        if len(rows) >= LARGEST_RANK:
            return None
        new_rows, new_columns = [i], [j]
        if symmetric:
            diagonal = int(np.argmax(np.abs(np.diag(rest))))
            alone = abs(rest[diagonal, diagonal]) >= 0.64 * abs(rest[i, j])
            new_rows = new_columns = [diagonal] if alone else [i, j]
        rest -= rest[:, new_columns] @ np.linalg.solve(rest[np.ix_(new_rows, new_columns)], rest[new_rows])
        rows, columns = rows + new_rows, columns + new_columns


def _interpolated(kernel: Kernel, skeleton: Skeleton, x: Array, other: Array) -> Array:
    """The compressed W, shape (M, N) for N points x and M points x'."""
    left = kernel(x, skeleton.right)[0].T @ skeleton.left_factor
    right = _right(kernel, skeleton, other)
    return (left @ right).T


def _right(kernel: Kernel, skeleton: Skeleton, other: Array) -> Array:
    """r_k(x') = [right_factor·W(left, x')]_k, shape (K, M)."""
    return skeleton.right_factor @ kernel(skeleton.left, other)[0].T


# --- models ---------------------------------------------------------------------------------------------------------------------


Field = Callable[[Array], Array]


def _flow(coordinates: tuple[str, ...], kernel: Kernel, skeleton: Skeleton, outside: tuple[Field, Field]) -> MeanField:
    """R(m) = ½Σ s_k m_k², g(x) = W(x, J)·factor."""
    signs = np.ones(skeleton.rank) if skeleton.signs is None else skeleton.signs

    def profile_field(x: Array, r: Array) -> tuple[Array, Array]:
        sums = (skeleton.left_factor @ r) @ kernel(x, skeleton.right)
        return sums[0], sums[1:].T

    return MeanField(
        coordinates=coordinates,
        profile=lambda x: kernel(x, skeleton.right)[0].T @ skeleton.left_factor,
        profile_field=profile_field,
        outer_energy=lambda m: 0.5 * (np.square(m) @ signs),
        outer_gradient=lambda m: signs * m,
        convex=bool((signs > 0.0).all()),
        external_potential=outside[0],
        external_gradient=outside[1],
    )


def _drifting(coordinates: tuple[str, ...], kernel: Kernel, skeleton: Skeleton, outside: tuple[Field, Field]) -> MeanField:
    """b(x; m) = −∇V0 − Σ_k m_k∇l_k, with the features r_k."""

    def drift(x: Array, m: Array) -> Array:
        return -np.asarray(outside[1](x)) - ((skeleton.left_factor @ m) @ kernel(x, skeleton.right)[1:]).T

    return MeanField(
        coordinates=coordinates,
        profile=lambda x: _right(kernel, skeleton, x).T,
        profile_field=lambda x, r: (r @ _right(kernel, skeleton, x), np.zeros_like(x)),
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        own_drift=drift,
    )
