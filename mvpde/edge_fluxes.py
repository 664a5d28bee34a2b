"""Edge fluxes F_ij = k_ij ρ_j − k_ji ρ_i = −F_ji: rates, sums and the linear systems of implicit steps, for any coefficients k.

Arrays of coefficients and fluxes have one number for each entry (i, j) of the edge graph of this rank.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.domain import Domain
from mvpde.runtime import SolverError

from petsc4py import PETSc

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


@njit(cache=True)
def rate(offsets: Integers, columns: Integers, lumped: Array, inward: Array, outward: Array, density: Array, result: Array) -> None:
    """dρ_i/dt = Σ_j F_ij / m_i on owned rows into ``result``; ``density`` holds ghosts."""
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += inward[e] * density[columns[e]] - outward[e] * density[i]
        result[i] = total / lumped[i]


@njit(cache=True)
def make_positive(inward: Array, outward: Array) -> None:
    """Discrete upwinding: add d_ij = max(0, −k_ij, −k_ji) to both coefficients of each entry; F_ij gains d_ij(ρ_j − ρ_i)."""
    for e in range(inward.size):
        d = max(0.0, -inward[e], -outward[e])
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
    offsets: Integers, lumped: Array, inward: Array, outward: Array, factor: float, place: Integers, diagonal: Integers, values: Array
) -> None:
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            values[place[e]] = -factor * inward[e]
            total += outward[e]
        values[diagonal[i]] = lumped[i] + factor * total


class ShiftedSystem:
    """Solves (M + a𝓛)ρ = b for the lumped mass M and −𝓛 the flux operator, by BiCGStab with block-Jacobi ILU(0).

    The matrix is nonsymmetric but close to an M-matrix of moderate condition at the steps that accuracy allows; incomplete factors
    then take about ten iterations, where algebraic multigrid takes many more. Collective.
    """

    def __init__(self, domain: Domain) -> None:
        """Lay out the matrix of ``domain``."""
        graph, owned, comm = domain.graph, domain.owned, domain.comm
        counts = np.diff(graph.offsets)
        row = np.concatenate([np.repeat(np.arange(owned), counts), np.arange(owned)])
        column = np.concatenate([domain.unknowns[graph.columns], np.arange(domain.first, domain.first + owned)])
        order = np.lexsort((column, row))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        self._graph = graph
        self._place, self._diagonal = place[: len(graph.columns)], place[len(graph.columns) :]
        self._offsets = np.concatenate([[0], np.cumsum(counts + 1)]).astype(PETSc.IntType)
        self._columns = column[order].astype(PETSc.IntType)
        self._values = np.zeros(len(order))
        size = (owned, None)
        self._matrix = PETSc.Mat().createAIJ((size, size), csr=(self._offsets, self._columns, self._values), comm=comm)
        self._right, self._solution = self._matrix.createVecs()
        self._solver = PETSc.KSP().create(comm)
        self._solver.setType(PETSc.KSP.Type.BCGS)
        self._solver.setPCSide(PETSc.PC.Side.RIGHT)
        self._solver.getPC().setType(PETSc.PC.Type.BJACOBI if comm.size > 1 else PETSc.PC.Type.ILU)
        self._solver.setInitialGuessNonzero(True)
        self._solver.setErrorIfNotConverged(True)
        self._solver.setOperators(self._matrix)
        self.iterations = 0

    def set(self, inward: Array, outward: Array, factor: float) -> None:
        """Fill in M + factor·𝓛 from the edge coefficients."""
        _fill(self._graph.offsets, self._graph.lumped, inward, outward, factor, self._place, self._diagonal, self._values)
        self._matrix.setValuesCSR(self._offsets, self._columns, self._values)
        self._matrix.assemble()

    def solve(self, right: Array, guess: Array, tolerance: float) -> Array:
        """ρ (owned, local) with ‖b − (M + a𝓛)ρ‖ ≤ tolerance ‖b‖, from b = ``right``.

        Raises:
            SolverError: where the iteration does not converge, on all ranks alike.
        """
        self._right.array[:] = right
        self._solution.array[:] = guess
        self._solver.setTolerances(rtol=tolerance, atol=1e-300, max_it=500)
        try:
            self._solver.solve(self._right, self._solution)
        except PETSc.Error as error:
            raise SolverError(
                f"the linear solver stopped after {self._solver.getIterationNumber()} iterations "
                f"({self._solver.getConvergedReason()}, PETSc error {error.ierr}); choose a smaller density.step or density.tolerance"
            ) from None
        self.iterations += self._solver.getIterationNumber()
        return self._solution.array.copy()


