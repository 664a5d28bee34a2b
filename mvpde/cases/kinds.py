"""What a case file may say in [model] and [data]: for each kind of model its keys, its data sources and its builder.

A new kind of model is one entry of `KINDS`, a new source of data one entry of `SOURCES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mvpde.cases.messages import listed, nearest
from mvpde.cases.schema import Choice, Count, Law, Number, Positive, Section, one_of, refuse
from mvpde.models import data as datasets
from mvpde.models import spins
from mvpde.models.data import TARGETS, Data, target_function
from mvpde.models.expressions.parse import constant
from mvpde.models.expressions.vocabulary import Setting, check_finite, evaluate_number
from mvpde.models.fokker_planck import COORDINATES, fokker_planck
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.interaction import drift_model, gradient_model
from mvpde.models.isotropic_gaussians import Classification, PiecewiseLinear, isotropic_gaussians
from mvpde.models.laws import ProductLaw
from mvpde.models.losses import LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.models.network import network, unit_defaults
from mvpde.models.pair_interaction import pair_model
from mvpde.models.sgd_network import ACTIVATIONS, NETWORKS, SAMPLE_LOSSES, SgdNetwork, diffusion_model, sgd_problem
from mvpde.models.spikes import spikes
from mvpde.models.units import UNITS
from mvpde.runtime import CaseError


class ModelSection(Section):
    """What every kind of model has."""

    kind: str = Field(description="the kind of model", examples=["network"])


class MeanFieldSection(ModelSection):
    """What models of interacting particles have."""

    temperature: Annotated[Number, Field(ge=0)] = Field(0.0, description="temperature, ≥ 0", examples=[0.05])
    base_measure: dict[str, Law] | None = Field(
        None,
        description="law of every coordinate that the entropy is relative to; absent: flat",
        examples=[{"c": {"law": "normal", "mean": 0.0, "std": 1.0}}],
    )


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
        default = _defaults(info).get("bias")
        if given is not None and default is None and "unit" in info.data:
            raise refuse(f"the unit `{info.data['unit']}` has no bias; remove the key")
        return default if given is None else given


def _defaults(info: ValidationInfo) -> dict[str, Any]:
    return unit_defaults(info.data["unit"]) if "unit" in info.data else {}


class GaussianMixtureModel(MeanFieldSection):
    """Normalised Gaussian units and a mixture of Gaussians as target, F and K in closed form."""

    unit_variance: Positive = Field(0.5, description="variance of the unit, > 0", examples=[0.5])


Matrix = list[list[Number]]


def _number_or_text(value: Any) -> Any:
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
    temperature: Annotated[Any, AfterValidator(_number_or_text)] = Field(
        None, description="τ ≥ 0, a number or an expression in the parameters; absent: 0", examples=["1/beta"]
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
        return self


def _whole(value: Any) -> Any:
    """A whole number, or inf, which a study has to write as text."""
    infinite = isinstance(value, str) and value in ("inf", "infinity")
    number = math.inf if infinite else constant(value) if isinstance(value, str) else value
    if type(number) is int or (type(number) is float and (number == math.inf or number.is_integer())):
        return float(number)
    raise refuse(f'{value!r} is no dimension; give a whole number of at least 2, or "infinity"')


class FokkerPlanckModel(ModelSection):
    """dz = b(z) dt + √(2A(z)) dB in the coordinates x, y, z: one of the first three keys and one of the next three."""

    drift_matrix: Matrix | None = Field(
        None, description="M in the drift −Mz, D rows of D numbers", examples=[[[1.0, 2.0], [-2.0, 1.0]]]
    )
    potential: str | None = Field(None, description="V in the drift −∇V, an expression in x, y, z", examples=["(x**2 - 1)**2/4"])
    drift: list[str] | None = Field(
        None, description="the drift, one expression in x, y, z per coordinate", examples=[["-y", "x"]]
    )
    diffusion_matrix: Matrix | None = Field(
        None, description="A, D rows of D numbers, symmetric, positive semidefinite", examples=[[[1.0, 0.0], [0.0, 0.25]]]
    )
    diffusion: list[list[str]] | None = Field(
        None, description="A, D rows of D expressions in x, y, z", examples=[[["1 + x**2", "0"], ["0", "1"]]]
    )
    temperature: Annotated[Number, Field(ge=0)] | None = Field(None, description="τ in A = τI, ≥ 0", examples=[0.1])
    parameters: dict[str, Number] = Field({}, description="numbers that the expressions may use, by name", examples=[{"a": 0.3}])

    def dimension(self) -> int | None:
        """D, where the section says it: the number of rows of a matrix or list."""
        given = [self.drift_matrix, self.drift, self.diffusion_matrix, self.diffusion]
        return next((len(rows) for rows in given if rows is not None), None)


class SgdNetworkModel(ModelSection):
    """A small network with trained weights W, and how it is trained."""

    network: Annotated[str, one_of(NETWORKS)] = Field(description="one of {names}", examples=["neuron"])
    unit: Annotated[str, one_of(ACTIVATIONS)] = Field("tanh", description="one of {names}", examples=["tanh"])
    loss: Annotated[str, one_of(SAMPLE_LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])
    learning_rate: Positive = Field(description="step η of SGD, > 0", examples=[0.2])
    batch_size: Count = Field(description="samples in a batch, a whole number ≥ 1", examples=[4])
    replacement: bool = Field(True, description="whether a batch may hold a sample twice, true or false", examples=[True])
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="λ in ½λ|W|² of the loss, ≥ 0", examples=[0.1])
    order: Annotated[int, Field(ge=1, le=2)] = Field(
        1, description="order in η of the diffusion's error: 1, or 2 with the modified drift", examples=[1]
    )


class Activation(Section):
    """σ(t) = offset + Σ_j changes_j (t − knots_j)_+."""

    offset: Number = Field(description="value left of all knots", examples=[-2.5])
    knots: list[Number] = Field(description="where the slope changes", examples=[[0.5, 1.5]])
    changes: list[Number] = Field(description="by how much, one number per knot", examples=[[10, -10]])

    @model_validator(mode="after")
    def _same_lengths(self) -> Activation:
        if len(self.knots) != len(self.changes) or not self.knots:
            raise refuse(f"`knots` has {len(self.knots)} numbers and `changes` {len(self.changes)}; give as many, at least one")
        return self


class IsotropicGaussiansModel(ModelSection):
    """Two isotropic Gaussians in R^d told apart by a wide layer: the law of |w|, and one-pass SGD of the network itself."""

    dimension: Annotated[float, BeforeValidator(_whole), Field(ge=2)] = Field(
        description='d, a whole number ≥ 2, or "infinity"', examples=[40]
    )
    delta: Annotated[Number, Field(gt=0, lt=1)] = Field(description="Δ of the variances (1 ± Δ)², in (0, 1)", examples=[0.8])
    activation: Activation = Field(
        Activation(offset=-2.5, knots=[0.5, 1.5], changes=[10.0, -10.0]),
        description="the piecewise linear σ",
        examples=[{"offset": -2.5, "knots": [0.5, 1.5], "changes": [10, -10]}],
    )
    temperature: Annotated[Number, Field(ge=0)] = Field(0.0, description="τ = 2/β of noisy SGD, ≥ 0", examples=[0.01])
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="λ of noisy SGD, ≥ 0", examples=[0.1])


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


class DataSection(Section):
    """What every source of data has."""

    source: str = Field(description="where the data comes from", examples=["interval"])

    def files(self) -> dict[str, str]:
        """Keys that name a file, with their values."""
        return {}


def _one_input(x: Any) -> Any:
    return [row if isinstance(row, list) else [row] for row in x] if isinstance(x, list) else x


Target = Annotated[
    str,
    AfterValidator(Choice(TARGETS, otherwise=target_function)),  # what does not parse is refused here, under its own key
    Field(description="the target, an expression in x or one of {names}", examples=["cos(x)"]),
]
Points = Annotated[
    int, Field(ge=1, le=100_000, description="number of data points, a whole number from 1 to 100000", examples=[64])
]


class CircleData(DataSection):
    """Equispaced angles, equally weighted."""

    points: Points
    target: Target


class IntervalData(DataSection):
    """Gauss–Legendre quadrature of the uniform measure on [lower, upper]."""

    lower: Number = Field(description="lower end of the interval of inputs", examples=[-1.0])
    upper: Number = Field(description="upper end of the interval of inputs, above lower", examples=[1.0])
    points: Points
    target: Target

    @model_validator(mode="after")
    def _ordered(self) -> IntervalData:
        if self.lower >= self.upper:
            raise refuse(f"lower = {self.lower:g} must lie below upper = {self.upper:g}; exchange or correct them")
        return self


class PointsData(DataSection):
    """Points given in the case file."""

    x: Annotated[list[list[Number]], BeforeValidator(_one_input)] = Field(
        description="one list of inputs per point, or one number per point", examples=[[-1.0, 0.0, 1.0]]
    )
    target: list[Number] = Field(description="one number per point", examples=[[0.3, -0.2, 0.4]])
    weights: list[Positive] | None = Field(
        None, description="weight of each point, > 0; absent: equal", examples=[[0.5, 0.25, 0.25]]
    )

    @model_validator(mode="after")
    def _same_lengths(self) -> PointsData:
        lengths = {"x": len(self.x), "target": len(self.target), "weights": len(self.weights or self.target)}
        if len(set(lengths.values())) > 1 or not self.x:
            counts = ", ".join(f"`{key}` has {n}" for key, n in lengths.items())
            raise refuse(f"`x`, `target` and `weights` need one entry per point each, but {counts}")
        if len({len(row) for row in self.x}) > 1 or not self.x[0]:
            raise refuse("every point in `x` needs the same number of inputs, at least one; correct the list")
        return self


class CsvData(DataSection):
    """Columns of a CSV file with a header line."""

    file: str = Field(description="a CSV file, relative to the case file", examples=["data/copper.csv"])
    inputs: Annotated[list[str], Field(min_length=1)] = Field(
        description="names of the input columns", examples=[["temperature"]]
    )
    output: str = Field(description="name of the column to predict", examples=["expansion"])
    standardise: bool = Field(
        False, description="whether columns are scaled to mean 0, deviation 1, true or false", examples=[True]
    )

    def files(self) -> dict[str, str]:
        """The CSV file."""
        return {"file": self.file}


class ThreeSpinData(DataSection):
    """The 3-spin energy with random couplings on the sphere of radius √dimension, by a quadrature of the sphere."""

    dimension: Annotated[int, Field(ge=2, le=3)] = Field(
        description="d, 2 (a circle, x its arc length) or 3 (a sphere, x in R³)", examples=[2]
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the couplings, a whole number ≥ 0", examples=[0])
    points: Points


class MixtureData(DataSection):
    """Σ_j a_j N(mean_j, variance_j) on the line with Lebesgue measure."""

    means: list[Number] = Field(description="mean of each Gaussian", examples=[[-2.0, 0.0, 2.0]])
    variances: list[Positive] = Field(description="variance of each Gaussian, > 0", examples=[[0.5, 1.0, 0.5]])
    amplitudes: list[Number] = Field(description="amplitude of each Gaussian", examples=[["1/3", "-2/3", "1/3"]])

    @model_validator(mode="after")
    def _same_lengths(self) -> MixtureData:
        lengths = {"means": len(self.means), "variances": len(self.variances), "amplitudes": len(self.amplitudes)}
        if len(set(lengths.values())) > 1 or not self.means:
            counts = ", ".join(f"`{key}` has {n}" for key, n in lengths.items())
            raise refuse(f"`means`, `variances` and `amplitudes` need one entry per Gaussian each, but {counts}")
        return self


@dataclass(frozen=True)
class Source:
    """A source of data: the keys of its section, (section, directory of the case) → Data, and what to say when that fails.

    `key` is the one that a wrong value most likely comes from, `remedy` what to do about it.
    """

    schema: type[DataSection]
    build: Callable[[Any, Path], Data]
    key: str = "target"
    remedy: str = "choose a target that is finite at all data points"


SOURCES: dict[str, Source] = {
    "circle": Source(CircleData, lambda s, _: datasets.circle(s.points, target_function(s.target))),
    "interval": Source(IntervalData, lambda s, _: datasets.interval(s.lower, s.upper, s.points, target_function(s.target))),
    "points": Source(
        PointsData,
        lambda s, _: datasets.points(np.array(s.x), np.array(s.target), None if s.weights is None else np.array(s.weights)),
    ),
    "three_spin": Source(
        ThreeSpinData,
        lambda s, _: spins.MEASURES[s.dimension](s.points, s.seed),
        key="points",
        remedy="choose another number of points",
    ),
    "csv": Source(
        CsvData,
        lambda s, directory: datasets.from_csv(directory / s.file, s.inputs, s.output, s.standardise),
        key="file",
        remedy="correct the file (its path is relative to the case file), or the names in `inputs` and `output`",
    ),
}


def data_of(section: Any, directory: Path) -> Data:
    """The data set that a section [data] describes.

    Raises:
        CaseError: with key and remedy, for a file or a target without meaning.
    """
    source = SOURCES[section.source]
    try:
        return source.build(section, directory)
    except ValueError as error:
        raise CaseError(f"[data] {source.key}: {error}; {source.remedy}") from None


@dataclass(frozen=True)
class Kind:
    """A kind of model: the keys of its section, the sections its data may have by source, and its builder.

    `build` takes all sections of a case and the case's directory and returns base measure → model, so that the coordinates are
    known before the base measure is put in their order. `network` gives, from the section [model], the network whose SGD takes
    the place of the particles where the model is a reduction of its law.
    """

    schema: type[ModelSection]
    sources: Mapping[str, type[DataSection]]
    build: Callable[[Any, Path], Callable[[ProductLaw | None], MeanField]]
    network: Callable[[Any], Classification] | None = None


def _network(sections: Any, directory: Path) -> Callable[[ProductLaw | None], MeanField]:
    model: NetworkModel = sections.model
    table = data_of(sections.data, directory)
    return lambda base_measure: network(
        model.unit,
        table,
        temperature=model.temperature,
        loss=model.loss,
        base_measure=base_measure,
        unit_parameters=model.unit_parameters,
        bias=model.bias is not False,
    )


def _gaussian_mixture(sections: Any, _: Path) -> Callable[[ProductLaw | None], MeanField]:
    model: GaussianMixtureModel = sections.model
    data: MixtureData = sections.data
    return lambda base_measure: gaussian_mixture(
        data.means,
        data.variances,
        data.amplitudes,
        unit_variance=model.unit_variance,
        temperature=model.temperature,
        base_measure=base_measure,
        reach=_reach(sections),
    )


def _reach(sections: Any) -> float:
    """a with |y| ≤ a wherever the target, the initial law or the domain is: there the quadrature of K must hold."""
    data, law, box = sections.data, sections.initial.get("y"), sections.domain
    ends = [
        abs(mean) + 5.0 * math.sqrt(variance + sections.model.unit_variance)
        for mean, variance in zip(data.means, data.variances, strict=True)
    ]
    ends += [] if law is None else [abs(end) for end in law.extent()]
    ends += [] if box is None or box.lower is None else [abs(box.lower[0]), abs(box.upper[0])]
    return max(ends)


def _fokker_planck(sections: Any, _: Path) -> Callable[[ProductLaw | None], MeanField]:
    model: FokkerPlanckModel = sections.model
    named = [COORDINATES.index(name) + 1 for name in sections.initial if name in COORDINATES]
    dimension = model.dimension() or max(named, default=1)
    keys = model.model_dump(exclude={"kind"})
    return lambda _: fokker_planck(COORDINATES[:dimension], **keys)


def _interaction(sections: Any, _: Path) -> Callable[[ProductLaw | None], MeanField]:
    def build(_: ProductLaw | None) -> MeanField:
        try:
            model = _written_model(sections)
            if sections.domain is not None and sections.domain.lower is not None:
                check_finite(model, *_box_of(sections))
        except ValueError as error:  # begins with the key that it is about
            raise CaseError(f"[model] {error}") from None
        return model

    return build


def _written_model(sections: Any) -> MeanField:
    """The model that [model] of kind "mean_field" writes out."""
    model: InteractionModel = sections.model
    keys: dict[str, Any] = {key: getattr(model, key) for key in ("coordinates", "periods", "parameters", "observables")}
    Setting(tuple(model.coordinates), model.periods, model.parameters)  # refuses names before they are used
    temperature = None if model.temperature is None else evaluate_number("temperature", model.temperature, model.parameters)
    if model.drift is not None:
        keys |= {"drift": model.drift, "diffusion": model.diffusion, "temperature": temperature, "features": model.features}
        return drift_model(**keys)
    keys |= {"potential": model.potential, "temperature": temperature or 0.0}
    if model.interaction is None:
        return gradient_model(**keys, features=model.features, outer_energy=model.outer_energy)
    lower, upper = _box_of(sections)
    return pair_model(**keys, interaction=model.interaction, lower=lower, upper=upper, rank_tolerance=model.rank_tolerance)


def _box_of(sections: Any) -> tuple[list[float], list[float]]:
    """Where the particles are expected: the domain's box, or the initial law's extent."""
    box, names = sections.domain, sections.model.coordinates
    if box is not None and box.lower is not None and len(box.lower) == len(names):
        return box.lower, box.upper
    ends = [sections.initial[name].extent() if name in sections.initial else (-1.0, 1.0) for name in names]
    return [end[0] for end in ends], [end[1] for end in ends]


def training(sections: Any, directory: Path) -> Callable[[], SgdNetwork]:
    """How to make the training problem of a case of the kind "sgd_network"; its data are read here and now."""
    table = data_of(sections.data, directory)
    keys = sections.model.model_dump(exclude={"kind", "order"})
    return lambda: sgd_problem(data=table, **keys)


def _sgd_network(sections: Any, directory: Path) -> Callable[[ProductLaw | None], MeanField]:
    problem = training(sections, directory)
    return lambda _: diffusion_model(problem(), sections.model.order)


def _isotropic_gaussians(sections: Any, _: Path) -> Callable[[ProductLaw | None], MeanField]:
    model: IsotropicGaussiansModel = sections.model
    ends = [law.extent()[1] for law in sections.initial.values()] + [10.0]
    ends += [] if sections.domain is None or sections.domain.upper is None else [sections.domain.upper[0]]
    keys = model.model_dump(include={"dimension", "delta", "temperature", "weight_decay"})
    return lambda _: isotropic_gaussians(**keys, activation=_activation(model), largest=max(ends))


def _activation(model: IsotropicGaussiansModel) -> PiecewiseLinear:
    given = model.activation
    return PiecewiseLinear(given.offset, tuple(given.knots), tuple(given.changes))


def _classification(model: IsotropicGaussiansModel) -> Classification:
    keys = model.model_dump(include={"delta", "temperature", "weight_decay"})
    return Classification(int(model.dimension), activation=_activation(model), **keys)


def _spikes(sections: Any, _: Path) -> Callable[[ProductLaw | None], MeanField]:
    model: SpikesModel = sections.model
    if len({len(atom) for atom in model.atoms}) > 1:
        raise CaseError("[model] atoms: every atom needs as many angles as the others; correct the list")
    keys = model.model_dump(include={"weights", "modes", "temperature"})
    return lambda _: spikes(model.atoms, **keys)


SAMPLED = ("csv", "points")  # sources of data sets with equal weights, from which SGD draws

KINDS: dict[str, Kind] = {
    "network": Kind(NetworkModel, {name: source.schema for name, source in SOURCES.items()}, _network),
    "gaussian_mixture": Kind(GaussianMixtureModel, {"gaussian_mixture": MixtureData}, _gaussian_mixture),
    "mean_field": Kind(InteractionModel, {}, _interaction),
    "fokker_planck": Kind(FokkerPlanckModel, {}, _fokker_planck),
    "mmn_isotropic": Kind(IsotropicGaussiansModel, {}, _isotropic_gaussians, _classification),
    "spikes": Kind(SpikesModel, {}, _spikes),
    "sgd_network": Kind(SgdNetworkModel, {name: SOURCES[name].schema for name in SAMPLED}, _sgd_network),
}
