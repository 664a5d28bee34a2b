"""What is measured on any measure, from its moments or from its cloud of weighted points."""

from __future__ import annotations

import math

from mvpde.runtime import ArgumentError, on_first_rank  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np

from mvpde.measure import Cloud, Measure
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.sgd_runs import SgdRuns, observed

FAINT = 1e-9  # share of the mass whose nodes are left out of transport distances: changes W² by at most 1e-9 diameter²
NEGLIGIBLE = 1e-12  # share of the mass that may be dropped before a transport problem is solved


# --- predictions ----------------------------------------------------------------------------------------------------------------


def squared_errors(model: MeanField, a: Array, b: Array) -> Array:
    """‖f_A − f_B‖²_{L²(μ)} / ‖target‖²_{L²(μ)} of each run, shape (runs,), from moments of shapes (runs, K) and (runs or 1, K).

    ‖h‖² = Σ_p w_p h(x_p)² with the weights of the data. The absolute ones where the target is zero throughout.

    Raises:
        ValueError: the model has no data.
    """
    difference = model.predictions(a) - model.predictions(b)
    assert model.data is not None  # predictions has checked it
    w, target = model.data.weights, model.data.target
    scale = float(w @ target**2)
    return np.asarray(difference**2 @ w / (scale if scale > 0.0 else 1.0))


def root_mean(squares: Array) -> tuple[float, float]:
    """e = the root of the mean of R squared errors, and its standard error s / (2e√R), s their sample standard deviation.

    The delta method; NaN from a single run.
    """
    root = math.sqrt(float(np.mean(squares)))
    if len(squares) < 2 or root == 0.0:
        return root, math.nan
    return root, float(np.std(squares, ddof=1) / math.sqrt(len(squares))) / (2.0 * root)


def prediction_error(model: MeanField, a: Array, b: Array) -> float:
    """Root mean square over runs of the relative L² error: see `squared_errors`."""
    return root_mean(squared_errors(model, a, b))[0]


# --- two measures ---------------------------------------------------------------------------------------------------------------


Sight = tuple[Array, Cloud]  # what comparisons look at: moments, shape (runs, K), and weighted points, on rank 0


def compare(a: Measure, b: Measure, *, projections: int = 32) -> dict[str, float]:
    """How far two measures of the same coordinates are apart, the same numbers on every rank. Collective.

    Args:
        a, b: at the same time; b has one run, or as many as a.
        projections: directions that the sliced Wasserstein distance averages over.

    Returns:
        "prediction_error" and, for several runs, "prediction_error_standard_error" where the model has data;
        "sliced_wasserstein", of order 2 between the first runs.

    Raises:
        ValueError: measures of different numbers of coordinates, or (an `ArgumentError`) at different times.
    """
    if a.model.dimension != b.model.dimension:
        raise ValueError(f"a and b have {a.model.dimension} and {b.model.dimension} coordinates; compare measures of the same")
    if not math.isclose(a.time, b.time, rel_tol=1e-9, abs_tol=1e-12):
        raise ArgumentError("a, b", f"are at the times {a.time:g} and {b.time:g}; carry both to the same time")
    sights = [(measure.moments(), measure.cloud()) for measure in (a, b)]

    def compared() -> dict[str, float]:
        return differences(a.model, *((m, cloud) for m, cloud in sights if cloud is not None), projections=projections)

    return on_first_rank(a.comm, compared)


def differences(model: MeanField, a: Sight, b: Sight, *, projections: int) -> dict[str, float]:
    """The numbers of `compare`, on one rank; 0 projections: without the distance."""
    numbers: dict[str, float] = {}
    (moments, cloud), (others, cloud_of_others) = a, b
    if model.data is not None:
        squares = squared_errors(model, moments, others)
        root, error = root_mean(squares)
        if math.isfinite(error):  # in this order of operations its last digit is that of all summaries so far
            error = float(np.std(squares, ddof=1)) / (2.0 * root * math.sqrt(len(squares)))
        numbers["prediction_error"] = root
        numbers |= {"prediction_error_standard_error": error} if len(moments) > 1 else {}
    if projections:
        clouds = without_faint(cloud), without_faint(cloud_of_others)
        numbers["sliced_wasserstein"] = sliced_wasserstein(*clouds, model.periods, projections=projections)
    return numbers


