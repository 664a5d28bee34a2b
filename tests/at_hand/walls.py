"""Problems with walls whose laws are known."""

from __future__ import annotations

import numpy as np

from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import BoxWalls, with_walls
from mvpde.models.walls.natural import classified

OPEN, MIRRORS = ("open", "open"), ("reflecting", "reflecting")


def between(model: MeanField, lower: list[float], upper: list[float], *kinds: tuple[str, str]) -> MeanField:
    """The model in a box whose walls, by default open, are natural where the coefficients say so."""
    given = kinds or (OPEN,) * len(lower)
    return with_walls(model, classified(model, BoxWalls(tuple(lower), tuple(upper), given), np.ones(model.features)))


def radius(power: float, diffusion: float = 0.5) -> MeanField:
    """dr = (νD/r − r)dt + √(2D)dB on [0, 6]: ρ ∝ r^ν e^{−r²/2D}, the radius of a Gaussian in ν + 1 dimensions."""
    drift = ["nu*D/x - x"]
    return between(fokker_planck(["x"], drift=drift, diffusion=[["D"]], parameters={"nu": power, "D": diffusion}), [0.0], [6.0])


def square_root(noise: float) -> MeanField:
    """dx = (1 − x)dt + √(2sx)dB on [0, 12]: a gamma law of mean 1 and variance s (Cox, Ingersoll & Ross 1985)."""
    return between(fokker_planck(["x"], drift=["1 - x"], diffusion=[["s*x"]], parameters={"s": noise}), [0.0], [12.0])


def wright_fisher(a: float, b: float) -> MeanField:
    """dx = (a(1 − x) − bx)dt + √(2x(1 − x))dB: the law beta(a, b), rates k(k − 1 + a + b)."""
    drift = ["a*(1 - x) - b*x"]
    return between(fokker_planck(["x"], drift=drift, diffusion=[["x*(1 - x)"]], parameters={"a": a, "b": b}), [0.0], [1.0])


def pressed(slope: float = 2.0) -> MeanField:
    """Potential 2x at temperature 1 between mirrors at 0 and 1: mean ½ − e⁻²/(1 − e⁻²), slowest rate 1 + π²."""
    return between(fokker_planck(["x"], potential="s*x", temperature=1.0, parameters={"s": slope}), [0.0], [1.0], MIRRORS)


PRESSED_MEAN = 0.5 - np.exp(-2.0) / (1.0 - np.exp(-2.0))
