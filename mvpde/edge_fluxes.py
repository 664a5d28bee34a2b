"""Edge fluxes F_ij = k_ij ρ_j − k_ji ρ_i = −F_ji: rates, sums and the linear systems of implicit steps, for any coefficients k.

Arrays of coefficients and fluxes have one number for each entry (i, j) of the edge graph of this rank.
"""

from __future__ import annotations

import math

from mvpde.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numba import njit
from numpy.typing import NDArray
from petsc4py import PETSc

from mvpde.runtime import SolverError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_ITERATIONS = 200  # by then LU factors are the better way


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
def add_fluxes(
    offsets: Integers, columns: Integers, inward: Array, outward: Array, density: Array, factor: float, fluxes: Array
) -> None:
    """fluxes_ij += factor · F_ij for each entry."""
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            fluxes[e] += factor * (inward[e] * density[columns[e]] - outward[e] * density[i])


@njit(cache=True)
def _fill(
    offsets: Integers,
    lumped: Array,
    inward: Array,
    outward: Array,
    factor: float,
    place: Integers,
    diagonal: Integers,
    values: Array,
) -> None:
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            values[place[e]] = -factor * inward[e]
            total += outward[e]
        values[diagonal[i]] = lumped[i] + factor * total


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
    """Solves (M + a𝓛)ρ = b for the lumped mass M and −𝓛 the flux operator, by BiCGStab with block-Jacobi ILU(0).

    The matrix is nonsymmetric but close to an M-matrix of moderate condition at the steps that accuracy allows; incomplete
    factors then take about ten iterations, where algebraic multigrid takes many more. For a shift a where they do not converge
    (large steps, A degenerate) and for larger ones MUMPS' sparse LU factors take over; with ``direct`` they do the work from the
    start, which pays where many right sides meet the same matrix. Both are kept until the next `set`. Collective.
    """

    def __init__(self, domain: Domain, *, direct: bool = False) -> None:
        """Lay out the matrix of ``domain``."""
        self._graph, self._layout = domain.graph, EdgeMatrix(domain)
        self._right, self._solution = self._layout.matrix.createVecs()
        self._iterative, self._direct = PETSc.KSP().create(domain.comm), PETSc.KSP().create(domain.comm)
        self._iterative.setType(PETSc.KSP.Type.BCGS)
        self._iterative.setPCSide(PETSc.PC.Side.RIGHT)
        self._iterative.getPC().setType(PETSc.PC.Type.BJACOBI if domain.comm.size > 1 else PETSc.PC.Type.ILU)
        self._iterative.setInitialGuessNonzero(True)
        use_direct_solver(self._direct)
        for solver in (self._iterative, self._direct):
            solver.setOperators(self._layout.matrix)
        self._shift, self._direct_from = math.nan, 0.0 if direct else math.inf
        self.iterations = 0

    def set(self, inward: Array, outward: Array, factor: float) -> None:
        """Fill in M + factor·𝓛 from the edge coefficients."""
        graph, layout = self._graph, self._layout
        _fill(graph.offsets, graph.lumped, inward, outward, factor, layout.place, layout.diagonal, layout.values)
        layout.update()
        self._shift = factor

    def solve(self, right: Array, guess: Array, tolerance: float) -> Array:
        """ρ (owned, local) with ‖b − (M + a𝓛)ρ‖ ≤ tolerance ‖b‖, from b = ``right``.

        Raises:
            SolverError: where neither solver succeeds, on all ranks alike.
        """
        self._right.array[:] = right
        self._solution.array[:] = guess
        if self._shift < self._direct_from and not self._iterate(tolerance):
            self._direct_from = self._shift
        if self._shift >= self._direct_from:
            self._factor_and_solve()
        return self._solution.array.copy()

    def _iterate(self, tolerance: float) -> bool:
        """Whether the iteration met the tolerance."""
        self._iterative.setTolerances(rtol=tolerance, atol=1e-300, max_it=_ITERATIONS)
        self._iterative.solve(self._right, self._solution)
        self.iterations += self._iterative.getIterationNumber()
        reason = self._iterative.getConvergedReason()
        if reason == PETSc.KSP.ConvergedReason.DIVERGED_NANORINF:
            raise SolverError(
                "the linear solver met a number that is not finite; check the model, its data and the domain's size"
            )
        return bool(reason > 0)

    def _factor_and_solve(self) -> None:
        self._direct.setErrorIfNotConverged(True)
        try:
            self._direct.solve(self._right, self._solution)
        except PETSc.Error as error:
            raise SolverError(
                f"neither iteration nor LU factors solved the linear system (PETSc error {error.ierr}: singular matrix, or "
                "too little "
                "memory for the factors); choose a smaller density.step or density.tolerance"
            ) from None


def use_direct_solver(solver: PETSc.KSP) -> None:
    """Let ``solver`` use the LU factors of MUMPS, which distributes them over the ranks."""
    solver.setType(PETSc.KSP.Type.PREONLY)
    solver.getPC().setType(PETSc.PC.Type.LU)
    solver.getPC().setFactorSolverType(PETSc.Mat.SolverType.MUMPS)
