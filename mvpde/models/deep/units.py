"""Units of deep networks: σ(z, θ) = v·act(wz + c), where θ are those of (v, w, c) that are trained.

The derivative of an activation is here a function of its value, so that sweeps compute it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from mvpde.models.deep.activations import ACTIVATIONS, Activation, Array
from mvpde.registry import Registry, check_known

WEIGHTS = ("v", "w", "c")  # in this order the coordinates of θ come


OUTPUT_MAPS: Registry[Activation] = Registry("output map", {name: ACTIVATIONS[name] for name in ("identity", "tanh", "sigmoid")})


def differentiable(table: Registry[Activation], name: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Value and slope of an entry, the latter as a function of the value.

    Raises:
        ValueError: no such entry, or one without such a slope.
    """
    check_known(name, sorted(table), f"the table of {table.what}s")
    entry = table[name]
    if entry.of_value is None:
        known = ", ".join(sorted(other for other in table if table[other].of_value is not None))
        raise ValueError(
            f"{table.what} '{name}' has no slope that is a function of its value, and gradients go through it; give it one "
            f"(of_value), or take one of {known}"
        )
    if not _slope_fits(entry):
        raise ValueError(f"the slope of {table.what} '{name}' is not its derivative; it must be a function of act(u), not of u")
    return entry.values, entry.of_value.slope


@cache
def _slope_fits(entry: Activation) -> bool:
    """Whether derivatives of the value agree with differences, to 1e-5 at a few places away from 0."""
    u, h = np.array([-2.3, -1.1, -0.4, 0.3, 0.9, 1.7]), 1e-5
    of_value = entry.of_value
    assert of_value is not None
    pairs = ((entry.values, of_value.slope), (lambda x: of_value.slope(entry.values(x)), of_value.curvature))
    differences = [(f(u + h) - f(u - h)) / (2.0 * h) for f, _ in pairs]
    known = [derivative(entry.values(u)) for _, derivative in pairs]
    return all(bool(np.all(np.abs(a - b) <= 1e-5 * (1.0 + np.abs(b)))) for a, b in zip(known, differences, strict=True))


@dataclass(frozen=True)
class DeepLayer:
    """A trained layer, σ(z, θ) = v·act(wz + c).

    Attributes:
        activation: a name in `TRAINED`.
        trained: those of v, w, c that move; the coordinates of θ, in this order whatever order they are given in.
        fixed: the values of the others, by name.

    Raises:
        ValueError: unknown names, nothing trained, or a weight that is trained and fixed, or neither.
    """

    activation: str = "tanh"
    trained: tuple[str, ...] = ("v", "w")
    fixed: Mapping[str, float] = field(default_factory=lambda: {"c": 0.0})

    def __post_init__(self) -> None:
        """Check the names; put the trained ones in order."""
        differentiable(ACTIVATIONS, self.activation)
        for name in (*self.trained, *self.fixed):
            check_known(name, WEIGHTS, "a unit v·act(wz + c)")
        if not self.trained:
            raise ValueError('trained is empty, so the layer does not move; name at least one of v, w, c, as in ["v", "w"]')
        if len(set(self.trained)) < len(self.trained):
            raise ValueError(f"trained names a weight twice ({', '.join(self.trained)}); name each once")
        for name in WEIGHTS:
            if (name in self.trained) == (name in self.fixed):
                said = "both in trained and in fixed; remove it from one" if name in self.fixed else "neither trained nor fixed"
                raise ValueError(f"{name} is {said}" + ("" if name in self.fixed else f"; add fixed = {{ {name} = 0.0 }}"))
        object.__setattr__(self, "trained", tuple(name for name in WEIGHTS if name in self.trained))

    @property
    def dimension(self) -> int:
        """D, the number of trained weights."""
        return len(self.trained)

    def weights(self, theta: Array) -> tuple[Array, Array, Array]:
        """v, w, c at θ, shape (..., D): each of shape (...,), or a number where it is fixed."""
        columns = {name: theta[..., k] for k, name in enumerate(self.trained)}
        v, w, c = (columns.get(name, np.asarray(self.fixed.get(name, 0.0))) for name in WEIGHTS)
        return v, w, c

    def active(self, z: Array, theta: Array) -> Array:
        """act(wz + c), what value and derivatives are made of; z broadcasts against the leading axes of θ, shape (..., D)."""
        _, w, c = self.weights(theta)
        return ACTIVATIONS[self.activation].values(w * z + c)

    def of_active(self, t: Array) -> Array:
        """act′(wz + c) from t = act(wz + c)."""
        of_value = ACTIVATIONS[self.activation].of_value
        assert of_value is not None  # checked when the layer was made
        return of_value.slope(t)

    def value(self, z: Array, theta: Array) -> Array:
        """σ(z, θ) = v·act(wz + c), of the shape that z and the leading axes of θ broadcast to."""
        return self.weights(theta)[0] * self.active(z, theta)

    def input_slope(self, z: Array, theta: Array) -> Array:
        """∂σ/∂z = v·w·act′(wz + c), of the same shape."""
        v, w, _ = self.weights(theta)
        return v * w * self.of_active(self.active(z, theta))

    def gradient(self, z: Array, theta: Array) -> Array:
        """∂σ/∂θ, of that shape with an axis of length D behind: act, v·z·act′ and v·act′ for v, w and c."""
        v = self.weights(theta)[0]
        t = self.active(z, theta)
        slope = self.of_active(t)
        parts = {"v": lambda: t, "w": lambda: v * z * slope, "c": lambda: v * slope}
        return np.stack(np.broadcast_arrays(*(parts[name]() for name in self.trained), theta[..., 0])[:-1], axis=-1)
