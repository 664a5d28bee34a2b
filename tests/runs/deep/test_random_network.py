"""Runs of random networks: what the summary says, the files, and what is refused."""

from __future__ import annotations

import json
import math
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tomli_w

import mvpde
from at_hand.additions import put_back
from at_hand.studies import compute_here, write_study
from mvpde.cases.file import load
from mvpde.cases.problem import validate
from mvpde.models.deep.activations import ACTIVATIONS, Activation
from mvpde.models.deep.fixed_points import FixedPoint
from mvpde.models.deep.signal_maps import variance_map
from mvpde.runs.deep.phase_diagram import diagram
from mvpde.runs.stopping import Stopped
from mvpde.runtime import MPI, CaseError

CASE = Path(__file__).parents[3] / "cases" / "phase_diagram.toml"
PAIR = [[1.0, 1.0], [0.5 + math.sqrt(0.75), 0.5 - math.sqrt(0.75)]]
MODEL = {
    "kind": "random_network",
    "activation": "tanh",
    "weight_variance": 2.5,
    "bias_variance": 0.05,
    "depth": 5,
    "inputs": PAIR,
}


def written(folder: Path, **sections: Any) -> Path:
    path = folder / "case.toml"
    path.write_text(tomli_w.dumps({"model": MODEL, "output": {"pictures": False}, **sections}), encoding="utf-8")
    return path


@pytest.mark.serial
def test_the_summary_says_what_the_maps_give(tmp_path: Path) -> None:
    found = mvpde.run(written(tmp_path), out=tmp_path / "out").summary
    assert found["status"] == "done" and set(found["fixed_point"]) == {"q", "c", "chi", "xi_c", "xi_grad"}
    assert found["fixed_point"]["c"] == pytest.approx(0.4468042323, abs=1e-9)
    assert found["critical_weight_variance"] == pytest.approx(1.7609546396, abs=1e-9)
    assert found["layers"]["q"][1] == pytest.approx(1.455499847, abs=1e-8) and len(found["layers"]["q"]) == 5
    assert found["layers"]["c"][4] == pytest.approx(0.4537377640, abs=1e-8)
    assert found["kernel"][0][1] == pytest.approx(found["layers"]["q"][4] * found["layers"]["c"][4])
    assert np.shape(found["tangent_kernel"]) == (2, 2) and found["trainable_depth"] == pytest.approx(6 * 11.79559752)
    rows = (tmp_path / "out" / "layers.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "layer,q_0,q_1,c_0_1" and len(rows) == 6


@pytest.mark.serial
def test_infinity_and_what_there_is_not(tmp_path: Path) -> None:
    changes = {"model.activation": "relu", "model.weight_variance": 2.0, "model.bias_variance": 0.0, "model.inputs": [[1.0]]}
    mvpde.run(written(tmp_path), set=changes, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert found["fixed_point"] == {"q": None, "c": 1.0, "chi": 1.0, "xi_c": "infinity", "xi_grad": "infinity"}
    assert found["critical_weight_variance"] == 2.0 and found["layers"]["c"] is None
    changes |= {"model.weight_variance": 3.0, "model.bias_variance": 0.1}
    found = mvpde.run(written(tmp_path), set=changes, out=tmp_path / "out", overwrite=True).summary
    assert found["fixed_point"]["q"] is None and found["critical_weight_variance"] is None


@pytest.mark.ranks
def test_networks_beside_the_limit(shared_tmp_path: Path, comm: MPI.Intracomm) -> None:
    """Mean covariances within their errors of the limit with its bias, whatever the number of ranks."""
    network = {"width": 100, "runs": 40, "seed": 2, "singular_values": True}
    path = shared_tmp_path / "case.toml"
    if comm.rank == 0:
        written(shared_tmp_path, network=network)
    comm.Barrier()
    alone = mvpde.run(path, out=shared_tmp_path / f"alone{comm.rank}", comm=MPI.COMM_SELF).summary["network"]
    found = mvpde.run(path, out=shared_tmp_path / "out", comm=comm).summary["network"]
    assert found == alone
    bias, error, predicted = (np.array(found[key]) for key in ("bias", "bias_standard_error", "predicted_bias"))
    assert (np.abs(bias - predicted)[1:] < 4.0 * error[1:]).all() and not np.abs(bias[0]).max() > 1e-9
    variance, error = np.array(found["variance"]), np.array(found["variance_standard_error"])
    assert (np.abs(variance - np.array(found["predicted_variance"]))[1:] < 5.0 * error[1:]).all()
    gradients, error = np.array(found["gradients"]), np.array(found["gradients_standard_error"])
    assert (np.abs(gradients - np.array(found["predicted_gradients"])) < 4.0 * error).all()
    values = found["singular_values"]
    assert values["mean"] == pytest.approx(values["predicted_mean"], abs=4.0 * values["mean_standard_error"] + 0.05)


@pytest.mark.serial
@pytest.mark.parametrize("inputs", [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0], [0.6, 0.8]], [[0.0, 0.0]]])
def test_an_input_of_zeros_stays_zero_in_a_network_of_relus_without_biases(tmp_path: Path, inputs: list[list[float]]) -> None:
    """K̂ = K = 0 with that input; of another, E K̂ = K and Var K̂ = 5(ℓ − 1)K²/N + O(N⁻²), K = σ_w²/2 from layer to layer."""
    model = {**MODEL, "activation": "relu", "weight_variance": 2.0, "bias_variance": 0.0, "depth": 4, "inputs": inputs}
    found = mvpde.run(written(tmp_path, model=model, network={"width": 20, "runs": 3}), out=tmp_path / "out").summary["network"]
    bias, variance = np.array(found["predicted_bias"]), np.array(found["predicted_variance"])
    assert np.isfinite(bias).all() and np.isfinite(variance).all()
    for number, (a, b) in enumerate(found["pairs"]):
        if not any(inputs[a]) or not any(inputs[b]):
            assert not bias[:, number].any() and not variance[:, number].any() and not np.array(found["bias"])[:, number].any()
        elif a == b:
            assert np.abs(bias[:, number]).max() < 1e-7
            assert variance[:, number] == pytest.approx(5.0 * np.arange(4), abs=1e-6)


