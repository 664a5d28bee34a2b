"""Training on prescribed data points, one at a time: the same order for networks of any width and for their limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mvpde.models.deep.network import DeepNetwork
from mvpde.models.deep.units import Array

_WHOLE = 1e-6  # of a step: how far an output time may lie from a whole number of them


def is_whole(time: float, step: float) -> bool:
    """Whether a time is a whole number of steps on one sample each, which are part of the model and not cut."""
    return abs(time / step - round(time / step)) <= _WHOLE


def whole_steps(start: float, end: float, step: float) -> int:
    """How many there are from one time to another.

    Raises:
        ValueError: no whole number.
    """
    if not is_whole(end - start, step):
        raise ValueError(f"from t = {start:g} to {end:g} is no whole number of steps of {step:g} on one sample each")
    return round((end - start) / step)


@dataclass(frozen=True)
class Samples:
    """Steps of length ``step`` in the time of the limit, each on one data point.

    Attributes:
        order: numbers of data points, repeated for ever.
        step: > 0.

    Raises:
        ValueError: no data point, or a step that is not positive.
    """

    order: tuple[int, ...]
    step: float

    def __post_init__(self) -> None:
        """Check both."""
        if not self.order or min(self.order) < 0 or not self.step > 0.0:
            raise ValueError("samples: give the numbers of data points, from 0 on, and a step > 0")

    def between(self, start: float, end: float) -> list[int]:
        """The data points of the steps from time ``start`` to ``end``.

        Raises:
            ValueError: the end is no whole number of steps.
        """
        first = round(start / self.step)
        last = whole_steps(0.0, end, self.step)
        return [self.order[k % len(self.order)] for k in range(first, last)]

    def pull(self, network: DeepNetwork, number: int) -> Callable[[Array], Array]:
        """h → −∂ℓ_p/∂h at that one data point, with weight 1; 0 at the others."""
        chosen = np.zeros(len(network.data.weights))
        chosen[number] = 1.0 / network.data.weights[number]
        return lambda h: chosen * network.pull(h)
