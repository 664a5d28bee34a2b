"""Meshes from Gmsh, which carries out as a script whatever it does not know as a mesh.

Gmsh chooses what to do with a file by its first bytes and its name, and reads NAME.opt beside it and configuration files of the
user: all of these may hold commands for the shell. So it gets to see meshes only, as a copy of ours, alone in a folder.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mvpde.mesh.domain import Domain, from_mesh  # isort: skip  (loads the solver libraries)

from dolfinx import mesh

from mvpde.models.shell import Shell
from mvpde.runtime import MPI, CaseError, on_first_rank

_HEADER = b"$MeshFormat"  # the first bytes of every .msh file since version 2; behind them Gmsh carries out nothing
_ELEMENTS = {1: 1, 2: 2, 3: 4}  # Gmsh's number of the simplex of each dimension


def from_gmsh(
    comm: MPI.Intracomm,
    path: str | Path,
    dimension: int,
    periodic: Sequence[bool] | None = None,
    metric: Shell | None = None,
) -> Domain:
    """A mesh of simplices from a Gmsh file (.msh). Collective.

    Args:
        comm: communicator; the file is read on rank 0.
        path: the file; its cells need a physical group, as Gmsh saves only those.
        dimension: D of the model, which the mesh must have.
        periodic: directions closed to a circle; opposite faces must then carry matching nodes.
        metric: of the model, None for |dz|².

    Raises:
        CaseError: no such file, no Gmsh mesh, other cells than simplices, or a mesh of another dimension, on all ranks alike.
    """
    grid = _read(comm, Path(path), dimension)
    kind = str(grid.topology.cell_name())
    if grid.topology.dim != dimension or kind not in ("interval", "triangle", "tetrahedron"):
        raise CaseError(
            f"[domain] mesh: '{path}' has {kind} cells of dimension {grid.topology.dim}, "
            f"but the model has {dimension} coordinates; "
            "give a mesh of intervals, triangles or tetrahedra of that dimension"
        )
    return from_mesh(grid, tuple(periodic) if periodic is not None else (False,) * dimension, metric)


def _read(comm: MPI.Intracomm, path: Path, dimension: int) -> mesh.Mesh:
    on_first_rank(comm, lambda: _load(path, dimension))
    import gmsh  # here: a slow import that few runs need
    from dolfinx.io import gmsh as reader

    try:
        return reader.model_to_mesh(gmsh.model, comm, 0, gdim=dimension).mesh
    finally:
        if comm.rank == 0:
            gmsh.finalize()


def _load(path: Path, dimension: int) -> None:
    """Start Gmsh with a mesh file as its model.

    Raises:
        CaseError: see there; Gmsh is not running then.
    """
    with tempfile.TemporaryDirectory(prefix="mvpde-") as folder:
        copy = Path(folder) / "mesh.msh"
        _copy(path, copy)
        _load_library()
        import gmsh

        if not gmsh.isInitialized():
            gmsh.initialize(readConfigFiles=False)
        try:
            _open(path, copy, dimension)
        except CaseError:
            gmsh.finalize()
            raise


def _copy(path: Path, copy: Path) -> None:
    """A copy of a mesh file.

    Raises:
        CaseError: if it is no regular file (a pipe would be waited for), cannot be read, or holds something else than a mesh.
    """
    if not path.is_file():
        raise CaseError(f"[domain] mesh: there is no file '{path}'")
    try:
        with path.open("rb") as source, copy.open("wb") as target:
            if source.read(len(_HEADER)) != _HEADER:
                raise CaseError(
                    f"[domain] mesh: '{path}' is no mesh file of Gmsh (it does not begin with {_HEADER.decode()}); "
                    "make the mesh in Gmsh and save it as .msh, version 4.1 or 2.2"
                )
            source.seek(0)
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise CaseError(
            f"[domain] mesh: '{path}' cannot be copied to {copy.parent} ({error.strerror}); make it readable, or make room there"
        ) from None


def _load_library() -> None:
    try:
        importlib.import_module("gmsh")
    except OSError as error:
        raise CaseError(
            f"[domain] mesh: Gmsh's library cannot be loaded ({error}); "
            "run 'apt install libglu1-mesa libxcursor1 libxft2 libxinerama1'"
        ) from None


def _open(path: Path, copy: Path, dimension: int) -> None:
    """Make the copy of a mesh file Gmsh's model.

    Raises:
        CaseError: if it has another dimension, no physical group, or other cells than first-order simplices.
    """
    import gmsh

    gmsh.option.setNumber("General.Terminal", 0)
    try:
        gmsh.open(str(copy))
    except Exception as error:
        reason = str(error).replace(str(copy), str(path))
        raise CaseError(f"[domain] mesh: '{path}' is not a mesh that Gmsh can read ({reason})") from None
    found = gmsh.model.getDimension()
    if found != dimension:
        raise CaseError(
            f"[domain] mesh: '{path}' has dimension {found}, but the model has {dimension} coordinates; "
            "give a mesh of that dimension"
        )
    if not gmsh.model.getPhysicalGroups(dimension):
        raise CaseError(f"[domain] mesh: '{path}' has no physical group of dimension {dimension}; add one in Gmsh and save again")
    if list(gmsh.model.mesh.getElementTypes(dimension)) != [_ELEMENTS[dimension]]:
        raise CaseError(f"[domain] mesh: '{path}' must hold first-order intervals, triangles or tetrahedra only")
