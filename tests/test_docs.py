"""The pages: no dead links, no gaps left to fill, every case in its table, and every block of code does what it says.

The language of a block decides: `python` and `sh` are run, in order, in a folder with small copies of the cases and studies that
pages speak of; of `console` the answer is compared too; `toml` is read as a case, a study, or part of one; `text` is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mvpde
from at_hand.additions import put_back
from at_hand.studies import compute_here
from mvpde.cases.file import parse
from mvpde.studies.file import load_study

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in ("docs", "cases", "mpi_runs") for page in (ROOT / folder).glob("**/*.md"))]
)
BY_NAME = {str(page.relative_to(ROOT)): page for page in PAGES}

pytestmark = pytest.mark.serial

# Sizes of the shipped circle and of the snippets → sizes on which no block depends.
SMALLER = {
    r"cells = \[128, 128\]": "cells = [20, 20]",
    r"\[256,\s?256\]": "[24,24]",
    r"particles = 10000": "particles = 200",
    r"nodes = \[128, 32\]": "nodes = [12, 8]",
    r"outputs = \[0\.0, 0\.5, .*\]": "outputs = [0.0, 8.0]",
    r"\[output\]": "[output]\npictures = false\nsliced_wasserstein = false",
    r"\(128, 32\)": "(12, 8)",
    r"\b10+_000\b": "400",
}
STUDY = """
title = "small"
base = "../cases/gaussian_mixture.toml"
[set]
"domain.cells" = [24, 24]
"characteristics.nodes" = [16, 12]
"ensemble.step" = 0.25
"time.end" = 0.5
"time.outputs" = 1
"output.fields" = false
"output.particles" = 0
"output.pictures" = false
"output.sliced_wasserstein" = false
[vary]
"ensemble.particles" = [500, 1000]
"ensemble.seed" = [1]
[measure]
kind = "slope"
x = "ensemble.particles"
y = "comparison.ensemble_vs_density.prediction_error"
power = 2
predicted = -1.0
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Part:
    """What a block of TOML that is no whole file belongs to: put into a section of a shipped case, it makes a valid one."""

    case: str
    section: str = ""
    without: tuple[str, ...] = ()


# page, number of the block among those of TOML → the case that it changes
PARTS = {
    ("docs/accuracy.md", 0): Part("linear_mckean"),
    ("docs/depth.md", 0): Part("residual_flow"),
    ("docs/depth.md", 1): Part("residual_network"),
    ("docs/mean_field.md", 0): Part("desai_zwanzig"),
    ("docs/mean_field.md", 1): Part("desai_zwanzig", "model", ("features", "outer_energy")),
    ("docs/mean_field.md", 2): Part("kuramoto", "model", ("potential", "features", "outer_energy", "temperature")),
    ("docs/mean_field.md", 3): Part("desai_zwanzig"),
}
# The examples of the first make additions (test_additions.py), the second has its data in a block of its own (test_api.py).
OWN_TESTS = ("CONTRIBUTING.md", "docs/first_script.md")


def blocks(name: str, *languages: str) -> list[Block]:
    return [block for block in _blocks(name) if block.language in languages]


def _blocks(name: str) -> Iterator[Block]:
    text = BY_NAME[name].read_text(encoding="utf-8")
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(name, text[: found.start()].count("\n") + 1, found[1], found[2])


def with_blocks(*languages: str) -> list[str]:
    return [name for name in BY_NAME if blocks(name, *languages) and name not in OWN_TESTS]


def smaller(text: str) -> str:
    for pattern, size in SMALLER.items():
        text = re.sub(pattern, size, text)
    return text


