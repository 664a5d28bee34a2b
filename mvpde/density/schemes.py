"""The schemes of the density: what each one is, which models it refuses, what it keeps, and where its code is.

Nothing of the solver is loaded to read this table, so that schema, messages and `mvpde list` can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import ABSORBING
from mvpde.registry import At, Registry

if TYPE_CHECKING:
    from mvpde.density.features import NodalFeatures
    from mvpde.mesh.domain import Domain

Array = NDArray[np.float64]


OrderInTime = Literal["auto", 2, 4]
SolverOptions = Mapping[str, str | float | bool]  # names of PETSc's options, without "-" and prefix → their values


@dataclass(frozen=True)
class Options:
    """What a user may choose about the steps of any scheme.

    Attributes:
        cfl: part of the largest positive explicit step, in (0, 1].
        tolerance: bound on the local error of an implicit step, in L¹, > 0.
        step: longest explicit step, or the fixed implicit step without error control; None: chosen by the scheme.
        solver: PETSc's options for the linear systems of implicit steps, see `mvpde.density.systems`.
        order_in_time: 2 or 4, of implicit steps; "auto": chosen, see `mvpde.density.steps.stiff`.
    """

    cfl: float = 0.8
    tolerance: float = 1e-5
    step: float | None = None
    solver: SolverOptions = field(default_factory=dict)
    order_in_time: OrderInTime = "auto"


def whole_part(remaining: float, longest: float) -> float:
    """The longest step ≤ ``longest`` that ``remaining`` is a whole number of; rounding of a ratio makes no further step."""
    return remaining / max(1, math.ceil(remaining / longest * (1.0 - 1e-12)))


class Steps(Protocol):
    """A scheme at work: one domain, one model, one set of options.

    Attributes:
        name: of the scheme.
        stages: evaluations of the fluxes in a step.
        proposal: length of the next step but for the time that remains; infinite where each step finds its own.
        time: of the density that the next step is given; set by whoever asks for the step.
    """

    name: str
    stages: int
    proposal: float
    time: float

    @property
    def limited_steps(self) -> int:
        """Steps so far whose fluxes were limited."""

    @property
    def rejected_steps(self) -> int:
        """Steps so far that were taken again, shorter."""

    @property
    def iterations(self) -> int:
        """Iterations of the linear solver so far."""

    @property
    def limiter_share(self) -> float | None:
        """Part of the antidiffusive fluxes that was cut; None where it is not measured."""

    def step(self, density: Array, remaining: float) -> tuple[Array, float]:
        """The density (owned + ghosts) one step later and the step's length ≤ remaining. Collective."""

    def exactly(self, density: Array, length: float) -> Array:
        """The density (owned + ghosts) just ``length`` later: one implicit step without error control, or as many explicit ones
        as stay positive. The next `step` is as it would have been. Collective.
        """


Builder = Callable[["Domain", "NodalFeatures", Array, Options], Steps]


def _anything(model: MeanField) -> str | None:
    return None


@dataclass(frozen=True)
class DensityScheme:
    """What a scheme declares of itself.

    Attributes:
        sentence: what it is.
        builder: (domain, features at its nodes, present values there, options) → steps, or where that function is.
        refuses: model → why the scheme cannot solve it, None where it can.
        order: of the error in the width of the cells and in the length of the steps, whichever is lower.
        positive: whether it keeps ρ ≥ 0; all schemes keep the mass.
        explicit: whether a step is as long as positivity allows, so that it is longer on coarser meshes by itself.
        stationary: what a stationary law of a gradient flow is found as: the Gibbs state, or the null vector of the operator.
    """

    sentence: str
    builder: Builder | At
    refuses: Callable[[MeanField], str | None] = _anything
    order: int = 2
    positive: bool = True
    explicit: bool = False
    stationary: Literal["gibbs", "null_vector"] = "gibbs"

    def build(self, domain: Domain, features: NodalFeatures, values: Array, options: Options) -> Steps:
        """The scheme at work on ``domain``, from ``values`` (owned + ghosts). Collective."""
        builder = cast("Builder", self.builder.load()) if isinstance(self.builder, At) else self.builder
        return builder(domain, features, values, options)


def _flux_corrected_refuses(model: MeanField) -> str | None:
    if model.walls is not None and any(model.walls.faces(ABSORBING)):
        return '"flux_corrected" has no absorbing walls; use "auto"'
    if model.gradient_flow or model.deterministic or model.metric is None:
        return None
    return '"flux_corrected" knows no metric where there is noise without a potential, and this model has one; use "auto"'


def _edge_averaged_refuses(model: MeanField) -> str | None:
    if not model.gradient_flow:
        return _NO_GRADIENT_FLOW.format("edge_averaged")
    if not min(model.temperatures) > 0.0:
        return '"edge_averaged" needs model.temperature > 0; use "flux_corrected" or "auto"'
    return None


def _galerkin_refuses(model: MeanField) -> str | None:
    return None if model.metric is None else '"galerkin" knows no metric, and this model has one; use "auto"'


_NO_GRADIENT_FLOW = '"{}" is for gradient flows; this model\'s drift or tensor needs "flux_corrected", "galerkin" or "auto"'

SCHEMES: Registry[DensityScheme] = Registry(
    "density scheme",
    {
        "auto": DensityScheme(
            "flux_corrected where diffusion is no stiffer than drift; else edge_averaged, or galerkin without a potential",
            At("mvpde.density.auto:auto"),
        ),
        "flux_corrected": DensityScheme(
            "explicit, limited antidiffusive fluxes: any drift and diffusion tensor",
            At("mvpde.density.transport:flux_corrected"),
            _flux_corrected_refuses,
            explicit=True,
        ),
        "edge_averaged": DensityScheme(
            "implicit, Scharfetter–Gummel fluxes, temperature > 0",
            At("mvpde.density.edge_averaged:edge_averaged_steps"),
            _edge_averaged_refuses,
        ),
        "galerkin": DensityScheme(
            "implicit, limited Galerkin fluxes: any drift and diffusion tensor",
            At("mvpde.density.galerkin:galerkin_steps"),
            _galerkin_refuses,
            stationary="null_vector",
        ),
    },
)
