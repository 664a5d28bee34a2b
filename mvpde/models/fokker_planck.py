"""Linear Fokker–Planck equations from matrices or expressions: dz = b(z) dt + √(2A(z)) dB,

    ∂_tρ = ∇·(−bρ + ∇·(Aρ)),        b = −Mz, −∇V, or as written;        A ⪰ 0 a matrix, τI, or as written.

A may be full, depend on the place and be degenerate. b = −∇V (also −Mz with M symmetric, V = ½z·Mz) with A = τI is the gradient
flow of ∫Vρ + τ∫ρ log ρ, whose stationary law is ∝ exp(−V/τ); anything else has a stationary probability current in general
(Risken, The Fokker–Planck Equation, 2nd ed. 1989, ch. 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from mvpde.models.expressions.derivatives import gradient
from mvpde.models.expressions.parse import NO_PARAMETERS, Node, compile_expression, has_variable
from mvpde.models.expressions.time import TIME, timed, timed_potential, uses_time
from mvpde.models.expressions.vocabulary import naming, scalar_function, tensor_function, vector_function
from mvpde.models.interaction import ROUNDING, check_diffusion, check_rows, gradient_flow, with_frozen
from mvpde.models.mean_field import Array, MeanField

Function = Callable[[Array], Array]
Coefficient = Callable[[Array, Array], Array]

COORDINATES = ("x", "y", "z")


@dataclass(frozen=True)
class Drift:
    """z, shape (N, D) → b(z), shape (N, D), and V with ∇V where b = −∇V."""

    velocity: Function
    potential: tuple[Function, Function] | None = None


@dataclass(frozen=True)
class Diffusion:
    """(z, m) → A(z), shape (N, D, D), τ where A = τI, and whether A is the same everywhere."""

    tensor: Coefficient
    temperature: float | None = None
    constant: bool = False


def fokker_planck(
    coordinates: Sequence[str],
    *,
    drift_matrix: ArrayLike | None = None,
    diffusion_matrix: ArrayLike | None = None,
    potential: str | None = None,
    drift: Sequence[str] | None = None,
    diffusion: Sequence[Sequence[str]] | None = None,
    temperature: float | None = None,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    frozen: Sequence[str] = (),
) -> MeanField:
    """The model with one of ``drift_matrix``, ``potential``, ``drift`` and one of ``diffusion_matrix``, ``diffusion``,
    ``temperature``.

    Expressions may use the time t, where that is no coordinate and no parameter. A potential that does not keep the law away from
    the walls of a domain is not noticed here: the mass at the walls shows it.

    Args:
        coordinates: names of the D coordinates.
        drift_matrix: M in b = −Mz, shape (D, D).
        diffusion_matrix: A, shape (D, D), symmetric and positive semidefinite; it may be degenerate.
        potential: V in b = −∇V, an expression in the coordinates; it is differentiated exactly.
        drift: b, one expression per coordinate.
        diffusion: A, D rows of D expressions. A density checks at its nodes that A is symmetric and positive semidefinite.
        temperature: τ ≥ 0 in A = τI.
        parameters: numbers that the expressions may use, by name.
        frozen: names of the last coordinates, where they never move; a drift there is 0, and the diffusion is that of the others.

    Raises:
        ValueError: no drift or no diffusion given, or two; a matrix that is not square, not D × D or not finite; a diffusion
            that is not symmetric or has a negative eigenvalue. `ExpressionError`: an expression is refused.
    """
    names = tuple(coordinates)
    _check_expressions(potential, drift or (), diffusion or (), names, parameters)
    if _moves([potential or "0", *(drift or ())], diffusion or (), names, parameters):
        _exactly_one("a drift", drift_matrix=drift_matrix, potential=potential, drift=drift)
        return _moving(names, parameters, (drift_matrix, potential, drift), (diffusion_matrix, diffusion, temperature), frozen)
    b = _drift(names, parameters, drift_matrix, potential, drift)
    a = _diffusion(names, parameters, diffusion_matrix, diffusion, temperature)
    bare = gradient_flow(names)  # no particle sees another: the one feature is 1, R = 0
    if b.potential is not None:
        bare = replace(bare, external_potential=b.potential[0], external_gradient=b.potential[1])
        if a.temperature is not None and not (frozen and temperature is None):
            return with_frozen(replace(bare, temperature=a.temperature), frozen)
    if frozen:
        return _with_frozen(bare, b, a, temperature, frozen)
    return replace(bare, own_drift=lambda z, _: b.velocity(z), own_diffusion=a.tensor, constant_diffusion=a.constant)


def _check_expressions(
    potential: str | None,
    drift: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: tuple[str, ...],
    parameters: Mapping[str, float],
) -> None:
    """Refuse what is no expression, under the key where it stands."""
    keyed = {} if potential is None else {"potential": potential}
    keyed |= {f"drift, entry {k}": text for k, text in enumerate(drift)}
    keyed |= {f"diffusion, row {i}, entry {k}": text for i, row in enumerate(rows) for k, text in enumerate(row)}
    known = names if TIME in (*names, *parameters) else (*names, TIME)
    for key, text in keyed.items():
        with naming(key):
            expression = compile_expression(text, known, parameters)
            if key == "potential":
                gradient(expression, names)


def _moves(texts: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], parameters: Mapping[str, float]) -> bool:
    return uses_time([*texts, *(text for row in rows for text in row)], names, parameters)


def _moving(
    names: tuple[str, ...],
    parameters: Mapping[str, float],
    drifts: tuple[ArrayLike | None, str | None, Sequence[str] | None],
    diffusions: tuple[ArrayLike | None, Sequence[Sequence[str]] | None, float | None],
    frozen: Sequence[str],
) -> MeanField:
    """The model whose potential, drift or diffusion depends on the time t."""
    if frozen:
        raise ValueError("frozen: coordinates that never move do not go with expressions of the time t; leave it out")
    (matrix, potential, texts), (constant, rows, temperature) = drifts, diffusions
    _exactly_one("a diffusion", diffusion_matrix=constant, diffusion=rows, temperature=temperature)
    d, bare = len(names), gradient_flow(names)
    _check_lengths(names, texts)
    check_rows(rows or [["0"] * d] * d, d)
    written = None if rows is None else timed([text for row in rows for text in row], names, parameters, (d, d))
    a = _diffusion(names, parameters, constant, None, temperature) if written is None else None
    well = None if potential is None else timed_potential(potential, names, parameters)
    force = None if texts is None else timed(texts, names, parameters, (d,))
    still = None if matrix is None else _drift(names, parameters, matrix, None, None).velocity

    def at(t: float) -> MeanField:
        model = bare
        if well is not None:
            value, slope = well(t)
            model = replace(bare, external_potential=value, external_gradient=slope)
        if a is not None and a.temperature is not None:
            model = replace(model, temperature=a.temperature)
        elif a is not None:
            model = replace(model, own_diffusion=a.tensor, constant_diffusion=True)
        elif written is not None:
            tensor = written(t)
            model = replace(model, own_diffusion=lambda z, _: tensor(z))
        if well is not None and model.gradient_flow:
            return model
        velocity = still if still is not None else force(t) if force is not None else lambda z: -slope(z)
        return replace(model, own_drift=lambda z, _: velocity(z))

    return replace(at(0.0), moving=at)


def _with_frozen(bare: MeanField, b: Drift, a: Diffusion, temperature: float | None, frozen: Sequence[str]) -> MeanField:
    """The model with last coordinates that do not move: neither the force of a potential nor the noise of τI acts there."""
    moves = np.array([name not in frozen for name in bare.coordinates], float) if b.potential is not None else 1.0
    drifting = replace(bare, own_drift=lambda z, _: b.velocity(z) * moves)
    if temperature is not None:
        return with_frozen(replace(drifting, temperature=temperature), frozen)
    return with_frozen(replace(drifting, own_diffusion=a.tensor, constant_diffusion=a.constant), frozen)


def _exactly_one(what: str, **given: object) -> None:
    keys = [key for key, value in given.items() if value is not None]
    if len(keys) != 1:
        said = "none" if not keys else " and ".join(keys)
        raise ValueError(f"{what} is given by exactly one of {', '.join(given)}, and there is {said}")


def _trees(texts: Sequence[str], names: tuple[str, ...], parameters: Mapping[str, float]) -> list[Node]:
    return [compile_expression(text, names, parameters).tree for text in texts]


# --- drifts ---------------------------------------------------------------------------------------------------------------------


def _drift(
    names: tuple[str, ...],
    parameters: Mapping[str, float],
    matrix: ArrayLike | None,
    potential: str | None,
    texts: Sequence[str] | None,
) -> Drift:
    _exactly_one("a drift", drift_matrix=matrix, potential=potential, drift=texts)
    if matrix is not None:
        return _linear_drift(square(matrix, "drift_matrix", len(names)))
    if texts is not None:
        return _written_drift(texts, names, parameters)
    expression = compile_expression(potential or "", names, parameters)
    slope = vector_function([e.tree for e in gradient(expression, names)], names)
    return Drift(lambda z: -slope(z), (scalar_function(expression.tree, names), slope))


def _linear_drift(m: Array) -> Drift:
    symmetric = bool(np.abs(m - m.T).max() <= ROUNDING * np.abs(m).max())
    energy = (lambda z: 0.5 * np.einsum("na,na->n", z @ m.T, z)), (lambda z: z @ m.T)
    return Drift(lambda z: -z @ m.T, energy if symmetric else None)


def _written_drift(texts: Sequence[str], names: tuple[str, ...], parameters: Mapping[str, float]) -> Drift:
    _check_lengths(names, texts)
    return Drift(vector_function(_trees(texts, names, parameters), names))


def _check_lengths(names: Sequence[str], texts: Sequence[str] | None) -> None:
    if texts is not None and len(texts) != len(names):
        raise ValueError(f"drift: has {len(texts)} expressions for the coordinates {', '.join(names)}")


# --- diffusions -----------------------------------------------------------------------------------------------------------------


def _diffusion(
    names: tuple[str, ...],
    parameters: Mapping[str, float],
    matrix: ArrayLike | None,
    rows: Sequence[Sequence[str]] | None,
    temperature: float | None,
) -> Diffusion:
    d = len(names)
    _exactly_one("a diffusion", diffusion_matrix=matrix, diffusion=rows, temperature=temperature)
    if matrix is not None:
        return _constant_diffusion(square(matrix, "diffusion_matrix", d))
    if temperature is not None:
        if not temperature >= 0.0:
            raise ValueError(f"temperature is {temperature}; it must be 0 or positive")
        return _constant_diffusion(temperature * np.eye(d))
    check_rows(rows or (), d)
    trees = [tree for row in rows or () for tree in _trees(row, names, parameters)]
    return Diffusion(tensor_function(trees, names, (), (d, d)), constant=not any(has_variable(tree) for tree in trees))


def _constant_diffusion(a: Array) -> Diffusion:
    check_diffusion(a, "diffusion_matrix")
    isotropic = bool(np.array_equal(a, a[0, 0] * np.eye(len(a))))
    return Diffusion(lambda z, _: np.broadcast_to(a, (len(z), *a.shape)), float(a[0, 0]) if isotropic else None, constant=True)


# --- checks ---------------------------------------------------------------------------------------------------------------------


def square(matrix: ArrayLike, name: str, dimension: int) -> Array:
    """The matrix as an array, shape (D, D).

    Raises:
        ValueError: if it is not square, not of this dimension, or has an entry that is not a finite number.
    """
    try:
        array = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: is not a matrix of numbers; its rows need the same length") from None
    shape = " × ".join(str(n) for n in array.shape)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(
            f"{name}: must be a square matrix, a list of D rows of D numbers; this one has the shape {shape or 'of a number'}"
        )
    if len(array) != dimension:
        raise ValueError(f"{name}: is {shape}, but the number of coordinates is {dimension}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: has an entry that is not a finite number")
    return array
