"""The page of a study: its verdicts, figures, tables and points, and how they came about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import xarray
from markupsafe import Markup

from mvpde.files import read_hdf5
from mvpde.reports.case import equation, values
from mvpde.reports.figures import forest
from mvpde.reports.page import MEDIA_TYPES, aspect, data_uri, joined, picture, section, shown, table, tag
from mvpde.reports.read import Content, Table, read_json, read_toml
from mvpde.reports.run import messages, provenance_cards, warnings
from mvpde.studies.points import DONE, FAILED, HALF_CELLS, POINTS, WAITING, Point, State, read_points, state
from mvpde.studies.verdict import BIASED, COARSE, FAILS, HOLDS, UNRESOLVED

# Sign and word beside the colour, for any kind of colour vision and for paper.
SIGNS = {
    HOLDS: ("good", "✓"),
    FAILS: ("bad", "✗"),
    COARSE: ("unsure", "▲"),
    BIASED: ("unsure", "◆"),
    UNRESOLVED: ("unsure", "●"),
}
POINT_SIGNS = {DONE: ("good", "✓"), FAILED: ("bad", "✗"), WAITING: ("none", "…")}
MAIN = ("law", "predicted", "measured", "interval", "holds", "note", "measure", "relation")  # keys with a place of their own
LONGEST = 8  # entries of a list that is shown beside a verdict; longer ones are in verdict.json
ROWS, TABLE_ROWS = 200, 60  # of the table of points, of other tables
BROAD = 1.7  # times as wide as high: a picture of two panels, which takes the whole width
READING = (
    "In the small pictures: upright bar and band, the prediction and its tolerance; dot and line, the measured number and its "
    "interval. Unless the note says otherwise, “holds” is about the measured number, however wide its interval is."
)


def study_content(folder: Path) -> Content:
    """The page of a study's folder, also of one that is not finished.

    Raises:
        CaseError: if one of its files is damaged.
    """
    study, points = read_toml(folder / "study.toml"), read_points(folder)
    states = [state(folder, point) for point in points]
    done = [folder / POINTS / point.name for point, reached in zip(points, states, strict=True) if reached.status == DONE]
    path = folder / "verdict.json"
    verdicts = read_json(path) if path.is_file() else []
    title = str(study.get("title") or folder.resolve().name)
    counts = Counter(reached.status for reached in states)
    complete = path.is_file() and counts[DONE] == len(points)
    words = f"{counts[DONE]} of {len(points)} points done" + "".join(f", {counts[s]} {s}" for s in (FAILED, WAITING) if counts[s])
    body = [
        tag("p", "study", class_="kicker"),
        tag("h1", title),
        tally(verdicts),
        tag("p", f"{words}.", class_="soft"),
        _banner(path.is_file(), counts),
        section("Verdicts", verdict_table(verdicts)) if verdicts else Markup(),
        section("Figures", _figures(folder, study)),
        section("What was solved", _solved(points, study)),
        section("Tables", *_tables(folder / "study.nc")),
        section("Points", _points(points, states)),
        warnings(_warnings(done)),
        section(
            "Provenance", provenance_cards([read_json(p / "provenance.json") for p in done if (p / "provenance.json").is_file()])
        ),
    ]
    return Content("study", title, words, complete, verdicts, body)


# --- verdicts -------------------------------------------------------------------------------------------------------------------


def tally(verdicts: Sequence[Table]) -> Markup:
    """How many verdicts of each kind."""
    counts = Counter(str(entry.get("holds")) for entry in verdicts)
    parts = (tag("span", sign(name), f" × {number}") for name, number in counts.items())
    return tag("p", *parts, class_="tally") if counts else Markup()


def sign(holds: str) -> Markup:
    """A verdict as sign and word."""
    colour, mark = SIGNS.get(holds, ("unsure", "?"))
    return tag("span", f"{mark} {holds}", class_=f"badge {colour}")


def verdict_table(verdicts: Sequence[Table], *, brief: bool = False) -> Markup:
    """Law, predicted, measured, interval, and whether it holds; with all that an entry says beside unless `brief`."""
    head = ["Law", "Verdict", "Predicted", "Measured", "Interval", "", "Note"]
    return table(head, (_verdict_row(entry, brief) for entry in verdicts), "" if brief else READING)


def _verdict_row(entry: Table, brief: bool) -> list[object]:
    beside = [f"{key} {shown(value, 3)}" for key, value in entry.items() if key not in MAIN and not _long(value)]
    details = tag("div", ", ".join(beside), class_="details") if beside and not brief else ""
    interval = entry.get("interval")
    ends = "–" if interval is None else tag("span", shown(interval), class_="number")
    measured = [_number(entry.get(key)) for key in ("predicted", "measured")]
    if "relation" in entry:
        measured[0] = tag("span", f"{entry['relation']} {shown(measured[0])}", class_="number")
    law = tag("div", str(entry.get("law")), details, class_="law")
    return [
        law,
        sign(str(entry.get("holds"))),
        *measured,
        ends,
        forest(entry),
        tag("div", entry.get("note") or "–", class_="note"),
    ]


def _long(value: object) -> bool:
    return isinstance(value, list | Mapping) and len(value) > LONGEST


def _number(value: object) -> object:
    return float(value) if isinstance(value, int | float) else value


# --- the rest -------------------------------------------------------------------------------------------------------------------


def _banner(concluded: bool, counts: Mapping[str, int]) -> Markup:
    if counts[WAITING] or not concluded:
        words = "Unfinished: the same `mvpde study` command computes what is missing"
        words += "; the verdicts are those of the points that were there." if concluded else "; there are no verdicts yet."
        return tag("div", words, class_="banner unsure")
    if counts[FAILED]:
        return tag("div", f"{counts[FAILED]} points failed; the verdicts are those of the others.", class_="banner bad")
    return Markup()


def _figures(folder: Path, study: Table) -> Markup:
    """Every picture in the folder, those of the measurements first; of two with the same name the one made of lines."""
    paths = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in MEDIA_TYPES and not path.name.startswith(".")}
    laws = _laws(study.get("measure", []))
    ordered = [stem for stem in laws if stem in paths] + [stem for stem in paths if stem not in laws]
    contents = [(stem, paths[stem].read_bytes(), paths[stem].suffix) for stem in ordered]
    shots = [
        picture(
            data_uri(content, suffix),
            laws.get(stem) or stem.replace("_", " "),
            broad=aspect(content, suffix) > BROAD,
            single=len(contents) == 1,
        )
        for stem, content, suffix in contents
    ]
    return tag("div", *shots, class_="pictures") if shots else Markup()


def _laws(measures: Table | Sequence[Table]) -> dict[str, str]:
    """The law of each measurement by the name of its figure."""
    entries = [measures] if isinstance(measures, Mapping) else measures
    return {str(entry.get("name") or entry.get("kind")): str(entry.get("law") or "") for entry in entries}


def _solved(points: Sequence[Point], study: Table) -> Markup:
    """The case of the first point, with the values of what varies."""
    if not points:
        return Markup()
    first = points[0]
    rows = [point.parameters for point in points if point.parameters]
    varied = {key: list({str(row[key]): row[key] for row in rows}.values()) for key in first.parameters}
    task = {"task": {"task": first.task, "mode": study.get("mode", "product"), **first.options}}
    return joined([equation(first.case), values(first.case, varied, task)])


def _tables(path: Path) -> list[Markup]:
    """The tables that measurements added to study.nc."""
    if not path.is_file():
        return []
    names = read_hdf5(path, lambda file: [name for name, group in file.items() if isinstance(group, h5py.Group)])
    return [made for name in names for made in _group(path, name)]


def _group(path: Path, name: str) -> list[Markup]:
    """A table for all variables of a group over the same dimensions; those that are long are named only."""
    made, left = [], []
    with xarray.open_dataset(path, group=name, engine="h5netcdf", driver_kwds={"locking": False}) as data:
        for dimensions in dict.fromkeys(variable.dims for variable in data.data_vars.values() if variable.dims):
            part = data[[key for key, variable in data.data_vars.items() if variable.dims == dimensions]]
            if part.sizes and math.prod(part.sizes.values()) <= TABLE_ROWS:
                frame = part.to_dataframe().reset_index()
                made.append(table(list(frame.columns), frame.values.tolist(), f"{name}, over {', '.join(map(str, dimensions))}"))
            else:
                left += [f"{key} ({', '.join(f'{dim} {size}' for dim, size in part.sizes.items())})" for key in part.data_vars]
    words = f"Also in the group “{name}” of study.nc: {', '.join(left)}."
    return [*made, tag("p", words, class_="soft")] if left else made


def _points(points: Sequence[Point], states: Sequence[State]) -> Markup:
    """Every point with its values and how it ended; of very many, the failed and waiting ones first."""
    entries = list(zip(points, states, strict=True))
    if len(entries) > ROWS:
        entries = sorted(entries, key=lambda entry: entry[1].status == DONE)[:ROWS]
    keys = list(points[0].parameters) if points else []
    head = ["Point", *keys, "Status", "Seconds", "Message"]
    rows = (
        [_label(point), *(point.parameters.get(key) for key in keys), _mark(reached), reached.seconds, reached.message]
        for point, reached in entries
    )
    return table(
        head, rows, f"{len(entries)} of {len(points)} points; all are in table.csv." if len(entries) < len(points) else ""
    )


def _label(point: Point) -> str:
    return point.name if point.parameters else f"{HALF_CELLS}: the density on half the cells, to measure its error"


def _mark(reached: State) -> Markup:
    colour, mark = POINT_SIGNS[reached.status]
    return tag("span", f"{mark} {reached.status}", class_=f"badge {colour}")


def _warnings(folders: Sequence[Path]) -> list[str]:
    """Warnings of the points, each once, with how many points have it."""
    texts = Counter(text for folder in folders for text in messages(read_json(folder / "summary.json")))
    return [f"{text} ({count} of {len(folders)} points)" for text, count in texts.items()]
