"""Reports: one file that holds everything, every text escaped, and what a browser really shows of it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.image import imread

import mvpde
from at_hand.runs import SMALL as RUN
from at_hand.studies import SLOPE, compute_here, write_study
from at_hand.studies import SMALL as BASE
from mvpde.cli.main import main
from mvpde.reports.case import equation
from mvpde.reports.limits import with_errors
from mvpde.reports.page import POLICY, aspect, breakable, joined, shown, tag
from mvpde.reports.write import report
from mvpde.studies.points import MARK, POINTS

pytestmark = pytest.mark.serial

CASES = Path(__file__).parents[2] / "cases"
SECONDS = 60.0  # that a browser may take
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NASTY = '<script>alert(1)</script> & "ρ" \'</title>'
VOID = {"meta", "img", "wbr", "rect", "line", "circle"}


class Page(HTMLParser):
    """Addresses, tags and text of a page; a tag that is not closed in order is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.addresses += [str(value) for key, value in attributes if key in ("src", "href", "srcset", "data", "action")]
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        if name not in VOID:
            assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        self.words.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.toml").write_text(RUN.replace('"small"', json.dumps(NASTY, ensure_ascii=False)), encoding="utf-8")
    return mvpde.run(folder / "small.toml", out=folder / "out").folder


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six points, half of which fail, and verdicts of every kind: the fits' own, and others beside them."""
    folder = tmp_path_factory.mktemp("study")
    fixed = {key: value for key, value in BASE.items() if key != "characteristics.nodes"}
    measure = {**SLOPE, "y": "comparison.ensemble_vs_characteristics.prediction_error"}
    path = write_study(
        folder,
        title=NASTY,
        set=fixed,
        vary={"ensemble.particles": [50, 100, 200], "characteristics.nodes": [[8, 8], [8]]},
        options={"without": ["density"]},
        measure={key: value for key, value in measure.items() if key != "discretisation"},
    )
    out = folder / "out"
    compute_here(path, out)
    entries = json.loads((out / "verdict.json").read_text())
    numbers = {"predicted": -1.0, "measured": -0.95, "interval": [-1.4, -0.5], "tolerance": 0.1}
    for k, holds in enumerate(("holds", "does not hold", "mesh too coarse", "bias dominates")):
        entries.append({"law": f"law {k} {NASTY}", **numbers, "holds": holds, "note": f"note {k}: the interval is wide"})
    entries.append({"law": "nothing", "predicted": 1.0, "measured": None, "interval": None, "holds": "does not hold", "note": ""})
    (out / "verdict.json").write_text(json.dumps(entries), encoding="utf-8")
    return out


def test_texts_are_escaped_and_html_is_not() -> None:
    assert tag("p", NASTY, Markup("<b>"), class_='"') == (
        '<p class="&#34;">&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;ρ&#34; &#39;&lt;/title&gt;<b></p>'
    )
    assert joined(["<", Markup("<"), 1.0], "&") == "&lt;&amp;<&amp;1.0"
    assert breakable("a_b.c<") == "a_<wbr>b.<wbr>c&lt;"


def test_numbers_are_short_and_have_a_minus() -> None:
    values = [None, True, -1, -0.123456, 1e-9, [1, [2.5, None]], {"law": "normal", "std": 0.7}, "as it is"]
    assert [shown(value) for value in values] == [
        "–",
        "true",
        "−1",
        "−0.1235",
        "1e−09",
        "[1, [2.5, –]]",
        "law = normal, std = 0.7",
        "as it is",
    ]


def test_the_shape_of_a_picture_is_read_from_it(study_folder: Path) -> None:
    """A slope's figure is 7.2 × 5.2 inches."""
    for suffix in (".png", ".svg"):
        assert aspect((study_folder / "slope").with_suffix(suffix).read_bytes(), suffix) == pytest.approx(7.2 / 5.2, rel=1e-3)
    assert aspect(b"<svg>", ".svg") == 1.0


@pytest.mark.parametrize("folder", ["run_folder", "study_folder"])
def test_a_page_is_one_file_that_fetches_nothing(folder: str, request: pytest.FixtureRequest) -> None:
    (written,) = report([request.getfixturevalue(folder)])
    page = Page(written.path)
    assert written.path.name == "report.html"
    assert "script" not in page.tags and "link" not in page.tags
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    for address in page.addresses:
        content = base64.b64decode(address.split(",", 1)[1], validate=True)
        assert content.startswith((b"\x89PNG", b"<?xml"))
    source = written.path.read_text(encoding="utf-8")
    assert POLICY in source and "url(" not in source and "@import" not in source
    assert NASTY in page.text and NASTY not in source


