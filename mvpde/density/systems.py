"""The linear systems of the package, on the edge graph of a domain: PETSc's Krylov solvers, with an options prefix for each use.

    -density_      implicit steps, (M + a𝓛)ρ = b; `[density] solver` of a case gives the same options, without the prefix
    -stationary_   null vectors: M + a𝓛 with a long against everything that decays
    -spectrum_     shifted inverses of an eigenvalue problem

The defaults below stand where neither PETSC_OPTIONS nor the case says otherwise; who chooses a `ksp_type` or `pc_type` chooses
all that belongs to it. Whatever is chosen, ‖b − Aρ‖ ≤ tolerance ‖b‖ holds for the true residual in the end, or `-density_long_`
and `-density_last_` have their turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numba import njit
from numpy.typing import NDArray
from petsc4py import PETSc

from mvpde.density.schemes import SolverOptions
from mvpde.mesh.failures import as_solver_error
from mvpde.runtime import ArgumentError, SolverError

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

_RESTARTS = 5  # where the residual of the recursion has left the true one, or the recursion breaks down
_SLOW = 12  # iterations in each of many solves with one matrix: another solver's set-up is cheaper then
_TIRED = 8  # more iterations than with factors of the matrix itself: these are cheaper then
_BICGSTAB: SolverOptions = {"ksp_type": "bcgs", "ksp_pc_side": "right", "ksp_norm_type": "unpreconditioned"}
_LEVEL = {1: (1, 1), 2: (2, 3), 3: (0, 0)}  # of fill, by the dimension: for a new matrix in each step, for one that stays
_ITERATIONS = {1: 60, 2: 60, 3: 200}
_HOPELESS = (PETSc.KSP.ConvergedReason.DIVERGED_MAX_IT, PETSc.KSP.ConvergedReason.DIVERGED_PCSETUP_FAILED)
_OVERLAP = {1: 3, 2: 3, 3: 1}  # layers of unknowns that the blocks of different ranks share


@dataclass(frozen=True)
class Attempt:
    """A solver that is tried in its turn.

    Attributes:
        prefix: of its PETSc options.
        defaults: options that hold where nobody says otherwise.
        asked: options that go before the defaults, from a case or a script.
        front: whether unknowns are numbered along the diagonal of the box, for incomplete factors.
    """

    prefix: str
    defaults: SolverOptions
    asked: SolverOptions = field(default_factory=dict)
    front: bool = False


def for_steps(domain: Domain, *, stays: bool, tensor: bool, asked: SolverOptions | None = None) -> tuple[Attempt, ...]:
    """Solvers of implicit steps: incomplete factors, multigrid for long steps, complete factors.

    Incomplete factors of these (nearly) M-matrices take four to ten iterations of BiCGStab. They act locally and keep signs, so
    that where ρ and b are almost nothing the residual stays almost nothing too. On several ranks the blocks overlap (additive
    Schwarz), without which they take twice as many. On box meshes, whose edges run along the axes and a diagonal, no edge lies
    in a front across that diagonal: with that order of elimination incomplete factors of an anisotropic operator take half the
    iterations. On one rank those of an isotropic one take fewer in the mesh's own order.

    Args:
        domain: where.
        stays: many right sides meet one matrix, which is worth better factors.
        tensor: the diffusion has principal directions.
        asked: options of the first solver.
    """
    level, limit = _LEVEL[domain.dimension][stays], _ITERATIONS[domain.dimension]
    factors: SolverOptions = {"pc_type": "ilu", "pc_factor_levels": level, "pc_factor_mat_ordering_type": "natural"}
    if domain.comm.size > 1:
        blocks = {f"sub_{name}": value for name, value in factors.items()}
        factors = {"pc_type": "asm", "pc_asm_overlap": _OVERLAP[domain.dimension], **blocks}
    local = Attempt("density_", {**_BICGSTAB, "ksp_max_it": limit, **factors}, asked or {}, front=tensor or domain.comm.size > 1)
    between = () if tensor or domain.dimension == 1 else (_multigrid(domain),)
    return local, *between, complete("density_last_")


def for_kept_steps(domain: Domain, *, same: bool, tensor: bool, asked: SolverOptions | None = None) -> tuple[Attempt, ...]:
    """Solvers of implicit steps with few lengths: complete factors where they are cheap, in two dimensions, else as `for_steps`.

    Complete factors of a matrix a little different make FGMRES converge in a few iterations; those of the matrix itself, in one.
    PETSc's own serve many right sides much faster than those of MUMPS, which distributes them over the ranks.

    Args:
        domain: where.
        same: coefficients are always the same.
        tensor, asked: see `for_steps`.
    """
    others = for_steps(domain, stays=same, tensor=tensor, asked=asked)
    if domain.dimension != 2 or asked:
        return others
    own = {"pc_factor_mat_ordering_type": "nd"} if domain.comm.size == 1 else {"pc_factor_mat_solver_type": "mumps"}
    around: SolverOptions = {"ksp_type": "preonly"} if same else {"ksp_type": "fgmres", "ksp_max_it": 30}
    solver: SolverOptions = {**around, "pc_type": "lu", **own}
    return Attempt("density_", solver), *others


def _multigrid(domain: Domain) -> Attempt:
    """BiCGStab with algebraic multigrid, smoothed by incomplete factors."""
    levels: dict[str, str | float | bool] = {"mg_levels_ksp_type": "richardson", "mg_levels_ksp_max_it": 1}
    if domain.comm.size == 1:
        levels["mg_levels_pc_type"] = "ilu"
    else:
        levels |= {"mg_levels_pc_type": "asm", "mg_levels_sub_pc_type": "ilu"}
    return Attempt("density_long_", {**_BICGSTAB, "ksp_max_it": 60, "pc_type": "gamg", "pc_gamg_agg_nsmooths": 0, **levels})


def complete(prefix: str) -> Attempt:
    """Sparse LU factors of MUMPS, which distributes them over the ranks."""
    return Attempt(prefix, {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"})


# --- matrices -------------------------------------------------------------------------------------------------------------------


class EdgeMatrix:
    """A PETSc matrix with the pattern of a domain's edge graph and diagonal, to be filled in again and again. Collective.

    Attributes:
        matrix: the PETSc matrix.
        place: where each owned unknown stands among the rows of this rank.
    """

    def __init__(self, domain: Domain, *, front: bool = False) -> None:
        """Lay out the matrix of ``domain``; ``front``: with the unknowns of each rank along the diagonal of the box."""
        graph, owned = domain.graph, domain.owned
        self.place = _along_diagonal(domain) if front else np.arange(owned)
        numbers = np.empty(len(domain.coordinates))
        numbers[:owned] = domain.first + self.place
        domain.exchange.update(numbers)
        number = numbers.astype(PETSc.IntType)
        rows, columns = np.append(number[graph.rows()], number[:owned]), np.append(number[graph.columns], number[:owned])
        self.matrix = PETSc.Mat().create(domain.comm)
        self.matrix.setSizes(((owned, None), (owned, None)))
        self.matrix.setType(PETSc.Mat.Type.AIJ)
        self.matrix.setPreallocationCOO(rows, columns)
        self._values = np.zeros(len(rows))

    def set(self, entries: Array, diagonal: Array) -> None:
        """A_ij at each entry (i, j) of the graph, and A_ii at each owned unknown."""
        self._values[: len(entries)], self._values[len(entries) :] = entries, diagonal
        self.matrix.setValuesCOO(self._values)


def edge_matrix(domain: Domain, entries: Array, diagonal: Array) -> PETSc.Mat:
    """The PETSc matrix with these entries of the edge graph and this diagonal. Collective."""
    layout = EdgeMatrix(domain)
    layout.set(entries, diagonal)
    return layout.matrix


def _along_diagonal(domain: Domain) -> NDArray[np.int64]:
    """The place of each owned unknown in their order along the diagonal of the bounding box.

    Its sense is that in which the ranks follow each other, so that the rows of lower ranks in an overlap are where the order
    comes from. Collective.
    """
    lower, upper = np.array(domain.lower), np.array(domain.upper)
    along = ((domain.coordinates[: domain.owned, : domain.dimension] - lower) / (upper - lower)).sum(axis=1)
    middles = np.array(domain.comm.allgather(along.mean() if along.size else 0.0))
    if np.arange(len(middles)) @ (middles - middles.mean()) < 0.0:
        along = -along
    place = np.empty(domain.owned, np.int64)
    place[np.argsort(np.round(along, 9), kind="stable")] = np.arange(domain.owned)
    return place


# --- solvers --------------------------------------------------------------------------------------------------------------------


def configure(solver: PETSc.KSP, attempt: Attempt, *, set_up: bool = True) -> None:
    """Give ``solver`` the options of ``attempt``; ``set_up``: prepare it too, which reads the rest of them. Collective.

    Complete factors by default have no such rest, and are not computed for nothing.

    Raises:
        ArgumentError: PETSc does not know what was ``asked``, or has no use for it.
    """
    solver.setOptionsPrefix(attempt.prefix)
    database = PETSc.Options(attempt.prefix)
    try:
        with _in_database(database, attempt):
            solver.setFromOptions()
            if set_up and (attempt.asked or not _complete(solver)):
                solver.setUp()
                solver.setUpOnBlocks()
            unused = [name for name in attempt.asked if not database.used(attempt.prefix + name)]
    except PETSc.Error as error:
        if not attempt.asked:
            raise
        asked = ", ".join(f"{name} = {value}" for name, value in attempt.asked.items())
        raise ArgumentError("solver", f"PETSc refuses {asked} (error {error.ierr}); see its manual pages of KSP and PC") from None
    if unused:
        raise ArgumentError("solver", f"PETSc has no use for {', '.join(unused)} with these options; correct or remove it")


def _complete(solver: PETSc.KSP) -> bool:
    """Whether it has complete factors, or nothing but them."""
    return solver.getType() == PETSc.KSP.Type.PREONLY or solver.getPC().getType() == PETSc.PC.Type.LU


@contextmanager
def _in_database(database: PETSc.Options, attempt: Attempt) -> Iterator[None]:
    """The options in PETSc's database, where those of PETSC_OPTIONS stay as they are."""
    chosen = {name: database.hasName(name) or name in attempt.asked for name in ("ksp_type", "pc_type")}
    families = {"ksp_type": ("ksp_pc_side", "ksp_norm_type"), "pc_type": ("pc_", "sub_", "mg_")}
    left_out = tuple(beginning for name, of_it in families.items() if chosen[name] for beginning in of_it)
    defaults = {name: value for name, value in attempt.defaults.items() if not name.startswith(left_out or ("-",))}
    mine = {name: value for name, value in {**defaults, **attempt.asked}.items() if not database.hasName(name)}
    for name, value in mine.items():
        database.setValue(name, value)
    try:
        yield
    finally:
        for name in mine:
            database.delValue(name)


