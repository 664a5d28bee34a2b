"""Linear Fokker–Planck equations from matrices or expressions: dz = b(z) dt + √(2A(z)) dB,

    ∂_tρ = ∇·(−bρ + ∇·(Aρ)),        b = −Mz, −∇V, or as written;        A ⪰ 0 a matrix, τI, or as written.

A may be full, depend on the place and be degenerate. b = −∇V with A = τI (also −Mz with M symmetric) is the gradient flow of ∫Vρ + τ∫ρ log ρ,
whose stationary law is the Gibbs law ∝ exp(−V/τ); everything else carries a probability current in general
(Risken, The Fokker–Planck Equation, 2nd ed. 1989, ch. 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from mvpde.models.derivatives import gradient
from mvpde.models.expressions import Expression, compile_expression
from mvpde.models.mean_field import Array, MeanField

Function = Callable[[Array], Array]

COORDINATES = ("x", "y", "z")
ROUNDING = 1e-12  # relative asymmetry, or negative eigenvalue, that counts as rounding
NO_PARAMETERS: Mapping[str, float] = MappingProxyType({})


def fokker_planck(
    coordinates: Sequence[str],
    *,
    drift_matrix: ArrayLike | None = None,
    diffusion_matrix: ArrayLike | None = None,
    potential: str | None = None,
    drift: Sequence[str] | None = None,
    diffusion: Sequence[Sequence[str]] | None = None,
    temperature: float | None = None,
    parameters: Mapping[str, float] = NO_PARAMETERS,
) -> MeanField:
    """The model with one drift (``drift_matrix``, ``potential`` or ``drift``) and one diffusion (``diffusion_matrix``, ``diffusion`` or
    ``temperature``).

    Args:
        coordinates: names of the D coordinates, D ≤ 3.
        drift_matrix: M in b = −Mz, shape (D, D).
        diffusion_matrix: A, shape (D, D), symmetric and positive semidefinite; degenerate is fine.
        potential: V in b = −∇V, an expression in the coordinates, differentiated exactly.
        drift: b, D expressions.
        diffusion: A, D × D expressions; symmetry and sign are checked wherever the model is evaluated.
        temperature: τ ≥ 0 in A = τI.
        parameters: numbers that expressions may use, by name.

    Raises:
        ValueError: (`ExpressionError` for an expression) none or two of one kind given; a matrix that is not square, of another size
            or not finite; a diffusion that is not symmetric or has a negative eigenvalue.
    """  # noqa: D205 - the list of keys does not fit on one line
    names = tuple(coordinates)
    given_drift = _only("drift", {"drift_matrix": drift_matrix, "potential": potential, "drift": drift})
    given_diffusion = _only(
        "diffusion", {"diffusion_matrix": diffusion_matrix, "diffusion": diffusion, "temperature": temperature}
    )
    compiled = _compiler(names, parameters)
    energy = _ENERGIES.get(given_drift, _no_energy)(drift_matrix, potential, compiled, names)
    tau = 0.0 if temperature is None else temperature
    if energy is not None and given_diffusion == "temperature":
        return _model(names, temperature=tau, external_potential=energy[0], external_gradient=energy[1])
    velocity = _velocity(drift_matrix, drift, compiled, names) if energy is None else _negated(energy[1])
    tensor = _tensor(diffusion_matrix, diffusion, tau, compiled, names)
    # the potential, where there is one, stays part of the model as the energy ∫Vρ
    external = {} if energy is None else {"external_potential": energy[0], "external_gradient": energy[1]}
    return _model(names, drift=lambda z, m: velocity(z), diffusion=lambda z, m: tensor(z), **external)
