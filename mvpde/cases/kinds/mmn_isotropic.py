"""Two isotropic Gaussians told apart by a wide layer: the law of the radius."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from mvpde.cases.kinds import Given, Kind
from mvpde.cases.schema import ModelSection, Number, Section, refuse
from mvpde.models.expressions.parse import constant
from mvpde.models.isotropic_gaussians import Classification, PiecewiseLinear, isotropic_gaussians
from mvpde.models.mean_field import MeanField


def _whole(value: object) -> float:
    """A whole number, or inf, which a study has to write as text."""
    infinite = isinstance(value, str) and value in ("inf", "infinity")
    number = math.inf if infinite else constant(value) if isinstance(value, str) else value
    if type(number) is int or (type(number) is float and (number == math.inf or number.is_integer())):
        return float(number)
    raise refuse(f'{value!r} is no dimension; give a whole number of at least 2, or "infinity"')


class ActivationSection(Section):
    """σ(t) = offset + Σ_j changes_j (t − knots_j)_+."""

    offset: Number = Field(description="value left of all knots", examples=[-2.5])
    knots: list[Number] = Field(description="where the slope changes", examples=[[0.5, 1.5]])
    changes: list[Number] = Field(description="by how much, one number per knot", examples=[[10, -10]])

    @model_validator(mode="after")
    def _same_lengths(self) -> ActivationSection:
        if len(self.knots) != len(self.changes) or not self.knots:
            raise refuse(f"`knots` has {len(self.knots)} numbers and `changes` {len(self.changes)}; give as many, at least one")
        return self


class IsotropicGaussiansModel(ModelSection):
    """Two isotropic Gaussians in R^d told apart by a wide layer: the law of |w|, and one-pass SGD of the network itself."""

    dimension: Annotated[float, BeforeValidator(_whole), Field(ge=2)] = Field(
        description='d, a whole number ≥ 2, or "infinity"', examples=[40]
    )
    delta: Annotated[Number, Field(gt=0, lt=1)] = Field(description="Δ of the variances (1 ± Δ)², in (0, 1)", examples=[0.8])
    activation: ActivationSection = Field(
        ActivationSection(offset=-2.5, knots=[0.5, 1.5], changes=[10.0, -10.0]),
        description="the piecewise linear σ",
        examples=[{"offset": -2.5, "knots": [0.5, 1.5], "changes": [10, -10]}],
    )
    temperature: Annotated[Number, Field(ge=0)] = Field(0.0, description="τ = 2/β of noisy SGD, ≥ 0", examples=[0.01])
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="λ of noisy SGD, ≥ 0", examples=[0.1])


def _build(model: IsotropicGaussiansModel, given: Given) -> MeanField:
    domain = given.sections.domain
    ends = [law.extent()[1] for law in given.sections.initial.values()] + [10.0]
    ends += [] if domain is None or not domain.upper else [domain.upper[0]]
    keys = model.model_dump(include={"dimension", "delta", "temperature", "weight_decay"})
    return isotropic_gaussians(**keys, activation=_activation(model), largest=max(ends))


def _activation(model: IsotropicGaussiansModel) -> PiecewiseLinear:
    given = model.activation
    return PiecewiseLinear(given.offset, tuple(given.knots), tuple(given.changes))


def _classification(model: IsotropicGaussiansModel) -> Classification:
    keys = model.model_dump(include={"delta", "temperature", "weight_decay"})
    return Classification(int(model.dimension), activation=_activation(model), **keys)


KIND = Kind(IsotropicGaussiansModel, _build, network=_classification)