class LinearSystem:
    """Solves Ax = b by one solver, for one matrix on the edge graph after another. Collective.

    Attributes:
        iterations: so far, in all.
    """

    @as_solver_error("setting up a linear system")
    def __init__(self, domain: Domain, attempt: Attempt) -> None:
        """Lay out the matrix and make the solver.

        Raises:
            ArgumentError: PETSc does not know what was asked for. SolverError: it fails.
        """
        self._layout, self._attempt = EdgeMatrix(domain, front=attempt.front), attempt
        self._right, self._solution = self._layout.matrix.createVecs()
        self._residual = self._right.duplicate()
        self._solver = PETSc.KSP().create(domain.comm)
        self._solver.setOperators(self._layout.matrix)
        graph = domain.graph
        weights = np.abs(graph.stiffness)
        self._layout.set(-weights, graph.lumped + np.bincount(graph.rows(), weights=weights, minlength=domain.owned))
        configure(self._solver, attempt)  # with a matrix that any solver can take
        self._direct = self._solver.getType() == PETSc.KSP.Type.PREONLY
        self._trusted = self._direct and self._solver.getPC().getFactorSolverType() == "mumps"  # it pivots
        self._solver.setInitialGuessNonzero(not self._direct)
        self.limit = self._solver.getTolerances()[3]
        self.iterations = 0

    @as_solver_error("filling in a linear system")
    def set(self, entries: Array, diagonal: Array, *, keep: bool = False) -> None:
        """The matrix with A_ij at the entries (i, j) of the graph, and A_ii; the next solve prepares it.

        ``keep``: the preconditioner stays that of the matrix before, if there was one.
        """
        self._solver.getPC().setReusePreconditioner(keep)
        self._layout.set(entries, diagonal)

    @as_solver_error("a linear system")
    def solve(self, right: Array, guess: Array, tolerance: float) -> Array | None:
        """x (owned, local) with ‖b − Ax‖ ≤ tolerance ‖b‖ from b = ``right`` and a guess; None where this solver does not do.

        Raises:
            SolverError: a number is not finite, on all ranks alike.
        """
        place, x, b = self._layout.place, self._solution, self._right
        b.array[place], x.array[place] = right, guess
        size = b.norm()
        self._solver.setTolerances(rtol=max(tolerance, 1e-15))
        for _ in range(_RESTARTS):
            try:
                self._solver.solve(b, x)
            except PETSc.Error:  # too little memory for factors, say; on all ranks alike
                break
            self.iterations += 0 if self._direct else self._solver.getIterationNumber()
            reason = self._solver.getConvergedReason()
            self._layout.matrix.mult(x, self._residual)
            self._residual.aypx(-1.0, b)
            defect = self._residual.norm()
            if reason > 0 and (defect <= tolerance * size or (self._trusted and math.isfinite(defect))):
                return x.array[place]
            if reason in _HOPELESS or self._direct or not math.isfinite(defect + size):
                break
        x.array[place] = guess
        self._layout.matrix.mult(x, self._residual)
        if not math.isfinite(self._residual.norm() + size):
            raise SolverError(
                "the linear solver met a number that is not finite; check the model, its data and the domain's size"
            )
        return None


