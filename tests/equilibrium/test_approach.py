"""Stationary laws and spectra through case files: the numbers of summary.json, the fields, the refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvista

import mvpde
from mvpde.runtime import MPI

CASES = Path(__file__).parents[2] / "cases"
OSCILLATING = ([[1.0, 2.0], [-2.0, 1.0]], [[1.0, 0.0], [0.0, 0.25]], [[0.7, 0.15], [0.15, 0.55]], 12.5)
CROSSED = ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.9], [0.9, 1.0]], [[1.0, 0.36], [0.36, 0.25]], 7.673684)
DEGENERATE = ([[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.75, -0.25], [-0.25, 0.25]], None)


@pytest.mark.parametrize(("drift", "diffusion", "covariance", "production"), [OSCILLATING, CROSSED, DEGENERATE])
def test_ornstein_uhlenbeck_by_overrides(
    shared_tmp_path: Path,
    drift: list[list[float]],
    diffusion: list[list[float]],
    covariance: list[list[float]],
    production: float | None,
) -> None:
    """MΣ + ΣMᵀ = 2A, and Tr(QᵀA⁻¹QΣ) with Q = AΣ⁻¹ − M for the entropy production, at 64² cells."""
    overrides = {
        "model.drift_matrix": drift,
        "model.diffusion_matrix": diffusion,
        "domain.cells": [64, 64],
        "density.tolerance": 1e-4,
        "time.end": 0.5,
        "time.outputs": 1,
    }
    summary = mvpde.run(CASES / "ornstein_uhlenbeck.toml", set=overrides, out=shared_tmp_path / "run").summary
    found = summary["stationary"]
    assert np.allclose(found["covariance"], covariance, rtol=0.01, atol=1e-3)
    assert np.allclose(found["mean"], 0.0, atol=1e-6)
    assert found["minimum"] >= -1e-14
    assert summary["density"]["mass_defect"] < 1e-12
    assert max(found["identities"].values()) < 0.01
    if production is None:
        assert found["entropy_production"] is None
    else:
        assert found["entropy_production"] == pytest.approx(production, rel=0.02)


@pytest.mark.serial
def test_double_well_gap_and_decay(shared_tmp_path: Path) -> None:
    """λ₁ of −τ∂² + V'∂ at two temperatures (reference values), and the approach of the run at that rate."""
    for temperature, gap, end in ((0.5, 0.4229446457, 12.0), (0.1, 0.03354528728, 60.0)):
        summary = mvpde.run(
            CASES / "double_well.toml",
            set={"model.temperature": temperature, "time.end": end, "time.outputs": 12, "density.tolerance": 1e-7},
            out=shared_tmp_path / f"run{temperature}",
            without=["ensemble"],
        ).summary
        spectrum = summary["spectrum"]
        assert spectrum["eigenvalues"][0] == pytest.approx(gap, rel=1e-4)
        assert spectrum["decay_rate_measured"] == pytest.approx(gap, rel=0.01)
        assert spectrum["energy_decay_rate_measured"] == pytest.approx(2.0 * gap, rel=0.01)
        assert summary["warnings"] == []


@pytest.mark.serial
def test_current_and_modes_open_as_fields(tmp_path: Path) -> None:
    """PyVista reads J as vectors, and J = bρ − ∇·(Aρ) turns with the rotation of the drift."""
    mvpde.run(
        CASES / "ornstein_uhlenbeck.toml",
        set={"domain.cells": [32, 32], "time.end": 0.1, "time.outputs": 1, "density.tolerance": 1e-4},
        out=tmp_path / "run",
    )
    reader = pyvista.get_reader(str(tmp_path / "run" / "stationary.xdmf"))
    block = reader.read()
    mesh = block[0] if isinstance(block, pyvista.MultiBlock) else block
    x, y = mesh.points[:, 0], mesh.points[:, 1]
    current = mesh["current"]
    assert current.shape == (33 * 33, 3)
    assert np.sum(x * current[:, 1] - y * current[:, 0]) > 0.0  # b = −Mz = (−x − 2y, 2x − y)
    modes = pyvista.get_reader(str(tmp_path / "run" / "modes.xdmf"))
    assert len(modes.time_values) == 4


@pytest.mark.ranks
def test_a_potential_that_does_not_confine_is_named(shared_tmp_path: Path) -> None:
    summary = mvpde.run(
        CASES / "double_well.toml",
        set={"model.potential": "-x**2/10", "domain.cells": [100], "time.end": 0.1, "time.outputs": 1},
        out=shared_tmp_path / "run",
        without=["ensemble"],
    ).summary
    assert any("outer layer" in warning["message"] for warning in summary["warnings"])


def test_a_network_with_noise_has_one_stationary_law(shared_tmp_path: Path, comm: MPI.Intracomm) -> None:
    """R + τKL(·|m̂) is convex in ρ for least squares: one branch, stable, which the run approaches from above in free energy."""
    case = (CASES / "circle_rbf_warm.toml").read_text() + "\n[stationary]\n"
    path = shared_tmp_path / "interacting.toml"
    if comm.rank == 0:
        path.write_text(case)
    comm.Barrier()
    changes = {"domain.cells": [24, 24], "time.end": 16.0, "time.outputs": 2, "density.tolerance": 1e-4}
    summary = mvpde.run(path, set=changes, out=shared_tmp_path / "run", without=["ensemble"]).summary
    (branch,) = summary["stationary"]["branches"]
    assert branch["stable"] and branch["circles"] == [] and branch["residual"] < 1e-10
    distance = summary["stationary"]["distance"]
    assert distance[2] < distance[1] < distance[0]
    assert summary["density"]["free_energy"][-1] >= branch["free_energy"]


@pytest.mark.serial
def test_identities_of_the_real_data_case(shared_tmp_path: Path) -> None:
    """⟨W_a∂_bL + W_b∂_aL⟩ = 2g⟨C_ab⟩ and the others: within 1 % on the shipped mesh, better than on half of it."""
    worst = []
    for cells in (64, 128):
        summary = mvpde.run(
            CASES / "sgd_neuron.toml",
            set={"domain.cells": [cells, cells], "time.end": 0.2, "time.outputs": 1, "density.tolerance": 1e-3},
            out=shared_tmp_path / f"run{cells}",
            without=["sgd"],
        ).summary
        assert summary["stationary"]["outer_mass"] < 1e-3
        worst.append(max(summary["stationary"]["identities"].values()))
    assert worst[1] < 0.01
    assert worst[1] < worst[0]


@pytest.mark.serial
def test_three_weights_on_tetrahedra(shared_tmp_path: Path) -> None:
    summary = mvpde.run(
        CASES / "sgd_neuron_bias.toml",
        set={"domain.cells": [12, 12, 12], "sgd.runs": 2000, "time.end": 0.5, "time.outputs": 1},
        out=shared_tmp_path / "run",
    ).summary
    assert summary["status"] == "done"
    assert summary["density"]["mass_defect"] < 1e-12
    assert summary["density"]["minimum"] >= -1e-14
