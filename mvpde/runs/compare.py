"""What is measured on any measure, from its moments or from its cloud of weighted points."""

from __future__ import annotations

import math

import numpy as np

from mvpde.models.mean_field import Array, MeanField

NEGLIGIBLE = 1e-12  # share of the mass that may be dropped before a transport problem is solved


def loss(model: MeanField, moments: Array) -> Array:
    """R(m) of each run, shape (runs,), from moments of shape (runs, K). For a network it is the training loss ℓ."""
    return np.asarray(model.outer_energy(moments))


def prediction_error(model: MeanField, moments_a: Array, moments_b: Array) -> float:
    """Root mean square over runs of ‖f_A − f_B‖_{L²(μ)} / ‖target‖_{L²(μ)}.

    Args:
        model: a model with data; its weights w_p are those of μ: ‖h‖² = Σ_p w_p h(x_p)².
        moments_a: shape (runs, K) or (1, K).
        moments_b: shape (runs, K) or (1, K); a single run is compared with every run of the other.

    Returns:
        The relative error; the absolute one where the target is zero throughout.

    Raises:
        ValueError: the model has no data.
    """
    return math.sqrt(float(np.mean(squared_errors(model, moments_a, moments_b))))


def prediction_error_standard_error(model: MeanField, moments_a: Array, moments_b: Array) -> float:
    """Standard error of `prediction_error` from the scatter of ≥ 2 independent runs, by the delta method; NaN from a single run.

    With e the error and s the sample standard deviation of the squared errors of R runs it is s / (2e√R).
    """
    squares = squared_errors(model, moments_a, moments_b)
    root = math.sqrt(float(np.mean(squares)))
    if len(squares) < 2 or root == 0.0:
        return math.nan
    return float(np.std(squares, ddof=1)) / (2.0 * root * math.sqrt(len(squares)))


def squared_errors(model: MeanField, moments_a: Array, moments_b: Array) -> Array:
    """‖f_A − f_B‖² / ‖target‖² of each run, shape (runs,), as `prediction_error`."""
    difference = model.predictions(moments_a) - model.predictions(moments_b)
    assert model.data is not None  # predictions has checked it
    w, target = model.data.weights, model.data.target
    scale = float(w @ target**2)
    return np.asarray(difference**2 @ w / (scale if scale > 0.0 else 1.0))


def root_mean(squares: Array) -> tuple[float, float]:
    """The root of the mean of squared errors, and its standard error by the delta method; NaN from a single run."""
    root = math.sqrt(float(np.mean(squares)))
    if len(squares) < 2 or root == 0.0:
        return root, math.nan
    return root, float(np.std(squares, ddof=1) / math.sqrt(len(squares))) / (2.0 * root)


def sliced_wasserstein(
    cloud_a: tuple[Array, Array],
    cloud_b: tuple[Array, Array],
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


def _prepared(cloud: tuple[Array, Array], periods: tuple[float | None, ...]) -> tuple[Array, Array]:
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
