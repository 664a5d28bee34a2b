"""Where a law goes: a box that holds nearly all of it at all times, from a few thousand particles.

Of each coordinate the two outer quantiles x(p), p = .01 and .002, are continued on the scale of a normal law,

    x(10⁻⁶) ≈ x(.002) + (x(.002) − x(.01)) (z(10⁻⁶) − z(.002)) / (z(.002) − z(.01)),     z the normal quantiles,

which is exact for a normal law, wider for longer tails and narrower for shorter ones, and never less than the outermost particle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from mvpde.runtime import MPI, ArgumentError, InvariantError  # isort: skip  (loads the solver libraries before anything of mpi4py)

import numpy as np
from scipy.special import ndtri

from mvpde.models.laws import Law, marginals
from mvpde.models.mean_field import Array, MeanField
from mvpde.particles.ensemble import Ensemble
from mvpde.particles.schemes import PARTICLE_SCHEMES

OUTSIDE = 1e-6  # share of the mass that the box may miss
PARTICLES, TIMES = 2048, 24
_NEAR, _FAR = 0.01, 0.002  # the quantiles
_FIRST, _STEPS, _TRIES = 0.05, 72, 5  # step, least number of steps, and how many steps may be tried, each half the one before
_MOST = 200_000  # steps of one try; a step that the drift's slope forbids is halved as often as it takes
_SAME = 0.1  # relative change of the box with half the step, or with twice the time, that is none
_DOUBLINGS = 4  # of the time, until a law that is to become stationary is
_PLACES = (-1.0, 0.0, 1.0)  # where spaces end, beside the ends of the start
_VANISHES = 1e-10  # part of the noise among the particles that is none
_MARGIN = 0.03  # of its width, on each side

Box = tuple[Array, Array]


def box_of(model: MeanField, law: Law, end: float, *, lasting: bool = False) -> Box:
    """Lower and upper ends of the moving coordinates, D' numbers each, between which all but OUTSIDE of the law is from 0 to end.

    The same on every rank that calls it, whatever their number: the particles are drawn here.

    Args:
        model: whose law it is.
        law: at t = 0.
        end: until when.
        lasting: whether the law that it becomes in a long time is to be inside, too.

    Raises:
        ArgumentError: particles that run away however short the step, or need more than _MOST steps.
    """
    ends = ends_implied(model, law)
    model = _held(model, *ends)
    step, before, tries = max(min(_FIRST, end / TIMES), end / _STEPS), None, 0
    while tries < _TRIES and end <= _MOST * step:
        try:
            found = _hull(_boxes(model, law, end, step, lasting))
        except InvariantError:
            found = None
        except ArgumentError as error:
            if error.argument != "step":
                raise
            step *= 0.5  # too long where the particles are, which says nothing of the box
            continue
        if found is not None and before is not None and _alike(found, before):
            return _within(_with_margin(_hull(iter([found, before]))), ends)
        step, before, tries = 0.5 * step, found, tries + 1
    if before is None:
        reason = (
            "become infinite, or leave the space where its noise ends,"
            if end <= _MOST * step
            else f"need more than {_MOST:,} steps, so steep is the drift"
        )
        raise ArgumentError("box", f"cannot be found: particles of the model {reason}; give numbers")
    return _within(_with_margin(before), ends)


def ends_implied(model: MeanField, law: Law) -> Box:
    """Ends of the space that the model's own noise and drift imply about the start, −∞ and ∞ where there is none.

    At an end A_aa = 0 and b does not point outwards, so that nothing crosses it. Looked at are −1, 0, 1 and the ends of a
    law with known marginals.
    """
    moving = len(model.directions)
    lower, upper = np.full(moving, -math.inf), np.full(moving, math.inf)
    if model.own_diffusion is None or model.constant_diffusion:
        return lower, upper
    start = law.sample(np.random.default_rng(0), PARTICLES)
    m = model.feature_sum(start) / len(start)
    known = marginals(law)
    for axis in (axis for axis in range(moving) if model.periods[axis] is None):
        own = () if known is None else known[axis].extent()
        noise, least, most = model.diffusion(start, m)[:, axis, axis].max(), start[:, axis].min(), start[:, axis].max()
        for place in {*_PLACES, *own}:
            there = start.copy()
            there[:, axis] = place
            if not np.abs(model.diffusion(there, m)[:, axis, axis]).max() <= _VANISHES * noise:
                continue
            drift = model.drift(there, m)[:, axis]
            if place <= least and np.all(drift >= 0.0):
                lower[axis] = max(lower[axis], place)
            elif place >= most and np.all(drift <= 0.0):
                upper[axis] = min(upper[axis], place)
    return lower, upper


def _held(model: MeanField, lower: Array, upper: Array) -> MeanField:
    """The model whose coefficients beyond the ends are those at them, for steps of particles that pass an end by a little."""
    if not np.any(np.isfinite(np.concatenate([lower, upper]))):
        return model
    still = np.full(model.dimension - len(lower), math.inf)
    low, high = np.concatenate([lower, -still]), np.concatenate([upper, still])
    moving = model.moving
    return replace(
        model,
        own_drift=lambda z, m: model.drift(np.clip(z, low, high), m),
        own_diffusion=lambda z, m: model.diffusion(np.clip(z, low, high), m),
        later=tuple((t, _held(other, lower, upper)) for t, other in model.later),
        moving=None if moving is None else lambda t: _held(moving(t), lower, upper),
    )


def _within(found: Box, ends: Box) -> Box:
    return np.maximum(found[0], ends[0]), np.minimum(found[1], ends[1])


def _boxes(model: MeanField, law: Law, end: float, step: float, lasting: bool) -> Iterator[Box]:
    """At the start and at TIMES times, and where the law is to last until it stays where it is."""
    refused = PARTICLE_SCHEMES["heun"].refuses(model)
    scheme = "heun" if refused is None else "euler"
    pilot = Ensemble(model, law, particles=PARTICLES, seed=0, step=step, scheme=scheme, companion=False, comm=MPI.COMM_SELF)
    yield _start(pilot, law, model)
    until, last = end, None
    for k in range(1, TIMES + 1):
        pilot.advance(end * k / TIMES)
        last = _of_particles(pilot)
        yield last
    for _ in range(_DOUBLINGS if lasting and last is not None else 0):
        until *= 2.0
        pilot.advance(until)
        later = _of_particles(pilot)
        yield later
        if last is not None and _alike(later, last):
            return
        last = later


def _start(pilot: Ensemble, law: Law, model: MeanField) -> Box:
    """Of a law with known marginals their extents."""
    known = marginals(law)
    if known is None:
        return _of_particles(pilot)
    ends = np.array([factor.extent() for factor in known[: len(model.directions)]], float)
    return ends[:, 0], ends[:, 1]


def _of_particles(pilot: Ensemble) -> Box:
    cloud = pilot.cloud()
    assert cloud is not None  # on one rank
    z = np.sort(cloud[0][:, : len(pilot.model.directions)], axis=0)
    return -_outer(-z[::-1]), _outer(z)


def _outer(z: Array) -> Array:
    """The upper end of sorted particles, shape (n, D')."""
    near, far = (np.quantile(z, 1.0 - p, axis=0) for p in (_NEAR, _FAR))
    reach = (ndtri(_FAR) - ndtri(0.5 * OUTSIDE)) / (ndtri(_NEAR) - ndtri(_FAR))
    return np.maximum(far + reach * (far - near), z[-1])


def _hull(boxes: Iterator[Box]) -> Box:
    lower, upper = zip(*boxes, strict=True)
    return np.min(lower, axis=0), np.max(upper, axis=0)


def _alike(a: Box, b: Box) -> bool:
    width = np.maximum(a[1] - a[0], b[1] - b[0])
    return bool(np.all(np.abs(np.subtract(a, b)) <= _SAME * width))


def _with_margin(found: Box) -> Box:
    """Wider, and rounded outward to two digits of the width."""
    width = np.maximum(found[1] - found[0], np.finfo(float).tiny)
    unit = np.array([10.0 ** math.floor(math.log10(w / 20.0)) for w in width])
    lower, upper = found[0] - _MARGIN * width, found[1] + _MARGIN * width
    places = [max(0, -round(math.log10(u))) for u in unit]  # so that a file says 5.1 and not 5.1000000000000005
    ends = np.floor(lower / unit) * unit, np.ceil(upper / unit) * unit
    low, high = (np.array([round(x, n) for x, n in zip(end, places, strict=True)]) for end in ends)
    return low, high