def test_a_run_says_what_was_solved_and_how(run_folder: Path) -> None:
    (written,) = report([run_folder])
    text = Page(written.path).text
    assert "✓ done" in text and "gradient descent, τ = 0" in text
    assert "unit circle_rbf : φ(x, y) = exp(κ(cos((x − y)/R) − 1))" in text
    summary = json.loads((run_folder / "summary.json").read_text())
    density = summary["density"]
    assert with_errors(density["loss"][-1], {"mesh": density["loss_error"][-1]}) in text
    between = summary["comparison"]["ensemble_vs_density"]
    assert with_errors(between["prediction_error"][-1], {"sampling": between["prediction_error_standard_error"][-1]}) in text
    provenance = json.loads((run_folder / "provenance.json").read_text())
    for word in ("0.6*cos(x) + 0.3*sin(2*x)", "kappa = 2", provenance["versions"]["petsc"], provenance["date"], "seed 3"):
        assert word in text


def solved(name: str, **model: object) -> str:
    """What a report says was solved in one of the cases, with another [model]."""
    case = mvpde.load(CASES / f"{name}.toml").table()
    return equation({**case, "model": {**case["model"], **model}}).striptags()


def test_the_equation_is_that_of_the_form_of_the_model() -> None:
    """A drift is no gradient flow, a pair interaction has no R, and other kinds have their own words."""
    drift = "dZ = b(Z; m) dt + √(2A) dB"
    assert f"{drift},\u2003A = τI" in solved("rotating") and "∇V" not in solved("rotating")
    assert drift in (tensor := solved("rotating", temperature=None, diffusion=[["1"]])) and "τ" not in tensor
    assert "R(m)" in solved("kuramoto") and "noisy gradient descent at temperature τ = 1" in solved("kuramoto")
    pairs = solved("kuramoto", interaction="-cos(x - x')", features=[], outer_energy=None)
    assert "V0(z) + ∫ W(z, z') ρ(dz')" in pairs and "R(m)" not in pairs
    assert "dZ = b dt + √(2A) dB" in solved("ornstein_uhlenbeck") and "A = ½ηΣ" in solved("sgd_neuron")


def test_a_study_shows_every_verdict_with_sign_word_and_note(study_folder: Path) -> None:
    (written,) = report([study_folder])
    page = Page(written.path)
    entries = json.loads((study_folder / "verdict.json").read_text())
    assert written.content.verdicts == entries
    for entry in entries:
        assert entry["law"] in page.text and entry["note"] in page.text
    for word in ("✓ holds", "✗ does not hold", "▲ mesh too coarse", "◆ bias dominates", "[−1.4, −0.5]", "−0.95"):
        assert word in page.text
    assert page.tags.count("svg") == sum(entry["measured"] is not None for entry in entries)
    assert page.text.count("✗ failed") == 3 and "[characteristics] nodes" in page.text
    assert "3 of 6 points done, 3 failed" in page.text and "varied: 50, 100, 200" in page.text


def test_what_is_not_finished_says_so(run_folder: Path, study_folder: Path, tmp_path: Path) -> None:
    run, study = tmp_path / "run", tmp_path / "study"
    shutil.copytree(run_folder, run)
    shutil.copytree(study_folder, study)
    summary = json.loads((run / "summary.json").read_text())
    for status, words in {"running": "unfinished", "stopped": "stopped before its end", "failed": "✗ failed"}.items():
        (run / "summary.json").write_text(json.dumps({**summary, "status": status, "message": "by <hand>"}))
        (written,) = report([run])
        text = Page(written.path).text
        assert words in text and "by <hand>" in text and not written.content.complete
    (run / "summary.json").unlink()
    (written,) = report([run])
    assert "nothing is recorded yet" in Page(written.path).text

    next((study / POINTS).glob("*100*8x8*")).joinpath(MARK).unlink()
    (study / "verdict.json").unlink()
    (written,) = report([study])
    text = Page(written.path).text
    assert "2 of 6 points done, 3 failed, 1 waiting" in text and "there are no verdicts yet" in text


def test_many_folders_get_an_index(
    run_folder: Path, study_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_folder, tmp_path / "out" / "report #1")
    folders = [str(run_folder), str(study_folder), str(tmp_path / "out" / "report #1")]
    assert main(["report", *folders, "--out", str(tmp_path / "pages")]) == 0
    said = capsys.readouterr().out
    assert "predicted -1: does not hold" in said and "study, 3 of 6 points done" in said
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"index.html", "out.html", "out-2.html", "report #1.html"}
    index = Page(tmp_path / "pages" / "index.html")
    assert index.addresses == ["out.html", "out-2.html", "report%20%231.html"]
    assert "▲ mesh too coarse" in index.text and NASTY in index.text


