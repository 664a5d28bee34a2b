"""A symmetric state that loses its stability: stationary branches at one value of a control parameter, particles beside them.

The state whose order parameter m_k is 0 is unstable where the leading eigenvalue of the equation linearised there is positive,
and that is where τI + Cov R'' has a negative eigenvalue, Cov the covariance of the features in that state: here computed by
Gauss–Legendre quadrature, without a mesh. E m_k² of n particles has an exact value, `mvpde.particles.finite_n.exact_square`.

A scan over the control parameter tells where the pitchfork is, and how n particles see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mvpde.cases.measures import domain
from mvpde.cases.messages import about
from mvpde.cases.problem import Problem, stationary_starts
from mvpde.cases.schema import Positive, Section
from mvpde.density.density import Density
from mvpde.equilibrium.branches import Branch, branches
from mvpde.equilibrium.linearised import second_derivative
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.finite_n import exact_square, quadrature
from mvpde.runtime import MPI, CaseError
from mvpde.studies.figures import COLOURS, DASHES, GREY, bars, draw_errors, finish, fitted, guide
from mvpde.studies.laws.ensembles import ensemble_of
from mvpde.studies.measurement import Level, Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import Need, given
from mvpde.studies.slope import line_through
from mvpde.studies.task import task_of
from mvpde.studies.verdict import FAILS, HOLDS, Estimate, Json, Line, Verdict, decide

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


def _on_a_box(problem: Problem) -> bool:
    sections = problem.sections
    there = sections.density is not None and sections.ensemble is not None and sections.domain is not None
    return there and given(sections.domain).lower is not None


NEEDS = [
    Need(
        lambda problem: problem.model.dimension == 1 and problem.model.interacting and problem.model.gradient_flow,
        'the task "bifurcation" needs an interacting gradient flow with one coordinate',
    ),
    Need(_on_a_box, 'the task "bifurcation" needs [density] on a box, and [ensemble]'),
]


class BifurcationOptions(Section):
    """[options] of the task "bifurcation"."""

    parameter: str = Field(description="the control parameter, one of [model.parameters]", examples=["beta"])
    moment: int = Field(0, description="k of the order parameter m_k, a whole number ≥ 0", examples=[0], ge=0)


@dataclass(frozen=True)
class Symmetric:
    """The state with the least |m_k|: its leading eigenvalue, and the least eigenvalue of I + Cov R''/τ there."""

    growth: float
    margin: float


@dataclass(frozen=True)
class Broken:
    """The state with the largest |m_k|: that moment, its leading eigenvalue, and whether it is stable (1) or not (0)."""

    moment: float
    growth: float
    stable: int


@dataclass(frozen=True)
class Particles:
    """E m_k² over runs and the output times of the later half, its standard error from the runs, and its exact value."""

    particles: int
    runs: int
    square: float
    standard_error: float
    exact_square: float | None


@dataclass(frozen=True)
class BifurcationResult:
    """The summary of a point; `count` is that of the branches."""

    control: float
    temperature: float
    count: int
    symmetric: Symmetric
    broken: Broken
    ensemble: Particles


def bifurcation(problem: Problem, options: BifurcationOptions, comm: MPI.Intracomm) -> BifurcationResult:
    """Branches from [stationary] starts on the mesh, and E m_k² of the particles over the later half of the run. Collective.

    Raises:
        CaseError: without such a parameter.
    """
    control = _control(problem, options)
    model, k, section = problem.model, options.moment, given(problem.sections.density)
    density = Density(model, domain(problem, comm), problem.law, scheme=section.scheme, tolerance=section.tolerance)
    with about("[stationary]"):
        states = branches(density, stationary_starts(problem))

    def size(branch: Branch) -> float:
        return abs(float(branch.moments[k]))

    symmetric, broken = min(states, key=size), max(states, key=size)
    right = density.features.right
    covariance = _covariance(model, symmetric.moments, density.domain.lower[0], density.domain.upper[0])
    form = (
        np.eye(right.shape[1]) + right.T @ covariance @ right @ second_derivative(density, symmetric.moments) / model.temperature
    )
    return BifurcationResult(
        control,
        model.temperature,
        len(states),
        Symmetric(symmetric.leading_eigenvalue, float(np.linalg.eigvals(form).real.min())),
        Broken(size(broken), broken.leading_eigenvalue, int(bool(broken.stable))),
        _particles(problem, k, comm),
    )


def _control(problem: Problem, options: BifurcationOptions) -> float:
    """The control parameter."""
    parameters: dict[str, float] = getattr(problem.sections.model, "parameters", {})
    if options.parameter not in parameters:
        raise CaseError(f"{problem.case.path}: [options] parameter: `{options.parameter}` is not in [model.parameters]")
    return float(parameters[options.parameter])


def _covariance(model: MeanField, moments: Array, lower: float, upper: float) -> Array:
    """Cov of the features under exp(−V(·; m)/τ) on [lower, upper], shape (K, K)."""
    z, weights = quadrature(lower, upper)
    exponent = -model.potential(z[:, None], moments) / model.temperature
    masses = weights * np.exp(exponent - exponent.max())
    features = model.feature_values(z[:, None])
    centred = features - masses @ features / masses.sum()
    return np.asarray((masses[:, None] * centred).T @ centred / masses.sum())


def _particles(problem: Problem, k: int, comm: MPI.Intracomm) -> Particles:
    section, box = given(problem.sections.ensemble), given(problem.sections.domain)
    n, runs = section.particles, section.runs
    times = [t for t in problem.sections.time.outputs if t > 0.0]
    ensemble = ensemble_of(problem, comm)
    squares = []
    for t in times:
        ensemble.advance(t)
        if t > 0.5 * times[-1]:
            squares.append(ensemble.moments()[:, k] ** 2)
    means = np.mean(squares, axis=0)
    spread = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else math.nan
    exact = exact_square(problem.model, k, n, given(box.lower)[0], given(box.upper)[0])
    return Particles(n, runs, float(means.mean()), spread, exact)


BIFURCATION = task_of(BifurcationOptions, bifurcation, NEEDS)


# --- the law --------------------------------------------------------------------------------------------------------------------


class PitchforkOptions(MeasurementOptions):
    """Where the symmetric state loses its stability, the square root beyond, and the fluctuations at the critical value."""

    name: str = Field("pitchfork", description="name of its figure, <name>.png", examples=["pitchfork"])
    tolerance: Positive = Field(1e-3, description="of the critical value, > 0", examples=[1e-3])
    slope_tolerance: Positive = Field(0.1, description="of the slope of E m² at the critical value, > 0", examples=[0.1])
    near: Positive = Field(0.02, description="relative distance to the critical value that counts as at it, > 0", examples=[0.02])
    level: Level = Field(0.95, description="level of the intervals, in (0, 1)", examples=[0.95])
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

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Scan:
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
    measured, predicted = _crossing(scan.control, scan.growth), _crossing(scan.control, scan.margin)
    if measured is None or predicted is None:
        note = "the symmetric state does not change its stability in the scan, or only once a side was scanned"
        return Outcome([Verdict("critical value", 0.0, None, None, FAILS, note)])
    critical = scan.chosen(np.abs(scan.control / predicted - 1.0) <= options.near)
    line = line_through(critical.particles, _estimates(critical))
    verdicts = [
        Verdict(
            "critical value of the control parameter: the growth rate vanishes where τI + Cov R'' is singular",
            predicted,
            measured,
            None,
            decide(measured, predicted, options.tolerance),
            "predicted by quadrature, measured by the eigenvalues of the linearised equation",
            {"measure": options.name, "tolerance": options.tolerance},
        ),
        _critical_slope(line, critical, options),
        _fluctuations(scan, options),
    ]
    panels = [partial(_draw_diagram, scan=scan, predicted=predicted, options=options)]
    panels += [] if line is None else [partial(_draw_critical, critical=critical, line=line, level=options.level)]
    return Outcome(verdicts, Picture(title(dataset), panels))


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


def _estimates(scan: Scan) -> list[Estimate]:
    return [Estimate(y, s, n - 1.0) for y, s, n in zip(scan.square, scan.standard_error, scan.runs, strict=True)]


def _critical_slope(line: Line | None, critical: Scan, options: PitchforkOptions) -> Verdict:
    law = "√n E m² → const at the critical value: slope of E m² against n"
    details: dict[str, Json] = {"measure": options.name, "tolerance": options.slope_tolerance, "level": options.level}
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
    details: dict[str, Json] = {"measure": options.name, "level": options.level}
    known = scan.chosen(np.isfinite(scan.exact) & np.isfinite(scan.standard_error))
    if not len(known.exact):
        return Verdict(law, 0.0, None, None, FAILS, "the exact law is known for R = b·m − ½θm_k² only", details)
    each = 1.0 - (1.0 - options.level) / len(known.exact)
    ends = [estimate.interval(each) or (np.nan, np.nan) for estimate in _estimates(known)]
    allowed = np.array([0.5 * (high - low) for low, high in ends])
    ratios = np.abs(known.square - known.exact) / allowed
    holds = HOLDS if np.all(ratios <= 1.0) else FAILS
    return Verdict(law, 1.0, float(np.max(ratios)), None, holds, "", {**details, "ratios": ratios.tolist()}, "≤")


# --- the figure -----------------------------------------------------------------------------------------------------------------


def _draw_critical(axes: Axes, critical: Scan, line: Line, level: float) -> None:
    order = np.argsort(critical.particles)
    x = critical.particles[order]
    bars(axes, critical.particles, _estimates(critical), level, "particles", 1)
    fitted(axes, x, line, level, "", 1)
    if np.isfinite(critical.exact).all():
        axes.plot(x, critical.exact[order], color=COLOURS[2], linewidth=1.3, label="exact stationary law")
    guide(axes, x, 1.6 * float(line.at(x[:1])[0]), -0.5, "predicted slope −0.5")
    finish(axes, "number of particles n", "E m²", heading="at the critical value")


def _draw_diagram(axes: Axes, scan: Scan, predicted: float, options: PitchforkOptions) -> None:
    """Stable branches full, the unstable one dashed, the particles' root mean square on both sides."""
    unique = scan.chosen(np.unique(scan.control, return_index=True)[1])
    beyond = unique.moment > 1e-6
    x = np.concatenate([[predicted], unique.control[beyond]])
    y = np.concatenate([[0.0], unique.moment[beyond]])
    for sign in (1.0, -1.0):
        axes.plot(x, sign * y, color=COLOURS[0], linewidth=1.8, label="stable" if sign > 0 else None)
    ends: Sequence[float] = (float(scan.control.min()), predicted, float(scan.control.max()))
    axes.plot(ends[:2], [0.0, 0.0], color=COLOURS[0], linewidth=1.8)
    axes.plot(ends[1:], [0.0, 0.0], color=COLOURS[0], linewidth=1.5, linestyle=DASHES, label="unstable")
    axes.axvline(predicted, color=GREY, linewidth=1.0, linestyle=":", label=f"critical value {predicted:.5f}")
    most = scan.particles == np.max(scan.particles[np.abs(scan.control / predicted - 1.0) > options.near], initial=0.0)
    shown = scan.chosen(most)
    root = np.sqrt(shown.square)
    for sign in (1.0, -1.0):
        label = f"√E m², {shown.particles[0]:.0f} particles" if sign > 0 and len(root) else None
        draw_errors(axes, shown.control, sign * root, shown.standard_error / root, label, 1)
    finish(axes, options.xlabel or "control parameter", "order parameter m", log="")


PITCHFORK = Measurement(PitchforkOptions, pitchfork)
