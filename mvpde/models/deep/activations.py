"""Activations φ, one table for every kind of network, with what is known in closed form of each.

Trained layers need φ' as a function of φ, so that sweeps compute φ once; diffusions of small networks φ''; random networks
Gaussian means, in closed form or by quadrature:

    C(K) = E[φ(u)φ(v)],     C'(K) = E[φ'(u)φ'(v)],     (u, v) ~ N(0, [[K₁₁, K₁₂], [K₁₂, K₂₂]])

Arguments K₁₁, K₂₂, K₁₂ are arrays of one shape, real or, for derivatives by a complex step, complex. A new activation is one
entry of `ACTIVATIONS`; the selections below are of those that have what their kinds of networks need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from mvpde.registry import Registry, Selection

Array = NDArray[np.float64]
Numbers = NDArray[np.inexact]  # real or complex
Overlap = Callable[[Numbers, Numbers, Numbers], Numbers]


@dataclass(frozen=True)
class OfValue:
    """Derivatives as functions of the value t = φ(z), real arrays of any shape.

    Attributes:
        slope: t → φ'(z).
        curvature: t → φ''(z).
    """

    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """A function φ on the line.

    Attributes:
        sentence: what it is.
        value: z → φ(z), elementwise.
        slope: z → φ'(z); None where there is none of finite mean square.
        curvature: z → φ''(z); zero at kinks, which counts only where φ is not 0; None as for the slope.
        of_value: both as functions of φ(z), of real arrays; None where they are none, and no trained layer takes it.
        kinked: whether φ' jumps, so that rates of weights jump as they move.
        overlap: (K₁₁, K₂₂, K₁₂) → C(K) in closed form; None: by quadrature.
        slope_overlap: the same of C'(K).
        fourth: ρ → E[φ(u)³φ(v)] and E[φ(u)²φ(v)²] for K₁₁ = K₂₂ = 1, K₁₂ = ρ; only for homogeneous φ.
        odd: whether φ(−z) = −φ(z).
        homogeneous: whether φ(λz) = λφ(z) for λ > 0; else φ is smooth, and quadrature converges exponentially.
        strip: how far from the real line φ continues without a singularity or fast growth: steps of quadrature are chosen by it.
            0: not known, and no random network takes it.
    """

    sentence: str
    value: Callable[[Numbers], Numbers]
    slope: Callable[[Numbers], Numbers] | None = None
    curvature: Callable[[Numbers], Numbers] | None = None
    of_value: OfValue | None = None
    kinked: bool = False
    overlap: Overlap | None = None
    slope_overlap: Overlap | None = None
    fourth: Callable[[Numbers], tuple[Numbers, Numbers]] | None = None
    odd: bool = False
    homogeneous: bool = False
    strip: float = 0.0

    def values(self, z: Array) -> Array:
        """φ(z) of real z."""
        return np.asarray(self.value(z), float)

    def slopes(self, z: Array, value: Array) -> Array:
        """φ'(z), from the value where that tells it. Only for φ that have a slope."""
        if self.of_value is not None:
            return self.of_value.slope(value)
        assert self.slope is not None
        return np.asarray(self.slope(z), float)

    def curvatures(self, z: Array, value: Array) -> Array:
        """φ''(z), in the same way."""
        if self.of_value is not None:
            return self.of_value.curvature(value)
        assert self.curvature is not None
        return np.asarray(self.curvature(z), float)


# --- tanh, sigmoid: quadrature --------------------------------------------------------------------------------------------------


def _tanh_slope(z: Numbers) -> Numbers:
    t = np.tanh(z)
    return (1.0 - t) * (1.0 + t)


def _tanh_curvature(z: Numbers) -> Numbers:
    return -2.0 * np.tanh(z) * _tanh_slope(z)


def _sigmoid(z: Numbers) -> Numbers:
    return 0.5 + 0.5 * np.tanh(0.5 * z) if np.iscomplexobj(z) else expit(z)


def _sigmoid_slope(z: Numbers) -> Numbers:
    s = _sigmoid(z)
    return s * (1.0 - s)


def _sigmoid_curvature(z: Numbers) -> Numbers:
    s = _sigmoid(z)
    return s * (1.0 - s) * (1.0 - 2.0 * s)


# --- erf (Williams 1997) --------------------------------------------------------------------------------------------------------


def _erf_slope(z: Numbers) -> Numbers:
    return 2.0 / np.sqrt(np.pi) * np.exp(-z * z)


def _erf_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    return 2.0 / np.pi * np.arcsin(2.0 * k12 / np.sqrt((1.0 + 2.0 * k11) * (1.0 + 2.0 * k22)))


def _erf_slope_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    return 4.0 / np.pi / np.sqrt(1.0 + 2.0 * (k11 + k22) + 4.0 * (k11 * k22 - k12 * k12))


