"""Residual networks whose layers share one weight vector: its law under SGD, or with isotropic noise."""

from __future__ import annotations

import math
from typing import Annotated, cast

from pydantic import BeforeValidator, Field, model_validator

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.kinds.sgd_network import SAMPLED
from mvpde.cases.problem import Problem, check_block
from mvpde.cases.schema import Count, ModelSection, Number, Positive, one_of, refuse
from mvpde.cases.sources import SOURCES
from mvpde.models.data import Data
from mvpde.models.deep.residual_network import (
    FEATURE,
    MOST_STEPS,
    isotropic_model,
    observed_weights,
    residual_network,
    shared_weights,
)
from mvpde.models.losses import SAMPLE_LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.models.sgd_network import SgdNetwork, diffusion_model
from mvpde.runtime import CaseError

_WORK = 300_000  # layers that a check goes through, of all points and data together


def _depth(value: object) -> object:
    if value == "infinity" or (type(value) is int and value >= 1):
        return value
    raise refuse(f'{value!r} is no number of layers; give a whole number ≥ 1, or "infinity" for the flow')


Layers = Annotated[int | str, BeforeValidator(_depth)]


class ResidualNetworkModel(ModelSection):
    """A residual network whose layers share one weight vector θ, with isotropic noise or that of SGD, at any depth."""

    coordinates: Annotated[list[str], Field(min_length=1)] = Field(description="names of the weights", examples=[["v", "w"]])
    block: str = Field(description=f"h, an expression in the feature {FEATURE} and the weights", examples=["v*tanh(w*x + 0.2)"])
    layers: Layers = Field(description='L of x + h(x)/L, a whole number ≥ 1, or "infinity" for the flow', examples=[8])
    loss: Annotated[str, one_of(SAMPLE_LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="λ in ½λ|θ − θ_0|² of the loss, ≥ 0", examples=[0.1])
    centre: list[Number] | None = Field(None, description="θ_0, a number for each weight; absent: 0", examples=[[0.0, 1.0]])
    temperature: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="T of isotropic noise, ≥ 0, instead of `learning_rate` and `batch_size`", examples=[0.05]
    )
    learning_rate: Positive | None = Field(None, description="step η of SGD, > 0", examples=[0.1])
    batch_size: Count | None = Field(None, description="samples in a batch, a whole number ≥ 1", examples=[1])
    replacement: bool = Field(True, description="whether a batch may hold a sample twice, true or false", examples=[True])
    order: Annotated[int, Field(ge=1, le=2)] = Field(
        1, description="order in η of the diffusion's error: 1, or 2 with the modified drift", examples=[1]
    )
    parameters: dict[str, Number] = Field({}, description="numbers that `block` may use, by name", examples=[{"a": 0.2}])

    @model_validator(mode="after")
    def _one_noise(self) -> ResidualNetworkModel:
        sgd = {"learning_rate": self.learning_rate, "batch_size": self.batch_size}
        given = [key for key, value in sgd.items() if value is not None]
        if self.temperature is not None and given:
            raise refuse(f"`temperature` is of isotropic noise, `{given[0]}` of SGD; remove one of them")
        if self.temperature is None and len(given) < len(sgd):
            missing = next(key for key in sgd if key not in given)
            raise refuse(f"`{missing}` is missing; give `learning_rate` and `batch_size`, or `temperature`")
        for key in ("replacement", "order"):
            if self.temperature is not None and getattr(self, key) != type(self).model_fields[key].default:
                raise refuse(f"`{key}` is of SGD, and with `temperature` the noise is isotropic; remove one of them")
        return self


def _problem(model: ResidualNetworkModel, data: Data | None) -> SgdNetwork:
    assert data is not None
    layers = math.inf if model.layers == "infinity" else int(model.layers)
    try:
        return residual_network(
            shared_weights(model.block, model.coordinates, layers, model.parameters),
            data,
            learning_rate=model.learning_rate or 1.0,  # of no meaning with isotropic noise
            batch_size=model.batch_size or 1,
            replacement=model.replacement,
            loss=model.loss,
            weight_decay=model.weight_decay,
            centre=model.centre,
        )
    except ValueError as error:
        raise CaseError(f"[model] {error}") from None


def _training(model: ResidualNetworkModel, data: Data | None) -> SgdNetwork:
    if model.temperature is not None:
        raise CaseError("[sgd]: runs of SGD have its own noise; give `learning_rate` and `batch_size` instead of `temperature`")
    return _problem(model, data)


def _build(model: ResidualNetworkModel, given: Given) -> MeanField:
    problem = _problem(model, given.data)
    if model.temperature is None:
        if given.sections.characteristics is not None:
            raise CaseError("[characteristics]: follow a flow without noise, and SGD has some; remove the section")
        return observed_weights(diffusion_model(problem, model.order), problem)
    if given.sections.sgd is not None:
        _training(model, given.data)
    return observed_weights(isotropic_model(problem, model.temperature), problem)


def _check(problem: Problem) -> None:
    """The block is finite where the weights are, at as many points as there is time for."""
    layers = cast("ResidualNetworkModel", problem.sections.model).layers
    assert problem.data is not None
    each = len(problem.data.weights) * (MOST_STEPS if layers == "infinity" else int(layers))
    check_block(problem, points=min(256, max(16, _WORK // each)))


_EQUATION = Equation(
    "The law ρ of the weights θ that all layers of a residual network share; V_L is its loss with L layers and weight decay.",
    "∂_tρ = ∇·(ρ ∇V_L + ∇·(Aρ)),   A = T or ½ηΣ,   x_{k+1} = x_k + h(x_k, θ)/L,   f = x_L",
)

KIND = Kind(
    ResidualNetworkModel,
    _build,
    {name: SOURCES[name] for name in SAMPLED},
    training=_training,
    equation=lambda _: _EQUATION,
    check=_check,
)
