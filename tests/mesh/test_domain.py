"""Laws of the edge graph: it is a mesh's Laplacian and mass, whatever the ranks and the identified faces."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.mesh.box import box
from mvpde.mesh.domain import Domain
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.runtime import MPI, ArgumentError

pytestmark = pytest.mark.ranks

BOXES = [
    ([0.0], [2.0], [7], [False]),
    ([0.0], [2.0], [7], [True]),
    ([-1.0, 0.0], [1.0, 3.0], [6, 5], [False, False]),
    ([-1.0, 0.0], [1.0, 3.0], [6, 5], [True, False]),
    ([-1.0, 0.0], [1.0, 3.0], [6, 5], [True, True]),
    ([0.0, 0.0, 0.0], [1.0, 2.0, 1.0], [4, 3, 5], [False, False, False]),
    ([0.0, 0.0, 0.0], [1.0, 2.0, 1.0], [4, 3, 5], [True, False, True]),
]


def rows(domain: Domain) -> np.ndarray:
    return np.repeat(np.arange(domain.owned), np.diff(domain.graph.offsets))


@pytest.mark.parametrize(("lower", "upper", "cells", "periodic"), BOXES)
def test_counts_volume_and_signs(
    comm: MPI.Intracomm, lower: list[float], upper: list[float], cells: list[int], periodic: list[bool]
) -> None:
    domain = box(lower, upper, cells, periodic, comm=comm)
    assert domain.nodes == np.prod([n if p else n + 1 for n, p in zip(cells, periodic, strict=True)])
    volume = float(np.prod(np.subtract(upper, lower)))
    assert domain.sum(np.array([domain.graph.lumped.sum()]))[0] == pytest.approx(volume, rel=1e-13)
    assert domain.graph.stiffness.min(initial=0.0) >= 0.0  # no obtuse angles
    assert np.all(domain.graph.mass > 0.0)
    walls = np.prod([n if p else n + 1 for n, p in zip(cells, periodic, strict=True)]) - np.prod(
        [n if p else n - 1 for n, p in zip(cells, periodic, strict=True)]
    )
    assert comm.allreduce(int(domain.boundary.sum())) == walls


@pytest.mark.parametrize(("lower", "upper", "cells", "periodic"), BOXES)
def test_linear_functions_are_harmonic_inside(
    comm: MPI.Intracomm, lower: list[float], upper: list[float], cells: list[int], periodic: list[bool]
) -> None:
    """Σ_j s_ij (u_j − u_i) = 0 for linear u at every unknown off the walls and off the seam of a periodic direction."""
    domain = box(lower, upper, cells, periodic, comm=comm)
    graph, z, row = domain.graph, domain.coordinates, rows(domain)
    for k in range(domain.dimension):
        width = (upper[k] - lower[k]) / cells[k]
        flux = np.bincount(row, weights=graph.stiffness * (z[graph.columns, k] - z[row, k]), minlength=domain.owned)
        seam = np.zeros(domain.owned, bool)
        if periodic[k]:
            seam = np.minimum(z[: domain.owned, k] - lower[k], upper[k] - z[: domain.owned, k]) < 1.5 * width
        inside = ~seam & ~domain.boundary
        assert comm.allreduce(int(inside.sum())) > 0
        assert np.abs(flux[inside]).max(initial=0.0) < 1e-12


def test_periodic_laplacian_has_its_eigenvalue(comm: MPI.Intracomm) -> None:
    """On a circle of n cells cos 2πx/L is an eigenvector to (2 − 2cos 2π/n)/h², also across the seam."""
    n, length = 12, 3.0
    domain = box([1.0], [1.0 + length], [n], [True], comm=comm)
    u = np.cos(2.0 * np.pi * domain.coordinates[:, 0] / length)
    row, graph = rows(domain), domain.graph
    image = np.bincount(row, weights=graph.stiffness * (u[graph.columns] - u[row]), minlength=domain.owned) / graph.lumped
    eigenvalue = (2.0 - 2.0 * np.cos(2.0 * np.pi / n)) / (length / n) ** 2
    assert np.allclose(image, -eigenvalue * u[: domain.owned], atol=1e-11)


@pytest.mark.parametrize(("lower", "upper", "cells", "periodic"), BOXES)
def test_mesh_order_is_that_of_one_rank(
    comm: MPI.Intracomm, lower: list[float], upper: list[float], cells: list[int], periodic: list[bool]
) -> None:
    """Points, cells and gathered values in mesh-input order do not depend on the ranks; seams carry their partner's value."""
    domain, alone = box(lower, upper, cells, periodic, comm=comm), box(lower, upper, cells, periodic, comm=MPI.COMM_SELF)

    def wave(d: Domain) -> np.ndarray:
        phase = np.zeros(d.owned)
        for k, period in enumerate(d.periods):
            x = d.coordinates[: d.owned, k] - d.lower[k]
            phase += (k + 1) * (np.cos(2.0 * np.pi * x / period) if period else x)
        return phase

    values, arrays = domain.to_mesh(wave(domain)), domain.mesh_arrays()
    expected, (points, cells_alone) = alone.to_mesh(wave(alone)), alone.mesh_arrays()
    if comm.rank == 0:
        assert np.array_equal(arrays[0], points)
        assert {frozenset(c) for c in arrays[1].tolist()} == {frozenset(c) for c in cells_alone.tolist()}
        assert np.allclose(values, expected, atol=1e-13)
        directly = sum(
            (k + 1) * (np.cos(2.0 * np.pi * (points[:, k] - lower[k]) / p) if p else points[:, k] - lower[k])
            for k, p in enumerate(domain.periods)
        )
        assert np.allclose(values, directly, atol=1e-12)
    else:
        assert values is None
        assert arrays is None


def test_loads_integrate_polynomials(comm: MPI.Intracomm) -> None:
    domain = box([0.0, 0.0], [2.0, 1.0], [5, 4], [True, False], comm=comm)
    loads = integrate_against_basis(domain, lambda z: 1.0 + 0.1 * z[:, 1] ** 2)
    y = domain.coordinates[: domain.owned, 1]
    assert domain.sum(np.array([loads.sum()]))[0] == pytest.approx(2.0 + 0.2 / 3.0, rel=1e-13)
    assert domain.sum(np.array([loads @ y]))[0] == pytest.approx(1.0 + 0.05, rel=1e-13)  # φ_i add up to linear functions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.0], [1.0], [0], [False]), "cells"),
        (([0.0], [1.0], [2], [True]), "cells"),
        (([1.0], [1.0], [4], [False]), "upper"),
        (([0.0] * 4, [1.0] * 4, [2] * 4, [False] * 4), "1 to 3 directions"),
        (([0.0], [1.0, 2.0], [4], [False]), "one entry per direction"),
    ],
)
def test_boxes_that_are_none(comm: MPI.Intracomm, arguments: tuple[list[float], ...], words: str) -> None:
    with pytest.raises(ArgumentError, match=words) as error:
        box(*arguments, comm=comm)  # type: ignore[arg-type]
    assert "[domain]" not in str(error.value)  # there is no case file
