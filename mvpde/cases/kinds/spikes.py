"""Atoms to be found on a torus."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mvpde.cases.kinds import Given, Kind
from mvpde.cases.schema import ModelSection, Number, Positive, refuse
from mvpde.models.mean_field import MeanField
from mvpde.models.spikes import spikes


class SpikesModel(ModelSection):
    """Half the squared distance of the law to given atoms, in the norm of a kernel with finitely many Fourier modes."""

    atoms: Annotated[list[list[Number]], Field(min_length=1)] = Field(
        description="the target's atoms, one list of 1 to 3 angles each", examples=[[[1.0, 2.0], [4.0, 5.0]]]
    )
    weights: list[Positive] | None = Field(None, description="weight of each atom, > 0; absent: equal", examples=[[0.5, 0.5]])
    modes: Annotated[int, Field(ge=1, le=20)] = Field(
        5, description="Fourier modes of the kernel in each direction, a whole number from 1 to 20", examples=[5]
    )
    temperature: Annotated[Number, Field(ge=0)] = Field(0.0, description="temperature, ≥ 0", examples=[0.05])

    @field_validator("atoms")
    @classmethod
    def _equal_lengths(cls, atoms: list[list[float]]) -> list[list[float]]:
        if len({len(atom) for atom in atoms}) > 1:
            raise refuse("every atom needs as many angles as the others; correct the list")
        return atoms


def _build(model: SpikesModel, given: Given) -> MeanField:
    return spikes(model.atoms, **model.model_dump(include={"weights", "modes", "temperature"}))


KIND = Kind(SpikesModel, _build)
