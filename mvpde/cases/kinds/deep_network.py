"""Deep networks, of infinite width and of width N."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, cast

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.meshes.domain import check_held
from mvpde.cases.messages import listed, toml_value
from mvpde.cases.problem import Problem
from mvpde.cases.schema import CaseSections, ExplicitDensitySection, MeanFieldSection, StationarySection, TimeSection
from mvpde.cases.sources import SOURCES
from mvpde.cases.starts.labels import MOST_LABELS, check_positive
from mvpde.cases.starts.laws import Law
from mvpde.cases.values import Count, Number, Positive, Section, absent, one_of, refuse
from mvpde.models.data import Data
from mvpde.models.deep.activations import TRAINED
from mvpde.models.deep.network import DeepNetwork, FirstLayer
from mvpde.models.deep.sweeps import nodes
from mvpde.models.deep.units import OUTPUT_MAPS, WEIGHTS, DeepLayer
from mvpde.models.laws import Product
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.particles.deep.modes import MODES
from mvpde.particles.deep.samples import is_whole
from mvpde.registry import At
from mvpde.runtime import CaseError

EXPLICIT = ("auto", "flux_corrected", "edge_averaged")  # schemes whose steps may be explicit


class FirstLayerSection(Section):
    """z¹ = act(a·x + offset)."""

    unit: Annotated[str, one_of(TRAINED)] = Field("tanh", description="one of {names}", examples=["tanh"])
    offset: Number = Field(0.0, description="added to a·x", examples=[0.5])

    def __str__(self) -> str:
        """As a case file writes it."""
        return toml_value(self.model_dump())


class DeepLayerSection(Section):
    """One layer, or several alike, of units v·act(wz + c)."""

    unit: Annotated[str, one_of(TRAINED)] = Field("tanh", description="one of {names}", examples=["tanh"])
    trained: list[Annotated[str, one_of(WEIGHTS)]] = Field(
        description="those of v, w, c that move, at least one", examples=[["v", "w"]]
    )
    fixed: dict[str, Number] = Field({}, description="the values of the others, by name", examples=[{"c": 0.0}])
    repeat: Count = Field(1, description="how many layers of this kind follow each other, a whole number ≥ 1", examples=[3])
    initial: dict[str, Law] = Field(
        {},
        description="initial laws of weights of this layer where they differ from [initial]; also as `w` beside this key",
        examples=[{"w": {"law": "normal", "mean": 0.6, "std": 0.5}}],
    )

    @model_validator(mode="before")
    @classmethod
    def _laws_beside_the_keys(cls, section: object) -> object:
        """A law may also stand in the layer's table itself, as v = { law = … }."""
        if not isinstance(section, dict):
            return section
        beside = {name: law for name, law in section.items() if name in WEIGHTS and isinstance(law, dict)}
        given = section.get("initial", {})
        if not beside or not isinstance(given, dict):
            return section
        return {**{key: value for key, value in section.items() if key not in beside}, "initial": {**given, **beside}}

    @model_validator(mode="after")
    def _is_a_layer(self) -> DeepLayerSection:
        try:
            layer = self.layer
        except ValueError as error:
            raise refuse(str(error)) from None
        for name, law in self.initial.items():
            if name not in layer.trained:
                raise refuse(f"initial has a law of {name}, which this layer does not train (it trains {listed(layer.trained)})")
            missing = law.missing()
            if missing:
                raise refuse(f"the law `{law.law}` of {name} needs `{missing[0]}` here; add it")
            if law.law == "sphere":
                raise refuse(f"the law of {name} is that of a point on a sphere, and {name} is a number; choose another law")
        return self

    @property
    def layer(self) -> DeepLayer:
        """The unit."""
        return DeepLayer(self.unit, tuple(self.trained), self.fixed)


