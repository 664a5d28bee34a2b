"""Gaussian units with a mixture of Gaussians as target."""

from __future__ import annotations

import math
from typing import cast

from pydantic import Field, model_validator

from mvpde.cases.kinds import Given, Kind
from mvpde.cases.schema import CaseSections, DataSection, MeanFieldSection
from mvpde.cases.starts.entries import extent_of
from mvpde.cases.values import Number, Positive, same_lengths
from mvpde.models.gaussian_mixture import gaussian_mixture
from mvpde.models.laws import Product
from mvpde.models.mean_field import MeanField


class GaussianMixtureModel(MeanFieldSection):
    """Normalised Gaussian units and a mixture of Gaussians as target, F and K in closed form."""

    unit_variance: Positive = Field(0.5, description="variance of the unit, > 0", examples=[0.5])


class MixtureData(DataSection):
    """Σ_j a_j N(mean_j, variance_j) on the line with Lebesgue measure."""

    means: list[Number] = Field(description="mean of each Gaussian", examples=[[-2.0, 0.0, 2.0]])
    variances: list[Positive] = Field(description="variance of each Gaussian, > 0", examples=[[0.5, 1.0, 0.5]])
    amplitudes: list[Number] = Field(description="amplitude of each Gaussian", examples=[["1/3", "-2/3", "1/3"]])

    @model_validator(mode="after")
    def _same_lengths(self) -> MixtureData:
        lengths = {"means": len(self.means), "variances": len(self.variances), "amplitudes": len(self.amplitudes)}
        same_lengths("Gaussian", lengths)
        return self


def _build(model: GaussianMixtureModel, given: Given) -> MeanField:
    target = given.sections.data
    assert isinstance(target, MixtureData)
    return gaussian_mixture(
        target.means,
        target.variances,
        target.amplitudes,
        unit_variance=model.unit_variance,
        temperature=model.temperature,
        base_measure=cast("Product | None", given.base_measure),  # y and c are coordinates of no shell
        reach=_reach(model, target, given.sections),
    )


def _reach(model: GaussianMixtureModel, target: MixtureData, sections: CaseSections) -> float:
    """a with |y| ≤ a wherever the target, the initial law or the domain is: there the quadrature of K must hold."""
    start, domain = extent_of(sections.initial, "y"), sections.domain
    ends = [
        abs(mean) + 5.0 * math.sqrt(variance + model.unit_variance)
        for mean, variance in zip(target.means, target.variances, strict=True)
    ]
    ends += [] if start is None else [abs(end) for end in start]
    ends += [] if domain is None or domain.box is None else [abs(corner[0]) for corner in domain.box]
    return max(ends)


KIND = Kind(GaussianMixtureModel, _build, {"gaussian_mixture": MixtureData})
