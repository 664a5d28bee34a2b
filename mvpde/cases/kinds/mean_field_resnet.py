"""Residual networks of infinite depth and width, and of K layers of M units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, cast

from pydantic import AfterValidator, Field

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.messages import listed
from mvpde.cases.schema import CaseSections, ExplicitDensitySection, ModelSection, TimeSection
from mvpde.cases.sources import SOURCES
from mvpde.cases.values import Count, Number, Positive, Section, absent, one_of, refuse
from mvpde.models.data import Data
from mvpde.models.deep.activations import TRAINED
from mvpde.models.deep.resnet import RULES, ResidualLimit
from mvpde.models.deep.units import WEIGHTS, DeepLayer
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.registry import At

MODES = ("descent", "heun")


class MeanFieldResnetModel(ModelSection):
    """X(1, x): residual networks; the law of their units at every depth, as depth and width go to infinity."""

    unit: Annotated[str, one_of(TRAINED)] = Field(
        "tanh", description="activation of f(x, θ) = v·act(wx + c): one of {names}", examples=["tanh"]
    )
    trained: list[Annotated[str, one_of(WEIGHTS)]] = Field(
        description="those of v, w, c that move, at least one", examples=[["v", "w"]]
    )
    fixed: dict[str, Number] = Field({}, description="the values of the others, by name", examples=[{"c": 0.3}])
    loss: Annotated[str, one_of(LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])

    @property
    def layer(self) -> DeepLayer:
        """The unit."""
        return DeepLayer(self.unit, tuple(self.trained), self.fixed)


class DepthsSection(Section):
    """The depths that stand for all of [0, 1]."""

    s: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="how many depths have a law of their own, a whole number from 1 to 1000", examples=[8]
    )
    rule: Annotated[str, one_of(RULES)] = Field("gauss", description="how they lie: one of {names}", examples=["gauss"])


class ResidualRunsSection(Section):
    """True residual networks, trained beside their limit."""

    layers: Count = Field(description="K, a whole number ≥ 1", examples=[20])
    width: Count = Field(description="M, units in every layer, a whole number ≥ 1", examples=[200])
    runs: Count = Field(1, description="number of independent networks, a whole number ≥ 1", examples=[20])
    mode: str = Field("descent", description=f"how they are trained, one of {', '.join(MODES)}", examples=["descent"])
    step: Positive = Field(0.05, description="length of a step in the time of the limit, > 0", examples=[0.05])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all random numbers, a whole number ≥ 0", examples=[0])
    companion: bool = Field(True, description="narrower networks tell the error of the step, true or false", examples=[True])


class ResidualDensitySection(ExplicitDensitySection):
    """The law at every depth as finite elements."""

    scheme: Annotated[str, one_of(("auto", "flux_corrected"))] = Field("auto", description="one of {names}", examples=["auto"])


def _known_mode(section: ResidualRunsSection | None) -> ResidualRunsSection | None:
    if section is not None and section.mode not in MODES:
        raise refuse(f'mode = "{section.mode}" is not one of {listed(MODES)}; descent on all data is what has this limit')
    return section


def _no_annealing(section: TimeSection) -> TimeSection:
    if section.annealing:
        raise refuse("residual networks are trained at temperature 0; remove `annealing`")
    return section


def residual_limit(model: MeanFieldResnetModel, data: Data) -> ResidualLimit:
    """The network that [model] describes.

    Raises:
        ValueError: a unit that does not hold together, several inputs, targets that do not fit the loss.
    """
    return ResidualLimit(model.layer, data, model.loss)


def _build(model: MeanFieldResnetModel, given: Given) -> MeanField:
    assert given.data is not None
    return residual_limit(model, given.data).mean_field()


def _sizes(sections: CaseSections, model: MeanField) -> Mapping[str, int | str]:
    """Of all depths together."""
    count = cast("DepthsSection", getattr(sections, "labels")).s  # noqa: B009  (of this kind's own)
    answer: dict[str, int | str] = {"labels": f"{count} depths"}
    if sections.characteristics is not None:
        answer["characteristics"] = count * math.prod(sections.characteristics.nodes)
    if sections.density is not None and sections.domain is not None and sections.domain.cells is not None:
        nodes = count * math.prod(cells + 1 for cells in sections.domain.cells)
        answer |= {"density nodes": nodes, "density memory": f"about {nodes * (3 if model.dimension == 3 else 1) / 1e3:.0f} MB"}
    return answer


def _equation(model: Mapping[str, object]) -> Equation | None:
    del model
    return Equation(
        "The law ρ of the units at every depth s descends the first variation of the loss of X(1); A is the adjoint.",
        "∂_tρ(s, θ) = ∇_θ·(ρ∇_θ Σ_p A_p(s)f(X_p(s), θ)),   ∂_sX = ∫ f(X, θ) ρ(s, dθ),   −∂_sA = A ∫ ∂_xf(X, θ) ρ(s, dθ)",
    )


_ENSEMBLE = "residual networks have no independent particles; remove it, or write [network] with `layers` and `width`"
_LONG_TIME = "stationary laws and modes of residual networks are not computed; remove it"

KIND = Kind(
    MeanFieldResnetModel,
    _build,
    SOURCES,
    equation=_equation,
    fields={
        "labels": (DepthsSection, DepthsSection()),
        "density": (ResidualDensitySection | None, None),
        "network": (Annotated[ResidualRunsSection | None, AfterValidator(_known_mode)], None),
        "ensemble": (absent(_ENSEMBLE), None),
        "sgd": (absent(_ENSEMBLE), None),
        "spectrum": (absent(_LONG_TIME), None),
        "stationary": (absent(_LONG_TIME), None),
        "time": (Annotated[TimeSection, AfterValidator(_no_annealing)], ...),
    },
    measures={
        "density": At("mvpde.cases.deep:residual_density"),
        "characteristics": At("mvpde.cases.deep:residual_characteristics"),
        "network": At("mvpde.cases.deep:residual_runs"),
    },
    sizes=_sizes,
)
