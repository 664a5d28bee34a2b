"""A run that was killed while compiling a form must not block the next one, and must not cost a run that is still compiling."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from mvpde.mesh import formcache  # isort: skip  (loads the solver libraries before anything of mpi4py)
import numpy as np
import pytest
import ufl
from dolfinx import fem, mesh
from mpi4py import MPI

pytestmark = pytest.mark.ranks

HOUR = 3600.0


def reserve(
    cache: Path, name: str, *, text: str = "", mark: bool = False, library: bytes | None = None, age: float = HOUR
) -> Path:
    """What FFCx has in its cache for one form at some moment of its compilation."""
    source = cache / f"libffcx_forms_{name}.c"
    source.write_text(text)
    if mark:
        Path(f"{source}.cached").write_text("")
    if library is not None:
        source.with_suffix(".cpython-312-x86_64-linux-gnu.so").write_bytes(library)
    os.utime(source, (time.time() - age,) * 2)
    return source


@pytest.mark.parametrize(
    "left",
    [
        pytest.param({}, id="reserved"),
        pytest.param({"text": "int a;"}, id="compiling"),
        pytest.param({"text": "int a;", "library": b"x"}, id="unmarked"),
        pytest.param({"text": "int a;", "mark": True}, id="library-missing"),
        pytest.param({"text": "int a;", "mark": True, "library": b""}, id="library-empty"),
    ],
)
def test_old_unfinished_form_is_removed_and_finished_one_kept(comm: MPI.Comm, shared_tmp_path: Path, left: dict) -> None:
    if comm.rank == 0:
        reserve(shared_tmp_path, "dead", **left)
        reserve(shared_tmp_path, "good", text="int a;", mark=True, library=b"x")
    removed = formcache.clear_stale_forms(comm, shared_tmp_path)
    assert [path.name for path in removed] == ["libffcx_forms_dead.c"]
    kept = {path.name.split(".")[0] for path in shared_tmp_path.iterdir()}
    assert kept == {"libffcx_forms_good"}


def test_form_in_the_making_is_waited_for(comm: MPI.Comm, shared_tmp_path: Path) -> None:
    def finish() -> None:
        reserve(shared_tmp_path, "young", text="int a;", mark=True, library=b"x", age=0.0)

    worker = threading.Timer(0.3, finish)
    if comm.rank == 0:
        reserve(shared_tmp_path, "young", age=0.0)
        worker.start()
    assert formcache.clear_stale_forms(comm, shared_tmp_path, patience=60.0) == []
    if comm.rank == 0:
        worker.join()
        assert formcache.unfinished_forms(shared_tmp_path) == []


def test_young_form_is_removed_when_patience_ends(comm: MPI.Comm, shared_tmp_path: Path) -> None:
    if comm.rank == 0:
        reserve(shared_tmp_path, "young", age=0.0)
    assert len(formcache.clear_stale_forms(comm, shared_tmp_path, patience=0.2)) == 1


def test_absent_cache_is_no_error(comm: MPI.Comm, shared_tmp_path: Path) -> None:
    assert formcache.clear_stale_forms(comm, shared_tmp_path / "absent") == []


def test_reserved_form_blocks_dolfinx_until_it_is_cleared(comm: MPI.Comm, shared_tmp_path: Path) -> None:
    domain = mesh.create_interval(comm, 8, [0.0, 1.0])

    def length(cache: Path) -> float:
        form = fem.form(fem.Constant(domain, 1.25) * ufl.dx, jit_options={"cache_dir": cache, "timeout": 1})
        return float(comm.allreduce(fem.assemble_scalar(form)))

    first, second = shared_tmp_path / "first", shared_tmp_path / "second"
    assert np.isclose(length(first), 1.25)
    names = comm.bcast([path.name for path in first.glob("libffcx_forms_*.c")])
    assert len(names) == 1
    if comm.rank == 0:
        second.mkdir()
        (second / names[0]).touch()
        os.utime(second / names[0], (time.time() - HOUR,) * 2)
    comm.Barrier()
    with pytest.raises((TimeoutError, RuntimeError), match="JIT compilation"):
        length(second)
    assert [path.name for path in formcache.clear_stale_forms(comm, second)] == names
    assert np.isclose(length(second), 1.25)
