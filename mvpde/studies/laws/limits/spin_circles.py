"""Networks trained on the 3-spin energy beside it, along a great circle of the sphere.

    x_i = √d cos θ,  x_j = √d sin θ,  all other x = 0,

a curve that the samples of training, which are uniform on the sphere, hardly ever come near in high dimension (Rotskoff &
Vanden-Eijnden, arXiv:1805.00915, §5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from mvpde.cases.schema import Count, Positive
from mvpde.studies.figures import GREY, Panel, finish, look
from mvpde.studies.laws.limits.spin_error import ANGLES, by_unit_and_dimension
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.quantities import grouped, number
from mvpde.studies.verdict import FAILS, HOLDS, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

Networks = dict[int, "xarray.Dataset"]  # n → what was found of the networks with n units, n increasing


class SpinCirclesOptions(MeasurementOptions):
    """f and f_n along the great circle of the task "spin_error", and the test error of the largest networks."""

    name: str = Field("circles", description="name of its figure, <name>.png", examples=["circles"])
    x: str = Field("options.units", description="the varied number of units", examples=["options.units"])
    dimension: Annotated[int, Field(ge=2)] = Field(5, description="d of the networks that are shown", examples=[25])
    units: list[Count] | None = Field(None, description="numbers of units that are drawn; absent: all", examples=[[64, 2048]])
    within: Annotated[dict[str, Positive], Field(min_length=1, max_length=2)] = Field(
        description="units, a panel for each, and what the relative test error of their largest networks may be",
        examples=[{"gaussian": 0.1, "sigmoid": 0.03}],
    )


def spin_circles(dataset: xarray.Dataset, options: SpinCirclesOptions) -> Outcome:
    """One verdict and one panel for each kind of unit: the largest networks' error, and networks beside the target."""
    found = {unit: _networks(dataset, options, unit) for unit in options.within}
    verdicts = [_largest(unit, networks, options) for unit, networks in found.items()]
    panels = [_panel(unit, networks, options) for unit, networks in found.items() if networks]
    return Outcome(verdicts, Picture(title(dataset), panels) if panels else None)


def _networks(dataset: xarray.Dataset, options: SpinCirclesOptions, unit: str) -> Networks:
    parts = [
        part
        for name, dimension, part in by_unit_and_dimension(dataset)
        if name in (unit, None) and dimension in (options.dimension, None)
    ]
    sizes = [(int(number(n)), one) for part in parts for n, one in grouped(part, options.x) if n is not None]
    return {n: one for n, one in sizes if "error" in one and np.isfinite(one["error"].values).all()}


def _largest(unit: str, networks: Networks, options: SpinCirclesOptions) -> Verdict:
    bound, law = options.within[unit], f"E‖f_n − f‖²/E f² of the largest networks, {unit}, d = {options.dimension}"
    if not networks:
        return Verdict(law, bound, None, None, FAILS, "no such network was trained", relation="≤")
    n, last = max(networks.items())
    error = float(last["error"].mean())
    return Verdict(law, bound, error, None, HOLDS if error <= bound else FAILS, f"n = {n}", relation="≤")


def _panel(unit: str, networks: Networks, options: SpinCirclesOptions) -> Panel:
    def panel(axes: Axes) -> None:
        shown = [n for n in networks if options.units is None or n in options.units]
        axes.plot(ANGLES, _curve(networks[max(networks)], "circle_target"), color=GREY, linewidth=3.5, alpha=0.6, label="f")
        for k, n in enumerate(shown):
            axes.plot(ANGLES, _curve(networks[n], "circle_network"), color=look(k)["color"], linewidth=1.3, label=f"f_n, n = {n}")
        finish(axes, "θ", "", heading=f"{unit}, d = {options.dimension}", log="")
        axes.set_xticks(np.pi * np.arange(5) / 2.0, ["0", "π/2", "π", "3π/2", "2π"])

    return panel


def _curve(networks: xarray.Dataset, name: str) -> np.ndarray:
    return np.asarray(networks[name].values, float).reshape(-1, len(ANGLES))[0]


SPIN_CIRCLES = Measurement(SpinCirclesOptions, spin_circles)
