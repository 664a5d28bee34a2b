"""Diffusions whose particles do not see each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.schema import ModelSection, Number
from mvpde.cases.starts.entries import plain
from mvpde.cases.starts.labels import SECTION
from mvpde.models.fokker_planck import COORDINATES, fokker_planck
from mvpde.models.mean_field import MeanField

Matrix = list[list[Number]]


class FokkerPlanckModel(ModelSection):
    """dz = b(z) dt + √(2A(z)) dB in the coordinates x, y, z: one of the first three keys and one of the next three."""

    drift_matrix: Matrix | None = Field(
        None, description="M in the drift −Mz, D rows of D numbers", examples=[[[1.0, 2.0], [-2.0, 1.0]]]
    )
    potential: str | None = Field(
        None, description="V in the drift −∇V, an expression in x, y, z and the time t", examples=["(x**2 - 1)**2/4"]
    )
    drift: list[str] | None = Field(
        None, description="the drift, one expression in x, y, z and the time t per coordinate", examples=[["-y", "x"]]
    )
    diffusion_matrix: Matrix | None = Field(
        None, description="A, D rows of D numbers, symmetric, positive semidefinite", examples=[[[1.0, 0.0], [0.0, 0.25]]]
    )
    diffusion: list[list[str]] | None = Field(
        None, description="A, D rows of D expressions in x, y, z and the time t", examples=[[["1 + x**2", "0"], ["0", "1"]]]
    )
    temperature: Annotated[Number, Field(ge=0)] | None = Field(None, description="τ in A = τI, ≥ 0", examples=[0.1])
    parameters: dict[str, Number] = Field({}, description="numbers that the expressions may use, by name", examples=[{"a": 0.3}])
    frozen: list[str] = Field(
        [], description="the last coordinates, where they never move: labels of the law of the others", examples=[["y"]]
    )

    def dimension(self) -> int | None:
        """D, where the section says it: the number of rows of a matrix or list."""
        given = [self.drift_matrix, self.drift, self.diffusion_matrix, self.diffusion]
        return next((len(rows) for rows in given if rows is not None), None)


def _build(model: FokkerPlanckModel, given: Given) -> MeanField:
    named = [COORDINATES.index(name) + 1 for entry in given.sections.initial for name in plain(entry) if name in COORDINATES]
    dimension = model.dimension() or max(named, default=1)
    return fokker_planck(COORDINATES[:dimension], **model.model_dump(exclude={"kind"}))


_EQUATION = Equation(
    "The law ρ of a diffusion with drift b and diffusion tensor A.", "∂_tρ = ∇·(−bρ + ∇·(Aρ)),   dZ = b dt + √(2A) dB"
)

KIND = Kind(FokkerPlanckModel, _build, equation=lambda _: _EQUATION, fields={"labels": SECTION})
