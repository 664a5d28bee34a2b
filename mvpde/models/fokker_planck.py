"""Linear Fokker–Planck equations from matrices or expressions: dz = b(z) dt + √(2A(z)) dB,

    ∂_tρ = ∇·(−bρ + ∇·(Aρ)),        b = −Mz, −∇V, or as written;        A ⪰ 0 a matrix, τI, or as written.

A may be full, depend on the place and be degenerate. b = −∇V (also −Mz with M symmetric, V = ½z·Mz) with A = τI is the gradient
flow of ∫Vρ + τ∫ρ log ρ, whose stationary law is ∝ exp(−V/τ); anything else has a stationary probability current in general
(Risken, The Fokker–Planck Equation, 2nd ed. 1989, ch. 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mvpde.models.expressions.derivatives import differentiate
from mvpde.models.expressions.parse import compile_expression, has_variable
from mvpde.models.mean_field import Array, MeanField

Function = Callable[[Array], Array]

COORDINATES = ("x", "y", "z")
ROUNDING = 1e-12  # relative asymmetry or negative eigenvalue that counts as rounding
NO_PARAMETERS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Drift:
    """z, shape (N, D) → b(z), shape (N, D), and V, shape (N,), where b = −∇V."""

    velocity: Function
    potential: Function | None = None


@dataclass(frozen=True)
class Diffusion:
    """z, shape (N, D) → A(z), shape (N, D, D), τ where A = τI, and whether A is the same everywhere."""

    tensor: Function
    temperature: float | None = None
    constant: bool = False


@dataclass(frozen=True)
class Setting:
    """What expressions are written in: the coordinates, and parameters with their values."""

    coordinates: tuple[str, ...]
    parameters: Mapping[str, float]

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.coordinates)

    def varies(self, text: str) -> bool:
        """Whether the expression depends on a coordinate."""
        return has_variable(compile_expression(text, (*self.coordinates, *self.parameters)).tree, self.coordinates)

    def functions(self, text: str) -> tuple[Function, Callable[[], Function]]:
        """The expression as a function z, shape (N, D) → (N,), and how to make its gradient, z → (N, D)."""
        expression = compile_expression(text, (*self.coordinates, *self.parameters))

        def values(z: Array) -> dict[str, Any]:
            return {**dict(zip(self.coordinates, z.T, strict=True)), **self.parameters}

        def gradient() -> Function:
            parts = [differentiate(expression, name) for name in self.coordinates]
            return lambda z: np.column_stack([part(values(z)) for part in parts])

        return lambda z: expression(values(z)), gradient


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
) -> MeanField:
    """The model with one of ``drift_matrix``, ``potential``, ``drift`` and one of ``diffusion_matrix``, ``diffusion``,
    ``temperature``.

    A potential that does not keep the law away from the walls of a domain is not noticed here: the mass at the walls shows it.

    Args:
        coordinates: names of the D coordinates.
        drift_matrix: M in b = −Mz, shape (D, D).
        diffusion_matrix: A, shape (D, D), symmetric and positive semidefinite; it may be degenerate.
        potential: V in b = −∇V, an expression in the coordinates; it is differentiated exactly.
        drift: b, one expression per coordinate.
        diffusion: A, D rows of D expressions. A density checks at its nodes that A is symmetric and positive semidefinite.
        temperature: τ ≥ 0 in A = τI.
        parameters: numbers that the expressions may use, by name.

    Raises:
        ValueError: no drift or no diffusion given, or two; a matrix that is not square, not D × D or not finite; a diffusion
            that is not symmetric or has a negative eigenvalue. `ExpressionError`: an expression is refused.
    """
    setting = Setting(tuple(coordinates), parameters)
    b = _only("a drift", _DRIFTS, {"drift_matrix": drift_matrix, "potential": potential, "drift": drift}, setting)
    a = _only(
        "a diffusion",
        _DIFFUSIONS,
        {"diffusion_matrix": diffusion_matrix, "diffusion": diffusion, "temperature": temperature},
        setting,
    )
    return _model(setting.coordinates, b, a)


def _model(coordinates: tuple[str, ...], b: Drift, a: Diffusion) -> MeanField:
    """No particle sees another: the one feature is 1, R = 0, and V0 = V where the drift has a potential."""
    shared: dict[str, Any] = {
        "coordinates": coordinates,
        "profile": lambda y: np.ones((len(y), 1)),
        "profile_field": lambda y, r: (np.full(len(y), r[0]), np.zeros_like(y)),
        "outer_energy": lambda m: 0.0 * m[..., 0],
        "outer_gradient": np.zeros_like,
        "interacting": False,
    }
    if b.potential is not None:
        shared |= {"external_potential": b.potential, "external_gradient": lambda z: -b.velocity(z)}
        if a.temperature is not None:
            return MeanField(**shared, temperature=a.temperature)
    return MeanField(
        **shared, own_drift=lambda z, _: b.velocity(z), own_diffusion=lambda z, _: a.tensor(z), constant_diffusion=a.constant
    )


def _only(what: str, builders: Mapping[str, Callable[[Any, Setting], Any]], given: Mapping[str, Any], setting: Setting) -> Any:
    """Build the one thing that was given."""
    keys = [key for key, value in given.items() if value is not None]
    if len(keys) != 1:
        said = "none" if not keys else " and ".join(keys)
        raise ValueError(f"{what} is given by exactly one of {', '.join(builders)}, and there is {said}")
    return builders[keys[0]](given[keys[0]], setting)


# --- drifts ---------------------------------------------------------------------------------------------------------------------


def _linear_drift(matrix: ArrayLike, setting: Setting) -> Drift:
    m = square(matrix, "drift_matrix", setting.dimension)
    symmetric = bool(np.abs(m - m.T).max() <= ROUNDING * np.abs(m).max())
    return Drift(lambda z: -z @ m.T, (lambda z: 0.5 * np.einsum("na,na->n", z @ m.T, z)) if symmetric else None)


def _potential_drift(text: str, setting: Setting) -> Drift:
    potential, gradient = setting.functions(text)
    slope = gradient()
    return Drift(lambda z: -slope(z), potential)


def _written_drift(texts: Sequence[str], setting: Setting) -> Drift:
    if len(texts) != setting.dimension:
        raise ValueError(f"drift: has {len(texts)} expressions for the coordinates {', '.join(setting.coordinates)}")
    parts = [setting.functions(text)[0] for text in texts]
    return Drift(lambda z: np.column_stack([part(z) for part in parts]))


# --- diffusions -----------------------------------------------------------------------------------------------------------------


def _constant_diffusion(matrix: ArrayLike, setting: Setting) -> Diffusion:
    a = square(matrix, "diffusion_matrix", setting.dimension)
    check_diffusion(a, "diffusion_matrix")
    isotropic = bool(np.array_equal(a, a[0, 0] * np.eye(len(a))))
    return Diffusion(lambda z: np.broadcast_to(a, (len(z), *a.shape)), float(a[0, 0]) if isotropic else None, constant=True)


def _isotropic_diffusion(temperature: float, setting: Setting) -> Diffusion:
    if not temperature >= 0.0:
        raise ValueError(f"temperature is {temperature}; it must be 0 or positive")
    return _constant_diffusion(temperature * np.eye(setting.dimension), setting)


def _written_diffusion(texts: Sequence[Sequence[str]], setting: Setting) -> Diffusion:
    d = setting.dimension
    if len(texts) != d or any(len(row) != d for row in texts):
        raise ValueError(
            f"diffusion: needs {d} rows of {d} expressions, it has rows of {', '.join(str(len(row)) for row in texts)}"
        )
    parts = [[setting.functions(text)[0] for text in row] for row in texts]
    return Diffusion(
        lambda z: np.stack([np.stack([part(z) for part in row], axis=-1) for row in parts], axis=-2),
        constant=not any(setting.varies(text) for row in texts for text in row),
    )


_DRIFTS: dict[str, Callable[[Any, Setting], Drift]] = {
    "drift_matrix": _linear_drift,
    "potential": _potential_drift,
    "drift": _written_drift,
}
_DIFFUSIONS: dict[str, Callable[[Any, Setting], Diffusion]] = {
    "diffusion_matrix": _constant_diffusion,
    "diffusion": _written_diffusion,
    "temperature": _isotropic_diffusion,
}


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
