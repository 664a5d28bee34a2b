"""Slowest modes of a Fokker–Planck equation at a stationary law, by SLEPc, and the decay they rule.

A mode ρ_k with eigenvalue λ_k makes ρ_∞ + ερ_k e^{−λ_k t} a solution: −𝓛ρ_k = λ_kρ_k, λ_0 = 0 for ρ_∞ itself. In a gradient flow
u = ρ/ρ_∞ obeys a symmetric equation in L²_μ, dμ = ρ_∞dz; with y = u√ρ_∞ the edge-averaged operator is the symmetric matrix

    H_ij = −s_ij τ (x/2)/sinh(x/2),  x = (V_i − V_j)/τ,      H_ii = Σ_j s_ij τ B(−x),      H y = λ M y,

free of the huge and tiny numbers of ρ_∞. λ₁ is then τ over the Poincaré constant of e^{−V/τ}. Otherwise −Kρ = λMρ is not
symmetric, eigenvalues may be complex and the decay rate is the smallest Re λ. With u = ρ/ρ_∞ and the Dirichlet energy
E = ½∫∇u·A∇u dμ

    ½ d/dt ‖u − 1‖²_{L²_μ} = −2E,

so ‖u − 1‖ decays like e^{−λ₁t} and E like e^{−2λ₁t}, from a start with a part along the first mode.

An equation that depends on the law is linearised at ρ_∞ first (`mvpde.equilibrium.linearised`): its modes may grow, λ < 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mvpde.mesh.domain import Domain  # isort: skip  (loads the solver libraries)

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from mvpde.density.density import Density
from mvpde.density.starts.projection import spacings
from mvpde.density.systems import complete, configure, edge_matrix
from mvpde.equilibrium.linearised import deviations, fastest_rate, frozen, generic, linearised, slow_modes, solve
from mvpde.equilibrium.stationary import Stationary, is_gibbs, log_gibbs, potential_at, stationary
from mvpde.equilibrium.symmetries import circles, free_motions, moving, neutral_modes
from mvpde.equilibrium.walls.escape import killed
from mvpde.mesh.failures import as_solver_error
from mvpde.runtime import ArgumentError, SolverError

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_TOLERANCE = 1e-11  # residual of an eigenpair, in units of its eigenvalue in the shifted inverse problem
_ROUNDING = 1e-15  # of the fastest rate: what sums of rounding errors leave of an eigenvalue
_ITERATIONS = 1000
_SEEN = 1e-10  # nodes with less than this part of the maximum of ρ_∞ do not enter ‖ρ/ρ_∞ − 1‖: one would see rounding errors


@dataclass(frozen=True)
class Spectrum:
    """The slowest modes, the stationary one left out.

    Attributes:
        eigenvalues: λ_1, λ_2, … by rising real part, shape (modes,), or fewer where no more converged or the mesh has no more.
        modes: ρ_k at owned unknowns (local), shape (modes, owned), ∫|ρ_k| = 1 and ∫ρ_k = 0. A real mode has no imaginary part.
        reversible: whether the symmetric form was solved, all λ_k then being real.
        searched: how many modes nearest to the shift had to be found to have these among them.
    """

    eigenvalues: Complex
    modes: Complex
    reversible: bool
    searched: int = 0

    @property
    def decay_rate(self) -> float:
        """Re λ_1."""
        return float(self.eigenvalues[0].real)


@as_solver_error("the search for modes", "spectrum")
def spectrum(density: Density, modes: int, law: Stationary | None = None, *, searched: int | None = None) -> Spectrum:
    """The ``modes`` slowest modes of the equation that ``density`` solves, on its mesh. Collective.

    The nonsymmetric problem is searched around zero: 3·modes + 6 eigenvalues of least modulus are found and those of least real
    part kept, so that a slow mode with a large imaginary part can be missed when few modes are asked for.

    Args:
        density: its present state does not matter.
        modes: 1 or more.
        law: its stationary law; None: found here.
        searched: how many to search for instead, where it is known that these suffice.

    Between absorbing walls the slowest one is λ₀, the rate of escape, whose mode is the quasi-stationary law.

    An interacting model is linearised at the stationary law; modes that grow have λ < 0, a symmetry that it breaks a mode λ = 0.

    Raises:
        ArgumentError: no mode asked for. SolverError: the iteration does not converge. On all ranks alike.
    """
    if modes < 1:
        raise ArgumentError("modes", f"must be at least 1, not {modes!r}")
    law = stationary(density) if law is None else law
    if law.escape_rate is not None:
        return Spectrum(*killed(density, modes), False, modes)
    reversible, shift = is_gibbs(density), typical_rate(density, law)
    frozen_modes = _symmetric if reversible else _nonsymmetric
    coupled = density.model.interacting or density.domain.parts  # the linearised form keeps the mass of each part
    wanted = searched or (modes + 2 * bool(coupled) if reversible else 3 * modes + 6)
    values, vectors = (_interacting if coupled else frozen_modes)(density, wanted, law, shift)
    if len(values) == 0:
        raise SolverError("no mode converged; refine the mesh", "spectrum")
    order = np.lexsort((values.imag, values.real))[:modes]
    nearest = np.argsort(np.argsort(np.abs(values + shift)))
    return Spectrum(
        values[order],
        np.array([_normalised(density.domain, vectors[k]) for k in order]),
        reversible,
        int(nearest[order].max(initial=0)) + 1,
    )


def distance(law: Stationary, values: Array) -> float:
    """‖ρ/ρ_∞ − 1‖ in L²_μ, dμ = ρ_∞dz, of nodal ``values`` (local), where ρ_∞ is not as good as zero. Collective."""
    domain, u, seen = law.domain, *relative_to(law, values)
    owned = domain.owned
    weight = domain.graph.lumped * np.where(seen, law.values, 0.0)[:owned]
    return float(np.sqrt(domain.sum(np.array(weight @ (u[:owned] - 1.0) ** 2))))


def dirichlet_energy(law: Stationary, values: Array) -> float:
    """½∫∇u·A∇u dμ with u = ρ/ρ_∞ as the sum ½Σ_{i<j} ½(k_ijρ_∞j + k_jiρ_∞i)(u_i − u_j)² over edges. Collective."""
    domain, graph, u, seen = law.domain, law.domain.graph, *relative_to(law, values)
    row = graph.rows()
    conductance = 0.5 * (law.inward * law.values[graph.columns] + law.outward * law.values[row])
    both = seen[row] & seen[graph.columns]
    return float(domain.sum(np.array(0.25 * conductance[both] @ (u[row] - u[graph.columns])[both] ** 2)))


def decay_rate(times: Sequence[float], norms: Sequence[float], frequency: float = 0.0) -> float:
    """−d log(norm)/dt by least squares over the later half of the ``times``; 2 Re λ₁ for energies.

    Args:
        times: increasing.
        norms: > 0, at these times.
        frequency: Im λ₁; with a complex pair the logarithm is a line plus a function of period π/|Im λ₁|, of which two harmonics
            are fitted.
    """
    return float(_fitted(times, norms, frequency)[0][0])


def decay_fit(times: Sequence[float], norms: Sequence[float], frequency: float = 0.0) -> tuple[float, float, float] | None:
    """`decay_rate`, the largest deviation of the logarithm from the fit, and its decline; None with fewer times than unknowns."""
    unknowns, columns, logarithm = _fitted(times, norms, frequency)
    if columns.shape[0] < columns.shape[1] + (frequency != 0.0):
        return None
    bend = float(np.abs(columns @ unknowns - logarithm).max())
    return float(unknowns[0]), bend, abs(float(unknowns[0] * (columns[0, 0] - columns[-1, 0])))


def _fitted(times: Sequence[float], norms: Sequence[float], frequency: float) -> tuple[Array, Array, Array]:
    """Unknowns, columns and right side of the fit."""
    t, logarithm = np.asarray(times, float), np.log(np.asarray(norms, float))
    late = t >= 0.5 * (t[0] + t[-1])
    phases = [2.0 * k * frequency * t[late] for k in (1, 2)] if frequency != 0.0 else []
    columns = np.column_stack([-t[late], np.ones(late.sum()), *(wave(phase) for phase in phases for wave in (np.cos, np.sin))])
    return np.linalg.lstsq(columns, logarithm[late], rcond=None)[0], columns, logarithm[late]


def relative_to(law: Stationary, values: Array) -> tuple[Array, NDArray[np.bool_]]:
    """ρ/ρ_∞ (owned + ghosts), and where ρ_∞ is large enough to divide by."""
    largest = law.domain.extremes(law.values[: law.domain.owned])[1]
    seen = law.values > _SEEN * largest
    return np.divide(values, law.values, out=np.ones(len(values)), where=seen), seen


def typical_rate(density: Density, law: Stationary) -> float:
    """⟨Tr A⟩/Tr Cov, a slow rate or above: the spectrum is sought around minus this number, where nothing is singular.

    A law of one node, which is what is left of one far narrower than a cell, counts as wide as a tenth of a cell.
    """
    domain, owned = density.domain, density.domain.owned
    trace = np.trace(density.model.diffusion(density.features.places[:owned], law.moments), axis1=1, axis2=2)
    mean = domain.sum(np.array(trace @ (domain.graph.lumped * law.values[:owned])))
    narrowest = 0.01 * sum(h**2 for h in spacings(domain))
    return float(mean) / max(float(np.trace(law.covariance[: domain.dimension, : domain.dimension])), narrowest)


def solved(density: Density, law: Stationary) -> float:
    """What the solver's tolerance and rounding leave of an eigenvalue that is zero. Collective."""
    return max(_TOLERANCE * typical_rate(density, law), _ROUNDING * fastest_rate(density, law))


