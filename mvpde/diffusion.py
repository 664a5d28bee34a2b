"""The edge-averaged (Scharfetter–Gummel) operator on the edge graph, and its linear algebra.

For ∂_tρ = ∇·(ρ∇V + τ∇ρ), τ > 0, with V piecewise linear, exponential fitting along the edges (Scharfetter & Gummel 1969; Xu &
Zikatanov 1999) gives the flux into i from j

    F_ij = s_ij τ [ B(x) ρ_j − B(−x) ρ_i ],      x = (V_i − V_j)/τ,   B(x) = x/(eˣ − 1).

It vanishes exactly for ρ ∝ e^{−V/τ}, its sign is that of the difference of ρe^{V/τ}, so the discrete free energy cannot rise, and where
s_ij ≥ 0 the implicit matrix is an M-matrix. An edge with s_ij < 0 (obtuse angles; none on boxes) would take mass from empty nodes:
the *positive* operator replaces its coefficients sτB(±x) by themselves + |s|τ max(B(x), B(−x)).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mvpde.domain import Domain
from mvpde.runtime import SolverError

from petsc4py import PETSc

Array = NDArray[np.float64]
Integers = NDArray[np.int32]


@njit(cache=True, inline="always")
def bernoulli(x: float) -> float:
    """B(x) = x/(eˣ − 1), B(0) = 1: positive, decreasing, B(−x) = B(x) + x."""
    if abs(x) < 1e-5:
        return 1.0 - 0.5 * x + x * x / 12.0
    if x > 700.0:
        return 0.0
    return x / math.expm1(x)


@njit(cache=True)
def coefficients(
    offsets: Integers, columns: Integers, stiffness: Array, potential: Array, temperature: float, positive: bool, inward: Array, outward: Array
) -> None:
    """For each entry (i, j): ``inward`` k_ij = sτB(x) and ``outward`` k_ji = sτB(−x), so that F_ij = k_ij ρ_j − k_ji ρ_i."""
    for i in range(offsets.size - 1):
        v_i = potential[i]
        for e in range(offsets[i], offsets[i + 1]):
            x = (v_i - potential[columns[e]]) / temperature
            # B of the positive argument first: it is small and exact; B(−|x|) = B(|x|) + |x| adds numbers of one sign
            small = bernoulli(abs(x))
            large = small + abs(x)
            conduction = stiffness[e] * temperature
            if conduction < 0.0 and positive:
                inward[e] = conduction * (small - large if x > 0.0 else 0.0)
                outward[e] = conduction * (0.0 if x > 0.0 else small - large)
            else:
                inward[e] = conduction * (small if x > 0.0 else large)
                outward[e] = conduction * (large if x > 0.0 else small)


@njit(cache=True)
def rate(offsets: Integers, columns: Integers, lumped: Array, inward: Array, outward: Array, density: Array, result: Array) -> None:
    """dρ_i/dt = Σ_j F_ij / m_i on owned rows into ``result``; ``density`` holds ghosts."""
    for i in range(lumped.size):
        total = 0.0
        for e in range(offsets[i], offsets[i + 1]):
            total += inward[e] * density[columns[e]] - outward[e] * density[i]
        result[i] = total / lumped[i]


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