@pytest.mark.serial
def test_the_diagram_is_written_and_drawn(tmp_path: Path) -> None:
    grid = {"weight_variance": [0.5, 4.0, 15], "bias_variance": [0.0, 0.5, 11]}
    path = written(tmp_path, phase_diagram=grid, output={"pictures": True}, network={"width": 20, "runs": 3})
    found = mvpde.run(path, out=tmp_path / "out").summary
    assert found["phase_diagram"]["points"] == [15, 11] and 0.3 < found["phase_diagram"]["chaotic_share"] < 0.8
    with h5py.File(tmp_path / "out" / "phase_diagram.h5") as file:
        assert file["mesh/points"].shape == (165, 3) and file["mesh/cells"].shape == (280, 3)
        at = 3 * 15 + 6  # σ_w² = 2, σ_b² = .15
        assert file["mesh/points"][at].tolist() == pytest.approx([2.0, 0.15, 0.0])
        there = mvpde.fixed_point("tanh", 2.0, 0.15)
        for name, value in (("q", there.q), ("c", there.c), ("chi", there.chi), ("xi_c", there.xi_c), ("xi_grad", there.xi_grad)):
            assert file[f"{name}/000000"][at] == pytest.approx(value, rel=1e-8)
        assert file["trainable_depth/000000"][at] == pytest.approx(6.0 * file["xi_c/000000"][at])
    assert "phase_diagram.h5:/trainable_depth/000000" in (tmp_path / "out" / "phase_diagram.xdmf").read_text(encoding="utf-8")
    for name in ("phase_diagram.png", "layers.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    line = np.loadtxt(tmp_path / "out" / "critical_line.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(line[:, 1], mvpde.critical_line("tanh", line[:, 0]))


@pytest.mark.serial
def test_the_phases_meet_on_the_line() -> None:
    """c* = 1 below the critical line and less above it; ξ_c grows towards it from both sides, and 1/ξ_c vanishes there."""
    for name in ("tanh", "erf", "sin"):
        w, b = np.linspace(0.5, 3.0, 26), np.array([0.0, 0.05, 0.3])
        found, line = diagram(name, w, b), mvpde.critical_line(name, b)
        for k in range(len(b)):
            below, above = w < line[k], w > line[k]
            if b[k] > 0.0:
                assert (found.c[k, below] == 1.0).all() and (found.c[k, above] < 1.0).all()
                assert (np.diff(found.xi_c[k, below]) > 0.0).all() and (np.diff(found.xi_c[k, above]) < 0.0).all()
            else:
                assert np.isnan(found.c[k, below]).all() and (found.c[k, above] == 0.0).all()


@pytest.mark.serial
def test_the_task_gives_the_diagram_of_each_point(tmp_path: Path) -> None:
    options = {"weight_variance": [0.5, 3.0, 6], "bias_variance": [0.0, 0.2, 3]}
    quick = {"output.pictures": False, "output.fields": False, "model.depth": 2, "network.runs": 2, "network.width": 5}
    study = write_study(
        tmp_path, base=str(CASE), task="phase_diagram", set=quick, options=options, vary={"model.activation": ["tanh", "relu"]}
    )
    table = compute_here(study, tmp_path / "out")
    assert list(table["phase_diagram.chaotic_share"].values) == pytest.approx([9 / 18, 6 / 18])
    assert float(table["critical_weight_variance"].values[0]) == pytest.approx(1.7609546396)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model.weight_variance": -1.0}, r"\[model\] weight_variance: -1.0 is not allowed.*σ_w² ≥ 0"),
    ({"model.bias_variance": -0.1}, r"\[model\] bias_variance: .*σ_b² ≥ 0"),
    ({"model.activation": "tanhh"}, r"\[model\] activation: .*did you mean `tanh`"),
    ({"model.depth": 0}, r"\[model\] depth: 0 is not allowed"),
    ({"model.inputs": [[1.0], [1.0, 2.0]]}, r"\[model\] inputs: every input needs as many components.*they have 1, 2"),
    ({"model.inputs": []}, r"\[model\] inputs: every input needs as many components.*none"),
    ({"model.inputs": [[1.0], [2.0], [1.0]]}, r"\[model\] inputs: inputs 0 and 2 \(counted from 0\) are the same; remove one"),
    ({"data": {"source": "points", "x": [0.0, 1.0], "target": [0.0, 1.0]}}, "`inputs` and .data. exclude each other"),
    ({"data": {"source": "pionts", "x": [0.0]}}, r"\[data\]: source 'pionts' is not one of .*did you mean `points`"),
    ({"initial": {"x": {"law": "normal", "mean": 0.0, "std": 1.0}}}, r"\[initial\]: nothing moves in a random network; remove"),
    ({"time": {"end": 1.0}}, r"\[time\]: nothing moves"),
    ({"density": {}}, r"\[density\]: nothing moves"),
    ({"network": {"width": 10, "runs": 1}}, r"\[network\] runs: 1 is not allowed"),
    (
        {"network": {"width": 10, "weights": "uniform"}},
        r"\[network\] weights: \"uniform\" is not one of `gaussian`, `orthogonal`",
    ),
    (
        {"phase_diagram": {"weight_variance": [1.0, 2.0], "bias_variance": [0, 1, 5]}},
        r"weight_variance: give \[lowest, highest, n",
    ),
    (
        {"phase_diagram": {"weight_variance": [2.0, 1.0, 5], "bias_variance": [0, 1, 5]}},
        "weight_variance runs from 2 to 1; give 0",
    ),
    ({"phase_diagram": {"weight_variance": [1.0, 2.0, 1], "bias_variance": [0, 1, 5]}}, "weight_variance has 1 points; give 2"),
]


