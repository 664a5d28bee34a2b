"""Say in one sentence each what this machine lacks, with the command that provides it; standard library only.

    python .ci/check_machine.py install       what the install and every run need: venv, a C compiler, Python's headers
    python .ci/check_machine.py libraries     shared libraries that the wheels of PyVista and Gmsh do not bring along
    python .ci/check_machine.py packages      only the names of the Debian packages that provide the missing libraries
    python .ci/check_machine.py programs      the same for the programs that some tests use: a browser, Slurm

The first exits with 1 if anything is missing. Libraries are needed by parts only (drawing with PyVista, reading .msh files), so
the second warns and goes on: the tests of those parts are skipped with the same sentence. So are tests without their program.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# what the library is for → {library: Debian package}
LIBRARIES = {
    "drawing with PyVista": {"libEGL.so.1": "libegl1"},
    "reading .msh files with Gmsh": {
        "libGLU.so.1": "libglu1-mesa",
        "libGL.so.1": "libgl1",
        "libXrender.so.1": "libxrender1",
        "libXcursor.so.1": "libxcursor1",
        "libXfixes.so.3": "libxfixes3",
        "libXext.so.6": "libxext6",
        "libXft.so.2": "libxft2",
        "libfontconfig.so.1": "libfontconfig1",
        "libXinerama.so.1": "libxinerama1",
        "libX11.so.6": "libx11-6",
        "libgomp.so.1": "libgomp1",
    },
}

# program → Debian package
PROGRAMS = {"chromium": "chromium", "munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}


def no_venv() -> str | None:
    """A Debian python3.12 comes without the module that puts pip into a virtual environment."""
    if importlib.util.find_spec("ensurepip") is not None:
        return None
    return f"{sys.executable} cannot make virtual environments: run 'apt install python{VERSION}-venv'."


def no_compiler() -> str | None:
    """DOLFINx compiles its forms on first use: a program that includes Python.h must compile, with the compiler cffi calls."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        return f"No C compiler ('{compiler[0]}'), and DOLFINx compiles its forms at run time: run 'apt install gcc libc6-dev'."
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        for text, remedy in {
            "#include <math.h>\nint main(void) { return 0; }\n": "run 'apt install libc6-dev'",
            "#include <Python.h>\nint main(void) { return 0; }\n": f"run 'apt install python{VERSION}-dev', or use pyenv or uv",
        }.items():
            source.write_text(text)
            command = [*compiler, "-I", sysconfig.get_path("include"), "-c", str(source), "-o", str(source.with_suffix(".o"))]
            if subprocess.run(command, capture_output=True).returncode != 0:
                header = text.split("<")[1].split(">")[0]
                return f"The C compiler '{compiler[0]}' cannot compile a program that includes {header}: {remedy}."
    return None


def missing(libraries: dict[str, str]) -> dict[str, str]:
    """The libraries that the dynamic linker does not find, with their packages."""

    def found(name: str) -> bool:
        try:
            ctypes.CDLL(name)
        except OSError:
            return False
        return True

    return {name: package for name, package in libraries.items() if not found(name)}


def install() -> int:
    """Exit code 1 and one sentence for each thing without which nothing runs."""
    problems = [problem for problem in (no_venv(), no_compiler()) if problem]
    print("".join(f"mvpde: {problem}\n" for problem in problems), end="", file=sys.stderr)
    return bool(problems)


def libraries() -> int:
    """One sentence for each part that lacks a library; exit code 0, since the rest works."""
    for purpose, needed in LIBRARIES.items():
        if lacking := missing(needed):
            names, packages = ", ".join(lacking), " ".join(lacking.values())
            print(f"mvpde: {names} not found, needed for {purpose} only: run 'apt install {packages}'.", file=sys.stderr)
    return 0


def packages() -> int:
    """Names of the Debian packages to install, on one line."""
    print(*(package for needed in LIBRARIES.values() for package in missing(needed).values()))
    return 0


def programs() -> int:
    """Names of the Debian packages with the missing programs, on one line."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    print(*(package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None))
    return 0


CHECKS = {"install": install, "libraries": libraries, "packages": packages, "programs": programs}

if __name__ == "__main__":
    sys.exit(CHECKS[sys.argv[1]]())
