"""Edge fluxes F_ij = k_ij ρ_j − k_ji ρ_i = −F_ji: rates, sums and the linear systems of implicit steps, for any coefficients k.

Arrays of coefficients and fluxes have one number for each entry (i, j) of the edge graph of this rank.
"""

from __future__ import annotations

import math

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numba import njit
from numpy.typing import NDArray
from petsc4py import PETSc

from mvpde.density.krylov import KrylovSystem
from mvpde.runtime import SolverError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_LEVEL = {1: (1, 1), 2: (2, 3), 3: (0, 0)}  # of fill, by the dimension: for a new matrix in each step, for one that stays
_ITERATIONS = {1: 60, 2: 60, 3: 200}  # in one solve, or in many slow ones with one matrix: LU factors are cheaper then
_SLOW = 12  # iterations in a solve


@njit(cache=True)
def rate(
    offsets: Integers, columns: Integers, lumped: Array, inward: Array, outward: Array, density: Array, result: Array
) -> None:
    """dρ_i/dt = Σ_j F_ij / m_i on owned rows into ``result``; ``density`` holds ghosts."""
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += inward[e] * density[columns[e]] - outward[e] * density[i]
        result[i] = total / lumped[i]


@njit(cache=True)
def make_positive(offsets: Integers, columns: Integers, cut: Array, inward: Array, outward: Array) -> None:
    """Discrete upwinding, in full of edges with an end where ``cut`` is 1 (owned + ghosts), in part where it is less.

    Adds max(c_i, c_j) d_ij, d_ij = max(0, −k_ij, −k_ji), to both coefficients; F_ij gains as much times ρ_j − ρ_i.
    """
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            d = max(cut[i], cut[columns[e]]) * max(0.0, -inward[e], -outward[e])
            inward[e] += d
            outward[e] += d


@njit(cache=True)
def antidiffusive_fluxes(
    offsets: Integers,
    columns: Integers,
    inward_1: Array,
    outward_1: Array,
    y1: Array,
    inward_2: Array,
    outward_2: Array,
    y2: Array,
    gamma: float,
    low_inward: Array,
    low_outward: Array,
    low: Array,
    length: float,
    fluxes: Array,
) -> float:
    """Fluxes of a step, h[(1 − γ)F(Y₁) + γF(Y₂)], less those of an implicit Euler step Y with its own coefficients.

    Returns what they would be against Y's with upwinding at every edge, in the sum of absolute values over the entries.
    """
    offered = 0.0
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            high = (1.0 - gamma) * (inward_1[e] * y1[j] - outward_1[e] * y1[i])
            high += gamma * (inward_2[e] * y2[j] - outward_2[e] * y2[i])
            fluxes[e] = length * (high - low_inward[e] * low[j] + low_outward[e] * low[i])
            d = max(0.0, -low_inward[e], -low_outward[e])
            offered += abs(fluxes[e] - length * d * (low[j] - low[i]))
    return offered


@njit(cache=True)
def _fill(
    offsets: Integers,
    lumped: Array,
    inward: Array,
    outward: Array,
    factor: float,
    values: Array,
    diagonal: Array,
) -> None:
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            values[e] = -factor * inward[e]
            total += outward[e]
        diagonal[i] = lumped[i] + factor * total


class EdgeMatrix:
    """A sparse matrix with the pattern of a domain's edge graph and diagonal, to be filled in again and again. Collective.

    Attributes:
        matrix: the PETSc matrix.
        place, diagonal: where in ``values`` the entries of the graph and the diagonal go.
        values: the numbers of this rank's rows.
    """

    def __init__(self, domain: Domain) -> None:
        """Lay out the matrix of ``domain``."""
        graph, owned = domain.graph, domain.owned
        counts = np.diff(graph.offsets)
        row = np.concatenate([np.repeat(np.arange(owned), counts), np.arange(owned)])
        column = np.concatenate([domain.unknowns[graph.columns], np.arange(domain.first, domain.first + owned)])
        order = np.lexsort((column, row))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        self.place, self.diagonal = place[: len(graph.columns)], place[len(graph.columns) :]
        self.values = np.zeros(len(order))
        self._offsets = np.concatenate([[0], np.cumsum(counts + 1)]).astype(PETSc.IntType)
        self._columns = column[order].astype(PETSc.IntType)
        size = (owned, None)
        self.matrix = PETSc.Mat().createAIJ((size, size), csr=(self._offsets, self._columns, self.values), comm=domain.comm)

    def update(self) -> None:
        """Bring ``values`` into the matrix."""
        self.matrix.setValuesCSR(self._offsets, self._columns, self.values)
        self.matrix.assemble()


