"""Laws of labelled densities: nothing passes between labels, each is a density of its own, particles keep their label."""

from __future__ import annotations

import numpy as np
import pytest

from mvpde.density.density import Density
from mvpde.mesh.box import box
from mvpde.mesh.union import union
from mvpde.models.fokker_planck import fokker_planck
from mvpde.models.interaction import diffusion, gradient_flow
from mvpde.models.laws import Normal, Product, Uniform
from mvpde.models.mean_field import MeanField
from mvpde.particles.characteristics import Characteristics
from mvpde.particles.ensemble import Ensemble
from mvpde.runtime import MPI, ArgumentError

FIELD = Normal(0.1, 0.6)
START = Normal(0.3, 0.4)


def attracting(temperature: float) -> MeanField:
    """Particles in a double well that draw each other and feel a field of their own."""
    return gradient_flow(
        ["x", "h"],
        potential="x**4/4 - x**2/2 - h*x",
        features=["x", "x**2"],
        outer_energy="0.5*(m1 - m0**2)",
        temperature=temperature,
        observables={"together": "x*h"},
        frozen=["h"],
    )


def labelled(model: MeanField, cells: int, labels: int, scheme: str, comm: MPI.Intracomm, tolerance: float = 1e-5) -> Density:
    nodes, weights = FIELD.quadrature(labels)
    mesh = union([box([-3.0], [3.0], [cells], comm=comm)] * labels, weights, nodes)
    return Density(model, mesh, Product((START, FIELD)), scheme=scheme, tolerance=tolerance)


@pytest.mark.ranks
@pytest.mark.parametrize(("temperature", "scheme"), [(0.0, "flux_corrected"), (0.2, "edge_averaged"), (0.2, "galerkin")])
def test_every_label_keeps_its_mass(comm: MPI.Intracomm, temperature: float, scheme: str) -> None:
    """The mass of each of 12 labels, from .1 to 1e-7, stays to 1e-12 of itself; ρ ≥ 0."""
    density = labelled(attracting(temperature), 60, 12, scheme, comm)
    density.advance(0.5)
    masses = density.domain.part_masses(density.values)
    assert np.abs(masses / density.domain.weights - 1.0).max() < 1e-12
    assert density.statistics()["label_defect"] == pytest.approx(0.0, abs=1e-12)
    assert density.domain.extremes(density.values[: density.domain.owned])[0] >= -1e-14


@pytest.mark.ranks
def test_it_goes_on_where_it_stopped_and_does_not_depend_on_the_ranks(comm: MPI.Intracomm) -> None:
    """After a checkpoint the same values; those of one rank to rounding."""
    density, again = (labelled(attracting(0.0), 40, 5, "auto", comm) for _ in range(2))
    alone = labelled(attracting(0.0), 40, 5, "auto", MPI.COMM_SELF)
    density.advance(0.3)
    again.restore(density.state())
    density.advance(0.5)
    again.advance(0.5)
    alone.advance(0.3)
    alone.advance(0.5)
    assert np.array_equal(density.values, again.values)
    assert density.expectation(density.model.observables["together"])[0] == pytest.approx(
        alone.expectation(alone.model.observables["together"])[0], abs=1e-13
    )
    values, those = comm.bcast(density.domain.to_mesh(density.values)), alone.domain.to_mesh(alone.values)
    assert those is not None
    assert np.allclose(values, those, atol=1e-12)
    fields = density.fields()
    assert comm.rank > 0 or len(fields["rho"]) == 41


