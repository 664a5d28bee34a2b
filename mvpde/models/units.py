"""Units φ(x, y) of shallow networks f(x) = ∫ c φ(x, y) ρ(dy, dc).

A unit builder takes the inputs x_p and returns a `Unit`: φ(x_p, ·) for all p at once, with the coordinates of y.
A new unit is one builder and one entry of `UNITS`; its keyword arguments are what a case file may set in ``unit_parameters``.

Callers pass blocks of one or two thousand points, so that the (N, P) arrays below stay in the cache. Each block costs one matrix
product for the arguments, one transcendental function per element, in place, and one matrix product for value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvpde.registry import Registry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """The functions φ_p(y) = φ(x_p, y) of the unit's parameters y ∈ R^d at P fixed inputs.

    Attributes:
        coordinates: names of the d coordinates of y.
        periods: period of each coordinate of y, None on the real line.
        profile: y, shape (N, d) → φ_p(y), shape (N, P).
        profile_field: (y, r), shapes (N, d) and (P,) → Σ_p r_p φ_p(y), shape (N,), and its gradient in y, shape (N, d).
        sphere: radius of the sphere of R^d that y lies on, None where y is any point of R^d.
    """

    coordinates: tuple[str, ...]
    periods: tuple[float | None, ...]
    profile: Callable[[Array], Array]
    profile_field: Callable[[Array, Array], tuple[Array, Array]]
    sphere: float | None = None


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}{k + 1}" for k in range(count))


def _on_line(
    coordinates: tuple[str, ...], profile: Callable[[Array], Array], profile_field: Callable[[Array, Array], tuple[Array, Array]]
) -> Unit:
    return Unit(coordinates, (None,) * len(coordinates), profile, profile_field)


def _affine(x: Array, bias: bool) -> tuple[Array, tuple[str, ...]]:
    """Rows X_p = (x_p, 1), or x_p without bias, so that a·x_p + b = X_p·y; and the names of the coordinates of y = (a, b)."""
    names = _numbered("a", x.shape[1])
    return (np.column_stack([x, np.ones(len(x))]), (*names, "b")) if bias else (x, names)


def _tanh_of_rows(rows: Array, coordinates: tuple[str, ...]) -> Unit:
    """φ_p(y) = tanh(X_p·y). With t = tanh, Σ r_p (1 − t_p²) X_p is two sums, so no pass over the array is spent on 1 − t²."""
    columns = np.ascontiguousarray(rows.T)

    def profile(y: Array) -> Array:
        t = y @ columns
        return np.tanh(t, out=t)

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        t = profile(y)
        value = t @ r
        np.multiply(t, t, out=t)
        weighted = r[:, None] * rows
        return value, weighted.sum(axis=0) - t @ weighted

    return _on_line(coordinates, profile, profile_field)


def tanh(x: Array, *, bias: bool = True) -> Unit:
    """φ(x, y) = tanh(a·x + b), y = (a, b), or y = a without bias.

    Args:
        x: inputs, shape (P, q).
        bias: whether b is a parameter.
    """
    return _tanh_of_rows(*_affine(x, bias))


def sigmoid(x: Array, *, bias: bool = True) -> Unit:
    """φ(x, y) = 1/(1 + e^{−u}) = ½(1 + tanh(u/2)), u = a·x + b, y = (a, b), or y = a without bias. No overflow at any u.

    Args:
        x: inputs, shape (P, q).
        bias: whether b is a parameter.
    """
    rows, names = _affine(x, bias)
    inner = _tanh_of_rows(0.5 * rows, names)

    def profile(y: Array) -> Array:
        t = inner.profile(y)
        t += 1.0
        t *= 0.5
        return t

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        value, slope = inner.profile_field(y, r)
        return 0.5 * (value + r.sum()), 0.5 * slope

    return _on_line(names, profile, profile_field)


def relu(x: Array, *, bias: bool = True) -> Unit:
    """φ(x, y) = max(0, a·x + b), y = (a, b), or y = a without bias; the derivative at the kink is 0.

    Args:
        x: inputs, shape (P, q).
        bias: whether b is a parameter.
    """
    rows, names = _affine(x, bias)
    columns = np.ascontiguousarray(rows.T)

    def profile(y: Array) -> Array:
        u = y @ columns
        return np.maximum(u, 0.0, out=u)

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        active = np.greater(y @ columns, 0.0).astype(np.float64)
        slope = active @ (r[:, None] * rows)
        return np.einsum("nd,nd->n", y, slope), slope  # φ is homogeneous of degree 1 in y: φ = y·∇φ (Euler)

    return _on_line(names, profile, profile_field)


def gaussian(x: Array, *, variance: ArrayLike = 1.0, normalised: float = 0.0) -> Unit:
    """φ(x, y) = exp(−|x − y|²/(2s²)), divided by (2πs²)^{q/2} where ``normalised`` is not 0; y ∈ R^q is the centre.

    Args:
        x: inputs, shape (P, q).
        variance: s² > 0, one number, or one per input, shape (P,).
        normalised: 0 for height 1, otherwise unit integral.

    Raises:
        ValueError: if a variance is not positive.
    """
    inputs = x.shape[1]
    s2 = np.broadcast_to(np.asarray(variance, dtype=np.float64), len(x))
    if not np.all((s2 > 0.0) & np.isfinite(s2)):
        raise ValueError(f"unit parameter 'variance' is {variance!r}; it must be positive")
    heights = (2.0 * np.pi * s2) ** (-0.5 * inputs) if normalised else np.ones(len(x))
    centre = x.mean(axis=0)  # all from the middle of the data: differences stay exact to rounding far from the origin
    scale = np.sqrt(0.5 / s2)
    columns = [np.stack([scale, -scale * (x[:, k] - centre[k])]) for k in range(inputs)]
    moment_rows = np.column_stack([np.ones(len(x)), 1.0 / s2, (x - centre) / s2[:, None]])

    def exponentials(y: Array) -> Array:
        # differences, not |x|² − 2x·y + |y|², which cancels; (y, 1) @ columns is their fastest form
        def squares(k: int) -> Array:
            difference = np.column_stack([y[:, k] - centre[k], np.ones(len(y))]) @ columns[k]
            return np.multiply(difference, difference, out=difference)

        total = squares(0)
        for k in range(1, inputs):
            total += squares(k)
        np.negative(total, out=total)
        return np.exp(total, out=total)

    def profile(y: Array) -> Array:
        values = exponentials(y)
        if normalised:
            values *= heights
        return values

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        sums = exponentials(y) @ ((r * heights)[:, None] * moment_rows)
        return sums[:, 0], sums[:, 2:] - (y - centre) * sums[:, 1:2]

    return _on_line(_numbered("y", inputs), profile, profile_field)


def circle_rbf(x: Array, *, kappa: float = 1.0, radius: float = 1.0) -> Unit:
    """φ(x, y) = exp(κ(cos((x − y)/R) − 1)) for arc lengths x, y on a circle of radius R; y has period 2πR.

    In the plane of the circle this is exp(−½α|x − y|²) with κ = αR². cos(x − y) = cos x cos y + sin x sin y is a matrix product
    of rank 2: no cosine per element.

    Args:
        x: arc lengths, angles if R = 1, shape (P, 1).
        kappa: κ, the concentration.
        radius: R > 0.

    Raises:
        ValueError: if the data have more than one input, or the radius is not positive.
    """
    if x.shape[1] != 1:
        raise ValueError(f"unit 'circle_rbf' takes one input, an angle; the data have {x.shape[1]}")
    if not radius > 0.0:
        raise ValueError(f"unit parameter 'radius' is {radius!r}; it must be positive")
    cosine, sine = np.cos(x[:, 0] / radius), np.sin(x[:, 0] / radius)
    columns = kappa * np.stack([cosine, sine, -np.ones(len(x))])
    moment_rows = np.column_stack([np.ones(len(x)), kappa / radius * sine, kappa / radius * cosine])

    def embedding(y: Array) -> Array:
        angle = y[:, 0] / radius
        return np.column_stack([np.cos(angle), np.sin(angle), np.ones(len(y))])

    def exponentials(circle: Array) -> Array:
        values = circle @ columns
        return np.exp(values, out=values)

    def profile(y: Array) -> Array:
        return exponentials(embedding(y))

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        circle = embedding(y)
        sums = exponentials(circle) @ (r[:, None] * moment_rows)
        slope = circle[:, 0] * sums[:, 1] - circle[:, 1] * sums[:, 2]  # κ sin(x − y) = κ(sin x cos y − cos x sin y)
        return sums[:, 0], slope[:, None]

    return Unit(("y",), (2.0 * np.pi * radius,), profile, profile_field)


def sphere_rbf(x: Array, *, kappa: float = 1.0) -> Unit:
    """φ(x, y) = exp(κ(x·y/R² − 1)) for x and y on the sphere of radius R of R^q: exp(−½α|x − y|²) with κ = αR².

    Args:
        x: points of one sphere around the origin, shape (P, q), q ≥ 2; R is their length.
        kappa: κ, the concentration.

    Raises:
        ValueError: unless the inputs have one length and q ≥ 2.
    """
    lengths = np.sqrt((x**2).sum(axis=1))
    radius = float(lengths.mean())
    if x.shape[1] < 2 or radius == 0.0 or np.abs(lengths - radius).max() > 1e-9 * radius:
        raise ValueError("unit 'sphere_rbf' takes inputs on one sphere around the origin, two or more coordinates each")
    scaled = kappa / radius**2 * x
    columns = np.ascontiguousarray(scaled.T)
    moment_rows = np.column_stack([np.ones(len(x)), scaled])

    def profile(y: Array) -> Array:
        values = y @ columns
        values -= kappa
        return np.exp(values, out=values)

    def profile_field(y: Array, r: Array) -> tuple[Array, Array]:
        sums = profile(y) @ (r[:, None] * moment_rows)
        return sums[:, 0], sums[:, 1:]

    names = _numbered("y", x.shape[1])
    return Unit(names, (None,) * len(names), profile, profile_field, sphere=radius)


UNITS: Registry[Callable[..., Unit]] = Registry(
    "unit",
    {
        "sigmoid": sigmoid,
        "tanh": tanh,
        "relu": relu,
        "gaussian": gaussian,
        "circle_rbf": circle_rbf,
        "sphere_rbf": sphere_rbf,
    },
)
