"""How far stationary laws, branches and modes are from those of the continuous problem: coarser meshes, and smaller boxes.

*Mesh.* The same numbers on half and on a quarter of the cells give order, error and extrapolated value (`mvpde.richardson`).

*Walls.* A box that cuts the space off changes a number x by an amount that falls fast with its size. On boxes that lose a
strip, and two, at each such wall,

    d₁ = x(L) − x(L − s),  d₂ = x(L − s) − x(L − 2s),  q = |d₁/d₂|:      |x(∞) − x(L)| ≈ |d₁| q/(1 − q),

a geometric series of differences, which overestimates as long as q falls with L. Where the second strip cannot be taken, or has
no law of its own, q is taken to be .8; where the first cannot, nothing is known of the walls, and nothing of the error. Where a
strip changes nothing by a thousandth, q = .2 and one is enough. Differences do not need the fine mesh: they are taken on the
coarsest. Slow modes feel the walls most, since they grow towards them: the fourth eigenvalue of the generator
x∂² + (½ − x)∂ is 5.05 on [0, 10] and 4 on the half-line, while mean and mass at the wall are right to 1e-4. A wall at which the
diffusion vanishes and the drift points inwards is an end of the space itself and stays where it is.

*Labels* of frozen coordinates are nodes of a quadrature: the error is the difference to three quarters of them, on a coarser
mesh, three quarters of the error where it falls like their square, and more where it falls faster.

Branches of a coarser mesh are known by the moments that the search began from, its modes by the assignment of least Σ|λ − λ'|.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mvpde.density.density import Density
from mvpde.equilibrium.branches import Branch, search
from mvpde.equilibrium.spectrum import Spectrum, spectrum
from mvpde.equilibrium.stationary import Stationary, stationary
from mvpde.equilibrium.truncation import interaction_error
from mvpde.mesh.walls import on_walls, open_walls
from mvpde.richardson import Richardson, three_levels, two_levels
from mvpde.runtime import SolverError

Array = NDArray[np.float64]
Numbers = dict[str, Array]  # "mean", "eigenvalues", "branches.0.moments", … → values; NaN where they were not found

_SLOWEST = 0.8  # ratio of differences of nested boxes beyond which they are not extrapolated further
_USUAL, _ALIKE = 0.2, 1e-3  # that ratio, where the first difference is below this part of the number's size
_MORE = 2  # modes of a coarser mesh beyond those that are compared, which may come in another order there
_PARTNERS = 1e-6  # relative difference of an eigenvalue and the conjugate of its partner
_EVERY = ("moments", "free_energy", "leading_eigenvalue", "mean")  # of each branch


@dataclass(frozen=True)
class Found:
    """What is known of long times on one mesh.

    Attributes:
        law: the stationary law.
        modes: the slowest modes at it, None if not asked for.
        branches: all laws found, of an interacting model.
        rate: a typical rate, `mvpde.equilibrium.spectrum.typical_rate`.
        least: error of an eigenvalue that the solver leaves, `mvpde.equilibrium.spectrum.solved`.
    """

    law: Stationary
    modes: Spectrum | None
    branches: Sequence[Branch] = ()
    rate: float = 1.0
    least: float = 0.0


@dataclass(frozen=True)
class LongTimeErrors:
    """LongTimeErrors of the numbers of the finest mesh; see `numbers` for their names.

    Attributes:
        mesh: from coarser meshes; empty where there are none.
        walls: from smaller boxes; empty where no wall cuts the space off, or there are no coarser meshes.
        least: what the solvers leave at least.
        pairs: from the finite rank of a compressed interaction of pairs: differences from a higher one on a coarser mesh.
        labels: from the number of labels; empty without any.
        interaction: `mvpde.equilibrium.truncation.interaction_error`, None where nothing is compressed.
        missing: branches that coarser meshes do not have, by number.
    """

    mesh: dict[str, Richardson] = field(default_factory=dict)
    walls: Numbers = field(default_factory=dict)
    least: Numbers = field(default_factory=dict)
    pairs: Numbers = field(default_factory=dict)
    labels: Numbers = field(default_factory=dict)
    interaction: float | None = None
    missing: tuple[int, ...] = ()

    def of(self, name: str) -> Array | None:
        """The error of a number: that of mesh, walls, finite rank and labels; None where nothing is known, NaN in parts."""
        if name not in self.mesh:
            return None
        others = self.walls.get(name, 0.0) + self.pairs.get(name, 0.0) + self.labels.get(name, 0.0)
        return np.asarray(np.maximum(self.mesh[name].error, self.least.get(name, 0.0)) + others)

    def extrapolated(self, name: str) -> Array | None:
        """The number without the mesh's leading error; the walls' is in it."""
        return self.mesh[name].extrapolated if name in self.mesh else None

    def entries(self, name: str, key: str) -> dict[str, Any]:
        """`<key>_error` and `<key>_extrapolated` for summary.json: numbers or lists, None where they are not known."""
        error, better = self.of(name), self.extrapolated(name)
        return {f"{key}_error": told(error), f"{key}_extrapolated": told(better)}


def told(values: Array | None) -> Any:
    """A number or nested lists for summary.json; None for what is not known."""
    if values is None:
        return None
    entries = np.array(values, object)
    entries[~np.isfinite(values)] = None
    return entries.tolist()


def numbers(found: Found) -> Numbers:
    """mean, covariance, entropy_production, eigenvalues (modes, 2), and branches.<k>.<quantity>."""
    law = found.law
    result = {"mean": law.mean, "covariance": law.covariance, "entropy_production": _number(law.entropy_production)}
    if law.escape_rate is not None:
        result["escape_rate"] = _number(law.escape_rate)
    if found.modes is not None:
        result["eigenvalues"] = pairs_of(found.modes.eigenvalues)
    for k, branch in enumerate(found.branches):
        result |= {f"branches.{k}.{name}": values for name, values in _of_branch(branch).items()}
    return result


def _of_branch(branch: Branch) -> Numbers:
    both = zip(_EVERY, (branch.moments, branch.free_energy, branch.leading_eigenvalue, branch.law.mean), strict=True)
    return {name: _number(value) for name, value in both}


def _number(value: Array | float | None) -> Array:
    return np.asarray(np.nan if value is None else value, float)


def pairs_of(values: NDArray[np.complex128]) -> Array:
    """Real and imaginary parts, shape (n, 2)."""
    return np.column_stack([values.real, values.imag])


# --- the same on other meshes ---------------------------------------------------------------------------------------------------


def compared(density: Density, fine: Found) -> Numbers:
    """The `numbers` of ``fine``, found anew on the mesh of ``density``; NaN where there is nothing alike. Collective.

    Where the model of ``density`` has other features, as with another rank of a compressed interaction, moments are not compared.
    """
    nothing = {name: np.full_like(values, np.nan) for name, values in numbers(fine).items()}
    try:
        law, laws = _law_like(density, fine)
        if law is None:
            return nothing | _branch_numbers(laws)
        modes = None if fine.modes is None else _modes_like(density, law, fine.modes)
    except SolverError:
        return nothing
    known = numbers(Found(law, None)) | _branch_numbers(laws) | ({} if modes is None else {"eigenvalues": modes})
    return {
        name: known[name] if name in known and known[name].shape == values.shape else values for name, values in nothing.items()
    }


def _law_like(density: Density, fine: Found) -> tuple[Stationary | None, dict[int, Branch]]:
    """The law there, and the branches by the number of the fine one."""
    if not density.model.interacting:
        return stationary(density, checked=False), {}
    wanted = np.array([_moments_like(density, branch) for branch in fine.branches])
    laws = {}
    for branch in search(density, list(wanted), fine.law, checked=False).found:
        nearest = int(np.argmin(np.linalg.norm(wanted - branch.moments, axis=1)))
        if nearest in branch.starts:
            laws[nearest] = branch
    mine = next((k for k, branch in enumerate(fine.branches) if branch.law is fine.law), None)
    return (laws[mine].law if mine in laws else None), laws


def _moments_like(density: Density, branch: Branch) -> Array:
    """Moments of a branch in the features of ``density``, which are mostly its own."""
    law, model = branch.law, density.model
    if model.features == len(branch.moments) and model.pairs is None:
        return branch.moments
    z, masses = law.domain.coordinates[: law.domain.owned], law.domain.graph.lumped * law.values[: law.domain.owned]
    return law.domain.sum(masses @ model.feature_values(z))


def _branch_numbers(laws: dict[int, Branch]) -> Numbers:
    return {f"branches.{k}.{name}": values for k, branch in laws.items() for name, values in _of_branch(branch).items()}


def _modes_like(density: Density, law: Stationary, fine: Spectrum) -> Array:
    """λ' as pairs, in the order of the fine λ; NaN where too few are found."""
    count = len(fine.eigenvalues)
    try:
        there = spectrum(density, count + _MORE, law, searched=fine.searched + _MORE).eigenvalues
    except SolverError:
        return np.full((count, 2), np.nan)
    alone = np.abs(there[:, None] - there.conj()).min(axis=1) > 1e-6 * np.abs(there)  # whose partner was cut off
    both = fine.eigenvalues, np.concatenate([there, there[alone].conj()])
    upper = [np.column_stack([values.real, np.abs(values.imag)]) for values in both]  # members of a pair are one
    rows, columns = linear_sum_assignment(np.linalg.norm(upper[0][:, None] - upper[1], axis=2))
    result = np.full((count, 2), np.nan)
    result[rows] = upper[1][columns] * np.column_stack(
        [np.ones(len(rows)), np.where(fine.eigenvalues[rows].imag < 0.0, -1.0, 1.0)]
    )
    return result


