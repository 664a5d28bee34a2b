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
from types import ModuleType

from mvpde.runtime import MPI, ArgumentError, on_first_rank  # isort: skip  (loads the solver libraries)

from dolfinx import mesh
from dolfinx.io import gmsh as reader

from mvpde.mesh.assembly import from_mesh
from mvpde.mesh.communicators import own
from mvpde.mesh.domain import Domain
from mvpde.models.shell import Shell

_HEADER = b"$MeshFormat"  # the first bytes of every .msh file since version 2; behind them Gmsh carries out nothing
_ELEMENTS = {1: 1, 2: 2, 3: 4}  # Gmsh's number of the simplex of each dimension


def gmsh(
    path: str | Path,
    *,
    periodic: Sequence[bool] | None = None,
    metric: Shell | None = None,
    comm: MPI.Intracomm | None = None,
) -> Domain:
    """A mesh of simplices from a Gmsh file (.msh), of the dimension that it has. Collective.

    Args:
        path: the file; its cells need a physical group, as Gmsh saves only those.
        periodic: directions closed to a circle; opposite faces must then carry matching nodes.
        metric: of the model, None for |dz|².
        comm: communicator, that of all ranks by default; the file is read on rank 0.

    Raises:
        ArgumentError: no such file, no Gmsh mesh, or other cells than simplices, on all ranks alike.
    """
    grid = read(path, comm)
    dimension = grid.geometry.dim
    if periodic is not None and len(periodic) != dimension:
        text = f"has {len(periodic)} entries; give one for each direction of the mesh, {dimension} in all"
        raise ArgumentError("periodic", text)
    return from_mesh(grid, tuple(periodic) if periodic is not None else (False,) * dimension, metric)


def read(path: str | Path, comm: MPI.Intracomm | None = None) -> mesh.Mesh:
    """The mesh as DOLFINx has it. Collective.

    Raises:
        ArgumentError: as `gmsh`.
    """
    comm = own(comm)
    dimension = on_first_rank(comm, lambda: _load(Path(path)))
    library = _library()
    try:
        return reader.model_to_mesh(library.model, comm, 0, gdim=dimension).mesh
    finally:
        if comm.rank == 0:
            library.finalize()


def _load(path: Path) -> int:
    """Start Gmsh with a mesh file as its model; the mesh's dimension.

    Raises:
        ArgumentError: see there; Gmsh is not running then.
    """
    with tempfile.TemporaryDirectory(prefix="mvpde-") as folder:
        copy = Path(folder) / "mesh.msh"
        _copy(path, copy)
        library = _library()
        if not library.isInitialized():
            library.initialize(readConfigFiles=False)
        try:
            return _open(library, path, copy)
        except ArgumentError:
            library.finalize()
            raise


def _copy(path: Path, copy: Path) -> None:
    """A copy of a mesh file.

    Raises:
        ArgumentError: if it is no regular file (a pipe would be waited for), cannot be read, or holds something else than a mesh.
    """
    if not path.is_file():
        raise ArgumentError("path", f"there is no file '{path}'")
    try:
        with path.open("rb") as source, copy.open("wb") as target:
            if source.read(len(_HEADER)) != _HEADER:
                raise ArgumentError(
                    "path",
                    f"'{path}' is no mesh file of Gmsh (it does not begin with {_HEADER.decode()}); "
                    "make the mesh in Gmsh and save it as .msh, version 4.1 or 2.2",
                )
            source.seek(0)
            shutil.copyfileobj(source, target)
    except OSError as error:
        text = f"'{path}' cannot be copied to {copy.parent} ({error.strerror}); make it readable, or make room there"
        raise ArgumentError("path", text) from None


def _library() -> ModuleType:
    """Gmsh, a slow import that few runs need, of libraries that a machine without a screen may lack."""
    try:
        return importlib.import_module("gmsh")
    except OSError as error:
        text = f"Gmsh's library cannot be loaded ({error}); run 'apt install libglu1-mesa libxcursor1 libxft2 libxinerama1'"
        raise ArgumentError("path", text) from None


def _open(library: ModuleType, path: Path, copy: Path) -> int:
    """Make the copy of a mesh file Gmsh's model; the mesh's dimension.

    Raises:
        ArgumentError: if it has no physical group, or other cells than first-order simplices.
    """
    library.option.setNumber("General.Terminal", 0)
    try:
        library.open(str(copy))
    except Exception as error:
        reason = str(error).replace(str(copy), str(path))
        raise ArgumentError("path", f"'{path}' is not a mesh that Gmsh can read ({reason})") from None
    dimension = int(library.model.getDimension())
    if not library.model.getPhysicalGroups(dimension):
        text = f"'{path}' has no physical group of dimension {dimension}; add one in Gmsh and save again"
        raise ArgumentError("path", text)
    if list(library.model.mesh.getElementTypes(dimension)) != [_ELEMENTS.get(dimension)]:
        raise ArgumentError("path", f"'{path}' must hold first-order intervals, triangles or tetrahedra only")
    return dimension
