"""Coefficients of a case where its density will use them: at the nodes of the box, as far as the coefficients exist there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mvpde.cases.meshes.walls import moments_at_start
from mvpde.cases.schema import CaseSections
from mvpde.models.laws import Law
from mvpde.models.mean_field import MeanField
from mvpde.models.walls.box import BoxWalls
from mvpde.runtime import CaseError

Array = NDArray[np.float64]

_ROWS = 65536  # nodes in work at once
_MOST = 4_000_000  # nodes that are looked at; of more, every other one in each direction
_NEGATIVE = 1e-10  # part of the largest entry of A below which an eigenvalue is not negative


def check_coefficients(sections: CaseSections, model: MeanField, law: Law) -> None:
    """Refuse what is no finite number, or no diffusion tensor, at a node of the box.

    Raises:
        CaseError: naming the key and the place.
    """
    domain, walls = sections.domain, model.walls
    if sections.density is None or domain is None or domain.cells is None or walls is None:
        return
    m = moments_at_start(model, law)
    for z in _nodes(walls, domain.cells, model.dimension):
        with np.errstate(all="ignore"):
            _check_finite(model, z, m)
            if model.own_diffusion is not None:
                _check_tensor(model, z, m)


def _nodes(walls: BoxWalls, cells: Sequence[int], dimension: int) -> Iterator[Array]:
    """The nodes, those on a wall where a coefficient does not exist half a cell inside, in pieces; frozen coordinates are 0."""
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(walls.lower, walls.upper, cells, strict=True)]
    for face in walls.singular:
        axes[face.axis][-face.side] += face.inwards * 0.5 * walls.width(face.axis) / cells[face.axis]
    while np.prod([len(places) for places in axes]) > _MOST:
        axes = [places[::2] for places in axes]
    shape = tuple(len(places) for places in axes)
    count = int(np.prod(shape))
    for start in range(0, count, _ROWS):
        where = np.unravel_index(np.arange(start, min(count, start + _ROWS)), shape)
        z = np.zeros((len(where[0]), dimension))
        z[:, : len(axes)] = np.column_stack([places[index] for places, index in zip(axes, where, strict=True)])
        yield z


def _check_finite(model: MeanField, z: Array, m: Array) -> None:
    known: dict[str, Array] = {}
    if model.own_drift is not None:
        known["drift"] = model.drift(z, m)
    else:
        known |= {"potential": model.external_potential(z), "potential (its gradient)": model.external_gradient(z)}
    if model.own_diffusion is not None:
        known["diffusion"] = model.diffusion(z, m)
    for key, values in known.items():
        wrong = np.flatnonzero(~np.isfinite(values.reshape(len(z), -1)).all(axis=1))
        if len(wrong):
            raise CaseError(
                f"[model] {key}: is not a finite number at {_place(model, z[wrong[0]])}, a node of the mesh; change the "
                "expression, or [domain] lower, upper so that this place is outside or on a wall"
            )


def _check_tensor(model: MeanField, z: Array, m: Array) -> None:
    a = model.diffusion(z, m)
    least = np.linalg.eigvalsh(0.5 * (a + a.swapaxes(1, 2)))[:, 0]
    worst = int(np.argmin(least))
    if least[worst] < -_NEGATIVE * np.abs(a).max():
        raise CaseError(
            f"[model] diffusion: A has the negative eigenvalue {least[worst]:.3g} at {_place(model, z[worst])}; a diffusion "
            "tensor must be positive semidefinite: change the expression, or [domain] lower, upper"
        )


def _place(model: MeanField, z: Array) -> str:
    return ", ".join(f"{name} = {x:.4g}" for name, x in zip(model.coordinates, z, strict=True))
