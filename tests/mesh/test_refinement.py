"""Meshes with every cell cut: volumes, conformity, shapes, and the density that they are made for."""

from __future__ import annotations

import mvpde.runtime  # isort: skip - loads the solver libraries before anything else does
import numpy as np
import pytest

import mvpde
from mvpde.cases.file import parse
from mvpde.cases.measures import domain, sizes
from mvpde.cases.problem import problem
from mvpde.mesh.refinement import cut

DISC = {
    "model": {
        "kind": "mean_field",
        "coordinates": ["x", "y"],
        "potential": "(x**2 + 2*y**2)/0.2",
        "temperature": 1.0,
        "observables": {"square": "x**2"},
    },
    "initial": {name: {"law": "normal", "mean": 0.0, "std": 0.2} for name in "xy"},
    "domain": {"mesh": "meshes/disc.msh"},
    "density": {"companions": 2},
    "time": {"end": 0.1, "outputs": [0.0, 0.05, 0.1]},
    "output": {"fields": False, "particles": 0, "pictures": False, "sliced_wasserstein": False},
}


def described(tmp_path, companions):
    from pathlib import Path

    table = {**DISC, "domain": {"mesh": str(Path(mvpde.__file__).parents[1] / "meshes" / "disc.msh")}}
    return parse({**table, "density": {} if companions is None else {"companions": companions}}, tmp_path / "case.toml")


@pytest.mark.serial
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_pieces_fill_their_cell_and_share_their_faces(dimension):
    """2^D pieces of equal volume; each inner face belongs to two of them, and each outer one is a quarter of one of the cell."""
    corners = np.random.default_rng(dimension).standard_normal((dimension + 1, dimension))
    points, cells = cut(corners, np.arange(dimension + 1)[None])
    volumes = np.abs(np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]))
    whole = abs(np.linalg.det(corners[1:] - corners[0]))
    np.testing.assert_allclose(volumes, whole / 2**dimension, rtol=1e-12)
    faces = np.sort(np.concatenate([np.delete(cells, k, axis=1) for k in range(dimension + 1)]), axis=1)
    _, counts = np.unique(faces, axis=0, return_counts=True)
    assert set(counts) == {1, 2} and (counts == 1).sum() == (dimension + 1) * 2 ** (dimension - 1)


@pytest.mark.serial
def test_neighbours_share_midpoints():
    """A square of two triangles has 9 points after one cut and 25 after two."""
    points, cells = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.array([[0, 1, 2], [0, 2, 3]])
    for size in (9, 25):
        points, cells = cut(points, cells)
        assert len(points) == len(np.unique(points.round(12), axis=0)) == size


@pytest.mark.ranks
def test_a_mesh_is_refined_where_companions_are_asked_for(comm, shared_tmp_path):
    """m_i add up to the area of the mesh that was given, on any number of ranks, in the same order."""
    given, finer = (problem(described(shared_tmp_path, companions)) for companions in (None, 1))
    before, after = (domain(one, comm) for one in (given, finer))
    areas = [float(one.sum(np.array([one.graph.lumped.sum()]))[0]) for one in (before, after)]
    assert areas[0] == pytest.approx(areas[1], rel=1e-12)
    edges = before.sum(np.array([len(before.graph.columns)]))[0] / 2
    assert after.nodes == before.nodes + edges
    alone = domain(finer, mvpde.runtime.MPI.COMM_SELF).mesh_arrays()
    together = after.mesh_arrays()
    if together is not None:
        np.testing.assert_array_equal(together[0], alone[0])
    assert sizes(finer, comm)["density nodes"] == after.nodes


@pytest.mark.serial
def test_the_given_mesh_is_the_coarsest(tmp_path):
    """E x² of the process dX = −10X dt + √2 dB, in a disc that cuts nothing off, is within its error."""
    found = mvpde.run(described(tmp_path, 2), out=tmp_path / "out").summary["density"]
    right = 0.1 + (0.04 - 0.1) * np.exp(-20.0 * np.array([0.0, 0.05, 0.1]))
    assert found["companions"] == 2 and found["order"]["square"] == pytest.approx(2.0, abs=0.3)
    assert (np.abs(np.array(found["square"]) - right) <= 2.0 * np.array(found["square_error"]) + 3e-5).all()