class DeepNetworkModel(MeanFieldSection):
    """ŷ(x): deep networks; the laws of their weights, layer by layer, as the width goes to infinity."""

    first: FirstLayerSection = Field(
        FirstLayerSection(),
        description="first layer, act(a·x + offset): `unit`, `offset`",
        examples=[{"unit": "tanh", "offset": 0.5}],
    )
    output: Annotated[str, one_of(TRAINED)] = Field(
        "tanh", description="activation of the last layer, b·act(z): one of {names}", examples=["tanh"]
    )
    output_map: Annotated[str, one_of(OUTPUT_MAPS)] = Field(
        "identity", description="what is applied to the sum of the last layer: one of {names}", examples=["identity"]
    )
    loss: Annotated[str, one_of(LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])
    train_ends: bool = Field(False, description="whether a and b move too, true or false", examples=[False])
    layers: list[DeepLayerSection] = Field(
        description="the trained layers 1 … L−1, one table [[model.layers]] for each or with `repeat`",
        examples=[[{"unit": "tanh", "trained": ["v", "w"], "fixed": {"c": 0.0}}]],
    )

    @field_validator("layers")
    @classmethod
    def _deep(cls, layers: list[DeepLayerSection]) -> list[DeepLayerSection]:
        if not layers:
            raise refuse("the list is empty, so that L = 1; a deep network has L ≥ 2: add a table [[model.layers]]")
        return layers

    @property
    def each(self) -> list[DeepLayerSection]:
        """The section of each layer."""
        return [section for section in self.layers for _ in range(section.repeat)]

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the weights that some layer trains."""
        return tuple(name for name in WEIGHTS if any(name in section.trained for section in self.layers))


def _one_or_more(counts: object) -> object:
    return counts if isinstance(counts, list) else [counts]


class LabelsSection(Section):
    """Quadrature nodes of the laws of the first weights a and the last weights b."""

    a: Annotated[list[Count], BeforeValidator(_one_or_more), Field(min_length=1)] = Field(
        [28], description="nodes of a, or of each of its components, whole numbers ≥ 1", examples=[28]
    )
    b: Count = Field(28, description="nodes of b, a whole number ≥ 1", examples=[28])

    def __hash__(self) -> int:
        """As a default of the schema it must have one."""
        return hash((tuple(self.a), self.b))


class DeepCompanionSection(Section):
    """True networks with N units in every layer, trained beside their limit."""

    width: Count = Field(description="N, units in every layer, a whole number ≥ 1", examples=[100])
    runs: Count = Field(1, description="number of independent networks, a whole number ≥ 1", examples=[20])
    mode: Annotated[str, one_of(MODES)] = Field(
        "descent", description="how they are trained, one of {names}", examples=["descent"]
    )
    step: Positive = Field(0.05, description="length of a step in the time of the limit, > 0", examples=[0.05])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all random numbers, a whole number ≥ 0", examples=[0])
    companion: bool = Field(True, description="smaller networks tell the error of the step, true or false", examples=[True])
    order: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        None,
        description='mode = "prescribed": numbers of the data points of the steps, from 0 on, repeated; absent: in turn',
        examples=[[0, 1, 2, 3, 4]],
    )

    @field_validator("order")
    @classmethod
    def _prescribed(cls, order: list[int] | None, info: ValidationInfo) -> list[int] | None:
        if order is not None and info.data.get("mode") != "prescribed":
            raise refuse('is for mode = "prescribed" alone; remove it, or change `mode`')
        return order


class DeepDensitySection(ExplicitDensitySection):
    """The laws of all layers as finite elements."""

    scheme: Annotated[str, one_of(EXPLICIT)] = Field("auto", description="one of {names}", examples=["auto"])


def _no_starts(section: StationarySection | None) -> StationarySection | None:
    if section is not None and section.starts is not None:
        raise refuse("the search begins at [initial]; remove `starts`")
    return section


def _no_annealing(section: TimeSection) -> TimeSection:
    if section.annealing:
        raise refuse("deep networks keep one temperature; remove `annealing`")
    return section


def deep_network(model: DeepNetworkModel, data: Data) -> DeepNetwork:
    """The network that [model] describes.

    Raises:
        ValueError: targets that do not fit the loss.
    """
    return DeepNetwork(
        layers=tuple(section.layer for section in model.each),
        data=data,
        first=FirstLayer(model.first.unit, model.first.offset),
        output=model.output,
        output_map=model.output_map,
        loss=model.loss,
        temperature=model.temperature,
        base={name: law.factor() for name, law in (model.base_measure or {}).items() if name in model.coordinates},
        train_ends=model.train_ends,
    )


def check_outputs(outputs: Sequence[float], mode: str, step: float) -> None:
    """Steps on samples are part of the model: output times do not cut them.

    Raises:
        CaseError: output times between two of them.
    """
    between = [t for t in outputs if not is_whole(t, step)] if MODES[mode].sampled else []
    if between:
        said = "is no multiple" if len(between) == 1 else "are no multiples"
        raise CaseError(
            f"[time] outputs: {', '.join(f'{t:g}' for t in between)} {said} of network.step = {step:g}; "
            f'in the mode "{mode}" steps are not cut: give multiples, or another network.step'
        )


def _build(model: DeepNetworkModel, given: Given) -> MeanField:
    assert given.data is not None
    section = _companion(given.sections)
    if section is not None:
        check_outputs(given.sections.time.outputs, section.mode, section.step)
    base = None if given.base_measure is not None else {"base_measure": None}  # it is checked once the coordinates are known
    return deep_network(model if base is None else model.model_copy(update=base), given.data).mean_field()


def _companion(sections: CaseSections) -> DeepCompanionSection | None:
    return cast("DeepCompanionSection | None", getattr(sections, "network"))  # noqa: B009  (of this kind's own)


def label_counts(problem: Problem, names: Sequence[str]) -> list[int]:
    """Nodes of each of the components of a, whose names these are.

    Raises:
        CaseError: another number of entries than of inputs, or more labels than there is time for.
    """
    section = cast("LabelsSection", getattr(problem.sections, "labels"))  # noqa: B009  (of this kind's own)
    counts = section.a * len(names) if len(section.a) == 1 else section.a
    if len(counts) != len(names):
        raise CaseError(
            f"[labels] a: has {len(counts)} entries, and the data have {len(names)} inputs; give one for each, or one number"
        )
    layers = len(cast("DeepNetworkModel", problem.sections.model).each)
    if math.prod(counts) * (section.b if layers == 1 else 1) > MOST_LABELS:
        raise CaseError(
            f"[labels] a: {' × '.join(map(str, counts))} nodes are too many labels; give fewer, or leave out [density] and "
            "[characteristics]: [network] takes any number of inputs"
        )
    return counts


def sample_order(problem: Problem) -> tuple[int, ...]:
    """The data points that networks of the mode "prescribed" are trained on, in turn.

    Raises:
        CaseError: one that there is not.
    """
    assert problem.data is not None
    section, count = _companion(problem.sections), len(problem.data.weights)
    order = tuple((section.order if section is not None else None) or range(count))
    if max(order) >= count:
        raise CaseError(
            f"[network] order: names data point {max(order)}, and there are {count}; give numbers from 0 to {count - 1}"
        )
    return order


def _check(problem: Problem) -> None:
    """Refuse what networks, labels or meshes of layers would, before they are made."""
    sections, section = problem.sections, _companion(problem.sections)
    model = cast("DeepNetworkModel", sections.model)
    reason = None if section is None else MODES[section.mode].refuses(section.mode, model.temperature)
    if reason is not None:
        raise CaseError(f"[network] mode: {reason}")
    sample_order(problem)
    *first, _ = problem.frozen
    counts = label_counts(problem, first) if sections.density is not None or sections.characteristics is not None else []
    if sections.density is None:
        return
    known = cast("LabelsSection", getattr(sections, "labels"))  # noqa: B009  (of this kind's own)
    for (name, law), count in zip(problem.frozen.items(), [*counts, known.b], strict=True):
        check_positive(name, count, partial(nodes, law))
    _check_meshes(problem, model)
    if sections.stationary is not None and model.train_ends:
        raise CaseError("[stationary]: with trained ends no stationary law is sought; write train_ends = false, or remove it")


def _check_meshes(problem: Problem, model: DeepNetworkModel) -> None:
    """Refuse a mesh from a file where layers train different weights, and a box that does not hold a layer's own law."""
    domain, every = problem.sections.domain, model.coordinates
    assert domain is not None  # checked before
    general = dict(zip(problem.model.coordinates, cast("Product", problem.law).factors, strict=True))
    for section in model.layers:
        trained = section.layer.trained
        if domain.box is None and trained != every:
            raise CaseError(
                f"[domain] mesh: is a mesh of {', '.join(every)}, and one layer trains {', '.join(trained)} alone; "
                "give `lower`, `upper` and `cells`"
            )
        own = {name: law.placed(name).factor() for name, law in section.initial.items()}
        check_held(problem.sections, every, [own.get(name, general[name]) for name in every])


