"""The pages: no dead links, no gaps left to fill, every case in the table of cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in ("docs", "cases", "mpi_runs") for page in (ROOT / folder).glob("**/*.md"))]
)

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_to_fill(page: Path) -> None:
    text = page.read_text()
    assert "@@" not in text
    links = [
        link.split("#")[0] for link in re.findall(r"(?<!\w)\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    dead = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert dead == []


def test_every_case_is_in_the_table() -> None:
    table = (ROOT / "cases" / "README.md").read_text()
    assert [case.stem for case in (ROOT / "cases").glob("*.toml") if f"({case.name})" not in table] == []


def test_modules_are_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    modules = [m.relative_to(ROOT / "mvpde").as_posix() for m in (ROOT / "mvpde").glob("**/*.py") if not m.name.startswith("__")]
    assert sorted(m for m in modules if f"`{m}`" not in page) == []
