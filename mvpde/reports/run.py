"""The page of a run: what was solved, its pictures and numbers, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from mvpde.reports.case import equation, values
from mvpde.reports.figures import energies, evolution, losses, optimality
from mvpde.reports.limits import VALUE, errors_of, is_error, limits_section, with_errors
from mvpde.reports.page import card, data_uri, joined, picture, section, shown, table, tag
from mvpde.reports.read import Content, Table, read_json, read_toml
from mvpde.studies.table import NOT_OVER_TIME, flat

COLUMNS = 7  # output times in the table of numbers
STATES = {
    "done": ("good", "✓", "done"),
    "failed": ("bad", "✗", "failed"),
    "stopped": ("unsure", "■", "stopped before its end"),
    "running": ("unsure", "…", "unfinished: still running, or killed"),
}
CAPTIONS = {
    "density": "The density at the last output time, with particles of the first run.",
    "loss": "The loss of every measure against time.",
    "free_energy": "The free energy of the density against time.",
    "layers": "Variance and correlation of given inputs from layer to layer, and what networks of finite width make of them.",
    "phase_diagram": "How deep signals get in random networks, and the correlation of two inputs deep down.",
    "optimality": "How far the law can be from the best one, and the loss, against time.",
    "prediction": "Data and prediction of every measure at the last output time.",
}
MOVING = {
    False: "The density at several output times.",
    True: "The density at several output times, in one scale of colours; dots are particles of the first run.",
}


def run_content(folder: Path) -> Content:
    """The page of a run's folder, also of one that is not finished.

    Raises:
        CaseError: if one of its files is damaged.
    """
    case, provenance = read_toml(folder / "case.toml"), read_json(folder / "provenance.json")
    path = folder / "summary.json"
    summary = read_json(path) if path.is_file() else {"status": "running", "message": "nothing is recorded yet"}
    status = str(summary.get("status", "running"))
    message = str(summary.get("message") or "")
    reached = summary.get("times") or []
    words = f"{STATES[status][2]}, {len(reached)} output times" if status in STATES else status
    title = str(case.get("title") or folder.resolve().name)
    body = [
        tag("p", "run", class_="kicker"),
        tag("h1", title),
        tag("p", badge(status)),
        tag("div", joined([tag("strong", STATES[status][2]), f": {message}"]), class_="banner bad") if message else Markup(),
        warnings(messages(summary)),
        limits_section(summary),
        section("What was solved", equation(case)),
        section("Figures", _figures(folder, summary, case)),
        section("Numbers over time", _over_time(summary)),
        section("The case", values(case)),
        section("Numbers of the whole run", _numbers(summary)),
        section("Provenance", provenance_cards([provenance])),
    ]
    return Content("run", title, words, status == "done", [], body)


def badge(status: str) -> Markup:
    """A state as sign and word."""
    colour, sign, words = STATES.get(status, ("unsure", "?", status))
    return tag("span", f"{sign} {words}", class_=f"badge {colour}")


def messages(summary: Table) -> list[str]:
    """What its warnings say; runs of version 0.2 have texts alone."""
    return [entry if isinstance(entry, str) else entry["message"] for entry in summary.get("warnings") or []]


def warnings(texts: Sequence[str]) -> Markup:
    """The warnings of a run or of many."""
    return section("Warnings", tag("ul", *(tag("li", text) for text in texts), class_="warnings")) if texts else Markup()


def _figures(folder: Path, summary: Table, case: Table) -> Markup:
    """What can be drawn from the numbers is drawn here; the rest are the pictures of the run, where it made them."""
    moving, dimension = evolution(folder), len(case.get("initial", {}))
    shots: list[tuple[str | None, str, bool]] = [(moving, MOVING[dimension == 2], True)]
    if moving is None or dimension != 2:
        shots.append((_read(folder / "density.png"), CAPTIONS["density"], dimension == 3))
    shots.append((losses(summary), CAPTIONS["loss"], False))
    if shots[-1][0] is None:
        shots.append((energies(summary), CAPTIONS["free_energy"], False))
    shots.append((optimality(summary), CAPTIONS["optimality"], False))
    shots.append((_read(folder / "prediction.png"), CAPTIONS["prediction"], False))
    shots += [(_read(folder / f"{name}.png"), CAPTIONS[name], True) for name in ("layers", "phase_diagram")]
    made = [picture(source, caption, broad=broad) for source, caption, broad in shots if source is not None]
    return tag("div", *made, class_="pictures") if made else Markup()


def _read(path: Path) -> str | None:
    return data_uri(path.read_bytes(), path.suffix) if path.is_file() else None


def _over_time(summary: Table) -> Markup:
    """Every list over the output times, at up to COLUMNS of them."""
    times = summary.get("times") or []
    rows = {
        key: value
        for key, value in flat(summary).items()
        if isinstance(value, list) and len(value) == len(times) and key.split(".")[0] not in NOT_OVER_TIME and not _nested(value)
    }
    if not times or not rows:
        return Markup()
    last, most = len(times) - 1, min(len(times), COLUMNS)
    chosen = sorted({round(k * last / max(most - 1, 1)) for k in range(most)})
    caption = f"{len(chosen)} of {len(times)} output times; all are in series.csv." if len(chosen) < len(times) else ""
    head = [tag("span", "t"), *(shown(float(times[k])) for k in chosen)]
    lines = (
        [key.removesuffix(VALUE), *_cells(rows, key, value, chosen)] for key, value in rows.items() if not is_error(key, rows)
    )
    return table(head, lines, caption)


def _cells(rows: Table, key: str, values: Sequence[float | None], chosen: Sequence[int]) -> list[object]:
    """Values at the chosen times, each with its errors where they are known."""
    errors = errors_of(key.partition(".")[0], rows, key)
    if not any(values[k] is not None and errors for k in chosen):
        return [_float(values[k]) for k in chosen]
    return [with_errors(_float(values[k]), {source: listed[k] for source, listed in errors.items()}) for k in chosen]


def _nested(value: Sequence[object]) -> bool:
    return any(isinstance(entry, list | str | Mapping) for entry in value)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _numbers(summary: Table) -> Markup:
    """What the summary says beside its lists over time, one card for each part of it."""
    count = len(summary.get("times") or [])
    cards = []
    for name, part in summary.items():
        if isinstance(part, Mapping) and name != "comparison":
            facts = {key: value for key, value in flat(part).items() if not _is_listed(name, value, count)}
            cards += [card(name, {key: shown(value) for key, value in facts.items()})] if facts else []
    alone = {key: value for key, value in summary.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    cards += [card("run", {key: shown(value) for key, value in alone.items()})] if alone else []
    return tag("div", *cards, class_="cards") if cards else Markup()


def _is_listed(name: str, value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and name not in NOT_OVER_TIME


def provenance_cards(provenances: Sequence[Table]) -> Markup:
    """Who computed, when, with what: values that all agree on once, others as a list.

    Args:
        provenances: contents of provenance.json, of one run or of all points of a study.
    """
    if not provenances:
        return Markup()
    versions = _merged([provenance.get("versions") or {} for provenance in provenances])
    facts = [
        {key: value for key, value in provenance.items() if key not in ("versions", "command", "case", "seed")}
        for provenance in provenances
    ]
    merged = _merged(facts)
    dates = sorted(str(provenance.get("date")) for provenance in provenances)
    merged["date"] = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    seeds = list(dict.fromkeys(str(provenance.get("seed")) for provenance in provenances if provenance.get("seed") is not None))
    own = {"seed" if len(seeds) == 1 else "seeds": ", ".join(seeds) or "none"}
    if len(provenances) == 1:
        own["command"] = " ".join(map(str, provenances[0].get("command") or []))
        own["case file"] = str(provenances[0].get("case"))
    return tag("div", card("versions", versions), card("seeds and command", own), card("machine", merged), class_="cards")


def _merged(tables: Sequence[Table]) -> dict[str, str]:
    keys = dict.fromkeys(key for facts in tables for key in facts)
    return {key: ", ".join(dict.fromkeys(str(shown(facts.get(key))) for facts in tables)) for key in keys}
