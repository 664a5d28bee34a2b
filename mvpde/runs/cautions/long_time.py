"""What stationary laws and modes say about themselves: errors beyond a per cent, broken identities, what has no sign."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from mvpde.models.mean_field import Array
from mvpde.runs.cautions.caution import Caution, Findings
from mvpde.runs.cautions.mesh import OUTER_MASS

if TYPE_CHECKING:
    from mvpde.equilibrium.approach import LongTime

ERROR = 1e-2  # of a number, relative to its size: more is told
IDENTITY = 1e-2  # residual of an exact law of any stationary law, relative to its terms
LIMITED = 1e-2  # share of the antidiffusive fluxes that was cut
INTERACTION = 1e-2  # deviation of a compressed interaction's potential, in units of τ
STILL = 1e-3  # of the typical rate: less entropy production is none
_KINKS = "squared_drift"  # the identity that a kink of the potential breaks without any error


def judge(found: Findings) -> Iterator[Caution]:
    """Mass at walls that cut the space off; then, of laws that know their errors, these."""
    if found.long_time is None:
        return
    outer = found.long_time.law.outer_mass
    if outer > OUTER_MASS:
        text = (
            f"stationary: {outer:.1e} of the mass of the stationary law lies in the outer layer of cells; "
            "the model does not confine it to this box: widen [domain] lower and upper, or add confinement"
        )
        yield Caution("stationary.outer_mass", text, outer, OUTER_MASS)
    if hasattr(found.long_time, "errors"):
        known = cast("LongTime", found.long_time)
        yield from _identities(known)
        yield from _errors(known)
        yield from _walls(known)
        yield from _production(known)
        yield from _branches(known)
        yield from _interaction(known)


def _identities(known: LongTime) -> Iterator[Caution]:
    """Exact laws that the stationary law misses, and what the limiter took from it."""
    law = known.law
    residuals = {name: value for name, value in law.identities.items() if name != _KINKS}
    worst = max(residuals, key=lambda name: residuals[name], default=None)
    if worst is not None and residuals[worst] > IDENTITY:
        value = residuals[worst]
        text = (
            f"stationary: the law misses the exact identity `{worst}` by {100 * value:.2g} % of its terms, as numerical "
            "diffusion or a wall makes it: refine [domain] cells, or widen lower and upper where the law reaches the walls"
        )
        yield Caution("stationary.identities", text, value, IDENTITY)
    if law.limiter_share > LIMITED:
        text = (
            f"stationary: {100 * law.limiter_share:.2g} % of the fluxes that make the scheme second order had to be cut to keep "
            "the law positive: refine [domain] cells"
        )
        yield Caution("stationary.limiter_share", text, law.limiter_share, LIMITED)


def _errors(known: LongTime) -> Iterator[Caution]:
    """Mean, covariance, eigenvalues and free energies known to less than a per cent.

    The mean of a coordinate with a period depends on where the box begins, and moves with the seam of the mesh: not judged.
    """
    law, modes = known.law, known.modes
    variances = np.diag(law.covariance)[_on_the_line(known)]
    spread = float(np.sqrt(variances.max(initial=0.0)))
    line = np.isin(np.arange(len(law.mean)), _on_the_line(known))
    yield from _beyond(known, "stationary", "mean", np.where(line, spread, np.inf))
    yield from _beyond(known, "stationary", "covariance", np.where(np.outer(line, line), spread**2, np.inf))
    if modes is not None:
        sizes = np.maximum(np.abs(modes.eigenvalues), known.found.rate * (modes.eigenvalues.real == 0.0))
        yield from _beyond(known, "spectrum", "eigenvalues", np.column_stack([sizes, sizes]))
    for k, branch in enumerate(known.branches):
        if branch.free_energy is not None:
            yield from _beyond(known, "stationary", f"branches.{k}.free_energy", np.asarray(max(abs(branch.free_energy), 1e-300)))


def _on_the_line(known: LongTime) -> list[int]:
    """Coordinates without a period; labels come last and have none."""
    periods = known.law.domain.periods
    return [axis for axis in range(len(known.law.mean)) if axis >= len(periods) or periods[axis] is None]


def _beyond(known: LongTime, section: str, name: str, sizes: Array) -> Iterator[Caution]:
    """The worst entry of a number whose error is beyond the bound, with its largest cause."""
    error = known.errors.of(name)
    if error is None or not (np.isfinite(error) & (sizes < np.inf)).any():
        return
    worst = np.unravel_index(int(np.nanargmax(error / sizes)), error.shape)
    value = float((error / sizes)[worst])
    if value > ERROR:
        cause, remedy = _cause(known, name, worst)
        place = f"{name}{''.join(f'[{k}]' for k in worst)}"
        text = f"{section}: {place} is known to ± {error[worst]:.2g} only ({100 * value:.2g} %), {cause}: {remedy}"
        yield Caution(f"{section}.{name}", text, value, ERROR)


def _cause(known: LongTime, name: str, entry: tuple[np.intp, ...]) -> tuple[str, str]:
    """What makes most of an error, and what helps against it."""
    errors = known.errors
    parts = {
        ("by the mesh", "refine [domain] cells"): errors.mesh[name].error,
        ("by walls that cut the space off", "widen [domain] lower and upper, with as many cells more"): errors.walls.get(name),
        ("by the finite rank of the interaction", "choose a smaller [model] rank_tolerance"): errors.pairs.get(name),
        ("by the number of labels", "raise [labels]"): errors.labels.get(name),
    }
    return max(parts, key=lambda part: 0.0 if (values := parts[part]) is None else float(np.nan_to_num(values[entry])))


def _walls(known: LongTime) -> Iterator[Caution]:
    """Numbers whose error is not known as there is no smaller box to compare with, or none with such a law."""
    missing = [name for name, values in known.errors.walls.items() if np.isnan(values).all()]
    if missing:
        text = (
            f"stationary: what the walls change of {', '.join(missing[:4])}{' …' * (len(missing) > 4)} is not known, as a "
            "smaller box on a coarser mesh has no such law: refine [domain] cells, or widen lower and upper"
        )
        yield Caution("stationary.walls", text, None, None)


def _production(known: LongTime) -> Iterator[Caution]:
    """An entropy production that may be none."""
    value, error = known.law.entropy_production, known.errors.of("entropy_production")
    if value is None or error is None or not np.isfinite(error) or value <= STILL * known.found.rate:
        return
    if not float(error) < value:
        cause, remedy = _cause(known, "entropy_production", ())
        text = f"stationary: the entropy production {value:.3g} is known to ± {float(error):.2g} only, {cause}: {remedy}"
        yield Caution("stationary.entropy_production", text, float(error), value)


def _branches(known: LongTime) -> Iterator[Caution]:
    """Branches without a sign of their leading eigenvalue, and those that coarser meshes do not have."""
    for k, branch in enumerate(known.branches):
        error = known.errors.of(f"branches.{k}.leading_eigenvalue")
        if branch.stable is None and error is not None and np.isfinite(error):
            text = (
                f"stationary: branch {k} is neither stable nor unstable, its leading eigenvalue is 0 ± {float(error):.2g}: "
                "refine [domain] cells, or move the parameters off the critical ones"
            )
            yield Caution("stationary.stable", text, 0.0, float(error))
        if k in known.errors.missing:
            text = f"stationary: branch {k} is not there on coarser meshes; refine [domain] cells until it stays"
            yield Caution("stationary.branches", text, None, None)


def _interaction(known: LongTime) -> Iterator[Caution]:
    """A compressed interaction whose potential is off by a part of τ."""
    value = known.errors.interaction
    if value is not None and value > INTERACTION:
        text = (
            f"stationary: the compressed interaction's potential is off by {value:.2g} τ at the stationary law: choose a smaller "
            "[model] rank_tolerance"
        )
        yield Caution("stationary.interaction_error", text, value, INTERACTION)
