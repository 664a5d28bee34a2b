"""Shallow networks f[ρ](x) = ∫ c φ(x, y) ρ(dy, dc) as mean-field models: z = (y, c), g_p(z) = c φ(x_p, y), R the loss.

Rotskoff & Vanden-Eijnden, arXiv:1805.00915; Mei, Montanari & Nguyen, arXiv:1804.06561.
"""

from __future__ import annotations

import inspect

import numpy as np

from mvpde.models.data import Data
from mvpde.models.laws import Product, base_potential
from mvpde.models.losses import LOSSES, Outer
from mvpde.models.mean_field import MeanField
from mvpde.models.shell import Shell, ShellLaw, lifted
from mvpde.models.units import UNITS, Unit
from mvpde.registry import check_known


def unit_defaults(unit: str) -> dict[str, float | bool]:
    """Names and default values of the parameters of a unit, ``bias`` included where the unit has one."""
    signature = inspect.signature(UNITS[unit])
    return {name: p.default for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def network(
    unit: str,
    data: Data,
    *,
    loss: str = "least_squares",
    temperature: float = 0.0,
    base: Product | ShellLaw | None = None,
    bias: bool = True,
    **unit_parameters: float,
) -> MeanField:
    """The mean-field model of a shallow network: V(y, c; m) = V0 + c Σ_p ∂_pR(m) φ(x_p, y), V0 = −τ log m̂.

    Args:
        unit: a name in `UNITS`.
        data: x_p, w_p, f_p: a `Data`, see `mvpde.data`.
        loss: a name in `LOSSES`.
        temperature: τ ≥ 0.
        base: m̂, one law per coordinate, or the `ShellLaw` of y on a sphere and c; None for the flat measure. Without
            effect at τ = 0.
        bias: False drops the coordinate b of a unit φ(a·x + b).
        unit_parameters: keyword arguments of the unit, such as ``kappa=2.0``.

    With y on a sphere, z = (y, c) is given by the coordinates X of `mvpde.models.shell`, the model's metric.

    Raises:
        ValueError: for an unknown unit, loss or parameter, a negative temperature, targets or inputs that do not fit;
            data that are no `Data`.
    """
    if not isinstance(data, Data):
        raise ValueError(f"data: give a Data, as the functions of mvpde.data make it, not {type(data).__name__}")
    made, loss_of = UNITS.require(unit), LOSSES.require(loss)
    parameters = unit_parameters | ({} if bias else {"bias": False})
    for name in parameters:
        check_known(name, sorted(unit_defaults(unit)), f"unit '{unit}'")
    phi, outer = made(data.x, **parameters), loss_of(data)
    if phi.sphere is not None:
        return _on_shell(phi, phi.sphere, data, outer, temperature, base)
    coordinates, periods = (*phi.coordinates, "c"), (*phi.periods, None)
    if isinstance(base, ShellLaw):
        raise ValueError(f"base_measure is a law on a sphere, and unit '{unit}' has its parameters elsewhere")
    potential, gradient = base_potential(base, temperature, coordinates, periods)
    return MeanField(
        coordinates=coordinates,
        profile=phi.profile,
        profile_field=phi.profile_field,
        outer_energy=outer.energy,
        outer_gradient=outer.gradient,
        convex=outer.convex,
        temperature=temperature,
        external_potential=potential,
        external_gradient=gradient,
        output_weight=True,
        periods=periods,
        data=data,
    )


def _on_shell(
    unit: Unit, radius: float, data: Data, outer: Outer, temperature: float, base: Product | ShellLaw | None
) -> MeanField:
    """The network of a unit whose y lies on a sphere: X = e^{c/R₀}y/R₀ stands for z = (y, c)."""
    shell, dimension = Shell(radius), len(unit.coordinates)
    if isinstance(base, Product):
        raise ValueError("base_measure needs the laws of y, on the sphere, and of c")
    law = base if temperature > 0.0 else None
    profile, profile_field = lifted(shell, unit.profile, unit.profile_field)
    return MeanField(
        coordinates=tuple(f"X{k + 1}" for k in range(dimension)),
        profile=profile,
        profile_field=profile_field,
        outer_energy=outer.energy,
        outer_gradient=outer.gradient,
        convex=outer.convex,
        temperature=temperature,
        external_potential=lambda z: np.zeros(len(z)) if law is None else -temperature * law.log_density(z),
        external_gradient=lambda z: np.zeros_like(z) if law is None else -temperature * law.log_density_gradient(z),
        metric=shell,
        data=data,
    )