def _interacting(density: Density, wanted: int, law: Stationary, shift: float) -> tuple[Complex, Complex]:
    """Motions among states that a symmetry relates have the rate 0, whatever walls and mesh make of it."""
    equation = linearised(density, law, law.moments)
    values, modes = slow_modes(equation, wanted, shift)
    motions = [*circles(density, law.values, law.moments), *moving(density, law.values, free_motions(density))]
    values[neutral_modes(density, law, equation, motions, values, modes, shift)] = 0.0
    return values, modes


def _symmetric(density: Density, wanted: int, law: Stationary, shift: float) -> tuple[Complex, Complex]:
    domain, owned = density.domain, density.domain.owned
    entries, diagonal, root = frozen(density, law, law.moments)
    problem = edge_matrix(domain, entries, diagonal)
    ground = problem.createVecRight()
    ground.array[:] = root
    solver = _solver(domain, problem, SLEPc.EPS.ProblemType.GHEP, wanted, shift)
    solver.setDeflationSpace([ground])
    values, vectors = solve(solver, problem)
    logarithm = 0.5 * log_gibbs(density, potential_at(density, law.moments))[:owned]
    return values, deviations(domain, logarithm, vectors.real)


def _nonsymmetric(density: Density, wanted: int, law: Stationary, shift: float) -> tuple[Complex, Complex]:
    domain = density.domain
    entries, diagonal, _ = frozen(density, law, law.moments)
    problem = edge_matrix(domain, entries, diagonal)
    wanted = min(wanted, domain.nodes - 1)
    values, vectors = solve(_solver(domain, problem, SLEPc.EPS.ProblemType.GNHEP, wanted + 1, shift), problem)
    others = np.delete(np.arange(len(values)), np.argmin(np.abs(values)))  # all but the stationary one
    return values[others], vectors[others]


