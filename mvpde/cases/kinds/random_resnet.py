"""Random residual networks of infinite depth and width: the law of what one unit has for one or two inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, cast

import numpy as np
from pydantic import Field, field_validator

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.meshes.domain import check_held
from mvpde.cases.problem import Problem
from mvpde.cases.schema import ModelSection
from mvpde.cases.starts.laws import Law
from mvpde.cases.values import Number, absent, one_of, refuse
from mvpde.models.deep.activations import RANDOM
from mvpde.models.deep.random_resnet import ENTRIES, CentredNormal, LimitFacts, random_resnet
from mvpde.models.deep.signal_maps import LARGEST
from mvpde.models.laws import Normal
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError, CaseError


class RandomResnetModel(ModelSection):
    """Random residual networks x' = x + L^{-½}(Wφ(x) + b), of infinite depth L and width: a diffusion that depends on its law."""

    activation: Annotated[str, one_of(RANDOM)] = Field(description="φ, one of {names}", examples=["tanh"])
    weight_variance: Annotated[Number, Field(ge=0, le=LARGEST)] = Field(
        description="σ_w² ≥ 0; weights are N(0, σ_w²/N)", examples=[1.0]
    )
    bias_variance: Annotated[Number, Field(ge=0, le=LARGEST)] = Field(
        description="σ_b² ≥ 0; biases are N(0, σ_b²)", examples=[0.05]
    )
    covariance: list[list[Number]] = Field(
        description="of a unit's numbers for the one or two inputs at s = 0, one or two rows of as many numbers",
        examples=[[[1.0, 0.5], [0.5, 1.0]]],
    )

    @field_validator("covariance")
    @classmethod
    def _of_one_or_two(cls, rows: list[list[float]]) -> list[list[float]]:
        if len(rows) not in ENTRIES or any(len(row) != len(rows) for row in rows):
            raise refuse(
                f"has rows of {', '.join(str(len(row)) for row in rows) or 'nothing'}; give [[k]] or two rows of two numbers"
            )
        try:
            CentredNormal(np.array(rows))
        except ArgumentError as error:
            raise refuse(error.text) from None
        return rows


def _build(model: RandomResnetModel, given: Given) -> MeanField:
    try:
        start, end = np.array(model.covariance), given.sections.time.outputs[-1]
        flow = random_resnet(model.activation, model.weight_variance, model.bias_variance, inputs=len(start))
        return replace(flow, facts=LimitFacts(model.activation, start, model.weight_variance, model.bias_variance, end))
    except ArgumentError as error:
        raise CaseError(f"[model] {error.argument}: {error.text}") from None


def _law(model: RandomResnetModel) -> CentredNormal:
    return CentredNormal(np.array(model.covariance))


def _check(problem: Problem) -> None:
    """The marginals of the law are normal."""
    k = np.diagonal(cast("CentredNormal", problem.law).covariance)
    if problem.sections.density is not None:
        marginals = [Normal(0.0, math.sqrt(variance)) for variance in k]
        check_held(problem.sections, problem.model.coordinates, marginals, independent=False)


_LONG_TIME = "covariances grow with depth, so no law is stationary but that of the walls; remove it"

_EQUATION = Equation(
    "The law p of what one unit of a random residual network has for its inputs, as depth and width go to infinity.",
    "∂_sp = ∇·∇·(Ap),   A_{ij} = ½(σ_w² ∫ φ(x_i)φ(x_j) dp + σ_b²)",
)

KIND = Kind(
    RandomResnetModel,
    _build,
    equation=lambda _: _EQUATION,
    fields={
        "initial": (dict[str, Law] | None, None),
        "stationary": (absent(_LONG_TIME), None),
        "spectrum": (absent(_LONG_TIME), None),
    },
    law=_law,
    check=_check,
)
