"""Features along the depth of a residual network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.problem import Problem, check_block
from mvpde.cases.schema import CaseSections, Count, EnsembleSection, ModelSection, Number, one_of, refuse
from mvpde.models.data import columns
from mvpde.models.deep.activations import ACTIVATIONS
from mvpde.models.deep.depth_weights import DEPTH, DepthWeights, WeightValues, depth_weights
from mvpde.models.deep.residual_flow import (
    Block,
    BlockWords,
    layered_block,
    linear_block,
    residual_flow,
    written_block,
)
from mvpde.models.fokker_planck import COORDINATES
from mvpde.models.mean_field import MeanField
from mvpde.particles.schemes import SCHEMES
from mvpde.runtime import CaseError

_ROUNDING = 1e-9  # part of a layer by which a depth may miss its end
_DEPTHS = 8  # at which the block is looked at before a run


def _entry(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse(f"{value!r} is neither a number nor an expression")
    return value


Entry = Annotated[float | str, BeforeValidator(_entry)]
Matrix = list[list[Entry]]


class ResidualFlowModel(ModelSection):
    """The features of a residual network as a flow along its depth: W₂σ(W₁x + c), Ax + c, or any block that is written out."""

    coordinates: list[str] | None = Field(
        None, description="names of the features; absent: x, y, z, as many as the block has", examples=[["x", "y"]]
    )
    inner: Matrix | None = Field(
        None,
        description=f"W₁, a row for each unit, of numbers or expressions in the weights and the depth {DEPTH}",
        examples=[[["cos(a)", "sin(a)"], ["-sin(a)", "cos(a)"]]],
    )
    outer: Matrix | None = Field(None, description="W₂, a row for each feature, likewise", examples=[[["s"], ["1 - s"]]])
    bias: list[Entry] | None = Field(
        None, description="c, an entry for each unit, with `matrix` for each feature; absent: 0", examples=[[0.2, "b"]]
    )
    activation: Annotated[str, one_of(ACTIVATIONS)] = Field("tanh", description="σ, one of {names}", examples=["tanh"])
    matrix: Matrix | None = Field(
        None, description="A of a linear block, instead of `inner` and `outer`", examples=[[["-0.3", "-2*s"], ["2*s", "0.1"]]]
    )
    block: list[str] | None = Field(
        None, description="a block written out, one expression for each feature", examples=[["theta*tanh(x)"]]
    )
    weights: dict[str, str | list[Number]] = Field(
        {},
        description=f"weights by name: expressions in {DEPTH}, or a table of lists with a list {DEPTH} of depths from 0 on",
        examples=[{"theta": "1.2*cos(pi*s) + 0.5"}],
    )
    weights_file: str | None = Field(
        None, description="the table as a CSV file, relative to the case file, instead of `weights`", examples=["weights.csv"]
    )
    interpolation: Annotated[str, one_of(("constant", "linear"))] = Field(
        "constant", description="between the rows of a table, one of {names}", examples=["linear"]
    )
    parameters: dict[str, Number] = Field({}, description="numbers that the expressions may use, by name", examples=[{"a": 0.5}])
    observables: dict[str, str] = Field(
        {}, description="expressions in the features whose means are recorded, by name", examples=[{"square": "x**2"}]
    )

    @model_validator(mode="after")
    def _one_block(self) -> ResidualFlowModel:
        forms = {"inner": self.inner, "matrix": self.matrix, "block": self.block}
        given = [key for key, value in forms.items() if value is not None]
        if len(given) != 1:
            said = " and ".join(f"`{key}`" for key in given) or "none of them"
            raise refuse(f"a block is `inner` with `outer`, or `matrix`, or `block`, and there is {said}; give exactly one")
        if (self.inner is None) != (self.outer is None):
            raise refuse("`inner` and `outer` belong together; give both or none")
        if self.bias is not None and self.block is not None:
            raise refuse("`bias` is of `inner` and `outer`, or of `matrix`; write it into `block`")
        if self.activation != "tanh" and self.inner is None:
            raise refuse("`activation` is of `inner` and `outer`; remove it, or write it into `block`")
        if self.weights and self.weights_file is not None:
            raise refuse("`weights` and `weights_file` exclude each other; remove one of them")
        listed = self.weights_file is not None or any(isinstance(value, list) for value in self.weights.values())
        if self.interpolation != "constant" and not listed:
            raise refuse("`interpolation` is between the rows of a table, and `weights` is none; remove it, or give a table")
        return self

    def dimension(self) -> int:
        """D."""
        rows = self.block or self.matrix or self.outer or []
        return len(rows)

    def files(self) -> dict[str, str]:
        """The table of weights."""
        return {} if self.weights_file is None else {"weights_file": self.weights_file}


class ResidualNetworkParticles(EnsembleSection):
    """The residual network itself, applied to features drawn from the initial law: Euler's method, a layer for each step."""

    layers: Count | None = Field(
        None, description="layers in a unit of depth, a whole number ≥ 1, instead of `step` = 1/layers", examples=[16]
    )
    scheme: Annotated[str, one_of(SCHEMES)] = Field(
        "euler", description="one of {names}; a residual network is `euler`", examples=["euler"]
    )

    @model_validator(mode="before")
    @classmethod
    def _step_of_layers(cls, given: object) -> object:
        if not isinstance(given, Mapping) or type(given.get("layers")) is not int or given["layers"] < 1:
            return given
        step = 1.0 / given["layers"]
        if not math.isclose(given.get("step", step), step):
            raise refuse("`layers` and `step` exclude each other, as step = 1/layers; remove one of them")
        return {**given, "step": step}


