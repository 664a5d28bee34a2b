"""The house: imports go one way, folders and modules stay small, untyped values rare. The limits are a table.

The order of the folders is that of the sentence in `docs/architecture.md`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mvpde"
# A folder imports from folders above it only, and never from one beside it.
ORDER = (
    ("models",),
    ("mesh", "particles"),
    ("density",),
    ("equilibrium",),
    ("cases",),
    ("runs",),
    ("studies",),
    ("reports",),
    ("cli",),
)
# What all may use, and what stands above all.
SHARED = ("files", "fields", "measure", "registry", "richardson", "runtime")
ENTRANCES = ("__init__", "__main__", "points")

FILES_IN_A_FOLDER = 16
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60
IMPORTS_INSIDE_FUNCTIONS = 30
ANY_IN_1000_LINES = 4.0

pytestmark = pytest.mark.serial


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another; ``types``: only type checkers carry it out."""

    source: str
    target: str
    line: int
    types: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Name within the package, such as "mesh.box" → file; a folder's `__init__` has the folder's name."""
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


@cache
def imports() -> tuple[Import, ...]:
    """All imports of the package by itself. The version is said in `__init__` before anything is loaded: no import of others."""
    statements = [(name, node, types) for name in modules() for node, types in _statements(tree(name), False)]
    found = [Import(name, target, node.lineno, types) for name, node, types in statements for target in _targets(node)]
    return tuple(one for one in found if one.target != "__version__")


def _statements(node: ast.AST, types: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements, and whether they stand under `if TYPE_CHECKING`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, types
    for child in ast.iter_child_nodes(node):
        yield from _statements(child, types or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"))


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Modules of a statement: `from mvpde.models import laws` and `from mvpde.models.laws import Normal` both models.laws."""
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{ast.unparse(node)}: write the whole name"
    names = [alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}" for alias in node.names]
    for target in (name.removeprefix("mvpde.") for name in names if name.startswith("mvpde.")):
        above = target.rpartition(".")[0]
        yield target if target in modules() or target == "__version__" else above if above in modules() else "__init__"


def inside_functions(name: str) -> list[ast.Import | ast.ImportFrom]:
    """Import statements of a module that are carried out when a function is called."""
    functions = [node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef)]
    inner = {node for function in functions for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)}
    return sorted(inner, key=lambda node: node.lineno)


def _level(name: str) -> int:
    """Place of a folder in the order; shared modules are on the level of the models, entrances above all."""
    first = name.split(".")[0]
    if first in SHARED:
        return 0
    return len(ORDER) if first in ENTRANCES else next(k for k, folders in enumerate(ORDER) if first in folders)


def _goes_down(one: Import) -> bool:
    source, target = one.source.split(".")[0], one.target.split(".")[0]
    beside = target in SHARED or source in (target, *ENTRANCES) or (source in SHARED and target == "models")
    return beside or _level(target) < _level(source)


def test_every_folder_has_its_place() -> None:
    placed = {folder for level in ORDER for folder in level} | set(SHARED) | set(ENTRANCES)
    assert {name.split(".")[0] for name in modules()} <= placed


def test_imports_go_one_way() -> None:
    wrong = [one for one in imports() if not _goes_down(one)]
    assert not wrong, "\n".join(map(str, wrong))


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count, since what needs one to break a circle is in the wrong file; imports for types do not."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if not one.types:
            graph[one.source].add(one.target)
    circle = _circle(graph)
    assert not circle, " -> ".join(circle)


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules along a circle of imports, or nothing."""
    left = dict(graph)
    while ready := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in ready:
            del left[name]
    if not left:
        return []
    path = [next(iter(left))]
    while path[-1] not in path[:-1]:
        path.append(min(left[path[-1]] & left.keys()))
    return path[path.index(path[-1]) :]


def test_a_circle_is_seen() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert _circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": set()}) == []


def test_folders_hold_few_files() -> None:
    folders = [path for path in [PACKAGE, *PACKAGE.rglob("*")] if path.is_dir() and path.name != "__pycache__"]
    counts = {str(folder.relative_to(ROOT)): sum(path.suffix == ".py" for path in folder.iterdir()) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > FILES_IN_A_FOLDER} == {}


def test_modules_are_short() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_MODULE} == {}


def test_functions_are_short() -> None:
    functions = [(name, node) for name in modules() for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef)]
    lines = {f"{name}.{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1 for name, node in functions}
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FUNCTION} == {}


def test_few_imports_inside_functions() -> None:
    inside = [f"{name}:{node.lineno} {ast.unparse(node)}" for name in modules() for node in inside_functions(name)]
    assert len(inside) <= IMPORTS_INSIDE_FUNCTIONS, "\n".join([f"{len(inside)} of them:", *inside])


def test_any_is_rare() -> None:
    """`Any` says that a value has a type which nobody wrote down."""
    counts = {name: sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree(name))) for name in modules()}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values())
    most = sorted(counts.items(), key=lambda pair: -pair[1])[:20]
    assert sum(counts.values()) <= ANY_IN_1000_LINES * lines / 1000, f"{sum(counts.values())} in {lines} lines, most in {most}"


def test_names_of_classes_are_not_used_twice() -> None:
    names = sorted((node.name, name) for name in modules() for node in tree(name).body if isinstance(node, ast.ClassDef))
    twice = [f"{one[0]}: {one[1]} and {other[1]}" for one, other in pairwise(names) if one[0] == other[0]]
    assert not twice, "\n".join(twice)


# --- tests ----------------------------------------------------------------------------------------------------------------------


def test_tests_lie_where_the_code_does() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("**/*.py"))}
    assert folders == {folder for level in ORDER for folder in level} | {"at_hand", "golden"}


def test_three_ranks_see_every_part_that_is_shared_among_ranks() -> None:
    """Only tests marked `ranks` run on three: of what lies on meshes and in folders there is at least one in each file."""
    files = [
        path for folder in ("mesh", "density", "equilibrium", "runs") for path in (ROOT / "tests" / folder).glob("test_*.py")
    ]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    shared = [name for name, text in texts.items() if "comm: MPI" in text or "shared_tmp_path: Path" in text]
    assert [name for name in shared if "mark.ranks" not in texts[name]] == []
