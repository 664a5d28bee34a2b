"""How far a mean of few runs may be off: Student's t (Biometrika 6 (1908) 1)."""

from __future__ import annotations

import math

from scipy.special import ndtri, stdtrit

COVERED = 0.95  # probability that bars and bands hold the mean


def student(runs: float, level: float = COVERED) -> float:
    """Standard errors on either side of a mean over ``runs`` runs that hold the true one with probability ``level``.

    t of runs − 1 degrees of freedom: 12.7 for 2 runs, 3.18 for 4, 1.96 for infinitely many; NaN for one: nothing is known then.
    """
    if not runs > 1:
        return math.nan
    return float(ndtri(0.5 + 0.5 * level) if math.isinf(runs) else stdtrit(runs - 1, 0.5 + 0.5 * level))
