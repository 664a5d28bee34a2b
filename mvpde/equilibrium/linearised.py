"""The equation linearised at a stationary law: the frozen operator plus a change of rank r ≤ K through the moments.

With ρ_∞ stationary at moments m, a small h moves the moments by ⟨g, h⟩ and these the operator,

    ∂_t h = 𝓛_m h + Σ_k (∂_{m_k}𝓛 ρ_∞) ⟨g_k, h⟩,

for a gradient flow 𝓛_m h + ∇·(ρ_∞∇(Σ_kl g_k R''_kl ⟨g_l, h⟩)). In the variables of `mvpde.equilibrium.spectrum` this is T y = λ M
y with

    T = S + U Wᵀ,      −λ the growth rates,

S the frozen matrix (symmetric for Gibbs states), U and W with one column for each singular direction of the features. T's
inverse comes from that of S (Sherman, Morrison & Woodbury), T itself is never formed. The mass is kept: eᵀT = 0 for the e with
eᵀMy the mass of h, and modes are sought among h of mass zero. At a Gibbs state λ is real, and as many λ are negative as
eigenvalues of τI + Cov^½ R'' Cov^½, Cov that of the features under ρ_∞ (Sylvester's law of inertia): none can be missed.

Nothing is divided by √ρ_∞, which at small noise underflows where the potential is high: `deviations` makes h of y in logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvpde.runtime import SolverError  # isort: skip  (loads the solver libraries)

from petsc4py import PETSc
from slepc4py import SLEPc

from mvpde.density.density import Density
from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.fluxes import rate
from mvpde.density.galerkin import galerkin
from mvpde.density.systems import LinearSystem, complete
from mvpde.equilibrium.stationary import SOLVED, Balance, Stationary, is_gibbs, log_gibbs, potential_at
from mvpde.mesh.domain import Domain
from mvpde.mesh.failures import as_solver_error

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_DIFFERENCE = 1e-5  # step of differences in the moments, in units of their size
_TOLERANCE = 1e-11
_ITERATIONS = 1000
_SPARE = 30  # vectors of the Krylov space beyond twice the modes: with labels many modes are as slow as each other
_SHIFTS = 8  # tries, each at a shift four times the one before
_NEGATIVE = 1e-7  # relative to the largest: eigenvalues below minus this part are negative
_NOTHING = 1e-12  # of the largest eigenvalue of the inverse: on small meshes what has mass is found too, with eigenvalue 0 there
_ROUNDING = 1e-10  # part of the shift below which −λ does not count as growth
_NOISE = 1e-10  # of the largest |y|: what the solver leaves of a mode where it is not
_RARE = -15.0  # log |√ρ_∞ y| with ‖y‖ = 1: where a mode has no more, this noise times √ρ_∞ may be more than the mode


@dataclass(frozen=True)
class Linearised:
    """T = S + U Wᵀ with T y = λ M y, h = weight·y (owned rows only).

    Attributes:
        domain: its mesh.
        entries, diagonal: S, off its diagonal for each entry of the edge graph, and on it.
        left, right: U and W, shape (owned, r).
        weight: h/y.
        conserved: e with eᵀT = 0; eᵀMy is the mass of h.
        growing: number of λ < 0 at a Gibbs state, None otherwise.
        logarithm: log of the weight at a Gibbs state, None otherwise.
    """

    domain: Domain
    entries: Array
    diagonal: Array
    left: Array
    right: Array
    weight: Array
    conserved: Array
    growing: int | None
    logarithm: Array | None = None


def feature_rows(density: Density) -> Array:
    """Features in their r singular directions at local nodes, shape (owned + ghosts, r): m = right @ (masses @ rows)."""
    features = density.features
    return features.weight[:, None] * features.left[features.place]


def second_derivative(density: Density, moments: Array) -> Array:
    """R'' in the singular directions of the features, shape (r, r), by central differences of ∂R."""
    right, gradient = density.features.right, density.model.outer_gradient
    step = _DIFFERENCE * max(1.0, float(np.abs(moments).max()))
    columns = [(gradient(moments + step * b) - gradient(moments - step * b)) @ right for b in right.T]
    return np.array(columns).T / (2.0 * step)


def operator_changes(density: Density, law: Balance | Stationary, moments: Array) -> Array:
    """(∂_k𝓛)ρ at owned nodes, shape (owned, r), in the singular directions, by central differences of the coefficients."""
    domain, graph, model = density.domain, density.domain.graph, density.model
    gibbs = is_gibbs(density)
    at = edge_averaged(domain, density.features, model.temperature) if gibbs else galerkin(domain, density.features, model)
    step = _DIFFERENCE * max(1.0, float(np.abs(moments).max()))
    right = density.features.right
    result = np.empty((domain.owned, right.shape[1]))
    ahead, behind = ((np.empty(len(graph.columns)), np.empty(len(graph.columns))) for _ in range(2))
    for k, direction in enumerate(right.T):
        at(moments + step * direction, *ahead)
        at(moments - step * direction, *behind)
        change = [(a - b) / (2.0 * step) for a, b in zip(ahead, behind, strict=True)]
        column = np.empty(domain.owned)
        rate(graph.offsets, graph.columns, graph.lumped, *change, law.values, column)
        result[:, k] = column
    return result


def frozen(density: Density, law: Balance | Stationary, moments: Array) -> tuple[Array, Array, Array]:
    """S off and on its diagonal, and h/y: the symmetric form with h = √ρ_∞ y at a Gibbs state, else −K with h = y."""
    graph, owned = density.domain.graph, density.domain.owned
    row = graph.rows()
    diagonal = np.bincount(row, weights=law.outward, minlength=owned)
    if not is_gibbs(density):
        return -law.inward, diagonal, np.ones(owned)
    potential, temperature = potential_at(density, moments), density.model.temperature
    half = 0.5 * (potential[row] - potential[graph.columns]) / temperature
    small = np.abs(half) < 1e-6
    ratio = np.where(small, 1.0, half / np.sinh(np.where(small, 1.0, np.clip(half, -700.0, 700.0))))
    return -graph.stiffness * temperature * ratio, diagonal, np.sqrt(law.values[:owned])


def fastest_rate(density: Density, law: Balance | Stationary) -> float:
    """max_i Σ_j k_ji/m_i: rounding changes eigenvalues by its multiples of 1e-16. Collective."""
    domain = density.domain
    leaving = np.bincount(domain.graph.rows(), weights=np.abs(law.outward), minlength=domain.owned)
    return domain.extremes(leaving / domain.graph.lumped)[1]


def linearised(density: Density, law: Balance | Stationary, moments: Array) -> Linearised:
    """The linearisation at a law that is stationary at its own ``moments``. Collective."""
    domain, owned = density.domain, density.domain.owned
    rows, lumped = feature_rows(density), density.domain.graph.lumped
    entries, diagonal, weight = frozen(density, law, moments)
    right = (lumped * weight)[:, None] * rows[:owned]
    if not is_gibbs(density):
        left = -lumped[:, None] * operator_changes(density, law, moments)
        return Linearised(domain, entries, diagonal, left, right, weight, np.ones(owned), None)
    temperature, hessian = density.model.temperature, second_derivative(density, moments)
    y = np.sqrt(law.values)[:, None] * (rows @ hessian) / temperature
    row = domain.graph.rows()
    products = [np.bincount(row, weights=entries * column[domain.graph.columns], minlength=owned) for column in y.T]
    left = np.column_stack(products) + diagonal[:, None] * y[:owned]
    logarithm = 0.5 * log_gibbs(density, potential_at(density, moments))[:owned]
    return Linearised(domain, entries, diagonal, left, right, weight, weight, _growing(density, law, hessian), logarithm)


def feature_covariance(density: Density, values: Array) -> Array:
    """Covariance of the features in their singular directions under ``values`` (local), shape (r, r). Collective.

    Of a labelled law it is the mean of those given the labels: no change of the law moves mass from one to another.
    """
    domain = density.domain
    rows, masses = feature_rows(density)[: domain.owned], domain.graph.lumped * values[: domain.owned]
    weighted = masses[:, None] * rows
    means = np.column_stack([domain.part_sums(column) for column in weighted.T]) / domain.weights[:, None]
    centred = rows - domain.spread(means, rows)
    return np.asarray(domain.sum((masses[:, None] * centred).T @ centred))


def _growing(density: Density, law: Balance | Stationary, hessian: Array) -> int:
    eigenvalues, vectors = np.linalg.eigh(feature_covariance(density, law.values))
    root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    form = density.model.temperature * np.eye(len(hessian)) + root.T @ (0.5 * (hessian + hessian.T)) @ root
    values = np.linalg.eigvalsh(form)
    return int(np.sum(values < -_NEGATIVE * np.abs(values).max()))


# --- eigenvalues ----------------------------------------------------------------------------------------------------------------


@as_solver_error("the search for modes", "spectrum")
def slow_modes(equation: Linearised, wanted: int, shift: float) -> tuple[Complex, Complex]:
    """λ and modes h (owned rows), at least ``wanted`` of mass zero, sought from −``shift`` on upwards. Collective.

    At a Gibbs state the shift grows until all λ < 0 are found. Otherwise two shifts are tried and the one that finds the smaller
    real part is taken.

    Raises:
        SolverError: not enough modes converge.
    """
    wanted = min(wanted, equation.domain.nodes - 1 - len(equation.domain.weights))
    if equation.growing is None:
        both = [_modes_near(equation, wanted, factor * shift) for factor in (1.0, 8.0)]
        return min(both, key=lambda pair: float(pair[0].real.min()))
    for attempt in range(_SHIFTS):
        values, vectors = _modes_near(equation, max(wanted, equation.growing + 2), 4.0**attempt * shift)
        if np.sum(values.real < -_ROUNDING * shift) >= equation.growing:
            return values, vectors
    if np.sum(values.real < _ROUNDING * shift) >= equation.growing:  # rounding hides the sign of what grows slowly
        return values, vectors
    text = f"{equation.growing} growing modes are there, and not all of them were found; refine the mesh"
    raise SolverError(text, "stationary")


def _modes_near(equation: Linearised, wanted: int, shift: float) -> tuple[Complex, Complex]:
    """The λ nearest to −shift and their modes."""
    domain = equation.domain
    inverse = _ShiftedInverse(equation, shift)
    size = (domain.owned, None)
    operator = PETSc.Mat().createPython((size, size), context=inverse, comm=domain.comm)
    operator.setUp()
    solver = SLEPc.EPS().create(domain.comm)
    solver.setOperators(operator)
    solver.setProblemType(SLEPc.EPS.ProblemType.NHEP)
    solver.setDimensions(wanted, min(2 * wanted + _SPARE, domain.nodes))
    solver.setTolerances(_TOLERANCE, _ITERATIONS)
    solver.setWhichEigenpairs(SLEPc.EPS.Which.LARGEST_MAGNITUDE)
    start = operator.createVecRight()
    start.array[:] = inverse.without_mass(generic(domain) if equation.growing is None else generic(domain) * equation.weight)
    solver.setInitialSpace([start])
    values, vectors = solve(solver, operator)
    found = np.abs(values) > _NOTHING * np.abs(values).max()
    values, vectors = values[found], vectors[found]
    real = equation.growing is not None
    eigenvalues = 1.0 / values - shift
    modes = np.where((values.imag < 0.0)[:, None], vectors.imag, vectors.real) if real else vectors
    h = modes * equation.weight if equation.logarithm is None else deviations(domain, equation.logarithm, modes)
    return np.asarray(eigenvalues.real if real else eigenvalues, complex), np.asarray(h, complex)


def deviations(domain: Domain, logarithm: Array, modes: NDArray[Any]) -> NDArray[Any]:
    """h = √ρ_∞ y up to a factor for each mode, for real ``modes`` y in rows (owned) and the logarithm of √ρ_∞. Collective.

    A mode of a basin where ρ_∞ has next to no mass is a tiny number times y there, less than √ρ_∞ times the rounding errors of y
    elsewhere. These are left out, and the mass that the mode takes from its basin goes where ρ_∞ has its own.
    """
    weight, result = np.exp(logarithm), np.array(modes, dtype=modes.dtype)
    for k, mode in enumerate(modes):
        size = np.abs(mode)
        there = size > _NOISE * domain.extremes(size)[1]
        exponent = logarithm + np.log(np.where(there, size, 1.0))
        height = domain.extremes(exponent[there])[1]
        if height > _RARE:
            result[k] = weight * mode
            continue
        result[k] = np.where(there, np.sign(mode) * np.exp(np.where(there, exponent - height, 0.0)), 0.0)
        excess = domain.part_masses(result[k].real) / domain.part_masses(weight**2)
        result[k] -= domain.spread(excess, weight) * weight**2
    return result


class _ShiftedInverse:
    """y ↦ (T + σM)⁻¹ M y on y of mass zero, for PETSc: S + σM in LU factors, the rest by Woodbury's formula. Collective."""

    def __init__(self, equation: Linearised, shift: float) -> None:
        """Factor S + σM and solve for U."""
        self._equation, self._lumped = equation, equation.domain.graph.lumped
        self._system = LinearSystem(equation.domain, complete("spectrum_"))
        self._system.set(equation.entries, equation.diagonal + shift * self._lumped)
        self._columns = np.column_stack([self._base(column) for column in equation.left.T])
        capacity = np.eye(equation.left.shape[1]) + equation.domain.sum(equation.right.T @ self._columns)
        self._capacity = np.linalg.inv(capacity)  # small, and used hundreds of times
        self._whole = equation.domain.part_masses(equation.conserved**2)

    def _base(self, values: Array) -> Array:
        solution = self._system.solve(values, np.zeros(len(values)), SOLVED)
        if solution is None:
            raise SolverError("the shifted linear systems cannot be solved; refine the mesh", "spectrum")
        return solution

    def apply(self, values: Array) -> Array:
        """(T + σM)⁻¹ M y."""
        equation = self._equation
        plain = self._base(self._lumped * values)
        part = self._capacity @ equation.domain.sum(equation.right.T @ plain)
        return self.without_mass(plain - self._columns @ part)

    def without_mass(self, values: Array) -> Array:
        """y less a multiple of e, so that the mass is zero; on a union that of each part."""
        conserved, domain = self._equation.conserved, self._equation.domain
        mass = domain.part_masses(conserved * values)
        return np.asarray(values - domain.spread(mass / self._whole, values) * conserved)

    def mult(self, _: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """What PETSc calls."""
        y.array[:] = self.apply(np.array(x.array_r))


def generic(domain: Domain) -> Array:
    """A smooth function at owned unknowns that no symmetry of a model makes orthogonal to a mode."""
    lower, upper = np.array(domain.lower), np.array(domain.upper)
    place = (domain.coordinates[: domain.owned, : domain.dimension] - lower) / (upper - lower)
    smooth = np.exp(place @ np.sqrt([2.0, 3.0, 5.0][: domain.dimension])) + 0.3 * np.sin(
        7.0 * place @ np.sqrt([7.0, 2.0, 3.0][: domain.dimension])
    )
    return smooth if not domain.parts else smooth * (1.5 + np.sin(1.0 + 2.0 * domain.part[: domain.owned]))


def solve(solver: SLEPc.EPS, matrix: PETSc.Mat) -> tuple[Complex, Complex]:
    """Eigenvalues and eigenvectors (local rows), all that converged.

    Raises:
        SolverError: where the iteration stops or nothing converges, on all ranks alike.
    """
    with as_solver_error("the search for modes", "spectrum"):
        solver.solve()
    converged = solver.getConverged()
    if converged == 0:
        raise SolverError("no mode converged; refine the mesh", "spectrum")
    real, imaginary = matrix.createVecs()
    values, vectors = [], []
    for k in range(converged):
        values.append(complex(solver.getEigenpair(k, real, imaginary)))
        vectors.append(real.array + 1j * imaginary.array if values[-1].imag != 0.0 else real.array + 0j)
    solver.destroy()
    return np.array(values), np.array(vectors)
