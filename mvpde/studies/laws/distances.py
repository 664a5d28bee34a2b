"""Distances between the predictions of two measures, run by run, with their standard errors."""

from __future__ import annotations

import math

import numpy as np

from mvpde.models.mean_field import Array, MeanField


def squared_errors(model: MeanField, a: Array, b: Array) -> Array:
    """‖f_A − f_B‖²_{L²(μ)} / ‖target‖²_{L²(μ)} of each run, shape (runs,), from moments of shapes (runs, K) and (runs or 1, K).

    The absolute ones where the target is zero throughout.
    """
    assert model.data is not None
    w = model.data.weights
    scale = float(w @ model.data.target**2)
    return np.asarray(np.square(model.predictions(a) - model.predictions(b)) @ w / (scale if scale > 0.0 else 1.0))


def root_mean(squares: Array) -> tuple[float, float]:
    """The root of the mean of squared errors, and its standard error by the delta method; NaN from a single run."""
    root = math.sqrt(float(np.mean(squares)))
    if len(squares) < 2 or root == 0.0:
        return root, math.nan
    return root, float(np.std(squares, ddof=1) / math.sqrt(len(squares))) / (2.0 * root)


def errors(model: MeanField, pairs: list[tuple[Array, Array]]) -> dict[str, list[float]]:
    """`prediction_error` and `standard_error` of pairs of moments, one pair for each output time: lists for a summary."""
    found = [root_mean(squared_errors(model, a, b)) for a, b in pairs]
    return {"prediction_error": [root for root, _ in found], "standard_error": [error for _, error in found]}
