"""Mean-field models from expressions: a potential and features with an outer energy, or a drift and a diffusion tensor.

    V(z; m) = V0(z) + Σ_k ∂_kR(m) g_k(z),     dZ = −∇V(Z; m) dt + √(2τ) dB            (`gradient_flow`)
    dZ = b(Z; m) dt + √(2A(Z; m)) dB,         m_k = ∫ g_k dρ                          (`diffusion`)

Expressions use the coordinates, parameters, and, where moments may stand, m0, m1, …; they are differentiated exactly. What is
given by a function of two particles is in `pair_interaction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mvpde.models.expressions.derivatives import ONE, derivative, gradient
from mvpde.models.expressions.parse import NO_PARAMETERS, ExpressionError, Node, compile_expression, has_variable
from mvpde.models.expressions.programs import program
from mvpde.models.expressions.vocabulary import (
    NO_EXPRESSIONS,
    Vocabulary,
    check_list,
    external,
    naming,
    observed,
    tensor_function,
    vocabulary,
)
from mvpde.models.losses import is_convex_quadratic
from mvpde.models.mean_field import Array, MeanField

ROUNDING = 1e-12  # relative asymmetry or negative eigenvalue that counts as rounding

# --- gradient flows -------------------------------------------------------------------------------------------------------------


def gradient_flow(
    coordinates: Sequence[str],
    *,
    potential: str | None = None,
    features: Sequence[str] = (),
    outer_energy: str | None = None,
    temperature: float = 0.0,
    periods: Mapping[str, float] = NO_PARAMETERS,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    observables: Mapping[str, str] = NO_EXPRESSIONS,
    frozen: Sequence[str] = (),
) -> MeanField:
    """The gradient flow of R(m) + ∫V0 dρ + τ∫ρ log ρ, m_k = ∫g_k dρ.

    Where every feature is the last coordinate times a function of the others, the model says so, and measures save work as they
    do for networks.

    Args:
        coordinates: names of the D coordinates.
        potential: V0, an expression in the coordinates; None: 0.
        features: g_k, expressions in the coordinates.
        outer_energy: R, an expression in m0, m1, …; None with no features: no interaction.
        temperature: τ ≥ 0.
        periods: of coordinates that have one; all expressions must have them too.
        parameters: numbers that expressions may use by name.
        observables: further expressions whose means are recorded in a run, by name.
        frozen: names of the last coordinates, where they never move: the flow is that of the others, given these.

    Raises:
        ValueError: features without outer energy or the other way round, names that are none, functions without the periods.
        `ExpressionError`: an expression is refused, or jumps, so that there is no gradient.
    """
    words = vocabulary(coordinates, periods, parameters)
    if bool(features) != (outer_energy is not None):
        raise ValueError("outer_energy: R(m) and the features whose means it depends on belong together; give both or none")
    trees = [e.tree for e in words.expressions("features", features)]
    words.check_periods("features", trees)
    weighted = _without_weight(trees, words.coordinates)
    inner = words.coordinates[:-1] if weighted else words.coordinates
    profile = weighted or trees or [ONE]
    values, field = profile_functions(profile, inner, "features")
    energy, slope = outer(words, outer_energy or "0", len(profile))
    v0, push = external(words, potential)
    model = MeanField(
        coordinates=words.coordinates,
        profile=values,
        profile_field=field,
        outer_energy=energy,
        outer_gradient=slope,
        external_potential=v0,
        external_gradient=push,
        temperature=temperature,
        output_weight=bool(weighted),
        periods=words.period_list(),
        interacting=bool(trees),
        convex=is_convex_quadratic(slope, len(profile)),
        observables=observed(words, trees, observables),
    )
    return with_frozen(model, frozen)


def with_frozen(model: MeanField, names: Sequence[str]) -> MeanField:
    """The model whose last coordinates never move: natural frequencies, random fields, whatever is drawn once.

    Args:
        model: with a drift or diffusion of its own, these are 0 there; a potential may depend on them as it likes.
        names: of the coordinates, in order.

    Raises:
        ValueError: names of no coordinates, not the last ones, or all of them; one with a period; a drift or diffusion there.
    """
    check_list("frozen", names)
    if not names:
        return model
    for name in names:
        if name not in model.coordinates:
            raise ValueError(f"frozen: there is no coordinate `{name}`; name one of {', '.join(model.coordinates)}")
    if tuple(names) != model.coordinates[-len(names) :] or len(names) == model.dimension:
        raise ValueError(f"frozen: must be the last of the coordinates {', '.join(model.coordinates)}, and not all; reorder them")
    places = range(model.dimension - len(names), model.dimension)
    _check_stays(model, places)
    for place in places:
        if model.periods[place] is not None:
            raise ValueError(
                f"periods: the frozen coordinate `{model.coordinates[place]}` needs none, as it never moves; remove it"
            )
    return replace(model, frozen=len(names))


def _check_stays(model: MeanField, places: Sequence[int]) -> None:
    """Refuse a drift or diffusion along coordinates that do not move, at generic points."""
    periods = {name: period for name, period in zip(model.coordinates, model.periods, strict=True) if period is not None}
    z, m = Vocabulary(model.coordinates, periods, {}).points(), np.linspace(0.3, 0.7, model.features)
    for place in places:
        name = model.coordinates[place]
        helps = f'for the frozen coordinate `{name}` must be 0; write "0" there, or take `{name}` out of `frozen`'
        with np.errstate(all="ignore"):
            drift = 0.0 if model.own_drift is None else np.abs(model.drift(z, m)[:, place]).max()
            noise = 0.0 if model.own_diffusion is None else np.abs(model.diffusion(z, m)[:, place]).max()
        if drift != 0.0:
            raise ValueError(f"drift: entry {place} {helps}")
        if noise != 0.0:
            raise ValueError(f"diffusion: row {place} {helps}")


def _without_weight(trees: Sequence[Node], coordinates: Sequence[str]) -> list[Node]:
    """φ_k where all g_k(y, c) = c φ_k(y), c the last coordinate, else nothing: φ = ∂_cg free of c, and g = 0 at c = 0."""
    *inner, last = coordinates
    if not (inner and trees):
        return []
    try:
        slopes = [derivative(tree, last) for tree in trees]
    except ExpressionError:
        return []
    if any(has_variable(slope, [last]) for slope in slopes):
        return []
    points = np.column_stack([np.linspace(0.21, 0.83, 7)] * len(inner) + [np.zeros(7)])
    return slopes if np.all(program(trees, coordinates).at(points) == 0.0) else []


def profile_functions(
    trees: Sequence[Node], variables: tuple[str, ...], key: str
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], tuple[Array, Array]]]:
    """`profile` and `profile_field` of a `MeanField`, from the trees φ_k."""
    with naming(key):
        slopes = [derivative(tree, variable) for variable in variables for tree in trees]
    values, both = program(trees, variables), program([*trees, *slopes], variables)
    count = len(trees)

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        sums = r @ both.at(y).reshape(1 + len(variables), count, len(y))
        return sums[0], sums[1:].T

    return lambda y: values.at(y).T, profile_field


def outer(words: Vocabulary, text: str, count: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """`outer_energy` and `outer_gradient` of a `MeanField`, R an expression in m0, …, m_{count−1}."""
    names = tuple(f"m{k}" for k in range(count))
    with naming("outer_energy"):
        expression = compile_expression(text, names, words.parameters)
        slopes = [e.tree for e in gradient(expression, names)]
    energy, slope = program([expression.tree], names), program(slopes, names)
    return (
        lambda m: energy.at(m.reshape(-1, count))[0].reshape(m.shape[:-1]),
        lambda m: slope.at(m.reshape(-1, count)).T.reshape(m.shape),
    )


# --- drift and diffusion --------------------------------------------------------------------------------------------------------


def diffusion(
    coordinates: Sequence[str],
    *,
    drift: Sequence[str],
    diffusion: Sequence[Sequence[str]] | None = None,
    temperature: float | None = None,
    features: Sequence[str] = (),
    periods: Mapping[str, float] = NO_PARAMETERS,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    observables: Mapping[str, str] = NO_EXPRESSIONS,
    frozen: Sequence[str] = (),
) -> MeanField:
    """dZ = b(Z; m) dt + √(2A(Z; m)) dB in Itô form, m_k = ∫g_k dρ: no free energy is known.

    Args:
        coordinates: names of the D coordinates.
        drift: b, one expression per coordinate, in the coordinates and m0, m1, ….
        diffusion: A, D rows of D expressions in the same; or ``temperature``.
        temperature: τ ≥ 0 in A = τI.
        features: g_k, expressions in the coordinates.
        periods, parameters, observables, frozen: as for `mvpde.gradient_flow`; b and A are 0 along frozen coordinates.

    Raises:
        ValueError: not one expression per coordinate; both or none of ``diffusion`` and ``temperature``; a diffusion that is not
            symmetric positive semidefinite at generic points. `ExpressionError`: an expression is refused.
    """
    words = vocabulary(coordinates, periods, parameters)
    check_list("drift", drift)
    dimension, moments = len(words.coordinates), words.moments(features)
    if len(drift) != dimension:
        raise ValueError(f"drift: has {len(drift)} expressions for the coordinates {', '.join(words.coordinates)}")
    if (diffusion is None) == (temperature is None):
        raise ValueError("diffusion: give either `diffusion` or `temperature`")
    trees = [e.tree for e in words.expressions("features", features)]
    b = [e.tree for e in words.expressions("drift", drift, moments)]
    a = _diffusion_trees(words, diffusion or [], moments)
    words.check_periods("features", trees)
    words.check_periods("drift", b, moments)
    words.check_periods("diffusion", a, moments)
    values, field = profile_functions(trees or [ONE], words.coordinates, "features")
    model = MeanField(
        coordinates=words.coordinates,
        profile=values,
        profile_field=field,
        outer_energy=lambda m: 0.0 * m[..., 0],
        outer_gradient=np.zeros_like,
        temperature=temperature or 0.0,
        periods=words.period_list(),
        own_drift=tensor_function(b, words.coordinates, moments, (dimension,)),
        own_diffusion=tensor_function(a, words.coordinates, moments, (dimension, dimension)) if a else None,
        interacting=any(has_variable(tree, moments) for tree in [*b, *a]),
        constant_diffusion=not any(has_variable(tree) for tree in a),
        observables=observed(words, trees, observables),
    )
    return with_frozen(model, frozen)


def _diffusion_trees(words: Vocabulary, rows: Sequence[Sequence[str]], moments: Sequence[str]) -> list[Node]:
    d = len(words.coordinates)
    if rows:
        check_rows(rows, d)
    trees = [e.tree for i, row in enumerate(rows) for e in words.expressions(f"diffusion, row {i}", row, moments)]
    if trees and not any(has_variable(tree) for tree in trees):
        check_diffusion(program(trees, words.coordinates).at(np.zeros((1, d)))[:, 0].reshape(d, d), "diffusion")
    return trees


def check_rows(rows: Sequence[Sequence[str]], dimension: int) -> None:
    """Refuse a tensor that is not written as D rows of D expressions."""
    if len(rows) != dimension or any(len(row) != dimension for row in rows):
        said = ", ".join(str(len(row)) for row in rows)
        raise ValueError(f"diffusion: needs {dimension} rows of {dimension} expressions, it has rows of {said}")


def check_diffusion(a: Array, name: str) -> None:
    """Refuse a matrix, shape (D, D), that is not symmetric and positive semidefinite up to rounding.

    Raises:
        ValueError: naming the entries that differ or the negative eigenvalue.
    """
    size = float(np.abs(a).max())
    skew = np.abs(a - a.T)
    if skew.max() > ROUNDING * size:
        i, j = np.unravel_index(int(np.argmax(skew)), a.shape)
        raise ValueError(f"{name}: must be symmetric, but [{i}][{j}] = {a[i, j]:g} and [{j}][{i}] = {a[j, i]:g} differ")
    smallest = float(np.linalg.eigvalsh(a)[0])
    if smallest < -ROUNDING * size:
        raise ValueError(
            f"{name}: must be positive semidefinite, but has the eigenvalue {smallest:.6g}; off the diagonal, "
            "[i][j]² may be at most [i][i]·[j][j]"
        )
