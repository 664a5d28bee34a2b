"""A mesh file is read as a mesh or refused; nothing in it or beside it is carried out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mvpde.mesh.gmsh import gmsh
from mvpde.runtime import MPI, ArgumentError, on_first_rank

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).parents[2]
DISC = (ROOT / "meshes" / "disc.msh").read_bytes()
SCRIPT = b'SystemCall "touch %s";\n'


def files(folder: Path, comm: MPI.Intracomm, contents: dict[str, bytes]) -> Path:
    """Files written by rank 0, with the name of the one that no script must make in place of %s."""
    made = folder / "carried_out"
    for name, content in contents.items():
        on_first_rank(comm, lambda n=name, c=content: (folder / n).write_bytes(c.replace(b"%s", bytes(made))))
    return made


@pytest.mark.parametrize("name", ["mesh.msh", "mesh.geo", "mesh.opt", "mesh", "; touch x.msh"])
@pytest.mark.parametrize(
    "content",
    [
        *(start + SCRIPT for start in (b"", b"\n", b"\xef\xbb\xbf", b" $MeshFormat\n", b"// $MeshFormat\n")),
        b"",
        b"x" * 100_000,
    ],
    ids=["script", "empty line", "byte order mark", "space", "comment", "empty", "long line"],
)
def test_what_is_no_mesh_is_refused_before_gmsh_sees_it(
    comm: MPI.Intracomm, shared_tmp_path: Path, content: bytes, name: str
) -> None:
    made = files(shared_tmp_path, comm, {name: content})
    with pytest.raises(ArgumentError, match=r"path: .* does not begin with \$MeshFormat\); make the mesh in Gmsh"):
        gmsh(shared_tmp_path / name, comm=comm)
    assert not made.exists()


@pytest.mark.usefixtures("gmsh_library")
@pytest.mark.parametrize("name", ["mesh.msh", "mesh.geo", 'odd "; name.msh'])
def test_nothing_beside_a_mesh_or_behind_it_is_carried_out(
    comm: MPI.Intracomm, shared_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("HOME", "GMSH_HOME"):
        monkeypatch.setenv(variable, str(shared_tmp_path))
    contents = {name: DISC + SCRIPT + b'Merge "other.geo";\n', "other.geo": SCRIPT}
    contents |= dict.fromkeys([f"{name}.opt", ".gmshrc", ".gmsh-options", "gmshrc", "gmsh-options"], SCRIPT)
    made = files(shared_tmp_path, comm, contents)
    assert gmsh(shared_tmp_path / name, comm=comm).nodes == 903
    assert not made.exists()


@pytest.mark.usefixtures("gmsh_library")
@pytest.mark.parametrize(
    "start", [b"$MeshFormat\n", b"$MeshFormat ", b"$MeshFormat\n4.1 0 8\n$EndMeshFormat\n", b"$MeshFormat\n9 0 8\n"]
)
def test_a_script_behind_the_first_line_of_a_mesh_is_not_carried_out(
    comm: MPI.Intracomm, shared_tmp_path: Path, start: bytes
) -> None:
    made = files(shared_tmp_path, comm, {"mesh.msh": start + SCRIPT})
    with pytest.raises(ArgumentError, match=r"path: '[^']*shared[^']*mesh\.msh'"):
        gmsh(shared_tmp_path / "mesh.msh", comm=comm)
    assert not made.exists()


@pytest.mark.usefixtures("gmsh_library")
@pytest.mark.parametrize(("version", "binary"), [(2.2, 0), (2.2, 1), (4.1, 1)])
def test_the_formats_of_gmsh_are_read(comm: MPI.Intracomm, shared_tmp_path: Path, version: float, binary: int) -> None:
    import gmsh as library

    def convert() -> None:
        library.initialize(readConfigFiles=False)
        library.option.setNumber("General.Terminal", 0)
        library.open(str(ROOT / "meshes" / "disc.msh"))
        library.option.setNumber("Mesh.MshFileVersion", version)
        library.option.setNumber("Mesh.Binary", binary)
        library.write(str(shared_tmp_path / "again.msh"))
        library.finalize()

    on_first_rank(comm, convert)
    assert gmsh(shared_tmp_path / "again.msh", comm=comm).nodes == 903


@pytest.mark.serial
def test_only_regular_files_are_read(comm: MPI.Intracomm, tmp_path: Path) -> None:
    """A pipe would be waited for without end."""
    os.mkfifo(tmp_path / "pipe.msh")
    (tmp_path / "folder.msh").mkdir()
    (tmp_path / "nowhere.msh").symlink_to(tmp_path / "none")
    (tmp_path / "to_pipe.msh").symlink_to(tmp_path / "pipe.msh")
    for name in ("pipe", "folder", "nowhere", "to_pipe"):
        with pytest.raises(ArgumentError, match="there is no file"):
            gmsh(tmp_path / f"{name}.msh", comm=comm)


@pytest.mark.serial
def test_check_runs_no_command_of_a_mesh_file(tmp_path: Path) -> None:
    made = files(tmp_path, MPI.COMM_SELF, {"mesh.msh": SCRIPT})
    case = [str(ROOT / "cases" / "sigmoid_regression.toml"), "--set", f'domain={{mesh="{tmp_path}/mesh.msh"}}']
    done = subprocess.run([sys.executable, "-m", "mvpde", "check", *case], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, made.exists()) == (2, False)
    assert "does not begin with $MeshFormat" in " ".join(done.stderr.split())


@pytest.mark.usefixtures("gmsh_library")
def test_gmsh_faults_are_named_on_all_ranks(comm: MPI.Intracomm, shared_tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no file"):
        gmsh(shared_tmp_path / "none.msh", comm=comm)
    if comm.rank == 0:
        (shared_tmp_path / "bad.msh").write_text("nothing of the kind")
    with pytest.raises(ArgumentError, match=r"bad\.msh"):
        gmsh(shared_tmp_path / "bad.msh", comm=comm)
    with pytest.raises(ArgumentError, match="periodic: opposite faces"):
        gmsh("meshes/disc.msh", periodic=[True, False], comm=comm)
    with pytest.raises(ArgumentError, match="periodic: has 3 entries"):
        gmsh("meshes/disc.msh", periodic=[True, False, False], comm=comm)


@pytest.mark.usefixtures("gmsh_library")
def test_gmsh_disc_has_its_area(comm: MPI.Intracomm) -> None:
    domain = gmsh("meshes/disc.msh", comm=comm)
    area = domain.sum(np.array([domain.graph.lumped.sum()]))[0]
    assert area == pytest.approx(np.pi * 1.5**2, rel=2e-3)  # a polygon of ~95 sides: 1 − area ratio = (2π/95)²/6
    assert area < np.pi * 1.5**2
    assert np.allclose(np.linalg.norm(domain.coordinates[: domain.owned][domain.boundary], axis=1), 1.5)
