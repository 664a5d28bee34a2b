"""Fields over time as HDF5 with an XDMF index beside it, in a form that ParaView 5.11+ and VTK's reader open.

The index inlines where topology and geometry lie (a reference by xi:include crashes VTK's reader) and holds one temporal
collection. Arrays come in the order of the mesh's input, so files do not depend on the number of ranks. The HDF5 file is open
only while a time is written, without a lock; the list of times grows when all else of a time is there, and the index is replaced
whole afterwards: a run in progress can be looked at. Rank 0 only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

import h5py
import numpy as np
from numpy.typing import NDArray

from mvpde.files import open_hdf5, read_hdf5, write_aside

Array = NDArray[np.float64]
Integers = NDArray[np.int32]

SUFFIXES = (".h5", ".xdmf")
TOPOLOGIES = {2: 'TopologyType="Polyline" NodesPerElement="2"', 3: 'TopologyType="Triangle"', 4: 'TopologyType="Tetrahedron"'}

_KINDS = {1: "Scalar", 2: "Vector"}  # by the dimensions of an array of values at points


@dataclass
class FieldSeries:
    """A mesh, or particles, with scalar fields at a growing number of times.

    Attributes:
        stem: path without suffix; `.h5` and `.xdmf` are written.
        name: name of the collection.
        times: times written so far.
        grids: their XDMF grids.
    """

    stem: Path
    name: str
    times: list[float] = field(default_factory=list)
    grids: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The HDF5 file."""
        return self.stem.with_suffix(".h5")

    def write_mesh(self, points: Array, cells: NDArray[np.integer], coordinates: tuple[str, ...]) -> None:
        """Points (n, 3) and cells (m, D + 1); names of the D coordinates. Before the first time."""
        with open_hdf5(self.file, "w") as file:
            file["mesh/points"], file["mesh/cells"] = points, np.asarray(cells, dtype=np.int32)
            file.attrs["coordinates"], file.attrs["times"] = list(coordinates), np.zeros(0)

    def append_on_mesh(self, t: float, fields: Mapping[str, Array]) -> None:
        """Add time t with fields by name: numbers, shape (n,), or vectors, shape (n, 3)."""
        with open_hdf5(self.file, "a") as file:
            shape = file["mesh/cells"].shape
            geometry = _geometry(self._item(file["mesh/points"]))
            self._store(file, t, fields)
            topology = (
                f'<Topology {TOPOLOGIES[shape[1]]} NumberOfElements="{shape[0]}">{self._item(file["mesh/cells"])}</Topology>'
            )
            grid = self._grid(file, t, topology + geometry, fields)
        self._list(t, grid)

    def append_points(self, t: float, points: Array, coordinates: tuple[str, ...]) -> None:
        """Add time t with particles, shape (n, D): drawn in their first three coordinates, each coordinate also as a field."""
        drawn = np.zeros((len(points), 3))
        drawn[:, : points.shape[1]] = points[:, :3]
        fields = {name: points[:, axis] for axis, name in enumerate(coordinates)}
        with open_hdf5(self.file, "a" if self.times else "w") as file:
            file.attrs["coordinates"] = list(coordinates)
            self._store(file, t, {"points": drawn, **fields})
            topology = f'<Topology TopologyType="Polyvertex" NodesPerElement="1" NumberOfElements="{len(points)}"/>'
            grid = self._grid(file, t, topology + _geometry(self._item(file[_name("points", len(self.times))])), fields)
        self._list(t, grid)

    def _store(self, file: h5py.File, t: float, arrays: Mapping[str, Array]) -> None:
        for key, values in arrays.items():
            file[_name(key, len(self.times))] = np.ascontiguousarray(values, dtype=np.float64)
        file.flush()  # nobody holds a lock: whoever finds the time must find its arrays
        file.attrs["times"] = [*self.times, t]

    def _item(self, dataset: h5py.Dataset) -> str:
        kind = 'NumberType="Int" Precision="4"' if dataset.dtype.kind == "i" else 'NumberType="Float" Precision="8"'
        size = " ".join(map(str, dataset.shape))
        return f'<DataItem Dimensions="{size}" {kind} Format="HDF">{self.file.name}:{dataset.name}</DataItem>'

    def _grid(self, file: h5py.File, t: float, mesh: str, fields: Mapping[str, Array]) -> str:
        attributes = "".join(
            f'<Attribute Name={quoteattr(key)} AttributeType="{_KINDS[values.ndim]}" Center="Node">'
            f"{self._item(file[_name(key, len(self.times))])}</Attribute>"
            for key, values in fields.items()
        )
        return f'<Grid Name="{self.name}" GridType="Uniform"><Time Value="{t!r}"/>{mesh}{attributes}</Grid>'

    def _list(self, t: float, grid: str) -> None:
        self.times.append(t)
        self.grids.append(grid)
        write_aside(self.stem.with_suffix(".xdmf"), self._index())

    def _index(self) -> str:
        collection = f'<Grid Name="{self.name}" GridType="Collection" CollectionType="Temporal">'
        return "\n".join(
            ['<?xml version="1.0"?>', '<Xdmf Version="3.0"><Domain>', collection, *self.grids, "</Grid></Domain></Xdmf>", ""]
        )


def _geometry(item: str) -> str:
    return f'<Geometry GeometryType="XYZ">{item}</Geometry>'


@dataclass(frozen=True)
class Outline:
    """What a file holds, without its values.

    Attributes:
        times: written so far.
        coordinates: names of the D coordinates.
        names: of the fields.
        nodes: number of points of the mesh, 0 where there is none.
    """

    times: list[float]
    coordinates: tuple[str, ...]
    names: tuple[str, ...]
    nodes: int


def outline(file: Path) -> Outline:
    """What a file of fields holds."""
    return read_hdf5(file, _outline)


def read_mesh(file: Path) -> tuple[Array, Integers]:
    """Points, shape (n, 3), and cells, shape (m, D + 1)."""
    return read_hdf5(file, lambda source: (source["mesh/points"][()], source["mesh/cells"][()]))


def read_field(file: Path, name: str, k: int, most: int | None = None) -> Array:
    """A field at the time of index k, of very many values at most ``most``, evenly chosen."""

    def read(source: h5py.File) -> Array:
        values = source[_name(name, k)]
        return np.asarray(values[:: 1 if most is None else max(1, -(-len(values) // most))])

    return read_hdf5(file, read)


def read_fields(file: Path) -> tuple[Outline, dict[str, Array]]:
    """All fields over time by name, with time as first axis."""

    def read(source: h5py.File) -> tuple[Outline, dict[str, Array]]:
        held = _outline(source)
        count = range(len(held.times))
        return held, {name: np.stack([source[_name(name, k)][()] for k in count]) for name in held.names}

    return read_hdf5(file, read)


def _outline(source: h5py.File) -> Outline:
    times = [float(t) for t in source.attrs["times"]]
    names = tuple(name for name in source if name != "mesh") if times else ()
    nodes = len(source["mesh/points"]) if "mesh" in source else 0
    return Outline(times, tuple(str(name) for name in source.attrs["coordinates"]), names, nodes)


def _name(field: str, k: int) -> str:
    return f"{field}/{k:06d}"
