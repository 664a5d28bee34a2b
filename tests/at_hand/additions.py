"""What tests add to the tables of names is taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mvpde.cases.kinds import KINDS
from mvpde.cases.measures import MEASURES
from mvpde.density.schemes import SCHEMES
from mvpde.models.deep.activations import ACTIVATIONS
from mvpde.models.deep.units import OUTPUT_MAPS
from mvpde.models.laws import LAWS
from mvpde.models.losses import LOSSES
from mvpde.models.units import UNITS
from mvpde.particles.schemes import PARTICLE_SCHEMES
from mvpde.studies.laws import MEASUREMENTS, TASKS

REGISTRIES = (
    UNITS,
    ACTIVATIONS,
    OUTPUT_MAPS,
    LOSSES,
    LAWS,
    KINDS,
    MEASURES,
    SCHEMES,
    PARTICLE_SCHEMES,
    TASKS,
    MEASUREMENTS,
)


@contextmanager
def put_back() -> Iterator[None]:
    """Afterwards the registries have the names that they had before."""
    before = [set(registry) for registry in REGISTRIES]
    try:
        yield
    finally:
        for registry, names in zip(REGISTRIES, before, strict=True):
            for name in set(registry) - names:
                del registry[name]
