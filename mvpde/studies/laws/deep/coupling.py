"""Wide deep networks and copies of their weights that the limit drives, from the same start and with the same noise.

    E|θ^ℓ_ij − θ̄^ℓ_ij| ≤ C^L e^{ct} N^{-1/2} in every layer ℓ

(Araújo, Oliveira & Yukimura, arXiv:1906.00193). √N times the distance of runs of width N is shown against t and against L. Runs
scatter by half of the mean, as A and B are drawn once a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mvpde.cases.deep import networks
from mvpde.cases.file import Case, changed
from mvpde.cases.problem import Problem, problem
from mvpde.cases.schema import Positive, Section
from mvpde.cases.values import Count
from mvpde.models.mean_field import Array
from mvpde.runtime import MPI, CaseError
from mvpde.studies.figures import draw_errors, finish, look
from mvpde.studies.laws.deep.limit import coarse, needs, network_section, path_of, trained
from mvpde.studies.laws.deep.step import distances
from mvpde.studies.laws.limits.chaos import rates
from mvpde.studies.measurement import Measurement, MeasurementOptions, Outcome, Picture, title
from mvpde.studies.needs import hot
from mvpde.studies.quantities import axis
from mvpde.studies.task import task_of
from mvpde.studies.verdict import FAILS, HOLDS, Json, Verdict

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes


COMPARED = 2  # runs of copies whose limit is coarser


class CouplingOptions(Section):
    """[options] of the task "deep_coupling"."""

    depths: list[Count] = Field(
        [],
        description="other depths L ≥ 2 of the same width, of layers like the first; the case's own counts too",
        examples=[[2, 3]],
    )


@dataclass(frozen=True)
class CouplingResult:
    """The summary of a point.

    Attributes:
        times: output times.
        coupling: distances over the output times: "all", "layer1", … with standard errors; "discretisation" is the distance of
            copies whose limit has half the nodes.
        depth: "L" and "scaled", √N times the distance in the worst layer, with its standard error; lists over times of lists over
            depths.
    """

    times: list[float]
    coupling: dict[str, list[Json]]
    depth: dict[str, Json] | None


def coupling(described: Problem, options: CouplingOptions, comm: MPI.Intracomm) -> CouplingResult:
    """Distances to the copies at every output time. Collective.

    Raises:
        CaseError: depths for a case whose layers differ.
    """
    mode = "langevin" if hot(described) else "heun"
    described, times = trained(described, mode), described.sections.time.outputs
    limit, rough = path_of(described, comm), path_of(coarse(described), comm)
    made, copies = networks(described, comm, mode=mode), networks(described, comm, mode=mode, limit=limit)
    few, shadows = (networks(described, comm, mode=mode, limit=path, runs=COMPARED) for path in (limit, rough))
    found: dict[str, list[Json]] = {}
    for t in times:
        for moved in (made, copies, few, shadows):
            moved.advance(t)
        row = distances(made, copies, "all") | {"discretisation": float(few.distance(shadows).max())}
        for key, value in row.items():
            found.setdefault(key.replace("all_layer", "layer"), []).append(value)
    return CouplingResult(list(times), found, _by_depth(described, options.depths, mode, comm))


def _by_depth(described: Problem, depths: Sequence[int], mode: str, comm: MPI.Intracomm) -> dict[str, Json] | None:
    """√N E|θ − θ̄| in the worst layer, at other depths. Collective."""
    if not depths:
        return None
    section = network_section(described)
    scaled, errors = [], []
    for depth in depths:
        there = trained(problem(_of_depth(described, depth), comm), mode)
        made, copies = networks(there, comm, mode=mode), networks(there, comm, mode=mode, limit=path_of(there, comm))
        rows = []
        for t in described.sections.time.outputs:
            made.advance(t)
            copies.advance(t)
            rows.append(np.sqrt(section.width) * made.distance(copies).max(axis=1))
        scaled.append([float(row.mean()) for row in rows])
        errors.append([float(row.std(ddof=1) / np.sqrt(len(row))) for row in rows])
    return {
        "L": [list(depths)] * len(described.sections.time.outputs),
        "scaled": np.transpose(scaled).tolist(),
        "scaled_standard_error": np.transpose(errors).tolist(),
    }


def _of_depth(described: Problem, depth: int) -> Case:
    """The case with L − 1 layers like its first."""
    layers = described.sections.model.model_dump()["layers"]
    if len(layers) > 1 or depth < 2:
        raise CaseError(
            f"{described.case.path}: options.depths: {depth}: needs L ≥ 2 and one table [[model.layers]], whose layer is "
            "repeated; leave it out"
        )
    return changed(described.case, {"model.layers": [{**layers[0], "repeat": depth - 1}]})


COUPLING = task_of(CouplingOptions, coupling, needs("deep_coupling"))


# --- the law --------------------------------------------------------------------------------------------------------------------


class DeepGrowthOptions(MeasurementOptions):
    """√N E|θ − θ̄| against e^{ct} − 1, and against C^L."""

    name: str = Field("growth", description="name of its figure, <name>.png", examples=["growth"])
    x: str = Field("network.width", description="the varied width", examples=["network.width"])
    fitted_until: Positive = Field(description="c is fitted up to here, > 0; later times test it", examples=[1.0])
    errors: Positive = Field(3.0, description="standard errors that a depth may exceed C^L by, > 0", examples=[3.0])


@dataclass(frozen=True)
class Depths:
    """√N E|θ − θ̄| in the worst layer at some depths, at the last time, with its standard error; all shapes (depths,)."""

    depth: Array
    scaled: Array
    error: Array


def growth(dataset: xarray.Dataset, options: DeepGrowthOptions) -> Outcome:
    """One verdict on the growth in t, and one on that in L where depths were compared."""
    varied = axis(dataset, options.x)
    if varied is None or "coupling.all" not in dataset:
        return Outcome([Verdict("√N E|θ − θ̄| ≤ e^{ct} − 1", 1.0, None, None, FAILS, "no point has couplings")])
    n, dimension = varied.values.astype(float), str(varied.dims[0])
    scaled = {name: np.sqrt(n)[:, None] * _over(dataset, f"coupling.{name}", dimension) for name in _layers(dataset)}
    t = dataset["time"].values
    worst = np.asarray(np.max([values.max(axis=0) for values in scaled.values()], axis=0), float)
    bound = _in_time(t, worst, options)
    verdicts, panels = [bound], [lambda axes: _draw_times(axes, t, n, scaled, bound.details.get("constant"))]
    depths = _depths(dataset)
    if depths is not None:
        verdicts.append(_in_depth(depths, float(t[-1]), options))
        panels.append(lambda axes: _draw_depths(axes, depths, float(t[-1])))
    return Outcome(verdicts, Picture(title(dataset), panels))


def _layers(dataset: xarray.Dataset) -> list[str]:
    names = [str(name).removeprefix("coupling.") for name in dataset.data_vars if str(name).startswith("coupling.layer")]
    return [name for name in names if not name.endswith("standard_error")]


def _over(dataset: xarray.Dataset, name: str, dimension: str) -> Array:
    values = dataset[name]
    return np.asarray(values.mean([d for d in values.dims if d not in (dimension, "time")]).transpose(dimension, "time").values)


def _depths(dataset: xarray.Dataset) -> Depths | None:
    """Of the points that compared depths, the mean."""
    if "depth.scaled" not in dataset:
        return None
    last = [dataset[f"depth.{name}"].isel(time=-1) for name in ("scaled", "scaled_standard_error")]
    rows = [values.values.reshape(-1, values.shape[-1]) for values in last]
    known = np.isfinite(rows[0]).all(axis=1)
    depth = dataset["depth.L"].isel(time=-1).values.reshape(-1, rows[0].shape[1])[known][0]
    error = np.sqrt((rows[1][known] ** 2).sum(axis=0)) / known.sum()
    return Depths(depth, rows[0][known].mean(axis=0), error)


def _in_time(t: Array, worst: Array, options: DeepGrowthOptions) -> Verdict:
    """As for particles: c of the times up to ``fitted_until`` is enough for the later ones."""
    details: dict[str, Json] = {"measure": options.name, "fitted_until": options.fitted_until}
    law = f"√N E|θ − θ̄| ≤ e^{{ct}} − 1 in every layer, c from t ≤ {options.fitted_until:g}"
    early, constants = t[t > 0] <= options.fitted_until, rates(t[t > 0], worst[t > 0])
    if not early.any() or early.all() or not np.isfinite(constants).all():
        return Verdict(law, 1.0, None, None, FAILS, "needs output times on both sides of fitted_until", details)
    c, ratio = float(constants[early].max()), float(constants[~early].max() / constants[early].max())
    note = f"c = {c:.3g}; measured is the constant that later times need, relative to it: up to 1 is within the bound"
    return Verdict(law, 1.0, ratio, None, HOLDS if ratio <= 1.0 else FAILS, note, {**details, "constant": c}, "≤")


def _in_depth(depths: Depths, end: float, options: DeepGrowthOptions) -> Verdict:
    """C from the two least depths, at least 1; each further layer multiplies by no more."""
    order = np.argsort(depths.depth)
    depth, y, s = depths.depth[order].astype(float), depths.scaled[order], depths.error[order]
    c = factor(depth, y)
    bound = y[0] * c ** (depth - depth[0])
    excess = float(np.max((y - options.errors * s)[2:] / bound[2:], initial=0.0))
    note = f"C = {c:.3g} from L = {depth[0]:g} and {depth[1]:g}; measured is the largest share of the bound"
    details: dict[str, Json] = {"measure": options.name, "constant": c, "depths": depth.tolist(), "scaled": y.tolist()}
    return Verdict(
        f"√N E|θ − θ̄| ≤ K·C^L in the worst layer, t = {end:g}",
        1.0,
        excess,
        None,
        HOLDS if excess <= 1.0 else FAILS,
        note,
        details,
        "≤",
    )


def factor(depth: Array, y: Array) -> float:
    """C = (y₂/y₁)^{1/(L₂ − L₁)} of the two least depths, and 1 if that is less."""
    return max(1.0, float((y[1] / y[0]) ** (1.0 / (depth[1] - depth[0]))))


def _draw_times(axes: Axes, t: Array, n: Array, scaled: dict[str, Array], constant: Json) -> None:
    for k, (name, values) in enumerate(scaled.items()):
        for row, (count, line) in enumerate(zip(n, values, strict=True)):
            shade = 0.35 + 0.65 * (row + 1) / len(n)
            label = f"layer {name.removeprefix('layer')}, N = {count:g}" if row in (0, len(n) - 1) else None
            axes.plot(t, line, label=label, markersize=4, linewidth=1.0, alpha=shade, **look(k))
    if isinstance(constant, float):
        axes.plot(t, np.expm1(constant * t), "k--", linewidth=1.0, label=f"e^{{ct}} − 1, c = {constant:.3g}")
    finish(axes, "time t", "√N E|θ − θ̄|", heading="distance to the copies", log="")


def _draw_depths(axes: Axes, depths: Depths, end: float) -> None:
    draw_errors(axes, depths.depth, depths.scaled, depths.error, f"worst layer, t = {end:g}", 0)
    order = np.argsort(depths.depth)
    depth, y = depths.depth[order].astype(float), depths.scaled[order]
    c = factor(depth, y)
    axes.plot(depth, y[0] * c ** (depth - depth[0]), "k--", linewidth=1.0, label=f"{c:.3g}^L, from the first two")
    axes.set_xticks(depth)
    finish(axes, "depth L", "√N E|θ − θ̄|", heading="distance against depth", log="")


GROWTH = Measurement(DeepGrowthOptions, growth)
