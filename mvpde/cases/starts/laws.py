"""Laws of the coordinates in a case file: a section for each law of `LAWS`, as they are when a file is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from mvpde.cases.values import Number, Section, Table, refuse
from mvpde.models.laws import LAWS, Law1D, in_period, keys_of
from mvpde.registry import At, Registry
from mvpde.runtime import CaseError

Keys = tuple[str | int, ...]
Reader = Callable[[str], tuple[Path, bytes]]  # name of a file, relative to the case file → its path and what it holds


class LawSection(Section):
    """A law of one coordinate; the other keys are those of its class in `LAWS`."""

    law: str

    def factor(self, period: float | None = None) -> Law1D:
        """The law, of a coordinate with this period.

        Raises:
            CaseError: if it is no law of one coordinate.
        """
        return in_period(LAWS[self.law](**self.model_dump(exclude={"law"})), period)

    def placed(self, name: str, read: Reader | None = None) -> LawSection:
        """The section as that of a coordinate, or of several with commas between them, with the files that it names read.

        Raises:
            CaseError: for what only a place tells to be wrong.
        """
        return self

    def missing(self) -> list[str]:
        """Keys that are left to the model."""
        return [] if self.law in OTHERS else [key for key, value in self.model_dump().items() if value is None]

    def files(self) -> dict[Keys, str]:
        """Keys that name a file, those of lists as numbers, with their values."""
        return {}

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """Ends of an interval that holds the law."""
        return self.factor(period).extent()


class SphereLaw(LawSection):
    """Uniform law on the sphere that the unit's parameters y lie on."""

    law: Literal["sphere"]

    def factor(self, period: float | None = None) -> Law1D:
        """There is none."""
        raise CaseError('the law "sphere" is for the unit sphere_rbf, whose y lies on a sphere; choose another law')

    def extent(self, period: float | None = None) -> tuple[float, float]:
        """Of a coordinate on the unit sphere."""
        return -1.0, 1.0


# Laws whose keys are more than the numbers of a law of one coordinate.
OTHERS: Registry[type[LawSection]] = Registry(
    "law",
    {
        "sphere": SphereLaw,
        "mixture": At("mvpde.cases.starts.special:MixtureLaw"),
        "expression": At("mvpde.cases.starts.special:ExpressionSection"),
        "correlated_normal": At("mvpde.cases.starts.joint:CorrelatedNormalLaw"),
        "samples": At("mvpde.cases.starts.joint:SamplesLaw"),
        "run": At("mvpde.cases.starts.joint:RunLaw"),
    },
)


def law_sections() -> dict[str, type[LawSection]]:
    """Every law that a case file may name now, with the keys of its section."""
    return {**{name: _law_section(name, law) for name, law in LAWS.items()}, **OTHERS}


@cache
def _law_section(name: str, law: Callable[..., Law1D]) -> type[LawSection]:
    fields: Table = {"law": (Literal[name], ...)}
    try:
        keys = keys_of(law)
    except ValueError as error:
        raise CaseError(f'law = "{name}": {error}') from None
    asked = signature(law).parameters
    for key, about in keys.items():
        said = Field(gt=about.above, ge=about.least, description=about.description, examples=[about.example])
        least = asked[key].default
        default = ... if least is Parameter.empty else least
        fields[key] = (Annotated[Number | None, said], None) if about.of_model else (Annotated[Number, said], default)
    validators: Table = {"is_a_law": model_validator(mode="after")(_is_a_law)}
    return create_model(name, __base__=LawSection, __doc__=law.__doc__, __validators__=validators, **fields)


def _is_a_law(section: LawSection) -> LawSection:
    """What the law itself refuses is refused here; numbers of the model are not known yet."""
    try:
        if section.law in LAWS and not section.missing():
            section.factor()
    except ValueError as error:
        raise refuse(str(error)) from None
    return section


def _chosen_law(value: object) -> object:
    """The section of the law that a table names, among those there are now."""
    if not isinstance(value, dict):
        return value
    known, name = law_sections(), value.get("law")
    if not isinstance(name, str) or name not in known:
        said = "" if name is None else str(name)
        raise PydanticCustomError("no_law", "is no law", {"law": said, "options": list(known)})
    try:
        return known[name].model_validate(value)
    except ValidationError as error:
        raise ValidationError.from_exception_data(error.title, [_below(name, detail) for detail in error.errors()]) from None


def _below(name: str, detail: ErrorDetails) -> InitErrorDetails:
    """The same error under the law's name, which tells the message whose keys these are."""
    kind = PydanticCustomError(detail["type"], detail["msg"], detail.get("ctx"))
    return InitErrorDetails(type=kind, loc=(name, *detail["loc"]), input=detail["input"])


Law = Annotated[SerializeAsAny[LawSection], BeforeValidator(_chosen_law)]
