"""Laws between absorbing walls: the quasi-stationary law, the rate of escape, and where and when the walls are met.

The survivors' law tends to the ρ with 𝓛ρ = −λ₀ρ, ∫ρ = 1, of the slowest rate λ₀, at which mass escapes from it (Collet, Martínez
& San Martín, Quasi-Stationary Distributions, 2013). The backward equation with the adjoint generator, b·∇u + A:∇∇u, tells of
single starts: the mean time T to the walls and the probability p to meet one of them first solve

    b·∇T + A:∇∇T = −1, T = 0 on the absorbing walls,        b·∇p + A:∇∇p = 0, p = 1 on the wall and 0 on the others.

On the mesh it is the transpose of the operator of the density, Σ_j k_ji (u_j − u_i) = −m_i: so ∫T dρ_0 is the integral of the
survival of the density, and ∫p dρ_0 its outflow, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix, diags
from scipy.sparse.linalg import eigs, splu

from mvpde.density.density import Density
from mvpde.density.walls.drain import Drain, drain
from mvpde.density.walls.survival import edges
from mvpde.fields import FieldSeries
from mvpde.measure import Array
from mvpde.runtime import SolverError, on_first_rank

Complex = NDArray[np.complex128]

_NEGATIVE = -1e-9  # part of its maximum below which a quasi-stationary law is not positive


@dataclass(frozen=True)
class Exit:
    """Where and when the absorbing walls are met.

    Attributes:
        names: of the walls, such as "x_lower".
        time: T at owned and ghost unknowns (local).
        probability: p of each wall there, shape (walls, owned + ghosts).
        mean_time: ∫T dρ_0.
        mean_probability: ∫p dρ_0 of each wall.
    """

    names: tuple[str, ...]
    time: Array
    probability: Array
    mean_time: float
    mean_probability: dict[str, float]

    def entry(self) -> dict[str, float | dict[str, float]]:
        """For summary.json."""
        return {"mean_time": self.mean_time, "probability": self.mean_probability}

    def write(self, domain: Domain, folder: Path, coordinates: tuple[str, ...]) -> None:
        """Fields for ParaView, `exit.xdmf`: `mean_time` and `probability_<wall>`. Collective."""
        mesh = domain.mesh_arrays()
        fields = {"mean_time": self.time}
        fields |= {f"probability_{name}": p for name, p in zip(self.names, self.probability, strict=True)}
        there = {name: domain.to_mesh(np.ascontiguousarray(values)) for name, values in fields.items()}

        def store() -> None:
            assert mesh is not None
            series = FieldSeries(folder / "exit", "exit")
            series.write_mesh(*mesh, coordinates)
            series.append_on_mesh(0.0, {name: values for name, values in there.items() if values is not None})

        on_first_rank(domain.comm, store)


@dataclass(frozen=True)
class Whole:
    """The operator of a density between absorbing walls, on one rank: Mρ' = Kρ, over the unknowns inside.

    Attributes:
        operator: K.
        masses: M.
        sources: the rate out to each wall, shape (walls, inside).
        inside: numbers of these unknowns among all.
        count: of all unknowns.
    """

    operator: csr_matrix
    masses: Array
    sources: Array
    inside: NDArray[np.int64]
    count: int


def exits_of(density: object) -> Exit | None:
    """Those from the present law of a density; None where no wall absorbs, or the equation does not stay. Collective.

    Raises:
        SolverError: as `exits`.
    """
    if not isinstance(density, Density) or drain(density.domain, density.model) is None:
        return None
    if density.model.interacting or not density.model.still or density.domain.parts:
        return None
    return exits(density, density.values)


def exits(density: Density, start: Array) -> Exit:
    """Mean time and probabilities of the exit, as fields and from the law ``start`` (owned + ghosts). Collective.

    Raises:
        SolverError: where no wall is ever met. ValueError: there is no absorbing wall.
    """
    domain, walls = density.domain, _walls(density)
    whole = _whole(density, walls)

    def solved() -> Array:
        assert whole is not None
        try:
            factors = splu(csc_matrix(whole.operator.T))
            right = np.column_stack([-whole.masses, *(-source for source in whole.sources)])
            found = factors.solve(right)
        except RuntimeError as error:
            raise SolverError(f"the absorbing walls are not met from everywhere ({error})", "exit") from None
        if not np.isfinite(found).all():
            raise SolverError("the absorbing walls are not met from everywhere", "exit")
        every = np.zeros((1 + len(walls.names), whole.count))
        every[:, whole.inside] = found.T
        return every

    every = np.asarray(on_first_rank(domain.comm, solved))
    local = every[:, domain.unknowns]
    for number in range(len(walls.names)):
        local[1 + number, walls.wall == number] = 1.0
    masses = domain.graph.lumped * start[: domain.owned]
    means = domain.sum(local[:, : domain.owned] @ masses)
    probabilities = dict(zip(walls.names, map(float, means[1:]), strict=True))
    return Exit(walls.names, local[0], local[1:], float(means[0]), probabilities)


def killed(density: Density, modes: int) -> tuple[Complex, Complex]:
    """λ₀ ≤ λ₁, … of −𝓛 with absorbing walls, and the modes at owned unknowns (local), the first one ≥ 0 of mass 1. Collective.

    Raises:
        SolverError: the iteration does not converge, or the first mode is not positive: the mesh is too coarse.
    """
    domain, walls = density.domain, _walls(density)
    whole = _whole(density, walls)

    def found() -> tuple[Complex, Complex]:
        assert whole is not None
        count = min(modes, len(whole.masses) - 2)
        try:
            values, vectors = eigs(-whole.operator, count, diags(whole.masses), sigma=0.0, v0=np.ones(len(whole.masses)))
        except (RuntimeError, ArithmeticError) as error:
            raise SolverError(f"no mode between absorbing walls converged ({error})", "stationary") from None
        order = np.lexsort((values.imag, values.real))
        every = np.zeros((count, whole.count), complex)
        every[:, whole.inside] = vectors[:, order].T
        first = every[0].real * np.sign(every[0].real.sum())
        if first.min() < _NEGATIVE * first.max():
            raise SolverError("the quasi-stationary law is not positive; refine the mesh", "stationary")
        every[0] = np.maximum(first, 0.0)
        return values[order], every

    values, every = on_first_rank(domain.comm, found)
    mine = every[:, domain.unknowns[: domain.owned]]
    sizes = domain.sum(np.abs(mine) @ domain.graph.lumped)
    return values, mine / sizes[:, None]


def _walls(density: Density) -> Drain:
    walls = drain(density.domain, density.model)
    if walls is None:
        raise ValueError("no wall of the model absorbs")
    return walls


def _whole(density: Density, walls: Drain) -> Whole | None:
    """The operator on rank 0, None elsewhere. Collective."""
    domain = density.domain
    inward, outward = edges(domain, density.features, density.moments()[0], density.time)
    return _gathered(domain, walls, inward, outward)


def _gathered(domain: Domain, walls: Drain, inward: Array, outward: Array) -> Whole | None:
    row, numbers = domain.graph.rows(), domain.unknowns
    entries = np.column_stack([numbers[row], numbers[domain.graph.columns], walls.wall[row], walls.wall[domain.graph.columns]])
    owned = domain.owned
    pieces = domain.comm.gather((entries, inward, outward, domain.graph.lumped, numbers[:owned], walls.wall[:owned]))
    if pieces is None:
        return None
    index = np.concatenate([piece[0] for piece in pieces])
    into, out = (np.concatenate([piece[k] for piece in pieces]) for k in (1, 2))
    count = sum(len(piece[3]) for piece in pieces)
    masses, wall = np.empty(count), np.empty(count, np.int64)
    for piece in pieces:
        masses[piece[4]], wall[piece[4]] = piece[3], piece[5]
    rows, columns, at_row, at_column = index.T
    loss = np.bincount(rows, weights=out, minlength=count)
    both = (at_row < 0) & (at_column < 0)
    inside = np.flatnonzero(wall < 0)
    place = np.full(count, -1)
    place[inside] = np.arange(len(inside))
    matrix = csr_matrix((into[both], (place[rows[both]], place[columns[both]])), shape=(len(inside), len(inside)))
    sources = np.zeros((len(walls.names), len(inside)))
    leaving = (at_row < 0) & (at_column >= 0)
    np.add.at(sources, (at_column[leaving], place[rows[leaving]]), out[leaving])
    return Whole(csr_matrix(matrix - diags(loss[inside])), masses[inside], sources, inside, count)