def _solver(domain: Domain, matrix: PETSc.Mat, kind: SLEPc.EPS.ProblemType, wanted: int, shift: float) -> SLEPc.EPS:
    """Krylov–Schur on (H + shift·M)⁻¹M, from a start that does not depend on the ranks."""
    mass = edge_matrix(domain, np.zeros(len(domain.graph.columns)), domain.graph.lumped)
    solver = SLEPc.EPS().create(domain.comm)
    solver.setOperators(matrix, mass)
    solver.setProblemType(kind)
    solver.setDimensions(wanted)
    solver.setTolerances(_TOLERANCE, _ITERATIONS)
    solver.setTarget(-shift)
    solver.setWhichEigenpairs(SLEPc.EPS.Which.TARGET_MAGNITUDE)
    transform = solver.getST()
    transform.setType(SLEPc.ST.Type.SINVERT)
    start = matrix.createVecRight()
    start.array[:] = generic(domain)
    solver.setInitialSpace([start])
    configure(transform.getKSP(), complete("spectrum_"), set_up=False)
    return solver


def _normalised(domain: Domain, mode: Complex) -> Complex:
    """∫|ρ_k| = 1, and the phase in which its integral against a generic function is positive."""
    part = mode @ (domain.graph.lumped * generic(domain))
    size, real, imaginary = domain.sum(np.array([domain.graph.lumped @ np.abs(mode), part.real, part.imag]))
    phase = complex(real, imaginary)
    return mode * (phase.conjugate() / max(abs(phase), 1e-300) / size)