# --- errors ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Others:
    """The same numbers where something else than the mesh is coarser; lists that are empty where that plays no part.

    Attributes:
        boxes: on one mesh in the given box, in one a strip smaller, and, unless these hardly differ, in one two strips smaller.
        ranks: with the interaction as it is, and with a higher rank.
        labels: with all labels, and with three quarters of them.
    """

    boxes: Sequence[Numbers] = ()
    ranks: Sequence[Numbers] = ()
    labels: Sequence[Numbers] = ()


NONE = Others()


def errors(density: Density, fine: Found, coarser: Sequence[Numbers] = (), others: Others = NONE) -> LongTimeErrors:
    """What is known of the errors of ``fine``.

    Args:
        density: on the finest mesh.
        fine: what was found there.
        coarser: the same on half and on a quarter of the cells (`compared`), or on half only, or nothing.
        others: what else was found on the coarsest mesh.
    """
    here, scale = numbers(fine), _scales(density, fine)
    smallest = {name: np.asarray(fine.least) for name in here if name.endswith("eigenvalue") or name == "eigenvalues"}
    interaction = interaction_error(density, fine.law)
    if not coarser:
        return LongTimeErrors(least=smallest, interaction=interaction)
    known = {
        name: _from_levels(value, [level[name] for level in coarser], scale[name])
        for name, value in here.items()
        if np.isfinite(value).all()
    }
    if "eigenvalues" in known:
        known["eigenvalues"] = _no_surer_than_slower(known["eigenvalues"])
    alike = len(others.boxes) > 1 and hardly_differ(fine, density, *others.boxes[:2])
    lost = [k for k, _ in enumerate(fine.branches) if not all(np.isfinite(at[f"branches.{k}.moments"]).all() for at in coarser)]
    return LongTimeErrors(
        mesh=known,
        walls={name: _nested([at[name] for at in others.boxes], alike) for name in known} if others.boxes else {},
        least=smallest,
        pairs=_differences(others.ranks, known),
        labels=_differences(others.labels, known),
        interaction=interaction,
        missing=tuple(lost),
    )


