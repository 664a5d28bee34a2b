"""The densities of deep networks: order in mesh and time step, what is kept, and the numbers that characteristics know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from at_hand.deep import S2, S3D, S4, S4S, S5, Reference, characteristics_of, density_of, laws_of
from mvpde.density.deep.density import DeepDensity
from mvpde.density.explicit import FluxCorrected
from mvpde.mesh.box import box
from mvpde.models.deep.network import DeepNetwork, FirstLayer, repeated
from mvpde.models.deep.sweeps import labels
from mvpde.models.deep.units import DeepLayer
from mvpde.models.laws import Normal, Uniform
from mvpde.particles.deep.characteristics import DeepCharacteristics
from mvpde.particles.deep.samples import Samples
from mvpde.runtime import MPI, ArgumentError, SolverError

S4N = Reference(replace(S4S.network, temperature=0.05, base={"w": Normal(1.0, 0.5)}), S4S.laws, {})
ENDS = replace(S4S, network=replace(S4S.network, train_ends=True))


def order(errors: list[float]) -> float:
    """Of errors on meshes or with steps that are halved each time: the slope of the line through their logarithms."""
    return float(-np.polyfit(np.arange(len(errors)), np.log2(np.abs(errors)), 1)[0])


@pytest.mark.serial
def test_one_weight_has_order_two_and_reaches_the_numbers() -> None:
    errors, known = [], None
    for cells in (50, 100, 200):
        known = density_of(S4S, cells, -2.5, 5.5, 28, MPI.COMM_SELF)
        known.advance(1.0)
        errors.append(float(known.losses()[0]) - S4S.losses[1.0])
        assert known.mass_defect < 1e-12
        assert known.minimum >= 0.0
    assert order(errors) > 1.8
    assert abs(errors[-1]) < 1e-6
    known.advance(4.0)
    arrays = known.arrays()
    assert np.allclose(arrays["layer_mean"][:, 0], (1.0268277, 1.0443165, 1.0789452), atol=2e-5)
    assert np.allclose(arrays["layer_variance"][:, 0], (0.2424482, 0.2312222, 0.2142608), atol=5e-5)
    correlations = arrays["label_covariance"][:, 0] / np.sqrt(arrays["layer_variance"][[0, -1], 0]) / 0.7
    assert np.allclose(correlations, (0.0705628, 0.1146842), atol=5e-5)


@pytest.mark.serial
@pytest.mark.parametrize(("name", "lower", "upper"), [("S4", -2.0, 4.5), ("S5", -2.0, 3.0)])
def test_two_weights_have_order_two(name: str, lower: float, upper: float) -> None:
    """Against characteristics with the same labels, so that their error is none of this one; 1e-3 on 40 cells each way."""
    reference = {"S4": S4, "S5": S5}[name]
    truth = characteristics_of(reference, 8, 9)
    truth.advance(1.0)
    errors = []
    for cells in (28, 40, 56):
        density = density_of(reference, cells, lower, upper, 8, MPI.COMM_SELF)
        density.advance(1.0)
        errors.append(float((density.losses() - truth.losses())[0]))
        assert np.abs(density.masses() - 1.0).max() < 1e-12
    assert 2.0 * order(errors) > 1.8  # the meshes are finer by √2 each time
    assert abs(errors[-1]) < 1e-3


@pytest.mark.serial
@pytest.mark.parametrize(("name", "cells", "lower", "upper", "nodes"), [("S2", 30, -0.3, 3.2, 6), ("S3d", 12, 0.0, 0.0, 4)])
def test_both_labels_on_one_layer_and_three_weights(name: str, cells: int, lower: float, upper: float, nodes: int) -> None:
    reference = {"S2": S2, "S3d": S3D}[name]
    truth = characteristics_of(reference, nodes, 8)
    if name == "S3d":  # the box of the mesh does not fit all three weights
        network, sides = reference.network, ([-1.0, -1.0, -2.0], [3.4, 3.4, 2.0])
        mesh = box(*sides, [cells] * 3, comm=MPI.COMM_SELF)
        known = labels(network, reference.laws, nodes, nodes)
        density = DeepDensity(network, [mesh] * 2, known, laws_of(reference))
    else:
        density = density_of(reference, cells, lower, upper, nodes, MPI.COMM_SELF)
    for measure in (truth, density):
        measure.advance(1.0)
    assert density.losses()[0] == pytest.approx(truth.losses()[0], abs=1e-3)
    assert np.allclose(density.moments(), truth.moments(), atol=5e-3)


@pytest.mark.serial
def test_all_layers_advance_together_with_order_two_in_the_step() -> None:
    """The scheme's stages have order three; advancing the layers one after the other would have order one."""
    losses = []
    for step in (0.1, 0.05, 0.025, 0.0125):
        density = density_of(S4S, 40, -2.5, 5.5, 8, MPI.COMM_SELF, step=step)
        density.advance(0.4)
        losses.append(float(density.losses()[0]))
    assert order([losses[0] - losses[3], losses[1] - losses[3], losses[2] - losses[3]]) > 1.8