def weak_errors(runs: SgdRuns, law: Measure) -> dict[str, dict[str, float]]:
    """⟨h⟩ over the runs, its standard error, and ∫hρ, for h the weights, their products, and the loss. Collective.

    The difference holds the weak error of the diffusion, O(η) or with the modified drift O(η²), beside sampling and mesh errors.
    """
    numbers = {}
    for name, h in observed(runs.problem).items():
        mean, error = runs.estimate(h)
        numbers[name] = {runs.name: mean, "standard_error": error, law.name: float(law.expectation(h)[0])}
    return numbers


# --- clouds of weighted points --------------------------------------------------------------------------------------------------


def without_faint(cloud: Cloud) -> Cloud:
    """A cloud without its lightest points, which together hold less than a share FAINT of the mass."""
    points, weights = cloud
    order = np.argsort(weights)
    light = np.cumsum(np.maximum(weights[order], 0.0)) < FAINT * weights.sum()
    keep = np.ones(len(weights), bool)
    keep[order[light]] = False
    return points[keep], weights[keep]


def sliced_wasserstein(
    cloud_a: Cloud,
    cloud_b: Cloud,
    periods: tuple[float | None, ...],
    *,
    projections: int = 64,
    seed: int = 0,
    order: int = 2,
) -> float:
    """SW_p(a, b) = [mean over directions θ of W_p(θ·a, θ·b)^p]^{1/p}, θ uniform on the sphere.

    Bonneel, Rabin, Peyré & Pfister, J. Math. Imaging Vis. 51 (2015) 22, as implemented in POT. Every projection is solved exactly
    with all points: O(N log N) time, a second for 64 projections of 10⁵ points. The directions depend on the seed only, so
    distances of several pairs in the same dimension share them. Call on one rank: clouds live on rank 0.

    Args:
        cloud_a: points (N, D) and weights (N,); the weights are scaled to sum to 1, negative ones count as 0.
        cloud_b: the same of the other measure.
        periods: period of each coordinate, None on the real line. A coordinate y of period L is measured by the chord: it is
            replaced by (L/2π)(cos(2πy/L), sin(2πy/L)).
        projections: number of directions.
        seed: of the directions.
        order: p ≥ 1.
    """
    from ot.sliced import get_random_projections, sliced_wasserstein_distance  # a second to import, which the CLI has not

    a, weights_a = _prepared(cloud_a, periods)
    b, weights_b = _prepared(cloud_b, periods)
    directions = get_random_projections(a.shape[1], projections, seed)
    # One direction at a time: all at once, POT's temporaries are too large for the cache and five times slower.
    powers = [
        sliced_wasserstein_distance(a, b, weights_a, weights_b, p=order, projections=directions[:, k : k + 1]) ** order
        for k in range(projections)
    ]
    return float(np.mean(powers) ** (1.0 / order))


def _prepared(cloud: Cloud, periods: tuple[float | None, ...]) -> Cloud:
    points, weights = cloud
    positive = np.maximum(weights, 0.0)
    keep = positive * len(positive) > NEGLIGIBLE * positive.sum()  # what is dropped sums to less than NEGLIGIBLE
    return embed(points[keep], periods), positive[keep] / positive[keep].sum()


def embed(points: Array, periods: tuple[float | None, ...]) -> Array:
    """Points (N, D) with each coordinate of period L replaced by the two of a circle of circumference L."""
    columns: list[Array] = []
    for axis in range(points.shape[1]):
        period = periods[axis] if axis < len(periods) else None
        y = points[:, axis]
        if period is None:
            columns.append(y)
        else:
            angle = 2.0 * np.pi * y / period
            columns += [period / (2.0 * np.pi) * np.cos(angle), period / (2.0 * np.pi) * np.sin(angle)]
    return np.column_stack(columns)
