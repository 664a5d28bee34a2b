"""All that a study file can ask for: `TASKS`, what is computed at a point, and `MEASURES`, what is fitted to the points.

A new law is a module in `mvpde/limits/` and its entries here. Often a task is enough: "slope" fits any number of a summary.
"""

from __future__ import annotations

from mvpde.measurements import SLOPE, Measure
from mvpde.tasks import RUN, Task

TASKS: dict[str, Task] = {
    "run": RUN,
}

MEASURES: dict[str, Measure] = {
    "slope": SLOPE,
}
