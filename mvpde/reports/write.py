"""`mvpde report`: one HTML file for each run or study, readable without a network, and a page that leads to them.

DIR/report.html unless `out` says otherwise: an .html file, for one DIR, or a folder that gets the pages of all and index.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from mvpde.cases.additions import import_additions
from mvpde.files import write_aside
from mvpde.reports.page import joined, page, section, tag
from mvpde.reports.read import Content
from mvpde.reports.run import run_content
from mvpde.reports.study import READING, study_content, tally, verdict_table
from mvpde.runs.folder import MARKS
from mvpde.runtime import MPI, CaseError, on_first_rank
from mvpde.studies.points import LIST

PAGE, INDEX = "report.html", "index.html"


@dataclass(frozen=True)
class Written:
    """A page: where it is, and what is on it."""

    path: Path
    content: Content


def report(
    folders: str | Path | Sequence[str | Path], out: str | Path | None = None, *, comm: MPI.Intracomm | None = None
) -> list[Written]:
    """Write the pages of runs and studies. Collective; rank 0 does it.

    Args:
        folders: of `mvpde run` or `mvpde study`, finished or not; one, or a list of them.
        out: a file that ends in .html, for a single folder, or a folder for all pages and their index.
        comm: communicator; MPI.COMM_WORLD by default.

    Returns:
        The pages in the order of the folders; the index is not among them.

    Raises:
        CaseError: before anything is written, if a folder holds neither run nor study, or `out` cannot be what it should.
    """
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    if not paths:
        raise CaseError("there is no folder to report on; give one that `mvpde study` or `mvpde run` wrote")
    return on_first_rank(comm or MPI.COMM_WORLD, lambda: _report(paths, out))


def _report(paths: Sequence[Path], out: str | Path | None) -> list[Written]:
    import_additions()
    contents = [_reader(path)(path) for path in paths]
    target = None if out is None else Path(out)
    if target is not None and _is_page(target) and len(paths) > 1:
        raise CaseError(f"--out {target}: is one file, but {len(paths)} folders are given; name a folder for their pages")
    if target is not None and not _is_page(target) and target.exists() and not target.is_dir():
        raise CaseError(f"--out {target}: is a file that does not end in .html; name another, or a folder")
    pages = [Written(place, content) for place, content in zip(_places(paths, target), contents, strict=True)]
    for path, written in zip(paths, pages, strict=True):
        _write(written.path, page(written.content.title, *written.content.body, source=str(path)))
    if target is not None and not _is_page(target):
        _write(target / INDEX, _index(pages))
    return pages


def _is_page(target: Path) -> bool:
    return target.suffix.lower() in (".html", ".htm") and not target.is_dir()


def _reader(folder: Path) -> Callable[[Path], Content]:
    """What makes the page of this folder."""
    if (folder / LIST).is_file():
        return study_content
    if all((folder / mark).is_file() for mark in MARKS):
        return run_content
    what = f"holds neither a study ({LIST}) nor a run ({', '.join(MARKS)})" if folder.is_dir() else "there is no such folder"
    raise CaseError(f"{folder}: {what}; give a folder that `mvpde study` or `mvpde run` wrote")


def _places(folders: Sequence[Path], target: Path | None) -> list[Path]:
    """The file of each page; where two folders have the same name, the later one gets a number."""
    if target is None:
        return [folder / PAGE for folder in folders]
    if _is_page(target):
        return [target]
    names: list[str] = []
    for folder in folders:
        names.append(_free(folder.resolve().name, (*names, Path(INDEX).stem)))
    return [target / f"{name}.html" for name in names]


def _free(name: str, taken: Sequence[str]) -> str:
    return next(candidate for candidate in chain([name], (f"{name}-{k}" for k in count(2))) if candidate not in taken)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, text)
    except OSError as error:
        raise CaseError(f"{path}: cannot be written ({error.strerror}); name another place by --out") from None


def _index(pages: Sequence[Written]) -> str:
    title = "Runs and studies"
    every = [entry for written in pages for entry in written.content.verdicts]
    unfinished = [written.content.title for written in pages if not written.content.complete]
    banner = tag("div", f"Not complete: {'; '.join(unfinished)}.", class_="banner unsure") if unfinished else Markup()
    explained = tag("p", READING, class_="soft") if every else Markup()
    body = [tag("h1", title), tally(every), banner, explained, *(_entry(written) for written in pages)]
    return page(title, *body, source=f"{len(pages)} folders")


def _entry(written: Written) -> Markup:
    content = written.content
    link = tag("a", "report with figures, tables and provenance", href=quote(written.path.name))
    line = tag("p", joined([content.kind, content.state, link], ", "), class_="soft")
    return section(content.title, line, verdict_table(content.verdicts, brief=True) if content.verdicts else Markup())
