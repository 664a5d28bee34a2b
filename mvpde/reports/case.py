"""What was solved, in a report: the equation in words and symbols, and every value of the case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from mvpde.cases.kinds import KINDS, Equation
from mvpde.cases.sources import SOURCES
from mvpde.models.losses import LOSSES
from mvpde.models.units import UNITS
from mvpde.reports.page import card, joined, shown, tag
from mvpde.reports.read import Table

# The equation of gradient flows, as docs/models.md has it; kinds that are none bring their own.
_FLOW = "∂_tρ = ∇·(ρ ∇V(·; m))"
_NOISY = "∂_tρ = ∇·(ρ ∇V(·; m) + τ ∇ρ)"
_MOMENTS = "m = ∫ g dρ,   V(z; m) = V_0(z) + Σ_k ∂_kR(m) g_k(z)"


def _gradient_flow(model: Table) -> Equation:
    temperature = model.get("temperature", 0.0)
    words = f"noisy gradient descent at temperature τ = {shown(temperature)}" if temperature else "gradient descent, τ = 0"
    words = f"The law ρ of the parameters z in the mean-field limit of {words}; g are the features, R is the loss."
    return Equation(words, f"{_NOISY if temperature else _FLOW},   {_MOMENTS}")


def equation(case: Table) -> Markup:
    """The equation of a case's model, with what its names stand for.

    Args:
        case: the case as a table, with every default.
    """
    model, data = case.get("model", {}), case.get("data", {})
    kind = model.get("kind", "")
    equation_of = KINDS[kind].equation if kind in KINDS else None
    own = equation_of(model) if equation_of else None
    said = own or _gradient_flow(model)
    documented: Sequence[tuple[str, object, object]] = (
        ("model", kind, KINDS[kind].schema if kind in KINDS and own is None else None),
        ("unit", model.get("unit"), UNITS.get(model.get("unit", ""))),
        ("loss", model.get("loss"), LOSSES.get(model.get("loss", ""))),
        ("data", data.get("source"), SOURCES.get(data.get("source", ""))),
    )
    meanings = [(f"{name} {value}", _sentence(it)) for name, value, it in documented if it is not None]
    lines = (tag("li", tag("strong", name), ": ", _with_subscripts(meaning)) for name, meaning in meanings)
    return joined(
        [
            tag("p", said.words),
            tag("div", _with_subscripts(said.symbols), class_="equation"),
            tag("ul", *lines, class_="soft") if meanings else Markup(),
        ]
    )


def _with_subscripts(symbols: str) -> Markup:
    return Markup(re.sub(r"_(?:\{(.*?)\}|(\w))", r"<sub>\1\2</sub>", escape(symbols)).replace(",   ", ",&emsp;"))


def _sentence(documented: object) -> str:
    """The first sentence of a docstring."""
    first = (getattr(documented, "__doc__", None) or "").strip().splitlines()[:1]
    return "".join(first).split(". ")[0].rstrip(".").replace("``", "")


def values(case: Table, varied: Mapping[str, Sequence[object]] | None = None, more: Mapping[str, Table] | None = None) -> Markup:
    """Every section of a case with its keys and values.

    Args:
        case: the case as a table.
        varied: the values of keys that a study varies, by "section.key"; they take the place of the case's.
        more: further sections, after those of the case.
    """
    varied = varied or {}
    sections = {name: dict(table) for name, table in case.items() if isinstance(table, Mapping)}
    for key, those in varied.items():
        name, _, rest = key.partition(".")
        sections.setdefault(name, {})[rest] = tag("strong", f"varied: {', '.join(str(shown(value)) for value in those)}")
    made = [
        card(f"[{name}]", {key: _value(v) for key, v in table.items()}) for name, table in {**sections, **(more or {})}.items()
    ]
    return tag("div", *made, class_="cards")


def _value(value: object) -> Markup:
    return escape(shown(value, 6) if value != {} else "as by default")