def test_one_folder_may_go_to_a_file(run_folder: Path, tmp_path: Path) -> None:
    assert main(["report", str(run_folder), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN", "nowhere"], ["nowhere", "there is no such folder"]),
        (["RUN", "empty"], ["empty", "neither a study", "points.json"]),
        (["RUN", "RUN", "--out", "page.html"], ["page.html", "is one file"]),
        (["RUN", "--out", "taken"], ["taken", "does not end in .html"]),
        (["damaged"], ["summary.json", "cannot be read"]),
        ([], ["DIR"]),
    ],
)
def test_what_cannot_be_reported_is_one_message_and_nothing_is_written(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("taken").touch()
    for name in ("mine", "damaged"):
        shutil.copytree(run_folder, name, ignore=shutil.ignore_patterns("report.html"))
    Path("damaged/summary.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", *(word.replace("RUN", "mine") for word in arguments)]) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []
    assert sorted(tmp_path.rglob("*")) == before


# --- a browser looks at it ------------------------------------------------------------------------------------------------------

# What a browser knows of a page and the page itself does not: sizes of decoded pictures, and everything that was fetched.
LOOK = """<script>
addEventListener("load", () => {
  const pictures = [...document.images].map(one => [one.naturalWidth, one.naturalHeight, one.clientWidth]);
  const fetched = performance.getEntriesByType("resource").map(one => one.name).filter(name => !name.startsWith("data:"));
  const wide = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.seen = JSON.stringify({pictures, fetched, wide, title: document.title});
});
</script></body>"""


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., str]:
    """(page, options) → what Chromium prints; headless, with an empty profile, ended after SECONDS at the latest."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: run 'apt install chromium'")
    quiet = ["no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"]
    profile = tmp_path / "profile"

    def start(page: Path, *options: str) -> str:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *(f"--{one}" for one in quiet), "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", "--window-size=1240,2000", *options, page.resolve().as_uri()]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            out, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: nothing but this browser
            out, errors = process.communicate()
            pytest.fail(f"Chromium took more than {SECONDS:g} s: {errors[-1000:]}")
        assert process.returncode == 0, errors
        return out

    return start


def seen(browser: Any, page: Path, tmp_path: Path) -> dict[str, Any]:
    """What a copy of the page that may run a script tells of itself."""
    source = page.read_text(encoding="utf-8")
    assert source.count(POLICY) == 1 and source.count("</body>") == 1
    copy = tmp_path / "copy.html"
    copy.write_text(source.replace(POLICY, "").replace("</body>", LOOK), encoding="utf-8")
    found = re.search(r'data-seen="(.*?)"', browser(copy, "--dump-dom"))
    assert found is not None
    return dict(json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))


@pytest.mark.parametrize(("folder", "pictures"), [("run_folder", 4), ("study_folder", 1)])
def test_a_browser_shows_the_page(
    folder: str, pictures: int, request: pytest.FixtureRequest, browser: Any, tmp_path: Path
) -> None:
    """Its document and pictures as the browser has them, and the pixels that it draws."""
    (written,) = report([request.getfixturevalue(folder)], tmp_path / "page.html")
    there = seen(browser, written.path, tmp_path)
    assert there["title"] == NASTY
    assert there["fetched"] == []
    assert there["wide"] <= 0  # nothing sticks out on the right
    assert len(there["pictures"]) == pictures
    assert all(width > 300 and height > 100 and drawn > 300 for width, height, drawn in there["pictures"])

    browser(written.path, f"--screenshot={tmp_path / 'shot.png'}")
    pixels = (imread(tmp_path / "shot.png")[..., :3] * 255).round().astype(int).reshape(2000, 1240, 3)
    shares = {name: float((np.abs(pixels - colour).max(axis=-1) <= 8).mean()) for name, colour in COLOURS.items()}
    assert 0.3 < shares["paper"] < 0.97
    assert shares["ink"] > 0.002
    assert shares["low density" if folder == "run_folder" else "first series"] > (0.02 if folder == "run_folder" else 1e-4)


# Of the page, its text, the lower end of viridis, and Okabe and Ito's blue.
COLOURS = {"paper": (255, 255, 255), "ink": (27, 31, 36), "low density": (68, 1, 84), "first series": (0, 114, 178)}


def test_the_verdicts_are_in_the_document_that_a_browser_makes(study_folder: Path, browser: Any, tmp_path: Path) -> None:
    (written,) = report([study_folder], tmp_path / "page.html")
    (tmp_path / "dom.html").write_text(browser(written.path, "--dump-dom"), encoding="utf-8")
    page = Page(tmp_path / "dom.html")
    assert "script" not in page.tags
    for entry in written.content.verdicts:
        assert entry["law"] in page.text and entry["holds"] in page.text and entry["note"] in page.text