class ShiftedSystem:
    """Solves (M + a𝓛)ρ = b for the lumped mass M and −𝓛 the flux operator, by the first of several solvers that can. Collective.

    A solver that fails at a shift a is passed over there and at longer ones; one that takes many iterations in each of many
    solves with one matrix, for that matrix.
    """

    def __init__(self, domain: Domain, attempts: Sequence[Attempt]) -> None:
        """For matrices on the edge graph of ``domain``; the last of the ``attempts`` is the last resort.

        Raises:
            ArgumentError: PETSc does not know what the first of them asks for.
        """
        self._domain, self._attempts = domain, attempts
        self._entries, self._diagonal, self._shift = np.zeros(len(domain.graph.columns)), np.zeros(domain.owned), math.nan
        self._systems = [LinearSystem(domain, attempts[0])]  # the others are made when they are needed
        self._failed_from, self._spent, self._solves = [math.inf] * len(attempts), [0] * len(attempts), [0] * len(attempts)
        self._keep, self._fresh, self._latest = False, 0, 0  # iterations with factors of the matrix itself, and of the last solve

    @property
    def iterations(self) -> int:
        """Iterations so far."""
        return sum(system.iterations for system in self._systems)

    def set(self, inward: Array, outward: Array, factor: float, *, keep: bool = False) -> None:
        """Fill in M + factor·𝓛 from the edge coefficients.

        ``keep``: precondition by the factors of a matrix before, while that costs few more iterations than new ones would.
        """
        self._keep = keep and self._latest <= self._fresh + _TIRED
        graph = self._domain.graph
        _fill(graph.offsets, graph.lumped, inward, outward, factor, self._entries, self._diagonal)
        self._shift, self._spent, self._solves = factor, [0] * len(self._attempts), [0] * len(self._attempts)

    def solve(self, right: Array, guess: Array, tolerance: float) -> Array:
        """ρ (owned, local) with ‖b − (M + a𝓛)ρ‖ ≤ tolerance ‖b‖, from b = ``right``.

        Raises:
            SolverError: where no solver succeeds, on all ranks alike.
        """
        for k in range(len(self._attempts)):
            if k + 1 < len(self._attempts) and (self._shift >= self._failed_from[k] or self._is_slow(k)):
                continue
            solution = self._try(k, right, guess, tolerance)
            if solution is not None:
                return solution
            self._failed_from[k] = min(self._failed_from[k], self._shift)
        raise SolverError(
            "neither iteration nor LU factors solved the linear system (a singular matrix, or too little memory for the "
            "factors); choose a smaller step or tolerance"
        )

    def _is_slow(self, k: int) -> bool:
        """Whether complete factors would have been cheaper by now."""
        return k < len(self._systems) and self._spent[k] > max(_SLOW * self._solves[k], self._systems[k].limit)

    def _try(self, k: int, right: Array, guess: Array, tolerance: float) -> Array | None:
        """The solution by one of the solvers."""
        while len(self._systems) <= k:
            self._systems.append(LinearSystem(self._domain, self._attempts[len(self._systems)]))
        system = self._systems[k]
        if self._solves[k] == 0:
            system.set(self._entries, self._diagonal, keep=self._keep)
        before = system.iterations
        solution = system.solve(right, guess, tolerance)
        self._latest = system.iterations - before
        if not self._keep:
            self._fresh = self._latest
        self._spent[k], self._solves[k] = self._spent[k] + system.iterations - before, self._solves[k] + 1
        return solution


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