@pytest.mark.serial
@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[f"{k}" for k in range(len(WRONG))])
def test_what_is_wrong_is_said_with_its_remedy(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CaseError, match=said):
        validate(load(written(tmp_path), changes))


@pytest.mark.serial
def test_inputs_come_from_data(tmp_path: Path) -> None:
    model = {key: value for key, value in MODEL.items() if key != "inputs"}
    data = {"source": "points", "x": [[1.0, 1.0], [0.0, 1.0]], "target": [0.0, 1.0]}
    found = mvpde.run(written(tmp_path, model=model, data=data), out=tmp_path / "out").summary
    assert found["layers"]["q"][0] == pytest.approx(0.05 + 2.5) and found["layers"]["variances"][0][1] == pytest.approx(
        0.05 + 1.25
    )
    with pytest.raises(CaseError, match=r"\[model\] inputs: is missing; add inputs = .* or a section \[data\]"):
        validate(load(written(tmp_path, model=model)))
    with pytest.raises(CaseError, match=r"\[data\]: inputs 0 and 1 .* are the same"):
        validate(load(written(tmp_path, model=model, data={**data, "x": [[1.0, 1.0], [1.0, 1.0]]})))


@pytest.mark.serial
def test_an_activation_without_a_derivative_is_refused(tmp_path: Path) -> None:
    with put_back():
        ACTIVATIONS["step"] = Activation("step z", lambda z: np.where(z.real > 0.0, 1.0, 0.0), strip=1.0)
        with pytest.raises(CaseError, match=r"\[model\] activation: step z has no derivative .* choose another"):
            validate(load(written(tmp_path), {"model.activation": "step"}))


def test_nothing_of_a_computation_can_be_left_out_by_name(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="--without network: .* has no measures to leave out; remove the section"):
        mvpde.run(CASE, out=tmp_path / "out", without=["network"])
    assert not (tmp_path / "out").exists()


