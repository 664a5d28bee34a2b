"""What a law becomes on a mesh: nodal values of the right mass and moments, also where the law is narrower than a cell.

On a mesh that resolves the law ρ_i = (1/m_i)∫ρ_0φ_i keeps mass and first moments even where ρ_0 jumps, but spreads each point
over its cell. On any simplex the second moments that this adds are half of those that the consistent mass matrix would add, so
the fluxes ½m_ij(ρ_i − ρ_j) take them away, as far as positivity allows.

Where a standard deviation of the law is shorter than NARROW cells, nearly all of these fluxes would be cut. On a box the
nodal masses are then products of one-dimensional ones,

    w = (1 − α) w^A + α w^B,     w^A_j = ∫ρφ_j,     w^B the two nodes about the mean that have this mean,

all of which have the law's mean, so that α ∈ [0, 1] gives the law's variance as well, unless even w^B spreads more: no masses on
the nodes have less. On other meshes w^A_i = ∫ρφ_i is computed from the law's own quadrature nodes, found in their cells.

Laws that are made of points, and infinite densities, go this way too, and each part of a mixture for itself. Where coordinates
depend on each other (`joint`), the same is done along all lines of nodes in turn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

from mvpde.density.limiter import add_limited_fluxes
from mvpde.density.starts.spreading import BoxNodes, folded, multilinear, spread, squeezed
from mvpde.mesh.domain import Domain
from mvpde.mesh.locating import deposited
from mvpde.mesh.quadrature import integrate_against_basis
from mvpde.models.laws.law import Law, Law1D, atoms_of, components_of
from mvpde.models.laws.periodic import unwrapped
from mvpde.models.laws.product import Product, cloud_of, has_density, marginals, on_circles, restricted
from mvpde.models.mean_field import MeanField
from mvpde.runtime import ArgumentError

Array = NDArray[np.float64]

NARROW = 0.75  # cells in a standard deviation, below which a law is no longer seen by quadrature in cells
JOINT = 2.0  # the same across coordinates that depend on each other: cells see less of a law that is oblique to them
_OUTSIDE = 0.01  # share of the initial law that the domain may miss, or count twice
_PANELS, _POINTS = 64, 8  # that a law is cut into, and Gauss points in each
_NODES = {1: 512, 2: 64, 3: 20}  # of the law's own quadrature in each direction, where the mesh is no box
_TOUCHING = 1e-6  # cells beyond a wall that count as on it
_DIGITS = 9  # of a position, relative to the domain's extent, by which nodes are on one line


def of_moving(law: Law, domain: Domain) -> Law:
    """The law of the coordinates that are directions of the mesh, which come first; it is independent of the labels.

    Raises:
        ArgumentError: it depends on labels.
    """
    try:
        return restricted(law, 0, domain.dimension) if domain.labels.size else law
    except ValueError as error:
        raise ArgumentError("law", str(error)) from None


def project(domain: Domain, model: MeanField, law: Law) -> tuple[Array, float]:
    """The law's nodal values at owned and ghost unknowns, scaled to mass 1, and the share of it that the domain holds.
    Collective.

    On a union of meshes each holds the law of the moving coordinates, with its weight as its mass.

    Raises:
        ArgumentError: a domain that misses more than 1 % of the law.
    """
    moving = of_moving(on_circles(law, model.periods), domain)
    found = _of_narrow(domain, moving) if _is_narrow(domain, moving) else None
    if found is None:
        found = _resolved(domain, model, moving)
        if not abs(found[1] - 1.0) <= _OUTSIDE:  # the mesh, or the box, may be what is missing
            found = _of_narrow(domain, moving) or found
    values, inside = found
    if not abs(inside - 1.0) <= _OUTSIDE:
        raise ArgumentError("law", f"the domain holds {100 * inside:.1f} % of the initial law; enlarge it or narrow the law")
    return values, inside


def _resolved(domain: Domain, model: MeanField, law: Law) -> tuple[Array, float]:
    """By quadrature in the cells. Collective."""
    loads = integrate_against_basis(domain, lambda z: law.density(z) * model.volume(z))
    shares = domain.part_sums(loads) / domain.weights
    inside = float(shares[np.argmax(np.abs(shares - 1.0))])
    if not inside > 0.0:
        return np.zeros(len(domain.coordinates)), 0.0
    values = np.empty(len(domain.coordinates))
    values[: domain.owned] = loads / (domain.graph.lumped * domain.spread(shares, loads))
    domain.exchange.update(values)
    graph, row = domain.graph, domain.graph.rows()
    fluxes = 0.5 * graph.mass * (values[row] - values[graph.columns])
    add_limited_fluxes(domain, fluxes, values)
    return values, inside


def _nodal(domain: Domain, masses: Array) -> Array:
    """Values at owned and ghost unknowns of masses at owned ones. Collective."""
    values = np.empty(len(domain.coordinates))
    values[: domain.owned] = masses / domain.graph.lumped
    domain.exchange.update(values)
    return values


# --- laws narrower than a cell --------------------------------------------------------------------------------------------------


def _is_narrow(domain: Domain, law: Law) -> bool:
    """Whether quadrature in cells may miss the law."""
    known = marginals(law)
    if domain.metric is not None or known is None:
        return False
    h = spacings(domain)
    if isinstance(law, Product) or not has_density(law):
        return not has_density(law) or any(_scale(factor) < NARROW * width for factor, width in zip(known, h, strict=True))
    points, masses = cloud_of(law, h)
    covariance = np.cov(points.T / np.array(h)[:, None], aweights=masses, ddof=0).reshape(len(h), len(h))
    return bool(np.linalg.eigvalsh(covariance)[0] < JOINT**2)


def _scale(law: Law1D) -> float:
    """The standard deviation of the narrowest part."""
    parts = [part for _, part in components_of(law)]
    return _deviation(law) if parts == [law] else min(_scale(part) for part in parts)


def _deviation(law: Law1D) -> float:
    points, weights = law.quadrature(16)
    return math.sqrt(float(weights @ (points - weights @ points) ** 2))


def spacings(domain: Domain) -> list[float]:
    """Length of a cell in each direction; of a mesh that is no box its mean width in all of them. Collective."""
    first = domain.parts[0].domain if domain.parts else domain
    lines = _lines(first)
    extents = np.subtract(first.upper, first.lower)
    if lines is None:
        return [float(np.prod(extents) / first.nodes) ** (1.0 / first.dimension)] * first.dimension
    counts = [len(line) - (period is None) for line, period in zip(lines, first.periods, strict=True)]
    return [float(extent / count) for extent, count in zip(extents, counts, strict=True)]


def _lines(domain: Domain) -> list[Array] | None:
    """Positions of the nodes of a box in each direction, relative to its extent; None for other meshes. Collective."""
    lower, extent = np.array(domain.lower), np.subtract(domain.upper, domain.lower)
    relative = np.round((domain.coordinates[: domain.owned, : domain.dimension] - lower) / extent, _DIGITS)
    mine = [np.unique(relative[:, axis]) for axis in range(domain.dimension)]
    lines = [np.unique(np.concatenate(parts)) for parts in zip(*domain.comm.allgather(mine), strict=True)]
    return lines if math.prod(map(len, lines)) == domain.nodes else None


def _of_narrow(domain: Domain, law: Law) -> tuple[Array, float] | None:
    """Values and share inside of a law on a mesh that need not resolve it; None for one without marginals, or a metric.
    Collective.
    """
    if domain.metric is not None or marginals(law) is None:
        return None
    if not domain.parts:
        masses, inside = _masses(domain, law)
        return _nodal(domain, masses), inside
    pieces = [_masses(part.domain, law) for part in domain.parts]
    masses = np.concatenate([part.weight * piece for part, (piece, _) in zip(domain.parts, pieces, strict=True)])
    return _nodal(domain, masses), pieces[0][1]


def _masses(domain: Domain, law: Law) -> tuple[Array, float]:
    """Nodal masses at owned unknowns that sum to 1, and the share of the law inside. Collective."""
    lines = _lines(domain)
    if lines is None:
        rule = law.quadrature([_NODES[domain.dimension]] * domain.dimension) if isinstance(law, Product) else None
        masses, inside = deposited(domain, *(rule or cloud_of(law, spacings(domain))))
        return masses / inside if inside > 0.0 else masses, inside
    if not isinstance(law, Product):
        return _joint(domain, law)
    masses, inside = np.ones(domain.owned), 1.0
    for axis, (factor, h) in enumerate(zip(law.factors, spacings(domain), strict=True)):
        lower, upper, period = domain.lower[axis], domain.upper[axis], domain.periods[axis]
        shares, within = _of_direction(factor, lower, round((upper - lower) / h), h, period is not None)
        index = np.rint((domain.coordinates[: domain.owned, axis] - lower) / h).astype(int)
        masses, inside = masses * shares[index % len(shares)], inside * within
    return masses, inside


def _joint(domain: Domain, law: Law) -> tuple[Array, float]:
    """Of coordinates that depend on each other. Collective."""
    h, lower = np.array(spacings(domain)), np.array(domain.lower)
    cells = np.rint(np.subtract(domain.upper, domain.lower) / h).astype(int)
    grid = BoxNodes(tuple(map(int, cells)), tuple(period is not None for period in domain.periods))
    points, masses = cloud_of(law, list(h))
    found, inside = spread((points - lower) / h, masses, grid, NARROW)
    index = np.rint((domain.coordinates[: domain.owned] - lower) / h).astype(int)
    return found[tuple((index % np.array(found.shape)).T)], inside


def _of_direction(law: Law1D, lower: float, cells: int, h: float, periodic: bool) -> tuple[Array, float]:
    """Masses of the nodes of one direction, which sum to 1, and the share of the law between its ends; wrapped where periodic."""
    parts = components_of(law)
    if len(parts) > 1:
        found = [(share, *_of_direction(part, lower, cells, h, periodic)) for share, part in parts]
        inside = math.fsum(share * within for share, _, within in found)
        return np.sum([share * within * masses for share, masses, within in found], axis=0) / (inside or 1.0), inside
    x, w = atoms_of(law) or _quadrature(unwrapped(law), lower, lower + cells * h, h, periodic)
    place = (x - lower) / h
    if not periodic:
        kept = (place > -_TOUCHING) & (place < cells + _TOUCHING)
        place, w = np.clip(place[kept], 0.0, cells), w[kept]
    inside = float(w.sum())
    if not inside > 0.0:
        return np.zeros(cells + (not periodic)), 0.0
    w = w / inside
    first = math.floor(float(place.min()))
    masses = multilinear((place - first)[:, None], w, (math.floor(float(place.max())) + 2 - first,))
    return folded(squeezed(masses, float(w @ (place - w @ place) ** 2), NARROW), first, cells, periodic), inside


def _quadrature(law: Law1D, lower: float, upper: float, h: float, periodic: bool) -> tuple[Array, Array]:
    """Points and weights times densities: Gauss points in panels that end at nodes and are short beside the law's extent."""
    a, b = law.extent()
    if periodic:
        b = min(b, a + (upper - lower))
    else:
        a, b = max(a, lower), min(b, upper)
    if not a < b:
        return np.zeros(1), np.zeros(1)
    nodes = lower + h * np.arange(math.ceil((a - lower) / h), math.floor((b - lower) / h) + 1)
    ends = np.unique(np.concatenate([np.linspace(a, b, _PANELS + 1), nodes[(nodes > a) & (nodes < b)]]))
    t, w = leggauss(_POINTS)
    half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    x = (middle[:, None] + half[:, None] * t).ravel()
    return x, (half[:, None] * w).ravel() * law.density(x)
