"""The laws of a pitchfork bifurcation, from a scan over the control parameter: where it is, and how n particles see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mvpde.cases.schema import Number, Positive
from mvpde.studies.slope import Measure, Measurement, Outcome
from mvpde.studies.verdict import FAILS, HOLDS, Array, Estimate, Line, Verdict, decide, loglog_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class PitchforkOptions(Measurement):
    """Where the symmetric state loses its stability, the square root beyond, and the fluctuations at the critical value."""

    name: str = Field("pitchfork", description="name of its figure, <name>.png", examples=["pitchfork"])
    tolerance: Positive = Field(1e-3, description="of the critical value, > 0", examples=[1e-3])
    slope_tolerance: Positive = Field(0.1, description="of the slope of E m² at the critical value, > 0", examples=[0.1])
    near: Positive = Field(0.02, description="relative distance to the critical value that counts as at it, > 0", examples=[0.02])
    level: Annotated[Number, Field(gt=0, lt=1)] = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])
    xlabel: str = Field("", description="label of the control parameter", examples=["β"])


@dataclass(frozen=True)
class Scan:
    """The points of a study, sorted by control parameter: one array for each quantity, shape (points,)."""

    control: Array
    growth: Array
    margin: Array
    moment: Array
    stable: Array
    particles: Array
    square: Array
    standard_error: Array
    runs: Array
    exact: Array

    def chosen(self, which: NDArray[Any]) -> Scan:
        """Some of the points."""
        return Scan(**{key: value[which] for key, value in vars(self).items()})


_QUANTITIES = {
    "control": "control",
    "growth": "symmetric.growth",
    "margin": "symmetric.margin",
    "moment": "broken.moment",
    "stable": "broken.stable",
    "particles": "ensemble.particles",
    "square": "ensemble.square",
    "standard_error": "ensemble.standard_error",
    "runs": "ensemble.runs",
    "exact": "ensemble.exact_square",
}


def pitchfork(dataset: xarray.Dataset, options: PitchforkOptions) -> Outcome:
    """Critical value by growth rate and by quadrature; the slope of E m² there; E m² against its exact value everywhere."""
    missing = [name for key, name in _QUANTITIES.items() if name not in dataset and key != "exact"]
    if missing:
        return Outcome([Verdict("pitchfork", 0.0, None, None, FAILS, f"no point has the quantity {missing[0]}")])
    scan = Scan(**{key: _values(dataset, name) for key, name in _QUANTITIES.items()})
    scan = scan.chosen(np.argsort(scan.control, kind="stable"))
    scan = scan.chosen(np.isfinite(scan.control))
    found, predicted = _crossing(scan.control, scan.growth), _crossing(scan.control, scan.margin)
    if found is None or predicted is None:
        note = "the symmetric state does not change its stability in the scan, or only once a side was scanned"
        return Outcome([Verdict("critical value", 0.0, None, None, FAILS, note)])
    at = np.abs(scan.control / predicted - 1.0) <= options.near
    critical, line = scan.chosen(at), _line(scan.chosen(at))
    verdicts = [
        Verdict(
            "critical value of the control parameter: the growth rate vanishes where τI + Cov R'' is singular",
            predicted,
            found,
            None,
            decide(found, predicted, options.tolerance),
            "predicted by quadrature, measured by the eigenvalues of the linearised equation",
            {"measure": options.name, "tolerance": options.tolerance},
        ),
        _critical_slope(line, critical, options),
        _fluctuations(scan, options),
    ]
    return Outcome(verdicts, _figure(scan, critical, line, predicted, options, str(dataset.attrs.get("title", ""))))


def _values(dataset: xarray.Dataset, name: str) -> Array:
    like = dataset["ensemble.square"]
    return np.asarray(dataset[name].values if name in dataset else np.full(like.shape, np.nan), float).ravel()


def _crossing(x: Array, y: Array) -> float | None:
    """Where y, a smooth function of x, changes its sign, by the cubic through the four points about it."""
    points, first = np.unique(x, return_index=True)
    values = y[first]
    changes = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
    if len(points) < 4 or len(changes) != 1:
        return None
    start = int(np.clip(changes[0] - 1, 0, len(points) - 4))
    near = slice(start, start + 4)
    cubic = np.polynomial.Polynomial.fit(points[near], values[near], 3)
    roots = cubic.roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    a, b = points[changes[0]], points[changes[0] + 1]
    inside = real[(real >= a) & (real <= b)]
    return float(inside[0]) if len(inside) else None


def _line(critical: Scan) -> Line | None:
    try:
        return loglog_line(critical.particles, _estimates(critical))
    except ValueError:
        return None


def _estimates(scan: Scan) -> list[Estimate]:
    return [Estimate(y, s, n - 1.0) for y, s, n in zip(scan.square, scan.standard_error, scan.runs, strict=True)]


def _critical_slope(line: Line | None, critical: Scan, options: PitchforkOptions) -> Verdict:
    law = "√n E m² → const at the critical value: slope of E m² against n"
    details = {"measure": options.name, "tolerance": options.slope_tolerance, "level": options.level}
    if line is None:
        return Verdict(law, -0.5, None, None, FAILS, "fewer than two numbers of particles at the critical value", details)
    constant = (np.sqrt(critical.particles) * critical.square).tolist()
    return Verdict(
        law,
        -0.5,
        line.slope.value,
        line.slope.interval(options.level),
        decide(line.slope.value, -0.5, options.slope_tolerance),
        "",
        {**details, "particles": critical.particles.tolist(), "root_n_square": constant},
    )


def _fluctuations(scan: Scan, options: PitchforkOptions) -> Verdict:
    """The largest |E m² − exact| over what its spread allows, at `level` for all points together (Bonferroni)."""
    law = "E m² of n particles is that of their exact stationary law, at every point: largest difference over what is allowed"
    details = {"measure": options.name, "level": options.level}
    known = scan.chosen(np.isfinite(scan.exact) & np.isfinite(scan.standard_error))
    if not len(known.exact):
        return Verdict(law, 0.0, None, None, FAILS, "the exact law is known for R = b·m − ½θm_k² only", details)
    each = 1.0 - (1.0 - options.level) / len(known.exact)
    ends = [one.interval(each) or (np.nan, np.nan) for one in _estimates(known)]
    allowed = np.array([0.5 * (high - low) for low, high in ends])
    ratios = np.abs(known.square - known.exact) / allowed
    holds = HOLDS if np.all(ratios <= 1.0) else FAILS
    return Verdict(law, 1.0, float(np.max(ratios)), None, holds, "", {**details, "ratios": ratios.tolist()}, "≤")


# --- the figure -----------------------------------------------------------------------------------------------------------------


def _figure(scan: Scan, critical: Scan, line: Line | None, predicted: float, options: PitchforkOptions, title: str) -> Figure:
    from matplotlib.figure import Figure

    from mvpde.studies.figures import bars, finish, guide, style
    from mvpde.studies.slope_figure import COLOURS

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _diagram(left, scan, predicted, options)
    if line is not None:
        x = np.sort(critical.particles)
        bars(right, critical.particles, _estimates(critical), options.level, "particles", **style(1))
        interval = line.slope.interval(options.level)
        ends = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
        right.plot(x, line.at(x), color=style(1)["color"], linewidth=1.3, label=f"slope {line.slope.value:.3f}{ends}")
        if np.isfinite(critical.exact).all():
            order = np.argsort(critical.particles)
            right.plot(x, critical.exact[order], color=COLOURS[2], linewidth=1.3, label="exact stationary law")
        guide(right, x, 1.6 * float(line.at(x[:1])[0]), -0.5, "predicted slope −0.5")
        finish(right, xlabel="number of particles n", ylabel="E m²")
        right.set_title("at the critical value", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _diagram(axes: Axes, scan: Scan, predicted: float, options: PitchforkOptions) -> None:
    """Stable branches full, the unstable one dashed, the particles' root mean square on both sides."""
    from mvpde.studies.figures import style
    from mvpde.studies.slope_figure import COLOURS, GREY

    unique = scan.chosen(np.unique(scan.control, return_index=True)[1])
    beyond = unique.moment > 1e-6
    x = np.concatenate([[predicted], unique.control[beyond]])
    y = np.concatenate([[0.0], unique.moment[beyond]])
    for sign in (1.0, -1.0):
        axes.plot(x, sign * y, color=COLOURS[0], linewidth=1.8, label="stable" if sign > 0 else None)
    ends: Sequence[float] = (float(scan.control.min()), predicted, float(scan.control.max()))
    axes.plot(ends[:2], [0.0, 0.0], color=COLOURS[0], linewidth=1.8)
    axes.plot(ends[1:], [0.0, 0.0], color=COLOURS[0], linewidth=1.5, linestyle=(0, (4, 3)), label="unstable")
    axes.axvline(predicted, color=GREY, linewidth=1.0, linestyle=":", label=f"critical value {predicted:.5f}")
    most = scan.particles == np.max(scan.particles[np.abs(scan.control / predicted - 1.0) > options.near], initial=0.0)
    shown = scan.chosen(most)
    root = np.sqrt(shown.square)
    look = {"linestyle": "none", "marker": style(1)["marker"], "color": style(1)["color"], "markersize": 5, "capsize": 3}
    for sign in (1.0, -1.0):
        label = f"√E m², {shown.particles[0]:.0f} particles" if sign > 0 and len(root) else None
        axes.errorbar(shown.control, sign * root, yerr=2.0 * shown.standard_error / (2.0 * root), label=label, **look)
    axes.set(xlabel=options.xlabel or "control parameter", ylabel="order parameter m")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


PITCHFORK = Measure(PitchforkOptions, pitchfork)