# --- pages ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_NAME)
def test_links_lead_somewhere_and_nothing_is_left_to_fill(name: str) -> None:
    page, text = BY_NAME[name], BY_NAME[name].read_text(encoding="utf-8")
    assert "@@" not in text
    links = [
        link.split("#")[0] for link in re.findall(r"(?<!\w)\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    dead = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("name", BY_NAME)
def test_paths_exist(name: str) -> None:
    """Files in backticks, from the top; pages about the code also name those of mvpde/ from there."""
    tops = [ROOT, ROOT / "mvpde"] if name in ("CONTRIBUTING.md", "docs/architecture.md") else [ROOT]
    text = re.sub(r"```.*?```", "", BY_NAME[name].read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = re.findall(r"`((?:mvpde|tests|docs|studies|cases|mpi_runs)/[^`\s]*)`", text)
    assert [path for path in paths if not any(list(top.glob(path)) for top in tops)] == []


def test_every_case_is_in_the_table() -> None:
    table = (ROOT / "cases" / "README.md").read_text()
    assert [case.stem for case in (ROOT / "cases").glob("*.toml") if f"({case.name})" not in table] == []


def test_folders_are_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    there = {path.name for path in (ROOT / "mvpde").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    there |= {path.name for path in (ROOT / "mvpde").glob("*.py") if not path.name.startswith("__")}
    assert sorted(name for name in there if f"`{name}`" not in page and f"`{name}/`" not in page) == []


# --- blocks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_NAME)
def test_every_block_has_a_language(name: str) -> None:
    known = ("python", "sh", "console", "toml", "text")
    assert [(block.line, block.language) for block in _blocks(name) if block.language not in known] == []


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "NO_COLOR": "1", "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small copies of what the pages speak of, with the runs and studies that they look at."""
    path = tmp_path_factory.mktemp("pages")
    for name in ("cases", "studies"):
        (path / name).mkdir()
    for name in ("circle_rbf", "gaussian_mixture"):
        text = (ROOT / "cases" / f"{name}.toml").read_text(encoding="utf-8")
        (path / "cases" / f"{name}.toml").write_text(smaller(text), encoding="utf-8")
    shutil.copy(path / "cases" / "circle_rbf.toml", path / "case.toml")
    (path / "cases" / "data").symlink_to(ROOT / "cases" / "data")
    (path / ".venv").symlink_to(sys.prefix)
    (path / "studies" / "lln.toml").write_text(STUDY, encoding="utf-8")
    mvpde.run(path / "cases" / "circle_rbf.toml", out=path / "results" / "circle_rbf")
    compute_here(path / "studies" / "lln.toml", path / "results" / "lln")
    for name in ("lln", "clt"):
        shutil.copytree(path / "results" / "lln", path / "results" / "studies" / name)
    return path


@pytest.mark.parametrize("name", with_blocks("sh"))
def test_commands_can_be_typed(name: str, folder: Path) -> None:
    for block in blocks(name, "sh"):
        text = re.sub(r"^(mpirun -n \d+ )?mvpde run (.*)$", r"\g<0> --overwrite", smaller(block.text), flags=re.MULTILINE)
        done = run(["bash", "-euo", "pipefail", "-c", re.sub(r"#.*--overwrite", "--overwrite", text)], folder)
        assert done.returncode == 0, f"line {block.line}: {done.stderr}"


@pytest.mark.parametrize("name", with_blocks("console"))
def test_commands_answer_as_written(name: str, folder: Path) -> None:
    """The sign … stands for any text."""
    for block in blocks(name, "console"):
        for typed, answer in re.findall(r"^\$ ([^\n]*)\n((?:[^$\n][^\n]*\n)*)", block.text, re.MULTILINE):
            done = run(["bash", "-c", typed], folder)
            pattern = ".*".join(map(re.escape, answer.strip().split("…")))
            assert re.fullmatch(pattern, (done.stdout + done.stderr).strip(), re.DOTALL), done.stdout + done.stderr


@pytest.mark.usefixtures("rendering")
@pytest.mark.parametrize("name", with_blocks("python"))
def test_scripts_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page are one script: a later one may use what an earlier one has made."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("pyvista.OFF_SCREEN", True)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    script = "\n".join(smaller(block.text) for block in blocks(name, "python"))
    with put_back():
        exec(compile(script, name, "exec"), {"__name__": "page"})


@pytest.mark.parametrize("name", with_blocks("toml"))
def test_files_are_valid(name: str, folder: Path) -> None:
    """Whole cases and studies as they are, parts of one in their place."""
    for number, block in enumerate(blocks(name, "toml")):
        table = tomllib.loads(block.text)
        if "base" in table:
            (folder / "studies" / "page.toml").write_text(block.text, encoding="utf-8")
            load_study(folder / "studies" / "page.toml")
        else:
            assert "time" in table or (name, number) in PARTS, (
                f"{name}, line {block.line}: say in PARTS of which case it is a part"
            )
            parse(table if "time" in table else whole(PARTS[name, number], table), ROOT / "cases" / "page.toml")


def whole(part: Part, table: dict[str, Any]) -> dict[str, Any]:
    """A shipped case with sections, or keys of a section, as a page has them."""
    case = tomllib.loads((ROOT / "cases" / f"{part.case}.toml").read_text(encoding="utf-8"))
    if not part.section:
        return {**case, **table}
    kept = {key: value for key, value in case[part.section].items() if key not in part.without}
    return {**case, part.section: {**kept, **table}}