def _sizes(sections: CaseSections, model: MeanField) -> Mapping[str, int | str]:
    """Of all layers and labels together."""
    section, known = cast("DeepNetworkModel", sections.model), cast("LabelsSection", getattr(sections, "labels"))  # noqa: B009
    assert model.data is not None
    inputs, layers = model.data.x.shape[1], section.each
    of_a = math.prod(known.a * inputs if len(known.a) == 1 else known.a)
    copies = [of_a ** (k == 0) * known.b ** (k == len(layers) - 1) for k in range(len(layers))]
    columns = [[model.coordinates.index(name) for name in layer.layer.trained] for layer in layers]
    answer: dict[str, int | str] = {"layers": len(layers), "labels": f"{of_a} of a, {known.b} of b"}
    if sections.characteristics is not None:
        nodes = sections.characteristics.nodes
        answer["characteristics"] = sum(n * math.prod(nodes[k] for k in own) for n, own in zip(copies, columns, strict=True))
    if sections.density is not None and sections.domain is not None and sections.domain.cells is not None:
        cells = sections.domain.cells
        answer["density nodes"] = sum(n * math.prod(cells[k] + 1 for k in own) for n, own in zip(copies, columns, strict=True))
        answer["density memory"] = f"about {cast('int', answer['density nodes']) * 1000 / 1e6:.0f} MB"
    return answer


