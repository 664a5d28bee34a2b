"""The error of a step of networks, whose weights are no independent particles: smaller networks that take it whole and in halves.

    d = ⟨g⟩ of steps H − ⟨g⟩ of steps H/2  →  the error of steps h:  d (h/H)^p 2^p/(2^p − 1)

for everything g that is recorded and a scheme of order p. Both have the same start and the same chance: the noise of a whole step
is that of its halves together. Where a half step sees a sample, two networks take whole steps, one on the first and one on the
second sample: what is linear in the samples cancels in their mean, as between the copies of `mvpde.particles.accuracy.halved`. In
the limit that networks approach the error of a step does not depend on their width, so those of a tenth of the work tell it, and
where h is short, hλ ≪ ½, steps H up to sixteen times as long do, Hλ ≤ ½ or, for order 2, ¼.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from mvpde.measure import Measure, State
from mvpde.models.mean_field import Array
from mvpde.particles.accuracy.growth import unbounded
from mvpde.particles.accuracy.halved import between
from mvpde.particles.accuracy.slope import Slope
from mvpde.particles.accuracy.step_errors import recorded
from mvpde.runtime import MPI, InvariantError

PART = 0.1  # of the work of the networks, for their twins
NARROWEST = 12  # units of a twin, where the networks have as many
OF_SAMPLES = 32  # the same where steps see samples: y − ŷ, which makes their noise, scatters more in narrower ones
RUNS = 4  # of twins that differ by their starts
LONGER = 16.0  # H/h, at most
RESOLVED = {1: 0.5, 2: 0.25}  # order → Hλ, at most, where H is longer than h


class Twin[Chance](Measure, Protocol):
    """A smaller network."""

    def follow(self, t: float, h: float, chance: Chance) -> None:
        """Go on by h to time t with a chance that is known. Collective."""

    def chance(self, h: float, steps: int) -> Chance:
        """Draw what is random in so many steps of length h together. Collective."""

    def slope(self) -> Slope:
        """How fast the velocity changes. Collective."""


def smaller(width: int, runs: int, *, power: int, sampled: bool) -> tuple[int, int]:
    """Width and number of runs of twins, whose work is a tenth of that of ``runs`` networks of this width.

    Args:
        width, runs: of the networks.
        power: the work grows like width^power.
        sampled: whether steps see samples: then two twins take whole steps, and there are four runs at least, since the error of
            one is mostly chance.
    """
    work = PART / (4 if sampled else 3) * runs * float(width) ** power  # a half step costs as much as a whole one
    narrow = min(width, max(OF_SAMPLES if sampled else NARROWEST, int((work / RUNS) ** (1.0 / power))))
    return narrow, max(RUNS if sampled else 1, int(work / float(narrow) ** power))


class Twins[Chance]:
    """Networks that tell the error of the steps of others."""

    def __init__(
        self,
        whole: Sequence[Twin[Chance]],
        half: Twin[Chance],
        order: int,
        together: Callable[[list[Chance]], Sequence[Chance]],
        bundle: int = 1,
    ) -> None:
        """At the same time as the networks whose steps they judge.

        Args:
            whole: one, or two that see different samples.
            half: takes half steps.
            order: p.
            together: chances of the two halves → those of each whole step.
            bundle: how many steps are taken together.
        """
        self._whole, self._half, self._order, self._together, self._bundle = list(whole), half, order, together, bundle
        self._lost, self._slope = False, half.slope()
        self._sizes = np.zeros(2)  # ∫hᵖdt of the steps of the networks, and of those of the twins

    def advance(self, t: float, step: float) -> None:
        """Go to time t beside networks that take steps of this length; from a breakdown on nothing is known. Collective."""
        if self._lost or not t > self._half.time:
            return
        start, ahead = self._half.time, t - self._half.time
        resolved = RESOLVED[self._order]
        longer = min(LONGER, max(1.0, resolved / max(step * self._slope.rate, resolved / LONGER)))
        count = max(1, math.ceil(ahead / (longer * step) * (1.0 - 1e-9)))
        try:
            for k in range(0, count, self._bundle):
                last = min(k + self._bundle, count)
                self._take(t if last == count else start + ahead * last / count, ahead * (last - k) / count, last - k)
            self._slope = self._half.slope()
        except InvariantError:
            self._lost = True
        self._sizes += ahead * np.array([step, ahead / count]) ** self._order

    def _take(self, t: float, h: float, steps: int) -> None:
        """So many steps that take the time h together."""
        halves: list[Chance] = []
        for until in (t - 0.5 * h, t):
            halves.append(self._half.chance(0.5 * h, steps))
            self._half.follow(until, 0.5 * h, halves[-1])
        for one, chance in zip(self._whole, self._together(halves), strict=True):
            one.follow(t, h, chance)

    @property
    def slope(self) -> Slope:
        """How fast the velocity of the twins changes now, NaN where they are lost."""
        return Slope(math.nan, 0.0) if self._lost else self._slope

    @property
    def factor(self) -> float:
        """(error of a step of the networks) / (what half a step of the twins changes)."""
        power, (fine, coarse) = 2.0**self._order, self._sizes
        return float(power / (power - 1.0) * (fine / coarse if coarse > 0.0 else 1.0))

    def errors(self, moments: Array, least: float) -> dict[str, float]:
        """Of loss, law, predictions and observables, as `mvpde.particles.accuracy.step_errors` has them. Collective.

        Args:
            moments: of the networks that are followed, shape (runs, K).
            least: standard deviation of a coordinate below which changes of the law are not seen as larger.
        """
        model = self._half.model
        names = recorded(model)
        if self._lost:
            return dict.fromkeys(names, math.nan)
        d, spread = self._change(lambda one: one.moments())
        found = {"loss": self._of_loss(moments, d, spread), "law": self._of_law(least)}
        if model.data is not None:
            w, scale = model.data.weights, float(model.data.weights @ model.data.target**2)
            found["prediction"] = math.sqrt(float(w @ (d**2 + spread**2)) / scale) if scale > 0.0 else math.nan
        for name, h in model.observables.items():
            found[name] = self._size(lambda one, h=h: one.expectation(h)[:, None])  # type: ignore[misc]
        return {name: self.factor * found[name] for name in names}

    def _of_loss(self, moments: Array, d: Array, spread: Array) -> float:
        """What d makes of the losses of the networks themselves; where it is mostly chance that samples bring, the twins' own."""
        if len(self._whole) > 1:
            return self._size(lambda one: one.losses()[:, None])
        outer = self._half.model.outer_energy
        slope = np.asarray(self._half.model.outer_gradient(moments.mean(axis=0)))
        change = float(np.mean(outer(moments + d) - outer(moments)))
        return math.hypot(change, float(np.sqrt(np.sum((slope * spread) ** 2))))

    def _change(self, of: Callable[[Twin[Chance]], Array]) -> tuple[Array, Array]:
        """d of values of the runs, shape (runs, q), and its standard error, 0 where there is one run, shapes (q,)."""
        runs = np.mean([of(one) for one in self._whole], axis=0) - of(self._half)
        return runs.mean(axis=0), np.nan_to_num(between(runs))

    def _size(self, of: Callable[[Twin[Chance]], Array]) -> float:
        d, spread = self._change(of)
        return math.hypot(float(d[0]), float(spread[0]))

    def _of_law(self, least: float) -> float:
        """Largest change of a mean, in standard deviations, or of a variance, in variances, over the coordinates."""
        largest, half = 0.0, self._half
        for axis in unbounded(half.model):
            mean = float(np.mean(half.expectation(partial(_power, axis, 0.0, 1.0, 1))))
            variance = float(np.mean(half.expectation(partial(_power, axis, mean, 1.0, 2))))
            deviation = math.sqrt(max(variance, least**2)) or 1.0
            for power in (1, 2):
                h = partial(_power, axis, mean, deviation, power)
                largest = max(largest, self._size(lambda one, h=h: one.expectation(h)[:, None]))  # type: ignore[misc]
        return largest

    # -- checkpoints

    def state(self) -> State:
        """Theirs on rank 0, with a number before each name; {} elsewhere. Collective."""
        states = [one.state() or {} for one in (self._half, *self._whole)]
        known = {f"twin{k}_{key}": value for k, state in enumerate(states) for key, value in state.items()}
        return {} if self._lost or not known else {**known, "twin_sizes": self._sizes.copy()}

    def restore(self, state: State | None, comm: MPI.Intracomm) -> None:
        """Go on from a `state` on rank 0; without it nothing is known from here on. Collective."""
        sizes = comm.bcast(None if state is None or "twin_sizes" not in state else np.array(state["twin_sizes"], float))
        self._lost = sizes is None
        if sizes is None:
            return
        for k, one in enumerate((self._half, *self._whole)):
            first = f"twin{k}_"
            mine = {key.removeprefix(first): value for key, value in (state or {}).items() if key.startswith(first)}
            one.restore(mine if comm.rank == 0 else None)
        self._sizes, self._slope = sizes, self._half.slope()


def _power(axis: int, centre: float, deviation: float, power: int, z: Array) -> Array:
    """((z_a − c)/σ)^p."""
    return np.asarray(((z[:, axis] - centre) / deviation) ** power)
