"""Particles that see each other through moments, written out in the case file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.schema import CaseSections, ModelSection, Number, Positive, refuse
from mvpde.cases.starts.entries import extent_of
from mvpde.cases.starts.labels import SECTION
from mvpde.models.expressions.vocabulary import Vocabulary, check_finite, evaluate_number
from mvpde.models.interaction import diffusion, gradient_flow
from mvpde.models.mean_field import MeanField
from mvpde.models.pair_interaction import pair_interaction
from mvpde.runtime import CaseError


def _number_or_text(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise refuse(f"{value!r} is neither a number nor an expression")
    return value


class InteractionModel(ModelSection):
    """Particles that see each other through moments: a gradient flow, a pair interaction, or any drift and diffusion."""

    coordinates: Annotated[list[str], Field(min_length=1)] = Field(
        description="names of the coordinates, letters, digits and _", examples=[["x"]]
    )
    periods: dict[str, Positive] = Field({}, description="period of each coordinate that has one, > 0", examples=[{"x": "2*pi"}])
    parameters: dict[str, Number] = Field(
        {}, description="numbers that the expressions may use, by name", examples=[{"theta": 1.0}]
    )
    potential: str | None = Field(
        None, description="V0, an expression in the coordinates and parameters", examples=["x**4/4 - x**2/2"]
    )
    features: list[str] = Field(
        [], description="g_k, expressions in the coordinates, whose means are m0, m1, …", examples=[["x", "x**2"]]
    )
    outer_energy: str | None = Field(
        None, description="R, an expression in m0, m1, …; with `features`", examples=["theta/2*(m1 - m0**2)"]
    )
    interaction: str | None = Field(
        None, description="W(x, x') of a pair, instead of `features` and `outer_energy`", examples=["-cos(x - x')"]
    )
    rank_tolerance: Annotated[Number, Field(gt=0, lt=1)] = Field(
        1e-6, description="relative error to which `interaction` is compressed, in (0, 1)", examples=[1e-6]
    )
    drift: list[str] | None = Field(
        None,
        description="b, one expression per coordinate in coordinates and moments, instead of `potential` and `outer_energy`",
        examples=[["omega + K*(m1*cos(x) - m0*sin(x))"]],
    )
    diffusion: list[list[str]] | None = Field(
        None, description="with `drift`: A, D rows of D expressions in coordinates and moments", examples=[[["1 + m0**2"]]]
    )
    temperature: Annotated[int | float | str | None, BeforeValidator(_number_or_text)] = Field(
        None, description="τ ≥ 0, a number or an expression in the parameters; absent: 0", examples=["1/beta"]
    )
    frozen: list[str] = Field(
        [],
        description="coordinates that never move, such as frequencies: labels of the law of the others; see [labels]",
        examples=[["omega"]],
    )
    observables: dict[str, str] = Field(
        {}, description="expressions in the coordinates whose means are recorded, by name", examples=[{"energy": "x**2/2"}]
    )

    @model_validator(mode="after")
    def _one_form(self) -> InteractionModel:
        forms = {"outer_energy": self.outer_energy, "interaction": self.interaction, "drift": self.drift}
        given = [key for key, value in forms.items() if value is not None]
        if len(given) > 1:
            raise refuse(f"`{given[0]}` and `{given[1]}` exclude each other; remove one of them")
        if self.drift is None and self.diffusion is not None:
            raise refuse("`diffusion` goes with `drift`; give `temperature` instead, or a `drift`")
        if self.drift is not None and self.potential is not None:
            raise refuse("`drift` and `potential` exclude each other; write the force of the potential into `drift`")
        if self.interaction is not None and self.features:
            raise refuse("`interaction` and `features` exclude each other; remove one of them")
        if len(set(self.frozen)) < len(self.frozen):
            raise refuse(f"`frozen` names a coordinate twice ({', '.join(self.frozen)}); name each once")
        return self


def _build(model: InteractionModel, given: Given) -> MeanField:
    domain = given.sections.domain
    try:
        written = _written_model(model, given.sections)
        if domain is not None and domain.box is not None:
            check_finite(written, *_box_of(model, given.sections))
    except ValueError as error:  # begins with the key that it is about
        raise CaseError(f"[model] {error}") from None
    return written


def _written_model(model: InteractionModel, sections: CaseSections) -> MeanField:
    """The model that [model] of kind "mean_field" writes out."""
    keys = model.model_dump(include={"coordinates", "periods", "parameters", "observables"})
    Vocabulary(tuple(model.coordinates), model.periods, model.parameters)  # refuses names before they are used
    still = [name for name in model.coordinates if name in model.frozen]
    order = [*(name for name in model.coordinates if name not in still), *still]
    keys |= {"coordinates": order, "frozen": still + [name for name in model.frozen if name not in still]}
    temperature = None if model.temperature is None else evaluate_number("temperature", model.temperature, model.parameters)
    if model.drift is not None:
        keys |= _moved(model, order, len(still))
        return diffusion(**keys, temperature=temperature, features=model.features)
    keys |= {"potential": model.potential, "temperature": temperature or 0.0}
    if model.interaction is None:
        return gradient_flow(**keys, features=model.features, outer_energy=model.outer_energy)
    lower, upper = _box_of(model, sections)
    return pair_interaction(**keys, interaction=model.interaction, lower=lower, upper=upper, rank_tolerance=model.rank_tolerance)


def _moved(model: InteractionModel, order: Sequence[str], still: int) -> dict[str, object]:
    """`drift` and `diffusion` in an order with the frozen coordinates last, which may be left out of them."""
    moving, places = len(order) - still, [model.coordinates.index(name) for name in order]
    drift, rows = model.drift or [], model.diffusion

    def ordered[Entry](entries: Sequence[Entry], nothing: Entry) -> list[Entry]:
        if len(entries) == len(order):
            return [entries[place] for place in places]
        return [*entries, *[nothing] * (still if len(entries) == moving else 0)]

    square = None if rows is None else ordered([ordered(row, "0") for row in rows], ["0"] * len(order))
    return {"drift": ordered(drift, "0"), "diffusion": square}


def _box_of(model: InteractionModel, sections: CaseSections) -> tuple[list[float], list[float]]:
    """Where the particles are expected: the domain's box, or the initial law's extent; that of frozen coordinates comes last."""
    box, still = None if sections.domain is None else sections.domain.box, [n for n in model.coordinates if n in model.frozen]
    moving = [name for name in model.coordinates if name not in still]
    names = still if box is not None and len(box[0]) == len(moving) else [*moving, *still]
    ends = [extent_of(sections.initial, name, model.periods.get(name)) or (-1.0, 1.0) for name in names]
    if box is not None and names is still:
        ends = [*zip(*box, strict=True), *ends]
    return [end[0] for end in ends], [end[1] for end in ends]


def _equation(model: Mapping[str, object]) -> Equation | None:
    """A drift and a pair interaction have equations of their own."""
    if model.get("drift") is not None:
        tensor = "" if model.get("diffusion") is not None else ",   A = τI"
        return Equation(
            "The law ρ of particles whose drift b and diffusion tensor A see it through moments; g are the features.",
            f"∂_tρ = ∇·(−b(·; m)ρ + ∇·(Aρ)),   dZ = b(Z; m) dt + √(2A) dB{tensor},   m = ∫ g dρ",
        )
    if model.get("interaction") is not None:
        return Equation(
            "The law ρ of particles in a potential V0 that interact in pairs, by W, at temperature τ.",
            "∂_tρ = ∇·(ρ ∇V(·; ρ) + τ ∇ρ),   V(z; ρ) = V_0(z) + ∫ W(z, z') ρ(dz')",
        )
    return None


KIND = Kind(InteractionModel, _build, equation=_equation, fields={"labels": SECTION})
