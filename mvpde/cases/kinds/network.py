"""Shallow networks."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import Field, ValidationInfo, field_validator

from mvpde.cases.kinds import Given, Kind
from mvpde.cases.messages import listed, nearest
from mvpde.cases.schema import MeanFieldSection, Number, one_of, refuse
from mvpde.cases.sources import SOURCES
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network, unit_defaults
from mvpde.models.units import UNITS


class NetworkModel(MeanFieldSection):
    """f(x) = ∫ c φ(x, y) dρ(y, c)."""

    unit: Annotated[str, one_of(UNITS)] = Field(description="one of {names}", examples=["circle_rbf"])
    loss: Annotated[str, one_of(LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])
    unit_parameters: dict[str, Number] = Field(
        {}, validate_default=True, description="numbers that the unit depends on, by name", examples=[{"kappa": 2.0}]
    )
    bias: bool | None = Field(
        None, validate_default=True, description="for units φ(a·x + b): whether b is a parameter, true or false", examples=[True]
    )

    @field_validator("unit_parameters")
    @classmethod
    def _with_defaults(cls, given: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        defaults = {name: value for name, value in _defaults(info).items() if name != "bias"}
        for name in given:
            if name not in defaults and "unit" in info.data:
                raise refuse(f"the unit has no parameter `{name}`{nearest(name, defaults)} (it has {listed(defaults) or 'none'})")
        return {**defaults, **given}

    @field_validator("bias")
    @classmethod
    def _where_there_is_one(cls, given: bool | None, info: ValidationInfo) -> bool | None:
        default = cast("bool | None", _defaults(info).get("bias"))
        if given is not None and default is None and "unit" in info.data:
            raise refuse(f"the unit `{info.data['unit']}` has no bias; remove the key")
        return default if given is None else given


def _defaults(info: ValidationInfo) -> dict[str, float | bool]:
    return unit_defaults(info.data["unit"]) if "unit" in info.data else {}


def _build(model: NetworkModel, given: Given) -> MeanField:
    assert given.data is not None
    return network(
        model.unit,
        given.data,
        temperature=model.temperature,
        loss=model.loss,
        base=given.base_measure,
        bias=model.bias is not False,
        **model.unit_parameters,
    )


KIND = Kind(NetworkModel, _build, SOURCES)
