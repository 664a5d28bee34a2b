"""Networks with random weights: what their layers make of inputs and gradients, and where in the phase diagram they are."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Annotated, cast

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from mvpde.cases.file import Case
from mvpde.cases.kinds import Computation, Equation, Given, Kind
from mvpde.cases.messages import listed, nearest
from mvpde.cases.schema import ModelSection, TimeSection
from mvpde.cases.sources import SOURCES, DataSet, data_of
from mvpde.cases.starts.laws import Law
from mvpde.cases.values import Count, Number, Section, one_of, refuse
from mvpde.models.deep.activations import ACTIVATIONS, RANDOM, Activation, Array
from mvpde.models.deep.kernels import first_covariance, require_moderate
from mvpde.models.deep.signal_maps import LARGEST, variance_map
from mvpde.models.mean_field import MeanField
from mvpde.particles.deep.random_networks import RandomNetworks
from mvpde.registry import At
from mvpde.runtime import ArgumentError, CaseError

MATRICES = ("gaussian", "orthogonal")
MOST_POINTS = 4000  # in each direction of a diagram
_LOOKED_AT = 60  # layers whose variances a check follows
Variance = Annotated[Number, Field(ge=0, le=LARGEST)]


class RandomNetworkModel(ModelSection):
    """Networks with random weights, in which nothing moves: kernels, depth scales, the phase diagram."""

    activation: Annotated[str, one_of(RANDOM)] = Field(description="φ, one of {names}", examples=["tanh"])
    weight_variance: Variance = Field(description="σ_w² ≥ 0; weights are N(0, σ_w²/N)", examples=[2.0])
    bias_variance: Variance = Field(description="σ_b² ≥ 0; biases are N(0, σ_b²)", examples=[0.05])
    depth: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="number of layers, a whole number from 1 to 100000", examples=[20]
    )
    inputs: list[list[Number]] | None = Field(
        None, description="vectors of one length; absent: the points of [data]", examples=[[[1.0, 0.0], [0.6, 0.8]]]
    )

    @field_validator("inputs")
    @classmethod
    def _distinct(cls, inputs: list[list[float]] | None) -> list[list[float]] | None:
        if inputs is None:
            return None
        lengths = {len(row) for row in inputs}
        if len(lengths) != 1 or 0 in lengths:
            counts = ", ".join(str(len(row)) for row in inputs) or "none"
            raise refuse(f"every input needs as many components, at least one, but they have {counts}; correct the list")
        check_distinct(np.array(inputs))
        return inputs


def check_distinct(inputs: Array) -> None:
    """Refuse inputs that are given twice: their correlation is 1 in all layers, and the tangent kernel is singular."""
    _, first, number = np.unique(inputs, axis=0, return_index=True, return_inverse=True)
    twice = np.flatnonzero(first[number.ravel()] != np.arange(len(inputs)))
    if len(twice):
        k = int(twice[0])
        raise refuse(f"inputs {int(first[number.ravel()[k]])} and {k} (counted from 0) are the same; remove one of them")


class RandomCompanionSection(Section):
    """Random networks of finite width beside the limit."""

    width: Count = Field(description="N, units in every layer, a whole number ≥ 1", examples=[300])
    runs: Annotated[int, Field(ge=2)] = Field(30, description="number of independent networks, a whole number ≥ 2", examples=[30])
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all random numbers, a whole number ≥ 0", examples=[0])
    weights: Annotated[str, one_of(MATRICES)] = Field(
        "gaussian", description="matrices from the second layer on, one of {names}", examples=["gaussian"]
    )
    gradients: bool = Field(True, description="go backwards through the layers too, true or false", examples=[True])
    singular_values: bool = Field(
        False, description="multiply the matrices of all layers, N³ operations each, true or false", examples=[True]
    )


def _three(value: object) -> object:
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[2], int | float) and value[2] == int(value[2])):
        raise refuse("give [lowest, highest, number of points], for example [0.5, 4.0, 200]")
    return value


Range = Annotated[list[Number], BeforeValidator(_three)]


class PhaseDiagramSection(Section):
    """Fields over a regular grid of variances."""

    weight_variance: Range = Field(description="σ_w²: [lowest, highest, number of points]", examples=[[0.5, 4.0, 200]])
    bias_variance: Range = Field(description="σ_b²: [lowest, highest, number of points]", examples=[[0.0, 0.5, 200]])

    @model_validator(mode="after")
    def _grids(self) -> PhaseDiagramSection:
        for key in ("weight_variance", "bias_variance"):
            low, high, count = getattr(self, key)
            if not 0.0 <= low < high <= LARGEST:
                raise refuse(f"{key} runs from {low:g} to {high:g}; give 0 ≤ lowest < highest ≤ {LARGEST:g}")
            if not 2 <= count <= MOST_POINTS:
                raise refuse(f"{key} has {count:g} points; give 2 to {MOST_POINTS}")
        return self

    def grid(self) -> tuple[Array, Array]:
        """Values of σ_w² and of σ_b²."""
        (low, high, n), (least, most, m) = self.weight_variance, self.bias_variance
        return np.linspace(low, high, int(n)), np.linspace(least, most, int(m))


# --- [data], which may be absent ------------------------------------------------------------------------------------------------


def _with_source(value: object) -> object:
    source = value.get("source") if isinstance(value, dict) else None
    if isinstance(value, dict) and source not in SOURCES:
        said = f"source {source!r}" if source is not None else "`source` is missing or"
        raise refuse(f"{said} is not one of {listed(SOURCES)}{nearest(str(source), SOURCES)}")
    return value


def _source(value: object) -> str:
    return str(value.get("source") if isinstance(value, dict) else getattr(value, "source", ""))


_ANY_SOURCE = functools.reduce(operator.or_, (cast("type", Annotated[schema, Tag(name)]) for name, schema in SOURCES.items()))
_Data = Annotated[_ANY_SOURCE, Discriminator(_source), BeforeValidator(_with_source)]  # type: ignore[valid-type]


# --- what a run needs -----------------------------------------------------------------------------------------------------------


def model_of(case: Case) -> RandomNetworkModel:
    """[model] of a case of this kind."""
    return cast("RandomNetworkModel", case.sections.model)


def inputs_of(case: Case) -> Array:
    """The inputs, shape (M, N_0).

    Raises:
        CaseError: there are none, or some twice.
    """
    given, data = model_of(case).inputs, case.sections.data
    if given is not None and data is not None:
        raise CaseError("[model] inputs: `inputs` and [data] exclude each other; remove one of them")
    if given is not None:
        return np.array(given)
    read = data_of(data, case.directory, case.read) if isinstance(data, DataSet) else None
    if read is None:
        raise CaseError("[model] inputs: is missing; add inputs = [[1.0, 0.0], [0.6, 0.8]], or a section [data] with points")
    try:
        check_distinct(read.x)
    except ValueError as error:
        raise CaseError(f"[data]: {error}") from None
    return read.x


def diagram_of(case: Case) -> PhaseDiagramSection | None:
    """[phase_diagram]."""
    return cast("PhaseDiagramSection | None", getattr(case.sections, "phase_diagram", None))


def companion_of(case: Case) -> RandomNetworks | None:
    """The networks that [network] asks for."""
    section, model = cast("RandomCompanionSection | None", getattr(case.sections, "network", None)), model_of(case)
    if section is None:
        return None
    return RandomNetworks(
        activation=model.activation,
        weight_variance=model.weight_variance,
        bias_variance=model.bias_variance,
        depth=model.depth,
        width=section.width,
        runs=section.runs,
        seed=section.seed,
        orthogonal=section.weights == "orthogonal",
        gradients=section.gradients,
        jacobian=section.singular_values,
    )


_OTHERS = ("initial", "time", "domain", "density", "ensemble", "characteristics", "sgd", "stationary", "spectrum")


def _sizes(case: Case) -> Mapping[str, int | str]:
    """What is computed; refuses sections of laws that move."""
    for name in _OTHERS:
        if getattr(case.sections, name, None) is not None:
            raise CaseError(f"[{name}]: nothing moves in a random network; remove the section")
    activation = ACTIVATIONS[model_of(case).activation]
    if activation.slope is None:
        raise CaseError(
            f"[model] activation: {activation.sentence} has no derivative of finite mean square, which χ_1 and tangent kernels "
            "need; choose another"
        )
    networks, diagram = companion_of(case), diagram_of(case)
    _check_growth(case, activation)
    said: dict[str, int | str] = {"inputs": len(inputs_of(case)), "layers": model_of(case).depth}
    if networks is not None:
        said["network"] = f"{networks.runs} of width {networks.width}"
    if diagram is not None:
        said["phase_diagram"] = " × ".join(str(len(axis)) for axis in diagram.grid())
    return said


def _check_growth(case: Case, activation: Activation) -> None:
    """Refuse inputs, or weights that make variances grow with depth, beyond what means are computed for."""
    model = model_of(case)
    variances = model.weight_variance, model.bias_variance
    try:
        q = np.diagonal(first_covariance(inputs_of(case), *variances)).max(keepdims=True)
        for layer in range(1, min(model.depth, _LOOKED_AT) + 1):
            require_moderate(activation, float(q[0]), layer)
            q = variance_map(model.activation, q, *variances)
    except ArgumentError as error:
        raise CaseError(f"[model] {error.argument}: {error.text}") from None


def _build(model: RandomNetworkModel, given: Given) -> MeanField:
    raise CaseError(
        '[model] kind: nothing moves in a "random_network"; `mvpde run` computes it, and the tasks "run", "phase_diagram"'
    )


_EQUATION = Equation(
    "Variances q and covariances K of the layers of a network with random weights, whose width is infinite.",
    "q' = σ_w² E φ(√q Z)² + σ_b²,   K' = σ_w² E φ(u)φ(v) + σ_b²,   (u, v) ~ N(0, K)",
)

KIND = Kind(
    RandomNetworkModel,
    _build,
    equation=lambda _: _EQUATION,
    fields={
        "data": (_Data | None, None),
        "initial": (dict[str, Law] | None, None),
        "time": (TimeSection | None, None),
        "network": (RandomCompanionSection | None, None),
        "phase_diagram": (PhaseDiagramSection | None, None),
    },
    computation=Computation(_sizes, At("mvpde.runs.deep.random_network:compute")),
)