@pytest.mark.serial
def test_the_row_of_a_label_zero_stays_as_it_is() -> None:
    reference = replace(S4S, laws={**S4S.laws, "b": Uniform(-1.0, 1.0)})
    density = density_of(reference, 30, -2.5, 5.5, 5, MPI.COMM_SELF)
    before = density.on_mesh(3)
    density.advance(1.0)
    after = density.on_mesh(3)
    assert before is not None and after is not None
    assert np.allclose(after[0, 2], before[0, 2], rtol=1e-14, atol=0.0)  # the middle one of five Gauss–Legendre nodes is 0
    assert np.abs(after[0, 4] - before[0, 4]).max() > 1e-3


@pytest.mark.serial
def test_layers_that_train_different_weights_have_meshes_of_their_own() -> None:
    layers = (DeepLayer("tanh", ("w",), {"v": 1.5, "c": 0.0}), DeepLayer("tanh", ("v", "w"), {"c": 0.0}))
    network = DeepNetwork(layers, S4S.network.data, FirstLayer("tanh", 0.5))
    reference = Reference(network, S4.laws, {})
    meshes = [box([-2.0], [4.0], [60], comm=MPI.COMM_SELF), box([-2.0, -2.0], [4.5, 4.5], [28, 28], comm=MPI.COMM_SELF)]
    known = labels(network, S4.laws, 10, 10)
    density = DeepDensity(network, meshes, known, laws_of(reference))
    truth = DeepCharacteristics(network, known, laws_of(reference), nodes=[9, 9], tolerance=1e-7, comm=MPI.COMM_SELF)
    for measure in (density, truth):
        measure.advance(1.0)
    assert np.allclose(density.arrays()["layer_mean"], truth.arrays()["layer_mean"], atol=1e-3)
    assert np.allclose(density.arrays()["layer_variance"], truth.arrays()["layer_variance"], atol=2e-3)
    assert density.losses()[0] == pytest.approx(truth.losses()[0], abs=2e-4)


@pytest.mark.serial
def test_trained_ends_and_prescribed_samples_are_those_of_the_characteristics() -> None:
    for reference, samples in ((ENDS, None), (S4S, Samples((0, 1, 2, 3, 4), 0.1)), (ENDS, Samples((3, 1), 0.1))):
        truth = characteristics_of(reference, 12, 10, samples=samples)
        density = density_of(reference, 160, -2.5, 5.5, 12, MPI.COMM_SELF, samples=samples)
        start = float(truth.losses()[0])
        for measure in (truth, density):
            measure.advance(1.0)
        assert density.losses()[0] == pytest.approx(truth.losses()[0], abs=5e-6)
        assert abs(truth.losses()[0] - start) > 1e-3
        for found, expected in zip(density.ends(), truth.ends(), strict=True):
            assert np.abs(found - expected).max() < 2e-4


@pytest.mark.serial
def test_trained_ends_that_are_faster_than_the_laws_take_steps_of_their_own() -> None:
    """b of a ReLU output under units of slope 5 settles in a fraction of the laws' step, which alone gave losses of .07 to .9."""
    layer = DeepLayer("tanh", ("c",), {"v": 5.0, "w": 1.0})
    network = DeepNetwork(repeated(layer, 3), S4S.network.data, FirstLayer("tanh", 0.5), output="relu", train_ends=True)
    fast = Reference(network, {"a": Normal(1.0, 0.7), "b": Normal(0.0, 0.05), "c": Normal(0.1, 0.4)}, {})
    truth, density = characteristics_of(fast, 12, 20), density_of(fast, 60, -2.5, 2.7, 12, MPI.COMM_SELF)
    for t in (0.5, 1.0):
        for measure in (truth, density):
            measure.advance(t)
        assert density.losses()[0] == pytest.approx(truth.losses()[0], abs=1e-6)
        for found, expected in zip(density.ends(), truth.ends(), strict=True):
            assert np.abs(found - expected).max() < 2e-4