@pytest.mark.serial
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.inputs": [[1e200, 1.0], [1.0, 2.0]]}, r"inputs: are so large \(1e\+200\).*scale them"),
        ({"model.inputs": [[1e50, 1.0], [1.0, 2.0]]}, r"inputs: layer 1 has the variance .*scale them"),
        ({"model.activation": "relu", "model.weight_variance": 900.0, "model.depth": 500}, r"depth: layer .*fewer layers"),
    ],
)
def test_variances_beyond_all_numbers_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=said):
        validate(load(written(tmp_path), changes))


@pytest.mark.serial
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("inputs", [[[1e-200, 0.0], [0.0, 1e-200]], [[0.0, 0.0]], PAIR])
def test_nothing_left_of_a_signal_is_no_error(activation: str, inputs: list[list[float]], tmp_path: Path) -> None:
    model = {"activation": activation, "weight_variance": 0.0, "bias_variance": 0.0, "inputs": inputs, "depth": 3}
    network = {"width": 6, "runs": 3, "singular_values": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mvpde.run(written(tmp_path, network=network), set={f"model.{k}": v for k, v in model.items()}, out=tmp_path / "o")
    assert found.summary["status"] == "done" and not np.any(found.summary["kernel"])
    json.loads((tmp_path / "o" / "summary.json").read_text(encoding="utf-8"))


def _swish(z: Any) -> Any:
    return z / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))


def _swish_slope(z: Any) -> Any:
    s = 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
    return s * (1.0 + z * (1.0 - s))


def _swish_curvature(z: Any) -> Any:
    s = 1.0 / (1.0 + np.exp(-np.clip(z, -700.0, 700.0)))
    return s * (1.0 - s) * (2.0 + z * (1.0 - 2.0 * s))


@pytest.mark.serial
def test_an_activation_without_bound_ends_its_search(tmp_path: Path) -> None:
    """E φ(√q Z)² ~ q/2 for large q: with biases, and σ_w² well above 2, the variance has no limit."""
    with put_back():
        ACTIVATIONS["swish"] = Activation("z/(1 + e⁻ᶻ)", _swish, _swish_slope, _swish_curvature, strip=2.0)
        q = mvpde.fixed_point("swish", 1.0, 0.1).q
        assert q is not None and mvpde.fixed_point("swish", 3.0, 0.1).q is None
        assert np.allclose(variance_map("swish", np.array([q]), 1.0, 0.1), q, rtol=1e-10)
        assert np.array_equal(np.isnan(diagram("swish", np.array([1.0, 1.9, 4.0]), np.array([0.3])).q), [[False, False, True]])
        with pytest.raises(CaseError, match=r"\[model\] depth: layer .* has the variance .*smaller weight_variance"):
            validate(load(written(tmp_path), {"model.activation": "swish", "model.weight_variance": 4.0, "model.depth": 60}))


@pytest.mark.serial
def test_a_signal_between_layers_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(z: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return np.tanh(z)

    monkeypatch.setattr("mvpde.runs.deep.random_network.fixed_point", lambda *_: FixedPoint(*[None] * 6))
    monkeypatch.setattr("mvpde.cases.kinds.random_network.variance_map", lambda _, q, *__: q)
    with put_back():
        ACTIVATIONS["stopped"] = replace(ACTIVATIONS["tanh"], value=interrupted)
        case = load(written(tmp_path), {"model.activation": "stopped", "model.depth": 1000})
        with pytest.raises(Stopped, match="SIGINT"):
            mvpde.run(case, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert found["status"] == "stopped" and "SIGINT" in found["message"]


@pytest.mark.serial
def test_a_folder_is_opened_as_layers_kernels_and_a_fixed_point(tmp_path: Path) -> None:
    changes = {"model.activation": "relu", "model.weight_variance": 2.0, "model.bias_variance": 0.0}
    found = mvpde.run(written(tmp_path, network={"width": 8, "runs": 3}), set=changes, out=tmp_path / "out").summary
    read = mvpde.open(tmp_path / "out")
    assert list(read["layer"].values) == [1, 2, 3, 4, 5]
    assert np.allclose(read["q_0"], found["layers"]["q"]) and np.allclose(read["c_0_1"], found["layers"]["c"])
    assert "network_K_0_1_standard_error" in read
    assert np.array_equal(read["kernel"], found["kernel"]) and read["tangent_kernel"].dims == ("input", "other_input")
    assert np.isnan(read["fixed_point_q"]) and read["fixed_point_c"] == 1.0 and np.isinf(read["trainable_depth"])
    assert read.attrs["summary"]["status"] == "done"
