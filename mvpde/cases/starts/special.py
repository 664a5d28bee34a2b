"""Laws of one coordinate that are more than their numbers: mixtures, and densities given by an expression."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from mvpde.cases.starts.laws import OTHERS, Keys, Law, LawSection, Reader
from mvpde.cases.values import Number, Positive, refuse
from mvpde.models.laws import ExpressionLaw, Law1D, Mixture, in_period
from mvpde.runtime import CaseError


class MixtureLaw(LawSection):
    """Σ_i w_i ρ_i of laws of the same coordinate."""

    law: Literal["mixture"]
    laws: Annotated[list[Law], Field(min_length=1)] = Field(
        description="the laws that are mixed",
        examples=[[{"law": "normal", "mean": -1.0, "std": 0.3}, {"law": "normal", "mean": 1.0, "std": 0.3}]],
    )
    weights: list[Positive] | None = Field(
        None, description="their weights, > 0, scaled to sum 1; absent: equal ones", examples=[[0.3, 0.7]]
    )

    @model_validator(mode="after")
    def _as_many(self) -> MixtureLaw:
        if self.weights is not None and len(self.weights) != len(self.laws):
            raise refuse(f"`weights` has {len(self.weights)} entries for {len(self.laws)} laws; give one for each, or none")
        for part in self.laws:
            if part.law in OTHERS and part.law not in ("mixture", "expression", "samples"):
                raise refuse(f'law = "{part.law}" is no law of one coordinate, and cannot be mixed; give its own entry')
            if part.missing():
                raise refuse(f"the law `{part.law}` needs `{part.missing()[0]}` in a mixture; add it")
        return self

    def factor(self, period: float | None = None) -> Law1D:
        """The mixture."""
        weights = self.weights or [1.0] * len(self.laws)
        return in_period(Mixture(tuple(part.factor(period) for part in self.laws), tuple(weights)), period)

    def placed(self, name: str, read: Reader | None = None) -> LawSection:
        """Each of the laws at this coordinate."""
        return self.model_copy(update={"laws": [part.placed(name, read) for part in self.laws]})

    def files(self) -> dict[Keys, str]:
        """Those of the laws."""
        return {("laws", k, *place): file for k, part in enumerate(self.laws) for place, file in part.files().items()}


class ExpressionSection(LawSection):
    """The law whose density is an expression in the coordinate, up to a factor."""

    law: Literal["expression"]
    density: str = Field(
        description="the density up to a factor, ≥ 0, an expression in the coordinate, by its name or z", examples=["exp(-x**4)"]
    )
    lower: Number | None = Field(
        None, description="where it begins; absent: found, or that of a period from 0 on", examples=[-3.0]
    )
    upper: Number | None = Field(None, description="where it ends; absent: found, or a period after `lower`", examples=[3.0])

    _name: str = PrivateAttr("z")

    def factor(self, period: float | None = None) -> Law1D:
        """The law."""
        try:
            return ExpressionLaw(self.density, self._name, self.lower, self.upper, period)
        except ValueError as error:
            raise CaseError(f"[initial.{self._name}] {error}") from None

    def placed(self, name: str, read: Reader | None = None) -> LawSection:
        """As that of this coordinate, in whose name or in z the expression is."""
        copy = self.model_copy()
        copy._name = name if name in _words(self.density) else "z"
        if copy._name == "z" and "z" not in _words(self.density):
            copy._name = name  # a constant, or a wrong name, which is then said beside the right one
        return copy


def _words(text: str) -> list[str]:
    """The names in an expression."""
    return "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