@pytest.mark.serial
def test_trained_ends_in_turns_of_the_length_that_the_laws_allow() -> None:
    """Five turns of .8 err by 5e-6 in the loss and 5e-4 in the ends; half of that and of the cells by a quarter at most."""
    truth, errors = characteristics_of(ENDS, 10, 10), []
    truth.advance(4.0)
    for cells in (64, 128):
        density = density_of(ENDS, cells, -2.5, 5.5, 10, MPI.COMM_SELF)
        density.advance(4.0)
        ends = max(np.abs(found - expected).max() for found, expected in zip(density.ends(), truth.ends(), strict=True))
        errors.append((abs(float((density.losses() - truth.losses())[0])), float(ends)))
    assert errors[0][0] < 1e-5
    assert errors[0][1] < 1e-3
    assert np.all(np.array(errors[0]) > 4.0 * np.array(errors[1]))


@pytest.mark.serial
def test_noise_at_positive_temperature() -> None:
    density, energies = density_of(S4N, 60, -1.5, 3.5, 16, MPI.COMM_SELF), []
    assert density.scheme == "edge_averaged"
    for t, loss, energy in (
        (0.0, 0.037523, 0.037523),
        (1.0, 0.035531, 0.035733),
        (2.0, 0.034632, 0.035128),
        (4.0, 0.033923, 0.034817),
    ):
        density.advance(t)
        energies.append(density.free_energy())
        assert density.losses()[0] == pytest.approx(loss, abs=2e-5)
        assert energies[-1] == pytest.approx(energy, abs=2e-5)
    assert np.diff(energies).max() < 0.0
    arrays = density.arrays()
    assert np.allclose(arrays["layer_mean"][:, 0], (1.020066, 1.033039, 1.058560), atol=2e-4)
    assert np.allclose(arrays["layer_variance"][:, 0], (0.246122, 0.240329, 0.231191), atol=1e-4)
    assert density.minimum >= 0.0
    assert density.mass_defect < 1e-12


@pytest.mark.serial
def test_both_schemes_are_of_order_two_in_the_mesh_with_noise() -> None:
    found = {}
    for scheme in ("flux_corrected", "edge_averaged"):
        means = []
        for cells in (20, 40, 80):
            density = density_of(S4N, cells, -1.5, 3.5, 8, MPI.COMM_SELF, scheme=scheme)
            density.advance(1.0)
            means.append(np.concatenate([density.arrays()[key][:, 0] for key in ("layer_mean", "layer_variance")]))
        found[scheme] = (4.0 * means[2] - means[1]) / 3.0
        ratios = np.abs(means[1] - means[0]).max() / np.abs(means[2] - means[1]).max()
        assert np.log2(ratios) > 1.8
    assert np.allclose(found["flux_corrected"], found["edge_averaged"], atol=2e-5)


def test_the_number_of_ranks_does_not_matter_and_a_state_goes_on(comm: MPI.Intracomm) -> None:
    alone, shared, rest = (density_of(ENDS, 24, -2.5, 5.5, 6, c) for c in (MPI.COMM_SELF, comm, comm))
    alone.advance(0.5)
    shared.advance(0.5)
    assert np.allclose(shared.moments(), alone.moments(), atol=1e-13)
    for name, values in alone.arrays().items():
        assert np.allclose(shared.arrays()[name], values, atol=1e-12)
    fields, expected = shared.fields(), alone.fields()
    assert list(fields) == (list(expected) if comm.rank == 0 else [])
    assert all(np.allclose(values, expected[name], atol=1e-12) for name, values in fields.items())
    rest.restore(shared.state())
    for measure in (shared, rest):
        measure.advance(0.8)
    assert np.array_equal(rest.moments(), shared.moments())
    with pytest.raises(ValueError, match="checkpoint is none of a density"):
        density_of(ENDS, 24, -2.5, 5.5, 7, comm).restore(shared.state())