def _no_surer_than_slower(modes: Richardson) -> Richardson:
    """With relative errors of at least half those of the slower modes: faster ones are finer, and right by accident if at all.

    Eigenvalues of few cells go up and down with the mesh, and three of them may agree. Those that are zero tell nothing.
    """
    sizes = np.hypot(modes.value[:, 0], modes.value[:, 1])
    relative = np.divide(modes.error[:, 0], sizes, out=np.zeros(len(sizes)), where=sizes > modes.error[:, 0])
    before = np.concatenate([[0.0], np.fmax.accumulate(np.nan_to_num(relative))[:-1]])
    error = modes.error.copy()
    error[:, 0] = np.maximum(error[:, 0], 0.5 * before * sizes)
    return replace(modes, error=error)


def _differences(both: Sequence[Numbers], names: Iterable[str]) -> Numbers:
    """Of two; empty without them, 0 where one does not know the number."""
    return {name: np.nan_to_num(np.abs(both[0][name] - both[1][name])) for name in names} if both else {}


def _from_levels(fine: Array, coarser: Sequence[Array], scale: Array) -> Richardson:
    if len(coarser) == 1:
        return two_levels(fine, coarser[0], scale=scale)
    return three_levels(fine, coarser[0], coarser[1], scale=scale, cancelling=False)