def test_without_interaction_each_label_is_a_density_of_its_own() -> None:
    """ρ(·|h) is the density in the potential at that h, whatever the other labels."""
    nodes, weights = FIELD.quadrature(3)
    line = box([-3.0], [3.0], [50])
    model = fokker_planck(["x", "y"], potential="x**2/2 - y*x", temperature=0.3, frozen=["y"])
    density = Density(model, union([line] * 3, weights, nodes), Product((START, FIELD)), scheme="edge_averaged", step=0.02)
    density.advance(0.4)
    for part in density.domain.parts:
        own = fokker_planck(["x"], potential=f"x**2/2 - ({part.label[0]!r})*x", temperature=0.3)
        alone = Density(own, part.domain, Product((START,)), scheme="edge_averaged", step=0.02)
        alone.advance(0.4)
        assert np.allclose(density.values[part.local], alone.values, atol=1e-10)


def test_it_meets_the_characteristics_with_order_two() -> None:
    """At τ = 0 the mean and its correlation with the label: errors fall by 3.5 or more as the cells halve."""
    model = attracting(0.0)
    exact = Characteristics(model, Product((START, FIELD)), nodes=(40, 9), comm=MPI.COMM_SELF)
    exact.advance(0.25)
    errors = []
    for cells in (80, 160):
        density = labelled(model, cells, 9, "auto", MPI.COMM_SELF)
        density.advance(0.25)
        truth, found = ([m.moments()[0, 0], m.expectation(model.observables["together"])[0]] for m in (exact, density))
        errors.append(np.abs(np.subtract(truth, found)))
    assert np.all(errors[0] / errors[1] > 3.5)
    assert errors[1].max() < 1e-4


@pytest.mark.ranks
def test_particles_keep_their_labels(comm: MPI.Intracomm) -> None:
    """No drift and no noise along the label, whatever the temperature; means within four standard errors of the density's."""
    model = attracting(0.2)
    ensemble = Ensemble(model, Product((START, FIELD)), particles=2000, runs=4, step=0.05, seed=3, comm=comm)
    before = ensemble.cloud()
    ensemble.advance(0.5)
    after = ensemble.cloud()
    if before is not None and after is not None:
        assert np.array_equal(before[0][:, 1], after[0][:, 1])
        assert not np.any(before[0][:, 0] == after[0][:, 0])
    density = labelled(model, 100, 9, "edge_averaged", comm)
    density.advance(0.5)
    for h in (lambda z: z[:, 0], model.observables["together"]):
        runs = ensemble.expectation(h)
        spread = ensemble.expectation(lambda z, h=h: h(z) ** 2).mean() - runs.mean() ** 2
        assert abs(runs.mean() - density.expectation(h)[0]) < 4.0 * np.sqrt(spread / 8000)


@pytest.mark.parametrize(
    ("drift", "frozen", "said"),
    [
        (["omega - x", "x"], ["omega"], "entry 1 for the frozen coordinate `omega` must be 0"),
        (["omega - x", "0"], ["x"], "must be the last"),
        (["omega - x", "0"], ["x", "omega"], "not all"),
        (["omega - x", "0"], ["omeg"], "no coordinate `omeg`"),
    ],
)
def test_what_moves_cannot_be_frozen(drift: list[str], frozen: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        diffusion(["x", "omega"], drift=drift, temperature=0.1, frozen=frozen)


def test_noise_and_periods_of_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 for the frozen"):
        diffusion(["x", "y"], drift=["-x", "0"], diffusion=[["1", "0"], ["0", "1"]], frozen=["y"])
    with pytest.raises(ValueError, match="needs none"):
        diffusion(["x", "y"], drift=["-x", "0"], temperature=0.1, periods={"y": 1.0}, frozen=["y"])


def test_a_mesh_without_labels_is_refused() -> None:
    """Neither the plane nor the bare line is the mesh of one coordinate that moves and one that does not."""
    law = Product((START, FIELD))
    with pytest.raises(ArgumentError, match="2 coordinates"):
        Density(attracting(0.1), box([-3.0], [3.0], [20]), law)
    with pytest.raises(ArgumentError, match="union"):
        Density(attracting(0.1), box([-3.0, -3.0], [3.0, 3.0], [20, 20]), Product((START, Uniform(-1.0, 1.0))))
