"""What a law becomes on the mesh of a layer, the same for all labels."""

from __future__ import annotations

import numpy as np

from mvpde.density.density import Density
from mvpde.mesh.domain import Domain
from mvpde.models.deep.units import Array, DeepLayer
from mvpde.models.laws import Product
from mvpde.models.mean_field import from_features


def projected(layer: DeepLayer, mesh: Domain, law: Product) -> tuple[Array, float]:
    """Nodal values of one law on one mesh, and the share of it that the mesh holds. Collective."""
    still = from_features(
        layer.trained,
        features=lambda z: np.zeros((len(z), 1)),
        gradients=lambda z: np.zeros((len(z), 1, z.shape[1])),
        outer_energy=lambda m: m.sum(axis=-1),
        outer_gradient=np.zeros_like,
    )
    density = Density(still, mesh, law)
    return density.values, density.mass_inside