# --- building -------------------------------------------------------------------------------------------------------------------


def _build(model: ResidualFlowModel, given: Given) -> MeanField:
    try:
        return _flow(model, given)
    except ValueError as error:  # begins with the key that it is about
        raise CaseError(f"[model] {error}") from None


def _flow(model: ResidualFlowModel, given: Given) -> MeanField:
    """The model that [model] describes."""
    weights = depth_weights(_values(model, given), "linear" if model.interpolation == "linear" else "constant", model.parameters)
    coordinates = tuple(model.coordinates or COORDINATES[: model.dimension()])
    if len(coordinates) != model.dimension():
        raise CaseError(
            f"[model] coordinates: the block has {model.dimension()} features and {len(coordinates)} have a name; "
            "give `coordinates` with one name for each"
        )
    weights.require(given.sections.time.outputs[-1])
    _check_layers(given.sections, weights)
    block = _block(model, BlockWords(coordinates, weights.names, model.parameters))
    return residual_flow(coordinates, block, weights, model.observables)


def _values(model: ResidualFlowModel, given: Given) -> WeightValues:
    if model.weights_file is None:
        return model.weights  # type: ignore[return-value]  # texts and lists together are refused there
    try:
        path, content = given.read(model.weights_file)
    except OSError as error:
        raise CaseError(
            f"[model] weights_file: '{model.weights_file}' cannot be read ({error.strerror}); "
            "its path is relative to the case file"
        ) from None
    try:
        return columns(path, lambda _: content)
    except ValueError as error:
        raise CaseError(f"[model] weights_file: {error}; correct the file") from None


def _block(model: ResidualFlowModel, words: BlockWords) -> Block:
    if model.block is not None:
        return written_block(words, model.block)
    if model.matrix is not None:
        return linear_block(words, model.matrix, model.bias)
    return layered_block(words, model.inner or [], model.outer or [], model.bias, model.activation)


def _check_layers(sections: CaseSections, weights: DepthWeights) -> None:
    """A layer of the network may not be cut by an output, nor by a row of the table: it would be another network."""
    layers = getattr(sections.ensemble, "layers", None)
    if layers is None:
        return
    places = {"[time] outputs": sections.time.outputs, "[model] weights": weights.starts}
    for place, depths in places.items():
        for s in depths:
            if abs(s * layers - round(s * layers)) > _ROUNDING:
                raise CaseError(
                    f"{place}: s = {s:g} lies inside one of the layers of length 1/{layers}; choose multiples of that, "
                    "or another [ensemble] layers"
                )


def _check(problem: Problem) -> None:
    outputs = problem.sections.time.outputs
    check_block(problem, [0.0, *outputs[:: max(1, len(outputs) // _DEPTHS)]])


_EQUATION = Equation(
    "The law p of the features x at depth s of a residual network whose layers are many and thin.",
    "∂_sp + ∇·(h(·, θ(s)) p) = 0,   x' = h(x, θ(s)),   x_{k+1} = x_k + h(x_k, θ(k/L))/L",
)

KIND = Kind(
    ResidualFlowModel,
    _build,
    equation=lambda _: _EQUATION,
    fields={"ensemble": (ResidualNetworkParticles | None, None)},
    check=_check,
)