def _nested(levels: Sequence[Array], alike: bool = False) -> Array:
    """|d₁| q/(1 − q) from numbers on nested boxes, the largest first; NaN where there is no second. ``alike``: q = .2 of two."""
    if len(levels) < 2:
        return np.full_like(levels[0], np.nan)
    first = np.abs(levels[0] - levels[1])
    second = np.abs(levels[1] - levels[2]) if len(levels) > 2 else np.full_like(first, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(second > 0.0, first / second, _SLOWEST)
    ratio = np.where(np.isfinite(second), np.clip(ratio, 0.0, _SLOWEST), _USUAL if alike else _SLOWEST)
    return np.asarray(np.where(first > 0.0, first * ratio / (1.0 - ratio), first))


def hardly_differ(fine: Found, density: Density, one: Numbers, other: Numbers) -> bool:
    """Whether a strip changes no number by more than a thousandth of its size."""
    scales = _scales(density, fine)
    gaps = [np.nan_to_num(np.abs(one[name] - other[name])).max(initial=0.0) / scale for name, scale in scales.items()]
    return bool(max(gaps) < _ALIKE)


def _scales(density: Density, fine: Found) -> Numbers:
    """What rounding is relative to."""
    spread, rate = np.sqrt(np.maximum(np.diag(fine.law.covariance), 0.0)).max(), fine.rate
    moments = [np.abs(branch.moments).max(initial=0.0) for branch in fine.branches]
    energies = [abs(branch.free_energy or 0.0) for branch in fine.branches]
    sizes = {
        "mean": spread,
        "covariance": spread**2,
        "entropy_production": max(rate, fine.law.entropy_production or 0.0),
        "eigenvalues": max([rate, *(np.abs(fine.modes.eigenvalues) if fine.modes is not None else [])]),
        "moments": max([spread, *moments]),
        "free_energy": max([density.model.temperature, *energies]),
        "leading_eigenvalue": rate,
        "escape_rate": fine.law.escape_rate or rate,
    }
    return {name: np.asarray(sizes[name.rpartition(".")[2]], float) for name in numbers(fine)}


# --- walls ----------------------------------------------------------------------------------------------------------------------


def cut_offs(density: Density, law: Stationary) -> list[tuple[bool, bool]]:
    """Whether the lower and the upper wall along each direction of a box cuts the space off. Collective.

    Not where the direction is periodic, and not where A_aa vanishes on all of the wall while the drift points inwards.
    """
    domain, model, owned = density.domain, density.model, density.domain.owned
    z = domain.coordinates
    walls = np.flatnonzero(domain.boundary)
    drift = np.zeros((owned, model.dimension))  # is looked at on the walls only
    drift[walls] = model.drift(z[walls], law.moments)
    there = open_walls(domain, drift, model.diffusion(z, law.moments)) & ~model.natural_wall(z[:owned])
    result = []
    for axis in range(domain.dimension):
        lower = z[:owned, axis] < 0.5 * (domain.lower[axis] + domain.upper[axis])
        found = there & on_walls(domain, axis)
        counts = domain.sum(np.array([np.sum(found & lower), np.sum(found & ~lower)], float))
        result.append((bool(counts[0] > 0.0), bool(counts[1] > 0.0)))
    return result


# --- judged ---------------------------------------------------------------------------------------------------------------------


def settled(found: Found, known: LongTimeErrors) -> Found:
    """With eigenvalues below their own error set to zero, and branches of such a leading one neither stable nor unstable."""
    modes = found.modes
    if modes is not None:
        error = known.of("eigenvalues")
        bound = known.least["eigenvalues"] if error is None else np.fmax(error[:, 0], known.least["eigenvalues"])
        bound = _alike_in_pairs(modes.eigenvalues, np.broadcast_to(bound, modes.eigenvalues.shape))
        values = np.where(np.abs(modes.eigenvalues.real) <= bound, 0.0 + 1j * modes.eigenvalues.imag, modes.eigenvalues)
        modes = replace(modes, eigenvalues=values)
    laws = [_judged(branch, k, known) for k, branch in enumerate(found.branches)]
    return replace(found, modes=modes, branches=laws)


def _alike_in_pairs(values: NDArray[np.complex128], bound: Array) -> Array:
    """The larger bound of both members of a complex pair, which have one real part."""
    partners = np.abs(values[:, None] - values.conj()) <= _PARTNERS * np.abs(values)
    return np.asarray(np.where(partners, bound, -np.inf).max(axis=1, initial=-np.inf).clip(bound))


def _judged(branch: Branch, number: int, known: LongTimeErrors) -> Branch:
    name = f"branches.{number}.leading_eigenvalue"
    error = known.of(name)
    bound = float(known.least[name]) if error is None or not np.isfinite(error) else float(error)
    if not abs(branch.leading_eigenvalue) <= bound:
        return branch
    return replace(branch, leading_eigenvalue=0.0, stable=None)
