"""Stationary laws of Fokker–Planck equations at given moments: Gibbs states, or the null vector of the limited Galerkin operator.

∇·(−bρ + ∇·(Aρ)) = 0 with ∫ρ = 1, b and A at moments m; where they depend on m, `branches` finds the m that are those of ρ. For
a gradient flow ρ ∝ e^{−V/τ}, which the edge-averaged scheme keeps exactly. Else ρ carries a current J = bρ − ∇·(Aρ), and the
entropy production ∫J·A⁻¹J/ρ measures how far it is from detailed balance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mvpde.density.density import Density
from mvpde.density.edge_averaged import edge_averaged
from mvpde.density.fluxes import make_positive, rate
from mvpde.density.galerkin import edge_geometry, galerkin, gradient
from mvpde.density.resolution import outer_mass
from mvpde.density.schemes import SCHEMES
from mvpde.density.steps.positive import with_ghosts
from mvpde.density.systems import ShiftedSystem, complete
from mvpde.density.walls.drain import drain
from mvpde.density.walls.survival import edges
from mvpde.equilibrium.identities import identities, mean_and_covariance
from mvpde.equilibrium.sharpening import taken_towards
from mvpde.equilibrium.walls.escape import killed
from mvpde.mesh.domain import Domain
from mvpde.mesh.failures import as_solver_error
from mvpde.mesh.walls import on_walls, open_walls
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError, SolverError

Array = NDArray[np.float64]

_LONG = (
    1e12  # a pseudo-time step in units of the fastest rate: long against every slow rate that double precision can tell from zero
)
SOLVED = 1e-12  # relative residual of a linear system, where an iteration solves it; complete factors do better
_SOLVES = 100  # of inverse iteration; two or three do where λ₁ is not tiny
_UNIQUE = 1e-6  # L¹ distance between laws found from two starts
_SETTLED = 1e-13  # change in L¹ at which inverse iteration ends
_DOSE, _MORE = 0.02, 2.0  # of upwinding at a node the first time that ρ < 0 there, and its growth each further time
_ROUNDS = 200  # of adding nodes to those with upwinding
_NEGATIVE = -1e-14  # below this part of the maximum a value is negative by more than rounding
_HARDLY = 1e-3  # L¹ distance that upwinding may move a law without being taken back
_SEEN = 1e-12  # nodes with less than this part of the maximum count as empty where a ratio to ρ is taken


@dataclass(frozen=True)
class Stationary:
    """A stationary law on a domain, and how far it can be trusted.

    Attributes:
        domain: where it lives.
        moments: m in b, A or V, shape (K,).
        values: ρ at owned and ghost unknowns (local), mass 1.
        inward, outward: k_ij and k_ji of the operator that it is the null vector of, but for what `mvpde.equilibrium.sharpening`
            takes back of its upwinding; for each entry of the edge graph (local).
        mean, covariance: of the coordinates, shapes (D,) and (D, D), labels included; on circles the mean of directions, and of
            distances from it the short way round.
        identities: name → |Σ of the terms| over the mean of ⟨|term|⟩, for exact laws of the continuous problem; see `identities`.
        entropy_production: ∫J·A⁻¹J/ρ, None where A is singular.
        current: J at owned unknowns (local), shape (owned, D).
        residual: Σ_i|Σ_j F_ij| / Σ_ij|k_ij ρ_j|, how well the discrete equation is solved.
        limiter_share: part of the antidiffusive fluxes Σ d_ij|ρ_i − ρ_j| that was cut.
        minimum: smallest value over the largest.
        outer_mass: share of the mass in the outer layer of cells.
        rounds: solves for a null vector that it took to reach a positive one; 0 for a Gibbs state.
        escape_rate: λ₀, at which its mass goes into absorbing walls; None without these, where it is the law of all mass.
    """

    domain: Domain
    moments: Array
    values: Array
    inward: Array
    outward: Array
    mean: Array
    covariance: Array
    identities: dict[str, float]
    entropy_production: float | None
    current: Array
    residual: float
    limiter_share: float
    minimum: float
    outer_mass: float
    rounds: int
    escape_rate: float | None = None


@dataclass(frozen=True)
class Balance:
    """A law that the fluxes F_ij = k_ij ρ_j − k_ji ρ_i leave as it is: fields of `Stationary`, and what was upwinded.

    Attributes:
        values, inward, outward, limiter_share, rounds: as in `Stationary`.
        cut: share of upwinding at each local node; None for a Gibbs state.
        fastest: the fastest rate of the operator; 0 for a Gibbs state.
        kept: the null vector of these coefficients (local) where it is not ``values``; else None.
    """

    values: Array
    inward: Array
    outward: Array
    limiter_share: float = 0.0
    rounds: int = 0
    cut: Array | None = None
    fastest: float = 0.0
    kept: Array | None = None


@as_solver_error("the search for a stationary law", "stationary")
def stationary(density: Density, moments: Array | None = None, *, checked: bool = True) -> Stationary:
    """The stationary law of the equation that ``density`` solves, on its mesh; its present state does not matter. Collective.

    Args:
        density: where model, mesh and scheme are taken from.
        moments: m of a stationary law of an interacting model, shape (K,), from `branches`.
        checked: whether to look at identities, and whether another start leads to the same law where it is no Gibbs state.

    Raises:
        ArgumentError: no `Density`, a model without diffusion, or an interacting one without ``moments``.
        SolverError: no unique stationary law found. On all ranks alike.
    """
    require_density(density)
    model, domain = density.model, density.domain
    if moments is None:
        if model.interacting:
            _require_diffusion(model)
            raise ArgumentError("moments", "the laws of an interacting model come from mvpde.branches, which finds their moments")
        moments = density.moments()[0]
    if drain(density.domain, model) is not None:
        return _quasi_stationary(density, moments)
    gibbs = is_gibbs(density)
    law = balance(density, moments)
    if checked and not gibbs:
        _check_unique(domain, law)
    values, inward, outward = law.values, law.inward, law.outward
    kept = values if law.kept is None else law.kept
    owned = domain.owned
    along = domain.dimension  # labels, which come last, do not move
    places = density.features.places
    b, a = model.drift(places, moments)[:, :along], model.diffusion(places, moments)[:, :along, :along]
    masses = domain.graph.lumped * values[:owned]
    mean, covariance = mean_and_covariance(domain, model.periods, masses)
    still = gibbs or without_current(domain)
    current = np.zeros((owned, domain.dimension)) if still else _current(domain, values, b, a)
    smallest, largest = domain.extremes(values[:owned])
    ends = ~open_walls(domain, b, a)
    return Stationary(
        domain=domain,
        moments=moments,
        values=values,
        inward=inward,
        outward=outward,
        mean=mean,
        covariance=covariance,
        identities=identities(model, domain, values, lambda points: model.drift(points, moments), a, places) if checked else {},
        entropy_production=0.0 if still else _entropy_production(domain, values, current, a),
        current=current,
        residual=_residual(domain, inward, outward, kept),
        limiter_share=law.limiter_share,
        minimum=smallest / largest,
        outer_mass=outer_mass(domain, values, replace(model, natural_wall=lambda z: model.natural_wall(z) | ends)),
        rounds=law.rounds,
    )


def _quasi_stationary(density: Density, moments: Array) -> Stationary:
    """The law of the survivors between absorbing walls at long times, and the rate at which they become fewer."""
    domain, owned = density.domain, density.domain.owned
    rates, modes = killed(density, 1)
    values = with_ghosts(domain, np.ascontiguousarray(modes[0].real))
    inward, outward = edges(domain, density.features, moments)
    b, a = (f(density.features.places, moments) for f in (density.model.drift, density.model.diffusion))
    lost = np.empty(owned)
    rate(domain.graph.offsets, domain.graph.columns, domain.graph.lumped, inward, outward, values, lost)
    masses = domain.graph.lumped * values[:owned]
    largest = domain.extremes(values[:owned])[1]
    off = np.where(values[:owned] > 0.0, lost + rates[0].real * values[:owned], 0.0)
    mean, covariance = mean_and_covariance(domain, density.model.periods, masses)
    return Stationary(
        domain=domain,
        moments=moments,
        values=values,
        inward=inward,
        outward=outward,
        mean=mean,
        covariance=covariance,
        identities={},
        entropy_production=None,
        current=_current(domain, values, b, a),
        residual=float(domain.sum(np.array(domain.graph.lumped @ np.abs(off)))) / float(rates[0].real),
        limiter_share=0.0,
        minimum=domain.extremes(values[:owned])[0] / largest,
        outer_mass=outer_mass(domain, values, density.model, moments),
        rounds=0,
        escape_rate=float(rates[0].real),
    )


def require_density(density: object) -> None:
    """Refuse what is no density on a mesh, or one whose equation never stays the same.

    Raises:
        ArgumentError: saying so.
    """
    if not isinstance(density, Density):
        raise ArgumentError("density", f"must be a Density, whose mesh the law is sought on, not {type(density).__name__}")
    if not density.still:
        raise ArgumentError("density", "has coefficients that depend on time, so no law of it is stationary")


def without_current(domain: Domain) -> bool:
    """Whether no stationary law can carry a current: on an interval, whose walls let nothing through."""
    return domain.dimension == 1 and domain.periods[0] is None


def is_gibbs(density: Density) -> bool:
    """Whether the stationary laws of ``density`` are Gibbs states to its scheme."""
    kept = drain(density.domain, density.model) is None
    return kept and density.model.gradient_flow and SCHEMES[density.scheme].stationary == "gibbs"


def balance(density: Density, moments: Array, start: Balance | None = None) -> Balance:
    """The law that is stationary at ``moments``, shape (K,); ``start``: that at other moments, to begin from. Collective.

    Raises:
        ArgumentError: a gradient flow at temperature 0. SolverError: no positive stationary law found.
    """
    return _gibbs(density, moments) if is_gibbs(density) else _null_vector(density, moments, start)


def _require_diffusion(model: MeanField) -> None:
    """Refuse a gradient flow at temperature 0."""
    if model.gradient_flow and model.temperature == 0.0:
        raise ArgumentError("density", "needs diffusion: model.temperature is 0, so the law ends in the minima of the potential")


def _gibbs(density: Density, moments: Array) -> Balance:
    """ρ ∝ e^{−V/τ} and the edge-averaged coefficients, whose fluxes it makes vanish one by one."""
    domain, model, entries = density.domain, density.model, len(density.domain.graph.columns)
    _require_diffusion(model)
    potential = potential_at(density, moments)
    lowest = domain.part_minima(potential[: domain.owned])
    values = domain.normalised(np.exp(-(potential - domain.spread(lowest, potential)) / model.temperature))
    inward, outward = np.empty(entries), np.empty(entries)
    edge_averaged(domain, density.features, model.temperature)(moments, inward, outward)
    return Balance(values, inward, outward)


def log_gibbs(density: Density, potential: Array) -> Array:
    """log ρ̂ = −V/τ − log Σ m_i e^{−V_i/τ} at local nodes, V shifted by its minimum first, each label by itself. Collective.

    At small noise ρ̂ itself is 0 in floating point where V is high.
    """
    domain = density.domain
    logarithm = -(potential - domain.spread(domain.part_minima(potential), potential)) / density.model.temperature
    return np.asarray(logarithm - domain.spread(np.log(domain.part_masses(np.exp(logarithm)) / domain.weights), potential))


def potential_at(density: Density, moments: Array) -> Array:
    """V(·; m) at local nodes."""
    potential = np.empty(len(density.domain.coordinates))
    density.features.potential(moments, potential)
    return potential


def _null_vector(density: Density, moments: Array, start: Balance | None) -> Balance:
    """The null vector of the Galerkin operator with discrete upwinding of the edges at as few nodes as positivity takes.

    It starts without upwinding and adds doses of it at the nodes where ρ < 0, each twice the one before, until there are none: no
    node has more than about twice what it takes. That ends: if N were the set with ρ < 0 and all doses were full there, no edge
    into it would have a negative coefficient, so that each flux into N would be ≥ 0; their sum vanishes, hence each does, and N
    would be cut off from the rest. What upwinding moved is then taken back as far as ρ ≥ 0 allows (`sharpening`).
    """
    domain, graph, owned = density.domain, density.domain.graph, density.domain.owned
    entries, local = len(graph.columns), len(density.domain.coordinates)
    plain = np.empty(entries), np.empty(entries)
    galerkin(domain, density.features, density.model)(moments, *plain)
    row = graph.rows()
    fastest = domain.extremes(np.bincount(row, weights=np.abs(plain[1]), minlength=owned) / graph.lumped)[1]
    system, cut = ShiftedSystem(domain, [complete("stationary_")]), np.zeros(local)
    values = without = np.ones(local) if start is None else start.values
    for rounds in range(1, _ROUNDS + 1):
        inward, outward = plain[0].copy(), plain[1].copy()
        make_positive(graph.offsets, graph.columns, cut, inward, outward)
        system.set(inward, outward, _LONG / fastest)
        values = _inverse_iteration(domain, system, values)
        negative = values < _NEGATIVE * domain.extremes(values[:owned])[1]
        if not domain.sum(np.array(float(negative[:owned].sum()))) > 0.0:
            law = Balance(values, inward, outward, _cut_share(domain, plain, cut, values), rounds, cut, fastest)
            moved = float(domain.sum(np.array(graph.lumped @ np.abs(values - without)[:owned]))) if rounds > 1 else 0.0
            return law if moved < _HARDLY else replace(law, values=taken_towards(domain, values, without), kept=values)
        if rounds == 1:
            without = values
        cut = np.where(negative, np.minimum(1.0, np.maximum(_DOSE, _MORE * cut)), cut)
    raise SolverError("found no positive stationary law; refine the mesh or make the domain larger", "stationary")


def long_system(domain: Domain, law: Balance) -> tuple[ShiftedSystem, float]:
    """LU factors of M + a𝓛 for the operator of a law that is no Gibbs state, and a, long against all slow rates. Collective."""
    system, factor = ShiftedSystem(domain, [complete("stationary_")]), _LONG / law.fastest
    system.set(law.inward, law.outward, factor)
    return system, factor


def _inverse_iteration(domain: Domain, system: ShiftedSystem, start: Array) -> Array:
    """Implicit Euler steps, long against everything that decays, until nothing changes; mass 1, on unions that of each part."""
    lumped, owned = domain.graph.lumped, domain.owned
    before = np.maximum(start[:owned], 0.0)
    for _ in range(_SOLVES):
        after = system.solve(lumped * before, before, SOLVED)
        after = domain.normalised(after)
        change = float(domain.sum(np.array(lumped @ np.abs(after - before))))
        before = after
        if change < _SETTLED or not np.isfinite(change):
            break
    if not change < 1e3 * _SETTLED:
        raise SolverError(
            f"the law still changed by {change:.1e} after {_SOLVES} long steps; it is not unique (parts of the domain do not "
            "communicate) or relaxes too slowly for double precision",
            "stationary",
        )
    result = np.empty(len(domain.coordinates))
    result[:owned] = before
    domain.exchange.update(result)
    return result


def _check_unique(domain: Domain, law: Balance) -> None:
    """Another start must lead to the same law."""
    owned, system = domain.owned, long_system(domain, law)[0]
    values = law.values if law.kept is None else law.kept
    place = (domain.coordinates[:, : domain.dimension] - np.array(domain.lower)) / (
        np.array(domain.upper) - np.array(domain.lower)
    )
    other = _inverse_iteration(domain, system, np.exp(place @ np.sqrt([2.0, 3.0, 5.0][: domain.dimension])))
    gap = float(domain.sum(np.array(domain.graph.lumped @ np.abs(other - values)[:owned])))
    if gap > _UNIQUE:
        raise SolverError(
            f"the law is not unique: two starts end {gap:.1e} apart in L¹; parts of the domain do not communicate, as where the "
            "diffusion vanishes or a barrier is far too high",
            "stationary",
        )


def _cut_share(domain: Domain, plain: tuple[Array, Array], cut: Array, values: Array) -> float:
    """Σ d_ij|ρ_i − ρ_j| over the upwinded edges, over the same sum over all edges."""
    graph = domain.graph
    row = graph.rows()
    upwinding = np.maximum(0.0, -np.minimum(*plain))
    fluxes = upwinding * np.abs(values[row] - values[graph.columns])
    taken, offered = domain.sum(np.array([fluxes @ np.maximum(cut[row], cut[graph.columns]), fluxes.sum()]))
    return float(taken / offered) if offered > 0.0 else 0.0


def _residual(domain: Domain, inward: Array, outward: Array, values: Array) -> float:
    graph = domain.graph
    rates = np.empty(domain.owned)
    rate(graph.offsets, graph.columns, graph.lumped, inward, outward, values, rates)
    net, gross = domain.sum(np.array([graph.lumped @ np.abs(rates), np.abs(inward * values[graph.columns]).sum()]))
    return float(net / max(gross, 1e-300))


def _current(domain: Domain, values: Array, b: Array, a: Array) -> Array:
    """J = ρ(b − ∇·A − A∇log ρ) at owned unknowns: the logarithm is smooth in the tails, and quadratic for a Gaussian."""
    owned, dimension, geometry = domain.owned, domain.dimension, edge_geometry(domain)
    largest = domain.extremes(values[:owned])[1]
    slope = gradient(domain, geometry, np.log(np.maximum(values, 1e-3 * _SEEN * largest)))
    velocity = b[:owned] - np.einsum("nij,nj->ni", a[:owned], slope)
    for k in range(dimension):
        for c in range(dimension):
            velocity[:, k] -= gradient(domain, geometry, a[:, k, c])[:, c]
        velocity[on_walls(domain, k), k] = 0.0
    return np.maximum(values[:owned], 0.0)[:, None] * velocity


def _entropy_production(domain: Domain, values: Array, current: Array, a: Array) -> float | None:
    """∫J·A⁻¹J/ρ over the nodes that are not empty, None where A is singular at one of them."""
    owned = domain.owned
    largest = domain.extremes(values[:owned])[1]
    seen = values[:owned] > _SEEN * largest
    eigenvalues = np.linalg.eigvalsh(a[:owned][seen])
    worst = domain.extremes(eigenvalues[:, 0] / np.maximum(eigenvalues[:, -1], 1e-300))[0]
    if not worst > 1e-12:
        return None
    velocity = current[seen] / values[:owned][seen, None]
    power = np.einsum("ni,ni->n", velocity, np.linalg.solve(a[:owned][seen], velocity[:, :, None])[:, :, 0])
    return float(domain.sum(np.array((domain.graph.lumped * values[:owned])[seen] @ power)))