class _Stop(Exception):
    """What a request to stop raises."""


@pytest.mark.parametrize("samples", [None, Samples((3, 1), 0.1)])
def test_a_stop_between_steps_goes_on_as_if_there_was_none(comm: MPI.Intracomm, samples: Samples | None) -> None:
    """Steps of several parts, in turns with the ends or on one sample, stop before or after."""
    whole, stopped, rest = (density_of(ENDS, 24, -2.5, 5.5, 6, comm, samples=samples, step=0.07) for _ in range(3))
    whole.advance(0.6)
    calls = iter(range(3))

    def stop() -> None:
        if next(calls) == 2:
            raise _Stop

    with pytest.raises(_Stop):
        stopped.advance(0.6, stop)
    rest.restore(stopped.state())
    for measure in (stopped, rest):
        assert 0.0 < measure.time < 0.6
        measure.advance(0.6)
        assert np.array_equal(measure.values, whole.values)
        for found, expected in zip(measure.ends(), whole.ends(), strict=True):
            assert np.array_equal(found, expected)
        assert measure.steps == whole.steps


@pytest.mark.serial
def test_an_error_in_the_middle_of_a_step_leaves_the_state_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for samples in (None, Samples((3, 1), 0.1)):
        whole, broken = (density_of(ENDS, 24, -2.5, 5.5, 6, MPI.COMM_SELF, samples=samples) for _ in range(2))
        whole.advance(0.2)
        with monkeypatch.context() as patch:
            patch.setattr(FluxCorrected, "step", _fails)
            with pytest.raises(SolverError):
                broken.advance(0.2)
        assert broken.time == 0.0
        broken.advance(0.2)
        assert np.array_equal(broken.values, whole.values)
        assert np.array_equal(broken.ends()[1], whole.ends()[1])


def _fails(*_: object) -> None:
    raise SolverError("no step")


@pytest.mark.ranks
def test_three_ranks_say_what_one_says(comm: MPI.Intracomm) -> None:
    alone, shared = (density_of(S4, 8, -2.0, 4.5, 4, c) for c in (MPI.COMM_SELF, comm))
    carried = DeepCharacteristics(S4S.network, labels(S4S.network, S4S.laws, 8, 8), laws_of(S4S), nodes=[5], comm=comm)
    own = DeepCharacteristics(S4S.network, labels(S4S.network, S4S.laws, 8, 8), laws_of(S4S), nodes=[5], comm=MPI.COMM_SELF)
    for measure in (alone, shared, carried, own):
        measure.advance(0.3)
    assert np.allclose(shared.moments(), alone.moments(), atol=1e-13)
    assert np.array_equal(carried.arrays()["layer_mean"], own.arrays()["layer_mean"])
    clouds = shared.cloud(), alone.cloud()
    assert (clouds[0] is None) == (comm.rank > 0)
    assert clouds[0] is None or clouds[1] is None or clouds[0][1].sum() == pytest.approx(clouds[1][1].sum())


@pytest.mark.serial
def test_what_no_density_can_do_is_refused_in_words() -> None:
    with pytest.raises(ArgumentError, match='use "auto" or "flux_corrected"'):
        density_of(S4S, 8, -2.5, 5.5, 4, MPI.COMM_SELF, scheme="galerkin")
    with pytest.raises(ArgumentError, match="needs model.temperature > 0"):
        density_of(S4S, 8, -2.5, 5.5, 4, MPI.COMM_SELF, scheme="edge_averaged")
    with pytest.raises(ArgumentError, match="holds .* % of the initial law"):
        density_of(S4S, 8, 1.5, 5.5, 4, MPI.COMM_SELF)
    with pytest.raises(ArgumentError, match="are for temperature 0"):
        density_of(S4N, 8, -2.5, 5.5, 4, MPI.COMM_SELF, samples=Samples((0,), 0.1))
    mesh = box([-2.0], [4.0], [8], comm=MPI.COMM_SELF)
    with pytest.raises(ArgumentError, match="a mesh and a law of the weights"):
        DeepDensity(S4.network, [mesh] * 3, labels(S4.network, S4.laws, 4, 4), laws_of(S4))