class ShiftedSystem:
    """Solves (M + a𝓛)ρ = b for the lumped mass M and −𝓛 the flux operator, by BiCGStab with incomplete LU factors.

    The matrix is nonsymmetric but close to an M-matrix of moderate condition at the steps that accuracy allows. Incomplete
    factors (fill of level 2 or 3 in 2-D) then take four to ten iterations, on several ranks as on one; a new matrix costs about
    as much as two solves. Where they do not converge (long steps, A degenerate) MUMPS' sparse LU factors take over, for this
    shift a and larger ones; where many slow solves meet one matrix, for that. Collective.
    """

    def __init__(self, domain: Domain, *, stays: bool = False, direct: bool = False) -> None:
        """For matrices on the edge graph of ``domain``.

        ``stays``: many right sides meet one matrix, which is worth better factors. ``direct``: complete ones do all the work.
        """
        entries, dimension = len(domain.graph.columns), domain.dimension
        self._domain, self._level, self._limit = domain, _LEVEL[dimension][stays], _ITERATIONS[dimension]
        self._values, self._mirrored, self._diagonal = np.zeros(entries), np.zeros(0), np.zeros(domain.owned)  # A_ij, A_ji, A_ii
        self._krylov: KrylovSystem | None = None
        self._complete: CompleteFactors | None = None
        self._shift, self._complete_from = math.nan, 0.0 if direct else math.inf
        self._spent, self._solves, self._is_new = 0, 0, {"krylov": True, "complete": True}

    @property
    def iterations(self) -> int:
        """Iterations so far."""
        return 0 if self._krylov is None else self._krylov.iterations

    def set(self, inward: Array, outward: Array, factor: float) -> None:
        """Fill in M + factor·𝓛 from the edge coefficients."""
        graph = self._domain.graph
        _fill(graph.offsets, graph.lumped, inward, outward, factor, self._values, self._diagonal)
        if factor < self._complete_from:
            if self._krylov is None:
                self._krylov = KrylovSystem(self._domain, self._level)
            self._mirrored = -factor * outward[self._krylov.mirrored]
        self._shift, self._spent, self._solves, self._is_new = factor, 0, 0, {"krylov": True, "complete": True}

    def solve(self, right: Array, guess: Array, tolerance: float) -> Array:
        """ρ (owned, local) with ‖b − (M + a𝓛)ρ‖ ≤ tolerance ‖b‖, from b = ``right``.

        Raises:
            SolverError: where neither solver succeeds, on all ranks alike.
        """
        slow = self._spent > max(_SLOW * self._solves, self._limit)
        if self._krylov is not None and self._shift < self._complete_from and not slow:
            solution = self._iterate(self._krylov, right, guess, tolerance)
            if solution is not None:
                return solution
            self._complete_from = self._shift
        if self._complete is None:
            self._complete = CompleteFactors(self._domain)
        if self._is_new["complete"]:
            self._complete.set(self._values, self._diagonal)
            self._is_new["complete"] = False
        return self._complete.solve(right)

    def _iterate(self, krylov: KrylovSystem, right: Array, guess: Array, tolerance: float) -> Array | None:
        """The solution if the iteration meets the tolerance."""
        if self._is_new["krylov"]:
            krylov.set(self._values, self._mirrored, self._diagonal)
            self._is_new["krylov"] = False
        before = krylov.iterations
        try:
            solution = krylov.solve(right, guess, tolerance, self._limit)
        except FloatingPointError:
            raise SolverError(
                "the linear solver met a number that is not finite; check the model, its data and the domain's size"
            ) from None
        self._spent, self._solves = self._spent + krylov.iterations - before, self._solves + 1
        return solution


class CompleteFactors:
    """Sparse LU factors of a matrix on the edge graph by MUMPS, which distributes them over the ranks. Collective."""

    def __init__(self, domain: Domain) -> None:
        """Lay out the matrix of ``domain``."""
        self._layout = EdgeMatrix(domain)
        self._right, self._solution = self._layout.matrix.createVecs()
        self._solver = PETSc.KSP().create(domain.comm)
        use_direct_solver(self._solver)
        self._solver.setErrorIfNotConverged(True)
        self._solver.setOperators(self._layout.matrix)

    def set(self, values: Array, diagonal: Array) -> None:
        """The matrix with A_ij at the entries (i, j) of the graph, and A_ii; it is factored by the next solve."""
        layout = self._layout
        layout.values[layout.place], layout.values[layout.diagonal] = values, diagonal
        layout.update()

    def solve(self, right: Array) -> Array:
        """A⁻¹b (owned, local).

        Raises:
            SolverError: on all ranks alike.
        """
        self._right.array[:] = right
        try:
            self._solver.solve(self._right, self._solution)
        except PETSc.Error as error:
            raise SolverError(
                f"neither iteration nor LU factors solved the linear system (PETSc error {error.ierr}: singular matrix, or too "
                "little memory for the factors); choose a smaller density.step or density.tolerance"
            ) from None
        return self._solution.array.copy()


def use_direct_solver(solver: PETSc.KSP) -> None:
    """Let ``solver`` use the LU factors of MUMPS, which distributes them over the ranks."""
    solver.setType(PETSc.KSP.Type.PREONLY)
    solver.getPC().setType(PETSc.PC.Type.LU)
    solver.getPC().setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