# --- sin ------------------------------------------------------------------------------------------------------------------------


def _sin_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    """e^{−(K₁₁+K₂₂)/2} sinh K₁₂, without overflow where K is large, and with all digits where it is small."""
    sign = np.where(k12.real < 0.0, -1.0, 1.0)
    return -0.5 * sign * np.exp(sign * k12 - 0.5 * (k11 + k22)) * np.expm1(-2.0 * sign * k12)


def _sin_slope_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    half = 0.5 * (k11 + k22)
    return 0.5 * (np.exp(k12 - half) + np.exp(-k12 - half))


# --- relu (Cho & Saul 2009) -----------------------------------------------------------------------------------------------------


def _relu(z: Numbers) -> Numbers:
    return np.where(z.real > 0.0, z, 0.0) if np.iscomplexobj(z) else np.maximum(z, 0.0)  # NaN stays NaN


def _relu_slope(z: Numbers) -> Numbers:
    return np.where(z.real > 0.0, 1.0, 0.0)  # 0 at the kink


def _angle(cosine: Numbers) -> Numbers:
    """θ with cos θ the given number, which rounding may have taken out of [−1, 1]."""
    return np.arccos(cosine if np.iscomplexobj(cosine) else np.clip(cosine, -1.0, 1.0))


def _cosine(k11: Numbers, k22: Numbers, k12: Numbers) -> tuple[Numbers, Numbers]:
    """√(K₁₁K₂₂) and K₁₂ over it, 0 where there is no variance."""
    size = np.sqrt(k11 * k22)
    return size, k12 / np.where(size == 0.0, 1.0, size)


def _relu_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    size, cosine = _cosine(k11, k22, k12)
    theta = _angle(cosine)
    return size / (2.0 * np.pi) * (np.sin(theta) + (np.pi - theta) * cosine)


def _relu_slope_overlap(k11: Numbers, k22: Numbers, k12: Numbers) -> Numbers:
    return (np.pi - _angle(_cosine(k11, k22, k12)[1])) / (2.0 * np.pi)


def _relu_fourth(cosine: Numbers) -> tuple[Numbers, Numbers]:
    """In polar coordinates: E r⁴ = 8 times the mean over the angles where both are positive."""
    theta = _angle(cosine)
    c, s, rest = np.cos(theta), np.sin(theta), np.pi - theta
    cubic = 4.0 / np.pi * (c * (3.0 * rest / 8.0 + np.sin(2.0 * theta) / 4.0 - np.sin(4.0 * theta) / 32.0) + s**5 / 4.0)
    return cubic, (3.0 * s * c + rest * (1.0 + 2.0 * c * c)) / (2.0 * np.pi)


ACTIVATIONS: Registry[Activation] = Registry(
    "activation",
    {
        "tanh": Activation(
            "tanh z",
            np.tanh,
            _tanh_slope,
            _tanh_curvature,
            OfValue(lambda t: 1.0 - t * t, lambda t: -2.0 * t * (1.0 - t * t)),
            odd=True,
            strip=np.pi / 2,
        ),
        "sigmoid": Activation(
            "1/(1 + e⁻ᶻ)",
            _sigmoid,
            _sigmoid_slope,
            _sigmoid_curvature,
            OfValue(lambda s: s * (1.0 - s), lambda s: s * (1.0 - s) * (1.0 - 2.0 * s)),
            strip=np.pi,
        ),
        "relu": Activation(
            "max(z, 0)",
            _relu,
            _relu_slope,
            np.zeros_like,
            OfValue(lambda u: (u > 0.0).astype(np.float64), np.zeros_like),
            kinked=True,
            overlap=_relu_overlap,
            slope_overlap=_relu_slope_overlap,
            fourth=_relu_fourth,
            homogeneous=True,
            strip=np.pi / 2,
        ),
        "erf": Activation(
            "erf z",
            erf,
            _erf_slope,
            lambda z: -2.0 * z * _erf_slope(z),
            overlap=_erf_overlap,
            slope_overlap=_erf_slope_overlap,
            odd=True,
            strip=np.pi / 2,
        ),
        "sin": Activation(
            "sin z",
            np.sin,
            np.cos,
            lambda z: -np.sin(z),
            overlap=_sin_overlap,
            slope_overlap=_sin_slope_overlap,
            odd=True,
            strip=np.pi / 2,
        ),
        "identity": Activation("z", np.positive, np.ones_like, np.zeros_like, OfValue(np.ones_like, np.zeros_like), odd=True),
    },
)

TRAINED = Selection(ACTIVATIONS, lambda phi: phi.of_value is not None)
RANDOM = Selection(ACTIVATIONS, lambda phi: phi.strip > 0.0)
SMOOTH = Selection(ACTIVATIONS, lambda phi: phi.slope is not None and phi.curvature is not None)
