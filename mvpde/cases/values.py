"""What sections of a case file are made of: values, names out of a table, and refusals in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WrapValidator
from pydantic_core import PydanticCustomError

from mvpde.models.expressions.parse import constant


@dataclass(frozen=True, eq=False)
class Choice:
    """Checks that a text is one of the names there are when a file is read, or passes another check.

    A description that says ``{names}`` gets them when it is shown (see `messages.described`).
    """

    names: Collection[str]
    otherwise: Callable[[str], object] | None = None

    def __call__(self, name: str) -> str:
        """The name; the message about any other lists all names and the nearest."""
        if name not in self.names:
            if self.otherwise is None:
                raise PydanticCustomError("choice", "is not one of the known names", {"options": sorted(self.names)})
            self.otherwise(name)
        return name


def one_of(names: Collection[str]) -> AfterValidator:
    """A text that must be one of ``names``, also of those that are added later."""
    return AfterValidator(Choice(names))


def _evaluated(value: object) -> object:
    return constant(value) if isinstance(value, str) else value


Table = dict[str, Any]  # what a file says, as TOML reads it
Number = Annotated[float, BeforeValidator(_evaluated), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _chosen_or(value: object, number: Callable[[object], object]) -> object:
    return value if value == AUTO else number(value)


AUTO = "auto"
if TYPE_CHECKING:
    PositiveOrAuto = float | Literal["auto"]
else:  # a union would have two messages about every wrong value
    PositiveOrAuto = Annotated[Positive, WrapValidator(_chosen_or), PlainSerializer(lambda value: value)]


def refuse(message: str) -> PydanticCustomError:
    """An error about a whole section or a value that depends on another key; `message` says what is wrong and the remedy."""
    return PydanticCustomError("refused", "{reason}", {"reason": message})


def absent(text: str) -> object:
    """The type of a section that a kind of model does not have; the message says why, and the remedy."""

    def check(section: object) -> None:
        if section is not None:
            raise refuse(text)

    return Annotated[None, BeforeValidator(check)]


def same_lengths(each: str, lengths: Mapping[str, int]) -> None:
    """Refuse lists, by key, that do not have one entry for each of the same things."""
    *others, last = (f"`{key}`" for key in lengths)
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        counts = ", ".join(f"`{key}` has {n}" for key, n in lengths.items())
        raise refuse(f"{', '.join(others)} and {last} need one entry per {each} each, but {counts}")


class Section(BaseModel):
    """Unknown keys and silent conversions are refused everywhere."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