def _frozen(model: DeepNetworkModel, data: Data | None) -> Sequence[str]:
    assert data is not None
    return deep_network(model.model_copy(update={"base_measure": None}), data).frozen_names


def _equation(model: Mapping[str, object]) -> Equation | None:
    del model
    return Equation(
        "Every layer's weights, with the first and the last weights as labels, descend its potential",
        "∂_t ρ^ℓ(θ|λ) = ∇·(ρ^ℓ ∇V^ℓ + τ∇ρ^ℓ),  V^ℓ(θ|λ) = V0 − Σ_p w_p r_p B^{ℓ+1}_p σ^ℓ(z^ℓ_p, θ),  ℓ = 1 … L−1",
    )


_ENSEMBLE = "deep networks have no independent particles; remove it, or write [network] with `width` for true networks"

KIND = Kind(
    DeepNetworkModel,
    _build,
    SOURCES,
    equation=_equation,
    fields={
        "labels": (LabelsSection, LabelsSection()),
        "density": (DeepDensitySection | None, None),
        "network": (DeepCompanionSection | None, None),
        "ensemble": (absent(_ENSEMBLE), None),
        "sgd": (absent(_ENSEMBLE), None),
        "spectrum": (absent("the modes of deep networks are not computed; remove it"), None),
        "stationary": (Annotated[StationarySection | None, AfterValidator(_no_starts)], None),
        "time": (Annotated[TimeSection, AfterValidator(_no_annealing)], ...),
    },
    measures={
        "density": At("mvpde.cases.deep:density"),
        "characteristics": At("mvpde.cases.deep:characteristics"),
        "network": At("mvpde.cases.deep:network"),
    },
    frozen=_frozen,
    check=_check,
    sizes=_sizes,
    long_time=At("mvpde.equilibrium.deep:deep_long_time"),
)
