"""Small networks under SGD, and the diffusion near it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mvpde.cases.kinds import Equation, Given, Kind
from mvpde.cases.schema import Count, DataSection, ModelSection, Number, Positive, one_of
from mvpde.cases.sources import SplitCsv, SplitPoints
from mvpde.models.data import Data
from mvpde.models.deep.activations import SMOOTH
from mvpde.models.losses import SAMPLE_LOSSES
from mvpde.models.mean_field import MeanField
from mvpde.models.sgd_network import NETWORKS, SgdNetwork, diffusion_model, sgd

SAMPLED: dict[str, type[DataSection]] = {
    "csv": SplitCsv,
    "points": SplitPoints,
}  # sources of data sets with equal weights, from which SGD draws


class SgdNetworkModel(ModelSection):
    """A small network with trained weights W, and how it is trained."""

    network: Annotated[str, one_of(NETWORKS)] = Field(description="one of {names}", examples=["neuron"])
    unit: Annotated[str, one_of(SMOOTH)] = Field("tanh", description="one of {names}", examples=["tanh"])
    loss: Annotated[str, one_of(SAMPLE_LOSSES)] = Field("least_squares", description="one of {names}", examples=["least_squares"])
    learning_rate: Positive = Field(description="step η of SGD, > 0", examples=[0.2])
    batch_size: Count = Field(description="samples in a batch, a whole number ≥ 1", examples=[4])
    replacement: bool = Field(True, description="whether a batch may hold a sample twice, true or false", examples=[True])
    weight_decay: Annotated[Number, Field(ge=0)] = Field(0.0, description="λ in ½λ|W|² of the loss, ≥ 0", examples=[0.1])
    order: Annotated[int, Field(ge=1, le=2)] = Field(
        1, description="order in η of the diffusion's error: 1, or 2 with the modified drift", examples=[1]
    )


def _training(model: SgdNetworkModel, data: Data | None) -> SgdNetwork:
    assert data is not None
    return sgd(data=data, **model.model_dump(exclude={"kind", "order"}))


def _build(model: SgdNetworkModel, given: Given) -> MeanField:
    return diffusion_model(_training(model, given.data), model.order)


_EQUATION = Equation(
    "The law ρ of the weights W of one small network under stochastic gradient descent with learning rate η; "
    "Σ is the covariance of a minibatch gradient.",
    "∂_tρ = ∇·(ρ ∇L + ∇·(Aρ)),   A = ½ηΣ,   W_{k+1} = W_k − η ∇L_B(W_k)",
)

KIND = Kind(SgdNetworkModel, _build, SAMPLED, training=_training, equation=lambda _: _EQUATION)
